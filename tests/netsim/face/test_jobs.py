from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from netsim import jobs
from netsim.errors import RunError
from netsim.result import Look, Result
from netsim.scenario import load
from tests.netsim.face import fake


class Log:
    def __init__(self) -> None:
        self.begun: list[int] = []
        self.shares: dict[int, list[float]] = {}
        self.looks: list[Look | None] = []
        self.done: list[int] = []

    def started(self, number: int) -> None:
        self.begun.append(number)

    def progressed(self, number: int, share: float, look: Look | None = None) -> None:
        self.shares.setdefault(number, []).append(share)
        self.looks.append(look)

    def finished(self, number: int, result: Result) -> None:
        self.done.append(number)


def job(seed: int, call: str = "simulate") -> jobs.Job:
    return jobs.Job("lan-lab", load("lan-lab", small=True), seed, f"{fake.HERE}:{call}")


def test_results_do_not_depend_on_how_many_run_at_a_time() -> None:
    wanted = [job(seed, "threads") for seed in range(5)]
    logs = [Log(), Log()]
    one, three = (jobs.run(wanted, processes, log) for processes, log in zip((1, 3), logs, strict=True))
    assert [result.digest for result in one] == [result.digest for result in three]
    assert [result.seed for result in three] == [0, 1, 2, 3, 4]
    assert len({result.digest for result in one}) == 5
    assert len({result.costs["memory"] for result in three}) == 3, "each process has left its id there"
    for log in logs:
        assert log.begun == [0, 1, 2, 3, 4] == sorted(log.done)
    assert multiprocessing.active_children() == []


def test_progress_is_told_and_rises() -> None:
    log = Log()
    jobs.run([job(0)], 1, log)
    assert len(log.shares[0]) >= 5
    assert log.shares[0] == sorted(log.shares[0])
    assert log.shares[0][-1] == 1.0
    assert [look.live for look in log.looks if look] == [4] * len(log.looks)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("refuse", r"lan-lab with seed 1: the fake engine is out of order: use another$"),
        ("fail", r"lan-lab with seed 1: ZeroDivisionError: by nothing\nTraceback"),
        ("die", r"the process of lan-lab with seed 1 has died: most often the machine is out of memory"),
    ],
)
def test_a_run_that_fails_says_so_and_ends_the_others(call: str, message: str) -> None:
    with pytest.raises(RunError, match=message):
        jobs.run([job(0), job(1, call), job(2)], 2, Log())
    assert multiprocessing.active_children() == []


KILLED = """
import multiprocessing, os, signal
from netsim import jobs
from tests.netsim.face.test_jobs import Log, job

class Killer(Log):
    def progressed(self, number, share, look=None):
        print(multiprocessing.active_children()[0].pid, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    jobs.run([job(0, "hang")], 1, Killer())
"""


def test_a_run_ends_with_who_waits_for_it(tmp_path: Path) -> None:
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path or "." for path in sys.path)}
    done = subprocess.run([sys.executable, script], stdout=subprocess.PIPE, check=False, timeout=60, env=environment)
    assert done.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 20
    while psutil.pid_exists(int(done.stdout)):
        assert time.monotonic() < deadline, "it goes on"
        time.sleep(0.05)


def test_nothing_to_run_is_no_error() -> None:
    assert jobs.run([], 2, Log()) == []


def test_the_scenario_says_which_engine_makes_the_run() -> None:
    assert jobs.Job("a", load("lan-lab"), 0).engine == "netsim.sim.simulation:simulate"
    assert jobs.Job("a", load("lan-lab", {"run.engine": "fedavg"}), 0).engine == "netsim.baselines:run"
