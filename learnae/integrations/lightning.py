"""`LearnaeCallback` for the Trainer of Lightning; used by scripts with the extra `lightning`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from learnae.errors import ConfigError
from learnae.integrations.membership import Membership, forward, missing

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
    from lightning.pytorch.utilities.data import extract_batch_size
    from lightning.pytorch.utilities.exceptions import MisconfigurationException
except ModuleNotFoundError as error:
    raise missing("lightning", error) from error


class LearnaeCallback(Membership, Callback):  # type: ignore[misc]
    """Trains the Trainer's module together with everybody else on ``topic``::

        Trainer(max_steps=10_000, callbacks=[LearnaeCallback("my-swarm")]).fit(module, loader)

    Joins when the training begins, calls `Swarm.step` after each batch in which an optimiser did a step, and leaves at
    the end; then the module has the swarm's weights.

    ``max_steps``, or what follows from ``max_epochs``, counts the steps of this node over all restarts: a script that
    is started again has its weights, its optimisers' state, and schedules by step where they were. The data begin from
    the start unless ``fit`` is given a checkpoint (``ckpt_path``).

    Args:
        topic: name of the swarm.
        batch_size: the number of samples in a batch; None: the length of the first tensor in it.
        **settings: as for `learnae.join`.

    Raises, when the training begins:
        LayoutError: in several processes, or with a model that cannot be shared.
        DaemonError, TrainerError: as `Swarm.start`.
    """

    def __init__(self, topic: str, *, batch_size: Callable[[Any], int] | None = None, **settings: Any) -> None:
        super().__init__(topic, **settings)
        self._batch_size = batch_size or _batch_size
        self._steps = 0
        self._most = float("inf")
        self._samples = 0
        self._losses: list[torch.Tensor | float] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Join, and go on where this node was."""
        swarm = self._join(pl_module, trainer.optimizers, trainer.world_size)
        most = trainer.estimated_stepping_batches
        self._most = most if most > 0 else float("inf")
        self._steps, self._samples, self._losses = trainer.global_step, 0, []
        by_step = [found.scheduler for found in trainer.lr_scheduler_configs if found.interval == "step"]
        forward(by_step, swarm.steps - trainer.global_step)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """After a step of an optimiser: merge, and stop if the node was told to finish or has done all steps."""
        if self.swarm is None:
            return
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        if loss is not None:
            self._losses.append(loss.detach() if isinstance(loss, torch.Tensor) else loss)
        self._samples += self._batch_size(batch)
        if trainer.global_step == self._steps:
            return  # the gradient is still being accumulated
        # Lightning has divided the losses that it optimises itself by the number of batches in a step.
        parts = trainer.accumulate_grad_batches if pl_module.automatic_optimization else 1
        mean = sum(self._losses) * parts / len(self._losses) if self._losses else None
        goes_on = self.swarm.step(self._samples, mean)
        self._steps, self._samples, self._losses = trainer.global_step, 0, []
        if not goes_on or self.swarm.steps >= self._most:
            trainer.should_stop = True

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Hand in the last round, and take over the swarm's weights."""
        self.close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Save the state, and tell the user."""
        self.close(exception)


def _batch_size(batch: Any) -> int:
    try:
        found: int = extract_batch_size(batch)
    except MisconfigurationException as error:
        raise ConfigError(
            f"the number of samples in a batch of type {type(batch).__name__} cannot be told: give "
            "LearnaeCallback(..., batch_size=function)",
            code="bad-setting",
        ) from error
    return found
