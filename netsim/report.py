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

from learnae.cli.words import duration, size
from netsim import expect
from netsim.result import Result
from netsim.scenario import Scenario

_MOST_DIFFERENCES = 3
"""Settings that a label names."""
_GAP = 2
"""Blanks between two columns."""


Group = Sequence[Result]
"""Runs that differ by their seeds alone."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the table. `importance`: the least important one goes first where the screen is narrow.

    `cell` gives its text, "-" for what is not known of a group.
    """

    heading: str
    importance: int
    cell: Callable[[Group], str]


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


def table(groups: Mapping[str, Group], title: str = "", width: int | None = None) -> Table:
    """A row for each group.

    Args:
        groups: by the words that name them.
        title: above the table.
        width: cells of the screen; columns that do not fit are left out, as are those of which nothing is known.
    """
    shown = [column for column in COLUMNS if any(column.cell(group) != "-" for group in groups.values())]
    if all(len(group) == 1 for group in groups.values()):
        shown = [column for column in shown if column.heading != "seeds"]
    labels = max(map(len, groups), default=0)
    while width and len(shown) > 1 and labels + sum(_GAP + _width(column, groups) for column in shown) > width:
        shown.remove(min(shown, key=lambda column: column.importance))
    made = Table(title=title or None, title_justify="left", box=None, pad_edge=False)
    made.add_column("")
    for column in shown:
        made.add_column(column.heading, justify="right", no_wrap=True)
    for label, group in groups.items():
        made.add_row(Text(label), *(column.cell(group) for column in shown))
    return made


def _width(column: Column, groups: Mapping[str, Group]) -> int:
    return max(len(text) for text in (column.heading, *(column.cell(group) for group in groups.values())))


def _mean(what: str, words: Callable[[float], str]) -> Callable[[Group], str]:
    def cell(group: Group) -> str:
        mean = figure(group, what)
        return "-" if math.isnan(mean) else words(mean)

    return cell


def _accuracy(group: Group) -> str:
    mean = 100 * figure(group, "accuracy")
    if math.isnan(mean):
        return "-"
    return f"{mean:.1f} ± {100 * spread(group, 'accuracy'):.1f} %" if len(group) > 1 else f"{mean:.1f} %"


def _loss(group: Group) -> str:
    mean = figure(group, "loss")
    if math.isnan(mean):
        return "-"
    return f"{mean:.3g} ± {spread(group, 'loss'):.1g}" if len(group) > 1 else f"{mean:.3g}"


def _equal(group: Group) -> str:
    """In how many runs all replicas were equal at the end."""
    known = [found for result in group if not math.isnan(found := result.summary.get("identical", math.nan))]
    if not known:
        return "-"
    count = sum(value == 1 for value in known)
    if len(known) == 1:
        return "yes" if count else "no"
    return f"{count} of {len(known)}"


def _took(group: Group) -> str:
    mean = fmean(result.costs.get("seconds", math.nan) for result in group)
    return "-" if math.isnan(mean) else duration(mean)


def _memory(group: Group) -> str:
    most = max(result.costs.get("memory", math.nan) for result in group)
    return "-" if math.isnan(most) else size(most)


COLUMNS: Final = (
    Column("seeds", 60, lambda group: str(len(group))),
    Column("accuracy", 99, _accuracy),
    Column("worst", 45, _mean("worst", lambda ratio: f"{100 * ratio:.1f} %")),
    Column("fall", 40, _mean("lost_accuracy", lambda points: f"{points:.1f} pt")),
    Column("loss", 70, _loss),
    Column("consensus", 20, _mean("consensus", lambda ratio: f"{ratio:.2g}")),
    Column("stale", 65, _mean("staleness", lambda slots: f"{slots:.2f}")),
    Column("rounds", 50, _mean("rounds", lambda count: f"{count:.0f}")),
    Column("bytes", 90, _mean("bytes", size)),
    Column("busiest", 30, _mean("bytes_most", size)),
    Column("there", 55, _mean("live", lambda count: f"{count:.0f}")),
    Column("equal", 80, _equal),
    Column("took", 35, _took),
    Column("memory", 10, _memory),
)
"""All of them, from left to right; docs/netsim.md says what they mean."""


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
