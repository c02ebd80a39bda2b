"""From results of ./bench vmq to tables, and to the chart."""

import os

from .report import machine_line, median, spread, table
from .vmq import SIZES


class VmqReport:
    def __init__(self, results):
        self.results = results
        self.titles = {name: facts["title"] for name, facts in results["candidates"].items()}

    def text(self):
        parts = [self.machine(), self.cost(), self.neighbour(), self.not_run()]
        return "\n\n".join(part for part in parts if part)

    def machine(self):
        lines = [f"{machine_line(self.results)}."]
        lines += [f"- {facts['title']}: {facts['configuration']}" for facts in self.results["candidates"].values()]
        return "\n".join(lines)

    def runs(self, part, **wanted):
        return [run for run in self.results[part] if all(run[key] == value for key, value in wanted.items())]

    def cost(self):
        rows = []
        for size in SIZES:
            shared = [run["cycles_per_frame"] for run in self.runs("cost", frame_bytes=size, candidate="shared")]
            for name, title in self.titles.items():
                runs = self.runs("cost", frame_bytes=size, candidate=name)
                if runs and shared:
                    cycles = [run["cycles_per_frame"] for run in runs]
                    rows.append([str(size), title, spread([run["frames_per_s"] / 1e3 for run in runs]), spread(cycles),
                                 f"**{median(cycles) / median(shared):.2f}**"])
        if not rows:
            return ""
        return ("**Cycles a frame**, four vnics to the wire and back, as fast as it goes; busy cycles of the worker, in which the "
                "kernel's part of the veth pair is; median (least–most).\n\n"
                + table(["bytes", "queues", "k frames/s", "cycles a frame", "to one ring"], rows))

    def neighbour(self):
        rows = []
        for name, title in self.titles.items():
            for busy in (False, True):
                runs = self.runs("neighbour", candidate=name, busy=busy)
                if runs:
                    rows.append([title, f"{median([run['flood_per_s'] for run in runs]) / 1e3:,.0f} k frames/s" if busy else "none",
                                 spread([100 * run["lost"] / max(1, run["sent"]) for run in runs], digits=2),
                                 spread([run["latency_ns"]["p50"] / 1e3 for run in runs]),
                                 spread([run["latency_ns"]["p99"] / 1e3 for run in runs])])
        if not rows:
            return ""
        return ("**A quiet vnic beside a busy one**: two vnics send 2,000 frames/s each to the wire and back, while the wire floods "
                "a host vnic of the same switch; median (least–most).\n\n"
                + table(["queues", "for the busy one", "of the quiet ones lost, %", "p50, µs", "p99, µs"], rows))

    def not_run(self):
        if not self.results["reasons"]:
            return ""
        return "**Not run**\n\n" + "\n".join(f"- {what}: {reason}" for what, reason in self.results["reasons"])

    def charts(self, folder):
        """PNG files in `folder`: {file name: what it shows}."""
        names = [name for name in self.titles if self.runs("neighbour", candidate=name, busy=True)]
        if not names:
            return {}
        import matplotlib
        matplotlib.use("Agg")
        from matplotlib import pyplot

        figure, axes = pyplot.subplots(1, 2, figsize=(9, 2.8), layout="constrained")
        for place, label, of in ((axes[0], "quiet vnics' frames lost, %", lambda run: 100 * run["lost"] / max(1, run["sent"])),
                                 (axes[1], "p99 latency of quiet vnics, µs", lambda run: run["latency_ns"]["p99"] / 1e3)):
            for number, busy in enumerate((False, True)):
                values = [median([of(run) for run in self.runs("neighbour", candidate=name, busy=busy)] or [0]) for name in names]
                place.barh([at + 0.4 * number for at in range(len(names))], values, 0.38,
                           label="beside a busy one" if busy else "alone")
            place.set_xlabel(label)
            place.set_yticks([at + 0.2 for at in range(len(names))], [self.titles[name] for name in names], fontsize=8)
        axes[1].set_xscale("log")
        axes[0].legend(fontsize=8)
        os.makedirs(folder, exist_ok=True)
        figure.savefig(os.path.join(folder, "vmq.png"), dpi=100, metadata={"Software": None})
        pyplot.close(figure)
        return {"vmq.png": "What a busy vnic does to quiet ones, with and without queues of their own"}
