"""The handshake as an attacker would like it to be: replayed, reflected, passed on, guessed, garbled."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learnae import cbor
from learnae.club import Challenger, Club, Key, Prover, Why
from learnae.club.handshake import MAX_MESSAGE
from learnae.errors import WireError
from tests.club.test_keys import KEYS

A, B, M = (bytes([number]) * 32 for number in (1, 2, 3))
OURS = Club(KEYS[:1])
OTHERS = Club(KEYS[1:2])


def meet(a: Club, b: Club | None, own: bytes = A, peer: bytes = B) -> tuple[Prover, Challenger]:
    """A whole handshake; the longest message must fit."""
    prover, challenger = Prover(a, own, peer), Challenger(b, peer, own)
    challenge = challenger.challenge(prover.hello)
    answer = prover.answer(challenge)
    assert max(map(len, (prover.hello, challenge, answer or b""))) <= MAX_MESSAGE
    if answer is not None:
        prover.conclude(challenger.verdict(answer))
    return prover, challenger


def key_of(side: Prover | Challenger) -> Key | None:
    assert (side.key is None) != (side.why is None)
    return side.key


def test_members_know_each_other() -> None:
    prover, challenger = meet(OURS, OURS)
    assert key_of(prover) == key_of(challenger) == KEYS[0]


def test_both_sides_learn_why_not() -> None:
    prover, challenger = meet(OURS, OTHERS)
    assert (prover.why, challenger.why) == (Why.OTHER, Why.OTHER)
    assert key_of(prover) is key_of(challenger) is None
    prover, challenger = meet(OURS, None)
    assert (prover.why, challenger.why) == (Why.OPEN, Why.PRIVATE)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=4, unique=True),
       st.lists(st.integers(0, 3), min_size=1, max_size=4, unique=True))  # fmt: skip
def test_one_common_secret_is_enough_and_necessary(ours: list[int], theirs: list[int]) -> None:
    prover, challenger = meet(Club(KEYS[n] for n in ours), Club(KEYS[n] for n in theirs))
    common = [KEYS[n] for n in ours if n in theirs]
    assert key_of(prover) == key_of(challenger) == (common[0] if common else None)


def test_a_recorded_answer_does_not_fit_another_challenge() -> None:
    prover, recorded = Prover(OURS, A, B), Challenger(OURS, B, A)
    answer = prover.answer(recorded.challenge(prover.hello))
    assert answer is not None
    fresh = Challenger(OURS, B, A)
    fresh.challenge(prover.hello)  # the same hello, even
    fresh.verdict(answer)
    assert fresh.key is None and fresh.why is Why.OTHER


def test_a_recorded_challenge_does_not_fit_another_hello() -> None:
    challenge = Challenger(OURS, B, A).challenge(Prover(OURS, A, B).hello)
    again = Prover(OURS, A, B)
    again.answer(challenge)
    assert again.key is None and again.why is Why.OTHER


def test_what_a_member_says_cannot_be_said_back_to_it() -> None:
    """M knows no secret. B challenges A's hello; A begins a handshake of its own: M returns to each its own words."""
    prover = Prover(OURS, A, M)
    mirror = Challenger(OURS, A, M)
    challenge = mirror.challenge(prover.hello)  # A itself, in the other role, with the same nonce
    prover.answer(challenge)
    assert prover.key is None
    same = Prover(OURS, A, M, nonce=bytes(32))
    other = Challenger(OURS, A, M, nonce=bytes(32))
    fields = cbor.decode(other.challenge(same.hello), MAX_MESSAGE)
    other.verdict(cbor.encode([3, fields[2][0]]))  # its own proof, in the other role
    assert other.key is None


def test_a_proof_for_one_peer_is_of_no_use_with_another() -> None:
    """M stands between A and B: libp2p tells each that the other end is M."""
    prover, challenger = Prover(OURS, A, M), Challenger(OURS, B, M)
    answer = prover.answer(challenger.challenge(prover.hello))
    assert prover.key is None
    assert answer is not None
    challenger.verdict(answer)
    assert challenger.key is None


def test_a_proof_is_bound_to_everything() -> None:
    def proof(club: Club, own: bytes, peer: bytes, mine: bytes, theirs: bytes) -> bytes:
        challenger = Challenger(club, own, peer, nonce=mine)
        fields = cbor.decode(challenger.challenge(cbor.encode([1, theirs])), MAX_MESSAGE)
        assert type(fields[2][0]) is bytes
        return fields[2][0]

    zero, one = bytes(32), b"\x01" * 32
    proofs = {proof(OURS, A, B, zero, one), proof(OTHERS, A, B, zero, one), proof(OURS, B, A, zero, one),
              proof(OURS, A, M, zero, one), proof(OURS, A, B, one, one), proof(OURS, A, B, zero, zero),
              proof(OURS, A, B, one, zero)}  # fmt: skip
    assert len(proofs) == 7


@settings(max_examples=40)
@given(st.one_of(st.binary(max_size=400), st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(0, 300), st.binary(max_size=40), st.text(max_size=5)),
    lambda inner: st.lists(inner, max_size=5), max_leaves=8).map(cbor.encode)))  # fmt: skip
def test_garbage_in_any_place_makes_nobody_a_member(garbage: bytes) -> None:
    prover, challenger = Prover(OURS, A, B), Challenger(OURS, B, A)
    challenger.challenge(prover.hello)
    for take in (Prover(OURS, A, B).answer, Challenger(OURS, B, A).challenge, Challenger(None, B, A).challenge,
                 challenger.verdict, prover.conclude, prover.answer):  # fmt: skip
        try:
            take(garbage)
        except WireError:
            continue
    assert prover.key is None and challenger.key is None


@given(st.integers(0, 2000))
def test_a_changed_bit_in_challenge_or_answer_makes_nobody_a_member(bit: int) -> None:
    def flipped(data: bytes) -> bytes:
        changed = bytearray(data)
        changed[bit // 8 % len(data)] ^= 1 << bit % 8
        return bytes(changed)

    prover, challenger = Prover(OURS, A, B), Challenger(OURS, B, A)
    challenge = challenger.challenge(prover.hello)
    deceived = Prover(OURS, A, B, nonce=prover._nonce)
    with contextlib.suppress(WireError):
        deceived.answer(flipped(challenge))
    assert deceived.key is None
    answer = prover.answer(challenge)
    assert answer is not None
    with contextlib.suppress(WireError):
        challenger.verdict(flipped(answer))
    assert challenger.key is None


def test_there_is_no_answer_before_the_challenge_and_no_club_of_oneself() -> None:
    with pytest.raises(WireError):
        Challenger(OURS, B, A).verdict(cbor.encode([3, bytes(32)]))
    with pytest.raises(WireError):
        Prover(OURS, A, A)
    with pytest.raises(WireError):
        Challenger(OURS, B, A).challenge(cbor.encode([0, 1]))


def test_a_refusal_at_the_end_takes_membership_back() -> None:
    prover, challenger = Prover(OURS, A, B), Challenger(OURS, B, A)
    prover.answer(challenger.challenge(prover.hello))
    assert prover.key is not None
    prover.conclude(cbor.encode([0, 2]))
    assert prover.key is None and prover.why is Why.OTHER
