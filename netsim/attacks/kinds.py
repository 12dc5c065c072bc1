"""What attackers do instead of being honest: one class for each kind; the engine asks them at the end of each round.

Each attacking node has one of its own. It knows what every node knows: the swarm's weights and the updates of others.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import median

import numpy as np

from learnae import wire
from learnae.cid import raw_cid
from learnae.learner import Round
from learnae.wire import MAX_INLINE, Part, Update
from netsim.attacks import vectors
from netsim.crew import Heard, Trainer

CLIP = 1.25
"""By which an update may exceed the median of the norms, as the default rules have it."""
_REMEMBERED = 40
"""Norms of others, and envelopes to replay."""

Sign = Callable[[bytes], bytes]


class Honest:
    """An attack that is none; the others change what they need to."""

    def round(self, trainer: Trainer, done: Round, heard: Sequence[Heard], share: float) -> Round | None:
        """What it hands in instead of its honest round, given what it has heard since its last one; None: nothing."""
        return done

    def publish(self, author: bytes, sign: Sign, envelope: bytes) -> Sequence[bytes]:
        """The envelopes that it announces instead of the one of its update."""
        return (envelope,)

    def share(self, share: float) -> float:
        """The share of the swarm's work that it claims."""
        return share


class Silent(Honest):
    """It does nothing at all: what the others reach without the attackers' data."""

    def round(self, trainer: Trainer, done: Round, heard: Sequence[Heard], share: float) -> Round | None:
        """Nothing."""
        return None


class SignFlip(Honest):
    """Minus four times what the attacker has learned, with the norm that this has."""

    def __init__(self, times: int = 4) -> None:
        self._times = times

    def round(self, trainer: Trainer, done: Round, heard: Sequence[Heard], share: float) -> Round | None:
        """The honest payload with other signs and larger scales."""
        payload = trainer.payload(done.norm, done.parts)
        parts = vectors.opposite(trainer.replica.layout, payload, self._times)
        return replace(done, parts=parts, norm=self._times * done.norm)


class Crafted(Honest):
    """A vector of the attacker's own where an honest update would be."""

    def round(self, trainer: Trainer, done: Round, heard: Sequence[Heard], share: float) -> Round | None:
        """Its largest entries."""
        vector = self.vector(trainer, done, heard)
        if vector is None:
            return done
        parts, norm = vectors.encode(trainer.replica, vector, self.length(done, heard))
        return replace(done, parts=parts, norm=norm)

    def vector(self, trainer: Trainer, done: Round, heard: Sequence[Heard]) -> vectors.Vector | None:
        """What to add to the weights; None: be honest this time."""
        raise NotImplementedError

    def length(self, done: Round, heard: Sequence[Heard]) -> float | None:
        """The norm that it shall have; None: its own."""
        return None


class Noise(Crafted):
    """Random directions, some hundred times as long as an honest update."""

    def vector(self, trainer: Trainer, done: Round, heard: Sequence[Heard]) -> vectors.Vector | None:
        """White noise, another one for each round."""
        seed = hashlib.sha256(b"".join(done.parts) + trainer.replica.digest()).digest()
        rng = np.random.default_rng(int.from_bytes(seed[:8]))
        return vectors.noise(trainer.replica.layout.size, 100 * done.norm, rng)


class Reversed(Crafted):
    """Away from the weights that the swarm has, towards their opposite."""

    def vector(self, trainer: Trainer, done: Round, heard: Sequence[Heard]) -> vectors.Vector | None:
        """All the way there."""
        return vectors.away(trainer.replica)


class LabelFlip(Honest):
    """An honest round on false labels, which the crew of an image task gives it."""


class Oversized(Honest):
    """An honest round that counts as if the attacker had done everybody's work."""

    def round(self, trainer: Trainer, done: Round, heard: Sequence[Heard], share: float) -> Round | None:
        """The whole swarm's share."""
        if share <= 0:
            return done
        payload = trainer.payload(done.norm, done.parts)
        parts = vectors.larger(trainer.replica.layout, payload, 1 / share)
        # Each scale is rounded once more, by half a unit at most: far less than the thousandth that is added.
        return replace(done, parts=parts, norm=1.001 * done.norm / share)

    def share(self, share: float) -> float:
        """All of it."""
        return 1.0


class Replay(Honest):
    """Its old updates again and again, and nothing else after the first."""

    def __init__(self) -> None:
        self._old: deque[bytes] = deque(maxlen=10)

    def publish(self, author: bytes, sign: Sign, envelope: bytes) -> Sequence[bytes]:
        """Ten old ones."""
        first = not self._old
        self._old.append(envelope)
        return (envelope,) if first else tuple(self._old)[:-1]


class Equivocation(Honest):
    """Two updates under one number for one slot: an honest one, and one that adds the opposite."""

    def __init__(self) -> None:
        self._other: tuple[bytes, ...] = ()

    def round(self, trainer: Trainer, done: Round, heard: Sequence[Heard], share: float) -> Round | None:
        """The honest one; the other is kept for the announcement."""
        self._other = tuple(vectors.opposite(trainer.replica.layout, trainer.payload(done.norm, done.parts)))
        return done

    def publish(self, author: bytes, sign: Sign, envelope: bytes) -> Sequence[bytes]:
        """Both of them."""
        honest = wire.open_envelope(Update, envelope).message
        parts, self._other = self._other, ()
        if not parts:
            return (envelope,)
        inline = len(parts) == 1 and len(parts[0]) <= MAX_INLINE
        rival = replace(
            honest,
            payload=parts[0] if inline else b"",
            parts=() if inline else tuple(Part(raw_cid(part), len(part)) for part in parts),
        )
        return envelope, wire.seal(rival, sign, author)


class _Informed(Crafted):
    """One that shapes its vector after what the others send."""

    def __init__(self) -> None:
        self._norms: deque[float] = deque(maxlen=_REMEMBERED)

    def round(self, trainer: Trainer, done: Round, heard: Sequence[Heard], share: float) -> Round | None:
        """Listen first."""
        self._norms.extend(one.norm for one in heard if one.norm > 0)
        return super().round(trainer, done, heard, share)

    def usual(self, done: Round) -> float:
        """The median norm of what has been heard lately; the own one if nothing was."""
        return median(self._norms) if self._norms else done.norm


class Little(_Informed):
    """A little is enough: a vector that lies among the honest ones, always on the wrong side of their mean."""

    def vector(self, trainer: Trainer, done: Round, heard: Sequence[Heard]) -> vectors.Vector | None:
        """For a fifth of attackers."""
        known = [vectors.dense(trainer.replica, one.payload) for one in heard]
        return vectors.little(known, 0.2) if known else None


class InnerProduct(_Informed):
    """Inner-product manipulation: against the mean of what the others send, ten times as far."""

    def vector(self, trainer: Trainer, done: Round, heard: Sequence[Heard]) -> vectors.Vector | None:
        """Nothing without others."""
        known = [vectors.dense(trainer.replica, one.payload) for one in heard]
        return vectors.inner_product(known, 10.0) if known else None


class Adaptive(_Informed):
    """Against the mean of what the others send, as long as an update may be before it is clipped, and no longer."""

    def vector(self, trainer: Trainer, done: Round, heard: Sequence[Heard]) -> vectors.Vector | None:
        """The direction; honest until it has heard somebody."""
        known = [vectors.dense(trainer.replica, one.payload) for one in heard]
        return vectors.inner_product(known, 1.0) if known else None

    def length(self, done: Round, heard: Sequence[Heard]) -> float | None:
        """Just inside the clip, as far as the attacker can tell."""
        return 0.98 * CLIP * self.usual(done)


class Sybil(_Informed):
    """One of many keys of somebody who has no data: they all push the same way, each as far as others go."""

    def vector(self, trainer: Trainer, done: Round, heard: Sequence[Heard]) -> vectors.Vector | None:
        """Away from what the swarm has learned."""
        return vectors.away(trainer.replica)

    def length(self, done: Round, heard: Sequence[Heard]) -> float | None:
        """As long as usual: nothing is clipped."""
        return self.usual(done)
