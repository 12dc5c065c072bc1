"""The weights of a model that somebody else trains: what touches them is done bit by bit between steps; for `Swarm`.

An update is in the replica as soon as it is applied; that the model follows is *work*, done in slices of about a
millisecond by `work`. What follows an update, a finished round or a load comes in this order, so whoever gives the next
one waits until `idle`.

A round does not stop the training. Its pseudo-gradient is read slice by slice while the next round's steps go on, and
when it is stored, each slice becomes phi plus what those steps have added since.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from learnae.codec import CodecSettings, Payload
from learnae.errors import CodecError, LearnerError
from learnae.loop.flat import SLICE, FlatParameters
from learnae.loop.state import StateCopy, local_state
from learnae.loop.survey import Survey
from learnae.replica import Replica
from learnae.rules import FULL
from learnae.weights import AVERAGING, Round, SharedWeights, copy_into, foreign_state, not_finite

_ENTRIES = SLICE // 4
"""Entries of an update that are added at a time: they lie far apart, so each costs more."""

_VECTORS = ("momentum", "pending", "replica", "average", "base")
"""Of the state, what changes between rounds and by updates, but not by a local step."""


class LiveWeights(SharedWeights):
    """The weights of ``model``, trained by ``optimizers``, whose state is kept with the own one; there may be none.

    Raises `LayoutError` for a model that cannot be shared.
    """

    def __init__(
        self, model: nn.Module, optimizers: Sequence[torch.optim.Optimizer] = (), codec: CodecSettings | None = None
    ) -> None:
        super().__init__(model, codec)
        self._optimizers = optimizers
        self._flat = FlatParameters(model, self.layout)
        self._delta = np.zeros(self.layout.size, np.float32)  # of the round that is closed and not stored yet
        self.closed = False
        """A round is closed: its pseudo-gradient is read, or it is encoded, or handed in."""
        self.collected: bool | None = None
        """Whether all numbers of the closed round are finite; None while they are still being read."""
        self._closed_round = (0, 0, math.nan)
        self._round_steps = self._told = 0
        self._loss: Any = 0.0
        self._work: deque[Iterator[None]] = deque()
        self._start_round()

    # --- steps

    def note(self, samples: int, loss: torch.Tensor | float | None) -> None:
        """A local step was done on so many samples. A tensor's value is looked at when the round ends."""
        self.steps += 1
        self.samples += samples
        self._round_steps += 1
        self._round_samples += samples
        if loss is not None:
            if isinstance(loss, torch.Tensor):
                if loss.numel() != 1:
                    raise LearnerError(
                        f"the loss given to swarm.step is a tensor of {loss.numel()} values; give one number",
                        code="round-failed",
                    )
                loss = loss.detach().reshape(())
            self._loss = self._loss + loss
            self._told += 1

    @property
    def round_steps(self) -> int:
        """Local steps since the last round was closed."""
        return self._round_steps

    @property
    def mean_loss(self) -> float | None:
        """Over the steps of the round so far; None without any."""
        return float(self._loss) / self._told if self._told else None

    # --- work

    @property
    def idle(self) -> bool:
        """Nothing is left to be done."""
        return not self._work

    def work(self) -> None:
        """Do a slice of what is left to be done."""
        while self._work:
            try:
                next(self._work[0])
                return
            except StopIteration:
                self._work.popleft()

    def finish_work(self) -> None:
        """Do all of it."""
        while self._work:
            self.work()

    # --- rounds

    def close_round(self) -> None:
        """The steps that come now belong to the next round; `collected` says when `encode` may be called.

        Raises `LayoutError` if the model has other parameters than it had.
        """
        self._flat.check()
        loss = self.mean_loss
        self._closed_round = (self._round_samples, self._round_steps, math.nan if loss is None else loss)
        finite = loss is None or math.isfinite(loss)
        self._fresh_counters()
        self.closed, self.collected = True, None
        self._work.append(self._collect(finite))

    def _collect(self, finite: bool) -> Iterator[None]:
        for piece in self._flat.slices:
            here = self._delta[piece.start : piece.stop]
            np.subtract(self._flat.read(piece), self._base[piece.start : piece.stop], out=here)
            # A sum that is finite has finite terms.
            finite = finite and bool(np.isfinite(here.sum(dtype=np.float64)))
            yield
        self.collected = finite

    def encode(self, share: float) -> Round:
        """The closed round; may run beside the training, as long as nothing else is asked of this object's encoder.

        Raises `LearnerError` if it cannot be encoded; `drop_round` is to follow.
        """
        samples, steps, loss = self._closed_round
        try:
            parts, norm = self.encoder.encode(self._delta, share)
        except CodecError as error:
            raise LearnerError(f"this round cannot be encoded and is dropped: {error}", code="round-failed") from error
        self.rounds += 1
        return Round(parts, samples, steps, None if math.isnan(loss) else loss, norm)

    def drop_round(self) -> LearnerError:
        """Theta := phi, and buffers as they were when the round began; what to tell the user if numbers are to blame.

        The optimiser's state is forgotten if it is not finite either.
        """
        self.finish_work()
        copy_into(self.model.buffers(), self._saved_buffers)
        if any(map(_poisoned, self._optimizers)):
            self._reset_optimizer()
        self._start_round()
        return not_finite()

    def accept(self, payload: Payload, samples: int, ratio: int = FULL) -> None:
        """The closed round is stored for good: add it to the replica; the model follows."""
        if payload.void is not None:
            raise CodecError(payload.void)
        for part in payload.parts:
            self.replica.apply(part.index, part.delta(ratio))
        self.applied += 1
        self.samples_seen += samples
        self._settle_later()

    def restart_round(self) -> None:
        """The closed round is in the replica already or will never be: the model goes over to phi, but for the steps
        that were done since."""
        self._settle_later()

    def _settle_later(self) -> None:
        if self.closed:
            self._work.append(self._settle())

    def _settle(self) -> Iterator[None]:
        for piece in self._flat.slices:
            part = slice(piece.start, piece.stop)
            phi = self.replica.weights[part].astype(np.float32)
            phi *= np.float32(2.0 ** self.exponents[piece.tensor])
            self._average[part] += np.float32(AVERAGING) * (phi - self._average[part])
            ahead = self._flat.read(piece)
            ahead -= self._base[part]
            ahead -= self._delta[part]
            phi += ahead
            # What rounding to the model's data type adds or swallows is not mistaken for local progress.
            np.subtract(self._flat.write(piece, phi), ahead, out=self._base[part])
            yield
        self.closed = False
        self._saved_buffers = [buffer.clone() for buffer in self.model.buffers()]

    # --- updates

    def _move(self, payload: Payload, ratio: int, sign: int) -> None:
        for part in payload.parts:
            delta = part.delta(ratio)
            delta *= sign
            self.replica.apply(part.index, delta)
            self._work.append(self._follow(part.index, self._values(part, delta)))

    def _follow(self, index: NDArray[np.int64], values: NDArray[np.float32]) -> Iterator[None]:
        for start in range(0, len(index), _ENTRIES):
            here = index[start : start + _ENTRIES]
            np.add.at(self._base, here, self._flat.add(here, values[start : start + _ENTRIES]))
            yield

    def adopt(self) -> None:
        """Theta := phi; what local steps have changed since the last round is dropped."""
        self._work.clear()
        self._start_round()

    def load(self, replica: Replica, samples: int) -> None:
        """Go on from another replica of this model, with so many samples behind it, as a newcomer would."""
        self._work.clear()
        super().load(replica, samples)

    # --- state

    def local_state(self) -> dict[str, Any]:
        """What a restart needs of what torch holds: not copied, and as it is at this moment."""
        return {
            "parameters": [parameter.detach() for parameter in self.model.parameters()],
            "buffers": list(self.model.buffers()),
            "saved_buffers": self._saved_buffers,
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
            "loss": float(self._loss),
        }

    def vectors(self) -> dict[str, NDArray[Any]]:
        """What else a restart needs, as far as local steps do not change it: the own arrays, each of them flat."""
        return {name: array for name, array in self._arrays().items() if name in _VECTORS}

    def numbers(self) -> dict[str, NDArray[Any]]:
        """The rest of it."""
        return {name: np.array(array) for name, array in self._arrays().items() if name not in _VECTORS}

    def survey_later(self) -> Survey:
        """Have the replica's digest and alarms found as work."""
        survey = Survey(self.replica, self._flat.slices)
        self._work.append(survey.work())
        return survey

    def copy_later(self, copy: StateCopy) -> None:
        """Have the copy filled as work; not while a round is closed."""
        self._work.append(copy.fill())

    def state(self) -> dict[str, NDArray[Any]]:
        """All that a restart needs, as copies; not while a round is closed or work is left."""
        copy = StateCopy(self)
        deque(copy.fill(), 0)
        return copy.arrays

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go on from a `state` of the same model and optimisers. Raises `LearnerError` if it is of others."""
        try:
            local = local_state(state)
            if len(local["optimizers"]) != len(self._optimizers):
                raise ValueError(f"it is of {len(local['optimizers'])} optimisers, not {len(self._optimizers)}")
            self._round_samples, self._round_steps, self._told = self._load_arrays(state)
            for optimizer, found in zip(self._optimizers, local["optimizers"], strict=True):
                optimizer.load_state_dict(found)
            copy_into(self.model.parameters(), local["parameters"])
            copy_into(self.model.buffers(), local["buffers"])
            copy_into(self._saved_buffers, local["saved_buffers"])
            self._loss = local["loss"]
        except Exception as error:
            raise foreign_state(error) from error

    def _positions(self) -> Sequence[int]:
        return self._round_samples, self._round_steps, self._told

    def _start_round(self) -> None:
        super()._start_round()
        self.closed = False
        self._fresh_counters()

    def _fresh_counters(self) -> None:
        self._round_steps = self._round_samples = self._told = 0
        self._loss = 0.0

    def _reset_optimizer(self) -> None:
        for optimizer in self._optimizers:
            optimizer.state.clear()


def _poisoned(optimizer: torch.optim.Optimizer) -> bool:
    """Whether there is a number in its state that is not finite."""
    tensors = (value for state in optimizer.state.values() for value in state.values() if torch.is_tensor(value))
    return any(tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()) for tensor in tensors)
