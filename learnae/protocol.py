"""The trainer protocol: what the daemon and a trainer process say to each other, as CBOR frames over a private pipe.

Both ends are the user's own, so these messages are checked for sense but not against malice. A frame is a 4-byte
little-endian length and a CBOR list: the message's name and its fields. The trainer sends `Hello` first.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import cbor2

from learnae.errors import TrainerError

VERSION = 1
"""Of what a trainer that attaches by itself and the daemon say to each other. What is only added does not raise it."""
MAX_FRAME = 320 * 1024 * 1024
_LENGTH = struct.Struct("<I")


# --- the daemon says


@dataclass(frozen=True, slots=True)
class Setup:
    """The first message to a trainer that the daemon started: what to train, and where to keep its state."""

    author: bytes
    topic: str
    task: str
    data: str | None
    shard: str
    skew: float | None
    seed: int
    threads: int | None
    directory: str
    """Where its state lies."""
    blocks: str
    """Where the blocks of snapshots lie; the daemon's, which sees to it that none goes while it is needed."""
    cpu: float | None = None
    """This and what follows: see `SetLimits`."""
    nice: int = 10
    gpu: bool = True
    ram: int | None = None
    init: str | None = None
    """Weights to begin with: a path, or the CID of a cut whose blocks are here."""

    @property
    def limits(self) -> SetLimits:
        """What the process may use from the start."""
        return SetLimits(self.cpu, self.threads, self.nice, self.gpu, self.ram)


@dataclass(frozen=True, slots=True)
class Add:
    """Add an update to the replica, once; exactly `pieces` frames `Piece` follow."""

    author: bytes
    seq: int
    digest: bytes
    """Names the update's content: its author may have signed two under one number."""
    slot: int
    samples: int
    norm: float
    """What the author claims; if the payload exceeds it, the update is void."""
    ratio: int
    """From 0 to `rules.FULL`: by which part of itself the update counts."""
    pieces: int


@dataclass(frozen=True, slots=True)
class Piece:
    """One part of the payload of the update announced before it, in order."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Remove:
    """Subtract what the `Add` or `Accepted` of this digest had added; exactly `pieces` frames `Piece` follow."""

    author: bytes
    seq: int
    digest: bytes
    samples: int
    pieces: int


@dataclass(frozen=True, slots=True)
class Accepted:
    """The round that was handed in is stored: add it to the replica as everybody does.

    `ratio` is None if it was stored in an earlier life and no longer counts.
    """

    author: bytes
    seq: int
    digest: bytes
    slot: int
    ratio: int | None


@dataclass(frozen=True, slots=True)
class TakeCut:
    """Write a snapshot of the replica without `minus` updates, each of which follows as `Without` and its pieces."""

    index: int
    token: int
    """Returned with the answer: which set of updates was meant."""
    minus: int


@dataclass(frozen=True, slots=True)
class Without:
    """Leave this update out of the snapshot; exactly `pieces` frames `Piece` follow."""

    author: bytes
    seq: int
    digest: bytes
    pieces: int


@dataclass(frozen=True, slots=True)
class Forget:
    """Updates up to this slot are part of the cut `base` for good: their ids need not be kept."""

    slot: int
    base: bytes
    total: bytes
    """Sum of the digests of all updates in that cut (32 bytes)."""


@dataclass(frozen=True, slots=True)
class Load:
    """Go on from the snapshot with the root `weights`, which belongs to the cut `base` (None: genesis), with so many
    samples behind it."""

    weights: bytes
    base: bytes | None
    total: bytes
    samples: int


@dataclass(frozen=True, slots=True)
class SetMode:
    """train, pause or finish."""

    mode: str


@dataclass(frozen=True, slots=True)
class SetShare:
    """The weight of this node's rounds from now on."""

    share: float


@dataclass(frozen=True, slots=True)
class SetLimits:
    """What the process may use from now on; None is no limit."""

    cpu: float | None
    """Part of all cores, 0 to 1, that it and the daemon may use together."""
    threads: int | None
    nice: int
    gpu: bool
    """Cannot change any more once the process runs."""
    ram: int | None
    """Bytes of memory."""


@dataclass(frozen=True, slots=True)
class Evaluate:
    """Evaluate and report now; sent when everything was handed over."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Save the state and exit."""


@dataclass(frozen=True, slots=True)
class Refused:
    """To a trainer that attached by itself: it is not wanted, or not any more, and the connection ends."""

    message: str
    code: str


# --- the trainer says


@dataclass(frozen=True, slots=True)
class Attach:
    """The first message of a trainer that the daemon did not start; `Setup` or `Refused` answers it."""

    version: int
    """The `VERSION` that it speaks."""
    pid: int


@dataclass(frozen=True, slots=True)
class Leave:
    """The trainer has nothing more to do: the node is to finish, settle and end."""


@dataclass(frozen=True, slots=True)
class Hello:
    """The model is built, or restored with these updates already applied to a cut."""

    genesis: list[Any]
    base: bytes | None
    """The cut that the state stands on; None is the task's own genesis."""
    total: bytes
    """Sum of the digests of all updates in that cut (32 bytes; zeros for genesis)."""
    applied: list[list[Any]]
    """[author, seq, digest, slot, ratio] for each update above the base."""
    own_seq: int
    """The highest own number that was ever accepted."""
    parameters: int
    local: int
    rounds: int


@dataclass(frozen=True, slots=True)
class RoundDone:
    """An encoded round; the trainer waits for `Accepted`."""

    parts: list[bytes]
    samples: int
    share: float
    norm: float
    """Euclidean norm of what the parts add, in weight units, never rounded down."""
    loss: float | None
    after: int
    """The highest own number accepted before this round."""
    loads: int
    """How often this process was told to `Load` before: a round on weights that were given up does not count."""


@dataclass(frozen=True, slots=True)
class CutTaken:
    """The snapshot is on disk, under the CID `weights`; None if it could not be written."""

    index: int
    token: int
    weights: bytes | None
    size: int


@dataclass(frozen=True, slots=True)
class Report:
    """How training goes; `final` answers `Evaluate`. Digest and metrics are of the last time they were computed."""

    rounds: int
    steps: int
    samples: int
    samples_per_second: float
    steps_per_second: float
    loss: float | None
    metrics: dict[str, float]
    averaged: dict[str, float]
    digest: bytes
    alarms: list[str]
    training_seconds: float
    """Time spent in local steps, and in everything else, in a recent round."""
    exchange_seconds: float
    slots_per_round: int
    final: bool


@dataclass(frozen=True, slots=True)
class Finished:
    """The last round is accepted; no more will come."""


@dataclass(frozen=True, slots=True)
class Void:
    """This update's payload could not be decoded."""

    author: bytes
    seq: int


@dataclass(frozen=True, slots=True)
class Warned:
    """Something went wrong that the trainer could get over; for the user."""

    text: str


@dataclass(frozen=True, slots=True)
class Failed:
    """The task cannot go on; `fatal` if starting again cannot help, `memory` if it needed more than it may have.

    `code`: of the error, see `learnae.errors`.
    """

    message: str
    traceback: str
    fatal: bool
    code: str = "task-failed"
    memory: bool = False


TrainerMessage: TypeAlias = (
    Setup
    | Add
    | Piece
    | Remove
    | Accepted
    | TakeCut
    | Without
    | Forget
    | Load
    | SetMode
    | SetShare
    | SetLimits
    | Evaluate
    | Stop
    | Refused
    | Attach
    | Leave
    | Hello
    | RoundDone
    | CutTaken
    | Report
    | Finished
    | Void
    | Warned
    | Failed
)
_KINDS: dict[str, Any] = {kind.__name__: kind for kind in TrainerMessage.__args__}


def to_frame(message: TrainerMessage) -> bytes:
    """A message as a frame."""
    values = [getattr(message, field.name) for field in dataclasses.fields(message)]
    body = cbor2.dumps([type(message).__name__, *values])
    return _LENGTH.pack(len(body)) + body


class FrameReader:
    """Turns a stream of bytes, cut anywhere, into messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[TrainerMessage]:
        """The messages that `data` completes.

        Raises:
            TrainerError: the other end does not speak this protocol.
        """
        self._buffer += data
        while len(self._buffer) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer)
            if length > MAX_FRAME:
                raise TrainerError(
                    f"a frame of {length} bytes; the other end does not speak the trainer protocol",
                    code="trainer-protocol",
                )
            stop = _LENGTH.size + length
            if len(self._buffer) < stop:
                return
            body = bytes(self._buffer[_LENGTH.size : stop])
            del self._buffer[:stop]
            yield _message(body)


def _message(body: bytes) -> TrainerMessage:
    try:
        name, *values = cbor2.loads(body)
        message: TrainerMessage = _KINDS[name](*values)
    except (cbor2.CBORError, KeyError, TypeError, ValueError) as error:
        raise TrainerError(
            f"a frame that the trainer protocol does not know: {error}", code="trainer-protocol"
        ) from error
    return message
