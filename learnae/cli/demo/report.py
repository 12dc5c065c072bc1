"""What a demo has found: the figures, their JSON form, and whether the nodes agree; made by `course`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from learnae.cli.demo.swarm import Node

FLOAT_BYTES = 4


@dataclass(frozen=True, slots=True)
class NodeReport:
    """One node's result. `accuracy` is a fraction, `digest` the hex digest of its weights; None where unknown."""

    peer: str | None
    accuracy: float | None
    digest: str | None
    rounds: int
    bytes_sent: int
    bytes_received: int
    exit_code: int | None


@dataclass(frozen=True, slots=True)
class Report:
    """A demo's result; this is what `--json` writes.

    Attributes:
        seconds: wall time from the start of the first daemon to the result.
        solo_accuracy: mean accuracy of the shards trained alone.
        consensus_accuracy: accuracy of the weights that most nodes hold.
        fedavg_bytes_per_node: what a FedAvg client would have moved in as many rounds: two float32 models a round.
        nodes: one entry a node, in the order of the shards.
    """

    seconds: float
    solo_accuracy: float | None
    consensus_accuracy: float | None
    fedavg_bytes_per_node: int | None
    nodes: tuple[NodeReport, ...]

    def write(self, path: Path) -> None:
        """Write the JSON form."""
        path.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")


def build(nodes: Sequence[Node], seconds: float, solo: Sequence[float | None], weights: int | None) -> Report:
    """Gather a report. `solo`: accuracy of every shard trained alone. `weights`: float parameters of the model."""
    entries = tuple(_entry(node) for node in nodes)
    rounds = _mean([entry.rounds for entry in entries]) or 0
    return Report(
        seconds=round(seconds, 2),
        solo_accuracy=_mean([accuracy for accuracy in solo if accuracy is not None]),
        consensus_accuracy=_consensus(entries),
        fedavg_bytes_per_node=None if weights is None else round(2 * FLOAT_BYTES * weights * rounds),
        nodes=entries,
    )


def _entry(node: Node) -> NodeReport:
    trainer, network = node.part("trainer"), node.part("network")
    return NodeReport(
        peer=node.status.get("peer"),
        accuracy=trainer.get("accuracy"),
        digest=trainer.get("digest"),
        rounds=int(trainer.get("rounds") or 0),
        bytes_sent=int(network.get("bytes_sent") or 0),
        bytes_received=int(network.get("bytes_received") or 0),
        exit_code=node.exit_code,
    )


def _consensus(entries: Sequence[NodeReport]) -> float | None:
    common = Counter(entry.digest for entry in entries if entry.digest).most_common(1)
    holders = [e.accuracy for e in entries if common and e.digest == common[0][0] and e.accuracy is not None]
    return _mean(holders)


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def same(values: Sequence[Any]) -> bool:
    """Whether all values are known and equal."""
    return bool(values) and all(value is not None and value == values[0] for value in values)


def vectors(nodes: Sequence[Node]) -> list[dict[str, int] | None]:
    """Every node's version vector: author -> last update it holds without a gap."""
    return [node.part("ledger").get("vector") or None for node in nodes]
