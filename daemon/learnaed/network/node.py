"""`Network`: everything a node does on the network, behind strings and bytes; used by the daemon's wiring.

It knows nothing of updates or ledgers: topics are strings, messages are bytes, peers are peer ids.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import trio
from libp2p.exceptions import BaseLibp2pError
from libp2p.peer.id import ID
from multiaddr import Multiaddr
from nacl.signing import SigningKey

from learnae.errors import NetworkError, WireError
from learnae.peer import peer_id
from learnaed.network import patches
from learnaed.network.addresses import Address, expand
from learnaed.network.bitswap import Bitswap, BitswapStatistics, BlockSource, Drop, Limits, Session
from learnaed.network.dialer import Dialer, Source
from learnaed.network.discovery import discover
from learnaed.network.exchange import Exchange, Handler
from learnaed.network.host import Host
from learnaed.network.settings import Counters, NetworkSettings, NetworkStatistics, Traffic

if TYPE_CHECKING:
    # libp2p installs stubs for trio that lack its `TaskStatus`; at run time the two are the same thing.
    from trio_typing import TaskStatus

_log = logging.getLogger(__name__)

OnMessage = Callable[[bytes, str], None]


class Network:
    """A node on the network.

    Args:
        private_key: the 32-byte Ed25519 seed; the peer id follows from it.
        settings: see `NetworkSettings`.
        on_peer: called with a peer id and True when the first connection to it is up, False when the last is gone.
            Runs in the trio thread and must not block.
        remembered: multiaddrs that worked earlier (`known_addresses`); unusable ones are ignored.

    Raises:
        ConfigError: an address in `settings` cannot be used.
        NetworkError: the installed libp2p is not the supported one.
    """

    def __init__(
        self,
        private_key: bytes,
        settings: NetworkSettings,
        *,
        on_peer: Callable[[str, bool], None],
        remembered: Sequence[str] = (),
    ) -> None:
        patches.apply()
        self._key = private_key
        self._settings = settings
        self._listen = settings.listen_addresses()
        self._bound: list[Address] = []
        self._on_peer = on_peer
        self._counters = Counters()
        self._topics: dict[str, OnMessage] = {}
        self._topics_changed = trio.Event()
        self._exchange = Exchange(self._counters)
        self._bitswap = Bitswap(self._counters)
        self._host: Host | None = None
        self.peer_id = peer_id(bytes(SigningKey(private_key).verify_key))
        self._dialer = Dialer(self.peer_id, self._counters)
        self._given = settings.peer_addresses()
        self._remembered = [address for address in map(_parsed, remembered) if address is not None]

    @property
    def addresses(self) -> tuple[str, ...]:
        """Multiaddrs with /p2p/ at which others can dial this node; empty before it listens."""
        return tuple(str(address) for address in self._announced())

    def _announced(self) -> list[Address]:
        return [address.of(self.peer_id) for address in expand(self._bound)]

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; `task_status.started()` once listening.

        An exception that gets past the guards ends the libp2p host; a new one with the same key and port takes over,
        subscribes and dials again. It is counted (`host_restarts`) and logged.

        Raises:
            NetworkError: it cannot listen at all.
        """
        now = trio.current_time()
        self._dialer.add(self._remembered, Source.WORKED, now)
        self._dialer.add(self._given, Source.GIVEN, now)
        started = False

        def ready() -> None:
            nonlocal started
            if not started:
                started = True
                task_status.started()

        pause = 0.1
        while True:
            began = trio.current_time()
            try:
                await self._run_host(ready)
            except Exception as error:
                if not started:
                    raise _innermost(error) from None
                self._counters.host_restarts += 1
                _log.error("the libp2p host failed and is restarted: %r", error, exc_info=error)
            if trio.current_time() - began > 60.0:
                pause = 0.1
            await trio.sleep(pause)
            pause = min(10.0, pause * 2.0)

    async def _run_host(self, ready: Callable[[], None]) -> None:
        host = Host(
            self._key,
            self._settings,
            self._counters,
            deliver=self._deliver,
            on_peer=self._peer_changed,
        )
        self._exchange.attach(host)
        self._bitswap.attach(host)
        try:
            async with host.running(self._bound or self._listen) as bound, trio.open_nursery() as nursery:
                self._bound = bound
                self._host = host
                await self._sync_topics(host)
                nursery.start_soon(self._follow_topics, host)
                nursery.start_soon(self._bitswap.run)
                nursery.start_soon(self._dialer.run, self._dial, host.connected, self._settings.max_connections)
                if self._settings.mdns:
                    nursery.start_soon(discover, self._listen, self._announced, self._discovered)
                ready()
                await trio.sleep_forever()
        finally:
            self._host = None
            for peer in tuple(host.connected):
                self._peer_changed(peer, False)

    def _peer_changed(self, peer: str, connected: bool) -> None:
        tell = self._dialer.met if connected else self._dialer.lost
        tell(peer, trio.current_time())
        self._bitswap.connection(peer, connected)
        try:
            self._on_peer(peer, connected)
        except Exception:
            self._counters.dropped["handler-error"] += 1
            _log.exception("the handler of connections failed")

    async def _dial(self, address: Address) -> None:
        host = self._host
        if host is None:
            raise NetworkError("not running")
        if address.peer in host.connected:
            return
        try:
            await host.swarm.dial_addr(Multiaddr(str(address)), ID.from_base58(str(address.peer)))
        except (BaseLibp2pError, OSError, ValueError) as error:
            raise NetworkError(str(error.__cause__ or error)) from error

    def _discovered(self, addresses: list[Address]) -> None:
        self._counters.discovered += 1
        self._dialer.add(addresses, Source.DISCOVERED, trio.current_time())

    def subscribe(self, topic: str, handler: OnMessage) -> None:
        """Call `handler(data, peer)` for every new message on `topic`; `peer` is who forwarded it, not its author.

        The handler is quick and does not block. Its exceptions are counted ("handler-error") and logged.
        """
        self._topics[topic] = handler
        self._topics_changed.set()

    def unsubscribe(self, topic: str) -> None:
        self._topics.pop(topic, None)
        self._topics_changed.set()

    async def _follow_topics(self, host: Host) -> None:
        while True:
            await self._topics_changed.wait()
            await self._sync_topics(host)

    async def _sync_topics(self, host: Host) -> None:
        self._topics_changed = trio.Event()
        current = set(host.gossip.topic_ids)
        for topic in self._topics.keys() - current:
            await host.gossip.subscribe(topic)
        for topic in current - self._topics.keys():
            await host.gossip.unsubscribe(topic)

    def _deliver(self, topic: str, data: bytes, peer: str) -> None:
        handler = self._topics.get(topic)
        if handler is not None:
            handler(data, peer)

    async def publish(self, topic: str, data: bytes) -> None:
        """Send `data` to everybody on `topic`. Content that was sent within the last two minutes is not sent again.

        Raises:
            NetworkError: larger than `settings.max_message`.
        """
        if len(data) > self._settings.max_message:
            raise NetworkError(
                f"a message of {len(data)} bytes on {topic}, where {self._settings.max_message} are the limit: "
                "announce it and let others request it"
            )
        if self._host is not None:
            await self._host.gossip.publish(topic, data)
        await trio.lowlevel.checkpoint()

    def serve(self, protocol: str, handler: Handler, *, max_request: int) -> None:
        """Answer requests on `protocol` with `await handler(body, peer)`; larger requests than `max_request` bytes are
        refused. If the handler raises, the requester gets NetworkError and it is counted ("handler-error")."""
        self._exchange.serve(protocol, handler, max_request)
        if self._host is not None:
            self._exchange.attach_one(self._host, protocol)

    async def request(
        self, peer: str, protocol: str, body: bytes, *, max_reply: int, progress_timeout: float = 5.0
    ) -> bytes:
        """Send `body` to a connected peer and return its reply of at most `max_reply` bytes.

        `progress_timeout` (seconds) bounds the wait for the stream, for each 32 KiB written and for each piece read.
        A peer that takes nothing for so long loses its connection.

        Raises:
            NetworkError: not connected, refused, too slow, too large, damaged; the message says which.
        """
        return await self._exchange.request(self._host, peer, protocol, body, max_reply, progress_timeout)

    def serve_blocks(self, source: BlockSource) -> None:
        """Answer Bitswap wants, of peers and of IPFS nodes, from `source`."""
        self._bitswap.serve(source)

    def blocks_arrived(self, cids: Iterable[bytes]) -> None:
        """These blocks are now in the source of `serve_blocks`: peers that wait for them get them."""
        self._bitswap.arrived(cids)

    def session(
        self,
        peers: Iterable[str],
        *,
        limits: Limits | None = None,
        on_drop: Callable[[str, Drop], None] = lambda peer, reason: None,
    ) -> Session:
        """A Bitswap session that fetches blocks from several peers at once; see `Session` for its use.

        `on_drop(peer, reason)` is told of peers that lie, break the protocol or are too slow; it must not block.
        """
        return self._bitswap.session(peers, limits or Limits(), on_drop)

    def learn_addresses(self, peer: str, addresses: Sequence[str]) -> None:
        """Addresses of `peer` heard from others, to be dialled; anything unusable in them is ignored."""
        parsed = (_parsed(text) for text in addresses[:32])
        self._dialer.add(
            [address.of(peer) for address in parsed if address is not None and address.peer in (None, peer)],
            Source.HEARD,
            trio.current_time(),
        )

    def known_addresses(self) -> dict[str, list[str]]:
        """Peer id -> multiaddrs that led to it when they were tried last; for the next start's `remembered`."""
        return self._dialer.worked()

    def connected(self) -> frozenset[str]:
        """The peers with a live connection."""
        return frozenset(self._host.connected) if self._host is not None else frozenset()

    def traffic(self) -> dict[str, Traffic]:
        """Per connected peer, what its connections carried."""
        return self._host.traffic() if self._host is not None else {}

    def block_statistics(self) -> BitswapStatistics:
        """Totals of Bitswap."""
        return self._bitswap.statistics()

    def statistics(self) -> NetworkStatistics:
        """Figures for the status endpoint."""
        host = self._host
        return NetworkStatistics(
            peers=len(self.connected()),
            connections=len(host.swarm.live()) if host is not None else 0,
            known_peers=len(self._dialer),
            counters=replace(self._counters, dropped=self._counters.dropped.copy()),
        )


def _innermost(error: Exception) -> Exception:
    """The first exception in nested groups: libp2p's services wrap what is raised inside them."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


def _parsed(text: Any) -> Address | None:
    try:
        return Address.parse(text)
    except (WireError, AttributeError, TypeError):
        return None
