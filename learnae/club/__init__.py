"""Private swarms: keys from a passphrase, sealed messages, proof of membership; used by the daemon's network.

A *club* is the circle of nodes that know the secret of a topic. Nothing here does input or output. The bytes and the
rules are in docs/spec/private.md.
"""

from learnae.club.handshake import Challenger, Prover, Why
from learnae.club.keys import COST, OVERHEAD, Club, Cost, Key, private_name
from learnae.club.secrets import LEAST_LENGTH, MOST_SECRETS, Secrets

__all__ = [
    "COST",
    "LEAST_LENGTH",
    "MOST_SECRETS",
    "OVERHEAD",
    "Challenger",
    "Club",
    "Cost",
    "Key",
    "Prover",
    "Secrets",
    "Why",
    "private_name",
]
