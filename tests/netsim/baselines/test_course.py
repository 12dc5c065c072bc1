"""Whole runs of the baselines, small ones."""

from __future__ import annotations

from typing import Any

import pytest

from netsim import baselines
from netsim.errors import ScenarioError
from netsim.scenario import Scenario, load

SMALL: dict[str, Any] = {"run.seconds": 6.0, "run.evaluate": 3.0, "nodes.0.count": 4, "workload.slot_seconds": 1.0}


def scenario(engine: str, **changes: Any) -> Scenario:
    return load("lan-lab", SMALL | {"run.engine": engine} | changes)


@pytest.fixture(scope="module")
def accuracies() -> dict[str, float]:
    engines = ("solo", "fedavg", "diloco", "pairwise", "noloco")
    return {engine: baselines.run(engine, scenario(engine), 0).summary["accuracy"] for engine in engines}


def test_all_that_exchange_learn_more_than_those_alone(accuracies: dict[str, float]) -> None:
    alone = accuracies.pop("solo")
    assert min(accuracies.values()) > alone + 0.05, accuracies


def test_the_same_seed_gives_the_same_result_another_one_does_not() -> None:
    one, again, other = (baselines.run("fedavg", scenario("fedavg"), seed) for seed in (1, 1, 2))
    assert one.digest == again.digest != other.digest


def test_bytes_and_looks() -> None:
    result = baselines.run("fedavg", scenario("fedavg"), 0)
    size = 17_226
    assert [look.time for look in result.looks] == [3.0, 6.0]
    assert [look.sent for look in result.looks] == [3 * 4 * size, 6 * 4 * size]
    assert result.summary["bytes"] == 2 * 6 * 4 * size and result.summary["identical"] == 1


def test_what_is_no_baseline_is_refused() -> None:
    with pytest.raises(ScenarioError, match="no baseline"):
        baselines.run("x", scenario("ledger"), 0)
    with pytest.raises(ScenarioError, match="images only"):
        baselines.run("x", scenario("fedavg", **{"workload.kind": "quadratic"}), 0)
