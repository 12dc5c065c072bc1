from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from learnae.integrations import membership

torch.set_num_threads(1)


class FakeSwarm:
    """What a callback needs of a `Swarm`; remembers what was done with it."""

    def __init__(self, topic: str, model: nn.Module, optimizers: Sequence[torch.optim.Optimizer], **settings: Any):
        self.topic, self.model, self.optimizers, self.settings = topic, model, optimizers, settings
        self.steps = settings.pop("before", 0)
        self.last: float = settings.pop("last", float("inf"))
        self.told: list[tuple[int, float | None]] = []
        self.started = 0
        self.closed: list[BaseException | None] = []

    def start(self) -> FakeSwarm:
        self.started += 1
        return self

    def step(self, samples: int = 1, loss: Any = None) -> bool:
        self.steps += 1
        self.told.append((samples, None if loss is None else float(loss)))
        return bool(self.steps < self.last)

    def close(self, error: BaseException | None = None) -> None:
        self.closed.append(error)


@pytest.fixture
def joined(monkeypatch: pytest.MonkeyPatch) -> list[FakeSwarm]:
    """The swarms that were joined, none of which is real."""
    made: list[FakeSwarm] = []

    def join(*arguments: Any, **settings: Any) -> FakeSwarm:
        made.append(FakeSwarm(*arguments, **settings))
        return made[-1]

    monkeypatch.setattr(membership, "join", join)
    return made


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Puts modules in the place of a framework, which need not be installed."""

    def put(extra: str, **modules: dict[str, Any] | None) -> None:
        monkeypatch.delitem(sys.modules, f"learnae.integrations.{extra}", raising=False)
        for name, content in modules.items():
            name = name.replace("__", ".")
            module = None if content is None else ModuleType(name)
            if module is not None:
                vars(module).update(content or {})
            monkeypatch.setitem(sys.modules, name, module)

    yield put
    for extra in ("transformers", "lightning"):
        sys.modules.pop(f"learnae.integrations.{extra}", None)
