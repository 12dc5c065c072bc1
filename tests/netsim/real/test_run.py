"""Real daemons from a scenario: one short run of three, with a partition, a crash and a return."""

from __future__ import annotations

import os
import subprocess

import msgspec
import pytest

from netsim import processes, real
from netsim.errors import RealError
from netsim.real.course import Course
from netsim.real.network import kernel
from netsim.scenario import Scenario

SCENARIO = {
    "purpose": "a test",
    "run": {"seconds": 12.0, "quiet": 4.0, "evaluate": 4.0},
    "workload": {"task": "digits", "alpha": None, "slot_seconds": 1.0, "round_steps": 40},
    "nodes": [{"count": 3, "link": {"latency": 0.005, "up": 1e6, "down": 1e6}, "speed": 100.0}],
    "happenings": [
        {"at": 4.0, "what": "partition", "part": 0.34},
        {"at": 6.0, "what": "heal"},
        {"at": 7.0, "what": "crash", "part": 0.34},
        {"at": 7.5, "what": "restart", "part": 0.34},
    ],
}


def needs_kernel() -> None:
    try:
        kernel()
    except RealError as error:
        pytest.skip(str(error))


def namespaces() -> list[str]:
    """Those that this process has made; other tests may run beside."""
    found = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    return [line for line in found.splitlines() if line.startswith(f"learnae-{os.getpid()}-")]


@pytest.mark.netns
def test_daemons_do_what_the_scenario_says() -> None:
    needs_kernel()
    before = namespaces()
    done: list[float] = []
    result = real.run("a test", msgspec.convert(SCENARIO, Scenario), 0, lambda part, look: done.append(part))
    assert result.kind == "real"
    assert [look.time for look in result.looks] == [4.0, 8.0, 12.0, 16.0]
    assert result.looks[-1].live == 3
    assert result.summary["identical"] == 1.0
    assert result.summary["accuracy"] > 0.5
    assert 10_000 < result.summary["bytes"] < 2_000_000
    assert result.looks[0].sent < result.looks[-1].sent
    assert done == sorted(done) and done[0] >= 0 and done[-1] <= 1
    assert namespaces() == before


@pytest.mark.netns
def test_nothing_is_left_of_a_run_that_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    needs_kernel()
    started: list[int] = []

    def interrupted(course: Course) -> None:
        course._start(0)
        started.append(course._nodes[0].pid)
        raise KeyboardInterrupt

    monkeypatch.setattr(Course, "_gather", interrupted)
    before = namespaces()
    with pytest.raises(KeyboardInterrupt):
        real.run("a test", msgspec.convert(SCENARIO, Scenario), 0)
    assert namespaces() == before
    assert started and not processes.alive(started[0])


@pytest.mark.netns
def test_a_daemon_that_ends_by_itself_ends_the_run_with_its_log(monkeypatch: pytest.MonkeyPatch) -> None:
    needs_kernel()
    monkeypatch.setattr("netsim.real.plan.Plan.flags", lambda *_: ("--no-such-flag",))
    with pytest.raises(RealError, match="no-such-flag"):
        real.run("a test", msgspec.convert(SCENARIO, Scenario), 0)


def test_what_cannot_be_done_is_refused_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netsim.real.course.kernel", lambda: pytest.fail("it went on"))
    odd = {**SCENARIO, "nodes": [{"count": 1000}]}
    with pytest.raises(RealError, match="1000 daemons are too many"):
        real.run("a test", msgspec.convert(odd, Scenario), 0)


def test_on_other_systems_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netsim.real.sys.platform", "win32")
    with pytest.raises(RealError, match="use Linux, or `netsim run`"):
        real.run("a test", msgspec.convert(SCENARIO, Scenario), 0)
