"""Two real guests beside an attacker who tries one thing after the other: not one of their numbered frames is lost."""

import os

import pytest
import test_hostile_chains as chains
import test_hostile_floods as floods
import test_hostile_memory as memory
import test_hostile_offloads as offloads
import test_hostile_races as races
import test_hostile_rings as rings
import test_hostile_tables as tables
from arena import wait_until
from front_end import new_memfd
from lab import wirings
from test_front_ends import missing_replies

GUESTS = {"good1": ("02:00:00:00:08:11", "10.77.0.1"), "good2": ("02:00:00:00:08:12", "10.77.0.2")}
VLAN = 103
LAYOUTS = (False, True)  # split, packed


@pytest.fixture(scope="module")
def guests(arena):
    lab = arena.lab
    for name, (mac, _) in GUESTS.items():
        arena.daemon.do("vnic", "create", name, "--switch", "lan", "--mac", mac, "--vlan", VLAN)
        lab.add_guest(name, mac).start_vhost(arena.vnic(name)["vhost_socket"])
    for name, (_, address) in GUESTS.items():
        lab.guests[name].wait_ready()
        lab.guests[name].set_ip(address)
    wirings.wait_connected(arena.daemon, GUESTS)
    assert lab.guests["good1"].ping(GUESTS["good2"][1])
    arena.settle()
    return lab.guests


def break_chains(arena):
    for table in (chains.ADDRESSES, chains.SHAPES, chains.TABLES):
        for number, name in enumerate(table):
            chains.dropped_and_goes_on(arena, table[name], LAYOUTS[number % 2])


def break_rings(arena):
    for name in rings.INDICES:
        rings.test_an_avail_index_that_jumps(arena, name, rings.EVENT_IDX)
    rings.test_a_chain_without_end_in_a_packed_ring(arena, 1)
    for name in rings.OVERLAPS:
        rings.test_parts_of_a_ring_on_top_of_each_other(arena, name, packed=False)
    for name in rings.OUTSIDES:
        rings.test_a_ring_outside_of_memory(arena, name, packed=True)


def take_memory_away(arena):
    for packed in LAYOUTS:
        memory.test_memory_vanishes_under_a_sender(arena, new_memfd, packed)
        memory.test_memory_vanishes_under_a_receiver(arena, new_memfd, packed)
        tables.test_the_table_changes_all_the_time_while_frames_flow(arena, packed)
    tables.test_a_guest_cannot_take_all_the_address_space(arena)


def lie_in_headers(arena):
    for number, name in enumerate(offloads.LIES):
        offloads.test_a_header_that_asks_for_what_cannot_be(arena, name, LAYOUTS[number % 2])


def rewrite_what_is_read(arena):
    for number, name in enumerate(races.FRAMES):
        races.test_a_frame_is_rewritten(arena, name, LAYOUTS[number % 2])
    races.test_an_indirect_table_is_rewritten(arena, packed=False)
    races.test_the_descriptors_of_a_packed_ring_are_rewritten(arena)


def flood(arena):
    for name in ("memory", "calls"):
        floods.test_a_flood_of_messages(arena, name)
    floods.test_a_flood_of_kicks(arena, packed=True)
    floods.test_a_call_whose_counter_is_full_and_that_may_block(arena, packed=False)


@pytest.mark.parametrize("attack", [break_chains, break_rings, take_memory_away, lie_in_headers, rewrite_what_is_read,
                                    flood])
def test_real_guests_do_not_notice(arena, guests, attack):
    good = guests["good1"]
    good.run(f"busybox ping -i 0.02 -W 60 {GUESTS['good2'][1]} > /tmp/ping.log 2>&1 & echo $! > /tmp/ping.pid")

    def replies():
        return int(good.run("grep -c 'bytes from' /tmp/ping.log", check=False)[1])
    try:
        wait_until(lambda: replies() > 10, "the guests to talk", 60.0)
        attack(arena)
        before = replies()
        wait_until(lambda: replies() > before + 50, "the guests to go on", 60.0)
    finally:
        good.run("kill -INT $(cat /tmp/ping.pid)")
    log = os.path.join(arena.lab.dir, f"{attack.__name__}.ping.log")
    with open(log, "w", encoding="utf-8") as file:
        file.write(good.run("cat /tmp/ping.log")[1])
    assert missing_replies(log) == []
    for name in GUESTS:
        assert arena.vnic(name)["state"] == "connected"
        assert set(arena.drops(name)) <= {"not_connected"}, "of the time before both were there"
