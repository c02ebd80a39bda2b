"""Two guests that talk, whatever others do, and a witness in another VLAN who lives with an attacker.

Theory  A process of its own, so that neither the time an attack takes nor its crash shows here. `left` sends numbered
        frames to `right`, and `right` answers each; both hold every frame against what must come next: length,
        contents, order. So a frame that is lost, changed, doubled or foreign is a problem with a name. The witness
        listens in the attacker's VLAN: what it hears must come from the attacker's own address, without a tag. It also
        sends to the attacker all the time, so that there is traffic into whatever rings that one has.
Use     python3 talkers.py CONTROL_FD '{"left": [SOCKET, MAC], …, "witness": …, "attacker": MAC}'. Each byte on the
        control socket is answered by one line of JSON: what was seen so far.
"""

import json
import select
import socket
import struct
import sys

from front_end import FrontEnd

TYPE = b"\x88\xb5"  # for experiments
TICK_MS = 1.0       # how often frames leave; nothing is judged by it
WINDOW = 8          # frames on their way from `left`, fewer than a ring has entries
FRAME_MAX = 1514    # the witness takes no large pieces
PATTERN = bytes(range(256)) * 3


def talk(to, source, number):
    """Frame `number` of a conversation, 60 to 443 bytes: everybody can tell what it must be."""
    size = 42 + number * 37 % 384
    return to + source + TYPE + struct.pack("=I", number) + PATTERN[number & 0xFF:][:size]


def attack_frame(source, number, to=b"\xff" * 6):
    """What an attacker shows that it is still served with."""
    return to + source + TYPE + b"HARK" + struct.pack("=I", number) + bytes(40)


class Talkers:
    def __init__(self, plan):
        self.left, self.right = FrontEnd(*plan["left"]), FrontEnd(*plan["right"])
        self.witness = FrontEnd(*plan["witness"], entries=64, buffer_bytes=2048)
        self.attacker = bytes.fromhex(plan["attacker"].replace(":", ""))
        self.sent = self.heard = self.answered = 0
        self.witnessed = self.last_heard = 0
        self.problems = []

    def start(self):
        for end in (self.left, self.right, self.witness):
            end.start()
        return self

    def problem(self, text, frame):
        if len(self.problems) < 10:
            self.problems.append(f"{text}: {frame[:64].hex()}… of {len(frame)} bytes")

    def turn(self):
        """Everything that has arrived, and what may be sent now."""
        for frame in self.right.receive():
            if frame == talk(self.right.mac, self.left.mac, self.heard):
                self.right.reap()
                self.right.send(talk(self.left.mac, self.right.mac, self.heard))
                self.heard += 1
            else:
                self.problem(f"right heard something else than frame {self.heard}", frame)
        for frame in self.left.receive():
            if frame == talk(self.left.mac, self.right.mac, self.answered):
                self.answered += 1
            else:
                self.problem(f"left heard something else than answer {self.answered}", frame)
        for frame in self.witness.receive():
            self.hear_attacker(frame)

    def tick(self):
        self.left.reap()
        for _ in range(2):
            if self.sent - self.answered < WINDOW:
                self.left.send(talk(self.right.mac, self.left.mac, self.sent))
                self.sent += 1
        self.witness.free += self.witness.reap()
        if self.witness.free > 0:
            self.witness.free -= 1
            self.witness.send(talk(self.attacker, self.witness.mac, 7))

    def hear_attacker(self, frame):
        self.witnessed += 1
        if frame[6:12] != self.attacker:
            self.problem("the witness heard a frame with a foreign source", frame)
        if frame[12:14] in (b"\x81\x00", b"\x88\xa8"):
            self.problem("the witness heard a frame with a tag", frame)
        if len(frame) > FRAME_MAX:
            self.problem("the witness heard a frame longer than the MTU allows", frame)
        if frame[14:18] == b"HARK":
            self.last_heard = struct.unpack_from("=I", frame, 18)[0]

    def status(self):
        return {"sent": self.sent, "answered": self.answered, "witnessed": self.witnessed,
                "last_heard": self.last_heard, "problems": self.problems}


def main():
    control = socket.socket(fileno=int(sys.argv[1]))
    talkers = Talkers(json.loads(sys.argv[2])).start()
    talkers.witness.free = talkers.witness.entries
    poll = select.poll()
    poll.register(control, select.POLLIN)
    while True:
        ready = poll.poll(TICK_MS)
        talkers.turn()
        talkers.tick()
        if ready:
            asked = control.recv(1)
            if not asked:
                break
            control.sendall(json.dumps(talkers.status()).encode() + b"\n")


if __name__ == "__main__":
    main()
