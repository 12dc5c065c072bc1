"""Who is a member of a private swarm: proves it to peers, has them prove it, and tells why one is not; used by
`Network`.

A node without a club has no door: all peers are served. It answers the protocol only to say that it has no secret, so
that both sides can tell their users what is wrong.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final

import trio
from libp2p.custom_types import TProtocol
from libp2p.peer.id import ID

from learnae.club import Challenger, Club, Key, Prover, Why
from learnae.club.handshake import MAX_MESSAGE
from learnae.errors import WireError
from learnae.peer import public_key
from learnaed.network.framing import read_frame, write_frame
from learnaed.network.host import Host, socket_of
from learnaed.network.ratelimit import RateLimiter
from learnaed.network.settings import Counters

_log = logging.getLogger(__name__)

PROTOCOL: Final = "/learnae/member/1"
SECONDS: Final = 10.0
"""Who has not proved to be a member after so long is disconnected."""
_STEP = 5.0
_MAX_TOLD = 1000

_REASONS = {
    Why.OPEN: (
        "{peer} was not let in: it has no secret, and this swarm is private. If it belongs to the swarm, start it with "
        "the secret: `learnae invite` here makes a line that `learnaed join` takes there."
    ),
    Why.OTHER: (
        "{peer} and this node do not let each other in: they have different secrets, or mean different topics. If they "
        "belong together, both need the same --topic and the same secret; `learnae invite` on one makes a line that "
        "`learnaed join` takes on the other."
    ),
    Why.PRIVATE: (
        "{peer} does not let this node in: it belongs to a private swarm, and this node has no secret. If you mean to "
        "join that swarm, ask one of its members for a line that `learnae invite` makes and start with `learnaed "
        "join`, or say --secret."
    ),
}


class Membership:
    """The peers that may be served, and how they come to be it.

    Args:
        own: this node's peer id.
        club: None where everybody may be served.
        counters: strangers are counted ("stranger").
        changed: called with a peer and True when it is a member and connected, False when it no longer is.
        refused: called with a peer that is none, before it is disconnected.
        notify: tells the user, once per peer and reason.
    """

    def __init__(
        self,
        own: str,
        club: Club | None,
        counters: Counters,
        *,
        changed: Callable[[str, bool], None],
        refused: Callable[[str], None],
        notify: Callable[[str, str], None],
    ) -> None:
        self.club = club
        self.members: set[str] = set()
        """Members with a live connection."""
        self._own = public_key(own)
        self._counters = counters
        self._changed = changed
        self._refused = refused
        self._notify = notify
        self._admitted: dict[str, Key] = {}
        self._told: OrderedDict[tuple[str, Why], None] = OrderedDict()
        self._telling = RateLimiter(0.1, burst_seconds=200.0)
        self._host: Host | None = None
        self._nursery: trio.Nursery | None = None
        self._waiting: list[str] = []

    def serves(self, peer: str) -> bool:
        """Whether the peer may open streams to us, others than this protocol's."""
        return self.club is None or peer in self._admitted

    def greets(self, peer: str) -> bool:
        """Whether we open streams to the peer: by then it serves us, too."""
        return self.club is None or peer in self.members

    # --- hooks for the host's life

    def attach(self, host: Host) -> None:
        """Register with a (new) host."""
        self._host = host
        host.streams.set_open_handler(TProtocol(PROTOCOL), self._challenge)

    async def run(self) -> None:
        """Prove membership to whoever connects, until cancelled, while the attached host runs."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                for peer in self._waiting:
                    nursery.start_soon(self._prove, peer)
                self._waiting.clear()
                await trio.sleep_forever()
        finally:
            self._nursery = None

    def connection(self, peer: str, connected: bool) -> None:
        """The first connection to a peer is up, or the last is gone."""
        if self.club is None:
            (self.members.add if connected else self.members.discard)(peer)
            self._changed(peer, connected)
        elif not connected:
            self._admitted.pop(peer, None)
            if peer in self.members:
                self.members.discard(peer)
                self._changed(peer, False)
        elif peer in self._admitted:
            self._welcome(peer)
        elif self._nursery is not None:
            self._nursery.start_soon(self._prove, peer)
        else:
            self._waiting.append(peer)

    def rekey(self, club: Club) -> None:
        """Other secrets count from now on. Whoever proved to know one that is gone has to prove another one."""
        self.club = club
        self._told.clear()
        for peer, key in list(self._admitted.items()):
            if key not in club.keys:
                self._expel(peer)

    # --- the two sides of the handshake

    async def _prove(self, peer: str) -> None:
        """Begin a handshake; whoever is no member when it has ended is disconnected."""
        prover: Prover | None = None
        club = self.club
        with trio.move_on_after(SECONDS):
            try:
                assert self._host is not None and club is not None
                prover = Prover(club, self._own, public_key(peer))
                stream = await self._host.streams.new_stream(ID.from_base58(peer), [TProtocol(PROTOCOL)])
                await self._converse(stream, prover, peer)
            except Exception as error:  # libp2p lets through whatever a peer's bytes provoke
                _log.debug("no handshake with %s: %r", peer, error)
        if peer in self.members:
            return
        if club is not self.club:
            pass  # the secrets were changed meanwhile: it may well know one of the new ones
        elif prover is not None and prover.why is not None:
            self._stranger(peer, prover.why)
        elif self._host is not None and peer in self._host.connected:
            self._counters.dropped["stranger"] += 1
            self._refused(peer)
            _log.debug("%s did not prove to be a member of this private swarm and is disconnected", peer)
        self._expel(peer)

    async def _converse(self, stream: Any, prover: Prover, peer: str) -> None:
        abort = socket_of(stream.muxed_conn).abort
        try:
            await write_frame(stream, prover.hello, _STEP, abort)
            answer = prover.answer(await read_frame(stream, MAX_MESSAGE, _STEP))
            if answer is None:
                return
            if prover.key is not None:
                self._admit(peer, prover.key)
            await write_frame(stream, answer, _STEP, abort)
            prover.conclude(await read_frame(stream, MAX_MESSAGE, _STEP))
            if prover.key is not None:
                self._welcome(peer)
        finally:
            if prover.key is None and peer not in self.members:
                self._admitted.pop(peer, None)
            await _end(stream)

    async def _challenge(self, stream: Any) -> None:
        peer = str(stream.muxed_conn.peer_id)
        abort = socket_of(stream.muxed_conn).abort
        club = self.club
        try:
            with trio.fail_after(SECONDS):
                challenger = Challenger(club, self._own, public_key(peer))
                await write_frame(
                    stream, challenger.challenge(await read_frame(stream, MAX_MESSAGE, _STEP)), _STEP, abort
                )
                if challenger.why is None:
                    verdict = challenger.verdict(await read_frame(stream, MAX_MESSAGE, _STEP))
                    if challenger.key is not None:
                        self._admit(peer, challenger.key)
                    await write_frame(stream, verdict, _STEP, abort)
                    self._welcome(peer)
                if challenger.why is not None and club is self.club:
                    self._stranger(peer, challenger.why)
        except WireError as error:
            self._counters.dropped["malformed-handshake"] += 1
            _log.debug("the handshake of %s: %r", peer, error)
        except Exception as error:
            _log.debug("the handshake of %s: %r", peer, error)
        finally:
            await _end(stream)

    # --- what follows from it

    def _admit(self, peer: str, key: Key) -> None:
        if self.club is not None and key in self.club.keys:
            self._admitted[peer] = key

    def _welcome(self, peer: str) -> None:
        host = self._host
        if peer in self._admitted and peer not in self.members and host is not None and peer in host.connected:
            self.members.add(peer)
            self._told.pop((peer, Why.OPEN), None)
            self._told.pop((peer, Why.OTHER), None)
            host.gossip.welcome(ID.from_base58(peer))
            self._changed(peer, True)

    def _stranger(self, peer: str, why: Why) -> None:
        """Count it; tell the user, once, and not about more peers than anybody can read of."""
        self._counters.dropped["stranger"] += 1
        self._refused(peer)
        if (peer, why) in self._told or not self._telling.allow(None, trio.current_time()):
            return
        self._told[peer, why] = None
        if len(self._told) > _MAX_TOLD:
            self._told.popitem(last=False)
        self._notify("warning", _REASONS[why].format(peer=peer))

    def _expel(self, peer: str) -> None:
        if self._host is not None:
            self._host.swarm.abort_peer(ID.from_base58(peer))


async def _end(stream: Any) -> None:
    with trio.CancelScope(shield=True, deadline=trio.current_time() + 1.0):
        try:
            await stream.close()
        except Exception as error:
            _log.debug("a handshake's stream was gone: %r", error)
