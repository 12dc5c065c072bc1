"""`Bitswap`: serves blocks to whoever asks, and fetches those that sessions want; used by `Network`."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final

import trio
from libp2p.custom_types import TProtocol
from libp2p.exceptions import BaseLibp2pError
from libp2p.peer.id import ID

from learnae.errors import NetworkError, StoreError, WireError
from learnaed.network.bitswap import wire
from learnaed.network.bitswap.inlet import Inlet
from learnaed.network.bitswap.link import Link
from learnaed.network.bitswap.schedule import Drop, Limits, Orders
from learnaed.network.bitswap.session import OnDrop, Session
from learnaed.network.bitswap.statistics import BitswapStatistics, BlockSource
from learnaed.network.host import Host
from learnaed.network.ratelimit import RateLimiter
from learnaed.network.settings import Counters
from learnaed.network.throttle import Throttles
from learnaed.network.transport import SMALL

_log = logging.getLogger(__name__)

MESSAGE: Final = 128 * 1024
"""Bytes of blocks by which a message is complete; it is one block larger at most. A receiver can use a block once the
whole message is there, so small is better."""
BATCH: Final = 1024 * 1024
"""Bytes of messages written at once: larger fills the frames below better, smaller lets our own wants pass earlier."""
OUTGOING: Final = 16 * 1024 * 1024
"""Bytes of messages being written, all peers together; each has at least one block."""
MAX_INBOUND: Final = 32
"""Streams that a peer may have open to us. Kubo opens one for each message and writes eight at once."""
WANTS_PER_SECOND: Final = 2000.0
"""Entries and messages taken in from one peer, on average; whoever sends more is read more slowly."""
ENTRY_COST: Final = 64
"""Bytes that an unwanted block counts beside its own: empty ones are work, too."""
MAX_UNWANTED: Final = 8 * 1024 * 1024
"""Bytes that nobody had asked for by which a peer loses its connection."""
ATTEMPTS: Final = 3
OPEN_SECONDS: Final = 10.0
WATCH_SECONDS: Final = 0.5


class _Gone(Exception):
    """There is no connection to the peer: that tells nothing of what it speaks."""


@dataclass(slots=True)
class _Counts:
    blocks_sent: int = 0
    bytes_sent: int = 0
    blocks_received: int = 0
    bytes_received: int = 0
    duplicates: int = 0
    unwanted: int = 0
    unwanted_bytes: int = 0
    malformed: int = 0
    wants: int = 0
    refused_wants: int = 0


class Bitswap:
    """Bitswap with all connected peers, over one host after the other."""

    def __init__(self, counters: Counters, throttles: Throttles | None = None) -> None:
        self._counters = counters
        self._throttles = throttles or Throttles()
        self._counts = _Counts()
        self._source: BlockSource | None = None
        self._links: dict[str, Link] = {}
        self._sessions: dict[Session, None] = {}
        self._host: Host | None = None
        self._nursery: trio.Nursery | None = None
        self._limiter = RateLimiter(WANTS_PER_SECOND, burst_seconds=5.0)

    def serve(self, source: BlockSource) -> None:
        """Answer wants from `source`. Until then every answer is that the block is not here."""
        self._source = source

    def session(self, peers: Iterable[str], limits: Limits, on_drop: OnDrop) -> Session:
        """A session that fetches blocks from these peers; see `Session`."""
        peers = tuple(peers)
        if (rate := self._throttles.download.rate) is not None:
            # They are as slow as we let them be.
            limits = replace(limits, slowest=min(limits.slowest, rate / (4 * max(1, len(peers)))))
        return Session(self, peers, limits, on_drop)

    def arrived(self, cids: Iterable[bytes]) -> None:
        """Blocks are now in the source: peers that wait for them get them."""
        digests = [digest for cid in cids if (digest := wire.digest_of(cid)) is not None]
        for link in self._links.values():
            for digest in digests:
                link.ledger.arrived(digest)
            self._poke(link)

    def statistics(self) -> BitswapStatistics:
        """Totals since the start."""
        counts = self._counts
        return BitswapStatistics(
            **{name: getattr(counts, name) for name in counts.__slots__},
            links=len(self._links),
            sessions=len(self._sessions),
        )

    # --- hooks for the host's life

    def attach(self, host: Host) -> None:
        """Register with a (new) host."""
        self._host = host
        for protocol in wire.PROTOCOLS:
            host.streams.set_stream_handler(TProtocol(protocol), self._accept)

    async def run(self) -> None:
        """Write and watch until cancelled, while the attached host runs."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                for link in self._links.values():
                    self._poke(link)
                while True:
                    await trio.sleep(WATCH_SECONDS)
                    now = trio.current_time()
                    for link in list(self._links.values()):
                        link.expire(now)
                        self._poke(link)
                    for session in list(self._sessions):
                        session.tick(now)
        finally:
            self._nursery = None

    def connection(self, peer: str, connected: bool) -> None:
        """The first connection to a peer is up, or the last is gone."""
        if not connected:
            link = self._links.pop(peer, None)
            if link is not None:
                link.close()
        now = trio.current_time()
        for session in list(self._sessions):
            session.schedule.connection(peer, connected, now)
            session.settle()

    # --- hooks for sessions

    def is_connected(self, peer: str) -> bool:
        return self._host is not None and self._host.reaches(peer)

    def enter(self, session: Session) -> None:
        self._sessions[session] = None

    def leave(self, session: Session) -> None:
        del self._sessions[session]

    def send(self, session: Session, orders: dict[str, Orders]) -> None:
        for peer, order in orders.items():
            if not self.is_connected(peer):
                continue
            link = self._link(peer)
            if order.cancels and len(self._sessions) > 1:
                others = [other for other in self._sessions if other is not session]
                needed = {cid for other in others for cid in other.schedule.outstanding(peer)}
                order.cancels = [cid for cid in order.cancels if cid not in needed]
            link.order(order)
            self._poke(link)

    # --- reading

    def _link(self, peer: str) -> Link:
        link = self._links.get(peer)
        if link is None:
            link = self._links[peer] = Link(peer)
        return link

    async def _accept(self, stream: Any) -> None:
        peer = str(stream.muxed_conn.peer_id)
        link = self._link(peer)
        if link.inbound >= MAX_INBOUND:
            self._counters.dropped["too-many-streams"] += 1
            await stream.reset()
            return
        link.inbound += 1
        try:
            await self._read(link, stream)
            await stream.close()
        except (BaseLibp2pError, NetworkError, OSError) as error:
            _log.debug("the Bitswap stream of %s broke: %r", peer, error)
            with trio.move_on_after(1.0):
                await stream.reset()
        finally:
            link.inbound -= 1
            if not link.inbound and not self.is_connected(peer) and self._links.get(peer) is link:
                del self._links[peer]  # it was gone before its stream was taken up

    async def _read(self, link: Link, stream: Any) -> None:
        """Take in what comes on a stream until it ends; whoever sends garbage loses its connection."""

        def progress(size: int) -> None:
            for session in self._sessions:
                session.schedule.progress(link.peer, size)

        try:
            with trio.CancelScope() as scope:
                inlet = Inlet(stream)
                while (head := await link.head(inlet)) is not None:
                    async with link.room:
                        message = await link.read(inlet, head, progress, scope.cancel)
                        if message is None:
                            break
                        self._take_in(link, message)
                    delay = self._limiter.delay(link.peer, _cost(message), trio.current_time())
                    if delay:
                        self._counters.dropped["want-flood"] += 1
                        await trio.sleep(delay)
            if scope.cancelled_caught:
                raise NetworkError("the rest of a message did not come")
        except WireError as error:
            self._counts.malformed += 1
            self._expel(link.peer, Drop.GARBAGE, f"malformed Bitswap: {error}")

    def _take_in(self, link: Link, message: wire.Message) -> None:
        now = trio.current_time()
        link.failures = 0
        if message.wants or message.full:
            self._counts.wants += len(message.wants)
            refused = link.ledger.refused
            link.ledger.update(message.wants, full=message.full)
            self._counts.refused_wants += link.ledger.refused - refused
            self._poke(link)
        if not message.blocks and not message.presences:
            return
        for prefix, data in message.blocks:
            self._take_block(link, wire.hash_block(prefix, data), data, now)
        for cid, has in message.presences:
            digest = wire.digest_of(cid)
            if not has and digest is not None:
                for session in self._sessions:
                    session.schedule.lacks(link.peer, digest, now)
        for session in list(self._sessions):
            session.settle()

    def _take_block(self, link: Link, digest: bytes | None, data: bytes | memoryview, now: float) -> None:
        concerned = [session for session in self._sessions if session.schedule.has(link.peer)]
        if digest is None or not link.may_send(digest):
            self._counts.unwanted += 1
            self._counts.unwanted_bytes += len(data)
            for session in concerned:
                session.schedule.unwanted(link.peer, now)
            link.unwanted_bytes += len(data) + ENTRY_COST
            if link.unwanted_bytes > MAX_UNWANTED:
                self._expel(link.peer, Drop.LIED, "a flood of unwanted blocks")
            return
        self._counts.blocks_received += 1
        self._counts.bytes_received += len(data)
        wanting = [session for session in self._sessions if session.schedule.wants(digest)]
        if not wanting:
            self._counts.duplicates += 1
        for session in wanting or concerned:
            cid = session.schedule.block(link.peer, digest, len(data), now)
            if cid is not None:
                session.deliver(cid, bytes(data))

    def _expel(self, peer: str, reason: Drop, why: str) -> None:
        _log.debug("%s is disconnected: %s", peer, why)
        self._counters.dropped["malformed-bitswap" if reason is Drop.GARBAGE else "unwanted-blocks"] += 1
        self._give_up(peer, reason)
        if self._host is not None:
            self._host.swarm.abort_peer(ID.from_base58(peer))

    def _give_up(self, peer: str, reason: Drop) -> None:
        for session in list(self._sessions):
            session.schedule.drop(peer, reason, trio.current_time())
            session.settle()

    # --- writing

    def _poke(self, link: Link) -> None:
        """Have a task write what there is to write. It ends when nothing is left, so an idle peer costs none."""
        if not link.writing and link.has_work and self._nursery is not None:
            with suppress(RuntimeError):  # the nursery was cancelled, and is waiting for its last task
                self._nursery.start_soon(self._write_all, link)
                link.writing = True

    async def _write_all(self, link: Link) -> None:
        try:
            with link.task():
                while link.has_work:
                    await self._write_one(link)
        except _Gone:
            # A moment before that is told; or it is back already, which then nobody tells.
            await self._discard(link)
            link.renew(self._outstanding(link.peer))
        except Exception as error:
            _log.debug("no Bitswap with %s: %r", link.peer, error)
            self._counters.dropped["bitswap-refused"] += 1
            link.ledger.clear()
            self._give_up(link.peer, Drop.REFUSED)
        finally:
            link.writing = False

    async def _write_one(self, link: Link) -> None:
        parts: list[bytes] = []
        while True:
            try:
                stream = link.stream or await self._open(link)
                parts = parts or await self._compose(link)
                if sum(map(len, parts)) > SMALL:
                    async with self._throttles.upload.transfer():
                        await link.write(stream, parts)
                elif parts:
                    await link.write(stream, parts)
                return
            except (BaseLibp2pError, OSError, NetworkError) as error:
                if not self._is_there(link):
                    raise _Gone from error
                link.failures += 1
                if link.failures >= ATTEMPTS:
                    raise
                _log.debug("a Bitswap stream to %s failed: %r", link.peer, error)
                await self._discard(link)
                await trio.sleep(0.1 * link.failures)

    async def _open(self, link: Link) -> Any:
        if self._host is None or self._nursery is None:
            raise NetworkError("not running")
        stream = None
        with trio.move_on_after(OPEN_SECONDS):
            stream = await self._host.streams.new_stream(
                ID.from_base58(link.peer), [TProtocol(protocol) for protocol in wire.PROTOCOLS]
            )
        if stream is None:
            raise NetworkError("no stream could be opened in time")
        again = bool(link.protocol)
        link.stream, link.protocol = stream, str(stream.get_protocol())
        if again:
            link.renew(self._outstanding(link.peer))
        self._nursery.start_soon(self._drain, link, stream)
        return stream

    def _is_there(self, link: Link) -> bool:
        """Whether a connection to the peer is open just now, whatever was told of it."""
        return self._host is not None and self._host.has_connection(link.peer)

    def _outstanding(self, peer: str) -> list[bytes]:
        return [cid for session in self._sessions for cid in session.schedule.outstanding(peer)]

    async def _discard(self, link: Link) -> None:
        stream, link.stream = link.stream, None
        if stream is not None:
            with trio.move_on_after(1.0):
                await stream.reset()

    async def _drain(self, link: Link, stream: Any) -> None:
        """Old implementations answer on our own stream; and this tells when it breaks, for wants to be sent anew."""
        try:
            with link.task():
                await self._read(link, stream)
                return  # the peer will not write on it, as most do not
        except Exception as error:
            _log.debug("the Bitswap stream to %s broke: %r", link.peer, error)
        if link.stream is stream and self._links.get(link.peer) is link:
            link.stream = None
            link.failures += self._is_there(link)
            outstanding = self._outstanding(link.peer)
            if link.failures >= ATTEMPTS:
                self._give_up(link.peer, Drop.REFUSED)
            elif outstanding:
                link.renew(outstanding)
                self._poke(link)

    async def _compose(self, link: Link) -> list[bytes]:
        """The next messages, in parts: what we want, then answers up to `BATCH` bytes or our share of `OUTGOING`."""
        busy = sum(other.writing for other in self._links.values())
        room = min(BATCH, OUTGOING // max(1, busy))
        messages, parts, size = [], [link.own_wants()], 0
        if self._throttles.upload.rate is not None:
            if parts[0]:
                return wire.framed(parts)  # What we want does not wait with what others want.
            room = min(room, MESSAGE)
        while room > 0 and (entry := link.ledger.next_due()) is not None:
            answer = await self._answer(link, entry)
            if answer is None:
                continue
            parts.extend(answer)
            size += sum(map(len, answer))
            if len(answer) == 2:
                self._counts.blocks_sent += 1
                self._counts.bytes_sent += len(answer[1])
            if size >= MESSAGE:
                messages += wire.framed(parts)
                room -= size
                parts, size = [], 0
        if any(parts):
            messages += wire.framed(parts)
        return messages

    async def _answer(self, link: Link, entry: wire.Entry) -> tuple[bytes, ...] | None:
        """What to say to a want: a block (two parts), a presence (one), or nothing."""
        talks = link.protocol == wire.PROTOCOLS[0]
        here = await self._look_up(entry)
        if here is None or (isinstance(here, bytes) and len(here) > wire.MAX_BLOCK):
            return (wire.presence(entry.cid, has=False),) if entry.dont_have and talks else None
        link.ledger.answered(entry)
        if isinstance(here, bytes):
            return wire.block_parts(entry.cid, here, link.protocol)
        return (wire.presence(entry.cid, has=True),) if talks else None

    async def _look_up(self, entry: wire.Entry) -> bytes | int | None:
        if self._source is None:
            return None
        try:
            return await (self._source.has(entry.cid) if entry.have else self._source.get(entry.cid))
        except StoreError as error:
            # Trouble with our disk is no fault of the peer's, who may go on giving us blocks.
            _log.warning("a block that a peer wants cannot be read: %s", error)
            return None


def _cost(message: wire.Message) -> int:
    """What a message takes of a peer's rate: each of its parts is looked at, whatever its size."""
    return 1 + len(message.wants) + len(message.blocks) + len(message.presences)
