"""What can happen to the coordinator: its only input, fed by the daemon or by the simulator."""

from __future__ import annotations

from dataclasses import dataclass

from learnae.genesis import Genesis
from learnae.ledger import Applied, Kept
from learnae.vector import UpdateId
from learnae.wire import SyncReply


@dataclass(frozen=True, slots=True)
class Listening:
    """The network is up at these multiaddrs (without the peer id)."""

    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TrainerReady:
    """A trainer has built its model, or restored it with some updates already applied."""

    genesis: Genesis
    base: bytes | None
    """The cut that its state stands on; None for genesis."""
    total: bytes
    """Sum of the digests of all updates in that cut (32 bytes)."""
    applied: tuple[Applied, ...]
    """The updates that it has added to the base."""
    own_seq: int
    """The highest own number that it ever saw accepted."""
    kept: Kept
    """What the own store holds of the swarm that this genesis belongs, or went over, to."""


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
    """The highest own number accepted before: this is the next one. After a crash the trainer hands in the round of
    its last saved state again, which may have been stored, and followed by others, already."""
    loads: int
    """How many `LoadCut` the trainer had carried out before."""


@dataclass(frozen=True, slots=True)
class CutTaken:
    """The trainer has written the snapshot that `TakeCut` asked for; None says that it could not."""

    index: int
    token: int
    weights: bytes | None
    size: int


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
    """A peer answered `Fetch`; its blocks were checked and stored as they came."""

    digest: bytes
    """Of the update."""
    peer: bytes
    complete: bool
    """All of them are here now."""
    lied: bool = False
    """The peer sent others than it was asked for."""


@dataclass(frozen=True, slots=True)
class GenesisHeard:
    """A peer answered `AskGenesis`; None says that it failed or is not ready."""

    peer: bytes
    genesis: Genesis | None


@dataclass(frozen=True, slots=True)
class ManifestFetched:
    """A peer answered `FetchManifest`; None says that it failed."""

    peer: bytes
    cid: bytes
    data: bytes | None


@dataclass(frozen=True, slots=True)
class SnapshotFetched:
    """The snapshot that `FetchSnapshot` asked for is on disk, or could not be had from any of its holders."""

    weights: bytes
    ok: bool


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
    | CutTaken
    | Progress
    | TrainerFinished
    | PayloadVoid
    | UpdateHeard
    | HeartbeatHeard
    | SyncReplied
    | BlocksFetched
    | GenesisHeard
    | ManifestFetched
    | SnapshotFetched
    | PeerConnected
    | PeerDisconnected
    | Pause
    | Resume
    | Finish
    | Tick
)
