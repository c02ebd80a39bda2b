"""Teams against Open vSwitch: bonds that speak LACP, bonds that do not, and two ports of which the switch knows nothing."""

import re

import pytest
from conftest import lab_name
from lab.proc import wait_until
from team_bed import ETHERTYPE, NICS, drops, lacp_lines, mac_bytes, show, team_bed

BROADCAST = b"\xff" * 6


@pytest.fixture(scope="module")
def module_bed(_root):
    with team_bed(lab_name("team")) as made:
        yield made


@pytest.fixture
def bed(module_bed):
    yield module_bed
    module_bed.check_account()
    module_bed.reset()


def hears_once(bed, source, at, target, count=5):
    """Frames for `target` that leave at the raw port of `source` arrive at the raw port `at`, each of them once."""
    at.drain()
    port, mac = source
    marks = [b"team-mark-%04d" % number for number in range(count)]
    for mark in marks:
        port.send(target + mac + ETHERTYPE + mark + bytes(60))
    found = at.receive(lambda frame: any(mark in frame for mark in marks), count)
    assert sorted(mark for mark in marks for frame in found if mark in frame) == marks, (len(found), show(bed.team()))


def ends(bed):
    vm = (bed.port(bed.netns, "vm"), mac_bytes(bed.netns.mac("vm")))
    station = (bed.port(bed.station, "eth0"), mac_bytes(bed.station.mac("eth0")))
    return vm, station


def check_both_ways(bed):
    vm, station = ends(bed)
    for target in (station[1], BROADCAST):
        hears_once(bed, vm, station[0], target)
    for target in (vm[1], BROADCAST):
        hears_once(bed, station, vm[0], target)


@pytest.mark.parametrize("partner", ["active", "passive"])
@pytest.mark.parametrize("bond_mode", ["balance-tcp", "active-backup"])
def test_lacp_with_open_vswitch(bed, partner, bond_mode):
    bed.cable(f"bond_mode={bond_mode}", f"lacp={partner}", "other_config:lacp-time=fast").wire("--mode", "lacp")
    bed.wait_states("active", "active")
    bed.wait_partner("eth1", "eth2")
    view = bed.team()
    assert view["state"] == "up", view
    for member in view["members"]:
        lacp = member["lacp"]
        assert {"in-sync", "collecting", "distributing"} <= set(lacp["actor"]["state"])
        assert ("active" in lacp["partner"]["state"]) == (partner == "active")
        assert lacp["receive"] == "current" and lacp["mux"] == "distributing" and lacp["malformed"] == 0
    for line in lacp_lines(bed.physical).values():
        assert line.startswith("current attached"), line
    check_both_ways(bed)
    vm, station = ends(bed)
    assert bed.physical.port_of(bed.netns.mac("vm"), 101) is not None
    # The partner's own LACPDUs are no frames of anybody: they went no further.
    bed.check_account()


@pytest.mark.parametrize("settings", [("bond_mode=balance-tcp", "lacp=active", "other_config:lacp-time=fast"), ()],
                         ids=["lacp", "independent"])
def test_a_cable_that_is_pulled_costs_what_was_on_it_and_comes_back(bed, settings):
    """Numbered frames both ways; nothing twice."""
    words = ("--mode", "lacp") if settings else ("--balance", "dynamic")
    bed.cable(*settings, bond=bool(settings)).wire(*words, "--failback-delay", 500)
    bed.wait_states("active", "active")
    if settings:
        bed.wait_partner("eth1", "eth2")
    check_both_ways(bed)
    for nic in NICS:
        with bed.stream_out() as out, bed.stream_in() as inwards:
            out.goes_on()
            inwards.goes_on()
            bed.set_cable(nic, False)
            bed.wait_states(*("down" if nic == other else "active" for other in NICS))
            assert bed.team()["state"] == "degraded"
            out.goes_on()
            inwards.goes_on()
            bed.set_cable(nic, True)
            bed.wait_states("active", "active")
            out.goes_on(500)
            inwards.goes_on(500)
        assert not out.doubled and not inwards.doubled
        assert out.lost < out.sent / 2 and inwards.lost < inwards.sent / 2
        assert len(out.heard) > 500 and len(inwards.heard) > 500


def test_a_member_that_is_up_but_dead_is_noticed_by_its_silence(bed):
    bed.cable("bond_mode=balance-tcp", "lacp=active", "other_config:lacp-time=fast").wire("--mode", "lacp")
    bed.wait_states("active", "active")
    bed.cables.silence("eth1")
    bed.wait_states("inactive", "active")
    [dead, alive] = bed.team()["members"]
    assert dead["carrier"] and dead["lacp"]["receive"] in ("expired", "defaulted"), dead
    check_both_ways(bed)
    wait_until(lambda: bed.team()["members"][0]["lacp"]["receive"] == "defaulted", "the partner to be forgotten")
    assert bed.team()["members"][0]["lacp"]["partner"] is None
    bed.cables.speak("eth1")
    bed.wait_states("active", "active")
    assert alive["state"] == "active"


def test_while_no_partner_speaks_one_member_goes_on_alone(bed):
    bed.cable(bond=False).wire("--mode", "lacp")
    bed.wait_states("active", "inactive")
    assert "no LACP partner" in bed.team()["members"][0]["state_reason"]
    check_both_ways(bed)
    bed.set_cable("eth1", False)
    bed.wait_states("down", "active")
    check_both_ways(bed)


def test_a_standby_member_of_lacp_steps_in(bed):
    bed.cable("bond_mode=balance-tcp", "lacp=active", "other_config:lacp-time=fast")
    bed.wire("--mode", "lacp", "--standby", "eth2")
    bed.wait_states("active", "standby")
    bed.wait_partner("eth1")
    check_both_ways(bed)
    bed.set_cable("eth1", False)
    bed.wait_states("down", "active")
    bed.wait_partner("eth2")
    check_both_ways(bed)
    with bed.stream_out() as out:
        out.goes_on()
        bed.set_cable("eth1", True)
        bed.wait_states("active", "standby")
        out.goes_on()
    assert len(out.heard) > 100 and not out.doubled
    bed.wait_partner("eth1")
    check_both_ways(bed)


@pytest.mark.parametrize("balance", ["address-hash", "vnic-port", "dynamic"])
def test_a_switch_that_knows_nothing_sees_each_address_at_one_port(bed, balance):
    vnics = [("vm", 101)] + [(f"vm{number}", 101) for number in range(2, 9)]
    bed.cable(bond=False).wire("--balance", balance, vnics=vnics)
    bed.wait_states("active", "active")
    check_both_ways(bed)
    _, station = ends(bed)
    bed.team()
    seen = {}
    for name, _ in vnics:
        port, mac = bed.port(bed.netns, name), mac_bytes(bed.netns.mac(name))
        hears_once(bed, (port, mac), station[0], BROADCAST)
        hears_once(bed, station, port, mac)
        wait_until(lambda name=name: bed.physical.port_of(bed.netns.mac(name), 101), f"{name} to be learned outside")
        seen[name] = bed.physical.port_of(bed.netns.mac(name), 101)
    if balance == "address-hash":
        assert len(set(seen.values())) == 1, "all is received at the primary"
    else:
        assert len(set(seen.values())) == 2, seen
    with bed.stream_out(flows=64) as out:
        out.goes_on(400)
    # A flow that pauses may change its member, and the switch outside empties its ports in an order of its own.
    assert not out.doubled and (out.reordered == 0 or balance == "dynamic")
    assert not drops(bed.json("vnic", "show", "vm"))
    for name, _ in vnics:
        assert bed.physical.port_of(bed.netns.mac(name), 101) == seen[name], f"{name} moved"
    sent = [member["counters"]["to_wire"]["frames"] for member in bed.team()["members"]]
    assert balance == "vnic-port" or min(sent) > 50, sent


def test_who_moves_to_another_member_is_announced_in_its_vlan(bed):
    vnics = [("vm", 101)] + [(f"vm{number}", 101 + number % 2) for number in range(2, 9)]
    bed.cable(bond=False).wire("--balance", "vnic-port", vnics=vnics)
    bed.wait_states("active", "active")
    addresses = [(bed.netns.mac(name), vid) for name, vid in vnics]
    wait_until(lambda: {bed.physical.port_of(*address) for address in addresses} == set(bed.ends),
               "each to be found at one of the two ports, by the first announcements")
    bed.set_cable("eth1", False)
    bed.wait_states("down", "active")
    wait_until(lambda: {bed.physical.port_of(*address) for address in addresses} == {bed.ends[1]},
               "all to be found at the other port, without a frame of their own")
    assert bed.team()["failovers"] == 1
    check_both_ways(bed)


def test_who_leaves_a_vlan_is_not_announced_there_any_more(bed):
    vnics = [(name, 101) for name in ("vm", "vm2", "vm3", "vm4")]
    bed.cable(bond=False).wire("--balance", "vnic-port", vnics=vnics)
    bed.wait_states("active", "active")
    check_both_ways(bed)
    bed.set_cable("eth1", False)
    bed.wait_states("down", "active")
    # Within the second in which it is said again and again where they are now.
    for name, vid in vnics:
        bed.daemon.do("vnic", "set", name, "--vlan", vid + 1)
    bed.daemon.do("vnic", "create", "last", "--switch", "lan", "--host", "--vlan", 101)
    port, station = bed.port(bed.netns, "last"), bed.port(bed.station, "eth0")
    hears_once(bed, (port, mac_bytes(bed.netns.mac("last"))), station, BROADCAST)  # behind all that was on its way
    macs = {mac_bytes(bed.netns.mac(name)) for name, _ in vnics}
    assert not station.receive(lambda frame: frame[6:12] in macs, limit_s=1.5)
    for name, vid in vnics:
        assert bed.physical.port_of(bed.netns.mac(name), vid + 1), f"{name} is announced where it is"


def test_one_active_and_one_standby_member(bed):
    bed.cable(bond=False).wire("--standby", "eth2", "--failback-delay", 300)
    bed.wait_states("active", "standby")
    check_both_ways(bed)
    members = bed.team()["members"]
    assert members[1]["counters"]["to_wire"]["frames"] == 0
    bed.set_cable("eth1", False)
    bed.wait_states("down", "active")
    check_both_ways(bed)
    bed.set_cable("eth1", True)
    bed.wait_states("active", "standby")
    check_both_ways(bed)


def test_a_bond_without_lacp_that_uses_one_cable_too(bed):
    """Both ends have one active member, and go by the carrier alone."""
    bed.cable("bond_mode=active-backup", "lacp=off")
    bed.physical.vsctl("set", "port", "bond0", f"other_config:bond-primary={bed.ends[0]}")
    bed.wire("--standby", "eth2")

    def wait_both(ours, theirs):
        bed.wait_states(*ours)
        line = f"({bed.ends[NICS.index(theirs)]})"
        wait_until(lambda: re.search(r"active member mac: .*" + re.escape(line), bed.physical.appctl("bond/show").stdout),
                   f"the bond to use {theirs}", 20.0)
    wait_both(("active", "standby"), "eth1")
    check_both_ways(bed)
    bed.set_cable("eth1", False)
    wait_both(("down", "active"), "eth2")
    check_both_ways(bed)
    bed.set_cable("eth1", True)
    wait_both(("active", "standby"), "eth1")
    check_both_ways(bed)
    bed.check_account()


def test_members_come_and_go_under_traffic(bed):
    bed.cable(bond=False).wire("--balance", "vnic-port")
    bed.wait_states("active", "active")
    check_both_ways(bed)
    with bed.stream_out() as out, bed.stream_in() as inwards:
        for nics in ("eth2", "eth1,eth2", "eth1", "eth2,eth1", "eth1,eth2"):
            out.goes_on()
            inwards.goes_on()
            bed.daemon.do("team", "set", "uplink", "--nics", nics)
        for balance in ("address-hash", "dynamic", "vnic-port"):
            bed.daemon.do("team", "set", "uplink", "--balance", balance)
            out.goes_on()
            inwards.goes_on()
    # Judged by what left: the switch behind it drops frames by itself when it gets no CPU.
    def all_left():
        uplink, vm = bed.json("switch", "show", "lan")["uplink"], bed.json("vnic", "show", "vm")
        return uplink["counters"]["to_wire"]["frames"] == vm["counters"]["from_guest"]["frames"] and uplink
    uplink = wait_until(all_left, "as many frames to the wire as came from the vnic")  # they are not read at the same time
    assert not {"not_connected", "uplink_refused"} & set(drops(uplink)), "what a vnic sends has a member at every moment"
    assert not out.doubled and not inwards.doubled


def test_every_lacpdu_is_one_that_tshark_reads_without_complaint(bed):
    bed.cable("bond_mode=balance-tcp", "lacp=active", "other_config:lacp-time=fast")
    end = bed.ends[0]
    path = f"{bed.lab.dir}/lacp.pcap"
    capture = bed.physical.netns.start("capture-lacp", "tcpdump", "-i", end, "-w", path, "-U", "-Q", "in", "-Z", "root",
                                       "ether", "proto", "0x8809")
    bed.wire("--mode", "lacp")
    bed.wait_states("active", "active")
    bed.set_cable("eth2", False)
    bed.wait_states("active", "down")
    wait_until(lambda: bed.team()["members"][0]["lacp"]["sent"] >= 12, "some LACPDUs")
    capture.stop()
    fields = bed.physical.netns.run("tshark", "-r", path, "-T", "fields", "-e", "slow.subtype", "-e", "lacp.version", "-e",
                                    "lacp.actor.state", "-e", "lacp.actor.sysid", "-e", "_ws.expert.message", "-e",
                                    "_ws.malformed").stdout
    rows = [line.split("\t") for line in fields.splitlines()]
    assert len(rows) >= 8
    for row in rows:
        assert row[0] in ("1", "0x01") and row[1] in ("1", "0x01") and row[2] and not any(row[4:]), row
    assert {row[3] for row in rows} == {bed.netns.mac("eth1")}
