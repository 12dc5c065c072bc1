"""What a run was like: equal figures from the simulator, the baselines and real daemons; read by report and plots."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import msgspec

from netsim.errors import ResultError
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


_FLOATS = [field.name for field in fields(Look) if field.name != "live"]


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
    """SHA-256 of all above that follows from scenario and seed: equal on every machine and any number of jobs."""
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

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Result:
        """What `to_json` gave, written to a file and read again (there a figure that is no number is null).

        Raises:
            ResultError: it is something else.
        """
        try:
            return cls(
                name=str(value["name"]),
                scenario=msgspec.convert(value["scenario"], Scenario),
                seed=int(value["seed"]),
                kind=str(value["kind"]),
                looks=tuple(
                    Look(live=int(row["live"]), **{name: _number(row[name]) for name in _FLOATS})
                    for row in value["looks"]
                ),
                summary={str(key): _number(figure) for key, figure in value["summary"].items()},
                digest=str(value["digest"]),
                costs={str(key): _number(figure) for key, figure in value["costs"].items()},
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ResultError(f"this is no result of netsim: {type(error).__name__}: {error}") from error


def write(result: Result, path: Path) -> None:
    """Write a result to a JSON file, as a whole or not at all."""
    unfinished = path.with_suffix(".tmp")
    unfinished.write_bytes(msgspec.json.format(msgspec.json.encode(result.to_json()), indent=1) + b"\n")
    unfinished.replace(path)


def read(path: Path) -> Result:
    """The result in a JSON file.

    Raises:
        ResultError: there is none.
    """
    try:
        return Result.from_json(msgspec.json.decode(path.read_bytes()))
    except OSError as error:
        raise ResultError(f"{path} cannot be read: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ResultError(f"{path} is no JSON file: {error}") from error
    except ResultError as error:
        raise ResultError(f"{path}: {error}") from error


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def digest(scenario: Scenario, seed: int, looks: tuple[Look, ...], summary: Mapping[str, float]) -> str:
    """Names a run by what came out of it."""
    told = [msgspec.to_builtins(scenario), seed, [asdict(look) for look in looks], dict(sorted(summary.items()))]
    return hashlib.sha256(msgspec.json.encode(told)).hexdigest()
