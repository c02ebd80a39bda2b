"""What is measured: each candidate starts, gives sockets to the load generator, and says what its frames cost.

Every candidate has one core for its frames, the same for all; the load generator and whatever else runs have the rest.
Busy cycles are TSC cycles of passes of its loop that moved a frame, as each candidate counts them itself:
Patchbay       `patchbay worker list`: busy_cycles of the whole pass over all ports
Open vSwitch   `ovs-appctl dpif-netdev/pmd-stats-show`: processing cycles, which are those of iterations with packets
testpmd        `show fwd stats all` with record-core-cycles: of a port's turn that moved packets; empty polls of other
               ports are not in it, which favours testpmd where most ports are silent
"""

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass, field

from lab.daemon import Daemon
from lab.physical import OpenVSwitch
from lab.proc import LabError, run, tail, wait_until

from .generator import mac_of

VSWITCHD_DPDK = "/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk"
PORTS_OF_DPDK = 32  # RTE_MAX_ETHPORTS of Debian's build


@dataclass(frozen=True)
class Setup:
    """How a candidate is configured while the generator is attached."""
    vnics: int = 2
    mtu: int = 1500
    macs: int = 0  # addresses behind each vnic, which the switch has to learn; 0: the vnic's own, which it may know
    workers: int = 1  # threads that move frames, one a CPU; and queue pairs of each vnic
    pieces: bool = False  # segmentation offload is switched on, where it has to be
    uplink: bool = False  # instead of a private switch, one with the NIC of uplinks.py
    shape: dict = field(default_factory=dict, hash=False)  # of the generator's vnics


class Candidate:
    """start(setup) … stop(), as often as wanted. `role`: what the generator does, connect or listen."""

    name = title = ""
    family = ""  # what --only calls it
    role = "connect"
    polls = True  # whether it uses its core also when there is nothing to do
    sets_pace = True  # whether all are offered no more than it takes half the time

    def __init__(self, lab, cpu):
        self.lab = lab
        self.cpu = cpu
        self.dir = os.path.join(lab.dir, self.name)

    def missing(self):
        """Why it cannot run on this machine; None if it can."""
        return None

    def unable(self, setup):
        """Why it cannot run this setup; None if it can."""
        needed = setup.workers + 2  # the generator has one, and whatever else runs is not to disturb
        has = len(os.sched_getaffinity(0))
        if setup.workers > 1 and has < needed:
            return f"{setup.workers} workers mean something with {needed} CPUs or more; here are {has}"
        return None

    def worker_cpus(self, setup):
        """Of its threads that move frames."""
        usable = sorted(os.sched_getaffinity(0))
        begin = usable.index(self.cpu)
        return usable[begin:begin + setup.workers]

    def sockets(self, count):
        return [os.path.join(self.dir, f"v{number}.sock") for number in range(count)]

    def start(self, setup):
        """Sockets for the generator, one a vnic; where the generator listens, nothing has connected yet."""
        raise NotImplementedError

    def connect(self, setup):
        """Where the generator listens: makes the candidate connect."""

    def stop(self):
        raise NotImplementedError

    def busy_cycles(self):
        """Since it started."""
        raise NotImplementedError

    def counts(self, number):
        """What it says of frames for vnic `number` since it started: {"delivered": frames, "dropped": {reason: frames},
        "waiting": frames}."""
        raise NotImplementedError

    def process(self):
        """The process that moves frames."""
        raise NotImplementedError

    def version(self):
        raise NotImplementedError

    def configuration(self):
        """One line for the report."""
        raise NotImplementedError

    def _fresh_dir(self):
        shutil.rmtree(self.dir, ignore_errors=True)
        os.makedirs(self.dir)


class Patchbay(Candidate):
    name = family = "patchbay"
    title = "Patchbay"
    polls = False
    options = ()  # of patchbayd
    vnic_settings = {}  # of each vnic
    more_vnics = {}     # beside the generator's

    def __init__(self, lab, cpu):
        super().__init__(lab, cpu)
        self.daemon = None

    def start(self, setup):
        self._fresh_dir()
        cpus = ",".join(map(str, self.worker_cpus(setup)))
        self.daemon = Daemon(self.dir, self.lab.host, ["--worker-cpus", cpus, *self.options])
        self.daemon.start()
        self.apply(setup)
        shown = {vnic["name"]: vnic["vhost_socket"] for vnic in self.daemon.json("vnic", "list")}
        return [shown[f"v{number}"] for number in range(setup.vnics)]

    def apply(self, setup):
        """Makes the switch and its vnics, in one transaction."""
        path = os.path.join(self.dir, "host.yaml")
        more = {"mac_spoofing": True, "mac_limit": setup.macs} if setup.macs else {}
        if setup.workers > 1:
            more["queues"] = setup.workers
        vnics = {f"v{n}": {"switch": "lan", "mac": mac_of(n), **more, **self.vnic_settings} for n in range(setup.vnics)}
        host = {"switches": {"lan": self.switch(setup)}, "vnics": {**vnics, **self.more_vnics}}
        with open(path, "w", encoding="utf-8") as file:
            json.dump(host, file)
        done = self.daemon.cli("apply", "-f", path, limit_s=60.0)
        if done.returncode != 0:
            raise LabError(f"patchbay apply: {done.stderr.strip()}")

    def switch(self, setup):
        return {"type": "private", "mtu": setup.mtu}

    def stop(self):
        if self.daemon:
            self.daemon.stop()
            self.daemon = None

    def busy_cycles(self):
        return sum(worker["busy_cycles"] for worker in self.daemon.json("worker", "list"))

    def counts(self, number):
        shown = self.daemon.json("vnic", "show", f"v{number}")
        return {"delivered": shown["counters"]["to_guest"]["frames"], "dropped": shown["counters"]["drops"],
                "waiting": shown["buffer"]["frames"]}

    def process(self):
        return self.daemon.process

    def version(self):
        done = run("git", "-C", os.path.dirname(__file__), "describe", "--always", "--dirty", check=False)
        return done.stdout.strip() or "unknown"

    def configuration(self):
        return (f"patchbayd {' '.join(map(str, ('--worker-cpus', self.cpu, *self.options)))}; one private switch, vnics "
                "with pinned addresses")


class PatchbayPolling(Patchbay):
    """The same with workers that never sleep, as those of the others never do."""

    name, title = "patchbay-polling", "Patchbay, --poll always"
    polls = True
    options = ("--poll", "always")


class OvsDpdk(Candidate):
    name = family = "ovs"
    title = "Open vSwitch with DPDK"
    role = "listen"
    extra_settings = ()

    def __init__(self, lab, cpu):
        super().__init__(lab, cpu)
        self.ovs = None

    def missing(self):
        if not os.access(VSWITCHD_DPDK, os.X_OK):
            return f"{VSWITCHD_DPDK} is not there: install openvswitch-switch-dpdk"
        return None

    def main_cpus(self, setup=Setup()):
        """Mask of where its main thread may run."""
        return _mask_without(self.worker_cpus(setup))

    def settings(self, setup=Setup()):
        return ["dpdk-init=true", f"pmd-cpu-mask={sum(1 << cpu for cpu in self.worker_cpus(setup)):#x}",
                f"dpdk-lcore-mask={self.main_cpus(setup):#x}",
                'dpdk-extra="--in-memory --no-pci"', *(["userspace-tso-enable=true"] if setup.pieces else []),
                *self.extra_settings]

    def uplink_words(self):
        """Of add-port, where there is an uplink."""
        raise NotImplementedError

    def start(self, setup):
        self._fresh_dir()
        self.ovs = OpenVSwitch(self.dir, self.lab.host, VSWITCHD_DPDK)
        self.ovs.start_daemons(*self.settings(setup))
        table = [f"other-config:mac-table-size={2 * setup.macs * setup.vnics}"] if setup.macs else []
        self.ovs.vsctl("add-br", "lan", "--", "set", "bridge", "lan", "datapath_type=netdev", *table)
        return self.sockets(setup.vnics)

    def connect(self, setup):
        words = []
        for number, socket in enumerate(self.sockets(setup.vnics)):
            port = f"v{number}"
            words += ["--", "add-port", "lan", port, "--", "set", "interface", port, "type=dpdkvhostuserclient",
                      f"options:vhost-server-path={socket}", f"mtu_request={setup.mtu}"]
        if setup.uplink:
            words += ["--", "add-port", "lan", *self.uplink_words()]
        self.ovs.vsctl(*words[1:])
        wrong = re.findall(r'error +: "(.+)"', self.ovs.vsctl("list", "interface").stdout)
        if wrong:
            raise LabError(wrong[0])

    def stop(self):
        if self.ovs:
            self.ovs.stop_daemons()
            self.ovs = None

    def busy_cycles(self):
        return self.processing_cycles(main_thread=False)

    def counts(self, number):
        text = self.ovs.appctl("dpctl/show", "--statistics").stdout
        found = re.search(rf"port \d+: v{number} .*?TX packets:(\d+) errors:\S+ dropped:(\d+)", text, re.DOTALL)
        if not found:
            raise LabError(f"Open vSwitch has no statistics of v{number}")
        return {"delivered": int(found[1]), "dropped": {"dropped": int(found[2])}, "waiting": 0}

    def processing_cycles(self, main_thread):
        text = self.ovs.appctl("dpif-netdev/pmd-stats-show").stdout
        counted = text if main_thread else text.split("main thread:")[0]
        return sum(int(cycles) for cycles in re.findall(r"processing cycles: (\d+)", counted))

    def process(self):
        return self.ovs.vswitchd

    def version(self):
        return run(VSWITCHD_DPDK, "--version").stdout.strip().replace("\n", ", ")

    def configuration(self):
        return (f"other_config {' '.join(self.settings())}; one netdev bridge, action NORMAL, dpdkvhostuserclient "
                "ports; with userspace-tso-enable=true for pieces of 64 KB")


class OvsSleeping(OvsDpdk):
    """The same with its own way to spare the core: sleeps of up to so long when little comes."""

    name, title = "ovs-sleeping", "Open vSwitch, pmd-maxsleep 500"
    extra_settings = ("pmd-maxsleep=500",)


class Testpmd(Candidate):
    name = family = "testpmd"
    title = "testpmd io"

    def __init__(self, lab, cpu):
        super().__init__(lab, cpu)
        self._process = None

    def missing(self):
        return None if shutil.which("dpdk-testpmd") else "dpdk-testpmd is not installed: install dpdk-dev"

    def unable(self, setup):
        if setup.vnics > PORTS_OF_DPDK:
            return f"Debian's DPDK has room for {PORTS_OF_DPDK} ports"
        return super().unable(setup)

    def start(self, setup):
        self._fresh_dir()
        sockets = self.sockets(setup.vnics)
        workers = self.worker_cpus(setup)
        main = next(cpu for cpu in range(64) if _mask_without(workers) >> cpu & 1)
        # With legacy flags a mbuf says what it needs in the words of a sender, so that it may be passed on as it is.
        offload = ",tso=1,legacy-ol-flags=1" if setup.pieces else ""
        queues = f",queues={setup.workers}" if setup.workers > 1 else ""
        devices = [word for number, socket in enumerate(sockets)
                   for word in ("--vdev", f"net_vhost{number},iface={socket},client=0{queues}{offload}")]
        if setup.uplink:
            devices += self.more_devices()
        log = os.path.join(self.lab.dir, "testpmd.log")
        begin = os.path.getsize(log) if os.path.exists(log) else 0
        self._process = self.lab.host.start(
            "testpmd", "stdbuf", "-oL", "dpdk-testpmd", "--in-memory", "--no-pci", "--no-telemetry", "-m", "512",
            "-l", f"{main},{','.join(map(str, workers))}", "--main-lcore", main, *devices, "--", "-i", "--forward-mode=io",
            f"--nb-cores={setup.workers}", f"--rxq={setup.workers}", f"--txq={setup.workers}",
            "--no-mlockall", "--record-core-cycles", "--total-num-mbufs=65536", f"--max-pkt-len={setup.mtu + 18}",
            stdin=subprocess.PIPE)
        self._wait("testpmd> ", begin)
        self._say("start")
        return sockets

    def more_devices(self):
        """Words for the uplink, where there is one."""
        raise NotImplementedError

    def _size(self):
        return os.path.getsize(self._process.log)

    def _say(self, text):
        self._process.popen.stdin.write(text.encode() + b"\n")
        self._process.popen.stdin.flush()

    def _wait(self, pattern, begin):
        """The match of `pattern` in what it has said from byte `begin` on."""
        def found():
            self._process.check()
            with open(self._process.log, "rb") as file:
                file.seek(begin)
                return re.search(pattern, file.read().decode("utf-8", "replace"))
        return wait_until(found, f"testpmd to say {pattern}", 30.0, every_s=0.02)

    def stop(self):
        if self._process:
            self._process.stop()
            self._process = None

    def busy_cycles(self):
        begin = self._size()
        self._say("show fwd stats all")
        found = self._wait(r"(?s)Accumulated forward statistics for all ports\+*\s*RX-packets: (\d+) .*?\+{60,}", begin)
        if found[1] == "0":
            return 0
        return int(self._wait(r"total cycles=(\d+) /", begin)[1])

    def process(self):
        return self._process

    def version(self):
        return run("dpkg-query", "-W", "-f", "${Version}", "dpdk-dev", check=False).stdout.strip() or "unknown"

    def configuration(self):
        return ("--forward-mode=io --nb-cores=1 on net_vhost ports; forwards pairs without looking at a frame; with tso=1 "
                "legacy-ol-flags=1 for pieces of 64 KB")


CLASSES = (Patchbay, OvsDpdk, Testpmd)


def _mask_without(cpus):
    """CPUs that this program may use, without those."""
    return sum(1 << other for other in os.sched_getaffinity(0) if other not in cpus)


def last_words(candidate):
    """The end of the log of its process, for messages."""
    process = candidate.process()
    return tail(process.log) if process else ""
