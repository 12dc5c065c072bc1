"""Draws how training went: asks daemons on this PC for their history, and writes a picture.

    pip install 'learnae[sim]'
    python chart.py together=http://127.0.0.1:4118 alone=http://127.0.0.1:4119 --out chart.png

The address of a daemon's status endpoint is in its first lines, and in `learnae status --json`.
"""

import argparse
import json
import sys
import urllib.request
from pathlib import Path

try:
    from matplotlib.figure import Figure
except ModuleNotFoundError:
    sys.exit("charts need matplotlib, which is not installed: pip install 'learnae[sim]'")

options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
options.add_argument("nodes", nargs="+", metavar="NAME=URL", help="what to call a node, and its status endpoint")
options.add_argument("--out", type=Path, default=Path("chart.png"), help="the picture (default: %(default)s)")
chosen = options.parse_args()

histories = {}
for node in chosen.nodes:
    name, _, url = node.partition("=")
    try:
        with urllib.request.urlopen(f"{url}/api/history", timeout=10) as answer:
            rows = [row for row in json.load(answer)["rows"] if row["accuracy_averaged"] is not None]
    except (OSError, ValueError) as error:
        sys.exit(f"{node!r}: no daemon answers there ({error}); is it running, and is the address right?")
    if not rows:
        sys.exit(f"{name} has no figures yet: it notes them every five seconds; try again in a moment")
    histories[name] = rows

start = min(rows[0]["time"] for rows in histories.values())
figure = Figure(figsize=(7, 4), dpi=110, layout="constrained")
axes = figure.subplots()
for name, rows in histories.items():
    axes.plot([row["time"] - start for row in rows], [row["accuracy_averaged"] for row in rows], label=name)
axes.set(xlabel="seconds", ylabel="accuracy on held-out data", ylim=(0, 1.02))
axes.grid(alpha=0.3)
axes.legend(loc="lower right")
figure.savefig(chosen.out)
print(f"{chosen.out} is written")
