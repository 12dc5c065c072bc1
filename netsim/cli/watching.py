"""How runs get on: bars with the time that is left on a terminal, else a line for each run that is done."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from learnae.cli.tables import screen
from learnae.cli.words import duration, number, percent
from netsim.jobs import Job
from netsim.result import Look, Result


class Watch:
    """Watches `netsim.jobs.run`; a context manager. `done` is called with each run as soon as it is finished."""

    def __init__(self, jobs: Sequence[Job], done: Callable[[Job, Result], None] | None = None) -> None:
        self._jobs = jobs
        self._tell = done
        self._console = screen(stderr=True)
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[seen]}"),
            console=self._console,
            disable=not self._console.is_terminal,
            transient=True,
        )
        self._all: TaskID | None = None
        self._bar: dict[int, TaskID] = {}
        self._began: dict[int, float] = {}
        self._share: dict[int, float] = {}
        self._done = 0

    def __enter__(self) -> Self:
        self._bars.start()
        if len(self._jobs) > 1:
            self._all = self._bars.add_task(f"{len(self._jobs)} runs", total=len(self._jobs), seen="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def started(self, number: int) -> None:
        """A run has begun."""
        self._began[number] = time.monotonic()
        self._bar[number] = self._bars.add_task(self._name(number), total=1.0, seen="")

    def progressed(self, number: int, share: float, look: Look | None = None) -> None:
        """So much of it is over."""
        self._share[number] = share
        self._bars.update(self._bar[number], completed=share, seen=_seen(look))
        self._sum()

    def finished(self, number: int, result: Result) -> None:
        """It is done."""
        self._done += 1
        if self._tell:
            self._tell(self._jobs[number], result)
        self._share[number] = 1.0
        self._bars.remove_task(self._bar.pop(number))
        self._sum()
        took = duration(time.monotonic() - self._began[number])
        self._console.print(f"{self._name(number)}: done in {took} ({self._done} of {len(self._jobs)})")

    def _sum(self) -> None:
        if self._all is not None:
            self._bars.update(self._all, completed=sum(self._share.values()))

    def _name(self, number: int) -> str:
        job = self._jobs[number]
        engine = "" if job.scenario.run.engine == "ledger" else job.scenario.run.engine
        return ", ".join(filter(None, (job.name, engine, job.words, f"seed {job.seed}")))


def _seen(look: Look | None) -> str:
    """How the swarm is doing, in a few words."""
    if look is None:
        return ""
    figure = f"loss {number(look.loss)}" if math.isnan(look.accuracy) else f"accuracy {percent(look.accuracy)}"
    return f"{look.live} nodes, {figure}"
