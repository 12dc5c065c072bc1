"""The learner: trains a task's model, without network or clock; driven by the trainer process and by benchmarks.

What is not about the task, the exchange of weights, is in `learnae.weights`.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from learnae.codec import CodecSettings
from learnae.errors import LearnerError
from learnae.initial import Tensors, take
from learnae.task import Shard, Task
from learnae.weights import AVERAGING, LearnerStatistics, Round, SharedWeights, copy_into, foreign_state

__all__ = ["AVERAGING", "Learner", "LearnerStatistics", "Round"]


class Learner(SharedWeights):
    """Trains ``task`` on ``shard`` and keeps the replica. Nothing here is safe to call from two threads at once.

    ``codec`` shapes the own updates, ``seed`` orders the own data. The weights begin with those of the task's seed
    alone, so that every member's are equal, or with ``initial``, by name; ``genesis_digest`` is their digest. ``seed``
    is also given to torch's global generator, which dropout draws from. Raises `LayoutError` for a model that cannot
    be shared, or that ``initial`` does not fit.
    """

    def __init__(
        self,
        task: Task,
        shard: Shard,
        codec: CodecSettings | None = None,
        seed: int = 0,
        initial: Tensors | None = None,
    ) -> None:
        self.task = task
        self.shard = shard
        self.seed = seed
        torch.manual_seed(task.seed)
        model = task.model()
        self.fresh = take(model, initial) if initial is not None else []
        """Parameters that `initial` did not have."""
        torch.manual_seed(seed)
        super().__init__(model, codec)
        self._drawn = 0
        self._batches = task.batches(shard, seed)
        self._reset_optimizer()
        self._start_round()

    def warm_up(self) -> None:
        """Draw a batch and drop it, on an iterator of its own: a task reads its data when the first batch is drawn."""
        next(self.task.batches(self.shard, self.seed), None)

    def step(self) -> float:
        """One local step. Returns its loss; one that is not finite ends all training of the round.

        Raises `LearnerError` if the task has no more batches.
        """
        batch = next(self._batches, None)
        if batch is None:
            raise LearnerError(
                f"task {self.task.name!r} ran out of batches: its batches() must go on for ever", code="batches-ended"
            )
        self._drawn += 1
        multiplier = self.task.learning_rate(self.samples_seen)
        for group, rate in zip(self._optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate if multiplier is None else rate * multiplier
        self.model.train()
        self._optimizer.zero_grad(set_to_none=True)
        loss = self.task.loss(self.model, batch)
        value = float(loss.detach())
        if math.isfinite(value):
            loss.backward()  # type: ignore[no-untyped-call]
            if self.task.max_grad_norm is not None:
                nn.utils.clip_grad_norm_(self.model.parameters(), self.task.max_grad_norm, foreach=True)
            self._optimizer.step()
        self._losses.append(value)
        self._round_samples += self.task.batch_size(batch)
        return value

    def evaluate(self, averaged: bool = False) -> dict[str, float]:
        """The task's figures for the swarm's weights, exact or as their running average; theta is left as it was."""
        with self.swarm_weights(averaged) as model:
            return self.task.evaluate(model)

    def state(self) -> dict[str, NDArray[Any]]:
        """All that a restart needs to go on exactly here, as named arrays. ``torch`` holds a `torch.save` archive.

        Most of them are the learner's own: to be saved, or copied, before it goes on.
        """
        local = {
            "parameters": [parameter.detach() for parameter in self.model.parameters()],
            "buffers": list(self.model.buffers()),
            "saved_buffers": self._saved_buffers,
            "optimizer": self._optimizer.state_dict(),
            "random": torch.get_rng_state(),
        }
        archive = io.BytesIO()
        torch.save(local, archive)
        return {**self._arrays(), "torch": np.frombuffer(archive.getbuffer(), np.uint8)}

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go on from a `state` of the same task, shard and seed. The data are drawn again up to where they were.

        Raises `LearnerError` if the state belongs to another model or is damaged; the learner is then of no use.
        """
        try:
            self._drawn, self._round_samples = self._load_arrays(state)
            local = torch.load(io.BytesIO(state["torch"].tobytes()), weights_only=True)
            self._optimizer.load_state_dict(local["optimizer"])
            copy_into(self.model.parameters(), local["parameters"])
            copy_into(self.model.buffers(), local["buffers"])
            self._saved_buffers = local["saved_buffers"]
            torch.set_rng_state(local["random"])
        except Exception as error:
            raise foreign_state(error) from error
        self._batches = self.task.batches(self.shard, self.seed)
        for _ in range(self._drawn):
            next(self._batches)

    def _positions(self) -> Sequence[int]:
        return self._drawn, self._round_samples

    def _reset_optimizer(self) -> None:
        self._optimizer = self.task.optimizer(self.model)
        self._rates = [group["lr"] for group in self._optimizer.param_groups]
