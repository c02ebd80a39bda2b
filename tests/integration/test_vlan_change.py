"""Changing a vnic's VLAN while frames flow: it moves from one group to the other and is never in both."""

import struct
import threading

from lab import wirings
from lab.proc import wait_until
from lab.rawport import RawPort
from scapy.layers.l2 import Ether

MARK = b"patchbay-vlan-change"


def broadcast(vid, number):
    return bytes(Ether(dst="ff:ff:ff:ff:ff:ff", src=f"02:00:00:00:02:{vid - 100:02x}", type=0x88B5)
                 / (MARK + struct.pack("!HI", vid, number) + bytes(40)))


def test_a_guest_moves_to_the_other_group(net):
    vm2 = net.guests["vm2"]
    assert net.guests["vm1"].ping(vm2.ip) and not net.guests["vm3"].ping(vm2.ip, wait_s=1)
    net.daemon.do("vnic", "set", "vm2", "--vlan", 102)
    net.end("vm2").vid = 102
    net.check_matrix()
    net.daemon.do("vnic", "set", "vm2", "--vlan", 101)
    net.end("vm2").vid = 101
    net.check_matrix()


def test_guests_that_ping_all_the_while_see_it_go_and_come(net):
    vm1, vm2, vm3 = (net.guests[name] for name in ("vm1", "vm2", "vm3"))
    for pinger in (vm1, vm3):
        pinger.run(f"busybox ping -i 0.1 {vm2.ip} > /tmp/ping.log 2>&1 & echo $! > /tmp/ping.pid")

    def replies(pinger):
        return int(pinger.run("grep -c 'bytes from' /tmp/ping.log", check=False)[1])

    wait_until(lambda: replies(vm1) >= 3, "vm1 to hear from vm2")
    assert replies(vm3) == 0
    net.daemon.do("vnic", "set", "vm2", "--vlan", 102)
    wait_until(lambda: replies(vm3) >= 3, "vm3 to hear from vm2")
    silent = replies(vm1)
    heard = replies(vm3)
    wait_until(lambda: replies(vm3) >= heard + 10, "vm3 to hear more from vm2")
    assert replies(vm1) == silent
    for pinger in (vm1, vm3):
        pinger.run("kill $(cat /tmp/ping.pid)")


def test_no_frame_is_seen_of_both_vlans_at_once(net):
    """Both VLANs are broadcast into without pause; the host vnic sees one, then only the other."""
    stop = threading.Event()
    sent = {101: 0, 102: 0}
    with RawPort(net.lab.host, wirings.HOST_VNIC) as witness, \
            RawPort(net.wire.hosts["h101"], "eth0") as h101, RawPort(net.wire.hosts["h102"], "eth0") as h102:
        def send():
            while not stop.wait(0.0005):
                for vid, port in ((101, h101), (102, h102)):
                    port.send(broadcast(vid, sent[vid]))
                    sent[vid] += 1

        sender = threading.Thread(target=send)
        sender.start()
        try:
            for vid in (102, 101, 102, 101):
                target = sent[101] + 100
                wait_until(lambda target=target: sent[101] >= target, "frames of both VLANs")
                net.daemon.do("vnic", "set", wirings.HOST_VNIC, "--vlan", vid)
            target = sent[101] + 100
            wait_until(lambda: sent[101] >= target, "frames after the last change")
        finally:
            stop.set()
            sender.join()
        frames = witness.receive(lambda frame: MARK in frame, count=1, limit_s=20.0, quiet_s=0.5)
    vids = [struct.unpack_from("!H", frame, frame.index(MARK) + len(MARK))[0] for frame in frames]
    groups = [vids[0]] + [now for before, now in zip(vids, vids[1:]) if now != before]
    assert groups == [101, 102, 101, 102, 101]
