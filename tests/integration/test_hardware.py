"""What needs hardware that a test machine may lack: each skips with the reason, and does something real where it can.

KVM timing      how long a frame takes to a guest that sleeps and back; an emulated guest says nothing about that
physical NIC    one that a person gave for this by PATCHBAY_TEST_NIC, for what is behind it is not ours to disturb
ntuple filters  of such a NIC: that its driver has our rules and loses them again. Who sends what on its wire we do not know
NUMA            a worker on the second node
"""

import glob
import os
import re

import pytest
from front_end import FrontEnd
from lab import guest as lab_guest
from lab import wirings
from lab.lab import Lab
from lab.proc import wait_until

HOST_IP, GUEST_IP = "10.77.0.254", "10.77.0.1"
MACS = {"a": "02:00:00:00:0a:01", "b": "02:00:00:00:0a:02"}
RTT_LIMIT_MS = 2.0  # two wake-ups of sleepers and two passes of the switch, with much room
NIC = os.environ.get("PATCHBAY_TEST_NIC", "")


@pytest.fixture
def lab():
    with Lab.create(f"t{os.getpid()}-hard") as made:
        yield made


def a_frame_passes(daemon, switch):
    """Between two guests on `switch`."""
    ends = {}
    try:
        for name, mac in MACS.items():
            daemon.do("vnic", "create", name, "--switch", switch, "--mac", mac)
            ends[name] = FrontEnd(daemon.json("vnic", "show", name)["vhost_socket"], mac).start()
        frame = ends["b"].mac + ends["a"].mac + b"\x88\xb5" + bytes(46)
        ends["a"].send(frame)
        assert ends["b"].wait_frame() == [frame]
    finally:
        for end in ends.values():
            end.close()


def test_a_sleeping_kvm_guest_answers_soon(lab):
    if lab_guest.accelerator() != "kvm":
        pytest.skip("no KVM here: " + ("/dev/kvm is not there" if not os.path.exists("/dev/kvm") else
                                       "/dev/kvm does not run a stock kernel") + "; emulated guests have no timing")
    lab.daemon.start()
    lab.daemon.do("switch", "create", "lan", "--internal")
    lab.daemon.do("vnic", "create", "h0", "--switch", "lan", "--host")
    lab.host.set_ip("h0", HOST_IP)
    lab.daemon.do("vnic", "create", "a", "--switch", "lan", "--mac", MACS["a"])
    vm = lab.add_guest("a", MACS["a"])
    vm.start_vhost(lab.daemon.json("vnic", "show", "a")["vhost_socket"])
    vm.wait_ready()
    vm.set_ip(GUEST_IP)
    wirings.wait_connected(lab.daemon, ["a"])
    text = lab.host.run("busybox", "ping", "-c", 100, "-i", "0.05", GUEST_IP, limit_s=60.0).stdout
    times = sorted(float(found) for found in re.findall(r"time=([\d.]+) ms", text))
    assert len(times) == 100
    assert times[50] < RTT_LIMIT_MS, f"median {times[50]} ms, 99 % {times[98]} ms"


def needs_a_nic(what_for):
    if NIC:
        return
    found = [path.split("/")[4] for path in glob.glob("/sys/class/net/*/device")]
    pytest.skip(f"no physical NIC {what_for}: " + (f"name one that nobody needs in PATCHBAY_TEST_NIC; there are "
                                                   f"{', '.join(found)}" if found else "this machine has none"))


def test_a_physical_nic_carries_a_switch_and_is_left_as_it_was():
    needs_a_nic("to carry a switch")
    flags = f"/sys/class/net/{NIC}/flags"
    with Lab.create(f"t{os.getpid()}-nic", own_host=False) as lab:
        with open(flags, encoding="ascii") as file:
            before = file.read()
        lab.daemon.start()
        shown = lab.daemon.json("nic", "show", NIC)
        assert shown["physical"] and shown["driver"]
        lab.daemon.do("switch", "create", "lan", "--external", NIC)
        wait_until(lambda: lab.daemon.json("switch", "show", "lan")["uplink"]["state"] ==
                   ("up" if lab.daemon.json("nic", "show", NIC)["carrier"] else "down"), "uplink and carrier to agree")
        sent = lab.host.statistics(NIC)["tx_packets"]
        a_frame_passes(lab.daemon, "lan")
        assert lab.host.statistics(NIC)["tx_packets"] - sent <= \
            lab.daemon.json("switch", "show", "lan")["uplink"]["counters"]["to_wire"]["frames"]
        for name in MACS:
            lab.daemon.do("vnic", "delete", name)
        lab.daemon.do("switch", "delete", "lan")
        lab.daemon.stop()
        with open(flags, encoding="ascii") as file:
            assert file.read() == before


def test_a_physical_nic_sorts_by_rules_that_are_gone_afterwards():
    needs_a_nic("whose ntuple filters sort into queues of vnics (no model of QEMU's has any)")
    with Lab.create(f"t{os.getpid()}-rules", own_host=False) as lab:
        def state():
            filters = re.search(r"^ntuple-filters: .*$", lab.host.run("ethtool", "-k", NIC).stdout, re.M)
            return filters[0], *(lab.host.run("ethtool", option, NIC, check=False).stdout for option in ("-n", "-x"))

        before = state()
        lab.daemon.start()
        made = lab.daemon.cli("switch", "create", "lan", "--external", NIC, "--driver", "xdp")
        if made.returncode != 0:
            pytest.skip(f"ntuple filters need AF_XDP: {made.stderr.strip()}")
        sorts, = lab.daemon.json("vmq", "list")["nics"]
        if sorts["sorting"] != "ntuple":
            pytest.skip(f"{NIC} does not sort by ntuple filters: {sorts['sorting_reason']}")

        def rules(count):
            wait_until(lambda: f"Total {count} rules" in state()[1], f"{count} rules in {NIC}")
        lab.daemon.do("vnic", "create", "a", "--switch", "lan", "--vlan", 101, "--mac", MACS["a"])
        rules(1)
        assert MACS["a"] in state()[1].lower()
        assert lab.daemon.json("vmq", "list")["queues"][1]["sorting"] == "ntuple"
        lab.daemon.kill9()
        rules(1)
        lab.daemon.start()
        rules(1)
        lab.daemon.do("vnic", "delete", "a")
        rules(0)
        lab.daemon.do("switch", "delete", "lan")
        lab.daemon.stop()
        assert state() == before


def test_a_worker_on_the_second_numa_node_moves_frames(lab):
    nodes = sorted(glob.glob("/sys/devices/system/node/node[0-9]*"))
    if len(nodes) < 2:
        pytest.skip(f"{max(len(nodes), 1)} NUMA node here: a worker far from its memory needs two")
    cpu = int(re.search(r"cpu(\d+)$", sorted(glob.glob(f"{nodes[1]}/cpu[0-9]*"))[0])[1])
    lab.daemon.arguments = ["--worker-cpus", str(cpu)]
    lab.daemon.start()
    lab.daemon.do("switch", "create", "lan", "--private")
    a_frame_passes(lab.daemon, "lan")
    assert lab.daemon.json("worker", "list")[0]["cpu"] == cpu
