"""Sweeps: a scenario at each point of a grid of settings, with several seeds; used by `netsim sweep`.

Each run is kept in a file of its own. A sweep that is started again takes those that are there and fit, and makes the
rest.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from rich.table import Table

from learnae.codec import CodecSettings
from learnae.coordinator import Settings
from learnae.rules import Rules
from netsim import plots, report
from netsim import result as results
from netsim.errors import ResultError
from netsim.jobs import Job
from netsim.result import Result
from netsim.scenario import load, title

_MOST_NAME = 100
"""Characters of a file name that say which point it is."""

_TRAFFIC = {
    "bytes": "traffic of a node",
    "bytes_most": "traffic of the busiest node",
    "sent": "sent",
    "received": "received",
}


_OWN = {
    f"{table}.{field.name}": field.default
    for table, kind in (("codec", CodecSettings), ("rules", Rules), ("settings", Settings))
    for field in fields(kind)
}
"""What learnae has where the scenario says nothing."""


@dataclass(frozen=True, slots=True)
class Point:
    """One combination of values, by dotted key."""

    values: Mapping[str, Any]

    def __str__(self) -> str:
        return ",".join(f"{key}={value}" for key, value in self.values.items())


class Sweep:
    """What is to be run, and what has been.

    Args:
        name: of the scenario, or its path.
        over: the values of each setting, by dotted key.
        changes: to the scenario, at all points.
        small: sweep the small version.
        seeds: of the runs at each point.
        directory: of the runs' files.

    Raises:
        ScenarioError: a point is not possible.
    """

    def __init__(
        self,
        name: str,
        over: Mapping[str, Sequence[Any]],
        directory: Path,
        *,
        changes: Mapping[str, Any] | None = None,
        small: bool = False,
        seeds: Sequence[int] = (0,),
    ) -> None:
        self.over = over
        self.title = title(name)
        changes = dict(changes or {})
        self.default = report.settings(load(name, changes, small=small))
        self.points = [Point(dict(zip(over, values, strict=True))) for values in itertools.product(*over.values())]
        self.found: dict[tuple[str, int], Result] = {}
        self._jobs: dict[Path, tuple[Point, Job]] = {}
        for point in self.points:
            scenario = load(name, {**changes, **point.values}, small=small)
            for seed in seeds:
                self._jobs[directory / _file(self.title, point, seed)] = (
                    point,
                    Job(self.title, scenario, seed, words=str(point)),
                )

    def open(self) -> list[Job]:
        """Take the runs that are there; returns those that are not."""
        missing = []
        for path, (point, job) in self._jobs.items():
            with contextlib.suppress(ResultError):
                result = results.read(path)
                if report.settings(result.scenario) == report.settings(job.scenario):
                    self.found[str(point), job.seed] = result
                    continue
            missing.append(job)
        return missing

    def take(self, job: Job, result: Result) -> None:
        """Keep a run."""
        path, point = next((path, point) for path, (point, other) in self._jobs.items() if other is job)
        path.parent.mkdir(parents=True, exist_ok=True)
        results.write(result, path)
        self.found[str(point), job.seed] = result

    def at(self, point: Point) -> list[Result]:
        """The runs at a point, by seed."""
        return [result for (name, _), result in sorted(self.found.items()) if name == str(point)]

    def judged(self) -> tuple[str, ...]:
        """The figures that tell most: the accuracy (the loss where the workload has no accuracy) and the bytes."""
        accuracy = any(not math.isnan(result.summary.get("accuracy", math.nan)) for result in self.found.values())
        return ("accuracy" if accuracy else "loss", "bytes")

    def table(self, width: int | None = None) -> Table:
        """A row for each point, `width` cells wide at most."""
        return report.table({str(point): runs for point in self.points if (runs := self.at(point))}, self.title, width)

    def draw(self, path: Path, figures: Sequence[str] = ()) -> list[Path]:
        """Write the plot, over the first setting; there is a line for each combination of the other settings.

        Args:
            path: of the files, without a suffix.
            figures: of the summary, a panel for each; by default those of `judged`.

        Raises:
            ResultError: no run has such a figure.
        """
        first, *rest = self.over
        panels = {}
        for what in figures or self.judged():
            words, scale = self._axis(what)
            panels[words] = self._curves(first, rest, what, scale)
        return plots.sweep(panels, first, self.default.get(first, _OWN.get(first)), path)

    def _axis(self, what: str) -> tuple[str, float]:
        """Words for an axis, and what a figure is multiplied with there."""
        if not any(what in result.summary for result in self.found.values()):
            known = sorted({key for result in self.found.values() for key in result.summary})
            raise ResultError(f"there is no figure {what!r}; there are {', '.join(known)}")
        if what in ("accuracy", "worst"):
            return f"{what}, %", 100.0
        if what in ("bytes", "bytes_most", "sent", "received"):
            unit = plots.traffic_unit(max(result.summary.get(what, 0.0) for result in self.found.values()))
            return f"{_TRAFFIC[what]}, {unit.name}", 1 / unit.size
        return what, 1.0

    def _curves(self, first: str, rest: Sequence[str], what: str, scale: float) -> list[plots.Curve]:
        lines: dict[str, list[Point]] = {}
        for point in self.points:
            lines.setdefault(", ".join(f"{key}={point.values[key]}" for key in rest), []).append(point)
        curves = []
        for label, points in lines.items():
            figures = [[scale * run.summary.get(what, math.nan) for run in self.at(point)] for point in points]
            curves.append(
                plots.Curve(
                    label,
                    [point.values[first] for point in points],
                    [sum(each) / len(each) for each in figures],
                    [min(each) for each in figures],
                    [max(each) for each in figures],
                )
            )
        return curves

    def rows(self) -> list[dict[str, Any]]:
        """The points with the mean of each figure, as plain values."""
        made = []
        for point in self.points:
            runs = self.at(point)
            figures = sorted({key for run in runs for key in run.summary})
            means = {key: report.figure(runs, key) for key in figures}
            made.append({"point": dict(point.values), "seeds": [run.seed for run in runs], "figures": means})
        return made


def _file(name: str, point: Point, seed: int) -> str:
    """Of a run: words for people, and a digest where they would be too long or are no file name."""
    words = str(point).replace("/", "_")
    if len(words) > _MOST_NAME or words.startswith("."):
        words = words[:_MOST_NAME].lstrip(".") + "-" + hashlib.sha256(str(point).encode()).hexdigest()[:8]
    return f"{name}.{words}.{seed}.json"
