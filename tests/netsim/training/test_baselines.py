from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from netsim import baselines
from netsim.baselines.methods import DiLoCo, FedAvg, NoLoCo, Pairwise
from netsim.errors import ScenarioError
from netsim.result import Result
from netsim.scenario import Engine, Nodes, Run, Scenario, Workload


def ends(engine: Engine, nodes: int = 4, seed: int = 0) -> Result:
    scenario = Scenario(
        purpose="a test",
        run=Run(seconds=16, evaluate=8, engine=engine),
        workload=Workload(task="digits", alpha=0.3, round_steps=15),
        nodes=(Nodes(count=nodes), Nodes(count=1, attack="noise")),
    )
    return baselines.run(engine, scenario, seed)


def rows(nodes: int, seed: int, width: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((nodes, width)).astype(np.float32)


def test_who_talks_learns_more_than_who_does_not() -> None:
    found = {engine: ends(engine).summary for engine in ("solo", "fedavg", "diloco", "pairwise", "noloco")}
    assert found["solo"]["bytes"] == 0
    assert found["fedavg"]["accuracy"] > 0.9
    assert found["diloco"]["accuracy"] > 0.9
    for engine in ("fedavg", "diloco", "pairwise", "noloco"):
        assert found[engine]["accuracy"] > found["solo"]["accuracy"] + 0.05
        assert found[engine]["bytes"] == 16 * 17_226 * 8
        assert found[engine]["live"] == 4
    assert found["fedavg"]["consensus"] == 0 == found["diloco"]["consensus"]
    assert found["pairwise"]["consensus"] > 0 < found["noloco"]["consensus"]


def test_equal_runs_are_equal_to_the_bit_and_others_are_not() -> None:
    first = ends("noloco", 3)
    assert first.digest == ends("noloco", 3).digest != ends("noloco", 3, seed=1).digest
    assert [look.time for look in first.looks] == [8.0, 16.0]


def test_only_baselines_of_image_tasks_are_run() -> None:
    with pytest.raises(ScenarioError, match="no baseline"):
        ends("ledger")
    scenario = Scenario(
        purpose="a test",
        run=Run(seconds=1, engine="solo"),
        workload=Workload(kind="quadratic"),
        nodes=(Nodes(count=2),),
    )
    with pytest.raises(ScenarioError, match="image"):
        baselines.run("solo", scenario, 0)


@given(st.integers(1, 9), st.integers(0, 1000))
def test_averaging_keeps_the_mean(nodes: int, seed: int) -> None:
    for method in (FedAvg(), Pairwise(np.random.default_rng(seed))):
        weights = rows(nodes, seed)
        before = weights.mean(axis=0)
        traffic = method.mix(weights)
        np.testing.assert_allclose(weights.mean(axis=0), before, atol=1e-5)
        assert traffic[:, 0].sum() == traffic[:, 1].sum()


def test_diloco_without_momentum_at_a_full_step_is_fedavg() -> None:
    one, other = rows(5, 0), rows(5, 0)
    DiLoCo(rows(1, 1)[0], rate=1.0, mu=0.0).mix(one)
    FedAvg().mix(other)
    np.testing.assert_allclose(one, other, atol=1e-6)


def test_noloco_is_what_its_paper_exchanges() -> None:
    """m = alpha m + beta mean(theta - phi) + gamma (mean phi - phi_i), with beta = gamma."""
    start = rows(1, 7)[0]
    method = NoLoCo(start, 4, np.random.default_rng(5), 0.5, 0.7)
    phi, momentum, rng = np.tile(start, (4, 1)).astype(np.float64), np.zeros((4, 6)), np.random.default_rng(5)
    for turn in range(3):
        theta = phi + rows(4, turn)
        weights = theta.astype(np.float32)
        method.mix(weights)
        order = rng.permutation(4).tolist()
        old = phi.copy()
        for one, other in zip(order[::2], order[1::2], strict=True):
            for me in (one, other):
                push = (theta[one] - old[one] + theta[other] - old[other]) / 2
                pull = (old[one] + old[other]) / 2 - old[me]
                momentum[me] = 0.5 * momentum[me] + 0.7 * push + 0.7 * pull
                phi[me] = old[me] + momentum[me]
        np.testing.assert_allclose(weights, phi, atol=1e-5)
