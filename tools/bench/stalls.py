"""Receivers that stand still: numbered frames at a rate, and what became of them.

Sender and receiver are two processes of the load generator, with a vnic each (tests/performance/one_way.h). The sender
stops the receiver (SIGSTOP), counts what it sends meanwhile, and lets it go on. Both have the generator's CPU together.
"""

import contextlib
import os

from lab.proc import LabError, wait_until

from . import machine
from .candidates import Setup, last_words
from .generator import Generator, mac_of

RING_ENTRIES = 1024
BEFORE_S, AFTER_S = 0.010, 0.020
NUMBERS = 1 << 32
PAIR = Setup()


class Stream:
    """From vnic 0 to vnic 1 of a candidate that runs. `receiver`: None where somebody else is vnic 1."""

    def __init__(self, candidate, sender, receiver):
        self.candidate = candidate
        self.sender = sender
        self.receiver = receiver
        self.next = 1000  # number of the next frame; those below are from before

    def link(self, limit_s=20.0):
        ends = (self.sender, self.receiver)
        for end in ends:
            end.tell("link", {"limit_s": limit_s})
        if any(end.answer("link", limit_s + 10.0)["silent"] for end in ends):
            raise LabError(f"the two vnics heard nothing from each other within {limit_s:g} s")
        self.stall(64, 1000, 0)  # what was still on its way is no stray of the next one

    def send(self, frame_bytes, rate, stall_ms, pid, before_s=BEFORE_S, after_s=AFTER_S):
        """Sends at `rate` to process `pid`, which stands still for so long on the way; {"sent", "first", …}."""
        first = self.next
        sent = self.sender.command("stream", wait_s=60.0, first=first, frame_bytes=frame_bytes, rate=rate, pid=pid,
                                   before_s=before_s, stall_s=stall_ms / 1000, after_s=after_s)
        self.next = (first + sent["sent"]) % NUMBERS
        return {"frame_bytes": frame_bytes, "rate": rate, "stall_ms": stall_ms, "first": first, "sent": sent["sent"],
                "not_taken": sent["not_taken"], "stood_still_ms": sent["stall_s"] * 1000,
                **{name: sent[name] for name in ("offered_in_stall", "not_taken_in_stall", "behind_max", "waiting_least",
                                                 "waiting_most")}}

    def stall(self, frame_bytes, rate, stall_ms):
        """One stall of the receiver: a dict as verdicts.py wants it."""
        before = self.settled()
        self.receiver.command("expect", first=self.next, count=int(rate * 10) + 1000)
        stall = self.send(frame_bytes, rate, stall_ms, self.receiver.pid)
        came = self.receiver.command("enough", sent=stall["sent"])
        stall.update({name: came[name] for name in ("received", "repeated", "reordered", "strays")},
                     lost=stall["sent"] - came["received"], gap_ms=came["gap_s"] * 1000)
        stall.update(since(before, self.settled()))
        return stall

    def settled(self):
        """What the candidate counted about vnic 1, once nothing waits for it any more."""
        def counts():
            found = self.candidate.counts(1)
            return found if found["waiting"] == 0 else None
        return wait_until(counts, f"{self.candidate.title} to have nothing left for the receiver", 30.0)


def since(before, after):
    """{"delivered", "dropped"} between two counts() of a candidate."""
    return {"delivered": after["delivered"] - before["delivered"],
            "dropped": {reason: frames - before["dropped"].get(reason, 0)
                        for reason, frames in after["dropped"].items() if frames != before["dropped"].get(reason, 0)}}


@contextlib.contextmanager
def attached(lab, candidate, cpu):
    """A Stream whose two ends are attached and heard each other."""
    ends = []
    progress = os.path.join(lab.dir, "progress")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(progress)
    try:
        sockets = candidate.start(PAIR)
        for number, name in enumerate(("sender", "receiver")):
            ends.append(Generator(lab.host, lab.dir, [sockets[number]], role=candidate.role, cpu=cpu, name=name, first=number,
                                  peer=mac_of(1 - number), progress=progress, ring_entries=RING_ENTRIES).start())
        candidate.connect(PAIR)
        for end in ends:
            end.attached()
        for pid in (candidate.process().pid, *(end.pid for end in ends)):
            machine.favour(pid)
        stream = Stream(candidate, *ends)
        stream.link()
        yield stream
    except LabError as error:
        raise LabError(f"{candidate.title}: {error}\n{last_words(candidate)}") from error
    finally:
        for end in ends:
            end.end()
        candidate.stop()
