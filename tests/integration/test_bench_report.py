"""What ./bench makes of its results: medians, spread, ratios, reasons, a page and charts. The figures are made up."""

import pytest
from bench.report import Report, median, plain, put_into, spread


def runs(*cycles):
    return [{"cycles_per_frame": value, "frames_per_s": 1e6 * value, "waited": 0.0} for value in cycles]


@pytest.fixture
def results():
    def candidate(title):
        return {"title": title, "version": "1", "configuration": "as shipped"}
    return {
        "started": "2026-01-01 00:00 UTC", "quick": True, "rounds": 3, "load_average": 0.1, "waited_median": 0.0,
        "machine": {"cpu": "a CPU", "cpus": 2, "memory_mb": 4096, "kernel": "6.1", "system": "Debian",
                                 "virtual": False},
        "candidates": {"patchbay": candidate("Patchbay"), "ovs": candidate("Open vSwitch"),
                       "testpmd": candidate("testpmd")},
        "traffic": {
            "64": {"title": "64 B", "vnics": 2, "burst": 32, "frames": {}, "offered_frames_per_s": 2e6, "reasons": {"testpmd": "it hung up"},
                   "runs": {"patchbay": {"full": runs(60, 50, 70), "equal": runs(100, 90, 130)},
                            "ovs": {"full": runs(150), "equal": runs(180, 250, 200)},
                            "testpmd": {"full": runs(80), "equal": runs(50, 50)}}},
            "vnics-64": {"title": "64 vnics", "vnics": 64, "burst": 8, "frames": {}, "offered_frames_per_s": 1e6,
                         "reasons": {"testpmd": "room for 32 ports"},
                         "runs": {"patchbay": {"full": runs(60), "equal": runs(100)}}}},
        "attach": {2: {"patchbay": [0.5], "ovs": [2.0, 3.0]}}, "wake": {}, "idle": {}, "latency": {}}


@pytest.mark.parametrize("values, text", [([], "–"), ([5], "5"), ([1, 9, 4], "4 (1–9)"), ([1, 2], "2 (1–2)")])
def test_spread(values, text):
    assert spread(values) == text


def test_median_of_nothing_is_nothing():
    assert median([]) is None and median([3, 1, 2]) == 2


def test_a_ratio_says_how_much_more_a_peer_needs(results):
    report = Report(results)
    assert report.ratio("64", "ovs") == 2.0  # 200 to 100: medians, whatever the order of rounds
    assert report.ratio("64", "testpmd") == 0.5
    assert report.ratio("vnics-64", "testpmd") is None


def test_the_text_has_each_row_and_the_reason_for_what_is_missing(results):
    text = Report(results).text()
    assert "| 64 B | 2.00 M, 32 | 100 (90–130) | 200 (180–250) | 50 (50–50) | **2.00** | **0.50** |" in text
    assert "| 64 vnics | 1.00 M, 8 | 100 | – | – | – | – |" in text
    assert "- 64 vnics, testpmd: room for 32 ports" in text
    assert "- 64 B, testpmd: not in 1 of 3 rounds: it hung up" in text
    assert "| 2 | 0.5 | 2.5 (2.0–3.0) | – |" in text


def test_an_uplink_has_a_table_of_its_own_with_a_line_for_each_candidate(results):
    for name in ("patchbay-packet", "ovs-system"):
        results["candidates"][name] = {"table": "uplink", "title": name, "version": "1", "configuration": "as shipped"}
    results["uplink"] = {
        "uplink-tso": {"title": "pieces", "vnics": 1, "burst": 8, "frames": {"gso_size": 1448}, "offered_frames_per_s": 2e4,
                       "reasons": {"ovs-system": "not today"},
                       "runs": {"patchbay-packet": {"full": runs(7), "equal": runs(10)},
                                "ovs-system": {"full": runs(14), "equal": runs(40)}}}}
    report = Report(results)
    assert report.names() == ["patchbay", "ovs", "testpmd"] and report.ratio("uplink-tso", "ovs-system", "uplink") == 4
    text = report.text()
    assert "| pieces | 20.0 k, 8 | patchbay-packet | 10.0000 | 10 | – |" in text
    assert "| pieces | 20.0 k, 8 | ovs-system | 40.0000 | 40 | **4.00** |" in text
    assert "| pieces | ovs-system | 14.0000 | 14 | **2.00** |" in text
    assert "- VM to uplink and back, pieces, ovs-system: not in 2 of 3 rounds: not today" in text


def test_a_terminal_gets_columns(results):
    lines = plain(Report(results).cycles()).splitlines()
    header, row = (next(line for line in lines if line.startswith(word)) for word in ("VM to VM", "64 B"))
    assert header.index("Patchbay") == row.index("100 (90–130)")
    assert "|" not in header + row and "*" not in row


def test_a_page_keeps_what_stands_around_the_marks(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- bench: begin -->\nold\n<!-- bench: end -->\nafter\n")
    put_into(page, "new")
    put_into(page, "newer")
    assert page.read_text() == "before\n<!-- bench: begin -->\n\nnewer\n\n<!-- bench: end -->\nafter\n"


def test_charts_are_pictures(results, tmp_path):
    pytest.importorskip("matplotlib")
    results["candidates"]["p"] = {"table": "uplink", "title": "P", "version": "1", "configuration": "as shipped"}
    results["uplink"] = {"uplink-64": dict(results["traffic"]["64"], runs={"p": {"full": runs(7), "equal": runs(10)}})}
    results["candidates"]["patchbay-guests"] = {"table": "tcp", "title": "P", "version": "1", "configuration": "as shipped"}
    results["tcp"] = {"accelerator": "tcg", "runs": {"patchbay-guests": {"guests": [1e9, 3e9, 2e9]}}, "reasons": {}}
    assert "| guest to guest | 2.00 (1.00–3.00) |" in Report(results).tcp()
    charts = Report(results).charts(tmp_path)
    assert sorted(charts) == ["cycles.png", "tcp.png", "throughput.png", "uplink-cycles.png", "uplink-throughput.png"]
    for file in charts:
        assert (tmp_path / file).read_bytes().startswith(b"\x89PNG")
