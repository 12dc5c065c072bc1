"""The ledger: a set whose digest does not depend on the order in which it was filled."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from learnae.ledger import Entry, Ledger, Refusal
from learnae.vector import VersionVector

AUTHORS = [bytes([n]) * 32 for n in range(1, 5)]
entries = st.lists(
    st.builds(
        lambda author, seq: Entry(author, seq, 10 + seq, 3, (author[:1] + seq.to_bytes(2)) * 10 + b"xx"),
        st.sampled_from(AUTHORS),
        st.integers(1, 20),
    ),
    max_size=40,
)


def filled(items: list[Entry]) -> Ledger:
    ledger = Ledger(bytes(32))
    for item in items:
        ledger.add(item)
    return ledger


@given(entries, st.integers(0, 1000))
def test_updates_commute_and_count_once(items: list[Entry], seed: int) -> None:
    shuffled = items * 2
    random.Random(seed).shuffle(shuffled)
    one, two = filled(items), filled(shuffled)
    assert one.digest == two.digest
    assert one.vector == two.vector
    assert one.statistics() == two.statistics()
    assert one.statistics().samples == 3 * len(set(items))


@given(entries, entries)
def test_different_sets_have_different_digests(one: list[Entry], two: list[Entry]) -> None:
    assert (filled(one).digest == filled(two).digest) == (set(one) == set(two))


@given(entries, entries)
def test_missing_at_brings_the_other_level(mine: list[Entry], theirs: list[Entry]) -> None:
    here, there = filled(mine), filled(theirs)
    by_id = {(e.author, e.seq): e for e in mine}
    missing = here.missing_at(there.vector)
    assert [by_id[update].slot for update in missing] == sorted(by_id[update].slot for update in missing)
    for update in missing:
        there.add(by_id[update])
    assert there.digest == filled(mine + theirs).digest


def test_missing_at_of_a_newcomer_is_everything() -> None:
    items = [Entry(AUTHORS[0], seq, seq, 1, bytes(32)) for seq in range(1, 6)]
    assert len(filled(items).missing_at(VersionVector())) == 5


def test_every_reason_is_explained() -> None:
    assert all(reason.meaning for reason in Refusal)
    assert len({reason.meaning for reason in Refusal}) == len(Refusal)
