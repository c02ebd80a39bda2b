"""patchbay apply and export against a running patchbayd: a whole host out of one file, all of it or nothing."""

import os
import subprocess
import time

import pytest
import yaml
from lab.proc import wait_until

HOST = """\
switches:
  lan:
    type: external
    uplink: app0
  lab:
    type: private
    force_vlan: 7
    mtu: 9000
vnics:
  web:
    switch: lan
    mac: 02:00:00:00:00:51
    vlan: {mode: access, vid: 101}
  db:
    switch: lan
  mgmt:
    switch: lan
    kind: host
  probe:
    switch: lab
    connect: /run/does-not-listen/probe.sock
"""


# Every field with another value than its default, and every VLAN mode.
EVERY_FIELD = """\
switches:
  lan: {type: external, uplink: app0, mtu: 1400, buffer: 2M, buffer_max_age_ms: 500}
  forced: {type: internal, force_vlan: 7}
vnics:
  access: {switch: lan, vlan: {mode: access, vid: 101}, queues: 4, worker: 0, buffer: "auto:4M", buffer_max_age_ms: 0}
  cluster: {switch: lan, mac: 02-BF-00-00-00-01, mac_spoofing: true, mac_limit: 16}
  community: {switch: lan, vlan: {mode: community, primary: 100, secondary: 102}}
  isolated: {switch: lan, vlan: {mode: isolated, primary: 100, secondary: 101}}
  listed: {switch: lan, vlan: {mode: trunk, allowed: "10,20-29", pruned: "25", native: 10}, buffer: 0}
  mixed: {switch: lan, vlan: {mode: trunk, allowed: 20-29, native: untagged}}
  promiscuous: {switch: lan, vlan: {mode: promiscuous, primary: 100, secondaries: 101-102}}
  tagged: {switch: lan, vlan: {mode: trunk, allowed: "5"}}
  voice: {switch: forced, kind: host, trust_priority: true}
"""
MODES = {
    "access": {"mode": "access", "vid": 101},
    "cluster": {"mode": "untagged"},
    "community": {"mode": "community", "primary": 100, "secondary": 102},
    "isolated": {"mode": "isolated", "primary": 100, "secondary": 101},
    "listed": {"mode": "trunk", "allowed": "10,20-29", "pruned": "25", "native": 10},
    "mixed": {"mode": "trunk", "allowed": "20-29", "pruned": "", "native": "untagged"},
    "promiscuous": {"mode": "promiscuous", "primary": 100, "secondaries": "101,102"},
    "tagged": {"mode": "trunk", "allowed": "5", "pruned": "", "native": None},
    "voice": {"mode": "access", "vid": 7},
}


@pytest.fixture(scope="module")
def nics(host):
    return host.add_nic("app0"), host.add_nic("app1")


@pytest.fixture
def empty(host, nics, tmp_path):
    host.clear()
    host.file = str(tmp_path / "host.yaml")
    yield host
    host.clear()


def apply(host, text, *words):
    with open(host.file, "w") as file:
        file.write(text)
    return host.cli("apply", "-f", host.file, *words)


def changed(host, text, *words):
    """The changes of an apply that must work: [(verb, kind, name)]."""
    with open(host.file, "w") as file:
        file.write(text)
    answer = host.json("apply", "-f", host.file, *words)
    return [(change["verb"], change["kind"], change["name"]) for change in answer["changes"]]


def state(host):
    """What is desired, and the sockets and interfaces that stand for it."""
    files = sorted(os.path.join(folder, name) for folder, _, names in os.walk(host.run_dir) for name in names)
    return host.json("export"), files, host.netns.run("ls", "/sys/class/net").stdout


def test_a_file_makes_a_host_and_an_export_of_it_changes_nothing(empty):
    host = empty
    assert len(changed(host, HOST)) == 6
    assert host.json("vnic", "show", "probe")["vlan"] == {"mode": "access", "vid": 7, "forced": True}
    exported = host.daemon.do("export")
    audited = host.json("audit")
    assert all(row["apply"] for row in audited[:6])
    assert changed(host, exported) == []
    assert host.cli("apply", "-f", host.file).stdout == "nothing to change\n"
    assert host.daemon.do("export") == exported
    assert host.json("audit") == audited
    document = yaml.safe_load(exported)
    assert document["vnics"]["web"]["mac"] == "02:00:00:00:00:51", "for a reader of YAML 1.1 too"
    assert document["vnics"]["db"]["mac_origin"] == "dynamic"
    assert document == host.json("export")


def test_an_export_rebuilds_the_same_on_an_empty_host(empty):
    host = empty
    changed(host, HOST)
    exported = host.daemon.do("export")
    assert len(changed(host, "switches: {}\nvnics: {}\n")) == 6
    assert host.json("vnic", "list") == [] and host.json("switch", "list") == []
    changed(host, exported)
    assert host.daemon.do("export") == exported, "the MAC addresses from the pool too"
    as_json = host.cli("--json", "export").stdout
    assert changed(host, as_json) == []


def shown(host):
    """What `vnic show` has of each vnic that was set."""
    fields = ("switch", "kind", "mac", "mac_origin", "vlan", "mac_spoofing", "mac_limit", "trust_priority",
              "queues", "worker")
    return {vnic["name"]: {**{field: vnic[field] for field in fields},
                           "buffer": (vnic["buffer"]["size"], vnic["buffer"]["max_age_ms"])}
            for vnic in host.json("vnic", "list")}


def buffer_in_force(host, name):
    buffer = host.json("vnic", "show", name)["buffer"]
    return buffer["size"], buffer["size_from"], buffer["max_age_ms"], buffer["max_age_from"]


def test_every_field_goes_in_and_out(empty):
    host = empty
    changed(host, EVERY_FIELD)
    first = shown(host)
    for name, mode in MODES.items():
        assert first[name]["vlan"] == {"vid": None, "forced": name == "voice", **mode}, name
    assert (first["cluster"]["mac"], first["cluster"]["mac_spoofing"], first["cluster"]["mac_limit"]) == (
        "02:bf:00:00:00:01", True, 16)
    assert [name for name, vnic in first.items() if vnic["trust_priority"]] == ["voice"]
    assert (first["access"]["queues"], first["access"]["worker"]) == (4, 0)
    assert (first["voice"]["queues"], first["voice"]["worker"]) == (1, "auto")
    assert [buffer_in_force(host, name) for name in ("access", "listed", "cluster")] == [
        ("auto:4M", "vnic", 0, "vnic"), ("0", "vnic", 500, "switch"), ("2M", "switch", 500, "switch")]
    assert changed(host, EVERY_FIELD) == [], "those from the pool stay"
    exported = host.daemon.do("export")
    host.clear()
    changed(host, exported)
    assert shown(host) == first and host.daemon.do("export") == exported
    # What the CLI sets is what the file says.
    host.daemon.do("vnic", "set", "listed", "--vlan", 9)
    host.daemon.do("vnic", "set", "cluster", "--mac-spoofing", "off")
    host.daemon.do("vnic", "set", "listed", "--trunk", "10,20-29", "--prune", "25", "--native", 10)
    host.daemon.do("vnic", "set", "cluster", "--mac-spoofing", "on")
    assert host.daemon.do("export") == exported
    before, after = host.json("audit", "--limit", 2)[1]["before"], host.json("audit", "--limit", 2)[1]["after"]
    assert (before["vlan"], after["vlan"]) == ({"mode": "access", "vid": 9},
                                               {"mode": "trunk", "allowed": "10,20-29", "pruned": "25", "native": 10})


def test_one_bad_line_in_a_file_of_two_hundred_vnics(empty):
    host = empty
    lines = ["switches:", "  big: {type: private}", "vnics:"] + [
        f"  vm{i}: {{switch: big, vlan: {{mode: access, vid: {i + 1}}}}}" for i in range(200)]
    lines[3 + 150] = "  vm150: {switch: big, vlan: {mode: trunk, allowed: 10-4095}}"
    done = apply(host, "\n".join(lines) + "\n")
    assert done.returncode == 1 and host.json("switch", "list") == []
    assert done.stderr.startswith(f"{host.file}, line 154: vnics.vm150.vlan.allowed: "), done.stderr
    lines[3 + 150] = "  vm150: {switch: big, mac_limit: 0}"
    done = apply(host, "\n".join(lines) + "\n")
    assert done.stderr.startswith(f"{host.file}, line 154: vnics.vm150.mac_limit: 0 is out of range"), done.stderr
    assert host.json("switch", "list") == [] and host.json("audit", "vm150") == []


def test_the_file_may_come_from_standard_input(empty):
    from lab.daemon import program
    done = subprocess.run([program("patchbay"), "--api", empty.api_socket, "apply", "-f", "-"], input=HOST, text=True,
                          capture_output=True, timeout=20, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "create vnic web: " in done.stdout


def test_only_what_differs_is_touched(empty):
    host = empty
    changed(host, HOST)
    index = host.netns.run("cat", "/sys/class/net/mgmt/ifindex").stdout
    sockets = {name: os.stat(host.json("vnic", "show", name)["vhost_socket"]).st_ino for name in ("web", "db")}
    assert changed(host, HOST.replace("vid: 101", "vid: 102")) == [("set", "vnic", "web")]
    assert host.json("vnic", "show", "web")["vlan"]["vid"] == 102
    assert host.netns.run("cat", "/sys/class/net/mgmt/ifindex").stdout == index
    assert sockets == {name: os.stat(host.json("vnic", "show", name)["vhost_socket"]).st_ino for name in sockets}


def test_vnics_swap_macs_move_between_switches_and_nics_change_hands(empty):
    host = empty
    two = """\
switches:
  one: {type: external, uplink: app0}
  two: {type: external, uplink: app1}
vnics:
  a: {switch: one, mac: 02:00:00:00:00:0a}
  b: {switch: one, mac: 02:00:00:00:00:0b}
"""
    changed(host, two)
    swapped = """\
switches:
  one: {type: external, uplink: app1}
  two: {type: external, uplink: app0}
vnics:
  a: {switch: one, mac: 02:00:00:00:00:0b}
  b: {switch: two, mac: 02:00:00:00:00:0a}
"""
    assert changed(host, swapped) == [("set", "switch", "one"), ("set", "switch", "two"), ("set", "vnic", "a"),
                                      ("set", "vnic", "b")]
    assert host.json("vnic", "show", "b")["switch"] == "two"
    wait_until(lambda: all(switch["uplink"]["state"] == "up" for switch in host.json("switch", "list")), "uplinks")
    assert {switch["name"]: switch["uplink"]["nic"] for switch in host.json("switch", "list")} == {
        "one": "app1", "two": "app0"}


@pytest.mark.parametrize("wrong, right, says", [
    ("vid: 101", "vid: 4095", "line 13: vnics.web.vlan.vid: 4095 is not a VLAN id; give a whole number from 1 to 4094"),
    ("mac: 02", "mak: 02", "line 12: vnics.web: unknown field \"mak\"; known here: switch"),
    ("mtu: 9000", "mtu: 9001", "line 8: switches.lab.mtu: 9001 is out of range"),
    ("uplink: app0", "uplink: eth99", "line 2: switches.lan: nic eth99 does not exist"),
    ("  probe:\n    switch: lab", "  probe:\n    switch: nope", "line 19: vnic probe: switch nope does not exist"),
    ("  db:\n", "  web:\n", "line 14: \"web\" is given twice, first in line 10"),
    ("  db:\n", "  a/b:\n", "line 14: "),
    ("  db:\n", "  \"a b\":\n", "line 14: "),
    ("  db:\n", "  \"\":\n", "line 14: vnic without a name"),
    ("  db:\n", f"  {'x' * 1000}:\n", "line 14: "),
    ("  db:\n", "  db: &x\n", "line "),
    ("    kind: host", "   kind: host", "line 1"),
    ("mgmt:", "interface-too-long:", "line 16: "),
], ids=lambda value: value.strip()[:20])
def test_one_bad_line_changes_nothing_and_is_named(empty, wrong, right, says):
    host = empty
    changed(host, HOST)
    before = state(host)
    bad = HOST.replace("switch: lab\n", "switch: lab\n    mac: 02:00:00:00:00:99\n", 1)  # a good change in it too
    assert wrong in HOST
    done = apply(host, bad.replace(wrong, right, 1) if wrong in bad else HOST.replace(wrong, right, 1))
    assert (done.returncode, done.stdout) == (1, ""), done
    assert done.stderr.startswith(f"{host.file}, {says}"), done.stderr
    assert done.stderr.count("\n") == 1 and len(done.stderr) < 600
    assert state(host) == before


def test_what_cannot_be_opened_is_taken_back_whole(empty):
    host = empty
    changed(host, HOST)
    before = state(host)
    host.netns.run("ip", "link", "add", "taken2", "type", "veth", "peer", "name", "taken3")
    try:
        before = (*before[:2], host.netns.run("ls", "/sys/class/net").stdout)
        audited = host.json("audit")
        done = apply(host, HOST.replace("  db:\n", "  taken2:\n    kind: host\n"))
        assert done.returncode == 1 and f"{host.file}, line 14: " in done.stderr and "taken2" in done.stderr, done
        assert state(host) == before
        assert host.json("audit") == audited
    finally:
        host.netns.run("ip", "link", "delete", "taken2")


def test_dry_run_says_and_does_not(empty):
    host = empty
    changed(host, HOST)
    before = state(host), host.json("audit")
    other = HOST.replace("vid: 101", "vid: 102").replace("  db:\n    switch: lan\n", "")
    text = apply(host, other, "--dry-run").stdout.splitlines()
    assert text[0] == "would delete vnic db"
    assert text[1].startswith("would set vnic web: vlan ") and text[1].endswith('-> {"mode":"access","vid":102}'), text
    assert (state(host), host.json("audit")) == before


@pytest.mark.parametrize("text, says", [
    ("", "nothing stands here"),
    ("switches: {}\n", "vnics: this section is required"),
    ("just text\n", "write the sections"),
    ("x" * (10 << 20), "more than 1048576 bytes"),
    ("[" * 1_000_000, "line 1"),
    ("[" * 17 + "]" * 17, "16 levels"),
    ("switches: {}\nvnics:\n  web:\n    switch: \"la\n", "line 4: this quote is not closed"),
    ("{" * 1_000_000, "line 1"),
    ("a: &a [x]\nb: [*a]\n", "anchors"),
    ("switches: {}\n---\nvnics: {}\n", "second document"),
    ("\0\0\0\0", "line 1"),
], ids=["empty", "half", "text", "10 MB", "brackets", "nesting", "cut off", "braces", "aliases", "two documents", "zeros"])
def test_a_hostile_file_is_a_sentence(empty, text, says):
    done = apply(empty, text)
    assert (done.returncode, done.stdout) == (1, ""), done
    assert says in done.stderr and done.stderr.count("\n") == 1 and len(done.stderr) < 600, done.stderr
    assert empty.json("switch", "list") == []


def test_a_file_that_is_not_there_is_a_sentence(empty):
    done = empty.cli("apply", "-f", "/nonexistent/host.yaml")
    assert done.returncode == 1 and "cannot read /nonexistent/host.yaml: No such file" in done.stderr
    assert empty.cli("apply", "-f", "/").returncode == 1
    assert empty.cli("apply").returncode == 2


def test_a_thousand_vnics_are_one_file(empty):
    """The budget is 2 s on an idle machine; this says how long it took, and fails only where it has to be quadratic."""
    host = empty
    text = "switches:\n  big: {type: private}\nvnics:\n" + "".join(
        f"  vm{i}:\n    switch: big\n    mac: 02:00:00:01:{i >> 8:02x}:{i & 255:02x}\n"
        f"    vlan: {{mode: access, vid: {i % 4094 + 1}}}\n" for i in range(1000))
    started = time.monotonic()
    assert len(changed(host, text)) == 1001
    first = time.monotonic() - started
    started = time.monotonic()
    assert changed(host, host.daemon.do("export")) == []
    print(f"1,000 vnics applied in {first:.2f} s, again in {time.monotonic() - started:.2f} s")
    assert len(host.json("vnic", "list")) == 1000
    assert first < 30
    started = time.monotonic()
    assert len(changed(host, "switches: {}\nvnics: {}\n")) == 1001
    print(f"and deleted in {time.monotonic() - started:.2f} s")
