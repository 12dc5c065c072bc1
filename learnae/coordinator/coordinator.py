"""The averaging coordinator: a sans-IO state machine, driven by the daemon and by the simulator alike.

`handle(event, now)` returns what is to be done, in order. It holds ids and envelopes, never a model; it opens no
socket, reads no clock, starts no thread. One node's whole behaviour in a swarm is in this package.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import singledispatchmethod

from learnae.cid import raw_cid
from learnae.coordinator import events
from learnae.coordinator.actions import (
    Accept,
    Action,
    Apply,
    AskGenesis,
    JoinSwarm,
    LearnAddresses,
    Leave,
    Notice,
    PublishHeartbeat,
    PublishUpdate,
    Store,
)
from learnae.coordinator.fetcher import Fetcher
from learnae.coordinator.heart import Heart
from learnae.coordinator.peers import Peer, PeerTable
from learnae.coordinator.repair import Repair
from learnae.coordinator.settings import Settings
from learnae.coordinator.settling import SETTLING, Settling
from learnae.coordinator.steering import Steering
from learnae.errors import WireError
from learnae.genesis import Genesis
from learnae.ledger import Entry, Ledger, LedgerStatistics, Refusal
from learnae.peer import short
from learnae.wire import MAX_INLINE, MAX_PART, BadSignature, Heartbeat, Part, Signed, Update, open_envelope, seal

CLOCK_TOLERANCE = 30.0
"""How many seconds, and at least two slots, a peer's clock may be ahead. Larger forgives worse clocks; a cheater may
reserve slots so far ahead."""
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
    refused: dict[str, int]
    ledger: LedgerStatistics | None


class Coordinator:
    """One node's part in the swarm, with engine `ledger`.

    Args:
        author: the own 32-byte public key.
        sign: makes an Ed25519 signature with the own private key.
        topic: the name under which the swarm's nodes meet.
        settings: time constants.
        paused: start without training.
    """

    def __init__(
        self,
        author: bytes,
        sign: Callable[[bytes], bytes],
        topic: str,
        settings: Settings | None = None,
        *,
        paused: bool = False,
    ) -> None:
        self.author = author
        self.topic = topic
        self.genesis: Genesis | None = None
        self.ledger: Ledger | None = None
        self.peers = PeerTable()
        self.refused: Counter[Refusal] = Counter()
        self._sign = sign
        self._settings = settings or Settings()
        self._repair = Repair(self._settings)
        self._fetcher = Fetcher(self._settings)
        self._heart = Heart(author, sign, self._settings)
        self._steering = Steering(paused=paused)
        self._joined_at = 0.0
        self._settling: Settling | None = None
        self._leaving = False
        self._last_seq = 0
        self._state = ""
        self._now = 0.0

    def handle(self, event: events.Event, now: float) -> list[Action]:
        """Take one event in.

        Args:
            event: what happened.
            now: Unix time in seconds, by the own clock.

        Returns:
            What to do, in this order.
        """
        gap = now - self._now
        if self._now and not -1.0 < gap < self._settings.expiry / 2:
            self._jump(gap)
        self._now = now
        return [*self._on(event, now), *self._after(now)]

    def _jump(self, gap: float) -> None:
        """The clock was set, or this PC slept: others did not fall silent, we did not listen."""
        for peer in self.peers:
            peer.heard += gap
        self._joined_at += gap
        self._heart.shift(gap)
        self._repair.shift(gap)
        self._fetcher.wake()
        if self._settling is not None:
            self._settling.since += gap

    # --- what the trainer does

    @singledispatchmethod
    def _on(self, event: events.Event, now: float) -> list[Action]:
        raise TypeError(f"no such event: {event!r}")

    @_on.register
    def _(self, event: events.TrainerReady, now: float) -> list[Action]:
        actions: list[Action] = []
        swarm = event.genesis.swarm_id(self.topic)
        if self.ledger is None or self.ledger.swarm != swarm:
            self.genesis = event.genesis
            self.ledger = Ledger(swarm, max(2, math.ceil(CLOCK_TOLERANCE / event.genesis.slot_seconds)))
            for entry in event.known:
                self.ledger.add(entry)
            self._repair.record(self.ledger.digest)
            self._joined_at = now
            actions.append(JoinSwarm(swarm, event.genesis))
            for peer in self.peers:
                actions += self._compare(peer, now)
        last = self.ledger.last(self.author)
        self._last_seq = max(last.seq if last else 0, event.applied.contiguous(self.author), self._last_seq)
        self._steering.trainer_is(ready=True)
        replay = [(e.author, e.seq) for e in self.ledger.entries() if (e.author, e.seq) not in event.applied]
        return [*actions, *(Apply(update) for update in replay)]

    @_on.register
    def _(self, event: events.TrainerLost, now: float) -> list[Action]:
        self._steering.trainer_is(ready=False)
        self._heart.rate = 0.0
        return []

    @_on.register
    def _(self, event: events.RoundFinished, now: float) -> list[Action]:
        if self.ledger is None or self.genesis is None:
            return []
        blocks = tuple(raw_cid(part) for part in event.parts)
        if (self.author, event.after + 1) in self.ledger:
            return [Accept((self.author, event.after + 1))]
        last = self.ledger.last(self.author)
        inline = len(event.parts) == 1 and len(event.parts[0]) <= MAX_INLINE
        update = Update(
            swarm=self.ledger.swarm,
            seq=self._last_seq + 1,
            slot=max(self._slot(now), last.slot + 1 if last else 0),
            samples=event.samples,
            share=event.share,
            norm=event.norm,
            loss=event.loss,
            payload=event.parts[0] if inline else b"",
            parts=() if inline else tuple(Part(c, len(p)) for c, p in zip(blocks, event.parts, strict=True)),
        )
        envelope = seal(update, self._sign, self.author)
        signed = open_envelope(Update, envelope)
        self._last_seq = update.seq
        self._add(signed, now)
        return [
            self._store(signed, () if inline else event.parts),
            Accept((self.author, update.seq)),
            PublishUpdate(envelope),
        ]

    @_on.register
    def _(self, event: events.Progress, now: float) -> list[Action]:
        self._heart.rate = event.samples_per_second
        return []

    @_on.register
    def _(self, event: events.TrainerFinished, now: float) -> list[Action]:
        if self.genesis is not None and self._settling is None:
            self._settling = Settling(self._settings, now, self.genesis.slot_seconds)
        return []

    @_on.register
    def _(self, event: events.PayloadVoid, now: float) -> list[Action]:
        author, seq = event.update
        self.refused[Refusal.VOID] += 1
        return [Notice("warning", f"update {seq} of {short(author)} cannot be decoded; it counts as zeros everywhere")]

    # --- what the others send

    @_on.register
    def _(self, event: events.UpdateHeard, now: float) -> list[Action]:
        if self.ledger is None:
            return []
        try:
            signed = open_envelope(Update, event.envelope)
        except WireError as error:
            return self._malformed(error)
        return self._admit(signed, event.source, now)

    @_on.register
    def _(self, event: events.HeartbeatHeard, now: float) -> list[Action]:
        try:
            signed = open_envelope(Heartbeat, event.envelope)
        except WireError as error:
            return self._malformed(error)
        if signed.author == self.author:
            return []
        peer, beat = self.peers.get(signed.author), signed.message
        if peer.heartbeat is not None and peer.heartbeat.time >= beat.time:
            return []
        was_live = peer.live(now, self._settings.expiry)
        peer.heartbeat, peer.heard = beat, now
        actions: list[Action] = []
        if not was_live and peer.live(now, self._settings.expiry):
            actions.append(Notice("info", f"peer {short(peer.key)} is here ({beat.agent}, {beat.state})"))
            self._fetcher.wake()
        if beat.addresses and not peer.connected:
            actions.append(LearnAddresses(peer.key, beat.addresses))
        actions += self._compare(peer, now)
        return actions

    @_on.register
    def _(self, event: events.SyncReplied, now: float) -> list[Action]:
        reply = event.reply
        if reply is None or self.ledger is None:
            self._repair.replied(event.peer, now, more=False)
            return []
        actions: list[Action] = []
        held = len(self.ledger) + len(self._fetcher)
        for envelope in reply.envelopes:
            actions += self._on(events.UpdateHeard(envelope, event.peer), now)
        # A peer that promises more and brings nothing is not asked again at once.
        brought = len(self.ledger) + len(self._fetcher) > held
        self._repair.replied(event.peer, now, more=reply.more and brought)
        if not reply.more and not len(self._fetcher) and not self.ledger.vector.lacks(reply.vector):
            self._steering.caught_up = True
        if self._settling is not None and reply.vector.contiguous(self.author) >= self._last_seq:
            self._settling.confirmed.add(event.peer)
        return actions

    @_on.register
    def _(self, event: events.BlocksFetched, now: float) -> list[Action]:
        signed, lied = self._fetcher.fetched(event.update, event.blocks)
        if lied:
            self.refused[Refusal.BAD_BLOCK] += 1
            return [Notice("warning", f"peer {short(event.peer)} sent a block that was not asked for; trying others")]
        if signed is None or self.ledger is None or event.blocks is None:
            return []
        refusal = self.ledger.examine(signed, self._slot(now))
        if refusal is not None:
            self.refused[refusal] += 1
            return []
        return self._take(signed, event.blocks, now)

    @_on.register
    def _(self, event: events.GenesisHeard, now: float) -> list[Action]:
        if event.genesis is None or self.genesis is None:
            return []
        peer = self.peers.get(event.peer)
        lines = self.genesis.differences(event.genesis) or ["the same model under another topic or version"]
        if lines == peer.differences:
            return []
        peer.differences = lines
        return [
            Notice("warning", f"peer {short(peer.key)} trains something else on this topic: {'; '.join(lines)}"),
        ]

    @_on.register
    def _(self, event: events.PeerConnected, now: float) -> list[Action]:
        self.peers.get(event.peer).connected = True
        self._fetcher.wake()
        self._heart.hurry(now)
        return []

    @_on.register
    def _(self, event: events.PeerDisconnected, now: float) -> list[Action]:
        self.peers.get(event.peer).connected = False
        return []

    # --- what the user and the machine do

    @_on.register
    def _(self, event: events.Listening, now: float) -> list[Action]:
        self._heart.addresses = event.addresses[:8]
        return []

    @_on.register
    def _(self, event: events.Pause, now: float) -> list[Action]:
        self._steering.paused = True
        return []

    @_on.register
    def _(self, event: events.Resume, now: float) -> list[Action]:
        self._steering.paused = False
        return []

    @_on.register
    def _(self, event: events.Finish, now: float) -> list[Action]:
        self._steering.finishing = True
        return []

    @_on.register
    def _(self, event: events.Tick, now: float) -> list[Action]:
        actions: list[Action] = []
        for peer in self.peers:
            if peer.heartbeat is not None and not peer.live(now, self._settings.expiry):
                self._repair.forget(peer.key)
                if peer.heartbeat.state != "leaving":
                    actions.append(Notice("info", f"peer {short(peer.key)} has not been heard of for a while"))
                peer.heartbeat = None
        return actions

    # --- one update's way in

    def _admit(self, signed: Signed[Update], source: bytes, now: float) -> list[Action]:
        assert self.ledger is not None
        refusal = self.ledger.examine(signed, self._slot(now))
        update_id = (signed.author, signed.message.seq)
        if refusal is None and signed.message.size > self._largest_update():
            refusal = Refusal.OVERSIZED
        if refusal is None and signed.message.parts:
            if self._fetcher.full and update_id not in self._fetcher:
                refusal = Refusal.OVERLOAD
            else:
                self._fetcher.add(signed, source)
                return []
        if refusal is None:
            return self._take(signed, (), now)
        self.refused[refusal] += 1
        if refusal is Refusal.CONFLICT:
            return [Notice("warning", f"peer {short(signed.author)} signed two updates with number {update_id[1]}")]
        return []

    def _take(self, signed: Signed[Update], blocks: tuple[bytes, ...], now: float) -> list[Action]:
        self._add(signed, now)
        actions: list[Action] = [self._store(signed, blocks)]
        if self._steering.ready:
            actions.append(Apply((signed.author, signed.message.seq)))
        return actions

    def _add(self, signed: Signed[Update], now: float) -> None:
        assert self.ledger is not None
        self._heart.last_update = now
        self.ledger.add(Entry.of(signed))
        if signed.author == self.author:
            # Own updates come back from others if the database was lost: their numbers are taken.
            self._last_seq = max(self._last_seq, signed.message.seq)
        self._repair.record(self.ledger.digest)

    def _store(self, signed: Signed[Update], blocks: tuple[bytes, ...]) -> Store:
        update = signed.message
        return Store(update.swarm, signed.author, update, signed.envelope, signed.digest, blocks)

    def _malformed(self, error: WireError) -> list[Action]:
        self.refused[Refusal.BAD_SIGNATURE if isinstance(error, BadSignature) else Refusal.MALFORMED] += 1
        return []

    def _compare(self, peer: Peer, now: float) -> list[Action]:
        beat = peer.heartbeat
        # Whom we are not connected to cannot be asked; those in between will have it sooner.
        if beat is None or self.ledger is None or beat.swarm is None or not peer.connected:
            return []
        if beat.swarm != peer.compared:
            peer.compared, peer.differences, peer.asked_genesis = beat.swarm, [], -1e9
        if beat.swarm == self.ledger.swarm:
            self._repair.compare(peer.key, beat.digest, beat.updates, now)
        elif now - peer.asked_genesis > 5 * self._settings.retry and not peer.differences:
            peer.asked_genesis = now
            return [AskGenesis(peer.key)]
        return []

    # --- what follows from the state after each event

    def _after(self, now: float) -> list[Action]:
        if self._leaving:
            return []
        actions: list[Action] = []
        members = self.members(now)
        if self.ledger is not None:
            self._watch_catching_up(members, now)
            actions += self._repair.due(self.ledger, self._fetcher, now)
            reachable = {peer.key for peer in self.peers if peer.connected}
            actions += self._fetcher.due((p.key for p in members), reachable.__contains__, now)
        actions += self._steering.orders(members)
        actions += self._settle(members, now)
        state = self.state(now)
        if state != self._state and state in _TELL:
            actions.append(Notice("info", _TELL[state]))
        self._state = state
        if state != "leaving" and self._heart.due(state, now):
            actions.append(self._heart.beat(state, self.genesis, self.ledger, now))
        return actions

    def _watch_catching_up(self, members: list[Peer], now: float) -> None:
        assert self.ledger is not None
        if members:
            self._joined_at = now
        alone = not members and now - self._joined_at >= self._settings.join_wait
        level = any(p.heartbeat is not None and p.heartbeat.digest == self.ledger.digest for p in members)
        self._steering.caught_up = self._steering.caught_up or alone or level

    def _settle(self, members: list[Peer], now: float) -> list[Action]:
        if self._settling is None or self.ledger is None:
            return []
        why = self._settling.verdict(members, self.ledger.digest, now)
        if why is None:
            going_on = next((p for p in members if p.connected and p.heartbeat and p.heartbeat.state != SETTLING), None)
            if going_on is not None and going_on.key not in self._settling.confirmed:
                self._repair.ask(going_on.key, now)
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
        return "training" if self.members(now) else "alone"

    def members(self, now: float) -> list[Peer]:
        """The other live nodes of this swarm."""
        return self.peers.members(self.ledger.swarm if self.ledger is not None else None, now, self._settings.expiry)

    def farewell(self, now: float) -> PublishHeartbeat:
        """The last heartbeat, which tells the others not to wait for this node."""
        self._leaving = True
        return self._heart.beat("leaving", self.genesis, self.ledger, now)

    def statistics(self, now: float) -> CoordinatorStatistics:
        """Figures for the status endpoint."""
        return CoordinatorStatistics(
            state=self.state(now),
            members=len(self.members(now)),
            share=self._steering.share,
            syncs_running=self._repair.running,
            fetches_pending=len(self._fetcher),
            refused={reason.value: self.refused[reason] for reason in Refusal},
            ledger=self.ledger.statistics() if self.ledger is not None else None,
        )

    def _largest_update(self) -> int:
        # As large as the float32 model: an update that sends every weight has about a quarter of it.
        assert self.genesis is not None
        return 4 * self.genesis.layout.size + MAX_PART

    def _slot(self, now: float) -> int:
        assert self.genesis is not None
        return int(now // self.genesis.slot_seconds)
