"""The node's state as Prometheus text, for /metrics; every name is documented in docs/metrics.md."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4 as CONTENT_TYPE
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from learnaed.limits import Cause

__all__ = ["CONTENT_TYPE", "render"]

# (metric without prefix, path in status(), what it says); a value that is missing or None gives no sample.
_GAUGES = (
    ("uptime_seconds", ("uptime",), "Seconds since the daemon started"),
    ("slot", ("slot",), "Wall-clock slot that the node is in"),
    ("slot_seconds", ("slot_seconds",), "Length of a slot"),
    ("members", ("members",), "Other live nodes of this swarm"),
    ("share_ratio", ("share",), "This node's part of the swarm's work, 0 to 1; its updates are scaled by it"),
    ("trainer_loss", ("trainer", "loss"), "Mean training loss of the last round"),
    ("trainer_accuracy_ratio", ("trainer", "accuracy"), "Accuracy of the replica on held-out data, 0 to 1"),
    ("trainer_accuracy_averaged_ratio", ("trainer", "accuracy_averaged"), "Accuracy of its running average"),
    ("trainer_steps_per_second", ("trainer", "steps_per_second"), "Local training steps per second"),
    ("ledger_samples", ("ledger", "samples"), "Training samples behind the updates in the ledger, of all nodes"),
    ("ledger_updates", ("ledger", "updates"), "Updates in the ledger"),
    ("ledger_authors", ("ledger", "authors"), "Nodes that authored updates in the ledger"),
    ("ledger_missing", ("ledger", "missing"), "Announced updates whose payload is still being fetched"),
    ("ledger_clipped", ("ledger", "clipped"), "Updates above the pruned part of the log that count by a part only"),
    ("ledger_floor", ("ledger", "floor"), "Interval up to which the log is pruned"),
    ("cuts_settled", ("cuts", "settled", "index"), "Interval of the newest settled cut"),
    ("cuts_newest", ("cuts", "newest", "index"), "Interval of the newest cut taken here"),
    ("cuts_votes", ("cuts", "votes"), "Nodes that attest the newest cut taken here"),
    ("cuts_electorate", ("cuts", "electorate"), "Nodes that may attest it"),
    ("cuts_unsettled", ("cuts", "unsettled"), "Cuts taken here that are not settled yet"),
    ("cuts_disputed", ("cuts", "disputed"), "Intervals of which nodes attest different cuts"),
    ("snapshots_held", ("snapshots", "held"), "Snapshots on disk"),
    ("snapshots_bytes", ("snapshots", "bytes"), "Size of all blocks of snapshots on disk"),
    ("snapshots_cap_bytes", ("snapshots", "cap"), "Most that they may have"),
    (
        "snapshots_lost_blocks",
        ("snapshots", "lost"),
        "Blocks that are damaged on the disk or missing, and not mended yet",
    ),
    ("snapshot_fetched_bytes", ("snapshots", "fetching", "done"), "Bytes here of the snapshot that is being fetched"),
    ("snapshot_size_bytes", ("snapshots", "fetching", "size"), "Size of the snapshot that is being fetched"),
    ("clock_offset_seconds", ("clock_offset",), "By how much the swarm's clock is ahead of this PC's"),
    ("trainer_exchange_seconds", ("trainer", "exchange_seconds"), "Time of a recent round in all but local steps"),
    ("trainer_training_seconds", ("trainer", "training_seconds"), "Time of a recent round in local steps"),
    ("trainer_slots_per_round", ("trainer", "slots_per_round"), "Slots that a round spans"),
    ("store_bytes", ("store", "bytes"), "Size of the database"),
    ("network_peers", ("network", "peers"), "Connected peers"),
    ("ipfs_pins", ("ipfs", "pins"), "Pins of this node on the IPFS node"),
    ("event_readers", ("feed", "readers"), "Who reads the events now"),
    ("api_connections", ("api", "connections"), "Open connections with the status endpoint"),
    ("api_streams", ("api", "streams"), "Open event streams"),
    ("daemon_memory_bytes", ("warden", "daemon_memory"), "Memory that the daemon uses"),
    ("trainer_memory_bytes", ("warden", "trainer_memory"), "Memory that the trainer uses"),
    ("ipfs_queue", ("ipfs", "queue"), "What is still to be pinned or unpinned there"),
)
_COUNTERS = (
    ("trainer_rounds", ("trainer", "rounds"), "Own rounds that were published"),
    ("trainer_steps", ("trainer", "steps"), "Own training steps"),
    ("trainer_samples", ("trainer", "samples"), "Own training samples"),
    ("trainer_restarts", ("trainer", "restarts"), "Times that the trainer process was restarted"),
    ("cuts_adopted", ("cuts", "adopted"), "Times that this node went over to the weights of others"),
    ("snapshots_mended_blocks", ("snapshots", "mended"), "Damaged or missing blocks that were fetched again"),
    ("ipfs_sent_bytes", ("ipfs", "bytes_sent"), "Bytes sent to the IPFS node"),
    ("ipfs_failures", ("ipfs", "failures"), "Times that the IPFS node was away, refused or answered nonsense"),
    ("pauses", ("warden", "pauses"), "Times that something began to keep this node from training"),
    ("events", ("feed", "events"), "Events for those who watch"),
    ("event_gaps", ("feed", "gaps"), "Events that readers missed because they were too slow"),
    ("api_requests", ("api", "requests"), "Requests to the status endpoint"),
    ("api_refused", ("api", "refused"), "Requests refused before they were looked at"),
    ("api_turned_away", ("api", "turned_away"), "Connections that came when there were too many"),
    ("network_sent_bytes", ("network", "bytes_sent"), "Bytes sent to peers"),
    ("network_received_bytes", ("network", "bytes_received"), "Bytes received from peers"),
)
_LABELS = ("version", "peer", "topic", "task", "swarm")


def render(status: Mapping[str, Any], healthy: bool) -> bytes:
    """Prometheus text (format 0.0.4) of one `status()`."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Once(_families(status, healthy)))
    return generate_latest(registry)


class _Once(Collector):
    def __init__(self, families: Iterable[Any]) -> None:
        self._families = list(families)

    def collect(self) -> Iterable[Any]:
        return self._families

    def describe(self) -> Iterable[Any]:
        return ()


def _families(status: Mapping[str, Any], healthy: bool) -> Iterator[Any]:
    info = {label: str(status.get(label) or "") for label in _LABELS}
    yield InfoMetricFamily("learnae_node", "Who this node is", info)
    state = GaugeMetricFamily("learnae_state", "1 for the state that the node is in", labels=["state"])
    state.add_metric([str(status.get("state") or "unknown")], 1)
    yield state
    if ipfs := status.get("ipfs"):
        pinning = GaugeMetricFamily("learnae_ipfs_state", "1 for how it stands with the IPFS node", labels=["state"])
        pinning.add_metric([str(ipfs.get("state"))], 1)
        yield pinning
    reasons = {str(row["reason"]) for row in (status.get("paused") or {}).get("reasons", ())}
    paused = GaugeMetricFamily(
        "learnae_paused", "1 for a reason for which it does not train, else 0", labels=["reason"]
    )
    for reason in sorted(reasons | {cause.value for cause in Cause}):
        paused.add_metric([reason], float(reason in reasons))
    yield paused
    yield GaugeMetricFamily("learnae_healthy", "1 if the node does its work", float(healthy))
    for name, path, text in _GAUGES:
        if (value := _number(status, path)) is not None:
            yield GaugeMetricFamily(f"learnae_{name}", text, value)
    for name, path, text in _COUNTERS:
        if (value := _number(status, path)) is not None:
            yield CounterMetricFamily(f"learnae_{name}", text, value)
    dropped = (status.get("network") or {}).get("dropped")
    yield _by_reason("learnae_refused", "Updates and messages refused, by reason", status.get("refused"))
    yield _by_reason("learnae_dropped", "What the network dropped before that, by reason", dropped)


def _by_reason(name: str, text: str, counts: Mapping[str, int] | None) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=["reason"])
    for reason, count in (counts or {}).items():
        family.add_metric([str(reason)], float(count))
    return family


def _number(status: Mapping[str, Any], path: tuple[str, ...]) -> float | None:
    value: Any = status
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return float(value) if isinstance(value, (int, float)) else None
