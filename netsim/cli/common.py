"""What the commands share: options, values after ``--set``, and what is shown and written at the end."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec
from click.shell_completion import CompletionItem

from learnae.cli.tables import screen
from learnae.cli.words import plural
from netsim import expect, jobs, report
from netsim import result as results
from netsim.cli.watching import Watch
from netsim.result import Result
from netsim.scenario import names

_Command = TypeVar("_Command", bound=Callable[..., Any])


def value(text: str) -> Any:
    """What a user wrote for a value: TOML where it is TOML (12, 0.5, true, "lan"), else the text itself."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def values(text: str) -> list[Any]:
    """Several values with commas between them."""
    found = value(f"[{text}]")
    return found if isinstance(found, list) else [value(part.strip()) for part in text.split(",")]


def pair(text: str) -> tuple[str, str]:
    """KEY=VALUE in its two parts."""
    key, equals, rest = text.partition("=")
    if not (key.strip() and equals and rest.strip()):
        raise click.BadParameter(f"{text!r} is not KEY=VALUE, as in run.seconds=60 or nodes.0.count=32")
    return key.strip(), rest.strip()


def scenarios(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of the shipped scenarios, for the shell."""
    return [CompletionItem(name) for name in names() if name.startswith(incomplete)]


def changeable(command: _Command) -> _Command:
    """Give a command the options --set and --small, as `changes` and `small`."""
    text = "Another value for a key of the scenario: run.seconds=60, nodes.0.count=32, codec.density=0.01."
    small = click.option("--small", is_flag=True, help="The small version, which takes seconds.")
    return click.option("--set", "changes", metavar="KEY=VALUE", multiple=True, callback=_changes, help=text)(
        small(command)
    )


def _changes(ctx: click.Context, param: click.Parameter, given: Sequence[str]) -> dict[str, Any]:
    return {key: value(text) for key, text in map(pair, given)}


def repeated(command: _Command) -> _Command:
    """Give a command the options --seeds, --seed and --jobs."""
    seeds = click.option(
        "--seeds", type=click.IntRange(1, 1000), default=1, show_default=True, help="Runs with a seed each."
    )
    first = click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="The first seed.")
    half = max(1, (os.cpu_count() or 2) // 2)
    count = click.option(
        "--jobs", "processes", type=click.IntRange(1, 256), default=half, show_default=True,
        help="Runs at a time, a thread each. Changes no result.",
    )  # fmt: skip
    return seeds(first(count(command)))


def output(command: _Command) -> _Command:
    """Give a command the options --out and --json, as `out` and `as_json`."""
    out = click.option(
        "--out", type=click.Path(file_okay=False, path_type=Path),
        help="Directory for the results (JSON) and the plots (PNG and SVG); made if need be.",
    )  # fmt: skip
    return out(click.option("--json", "as_json", is_flag=True, help="One JSON object a line, one line a run.")(command))


def ready_to_draw(out: Path | None) -> None:
    """Fail before the runs rather than after them. Raises MissingError where plots cannot be made."""
    if out is not None:
        from netsim import plots  # noqa: F401

        out.mkdir(parents=True, exist_ok=True)


def make(wanted: Sequence[jobs.Job], processes: int) -> list[Result]:
    """Make the runs, and show meanwhile how they get on."""
    with Watch(wanted) as watch:
        return jobs.run(wanted, processes, watch)


def show(found: Sequence[Result], as_json: bool, title: str = "") -> dict[str, list[Result]]:
    """Print the results; returns them by group."""
    groups = report.grouped(found)
    if as_json:
        for result in found:
            told = result.to_json() | {"missed": [str(verdict) for verdict in expect.missed(result)]}
            click.echo(msgspec.json.encode(told).decode())
    else:
        console = screen()
        console.print(report.table(groups, title, console.width))
    return groups


def keep(found: Sequence[Result], groups: Mapping[str, Sequence[Result]], out: Path) -> None:
    """Write the results and the plots."""
    from netsim import plots

    names = [file_name(result) for result in found]
    for result, name in zip(found, names, strict=True):
        # Equal names are runs of one scenario with other settings, which --set has changed.
        named = f"{name}.{result.digest[:8]}" if names.count(name) > 1 else name
        results.write(result, out / f"{named}.json")
    drawn = plots.draw(groups, out)
    click.echo(f"{plural(len(found), 'result')} and {plural(len(drawn), 'plot')} are in {out}", err=True)


def file_name(result: Result) -> str:
    """Of a result's file, without the suffix: name, engine (or "real"), seed."""
    engine = "real" if result.kind == "real" else result.scenario.run.engine
    return f"{result.name}.{engine}.{result.seed}"
