"""The frames of the soak: good ones and bad ones, each with a number, and the check of each that arrives.

Theory  A number says who sent the frame, when, and every byte of it, so an arrival is held against the model byte by
        byte: the right port, the right tag, nothing else changed, once. A frame without a number, or with one that
        nobody gave, is a frame that the switch made up.
Threads One that sends and polls (run()), one that makes the changes. While run() pauses the other may do its work.
"""

import random
import threading
import time
from dataclasses import dataclass

from soak_model import NO_VLAN, OTHER_TPIDS, TPID, decide, tag

MARK = b"soak-frame\x00\x01"
TYPE = b"\x88\xb5"
VIDS = (1, 10, 20, 100, 101, 102, 200, 201, 4094)
BROADCAST = b"\xff" * 6
GROUP = bytes.fromhex("01005e010203")
CLUSTER = [bytes.fromhex(f"02bf000000{number:02x}") for number in range(4)]  # behind spoofing vnics: learned
OUTSIDE = [bytes.fromhex(f"02aa000000{number:02x}") for number in range(4)]  # on the wire: learned
NOBODY = bytes.fromhex("02ee00000001")
STRANGER = bytes.fromhex("02dd00000001")
SMALLEST = 60
BAD_OF_THE_WIRE = ("oversize", "tags", "reserved", "source", "source", "group source")
BAD_OF_GUESTS = ("runt", "oversize", "tags", "reserved", "source", "group source", "length")
TICK_S = 0.01  # between bursts of the traffic
PROBLEMS_MAX = 5


@dataclass
class Sent:
    at: float
    port: tuple
    frame: bytes


class Frames:
    """Makes frames. `steady`: only such whose way does not depend on what was learned."""

    def __init__(self, chance):
        self.chance = chance
        self.number = 0

    def make(self, state, port, steady=False):
        """(number, frame, lie about its length or None) of a frame that somebody behind `port` might send."""
        vnic = state.ports.get(port)
        switch = state.switches[vnic.switch] if vnic else state.uplinks[port]
        self.number += 1
        chance = self.chance
        bad = chance.random() < 0.25 and chance.choice(BAD_OF_GUESTS if vnic else BAD_OF_THE_WIRE)
        if bad == "runt":
            return self.number, chance.choice((bytes(chance.randint(1, 13)),
                                               BROADCAST + vnic.mac + b"\x81\x00\x00")), None
        destination = self._destination(state, switch, steady)
        source = self._source(vnic, steady)
        tags = self._tags(state, vnic)
        if bad == "tags":
            tags = chance.choice((tag(0) + tag(chance.choice(VIDS)), tags + tag(chance.choice(VIDS)), tag(4095),
                                  tag(chance.choice(VIDS), 0, chance.choice(OTHER_TPIDS)), tag(chance.choice(VIDS))))
        elif bad == "reserved":
            destination = bytes.fromhex("0180c20000") + bytes([chance.randint(0, 15)])
        elif bad == "source":
            source = chance.choice([other.mac for other in state.vnics.values()] + [STRANGER])
        elif bad == "group source":
            source = chance.choice((BROADCAST, GROUP, bytes(6)))
        head = destination + source + tags + TYPE + MARK + self.number.to_bytes(8, "big")
        longest = switch.mtu + 14 + (4 if tags[:2] == TPID.to_bytes(2, "big") else 0)
        size = longest if chance.random() < 0.1 else chance.randint(SMALLEST, 300)
        if bad == "oversize":
            size = longest + chance.choice((1, 4, 100))
        lie = chance.choice((0, 1, 11, 1 << 31)) if bad == "length" else None
        return self.number, head + self._filling(size - len(head)), lie

    def _filling(self, count):
        return (self.number.to_bytes(8, "little") * (count // 8 + 1))[:count] if count > 0 else b""

    def _destination(self, state, switch, steady):
        here = [vnic.mac for vnic in state.of_switch[switch.name]]
        elsewhere = [vnic.mac for vnic in state.vnics.values() if vnic.switch != switch.name]
        choice = self.chance.random()
        if choice < 0.25:
            return BROADCAST
        if choice < 0.35:
            return GROUP
        if choice < 0.8 and here:
            return self.chance.choice(here)
        if choice < 0.85 and elsewhere and not steady:  # steady: may have been learned when it was on this switch
            return self.chance.choice(elsewhere)
        return NOBODY if steady or choice > 0.95 else self.chance.choice(CLUSTER + OUTSIDE)

    def _source(self, vnic, steady):
        if vnic is None:
            return self.chance.choice(OUTSIDE + CLUSTER[:1])
        if vnic.spoofing and not steady and self.chance.random() < 0.3:
            return self.chance.choice(CLUSTER)
        return vnic.mac

    def _tags(self, state, vnic):
        chance = self.chance
        priority = chance.choice((0, 0, 0, 5, 7))
        if vnic is not None and state.modes[vnic.name].kind != "trunk":
            return tag(0, priority) if chance.random() < 0.1 else b""
        if chance.random() < 0.2:
            return chance.choice((b"", tag(0, priority)))
        hears = sorted(state.hears[vnic.name] - {NO_VLAN}) if vnic else VIDS
        vid = chance.choice(hears) if hears and chance.random() < 0.8 else chance.choice(VIDS)
        inner = tag(chance.choice(VIDS)) if chance.random() < 0.05 else b""
        return tag(vid, priority) + inner


class Traffic:
    def __init__(self, timeline, seed):
        self.timeline = timeline
        self.ends = {}  # port: End; replaced as a whole, never changed
        self.problems = []
        self.frames_sent = 0
        self.frames_received = 0
        self._frames = Frames(random.Random(seed))
        self._chance = self._frames.chance
        self.arrived = {}  # number: the ports that got this frame
        self._sent = {}
        self._going = threading.Event()
        self._resting = threading.Event()
        self._ending = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    # ---- The thread -------------------------------------------------------------------------------------------------

    def start(self):
        self._thread.start()

    def stop(self):
        self._ending = True
        self._going.set()
        self._thread.join()

    def go(self):
        self._going.set()

    def pause(self):
        """Sends nothing more once this returns."""
        self._going.clear()
        self._resting.wait()

    def _run(self):
        while not self._ending:
            if not self._going.is_set():
                self._resting.set()
                self._going.wait()
                self._resting.clear()
                continue
            try:
                self._step()
            except Exception as error:  # pylint: disable=broad-except  # the other thread tells of it
                self.problem(f"the traffic ended with {error!r}")
                raise
            finally:
                if self.problems:
                    self._resting.set()
            time.sleep(TICK_S)
        self._resting.set()

    def _step(self):
        self.poll()
        ends = list(self.ends.values())
        for end in self._chance.sample(ends, min(len(ends), self._chance.randint(0, 3))):
            for _ in range(self._chance.randint(1, 3)):
                self.send(end)

    # ---- Sending and checking ---------------------------------------------------------------------------------------

    def send(self, end, steady=False):
        """One frame; its number, or None if it could not be sent."""
        state = self.timeline.now
        if end.port not in state.ports and end.port not in state.uplinks:
            return None
        number, frame, lie = self._frames.make(state, end.port, steady)
        self._sent[number] = Sent(time.monotonic(), end.port, frame)
        if not end.send(frame, lie):
            del self._sent[number]
            return None
        self.frames_sent += 1
        if lie is not None:
            self._sent[number].frame = b""  # whatever comes of it is wrong
        return number

    def sent_frame(self, number):
        return self._sent[number].frame

    def poll(self):
        """Checks what has arrived."""
        for end in self.ends.values():
            self.check(end, end.poll())

    def check(self, end, frames):
        """Holds arrivals against the model."""
        now = time.monotonic()
        for frame in frames:
            self.frames_received += 1
            at = frame.find(MARK, 12, 40)
            number = int.from_bytes(frame[at + len(MARK):at + len(MARK) + 8], "big") if at >= 0 else None
            sent = self._sent.get(number)
            if sent is None:
                self.problem(f"{end.port} got a frame that nobody sent: {frame[:64].hex()}")
                continue
            ports = self.arrived.setdefault(number, set())
            if end.port in ports:
                self.problem(f"{end.port} got frame {number} of {sent.port} twice")
            ports.add(end.port)
            states = self.timeline.between(sent.at, now)
            if not any(decide(state, sent.port, sent.frame).to.get(end.port) == frame for state in states):
                self._explain(end, number, frame, sent, states, now)

    def _explain(self, end, number, frame, sent, states, now):
        lines = [f"{end.port} got frame {number} of {sent.port}, {1000 * (now - sent.at):.1f} ms after it was sent",
                 f"  sent {sent.frame[:48].hex()} ({len(sent.frame)} bytes)",
                 f"  got  {frame[:48].hex()} ({len(frame)} bytes)"]
        for state in states:
            decision = decide(state, sent.port, sent.frame)
            lines.append(f"  sender {state.ports.get(sent.port) or state.uplinks.get(sent.port)}")
            lines.append(f"  receiver {state.ports.get(end.port) or state.uplinks.get(end.port)}")
            lines.append(f"  it should go to {sorted(decision.to)} {sorted(decision.faults)}")
        self.problem("\n".join(lines))

    def problem(self, text):
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(text)

    def rest(self):
        """Nothing is on its way: what was sent is history."""
        self._sent.clear()
        self.arrived.clear()
