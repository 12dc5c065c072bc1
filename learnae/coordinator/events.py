"""What can happen to the coordinator: its only input, fed by the daemon or by the simulator."""

from __future__ import annotations

from dataclasses import dataclass

from learnae.genesis import Genesis
from learnae.ledger import Entry
from learnae.vector import UpdateId, VersionVector
from learnae.wire import SyncReply


@dataclass(frozen=True, slots=True)
class Listening:
    """The network is up at these multiaddrs (without the peer id)."""

    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TrainerReady:
    """A trainer has built its model, or restored it with some updates already applied."""

    genesis: Genesis
    applied: VersionVector
    known: tuple[Entry, ...]
    """What the own store holds of this genesis' swarm."""


@dataclass(frozen=True, slots=True)
class TrainerLost:
    """The trainer process ended; it will be restarted."""


@dataclass(frozen=True, slots=True)
class RoundFinished:
    """The trainer has encoded a round; it waits for `Accept` before it goes on."""

    parts: tuple[bytes, ...]
    samples: int
    share: float
    norm: float
    loss: float | None
    after: int
    """How many own updates the trainer had applied before: this is the next one. After a crash it hands in the round of
    its last saved state again, which may have been stored, and followed by others, already."""


@dataclass(frozen=True, slots=True)
class Progress:
    """The trainer's current speed."""

    samples_per_second: float


@dataclass(frozen=True, slots=True)
class TrainerFinished:
    """The trainer has stopped after its last round, as `Train("finish")` asked it to."""


@dataclass(frozen=True, slots=True)
class PayloadVoid:
    """The trainer could not decode this update; every node treats it as zeros."""

    update: UpdateId


@dataclass(frozen=True, slots=True)
class UpdateHeard:
    """An envelope that claims to hold an update came from a neighbour."""

    envelope: bytes
    source: bytes


@dataclass(frozen=True, slots=True)
class HeartbeatHeard:
    """An envelope that claims to hold a heartbeat came from a neighbour."""

    envelope: bytes
    source: bytes


@dataclass(frozen=True, slots=True)
class SyncReplied:
    """A peer answered `Sync`; None says that it failed."""

    peer: bytes
    reply: SyncReply | None


@dataclass(frozen=True, slots=True)
class BlocksFetched:
    """A peer answered `Fetch`; None says that it failed."""

    update: UpdateId
    peer: bytes
    blocks: tuple[bytes, ...] | None


@dataclass(frozen=True, slots=True)
class GenesisHeard:
    """A peer answered `AskGenesis`; None says that it failed or is not ready."""

    peer: bytes
    genesis: Genesis | None


@dataclass(frozen=True, slots=True)
class PeerConnected:
    """A connection to this peer is up."""

    peer: bytes


@dataclass(frozen=True, slots=True)
class PeerDisconnected:
    """The last connection to this peer is gone."""

    peer: bytes


@dataclass(frozen=True, slots=True)
class Pause:
    """The user wants training to stop for now; updates of others are still applied."""


@dataclass(frozen=True, slots=True)
class Resume:
    """The user wants training to go on."""


@dataclass(frozen=True, slots=True)
class Finish:
    """The user wants this node to complete its round, publish, settle and leave."""


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed; comes a few times per second."""


Event = (
    Listening
    | TrainerReady
    | TrainerLost
    | RoundFinished
    | Progress
    | TrainerFinished
    | PayloadVoid
    | UpdateHeard
    | HeartbeatHeard
    | SyncReplied
    | BlocksFetched
    | GenesisHeard
    | PeerConnected
    | PeerDisconnected
    | Pause
    | Resume
    | Finish
    | Tick
)
