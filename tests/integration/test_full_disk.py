"""The disk under the store is full: a change is refused with a sentence, nothing of it is done, everything else goes on,
and with room again the next change works. The disk is a small tmpfs that only the daemon sees."""

import os
import shutil
import sqlite3

import pytest
from lab.daemon import program
from lab.lab import Lab
from lab.netns import veth
from lab.proc import wait_until

# Changes that still find room in what the store's log has allocated, at most, before one does not.
STILL_FIT_MAX = 200


@pytest.fixture(scope="module")
def full(_root):
    with Lab.create(f"t{os.getpid()}-full") as lab:
        daemon = lab.daemon
        os.makedirs(daemon.state_dir)
        os.makedirs(daemon.run_dir)
        mount = 'mount -t tmpfs -o size=1m,mode=0700 tmpfs "$0" && exec "$@"'
        daemon.process = lab.host.start("patchbayd", "unshare", "-m", "sh", "-c", mount, daemon.state_dir,
                                        program("patchbayd"), "--state-dir", daemon.state_dir, "--run-dir",
                                        daemon.run_dir)
        wait_until(daemon.answers, "patchbayd to answer", 20.0)
        lab.peers = lab.add_netns("peers")
        veth(lab.host, "full0", lab.peers, "full0")
        lab.peers.set_ip("full0", "10.9.0.2")
        daemon.do("switch", "create", "lan", "--external", "full0")
        daemon.do("vnic", "create", "mgmt", "--switch", "lan", "--host")
        lab.host.set_ip("mgmt", "10.9.0.1")
        wait_until(lambda: lab.peers.ping("10.9.0.1"), "frames between the wire and the host vnic", 20.0)
        yield lab


def state_dir(lab):
    """As the daemon sees it."""
    return f"/proc/{lab.daemon.process.pid}/root{lab.daemon.state_dir}"


def fill(lab):
    with open(os.path.join(state_dir(lab), "filler"), "wb", buffering=0) as filler:
        try:
            while True:
                filler.write(b"\0" * 4096)
        except OSError:
            return


def change_until_refused(daemon):
    """Creates switches until one is refused; (its name, the sentence)."""
    for number in range(STILL_FIT_MAX):
        done = daemon.cli("switch", "create", f"s{number}", "--private")
        if done.returncode != 0:
            return f"s{number}", done.stderr
    raise AssertionError(f"{STILL_FIT_MAX} changes were stored on a full disk")


def stored(lab, tmp_path):
    """What a daemon would find now: names of switches and of audited creations, from a copy of the files."""
    copy = tmp_path / "copy"
    shutil.copytree(state_dir(lab), copy, ignore=shutil.ignore_patterns("filler", "*-shm", "lock*", "*.lock"))
    with sqlite3.connect(copy / "patchbay.db") as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        switches = {name for name, in database.execute("SELECT name FROM switches")}
        audited = {name for name, in database.execute("SELECT name FROM audit WHERE kind = 'switch'")}
    shutil.rmtree(copy)
    return switches, audited


def test_a_full_disk_refuses_changes_and_nothing_else(full, tmp_path):
    daemon = full.daemon
    fill(full)
    refused, sentence = change_until_refused(daemon)
    assert "the disk is full" in sentence and "patchbay.db" in sentence and "make room" in sentence, sentence
    assert sentence.count("\n") == 1
    shown = {switch["name"] for switch in daemon.json("switch", "list")}
    assert refused not in shown
    for words in (("vnic", "delete", "mgmt"), ("switch", "set", "lan", "--mtu", 1400),
                  ("vnic", "create", "web", "--switch", "lan")):
        done = daemon.cli(*words)
        assert done.returncode == 1 and "the disk is full" in done.stderr, done
    assert [vnic["name"] for vnic in daemon.json("vnic", "list")] == ["mgmt"]
    assert daemon.json("switch", "show", "lan")["mtu"] == 1500
    assert not os.path.exists(os.path.join(daemon.run_dir, "vhost", "web.sock"))
    assert stored(full, tmp_path) == (shown, shown), "every change with its audit row, and no other"
    assert full.peers.ping("10.9.0.1"), "frames go on"
    assert daemon.json("audit", "--limit", 1)[0]["name"] in shown | {"mgmt"}

    os.remove(os.path.join(state_dir(full), "filler"))
    daemon.do("switch", "create", refused, "--private")
    daemon.do("vnic", "create", "web", "--switch", refused)
    daemon.do("vnic", "delete", "web")
    assert stored(full, tmp_path) == (shown | {refused}, shown | {refused})
