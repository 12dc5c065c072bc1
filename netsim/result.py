"""What a run was like: the same figures from the simulator, the baselines and real daemons; read by report and plots."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import msgspec

from netsim.scenario import Scenario


@dataclass(frozen=True, slots=True)
class Look:
    """The swarm at one moment; means over the honest nodes that are there, unless said otherwise."""

    time: float
    """Seconds since the start."""
    live: int
    """Nodes that are there."""
    accuracy: float
    """Of the averaged weights, 0 to 1; nan where the workload has none."""
    worst: float
    """The lowest accuracy of them."""
    loss: float
    """On held-out data; of the quadratic the distance to the optimum."""
    consensus: float
    """Root mean square distance of the replicas from their mean, over the norm of the mean."""
    staleness: float
    """Slots between an update's own and the one in which it was applied, mean since the last look; nan: none came."""
    sent: float
    """Bytes that a node has sent since the start, mean over all that were ever there, per node place."""
    received: float
    """Bytes that it has received."""
    updates: float
    """Updates in a ledger."""


@dataclass(frozen=True, slots=True)
class Result:
    """A whole run."""

    name: str
    """Of the scenario."""
    scenario: Scenario
    seed: int
    kind: str
    """``simulated`` or ``real``."""
    looks: tuple[Look, ...]
    summary: Mapping[str, float]
    """Figures of the end, which expectations name: at least ``accuracy``, ``worst``, ``loss``, ``consensus``,
    ``identical`` (1 if all live honest replicas, ledgers and newest cuts are equal after the quiet, else 0), ``live``,
    ``updates``, ``sent``, ``received``, ``bytes`` (both, mean per node), ``bytes_most`` (of the busiest node),
    ``rounds`` (mean per node), ``staleness``, ``lost_accuracy`` (largest fall between two looks, in points) and
    ``refused.REASON``."""
    digest: str
    """SHA-256 of everything above that follows from scenario and seed: equal on every machine and any number of jobs."""
    costs: Mapping[str, float]
    """What the run itself took: ``seconds``, ``memory`` (peak, bytes), ``events``, ``cpu_per_node`` (seconds in the
    coordinators). Not part of the digest."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "name": self.name,
            "kind": self.kind,
            "seed": self.seed,
            "digest": self.digest,
            "summary": dict(self.summary),
            "costs": dict(self.costs),
            "looks": [asdict(look) for look in self.looks],
            "scenario": msgspec.to_builtins(self.scenario),
        }


def digest(scenario: Scenario, seed: int, looks: tuple[Look, ...], summary: Mapping[str, float]) -> str:
    """Names a run by what came out of it."""
    told = [msgspec.to_builtins(scenario), seed, [asdict(look) for look in looks], dict(sorted(summary.items()))]
    return hashlib.sha256(msgspec.json.encode(told)).hexdigest()
