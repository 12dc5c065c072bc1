"""Results as figures, PNG and SVG, readable on white and on black; used by the commands and by `sweep`.

The same results give the same bytes: no date, no random names. In the SVG files text is text.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from statistics import fmean
from typing import Any, Final, cast

from netsim.errors import MissingError
from netsim.result import Look, Result

try:
    import matplotlib
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter
except ModuleNotFoundError as error:
    raise MissingError(
        f"plots need {error.name}, which is not installed: pip install 'learnae[sim]', or leave out --out"
    ) from error

INK: Final = "#787878"
"""Axes and words: a grey that stands out from white and from black alike."""
COLOURS: Final = ("#1f83c9", "#d9661f", "#1f9a6b", "#b65bb0", "#a88a00", "#d1495b", "#3fa7a0", "#8a6d5a")
"""Of the lines; of middle brightness, for the same reason."""
DASHES: Final = ("-", "--", "-.", ":")
"""Second mark of a line, for those who do not see its colour."""

_SIZE = (7.2, 4.2)
_DPI = 120
_WIDE = 20.0
"""Values that span more than this factor get a logarithmic axis."""
_STYLE: Final[dict[str, Any]] = {
    "font.size": 10,
    "svg.fonttype": "none",
    "svg.hashsalt": "netsim",
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": INK,
    "grid.alpha": 0.25,
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}

Groups = Mapping[str, Sequence[Result]]
Value = Callable[[Look], float]


@dataclass(frozen=True, slots=True)
class Unit:
    """What an axis counts in."""

    name: str
    size: float


@dataclass(frozen=True, slots=True)
class _Plot:
    """One figure: a file, what is on its axes, and which values of a look they are."""

    file: str
    title: str
    y: tuple[tuple[str, Value], ...]
    """Words for the legend where there are several, and the value."""
    words: str
    over: str = "time"
    unit: str = ""
    logarithmic: bool = False


_TRAFFIC: Final[Value] = lambda look: look.sent + look.received  # noqa: E731
_ACCURACY: Final[Value] = lambda look: 100 * look.accuracy  # noqa: E731
_LOSS: Final[Value] = lambda look: look.loss  # noqa: E731
_CONSENSUS: Final[Value] = lambda look: look.consensus  # noqa: E731
_PLOTS: Final = (
    _Plot("accuracy-over-time", "Accuracy", (("", _ACCURACY),), "accuracy, %"),
    _Plot("accuracy-over-bytes", "Accuracy for traffic", (("", _ACCURACY),), "accuracy, %", "bytes"),
    _Plot("loss-over-time", "Loss", (("", _LOSS),), "loss", logarithmic=True),
    _Plot("loss-over-bytes", "Loss for traffic", (("", _LOSS),), "loss", "bytes", logarithmic=True),
    _Plot(
        "consensus",
        "How far the replicas are apart",
        (("", _CONSENSUS),),
        "distance / norm",
        logarithmic=True,
    ),
    _Plot(
        "bytes",
        "Traffic of a node",
        (("sent", lambda look: look.sent), ("received", lambda look: look.received)),
        "bytes",
        unit="bytes",
    ),
    _Plot("staleness", "Staleness of updates", (("", lambda look: look.staleness),), "slots"),
)


def draw(groups: Groups, directory: Path) -> list[Path]:
    """Write the figures of some groups of runs, a line for each: the mean over its seeds, and the range around it.

    Accuracy over time and bytes (loss instead where the workload has no accuracy), consensus distance, bytes,
    staleness.

    Args:
        groups: as `netsim.report.grouped` makes them.
        directory: where the files go; it is made if need be.
    """
    directory.mkdir(parents=True, exist_ok=True)
    judged = any(not math.isnan(look.accuracy) for group in groups.values() for run in group for look in run.looks)
    left_out = "loss-" if judged else "accuracy-"
    written = []
    for plot in _PLOTS:
        if not plot.file.startswith(left_out):
            with canvas() as figure:
                _draw(figure.add_subplot(), plot, groups)
                written += save(figure, directory / plot.file)
    return written


@contextlib.contextmanager
def canvas(width: float = _SIZE[0], height: float = _SIZE[1]) -> Iterator[Figure]:
    """An empty figure (sizes in inches) in netsim's style; draw and save it inside the block."""
    with matplotlib.rc_context(cast(Any, _STYLE)):
        figure = Figure(figsize=(width, height), dpi=_DPI)
        # In inches, whatever the size; matplotlib's own layouts take half of the time of a plot.
        figure.subplots_adjust(0.75 / width, 0.55 / height, 1 - 0.15 / width, 1 - 0.35 / height, wspace=0.24)
        FigureCanvasAgg(figure)
        yield figure


def save(figure: Figure, path: Path) -> list[Path]:
    """Write it as PNG and as SVG; `path` has no suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    files = [path.with_name(f"{path.name}.{kind}") for kind in ("png", "svg")]
    figure.savefig(files[0], metadata={"Software": None})
    figure.savefig(files[1], metadata={"Date": None, "Creator": None})
    return files


def styles() -> Iterator[dict[str, Any]]:
    """Colours and dashes of one line after the other."""
    colours = cycle(COLOURS)
    for dash in cycle(DASHES):
        for _ in range(len(COLOURS)):
            yield {"color": next(colours), "linestyle": dash}


def _draw(axes: Axes, plot: _Plot, groups: Groups) -> None:
    over: Value = _TRAFFIC if plot.over == "bytes" else lambda look: look.time
    looks = [look for group in groups.values() for run in group for look in run.looks]
    x_unit = (traffic_unit if plot.over == "bytes" else time_unit)(max(over(look) for look in looks))
    y_unit = traffic_unit(max(value(look) for look in looks for _, value in plot.y)) if plot.unit else Unit("", 1.0)
    several = len(groups) > 1
    style = styles()
    seen: list[float] = []
    for label, group in groups.items():
        line = next(style)
        for place, (words, value) in enumerate(plot.y):
            if place:  # The same group: its colour, other dashes.
                line = {**line, "linestyle": DASHES[place]}
            points = list(_points(group, over, value))
            x = [at / x_unit.size for at, *_ in points]
            mean, low, high = ([row[i] / y_unit.size for row in points] for i in (1, 2, 3))
            axes.plot(x, mean, label=", ".join(filter(None, (label * several, words))) or None, linewidth=1.6, **line)
            if len(group) > 1:
                axes.fill_between(x, low, high, color=line["color"], alpha=0.18, linewidth=0)
            seen += [each for each in mean if each > 0]
    if plot.logarithmic and seen and max(seen) > _WIDE * min(seen):
        axes.set_yscale("log", nonpositive="mask")
    if plot.over == "bytes":
        ends = [_TRAFFIC(run.looks[-1]) for group in groups.values() for run in group]
        if min(ends) > 0 and max(ends) > _WIDE * min(ends):
            axes.set_xscale("log", nonpositive="mask")
    else:
        _mark(axes, groups, x_unit)
    what = "traffic of a node (sent and received)" if plot.over == "bytes" else "time"
    axes.set(title=plot.title, xlabel=f"{what}, {x_unit.name}", ylabel=y_unit.name or plot.words)
    if several or len(plot.y) > 1:
        axes.legend()


def _points(group: Sequence[Result], over: Value, value: Value) -> Iterator[tuple[float, float, float, float]]:
    """Position, mean, least and most of a group's looks, as far as all runs go; without those that are no number."""
    for looks in zip(*(run.looks for run in group), strict=False):
        values = [value(look) for look in looks]
        if not any(math.isnan(each) for each in values):
            yield fmean(over(look) for look in looks), fmean(values), min(values), max(values)


def _mark(axes: Axes, groups: Groups, unit: Unit) -> None:
    """What befell the swarm, and where training ends, if that is the same for all."""
    first, *others = (run.scenario for group in groups.values() for run in group)
    if any((each.happenings, each.run.seconds) != (first.happenings, first.run.seconds) for each in others):
        return
    for happening in first.happenings:
        axes.axvline(happening.at / unit.size, color=INK, linewidth=0.9, linestyle=":")
        axes.annotate(
            happening.what,
            (happening.at / unit.size, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(2, -2),
            textcoords="offset points",
            rotation=90,
            va="top",
            fontsize=8,
        )
    if first.run.quiet:
        end = first.run.seconds
        axes.axvspan(end / unit.size, (end + first.run.quiet) / unit.size, color=INK, alpha=0.12, linewidth=0)


def time_unit(seconds: float) -> Unit:
    """For a span of time."""
    return Unit("s", 1.0) if seconds < 300 else Unit("min", 60.0) if seconds < 4 * 3600 else Unit("h", 3600.0)


def traffic_unit(count: float) -> Unit:
    """For so many bytes."""
    for name, power in (("GB", 9), ("MB", 6), ("kB", 3)):
        if count >= 10.0**power:
            return Unit(name, 10.0**power)
    return Unit("bytes", 1.0)


@dataclass(frozen=True, slots=True)
class Curve:
    """One line of a sweep: a figure, its mean and its range at each value of the setting."""

    label: str
    x: Sequence[Any]
    mean: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


def sweep(panels: Mapping[str, Sequence[Curve]], setting: str, default: Any, path: Path) -> list[Path]:
    """Write what a swept setting does: a panel for each figure (by the words for it), side by side.

    Args:
        panels: words for the y axis, to the lines there.
        setting: its dotted key.
        default: its value in the scenario, marked by a dotted line; None: no line.
        path: of the files, without a suffix.
    """
    with canvas(4.4 * len(panels), 3.8) as figure:
        for place, (words, curves) in enumerate(panels.items()):
            axes = figure.add_subplot(1, len(panels), place + 1)
            _sweep(axes, curves, default)
            axes.set(xlabel=setting, ylabel=words)
            if len(curves) > 1:
                axes.legend(fontsize=8)
        return save(figure, path)


def _sweep(axes: Axes, curves: Sequence[Curve], default: Any) -> None:
    values = list(dict.fromkeys(value for curve in curves for value in curve.x))
    numeric = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
    place = (lambda value: value) if numeric else values.index
    for curve, style in zip(curves, styles(), strict=False):
        x = [place(value) for value in curve.x]
        axes.plot(x, curve.mean, marker="o", markersize=4, linewidth=1.5, label=curve.label, **style)
        if any(low != high for low, high in zip(curve.low, curve.high, strict=True)):
            axes.fill_between(x, curve.low, curve.high, color=style["color"], alpha=0.18, linewidth=0)
    if not numeric:
        axes.set_xticks(range(len(values)), [str(value) for value in values])
    elif min(values) > 0 and max(values) >= _WIDE / 4 * min(values):
        axes.set_xscale("log")
        axes.set_xticks(values, [f"{value:g}" for value in values])
        axes.xaxis.set_minor_formatter(NullFormatter())
    if default in values:
        axes.axvline(place(default), color=INK, linestyle=":", linewidth=1.2)
