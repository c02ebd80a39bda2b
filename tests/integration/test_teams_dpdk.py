"""A team of two NICs that DPDK drives, with LACP: no kernel sees them, so the data path hands LACPDUs to control and takes
them from there. Two emulated Intel 82576 in an appliance, a bond of Open vSwitch at their other ends."""

import pytest
from conftest import lab_name
from lab import netcheck
from lab.appliance import Appliance, Nic
from lab.lab import Lab
from lab.proc import wait_until
from team_bed import lacp_lines

STATION, HERE = "10.9.0.2", "10.9.0.1"
VID = 101
ANSWER_S = 40.0  # a guest under TCG that negotiates its links


class Bed:
    def __init__(self, lab):
        self.physical = lab.add_physical()
        self.station = lab.add_wire_host("station", VID, STATION)
        self.ends = ("d1", "d2")
        self.inside = Appliance.create(lab, [Nic(self.physical.netns, end) for end in self.ends])
        self.inside.set_huge_pages(128)
        for nic in self.inside.nics:
            self.inside.bind(nic, "vfio-pci")
        self.physical.vsctl("add-bond", "wire", "bond0", *self.ends, "vlan_mode=trunk", f"trunks={VID}",
                            "bond_mode=balance-tcp", "lacp=active", "other_config:lacp-time=fast")
        self.daemon = self.inside.daemon
        self.daemon.start()
        pci = ",".join(nic.pci for nic in self.inside.nics)
        self.daemon.do("team", "create", "uplink", "--nics", pci, "--mode", "lacp")
        self.daemon.do("switch", "create", "lan", "--external", "uplink")
        self.daemon.do("vnic", "create", "vm", "--switch", "lan", "--host", "--vlan", VID)
        self.inside.run(f"ip addr add {HERE}/24 dev vm")

    def members(self):
        return self.daemon.json("team", "show", "uplink")["members"]

    def wait_states(self, *states):
        wait_until(lambda: tuple(member["state"] for member in self.members()) == states,
                   f"members to be {states}, not {self.members()}", ANSWER_S)

    def wait_answer(self):
        wait_until(lambda: self.station.ping(HERE), "an answer from inside", ANSWER_S)


@pytest.fixture(scope="module")
def dpdk(igb_qemu):
    with Lab.create(lab_name("teamdpdk"), own_host=False) as lab:
        yield Bed(lab)


def test_lacp_goes_through_the_data_path(dpdk):
    dpdk.wait_states("active", "active")
    for member in dpdk.members():
        assert member["driver"] == "dpdk" and member["lacp"]["mux"] == "distributing", member
        assert member["lacp"]["malformed"] == 0 and member["lacp"]["received"] > 0
    wait_until(lambda: all(line.startswith("current attached") for line in lacp_lines(dpdk.physical).values()),
               "the partner to use both", ANSWER_S)
    dpdk.wait_answer()


def test_each_member_has_queues_of_its_own(dpdk):
    dpdk.wait_states("active", "active")
    shown = dpdk.daemon.json("vmq", "list")
    assert {nic["queue_model"] for nic in shown["nics"]} == {"min-queues"}, shown
    rows = [row for row in shown["queues"] if row["vnic"] == "vm"]
    assert sorted(row["nic"] for row in rows) == sorted(nic.pci for nic in dpdk.inside.nics), shown
    assert {(row["sorting"], row["state"]) for row in rows} == {("vmdq", "running")}, rows
    before = sum(row["frames"] for row in rows)
    dpdk.wait_answer()
    after = sum(row["frames"] for row in dpdk.daemon.json("vmq", "list")["queues"] if row["vnic"] == "vm")
    assert after > before


def test_what_one_member_loses_goes_by_the_other(dpdk):
    dpdk.wait_states("active", "active")
    dpdk.wait_answer()
    dpdk.inside.set_link(dpdk.inside.nics[0], up=False)
    dpdk.wait_states("down", "active")
    dpdk.wait_answer()
    dpdk.inside.set_link(dpdk.inside.nics[0], up=True)
    dpdk.wait_states("active", "active")
    dpdk.wait_answer()
    # LACPDUs come all the time: the counters of two ports are equal at some moment, and never rest.
    wait_until(lambda: all(account.difference == 0 for account in netcheck.accounts(dpdk.daemon)),
               "every frame to be accounted for", ANSWER_S)
