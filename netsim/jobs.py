"""Runs in processes of their own, several at a time, each with one thread; used by the commands and by `sweep`.

What comes out does not depend on how many run at a time: a run is made from its scenario and its seed alone.
"""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Protocol, cast

from netsim.errors import NetsimError, RunError
from netsim.result import Look, Result
from netsim.scenario import Scenario

SIMULATION = "netsim.sim.simulation:simulate"
BASELINES = "netsim.baselines:run"
REAL = "netsim.real:run"

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
_STEP = 0.005
"""Progress is told whenever so much more of the run is over."""


class Engine(Protocol):
    """What makes a run; `progress` is told the share of it that is over, 0 to 1, and perhaps what was seen there."""

    def __call__(self, name: str, scenario: Scenario, seed: int, progress: Callable[..., None] | None = None) -> Result:
        """Make the run."""


@dataclass(frozen=True, slots=True)
class Job:
    """One run that is to be made.

    `call` names the engine as ``module:function``; by default what the scenario says. `words`: what sets the run apart
    from others of this name, for people who wait for it.
    """

    name: str
    scenario: Scenario
    seed: int
    call: str = ""
    words: str = ""

    @property
    def engine(self) -> str:
        """``module:function`` of what makes the run."""
        return self.call or (SIMULATION if self.scenario.run.engine == "ledger" else BASELINES)


class Watcher(Protocol):
    """Is told how the runs get on."""

    def started(self, number: int) -> None:
        """The job with this number (from 0) has begun."""

    def progressed(self, number: int, share: float, look: Look | None = None) -> None:
        """So much of it is over, 0 to 1; this is how it looks, if that is known."""

    def finished(self, number: int, result: Result) -> None:
        """It is done."""


def engine(call: str) -> Engine:
    """The function that `call` names."""
    module, _, name = call.partition(":")
    function: Engine = getattr(importlib.import_module(module), name)
    return function


def run(jobs: Sequence[Job], processes: int, watcher: Watcher) -> list[Result]:
    """Make all runs, `processes` at a time; the results are in the order of the jobs.

    Raises:
        RunError: a run has failed; those that were not finished are given up.
    """
    results: dict[int, Result] = {}
    waiting = iter(range(len(jobs)))
    busy: dict[Connection, int] = {}
    with _workers(min(processes, len(jobs))) as workers:

        def give(worker: Connection) -> None:
            if (number := next(waiting, None)) is not None:
                busy[worker] = number
                worker.send(jobs[number])
                watcher.started(number)

        for worker in workers:
            give(worker)
        while busy:
            for worker in cast(list[Connection], wait(list(busy))):
                number = busy[worker]
                job = jobs[number]
                try:
                    message = worker.recv()
                except (EOFError, OSError) as error:
                    raise RunError(
                        f"the process of {job.name} with seed {job.seed} has died: most often the machine is out of "
                        "memory; try fewer --jobs, or a smaller scenario"
                    ) from error
                match message:
                    case float() as share, look:
                        watcher.progressed(number, share, look)
                    case Result():
                        results[number] = message
                        del busy[worker]
                        watcher.finished(number, message)
                        give(worker)
                    case text:
                        raise RunError(f"{job.name} with seed {job.seed}: {text}")
    return [results[number] for number in range(len(jobs))]


@contextlib.contextmanager
def _workers(count: int) -> Iterator[list[Connection]]:
    """Processes that wait for jobs; gone, whatever happens, at the end."""
    context = multiprocessing.get_context("spawn")
    processes: list[SpawnProcess] = []
    pipes: list[Connection] = []
    try:
        for number in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs,), name=f"netsim-{number}", daemon=True)
            process.start()
            theirs.close()
            processes.append(process)
            pipes.append(ours)
        yield pipes
    finally:
        for pipe in pipes:
            pipe.close()
        for process in processes:
            process.terminate()
            process.join()


def _work(pipe: Connection) -> None:
    """Make the runs that come through the pipe, until it is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C is for the parent, which then ends this process.
    for name in _THREADS:
        os.environ[name] = "1"  # Before numpy and torch are imported, which is why this module imports neither.
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            job: Job = pipe.recv()
            pipe.send(_answer(job, _Teller(pipe)))


def _end_with_parent() -> None:
    """Nobody waits for the run of a parent that was killed."""
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os._exit(1)


def _answer(job: Job, progress: Callable[..., None]) -> Result | str:
    try:
        return engine(job.engine)(job.name, job.scenario, job.seed, progress)
    except NetsimError as error:
        return str(error)
    except BrokenPipeError:
        raise
    except Exception as error:
        import traceback

        return f"{type(error).__name__}: {error}\n{''.join(traceback.format_exception(error))}"


class _Teller:
    """Sends the progress through the pipe, but not each small step."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._told = 0.0

    def __call__(self, share: float, look: Look | None = None) -> None:
        if share >= self._told + _STEP:
            self._told = share
            self._pipe.send((float(share), look))
