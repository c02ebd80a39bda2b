"""Frame sizes on real NICs, without guests: for each pair of a NIC's MTU and a switch's the smaller one is the limit,
one byte more is dropped under a name, and a tag does not count."""

import pytest
from lab.netns import veth
from lab.proc import wait_until
from lab.rawport import RawPort

MTUS = (1500, 4074, 9000)  # frames of 1514, 4088 and 9014 bytes
NIC = "jumbo0"
VID = 101
PLAIN = "02:00:00:00:00:71"   # host vnic without a VLAN
TAGGED = "02:00:00:00:00:72"  # host vnic in VID
STATION = "02:00:00:00:03:01"
TYPE = b"\x88\xb5"


def mac_bytes(text):
    return bytes.fromhex(text.replace(":", ""))


def frame(dst, src, size, vid=None):
    """A frame of `size` bytes without its tag."""
    tag = b"\x81\x00" + vid.to_bytes(2, "big") if vid else b""
    payload = (bytes(range(256)) * 40)[:size - 14]
    return mac_bytes(dst) + mac_bytes(src) + tag + TYPE + payload


@pytest.fixture(scope="module")
def wire(host):
    far = host.lab.add_netns("far")
    veth(host.netns, NIC, far, "eth0")
    return far


@pytest.fixture
def lan(host, wire):
    """Makes a switch of some MTU on the NIC, with two host vnics whose own interfaces send more than they should."""
    def make(switch_mtu):
        host.clear()
        set_nic_mtu(host, wire, 9000)
        host.daemon.do("switch", "create", "lan", "--external", NIC, "--mtu", switch_mtu)
        for name, mac, vlan in (("plain", PLAIN, ()), ("tagged", TAGGED, ("--vlan", VID))):
            host.daemon.do("vnic", "create", name, "--switch", "lan", "--host", "--mac", mac, *vlan)
            host.netns.run("ip", "link", "set", name, "mtu", 9100)
        wait_until(lambda: host.json("switch", "show", "lan")["uplink"]["state"] == "up", "the uplink")
        return host
    yield make
    host.clear()


def set_nic_mtu(host, wire, mtu):
    wire.run("ip", "link", "set", "eth0", "mtu", mtu)
    host.netns.run("ip", "link", "set", NIC, "mtu", mtu)


def counters(host, port):
    if port == "uplink":
        return host.json("switch", "show", "lan")["uplink"]["counters"]
    return host.json("vnic", "show", port)["counters"]


def check_dropped(host, port, reason, send):
    """send() leads to exactly one drop more of `reason` at `port`."""
    before = counters(host, port)["drops"][reason]
    send()
    wait_until(lambda: counters(host, port)["drops"][reason] > before, f"a drop at {port} as {reason}")
    assert counters(host, port)["drops"][reason] == before + 1


def check_pair(host, wire, nic_mtu, switch_mtu):
    largest = min(nic_mtu, switch_mtu) + 14
    for name, mac, vid in (("plain", PLAIN, None), ("tagged", TAGGED, VID)):
        with RawPort(wire, "eth0") as far, RawPort(host.netns, name) as near:
            near.send(frame(STATION, mac, largest))
            [got] = far.receive(lambda got: TYPE in got[12:18])
            assert got == frame(STATION, mac, largest, vid), "whole, with the tag on top"
            far.send(frame(mac, STATION, largest, vid))
            [got] = near.receive(lambda got: got[12:14] == TYPE)
            assert got == frame(mac, STATION, largest), "whole, without the tag"
            if switch_mtu <= nic_mtu:
                where, reason = name, "oversize"
            else:
                where, reason = "uplink", "uplink_refused"
            check_dropped(host, where, reason, lambda: near.send(frame(STATION, mac, largest + 1)))
            if switch_mtu < nic_mtu:
                check_dropped(host, "uplink", "oversize", lambda: far.send(frame(mac, STATION, largest + 1, vid)))
            near.send(frame(STATION, mac, largest))
            [got] = far.receive(lambda got: TYPE in got[12:18])
            assert got == frame(STATION, mac, largest, vid), "and the next one passes again"


@pytest.mark.parametrize("switch_mtu", MTUS)
@pytest.mark.parametrize("nic_mtu", MTUS)
def test_the_smaller_limit_holds_tagged_or_not(lan, wire, nic_mtu, switch_mtu):
    host = lan(switch_mtu)
    set_nic_mtu(host, wire, nic_mtu)  # by somebody else, while the switch is there
    uplink = wait_until(lambda: find_uplink(host, nic_mtu >= switch_mtu), "the uplink to say what it thinks of the MTU")
    assert uplink["state"] == "up"
    if nic_mtu < switch_mtu:
        for part in (f"mtu {nic_mtu}", f"has {switch_mtu}", "lost", f"ip link set {NIC} mtu {switch_mtu}"):
            assert part in uplink["state_reason"]
        assert uplink["state_reason"] in host.cli("show").stdout
    check_pair(host, wire, nic_mtu, switch_mtu)


def find_uplink(host, fits):
    uplink = host.json("switch", "show", "lan")["uplink"]
    return uplink if (uplink["state_reason"] == "") == fits else None


@pytest.mark.parametrize("nic_mtu, switch_mtu", [(1500, 1501), (1500, 9000), (4074, 9000)])
def test_a_switch_larger_than_its_nic_is_refused_with_both_numbers(host, wire, nic_mtu, switch_mtu):
    host.clear()
    set_nic_mtu(host, wire, nic_mtu)
    done = host.cli("switch", "create", "lan", "--external", NIC, "--mtu", switch_mtu)
    assert done.returncode == 1 and str(nic_mtu) in done.stderr and str(switch_mtu) in done.stderr, done.stderr
    assert host.json("switch", "list") == []
    host.daemon.do("switch", "create", "lan", "--external", NIC, "--mtu", nic_mtu)
    done = host.cli("switch", "set", "lan", "--mtu", switch_mtu)
    assert done.returncode == 1 and str(nic_mtu) in done.stderr and str(switch_mtu) in done.stderr, done.stderr
    assert host.json("switch", "show", "lan")["mtu"] == nic_mtu


def test_a_nic_that_was_raised_later_brings_in_jumbo_frames(host, wire):
    """Its ring was made for standard frames."""
    host.clear()
    set_nic_mtu(host, wire, 1500)
    host.daemon.do("switch", "create", "lan", "--external", NIC)
    host.daemon.do("vnic", "create", "plain", "--switch", "lan", "--host", "--mac", PLAIN)
    set_nic_mtu(host, wire, 9000)
    wait_until(lambda: host.cli("switch", "set", "lan", "--mtu", 9000).returncode == 0, "the NIC's new MTU to be seen")
    with RawPort(wire, "eth0") as far, RawPort(host.netns, "plain") as near:
        for size in (9014, 60, 9013):
            far.send(frame(PLAIN, STATION, size))
            [got] = near.receive(lambda got: got[12:14] == TYPE)
            assert got == frame(PLAIN, STATION, size)
        wire.run("ip", "link", "set", "eth0", "mtu", 9100)
        check_dropped(host, "uplink", "oversize", lambda: far.send(frame(PLAIN, STATION, 9015)))
    host.clear()


def test_a_host_vnic_has_the_mtu_of_its_switch(host, wire):
    host.clear()
    set_nic_mtu(host, wire, 9000)
    host.daemon.do("switch", "create", "lan", "--external", NIC, "--mtu", 9000)
    host.daemon.do("vnic", "create", "plain", "--switch", "lan", "--host")

    def mtu():
        return int(host.netns.run("cat", "/sys/class/net/plain/mtu").stdout)
    assert mtu() == 9000
    host.daemon.do("switch", "set", "lan", "--mtu", 4074)
    assert mtu() == 4074
    host.daemon.restart()
    assert mtu() == 4074
