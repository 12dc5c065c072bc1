"""Real training of the image tasks: every node has the daemon's own learner, and their local steps are done together.

Used by the engine and the baselines. Steps that are due wait until somebody looks at what they change; then those of
all nodes are done, a group at a time in lockstep (`netsim.workloads.lockstep`). Tasks which that does not know step
one node after the other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from learnae import snapshot
from learnae.codec import CodecSettings, Payload
from learnae.errors import LearnerError
from learnae.genesis import Genesis
from learnae.learner import Learner, Round
from learnae.model import gather, scatter
from learnae.replica import Replica
from learnae.rules import FULL
from learnae.task import Shard, Task, load_task
from learnae.tasks.images import ImageTask
from netsim import attacks
from netsim.crew import Score
from netsim.scenario import Scenario
from netsim.workloads.lockstep import Batch, Lockstep, group_size, layers
from netsim.workloads.quadratic import codec_of, rules_of


class Images:
    """The crew of an image task. Sets torch to one thread, so that equal runs are equal to the bit.

    Args:
        scenario: names the task, and how its data are split.
        seed: of the run: of the split and of each node's order of its data.
    """

    def __init__(self, scenario: Scenario, seed: int) -> None:
        torch.set_num_threads(1)
        workload = scenario.workload
        self._workload = workload
        self._seed = seed
        self._codec = codec_of(scenario)
        self._task = load_task(workload.task, Path(workload.data) if workload.data else None)
        self._shards = workload.shards or sum(group.count for group in scenario.nodes if group.joins == 0)
        self._poisoned = [
            group.attack is not None and attacks.poisons(group.attack)
            for group in scenario.nodes
            for _ in range(group.count)
        ]
        self._due: dict[Pupil, int] = {}
        first = Pupil(self, self._task, self._shard(0), self._codec, 0, poisoned=False)
        self._lockstep = _lockstep(first)
        self._judge = first.model
        self.genesis = Genesis(
            first.layout,
            first.exponents,
            snapshot.root_of(first.replica.pieces()).cid,
            workload.slot_seconds or float(self._task.slot_seconds),
            workload.round_steps or self._task.round_steps,
            rules_of(scenario) if scenario.rules else self._task.rules,
        )

    def _shard(self, number: int) -> Shard:
        return Shard(number % self._shards, self._shards, self._workload.alpha, self._seed)

    def trainer(self, number: int) -> Pupil:
        """A new trainer for the node with this number."""
        poisoned = number < len(self._poisoned) and self._poisoned[number]
        seed = self._seed * 100_003 + number
        return Pupil(self, self._task, self._shard(number), self._codec, seed, poisoned=poisoned)

    def retire(self, trainer: Pupil) -> None:
        """Its steps need not be done."""
        self._due.pop(trainer, None)

    def scores(self, trainers: Sequence[Pupil]) -> list[Score]:
        """Accuracy and loss of the averaged weights on held-out data."""
        return self.scores_of([trainer.averaged() for trainer in trainers])

    def scores_of(self, weights: Iterable[NDArray[np.float32]]) -> list[Score]:
        """Of any weights, float32[D] each; of equal ones once."""
        known: dict[bytes, Score] = {}
        found = []
        for some in weights:
            name = hashlib.sha256(some.data).digest()
            if name not in known:
                scatter(self._judge, some)
                self._judge.eval()
                with torch.no_grad():
                    figures = self._task.evaluate(self._judge)
                known[name] = Score(figures["accuracy"], figures["loss"])
            found.append(known[name])
        return found

    def due(self, trainer: Pupil, steps: int) -> None:
        """So many steps more are due."""
        if steps:
            self._due[trainer] = self._due.get(trainer, 0) + steps

    def settle(self, trainer: Pupil) -> None:
        """Do all steps that are due, of all, if any are of this one."""
        if trainer not in self._due:
            return
        most_first = sorted(self._due.items(), key=lambda item: -item[1])
        self._due.clear()
        if self._lockstep is None:
            for pupil, steps in most_first:
                for _ in range(steps):
                    pupil.step()
            return
        for start in range(0, len(most_first), self._lockstep.size):
            _together(self._lockstep, most_first[start : start + self._lockstep.size])


class Pupil(Learner):
    """A learner whose steps are done when they are needed; everything else is the daemon's own."""

    def __init__(
        self, crew: Images, task: Task, shard: Shard, codec: CodecSettings, seed: int, *, poisoned: bool
    ) -> None:
        self._crew = crew
        self._poisoned = poisoned
        super().__init__(task, shard, codec, seed)
        self._batches = self._drawing()

    def _drawing(self) -> Iterator[Any]:
        batches = self.task.batches(self.shard, self.seed)
        return ((images, 9 - labels) for images, labels in batches) if self._poisoned else batches

    def _settle(self) -> None:
        self._crew.settle(self)

    def advance(self, steps: int) -> None:
        """So many local steps are due."""
        self._crew.due(self, steps)

    # --- steps that are done together

    def draw(self) -> Batch:
        """The next batch. Raises `LearnerError` if there is none."""
        batch: Batch | None = next(self._batches, None)
        if batch is None:
            raise LearnerError(f"task {self.task.name!r} ran out of batches", code="batches-ended")
        self._drawn += 1
        return batch

    def note(self, loss: float, samples: int) -> None:
        """A step has been done."""
        self._losses.append(loss)
        self._round_samples += samples

    def rate(self) -> float:
        """The learning rate of the next step."""
        multiplier = self.task.learning_rate(self.samples_seen)
        return float(self._rates[0] if multiplier is None else self._rates[0] * multiplier)

    def tensors(self) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Weights and momenta, not copied."""
        parameters = list(self.model.parameters())
        return [p.detach() for p in parameters], [self._optimizer.state[p]["momentum_buffer"] for p in parameters]

    def group(self) -> dict[str, Any]:
        """Settings of the optimiser."""
        return dict(self._optimizer.param_groups[0], groups=len(self._optimizer.param_groups))

    def _reset_optimizer(self) -> None:
        super()._reset_optimizer()
        if type(self._optimizer) is torch.optim.SGD:  # Momentum from 0 is what SGD does without any.
            for parameter in self.model.parameters():
                self._optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)

    # --- what looks at them

    def weights(self) -> NDArray[np.float32]:
        """The model's own weights, float32[D]: theta."""
        self._settle()
        return gather(self.model)

    def set_weights(self, weights: NDArray[np.float32]) -> None:
        """Go on from there, with the optimiser's state; for engines that have no replica."""
        self._settle()
        scatter(self.model, weights)

    def move(self, change: NDArray[np.float32]) -> None:
        """Add float32[D] to theta and to where the round began: remote updates that are in the replica already."""
        self._settle()
        scatter(self.model, gather(self.model) + change)
        self._base += change

    def finish_round(self, share: float) -> Round:
        """Encode the round."""
        self._settle()
        return super().finish_round(share)

    def restart_round(self) -> None:
        """Drop the local steps; the optimiser has made them all the same."""
        self._settle()
        super().restart_round()

    def accept(self, payload: Payload, samples: int, ratio: int = FULL) -> None:
        """Add the own update."""
        self._settle()
        super().accept(payload, samples, ratio)

    def apply(self, payload: Payload, samples: int, ratio: int = FULL) -> bool:
        """Add a remote update."""
        self._settle()
        return super().apply(payload, samples, ratio)

    def remove(self, payload: Payload, samples: int, ratio: int = FULL) -> None:
        """Take one back."""
        self._settle()
        super().remove(payload, samples, ratio)

    def without(self, updates: Sequence[tuple[Payload, int]]) -> Replica:
        """A copy of the replica in which these updates are not."""
        copy = self.replica.copy()
        for payload, ratio in updates:
            for part in payload.parts:
                copy.apply(part.index, -part.delta(ratio))
        return copy

    def load(self, replica: Replica, samples: int) -> None:
        """Go on from other weights."""
        self._settle()
        super().load(replica, samples)

    def state(self) -> dict[str, NDArray[Any]]:
        """All that a restart needs, copied."""
        self._settle()
        return {name: array.copy() for name, array in super().state().items()}

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go on from a checkpoint."""
        self._crew.retire(self)
        super().load_state(state)
        self._batches = self._drawing()
        for _ in range(self._drawn):
            next(self._batches)


class _Group(Lockstep):
    """Room for as many as fit the cache."""

    def __init__(self, pupil: Pupil) -> None:
        self.size = group_size(pupil.model)
        super().__init__(pupil.model, self.size, pupil.group()["momentum"], pupil.task.max_grad_norm)


def _lockstep(pupil: Pupil) -> _Group | None:
    """Room for pupils like this one, if their task is one of those that can be done so."""
    group = pupil.group()
    plain = (
        type(pupil).__name__ == "Pupil"
        and isinstance(pupil.task, ImageTask)
        and type(pupil.task).loss is ImageTask.loss
        and group.get("momentum", 0.0) > 0.0
        and not any(group[name] for name in ("dampening", "weight_decay", "nesterov", "maximize"))
        and group["groups"] == 1
    )
    return _Group(pupil) if plain and layers(pupil.model) is not None else None


def _together(lockstep: Lockstep, due: Sequence[tuple[Pupil, int]]) -> None:
    """Steps of a group, who has most of them first."""
    pupils = [pupil for pupil, _ in due]
    for row, pupil in enumerate(pupils):
        lockstep.put(row, *pupil.tensors())
    rates = [pupil.rate() for pupil in pupils]
    for done in range(due[0][1]):
        busy = [pupil for pupil, steps in due if steps > done]
        batches = [pupil.draw() for pupil in busy]
        losses = lockstep.step(batches, rates[: len(busy)])
        for pupil, loss, (_, labels) in zip(busy, losses, batches, strict=True):
            pupil.note(loss, len(labels))
    for row, pupil in enumerate(pupils):
        lockstep.get(row, *pupil.tensors())
