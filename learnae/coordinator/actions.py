"""What the coordinator wants done: its only output, carried out in order by the daemon or by the simulator."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from learnae.genesis import Genesis
from learnae.ledger import Entry
from learnae.wire import CutId, Part, SyncRequest


class Mode(StrEnum):
    """What the trainer should be doing."""

    TRAIN = "train"
    PAUSE = "pause"
    FINISH = "finish"


@dataclass(frozen=True, slots=True)
class JoinSwarm:
    """Listen to the updates of this swarm."""

    swarm: bytes
    genesis: Genesis


@dataclass(frozen=True, slots=True)
class Store:
    """Keep an update; it must be durable before the next action is carried out."""

    swarm: bytes
    entry: Entry
    envelope: bytes
    blocks: tuple[bytes, ...]
    """The parts of an own payload that are not in the envelope; those of others were stored as they came."""


@dataclass(frozen=True, slots=True)
class Drop:
    """These updates do not count any more: neither list nor serve them; their payload stays until `Prune`."""

    swarm: bytes
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class KeepCut:
    """Keep this manifest, durably, and serve it as a block."""

    swarm: bytes
    cut: CutId
    data: bytes


@dataclass(frozen=True, slots=True)
class Settle:
    """Note, durably, that this cut is settled; its manifest was kept before."""

    swarm: bytes
    cut: CutId


@dataclass(frozen=True, slots=True)
class Prune:
    """The cut `floor` stands for everything up to `slot`: updates and cuts from before may be deleted.

    Of the snapshots only `snapshots` (CIDs) are still needed. `own_seq` must never be used again.
    """

    swarm: bytes
    floor: CutId
    slot: int
    own_seq: int
    snapshots: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class GoOver:
    """Remember, durably, that this node has left its genesis' swarm for another one."""

    own: bytes
    swarm: bytes
    genesis: Genesis


@dataclass(frozen=True, slots=True)
class Apply:
    """Have the trainer add a stored update to the replica, by this part of it (`rules.FULL`: as a whole)."""

    entry: Entry
    ratio: int


@dataclass(frozen=True, slots=True)
class Unapply:
    """Have the trainer subtract what it added for this update, which is still in the store."""

    entry: Entry


@dataclass(frozen=True, slots=True)
class Accept:
    """Tell the trainer that its round is stored, and by which part of it to add it; None: drop it."""

    entry: Entry | None
    ratio: int = 0
    own_seq: int = 0
    """Without an entry: the highest own number in use, for a trainer that has lost count."""


@dataclass(frozen=True, slots=True)
class TakeCut:
    """Have the trainer write a snapshot of the replica without these updates; answer with `CutTaken`."""

    index: int
    token: int
    minus: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Forget:
    """Tell the trainer that the updates up to this slot are part of the cut `base` for good."""

    slot: int
    base: bytes
    total: bytes


@dataclass(frozen=True, slots=True)
class LoadCut:
    """Have the trainer go on from a snapshot on disk, which belongs to the cut `base` (None: genesis)."""

    weights: bytes
    base: bytes | None
    total: bytes
    samples: int


@dataclass(frozen=True, slots=True)
class PublishUpdate:
    """Announce an update on the swarm's topic."""

    envelope: bytes


@dataclass(frozen=True, slots=True)
class PublishHeartbeat:
    """Tell everybody on the topic how this node is."""

    envelope: bytes


@dataclass(frozen=True, slots=True)
class Sync:
    """Ask a peer for updates that it has and this node lacks; answer with `SyncReplied`."""

    peer: bytes
    request: SyncRequest


@dataclass(frozen=True, slots=True)
class Fetch:
    """Ask a peer for the blocks of an update, check and store each as it comes; answer with `BlocksFetched`."""

    digest: bytes
    """Of the update."""
    peer: bytes
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class AskGenesis:
    """Ask a peer what it trains; answer with `GenesisHeard`."""

    peer: bytes


@dataclass(frozen=True, slots=True)
class FetchManifest:
    """Ask a peer for the manifest with this CID; answer with `ManifestFetched`."""

    peer: bytes
    cid: bytes


@dataclass(frozen=True, slots=True)
class FetchSnapshot:
    """Bring this snapshot to disk, from whichever holders give it; answer with `SnapshotFetched`."""

    weights: bytes
    holders: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class LearnAddresses:
    """A peer says that it listens there; dial it if it is not connected."""

    peer: bytes
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Train:
    """Set the trainer's mode."""

    mode: Mode


@dataclass(frozen=True, slots=True)
class SetShare:
    """Set the weight of this node's rounds in the swarm, from 0 to 1."""

    share: float


@dataclass(frozen=True, slots=True)
class Notice:
    """Tell the user, in the log and in the status."""

    level: str  # "info" or "warning"
    text: str


@dataclass(frozen=True, slots=True)
class Leave:
    """Everything is settled: end the daemon."""


Action = (
    JoinSwarm
    | GoOver
    | Store
    | Drop
    | KeepCut
    | Settle
    | Prune
    | Apply
    | Unapply
    | Accept
    | TakeCut
    | Forget
    | LoadCut
    | PublishUpdate
    | PublishHeartbeat
    | Sync
    | Fetch
    | AskGenesis
    | FetchManifest
    | FetchSnapshot
    | LearnAddresses
    | Train
    | SetShare
    | Notice
    | Leave
)
