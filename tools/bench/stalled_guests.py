"""The same with a real guest: QEMU stands still, and guest_numbers inside counts what came.

How many frames a second an emulated guest takes at all is tried first: it is offered no more.
"""

import contextlib

from lab import guest_numbers
from lab.guest import Guest
from lab.proc import LabError, wait_until

from . import machine
from .candidates import last_words
from .generator import Generator, mac_of
from .stalls import PAIR, Stream, since

BEFORE_S = 0.1  # an emulated guest needs a moment to get going
TRIED_S = 1.0  # how long a rate is tried


class GuestStream(Stream):
    def __init__(self, candidate, sender, guest):
        super().__init__(candidate, sender, None)
        self.guest = guest

    def link(self, limit_s=20.0):
        """The guest sends for a moment, so that the switch knows where it is, and counts from here on."""
        guest_numbers.start(self.guest, mac_of(0))
        guest_numbers.toggle_sending(self.guest)
        wait_until(lambda: guest_numbers.report(self.guest)["sent"] > 0, "the guest to send", limit_s)
        guest_numbers.toggle_sending(self.guest)
        self.send(64, 1000, 0, 0)  # all that comes later is one row of numbers
        self.seen = self._came()

    def _came(self):
        """What the guest counted, once the last number has come, or nothing does any more; "missing": all that has not come
        so far."""
        reports = [guest_numbers.report(self.guest)]
        while reports[-1]["next"] < self.next and [report["next"] for report in reports[-3:]] != 3 * [reports[-1]["next"]]:
            reports.append(guest_numbers.report(self.guest))
        last = reports[-1]
        return {"missing": last["skipped"] + self.next - last["next"], "steps_back": last["steps_back"],
                "lost_by_socket": last["lost_by_socket"],
                "longest_gap_us": max(report["longest_gap_us"] for report in reports)}

    def stall(self, frame_bytes, rate, stall_ms, **more):
        before, seen = self.settled(), self.seen
        stall = self.send(frame_bytes, rate, stall_ms, self.guest.process.pid, before_s=BEFORE_S, **more)
        after = self.settled()
        came = self.seen = self._came()
        in_guest = came["lost_by_socket"] - seen["lost_by_socket"]  # on the way from its driver to the program
        lost = came["missing"] - seen["missing"] - in_guest
        stall.update(lost=lost, received=stall["sent"] - lost, lost_in_guest=in_guest, repeated=0, strays=0,
                     reordered=came["steps_back"] - seen["steps_back"], gap_ms=came["longest_gap_us"] / 1000)
        stall.update(since(before, after))
        return stall

    def without_stall(self, frame_bytes, rate):
        """The same for a while in which it is not stopped."""
        return self.stall(frame_bytes, rate, 0, after_s=TRIED_S)

    def highest_rate(self, wanted, sizes):
        """`wanted`, halved until nothing is lost for a while in which it is not stopped, whatever the size of the frames."""
        rate = wanted
        while rate > 100:
            tried = (self.without_stall(frame_bytes, rate) for frame_bytes in sizes)
            if all(stall["lost"] + stall["lost_in_guest"] == 0 for stall in tried):
                return rate
            rate /= 2
        raise LabError("the guest takes not even 100 frames a second")


@contextlib.contextmanager
def attached(lab, candidate, cpu):
    sender = guest = None
    try:
        sockets = candidate.start(PAIR)
        sender = Generator(lab.host, lab.dir, sockets[:1], role=candidate.role, cpu=cpu, name="sender",
                           peer=mac_of(1)).start()
        guest = Guest(lab.record, lab.dir, "receiver", mac_of(1))
        guest.start_vhost(sockets[1], listens=candidate.role == "listen")
        candidate.connect(PAIR)
        sender.attached()
        guest.wait_ready()
        for pid in (candidate.process().pid, sender.pid, guest.process.pid):
            machine.favour(pid)
        guest.run("ip link set eth0 up")
        stream = GuestStream(candidate, sender, guest)
        stream.link()
        yield stream
    except LabError as error:
        raise LabError(f"{candidate.title}: {error}\n{last_words(candidate)}") from error
    finally:
        if sender:
            sender.end()
        if guest:
            guest.stop()
        candidate.stop()
