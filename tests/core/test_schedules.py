"""Random schedules of everything that can happen to a swarm, after which, once it is quiet, all nodes agree.

Agreeing includes that every cut has settled: nobody may be able to hold that up.

`LEARNAE_SCHEDULES=10000` runs as many of them instead of some hundreds.
"""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from nacl.signing import SigningKey

from learnae.coordinator import Settings
from learnae.rules import Rules
from tests.core.adversary import Adversary
from tests.core.swarm import Faults, Node, Swarm, genesis

SCHEDULES = int(os.environ.get("LEARNAE_SCHEDULES", "200"))
pytestmark = pytest.mark.timeout(60 + 5 * SCHEDULES)
RULES = Rules(cut_slots=4, window=2, staleness=5)
QUIET = 90.0
NODES = 4

numbers = st.integers(1, NODES)


class Schedule(RuleBasedStateMachine):
    """Four PCs at most, some of which are on; one adversary."""

    @initialize(
        seed=st.integers(0, 2**32),
        skews=st.lists(st.floats(-20.0, 20.0), min_size=NODES, max_size=NODES),
        starts=st.lists(st.sampled_from([0, 0, 0, 1]), min_size=NODES, max_size=NODES),
    )
    def begin(self, seed: int, skews: list[float], starts: list[int]) -> None:
        self.swarm = Swarm(seed, lies=0.05)
        self.swarm.tick = 0.5
        # As the defaults are to the default rules: intervals are half as long here.
        self.swarm.settings = Settings(cut_grace=2.0, freeze=5.0, ban=5.0)
        self.skews = skews
        self.starts = starts
        self.adversary = Adversary(self.swarm)
        for number in (1, 2):
            self.start(number)

    def start(self, number: int) -> None:
        first = genesis(start=self.starts[number - 1], rules=RULES)
        self.swarm.add(number, first, skew=self.skews[number - 1])

    def node(self, number: int) -> Node | None:
        return self.swarm.nodes.get(bytes(SigningKey(number.to_bytes(32)).verify_key))

    @rule(seconds=st.integers(1, 15))
    def run_for(self, seconds: int) -> None:
        self.swarm.run(seconds)

    @rule(number=numbers)
    def join(self, number: int) -> None:
        if self.node(number) is None:
            self.start(number)
        self.swarm.run(1.0)

    @rule(number=numbers)
    def crash(self, number: int) -> None:
        node = self.node(number)
        if node is not None and len(self.swarm.nodes) > 1:
            self.swarm.crash(node)
        self.swarm.run(0.5)

    @rule(number=numbers)
    def kill_trainer(self, number: int) -> None:
        node = self.node(number)
        if node is not None:
            node.restart_trainer()
        self.swarm.run(0.5)

    @rule(members=st.sets(numbers, min_size=1, max_size=2))
    def part(self, members: set[int]) -> None:
        for number in members:
            node = self.node(number)
            if node is not None:
                self.swarm.sides[node.author] = 1

    @rule(seconds=st.integers(20, 50))
    def wait_long(self, seconds: int) -> None:
        self.swarm.run(seconds)

    @rule()
    def heal(self) -> None:
        self.swarm.sides.clear()
        self.swarm.run(1.0)

    @rule(loss=st.sampled_from([0.0, 0.1, 0.4]), delay=st.sampled_from([0.1, 1.5]), failure=st.sampled_from([0.0, 0.3]))
    def weather(self, loss: float, delay: float, failure: float) -> None:
        self.swarm.faults = Faults(loss=loss, duplicate=0.2, delay=(0.01, delay), exchange_failure=failure)

    @rule(same_number=st.booleans())
    def fork(self, same_number: bool) -> None:
        self.adversary.fork(same_number=same_number)
        self.swarm.run(0.5)

    @rule(times=st.integers(1, 4))
    def replace(self, times: int) -> None:
        for _ in range(times):
            self.adversary.replace()
            self.swarm.run(0.5)

    @rule()
    def exaggerate(self) -> None:
        self.adversary.exaggerate()

    @rule()
    def hold_back(self) -> None:
        self.adversary.hold_back()
        self.swarm.run(2.0)

    @rule()
    def release(self) -> None:
        self.adversary.release()
        self.swarm.run(0.5)

    @rule(back=st.integers(0, 4))
    def lie_about_cuts(self, back: int) -> None:
        self.adversary.lie_about_cuts(back)

    def teardown(self) -> None:
        if not hasattr(self, "swarm"):
            return
        self.swarm.sides.clear()
        self.swarm.faults = replace(Faults())
        self.swarm.lies = 0.0
        self.swarm.run(QUIET, train=False)
        assert self.swarm.agree(), self.describe()
        ledgers = [node.coordinator.ledger for node in self.swarm.nodes.values()]
        assert not any(ledger.open_intervals() for ledger in ledgers if ledger is not None), self.describe()

    def describe(self) -> str:
        """What the nodes hold, for the report of a failure."""
        return "\n".join(
            f"{node.author[:2].hex()} {node.coordinator.statistics(node.now())} {node.notices[-3:]}"
            for node in self.swarm.nodes.values()
        )


Schedule.TestCase.settings = settings(
    max_examples=SCHEDULES,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestSchedules = Schedule.TestCase
