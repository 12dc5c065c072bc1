"""Every shipped scenario comes out as it expects: here the small versions, with `pytest -m slow` the full ones."""

from __future__ import annotations

import math

import pytest

from netsim import expect, jobs, scenario
from netsim.result import Result
from netsim.scenario import Scenario

FLOOR = {"accuracy": 0.4, "worst": 0.4}
"""What a bound has to be above to say anything: a swarm that has hardly learned reaches as much."""


class Nobody:
    """Watches nothing."""

    def started(self, number: int) -> None:
        pass

    def progressed(self, number: int, share: float, look: object = None) -> None:
        pass

    def finished(self, number: int, result: Result) -> None:
        pass


def run(name: str, loaded: Scenario, seed: int = 0) -> Result:
    job = jobs.Job(name, loaded, seed)
    return jobs.engine(job.engine)(name, loaded, seed)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", scenario.names())
def test_the_small_version_comes_out_as_expected(name: str) -> None:
    result = run(name, scenario.load(name, small=True))
    assert [str(verdict) for verdict in expect.missed(result)] == []


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", scenario.names())
def test_the_full_version_comes_out_as_expected(name: str) -> None:
    result = run(name, scenario.load(name))
    assert [str(verdict) for verdict in expect.missed(result)] == []


@pytest.mark.parametrize("small", [False, True], ids=["full", "small"])
@pytest.mark.parametrize("name", scenario.names())
def test_a_scenario_expects_what_a_swarm_that_fails_does_not_give(name: str, small: bool) -> None:
    loaded = scenario.load(name, small=small)
    assert loaded.expect
    for wanted in loaded.expect:
        if wanted.at_least is not None:
            assert wanted.at_least > FLOOR.get(wanted.what, 0.0), wanted
        if wanted.at_most is not None:
            assert math.isfinite(wanted.at_most), wanted


def test_runs_are_the_same_to_the_bit_on_any_number_of_processes() -> None:
    bowl = scenario.load("lan-lab", {"workload.kind": "quadratic", "run.seconds": 15.0, "run.quiet": 5.0}, small=True)
    digits = scenario.load("lan-lab", {"run.seconds": 10.0, "run.quiet": 5.0}, small=True)
    wanted = [jobs.Job("bowl", bowl, 0), jobs.Job("digits", digits, 0), jobs.Job("bowl", bowl, 1)]
    one = [result.digest for result in jobs.run(wanted, 1, Nobody())]
    two = [result.digest for result in jobs.run(wanted, 2, Nobody())]
    assert one == two
    assert len(set(one)) == 3
