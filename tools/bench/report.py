"""From results to what people read: medians, spread and ratios as Markdown tables, and charts.

A ratio is how many times as many cycles a candidate needs as Patchbay: above 1, Patchbay is ahead.
"""

import os
import re
import statistics

BEGIN, END = "<!-- bench: begin -->", "<!-- bench: end -->"


def median(values):
    return statistics.median(values) if values else None


def spread(values, scale=1.0, digits=0):
    """"median (least-most)" of scaled values; a dash if there are none."""
    if not values:
        return "–"
    low, middle, high = (f"{value * scale:.{digits}f}" for value in (min(values), median(values), max(values)))
    return middle if len(values) == 1 else f"{middle} ({low}–{high})"


def values_of(runs, field):
    return [run[field] for run in runs]


def table(header, rows):
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


class Report:
    def __init__(self, results):
        self.results = results
        self.names = list(results["candidates"])
        self.titles = {name: facts["title"] for name, facts in results["candidates"].items()}
        self.peers = [name for name in self.names if name != "patchbay"]
        self.reasons = []  # (row, candidate, reason)

    def text(self):
        parts = [self.machine(), self.cycles(), self.throughput(), self.latency(), self.zero_loss(), self.sleep(),
                 self.attach(), self.control(), self.not_run()]
        return "\n\n".join(part for part in parts if part)

    def machine(self):
        facts = self.results["machine"]
        lines = [f"{facts['cpu']}, {facts['cpus']} CPUs{' of a virtual machine' if facts['virtual'] else ''}, "
                 f"{facts['memory_mb'] // 1024} GB, Linux {facts['kernel']}, {facts['system']}; "
                 f"{self.results['started']}, {self.results['rounds']} rounds, load average at the start "
                 f"{self.results['load_average']:.1f}. Threads waited {self.results['waited_median'] * 100:.0f} % of "
                 "their time for a CPU that others had (median)."]
        lines += [f"- {facts['title']}: {facts['version']}; {facts['configuration']}"
                  for facts in self.results["candidates"].values()]
        return "\n".join(lines)

    # ---- Tables -----------------------------------------------------------------------------------------------------

    def _runs(self, key, candidate, kind):
        return self.results["traffic"][key]["runs"].get(candidate, {}).get(kind, [])

    def _note_reason(self, key, candidate):
        reason = self.results["traffic"][key]["reasons"].get(candidate)
        if not reason:
            return
        done, rounds = len(self._runs(key, candidate, "equal")), self.results["rounds"]
        if done:
            reason = f"not in {rounds - done} of {rounds} rounds: {reason}"
        self.reasons.append((self.results["traffic"][key]["title"], self.titles[candidate], reason))

    def ratio(self, key, peer):
        """Median cycles of `peer` over those of Patchbay at equal load; None if either is missing."""
        ours, theirs = (median(values_of(self._runs(key, name, "equal"), "cycles_per_frame"))
                        for name in ("patchbay", peer))
        return theirs / ours if ours and theirs else None

    def cycles(self):
        header = ["VM to VM", "offered, frames/s"] + [self.titles[name] for name in self.names] + \
                 [f"{self.titles[name]} / Patchbay" for name in self.peers]
        rows = []
        for key, row in self.results["traffic"].items():
            cells = [row["title"], f"{row['offered_frames_per_s'] / 1e6:.2f} M" if row["offered_frames_per_s"] else "–"]
            for name in self.names:
                self._note_reason(key, name)
                cells.append(spread(values_of(self._runs(key, name, "equal"), "cycles_per_frame")))
            ratios = [self.ratio(key, peer) for peer in self.peers]
            rows.append(cells + [f"**{ratio:.2f}**" if ratio else "–" for ratio in ratios])
        return (f"**Busy TSC cycles per delivered frame at equal offered load**, {self.results['burst']} frames of a "
                "vnic at once: median (least–most).\n\n" + table(header, rows))

    def throughput(self):
        header = ["VM to VM, as fast as it goes"] + [f"{self.titles[name]}, M frames/s" for name in self.names] + \
                 [f"{self.titles[name]}, cycles/frame" for name in self.names]
        rows = []
        for key, row in self.results["traffic"].items():
            runs = [self._runs(key, name, "full") for name in self.names]
            rows.append([row["title"]] + [spread(values_of(some, "frames_per_s"), 1e-6, 2) for some in runs]
                        + [spread(values_of(some, "cycles_per_frame")) for some in runs])
        return "**Full load** (closed loop, nothing is lost): median (least–most).\n\n" + table(header, rows)

    def latency(self):
        rows = []
        for load, facts in self.results.get("latency", {}).items():
            for name, runs in facts["runs"].items():
                quantiles = [median([run["latency_ns"][field] for run in runs]) / 1000
                             for field in ("p50", "p99", "p999")]
                rows.append([f"{load} %, {facts['offered_frames_per_s'] / 1e6:.2f} M frames/s", self.titles[name]]
                            + [f"{value:.1f}" for value in quantiles])
        if not rows:
            return ""
        return ("**Latency VM to VM, 64 B**, µs, medians over the rounds. Load is a share of what the slowest "
                "candidate takes; each frame is sent by itself.\n\n" + table(["load", "candidate", "p50", "p99", "p99.9"], rows))

    def zero_loss(self):
        facts = self.results.get("zero_loss")
        if not facts:
            return ""
        rows = [[self.titles[name], spread(values_of(runs, "frames_per_s"), 1e-6, 2)] for name, runs in facts.items()]
        return ("**Highest rate without loss** (RFC 2544), VM to VM, 64 B, M frames/s.\n\n"
                + table(["candidate", "median (least–most)"], rows))

    def sleep(self):
        rows = []
        for name, runs in self.results.get("wake", {}).items():
            title = "eventfd to epoll, no switch" if name == "bare" else self.titles[name]
            asleep = median([run.get("asleep", run["count"]) / run["count"] for run in runs])
            rows.append([title, f"{asleep * 100:.0f} %"]
                        + [f"{median(values_of(runs, field)) / 1000:.1f}" for field in ("p50", "p99", "p999")])
        text = ""
        if rows:
            text = ("**One frame after a silence**, µs. What polls is always awake and pays with its core (next "
                    "table).\n\n" + table(["candidate", "found asleep", "p50", "p99", "p99.9"], rows))
        rows = []
        for name, facts in self.results.get("idle", {}).items():
            if "reason" in facts:
                self.reasons.append(("idle, 64 vnics", self._title(name), facts["reason"]))
                continue
            rows.append([self._title(name), str(facts["vnics"]), f"{facts['cpus'] * 100:.1f} %",
                         f"{facts['switches_per_s']:.0f}", f"{facts['memory_mb']:.0f}"])
        if rows:
            text += ("\n\n**Nobody sends**: CPU of the whole process, and its memory without the guests'.\n\n"
                     + table(["candidate", "vnics attached", "CPU", "context switches a second", "memory, MB"], rows))
        return text

    def _title(self, name):
        return self.titles.get(name) or self.results["idle"][name]["title"]

    def attach(self):
        rows = [[str(vnics)] + [spread(times.get(name, []), digits=1) for name in self.names]
                for vnics, times in self.results["attach"].items()]
        return ("**From nothing to all vnics attached**, seconds, with the making of the guests' memory: median "
                "(least–most).\n\n" + table(["vnics"] + [self.titles[name] for name in self.names], rows))

    def control(self):
        facts = self.results.get("control")
        if not facts:
            return ""
        rows = [[f"{facts['vnics']} vnics applied in one transaction", f"{facts['apply_s']:.2f} s"],
                ["all guests of them connected, one after another", f"{facts['connect_s']:.2f} s"],
                ["daemon started again with them", f"{facts['restart_s']:.2f} s"],
                ["daemon started empty", f"{facts['start_s']:.2f} s"],
                ["memory with all connected, then idle", f"{facts['memory_mb']:.0f} MB"]]
        return "**Control plane of Patchbay**\n\n" + table(["what", "took"], rows)

    def not_run(self):
        if not self.reasons:
            return ""
        return "**Not run**\n\n" + "\n".join(f"- {row}, {name}: {reason}" for row, name, reason in
                                              dict.fromkeys(self.reasons))

    # ---- Charts -----------------------------------------------------------------------------------------------------

    def charts(self, folder):
        """PNG files in `folder`: {file name: what it shows}."""
        import matplotlib
        matplotlib.use("Agg")
        from matplotlib import pyplot

        os.makedirs(folder, exist_ok=True)
        shown = {
            "cycles.png": ("Busy TSC cycles per delivered frame, equal offered load", "equal", "cycles_per_frame", 1.0),
            "throughput.png": ("Full load, million frames a second", "full", "frames_per_s", 1e-6)}
        keys = list(self.results["traffic"])
        width = 0.8 / len(self.names)
        for file, (title, kind, field, scale) in shown.items():
            figure, axes = pyplot.subplots(figsize=(9, 0.6 * len(keys) + 1.5))
            for place, name in enumerate(self.names):
                values = [[value * scale for value in values_of(self._runs(key, name, kind), field)] for key in keys]
                middles = [median(list_) or 0 for list_ in values]
                errors = [[m - min(v) if v else 0 for m, v in zip(middles, values)],
                          [max(v) - m if v else 0 for m, v in zip(middles, values)]]
                positions = [row + place * width for row in range(len(keys))]
                axes.barh(positions, middles, width, xerr=errors, label=self.titles[name], error_kw={"elinewidth": 0.8})
            axes.set_yticks([row + width * (len(self.names) - 1) / 2 for row in range(len(keys))],
                            [self.results["traffic"][key]["title"] for key in keys])
            axes.set_xscale("log")  # rows differ by far more than candidates
            axes.invert_yaxis()
            axes.set_title(title)
            axes.legend()
            figure.tight_layout()
            figure.savefig(os.path.join(folder, file), dpi=100, metadata={"Software": None})
            pyplot.close(figure)
        return {file: title for file, (title, *_) in shown.items()}


def put_into(path, text):
    """Replaces what stands between the two marks in the file."""
    with open(path, encoding="utf-8") as file:
        page = file.read()
    begin, end = page.index(BEGIN) + len(BEGIN), page.index(END)
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"{page[:begin]}\n\n{text}\n\n{page[end:]}")


def plain(markdown):
    """The same for a terminal: columns padded, no marks."""
    lines, block = [], []
    for line in markdown.splitlines() + [""]:
        if line.startswith("|"):
            block.append([cell.strip().replace("**", "") for cell in line.strip("|").split("|")])
            continue
        if block:
            rows = [row for row in block if not all(re.fullmatch("-+", cell) for cell in row)]
            widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
            lines += ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
            block = []
        lines.append(line.replace("**", ""))
    return "\n".join(lines).rstrip()
