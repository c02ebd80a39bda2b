"""TCP from the wire to a host vnic inside an appliance: a file, which has to arrive whole, or segments in one burst."""

import hashlib
import random

from lab.proc import wait_until
from lab.rawport import RawPort
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Dot1Q, Ether

PORT = 5001
FRAME = 1514  # the longest frame of the usual MTU
LIMIT_S = 120.0
_SEND = """import socket, sys
stream = socket.create_connection((sys.argv[1], int(sys.argv[2])), 10)
with open(sys.argv[3], "rb") as file:
    stream.sendfile(file)
stream.shutdown(socket.SHUT_WR)
while stream.recv(4096):
    pass
"""


def received(inside, interface):
    """[packets, bytes] that came in at an interface inside."""
    folder = f"/sys/class/net/{interface}/statistics"
    _, text = inside.run(f"cat {folder}/rx_packets {folder}/rx_bytes")
    return [int(word) for word in text.split()]


def send_burst(inside, nic, interface, source, target, vid, count=20, payload=1000):
    """Lets `count` segments of one flow wait at the NIC, while patchbayd stands still, and then come in together.
    `source`, `target`: (MAC, IP address). [packets, bytes] that then came in at the vnic `interface`."""
    segments = [Ether(src=source[0], dst=target[0]) / Dot1Q(vlan=vid) / IP(src=source[1], dst=target[1], id=7 + number)
                / TCP(sport=40000, dport=9, flags="A", seq=number * payload, window=512) / bytes(payload)
                for number in range(count)]

    def taken():  # by the NIC that QEMU emulates
        return nic.netns.statistics(nic.wire)["tx_packets"]

    before, at_wire = received(inside, interface), taken()
    inside.run(f"kill -STOP {inside.daemon.pid}")
    try:
        with RawPort(nic.netns, nic.wire) as raw:
            raw.send(*segments)
        wait_until(lambda: taken() >= at_wire + count, "the NIC to have all segments")
    finally:
        inside.run(f"kill -CONT {inside.daemon.pid}")

    def since():
        return [now - earlier for now, earlier in zip(received(inside, interface), before)]
    # Merged or not: all of their payload comes.
    wait_until(lambda: since()[1] >= count * payload, "all segments at the vnic", LIMIT_S)
    return since()


class Stream:
    """Takes files at `address`, that of the interface `interface` inside, from the namespace `wire`."""

    def __init__(self, inside, interface, address, wire):
        self._inside = inside
        self._interface = interface
        self._address = address
        self._wire = wire

    def begin(self, size):
        """A file of `size` bytes is on its way."""
        content = random.Random(size).randbytes(size)
        self._digest = hashlib.md5(content).hexdigest()
        path = f"{self._inside.lab.dir}/stream"
        with open(path, "wb") as file:
            file.write(content)
        self._inside.run(f"rm -f /tmp/got; nc -l -p {PORT} >/tmp/got 2>/dev/null </dev/null &")
        wait_until(lambda: self._inside.run(f"netstat -ltn | grep -q :{PORT}", check=False)[0] == 0, "nc to listen")
        self._before = received(self._inside, self._interface)
        self._sender = self._wire.start("stream", "/usr/bin/python3", "-c", _SEND, self._address, PORT, path)

    def arriving(self):
        return self._inside.run("pidof nc", check=False)[0] == 0

    def end(self):
        """The mean size of the frames that it came in; AssertionError if it is not the file that was sent."""
        wait_until(lambda: not self.arriving(), "the whole file", LIMIT_S)
        _, text = self._inside.run("md5sum /tmp/got", limit_s=LIMIT_S)
        assert text.split()[0] == self._digest
        packets, octets = (now - before for now, before in zip(received(self._inside, self._interface), self._before))
        return octets / packets

    def transfer(self, size=8_000_000):
        self.begin(size)
        return self.end()
