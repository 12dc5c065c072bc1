"""Two nodes prove to each other that they know the secret, without showing it; used by the daemon's network.

Four messages on one stream, both of whose ends libp2p has authenticated::

    prover                                  challenger
      hello      [1, nonce]             ->
                                        <-  challenge  [2, nonce, [proof, ...]]
      answer     [3, proof]             ->
                                        <-  verdict    [4]

A proof is a keyed hash of the role, both peers' keys and both nonces. So none can be replayed (the nonces are new),
reflected (the roles differ) or passed on (it names both ends). The challenger offers a proof for each of its secrets;
the prover answers with the first that both have. Either may refuse: `[0, reason]`.
"""

from __future__ import annotations

import hmac
from enum import IntEnum
from hashlib import blake2b
from typing import Any

from nacl.utils import random

from learnae import cbor, schema
from learnae.club.keys import Club, Key
from learnae.club.secrets import MOST_SECRETS
from learnae.errors import WireError
from learnae.peer import KEY_BYTES

MAX_MESSAGE = 256
"""Most bytes of any of the four."""
NONCE_BYTES = 32
PROOF_BYTES = 32

_REFUSAL, _HELLO, _CHALLENGE, _ANSWER, _VERDICT = range(5)
_PERSON = b"learnae/1 member"
_PROOF = schema.octets(PROOF_BYTES)
_NONCE = schema.octets(NONCE_BYTES)


class Why(IntEnum):
    """Why a peer is no member; the first two travel as reasons of a refusal."""

    OPEN = 1
    """It has no secret at all."""
    OTHER = 2
    """It has none of our secrets, or means another topic: nobody can tell which."""
    PRIVATE = 3
    """We have no secret, and it asked for a proof that we do."""


class _Side:
    """What both sides have: `key` is set once the peer has proved that it has it, `why` once it is clear that it has
    not. Whatever else comes raises WireError, and leaves both None."""

    def __init__(self, club: Club | None, own: bytes, peer: bytes, nonce: bytes | None = None) -> None:
        if own == peer or len(own) != KEY_BYTES or len(peer) != KEY_BYTES:
            raise WireError("a handshake is between the keys of two peers")
        self.key: Key | None = None
        self.why: Why | None = None
        self._club = club
        self._own = own
        self._peer = peer
        self._nonce = random(NONCE_BYTES) if nonce is None else nonce
        self._ends = b""

    def _refuse(self, reason: Why) -> bytes:
        return cbor.encode([_REFUSAL, int(reason)])

    def _take(self, data: bytes, tag: int, *checks: schema.Check[Any]) -> tuple[Any, ...] | None:
        """The fields of the message that is due, or None with `why` set if the peer refuses."""
        message = cbor.decode(data, MAX_MESSAGE)
        if type(message) is list and message and message[0] == _REFUSAL:
            _, reason = schema.record(message, schema.integer(), schema.integer(Why.OPEN, Why.OTHER))
            self.key, self.why = None, Why(reason)
            return None
        return schema.record(message, schema.integer(tag, tag), *checks)[1:]


class Prover(_Side):
    """The side that begins. `nonce` is for tests: it must be new each time.

    Args:
        club: whose member this node is.
        own: this node's public key.
        peer: the peer's public key, as libp2p has authenticated it.
    """

    def __init__(self, club: Club, own: bytes, peer: bytes, nonce: bytes | None = None) -> None:
        super().__init__(club, own, peer, nonce)
        self._keys = club.keys
        self.hello = cbor.encode([_HELLO, self._nonce])

    def answer(self, challenge: bytes) -> bytes | None:
        """What to say to the challenge; None if the peer refuses. From here on a peer with `key` may be served.

        Raises:
            WireError: not a challenge.
        """
        fields = self._take(challenge, _CHALLENGE, _NONCE, schema.sequence(_PROOF, MOST_SECRETS))
        if fields is None:
            return None
        nonce, proofs = fields
        ends = self._own + self._peer + self._nonce + nonce
        self.key = next((key for key in self._keys if _among(_proof(key, b"challenger", ends), proofs)), None)
        if self.key is None:
            self.why = Why.OTHER
            return self._refuse(Why.OTHER)
        return cbor.encode([_ANSWER, _proof(self.key, b"prover", ends)])

    def conclude(self, verdict: bytes) -> None:
        """Take in the verdict. If `key` is still set, both sides count each other as members.

        Raises:
            WireError: not a verdict.
        """
        self._take(verdict, _VERDICT)


class Challenger(_Side):
    """The side that answers; without a club it only says so.

    Args:
        club: whose member this node is; None if it has no secret.
        own: this node's public key.
        peer: the peer's public key, as libp2p has authenticated it.
    """

    def challenge(self, hello: bytes) -> bytes:
        """What to say to the hello. If `why` is set then, that was all.

        Raises:
            WireError: not a hello.
        """
        fields = self._take(hello, _HELLO, _NONCE)
        if fields is None:
            raise WireError("a handshake that begins with a refusal")
        if self._club is None:
            self.why = Why.PRIVATE
            return self._refuse(Why.OPEN)
        self._ends = self._peer + self._own + fields[0] + self._nonce
        proofs = [_proof(key, b"challenger", self._ends) for key in self._club.keys]
        return cbor.encode([_CHALLENGE, self._nonce, proofs])

    def verdict(self, answer: bytes) -> bytes:
        """What to say to the answer. If `key` is set then, the prover is a member.

        Raises:
            WireError: not an answer.
        """
        if self._club is None or not self._ends:
            raise WireError("an answer that was not asked for")
        fields = self._take(answer, _ANSWER, _PROOF)
        if fields is not None:
            keys = self._club.keys
            self.key = next((key for key in keys if _among(fields[0], [_proof(key, b"prover", self._ends)])), None)
            if self.key is not None:
                return cbor.encode([_VERDICT])
        self.why = Why.OTHER
        return self._refuse(Why.OTHER)


def _proof(key: Key, role: bytes, ends: bytes) -> bytes:
    """`ends` has a fixed length: the prover's key, the challenger's, the prover's nonce, the challenger's."""
    return blake2b(role + b"\0" + ends, key=key.members, digest_size=PROOF_BYTES, person=_PERSON).digest()


def _among(proof: bytes, proofs: tuple[bytes, ...] | list[bytes]) -> bool:
    return any(hmac.compare_digest(proof, other) for other in proofs)
