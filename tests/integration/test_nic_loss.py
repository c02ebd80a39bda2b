"""The uplink's NIC loses its carrier, goes, comes back, is renamed, set down, moved away: shown, and survived.

Two host vnics in namespaces of their own play the VMs: they talk to each other all the time, and not one frame of theirs
may be lost whatever happens to the NIC. Their frames carry numbers, so each is known.
"""

import json
import threading

import pytest
from conftest import Host, lab_name
from lab import netcheck
from lab.lab import Lab
from lab.netns import veth
from lab.proc import wait_until
from lab.rawport import RawPort

NIC = "eth1"
ETHERTYPE = b"\x88\xb5"
MARK, TO_WIRE = b"patchbay-nic-loss-", b"patchbay-to-the-wire-"


class Talk:
    """Numbered frames from the vnic a to the vnic b, and how many of them b heard."""

    def __init__(self, host):
        self.sent = self.heard = 0
        self.out_of_order = []
        macs = {name: bytes.fromhex(host.json("vnic", "show", name)["mac"].replace(":", "")) for name in ("a", "b")}
        self._head = macs["b"] + macs["a"] + ETHERTYPE
        self._a, self._b = RawPort(host.netns, "a"), RawPort(host.netns, "b")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        while not self._stop.is_set():
            mark = MARK + b"%010d" % self.sent
            self._a.send(self._head + mark + bytes(60))
            self.sent += 1
            if not self._b.receive(lambda frame, mark=mark: mark in frame, limit_s=10.0, quiet_s=0.0):
                self.out_of_order.append(mark)
                return
            self.heard += 1

    def goes_on(self):
        goal = self.heard + 20
        wait_until(lambda: self.out_of_order or self.heard >= goal, "the vnics to talk on", 20.0)
        assert not self.out_of_order, f"lost: {self.out_of_order}"

    def close(self):
        self._stop.set()
        self._thread.join(30)
        self._a.close()
        self._b.close()
        assert self.heard == self.sent and not self.out_of_order


@pytest.fixture
def net(_root):
    """A switch with the vnics a and b; its NIC's other end is eth0 in `peer`."""
    with Lab.create(lab_name("loss")) as lab:
        lab.daemon.start()
        made = Host(lab)
        made.peer = lab.add_netns("peer")
        made.away = lab.add_netns("away")
        veth(lab.host, NIC, made.peer, "eth0")
        made.daemon.do("switch", "create", "lan", "--external", NIC)
        for name in ("a", "b"):
            made.daemon.do("vnic", "create", name, "--switch", "lan", "--host")
        made.talk = Talk(made)
        made.talk.goes_on()
        yield made
        made.talk.goes_on()
        made.talk.close()
        [account] = netcheck.settled_accounts(made.daemon)
        assert account.difference == 0, account


def uplink(net):
    return net.json("switch", "show", "lan")["uplink"]


def wait_uplink(net, state, reason=""):
    """Waits for the state; the vnics talk on meanwhile and afterwards."""
    wait_until(lambda: uplink(net)["state"] == state and reason in uplink(net)["state_reason"],
               f"the uplink to be {state} ({reason}), not {uplink(net)}", 20.0)
    net.talk.goes_on()


def send_to_wire(net, text):
    mac = bytes.fromhex(net.json("vnic", "show", "a")["mac"].replace(":", ""))
    with RawPort(net.netns, "a") as port:
        port.send(b"\x02\x00\x00\x00\x00\x99" + mac + ETHERTYPE + TO_WIRE + text + bytes(60))


def wire_works(net, peer_end="eth0"):
    """A frame from a comes out of the wire, and one from the wire reaches a."""
    mac = bytes.fromhex(net.json("vnic", "show", "a")["mac"].replace(":", ""))
    with RawPort(net.peer, peer_end) as wire, RawPort(net.netns, "a") as a:
        send_to_wire(net, b"out")
        assert wire.receive(lambda frame: TO_WIRE + b"out" in frame, limit_s=10.0, quiet_s=0.1)
        wire.send(mac + b"\x02\x00\x00\x00\x00\x99" + ETHERTYPE + TO_WIRE + b"in" + bytes(60))
        assert a.receive(lambda frame: TO_WIRE + b"in" in frame, limit_s=10.0, quiet_s=0.1)


def not_connected(net):
    """Frames that found no wire, wherever they are counted."""
    return uplink(net)["counters"]["drops"]["not_connected"]


def test_carrier_loss_is_shown_and_its_frames_are_counted(net):
    wire_works(net)
    net.peer.run("ip", "link", "set", "eth0", "down")
    wait_uplink(net, "down", "no carrier")
    before = not_connected(net)
    for number in range(5):
        send_to_wire(net, b"%d" % number)
    wait_until(lambda: not_connected(net) - before == 5, "five frames counted as not_connected", 10.0)
    net.peer.run("ip", "link", "set", "eth0", "up")
    wait_uplink(net, "up")
    wire_works(net)


def test_a_nic_that_goes_and_comes_back_works_by_itself(net):
    for _ in range(3):
        counted = uplink(net)["counters"]["to_wire"]["frames"]
        net.netns.run("ip", "link", "del", NIC)
        wait_uplink(net, "down", "no such NIC")
        send_to_wire(net, b"lost")
        veth(net.netns, NIC, net.peer, "eth0")
        wait_uplink(net, "up")
        wire_works(net)
        assert uplink(net)["counters"]["to_wire"]["frames"] > counted  # counters only grow


def test_a_nic_that_is_renamed_is_another_one_until_it_has_its_name_again(net):
    net.netns.shell(f"ip link set {NIC} down; ip link set {NIC} name other0; ip link set other0 up")
    wait_uplink(net, "down", "no such NIC")
    assert {nic["name"]: nic["switch"] for nic in net.json("nic", "list")}["other0"] is None
    net.netns.shell(f"ip link set other0 down; ip link set other0 name {NIC}; ip link set {NIC} up")
    wait_uplink(net, "up")
    wire_works(net)


def test_a_nic_that_moves_to_another_namespace_and_back(net):
    net.netns.run("ip", "link", "set", NIC, "netns", net.away.name)
    wait_uplink(net, "down", "no such NIC")
    net.away.run("ip", "link", "set", NIC, "netns", net.netns.name)
    net.netns.run("ip", "link", "set", NIC, "up")
    wait_uplink(net, "up")
    wire_works(net)


def test_a_nic_that_somebody_sets_down(net):
    net.netns.run("ip", "link", "set", NIC, "down")
    wait_uplink(net, "down", f"ip link set {NIC} up")
    before = not_connected(net)
    send_to_wire(net, b"down")
    wait_until(lambda: not_connected(net) > before, "the frame counted as not_connected", 10.0)
    net.netns.run("ip", "link", "set", NIC, "up")
    wait_uplink(net, "up")
    wire_works(net)


def test_a_nic_with_another_mac_goes_on(net):
    net.netns.run("ip", "link", "set", NIC, "address", "02:00:00:00:00:aa")
    wait_until(lambda: net.json("nic", "show", NIC)["mac"] == "02:00:00:00:00:aa", "the new MAC to be seen")
    wire_works(net)


def test_nothing_of_ours_is_left_on_the_nic_after_kill9(net):
    def promiscuity():
        return json.loads(net.netns.run("ip", "-d", "-j", "link", "show", NIC).stdout)[0]["promiscuity"]
    net.talk.close()
    assert promiscuity() == 1
    net.daemon.kill9()
    assert promiscuity() == 0
    net.daemon.start()
    assert promiscuity() == 1
    net.talk = Talk(net)
    wire_works(net)


def test_a_nic_that_flaps_all_the_time(net):
    for number in range(20):
        net.peer.run("ip", "link", "set", "eth0", "down" if number % 2 == 0 else "up")
        send_to_wire(net, b"%d" % number)
    wait_uplink(net, "up")
    wire_works(net)


@pytest.mark.parametrize("nic, make, part", [
    ("nobody0", "true", "nobody0 does not exist"),
    ("lo", "true", "no Ethernet device"),
    ("port0", "ip link add br0 type bridge; ip link add port0 type veth peer name port1; "
              "ip link set port0 master br0", "port of br0"),
    ("tun0", "ip tuntap add tun0 mode tun", "no Ethernet device"),
    ("a", "true", "host vnic"),
    ("a/b", "true", "a/b"),
])
def test_what_is_no_uplink_is_refused(net, nic, make, part):
    net.netns.shell(make)
    wait_until(lambda: nic in ("nobody0", "a/b") or net.netns.run("ip", "link", "show", nic), f"{nic} to be there")
    done = net.cli("switch", "create", "bad", "--external", nic)
    assert done.returncode == 1 and part in done.stderr, done.stderr
    assert done.stderr.count("\n") == 1
    assert [switch["name"] for switch in net.json("switch", "list")] == ["lan"]
