"""What a user writes to train with a swarm: a `Task`; and how tasks are found. Used by the trainer and benchmarks."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import nn

from learnae.errors import ConfigError, TaskError
from learnae.rules import Rules
from learnae.tasks import BUILT_IN


@dataclass(frozen=True, slots=True)
class Shard:
    """Which part of a data set is this node's own: part ``index`` (from 0) of ``count``.

    ``alpha``: None deals the samples out evenly at random (IID); a number draws for each class the shards' portions
    from a Dirichlet distribution (Hsu et al. 2019, arXiv 1909.06335): 0.1 gives most shards two or three classes, 100
    is nearly IID. The split depends on ``count``, ``alpha`` and ``seed`` alone. Raises `ConfigError` for values out
    of range.
    """

    index: int = 0
    count: int = 1
    alpha: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count <= 10_000:
            raise ConfigError(
                f"shard {self.index + 1}/{self.count} does not exist: write K/N with K from 1 to N, as in 2/4",
                code="bad-shard",
            )
        if self.alpha is not None and not 0.001 <= self.alpha <= 1e6:
            raise ConfigError(
                f"a skew of {self.alpha} is out of range: give a number from 0.001 (extreme) to 1e6 (even)",
                code="bad-setting",
            )

    @classmethod
    def parse(cls, text: str, alpha: float | None = None, seed: int = 0) -> Shard:
        """The shard for the user's ``K/N``, K counted from 1. Raises `ConfigError` if it cannot be read."""
        index, slash, count = text.partition("/")
        if not (slash and index.isdecimal() and count.isdecimal() and len(text) < 12):
            raise ConfigError(
                f"shard {text!r} cannot be read: write K/N with K from 1 to N, as in 2/4", code="bad-shard"
            )
        return cls(int(index) - 1, int(count), alpha, seed)

    def __str__(self) -> str:
        return f"{self.index + 1}/{self.count}"

    def select(self, labels: ArrayLike) -> NDArray[np.int64]:
        """Indices (int64[k], ascending) of this shard's samples in a data set with class ``labels`` (integers[n]).

        The shards of one split are disjoint and cover the data set; each has at least 10 samples (or its even
        portion, if that is less). Raises `ConfigError` if there are fewer samples than shards.
        """
        classes = np.asarray(labels)
        if len(classes) < self.count:
            raise ConfigError(
                f"{len(classes)} samples cannot be split into {self.count} shards: use fewer shards",
                code="too-many-shards",
            )
        rng = np.random.default_rng((self.seed, self.count))
        if self.alpha is None:
            return np.sort(np.array_split(rng.permutation(len(classes)), self.count)[self.index])
        owner = np.empty(len(classes), np.int64)
        for label in np.unique(classes):
            members = rng.permutation(np.flatnonzero(classes == label))
            portions = np.cumsum(rng.dirichlet(np.full(self.count, self.alpha)))
            owner[members] = np.searchsorted(portions[:-1], (np.arange(len(members)) + 0.5) / len(members))
        least = min(10, len(classes) // self.count)
        for shard in range(self.count):
            while (lack := least - int(np.count_nonzero(owner == shard))) > 0:
                richest = np.flatnonzero(owner == np.bincount(owner).argmax())
                owner[rng.choice(richest, min(lack, len(richest) - least), replace=False)] = shard
        return np.flatnonzero(owner == self.index)


class Task(ABC):
    """A model, its data and how to train it. Subclass it in a file and start ``learnaed run --task file.py:Class``.

    The members of one swarm run equal tasks: the same model from the same initial weights. Only data differ. Instances
    are made with ``data``, the directory that the user gave with ``--data``, or None.

    ``slot_seconds``: length of the clock slots to which everybody's rounds are aligned. ``round_steps``: local steps
    per round; None trains through the whole slot, which suits swarms of PCs of unequal speed. ``seed``: for the
    initial weights. ``max_grad_norm``: gradients are clipped to this norm; None leaves them alone. ``rules``: how often
    the swarm cuts its history, and what one update may do.
    """

    name: ClassVar[str]
    slot_seconds: ClassVar[float] = 10.0
    round_steps: ClassVar[int | None] = None
    seed: ClassVar[int] = 0
    max_grad_norm: ClassVar[float | None] = 1.0
    rules: ClassVar[Rules] = Rules()

    def __init__(self, data: Path | None = None) -> None:
        self.data = data

    @abstractmethod
    def model(self) -> nn.Module:
        """A new model with its initial weights. Called with torch's random numbers seeded by ``seed``."""

    @abstractmethod
    def batches(self, shard: Shard, seed: int) -> Iterator[Any]:
        """Endless batches of this shard's data, the same for the same ``seed``."""

    @abstractmethod
    def loss(self, model: nn.Module, batch: Any) -> torch.Tensor:
        """The loss of one batch, a scalar to call ``backward`` on."""

    @abstractmethod
    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Figures on held-out data, such as ``accuracy`` and ``loss``; the model is in evaluation mode."""

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """The inner optimiser; its state never leaves the node. Default: AdamW at a learning rate of 1e-3."""
        return torch.optim.AdamW(model.parameters(), lr=1e-3)

    def learning_rate(self, samples: int) -> float | None:
        """Multiplier of the optimiser's learning rate once the swarm has learned from ``samples``; None: keep 1.

        Counting the swarm's samples, not the node's own, puts a joiner in phase at once.
        """
        return None

    def batch_size(self, batch: Any) -> int:
        """Samples in a batch. Default: the length of its first tensor."""
        return len(batch[0])


def load_task(spec: str, data: Path | None = None) -> Task:
    """The task for a built-in name (``digits``) or ``file.py:Class``.

    Raises `TaskError` if there is no such task or it cannot be made, `DataError` if its data are missing.
    """
    path, colon, name = spec.rpartition(":")
    if not colon:
        if spec not in BUILT_IN:
            raise TaskError(
                f"no task is called {spec!r}: use {', '.join(BUILT_IN)}, or your own as file.py:Class",
                code="unknown-task",
            )
        path, _, name = BUILT_IN[spec].rpartition(":")
        module: Any = importlib.import_module(path)
    else:
        module = _import_file(Path(path))
    cls = getattr(module, name, None)
    if not (isinstance(cls, type) and issubclass(cls, Task)):
        raise TaskError(
            f"{path} has no class {name!r} derived from learnae.task.Task: check the part after the colon",
            code="task-class-missing",
        )
    if missing := sorted(cls.__abstractmethods__) + ["name"] * (not hasattr(cls, "name")):
        raise TaskError(
            f"task {spec!r} lacks {', '.join(missing)}: define them as learnae.task.Task describes",
            code="task-incomplete",
        )
    if not isinstance(cls.rules, Rules):
        raise TaskError(
            f"task {spec!r} has rules that are none: set rules = Rules(...) of learnae.rules", code="task-rules"
        )
    try:
        task = cls(data)
    except TaskError:
        raise
    except Exception as error:
        raise TaskError(
            f"task {spec!r} failed to start with {type(error).__name__}: {error}", code="task-failed"
        ) from error
    return task


def _import_file(path: Path) -> Any:
    """Run a user's file as a module. Its errors become `TaskError`, with the cause kept for the log."""
    if not path.is_file():
        raise TaskError(
            f"the task file {path} does not exist: give the path to a Python file, then a colon and the class",
            code="task-file-missing",
        )
    spec = importlib.util.spec_from_file_location(f"learnae_task_{path.stem}", path.resolve())
    if spec is None or spec.loader is None:
        raise TaskError(
            f"the task file {path} is not a Python file: its name must end in .py", code="task-file-missing"
        )
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[spec.name]
        raise TaskError(
            f"the task file {path} failed with {type(error).__name__}: {error}", code="task-failed"
        ) from error
    return module
