"""Who may read and who may steer: the token, one-time tickets, and the keys of browsers; asked by `guard` and `api`.

A program sends `Authorization: Bearer TOKEN` with the token of the profile directory. A browser must not have that
token, and gets a key of its own:

1. `learnae dashboard` asks for a *ticket* with the token, and opens `http://127.0.0.1:4118/?ticket=TICKET`. A ticket
   is good once, for a minute: it may be seen in the list of processes, where no lasting secret must be.
2. The daemon answers with a redirection to `/#key=KEY`, and with a cookie. What follows the # is never sent anywhere.
   The page keeps the key in its local storage, which belongs to this host *and port* alone, and sends it as a bearer
   token, as programs do. Nothing that changes anything is ever authorised by a cookie: no other page can have the
   browser steer the daemon (CSRF), and a page that pretends to be on this PC (DNS rebinding) has no key.
3. The cookie (HttpOnly, SameSite=Strict) only lets a browser read where even that needs rights: on an address that
   other machines reach. Cookies are shared by all ports of a host, so it is worth no more than that.

Keys and cookies end with the daemon.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

TICKET_SECONDS = 60.0
MAX_TICKETS = 16
MAX_SESSIONS = 64
"""Browsers that may have a key at a time; the oldest loses it."""
COOKIE = "learnae"


@dataclass(frozen=True, slots=True)
class Session:
    """What a browser gets for a ticket: `key` to steer and read, `cookie` to read."""

    key: str
    cookie: str


class Access:
    """Knows the secrets, the given-out ones by their hashes alone.

    Args:
        token: the token of the profile directory.
        clock: seconds, monotonic.
    """

    def __init__(self, token: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._token = token.encode()
        self._clock = clock
        self._tickets: OrderedDict[bytes, float] = OrderedDict()
        self._sessions: OrderedDict[bytes, bytes] = OrderedDict()
        """Of a key, that of its cookie."""

    def ticket(self) -> str:
        """A fresh ticket; the oldest of sixteen is void then."""
        ticket = secrets.token_urlsafe(24)
        self._tickets[_hash(ticket)] = self._clock() + TICKET_SECONDS
        while len(self._tickets) > MAX_TICKETS:
            self._tickets.popitem(last=False)
        return ticket

    def redeem(self, ticket: str) -> Session | None:
        """A session for a ticket, which is void from now on; None if it was used, is too old, or never was one."""
        until = self._tickets.pop(_hash(ticket), None)
        if until is None or self._clock() > until:
            return None
        session = Session(secrets.token_urlsafe(32), secrets.token_urlsafe(32))
        self._sessions[_hash(session.key)] = _hash(session.cookie)
        while len(self._sessions) > MAX_SESSIONS:
            self._sessions.popitem(last=False)
        return session

    def may_steer(self, authorization: str | None) -> bool:
        """Whether this `Authorization` header has the token, or the key of a browser."""
        kind, _, given = (authorization or "").partition(" ")
        if kind.lower() != "bearer":
            return False
        return hmac.compare_digest(_bytes(given), self._token) or _hash(given) in self._sessions

    def may_read(self, authorization: str | None, cookie: str | None) -> bool:
        """Whether whoever sends these may read where reading needs rights."""
        if cookie is not None and _hash(cookie) in self._sessions.values():
            return True
        return self.may_steer(authorization)


def _hash(secret: str) -> bytes:
    # Looked up by its hash, a guess takes as long whichever part of it is right.
    return hashlib.sha256(_bytes(secret)).digest()


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
