"""Draws target/bench/peers.json: rows per second and CPU time per row of each sink.

    .local-stack/peers/python/bin/python3 bench/peers/python/plot.py target/bench/peers.json docs/peers.svg
"""

import json
import sys

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams.update({"font.size": 9, "svg.fonttype": "none", "svg.hashsalt": "peers"})
import matplotlib.pyplot as plt  # noqa: E402

OURS, FLOOR, SAFE, UNSAFE = "#b7410e", "#8a8a8a", "#2f6690", "#a9c6dd"

source, target = sys.argv[1:]
with open(source) as file:
    sinks = {name: figures for name, figures in json.load(file).items() if isinstance(figures, dict)}
names = sorted(sinks, key=lambda name: sinks[name]["rows_per_second"])


def colour(name: str) -> str:
    if name == "kafka-consumer":
        return OURS
    if name.startswith("psql"):
        return FLOOR
    return UNSAFE if name.endswith("without a key") else SAFE


figure, (speed, cost) = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True)
colours = [colour(name) for name in names]
speeds = [sinks[name]["rows_per_second"] / 1e3 for name in names]
bars = speed.barh(names, speeds, color=colours)
speed.bar_label(bars, [f"{value:.0f}" for value in speeds], padding=3)
speed.set_xlabel("thousand rows per second")
speed.set_xlim(0, max(speeds) * 1.15)
sink = [sinks[name]["cpu_micros_per_row"] for name in names]
server = [sinks[name]["postgresql_cpu_micros_per_row"] for name in names]
cost.barh(names, sink, color=colours)
bars = cost.barh(names, server, left=sink, color=colours, alpha=0.45)
totals = [one + other for one, other in zip(sink, server)]
cost.bar_label(bars, [f"{value:.1f}" for value in totals], padding=3)
cost.set_xlabel("CPU µs per row: sink, and PostgreSQL (pale)")
cost.set_xlim(0, max(totals) * 1.15)
for axes in (speed, cost):
    axes.spines[["top", "right"]].set_visible(False)
figure.tight_layout()
figure.savefig(target, metadata={"Date": None})
