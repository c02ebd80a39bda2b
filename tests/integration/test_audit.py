"""The audit of a running patchbayd: every change of every door is a row, what was refused is none, and neither a crash
nor another user makes a difference."""

import json
import os
import re
import subprocess
import sys

import pytest
from lab.daemon import program

NOBODY = 65534


@pytest.fixture
def host_alone(host):
    host.clear()
    yield host
    host.clear()


def newest(host, count, *words):
    """The newest `count` rows, oldest of them first, as (verb, kind, name)."""
    rows = host.json("audit", "--limit", count, *words)
    return [(row["verb"], row["kind"], row["name"]) for row in reversed(rows)]


def test_every_change_is_a_row_with_who_when_before_and_after(host_alone):
    host = host_alone
    for words in (("switch", "create", "lab", "--private"), ("vnic", "create", "web", "--switch", "lab", "--vlan", 101),
                  ("vnic", "set", "web", "--vlan", 102), ("switch", "set", "lab", "--mtu", 9000),
                  ("vnic", "delete", "web"), ("switch", "delete", "lab")):
        host.daemon.do(*words)
    rows = list(reversed(host.json("audit", "--limit", 6)))
    assert [(row["verb"], row["kind"], row["name"]) for row in rows] == [
        ("create", "switch", "lab"), ("create", "vnic", "web"), ("set", "vnic", "web"), ("set", "switch", "lab"),
        ("delete", "vnic", "web"), ("delete", "switch", "lab")]
    assert rows[0]["before"] is None and rows[0]["after"]["type"] == "private"
    assert rows[2]["before"]["vlan"] == {"mode": "access", "vid": 101}
    assert rows[2]["after"]["vlan"] == {"mode": "access", "vid": 102}
    assert rows[4]["after"] is None and rows[4]["before"] == rows[2]["after"]
    for row in rows:
        assert (row["uid"], row["user"], row["apply"]) == (os.geteuid(), "root", False)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", row["at"]), row["at"]
    assert [row["at"] for row in rows] == sorted(row["at"] for row in rows)
    assert [row["id"] for row in rows] == list(range(rows[0]["id"], rows[0]["id"] + 6))


def test_a_name_picks_out_the_changes_of_one_object(host_alone):
    host = host_alone
    host.daemon.do("switch", "create", "picked", "--private")
    host.daemon.do("vnic", "create", "other", "--switch", "picked")
    host.daemon.do("switch", "set", "picked", "--mtu", 1400)
    assert newest(host, 10, "picked")[-2:] == [("create", "switch", "picked"), ("set", "switch", "picked")]
    assert newest(host, 1, "picked") == [("set", "switch", "picked")]
    assert newest(host, 5, "nobody-has-this-name") == []


def test_the_table_says_who_and_what(host_alone):
    host = host_alone
    host.daemon.do("switch", "create", "lab", "--private")
    host.daemon.do("vnic", "create", "web", "--switch", "lab")
    host.daemon.do("vnic", "set", "web", "--vlan", 7)
    lines = host.cli("audit", "--limit", 2).stdout.splitlines()
    assert lines[0].split() == ["TIME", "WHO", "VERB", "KIND", "NAME", "WHAT"]
    assert "root (0)" in lines[1] and "set" in lines[1]
    assert 'vlan {"mode":"untagged"} -> {"mode":"access","vid":7}' in lines[1], lines[1]
    assert "create" in lines[2] and "switch lab" in lines[2], lines[2]


def test_what_was_refused_or_changed_nothing_is_no_row(host_alone):
    host = host_alone
    host.daemon.do("switch", "create", "lab", "--internal")
    host.daemon.do("vnic", "create", "web", "--switch", "lab")
    host.netns.run("ip", "link", "add", "taken0", "type", "veth", "peer", "name", "taken1")
    try:
        before = host.json("audit")
        for words in (("switch", "delete", "lab"), ("vnic", "create", "web", "--switch", "lab"),
                      ("vnic", "create", "x/y", "--switch", "lab"), ("vnic", "set", "nobody", "--vlan", 5),
                      ("vnic", "create", "taken0", "--switch", "lab", "--host")):  # its interface is somebody else's
            assert host.cli(*words).returncode == 1, words
        assert host.cli("switch", "set", "lab", "--mtu", 1500).returncode == 0  # as it is
        assert host.json("audit") == before
    finally:
        host.netns.run("ip", "link", "delete", "taken0")


@pytest.mark.parametrize("words, says", [
    (("audit", "--limit", "0"), "1 to 10000"), (("audit", "--limit", "10001"), "1 to 10000"),
    (("audit", "a/b"), "a/b"), (("audit", ""), "name"), (("audit", "x" * 5000), "5000"),
])
def test_a_wrong_limit_or_name_is_a_sentence(host_alone, words, says):
    done = host_alone.cli(*words)
    assert (done.returncode, done.stdout) == (1, ""), done
    assert says in done.stderr and done.stderr.count("\n") == 1


def test_another_user_is_named(host_alone):
    """A member of the socket's group: here by letting everybody at the socket."""
    host = host_alone
    host.daemon.do("switch", "create", "lab", "--private")
    script = ("import os, subprocess, sys\n"
              "os.setgroups([]); os.setgid(int(sys.argv[1])); os.setuid(int(sys.argv[1]))\n"
              "os.execv(sys.argv[2], sys.argv[2:])")
    mode = os.stat(host.api_socket).st_mode & 0o7777
    reachable = [os.path.dirname(host.api_socket)]
    while not os.stat(reachable[-1]).st_mode & 0o001:
        reachable.append(os.path.dirname(reachable[-1]))
    if not os.access(program("patchbay"), os.X_OK):
        pytest.skip("patchbay is not built")
    done = None
    try:
        os.chmod(host.api_socket, 0o666)
        done = subprocess.run([sys.executable, "-c", script, str(NOBODY), program("patchbay"), "--api", host.api_socket,
                               "switch", "set", "lab", "--mtu", "1400"], capture_output=True, text=True, check=False)
    finally:
        os.chmod(host.api_socket, mode)
    if done.returncode != 0 and ("denied" in done.stderr or "not allowed" in done.stderr):
        pytest.skip("another user cannot reach the build or the lab's directory here")
    assert done.returncode == 0, done.stderr
    row = host.json("audit", "--limit", 1)[0]
    assert (row["uid"], row["user"]) == (NOBODY, "nobody")


def test_a_killed_daemon_loses_no_row(host_alone):
    host = host_alone
    host.daemon.do("switch", "create", "lab", "--private")
    before = host.json("audit")
    host.daemon.kill9()
    host.daemon.start()
    assert host.json("audit") == before
    assert json.loads(host.cli("audit", "--json", "--limit", 1).stdout) == before[:1]
