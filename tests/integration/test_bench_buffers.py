"""./bench buffers: its verdicts and its report, from made-up figures; and the streams behind it, through Patchbay. What is
judged there are counted frames; nothing depends on how long anything takes."""

import json
import os
import subprocess

import pytest
from bench import candidates, isolation, stalls, verdicts
from bench.buffers_report import BuffersReport, longest_without_loss
from bench.report import put_into
from lab import image
from lab.lab import directory

TOOLS = os.path.join(image.REPOSITORY, "tools")


def stall(**changes):
    """One of which nothing is wrong with room for 1100 frames: 100 of 1200 that had to wait are lost."""
    made = {"column": "1M", "frame_bytes": 64, "rate": 10_000, "stall_ms": 10, "sent": 1300, "received": 1200, "lost": 100,
            "reordered": 0, "repeated": 0, "strays": 0, "not_taken": 0, "not_taken_in_stall": 0, "waiting_least": 1200,
            "waiting_most": 1210, "offered_in_stall": 1200, "dropped": {"buffer_full": 100}, "delivered": 1200,
            "gap_ms": 10.5, "stood_still_ms": 10.1, "expected": "some", "wrong": []}
    return {**made, **changes}


# ---- Verdicts -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("limit_bytes, frame_bytes, frames", [
    (0, 64, 0), (1 << 20, 1500, 699), (1 << 20, 64, 16384), (1 << 20, 42, 17476), (1 << 20, 60, 17476)])
def test_a_buffer_counts_bytes(limit_bytes, frame_bytes, frames):
    assert verdicts.buffered(limit_bytes, frame_bytes) == frames


@pytest.mark.parametrize("least, most, room, expected", [
    (0, 99, 100, "none"), (0, 100, 100, "none"), (100, 101, 100, "open"), (100, 100, 100, "none"), (101, 120, 100, "some")])
def test_loss_is_expected_exactly_where_more_waited_than_has_room(least, most, room, expected):
    assert verdicts.expected_loss(least, most, room) == expected


@pytest.mark.parametrize("changes, room, expected, wrong", [
    ({}, 1100, "some", []),
    ({}, 1205, "open", []),
    ({}, 1210, "none", ["100 frames were lost, and never more than 1210 waited where 1210 have room"]),
    ({}, 1000, "some", ["100 frames were lost, where 1200 had to wait and 1000 have room"]),
    ({"lost": 0, "received": 1300, "dropped": {}, "delivered": 1300}, 1100, "some",
     ["0 frames were lost, where 1200 had to wait and 1100 have room"]),
    ({"dropped": {"buffer_full": 99}}, 1100, "some",
     ["100 frames are missing, and Patchbay says it dropped {'buffer_full': 99}"]),
    ({"dropped": {}}, 1100, "some", ["100 frames are missing, and Patchbay says it dropped none"]),
    ({"dropped": {"buffer_full": 100, "buffer_expired": 1}}, 1100, "some",
     ["100 frames are missing, and Patchbay says it dropped {'buffer_full': 100, 'buffer_expired': 1}"]),
    ({"delivered": 1201}, 1100, "some", ["1200 frames came, and Patchbay says it delivered 1201"]),
    ({"reordered": 2, "repeated": 1, "strays": 3, "not_taken": 4}, 1100, "some",
     ["2 frames came after a later one", "1 frames came twice", "3 frames are none of those sent",
      "4 frames were not taken from their sender"])])
def test_what_is_wrong_with_a_stall_is_said(changes, room, expected, wrong):
    assert verdicts.judge(stall(**changes), room) == (expected, wrong)


@pytest.mark.parametrize("changes, ring, kept, expected, problems", [
    ({}, 100, 1000, "some", 0), ({}, 100, 1099, "some", 0), ({}, 100, 1100, "open", 0), ({}, 100, 1299, "open", 0),
    ({}, 100, 1300, "none", 1), ({"not_taken_in_stall": 1}, 100, 1099, "open", 0),
    ({"lost": 0, "received": 1300, "dropped": {}, "delivered": 1300}, 100, 1000, "some", 1),
    ({"lost": 0, "received": 1300, "dropped": {}, "delivered": 1300}, 100, 1300, "none", 0)])
def test_of_a_guest_only_what_is_certain_is_judged(changes, ring, kept, expected, problems):
    found, wrong = verdicts.judge_guest(stall(**changes), ring, kept)
    assert found == expected and len(wrong) == problems, wrong


@pytest.mark.parametrize("changes, dropped, problems", [
    ({}, {"buffer_full": 100}, 0), ({}, {"buffer_full": 100, "not_connected": 0}, 0), ({}, {"buffer_full": 101}, 1),
    ({"steps_back": 1}, {"buffer_full": 100}, 1), ({"returns": [50, 49]}, {"buffer_full": 100}, 1),
    ({"received": 400}, {}, 0)])
def test_a_guest_that_comes_back_is_judged(changes, dropped, problems):
    flood = {"sent": 400, "received": 300, "steps_back": 0, "returns": [50, 50], **changes}
    assert len(verdicts.judge_return(flood, dropped, 50)) == problems


# ---- The report -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("lost, text", [
    ({1: [0, 0], 10: [0, 0]}, "10 ms"), ({1: [0, 0], 10: [0, 3]}, "1 ms"), ({1: [3], 10: [0]}, "–"), ({}, "–"),
    ({1: [0], 2: [5], 5: [0]}, "1 ms")])
def test_the_longest_stall_without_loss_is_before_the_first_with(lost, text):
    assert longest_without_loss([stall(stall_ms=ms, lost=frames) for ms, all_lost in lost.items()
                                 for frames in all_lost]) == text


@pytest.fixture
def results():
    def phase(rate, p99, before_gap=0):
        return {"full": {"frames_per_s": rate, "latency_ns": {"p99": 1000}, "flood": {"before_gap": before_gap}},
                "equal": {"frames_per_s": 1, "latency_ns": {"p99": p99}}}
    nothing_lost = {"lost": 0, "received": 1300, "dropped": {}, "delivered": 1300, "expected": "none"}
    return {
        "started": "2026-01-01 00:00 UTC", "quick": True, "repeats": 1, "rounds": 2, "load_average": 0.1, "reasons": [],
        "machine": {"cpu": "a CPU", "cpus": 2, "memory_mb": 4096, "kernel": "6.1", "system": "Debian", "virtual": False},
        "candidates": {name: {"title": title, "version": "1", "configuration": "as shipped"}
                       for name, title in (("patchbay", "Patchbay"), ("ovs", "Open vSwitch"))},
        "stalls": [stall(column="0"), stall(column="0", stall_ms=1, **nothing_lost), stall(**nothing_lost),
                   stall(column="ovs", expected=None)],
        "guests": {"accelerator": "tcg", "qemu": "QEMU 1", "rate": 10_000, "stalls": [stall(lost_in_guest=0)]},
        "isolation": {"patchbay": {"stall_s": 5.0, "runs": [phase(1e6, 20_000), phase(3e6, 10_000)], "wrong": [],
                                   "stands_still": [phase(1.9e6, 30_000), phase(2e6, 30_000)],
                                   "flood": {"returns": [17408, 17408], "steps_back": 0, "sent": 9, "received": 8}}}}


def test_the_text_has_each_table(results):
    report = BuffersReport(results)
    text = report.text()
    assert "| frames | frames/s | buffer 0 | buffer 1M | Open vSwitch |" in text
    assert "| 64 B | 10,000 | 1 ms | 10 ms | – |" in text
    assert "| buffer 0 | 2 | 2,600 | 100 | 100 | 0 | 0 |" in text
    assert "of 4 stalls, 2 left room for every frame, 2 did not, and in 0 the counts" in text and "to the frame" in text
    assert "stood still 2 times under the load of three senders: of 9 frames 8 came" in text
    assert "**0.97**" in text and "**2.00**" in text and "17,408, 17,408" in text
    assert "QEMU guests** (QEMU 1, tcg)" in text and "Not run" not in text
    assert report.problems() == []


def test_what_is_wrong_stands_above_the_tables(results):
    results["stalls"][0]["wrong"] = ["something"]
    results["isolation"]["patchbay"]["wrong"] = ["something else"]
    results["reasons"] = [["guests, Open vSwitch", "not installed"]]
    report = BuffersReport(results)
    assert report.problems() == ["stall, buffer 0, 64 B, 10,000 frames/s, 10 ms: something",
                                 "isolation, Patchbay: something else"]
    assert "**2 things are wrong**" in report.text() and "- guests, Open vSwitch: not installed" in report.text()


def test_a_part_alone_has_a_report(results):
    for left_out in ("stalls", "guests", "isolation"):
        part = dict(results, **{left_out: type(results[left_out])()})
        assert "Verdict" in BuffersReport(part).text()
    nothing = BuffersReport(dict(results, stalls=[], guests={}, isolation={}))
    assert nothing.charts("unused") == {} and "Verdict" not in nothing.text()


def test_the_map_is_a_picture(results, tmp_path):
    pytest.importorskip("matplotlib")
    assert list(BuffersReport(results).charts(tmp_path)) == ["buffers.png"]
    assert (tmp_path / "buffers.png").read_bytes().startswith(b"\x89PNG")


def test_the_page_has_a_place_for_it(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- bench: begin -->\nb\n<!-- bench: end -->\n<!-- bench buffers: begin -->\nc\n"
                    "<!-- bench buffers: end -->\nd\n")
    put_into(page, "new", "bench buffers")
    assert page.read_text().count("\nb\n") == 1 and "\nc\n" not in page.read_text() and page.read_text().endswith("-->\nd\n")
    with open(os.path.join(image.REPOSITORY, "docs", "performance.md"), encoding="utf-8") as file:
        assert "<!-- bench buffers: begin -->" in file.read()


# ---- Through Patchbay -----------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def stream(host):
    """The candidate brings a daemon of its own."""
    cpu = max(os.sched_getaffinity(0))
    with stalls.attached(host.lab, candidates.Patchbay(host.lab, cpu), min(os.sched_getaffinity(0))) as made:
        yield made


def judged(stream, setting, limit_bytes, **case):
    stream.candidate.daemon.do("vnic", "set", "v1", "--buffer", setting)
    made = stream.stall(**case)
    expected, wrong = verdicts.judge(made, stalls.RING_ENTRIES + verdicts.buffered(limit_bytes, case["frame_bytes"]))
    assert wrong == [], made
    return expected, made


def test_without_a_stall_all_frames_arrive_once(stream):
    expected, made = judged(stream, "4M", 4 << 20, frame_bytes=64, rate=10_000, stall_ms=0)
    assert expected == "none" and made["received"] == made["sent"] == made["delivered"] > 0, made
    assert made["offered_in_stall"] == made["stood_still_ms"] == 0


@pytest.mark.parametrize("frame_bytes", [64, 600, 1500])
def test_a_stall_costs_what_ring_and_buffer_do_not_hold(stream, frame_bytes):
    """At that rate the ring alone is full after 8 ms; the time is long so that a slow machine sends enough, too."""
    expected, made = judged(stream, "0", 0, frame_bytes=frame_bytes, rate=131_000, stall_ms=300)
    assert expected == "some" and made["lost"] > 0, made
    expected, made = judged(stream, "auto", 16 << 20, frame_bytes=frame_bytes, rate=40_000, stall_ms=100)
    assert expected == "none" and made["lost"] == 0, made


def test_the_numbers_go_on_from_one_stall_to_the_next_and_may_wrap(stream):
    stream.next = stalls.NUMBERS - 20
    for _ in range(2):
        expected, _ = judged(stream, "4M", 4 << 20, frame_bytes=64, rate=10_000, stall_ms=5)
        assert expected == "none"
    assert 0 < stream.next < 100_000


def test_a_guest_that_stands_still_under_load_gets_what_waited_first(host):
    """Others talk meanwhile: they lose nothing. How fast they are is for ./bench."""
    cpu = max(os.sched_getaffinity(0))
    facts = isolation.run(host.lab, candidates.Patchbay(host.lab, cpu), min(os.sched_getaffinity(0)), 2, 0.6)
    assert verdicts.judge_return(facts["flood"], facts["dropped"], isolation.room(1 << 20)) == [], facts["flood"]
    assert facts["flood"]["returns"] == [1024 + 16384] * 2 and facts["dropped"]["buffer_full"] > 0
    for phase in facts["stands_still"] + facts["runs"]:
        for load in ("full", "equal"):
            assert phase[load]["lost"] == phase[load]["reordered"] == 0 and phase[load]["received"] > 0, phase


def test_the_program_judges_patchbay_and_leaves_nothing(tmp_path):
    """All of it, as short as can be: front-ends and a QEMU guest."""
    name, results_file = f"t{os.getpid()}-buffers", tmp_path / "results.json"
    done = subprocess.run(
        ["/usr/bin/python3", "-m", "bench", "buffers", "--quick", "--only", "patchbay", "--rounds", "1", "--stall-s", "0.6",
         "--json", results_file], env=dict(os.environ, PYTHONPATH=TOOLS, PATCHBAY_LAB_NAME=name), capture_output=True, text=True,
        timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads(results_file.read_text())
    assert len(results["stalls"]) == 3 * 4 * 2 * 5 and len(results["guests"]["stalls"]) == 4 * 2 * 5
    assert not results["reasons"] and results["isolation"].keys() == {"patchbay"}
    for title in ("Verdict on Patchbay", "longest stall that cost no frame", "QEMU guests", "Others, beside a guest"):
        assert title in done.stdout
    assert not os.path.exists(directory(name))


@pytest.mark.parametrize("words, text", [
    (["--only", "testpmd"], "--only: testpmd: give names of patchbay, ovs"), (["--parts", "all"], "--parts: all: give names of"),
    (["--stall-s", "0"], "--stall-s: from 0.5 to 600")])
def test_the_program_refuses_what_it_does_not_know(words, text):
    done = subprocess.run(["/usr/bin/python3", "-m", "bench", "buffers", *words], env=dict(os.environ, PYTHONPATH=TOOLS),
                          capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2 and text in done.stderr, done.stderr
