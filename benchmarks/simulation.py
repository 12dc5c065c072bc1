"""A swarm in one process under a clock of slots: real learners and ledgers, no daemons; used by `attack` and `offline`.

Updates reach everybody who is there before the next slot begins. Cuts settle as they do among daemons: an interval is
closed some slots after it has ended, every member names its cut by itself, and the log below old ones is forgotten.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from nacl.signing import SigningKey

from learnae import wire
from learnae.cid import raw_cid
from learnae.codec import Payload
from learnae.learner import Learner
from learnae.ledger import Entry, Ledger, Refusal
from learnae.manifest import Manifest
from learnae.rules import FULL, Rules
from learnae.wire import MAX_INLINE, CutId, Part, Signed, Update

SWARM = bytes(32)
FIRST_SLOT = 8_000
LAG = 2
"""Slots from the end of an interval to its cut, as the coordinator's grace."""


@dataclass(frozen=True, slots=True)
class Letter:
    """An update on its way: what is signed, and the payload that it names, decoded once for all receivers."""

    signed: Signed[Update]
    payload: Payload


class Member:
    """One node: a learner, a ledger, and the updates that it holds."""

    def __init__(self, number: int, learner: Learner, rules: Rules) -> None:
        self.learner = learner
        self.ledger = Ledger(SWARM, rules)
        self.cuts: dict[int, CutId] = {}
        self.letters: dict[bytes, Letter] = {}
        """Everything that is, or was, in the ledger, by digest."""
        self.ratios: dict[bytes, int] = {}
        """How much each of them counts, by digest, those below the floor too."""
        self.key = SigningKey(number.to_bytes(32))
        self.author = bytes(self.key.verify_key)
        self.seq = 0
        self._manifests: dict[int, Manifest] = {}
        self._own: bytes | None = None

    def letter(self, slot: int, parts: Sequence[bytes], norm: float, share: float, samples: int, loss: float) -> Letter:
        """Sign an update for this slot, under the next number."""
        self.seq += 1
        return self.sign(self.seq, slot, parts, norm, share, samples, loss)

    def sign(
        self, seq: int, slot: int, parts: Sequence[bytes], norm: float, share: float, samples: int, loss: float
    ) -> Letter:
        """Sign an update under any number."""
        inline = len(parts) == 1 and len(parts[0]) <= MAX_INLINE
        update = Update(
            swarm=SWARM,
            seq=seq,
            slot=slot,
            base=self.cuts[max(self.cuts)] if self.cuts else None,
            samples=samples,
            share=share,
            norm=norm,
            loss=loss,
            payload=parts[0] if inline else b"",
            parts=() if inline else tuple(Part(raw_cid(part), len(part)) for part in parts),
        )
        envelope = wire.seal(update, wire.signer(self.key), self.author)
        return Letter(wire.open_envelope(Update, envelope), self.learner.payload(norm, parts))

    def train(self, slot: int, steps: int, share: float) -> Letter:
        """Do a round as an honest node does. Its local steps are kept until `follow` has counted the update."""
        for _ in range(steps):
            self.learner.step()
        done = self.learner.finish_round(share)
        letter = self.letter(slot, done.parts, done.norm, share, done.samples, done.loss or 0.0)
        self._own = letter.signed.digest
        return letter

    def receive(self, letter: Letter, slot: int) -> Refusal | None:
        """Admit an update, or say why not; `follow` gives it its effect."""
        refusal = self.ledger.examine(letter.signed, slot)
        if refusal is not None:
            return refusal
        entry = Entry.of(letter.signed)
        for rival in self.ledger.rivals(entry):
            self.ledger.remove(rival)
            self._subtract(rival)
        self.letters[entry.digest] = letter
        self.ledger.add(entry)
        return None

    def follow(self) -> None:
        """Bring the weights to what the ledger says that every update counts for."""
        for entry, before, after in self.ledger.reweigh():
            if before is not None:
                self._subtract(entry)
            payload = self.letters[entry.digest].payload
            if entry.digest == self._own and payload.void is None:
                self.learner.accept(payload, entry.samples, after)
                self._own = None
            else:
                self.learner.apply(payload, entry.samples, after)
            self.ratios[entry.digest] = after

    def _subtract(self, entry: Entry) -> None:
        ratio = self.ratios.pop(entry.digest, None)
        payload = self.letters[entry.digest].payload
        if ratio is not None and payload.void is None:
            self.learner.remove(payload, entry.samples, ratio)

    def catch_up(self, other: Member, slot: int) -> None:
        """Take over what another member has and this one lacks."""
        for entry in other.ledger.missing_at(self.ledger.request()):
            self.receive(other.letters[entry.digest], slot)

    @property
    def replaced(self) -> int:
        """How many updates were admitted, and gave way to another one under the same number."""
        return len(self.letters) - len(self.ratios)

    def settle(self, slot: int) -> None:
        """Close the intervals that ended a while ago, and forget what lies far behind."""
        rules = self.ledger.rules
        for interval in self.ledger.open_intervals():
            if slot <= rules.last_slot(interval) + LAG:
                break
            manifest = self.ledger.cut(interval, (), raw_cid(self.ledger.total(interval)), 1)
            if self.ledger.settle(manifest.id):
                raise AssertionError("an update stands on a history that nobody has")
            self.cuts[interval], self._manifests[interval] = manifest.id, manifest
        old = [index for index in self._manifests if index <= self.ledger.closed - rules.staleness]
        if old:
            self.ledger.prune(self._manifests[max(old)])
            self._manifests = {index: kept for index, kept in self._manifests.items() if index > max(old)}


@dataclass(frozen=True, slots=True)
class Weight:
    """How a group's updates counted: mean ``ratio`` (0 to 1), part of them ``clipped``."""

    ratio: float
    clipped: float


def weight(members: Iterable[Member], judge: Member) -> Weight:
    """How the updates of these members count for `judge`."""
    authors = {member.author for member in members}
    ratios = [ratio for digest, ratio in judge.ratios.items() if judge.letters[digest].signed.author in authors]
    if not ratios:
        return Weight(float("nan"), float("nan"))
    return Weight(fmean(ratios) / FULL, fmean(ratio < FULL for ratio in ratios))


def exchange(members: Sequence[Member], slot: int) -> None:
    """Repair: whoever lacks something asks the others, until all who are here hold the same."""
    for _ in members:
        if len({member.ledger.digest for member in members}) <= 1:
            break
        for member in members:
            for other in members:
                if other.ledger.digest != member.ledger.digest:
                    member.catch_up(other, slot)
    else:
        raise AssertionError("members who exchange everything hold different sets")


def agreed(members: Iterable[Member]) -> bool:
    """Whether all have the same updates, the same cuts and the same bits."""
    states = {(m.ledger.digest, tuple(m.cuts.values()), m.learner.replica.digest()) for m in members}
    return len(states) == 1


def accuracy(members: Iterable[Member]) -> float:
    """Of the weights' running average on the held-out data, 0 to 1, mean over the members."""
    return fmean(member.learner.evaluate(averaged=True)["accuracy"] for member in members)
