"""Why a dial failed, as a code of `docs/errors.md` and one line, out of nested exceptions; used by `Network`."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator

import trio
from libp2p.io.exceptions import ConnectionClosedError, IncompleteReadError
from libp2p.protocol_muxer.exceptions import MultiselectClientError, MultiselectError
from libp2p.security.exceptions import HandshakeFailure
from libp2p.security.noise.exceptions import PeerIDMismatchesPubkey

from learnae.errors import LearnaeError, NetworkError

_UNREACHABLE = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL, errno.EHOSTDOWN)
_BROKEN = (errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED)
_MOST = 50


def dial_error(error: BaseException) -> NetworkError:
    """What went wrong when a peer was dialled, as an error with the code that fits best."""
    chain = list(_chain(error))
    for one in chain:
        if isinstance(one, LearnaeError):
            return NetworkError(str(one), code=one.code)
    code, text = next((found for one in reversed(chain) if (found := _known(one))), ("network", _last_words(chain)))
    return NetworkError(text, code=code)


def _known(error: BaseException) -> tuple[str, str] | None:
    if isinstance(error, PeerIDMismatchesPubkey) or "Peer ID mismatch" in str(error):
        return "wrong-peer-id", "another node answers there: the peer id in the address is not its own"
    if isinstance(error, socket.gaierror):
        return "name-unknown", f"the host name is not known ({error.strerror or error})"
    if isinstance(error, ConnectionRefusedError):
        return "peer-refused", "that PC refuses: nothing listens on the port, or its firewall says no"
    if isinstance(error, (trio.TooSlowError, TimeoutError)) or "no handshake within" in str(error):
        return "peer-timeout", "no answer in time: the PC is off, or a firewall swallows what is sent"
    if isinstance(error, OSError) and error.errno in _UNREACHABLE:
        return "no-route", f"no way leads there from this PC ({error.strerror})"
    if isinstance(error, (MultiselectError, MultiselectClientError)):
        return "not-learnae", "what answers there does not speak learnae's protocols"
    closed = isinstance(error, (ConnectionClosedError, IncompleteReadError, HandshakeFailure))
    if closed or (isinstance(error, OSError) and error.errno in _BROKEN):
        return "peer-closed", "it was connected, and closed at once: not learnae, full, or it does not want us"
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error, what caused it, and the members of groups; the outermost first."""
    waiting, seen = [error], set[int]()
    while waiting and len(seen) < _MOST:
        one = waiting.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        if isinstance(one, BaseExceptionGroup):
            waiting += one.exceptions
        cause = one.__cause__ or one.__context__
        if cause is not None:
            waiting.append(cause)


def _last_words(chain: list[BaseException]) -> str:
    return next((str(one)[:200] for one in reversed(chain) if str(one)), type(chain[0]).__name__)
