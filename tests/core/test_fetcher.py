"""From whom the payloads of updates are pulled, and how many with one request."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey

from learnae import wire
from learnae.cid import raw_cid
from learnae.coordinator.actions import Fetch
from learnae.coordinator.fetcher import BATCH, SMALL, TOGETHER, Fetcher, riding
from learnae.coordinator.settings import Settings
from learnae.wire import MAX_INLINE, Part, Signed, Update

SLOT = 20.0
GATHERED = SLOT / 40
ANN, BEN = b"ann" * 8, b"ben" * 8


def announced(number: int, *sizes: int, author: int | None = None) -> Signed[Update]:
    """An update of an author of its own, with parts of these sizes."""
    key = SigningKey(b"%032d" % (number if author is None else author))
    parts = tuple(Part(raw_cid(b"%d %d" % (number, index)), size) for index, size in enumerate(sizes))
    update = Update(bytes(32), number + 1, 5, None, 1, 0.1, 0.1, None, b"", parts)
    return wire.open_envelope(Update, wire.seal(update, wire.signer(key), bytes(key.verify_key)))


def due(fetcher: Fetcher, now: float, away: Iterable[bytes] = ()) -> list[Fetch]:
    found = fetcher.due([ANN, BEN], lambda key: key in (ANN, BEN) and key not in away, now)
    return [action for action in found if isinstance(action, Fetch)]


def digests(fetch: Fetch) -> set[bytes]:
    return {wanted.digest for wanted in fetch.wanted}


def test_small_payloads_of_one_holder_are_asked_for_together() -> None:
    fetcher = Fetcher(Settings())
    ours = [announced(number, 2000) for number in range(5)]
    for number, signed in enumerate(ours):
        fetcher.add(signed, BEN if number == 4 else ANN, 0.1 * number, SLOT)
    assert due(fetcher, GATHERED - 0.01) == []
    (fetch,) = due(fetcher, GATHERED)
    assert fetch.peer == ANN and digests(fetch) == {signed.digest for signed in ours[:4]}
    (other,) = due(fetcher, 0.4 + GATHERED)
    assert other.peer == BEN and digests(other) == {ours[4].digest}


def test_who_is_being_asked_is_not_asked_beside_that() -> None:
    fetcher = Fetcher(Settings())
    first, second, third = (announced(number, 2000) for number in range(3))
    fetcher.add(first, ANN, 0.0, SLOT)
    assert len(due(fetcher, 1.0)) == 1
    fetcher.add(second, ANN, 1.0, SLOT)
    fetcher.add(third, ANN, 1.1, SLOT)
    assert due(fetcher, 9.0) == []
    assert fetcher.fetched(first.digest, 9.0, complete=True) is first
    (fetch,) = due(fetcher, 9.0)
    assert digests(fetch) == {second.digest, third.digest}


def test_who_has_announced_what_it_does_not_have_yet_is_asked_again_and_then_others_are() -> None:
    fetcher = Fetcher(Settings())
    ours = [announced(number, 2000) for number in range(3)]
    for signed in ours:
        fetcher.add(signed, ANN, 0.0, SLOT)
    due(fetcher, 1.0)
    for signed in ours:
        fetcher.fetched(signed.digest, 1.0, complete=signed is not ours[1])
    asked = []
    for turn in range(6):
        now = 1.0 + turn * GATHERED
        for fetch in due(fetcher, now):
            assert digests(fetch) == {ours[1].digest}
            asked.append(fetch.peer)
            fetcher.fetched(ours[1].digest, now, complete=False)
    assert asked == [ANN, ANN, ANN, BEN]
    assert due(fetcher, 3.9) == []  # after all have failed, a pause
    assert [fetch.peer for fetch in due(fetcher, 5.0)] == [ANN]


def test_who_is_gone_is_not_waited_for() -> None:
    fetcher = Fetcher(Settings())
    signed = announced(0, 2000)
    fetcher.add(signed, ANN, 0.0, SLOT)
    due(fetcher, 1.0)
    fetcher.fetched(signed.digest, 1.0, complete=False)
    assert [fetch.peer for fetch in due(fetcher, 2.0, away=[ANN])] == [BEN]


def test_large_payloads_are_asked_for_at_once_and_apart() -> None:
    fetcher = Fetcher(Settings(parallel=3))
    for number in range(5):
        fetcher.add(announced(number, SMALL + 1), ANN, 0.0, SLOT)
    asked = due(fetcher, 0.0)
    assert [len(fetch.wanted) for fetch in asked] == [1, 1, 1]
    assert due(fetcher, 100.0) == []


def test_one_author_has_one_at_a_time() -> None:
    fetcher = Fetcher(Settings())
    for number in range(4):
        fetcher.add(announced(number, 2000, author=7), ANN, 0.0, SLOT)
    (fetch,) = due(fetcher, 1.0)
    assert len(fetch.wanted) == 1 and due(fetcher, 2.0) == []


@given(st.lists(st.lists(st.integers(1, SMALL), min_size=1, max_size=40), min_size=1, max_size=60), st.integers(1, 5))
def test_every_payload_is_asked_for_in_requests_that_fit(sizes: list[list[int]], parallel: int) -> None:
    fetcher = Fetcher(Settings(parallel=parallel))
    for number, some in enumerate(sizes):
        fetcher.add(announced(number, *some), (ANN, BEN)[number % 2], 0.0, SLOT)
    now, asked = 1.0, 0
    while len(fetcher):
        requests = due(fetcher, now)
        assert 1 <= len(requests) <= parallel
        for fetch in requests:
            parts = [part for wanted in fetch.wanted for part in wanted.parts]
            assert len(fetch.wanted) == 1 or (len(parts) <= TOGETHER and sum(part.size for part in parts) <= BATCH)
            asked += len(fetch.wanted)
            for wanted in fetch.wanted:
                fetcher.fetched(wanted.digest, now, complete=True)
    assert asked == len(sizes)


@pytest.mark.parametrize(("members", "most"), [(0, 4096), (1, 4096), (8, 4096), (16, 2048), (32, 1024), (4000, 1024)])
def test_the_more_members_the_less_rides(members: int, most: int) -> None:
    assert riding(members) == most <= MAX_INLINE
