"""The averaging coordinator: a sans-IO state machine, driven by the daemon and by the simulator alike.

`handle(event, now)` returns what is to be done, in order. It holds ids and envelopes, never a model; it opens no
socket, reads no clock, starts no thread. One node's whole behaviour in a swarm is in this package.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from learnae.cid import names, raw_cid
from learnae.coordinator import events
from learnae.coordinator.actions import (
    Accept,
    Action,
    Apply,
    LearnAddresses,
    Leave,
    LoadCut,
    Notice,
    PublishHeartbeat,
    PublishUpdate,
    Unapply,
)
from learnae.coordinator.adoption import AdoptionStatistics
from learnae.coordinator.crossing import Crossing
from learnae.coordinator.cuts import CutsStatistics
from learnae.coordinator.heart import Heart
from learnae.coordinator.history import History
from learnae.coordinator.intake import Intake
from learnae.coordinator.meeting import Meeting
from learnae.coordinator.memory import ABSURD, Memory
from learnae.coordinator.peers import Members, Peer, PeerTable
from learnae.coordinator.settings import Settings
from learnae.coordinator.settling import SETTLING, Settling
from learnae.coordinator.steering import Steering
from learnae.errors import WireError
from learnae.genesis import Genesis
from learnae.ledger import Entry, Ledger, LedgerStatistics, Refusal
from learnae.peer import short
from learnae.wire import MAX_INLINE, Heartbeat, Message, Part, Signed, Update, open_envelope, seal

M = TypeVar("M", bound=Message)

_FREQUENT = frozenset(
    (events.UpdateHeard, events.HeartbeatHeard, events.PeerConnected, events.PeerDisconnected, events.Progress)
)
"""Events of which there may be so many that what follows from them is looked at now and then."""
_TELL = {
    "joining": "joining: fetching what the swarm has done so far",
    "alone": "training alone: nobody else trains this model on the topic yet; still looking",
    "training": "training together with the others on the topic",
    "paused": "paused: updates of others are still taken in",
}


@dataclass(frozen=True, slots=True)
class CoordinatorStatistics:
    """Figures for the status endpoint."""

    state: str
    members: int
    share: float
    syncs_running: int
    fetches_pending: int
    clock_offset: float
    """Seconds by which the swarm's clock is ahead of the own one."""
    refused: dict[str, int]
    ledger: LedgerStatistics | None
    cuts: CutsStatistics | None
    adoption: AdoptionStatistics


class Opener(Protocol):
    """What opens envelopes, as `learnae.wire.open_envelope` does."""

    def __call__(self, kind: type[M], data: bytes) -> Signed[M]: ...


class Coordinator:
    """One node's part in the swarm, with engine `ledger`.

    Args:
        author: the own 32-byte public key.
        sign: makes an Ed25519 signature with the own private key.
        topic: the name under which the swarm's nodes meet.
        settings: time constants.
        paused: start without training.
        open_envelope: opens what others have signed; the simulator gives one that opens each envelope once for all.
    """

    def __init__(
        self,
        author: bytes,
        sign: Callable[[bytes], bytes],
        topic: str,
        settings: Settings | None = None,
        *,
        paused: bool = False,
        open_envelope: Opener = open_envelope,
    ) -> None:
        settings = settings or Settings()
        self.author = author
        self.topic = topic
        self._sign = sign
        self._open = open_envelope
        self._settings = settings
        self._sleep = settings.expiry / 2
        """After so long without an event this PC slept."""
        self._heart = Heart(author, sign, settings)
        self._steering = Steering(paused=paused)
        self._memory = Memory(author, topic, settings, self._heart, self._steering)
        self._intake = Intake(self._memory)
        self._meeting = Meeting(self._memory)
        self._history = History(self._memory, self._intake, self._meeting)
        self._crossing = Crossing(self._memory, self._history)
        self._settling: Settling | None = None
        self._leaving = False
        self._state = ""
        self._now = 0.0
        self._looked = 0.0

    @property
    def genesis(self) -> Genesis | None:
        """The genesis of the swarm that this node is in; None until the trainer has described its model."""
        return self._memory.genesis

    @property
    def ledger(self) -> Ledger | None:
        """The updates of that swarm."""
        return self._memory.ledger

    @property
    def peers(self) -> PeerTable:
        """The other nodes on the topic."""
        return self._memory.peers

    @property
    def refused(self) -> Counter[Refusal]:
        """What was not admitted, by reason."""
        return self._memory.refused

    @property
    def next_heartbeat(self) -> float:
        """When the next heartbeat is due, by the own clock."""
        return self._heart.next

    def members(self, now: float) -> Members:
        """The other live nodes of this swarm."""
        return self._memory.members(now)

    def handle(self, event: events.Event, now: float) -> list[Action]:
        """Take one event in.

        Args:
            event: what happened.
            now: Unix time in seconds, by the own clock.

        Returns:
            What to do, in this order.
        """
        gap = now - self._now
        if not -1.0 < gap < self._sleep and self._now:
            self._jump(gap)
        self._now = now
        kind = type(event)
        actions = _ON[kind](self, event, now)
        if kind in _FREQUENT and 0 <= now - self._looked < self._settings.glance:
            return [*actions, *self._intake.weigh()] if kind is events.UpdateHeard else actions
        self._looked = now
        return _without_void([*actions, *self._after(now)])

    def _jump(self, gap: float) -> None:
        """The clock was set, or this PC slept: others did not fall silent, we did not listen."""
        for peer in self._memory.peers:
            peer.heard += gap
        self._memory.joined_at += gap
        self._heart.shift(gap)
        self._memory.repair.shift(gap)
        self._memory.cuts.shift(gap)
        self._memory.adoption.shift(gap)
        self._memory.rivalry.shift(gap)
        self._memory.fetcher.wake()
        if self._settling is not None:
            self._settling.since += gap

    # --- what the trainer does

    def _trainer_ready(self, event: events.TrainerReady, now: float) -> list[Action]:
        actions: list[Action] = []
        if self._memory.ledger is None or self._memory.own_genesis != event.genesis:
            self._memory.own_genesis = event.genesis
            actions += self._history.open(event.kept.adopted or event.genesis, event.kept, now)
        assert self._memory.ledger is not None
        self._memory.snapshots = set(event.kept.snapshots)
        last = self._memory.ledger.vector.last(self.author)
        self._memory.last_seq = max(last, event.own_seq, event.kept.own_seq, self._memory.last_seq)
        self._steering.trainer_is(ready=True)
        self._memory.cuts.trainer_lost()
        self._memory.loads = 0
        return [*actions, *self._history.resume(event, now)]

    def _trainer_lost(self, event: events.TrainerLost, now: float) -> list[Action]:
        self._steering.trainer_is(ready=False)
        self._memory.cuts.trainer_lost()
        self._memory.own_entry = None
        self._heart.rate = 0.0
        return []

    def _round_finished(self, event: events.RoundFinished, now: float) -> list[Action]:
        if self._memory.ledger is None or self._memory.genesis is None:
            return []
        blocks = tuple(raw_cid(part) for part in event.parts)
        if event.loads != self._memory.loads or not self._steering.ready:
            return [Accept(None, own_seq=self._memory.last_seq)]
        stored = self._memory.ledger.find(self.author, event.after + 1)
        if stored is not None:
            return [Accept(stored, self._memory.ledger.ratio(stored))]
        if event.after < self._memory.last_seq:
            return [
                Accept(None, own_seq=self._memory.last_seq)
            ]  # It was stored once, and has been settled or dropped since.
        inline = len(event.parts) == 1 and len(event.parts[0]) <= MAX_INLINE
        settled = self._memory.cuts.newest_settled()
        update = Update(
            swarm=self._memory.ledger.swarm,
            seq=self._memory.last_seq + 1,
            slot=max(
                self._memory.slot(now), self._memory.ledger.last_slot(self.author) + 1, self._memory.ledger.horizon + 1
            ),
            base=settled[-1] if settled else None,
            samples=event.samples,
            share=event.share,
            norm=event.norm,
            loss=event.loss,
            payload=event.parts[0] if inline else b"",
            parts=() if inline else tuple(Part(c, len(p)) for c, p in zip(blocks, event.parts, strict=True)),
        )
        envelope = seal(update, self._sign, self.author)
        signed = self._open(Update, envelope)
        self._memory.last_seq = update.seq
        entry = Entry.of(signed)
        if not self._memory.ledger.is_fresh(entry):
            self._memory.last_seq -= 1
            why = "this round is dropped: the swarm has settled no cut for too long"
            return [Accept(None, own_seq=self._memory.last_seq), Notice("warning", why)]
        self._memory.own_entry = entry
        self._intake.add(entry, now)
        return [
            self._intake.store(signed, () if inline else event.parts),
            *self._intake.reweigh(),
            PublishUpdate(envelope),
        ]

    def _cut_taken(self, event: events.CutTaken, now: float) -> list[Action]:
        if event.weights is not None:
            self._memory.snapshots.add(event.weights)
        self._memory.cuts.taken(event.token, event.weights, event.size)
        return []

    def _manifest_fetched(self, event: events.ManifestFetched, now: float) -> list[Action]:
        if event.data is not None and (
            not names(event.cid, event.data) or not self._memory.cuts.fetched(event.cid, event.data)
        ):
            return self._memory.lied(event.peer, now)
        return []

    def _snapshot_fetched(self, event: events.SnapshotFetched, now: float) -> list[Action]:
        if event.ok:
            self._memory.snapshots.add(event.weights)
        else:
            self._memory.snapshots.discard(event.weights)
        self._memory.adoption.fetched(event.weights, now, ok=event.ok)
        return []

    def _progress(self, event: events.Progress, now: float) -> list[Action]:
        self._heart.rate = event.samples_per_second
        return []

    def _trainer_finished(self, event: events.TrainerFinished, now: float) -> list[Action]:
        if self._memory.genesis is not None and self._settling is None:
            self._settling = Settling(self._settings, now, self._memory.genesis.slot_seconds)
        return []

    def _payload_void(self, event: events.PayloadVoid, now: float) -> list[Action]:
        author, seq = event.update
        self._memory.refused[Refusal.VOID] += 1
        return [Notice("warning", f"update {seq} of {short(author)} cannot be decoded; it counts as zeros everywhere")]

    # --- what the others send

    def _update_heard(self, event: events.UpdateHeard, now: float) -> list[Action]:
        if self._memory.ledger is None:
            return []
        try:
            signed = self._open(Update, event.envelope)
        except WireError as error:
            return self._intake.malformed(error)
        return self._intake.admit(signed, event.source, now)

    def _heartbeat_heard(self, event: events.HeartbeatHeard, now: float) -> list[Action]:
        try:
            signed = self._open(Heartbeat, event.envelope)
        except WireError as error:
            return self._intake.malformed(error)
        if signed.author == self.author:
            return []
        peers, beat = self._memory.peers, signed.message
        peer = peers.get(signed.author)
        if beat.time <= peer.said and peer.is_echo(beat, now):
            return []
        was_live = peer.among is not None and now - peer.heard <= self._settings.expiry
        peers.hear(peer, beat, now)
        actions: list[Action] = []
        if peer.misdated or not -ABSURD <= peer.ahead <= ABSURD:
            actions += self._compare_clocks(peer)
        if not was_live and not peer.left:
            actions.append(Notice("info", f"peer {short(peer.key)} is here ({beat.agent}, {beat.state})"))
            self._memory.fetcher.wake()
        if not peer.connected:
            if beat.addresses:
                actions.append(LearnAddresses(peer.key, beat.addresses))
        else:
            actions += self._meeting.compare(peer, now)
        return actions

    @staticmethod
    def _compare_clocks(peer: Peer) -> list[Action]:
        far = abs(peer.ahead) > ABSURD
        told, peer.misdated = peer.misdated, far
        if not far or told:
            return []
        direction = "ahead of" if peer.ahead > 0 else "behind"
        text = (
            f"the clock of peer {short(peer.key)} is {abs(peer.ahead):.0f} s {direction} this PC's: they refuse each "
            "other's updates until the wrong one is set right"
        )
        return [Notice("warning", text)]

    def _sync_replied(self, event: events.SyncReplied, now: float) -> list[Action]:
        reply = event.reply
        if reply is None or self._memory.ledger is None:
            self._memory.repair.replied(event.peer, now, more=False)
            return []
        actions: list[Action] = []
        held = len(self._memory.ledger) + len(self._memory.fetcher)
        for envelope in reply.envelopes:
            actions += self._update_heard(events.UpdateHeard(envelope, event.peer), now)
        # A peer that promises more and brings nothing is not asked again at once.
        brought = len(self._memory.ledger) + len(self._memory.fetcher) > held
        self._memory.repair.replied(event.peer, now, more=reply.more and brought)
        held_up = self._memory.lost or self._memory.behind
        if not reply.more and not len(self._memory.fetcher) and not held_up:
            self._steering.caught_up = True
        if self._settling is not None and reply.vector.last(self.author) >= self._memory.last_seq:
            self._settling.confirmed.add(event.peer)
        return actions

    def _blocks_fetched(self, event: events.BlocksFetched, now: float) -> list[Action]:
        signed = self._memory.fetcher.fetched(event.digest, complete=event.complete)
        if event.lied:
            return self._memory.lied(event.peer, now)
        if signed is None or self._memory.ledger is None:
            return []
        refusal = self._intake.examine(signed, now)
        if refusal is not None:
            self._memory.refused[refusal] += 1
            return []
        return self._intake.take(signed, now)

    def _genesis_heard(self, event: events.GenesisHeard, now: float) -> list[Action]:
        if event.genesis is None or self._memory.genesis is None:
            return []
        peer = self._memory.peers.get(event.peer)
        peer.genesis = event.genesis
        lines = self._memory.genesis.differences(event.genesis) or ["the same model under another topic or version"]
        if lines == peer.differences:
            return []
        peer.differences = lines
        if self._memory.genesis.differs_only_in_weights(event.genesis):
            return [
                Notice("info", f"peer {short(peer.key)} started from other weights; whoever has done more is followed")
            ]
        return [
            Notice("warning", f"peer {short(peer.key)} trains something else on this topic: {'; '.join(lines)}"),
        ]

    def _peer_connected(self, event: events.PeerConnected, now: float) -> list[Action]:
        self._memory.peers.connect(event.peer, connected=True)
        self._memory.fetcher.wake()
        self._heart.hurry(event.peer, len(self._memory.peers.connected), now)
        return []

    def _peer_disconnected(self, event: events.PeerDisconnected, now: float) -> list[Action]:
        self._memory.peers.connect(event.peer, connected=False)
        return []

    # --- what the user and the machine do

    def _listening(self, event: events.Listening, now: float) -> list[Action]:
        self._heart.addresses = event.addresses[:8]
        return []

    def _pause(self, event: events.Pause, now: float) -> list[Action]:
        self._steering.paused = True
        return []

    def _resume(self, event: events.Resume, now: float) -> list[Action]:
        self._steering.paused = False
        return []

    def _finish(self, event: events.Finish, now: float) -> list[Action]:
        self._steering.finishing = True
        return []

    def _tick(self, event: events.Tick, now: float) -> list[Action]:
        actions: list[Action] = []
        for peer in self._memory.peers.departed(now, self._settings.expiry):
            self._memory.repair.forget(peer.key)
            if not peer.left:
                actions.append(Notice("info", f"peer {short(peer.key)} has not been heard of for a while"))
            peer.heartbeat = None
        return actions

    # --- what follows from the state after each event

    def _after(self, now: float) -> list[Action]:
        if self._leaving:
            return []
        actions: list[Action] = []
        members = self._memory.members(now)
        if self._memory.ledger is not None:
            # A cut that is asked for now is of a replica which has everything up to now.
            actions += self._intake.reweigh()
            actions += self._history.follow_cuts(members, now)
            actions += self._crossing.follow(members, now)
            members = self._memory.members(now)
            actions += self._intake.reweigh()
            self._watch_catching_up(members, now)
            actions += self._memory.repair.due(self._memory.ledger, self._memory.fetcher, now)
            if len(self._memory.fetcher):
                reachable = {peer.key for peer in self._memory.peers if peer.can_be_asked(now)}
                actions += self._memory.fetcher.due((p.key for p in members), reachable.__contains__, now)
        actions += self._steering.orders(members, self._absent(members, now), self._heart.rate)
        actions += self._settle(members, now)
        state = self.state(now)
        if state != self._state and state in _TELL:
            actions.append(Notice("info", _TELL[state]))
        self._state = state
        if state != "leaving" and self._heart.due(state, now):
            actions.append(self._heart.beat(state, self._memory.genesis, self._memory.ledger, self._memory.cuts, now))
        return actions

    def _absent(self, members: Members, now: float) -> int:
        """How many nodes worked in this interval or the one before, and are away without a goodbye."""
        ledger = self._memory.ledger
        if ledger is None:
            return 0
        lately = ledger.authors(ledger.rules.interval(self._memory.slot(now)) - 2)
        present, peers = members.keys, self._memory.peers
        return sum(not (key in present or key == self.author or peers.has_left(key)) for key in lately)

    def _watch_catching_up(self, members: Members, now: float) -> None:
        assert self._memory.ledger is not None
        if members:
            self._memory.joined_at = now
        if self._memory.lost or self._memory.behind:
            self._steering.caught_up = False
            return
        alone = not members and now - self._memory.joined_at >= self._settings.join_wait
        if self._steering.caught_up:
            return
        level = any(p.heartbeat is not None and self._memory.repair.has_had(p.heartbeat.digest) for p in members)
        self._steering.caught_up = alone or level

    def _settle(self, members: Members, now: float) -> list[Action]:
        if self._settling is None or self._memory.ledger is None:
            return []
        why = self._settling.verdict(members, self._memory.ledger.digest, now)
        if why is None:
            going_on = next((p for p in members if p.connected and p.heartbeat and p.heartbeat.state != SETTLING), None)
            if going_on is not None and going_on.key not in self._settling.confirmed:
                self._memory.repair.ask(going_on.key, now)
            return []
        return [Notice("info", f"settled: {why}"), self.farewell(now), Leave()]

    # --- what others may ask

    def state(self, now: float) -> str:
        """starting, joining, training, alone, paused, finishing, settling or leaving."""
        if self._leaving:
            return "leaving"
        if self._settling is not None:
            return SETTLING
        if self._steering.finishing:
            return "finishing"
        if not self._steering.ready:
            return "starting"
        if self._steering.paused:
            return "paused"
        if not self._steering.caught_up:
            return "joining"
        return "training" if self._memory.members(now) else "alone"

    def farewell(self, now: float) -> PublishHeartbeat:
        """The last heartbeat, which tells the others not to wait for this node."""
        self._leaving = True
        return self._heart.beat("leaving", self._memory.genesis, self._memory.ledger, self._memory.cuts, now)

    def statistics(self, now: float) -> CoordinatorStatistics:
        """Figures for the status endpoint."""
        return CoordinatorStatistics(
            state=self.state(now),
            members=len(self._memory.members(now)),
            share=self._steering.share,
            syncs_running=self._memory.repair.running,
            fetches_pending=len(self._memory.fetcher),
            clock_offset=self._memory.offset(now),
            refused={reason.value: self._memory.refused[reason] for reason in Refusal},
            ledger=self._memory.ledger.statistics() if self._memory.ledger is not None else None,
            cuts=self._memory.cuts.statistics(self._memory.members(now)) if self._memory.ledger is not None else None,
            adoption=self._memory.adoption.statistics(),
        )


def _without_void(todo: list[Action]) -> list[Action]:
    """Without what the trainer is to add or subtract before it loads a cut: the store may not have it any more."""
    loads = max((place for place, action in enumerate(todo) if isinstance(action, LoadCut)), default=0)
    return [action for place, action in enumerate(todo) if place >= loads or not isinstance(action, Apply | Unapply)]


_ON: dict[type[events.Event], Callable[[Coordinator, Any, float], list[Action]]] = {
    events.TrainerReady: Coordinator._trainer_ready,
    events.TrainerLost: Coordinator._trainer_lost,
    events.RoundFinished: Coordinator._round_finished,
    events.CutTaken: Coordinator._cut_taken,
    events.ManifestFetched: Coordinator._manifest_fetched,
    events.SnapshotFetched: Coordinator._snapshot_fetched,
    events.Progress: Coordinator._progress,
    events.TrainerFinished: Coordinator._trainer_finished,
    events.PayloadVoid: Coordinator._payload_void,
    events.UpdateHeard: Coordinator._update_heard,
    events.HeartbeatHeard: Coordinator._heartbeat_heard,
    events.SyncReplied: Coordinator._sync_replied,
    events.BlocksFetched: Coordinator._blocks_fetched,
    events.GenesisHeard: Coordinator._genesis_heard,
    events.PeerConnected: Coordinator._peer_connected,
    events.PeerDisconnected: Coordinator._peer_disconnected,
    events.Listening: Coordinator._listening,
    events.Pause: Coordinator._pause,
    events.Resume: Coordinator._resume,
    events.Finish: Coordinator._finish,
    events.Tick: Coordinator._tick,
}
