"""What a scenario asks of real daemons: their links, flags and tasks, and what happens when; used by `course`.

Pure: nothing is started here, and what cannot be done for real is refused here, before anything starts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from learnae.errors import ConfigError
from learnae.rules import Rules
from learnae.tasks import BUILT_IN
from netsim.errors import RealError
from netsim.real.presence import Place, Step, timeline
from netsim.scenario import Link, Nodes, Scenario
from netsim.sim.links import PRESETS

MOST = 32
"""Daemons: each takes about 350 MB and its part of the processor."""
MOST_LOSS = 0.1
"""Part of the frames: with more, TCP stands still."""
SEEDS = 100_003
"""Between the seeds of two runs: each node has one of its own in between."""


@dataclass(frozen=True, slots=True)
class Plan:
    """All that a run with real daemons needs to know."""

    scenario: Scenario
    seed: int
    links: tuple[Link, ...]
    speeds: tuple[float, ...]
    """Local steps per second."""
    shards: int
    steps: tuple[Step, ...]
    """In the order of time; those of second 0 that start nodes are left out."""
    first: tuple[int, ...]
    """The nodes that are there from the start."""

    @property
    def task_file(self) -> str:
        """The run's tasks as Python: ``Node1``, ``Node2``, ..., equal but for their pace."""
        work = self.scenario.workload
        module, _, name = BUILT_IN[work.task].rpartition(":")
        lines = [
            '"""The tasks of one run of netsim."""',
            "",
            f"from {module} import {name}",
            "from learnae.rules import Rules",
            "from netsim.real.stage import Staged",
            "",
            "",
            f"class Run(Staged, {name}):",
            f"    split = {self.seed}",
        ]
        lines += [f"    slot_seconds = {work.slot_seconds!r}"] * (work.slot_seconds is not None)
        lines += [f"    round_steps = {work.round_steps!r}"] * (work.round_steps is not None)
        lines += [f"    rules = {rules(self.scenario)!r}"] * bool(self.scenario.rules)
        for number, speed in enumerate(self.speeds, 1):
            lines += ["", "", f"class Node{number}(Run):", f"    speed = {speed!r}"]
        return "\n".join(lines) + "\n"

    def flags(self, node: int, tasks: Path) -> tuple[str, ...]:
        """What `learnaed run` is told for a node.

        Args:
            node: its number, from 0.
            tasks: where `task_file` was written.
        """
        work = self.scenario.workload
        flags = ["--topic", "netsim", "--task", f"{tasks}:Node{node + 1}"]
        flags += [
            "--shard",
            f"{node % self.shards + 1}/{self.shards}",
            "--seed",
            str(self.seed * SEEDS + node),
            "--torch-threads",
            "1",
        ]
        flags += ["--skew", f"{work.alpha:g}"] if work.alpha is not None else []
        flags += ["--data", str(Path(work.data).resolve())] if work.data is not None else []
        return tuple(flags)


def plan(scenario: Scenario, seed: int) -> Plan:
    """What is to be done.

    Raises:
        RealError: something of the scenario cannot be done with real daemons; names every such key.
    """
    if found := list(refusals(scenario)):
        raise RealError("real daemons cannot run this scenario: " + "; ".join(found))
    groups = [group for group in scenario.nodes for _ in range(group.count)]
    places = [Place(number, group, seed) for number, group in enumerate(groups)]
    steps = timeline(places, scenario.happenings, scenario.run.seconds)
    first = tuple(step.nodes[0] for step in steps if step.what == "start" and step.at == 0)
    if not first:
        raise RealError("real daemons cannot run this scenario: nobody is there from the start, see nodes.N.joins")
    return Plan(
        scenario=scenario,
        seed=seed,
        links=tuple(link(group) for group in groups),
        speeds=tuple(place.speed for place in places),
        shards=scenario.workload.shards or sum(group.joins == 0 for group in groups),
        steps=tuple(step for step in steps if step.at > 0 or step.what != "start"),
        first=first,
    )


def refusals(scenario: Scenario) -> Iterator[str]:
    """What of a scenario cannot be done with real daemons, each with its key and the reason."""
    run, work = scenario.run, scenario.workload
    if run.engine != "ledger":
        yield f'run.engine {run.engine!r} is a baseline that lives in the simulator; daemons have "ledger"'
    if work.kind != "images":
        yield f'workload.kind {work.kind!r} has no task of learnae: use "images"'
    elif work.task not in BUILT_IN:
        yield f"workload.task {work.task!r} is none of {', '.join(BUILT_IN)}"
    for key in ("settings", "codec"):
        if table := getattr(scenario, key):
            yield f"{', '.join(f'{key}.{name}' for name in table)} cannot be set in a daemon: leave {key} out"
    try:
        rules(scenario)
    except (ConfigError, TypeError) as error:
        yield f"rules are wrong: {error}"
    if (count := sum(group.count for group in scenario.nodes)) > MOST:
        yield f"nodes.count: {count} daemons are too many for one machine, which takes up to {MOST}"
    for number, group in enumerate(scenario.nodes):
        yield from (f"nodes.{number}.{reason}" for reason in _refused(group))
    for number, happening in enumerate(scenario.happenings):
        if happening.what == "clock":
            yield f'happenings.{number}.what "clock": all daemons have this machine\'s clock'


def _refused(group: Nodes) -> Iterator[str]:
    if group.skew or group.drift:
        yield "skew and drift: all daemons have this machine's clock"
    if group.attack is not None:
        yield f"attack {group.attack!r}: daemons are honest"
    if link(group).nat == "symmetric":
        yield 'link.nat "symmetric": the namespaces have no router; use "open", or "cone", which counts as open here'
    if link(group).loss > MOST_LOSS:
        yield f"link.loss {link(group).loss:g}: TCP stands still when it loses more than {MOST_LOSS:g} of its frames"


def link(group: Nodes) -> Link:
    """The link of a group's nodes."""
    return group.link if isinstance(group.link, Link) else PRESETS[group.link]


def rules(scenario: Scenario) -> Rules:
    """Of the run. Raises ConfigError or TypeError if they are wrong."""
    whole = ("cut_slots", "window", "staleness")
    return Rules(**{key: int(value) if key in whole else value for key, value in scenario.rules.items()})  # type: ignore[arg-type]
