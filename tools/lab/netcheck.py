"""Who reaches whom, and whether every frame is accounted for."""

import time
from concurrent.futures import ThreadPoolExecutor

from .proc import LabError

# Each target is pinged on its own, side by side; printed is who answered.
_SCRIPT = ("for t in {targets}; do ( busybox ping -q -c {count} -W {wait} $t >/dev/null 2>&1 && echo $t ) & done; "
           "wait")


class End:
    """One end of the network: a guest, or an interface of a namespace. `vid` is the VLAN in which it should be."""

    def __init__(self, name, address, vid, kind, shell):
        self.name = name
        self.address = address
        self.vid = vid
        self.kind = kind  # "guest", "host vnic" or "wire"
        self._shell = shell

    @classmethod
    def of_guest(cls, guest, vid):
        return cls(guest.name, guest.ip, vid, "guest", lambda text, limit_s: guest.run(text, False, limit_s)[1])

    @classmethod
    def of_netns(cls, netns, name, address, vid, kind):
        return cls(name, address, vid, kind,
                   lambda text, limit_s: netns.shell(text, check=False, limit_s=limit_s).stdout)

    def shell(self, text, limit_s=30.0):
        return self._shell(text, limit_s)

    def reached(self, addresses, wait_s=2, count=1):
        """Which of `addresses` answer this end's ping."""
        if not addresses:
            return set()
        text = _SCRIPT.format(targets=" ".join(addresses), wait=wait_s, count=count)
        return set(self.shell(text, limit_s=30.0 + wait_s + count).split())


def expected(ends):
    """{(from, to): whether `to` should answer}: ends of the same VLAN, and only those."""
    return {(a.name, b.name): a.vid == b.vid for a in ends for b in ends if a is not b}


def matrix(ends, limit_attempts=4):
    """{(from, to): whether `to` answered}. Pairs that should but do not answer are asked again; pairs that should not
    are asked each time, for one answer there is one too many."""
    wanted = expected(ends)
    seen = dict.fromkeys(wanted, False)
    by_address = {end.address: end.name for end in ends}
    if len(by_address) != len(ends):
        raise LabError("two ends have the same address: the matrix would lie")
    for _ in range(limit_attempts):
        def ask(end):
            open_questions = [b.address for b in ends if b is not end and not (
                wanted[end.name, b.name] and seen[end.name, b.name])]
            return end, end.reached(open_questions)
        with ThreadPoolExecutor(len(ends)) as pool:
            for end, answers in pool.map(ask, ends):
                for address in answers:
                    seen[end.name, by_address[address]] = True
        if all(seen[pair] for pair, should in wanted.items() if should):
            break
    return seen


def wrong(ends, seen):
    """Sentences about pairs that are not as they should be; empty when all is well."""
    return [f"{a} {'does not reach' if should else 'reaches'} {b}"
            for (a, b), should in expected(ends).items() if seen[a, b] != should]


def table(ends, seen):
    """The matrix as text: rows ping columns."""
    wanted = expected(ends)
    width = max(len(end.name) for end in ends) + 2
    head = " " * (width + 8) + "".join(end.name.rjust(width) for end in ends)
    vlans = "from \\ to".ljust(width + 8) + "".join(
        (str(end.vid) if end.vid else "-").rjust(width) for end in ends)
    rows = []
    for a in ends:
        cells = []
        for b in ends:
            if a is b:
                cells.append(".")
            else:
                mark = "yes" if seen[a.name, b.name] else "no"
                cells.append(mark if seen[a.name, b.name] == wanted[a.name, b.name] else f"{mark}!")
        rows.append(a.name.ljust(width) + (str(a.vid) if a.vid else "-").ljust(8)
                    + "".join(cell.rjust(width) for cell in cells))
    return "\n".join([head, vlans, *rows])


class Account:
    """Frames of one switch by Patchbay's counters: the sums that have to agree."""

    def __init__(self, switch, vnics):
        self.switch = switch["name"]
        self.ports = {vnic["name"]: _port(vnic["counters"], "from_guest", "to_guest", vnic["buffer"]["frames"])
                      for vnic in vnics if vnic["switch"] == self.switch}
        if switch.get("uplink"):
            self.ports["uplink"] = _port(switch["uplink"]["counters"], "from_wire", "to_wire")

    def total(self, what):
        return sum(port[what] for port in self.ports.values())

    @property
    def difference(self):
        """Frames in, copies made by flooding and frames cut of large pieces, minus frames out, drops, frames merged to
        large pieces and frames that wait in buffers: 0 when none is lost or made up."""
        return (self.total("in") + self.total("copies") + self.total("cut")
                - self.total("out") - self.total("drops") - self.total("merged") - self.total("waiting"))

    def __str__(self):
        lines = [f"switch {self.switch}: in {self.total('in')} + copies {self.total('copies')} + cut "
                 f"{self.total('cut')} - out {self.total('out')} - drops {self.total('drops')} "
                 f"- merged {self.total('merged')} - waiting {self.total('waiting')} = {self.difference}"]
        for name, port in self.ports.items():
            lines.append(f"  {name}: in {port['in']} out {port['out']} copies {port['copies']} cut {port['cut']} "
                         f"merged {port['merged']} waiting {port['waiting']} {port['reasons']}")
        return "\n".join(lines)


def _port(counters, inwards, outwards, waiting=0):
    # What the kernel's ring had no room for never came in; the rest of the reasons count frames that did.
    reasons = {name: frames for name, frames in counters["drops"].items() if frames}
    return {"in": counters[inwards]["frames"], "out": counters[outwards]["frames"],
            "copies": counters["flood_copies"], "cut": counters["cut_frames"], "reasons": reasons,
            "merged": counters.get("merged_frames", 0),  # uplinks only
            "waiting": waiting,  # now, in the buffer of a guest's vnic
            "drops": sum(frames for name, frames in reasons.items() if name != "kernel_ring_full")}


def accounts(daemon):
    """One Account for each switch, all of the same moment."""
    host = daemon.json("show")
    return [Account(switch, host["vnics"]) for switch in host["switches"]]


def settled_accounts(daemon, limit_s=5.0):
    """Accounts once nothing is on its way: read twice without a change. The caller judges their differences."""
    end = time.monotonic() + limit_s
    before = None
    while True:
        now = accounts(daemon)
        if before is not None and [a.ports for a in now] == [a.ports for a in before]:
            return now
        if time.monotonic() > end:
            raise LabError("the counters do not come to rest:\n" + "\n".join(map(str, now)))
        before = now
        time.sleep(0.1)
