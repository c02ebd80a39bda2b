"""From results of ./bench buffers to tables, and to the heat map."""

import os

from .buffers import PEER, SETTINGS
from .report import machine_line, median, spread, table
from .verdicts import NONE, OPEN, SOME

KEEP = 0.95  # of their throughput that others are to keep


class BuffersReport:
    def __init__(self, results):
        self.results = results
        self.titles = {name: facts["title"] for name, facts in results["candidates"].items()}

    def columns(self, stalls):
        """Those that were measured: Patchbay's settings, then the peer."""
        measured = {stall["column"] for stall in stalls}
        return [column for column in (*SETTINGS, PEER) if column in measured]

    def title(self, column):
        return self.titles[PEER] if column == PEER else f"buffer {column}"

    def problems(self):
        """Whatever was seen that must not be, a line each."""
        lines = [f"{what}, {self.title(stall['column'])}, {stall['frame_bytes']} B, {stall['rate']:,.0f} frames/s, "
                 f"{stall['stall_ms']} ms: {text}"
                 for what, stalls in (("stall", self.results["stalls"]), ("guest", self.results["guests"].get("stalls", [])))
                 for stall in stalls for text in stall["wrong"]]
        return lines + [f"isolation, {self.titles[name]}: {text}" for name, facts in self.results["isolation"].items()
                        for text in facts["wrong"]]

    def text(self):
        parts = [self.machine(), self.verdict(), self.stalls(), self.guests(), self.isolation(), self.not_run()]
        return "\n\n".join(part for part in parts if part)

    def machine(self):
        times = "once" if self.results["repeats"] == 1 else f"{self.results['repeats']} times"
        lines = [f"{machine_line(self.results)}, each stall {times}."]
        lines += [f"- {facts['title']}: {facts['version']}; {facts['configuration']}"
                  for facts in self.results["candidates"].values()]
        return "\n".join(lines)

    # ---- Tables -----------------------------------------------------------------------------------------------------

    def verdict(self):
        judged = [stall for stall in self.results["stalls"] + self.results["guests"].get("stalls", []) if stall["expected"]]
        flood = self.results["isolation"].get("patchbay", {}).get("flood")
        if not judged and not flood:
            return ""
        text, problems = "**Verdict on Patchbay**: ", self.problems()
        if judged:
            none, some, either = (sum(stall["expected"] == kind for stall in judged) for kind in (NONE, SOME, OPEN))
            text += (f"of {len(judged):,} stalls, {none:,} left room for every frame, {some:,} did not, and in {either:,} the "
                     "counts do not say which. ")
        if flood:
            text += (f"A guest stood still {len(flood['returns'])} times under the load of three senders: of {flood['sent']:,} "
                     f"frames {flood['received']:,} came. ")
        if problems:
            return text + f"**{len(problems)} things are wrong**:\n\n" + "\n".join(f"- {line}" for line in problems)
        return text + ("Where there was room nothing was lost, where there was none something was, all came in order, and "
                       "Patchbay's counters equal what the ends saw, to the frame.")

    def stalls(self):
        stalls = self.results["stalls"]
        if not stalls:
            return ""
        return "\n\n".join([
            "**The longest stall that cost no frame**, of those tried. A dash: even the shortest did.",
            self._longest(stalls),
            "**All stalls together.** Beyond the stall: how much longer than the receiver stood still nothing came to it, "
            "median (least–most). Sent meanwhile: frames a second while it stood still, over what was asked for.",
            self._sums(stalls)])

    def _longest(self, stalls):
        columns = self.columns(stalls)
        sizes, rates = (sorted({stall[what] for stall in stalls}) for what in ("frame_bytes", "rate"))
        rows = []
        for size in sizes:
            for rate in rates:
                chosen = [stall for stall in stalls if (stall["frame_bytes"], stall["rate"]) == (size, rate)]
                if chosen:
                    rows.append([f"{size} B", f"{rate:,.0f}"] + [longest_without_loss(
                        [stall for stall in chosen if stall["column"] == column]) for column in columns])
        return table(["frames", "frames/s"] + [self.title(column) for column in columns], rows)

    def _sums(self, stalls):
        rows = []
        for column in self.columns(stalls):
            some = [stall for stall in stalls if stall["column"] == column]
            sums = [sum(stall[what] for stall in some) for what in ("sent", "lost", "reordered", "repeated")]
            stood = [stall for stall in some if stall["stall_ms"]]
            dropped = sum(frames for stall in some for frames in stall["dropped"].values())
            beyond = [stall["gap_ms"] - stall["stood_still_ms"] for stall in stood]
            held = [stall["offered_in_stall"] / (stall["rate"] * stall["stood_still_ms"] / 1000) for stall in stood]
            sums.insert(2, dropped)
            rows.append([self.title(column), str(len(some)), *(f"{value:,}" for value in sums), spread(beyond, digits=1),
                         spread(held, digits=2)])
        return table(["receiver", "stalls", "frames sent", "lost", "dropped, says the switch", "out of order", "twice",
                      "beyond the stall, ms", "sent meanwhile"], rows)

    def guests(self):
        facts = self.results["guests"]
        if not facts.get("stalls"):
            return ""
        lost = sum(stall["lost_in_guest"] for stall in facts["stalls"])
        return "\n\n".join([
            f"**QEMU guests** ({facts['qemu']}, {facts['accelerator']}) that are stopped. 0 ms: nothing was lost in a second "
            "in which it was not stopped. A dash: even then something was, for an emulated guest stands still by itself, too."
            + (f" {lost:,} frames were lost inside guests, and count for nobody." if lost else ""),
            self._longest(facts["stalls"]), self._sums(facts["stalls"])])

    def isolation(self):
        if not self.results["isolation"]:
            return ""
        rows = []
        for name, facts in self.results["isolation"].items():
            flood = facts["flood"]
            full, kept = (isolation_runs(facts, kind, "full", "frames_per_s") for kind in ("runs", "stands_still"))
            p99, p99_kept = (isolation_runs(facts, kind, "equal", "p99") for kind in ("runs", "stands_still"))
            share = median(kept) / median(full)
            rows.append([self.titles[name], spread(full, 1e-6, 2), spread(kept, 1e-6, 2), f"**{share:.2f}**",
                         spread(p99, 1e-3, 1), spread(p99_kept, 1e-3, 1), f"**{median(p99_kept) / median(p99):.2f}**",
                         ", ".join(f"{count:,}" for count in flood["returns"]), f"{flood['steps_back']:,}"])
        stall_s = next(iter(self.results["isolation"].values()))["stall_s"]
        return (f"**Others, beside a guest that stands still**, for {stall_s:g} s the first time and a third of that later, "
                "under all that three senders can send: two vnics that send to each other, 64 B, median (least–most). "
                f"They are to keep {KEEP * 100:.0f} %. Latency at half of their full load. First at its return: frames that "
                "came before the first one that had no room any more.\n\n"
                + table(["candidate", "it runs: M frames/s", "it stands still", "share", "it runs: p99, µs",
                         "it stands still", "ratio", "first at its return", "out of order"], rows))

    def not_run(self):
        if not self.results["reasons"]:
            return ""
        return "**Not run**\n\n" + "\n".join(f"- {what}: {reason}" for what, reason in self.results["reasons"])

    # ---- The chart --------------------------------------------------------------------------------------------------

    def charts(self, folder):
        """PNG files in `folder`: {file name: what it shows}."""
        stalls = self.results["stalls"]
        if not stalls:
            return {}
        import matplotlib
        matplotlib.use("Agg")
        from matplotlib import pyplot

        columns = self.columns(stalls)
        sizes, rates, times = (sorted({stall[what] for stall in stalls}) for what in ("frame_bytes", "rate", "stall_ms"))
        figure, grid = pyplot.subplots(len(sizes), len(columns), squeeze=False, sharex=True, sharey=True,
                                       figsize=(2.4 * len(columns) + 1.2, 1.9 * len(sizes) + 1.0), layout="constrained")
        for size, line in zip(sizes, grid):
            for column, axes in zip(columns, line):
                shares = [[_share_lost(stalls, column, size, rate, stall_ms) for stall_ms in times] for rate in rates]
                image = axes.imshow([[share or float("nan") for share in row] for row in shares], cmap="YlOrRd", vmin=0,
                                    vmax=100, aspect="auto", origin="lower")  # where nothing was lost it is white
                for y, row in enumerate(shares):
                    for x, share in enumerate(row):
                        axes.text(x, y, _short(share), ha="center", va="center", fontsize=7,
                                  color="white" if share > 60 else "black")
                axes.set_xticks(range(len(times)), [f"{stall_ms:g}" for stall_ms in times], fontsize=7)
                axes.set_yticks(range(len(rates)), [f"{rate / 1000:g} k" for rate in rates], fontsize=7)
            line[0].set_ylabel(f"{size} B\nframes/s", fontsize=8)
        for column, top, bottom in zip(columns, grid[0], grid[-1]):
            top.set_title(self.title(column), fontsize=9)
            bottom.set_xlabel("stall, ms", fontsize=8)
        figure.colorbar(image, ax=grid, label="% lost of what came in the stall", shrink=0.8)
        os.makedirs(folder, exist_ok=True)
        figure.savefig(os.path.join(folder, "buffers.png"), dpi=100, metadata={"Software": None})
        pyplot.close(figure)
        return {"buffers.png": "Frames lost, in per cent of what came while the receiver stood still"}


def longest_without_loss(stalls):
    """"50 ms": no stall up to that one cost a frame."""
    held = None
    for stall_ms in sorted({stall["stall_ms"] for stall in stalls}):
        if any(stall["lost"] for stall in stalls if stall["stall_ms"] == stall_ms):
            break
        held = stall_ms
    return "–" if held is None else f"{held:g} ms"


def isolation_runs(facts, kind, load, field):
    """Values of the rounds; `field` may be a quantile of the latency."""
    return [run[load][field] if field in run[load] else run[load]["latency_ns"][field] for run in facts[kind]]


def _share_lost(stalls, column, size, rate, stall_ms):
    shares = [100 * stall["lost"] / max(1, stall["offered_in_stall"]) for stall in stalls
              if (stall["column"], stall["frame_bytes"], stall["rate"], stall["stall_ms"]) == (column, size, rate, stall_ms)]
    return median(shares) or 0.0


def _short(share):
    """What stands in a field of the map: 0 only where nothing was lost."""
    if share == 0:
        return "0"
    return f"{share:.0f}" if share >= 1 else "<1"
