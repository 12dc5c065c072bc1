"""The node's network: libp2p host, pubsub, requests, discovery and dialling. The only package that imports libp2p."""

from __future__ import annotations

from learnaed.network import lean as lean  # before anything imports libp2p
from learnaed.network.bitswap import BitswapStatistics, BlockSource, Drop, Limits, Session, SessionStatistics
from learnaed.network.node import Network, NetworkDiagnosis
from learnaed.network.settings import NetworkSettings, NetworkStatistics

__all__ = [
    "BitswapStatistics",
    "BlockSource",
    "Drop",
    "Limits",
    "Network",
    "NetworkDiagnosis",
    "NetworkSettings",
    "NetworkStatistics",
    "Session",
    "SessionStatistics",
]
