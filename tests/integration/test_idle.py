"""An idle switch sleeps: nothing is polled and no timer runs while guests are attached and silent."""

import os
import time

from bench.machine import context_switches
from lab import wirings
from lab.daemon import sanitizer

WINDOW_S = 3.0
WINDOWS_MAX = 10
# Over all threads of the daemon; polling makes thousands. The thread sanitizer has one of its own, with a timer.
SWITCHES_A_SECOND = 10 if sanitizer() != "thread" else 30


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_workers_sleep_while_nothing_is_sent(net):
    for name in ("vm2", wirings.HOST_VNIC):  # nobody whose answer ARP would go on waiting for
        assert net.guests["vm1"].ping(wirings.ADDRESSES[name])
    net.account()  # waits until nothing is on its way
    pid = net.daemon.process.pid
    before, after = net.daemon.json("worker", "list"), None
    for _ in range(WINDOWS_MAX):
        # Not a wait for something to happen: the length of the time in which nothing may happen.
        switches, seconds = context_switches(pid), cpu_seconds(pid)
        time.sleep(WINDOW_S)
        switches, seconds = context_switches(pid) - switches, cpu_seconds(pid) - seconds
        before, after = after or before, net.daemon.json("worker", "list")
        if [w["frames"] for w in before] == [w["frames"] for w in after]:
            break  # else somebody did send: a guest that looks for routers does so for a while after its start
    assert switches < SWITCHES_A_SECOND * WINDOW_S
    assert seconds < 0.02 * WINDOW_S + 0.02  # two ticks of the kernel's clock are its resolution
    for old, new in zip(before, after):
        assert new["frames"] == old["frames"] and new["busy_cycles"] == old["busy_cycles"]
        assert 0 < new["sleeps"] <= old["sleeps"] + SWITCHES_A_SECOND * WINDOW_S


def test_a_sleeping_worker_wakes_for_the_first_frame(net):
    net.check_matrix()
    before = net.daemon.json("worker", "list")
    assert net.guests["vm1"].ping(net.guests["vm2"].ip)
    after = net.daemon.json("worker", "list")
    assert sum(w["frames"] for w in after) > sum(w["frames"] for w in before)
    assert sum(w["sleeps"] for w in after) > sum(w["sleeps"] for w in before)
