"""Which worker moves a vnic's frames: asked for, changed while two guests talk, and missing after a restart."""

import os

import pytest
from lab.lab import Lab
from test_bad_input import MACS, Talk

CHANGES = 12


class Host:
    def __init__(self, lab):
        self.lab = lab
        self.daemon = lab.daemon
        self.daemon.arguments += ["--worker-cpus", ",".join(map(str, sorted(os.sched_getaffinity(0))[:2]))]
        self.daemon.start()
        self.daemon.do("switch", "create", "lan", "--private")
        for name, mac in MACS.items():
            self.daemon.do("vnic", "create", name, "--switch", "lan", "--mac", mac)

    def json(self, *words):
        return self.daemon.json(*words)

    def worker(self, name):
        """(asked for, now)"""
        shown = self.json("vnic", "show", name)
        return shown["worker"], shown["on_worker"]


@pytest.fixture(scope="module")
def two_workers(_root):
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("this machine has one CPU, so one worker")
    with Lab.create(f"t{os.getpid()}-choice") as lab:
        yield Host(lab)


def test_a_vnic_changes_its_worker_while_frames_flow(two_workers):
    host = two_workers
    assert sorted(host.worker(name)[1] for name in MACS) == [0, 1], "spread by themselves"
    assert {host.worker(name)[0] for name in MACS} == {"auto"}
    talk = Talk(host)
    try:
        for change in range(CHANGES):
            name, worker = ("a", "b")[change % 2], (change // 2) % 2
            host.daemon.do("vnic", "set", name, "--worker", worker)
            assert host.worker(name) == (worker, worker)
            talk.goes_on()
        before = host.worker("a")[1]
        host.daemon.do("vnic", "set", "a", "--worker", "auto")
        assert host.worker("a") == ("auto", before), "it stays where it is"
        talk.goes_on()
    finally:
        talk.close()
    for name in MACS:
        assert not any(host.json("vnic", "show", name)["counters"]["drops"].values())


def test_a_new_vnic_starts_on_the_worker_that_it_asks_for(two_workers):
    host = two_workers
    for worker in (0, 1, 1, 1):
        host.daemon.do("vnic", "create", "new", "--switch", "lan", "--worker", worker)
        assert host.worker("new") == (worker, worker)
        host.daemon.do("vnic", "delete", "new")
    done = host.daemon.cli("vnic", "create", "new", "--switch", "lan", "--worker", 2)
    assert (done.returncode, done.stdout) == (1, "")
    assert "no worker 2" in done.stderr and "0, 1" in done.stderr and "--worker-cpus" in done.stderr
    assert [vnic["name"] for vnic in host.json("vnic", "list")] == sorted(MACS)


def test_a_worker_that_is_missing_after_a_restart_counts_as_any(two_workers):
    host = two_workers
    host.daemon.do("vnic", "set", "b", "--worker", 1)
    exported = host.daemon.do("export")
    assert "worker: 1" in exported
    arguments = list(host.daemon.arguments)
    host.daemon.arguments[:] = []
    host.daemon.restart()
    assert host.worker("b") == (1, 0)
    host.daemon.do("vnic", "set", "b", "--mac-limit", 7)  # which is not about workers
    assert host.worker("b") == (1, 0)
    host.daemon.arguments[:] = arguments
    host.daemon.restart()
    assert host.worker("b") == (1, 1)
    host.daemon.do("vnic", "set", "b", "--worker", "auto", "--mac-limit", 1024)
    assert "worker:" not in host.daemon.do("export")
