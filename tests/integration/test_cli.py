"""The patchbay command against a running patchbayd: what it prints, its exit codes, its sentences."""

import json
import os
import re

import pytest
from conftest import settled
from lab.image import REPOSITORY
from lab.proc import wait_until

NIC = "nic0"
MAC = "02:00:00:00:00:51"
LONG = "x" * 5000


@pytest.fixture(scope="module")
def nic(host):
    return host.add_nic(NIC)


@pytest.fixture
def lan(host, nic):
    """Switch lan on the NIC, with vnics web (a guest's, VLAN 101) and mgmt (of the host)."""
    host.clear()
    for words in (("switch", "create", "lan", "--external", nic),
                  ("vnic", "create", "web", "--switch", "lan", "--vlan", 101, "--mac", MAC),
                  ("vnic", "create", "mgmt", "--switch", "lan", "--host")):
        done = host.cli(*words)
        assert (done.returncode, done.stderr) == (0, ""), done
    wait_until(lambda: host.json("switch", "show", "lan")["uplink"]["state"] == "up"
               and host.json("vnic", "show", "mgmt")["state"] == "up", "uplink and host vnic to be up")
    yield host
    host.clear()


def is_one_sentence(text):
    return text.endswith("\n") and text.count("\n") == 1 and len(text) < 500


@pytest.mark.parametrize("words, says", [
    (("vnic", "create", "new", "--switch", "lan", "--vlan", "0"), ("0", "1 to 4094")),
    (("vnic", "create", "new", "--switch", "lan", "--vlan", "4095"), ("4095", "1 to 4094")),
    (("vnic", "create", "new", "--switch", "lan", "--vlan", "4096"), ("4096", "1 to 4094")),
    (("vnic", "create", "new", "--switch", "lan", "--vlan=-1"), ("-1", "1 to 4094")),
    (("vnic", "set", "web", "--vlan", "4095"), ("4095", "1 to 4094")),
    (("vnic", "set", "web", "--buffer", "255K"), ("web", "255K", "256K to 16M")),
    (("vnic", "create", "new", "--switch", "lan", "--buffer", "17M"), ("new", "17M", "256K to 16M")),
    (("vnic", "set", "web", "--buffer", "4MB"), ("web", "4MB", "M (1M is 1048576)")),
    (("vnic", "set", "web", "--buffer", "auto:512K"), ("web", "512K", "auto:1M")),
    (("vnic", "set", "web", "--buffer=-1"), ("-1", "bytes")),
    (("vnic", "set", "mgmt", "--buffer", "1M"), ("mgmt", "host")),
    (("vnic", "create", "new", "--switch", "lan", "--host", "--buffer", "1M"), ("new", "host")),
    (("vnic", "set", "web", "--buffer-max-age", "3600001"), ("3600001", "3600000")),
    (("vnic", "set", "mgmt", "--buffer-max-age", "5"), ("mgmt", "host")),
    (("switch", "set", "lan", "--buffer", "17M"), ("lan", "17M", "256K to 16M")),
    (("switch", "set", "lan", "--force-vlan", "4095"), ("4095", "1 to 4094")),
    (("switch", "create", "new", "--private", "--force-vlan", "0"), ("0", "1 to 4094")),
    (("switch", "create", "new", "--private", "--mtu", "575"), ("575", "576 to 9000")),
    (("switch", "create", "new", "--private", "--mtu", "9001"), ("9001", "576 to 9000")),
    (("switch", "set", "lan", "--mtu", "2000"), (NIC, "1500")),
    (("switch", "create", "wan", "--external", NIC), (NIC, "lan")),
    (("switch", "create", "wan", "--external", "eth99"), ("eth99",)),
    (("switch", "create", "wan", "--external", ""), ("NIC",)),
    (("switch", "create", "lan", "--private"), ("lan", "exists")),
    (("switch", "delete", "lan"), ("lan", "mgmt", "web")),
    (("switch", "delete", "wan"), ("wan",)),
    (("switch", "set", "lan", "--force-vlan", "102"), ("102", "web")),
    (("vnic", "create", "new", "--switch", "lan", "--mac", MAC), (MAC, "web")),
    (("vnic", "create", "new", "--switch", "lan", "--mac", "01:00:5e:00:00:01"), ("01:00:5e:00:00:01", "multicast")),
    (("vnic", "create", "new", "--switch", "lan", "--mac", "nonsense"), ("nonsense", "02:00:00:00:00:01")),
    (("vnic", "set", "mgmt", "--mac", MAC), (MAC, "web")),
    (("vnic", "create", "new", "--switch", "wan"), ("wan",)),
    (("vnic", "create", "web", "--switch", "lan"), ("web", "exists")),
    (("vnic", "create", "", "--switch", "lan"), ("name",)),
    (("vnic", "create", "a/b", "--switch", "lan"), ("a/b",)),
    (("vnic", "create", "../x", "--switch", "lan"), ("../x",)),
    (("vnic", "create", "a b", "--switch", "lan"), ("a b",)),
    (("vnic", "create", LONG, "--switch", "lan"), ("name",)),
    (("vnic", "create", "interface-too-long", "--switch", "lan", "--host"), ("15",)),
    (("vnic", "create", "new", "--switch", "lan", "--connect", "relative.sock"), ("absolute",)),
    (("vnic", "show", LONG), ("5000",)),
    (("vnic", "show", "a/b"), ("a/b",)),
    (("vnic", "show", ""), ("name",)),
    (("vnic", "delete", "list"), ("list",)),
    (("vnic", "attach-args", "mgmt"), ("mgmt", "host vnic")),
    (("vnic", "attach-args", "web", "--memory", "lots"), ("lots", "256M")),
    (("nic", "show", "eth99"), ("eth99",)),
])
def test_a_refusal_is_one_sentence_and_changes_nothing(lan, words, says):
    before = settled(lan)
    done = lan.cli(*words)
    assert (done.returncode, done.stdout) == (1, ""), done
    assert is_one_sentence(done.stderr), done.stderr
    for part in says:
        assert part in done.stderr
    assert settled(lan) == before


@pytest.mark.parametrize("words, says", [
    (("vnic", "create", "new", "--switch", "lan", "--vlan", "abc"), ("abc", "1 to 4094")),
    (("vnic", "create", "new", "--switch", "lan", "--vlan", "1.5"), ("1.5", "1 to 4094")),
    (("vnic", "create", "new", "--switch", "lan", "--vlan", ""), ("1 to 4094",)),
    (("vnic", "create", "new", "--switch", "lan", "--vlan", "none"), ("none", "1 to 4094")),
    (("switch", "create", "new", "--private", "--mtu", "big"), ("big", "576 to 9000")),
    (("vnic", "create", "new"), ("--switch",)),
    (("vnic", "create", "new", "--switch", "lan", "--host", "--connect", "/x"), ("--host",)),
    (("vnic", "set", "web"), ("--vlan",)),
    (("vnic", "set", "web", "--buffer-max-age", "0"), ("1 to 3600000", "none")),
    (("vnic", "set", "web", "--buffer-max-age", "1s"), ("1s", "1 to 3600000")),
    (("switch", "set", "lan", "--buffer-max-age", "1s"), ("1s", "1 to 3600000")),
    (("switch", "create", "new"), ("--external", "--internal", "--private")),
    (("switch", "create", "new", "--internal", "--private"), ("--internal", "--private")),
    (("vnic", "attach-args", "web", "--format", "xen"), ("xen", "libvirt")),
    (("vnic", "show", "web", "mgmt"), ("mgmt",)),
    (("vnic", "show"), ("NAME",)),
    (("vnic",), ("--help",)),
    (("vnic", "set", "web", "--buffer-max-age", "1s"), ("1s", "milliseconds", "none", "default")),
    (("stats", "--every", "2"), ("--watch",)),
    (("stats", "--watch", "--every", "0"), ("0", "3600")),
    (("stats", "--watch", "--json", "--times", "1"), ("--json",)),
    ((), ("--help",)),
])
def test_a_wrong_command_line_is_usage(lan, words, says):
    before = settled(lan)
    done = lan.cli(*words)
    assert (done.returncode, done.stdout) == (2, ""), done
    for part in says:
        assert part in done.stderr
    assert settled(lan) == before


def test_what_was_made_is_shown_as_text_and_as_json(lan):
    web = lan.json("vnic", "show", "web")
    assert (web["switch"], web["mac"], web["vlan"]["vid"]) == ("lan", MAC, 101)
    assert [vnic["name"] for vnic in lan.json("vnic", "list")] == ["mgmt", "web"]
    assert lan.json("switch", "show", "lan")["vnics"] == ["mgmt", "web"]
    worker = lan.json("worker", "list")[0]
    assert set(worker) == {"id", "cpu", "busy_cycles", "idle_cycles", "frames", "sleeps", "ports"}
    text = lan.cli("vnic", "show", "web").stdout
    assert MAC in text and web["vhost_socket"] in text
    assert "\x1b" not in text, "no colours where nobody sees them"


def test_show_is_a_picture_with_every_object_and_its_state(lan):
    text = lan.cli("show").stdout
    lines = text.splitlines()
    drawn = {name: next(line for line in lines if name in line) for name in (NIC, "[lan]", "mgmt (host)", "web")}
    assert "up" in drawn[NIC]
    assert "external" in drawn["[lan]"]
    assert "untagged" in drawn["mgmt (host)"] and "up" in drawn["mgmt (host)"]
    assert MAC in drawn["web"] and "VLAN 101" in drawn["web"] and "waiting for" in drawn["web"]


def test_lists_are_aligned(lan):
    lines = lan.cli("vnic", "list").stdout.splitlines()
    column = lines[0].index("MAC")
    macs = {vnic["name"]: vnic["mac"] for vnic in lan.json("vnic", "list")}
    assert [line[column:column + 17] for line in lines[1:]] == [macs["mgmt"], macs["web"]]


def test_stats_are_a_row_for_each_vnic_once_or_live(lan):
    once = lan.cli("stats").stdout.splitlines()
    assert once[0].split()[:5] == ["VNIC", "TO", "GUEST", "FROM", "GUEST"]
    live = lan.cli("stats", "--watch", "--times", "2").stdout
    first, second = live.split("\n\n")
    assert "TO GUEST/S" not in first and "TO GUEST/S" in second
    for text in ("\n".join(once), first, second):
        assert [line.split()[0] for line in text.splitlines()[1:]] == ["mgmt", "web"], text
    assert "0 of 1048576" in once[2]


def test_set_changes_one_thing(lan):
    before = lan.json("vnic", "show", "web")
    assert lan.cli("vnic", "set", "web", "--vlan", "none").returncode == 0
    after = lan.json("vnic", "show", "web")
    assert after["vlan"] == {"mode": "untagged", "vid": None, "forced": False}
    assert after["vmq"]["queues"][0]["vlan"] == 0, "its queue is another one"
    moved = {"vlan": 0, "vmq": 0, "counters": 0}
    assert {**after, **moved} == {**before, **moved}
    assert lan.cli("vnic", "set", "web", "--mac", "02-00-00-00-00-52").returncode == 0
    assert lan.json("vnic", "show", "web")["mac"] == "02:00:00:00:00:52"
    assert lan.cli("vnic", "delete", "web").returncode == 0
    assert lan.cli("switch", "set", "lan", "--force-vlan", 9, "--mtu", 1400).returncode == 0
    mgmt = lan.json("vnic", "show", "mgmt")
    assert (mgmt["vlan"], mgmt["mtu"]) == ({"mode": "access", "vid": 9, "forced": True}, 1400)


def test_attach_args_are_one_line_for_a_shell_and_elements_for_libvirt(lan):
    done = lan.cli("vnic", "attach-args", "web", "--memory", "256M")
    arguments = [line for line in done.stdout.splitlines() if not line.startswith("#")]
    assert len(arguments) == 1
    for part in ("size=256M,share=on", lan.json("vnic", "show", "web")["vhost_socket"], MAC, "host_mtu=1500"):
        assert part in arguments[0]
    assert "<interface type='vhostuser'>" in lan.cli("vnic", "attach-args", "web", "--format", "libvirt").stdout


def test_json_and_api_may_stand_anywhere(lan):
    words = ("vnic", "show", "web")
    assert json.loads(lan.cli(*words, "--json").stdout)["name"] == "web"
    assert json.loads(lan.cli("vnic", "--json", "show", "web").stdout)["name"] == "web"
    other = lan.cli(*words, "--api", lan.api_socket)
    assert other.returncode == 2 and "--api" in other.stderr, "given twice"


def test_no_daemon_is_one_sentence(lan):
    lan.daemon.stop()
    try:
        done = lan.cli("show")
        assert (done.returncode, done.stdout) == (1, "")
        assert is_one_sentence(done.stderr)
        assert "no answer from patchbayd at " + lan.api_socket in done.stderr
        assert "is it running?" in done.stderr
    finally:
        lan.daemon.start()


def every_help(host, *words):
    """The help of a command and of all its subcommands."""
    text = host.cli(*words, "--help").stdout
    yield words, text
    after = text.partition("Subcommands:\n")[2].partition("\n\n")[0]
    for line in after.splitlines():
        if line.startswith("  ") and line[2] != " ":
            yield from every_help(host, *words, line.split()[0])


def test_every_help_has_an_example(lan):
    helps = list(every_help(lan))
    assert len(helps) == 43, [" ".join(words) for words, _ in helps]
    for words, text in helps:
        example = text.partition("Example:\n")[2]
        assert example.startswith(f"  patchbay {' '.join(words)}"), words
    assert lan.cli("--version").stdout.startswith("patchbay ")


def test_every_command_and_option_stands_in_the_reference(lan):
    with open(os.path.join(REPOSITORY, "docs", "reference", "cli.md"), encoding="utf-8") as page:
        sections = page.read().split("\n## ")
    for words, text in every_help(lan):
        if words and words[0] in ("nic", "switch", "vnic", "policy", "host", "worker") and len(words) == 1:
            continue  # a noun alone does nothing
        section = next((part for part in sections if words and part.startswith(words[0])), sections[0])
        assert words == () or words[-1] in section, words
        for names in re.findall(r"^ {2,4}(-\S+)", text, re.MULTILINE):
            long_name = names.split(",")[-1]
            assert long_name in section or long_name in sections[0], (words, long_name)
