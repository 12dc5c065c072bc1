"""An update's way in and out of the ledger, the store and the replica; part of the coordinator."""

from __future__ import annotations

from dataclasses import replace

from learnae.coordinator.actions import Accept, Action, Apply, Drop, Notice, Store, Unapply
from learnae.coordinator.memory import Memory
from learnae.errors import WireError
from learnae.ledger import Entry, Refusal
from learnae.peer import short
from learnae.wire import MAX_PART, BadSignature, Signed, Update


class Intake:
    """Admits updates, takes them out again, and tells the trainer what each counts for."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    def admit(self, signed: Signed[Update], source: bytes, now: float) -> list[Action]:
        """An update has come, its signature is good: take it, have its payload fetched, or refuse it."""
        memory = self._memory
        assert memory.ledger is not None
        refusal = self.examine(signed, now)
        if refusal is None and signed.message.size > self._largest_update():
            refusal = Refusal.OVERSIZED
        if refusal is None and signed.message.parts:
            if memory.fetcher.full(signed.author) and signed.digest not in memory.fetcher:
                refusal = Refusal.OVERLOAD
            else:
                memory.fetcher.add(signed, source)
                return []
        if refusal is None:
            return self.take(signed, now)
        memory.refused[refusal] += 1
        return self.report(signed.author) if refusal is Refusal.CONFLICT else []

    def examine(self, signed: Signed[Update], now: float) -> Refusal | None:
        """Why an update may not come in now, or None."""
        memory = self._memory
        assert memory.ledger is not None and memory.genesis is not None
        refusal = memory.ledger.examine(signed, memory.slot(now))
        if refusal is not None:
            return refusal
        interval = memory.ledger.rules.interval(signed.message.slot)
        due, frozen = memory.cuts.due(interval), memory.cuts.frozen(interval, memory.genesis.slot_seconds, now)
        if not (due or frozen) or (signed.author, signed.message.seq) in memory.cuts.wanted:
            return None
        rivals = memory.ledger.rivals(Entry.of(signed))
        if rivals and due and memory.rivalry.restrains(signed.author, now):
            return Refusal.CONFLICT
        return Refusal.LATE if frozen and not rivals else None

    def report(self, author: bytes) -> list[Action]:
        """Tell the user, once, that an author has signed two updates for one slot or under one number."""
        peer = self._memory.peers.get(author)
        if peer.forked:
            return []
        peer.forked = True
        return [Notice("warning", f"peer {short(author)} signed two updates for one slot; one of them counts")]

    def take(self, signed: Signed[Update], now: float) -> list[Action]:
        """Add an examined update whose payload is here, in the place of its rivals."""
        memory = self._memory
        assert memory.ledger is not None and memory.genesis is not None
        entry = Entry.of(signed)
        rivals = memory.ledger.rivals(entry)
        if rivals:
            memory.ledger.forked.add(entry.author)
            if memory.cuts.due(memory.ledger.rules.interval(entry.slot)):
                memory.rivalry.replaced(entry.author, 4 * memory.cuts.frost(memory.genesis.slot_seconds), now)
        actions = [*self.report(entry.author), *self.drop(rivals)] if rivals else []
        self.add(entry, now)
        return [*actions, self.store(signed, ())]

    def add(self, entry: Entry, now: float) -> None:
        """Add an update to the ledger."""
        memory = self._memory
        assert memory.ledger is not None
        memory.heart.last_update = now
        memory.ledger.add(entry)
        if entry.author == memory.author:
            # Own updates come back from others if the database was lost: their numbers are taken.
            memory.last_seq = max(memory.last_seq, entry.seq)
        memory.repair.record(memory.ledger.digest)

    def drop(self, entries: list[Entry]) -> list[Action]:
        """Take updates out of the set, here and in the replica."""
        memory = self._memory
        assert memory.ledger is not None
        if not entries:
            return []
        for entry in entries:
            memory.ledger.remove(entry)
        memory.repair.record(memory.ledger.digest)
        actions: list[Action] = [Drop(memory.ledger.swarm, tuple(entries))]
        if memory.steering.ready:
            actions += map(self.unapply, entries)
        return actions

    def weigh(self) -> list[Action]:
        """Tell the trainer of every update that is new, by what is known of the others so far."""
        ledger = self._memory.ledger
        return self._tell([(entry, None, ratio) for entry, ratio in ledger.weigh()]) if ledger is not None else []

    def reweigh(self) -> list[Action]:
        """Tell the trainer of every update that is new, or counts differently because of others."""
        return self._tell(self._memory.ledger.reweigh()) if self._memory.ledger is not None else []

    def _tell(self, changes: list[tuple[Entry, int | None, int]]) -> list[Action]:
        memory = self._memory
        actions: list[Action] = []
        for entry, before, after in changes if memory.steering.ready else ():
            if entry == memory.own_entry and before is None:
                memory.own_entry = None
                actions.append(Accept(entry, after))
                continue
            if before is not None:
                actions.append(self.unapply(entry))
            actions.append(self.apply(entry))
        return actions

    def apply(self, entry: Entry) -> Apply:
        """Has the trainer add an update, by what it counts for."""
        ledger = self._memory.ledger
        assert ledger is not None
        return Apply(self._counted(entry), ledger.ratio(entry))

    def unapply(self, entry: Entry) -> Unapply:
        """Has the trainer subtract an update."""
        return Unapply(self._counted(entry))

    def _counted(self, entry: Entry) -> Entry:
        """The entry with the samples that are believed."""
        ledger = self._memory.ledger
        assert ledger is not None
        samples = ledger.samples(entry)
        return entry if samples == entry.samples else replace(entry, samples=samples)

    def store(self, signed: Signed[Update], blocks: tuple[bytes, ...]) -> Store:
        """What makes an update durable."""
        return Store(signed.message.swarm, Entry.of(signed), signed.envelope, blocks)

    def malformed(self, error: WireError) -> list[Action]:
        """Count what breaks the format."""
        self._memory.refused[Refusal.BAD_SIGNATURE if isinstance(error, BadSignature) else Refusal.MALFORMED] += 1
        return []

    def _largest_update(self) -> int:
        # As large as the float32 model: an update that sends every weight has about a quarter of it.
        assert self._memory.genesis is not None
        return 4 * self._memory.genesis.layout.size + MAX_PART
