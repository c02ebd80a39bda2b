"""VM to uplink and back: candidates with a kernel NIC, and what is at its other end.

The NIC is one end of a veth pair. At the other end a tc program (mirror.c) sends each frame back with its addresses
exchanged, so a frame goes VM, switch, veth, veth, switch, VM. The kernel does its part of that, the mirror's included, on
the CPU of whoever hands it the frame: the switch's. So it is in the cycles of every candidate alike, and no second
program sets the pace.
"""

import os
import shutil

from lab.netns import veth
from lab.proc import LabError, run

from .candidates import OvsDpdk, Patchbay, Setup, Testpmd

NIC = "nic0"    # in the namespace of the switch
FAR = "far0"
MIRROR = "02:00:00:ff:ff:fe"  # whoever sends there gets it back
ON_VETH = "on the veth pair's end"


class Wire:
    """The veth pair: add_mirror() for frames, or a namespace with an address for TCP."""

    def __init__(self, lab):
        self.lab = lab
        self.far = None

    def build(self):
        """Once; afterwards it stays until the lab ends."""
        if not self.far:
            self.far = self.lab.add_netns("far")
            veth(self.lab.host, NIC, self.far, FAR)
        return self

    def add_mirror(self):
        if not shutil.which("clang"):
            raise LabError("clang, which compiles the mirror at the far end, is not installed")
        program = os.path.join(self.lab.dir, "mirror.o")
        index = self.far.run("cat", f"/sys/class/net/{FAR}/ifindex").stdout.strip()
        address = ",".join(f"0x{byte}" for byte in MIRROR.split(":"))
        run("clang", "-O2", "-target", "bpf", f"-DINTERFACE={index}", f"-DMIRROR={address}", "-c",
            os.path.join(os.path.dirname(__file__), "mirror.c"), "-o", program)
        self.remove_mirror()
        self.far.run("tc", "qdisc", "add", "dev", FAR, "clsact")
        self.far.run("tc", "filter", "add", "dev", FAR, "ingress", "bpf", "direct-action", "object-file", program,
                     "section", "tc_mirror")

    def remove_mirror(self):
        self.far.run("tc", "qdisc", "del", "dev", FAR, "clsact", check=False)


class PatchbayPacket(Patchbay):
    name, title = "patchbay-packet", "Patchbay, packet sockets"
    driver = "packet"

    def switch(self, setup):
        return {"type": "external", "uplink": NIC, "driver": self.driver, "mtu": setup.mtu}

    def configuration(self):
        return f"patchbayd --worker-cpus {self.cpu}; one external switch --driver {self.driver} {ON_VETH}"


class PatchbayXdp(PatchbayPacket):
    name, title = "patchbay-xdp", "Patchbay, AF_XDP"
    driver = "xdp"


class OvsSystem(OvsDpdk):
    """A kernel NIC as Open vSwitch has it without DPDK: its main thread polls it, the PMD thread sends to it."""

    name, title = "ovs-system", "Open vSwitch, system port"
    sets_pace = False  # with two threads on one CPU it is so much slower that the others would have nothing to do

    def main_cpus(self, setup=Setup()):
        # Its main thread moves frames here, so it may not share the generator's CPU, which is the first.
        generator = 1 << min(os.sched_getaffinity(0))
        return super().main_cpus(setup) & ~generator or 1 << self.cpu

    def uplink_words(self):
        return [NIC]

    def busy_cycles(self):
        return self.processing_cycles(main_thread=True)

    def configuration(self):
        return f"as Open vSwitch with DPDK, dpdk-lcore-mask={self.main_cpus():#x}; {NIC} as a system port {ON_VETH}"


class OvsVdev(OvsDpdk):
    """A kernel NIC through a driver of DPDK, which the PMD thread polls."""

    driver = ""

    def unable(self, setup):
        if setup.pieces:
            return f"DPDK's {self.driver} has no segmentation offload"
        return super().unable(setup)

    def uplink_words(self):
        return ["up", "--", "set", "interface", "up", "type=dpdk",
                f"options:dpdk-devargs={self.driver}0,iface={NIC}"]

    def configuration(self):
        return f"as Open vSwitch with DPDK; dpdk port {self.driver} {ON_VETH}"


class OvsAfPacket(OvsVdev):
    name, title, driver = "ovs-af_packet", "Open vSwitch, net_af_packet", "net_af_packet"


class OvsAfXdp(OvsVdev):
    name, title, driver = "ovs-af_xdp", "Open vSwitch, net_af_xdp", "net_af_xdp"


class TestpmdVdev(Testpmd):
    driver = ""

    def unable(self, setup):
        if setup.pieces:
            return f"DPDK's {self.driver} has no segmentation offload"
        return super().unable(setup)

    def more_devices(self):
        return ["--vdev", f"{self.driver}0,iface={NIC}"]

    def configuration(self):
        return f"--forward-mode=io --nb-cores=1 between net_vhost and {self.driver} {ON_VETH}"


class TestpmdAfPacket(TestpmdVdev):
    name, title, driver = "testpmd-af_packet", "testpmd io, net_af_packet", "net_af_packet"


class TestpmdAfXdp(TestpmdVdev):
    name, title, driver = "testpmd-af_xdp", "testpmd io, net_af_xdp", "net_af_xdp"


CLASSES = (PatchbayPacket, PatchbayXdp, OvsSystem, OvsAfPacket, OvsAfXdp, TestpmdAfPacket, TestpmdAfXdp)
