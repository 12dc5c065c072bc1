"""The averaging coordinator: a sans-IO state machine, driven by the daemon and by the simulator alike.

`handle(event, now)` returns what is to be done, in order. It holds ids and envelopes, never a model; it opens no
socket, reads no clock, starts no thread. One node's whole behaviour in a swarm is in this package.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import singledispatchmethod

from learnae.cid import raw_cid
from learnae.coordinator import adoption, events
from learnae.coordinator.actions import (
    Accept,
    Action,
    Apply,
    AskGenesis,
    Drop,
    Forget,
    GoOver,
    JoinSwarm,
    KeepCut,
    LearnAddresses,
    Leave,
    LoadCut,
    Notice,
    Prune,
    PublishHeartbeat,
    PublishUpdate,
    Settle,
    Store,
    Unapply,
)
from learnae.coordinator.adoption import Adoption, AdoptionStatistics, Goal
from learnae.coordinator.cuts import Cuts, CutsStatistics
from learnae.coordinator.fetcher import Fetcher
from learnae.coordinator.heart import Heart
from learnae.coordinator.peers import Peer, PeerTable
from learnae.coordinator.repair import Repair
from learnae.coordinator.settings import Settings
from learnae.coordinator.settling import SETTLING, Settling
from learnae.coordinator.steering import Steering
from learnae.errors import WireError
from learnae.genesis import Genesis
from learnae.ledger import Entry, Kept, Ledger, LedgerStatistics, Refusal
from learnae.manifest import ZERO, Manifest
from learnae.peer import short
from learnae.wire import MAX_INLINE, MAX_PART, BadSignature, CutId, Heartbeat, Part, Signed, Update, open_envelope, seal

CLOCK_TOLERANCE = 30.0
"""How many seconds, and at least two slots, a peer's clock may be ahead. Larger forgives worse clocks; a cheater may
reserve slots so far ahead."""
SNAPSHOTS = 3
"""How many settled snapshots are kept for others to join from."""
_SKEW = 1.0
"""Seconds by which clocks may differ without being put right: messages take some time too."""
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
        self._cuts = Cuts(author, self._settings)
        self._adoption = Adoption(self._settings)
        self._snapshots: set[bytes] = set()
        self._own_genesis: Genesis | None = None
        self._loads = 0
        self._own_entry: Entry | None = None
        self._joined_at = 0.0
        self._settling: Settling | None = None
        self._leaving = False
        self._last_seq = 0
        self._beyond = False
        self._curious: CutId | None = None
        self._behind = False
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
        self._cuts.shift(gap)
        self._adoption.shift(gap)
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
        if self.ledger is None or self._own_genesis != event.genesis:
            self._own_genesis = event.genesis
            actions += self._open(event.kept.adopted or event.genesis, event.kept, now)
        assert self.ledger is not None
        self._snapshots |= event.kept.snapshots
        last = self.ledger.vector.last(self.author)
        self._last_seq = max(last, event.own_seq, event.kept.own_seq, self._last_seq)
        self._steering.trainer_is(ready=True)
        self._cuts.trainer_lost()
        self._loads = 0
        return [*actions, *self._resume(event, now)]

    def _open(self, genesis: Genesis, kept: Kept, now: float) -> list[Action]:
        """Begin with what the store holds of the swarm of this genesis."""
        swarm = genesis.swarm_id(self.topic)
        floor = Manifest.decode(kept.floor) if kept.floor is not None else None
        settled = [Manifest.decode(data) for data in kept.manifests]
        self.genesis = genesis
        self.ledger = Ledger(swarm, genesis.rules, floor, self._tolerance(genesis))
        for entry in kept.entries:
            self.ledger.add(entry)
        for manifest in settled:
            self.ledger.settle(manifest.id)
        self.ledger.reweigh()
        self._cuts.reset([floor, *settled] if floor is not None else settled)
        self._fetcher.forget()
        self._repair.record(self.ledger.digest)
        self._joined_at = now
        actions: list[Action] = [JoinSwarm(swarm, genesis)]
        for peer in self.peers:
            peer.compared = None
            actions += self._compare(peer, now)
        return actions

    def _tolerance(self, genesis: Genesis) -> int:
        return max(2, math.ceil(CLOCK_TOLERANCE / genesis.slot_seconds))

    def _resume(self, event: events.TrainerReady, now: float) -> list[Action]:
        """Bring a trainer that has just started to the state of the ledger."""
        assert self.ledger is not None and self.genesis is not None
        ledger = self.ledger
        horizon = ledger.rules.last_slot(ledger.floor.index) if ledger.floor is not None else -1
        below = sum(int.from_bytes(a.digest) for a in event.applied if a.slot <= horizon)
        total = (int.from_bytes(event.total) + below) % 2**256
        stands = total == int.from_bytes(ledger.floor.total if ledger.floor is not None else ZERO)
        if ledger.floor is None and event.base not in (None, self.genesis.weights):
            stands = False
        if ledger.floor is None and event.base is None and self.genesis != event.genesis:
            stands = False
        applied = {a.digest: a for a in event.applied if a.slot > horizon}
        dropped = {entry.digest: entry for entry in event.kept.dropped}
        held = {entry.digest: entry for entry in ledger.entries()}
        strange = [digest for digest in applied if digest not in held]
        if not stands or any(digest not in dropped for digest in strange):
            return self._reload(now)
        actions: list[Action] = [Unapply(dropped[digest]) for digest in strange]
        if ledger.floor is not None:
            actions.append(Forget(horizon, ledger.floor.cid, ledger.floor.total))
        for entry in ledger.entries():
            known, ratio = applied.get(entry.digest), ledger.ratio(entry)
            if known is not None and known.ratio != ratio:
                actions.append(Unapply(entry))
            if known is None or known.ratio != ratio:
                actions.append(Apply(entry, ratio))
        return actions

    def _reload(self, now: float) -> list[Action]:
        """The trainer's weights are not those of the ledger: start from a snapshot."""
        assert self.ledger is not None and self.genesis is not None
        ledger = self.ledger
        on_disk = [m for _, m in sorted(self._cuts.settled.items()) if m.weights in self._snapshots]
        if on_disk:
            return self._load(on_disk[-1])
        if ledger.floor is None and self.genesis.weights in self._snapshots:
            return self._load(None)
        newest = self._cuts.newest_settled()
        why = "the own weights are lost"
        goal = Goal(why, ledger.swarm, self.genesis, newest[-1] if newest else None, urgent=True)
        self._adoption.pursue(goal, now)
        return []

    def _load(self, manifest: Manifest | None) -> list[Action]:
        """Have the trainer go on from a cut whose snapshot is on disk (None: genesis), and replay what came after."""
        assert self.ledger is not None and self.genesis is not None
        self._loads += 1
        self._own_entry = None
        if manifest is None:
            load = LoadCut(self.genesis.weights, self.genesis.weights, ZERO, 0)
        else:
            load = LoadCut(manifest.weights, manifest.cid, manifest.total, manifest.samples)
        after = self.ledger.entries_after(manifest.index if manifest is not None else -1)
        self.ledger.reweigh()
        return [load, *(Apply(entry, self.ledger.ratio(entry)) for entry in after)]

    @_on.register
    def _(self, event: events.TrainerLost, now: float) -> list[Action]:
        self._steering.trainer_is(ready=False)
        self._cuts.trainer_lost()
        self._own_entry = None
        self._heart.rate = 0.0
        return []

    @_on.register
    def _(self, event: events.RoundFinished, now: float) -> list[Action]:
        if self.ledger is None or self.genesis is None:
            return []
        blocks = tuple(raw_cid(part) for part in event.parts)
        if event.loads != self._loads or not self._steering.ready:
            return [Accept(None)]
        stored = self.ledger.find(self.author, event.after + 1)
        if stored is not None:
            return [Accept(stored, self.ledger.ratio(stored))]
        if event.after < self._last_seq:
            return [Accept(None)]  # It was stored once, and has been settled or dropped since.
        inline = len(event.parts) == 1 and len(event.parts[0]) <= MAX_INLINE
        settled = self._cuts.newest_settled()
        update = Update(
            swarm=self.ledger.swarm,
            seq=self._last_seq + 1,
            slot=max(self._slot(now), self.ledger.last_slot(self.author) + 1, self.ledger.horizon + 1),
            base=settled[-1] if settled else None,
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
        entry = Entry.of(signed)
        if not self.ledger.is_fresh(entry):
            self._last_seq -= 1
            return [Accept(None), Notice("warning", "this round is dropped: the swarm has settled no cut for too long")]
        self._own_entry = entry
        self._add(entry, now)
        return [self._store(signed, () if inline else event.parts), *self._reweigh(), PublishUpdate(envelope)]

    @_on.register
    def _(self, event: events.CutTaken, now: float) -> list[Action]:
        if event.weights is not None:
            self._snapshots.add(event.weights)
        self._cuts.taken(event.token, event.weights, event.size)
        return []

    @_on.register
    def _(self, event: events.ManifestFetched, now: float) -> list[Action]:
        if event.data is not None and (
            raw_cid(event.data) != event.cid or not self._cuts.fetched(event.cid, event.data)
        ):
            self.refused[Refusal.BAD_BLOCK] += 1
        return []

    @_on.register
    def _(self, event: events.SnapshotFetched, now: float) -> list[Action]:
        if event.ok:
            self._snapshots.add(event.weights)
        self._adoption.fetched(event.weights, now, ok=event.ok)
        return []

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
        peer.heartbeat, peer.heard, peer.ahead = beat, now, beat.time - now
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
        urgent = self._adoption.goal is not None and self._adoption.goal.urgent
        if not reply.more and not len(self._fetcher) and not urgent and not self._behind:
            self._steering.caught_up = True
        if self._settling is not None and reply.vector.last(self.author) >= self._last_seq:
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
        refusal = self._examine(signed, now)
        if refusal is not None:
            self.refused[refusal] += 1
            return []
        return self._take(signed, event.blocks, now)

    @_on.register
    def _(self, event: events.GenesisHeard, now: float) -> list[Action]:
        if event.genesis is None or self.genesis is None:
            return []
        peer = self.peers.get(event.peer)
        peer.genesis = event.genesis
        lines = self.genesis.differences(event.genesis) or ["the same model under another topic or version"]
        if lines == peer.differences:
            return []
        peer.differences = lines
        if self.genesis.differs_only_in_weights(event.genesis):
            return [
                Notice("info", f"peer {short(peer.key)} started from other weights; whoever has done more is followed")
            ]
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
        refusal = self._examine(signed, now)
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
        return self._report(signed.author) if refusal is Refusal.CONFLICT else []

    def _examine(self, signed: Signed[Update], now: float) -> Refusal | None:
        assert self.ledger is not None and self.genesis is not None
        refusal = self.ledger.examine(signed, self._slot(now))
        if refusal is not None:
            return refusal
        interval = self.ledger.rules.interval(signed.message.slot)
        update_id = (signed.author, signed.message.seq)
        wanted = update_id in self._cuts.wanted or self.ledger.rivals(Entry.of(signed))
        if self._cuts.frozen(interval, self.genesis.slot_seconds, now) and not wanted:
            return Refusal.LATE
        return None

    def _report(self, author: bytes) -> list[Action]:
        peer = self.peers.get(author)
        if peer.forked:
            return []
        peer.forked = True
        return [Notice("warning", f"peer {short(author)} signed two updates for one slot; one of them counts")]

    def _take(self, signed: Signed[Update], blocks: tuple[bytes, ...], now: float) -> list[Action]:
        assert self.ledger is not None
        entry = Entry.of(signed)
        rivals = self.ledger.rivals(entry)
        if rivals:
            self.ledger.forked.add(entry.author)
        actions = [*self._report(entry.author), *self._drop(rivals)] if rivals else []
        self._add(entry, now)
        return [*actions, self._store(signed, blocks)]

    def _add(self, entry: Entry, now: float) -> None:
        assert self.ledger is not None
        self._heart.last_update = now
        self.ledger.add(entry)
        if entry.author == self.author:
            # Own updates come back from others if the database was lost: their numbers are taken.
            self._last_seq = max(self._last_seq, entry.seq)
        self._repair.record(self.ledger.digest)

    def _drop(self, entries: list[Entry]) -> list[Action]:
        """Take updates out of the set, here and in the replica."""
        assert self.ledger is not None
        if not entries:
            return []
        for entry in entries:
            self.ledger.remove(entry)
        self._repair.record(self.ledger.digest)
        actions: list[Action] = [Drop(self.ledger.swarm, tuple(entries))]
        if self._steering.ready:
            actions += [Unapply(entry) for entry in entries]
        return actions

    def _reweigh(self) -> list[Action]:
        """Tell the trainer of every update that is new, or counts differently because of others."""
        actions: list[Action] = []
        for entry, before, after in self.ledger.reweigh() if self.ledger is not None else ():
            if not self._steering.ready:
                continue
            if entry == self._own_entry and before is None:
                self._own_entry = None
                actions.append(Accept(entry, after))
                continue
            if before is not None:
                actions.append(Unapply(entry))
            actions.append(Apply(entry, after))
        return actions

    def _store(self, signed: Signed[Update], blocks: tuple[bytes, ...]) -> Store:
        return Store(signed.message.swarm, Entry.of(signed), signed.envelope, blocks)

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
            actions += self._reweigh()  # A cut that is asked for now is of a replica which has everything up to now.
            actions += self._follow_cuts(members, now)
            actions += self._follow_adoption(members, now)
            members = self.members(now)
            actions += self._reweigh()
            self._watch_catching_up(members, now)
            actions += self._repair.due(self.ledger, self._fetcher, now)
            reachable = {peer.key for peer in self.peers if peer.connected}
            actions += self._fetcher.due((p.key for p in members), reachable.__contains__, now)
        actions += self._steering.orders(members, self._heart.rate)
        actions += self._settle(members, now)
        state = self.state(now)
        if state != self._state and state in _TELL:
            actions.append(Notice("info", _TELL[state]))
        self._state = state
        if state != "leaving" and self._heart.due(state, now):
            actions.append(self._heart.beat(state, self.genesis, self.ledger, self._cuts, now))
        return actions

    def _follow_cuts(self, members: list[Peer], now: float) -> list[Action]:
        """Take, settle and correct cuts; forget what lies far behind the settled ones."""
        assert self.ledger is not None and self.genesis is not None
        ledger, slot_seconds = self.ledger, self.genesis.slot_seconds
        ready = self._steering.ready and (self._adoption.goal is None or not self._adoption.goal.urgent)
        actions = self._cuts.take(ledger, slot_seconds, now + self._offset(now), now, ready=ready)
        electorate = self._cuts.electorate(ledger, members, ledger.rules.interval(self._slot(now)))
        settled, voided = self._cuts.settle(ledger, members, electorate, now)
        actions += [*settled, *self._drop(voided)]
        asked, correction = self._cuts.correct(ledger, members, slot_seconds, now)
        actions += asked
        if correction is not None:
            actions += self._drop(correction.extra)
            if correction.missing and correction.holders:
                self._repair.ask(correction.holders[0], now)
        self._beyond = correction is not None and correction.beyond
        return [*actions, *(self._prune() if settled else ())]

    def _prune(self) -> list[Action]:
        assert self.ledger is not None
        ledger, cuts = self.ledger, self._cuts
        old = [i for i in cuts.settled if i <= ledger.closed - ledger.rules.staleness]
        if not old or (ledger.floor is not None and max(old) <= ledger.floor.index):
            return []
        floor = cuts.settled[max(old)]
        ledger.prune(floor)
        cuts.settled = {i: manifest for i, manifest in cuts.settled.items() if i >= floor.index}
        slot = ledger.rules.last_slot(floor.index)
        actions: list[Action] = [self._prune_store(floor)]
        if self._steering.ready:
            actions.append(Forget(slot, floor.cid, floor.total))
        return actions

    def _prune_store(self, floor: Manifest) -> Prune:
        assert self.ledger is not None
        newest = [self._cuts.settled[i] for i in sorted(self._cuts.settled)][-SNAPSHOTS:]
        kept = tuple(manifest.weights for manifest in (*newest, *self._cuts.own.values()))
        self._snapshots.intersection_update(kept)
        return Prune(self.ledger.swarm, floor.id, self.ledger.rules.last_slot(floor.index), self._last_seq, kept)

    def _follow_adoption(self, members: list[Peer], now: float) -> list[Action]:
        """Find reasons to go over to what others have, and do it when all is here."""
        assert self.ledger is not None
        self._adoption.pursue(self._reason(members, now), now)
        goal = self._adoption.goal
        if goal is None:
            curious = self._curious
            holders = [p.key for p in members if curious is not None and p.connected and p.attests(curious)]
            return self._cuts.fetch(curious.cid, holders, now) if curious is not None else []
        holders = [
            peer.key
            for peer in self.peers
            if peer.connected
            and peer.heartbeat is not None
            and peer.heartbeat.swarm == goal.swarm
            and (goal.cut is None or peer.attests(goal.cut))
        ]
        actions, manifest, complete = self._adoption.due(self._cuts, holders, self._snapshots.__contains__, now)
        if complete:
            actions += self._go_over(goal, manifest, now)
        return actions

    def _reason(self, members: list[Peer], now: float) -> Goal | None:
        """Why to go over to another cut or swarm now, if so."""
        assert self.ledger is not None and self.genesis is not None
        ledger, lasting = self.ledger, self._adoption.lasting
        cut = self._other_side(members, now)
        if cut is not None:
            return Goal("the swarm had parted, and the other side has done more", ledger.swarm, self.genesis, cut)
        # The trainer must be up: what it holds decides whether anything is missing.
        newest = adoption.most_attested(members, ledger.closed)
        beats = [p.heartbeat for p in members if p.connected and p.heartbeat is not None]
        floors = [beat.floor for beat in beats if beat.settled and beat.settled[-1].index > ledger.closed]
        self._behind = bool(floors) and min(floors) > ledger.closed
        if newest is not None and lasting("behind", holds=self._behind, now=now):
            why = "the others have settled far more than this node has"
            return Goal(why, ledger.swarm, self.genesis, newest)
        if newest is not None and lasting("beyond", holds=self._beyond, now=now):
            why = "most others hold other weights, or another history"
            return Goal(why, ledger.swarm, self.genesis, newest)
        return self._other_genesis(members, now)

    def _other_side(self, members: list[Peer], now: float) -> CutId | None:
        """The newest cut of those who settled another history, if they have done more than this side."""
        assert self.ledger is not None
        ours, theirs = adoption.parted(self.ledger, members)
        cut = adoption.most_attested(theirs, -1)
        newest = self._cuts.settled[max(self._cuts.settled)] if self._cuts.settled else None
        self._curious = None
        if cut is None or newest is None:
            return None
        manifest = self._cuts.known(cut.cid)
        if manifest is None:
            self._curious = cut
            return None
        here = {self.author, *(peer.key for peer in ours)}
        worse = adoption.heavier(here, newest, {peer.key for peer in theirs}, manifest)
        return cut if self._adoption.lasting("parted", holds=worse, now=now) else None

    def _other_genesis(self, members: list[Peer], now: float) -> Goal | None:
        assert self.ledger is not None and self.genesis is not None
        swarms: dict[bytes, list[Peer]] = {}
        for peer in self.peers:
            beat = peer.heartbeat
            if beat is None or beat.swarm in (None, self.ledger.swarm) or not peer.live(now, self._settings.expiry):
                continue
            known = peer.genesis is not None and peer.genesis.swarm_id(self.topic) == beat.swarm
            if known and peer.genesis is not None and self.genesis.differs_only_in_weights(peer.genesis):
                swarms.setdefault(peer.genesis.swarm_id(self.topic), []).append(peer)
        for swarm, peers in sorted(swarms.items()):
            wins = adoption.better_genesis(self.ledger.swarm, len(self.ledger), len(members), swarm, peers)
            if self._adoption.lasting(f"genesis {swarm.hex()}", holds=wins, now=now):
                pruned = all(peer.heartbeat is not None and peer.heartbeat.floor >= 0 for peer in peers)
                cut = adoption.most_attested(peers, -1) if pruned else None
                genesis = peers[0].genesis
                assert genesis is not None
                return Goal("others on the topic started from other weights and have done more", swarm, genesis, cut)
        return None

    def _go_over(self, goal: Goal, manifest: Manifest | None, now: float) -> list[Action]:
        """Everything is on disk: change to the goal, keep what can be kept, replay it."""
        assert self.ledger is not None and self._own_genesis is not None
        old = self.ledger
        actions: list[Action] = [
            Notice("warning" if len(old) else "info", f"going over to a cut of others: {goal.reason}")
        ]
        if not self._steering.ready:
            return []
        if goal.swarm != old.swarm:
            own = self._own_genesis.swarm_id(self.topic)
            actions.append(GoOver(own, goal.swarm, goal.genesis))
            actions += self._open(goal.genesis, Kept(), now)
        if manifest is not None:
            ledger = Ledger(goal.swarm, goal.genesis.rules, manifest, self._tolerance(goal.genesis))
            gone = tuple(old.entries()) if goal.swarm == old.swarm else ()
            self.ledger = ledger
            self._cuts.reset([manifest])
            self._fetcher.forget()
            self._repair.record(ledger.digest)
            actions += [KeepCut(goal.swarm, manifest.id, manifest.encode()), Settle(goal.swarm, manifest.id)]
            if gone:
                actions.append(Drop(goal.swarm, gone))
            actions.append(self._prune_store(manifest))
        self._adoption.reached()
        self._steering.caught_up = False
        self._joined_at = now
        for peer in self.members(now):
            if peer.connected:
                self._repair.ask(peer.key, now)
        return [*actions, *self._load(manifest)]

    def _watch_catching_up(self, members: list[Peer], now: float) -> None:
        assert self.ledger is not None
        if members:
            self._joined_at = now
        if self._behind or (self._adoption.goal is not None and self._adoption.goal.urgent):
            self._steering.caught_up = False
            return
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
        return self._heart.beat("leaving", self.genesis, self.ledger, self._cuts, now)

    def statistics(self, now: float) -> CoordinatorStatistics:
        """Figures for the status endpoint."""
        return CoordinatorStatistics(
            state=self.state(now),
            members=len(self.members(now)),
            share=self._steering.share,
            syncs_running=self._repair.running,
            fetches_pending=len(self._fetcher),
            clock_offset=self._offset(now),
            refused={reason.value: self.refused[reason] for reason in Refusal},
            ledger=self.ledger.statistics() if self.ledger is not None else None,
            cuts=self._cuts.statistics(self.members(now)) if self.ledger is not None else None,
            adoption=self._adoption.statistics(),
        )

    def _largest_update(self) -> int:
        # As large as the float32 model: an update that sends every weight has about a quarter of it.
        assert self.genesis is not None
        return 4 * self.genesis.layout.size + MAX_PART

    def _slot(self, now: float) -> int:
        assert self.genesis is not None
        return int((now + self._offset(now)) // self.genesis.slot_seconds)

    def _offset(self, now: float) -> float:
        """Seconds by which the swarm's clock, the median of its members', is ahead of the own one."""
        offset = statistics.median([0.0, *(peer.ahead for peer in self.members(now))])
        return offset if abs(offset) > _SKEW else 0.0
