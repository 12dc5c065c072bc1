"""Real training of the built-in image tasks, one `learnae.learner.Learner` for each node; used by the engine."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

from learnae import snapshot
from learnae.codec import CodecSettings, Payload
from learnae.genesis import Genesis
from learnae.learner import Learner, Round
from learnae.replica import Replica
from learnae.rules import FULL
from learnae.task import Shard, load_task
from netsim.crew import Score
from netsim.scenario import Scenario
from netsim.workloads.quadratic import rules_of


class Images:
    """The crew of an image task.

    Args:
        scenario: names the task, and how its data are split.
        seed: of the run.
    """

    def __init__(self, scenario: Scenario, seed: int) -> None:
        workload = scenario.workload
        self._workload = workload
        self._seed = seed
        self._codec = CodecSettings(**scenario.codec)
        self._task = load_task(workload.task, Path(workload.data) if workload.data else None)
        self._shards = workload.shards or sum(group.count for group in scenario.nodes if group.joins == 0)
        learner = self.learner(0)
        self.genesis = Genesis(
            learner.layout,
            learner.exponents,
            snapshot.root_of(learner.replica.pieces()).cid,
            workload.slot_seconds or float(self._task.slot_seconds),
            workload.round_steps or self._task.round_steps,
            rules_of(scenario) if scenario.rules else self._task.rules,
        )

    def learner(self, number: int) -> Learner:
        """The learner of the node with this number."""
        shard = Shard(number % self._shards, self._shards, self._workload.alpha, self._seed)
        return Learner(self._task, shard, self._codec, seed=self._seed * 100_003 + number)

    def trainer(self, number: int) -> Pupil:
        """A new trainer for the node with this number."""
        return Pupil(self.learner(number))

    def retire(self, trainer: Pupil) -> None:
        """Nothing is shared that would have to be given back."""

    def scores(self, trainers: Sequence[Pupil]) -> list[Score]:
        """Accuracy and loss on held-out data."""
        found = [trainer.learner.evaluate(averaged=True) for trainer in trainers]
        return [Score(figures["accuracy"], figures["loss"]) for figures in found]


class Pupil:
    """A learner whose steps are done when they are needed."""

    def __init__(self, learner: Learner) -> None:
        self.learner = learner
        self._due = 0

    def _settled(self) -> Learner:
        while self._due:
            self._due -= 1
            self.learner.step()
        return self.learner

    @property
    def replica(self) -> Replica:
        """The swarm's weights."""
        return self.learner.replica

    def advance(self, steps: int) -> None:
        """So many steps are due."""
        self._due += steps

    def finish_round(self, share: float) -> Round:
        """Encode the round."""
        return self._settled().finish_round(share)

    def restart_round(self) -> None:
        """Drop the local steps."""
        self._settled().restart_round()

    def payload(self, claim: float | None, parts: Iterable[bytes]) -> Payload:
        """An update's payload."""
        return self.learner.payload(claim, parts)

    def accept(self, payload: Payload, samples: int, ratio: int = FULL) -> None:
        """Add the own update."""
        self._settled().accept(payload, samples, ratio)

    def apply(self, payload: Payload, samples: int, ratio: int = FULL) -> bool:
        """Add a remote update."""
        return self._settled().apply(payload, samples, ratio)

    def remove(self, payload: Payload, samples: int, ratio: int = FULL) -> None:
        """Take one back."""
        self._settled().remove(payload, samples, ratio)

    def load(self, replica: Replica, samples: int) -> None:
        """Go on from other weights."""
        self._settled().load(replica, samples)

    def tick_average(self) -> None:
        """A slot has passed."""
        self._settled().tick_average()

    def state(self) -> Any:
        """All that a restart needs."""
        return copy.deepcopy(self._settled().state())

    def load_state(self, state: Any) -> None:
        """Go on from a checkpoint."""
        self.learner.load_state(cast("dict[str, Any]", state))
