"""Laws of sealed messages and of the names of topics."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from learnae.club import COST, OVERHEAD, Club, Cost, Key
from learnae.errors import WireError

CHEAP = Cost(1, 8192)
"""The least that libsodium takes: no test here is about how slow guessing is."""
KEYS = [Key.derive("hospital", f"a passphrase, number {number}", CHEAP) for number in range(4)]
CLUB = Club(KEYS[:1])
TOPIC = "/learnae/1/private/hospital/updates"
PEERS = "/learnae/1/private/hospital/peers"


@given(st.binary(max_size=5000), st.text(max_size=50))
def test_what_was_sealed_opens_as_it_was(data: bytes, topic: str) -> None:
    sealed = CLUB.seal(topic, data)
    assert CLUB.open(topic, sealed) == data
    assert len(sealed) == len(data) + OVERHEAD


@given(st.binary(max_size=100), st.data())
def test_one_changed_bit_anywhere_and_it_does_not_open(data: bytes, draw: st.DataObject) -> None:
    sealed = bytearray(CLUB.seal(TOPIC, data))
    bit = draw.draw(st.integers(0, 8 * len(sealed) - 1))
    sealed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(WireError):
        CLUB.open(TOPIC, bytes(sealed))


@given(st.binary(max_size=100), st.integers(0, OVERHEAD + 99), st.binary(max_size=3))
def test_neither_cut_off_nor_continued_it_opens(data: bytes, length: int, more: bytes) -> None:
    sealed = CLUB.seal(TOPIC, data)
    changed = sealed[:length] + more
    if changed != sealed:
        with pytest.raises(WireError):
            CLUB.open(TOPIC, changed)


@given(st.binary(max_size=300))
def test_garbage_is_refused_by_name(garbage: bytes) -> None:
    for data in (garbage, b"\x01" + garbage):
        with pytest.raises(WireError):
            CLUB.open(TOPIC, data)


def test_it_opens_on_its_own_topic_and_with_its_own_secret_only() -> None:
    sealed = CLUB.seal(TOPIC, b"data")
    with pytest.raises(WireError):
        CLUB.open(PEERS, sealed)
    with pytest.raises(WireError):
        Club(KEYS[1:]).open(TOPIC, sealed)
    with pytest.raises(WireError):
        Club([Key.derive("another", "a passphrase, number 0", CHEAP)]).open(TOPIC, sealed)


def test_equal_messages_do_not_look_equal() -> None:
    assert len({CLUB.seal(TOPIC, b"data") for _ in range(100)}) == 100


@given(st.permutations(range(4)), st.permutations(range(4)), st.integers(1, 4), st.integers(1, 4))
def test_the_first_secret_seals_and_all_open(ours: list[int], theirs: list[int], some: int, others: int) -> None:
    here, there = Club(KEYS[n] for n in ours[:some]), Club(KEYS[n] for n in theirs[:others])
    sealed = here.seal(TOPIC, b"data")
    if ours[0] in theirs[:others]:
        assert there.open(TOPIC, sealed) == b"data"
        assert here.names(TOPIC)[0] in there.names(TOPIC)
    else:
        with pytest.raises(WireError):
            there.open(TOPIC, sealed)
        assert here.names(TOPIC)[0] not in there.names(TOPIC)


def test_names_of_topics_tell_nothing_but_are_the_same_for_all_members() -> None:
    again = Club.derive("hospital", ["a passphrase, number 0"], CHEAP)
    assert again.names(TOPIC) == CLUB.names(TOPIC)
    assert len({CLUB.names(TOPIC), CLUB.names(PEERS), Club(KEYS[1:2]).names(TOPIC)}) == 3
    assert "hospital" not in CLUB.names(TOPIC)[0] and "updates" not in CLUB.names(TOPIC)[0]


def test_keys_follow_from_passphrase_topic_and_cost_and_are_never_shown() -> None:
    key = Key.derive("hospital", "a passphrase, number 0", CHEAP)
    assert key == KEYS[0]
    assert key != Key.derive("hospital", "a passphrase, number 0", Cost(2, 8192))
    assert len({key.topics, key.messages, key.members}) == 3
    assert repr(key) == "Key()" and repr(CLUB) == "<Club of 1 keys>"


def test_the_bytes_of_the_specification() -> None:
    """With the real cost; a change here is a new version of the protocol."""
    key = Key.derive("hospital", "correct horse battery staple", COST)
    assert key.topics.hex() == "c24cc918111b464886e9971faffdf5ae6f239564ff73e69e00a57ca973a9eed9"
    assert Club([key]).names(TOPIC) == (
        "/learnae/1/private/fbacd1d2a2c12017995b8a888d4c2b11f5cb50dd3375903a9217c4f76f7b2aa5",
    )
    sealed = bytes.fromhex(
        "0116cf9060d9689f2fd2958a7b06f8fd5dbc916f8b4858a6e6ba7e83603516179512ad685b2b0cca715fc4b1f3e4"
    )
    assert Club([key]).open(TOPIC, sealed) == b"hello"
