"""Scenarios: what happens in a run, as TOML files that people read and change; used by the simulator and by `real`.

The files in `netsim/scenarios` are shipped; others are given by their path. Unknown keys and values out of range are
refused with the place where they stand.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from learnae.errors import ConfigError
from learnae.rules import Rules
from netsim.errors import ScenarioError

SHIPPED = Path(__file__).parent / "scenarios"

Positive = Annotated[float, Meta(gt=0)]
NotNegative = Annotated[float, Meta(ge=0)]
Share = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=1)]

Engine = Literal["ledger", "fedavg", "pairwise", "noloco", "diloco", "solo"]
"""``ledger`` is the daemon's own code; the others are baselines in the same harness."""


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of a scenario file."""


class Run(_Table, frozen=True, kw_only=True):
    """How long and how often to look."""

    seconds: Positive
    """Of simulated time in which nodes train."""
    quiet: NotNegative = 0.0
    """Seconds after that without rounds, churn or faults, in which the nodes become equal."""
    engine: Engine = "ledger"
    evaluate: Positive = 10.0
    """Seconds between two looks at accuracy, consensus, bytes and staleness."""
    tick: Positive = 0.25
    """Seconds between two ticks of a coordinator; the daemon's is 0.25, thousands of nodes need less often."""
    boot: NotNegative = 2.5
    """Seconds from the start of a daemon until its trainer is ready, which loads torch. Real ones take theirs."""


class Workload(_Table, frozen=True, kw_only=True):
    """What is trained."""

    kind: Literal["images", "quadratic"] = "images"
    """``images``: a task of learnae. ``quadratic``: a noisy quadratic bowl per node, for thousands of nodes."""
    task: str = "digits"
    data: str | None = None
    """Directory of the data set; None: where the task looks by itself."""
    alpha: Positive | None = 0.3
    """Of the Dirichlet split; None: the samples are dealt out evenly."""
    shards: Count | None = None
    """Into how many parts the data are split; None: one for each node that is there from the start."""
    slot_seconds: Positive | None = None
    """None: the task's."""
    round_steps: Count | None = None
    """Most local steps in a round; None: the task's."""
    dimensions: Count = 64
    """Weights of the quadratic."""
    noise: NotNegative = 0.1
    """Standard deviation of the quadratic's gradients, per weight."""
    spread: NotNegative = 1.0
    """Standard deviation of the nodes' own minima around the common one, per weight."""


class Link(_Table, frozen=True, kw_only=True):
    """A node's way to the Internet."""

    latency: NotNegative = 0.02
    """Seconds from the node to the core of the network, one way; between two nodes both are added."""
    jitter: NotNegative = 0.0
    """Mean of what is added at random to each message (exponential), in seconds."""
    up: Positive = 1.25e6
    """Bytes a second that it can send."""
    down: Positive = 6.25e6
    """Bytes a second that it can receive."""
    loss: Share = 0.0
    """Part of the messages from or to it that are lost, over and above what the transport repeats."""
    nat: Literal["open", "cone", "symmetric"] = "open"
    """``open``: everybody can dial it. ``cone``: peers reach it by hole punching. ``symmetric``: it can only dial out,
    and two such nodes never have a connection of their own."""


class Uptime(_Table, frozen=True, kw_only=True):
    """When a node is there. Nodes come back with their disk, unless they are replaced."""

    kind: Literal["always", "exponential", "weibull", "diurnal"] = "always"
    """``diurnal``: on at night or in office hours, with jitter: a model of ordinary PCs."""
    mean: Positive = 3600.0
    """Mean seconds that it is there."""
    away: NotNegative = 600.0
    """Mean seconds that it is gone."""
    shape: Positive = 0.6
    """Of the Weibull distribution; below 1 most stays are short and a few very long."""
    goodbye: Share = 0.5
    """Part of the departures that are announced; the others are crashes."""
    replaced: Share = 0.0
    """Part of the departures after which another, new node comes in its place."""


class Nodes(_Table, frozen=True, kw_only=True):
    """A group of nodes that are alike."""

    count: Count = 1
    link: Literal["lan", "home", "fibre", "mobile"] | Link = "home"
    speed: Positive = 100.0
    """Local steps per second."""
    speed_spread: NotNegative = 0.0
    """Sigma of a log-normal factor on each node's speed."""
    skew: NotNegative = 0.0
    """Standard deviation of the error of the nodes' clocks, in seconds."""
    drift: NotNegative = 0.0
    """Standard deviation of the error of their rates, in parts per million."""
    joins: NotNegative = 0.0
    """Second at which they come for the first time."""
    uptime: Uptime = Uptime()
    attack: str | None = None
    """Name of an attack (`netsim.attacks`); None: they are honest."""


class Gossip(_Table, frozen=True, kw_only=True):
    """How announcements spread."""

    degree: Count = 3
    """Neighbours to which a node passes on what it hears; the daemon's is 3."""


class Happening(_Table, frozen=True, kw_only=True):
    """Something that befalls the swarm at a moment."""

    at: NotNegative
    """Second of the run."""
    what: Literal["partition", "heal", "crash", "leave", "restart", "clock"]
    """``partition``: the first `part` of the nodes no longer reaches the rest. ``crash``, ``leave``: that part goes,
    for good unless ``restart`` brings it back with its disks. ``clock``: its clocks are set off by `seconds`."""
    part: Share = 0.5
    seconds: float = 0.0


class Expectation(_Table, frozen=True, kw_only=True):
    """What must come out: a figure of the summary and its bounds."""

    what: str
    at_least: float | None = None
    at_most: float | None = None
    small_at_least: float | None = None
    """Instead of `at_least` in the small version."""
    small_at_most: float | None = None


class Scenario(_Table, frozen=True, kw_only=True):
    """A whole run."""

    purpose: str
    run: Run
    workload: Workload = Workload()
    nodes: tuple[Nodes, ...]
    gossip: Gossip = Gossip()
    happenings: tuple[Happening, ...] = ()
    rules: dict[str, float] = {}
    """Instead of the defaults of `learnae.rules.Rules`."""
    settings: dict[str, float] = {}
    """Instead of the defaults of `learnae.coordinator.Settings`."""
    codec: dict[str, float] = {}
    """Instead of the defaults of `learnae.codec.CodecSettings`."""
    expect: tuple[Expectation, ...] = ()
    small: dict[str, Any] = {}
    """Changes, by dotted key, that make the version which tests run: ``"run.seconds" = 30``, ``"nodes.0.count" = 4``.
    `load` applies them, and takes the bounds of the small version for `expect`, when it is asked for that one."""


def names() -> list[str]:
    """The shipped scenarios."""
    return sorted(path.stem for path in SHIPPED.glob("*.toml"))


def load(name: str, changes: Mapping[str, Any] | None = None, *, small: bool = False) -> Scenario:
    """The scenario of a shipped name or a path.

    Args:
        name: as in `names`, or the path of a TOML file.
        changes: values by dotted key, as ``--set`` gives them.
        small: make the version which tests run.

    Raises:
        ScenarioError: there is no such scenario, or a key or a value in it is wrong.
    """
    text = source(name)
    table = tomllib.loads(text)
    change(table, changes or {}, small=small)
    try:
        scenario = msgspec.convert(table, Scenario, strict=False)
    except msgspec.ValidationError as error:
        raise ScenarioError(f"the scenario {title(name)} is wrong: {error}") from error
    _check_settings(scenario, title(name))
    for wanted in scenario.expect:
        if wanted.at_least is None and wanted.at_most is None:
            raise ScenarioError(
                f"the scenario {title(name)} expects nothing of {wanted.what!r}: give at_least or at_most"
            )
    return scenario


def _check_settings(scenario: Scenario, name: str) -> None:
    """Refuse settings of learnae that there are not, or that are out of range."""
    if not (scenario.rules or scenario.settings or scenario.codec):
        return
    from learnae.codec import CodecSettings  # imports numpy
    from learnae.coordinator import Settings

    kinds: tuple[tuple[str, Any], ...] = (("rules", Rules), ("settings", Settings), ("codec", CodecSettings))
    for table, kind in kinds:
        given = getattr(scenario, table)
        known = [field.name for field in fields(kind)]
        if unknown := sorted(set(given) - set(known)):
            raise ScenarioError(
                f"the scenario {name} is wrong: there is no {table}.{unknown[0]}; there are {', '.join(known)}"
            )
        try:
            kind(**given)
        except ConfigError as error:
            raise ScenarioError(f"the scenario {name} is wrong: {error}") from error


def title(name: str) -> str:
    """What a scenario of this name or path is called."""
    return Path(name).stem if name.endswith(".toml") else name


def source(name: str) -> str:
    """The text of a scenario's file, which is TOML.

    Raises:
        ScenarioError: there is no such scenario, or it is no TOML file.
    """
    path = Path(name) if name.endswith(".toml") else SHIPPED / f"{name}.toml"
    try:
        text = path.read_text(encoding="utf-8")
        tomllib.loads(text)
    except FileNotFoundError as error:
        raise ScenarioError(
            f"there is no scenario {name!r}: use the path of a TOML file or one of {', '.join(names())}"
        ) from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ScenarioError(f"the scenario {path} cannot be read: {error}") from error
    return text


def change(table: Any, changes: Mapping[str, Any], *, small: bool = False) -> None:
    """Change a scenario's table in place: first to its small version if that is asked for, then by dotted keys.

    Raises:
        ScenarioError: a key leads nowhere.
    """
    if small:
        for key, value in table.pop("small", {}).items():
            _change(table, key.split("."), value, key)
        for wanted in table.get("expect", []):
            for bound in ("at_least", "at_most"):
                if (value := wanted.pop(f"small_{bound}", None)) is not None:
                    wanted[bound] = value
    for key, value in changes.items():
        _change(table, key.split("."), value, key)


def _change(table: Any, keys: Sequence[str], value: Any, whole: str) -> None:
    """Set one value, deep in the table."""
    for place, key in enumerate(keys):
        last = place == len(keys) - 1
        if isinstance(table, list):
            if not key.isdecimal() or int(key) >= len(table):
                raise ScenarioError(f"{whole!r} names no entry: {key!r} is not a number below {len(table)}")
            if last:
                table[int(key)] = value
            else:
                table = table[int(key)]
        elif isinstance(table, dict):
            if last:
                table[key] = value
            else:
                if key not in table:
                    table[key] = {}
                table = table[key]
        else:
            raise ScenarioError(f"{whole!r} names nothing: there is no table before {key!r}")
