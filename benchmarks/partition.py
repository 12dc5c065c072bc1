"""What happens when a swarm is cut in two and joined again? `python -m benchmarks.partition`.

Digits in network namespaces, in slots of 5 s with a cut every two. The network is cut into halves: for a short time, in
which neither half can settle anything alone, so that all that both do is added up; and for a long time, in which each
settles a history of its own, of which one remains. Then it is healed, and nobody stops training meanwhile.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from statistics import fmean, median
from typing import Any

from benchmarks import runs
from benchmarks.report import Report, arguments
from benchmarks.seeded import SEEDS, Slow, spec
from netsim.daemons import Swarm, Unreachable
from netsim.namespaces import Lab

ALPHA = 0.3
SLOT = Slow.slot_seconds
BEFORE, AFTER = 12, 12  # slots of training before the cut and after the healing
SHORT, LONG = 5, 18  # slots; a side settles alone once the others' updates are older than the window of 3 x 2 slots
FALL = 10  # slots after the healing in which a fall of the accuracy is looked for
LOOK = 0.25  # seconds
PATIENCE = 180.0  # seconds that all may take to be equal, and to agree on a settled cut

Looks = dict[str, dict[str, Any]]


class Parting:
    """A swarm that trains, is cut in two, and is healed; what it looks like from outside meanwhile."""

    def __init__(self, swarm: Swarm, lab: Lab) -> None:
        self._swarm = swarm
        self._lab = lab
        self._healed = 0.0
        self._courses: dict[str, list[tuple[float, float]]] = {name: [] for name in lab.nodes}  # (moment, accuracy)
        half = len(lab.nodes) // 2
        self.sides = lab.nodes[:half], lab.nodes[half:]

    def train(self, seconds: float, until: Callable[[Looks], bool] = lambda looks: False) -> float:
        """Let them train for so long, or until something is seen; returns how long it was."""
        began = time.monotonic()
        while (passed := time.monotonic() - began) < seconds:
            try:
                looks = {node.name: node.status() for node in self._swarm.running}
                if until(looks):
                    break
            except Unreachable:
                continue
            for name, status in looks.items():
                self._courses[name].append((time.monotonic(), status["trainer"]["accuracy_averaged"] or 0.0))
            time.sleep(LOOK)
        return passed

    def cut(self, seconds: float) -> tuple[int, bool]:
        """Cut the network for so long; how many connections still seem to lead across by then, and whether each half
        has settled a history of its own."""
        self._lab.cut(*self.sides[1])
        self.train(seconds)
        looks = {node.name: node.status() for node in self._swarm.nodes}
        one, other = ({_settled(looks[name]) for name in side} for side in self.sides)
        return sum(self._meetings(looks)), not one & other

    def heal(self) -> dict[str, float]:
        """Heal the network; seconds from then until the halves met, all are connected, and all hold the same."""
        self._lab.heal()
        self._healed = time.monotonic()
        moments = dict.fromkeys(("met", "all met", "equal"), float("nan"))

        def seen(what: str) -> None:
            if moments[what] != moments[what]:
                moments[what] = time.monotonic() - self._healed

        def look(looks: Looks) -> bool:
            met = self._meetings(looks)
            if any(met):
                seen("met")
                if _equal(looks):
                    seen("equal")
            if all(met):
                seen("all met")
            return not any(value != value for value in moments.values())

        self.train(PATIENCE, look)
        return moments

    def agree(self) -> bool:
        """Train on for a while; whether all come to hold one and the same settled cut, of after the healing."""
        healed = int(time.time() / SLOT) // Slow.rules.cut_slots
        self.train(AFTER * SLOT)
        return self.train(PATIENCE, lambda looks: _agreed(looks, healed)) < PATIENCE

    def falls(self) -> list[float]:
        """By how many points the accuracy of each node's running average fell within some slots after the healing."""
        return [100 * (self._at(course) - min(self._after(course))) for course in self._courses.values()]

    def accuracy(self) -> float:
        """Of the running average at the healing, in %, mean over the nodes."""
        return 100 * fmean(self._at(course) for course in self._courses.values())

    def _at(self, course: list[tuple[float, float]]) -> float:
        return [accuracy for moment, accuracy in course if moment <= self._healed][-1]

    def _after(self, course: list[tuple[float, float]]) -> list[float]:
        return [accuracy for moment, accuracy in course if 0 < moment - self._healed <= FALL * SLOT]

    def _meetings(self, looks: Looks) -> list[bool]:
        """For each pair of nodes of different halves, whether the first is connected to the second."""
        names = {looks[name]["peer"]: name for name in looks}
        connected = {(n.name, names.get(p["peer"])) for n in self._swarm.running for p in n.peers() if p["connected"]}
        return [pair in connected for pair in product(*self.sides)]


def part(seed: int, nodes: int, slots: int) -> dict[str, Any]:
    """One run with a cut of so many slots, as a row of the table."""
    with tempfile.TemporaryDirectory() as directory, Lab(nodes) as lab, Swarm(Path(directory), lab) as swarm:
        for shard, host in enumerate(lab.nodes, 1):
            split = ("--shard", f"{shard}/{nodes}", "--skew", str(ALPHA), "--seed", str(seed), "--torch-threads", "1")
            swarm.start("--topic", "benchmark", "--task", spec("slow", seed), *split, "--paused", host=host)
        swarm.wait_together(runs.START)
        swarm.resume()
        parting = Parting(swarm, lab)
        parting.train(BEFORE * SLOT)
        left, apart = parting.cut(slots * SLOT)
        moments = parting.heal()
        agreed = parting.agree()
        summaries = swarm.finish(runs.SETTLE)
        over = [any("had parted" in message["text"] for message in summary["messages"]) for summary in summaries]
        half = nodes // 2
        return {
            "seed": seed,
            "cut s": slots * SLOT,
            "links left": left,
            "apart": apart,
            **{f"{what} s": seconds for what, seconds in moments.items()},
            "over": f"{sum(over[:half])}+{sum(over[half:])}",
            "one": agreed and _equal(dict(zip(lab.nodes, summaries, strict=True))),
            "lost": sum(summaries[0]["ledger"]["vector"].values()) - summaries[0]["ledger"]["updates"],
            "healed %": parting.accuracy(),
            "end %": 100 * fmean(summary["trainer"]["accuracy_averaged"] for summary in summaries),
            "fell %": max(parting.falls()),
        }


def _settled(status: dict[str, Any]) -> tuple[int, str] | None:
    cut = status["cuts"]["settled"]
    return (cut["index"], cut["cid"]) if cut else None


def _equal(looks: Looks) -> bool:
    """Whether all hold the same updates, and have the same weights to the bit."""
    ledgers = {status["ledger"]["vector_digest"] for status in looks.values()}
    return len(ledgers) == 1 and len({status["trainer"]["digest"] for status in looks.values()}) == 1


def _agreed(looks: Looks, above: int) -> bool:
    cuts = {_settled(status) for status in looks.values()}
    return len(cuts) == 1 and all(cut is not None and cut[0] > above for cut in cuts)


def main(given: Sequence[str] | None = None) -> int:
    """Run, print, compare with the targets."""
    options = arguments(__doc__ or "", given)
    if reason := runs.needs_lab():
        print(reason, file=sys.stderr)
        return 2
    report = Report("partition", options)
    nodes, seeds = (4, SEEDS[:1]) if options.quick else (8, SEEDS)
    half = nodes // 2
    for kind, slots in (("short", SHORT), ("long", LONG)):
        rows = [part(seed, nodes, slots) for seed in seeds]
        report.table(f"{nodes} daemons, cut into {half}+{half} for a {kind} time", rows)
        healed = median(row["equal s"] / SLOT for row in rows)
        met = median((row["equal s"] - row["met s"]) / SLOT for row in rows)
        report.target(f"{kind}: slots from the healing until all are equal", healed, "at most", 2)
        report.target(f"{kind}: slots from the halves' first connection until all are equal", met, "at most", 2)
        wanted = ("0+0",) if kind == "short" else (f"{half}+0", f"0+{half}")
        right = sum(r["one"] and r["over"] in wanted and r["apart"] == (kind == "long") for r in rows)
        report.target(f"{kind}: runs with one history at the end, as it should be", right, "at least", len(rows))
        report.target(f"{kind}: worst fall of a node's accuracy", max(r["fell %"] for r in rows), "at most", 10, "%")
        if kind == "short":
            report.target("short: updates that do not count in the end", sum(r["lost"] for r in rows), "at most", 0)
    return report.close()


if __name__ == "__main__":
    sys.exit(main())
