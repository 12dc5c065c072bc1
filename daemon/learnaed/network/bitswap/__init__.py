"""Bitswap, IPFS's block exchange, with peers and with ordinary IPFS nodes; used by `Network`.

Written anew, its protobuf included: libp2p's own answers where no other implementation listens, keeps what strangers
push and allocates before it counts; a subclass would replace nearly all of it.

`wire` is the format, `ledger` what a peer wants of us, `schedule` whom to ask for what: none of them does input or
output. `link` holds a peer's streams, `session` is what a downloader uses, `engine` puts them together.
"""

from __future__ import annotations

from learnaed.network.bitswap.engine import Bitswap
from learnaed.network.bitswap.schedule import Drop, Limits
from learnaed.network.bitswap.session import Session
from learnaed.network.bitswap.statistics import BitswapStatistics, BlockSource, PeerStatistics, SessionStatistics

__all__ = [
    "Bitswap",
    "BitswapStatistics",
    "BlockSource",
    "Drop",
    "Limits",
    "PeerStatistics",
    "Session",
    "SessionStatistics",
]
