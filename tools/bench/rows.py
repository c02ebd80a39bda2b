"""The rows of the table: which setup, which frames. `quick` rows are those of ./bench --quick."""

from dataclasses import dataclass, field

from .candidates import Setup

PAIR = Setup()
PACKED = Setup(shape={"layout": "packed"})
LEARNING = Setup(macs=50_000)
JUMBO = Setup(mtu=9000, shape={"frame_bytes_max": 9014})
IDLE = Setup(vnics=64, shape={"frame_bytes_max": 256})


def many(vnics):
    return Setup(vnics=vnics, shape={"frame_bytes_max": 256})


@dataclass(frozen=True)
class Row:
    """VM to VM, both ways at once in each pair. Sizes are layer 2 bytes without FCS: 1514 is what MTU 1500 allows."""
    key: str
    title: str
    setup: Setup
    frames: dict = field(hash=False)  # frame_bytes, flows as in tests/performance/main.cpp
    quick: bool = False


TRAFFIC = (
    Row("64", "64 B", PAIR, {"frame_bytes": 64}, True),
    Row("256", "256 B", PAIR, {"frame_bytes": 256}),
    Row("1514", "1514 B (MTU 1500)", PAIR, {"frame_bytes": 1514}, True),
    Row("flows-1k", "64 B, 1,000 flows each way", PAIR, {"frame_bytes": 64, "flows": 1000}),
    Row("flows-100k", "64 B, 100,000 flows each way", PAIR, {"frame_bytes": 64, "flows": 100_000}, True),
    Row("flows-1m", "64 B, 1,000,000 flows each way", PAIR, {"frame_bytes": 64, "flows": 1_000_000}),
    Row("macs-100k", "64 B, 100,000 learned addresses", LEARNING, {"frame_bytes": 64, "macs": LEARNING.macs}),
    Row("packed-64", "64 B, packed rings", PACKED, {"frame_bytes": 64}),
    Row("9014", "9014 B (MTU 9000)", JUMBO, {"frame_bytes": 9014}, True),
    Row("vnics-16", "64 B, 16 vnics", many(16), {"frame_bytes": 64}, True),
    Row("vnics-64", "64 B, 64 vnics", many(64), {"frame_bytes": 64}),
    Row("vnics-256", "64 B, 256 vnics", many(256), {"frame_bytes": 64}),
)


def traffic(quick, keys=()):
    """[(setup, its rows)], in the order of the table; only the rows `keys`, if there are any."""
    groups = []
    for row in TRAFFIC:
        if row.key not in keys if keys else quick and not row.quick:
            continue
        if not groups or groups[-1][0] is not row.setup:
            groups.append((row.setup, []))
        groups[-1][1].append(row)
    return groups
