"""From results to what people read: medians, spread and ratios as Markdown tables, and charts.

A ratio is how many times as many cycles a candidate needs as Patchbay: above 1, Patchbay is ahead.
"""

import os
import re
import statistics

from .tcp import PATHS

MARK = "bench"  # <!-- bench: begin --> … <!-- bench: end --> in a page


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


def _frames_per_s(value):
    return f"{value / 1e6:.2f} M" if value >= 1e5 else f"{value / 1e3:.1f} k"


def table(header, rows):
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def machine_line(results):
    facts = results["machine"]
    return (f"{facts['cpu']}, {facts['cpus']} CPUs{' of a virtual machine' if facts['virtual'] else ''}, "
            f"{facts['memory_mb'] // 1024} GB, Linux {facts['kernel']}, {facts['system']}; {results['started']}, "
            f"{results['rounds']} rounds, load average at the start {results['load_average']:.1f}")


# The tables of frames: {key in the results: (heading of the first column, the candidate that others are set against)}.
TABLES = {"traffic": ("VM to VM", "patchbay"), "uplink": ("VM to uplink and back", "patchbay-packet")}


class Report:
    def __init__(self, results):
        self.results = results
        self.titles = {name: facts["title"] for name, facts in results["candidates"].items()}
        self.reasons = []  # (row, candidate, reason)

    def names(self, table="traffic"):
        """Candidates of a table."""
        return [name for name, facts in self.results["candidates"].items() if facts.get("table", "traffic") == table]

    def peers(self, table="traffic"):
        return [name for name in self.names(table) if name != TABLES[table][1]]

    def tables(self):
        return [table for table in TABLES if self.results.get(table)]

    def text(self):
        parts = [self.machine(), self.cycles(), self.throughput(), self.latency(), self.zero_loss(), self.tcp(),
                 self.sleep(), self.attach(), self.control(), self.not_run()]
        return "\n\n".join(part for part in parts if part)

    def machine(self):
        lines = [f"{machine_line(self.results)}. Threads waited {self.results['waited_median'] * 100:.0f} % of "
                 "their time for a CPU that others had (median)."]
        lines += [f"- {facts['title']}: {facts['version']}; {facts['configuration']}"
                  for facts in self.results["candidates"].values()]
        return "\n".join(lines)

    # ---- Tables -----------------------------------------------------------------------------------------------------

    def _runs(self, table, key, candidate, kind):
        return self.results[table][key]["runs"].get(candidate, {}).get(kind, [])

    def _note_reason(self, table, key, candidate):
        reason = self.results[table][key]["reasons"].get(candidate)
        if not reason:
            return
        done, rounds = len(self._runs(table, key, candidate, "equal")), self.results["rounds"]
        if done:
            reason = f"not in {rounds - done} of {rounds} rounds: {reason}"
        title = self.results[table][key]["title"]
        where = "" if table == "traffic" else f"{TABLES[table][0]}, "
        self.reasons.append((where + title, self.titles[candidate], reason))

    def ratio(self, key, peer, table="traffic"):
        """Median cycles of `peer` over those of Patchbay at equal load; None if either is missing."""
        ours, theirs = (median(values_of(self._runs(table, key, name, "equal"), "cycles_per_frame"))
                        for name in (TABLES[table][1], peer))
        return theirs / ours if ours and theirs else None

    def cycles(self):
        if not self.tables():
            return ""
        text = ("**Busy TSC cycles per delivered frame at equal offered load**, frames of a vnic sent in bursts: median "
                "(least–most).")
        return "\n\n".join([text, *(self._cycles(key) if key == "traffic" else self._long(key, "equal")
                                   for key in self.tables())])

    def _cycles(self, key_of_table):
        names, peers = self.names(key_of_table), self.peers(key_of_table)
        heading, ours = TABLES[key_of_table]
        header = [heading, "offered, frames/s, in bursts of"] + [self.titles[name] for name in names]
        if ours in names:
            header += [f"{self.titles[name]} / {self.titles[ours]}" for name in peers]
        rows = []
        for key, row in self.results[key_of_table].items():
            offered = row["offered_frames_per_s"]
            cells = [row["title"], f"{_frames_per_s(offered)}, {row['burst']}" if offered else "–"]
            for name in names:
                self._note_reason(key_of_table, key, name)
                cells.append(spread(values_of(self._runs(key_of_table, key, name, "equal"), "cycles_per_frame")))
            if ours in names:
                ratios = [self.ratio(key, peer, key_of_table) for peer in peers]
                cells += [f"**{ratio:.2f}**" if ratio else "–" for ratio in ratios]
            rows.append(cells)
        return table(header, rows)

    def _long(self, key_of_table, kind):
        """A line for each candidate of each row, where there are too many for columns."""
        heading, ours = TABLES[key_of_table]
        header = [heading, *(["offered, frames/s, in bursts of"] if kind == "equal" else []), "candidate", "M frames/s",
                  "cycles/frame", f"to {self.titles.get(ours, ours)}"]
        rows = []
        for key, row in self.results[key_of_table].items():
            base = median(values_of(self._runs(key_of_table, key, ours, kind), "cycles_per_frame"))
            for name in self.names(key_of_table):
                if kind == "equal":
                    self._note_reason(key_of_table, key, name)
                runs = self._runs(key_of_table, key, name, kind)
                if not runs:
                    continue
                cycles = values_of(runs, "cycles_per_frame")
                offered = [f"{_frames_per_s(row['offered_frames_per_s'])}, {row['burst']}"] if kind == "equal" else []
                rows.append([row["title"], *offered, self.titles[name],
                             spread(values_of(runs, "frames_per_s"), 1e-6, 4 if row["frames"].get("gso_size") else 2),
                             spread(cycles), f"**{median(cycles) / base:.2f}**" if base and name != ours else "–"])
        return table(header, rows)

    def throughput(self):
        if not self.tables():
            return ""
        text = "**Full load** (closed loop, nothing is lost): median (least–most)."
        return "\n\n".join([text, *(self._throughput(key) if key == "traffic" else self._long(key, "full")
                                   for key in self.tables())])

    def _throughput(self, key_of_table):
        names = self.names(key_of_table)
        header = [f"{TABLES[key_of_table][0]}, as fast as it goes"] + \
                 [f"{self.titles[name]}, M frames/s" for name in names] + \
                 [f"{self.titles[name]}, cycles/frame" for name in names]
        rows = []
        for key, row in self.results[key_of_table].items():
            runs = [self._runs(key_of_table, key, name, "full") for name in names]
            digits = 4 if row["frames"].get("gso_size") else 2
            rows.append([row["title"]] + [spread(values_of(some, "frames_per_s"), 1e-6, digits) for some in runs]
                        + [spread(values_of(some, "cycles_per_frame")) for some in runs])
        return table(header, rows)

    def tcp(self):
        facts = self.results.get("tcp")
        if not facts:
            return ""
        names, ours = self.names("tcp"), "patchbay-guests"
        peers = [name for name in names if name != ours] if ours in names else []
        for name, reason in facts["reasons"].items():
            self.reasons.append(("TCP of two guests", self.titles[name], reason))
        rows = []
        for path, (title, *_) in PATHS.items():
            rates = {name: facts["runs"].get(name, {}).get(path, []) for name in names}
            rows.append([title] + [spread(rates[name], 1e-9, 2) for name in names]
                        + [f"**{median(rates[ours]) / median(rates[name]):.2f}**" if rates[ours] and rates[name] else "–"
                           for name in peers])
        header = ["TCP, Gbit/s"] + [self.titles[name] for name in names] + \
                 [f"Patchbay / {self.titles[name]}" for name in peers]
        return (f"**TCP of two QEMU guests** ({facts['accelerator']}), iperf3: median (least–most). More is better.\n\n"
                + table(header, rows))

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
        names = self.names()
        rows = [[str(vnics)] + [spread(times.get(name, []), digits=1) for name in names]
                for vnics, times in self.results["attach"].items()]
        if not rows:
            return ""
        return ("**From nothing to all vnics attached**, seconds, with the making of the guests' memory: median "
                "(least–most).\n\n" + table(["vnics"] + [self.titles[name] for name in names], rows))

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
            "cycles": ("Busy TSC cycles per delivered frame, equal offered load", "equal", "cycles_per_frame", 1.0),
            "throughput": ("Full load, million frames a second", "full", "frames_per_s", 1e-6)}
        pictures = {}  # {file: (title, figure)}
        for key in self.tables():
            for file, (title, kind, field, scale) in shown.items():
                file = f"{file}.png" if key == "traffic" else f"{key}-{file}.png"
                title = f"{TABLES[key][0]}: {title[0].lower()}{title[1:]}" if key != "traffic" else title
                lines = {row["title"]: {name: [value * scale for value in
                                               values_of(self._runs(key, row_key, name, kind), field)]
                                        for name in self.names(key)}
                         for row_key, row in self.results[key].items()}
                pictures[file] = (title, self._bars(pyplot, self.names(key), lines))
                pictures[file][1].axes[0].set_xscale("log")  # rows differ by far more than candidates
        if self.results.get("tcp"):
            runs, names = self.results["tcp"]["runs"], self.names("tcp")
            lines = {title: {name: [value / 1e9 for value in runs.get(name, {}).get(path, [])] for name in names}
                     for path, (title, *_) in PATHS.items()}
            pictures["tcp.png"] = ("TCP of two QEMU guests, Gbit/s", self._bars(pyplot, names, lines))
        for file, (title, figure) in pictures.items():
            figure.axes[0].set_title(title)
            figure.tight_layout()
            figure.savefig(os.path.join(folder, file), dpi=100, metadata={"Software": None})
            pyplot.close(figure)
        return {file: title for file, (title, _) in pictures.items()}

    def _bars(self, pyplot, names, lines):
        """A figure with a group of bars, one a candidate, for each of `lines`: {title: {name: values}}."""
        width = 0.8 / len(names)
        figure, axes = pyplot.subplots(figsize=(9, (0.3 + 0.1 * len(names)) * len(lines) + 0.2 * len(names) + 1.5))
        for place, name in enumerate(names):
            values = [line[name] for line in lines.values()]
            middles = [median(list_) or 0 for list_ in values]
            errors = [[m - min(v) if v else 0 for m, v in zip(middles, values)],
                      [max(v) - m if v else 0 for m, v in zip(middles, values)]]
            positions = [row + place * width for row in range(len(lines))]
            axes.barh(positions, middles, width, xerr=errors, label=self.titles[name], error_kw={"elinewidth": 0.8})
        axes.set_yticks([row + width * (len(names) - 1) / 2 for row in range(len(lines))], list(lines))
        axes.invert_yaxis()
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=2)
        return figure


def put_into(path, text, mark=MARK):
    """Replaces what stands between the two marks in the file."""
    with open(path, encoding="utf-8") as file:
        page = file.read()
    first, last = f"<!-- {mark}: begin -->", f"<!-- {mark}: end -->"
    begin, end = page.index(first) + len(first), page.index(last)
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
