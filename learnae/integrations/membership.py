"""What the callbacks of all frameworks have in common: to join once, and to leave; used by the modules beside it."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final, Self

import torch
from torch import nn

from learnae.errors import LayoutError
from learnae.loop import Swarm, join


class Membership:
    """Part of a callback: holds a `Swarm` from the first step of the training to the last.

    As a context manager around the framework's call it sees that an error in the training is told and the state saved.

    Args:
        topic: name of the swarm.
        **settings: as for `learnae.join`: ``slot_seconds``, ``round_steps``, ``evaluate``, ``peer``, ``limit``, ...
    """

    def __init__(self, topic: str, **settings: Any) -> None:
        super().__init__()
        self.topic = topic
        self._settings: Final = settings
        self.swarm: Swarm | None = None
        """Figures, peers and snapshots of the swarm; None before the training begins."""

    def close(self, error: BaseException | None = None) -> None:
        """Leave the swarm, if that has not been done; ``error``: what ended the training."""
        if self.swarm is not None:
            self.swarm.close(error)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(error)

    def _join(self, model: nn.Module, optimizers: Sequence[torch.optim.Optimizer], processes: int) -> Swarm:
        """Attach, and wait until the model has the swarm's weights. Raises what `join` and `Swarm.start` raise."""
        if processes > 1:
            raise LayoutError(
                f"the training runs in {processes} processes, which a merge would set apart: train in one process to "
                "share a model with a swarm",
                code="model-unshareable",
            )
        self.close()  # an earlier training that has ended with an error
        self.swarm = None
        self.swarm = join(self.topic, model, optimizers, **self._settings).start()
        return self.swarm


def forward(schedulers: Sequence[Any], steps: int) -> None:
    """Move learning rate schedulers of a restarted script on by so many steps, which it did before."""
    for scheduler in schedulers:
        if steps > 0 and hasattr(scheduler, "last_epoch"):
            scheduler.last_epoch += steps


def missing(extra: str, error: ModuleNotFoundError) -> ModuleNotFoundError:
    """What to raise if the framework is not there."""
    name = (error.name or extra).partition(".")[0]
    return ModuleNotFoundError(
        f"learnae.integrations.{extra} needs {name}, which is not installed: pip install 'learnae[{extra}]'",
        name=name,
    )
