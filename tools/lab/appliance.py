"""A host in a guest: a QEMU guest that runs patchbayd itself, with NICs of real models.

A machine without a NIC to give away tests drivers here: an emulated 82576 (`igb`: DPDK, VMDq, SR-IOV) or another model
with its kernel driver (`e1000e`), an IOMMU for VFIO, Debian's kernel with what the lab's host may lack. The other end
of each NIC is a tap in a namespace of the lab, where RawPort, ping or a physical switch play the wire.

    with Appliance.create(lab, [Nic(lab.add_netns("wire"), "wire0")]) as host:
        host.bind(host.nics[0], "vfio-pci")
        host.daemon.start()
        host.daemon.do("switch", "create", "lan", "--external", host.nics[0].pci)

It has one CPU. With two, once in some hundred starts on a busy machine without KVM, the guest stops for good: its kernel says
"rcu: Possible timer handling issue on cpu=1", or nothing (seen so when one thread emulated both CPUs).

Everything in it is read from the build directory: build patchbayd and patchbay first.
"""

import glob
import os
import shlex
import subprocess
import time

from . import guest, image, qemu10
from .daemon import Commands, build_dir, program
from .guest import Guest
from .proc import LabError, Process, run, wait_until

READY_LIMIT_S = 90.0  # an IOMMU, huge pages and 60 MB of programs: under TCG on a busy machine
ANSWER_LIMIT_S = 60.0
PLUGINS = "dpdk/pmds-*"
# DPDK's drivers, without the prefix "librte_": buses, memory, the NIC models that QEMU has, and one that needs no NIC.
DRIVERS = ("bus_pci", "bus_vdev", "mempool_ring", "net_e1000", "net_tap")
# Loaded in this order; what a kernel has built in is skipped.
VFIO_MODULES = ("irqbypass", "vfio", "vfio_virqfd", "vfio_iommu_type1", "vfio-pci-core", "vfio-pci")
DRIVER_MODULES = {"igb": ("i2c-core", "i2c-algo-bit", "pps_core", "ptp", "dca", "igb"),
                  "e1000e": ("pps_core", "ptp", "e1000e"), "vfio-pci": VFIO_MODULES}
SETPRIV = "/usr/bin/setpriv"  # by its path: the shell has one of its own
TICKS_PER_SECOND = 100  # USER_HZ
STATE_DIR, RUN_DIR = "/state", "/run/patchbay"


class Nic:
    """A NIC of an appliance: QEMU's `model` inside, the tap `wire` in the namespace `netns` outside."""

    def __init__(self, netns, wire, model="igb", mac=None):
        self.netns = netns
        self.wire = wire
        self.model = model
        self.mac = mac
        self.pci = None  # its address inside, from Appliance

    def plug(self, mtu=9000):
        """Makes the tap. Its carrier is there as long as QEMU runs and the NIC inside is up."""
        self.netns.run("ip", "tuntap", "add", "dev", self.wire, "mode", "tap")
        self.netns.run("ip", "link", "set", self.wire, "mtu", mtu, "up")


class Appliance(Guest):
    """The guest. Its NICs have no driver until bind()."""

    @classmethod
    def create(cls, lab, nics, name="appliance", **options):
        """One that is up. qemu10.Unavailable where it cannot be."""
        made = cls(lab, nics, name, **options)
        lab.guests[name] = made  # ended with the lab
        made.start()
        made.wait_ready(READY_LIMIT_S)
        made.run(f"mkdir -p {STATE_DIR} {RUN_DIR} /dev/hugepages /mnt && mount -t tmpfs tmpfs /tmp")
        return made

    def __init__(self, lab, nics, name, memory_mb=1024, files=None):
        """`files`: more programs, {path inside: path here}; their libraries come along."""
        super().__init__(lab.record, lab.dir, name, memory_mb=memory_mb)
        self.lab = lab
        self.nics = list(nics)
        self.daemon = ApplianceDaemon(self)
        self._files = dict(files or {})
        self._loaded = set()
        namespaces = {nic.netns.name for nic in nics}
        if len(namespaces) > 1:
            raise LabError(f"appliance {name}: QEMU runs in the namespace of its taps; put them into one")
        self._netns = namespaces.pop() if namespaces else None

    def start(self):
        qemu = qemu10.find()
        kernel, _ = image.kernel()
        channel = self._open_channel()
        accelerator = guest.accelerator()
        command = [*qemu.command, "-nodefaults", "-no-user-config", "-display", "none",
                   "-machine", "q35,kernel-irqchip=off", "-accel", accelerator,
                   "-cpu", "host" if accelerator == "kvm" else "max", "-device", "intel-iommu",
                   "-m", self.memory_mb, "-smp", "1", "-kernel", kernel, "-initrd", initramfs(self._files),
                   "-append", f"{guest.KERNEL_ARGUMENTS} intel_iommu=on lab.name={self.name}",
                   "-serial", f"file:{self.console_log}", "-serial", f"unix:{channel},server=on,wait=off",
                   "-qmp", f"unix:{self.qmp},server=on,wait=off"]
        for number, nic in enumerate(self.nics):
            nic.plug()
            command += self._nic_arguments(number, nic)
        self.process = Process(self._record, f"QEMU guest {self.name}", command, self.qemu_log, netns=self._netns,
                               env=qemu.environment)

    def _nic_arguments(self, number, nic):
        # A root port each: the NIC can be unplugged, and its address is that of the bus behind the port.
        nic.pci = f"0000:{number + 1:02x}:00.0"
        nic.mac = nic.mac or f"02:00:00:00:02:{number + 1:02x}"
        return ["-device", f"pcie-root-port,id=port{number},bus=pcie.0,addr={0x10 + number:#x},chassis={number + 1}",
                "-netdev", f"tap,id=net{number},ifname={nic.wire},script=no,downscript=no,vnet_hdr=off",
                "-device", self._device(number, nic)]

    @staticmethod
    def _device(number, nic):
        return f"{nic.model},id=nic{number},netdev=net{number},bus=port{number},mac={nic.mac},romfile="

    # ---- Inside -----------------------------------------------------------------------------------------------------

    def load(self, *modules):
        """Loads kernel modules, in this order; what the kernel has built in, or loaded already, is skipped."""
        wanted = [name for name in modules if name not in self._loaded and image.module(name)]
        if wanted:
            self.run(" && ".join(f"insmod /modules/{name}.ko" for name in wanted), limit_s=ANSWER_LIMIT_S)
        self._loaded.update(wanted)

    def bind(self, nic, driver):
        """Gives a NIC to a driver ("igb", "e1000e", "vfio-pci"), taking it from the one it has; None: only the latter.
        Waits until the driver has it."""
        if driver:
            self.load(*DRIVER_MODULES[driver])
        device = f"/sys/bus/pci/devices/{nic.pci}"
        self.run(f"[ ! -e {device}/driver ] || echo {nic.pci} > {device}/driver/unbind; "
                 f"echo {driver or ''} > {device}/driver_override; "
                 + (f"echo {nic.pci} > /sys/bus/pci/drivers_probe" if driver else "true"), limit_s=ANSWER_LIMIT_S)
        wait_until(lambda: self.driver(nic) == driver, f"{nic.pci} to be bound to {driver}")

    def driver(self, nic):
        """The name of the NIC's driver, None if it has none."""
        _, text = self.run(f"basename $(readlink /sys/bus/pci/devices/{nic.pci}/driver) 2>/dev/null", check=False)
        return text.strip() or None

    def interface(self, nic):
        """The kernel's interface of a NIC, once its driver has made it."""
        def found():
            _, text = self.run(f"ls /sys/bus/pci/devices/{nic.pci}/net 2>/dev/null", check=False)
            return text.strip()
        return wait_until(found, f"an interface of {nic.pci}", ANSWER_LIMIT_S)

    def set_huge_pages(self, count):
        """Of 2 MB each; 0: none."""
        self.run(f"echo {count} > /proc/sys/vm/nr_hugepages; mountpoint -q /dev/hugepages || "
                 "mount -t hugetlbfs hugetlbfs /dev/hugepages", limit_s=ANSWER_LIMIT_S)
        _, text = self.run("cat /proc/sys/vm/nr_hugepages")
        if int(text) != count:
            raise LabError(f"appliance {self.name}: {text.strip()} huge pages instead of {count}")

    # ---- Outside ----------------------------------------------------------------------------------------------------

    def set_link(self, nic, up):
        """Plugs or pulls the cable of a NIC."""
        self.monitor("set_link", name=f"nic{self.nics.index(nic)}", up=up)

    def unplug(self, nic):
        """Asks the guest to let go of the NIC, as the button beside a slot does; it goes when the guest agrees."""
        self.monitor("device_del", id=f"nic{self.nics.index(nic)}")

    def plug_again(self, nic):
        """Puts a NIC that has gone back into its slot. It has no driver then."""
        number = self.nics.index(nic)
        words = dict(word.partition("=")[::2] for word in self._device(number, nic).split(",")[1:])
        self.monitor("device_add", driver=nic.model, **words)

    def present(self, nic):
        return self.run(f"test -e /sys/bus/pci/devices/{nic.pci}", check=False)[0] == 0


class ApplianceDaemon(Commands):
    """patchbayd inside an appliance, with the words of Daemon. What it logs goes to the appliance's console log."""

    def __init__(self, inside, arguments=()):
        self._inside = inside
        self.arguments = list(arguments)
        self._prefix = []  # words before the command
        self.pid = None
        self.api_socket = f"{RUN_DIR}/api.sock"

    def start(self, limit_s=ANSWER_LIMIT_S):
        self._inside.load("tun")
        words = shlex.join([*self._prefix, "patchbayd", "--state-dir", STATE_DIR, "--run-dir", RUN_DIR, *self.arguments])
        _, text = self._inside.run(f"setsid {words} >/dev/ttyS0 2>&1 </dev/null & echo $!")
        self.pid = int(text)
        wait_until(self.answers, f"patchbayd to answer (log: {self._inside.console_log})", limit_s, every_s=0.2)
        return self

    def running(self):
        return self.pid is not None and self._inside.run(f"kill -0 {self.pid}", check=False)[0] == 0

    def answers(self):
        if not self.running():
            raise LabError(f"patchbayd ended; see {self._inside.console_log}")
        return self.cli("worker", "list").returncode == 0

    def run_as(self, user, capabilities):
        """From its next start on it runs as `user` (a number) with these capabilities: ("net_raw", …). SETPRIV must be
        among the appliance's files."""
        # Where there is udev, the tun device is everyone's.
        self._inside.run(f"chown -R {user} {STATE_DIR} {RUN_DIR}; chmod 666 /dev/net/tun")
        names = ",".join(["-all", *(f"+{name}" for name in capabilities)])
        self._prefix = [SETPRIV, "--reuid", user, "--regid", user, "--clear-groups", "--inh-caps", names,
                        "--ambient-caps", names, "--bounding-set", names]

    def run_as_root(self):
        """As run_as(); ends it if it runs."""
        self._prefix = []
        if self.running():
            self.stop()

    def cpu_seconds(self):
        """CPU time that it has used, all threads together."""
        _, text = self._inside.run(f"cat /proc/{self.pid}/stat")
        fields = text.rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND

    def kill9(self):
        self._end("KILL")

    def stop(self):
        self._end("TERM")

    def _end(self, signal_name, limit_s=20.0):
        self._inside.run(f"kill -{signal_name} {self.pid}")
        wait_until(lambda: not self.running(), "patchbayd to end", limit_s)
        self.pid = None

    def cli(self, *words, limit_s=ANSWER_LIMIT_S):
        """Runs `patchbay WORDS…`; the result has returncode, and what it printed as stdout, or stderr if it failed."""
        command = ["patchbay", "--api", self.api_socket, *map(str, words)]
        status, text = self._inside.run(shlex.join(command), check=False, limit_s=limit_s)
        good = status == 0
        return subprocess.CompletedProcess(command, status, text if good else "", "" if good else text)


def check_idle(daemon, window_s=4.0):
    """Asserts that the one worker sleeps while no frame comes. The pause is not a wait for something to happen: it is
    the length of the time in which nothing may happen. Frames of others (router solicitations, for one) may come."""
    before, used = daemon.json("worker", "list")[0], daemon.cpu_seconds()
    time.sleep(window_s)
    used = daemon.cpu_seconds() - used
    after = daemon.json("worker", "list")[0]
    # A worker that polls takes all of a CPU. The questions to the daemon wake control, and not the worker.
    assert used < 0.5 * window_s, used
    assert after["sleeps"] - before["sleeps"] <= after["frames"] - before["frames"] + 10 * window_s, (before, after)
    assert after["sleeps"] > 0, after


def initramfs(files):
    """Path of an initramfs with the programs of the build directory, DPDK's drivers for QEMU's NICs, and `files`.
    The shell runs its own `ip` whatever PATH says: iproute2's is called by its path, /usr/sbin/ip."""
    inside = {"/usr/sbin/ip": image.program("ip"), "/bin/ethtool": image.program("ethtool"),
              "/bin/patchbay": _stripped("patchbay"), "/bin/patchbayd": _stripped("patchbayd")}
    for library in image.libraries_of(inside["/bin/patchbayd"]):
        for folder in glob.glob(os.path.join(os.path.dirname(os.path.realpath(library)), PLUGINS)):
            for driver in DRIVERS:
                plugin = os.path.join(folder, f"librte_{driver}.so")
                if os.path.exists(plugin):
                    inside[plugin] = plugin
    modules = sorted({name for names in DRIVER_MODULES.values() for name in names} | {"tun", "veth", *image.MODULES_FLOWER})
    return image.pack("appliance", {**inside, **files}, image.MODULES, modules)


def _stripped(name):
    """A copy of a built program without debug information, made again when the program has changed."""
    source = program(name)
    target = os.path.join(build_dir(), "lab", f"{name}.stripped")
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if not os.path.exists(target) or os.stat(target).st_mtime < os.stat(source).st_mtime:
        fresh = f"{target}.{os.getpid()}"
        run("strip", "-o", fresh, source)
        os.replace(fresh, target)
    return target
