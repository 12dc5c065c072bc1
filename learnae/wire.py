"""Messages between nodes: fields, bounds, signatures; the one door for strangers' bytes. Spec: docs/spec/wire.md.

Two kinds. *Signed* messages (`Update`, `Heartbeat`) travel in an envelope with their author's key and signature, so
that anybody may pass them on. *Plain* messages (requests and replies) are exchanged on a stream whose other end
libp2p has authenticated.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache
from typing import Any, ClassVar, Generic, TypeVar

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from learnae import cbor, schema
from learnae.cid import raw_cid
from learnae.errors import WireError
from learnae.genesis import Genesis
from learnae.peer import KEY_BYTES
from learnae.vector import MAX_AUTHORS, VersionVector

MAX_INLINE = 4096
"""Most bytes of payload that ride in an announcement; larger ones are pulled once from whoever has them."""
MAX_PART = 256 * 1024
"""Most bytes of one part of an update's payload."""
MAX_PARTS = 1024
MAX_ENVELOPE = 64 * 1024
"""Most bytes of a signed message."""
MAX_REPLY = 1024 * 1024
"""Most bytes of a reply on a stream."""
MAX_BLOCK = MAX_REPLY - 8 * 1024
"""Most bytes of a block in a reply. Only manifests may be larger than a part of an update."""
MAX_BLOCKS = 64
MAX_ENVELOPES = 512
MAX_CUTS = 8
"""Most settled, and most unsettled, cuts that a heartbeat attests."""

_DOMAIN = b"learnae/1 signed message\0"
_HASH = schema.octets(32)


class Message:
    """A frozen dataclass that travels as a CBOR list of its fields, each checked on arrival."""

    __slots__ = ()
    TAG: ClassVar[int]
    CHECKS: ClassVar[tuple[schema.Check[Any], ...]]

    def to_wire(self) -> list[Any]:
        """The fields as plain CBOR values."""
        return [_plain(getattr(self, field.name)) for field in fields(self)]  # type: ignore[arg-type]

    def validate(self) -> None:
        """Check what spans several fields; raises WireError."""


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, (Part, CutId, VersionVector, Genesis)):
        return value.to_wire()
    return value


@dataclass(frozen=True, slots=True)
class Part:
    """One block of an update's payload: its CID and its size in bytes."""

    cid: bytes
    size: int

    def to_wire(self) -> list[Any]:
        return [self.cid, self.size]

    @classmethod
    def from_wire(cls, value: Any) -> Part:
        return cls(*schema.record(value, schema.raw_cid, schema.integer(1, MAX_PART)))


@dataclass(frozen=True, slots=True)
class CutId:
    """Names a cut: the interval that it ends with, and the CID of its manifest."""

    index: int
    cid: bytes

    def to_wire(self) -> list[Any]:
        return [self.index, self.cid]

    @classmethod
    def from_wire(cls, value: Any) -> CutId:
        return cls(*schema.record(value, schema.integer(), schema.cid))


@dataclass(frozen=True, slots=True)
class Update(Message):
    """A signed addition to the swarm's model: one author's work of one round.

    Exactly one of `payload` (up to 4 KiB) and `parts` is given.
    """

    swarm: bytes
    seq: int  # 1, 2, 3 ... without gaps, for each author
    slot: int
    base: CutId | None  # the newest settled cut that the author's weights stand on; None for genesis
    samples: int  # training samples seen in this round
    share: float  # the author's weight in the swarm, already multiplied into the payload
    norm: float  # L2 norm of what the payload adds, in weight units, never rounded down; a payload above it is void
    loss: float | None  # mean training loss of the round
    payload: bytes
    parts: tuple[Part, ...]

    TAG = 1
    CHECKS = (
        _HASH,
        schema.integer(1),
        schema.integer(),
        schema.optional(CutId.from_wire),
        schema.integer(0, 2**40),
        schema.number(0.0, 1.0),
        schema.number(0.0, 1e30),
        schema.optional(schema.number(-1e30, 1e30)),
        schema.octets(0, MAX_INLINE),
        schema.sequence(Part.from_wire, MAX_PARTS),
    )

    def validate(self) -> None:
        if bool(self.payload) == bool(self.parts):
            raise WireError("an update has either an inline payload or parts")

    @property
    def blocks(self) -> tuple[bytes, ...]:
        """The CIDs of the payload's blocks, inline or not."""
        return tuple(part.cid for part in self.parts) or (raw_cid(self.payload),)

    @property
    def size(self) -> int:
        """Bytes of payload."""
        return len(self.payload) or sum(part.size for part in self.parts)


@dataclass(frozen=True, eq=False)
class Opinion:
    """Which cuts a node holds, as its heartbeat says; most nodes of a swarm are of a few opinions."""

    settled: tuple[CutId, ...]
    cuts: tuple[CutId, ...]
    floor: int

    @cached_property
    def attested(self) -> frozenset[CutId]:
        """All cuts that it holds."""
        return frozenset((*self.settled, *self.cuts))


_opinion = lru_cache(maxsize=256)(Opinion)


@dataclass(frozen=True)
class Heartbeat(Message):
    """What a node says of itself every few seconds to everybody on the topic, whatever they train."""

    time: float  # the sender's clock, Unix seconds
    state: str
    swarm: bytes | None  # None until the trainer has described its model
    layout: bytes | None
    digest: bytes  # of the set of admitted updates
    updates: int
    rate: float  # samples per second
    settled: tuple[CutId, ...]  # the newest cuts that more than half of the authors were seen to attest
    cuts: tuple[CutId, ...]  # newer cuts, as this node holds them
    floor: int  # interval up to which its log is pruned; -1 for none
    addresses: tuple[str, ...]  # multiaddrs without the peer id
    agent: str

    TAG = 2
    CHECKS = (
        schema.number(0.0, 1e11),
        schema.text(16),
        schema.optional(_HASH),
        schema.optional(_HASH),
        schema.octets(16),
        schema.integer(),
        schema.number(0.0, 1e12),
        schema.sequence(CutId.from_wire, MAX_CUTS),
        schema.sequence(CutId.from_wire, MAX_CUTS),
        schema.integer(-1),
        schema.sequence(schema.text(128), 8),
        schema.text(32),
    )

    @cached_property
    def opinion(self) -> Opinion:
        """Which cuts it holds; equal ones are usually one object."""
        return _opinion(self.settled, self.cuts, self.floor)


AuthorSum = tuple[bytes, bytes]
"""An author's key and 8 bytes of the sum of its updates' digests."""


def _author_sum(value: Any) -> AuthorSum:
    key, total = schema.record(value, schema.octets(KEY_BYTES), schema.octets(8))
    return key, total


@dataclass(frozen=True, slots=True)
class SyncRequest(Message):
    """Asks for envelopes of updates that the sender's vector lacks.

    `sums` tell apart two contents under equal numbers: for each author the sum of the digests of the sender's updates
    with a slot above `floor`.
    """

    swarm: bytes
    vector: VersionVector
    floor: int
    sums: tuple[AuthorSum, ...]

    TAG = 16
    CHECKS = (_HASH, VersionVector.from_wire, schema.integer(-1), schema.sequence(_author_sum, MAX_AUTHORS))


@dataclass(frozen=True, slots=True)
class SyncReply(Message):
    """The answerer's vector, and envelopes that the asker lacks, oldest first; `more` if they did not all fit."""

    vector: VersionVector
    envelopes: tuple[bytes, ...]
    more: bool

    TAG = 17
    CHECKS = (
        VersionVector.from_wire,
        schema.sequence(schema.octets(1, MAX_ENVELOPE), MAX_ENVELOPES),
        schema.boolean,
    )


@dataclass(frozen=True, slots=True)
class BlockRequest(Message):
    """Asks for blocks by CID."""

    cids: tuple[bytes, ...]

    TAG = 18
    CHECKS = (schema.sequence(schema.cid, MAX_BLOCKS),)


@dataclass(frozen=True, slots=True)
class BlockReply(Message):
    """The blocks asked for, in order, as many as fit; an empty one means that it is not here."""

    blocks: tuple[bytes, ...]

    TAG = 19
    CHECKS = (schema.sequence(schema.octets(0, MAX_BLOCK), MAX_BLOCKS),)


@dataclass(frozen=True, slots=True)
class GenesisRequest(Message):
    """Asks what the other node trains, to name the difference to the user."""

    TAG = 20
    CHECKS = ()


@dataclass(frozen=True, slots=True)
class GenesisReply(Message):
    """What this node trains; None while its trainer is loading."""

    genesis: Genesis | None

    TAG = 21
    CHECKS = (schema.optional(Genesis.from_wire),)


M = TypeVar("M", bound=Message)


@dataclass(frozen=True, slots=True)
class Signed(Generic[M]):
    """A message whose signature was checked, with its author and the envelope that proves it."""

    author: bytes
    message: M
    envelope: bytes
    digest: bytes  # names the content: equal for equal author and message

    def __hash__(self) -> int:
        return hash(self.digest)


def pack(message: Message) -> bytes:
    """A plain message as bytes."""
    return cbor.encode([message.TAG, *message.to_wire()])


def unpack(kind: type[M], data: bytes, limit: int = MAX_REPLY) -> M:
    """The message of this kind in `data`.

    Raises:
        WireError: another kind, or bytes that break the format or a bound.
    """
    value = cbor.decode(data, limit)
    if type(value) is not list or not value or value[0] != kind.TAG:
        raise WireError(f"not a {kind.__name__}")
    return _build(kind, value[1:])


def seal(message: Message, sign: Callable[[bytes], bytes], author: bytes) -> bytes:
    """The envelope of a signed message.

    Args:
        message: an `Update` or a `Heartbeat`.
        sign: makes the 64-byte Ed25519 signature of some bytes.
        author: the 32-byte public key that belongs to `sign`.

    Raises:
        WireError: the message breaks its own bounds.
    """
    body = cbor.encode(message.to_wire())
    _build(type(message), cbor.decode(body, MAX_ENVELOPE))
    return cbor.encode([message.TAG, author, body, sign(_signed_bytes(message.TAG, body))])


def open_envelope(kind: type[M], data: bytes) -> Signed[M]:
    """The message of this kind in an envelope, its signature verified.

    Raises:
        BadSignature: well-formed, but not signed by the key that it names.
        WireError: another kind, or bytes that break the format or a bound.
    """
    tag, author, body, signature = schema.record(
        cbor.decode(data, MAX_ENVELOPE),
        schema.integer(0, 255),
        schema.octets(KEY_BYTES),
        schema.octets(1, MAX_ENVELOPE),
        schema.octets(64),
    )
    if tag != kind.TAG:
        raise WireError(f"not a {kind.__name__}")
    try:
        VerifyKey(author).verify(_signed_bytes(tag, body), signature)
    except (BadSignatureError, ValueError) as error:
        raise BadSignature("the signature does not belong to the key in the envelope") from error
    message = _build(kind, cbor.decode(body, MAX_ENVELOPE))
    return Signed(author, message, data, hashlib.sha256(author + _signed_bytes(tag, body)).digest())


class BadSignature(WireError):
    """An envelope was not signed by the key that it names."""


def signer(key: SigningKey) -> Callable[[bytes], bytes]:
    """What `seal` signs with."""
    return lambda data: key.sign(data).signature


def _signed_bytes(tag: int, body: bytes) -> bytes:
    return _DOMAIN + bytes([tag]) + body


def _build(kind: type[M], values: Any) -> M:
    message = kind(*schema.record(values, *kind.CHECKS))
    message.validate()
    return message
