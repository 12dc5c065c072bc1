"""The ledger: what it holds, what each update counts for, and its cuts are functions of the set of updates."""

from __future__ import annotations

import hashlib
import math
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from learnae import dagcbor, wire
from learnae.cid import DAG_CBOR, make_cid, raw_cid
from learnae.coordinator import Settings, actions
from learnae.coordinator.cuts import Cuts
from learnae.errors import WireError
from learnae.ledger import Entry, Ledger, Refusal
from learnae.ledger.bounds import Bounds, summarise
from learnae.manifest import MAX_MANIFEST, Interval, Manifest
from learnae.rules import FULL, Rules
from learnae.vector import MAX_AUTHORS, VersionVector
from learnae.wire import CutId, Signed, SyncRequest, Update

SWARM = bytes(32)
RULES = Rules(cut_slots=4, window=2, staleness=5)
AUTHORS = [bytes([n]) * 32 for n in range(1, 5)]
NOW = 10**6


def entry(
    author: bytes, seq: int, slot: int, norm: float = 1.0, share: float = 0.25, base: CutId | None = None, salt: int = 0
) -> Entry:
    digest = hashlib.sha256(author + b"%d %d %r %d" % (seq, slot, norm, salt)).digest()
    return Entry(author, seq, slot, 3, norm, share, None, base, digest)


norms = st.floats(0.0, 100.0)
honest = st.builds(
    lambda author, seq, norm: entry(author, seq, 100 + seq, norm),
    st.sampled_from(AUTHORS),
    st.integers(1, 20),
    norms,
)
"""One update for each author and slot, but perhaps not under one content."""
sets = st.lists(honest, max_size=40, unique_by=lambda e: e.id)
wild = st.builds(
    lambda author, seq, slot, salt: entry(author, seq, 100 + slot, salt=salt),
    st.sampled_from(AUTHORS[:2]),
    st.integers(1, 4),
    st.integers(0, 6),
    st.integers(0, 3),
)
"""Authors who sign several updates for one slot and under one number."""


def signed(item: Entry) -> Signed[Update]:
    update = Update(
        *(SWARM, item.seq, item.slot, item.base, item.samples, item.share, item.norm, item.loss),
        *(b"payload", ()),
    )
    return Signed(item.author, update, b"", item.digest)


def filled(items: list[Entry], floor: Manifest | None = None) -> Ledger:
    ledger = Ledger(SWARM, RULES, floor)
    for item in items:
        ledger.add(item)
    ledger.reweigh()
    return ledger


def take(ledger: Ledger, item: Entry) -> Refusal | None:
    """As the coordinator does."""
    refusal = ledger.examine(signed(item), NOW)
    if refusal is None:
        for rival in ledger.rivals(item):
            ledger.remove(rival)
        ledger.add(item)
    return refusal


def weights(interval: int) -> bytes:
    return raw_cid(b"%d" % interval)


def cut(ledger: Ledger, interval: int) -> Manifest:
    return ledger.cut(interval, (), weights(interval), 8)


@given(sets, st.integers(0, 1000))
def test_updates_commute_and_count_once(items: list[Entry], seed: int) -> None:
    shuffled = items * 2
    random.Random(seed).shuffle(shuffled)
    one, two = filled(items), filled(shuffled)
    assert one.digest == two.digest
    assert one.vector == two.vector
    assert one.statistics() == two.statistics()
    assert one.statistics().samples == 3 * len(items)
    assert [one.ratio(item) for item in items] == [two.ratio(item) for item in items]
    assert [cut(one, i).cid for i in one.open_intervals()] == [cut(two, i).cid for i in two.open_intervals()]


@given(sets, sets, st.integers(0, 1000))
def test_what_counts_is_the_same_however_the_set_came_about(kept: list[Entry], gone: list[Entry], seed: int) -> None:
    ids = {item.id for item in kept}
    gone = [item for item in gone if item.id not in ids]
    ledger = Ledger(SWARM, RULES)
    told: dict[bytes, int] = {}
    draw = random.Random(seed)
    arrivals = [*kept, *gone]
    draw.shuffle(arrivals)

    def listen() -> None:
        for item, before, after in ledger.reweigh():
            assert told.get(item.digest) == before
            told[item.digest] = after

    for item in arrivals:
        ledger.add(item)
        if draw.random() < 0.5:
            listen()
    for item in gone:
        ledger.remove(item)
        told.pop(item.digest, None)
        if draw.random() < 0.5:
            listen()
    listen()
    fresh = filled(kept)
    assert told == {item.digest: fresh.ratio(item) for item in kept}
    assert ledger.digest == fresh.digest
    assert ledger.vector == fresh.vector
    assert [cut(ledger, i).cid for i in ledger.open_intervals()] == [cut(fresh, i).cid for i in fresh.open_intervals()]


@given(st.lists(wild, max_size=14), st.integers(0, 1000))
def test_whoever_signs_twice_gets_the_same_on_every_node(items: list[Entry], seed: int) -> None:
    one, two = Ledger(SWARM, RULES), Ledger(SWARM, RULES)
    shuffled = list(items)
    random.Random(seed).shuffle(shuffled)
    # Repair offers again what is missing until nothing changes.
    for ledger, order in ((one, items), (two, shuffled)):
        before = None
        while before != ledger.digest:
            before = ledger.digest
            for item in order:
                take(ledger, item)
    assert one.digest == two.digest
    slots = [(item.author, item.slot) for item in one.entries()]
    assert len(slots) == len(set(slots))


@given(st.lists(wild, min_size=1, max_size=8), st.lists(wild, max_size=8))
def test_exchanging_what_is_missing_brings_both_level(mine: list[Entry], theirs: list[Entry]) -> None:
    here, there = Ledger(SWARM, RULES), Ledger(SWARM, RULES)
    for ledger, items in ((here, mine), (there, theirs)):
        for item in items:
            take(ledger, item)
    for _ in range(12):
        for asker, answerer in ((here, there), (there, here)):
            for item in answerer.missing_at(asker.request()):
                take(asker, item)
    assert here.digest == there.digest


@given(sets, sets)
def test_different_sets_have_different_digests(one: list[Entry], two: list[Entry]) -> None:
    assert (filled(one).digest == filled(two).digest) == (set(one) == set(two))


def test_missing_at_of_a_newcomer_is_everything_above_its_horizon() -> None:
    items = [entry(AUTHORS[0], seq, seq) for seq in range(1, 6)]
    ledger = filled(items)
    assert ledger.missing_at(SyncRequest(SWARM, VersionVector(), -1, ())) == items
    assert ledger.missing_at(SyncRequest(SWARM, VersionVector(), 3, ())) == items[3:]


@given(sets.filter(lambda items: len({RULES.interval(item.slot) for item in items}) > 3))
def test_pruning_changes_nothing_but_memory(items: list[Entry]) -> None:
    whole, pruned = filled(items), filled(items)
    intervals = whole.open_intervals()
    for interval in intervals[:2]:
        for ledger in (whole, pruned):
            manifest = cut(ledger, interval)
            assert ledger.settle(manifest.id) == []
            if ledger is pruned:
                pruned.prune(manifest)
    assert pruned.digest == whole.digest
    assert len(pruned) == len(whole)
    assert [cut(pruned, i).cid for i in intervals[2:]] == [cut(whole, i).cid for i in intervals[2:]]
    later = whole.entries_after(intervals[1])
    assert [pruned.ratio(item) for item in later] == [whole.ratio(item) for item in later]
    # Who starts from that cut comes to the same.
    joined = filled(later, pruned.floor)
    assert [joined.ratio(item) for item in later] == [whole.ratio(item) for item in later]
    assert [cut(joined, i).cid for i in intervals[2:]] == [cut(whole, i).cid for i in intervals[2:]]
    assert len(pruned.entries()) == len(later)


@given(sets.filter(bool))
def test_manifests_survive_the_wire(items: list[Entry]) -> None:
    ledger = filled(items)
    for interval in ledger.open_intervals():
        manifest = cut(ledger, interval)
        assert Manifest.decode(manifest.encode()) == manifest
        assert manifest.cid == make_cid(DAG_CBOR, manifest.encode())
        fields = dagcbor.decode(manifest.encode(), 10**6)
        assert fields[7] == dagcbor.Link(manifest.weights)
        for other in (manifest.weights, None, dagcbor.Link(manifest.weights).cid.hex()):
            with pytest.raises(WireError, match="expected a link"):
                Manifest.decode(dagcbor.encode([*fields[:7], other, *fields[8:]]))


def test_a_manifest_may_name_as_many_authors_as_a_vector() -> None:
    """In each of its intervals; it travels in one reply."""
    vector = VersionVector()
    for number in range(MAX_AUTHORS):
        assert vector.add(number.to_bytes(32, "big"), 50_000)
    intervals = tuple(Interval(index, vector, 1.0, 5, 0.5) for index in range(1, Rules().window + 2))
    ledger = filled([entry(AUTHORS[0], 1, 100)])
    manifest = replace(cut(ledger, 25), index=intervals[-1].index, lineage=(), intervals=intervals)
    data = manifest.encode()
    assert 256 * 1024 < len(data) <= MAX_MANIFEST
    assert Manifest.decode(data) == manifest
    reply = wire.pack(wire.BlockReply((data,)))
    assert len(reply) <= wire.MAX_REPLY and wire.unpack(wire.BlockReply, reply).blocks == (data,)


def test_a_cut_that_nobody_could_read_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = filled([entry(AUTHORS[0], 1, 5), entry(AUTHORS[1], 1, 9)])
    cuts = Cuts(AUTHORS[0], Settings())
    (asked,) = [a for a in cuts.take(ledger, 1.0, 1000.0, 1000.0, ready=True) if isinstance(a, actions.TakeCut)]
    cuts.taken(asked.token, weights(1), 8)
    monkeypatch.setattr("learnae.coordinator.cuts.MAX_MANIFEST", 100)
    (told,) = cuts.take(ledger, 1.0, 1001.0, 1001.0, ready=True)
    assert isinstance(told, actions.Notice) and "at most 100 can be sent" in told.text
    assert cuts.take(ledger, 1.0, 1002.0, 1002.0, ready=True) == [] and cuts.own == {}
    monkeypatch.undo()
    kept = cuts.take(ledger, 1.0, 1003.0, 1003.0, ready=True)
    assert [type(action) for action in kept] == [actions.KeepCut, actions.TakeCut][: len(kept)] and cuts.own


def test_a_manifest_cannot_claim_more_updates_than_there_can_be() -> None:
    ledger = filled([entry(AUTHORS[0], 1, 100)])
    manifest = cut(ledger, 25)
    claimed = VersionVector.from_wire([[AUTHORS[0], 1, 2**53]])
    huge = replace(manifest, intervals=(replace(manifest.intervals[0], vector=claimed),))
    with pytest.raises(WireError, match="at most"):
        Manifest.decode(huge.encode())


def test_what_comes_later_cannot_push_out_what_may_be_settled() -> None:
    early = entry(AUTHORS[0], 1, 101)
    late = min((entry(AUTHORS[0], 1, 105, salt=salt) for salt in range(50)), key=lambda item: item.digest)
    assert late.digest < early.digest
    one, two = Ledger(SWARM, RULES), Ledger(SWARM, RULES)
    assert (take(one, early), take(one, late)) == (None, Refusal.CONFLICT)
    assert (take(two, late), take(two, early)) == (None, None)
    assert one.entries() == two.entries() == [early]


@given(st.lists(norms, min_size=1, max_size=9), norms, st.floats(0.0, 1.0))
def test_nobody_moves_the_model_further_than_the_bounds(past: list[float], norm: float, share: float) -> None:
    before = summarise(1, [entry(bytes([n]) * 32, 1, 4, norm) for n, norm in enumerate(past)])
    bounds = Bounds.after([before], RULES)
    item = entry(AUTHORS[0], 9, 40, norm, share)
    ratio = bounds.ratio(item)
    assert 0 <= ratio <= FULL
    assert norm * ratio / FULL <= bounds.norm * (1 + 1e-12)
    assert share * ratio / FULL <= bounds.share * (1 + 1e-12)
    if norm <= bounds.norm and share <= bounds.share:
        assert ratio == FULL


def test_a_minority_cannot_raise_the_bounds() -> None:
    past = [
        summarise(i, [entry(bytes([n]) * 32, i, 4 * i, 1e9 if n < 4 else 1.0) for n in range(10)]) for i in range(3)
    ]
    bounds = Bounds.after(past, RULES)
    assert bounds.norm == RULES.clip
    assert bounds.share == RULES.fair_share / 10


def test_without_a_past_the_first_updates_bound_each_other() -> None:
    items = [entry(author, 1, 100, norm) for author, norm in zip(AUTHORS, (1.0, 1.0, 1.0, 50.0), strict=True)]
    ledger = filled(items)
    assert [ledger.ratio(item) for item in items[:3]] == [FULL] * 3
    assert ledger.ratio(items[3]) == int((RULES.clip / 50.0) ** 2 * FULL)
    assert not math.isfinite(Bounds.after([], RULES).norm)


class TestRefusals:
    """Each rule of admission, one by one."""

    def test_duplicate(self) -> None:
        item = entry(AUTHORS[0], 1, 100)
        assert filled([item]).examine(signed(item), NOW) is Refusal.DUPLICATE

    def test_future_slot(self) -> None:
        ledger = Ledger(SWARM, RULES, slot_tolerance=2)
        assert ledger.examine(signed(entry(AUTHORS[0], 1, 13)), 10) is Refusal.FUTURE_SLOT
        assert ledger.examine(signed(entry(AUTHORS[0], 1, 12)), 10) is None

    def test_late(self) -> None:
        ledger = filled([entry(AUTHORS[0], 1, 101)])
        ledger.settle(cut(ledger, 25).id)
        assert ledger.examine(signed(entry(AUTHORS[1], 1, 103)), NOW) is Refusal.LATE
        assert ledger.examine(signed(entry(AUTHORS[1], 1, 104)), NOW) is None

    def test_stale(self) -> None:
        ledger, base, slot = filled([]), None, 0
        for number in range(RULES.staleness + 2):
            ledger.add(entry(AUTHORS[0], number + 1, 100 + 40 * number))  # with long pauses, which do not count
            interval = ledger.open_intervals()[0]
            ledger.settle(cut(ledger, interval).id)
            base = base or CutId(interval, ledger.chain[interval])
            slot = RULES.last_slot(interval) + 1
            fresh = number <= RULES.staleness
            refused = None if fresh else Refusal.STALE
            assert ledger.examine(signed(entry(AUTHORS[1], 1, slot, base=base)), NOW) is refused
            genesis = None if number < RULES.staleness else Refusal.STALE
            assert ledger.examine(signed(entry(AUTHORS[1], 1, slot)), NOW) is genesis
        # Nor may a base be of the update's own interval, or a later one.
        ours = CutId(RULES.interval(slot), raw_cid(b"x"))
        assert ledger.examine(signed(entry(AUTHORS[1], 1, slot, base=ours)), NOW) is Refusal.STALE

    def test_what_has_become_stale_goes_when_a_cut_is_settled(self) -> None:
        late = entry(AUTHORS[1], 1, 100 + 40 * (RULES.staleness + 2))
        ledger = filled([late])
        for number in range(RULES.staleness + 1):
            ledger.add(entry(AUTHORS[0], number + 1, 100 + 40 * number))
            interval = ledger.open_intervals()[0]
            voided = ledger.settle(cut(ledger, interval).id)
            assert voided == ([late] if number == RULES.staleness else [])

    def test_other_lineage(self) -> None:
        foreign = CutId(25, raw_cid(b"another history"))
        early = entry(AUTHORS[1], 1, 105, base=foreign)
        ledger = filled([entry(AUTHORS[0], 1, 101)])
        assert take(ledger, early) is None  # believed, as long as nothing is settled there
        assert ledger.settle(cut(ledger, 25).id) == [early]
        assert ledger.examine(signed(entry(AUTHORS[2], 1, 106, base=foreign)), NOW) is Refusal.OTHER_LINEAGE
        ours = CutId(25, ledger.chain[25])
        assert ledger.examine(signed(entry(AUTHORS[2], 1, 106, base=ours)), NOW) is None

    def test_conflict_in_a_settled_interval_changes_nothing(self) -> None:
        old = entry(AUTHORS[0], 1, 101)
        ledger = filled([old])
        ledger.settle(cut(ledger, 25).id)
        again = min((entry(AUTHORS[0], 1, 104, salt=salt) for salt in range(50)), key=lambda e: e.digest)
        assert again.digest < old.digest
        assert ledger.examine(signed(again), NOW) is Refusal.CONFLICT
        ledger.prune(cut(ledger, 25))
        assert ledger.examine(signed(again), NOW) is Refusal.CONFLICT

    def test_every_reason_is_explained(self) -> None:
        assert all(reason.meaning for reason in Refusal)
        assert len({reason.meaning for reason in Refusal}) == len(Refusal)
