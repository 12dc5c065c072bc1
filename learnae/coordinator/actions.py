"""What the coordinator wants done: its only output, carried out in order by the daemon or by the simulator."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from learnae.genesis import Genesis
from learnae.vector import UpdateId
from learnae.wire import Part, SyncRequest, Update


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
    author: bytes
    update: Update
    envelope: bytes
    digest: bytes
    blocks: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Apply:
    """Hand a stored update to the trainer, which adds it to the replica."""

    update: UpdateId


@dataclass(frozen=True, slots=True)
class Accept:
    """Tell the trainer that its round is stored under this id, and may be added to the replica."""

    update: UpdateId


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
    """Ask a peer for the blocks of an update; answer with `BlocksFetched`."""

    update: UpdateId
    peer: bytes
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class AskGenesis:
    """Ask a peer what it trains; answer with `GenesisHeard`."""

    peer: bytes


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
    | Store
    | Apply
    | Accept
    | PublishUpdate
    | PublishHeartbeat
    | Sync
    | Fetch
    | AskGenesis
    | LearnAddresses
    | Train
    | SetShare
    | Notice
    | Leave
)
