"""A run with real daemons: starts them, does to them what the plan says, looks at them, and removes everything."""

from __future__ import annotations

import contextlib
import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from netsim import processes
from netsim.daemons import Node, Swarm, SwarmError, Unreachable
from netsim.errors import RealError
from netsim.real.figures import look, summary
from netsim.real.network import SlowLab, check, kernel
from netsim.real.plan import Plan, plan
from netsim.real.presence import Step
from netsim.result import Look, Result, digest
from netsim.scenario import Scenario

START = 60.0  # seconds that the daemons have to become one swarm, and
START_EACH = 15.0  # so many more for each: torch is imported once for each
GLANCE = 0.25  # seconds between two looks at whether a daemon that was started has a trainer
LEAVE = 30.0  # seconds that a daemon has to say goodbye
FINISH = 120.0  # seconds that all have to settle, evaluate and end

Progress = Callable[[float, Look], None]


def run(name: str, scenario: Scenario, seed: int, progress: Progress) -> Result:
    """See `netsim.real.run`."""
    began = time.monotonic()
    what = plan(scenario, seed)
    offers = kernel()
    check(what.links, offers)
    with (
        tempfile.TemporaryDirectory(prefix="netsim-real-") as directory,
        SlowLab(what.links, offers, seed) as lab,
        Swarm(Path(directory), lab) as swarm,
    ):
        course = Course(what, lab, swarm, progress)
        try:
            course.run()
        except SwarmError as error:
            raise RealError(f"the daemons did not do what the scenario asks of them: {error}") from error
        figures = summary(course.looks, course.states, course.traffic)
        costs = {"seconds": time.monotonic() - began, **course.costs}
    looks = tuple(course.looks)
    return Result(name, scenario, seed, "real", looks, figures, digest(scenario, seed, looks, figures), costs)


class Course:
    """One run under way."""

    def __init__(self, what: Plan, lab: SlowLab, swarm: Swarm, progress: Progress) -> None:
        self._plan = what
        self._run = what.scenario.run
        self._lab = lab
        self._swarm = swarm
        self._progress = progress
        self._tasks = swarm.directory / "tasks.py"
        self._tasks.write_text(what.task_file)
        self._nodes: dict[int, Node] = {}
        """The daemons that should be there, by the node's number."""
        self._ever: set[int] = set()
        self._lives: dict[int, int] = {}
        """How many nodes there were in a place before the present one."""
        self._began = 0.0
        self._base: dict[int, tuple[int, int]] = {}
        self._booting: dict[int, Node] = {}
        """Those that were started under way, until their trainers are ready, and"""
        self._boots: list[float] = []
        """how many seconds that took."""
        self.looks: list[Look] = []
        self.states: list[dict[str, Any]] = []
        """What each daemon says at the end."""
        self.traffic: dict[int, tuple[int, int]] = {}
        """Bytes sent and received since the start, by node."""
        self.costs: dict[str, float] = {}

    def run(self) -> None:
        """All of it. Raises SwarmError if a daemon fails."""
        self._gather()
        steps = list(self._plan.steps)
        every, end = self._run.evaluate, self._run.seconds
        moments = [number * every for number in range(1, math.ceil(end / every))]
        while (now := self._time()) < end:
            if steps and steps[0].at <= now:
                self._do(steps.pop(0))
            elif moments and moments[0] <= now:
                self._look(moments.pop(0))
            else:
                left = max(0.0, min([end, *moments[:1], *(step.at for step in steps[:1])]) - now)
                time.sleep(min(left, GLANCE) if self._booting else left)
                self._glance()
        self._look(end)
        if self._run.quiet:
            self._calm()
            self._look(end + self._run.quiet)
        self._close()
        self._finish()

    def _time(self) -> float:
        return time.monotonic() - self._began

    def _gather(self) -> None:
        """Make those that are there from the start one swarm, and let them go at the same moment."""
        for number in self._plan.first:
            self._start(number, "--paused")
        nodes, patience = list(self._nodes.values()), START + START_EACH * len(self._nodes)
        self._swarm.wait_ready(patience, nodes)
        self._swarm.wait_together(patience, nodes)
        slot = float(self._swarm.nodes[0].status()["slot_seconds"])
        time.sleep(slot - time.time() % slot)  # a run begins with a slot
        self._base = {number: self._counters(number) for number in range(len(self._plan.links))}
        self._began = time.monotonic()
        self._swarm.resume()

    def _do(self, step: Step) -> None:
        match step.what:
            case "start":
                for number in step.nodes:
                    self._lives[number] = self._lives.get(number, 0) + step.fresh
                    self._start(number)
                    self._booting[number] = self._nodes[number]
            case "crash":
                for number in step.nodes:
                    self._nodes.pop(number).kill()
            case "leave":
                for number in step.nodes:
                    self._nodes.pop(number).terminate(LEAVE)
            case "partition":
                self._lab.heal()
                self._lab.cut(*(self._lab.nodes[number] for number in step.nodes))
            case "heal":
                self._lab.heal()

    def _all_ready(self) -> bool:
        self._glance()
        return not self._booting

    def _glance(self) -> None:
        """See who of those that were started under way is ready by now."""
        for number, node in list(self._booting.items()):
            if node is not self._nodes.get(number):
                del self._booting[number]  # it is gone again
                continue
            with contextlib.suppress(Unreachable):
                if node.status()["slot_seconds"] is not None:
                    self._boots.append(time.monotonic() - node.started)
                    del self._booting[number]

    def _start(self, number: int, *more: str) -> None:
        host = self._lab.nodes[number]
        home = self._swarm.directory / f"home-{host}-{self._lives.get(number, 0)}"
        flags = self._plan.flags(number, self._tasks)
        self._nodes[number] = self._swarm.start(*flags, *more, host=host, home=home)
        self._ever.add(number)

    def _calm(self) -> None:
        """The quiet at the end: nobody trains, the network is whole, what is on its way arrives."""
        self._lab.heal()
        for node in self._nodes.values():
            self._swarm.wait("an answer", partial(_told, node, "pause"), LEAVE, [node])
        if self._booting:  # who came last has as long as the others
            self._swarm.wait("a trainer", self._all_ready, START, list(self._booting.values()))
        time.sleep(self._run.quiet)

    def _look(self, moment: float) -> None:
        for number, node in self._nodes.items():
            if not node.running:
                raise SwarmError(f"node {number + 1} ended by itself\n{node.tail()}")
        states = []
        for node in self._nodes.values():
            try:
                states.append(node.status())
            except Unreachable:
                continue  # it has only just been started
        self.states = states
        counters = {number: self._counters(number) for number in self._ever}
        self.traffic = {
            number: (sent - self._base[number][0], received - self._base[number][1])
            for number, (sent, received) in counters.items()
        }
        seen = look(moment, states, list(self.traffic.values()))
        self.looks.append(seen)
        self._progress(moment / (self._run.seconds + self._run.quiet), seen)

    def _counters(self, number: int) -> tuple[int, int]:
        counted = self._lab.traffic(self._lab.nodes[number])
        return counted.sent, counted.received

    def _close(self) -> None:
        daemons = [node.pid for node in self._nodes.values()]
        families = [pid for daemon in daemons for pid in (daemon, *processes.descendants(daemon))]
        self.costs = {
            "memory": float(sum(map(processes.peak, families))),
            **({"boot": fmean(self._boots)} if self._boots else {}),
            "events": float(sum(state["driver"]["events"] for state in self.states)),
            "cpu_per_node": sum(map(processes.cpu_seconds, daemons)) / max(1, len(daemons)),
        }

    def _finish(self) -> None:
        """Have all evaluate once more: daemons do so seldom where it takes long against a round."""
        final = [state["trainer"] for state in self._swarm.finish(FINISH)]
        accuracies = [trainer["accuracy_averaged"] for trainer in final if trainer["accuracy_averaged"] is not None]
        if accuracies:
            self.looks[-1] = replace(self.looks[-1], accuracy=fmean(accuracies), worst=min(accuracies))


def _told(node: Node, verb: str) -> bool:
    node.command(verb)
    return True
