"""The swarm's history here: opened from the store, brought to the trainer, cut, settled, pruned; of the coordinator."""

from __future__ import annotations

from learnae.coordinator import events
from learnae.coordinator.actions import Action, Forget, JoinSwarm, LoadCut, Notice, Prune
from learnae.coordinator.intake import Intake
from learnae.coordinator.meeting import Meeting
from learnae.coordinator.memory import Memory
from learnae.coordinator.peers import Members
from learnae.genesis import Genesis
from learnae.ledger import Kept, Ledger
from learnae.manifest import ZERO, Manifest

SNAPSHOTS = 3
"""How many settled snapshots are kept for others to join from."""


class History:
    """Keeps ledger, store and trainer at one history."""

    def __init__(self, memory: Memory, intake: Intake, meeting: Meeting) -> None:
        self._memory = memory
        self._intake = intake
        self._meeting = meeting

    def open(self, genesis: Genesis, kept: Kept, now: float) -> list[Action]:
        """Begin with what the store holds of the swarm of this genesis."""
        memory = self._memory
        swarm = genesis.swarm_id(memory.topic)
        floor = Manifest.decode(kept.floor) if kept.floor is not None else None
        settled = [Manifest.decode(data) for data in kept.manifests]
        memory.genesis = genesis
        memory.ledger = Ledger(swarm, genesis.rules, floor, memory.tolerance(genesis))
        for entry in kept.entries:
            memory.ledger.add(entry)
        for manifest in settled:
            memory.ledger.settle(manifest.id)
        memory.ledger.reweigh()
        memory.cuts.reset([floor, *settled] if floor is not None else settled)
        memory.fetcher.forget()
        memory.repair.begin(memory.ledger.digest)
        memory.joined_at = now
        actions: list[Action] = [JoinSwarm(swarm, genesis)]
        for peer in memory.peers:
            actions += self._meeting.compare(peer, now, afresh=True)
        return actions

    def resume(self, event: events.TrainerReady, now: float) -> list[Action]:
        """Bring a trainer that has just started to the state of the ledger."""
        memory = self._memory
        assert memory.ledger is not None and memory.genesis is not None
        ledger = memory.ledger
        standing = next((m for m in memory.cuts.settled.values() if m.cid == event.base), ledger.floor)
        memory.base_index = standing.index if standing is not None else -1
        horizon = ledger.rules.last_slot(standing.index) if standing is not None else -1
        below = sum(int.from_bytes(a.digest) for a in event.applied if a.slot <= horizon)
        total = (int.from_bytes(event.total) + below) % 2**256
        stands = total == int.from_bytes(standing.total if standing is not None else ZERO)
        if standing is None and event.base not in (None, memory.genesis.weights):
            stands = False
        if standing is None and event.base is None and memory.genesis != event.genesis:
            stands = False
        memory.lost = False
        applied = {a.digest: a for a in event.applied if a.slot > horizon}
        dropped = {entry.digest: entry for entry in event.kept.dropped}
        wanted = ledger.entries_after(memory.base_index)
        held = {entry.digest for entry in wanted}
        strange = [digest for digest in applied if digest not in held]
        if not stands or any(digest not in dropped for digest in strange):
            return self._reload()
        actions: list[Action] = [self._intake.unapply(dropped[digest]) for digest in strange]
        if standing is not None:
            actions.append(Forget(horizon, standing.cid, standing.total))
        for entry in wanted:
            known, ratio = applied.get(entry.digest), ledger.ratio(entry)
            if known is not None and known.ratio != ratio:
                actions.append(self._intake.unapply(entry))
            if known is None or known.ratio != ratio:
                actions.append(self._intake.apply(entry))
        return actions

    def _reload(self) -> list[Action]:
        """The trainer's weights are not those of the ledger: start from a snapshot."""
        memory = self._memory
        assert memory.ledger is not None and memory.genesis is not None
        ledger = memory.ledger
        on_disk = [m for _, m in sorted(memory.cuts.settled.items()) if m.weights in memory.snapshots]
        if on_disk:
            return self.load(on_disk[-1])
        if ledger.floor is None and memory.genesis.weights in memory.snapshots:
            return self.load(None)
        memory.lost = True
        return [Notice("warning", "the own weights are lost; nothing is trained until a snapshot comes from others")]

    def load(self, manifest: Manifest | None) -> list[Action]:
        """Have the trainer go on from a cut whose snapshot is on disk (None: genesis), and replay what came after."""
        memory = self._memory
        assert memory.ledger is not None and memory.genesis is not None
        memory.loads += 1
        memory.lost = False
        memory.own_entry = None
        memory.base_index = manifest.index if manifest is not None else -1
        if manifest is None:
            load = LoadCut(memory.genesis.weights, memory.genesis.weights, ZERO, 0)
        else:
            load = LoadCut(manifest.weights, manifest.cid, manifest.total, manifest.samples)
        after = memory.ledger.entries_after(manifest.index if manifest is not None else -1)
        memory.ledger.reweigh()
        return [load, *map(self._intake.apply, after)]

    def follow_cuts(self, members: Members, now: float) -> list[Action]:
        """Take, settle and correct cuts; forget what lies far behind the settled ones."""
        memory = self._memory
        assert memory.ledger is not None and memory.genesis is not None
        ledger, slot_seconds = memory.ledger, memory.genesis.slot_seconds
        ready = memory.steering.ready and not memory.lost
        actions = memory.cuts.take(ledger, slot_seconds, now + memory.offset(now), now, ready=ready)
        electorate = memory.cuts.electorate(ledger, members, ledger.rules.interval(memory.slot(now)))
        settled, voided = memory.cuts.settle(ledger, members, electorate, now)
        actions += [*settled, *self._intake.drop(voided)]
        asked, correction = memory.cuts.correct(ledger, members, slot_seconds, now)
        actions += asked
        if correction is not None:
            actions += self._intake.drop(correction.extra)
            if correction.missing and correction.holders:
                memory.repair.ask(correction.holders[0], now)
        memory.beyond = correction is not None and correction.beyond
        return [*actions, *(self._prune() if settled else ())]

    def _prune(self) -> list[Action]:
        memory = self._memory
        assert memory.ledger is not None
        ledger, cuts = memory.ledger, memory.cuts
        old = sorted(cuts.settled)[: -ledger.rules.staleness]
        if not old or (ledger.floor is not None and old[-1] <= ledger.floor.index):
            return []
        floor = cuts.settled[old[-1]]
        ledger.prune(floor)
        cuts.settled = {i: manifest for i, manifest in cuts.settled.items() if i >= floor.index}
        slot = ledger.rules.last_slot(floor.index)
        actions: list[Action] = [self.prune_store(floor)]
        # A trainer that was loaded from a later cut does not know one by one what lies between.
        if memory.steering.ready and memory.base_index < floor.index:
            memory.base_index = floor.index
            actions.append(Forget(slot, floor.cid, floor.total))
        return actions

    def prune_store(self, floor: Manifest) -> Prune:
        """What may be deleted on disk once this cut is the floor."""
        memory = self._memory
        assert memory.ledger is not None
        newest = [memory.cuts.settled[i] for i in sorted(memory.cuts.settled)][-SNAPSHOTS:]
        coming = (memory.adoption.coming,) if memory.adoption.coming is not None else ()
        kept = (*(manifest.weights for manifest in (*newest, *memory.cuts.own.values())), *coming)
        memory.snapshots.intersection_update(kept)
        memory.cuts.keep(kept)
        return Prune(memory.ledger.swarm, floor.id, memory.ledger.rules.last_slot(floor.index), memory.last_seq, kept)
