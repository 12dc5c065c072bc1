"""An invitation: one line with all that a PC needs to join a swarm; made by `learnae invite`, taken by `learnaed join`.

The line is `learnae:` and then, as base64url, a CBOR list with a checksum behind it; see docs/spec/private.md.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field
from hashlib import blake2b

from learnae import cbor, schema
from learnae.club.secrets import MOST_LENGTH, MOST_SECRETS, Secrets
from learnae.errors import ConfigError, WireError
from learnae.peer import KEY_BYTES, peer_id, public_key

PREFIX = "learnae:"
MOST_ADDRESSES = 8
MAX_LINE = 8192

_VERSION = 1
_CHECKSUM_BYTES = 4
_ADDRESS = re.compile(r"/(?:ip4|ip6|dns|dns4|dns6)/[A-Za-z0-9.:_-]{1,253}/tcp/\d{1,5}")
_TOPIC = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class Invitation:
    """What a newcomer is told. Its `repr` does not show the secrets.

    Attributes:
        topic: the swarm's topic.
        task: name of a built-in task; None if the swarm's task is a file, which a newcomer must have been given.
        peers: multiaddrs with /p2p/, at most 8: nodes to begin with. None are needed on one LAN.
        secrets: the passphrases of a private swarm; None for an open one.
    """

    topic: str
    task: str | None
    peers: tuple[str, ...]
    secrets: Secrets | None = field(default=None, repr=False)

    def line(self) -> str:
        """The one line, which holds the secrets: it is to be treated as they are.

        Raises:
            WireError: a peer's address has no peer id, or is none.
        """
        places = [_split(text) for text in self.peers[:MOST_ADDRESSES]]
        secrets = list(self.secrets) if self.secrets is not None else []
        body = cbor.encode([_VERSION, self.topic, self.task, [list(place) for place in places], secrets])
        return PREFIX + base64.urlsafe_b64encode(body + _checksum(body)).decode().rstrip("=")

    @classmethod
    def parse(cls, line: str) -> Invitation:
        """The invitation in a line; blanks and line breaks in it, as mail programs make them, do not count.

        Raises:
            WireError: it is none, is damaged, or is of a later version. The message shows nothing of it.
        """
        text = "".join(line.split())
        if not text.startswith(PREFIX):
            raise WireError(f"it does not begin with {PREFIX}")
        if len(text) > MAX_LINE:
            raise WireError(f"it has more than {MAX_LINE} characters")
        body = text[len(PREFIX) :]
        try:
            data = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raise WireError("a character in it is wrong, or missing") from None
        body_bytes, checksum = data[:-_CHECKSUM_BYTES], data[-_CHECKSUM_BYTES:]
        if checksum != _checksum(body_bytes):
            raise WireError("a part of it is missing or mistyped: its checksum does not match")
        value = cbor.decode(body_bytes, MAX_LINE)
        if type(value) is not list or not value or value[0] != _VERSION:
            raise WireError("it was made by a later version of learnae")
        _, topic, task, places, secrets = schema.record(
            value,
            schema.integer(),
            schema.text(64),
            schema.optional(schema.text(64)),
            schema.sequence(_place, MOST_ADDRESSES),
            schema.sequence(schema.text(MOST_LENGTH), MOST_SECRETS),
        )
        if not _TOPIC.fullmatch(topic):
            raise WireError("the topic in it is none")
        try:
            return cls(topic, task, places, Secrets(secrets) if secrets else None)
        except ConfigError:
            raise WireError("the secret in it is none") from None


def _checksum(body: bytes) -> bytes:
    return blake2b(body, digest_size=_CHECKSUM_BYTES, person=b"learnae invite").digest()


def _split(address: str) -> tuple[bytes, str]:
    """A multiaddr with a peer id as the peer's key and the rest."""
    place, mark, peer = address.rpartition("/p2p/")
    if not mark or not _ADDRESS.fullmatch(place):
        raise WireError(f"not the address of a peer: {address[:200]!r}")
    return public_key(peer), place


def _place(value: object) -> str:
    key, place = schema.record(value, schema.octets(KEY_BYTES), schema.text(300))
    if not _ADDRESS.fullmatch(place):
        raise WireError("an address in it is none")
    return f"{place}/p2p/{peer_id(key)}"
