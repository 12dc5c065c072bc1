"""Keys of a private swarm, and what they do to messages and the names of topics; used by the daemon's network."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import blake2b

from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_decrypt,
    crypto_aead_xchacha20poly1305_ietf_encrypt,
)
from nacl.exceptions import CryptoError
from nacl.pwhash import argon2id
from nacl.utils import random

from learnae import cbor
from learnae.errors import WireError

VERSION = b"\x01"
NONCE_BYTES = 24
TAG_BYTES = 16
OVERHEAD = len(VERSION) + NONCE_BYTES + TAG_BYTES
"""Bytes by which a sealed message is longer than its content."""

_PERSON = b"learnae/1 club"


@dataclass(frozen=True, slots=True)
class Cost:
    """What one guess of a passphrase costs: passes over so many bytes. Every member pays it once per secret."""

    passes: int
    memory: int


COST = Cost(3, 64 * 1024 * 1024)
"""The second recommended option of RFC 9106 in one lane, as libsodium has it: a quarter of a second on a PC."""


@dataclass(frozen=True, slots=True)
class Key:
    """All that follows from one passphrase on one topic. Its `repr` shows nothing of it."""

    topics: bytes = field(repr=False)
    messages: bytes = field(repr=False)
    members: bytes = field(repr=False)

    @classmethod
    def derive(cls, topic: str, passphrase: str, cost: Cost = COST) -> Key:
        """Argon2id of the passphrase, salted with a hash of the topic. Slow on purpose: not for a thread that must not
        wait."""
        salt = blake2b(topic.encode(), digest_size=argon2id.SALTBYTES, person=_PERSON).digest()
        root = argon2id.kdf(32, passphrase.encode(), salt, opslimit=cost.passes, memlimit=cost.memory)
        return cls(*(_keyed(root, name) for name in (b"topics", b"messages", b"members")))


def _keyed(key: bytes, data: bytes) -> bytes:
    return blake2b(data, key=key, digest_size=32, person=_PERSON).digest()


def private_name(topic: str) -> str:
    """The topic of a private swarm where swarms are told apart; no open swarm can have it, for it has a slash in it.

    It does not depend on the secret, so that changing the secret changes no swarm.
    """
    return f"private/{topic}"


class Club:
    """The keys of a private swarm, as one member holds them: the first seals, all open.

    Args:
        keys: one or more.
    """

    def __init__(self, keys: Iterable[Key]) -> None:
        self.keys = tuple(keys)
        if not self.keys:
            raise ValueError("a club without a key")

    @classmethod
    def derive(cls, topic: str, passphrases: Iterable[str], cost: Cost = COST) -> Club:
        """The club of these passphrases on this topic. Takes a quarter of a second for each."""
        return cls(Key.derive(topic, passphrase, cost) for passphrase in passphrases)

    def names(self, topic: str) -> tuple[str, ...]:
        """How a pubsub topic is called on the wire, one name for each key: to be subscribed to, all of them.

        Messages are sent under the first. Who does not have the key cannot tell which topic it is.
        """
        return tuple(f"/learnae/1/private/{_keyed(key.topics, topic.encode()).hex()}" for key in self.keys)

    def seal(self, topic: str, data: bytes) -> bytes:
        """`data` for the members alone, `OVERHEAD` bytes longer; it opens on this pubsub topic and no other."""
        nonce = random(NONCE_BYTES)
        key = self.keys[0].messages
        return VERSION + nonce + crypto_aead_xchacha20poly1305_ietf_encrypt(data, _context(topic), nonce, key)

    def open(self, topic: str, sealed: bytes) -> bytes:
        """What was sealed for this pubsub topic with any of the keys.

        Raises:
            WireError: it was not, or has been changed since.
        """
        if len(sealed) < OVERHEAD or not sealed.startswith(VERSION):
            raise WireError("not a sealed message")
        nonce, text = sealed[len(VERSION) : len(VERSION) + NONCE_BYTES], sealed[len(VERSION) + NONCE_BYTES :]
        for key in self.keys:
            try:
                return crypto_aead_xchacha20poly1305_ietf_decrypt(text, _context(topic), nonce, key.messages)
            except CryptoError:
                continue
        raise WireError("a sealed message that none of the secrets opens")

    def __repr__(self) -> str:
        return f"<Club of {len(self.keys)} keys>"


def _context(topic: str) -> bytes:
    return cbor.encode(["learnae/1 sealed message", topic])
