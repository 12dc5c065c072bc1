"""Members who harm a swarm, by name: what `netsim` scenarios let a group of nodes do; used by engine and workloads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from netsim.attacks import kinds
from netsim.attacks.kinds import Honest
from netsim.errors import ScenarioError

KINDS: Final[dict[str, Callable[[], Honest]]] = {
    "silent": kinds.Silent,
    "sign-flip": kinds.SignFlip,
    "sign-flip-once": lambda: kinds.SignFlip(1),
    "noise": kinds.Noise,
    "reversed": kinds.Reversed,
    "label-flip": kinds.LabelFlip,
    "oversized": kinds.Oversized,
    "replay": kinds.Replay,
    "equivocation": kinds.Equivocation,
    "alie": kinds.Little,
    "ipm": kinds.InnerProduct,
    "adaptive": kinds.Adaptive,
    "sybil": kinds.Sybil,
}
"""Name -> what makes a new one."""


def named(name: str) -> Honest:
    """A new attack of this kind, for one node. Raises `ScenarioError` if there is none."""
    if name not in KINDS:
        raise ScenarioError(f"there is no attack {name!r}: use one of {', '.join(KINDS)}")
    return KINDS[name]()


def poisons(name: str) -> bool:
    """Whether it is the data of such nodes that are false. Raises `ScenarioError` if there is no such attack."""
    return isinstance(named(name), kinds.LabelFlip)
