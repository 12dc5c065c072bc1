"""Tickets and keys, and who is let in by what."""

from __future__ import annotations

import pytest

from learnaed.status.access import MAX_SESSIONS, MAX_TICKETS, TICKET_SECONDS, Access, Session


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def access(clock: Clock) -> Access:
    return Access("the token", clock)


def opened(access: Access) -> Session:
    session = access.redeem(access.ticket())
    assert session is not None
    return session


def test_the_token_steers(access: Access) -> None:
    assert access.may_steer("Bearer the token") and access.may_steer("bearer the token")
    for wrong in (
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer the toke",
        "Bearer the token ",
        "the token",
        "Basic the token",
    ):
        assert not access.may_steer(wrong)
        assert not access.may_read(wrong, None)
    assert not access.may_steer("Bearer th\udcff tökén")


def test_a_ticket_is_good_once(access: Access) -> None:
    ticket = access.ticket()
    session = access.redeem(ticket)
    assert session is not None and access.redeem(ticket) is None
    assert access.may_steer(f"Bearer {session.key}")
    assert not access.may_steer(f"Bearer {ticket}")


def test_a_ticket_ends(access: Access, clock: Clock) -> None:
    early, late = access.ticket(), access.ticket()
    clock.now = TICKET_SECONDS
    assert access.redeem(early) is not None
    clock.now += 0.001
    assert access.redeem(late) is None
    assert access.redeem("guess") is None


def test_a_cookie_only_reads(access: Access) -> None:
    session = opened(access)
    assert access.may_read(None, session.cookie) and access.may_read(f"Bearer {session.key}", None)
    assert not access.may_steer(f"Bearer {session.cookie}")
    assert not access.may_read(None, session.key) and not access.may_read(None, "") and not access.may_read(None, None)


def test_tickets_and_keys_are_bounded(access: Access) -> None:
    tickets = [access.ticket() for _ in range(MAX_TICKETS + 1)]
    assert access.redeem(tickets[0]) is None and access.redeem(tickets[1]) is not None
    first = opened(access)
    for _ in range(MAX_SESSIONS):
        last = opened(access)
    assert not access.may_steer(f"Bearer {first.key}") and not access.may_read(None, first.cookie)
    assert access.may_steer(f"Bearer {last.key}")


def test_no_secret_is_kept_as_it_is(access: Access) -> None:
    ticket, session = access.ticket(), opened(access)
    shown = repr({name: value for name, value in vars(access).items() if name != "_token"})
    assert not [secret for secret in (ticket, session.key, session.cookie) if secret in shown]
