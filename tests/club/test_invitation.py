"""Invitations: what is read is what was written, and whatever was damaged is noticed."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from learnae import cbor
from learnae.club import Secrets
from learnae.errors import WireError
from learnae.invitation import MOST_ADDRESSES, PREFIX, Invitation, _checksum
from learnae.peer import peer_id

SECRETS = Secrets(["correct horse battery", "staple of another kind"])
PLACES = ("/ip4/192.0.2.7/tcp/4117", "/ip6/2001:db8::7/tcp/1", "/dns4/pc-7.example.org/tcp/65535")
PEERS = tuple(f"{place}/p2p/{peer_id(bytes([number]) * 32)}" for number, place in enumerate(PLACES))
FULL = Invitation("hospital", "digits", PEERS, SECRETS)

invitations = st.builds(
    Invitation,
    st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z"),
    st.sampled_from([None, "digits"]),
    st.lists(st.sampled_from(PEERS), max_size=MOST_ADDRESSES).map(tuple),
    st.sampled_from([None, SECRETS, Secrets(["pässwörter mit Umlauten"])]),
)


@given(invitations)
def test_it_is_read_as_it_was_written(invitation: Invitation) -> None:
    line = invitation.line()
    assert line.startswith(PREFIX) and line.isascii() and len(line.split()) == 1
    assert Invitation.parse(line) == invitation


def test_a_mail_program_may_break_the_line() -> None:
    line = FULL.line()
    broken = "\r\n  ".join(line[start : start + 20] for start in range(0, len(line), 20))
    assert Invitation.parse(f"  {broken}\n") == FULL


@given(st.integers(len(PREFIX), len(FULL.line()) - 2), st.sampled_from("ABCxyz019-_=!%"))
def test_a_mistyped_character_is_noticed(place: int, character: str) -> None:
    line = FULL.line()
    if line[place] != character:
        with pytest.raises(WireError):
            Invitation.parse(line[:place] + character + line[place + 1 :])


@given(st.integers(0, len(FULL.line()) - 2))
def test_a_part_of_it_is_noticed(length: int) -> None:
    with pytest.raises(WireError):
        Invitation.parse(FULL.line()[:length])


@given(st.one_of(st.text(max_size=100), st.text(max_size=100).map(PREFIX.__add__)))
def test_garbage_is_refused_by_name(text: str) -> None:
    with pytest.raises(WireError):
        Invitation.parse(text)


@pytest.mark.parametrize(
    "value",
    [
        [2, "topic", None, [], []],
        [1, "a/topic", None, [], []],
        [1, "topic", None, [], ["short"]],
        [1, "topic", None, [[bytes(32), "/ip4/192.0.2.7/udp/4117"]], []],
        [1, "topic", None, [[bytes(31), PLACES[0]]], []],
        [1, "topic", None, [[bytes(32), PLACES[0]]] * 9, []],
        [1, "topic", None, [[bytes(32), "/ip4/-x;rm/../tcp/1"]], []],
        {"topic": "topic"},
        [],
    ],
)
def test_what_is_well_formed_but_makes_no_sense_is_refused(value: object) -> None:
    body = cbor.encode(value)
    line = PREFIX + base64.urlsafe_b64encode(body + _checksum(body)).decode().rstrip("=")
    with pytest.raises(WireError):
        Invitation.parse(line)


def test_an_address_without_a_peer_id_cannot_be_in_it() -> None:
    with pytest.raises(WireError):
        Invitation("topic", None, (PLACES[0],)).line()


def test_it_does_not_show_its_secrets() -> None:
    shown = f"{FULL!r} {FULL}"
    assert "hospital" in shown and "horse" not in shown


def test_the_bytes_of_the_specification() -> None:
    line = Invitation("hospital", "digits", PEERS[:1], Secrets(["correct horse battery staple"])).line()
    assert line == (
        "learnae:hQFoaG9zcGl0YWxmZGlnaXRzgYJYIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAdy9pcDQvMTkyLjAuMi43"
        "L3RjcC80MTE3gXgcY29ycmVjdCBob3JzZSBiYXR0ZXJ5IHN0YXBsZbL3RBA"
    )
