"""Several queue pairs a vnic, with real guests: which pairs frames take, and what becomes of a guest that has fewer or more."""

import json
import os
import re
import shlex

import pytest
from lab import guest, netcheck, wirings
from lab.lab import Lab
from lab.proc import wait_until

SUBNET = "10.79.0"
MACS = {"one": "02:00:00:00:06:01", "two": "02:00:00:00:06:02"}
ADDRESSES = {"one": f"{SUBNET}.1", "two": f"{SUBNET}.2"}
FLOWS = 16  # chance puts all of them into one pair in one run of 32,768
PORT = 5201


class Bench:
    """`one` has one queue pair, `two` two of them and two CPUs."""

    def __init__(self, lab):
        self.lab = lab
        self.daemon = lab.daemon
        self.daemon.start()
        self.daemon.do("switch", "create", "lan", "--private")
        self.daemon.do("vnic", "create", "one", "--switch", "lan", "--mac", MACS["one"])
        self.daemon.do("vnic", "create", "two", "--switch", "lan", "--mac", MACS["two"], "--queues", 2)
        self.one = lab.add_guest("one", MACS["one"])
        self.one.start_vhost(self.view("one")["vhost_socket"])
        self.two = lab.add_guest("two", MACS["two"])
        self.two.start([*printed_arguments(self.daemon, "two"), "-smp", "2"])
        for name, vm in (("one", self.one), ("two", self.two)):
            vm.wait_ready()
            vm.set_ip(ADDRESSES[name])
        wirings.wait_connected(self.daemon, ADDRESSES)

    def view(self, name):
        return self.daemon.json("vnic", "show", name)

    def wait_used(self, name, count):
        wait_until(lambda: self.view(name)["queues_used"] == count, f"{name} to use {count} queue pairs", 30.0)

    def use(self, count):
        """Makes guest two use so many pairs."""
        self.two.run(f"ethtool -L eth0 combined {count}", check=self.view("two")["queues_used"] != count)
        self.wait_used("two", count)

    def packets(self):
        """{"rx": [packets of each queue], "tx": [...]} of guest two, as its driver counts them while it uses both."""
        text = self.two.run("ethtool -S eth0")[1]
        found = {way: {} for way in ("rx", "tx")}
        for way, queue, count in re.findall(r"(rx|tx)_queue_(\d+)_packets: (\d+)", text):
            found[way][int(queue)] = int(count)
        assert found["rx"].keys() == found["tx"].keys() == {0, 1}, text
        return {way: [counts[queue] for queue in sorted(counts)] for way, counts in found.items()}

    def grown(self, before):
        now = self.packets()
        return {way: [new - old for new, old in zip(now[way], before[way])] for way in now}

    def streams_to_two(self):
        """FLOWS TCP streams from one to two, at once."""
        self.two.run("pidof iperf3 >/dev/null || iperf3 -s -D")
        wait_until(lambda: self.two.run(f"netstat -ltn | grep -q :{PORT}", check=False)[0] == 0, "the iperf3 server")
        output = self.one.run(f"iperf3 -J -c {ADDRESSES['two']} -P {FLOWS} -n 4M --connect-timeout 5000",
                              check=False, limit_s=90)[1]
        result = json.loads(output[output.index("{"):])
        assert "error" not in result, result["error"]
        assert result["end"]["sum_sent"]["bytes"] >= 4 << 20


def printed_arguments(daemon, vnic):
    text = daemon.do("vnic", "attach-args", vnic, "--memory", "128M")
    words = [word for line in text.splitlines() if not line.startswith("#") for word in shlex.split(line)]
    if guest.accelerator() == "tcg":  # as the text itself says
        words = [f"{word},vectors=0" if word.startswith("virtio-net-pci") else word for word in words]
    return words


@pytest.fixture(scope="module")
def bench(_root):
    with Lab.create(f"t{os.getpid()}-queues") as lab:
        yield Bench(lab)


@pytest.fixture(autouse=True)
def balanced(bench):
    yield
    for account in netcheck.settled_accounts(bench.daemon):
        assert account.difference == 0, account
    for name in ADDRESSES:
        drops = bench.view(name)["counters"]["drops"]
        assert drops["bad_descriptor"] == drops["guest_buffer"] == 0, (name, drops)


def test_frames_take_both_pairs_of_a_guest_with_two_cpus(bench):
    bench.wait_used("two", 2)  # it does so by itself
    shown = bench.view("two")
    assert (shown["queues"], shown["state"], shown["state_reason"]) == (2, "connected", "")
    assert (bench.view("one")["queues"], bench.view("one")["queues_used"]) == (1, 1)
    before = bench.packets()
    bench.streams_to_two()
    received = bench.grown(before)["rx"]
    assert min(received) >= 5, f"{FLOWS} flows, spread over both: {received}"
    before = bench.packets()
    for cpu in range(2):  # each has a transmit queue of its own
        bench.two.run(f"taskset {1 << cpu:x} ping -q -c 5 -i 0.1 {ADDRESSES['one']}")
    sent = bench.grown(before)["tx"]
    assert min(sent) >= 5, sent


def test_the_guest_switches_a_pair_off_and_on_while_frames_flow(bench):
    bench.use(2)
    before = bench.packets()
    bench.use(1)
    bench.streams_to_two()
    bench.use(2)
    received = bench.grown(before)["rx"]
    assert received[0] > 100 and received[1] < 5, f"the few that came beside the streams: {received}"
    before = bench.packets()
    bench.streams_to_two()
    assert min(bench.grown(before)["rx"]) >= 5


def test_another_number_of_pairs_waits_for_the_next_connection(bench):
    bench.use(2)
    bench.daemon.do("vnic", "set", "two", "--queues", 4)
    shown = bench.view("two")
    assert (shown["state"], shown["queues"], shown["queues_used"]) == ("connected", 4, 2)
    assert "guest restart needed" in shown["state_reason"] and "attach-args" in shown["state_reason"]
    assert bench.one.ping(ADDRESSES["two"], count=2)
    bench.daemon.kill9()
    bench.daemon.start()
    wirings.wait_connected(bench.daemon, ADDRESSES)
    bench.wait_used("two", 2)  # its QEMU has no more
    assert bench.view("two")["state_reason"] == ""
    assert bench.one.ping(ADDRESSES["two"], count=2)
    # Fewer than its driver has acknowledged: QEMU leaves, and says why in its own log only.
    bench.daemon.do("vnic", "set", "two", "--queues", 1)
    bench.daemon.kill9()
    bench.daemon.start()
    wait_until(lambda: "queues=" in bench.view("two")["state_reason"], "the vnic to say what stands in the way", 30.0)
    assert bench.view("two")["state"] != "connected"
    bench.daemon.do("vnic", "set", "two", "--queues", 2)
    wirings.wait_connected(bench.daemon, ADDRESSES)
    bench.wait_used("two", 2)
    wait_until(lambda: bench.one.ping(ADDRESSES["two"]), "frames to flow again", 20.0)


def test_a_driver_with_one_queue_uses_the_first_of_four_pairs(bench):
    bench.daemon.do("vnic", "create", "three", "--switch", "lan", "--queues", 4)
    vm = bench.lab.add_guest("three")
    try:
        vm.start(printed_arguments(bench.daemon, "three"))  # one CPU
        vm.wait_ready()
        vm.set_ip(f"{SUBNET}.3")
        bench.wait_used("three", 1)
        for name in ("one", "two"):
            assert vm.ping(ADDRESSES[name], count=2)
        assert bench.one.ping(f"{SUBNET}.3", count=2)
    finally:
        vm.stop()
        del bench.lab.guests["three"]
