"""A scripted daemon at the other end of a script's line, and small models that a script may train."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from learnae import protocol, snapshot
from learnae.genesis import Genesis
from learnae.loop import Swarm
from learnae.loop.swarm import Evaluate
from learnae.loop.weights import LiveWeights
from learnae.rules import FULL, Rules
from learnae.weights import Round

ME, OTHER = b"m" * 32, b"o" * 32
STEPS = 5
"""Steps in a slot of the scripts' clock."""
M = TypeVar("M")


class FakeLink:
    """Stands in for `learnae.loop.link.Link`: answers what the script says by rules."""

    pid = 1

    def __init__(self, directory: Path, *, ram: int | None = None) -> None:
        self.setup = protocol.Setup(
            ME, "t", "loop", None, "1/1", None, 0, None, str(directory / "trainer"), str(directory / "blocks"), ram=ram
        )
        self.said: list[protocol.TrainerMessage] = []
        self.inbox: deque[protocol.TrainerMessage | None] = deque()
        self.rules: list[Callable[[protocol.TrainerMessage], None]] = []
        self.closed = False

    @property
    def waiting(self) -> bool:
        return bool(self.inbox)

    def receive(self, timeout: float = 0.0) -> protocol.TrainerMessage | None:
        if not self.inbox:
            return None
        message = self.inbox.popleft()
        if message is None:
            raise EOFError
        return message

    def send(self, message: protocol.TrainerMessage) -> None:
        # As bytes there and back: what cannot be sent must show.
        (heard,) = protocol.FrameReader().feed(protocol.to_frame(message))
        self.said.append(heard)
        for rule in self.rules:
            rule(heard)

    def close(self, patience: float = 2.0) -> None:
        self.closed = True

    def tell(self, *messages: protocol.TrainerMessage | None) -> None:
        self.inbox.extend(messages)

    def of(self, kind: type[M]) -> list[M]:
        return [message for message in self.said if isinstance(message, kind)]

    def accept_rounds(self, ratio: int | None = FULL) -> None:
        """Every round is stored at once."""

        def rule(message: protocol.TrainerMessage) -> None:
            if isinstance(message, protocol.RoundDone):
                number = message.after + 1
                self.tell(protocol.Accepted(ME, number, digest(message.parts), number, ratio))

        self.rules.append(rule)

    def settle(self) -> None:
        """A script that leaves is told to finish, to evaluate and to stop."""

        def rule(message: protocol.TrainerMessage) -> None:
            if isinstance(message, protocol.Leave):
                self.tell(protocol.SetMode("finish"))
            elif isinstance(message, protocol.Finished):
                self.tell(protocol.Evaluate(), protocol.Stop())

        self.rules.append(rule)


class FakeDaemon:
    """Stands in for `learnae.loop.daemon.LocalDaemon`: hands out links, one after the other."""

    def __init__(self, *links: FakeLink, own: bool = False) -> None:
        self.links = deque(links)
        self.own = own
        self.ended: bool | None = None

    @property
    def alive(self) -> bool:
        return bool(self.links)

    def attach(self) -> FakeLink:
        return self.links.popleft()

    def look(self) -> FakeLink | None:
        return self.links.popleft() if self.links else None

    def revive(self) -> None:
        pass

    def end(self, *, wait: bool) -> None:
        self.ended = wait


def perceptron(seed: int = 0, *, dtype: torch.dtype = torch.float32) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4)).to(dtype)


class Inline(ThreadPoolExecutor):
    """Does at once what else is done beside the training."""

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(function(*arguments, **named))
        except Exception as error:
            future.set_exception(error)
        return future


class Script:
    """A training script, a step at a time, on made-up data."""

    def __init__(
        self,
        model: nn.Module | None = None,
        make: Callable[[nn.Module], torch.optim.Optimizer] | None = None,
        *links: FakeLink,
        own: bool = False,
        evaluate: Evaluate | None = None,
        round_steps: int | None = None,
        resumes: bool = True,
        slot_seconds: float | None = None,
    ) -> None:
        self.model = model or perceptron()
        self.optimizer = (make or (lambda model: torch.optim.Adam(model.parameters(), lr=0.01)))(self.model)
        self.weights = LiveWeights(self.model, (self.optimizer,))
        root = snapshot.root_of(self.weights.replica.pieces()).cid
        self.genesis = Genesis(
            self.weights.layout, self.weights.exponents, root, slot_seconds or 10.0, round_steps, Rules()
        )
        self.daemon = FakeDaemon(*links, own=own)
        self.swarm = Swarm(
            self.weights,
            "t",
            self.daemon,  # type: ignore[arg-type]
            self.genesis,
            evaluate,
            resumes=resumes,
        )
        self.session = self.swarm._session
        self.session.aside = Inline()
        if slot_seconds is None:
            self.session.rounds.slot = lambda: self.swarm.steps // STEPS  # type: ignore[method-assign]
        self.data = batches()

    def train(self) -> torch.Tensor:
        inputs, labels = next(self.data)
        self.optimizer.zero_grad()
        loss = nn.functional.cross_entropy(self.model(inputs), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return loss

    def step(self) -> bool:
        return self.tell(16, self.train())

    def tell(self, samples: int = 16, loss: torch.Tensor | float | None = None) -> bool:
        """A step as far as the swarm knows."""
        self.session.due = 0.0  # the clock of the slots is none of the wall
        return self.swarm.step(samples, loss)

    def until(self, done: Callable[[], Any], most: int = 1000) -> None:
        for _ in range(most):
            if done():
                return
            self.step()
        raise AssertionError(f"not after {most} steps")


def batches(seed: int = 0) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    while True:
        labels = torch.randint(0, 4, (16,), generator=generator)
        yield torch.eye(4, 8)[labels] + 0.3 * torch.randn(16, 8, generator=generator), labels


def trained(link: FakeLink) -> FakeLink:
    """A link that says at once what a daemon says to a script when it may train."""
    link.accept_rounds()
    link.tell(protocol.SetShare(0.5), protocol.SetMode("train"))
    return link


def updates(count: int, model: nn.Module | None = None, seed: int = 9) -> list[Round]:
    """What another node with this model did in so many rounds."""
    model = model or perceptron()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    weights, data, made = LiveWeights(model), batches(seed), []
    for _ in range(count):
        inputs, labels = next(data)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        weights.note(16, 0.5)
        made.append(finish(weights))
    return made


def finish(weights: LiveWeights, share: float = 0.5) -> Round:
    """Close the round, encode it, and have it stored."""
    weights.close_round()
    weights.finish_work()
    done = weights.encode(share)
    weights.accept(weights.payload(parts=done.parts), done.samples)
    weights.finish_work()
    return done


def digest(parts: list[bytes]) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def add(update: Round, *, seq: int = 1, author: bytes = OTHER) -> list[protocol.TrainerMessage]:
    about = protocol.Add(author, seq, digest(update.parts), seq, update.samples, update.norm, FULL, len(update.parts))
    return [about, *map(protocol.Piece, update.parts)]


def sum_of(*parts: list[bytes], model: nn.Module | None = None) -> bytes:
    """The digest of a fresh model's replica with these updates."""
    weights = LiveWeights(model or perceptron())
    for one in parts:
        assert weights.apply(weights.payload(parts=one), 0)
    return weights.replica.digest()
