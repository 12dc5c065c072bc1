from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import msgspec
import pytest

from learnae.coordinator import actions
from netsim import jobs
from netsim.result import Result
from netsim.scenario import Gossip, Happening, Link, Nodes, Run, Scenario, Uptime, Workload
from netsim.sim import gossip, simulate
from netsim.sim.node import Node
from netsim.sim.simulation import Simulation

SLOT = 2.0


def bowl(nodes: tuple[Nodes, ...], seconds: float = 60.0, quiet: float = 30.0, **more: Any) -> Scenario:
    workload = Workload(kind="quadratic", dimensions=16, slot_seconds=SLOT)
    run = Run(seconds=seconds, quiet=quiet, evaluate=10.0, tick=0.5)
    return Scenario(purpose="a test", run=run, workload=workload, nodes=nodes, **more)


def home(count: int, **more: Any) -> tuple[Nodes, ...]:
    return (Nodes(count=count, link=Link(latency=0.02, jitter=0.005), speed=20.0, **more),)


CHURN = Uptime(kind="exponential", mean=20.0, away=3.0, goodbye=0.5, replaced=0.5)
STORMY = bowl(
    (
        Nodes(
            count=6, link=Link(latency=0.02, jitter=0.01, loss=0.03), speed=20.0, speed_spread=0.3, skew=0.2, drift=50
        ),
        *home(2, uptime=CHURN),
    ),
    seconds=30.0,
    quiet=20.0,
    happenings=(Happening(at=10.0, what="partition", part=0.4), Happening(at=18.0, what="heal")),
)


_runs: dict[tuple[bytes, int], Result] = {}


def run(scenario: Scenario, seed: int = 0) -> Result:
    key = msgspec.json.encode(scenario), seed
    if key not in _runs:
        _runs[key] = simulate("test", scenario, seed)
    return _runs[key]


class Nobody:
    """Watches nothing."""

    def started(self, number: int) -> None:
        pass

    def progressed(self, number: int, share: float, look: object = None) -> None:
        pass

    def finished(self, number: int, result: Result) -> None:
        pass


def test_the_same_seed_gives_the_same_digest_and_another_one_another_and_watching_changes_nothing() -> None:
    told: list[float] = []
    again = simulate("another name", STORMY, 0, lambda part, _: told.append(part))
    assert again.digest == run(STORMY).digest
    assert told == sorted(told)
    assert told[-1] == pytest.approx(1.0)
    assert run(STORMY, 1).digest != run(STORMY).digest
    assert run(STORMY, 1).looks != run(STORMY).looks


def test_the_digest_does_not_depend_on_the_process_or_on_how_python_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONHASHSEED", "7")
    [elsewhere] = jobs.run([jobs.Job("test", STORMY, 1)], 1, Nobody())
    assert elsewhere.digest == run(STORMY, 1).digest


def test_in_the_end_all_who_are_there_are_equal_to_the_bit() -> None:
    for seed in (0, 1):
        summary = run(STORMY, seed).summary
        assert summary["identical"] == 1.0
        assert summary["consensus"] == 0.0
        assert summary["live"] >= 6
        assert summary["updates"] > 40


def test_who_are_not_equal_are_not_called_so() -> None:
    parted = bowl(home(6), quiet=0.0, happenings=(Happening(at=20.0, what="partition"),))
    summary = run(parted).summary
    assert summary["identical"] == 0.0
    assert summary["consensus"] > 0.0


def test_a_partition_parts_the_weights_and_healing_makes_them_one() -> None:
    happenings = (Happening(at=16.0, what="partition"), Happening(at=36.0, what="heal"))
    simulation = Simulation("test", bowl(home(8), happenings=happenings), 0)
    seen: dict[float, tuple[set[bytes], set[bytes]]] = {}

    def look() -> None:
        here = [{node.coordinator.ledger.digest for node in simulation.nodes[half] if node.coordinator.ledger}
                for half in (slice(0, 4), slice(4, 8))]  # fmt: skip
        seen[simulation.agenda.now] = (here[0], here[1])

    for moment in (15.0, 35.0, 59.0):
        # Late in a slot all updates of it have come.
        simulation.agenda.at(moment + 0.9, look)
    result = simulation.run()
    before, during, after = seen.values()
    assert before[0] == before[1]
    assert not during[0] & during[1]
    assert len(during[0]) == len(during[1]) == 1
    assert after[0] == after[1]
    assert result.summary["identical"] == 1.0


def test_a_node_that_crashes_goes_on_from_its_disk() -> None:
    happenings = (Happening(at=30.0, what="crash", part=0.25), Happening(at=40.0, what="restart", part=0.25))
    simulation = Simulation("test", bowl(home(4), happenings=happenings), 0)
    first: list[Node] = []
    kept: dict[str, Any] = {}

    def crash() -> None:
        first.append(simulation.nodes[0])
        kept["updates"] = set(first[0].disk.updates)
        kept["seq"] = first[0].disk.own_seq
        kept["checkpoint"] = first[0].disk.checkpoint

    def back() -> None:
        node = next(node for node in simulation.nodes if node.place == 0)
        kept["again"] = node
        trainer, ledger = node.trainer, node.coordinator.ledger
        assert trainer is not None
        assert ledger is not None
        # Before anybody could have told it: what was on the disk is in the ledger and in the weights.
        kept["held"] = {entry.digest for entry in ledger.entries()}
        kept["books"] = set(node.books.applied)

    simulation.agenda.at(29.9, crash)
    simulation.agenda.at(42.6, back)  # a daemon takes 2.5 s until its trainer is there
    result = simulation.run()
    assert kept["again"] is not first[0]
    assert kept["again"].author == first[0].author
    assert kept["checkpoint"] is not None
    assert kept["updates"] <= kept["held"] | set(kept["again"].disk.updates)
    assert len(kept["updates"] & kept["held"]) > 0.5 * len(kept["updates"])
    assert kept["seq"] > 5
    assert kept["again"].disk.own_seq > kept["seq"]
    assert result.summary["identical"] == 1.0
    assert result.summary["live"] == 4


def test_a_node_that_is_replaced_has_another_key_and_nothing_on_its_disk() -> None:
    uptime = Uptime(kind="exponential", mean=15.0, away=1.0, goodbye=0.0, replaced=1.0)
    simulation = Simulation("test", bowl((*home(3), *home(1, uptime=uptime)), seconds=80.0), 0)
    met: dict[bytes, int] = {}

    def look() -> None:
        for node in simulation.nodes:
            if node.place == 3 and node.author not in met:
                met[node.author] = len(node.disk.updates)

    for moment in range(80):
        simulation.agenda.at(float(moment), look)
    result = simulation.run()
    assert len(met) >= 3
    assert list(met.values()) == [0] * len(met)
    assert result.summary["identical"] == 1.0


def test_nobody_receives_more_than_is_sent_and_nobody_sends_more_than_its_line_carries() -> None:
    up = 20_000.0
    narrow = bowl((Nodes(count=8, link=Link(up=up, down=4 * up, loss=0.05), speed=20.0),), 30.0, 0.0)
    looks = run(narrow).looks
    for before, after in pairwise(looks):
        assert before.sent <= after.sent
        # What was put on a line may still be waiting there: at most what one exchange is.
        assert after.sent - before.sent <= up * (after.time - before.time) + 50_000
    assert all(look.received <= look.sent for look in looks)
    assert looks[-1].received < looks[-1].sent


def test_whom_repair_helps_everybody_has_everything_though_much_is_lost() -> None:
    lossy = bowl((Nodes(count=10, link=Link(loss=0.15), speed=20.0),), seconds=24.0)
    assert run(lossy).summary["identical"] == 1.0
    assert run(lossy).summary["updates"] == run(bowl(home(10), seconds=24.0)).summary["updates"]


def test_more_neighbours_cost_more_bytes_and_change_nothing_else() -> None:
    few, many = (
        run(bowl(home(8), seconds=30.0, quiet=10.0, gossip=Gossip(degree=degree))).summary for degree in (2, 6)
    )
    assert many["bytes"] > 1.3 * few["bytes"]
    assert many["updates"] == few["updates"]


def test_both_ways_of_reckoning_gossip_give_the_same_swarm(monkeypatch: pytest.MonkeyPatch) -> None:
    each = run(bowl(home(9), seconds=20.0, quiet=15.0)).summary
    monkeypatch.setattr(gossip, "EXACT", 6)
    mean = simulate("test", bowl(home(9), seconds=20.0, quiet=15.0), 0).summary
    assert mean["identical"] == each["identical"] == 1.0
    assert mean["updates"] == each["updates"]
    assert mean["bytes"] == pytest.approx(each["bytes"], rel=0.3)


def test_clocks_that_are_wrong_by_a_little_do_not_part_the_swarm() -> None:
    wrong = bowl((Nodes(count=6, speed=20.0, skew=0.5, drift=200.0),))
    summary = run(wrong).summary
    assert summary["identical"] == 1.0
    assert summary["updates"] == pytest.approx(run(bowl(home(6))).summary["updates"], abs=12)


def test_a_group_that_joins_later_is_there_then() -> None:
    looks = run(bowl((*home(3), *home(5, joins=25.0)))).looks
    assert [look.live for look in looks if look.time <= 20.0] == [3, 3]
    assert [look.live for look in looks if look.time >= 30.0] == [8] * len(looks[2:])


def test_the_swarm_comes_closer_to_the_common_minimum_than_anybody_alone() -> None:
    def loss(count: int) -> float:
        slow = (Nodes(count=count, speed=5.0),)
        return run(bowl(slow, quiet=5.0, codec={"density": 0.5})).summary["loss"]

    together = loss(8)
    assert together < 0.5  # the mean of eight minima lies about 1 / sqrt(8) from the common one
    assert together < 0.6 * loss(1)


def test_each_action_of_the_coordinator_is_carried_out_or_left_out_on_purpose() -> None:
    from netsim.sim import node

    known = set(node._DONE) | set(node._PERFORMED)
    every = {kind for kind in vars(actions).values() if isinstance(kind, type) and kind in _members(actions.Action)}
    assert {kind.__name__ for kind in every - known} == {"JoinSwarm", "LearnAddresses"}


def _members(union: Any) -> tuple[Any, ...]:
    return tuple(getattr(union, "__args__", ()))


def test_a_run_without_anybody_honest_has_figures_that_say_so() -> None:
    gone = bowl(home(2), quiet=0.0, happenings=(Happening(at=30.0, what="leave", part=1.0),))
    summary = run(gone).summary
    assert summary["live"] == 0
    assert math.isnan(summary["loss"])
    assert summary["identical"] == 0.0
