"""The load generator of ./bench: what it sends through Patchbay arrives, whole, in order, at the right vnic, and what
it says about that agrees with Patchbay's own counters. Nothing here depends on how fast that goes."""

import json
import os
import subprocess

import pytest
from bench import rows, uplinks
from bench.generator import Generator, mac_of
from lab import image, netcheck
from lab.lab import directory
from lab.proc import LabError

TOOLS = os.path.join(image.REPOSITORY, "tools")
FRAMES_EACH = 3000
PATIENT = {"seconds": 60, "quiet_s": 10}  # as long as a loaded machine may need


@pytest.fixture
def attach(host):
    """attach(vnics, …): a generator with so many vnics on one switch, attached and heard by their peers."""
    generators = []

    def attach_vnics(count, mtu=1500, words=(), switch=("--private",), **shape):
        host.clear()
        host.daemon.do("switch", "create", "lab", *switch, "--mtu", mtu)
        for number in range(count):
            host.daemon.do("vnic", "create", f"v{number}", "--switch", "lab", "--mac", mac_of(number), *words)
        sockets = [host.json("vnic", "show", f"v{number}")["vhost_socket"] for number in range(count)]
        generator = Generator(host.netns, host.lab.dir, sockets, **shape)
        generators.append(generator)
        generator.start().attached()
        generator.link()
        return generator
    yield attach_vnics
    for generator in generators:
        generator.end()


def check_all_arrived(result, sent):
    assert result["sent"] == result["received"] == sent, result
    wrong = ("lost", "misdelivered", "damaged", "reordered", "stray")
    assert {name: result[name] for name in wrong} == dict.fromkeys(wrong, 0), result
    latency = result["latency_ns"]
    assert latency["count"] == sent
    assert 0 < latency["p50"] <= latency["p99"] <= latency["p999"] <= latency["max"], result


def account(host):
    [account] = netcheck.settled_accounts(host.daemon)
    assert account.difference == 0, account
    return account


@pytest.mark.parametrize("frame_bytes, flows", [(64, 1), (64, 1000), (1514, 7)])
def test_frames_between_two_vnics_all_arrive(host, attach, frame_bytes, flows):
    generator = attach(2)
    before = account(host)
    result = generator.run(**PATIENT, frames_each=FRAMES_EACH, frame_bytes=frame_bytes, flows=flows, check_bytes=True)
    check_all_arrived(result, 2 * FRAMES_EACH)
    after = account(host)
    for port in ("v0", "v1"):
        assert after.ports[port]["in"] - before.ports[port]["in"] == FRAMES_EACH
        assert after.ports[port]["out"] - before.ports[port]["out"] == FRAMES_EACH


def test_a_jumbo_frame_arrives_in_several_buffers(attach):
    generator = attach(2, mtu=9000, frame_bytes_max=9014)
    result = generator.run(**PATIENT, frames_each=500, frame_bytes=9014, check_bytes=True)
    check_all_arrived(result, 1000)


@pytest.mark.parametrize("layout", ["split", "packed"])
def test_pieces_of_64_kb_arrive_whole(host, attach, layout):
    generator = attach(2, layout=layout, **rows.PIECE_SHAPE)
    before = account(host)
    result = generator.run(**PATIENT, frames_each=300, check_bytes=True, **rows.PIECE)
    check_all_arrived(result, 600)
    after = account(host)
    assert after.ports["v0"]["in"] - before.ports["v0"]["in"] == 300
    assert after.ports["v1"]["out"] - before.ports["v1"]["out"] == 300


@pytest.fixture(scope="module")
def wire(host):
    return uplinks.Wire(host.lab).build()


@pytest.fixture
def mirror(wire):
    wire.add_mirror()
    return wire


@pytest.mark.parametrize("frames", [{"frame_bytes": 64}, {"frame_bytes": 1514},
                                    pytest.param({**rows.PIECE, "may_be_cut": True}, id="pieces")])
def test_frames_to_the_uplink_come_back(host, mirror, attach, frames):
    shape = rows.PIECE_SHAPE if "gso_size" in frames else {}
    generator = attach(1, switch=("--external", uplinks.NIC), mirror=uplinks.MIRROR, **shape)
    result = generator.run(**PATIENT, frames_each=300, window=16, check_bytes=True, **frames)
    check_all_arrived(result, 300)
    assert mirror.far.statistics(uplinks.FAR)["tx_packets"] >= 300
    mirror.remove_mirror()  # and it was the mirror that did it
    result = generator.run(seconds=60, rate=50_000, frames_each=10, **frames)
    assert (result["sent"], result["received"], result["damaged"]) == (10, 0, 0), result


def test_several_queue_pairs_all_carry_flows(host, attach):
    generator = attach(2, words=("--queues", "2"), queue_pairs=2)
    assert [host.json("vnic", "show", name)["queues_used"] for name in ("v0", "v1")] == [2, 2]
    result = generator.run(**PATIENT, frames_each=3000, flows=64, check_bytes=True)
    wrong = ("lost", "misdelivered", "damaged", "stray")  # queues may overtake each other
    assert result["received"] == 6000 and {name: result[name] for name in wrong} == dict.fromkeys(wrong, 0), result


def test_addresses_behind_vnics_are_learned(host, attach):
    generator = attach(2, words=("--mac-spoofing", "on"))
    result = generator.run(**PATIENT, frames_each=1000, macs=50, check_bytes=True)
    check_all_arrived(result, 2000)
    assert [host.json("vnic", "show", name)["learned"]["count"] for name in ("v0", "v1")] == [50, 50]


def test_four_pairs_at_a_rate_each_hear_their_own_peer(attach):
    generator = attach(8, ring_entries=256)
    # At this rate it takes a quarter of a second; a slow machine may take longer, and frames that were due then are
    # not offered any more: so all that is asked for is that nothing that was sent goes wrong.
    result = generator.run(seconds=60, rate=4000, frames_each=1000, burst=4)
    wrong = ("misdelivered", "damaged", "reordered", "stray")
    assert {name: result[name] for name in wrong} == dict.fromkeys(wrong, 0), result
    assert result["sent"] == 8000 and result["least_received"] > 0, result
    assert result["received"] + result["lost"] == result["sent"], result


def test_frames_that_are_lost_are_counted(host, attach):
    generator = attach(2)
    before = account(host)
    host.daemon.do("vnic", "set", "v1", "--vlan", 7)  # now v0's frames reach nobody, and v1's neither
    result = generator.run(seconds=60, rate=50_000, frames_each=2000)
    assert (result["sent"], result["received"], result["lost"]) == (4000, 0, 4000), result
    assert account(host).total("drops") - before.total("drops") == 4000


def test_a_switch_that_sleeps_is_woken_by_each_frame(attach):
    generator = attach(2)
    result = generator.wake(20, sleep_limit_s=10)
    assert result["asleep"] == result["count"] == 20 and result["p50"] > 0, result


def test_a_bare_ping_needs_no_switch(attach):
    result = attach(2).bare_ping(20, cpu=max(os.sched_getaffinity(0)))
    assert result["count"] == 20 and 0 < result["p50"] <= result["max"], result


def test_what_cannot_be_measured_is_said(attach):
    generator = attach(2)
    with pytest.raises(LabError, match="frame_bytes 9000: from 60 to frame_bytes_max of the file, 1514"):
        generator.run(frame_bytes=9000)


def test_answers_are_json_lines(host, attach):
    attach(2).run(**PATIENT, frames_each=10)
    with open(f"{host.lab.dir}/loadgen.log", encoding="utf-8") as file:
        answers = [json.loads(line) for line in file]
    assert [sorted(answer)[0] for answer in answers] == ["attached", "silent", "damaged"], answers


def test_the_program_measures_patchbay_and_leaves_nothing(tmp_path):
    """./bench without its setting up: every kind of row, each as short as can be. What is measured does not matter."""
    name, results_file = f"t{os.getpid()}-bench", tmp_path / "results.json"
    done = subprocess.run(
        ["/usr/bin/python3", "-m", "bench", "--quick", "--only", "patchbay", "--rounds", "1", "--seconds", "0.1",
         "--json", results_file], env=dict(os.environ, PYTHONPATH=TOOLS, PATCHBAY_LAB_NAME=name), capture_output=True, text=True,
        timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads(results_file.read_text())
    assert results["traffic"].keys() == {row.key for row in rows.TRAFFIC if row.quick}
    for facts in results["traffic"].values():
        assert not facts["reasons"] and facts["offered_frames_per_s"] > 0
        for run in facts["runs"]["patchbay"]["full"] + facts["runs"]["patchbay"]["equal"]:
            assert run["received"] > 0 and run["busy_cycles"] > 0, run
    assert results["wake"]["bare"] and results["idle"]["patchbay"]["vnics"] == 64
    assert results["control"]["apply_s"] > 0
    for title in ("Busy TSC cycles per delivered frame", "Full load", "Latency", "Nobody sends", "Control plane"):
        assert title in done.stdout
    assert not os.path.exists(directory(name))


def test_the_program_measures_to_the_uplink_and_between_guests(tmp_path):
    """Rows that --quick leaves out; what cannot be measured has a reason."""
    name, results_file = f"t{os.getpid()}-uplink", tmp_path / "results.json"
    done = subprocess.run(
        ["/usr/bin/python3", "-m", "bench", "--only", "patchbay", "--rows", "workers-2,uplink-64,latency,tcp", "--rounds", "1",
         "--seconds", "0.1", "--json", results_file],
        env=dict(os.environ, PYTHONPATH=TOOLS, PATCHBAY_LAB_NAME=name), capture_output=True, text=True, timeout=300,
        check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads(results_file.read_text())
    row = results["uplink"]["uplink-64"]
    assert row["runs"].keys() == {"patchbay-packet"} and "virtual device" in row["reasons"]["patchbay-xdp"]
    assert all(run["received"] > 0 and run["busy_cycles"] > 0 for run in row["runs"]["patchbay-packet"]["equal"])
    assert all(facts["runs"].keys() == {"patchbay", "patchbay-polling"} for facts in results["latency"].values())
    workers = results["traffic"]["workers-2"]
    assert workers["runs"] or "4 CPUs or more" in workers["reasons"]["patchbay"]
    rates = results["tcp"]["runs"]["patchbay-guests"]
    assert rates.keys() == {"guests", "guests-back", "out", "in"} and all(rate > 0 for [rate] in rates.values())
    assert "| " not in done.stdout and "TCP of two QEMU guests" in done.stdout
    assert not os.path.exists(directory(name))


def test_the_program_refuses_what_it_does_not_know():
    environment = dict(os.environ, PYTHONPATH=TOOLS)
    done = subprocess.run(["/usr/bin/python3", "-m", "bench", "--only", "patchbay,vpp"], env=environment,
                          capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2 and "--only: vpp: give names of patchbay, ovs, testpmd" in done.stderr
