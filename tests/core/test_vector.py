"""Version vectors against the plain sets that they stand for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from learnae import cbor
from learnae.errors import WireError
from learnae.vector import UpdateId, VersionVector

AUTHORS = [bytes([n]) * 32 for n in range(1, 5)]
ids = st.tuples(st.sampled_from(AUTHORS), st.integers(1, 30))
id_lists = st.lists(ids, max_size=60)


def vector(updates: list[UpdateId]) -> VersionVector:
    made = VersionVector()
    for update in updates:
        made.add(*update)
    return made


@given(id_lists)
def test_is_the_set(updates: list[UpdateId]) -> None:
    made, plain = VersionVector(), set[UpdateId]()
    for update in updates:
        assert made.add(*update) == (update not in plain)
        plain.add(update)
    assert set(made) == plain
    assert len(made) == len(plain)
    assert made.authors == sorted({author for author, _ in plain})
    for author in AUTHORS:
        mine = {seq for a, seq in plain if a == author}
        assert made.last(author) == max(mine, default=0)
        assert all(((author, seq) in made) == (seq in mine) for seq in range(33))


@given(id_lists, st.randoms(use_true_random=False))
def test_order_and_repetition_do_not_matter(updates: list[UpdateId], random: object) -> None:
    shuffled = updates * 2
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert vector(shuffled) == vector(updates)
    assert vector(shuffled).to_wire() == vector(updates).to_wire()


@given(id_lists, id_lists)
def test_discard_takes_out_exactly_that(updates: list[UpdateId], gone: list[UpdateId]) -> None:
    made = vector(updates)
    for update in gone:
        made.discard(*update)
    assert made == vector([update for update in updates if update not in gone])


@given(id_lists, id_lists)
def test_update_is_the_union(mine: list[UpdateId], theirs: list[UpdateId]) -> None:
    made = vector(mine)
    made.update(vector(theirs))
    assert made == vector(mine + theirs)


@given(id_lists, id_lists)
def test_missing_is_the_difference(mine: list[UpdateId], theirs: list[UpdateId]) -> None:
    here, there = vector(mine), vector(theirs)
    assert set(here.missing(there)) == set(theirs) - set(mine)
    assert here.lacks(there) == len(set(theirs) - set(mine))


@given(id_lists)
def test_wire_round_trip(updates: list[UpdateId]) -> None:
    made = vector(updates)
    assert VersionVector.from_wire(cbor.decode(cbor.encode(made.to_wire()), 10**6)) == made
    clone = made.copy()
    clone.add(AUTHORS[0], 99)
    assert (AUTHORS[0], 99) not in made


def test_a_claim_of_very_many_updates_costs_nothing() -> None:
    claim = VersionVector.from_wire([[AUTHORS[0], 1, 2**53]])
    assert vector([(AUTHORS[0], 1)]).lacks(claim) == 2**53 - 1
    assert next(VersionVector().missing(claim)) == (AUTHORS[0], 1)


@pytest.mark.parametrize(
    "value",
    [
        None,
        [[AUTHORS[0]]],
        [[AUTHORS[0], 1]],
        [[AUTHORS[0], 0, 1]],
        [[AUTHORS[0], 2, 1]],
        [[AUTHORS[0], 1, 2, 3, 4]],
        [[AUTHORS[0], 5, 6, 1, 2]],
        [[AUTHORS[1], 1, 1], [AUTHORS[0], 1, 1]],
        [[AUTHORS[0], 1, 1], [AUTHORS[0], 3, 3]],
        [[b"short", 1, 1]],
        [[AUTHORS[0], 1, 2**60]],
        [[AUTHORS[0], *range(1, 40_000)]],
        [[n.to_bytes(32), 1, 1] for n in range(1, 5000)],
    ],
)
def test_what_is_not_a_vector_is_refused(value: object) -> None:
    with pytest.raises(WireError):
        VersionVector.from_wire(value)
