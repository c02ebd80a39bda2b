"""The daemon is killed under load, and DPDK's virtio-user, which listens, goes on over packed rings with the next one."""

import re
import shutil

import pytest
from lab.proc import wait_until
from test_testpmd import MACS as PMD_MACS
from test_testpmd import VirtioUserPair


def test_virtio_user_goes_on_with_packed_rings_after_kill9(host):
    """DPDK's driver throws away what was on its way when the back-end comes back, and starts its rings anew: so must we."""
    if not shutil.which("dpdk-testpmd"):
        pytest.skip("dpdk-testpmd is not installed")
    host.clear()
    host.daemon.do("switch", "create", "lab", "--private")
    sockets = {vnic: f"{host.lab.dir}/{vnic}.sock" for vnic in PMD_MACS}
    for vnic, mac in PMD_MACS.items():
        host.daemon.do("vnic", "create", vnic, "--switch", "lab", "--mac", mac, "--connect", sockets[vnic])
    open(f"{host.lab.dir}/testpmd.log", "wb").close()
    pmd = VirtioUserPair(host, sockets, "packed_vq=1,in_order=0,server=1")

    def connected():
        return all(host.json("vnic", "show", vnic)["state"] == "connected" for vnic in PMD_MACS)

    def frames():
        return min(host.json("vnic", "show", vnic)["counters"]["to_guest"]["frames"] for vnic in PMD_MACS)
    try:
        pmd.wait_text("testpmd> ")
        wait_until(connected, "both ports to connect")
        for kill in range(3):
            pmd.say("start tx_first 8")
            wait_until(lambda: frames() > 2000, "frames in both directions", 60.0)
            if kill == 2:
                break
            host.daemon.kill9()
            host.daemon.start()
            wait_until(connected, "both ports to connect again", 30.0)
            wait_until(lambda times=2 * (kill + 1): len(re.findall("reconnection succeeds", pmd.text())) >= times,
                       "testpmd to start its rings anew")
            pmd.say("stop")
            pmd.say("show port summary all")
            wait_until(lambda times=kill + 1: len(re.findall("Accumulated forward statistics", pmd.text())) >= times,
                       "testpmd to stop forwarding")
    finally:
        pmd.end()
