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
    found = (_known(one) for one in reversed(chain))
    return next((error for error in found if error is not None), NetworkError(_last_words(chain), code="network"))


def _known(error: BaseException) -> NetworkError | None:
    if isinstance(error, PeerIDMismatchesPubkey) or "Peer ID mismatch" in str(error):
        text = "another node answers there: the peer id in the address is not its own"
        return NetworkError(text, code="wrong-peer-id")
    if isinstance(error, socket.gaierror):
        return NetworkError(f"the host name is not known ({error.strerror or error})", code="name-unknown")
    if isinstance(error, ConnectionRefusedError):
        text = "that PC refuses: nothing listens on the port, or its firewall says no"
        return NetworkError(text, code="peer-refused")
    if isinstance(error, (trio.TooSlowError, TimeoutError)) or "no handshake within" in str(error):
        text = "no answer in time: the PC is off, or a firewall swallows what is sent"
        return NetworkError(text, code="peer-timeout")
    if isinstance(error, OSError) and error.errno in _UNREACHABLE:
        return NetworkError(f"no way leads there from this PC ({error.strerror})", code="no-route")
    if isinstance(error, (MultiselectError, MultiselectClientError)):
        return NetworkError("what answers there does not speak learnae's protocols", code="not-learnae")
    closed = isinstance(error, (ConnectionClosedError, IncompleteReadError, HandshakeFailure))
    if closed or (isinstance(error, OSError) and error.errno in _BROKEN):
        text = "it was connected, and closed at once: not learnae, full, or it does not want us"
        return NetworkError(text, code="peer-closed")
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
