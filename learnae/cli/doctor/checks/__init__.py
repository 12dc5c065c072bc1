"""The checks: pure functions from `Facts` to verdicts, in the order in which they are shown; called by the command."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from learnae.cli.doctor.checks import disk, ipfs, network, node, peers, training
from learnae.cli.doctor.facts import Facts
from learnae.cli.doctor.verdict import Verdict

Check = Callable[[Facts], Iterator[Verdict]]

CHECKS: tuple[Check, ...] = (
    node.daemon,
    node.settings,
    disk.profile,
    disk.files,
    disk.key,
    disk.database,
    disk.room,
    training.memory,
    training.torch,
    training.task,
    training.trainer,
    training.progress,
    network.port,
    network.reachable,
    network.mdns,
    peers.known,
    peers.unreachable,
    peers.strangers,
    peers.clocks,
    ipfs.node,
)


def examine(facts: Facts) -> list[Verdict]:
    """All verdicts."""
    return [verdict for check in CHECKS for verdict in check(facts)]
