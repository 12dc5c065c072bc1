"""Names of the topics and stream protocols on the wire; used by the driver and the service."""

from __future__ import annotations

SYNC = "/learnae/sync/1"
BLOCK = "/learnae/block/1"
GENESIS = "/learnae/genesis/1"


def peers_topic(topic: str) -> str:
    """Where everybody on the topic sends heartbeats, whatever they train."""
    return f"/learnae/1/{topic}/peers"


def updates_topic(topic: str, layout: bytes) -> str:
    """Where the nodes whose models have this layout announce updates."""
    return f"/learnae/1/{topic}/{layout.hex()}/updates"
