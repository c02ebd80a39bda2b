"""The lab's appliance: patchbayd in a guest, on an emulated NIC with its kernel driver, reached from the wire."""

import pytest
from conftest import lab_name
from lab.appliance import Appliance, Nic
from lab.lab import Lab
from lab.proc import wait_until

WIRE = "10.0.9.1"
INSIDE = "10.0.9.2"


@pytest.fixture(scope="module")
def appliance(igb_qemu):
    with Lab.create(lab_name("inside"), own_host=False) as lab:
        made = Appliance.create(lab, [Nic(lab.add_netns("wire"), "wire0", "e1000e")])
        nic = made.nics[0]
        made.bind(nic, "e1000e")
        nic.netns.set_ip(nic.wire, WIRE)
        made.daemon.start()
        yield made


def test_the_wire_reaches_a_host_vnic_inside(appliance):
    nic = appliance.nics[0]
    eth = appliance.interface(nic)
    appliance.daemon.do("switch", "create", "lan", "--external", eth)
    appliance.daemon.do("vnic", "create", "mgmt", "--switch", "lan", "--host")
    appliance.run(f"ip addr add {INSIDE}/24 dev mgmt")
    wait_until(lambda: nic.netns.ping(INSIDE), "an answer from inside", 20.0)
    shown = appliance.daemon.json("nic", "show", eth)
    assert shown["driver"] == "e1000e" and shown["mac"] == nic.mac and shown["switch"] == "lan"
    appliance.set_link(nic, up=False)
    wait_until(lambda: not appliance.daemon.json("nic", "show", eth)["carrier"], "the loss of carrier to show")
    appliance.set_link(nic, up=True)
    wait_until(lambda: nic.netns.ping(INSIDE), "an answer after the cable is back", 20.0)
