"""The user's own IPFS node, as one more that holds our snapshots, and as a source of them."""

from learnaed.ipfs.address import nearby, parse_address
from learnaed.ipfs.node import BlockSupply, Identity, IpfsNode, Limits, discover
from learnaed.ipfs.pinning import IpfsPinning, IpfsStatistics

__all__ = [
    "BlockSupply",
    "Identity",
    "IpfsNode",
    "IpfsPinning",
    "IpfsStatistics",
    "Limits",
    "discover",
    "nearby",
    "parse_address",
]
