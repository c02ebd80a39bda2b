"""TCP of real guests: QEMU with Debian's kernel and its own virtio-net driver, iperf3 inside.

Two guests on one switch, and a namespace at the far end of the uplink, whose kernel completes checksums and cuts pieces
itself, so that frames come from there as from a wire. Guests are started anew for each candidate in each round, for what
a guest's driver uses is settled when it starts.
"""

import json

from lab.guest import Guest
from lab.proc import LabError, wait_until

from .candidates import OvsDpdk, Setup, last_words
from .generator import mac_of
from .uplinks import FAR, NIC, OvsSystem, PatchbayPacket

SECONDS = 3
SUBNET = "10.78.0"
FAR_IP = f"{SUBNET}.100"
# {key: (title, whether to the far end of the uplink instead of the other guest, whether the one called sends)}
PATHS = {"guests": ("guest to guest", False, False), "guests-back": ("the same, backwards", False, True),
         "out": ("guest to uplink", True, False), "in": ("uplink to guest", True, True)}


class PatchbayGuests(PatchbayPacket):
    name, title = "patchbay-guests", "Patchbay"


class OvsGuests(OvsSystem):
    name, title = "ovs-guests", "Open vSwitch with DPDK, as shipped"
    pieces = False

    def main_cpus(self, setup=Setup()):
        return OvsDpdk.main_cpus(self, setup)  # there is no generator to be kept apart from

    def configuration(self):
        return (f"as Open vSwitch with DPDK{', userspace-tso-enable=true' if self.pieces else ''}; {NIC} as a system port "
                "on the veth pair's end")


class OvsGuestsTso(OvsGuests):
    name, title = "ovs-guests-tso", "Open vSwitch with DPDK, userspace-tso"
    pieces = True


CLASSES = (PatchbayGuests, OvsGuests, OvsGuestsTso)


def measure(lab, wire, candidate):
    """{path: bits a second}"""
    setup = Setup(vnics=2, uplink=True, pieces=getattr(candidate, "pieces", False))
    guests, server = [], None
    try:
        sockets = candidate.start(setup)
        for number, path in enumerate(sockets):
            guests.append(Guest(lab.record, lab.dir, f"g{number}", mac_of(number)))
            guests[-1].start_vhost(path, listens=candidate.role == "listen")
        candidate.connect(setup)
        for number, guest in enumerate(guests):
            guest.wait_ready()
            guest.set_ip(f"{SUBNET}.{number + 1}")
        wire.far.set_ip(FAR, FAR_IP)
        wire.far.tx_offload(FAR, False)
        server = wire.far.start("iperf3", "iperf3", "-s")
        guests[1].run("iperf3 -s -D")
        for address in (guests[1].ip, FAR_IP):
            wait_until(lambda: guests[0].ping(address), f"an answer of {address}", 20.0)
        return {key: _run(guests[0], FAR_IP if far else guests[1].ip, backwards)
                for key, (_, far, backwards) in PATHS.items()}
    except LabError as error:
        raise LabError(f"{candidate.title}: {error}\n{last_words(candidate)}") from error
    finally:
        for guest in guests:
            guest.stop()
        if server:
            server.stop()
        candidate.stop()


def _run(guest, address, backwards):
    _, text = guest.run(f"iperf3 -c {address} -t {SECONDS} -J{' -R' if backwards else ''}", limit_s=SECONDS + 30.0)
    result = json.loads(text)
    if "error" in result:
        raise LabError(f"iperf3: {result['error']}")
    return result["end"]["sum_received"]["bits_per_second"]
