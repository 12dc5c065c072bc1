"""Results as tables: one row for each group of runs that differ by their seeds alone; used by the commands."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any, Final

import msgspec
from rich.table import Table
from rich.text import Text

from learnae.cli.words import duration, number, size
from netsim import expect
from netsim.result import Result
from netsim.scenario import Scenario

_MOST_DIFFERENCES = 3
"""Settings that a label names."""


def _percent(ratio: float) -> str:
    return f"{100 * ratio:.1f} %"


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of the summary, and how it is written. `spread`: the seeds' standard deviation stands beside it."""

    what: str
    heading: str
    words: Callable[[float], str]
    spread: bool = False


FIGURES: Final = (
    Figure("accuracy", "accuracy", _percent, True),
    Figure("worst", "worst node", _percent),
    Figure("lost_accuracy", "largest fall", lambda points: f"{points:.1f} pt"),
    Figure("loss", "loss", number, True),
    Figure("consensus", "consensus", lambda ratio: f"{ratio:.2g}"),
    Figure("staleness", "stale", lambda slots: f"{slots:.2f} slots"),
    Figure("rounds", "rounds", lambda count: f"{count:.0f}"),
    Figure("bytes", "bytes a node", size, True),
    Figure("bytes_most", "busiest node", size),
    Figure("live", "there", lambda count: f"{count:.0f}"),
)


def grouped(results: Iterable[Result]) -> dict[str, list[Result]]:
    """Runs that differ by their seeds alone, by a label that says no more than is needed to tell the groups apart."""
    groups: dict[tuple[str, str, bytes], list[Result]] = {}
    for result in results:
        key = (result.name, result.kind, msgspec.json.encode(_plain(result.scenario)))
        groups.setdefault(key, []).append(result)
    found = list(groups.values())
    named = [_label(group[0], [other[0] for other in found]) for group in found]
    return dict(zip(_told_apart(named, found), found, strict=True))


def _label(result: Result, others: Sequence[Result]) -> str:
    """Name, engine and kind, as far as the groups differ in them."""
    words = [result.name] if len({other.name for other in others}) > 1 else []
    if len({other.scenario.run.engine for other in others}) > 1:
        words.append(result.scenario.run.engine)
    if len({other.kind for other in others}) > 1:
        words.append(result.kind)
    return ", ".join(words) or result.name


def _told_apart(labels: Sequence[str], groups: Sequence[Sequence[Result]]) -> list[str]:
    """To labels that are there twice, the settings that differ."""
    told: list[str] = []
    for label, group in zip(labels, groups, strict=True):
        alike = [other[0] for other, name in zip(groups, labels, strict=True) if name == label]
        if len(alike) > 1:
            flat = [settings(other.scenario) for other in alike]
            own = settings(group[0].scenario)
            differing = [key for key in own if len({repr(each.get(key)) for each in flat}) > 1]
            label = ", ".join([label, *(f"{key}={own[key]}" for key in differing[:_MOST_DIFFERENCES])])
        told.append(f"{label} ({told.count(label) + 1})" if label in told else label)
    return told


def settings(scenario: Scenario) -> dict[str, Any]:
    """What a run follows from, by dotted key: all but the words about it and what is expected of it."""
    return dict(_flat(_plain(scenario), ""))


def _plain(scenario: Scenario) -> dict[str, Any]:
    table: dict[str, Any] = msgspec.to_builtins(scenario)
    return {key: value for key, value in table.items() if key not in ("purpose", "expect", "small")}


def _flat(value: Any, key: str) -> Iterable[tuple[str, Any]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, (list, tuple)) else None
    if items is None:
        yield key, value
    else:
        for name, inner in items:
            yield from _flat(inner, f"{key}.{name}" if key else str(name))


def figure(results: Sequence[Result], what: str) -> float:
    """A figure of the summary, mean over the runs; nan if it is missing or is no number in one of them."""
    return fmean(result.summary.get(what, math.nan) for result in results)


def spread(results: Sequence[Result], what: str) -> float:
    """Standard deviation over the runs of a group; nan for a single one."""
    return stdev(result.summary.get(what, math.nan) for result in results) if len(results) > 1 else math.nan


def table(groups: Mapping[str, Sequence[Result]], title: str = "") -> Table:
    """A row for each group. Figures that none of them has are left out."""
    shown = [f for f in FIGURES if any(not math.isnan(figure(group, f.what)) for group in groups.values())]
    made = Table(title=title or None, title_justify="left", box=None, pad_edge=False)
    made.add_column("")
    several = any(len(group) > 1 for group in groups.values())
    headings = ["seeds"] * several + [f.heading for f in shown] + ["equal", "took", "memory"]
    for heading in headings:
        made.add_column(heading, justify="right")
    for label, group in groups.items():
        cells = [str(len(group))] * several + [_cell(group, f) for f in shown]
        cells += [_equal(group), _took(group), _memory(group)]
        made.add_row(Text(label), *cells)
    return made


def _cell(group: Sequence[Result], shown: Figure) -> str:
    mean = figure(group, shown.what)
    if math.isnan(mean):
        return "-"
    text = shown.words(mean)
    if shown.spread and len(group) > 1:
        text += f" ± {shown.words(spread(group, shown.what))}"
    return text


def _equal(group: Sequence[Result]) -> str:
    """In how many runs all replicas were equal at the end."""
    known = [
        result.summary["identical"] for result in group if not math.isnan(result.summary.get("identical", math.nan))
    ]
    if not known:
        return "-"
    count = sum(value == 1 for value in known)
    if len(known) == 1:
        return "yes" if count else "no"
    return f"{count} of {len(known)}"


def _took(group: Sequence[Result]) -> str:
    mean = fmean(result.costs.get("seconds", math.nan) for result in group)
    return "-" if math.isnan(mean) else duration(mean)


def _memory(group: Sequence[Result]) -> str:
    most = max(result.costs.get("memory", math.nan) for result in group)
    return "-" if math.isnan(most) else size(most)


def expectations(results: Sequence[Result]) -> list[Text]:
    """A line for each bound that a run fell short of, or one line that says that there was none."""
    lines = [
        Text.assemble(("missed  ", "red"), f"{result.name}, seed {result.seed}: {verdict}")
        for result in results
        for verdict in expect.missed(result)
    ]
    count = sum(len(expect.verdicts(result)) for result in results)
    if not lines and count:
        lines.append(Text.assemble(("met  ", "green"), f"all {count} expectations"))
    return lines
