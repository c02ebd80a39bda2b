"""The rows of the table: which setup, which frames. `quick` rows are those of ./bench --quick."""

from dataclasses import dataclass, field

from .candidates import Setup
from .uplinks import MIRROR

PIECE_BYTES = 66 + 45 * 1448  # headers and as many whole segments as Linux sends at once
PIECE = {"frame_bytes": PIECE_BYTES, "gso_size": 1448}
PIECE_BURST = 8  # half a megabyte
# Receive buffers of a page, as Linux offers them once large frames come; and no more buffers for sending than a socket
# may have on its way.
PIECE_SHAPE = {"offloads": True, "frame_bytes_max": PIECE_BYTES, "receive_bytes": 4096, "transmit_buffers": 64}

PAIR = Setup()
PACKED = Setup(shape={"layout": "packed"})
LEARNING = Setup(macs=50_000)
JUMBO = Setup(mtu=9000, shape={"frame_bytes_max": 9014, "receive_bytes": 4096})
PIECES = Setup(pieces=True, shape=PIECE_SHAPE)
UPLINK = Setup(vnics=1, uplink=True, shape={"mirror": MIRROR})
UPLINK_PIECES = Setup(vnics=1, uplink=True, pieces=True, shape={"mirror": MIRROR, **PIECE_SHAPE})
WORKERS = Setup(workers=2, shape={"queue_pairs": 2})
IDLE = Setup(vnics=64, shape={"frame_bytes_max": 256})


def many(vnics):
    return Setup(vnics=vnics, shape={"frame_bytes_max": 256})


@dataclass(frozen=True)
class Row:
    """VM to VM, both ways at once in each pair, or VM to uplink and back. Sizes are layer 2 bytes without FCS: 1514 is what
    MTU 1500 allows."""
    key: str
    title: str
    setup: Setup
    frames: dict = field(hash=False)  # frame_bytes, flows as in tests/performance/main.cpp
    quick: bool = False
    burst: int = 32  # frames that a vnic sends at once at equal load

    @property
    def table(self):
        """Which it stands in: their candidates differ."""
        return "uplink" if self.setup.uplink else "traffic"


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
    Row("tso", "64 KB pieces (TSO), 65226 B", PIECES, PIECE, True, PIECE_BURST),
    Row("vnics-16", "64 B, 16 vnics", many(16), {"frame_bytes": 64}, True),
    Row("vnics-64", "64 B, 64 vnics", many(64), {"frame_bytes": 64}),
    Row("workers-2", "64 B, 1,000 flows, 2 workers, 2 queue pairs", WORKERS, {"frame_bytes": 64, "flows": 1000}),
    Row("vnics-256", "64 B, 256 vnics", many(256), {"frame_bytes": 64}),
    Row("uplink-64", "64 B", UPLINK, {"frame_bytes": 64}),
    Row("uplink-1514", "1514 B (MTU 1500)", UPLINK, {"frame_bytes": 1514}),
    Row("uplink-tso", "64 KB pieces (TSO), 65226 B", UPLINK_PIECES, {**PIECE, "may_be_cut": True}, burst=PIECE_BURST),
)
TABLES = ("traffic", "uplink")
# What else --rows may ask for: latency is measured beside the row 64.
OTHERS = ("latency", "tcp")
KEYS = (*(row.key for row in TRAFFIC), *OTHERS)


def groups_of(table, quick, keys=()):
    """[(setup, its rows)], in the order of the table; only the rows `keys`, if there are any."""
    if "latency" in keys:
        keys = {*keys, "64"}
    groups = []
    for row in TRAFFIC:
        if row.table != table:
            continue
        if row.key not in keys if keys else quick and not row.quick:
            continue
        if not groups or groups[-1][0] is not row.setup:
            groups.append((row.setup, []))
        groups[-1][1].append(row)
    return groups
