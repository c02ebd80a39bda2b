"""From results of ./bench teams to tables, and to the chart."""

import os

from .report import machine_line, median, spread, table
from .teams import DIRECTIONS, EVENTS, FLOWS, SHAPED

EVENT_TITLES = {"carrier": "carrier lost", "silence": "up, but silent", "removal": "taken out of the team"}
DIRECTION_TITLES = {"out": "VM to wire", "in": "wire to VM"}


class TeamsReport:
    def __init__(self, results):
        self.results = results
        self.titles = {name: facts["title"] for name, facts in results["candidates"].items()}

    def text(self):
        parts = [self.machine(), self.failover(), self.throughput(), self.overload(), self.not_run()]
        return "\n\n".join(part for part in parts if part)

    def machine(self):
        lines = [f"{machine_line(self.results)}."]
        lines += [f"- {facts['title']}: {facts['version']}; {facts['configuration']}"
                  for facts in self.results["candidates"].values()]
        return "\n".join(lines)

    def runs(self, part, **wanted):
        return [run for run in self.results[part] if all(run[key] == value for key, value in wanted.items())]

    def failover(self):
        rows = []
        for event in EVENTS:
            for direction in DIRECTIONS:
                for name, title in self.titles.items():
                    runs = self.runs("failover", event=event, direction=direction, candidate=name)
                    if runs:
                        rows.append([EVENT_TITLES[event], DIRECTION_TITLES[direction], title]
                                    + [spread([run[what] for run in runs], digits=digits)
                                       for what, digits in (("lost", 0), ("gap_ms", 1), ("gap_before_ms", 1),
                                                            ("reordered", 0), ("doubled", 0))])
        if not rows:
            return ""
        rate = median([run["frames_per_s"] for run in self.results["failover"]])
        return (f"**One of two members lost**, under {rate:,.0f} numbered frames/s in {FLOWS} flows; median (least–most). A gap is the "
                f"longest time without a frame of any one flow, of which each has one every {1000 * FLOWS / rate:.1f} ms; "
                "before: in the second before it happens.\n\n"
                + table(["what happens", "direction", "candidate", "lost", "longest gap, ms", "before", "out of order",
                         "twice"], rows))

    def throughput(self):
        rows = []
        for name, title in self.titles.items():
            one, two = ([run["mbits"] for run in self.runs("throughput", candidate=name, members=members)]
                        for members in (1, 2))
            if one and two:
                rows.append([title, spread(one), spread(two), f"**{median(two) / median(one):.2f}**"])
        if not rows:
            return ""
        return (f"**Throughput**: eight TCP streams from VM to wire, each cable held to {SHAPED[:-4]} Mbit/s; Mbit/s.\n\n"
                + table(["candidate", "one member", "two members", "ratio"], rows))

    def overload(self):
        rows = []
        for name, title in self.titles.items():
            runs = self.runs("overload", candidate=name)
            if runs:
                rows.append([title, f"{runs[0]['seconds']:g} s", str(sum(run["flaps"] for run in runs)),
                             spread([run["longest_pause_s"] for run in runs], digits=2)])
        if not rows:
            return ""
        return ("**LACP while the uplink is full** of UDP. A partner with the fast timer gives up after 3 s of silence.\n\n"
                + table(["candidate", "each run", "times out of the aggregate", "longest pause between LACPDUs, s"], rows))

    def not_run(self):
        if not self.results["reasons"]:
            return ""
        return "**Not run**\n\n" + "\n".join(f"- {what}: {reason}" for what, reason in self.results["reasons"])

    def charts(self, folder):
        """PNG files in `folder`: {file name: what it shows}."""
        if not self.results["failover"]:
            return {}
        import matplotlib
        matplotlib.use("Agg")
        from matplotlib import pyplot

        figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
        cases = [(event, direction) for event in EVENTS for direction in DIRECTIONS]
        for place, what, label in ((axes[0], "lost", "frames lost"), (axes[1], "gap_ms", "longest gap, ms")):
            for number, (name, title) in enumerate(self.titles.items()):
                values = [median([run[what] for run in self.runs("failover", event=event, direction=direction,
                                                                 candidate=name)] or [0]) for event, direction in cases]
                place.bar([at + 0.4 * number for at in range(len(cases))], values, 0.38, label=title)
            place.set_yscale("symlog", linthresh=1)
            place.set_ylabel(label)
            place.set_xticks([at + 0.2 for at in range(len(cases))],
                             [f"{EVENT_TITLES[event]}\n{DIRECTION_TITLES[direction]}" for event, direction in cases],
                             rotation=45, ha="right", fontsize=7)
        axes[0].legend(fontsize=8)
        os.makedirs(folder, exist_ok=True)
        figure.savefig(os.path.join(folder, "teams.png"), dpi=100, metadata={"Software": None})
        pyplot.close(figure)
        return {"teams.png": "What the loss of one of two members costs"}
