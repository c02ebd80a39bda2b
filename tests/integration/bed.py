"""The test bed: four guests that stay up while the wiring around them changes, and the account of every frame."""

import os
import time

from lab import guest, netcheck, wirings
from lab.lab import Lab
from lab.netns import veth
from lab.proc import PATIENCE, wait_until

RAW_NIC = "raw0"  # a NIC whose other end, eth0 in the namespace `raw`, is a bare wire for frames of any kind
MACS = {name: f"02:00:00:00:01:{number:02x}" for number, name in enumerate(wirings.VMS, 1)}


class Bed:
    def __init__(self, name):
        self._name = name
        self._context = None
        self.lab = None
        self.daemon = None
        self.wire = None
        self.raw = None
        self.plan = None
        self.ends = []
        self._uplinks = {}
        self._base = None
        self._reusable = None

    def __enter__(self):
        self._context = Lab.create(self._name)
        lab = self.lab = self._context.__enter__()
        try:
            self.wire = wirings.Wire(lab).build()
            self.raw = lab.add_netns("raw")
            veth(lab.host, RAW_NIC, self.raw, "eth0")
            # Two workers where the machine has two CPUs: the vnics are spread over both, and frames go between them.
            cpus = sorted(os.sched_getaffinity(0))[:2]
            lab.daemon.arguments += ["--worker-cpus", ",".join(map(str, cpus))]
            self.daemon = lab.daemon.start()
            for nic in (*wirings.NICS, RAW_NIC):
                lab.capture(lab.host, nic)
            guest.accelerator()  # tried before the guests start, not beside them
        except BaseException as error:
            self._context.__exit__(type(error), error, None)
            raise
        return self

    def __exit__(self, *problem):
        return self._context.__exit__(*problem)

    @property
    def guests(self):
        return self.lab.guests

    def use_again(self, name, **options):
        """use(), unless the last one that wired asked for the same, and by this function: for many small cases."""
        if self._reusable != (name, options):
            self.use(name, **options)
            self._reusable = (name, options)
        self.rebase()

    def use(self, name, nics=None, connect=False):
        """Wires everything anew. `nics`: other NICs for the plan's, {"trunk0": "raw0"}. `connect`: QEMU listens and
        Patchbay connects, instead of the reverse."""
        self._reusable = None
        if not (self.daemon.process and self.daemon.process.running()):
            self.daemon.start()
        wirings.clear(self.daemon)
        self.plan = wirings.wiring(name)
        self.wire.set_ports({} if nics else self.plan.ports)
        self._uplinks = {switch.name: (nics or {}).get(switch.nic, switch.nic) for switch in self.plan.switches}
        sockets = {vm: os.path.join(self.lab.dir, f"{vm}.vhost") for vm in wirings.VMS} if connect else None
        wirings.create(self.daemon, self.plan, macs=MACS, nics=nics, connect=sockets)
        wirings.set_host_ip(self.lab)
        self._start_guests(listen=connect)
        wirings.wait_connected(self.daemon, wirings.VMS)
        for vm in self.guests.values():
            vm.run("ip neigh flush dev eth0")
        for netns in self.wire.hosts.values():
            netns.run("ip", "neigh", "flush", "dev", "eth0")
        self.ends = wirings.ends(self.lab, self.plan, None if nics else self.wire)
        self.rebase()

    def _start_guests(self, listen):
        started = []
        for name in wirings.VMS:
            vm = self.guests.get(name)
            if vm and vm.running() and vm.path == self.socket(name):
                continue
            if vm:
                vm.stop()
            vm = self.lab.add_guest(name, MACS[name])
            vm.path = self.socket(name)
            vm.start_vhost(vm.path, listens=listen)
            started.append(vm)
        for vm in started:
            vm.wait_ready()
            vm.set_ip(wirings.ADDRESSES[vm.name])

    def socket(self, vnic):
        return self.daemon.json("vnic", "show", vnic)["vhost_socket"]

    def end(self, name):
        return next(end for end in self.ends if end.name == name)

    def check_matrix(self):
        """Everybody of a VLAN reaches each other, and nobody else."""
        seen = netcheck.matrix(self.ends)
        problems = netcheck.wrong(self.ends, seen)
        assert not problems, "; ".join(problems) + "\n" + netcheck.table(self.ends, seen)

    # ---- The account ------------------------------------------------------------------------------------------------

    def rebase(self):
        """From here on every frame counts: call it when nothing is on its way."""
        self._base = self._read()

    def _read(self):
        """({switch: Account}, {(switch, port): (frames sent, frames received) as the other side counted them}), both
        of one moment: read again until nothing moved meanwhile."""
        def still():
            before = netcheck.settled_accounts(self.daemon)
            seen = self._seen()
            after = netcheck.accounts(self.daemon)
            same = [a.ports for a in before] == [a.ports for a in after]
            return ({account.switch: account for account in after}, seen) if same else None
        return wait_until(still, "a moment in which no frame moves", 20.0)

    def _seen(self):
        seen = {}
        for vnic in self.plan.vnics:
            if vnic.is_host:
                kernel = self.lab.host.statistics(vnic.name)
            elif self.guests[vnic.name].running():
                kernel = self.guests[vnic.name].statistics()
            else:
                continue
            seen[vnic.switch, vnic.name] = (kernel["tx_packets"], kernel["rx_packets"])
        for switch, nic in self._uplinks.items():
            kernel = self.lab.host.statistics(nic)
            seen[switch, "uplink"] = (kernel["rx_packets"], kernel["tx_packets"])
        return seen

    def account(self):
        """{(switch, port): {"in": …, "out": …, "copies": …, "cut": …, "drops": …, "reasons": {…}}} since rebase()."""
        accounts, _ = self._read()
        return self._since(accounts)

    def wait_account(self, port, what, least, limit_s=5.0):
        """account(), once `what` of `port` is at least `least`."""
        def enough():
            account = self.account()
            return account if any(change[what] >= least for (_, name), change in account.items() if name == port) \
                else None
        return wait_until(enough, f"{what} of {port} to reach {least}", limit_s)

    def _since(self, accounts):
        since = {}
        for switch, account in accounts.items():
            for port, now in account.ports.items():
                before = self._base[0][switch].ports.get(port) if switch in self._base[0] else None
                before = before or {"in": 0, "out": 0, "copies": 0, "cut": 0, "drops": 0, "reasons": {}}
                change = {key: now[key] - before[key] for key in ("in", "out", "copies", "cut", "drops")}
                change["reasons"] = {reason: frames - before["reasons"].get(reason, 0)
                                     for reason, frames in now["reasons"].items()
                                     if frames != before["reasons"].get(reason, 0)}
                since[switch, port] = change
        return since

    def drops(self, port):
        """{reason: frames} of a port since rebase()."""
        return next(change["reasons"] for (_, name), change in self.account().items() if name == port)

    def check_account(self):
        """No frame is lost or made up: the counters balance, and each end saw what the counters say."""
        end = time.monotonic() + 3.0 * PATIENCE
        problems = self._differences()
        while problems and time.monotonic() < end:  # the ends' own counters may trail by a moment
            time.sleep(0.2)
            problems = self._differences()
        assert not problems, "\n".join(problems)

    def _differences(self):
        accounts, seen = self._read()
        problems = [str(account) for account in accounts.values() if account.difference]
        since = self._since(accounts)
        for key, (sent, received) in seen.items():
            sent -= self._base[1][key][0]
            received -= self._base[1][key][1]
            counted = since[key]
            never_came = counted["reasons"].get("kernel_ring_full", 0)
            if counted["in"] + never_came != sent:
                problems.append(f"{key}: the other side sent {sent}, Patchbay took in {counted['in']}"
                                + (f" and the kernel dropped {never_came}" if never_came else ""))
            if counted["out"] != received:
                problems.append(f"{key}: Patchbay sent {counted['out']}, the other side received {received}")
        return problems
