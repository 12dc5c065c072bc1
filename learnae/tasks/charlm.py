"""The task ``charlm``: a small GPT that learns to write, byte by byte, from the user's text files."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from learnae.errors import DataError
from learnae.task import Shard, Task
from learnae.tasks.gpt import Gpt, GptSettings
from learnae.tasks.story import stories

Batch = tuple[torch.Tensor, torch.Tensor]

MADE: Final = 2_000_000
"""Characters of the text that is made if the user gives none."""
_HELD_OUT: Final = 0.05
_WINDOWS: Final = 64
"""Held-out windows that an evaluation looks at."""


class CharLM(Task):
    """Next byte of a text: any language, no tokeniser to agree on. 1.03 M weights.

    ``--data`` names a text file or a directory of ``*.txt``; without it stories are made up (`learnae.tasks.story`).
    The last 5 % are held out; a shard is a run of the rest, so that the shards of one text are disjoint.
    """

    name: ClassVar[str] = "charlm"
    slot_seconds: ClassVar[float] = 20.0
    batch: ClassVar[int] = 16
    settings: ClassVar[GptSettings] = GptSettings()
    warm_up: ClassVar[int] = 1_600
    """Samples of the swarm over which the learning rate rises to its full height."""

    def model(self) -> nn.Module:
        """The GPT."""
        return Gpt(self.settings)

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """AdamW."""
        return torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1)

    def learning_rate(self, samples: int) -> float | None:
        """A linear rise from a tenth, then constant."""
        return min(1.0, 0.1 + samples / self.warm_up)

    @cached_property
    def text(self) -> NDArray[np.uint8]:
        """All bytes, in the order of the files' names."""
        if self.data is None:
            return np.frombuffer(stories(MADE).encode(), np.uint8)
        files = [self.data] if self.data.is_file() else sorted(self.data.glob("*.txt"))
        if not files:
            raise DataError(
                f"{self.data} is no text file and has no *.txt in it: give one of them with --data", code="data-missing"
            )
        content = b"\n".join(map(_read, files))
        least = 100 * (self.settings.context + 1)
        if len(content) < least:
            raise DataError(
                f"the text in {self.data} has {len(content)} bytes: give at least {least}", code="data-missing"
            )
        return np.frombuffer(content, np.uint8)

    @property
    def _boundary(self) -> int:
        return int(len(self.text) * (1 - _HELD_OUT))

    def batches(self, shard: Shard, seed: int) -> Iterator[Batch]:
        """Windows at random places of the shard's run of the text."""
        first, last = (self._boundary * part // shard.count for part in (shard.index, shard.index + 1))
        own = self.text[first:last]
        if len(own) <= self.settings.context + 1:
            raise DataError(
                f"shard {shard} has {len(own)} bytes of text: give a longer text or use fewer shards",
                code="too-many-shards",
            )
        rng = np.random.default_rng((seed, shard.index))
        while True:
            yield self._windows(own, rng.integers(0, len(own) - self.settings.context - 1, self.batch))

    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Cross-entropy in nats per byte."""
        inputs, targets = batch
        return functional.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """``loss`` in nats per byte, and ``accuracy``: how often the likeliest next byte is the right one."""
        held_out = self.text[self._boundary :]
        places = np.linspace(0, len(held_out) - self.settings.context - 2, _WINDOWS).astype(np.int64)
        inputs, targets = self._windows(held_out, places)
        scores = model(inputs)
        loss = functional.cross_entropy(scores.flatten(0, 1), targets.flatten()).item()
        return {"loss": loss, "accuracy": (scores.argmax(-1) == targets).float().mean().item()}

    def _windows(self, text: NDArray[np.uint8], places: NDArray[np.int64]) -> Batch:
        """Inputs and targets, each int64[len(places), context]."""
        index = places[:, None] + np.arange(self.settings.context + 1)
        tokens = torch.from_numpy(text[index].astype(np.int64))
        return tokens[:, :-1], tokens[:, 1:]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error}): check its name and its rights", code="data-damaged"
        ) from error
