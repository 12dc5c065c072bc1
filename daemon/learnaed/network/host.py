"""One libp2p host (TCP, Noise, Yamux, gossipsub), built, guarded and watched; used by `Network`, which restarts it."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Protocol

import trio
from libp2p.abc import IMuxedConn, INetConn, INetStream, INetwork, INotifee, IRawConnection
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_noise_key_pair
from libp2p.custom_types import TProtocol
from libp2p.host.basic_host import BasicHost
from libp2p.identity.identify_push.identify_push import ID_PUSH
from libp2p.network.auto_connector import AutoConnector
from libp2p.network.config import ConnectionConfig, RetryConfig
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.network.connection.swarm_connection import SwarmConn
from libp2p.network.exceptions import SwarmException
from libp2p.network.swarm import Swarm
from libp2p.peer.id import ID
from libp2p.peer.peerstore import PeerStore
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE_ID
from libp2p.security.noise.transport import Transport as NoiseTransport
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX_ID
from libp2p.stream_muxer.yamux.yamux import Yamux
from libp2p.tools.anyio_service import background_trio_service
from libp2p.transport.upgrader import TransportUpgrader
from multiaddr import Multiaddr

from learnae.errors import NetworkError
from learnaed.network import patches
from learnaed.network.addresses import Address, is_own
from learnaed.network.pubsub import Deliver, Gossip
from learnaed.network.settings import Counters, NetworkSettings, Traffic
from learnaed.network.throttle import Throttles
from learnaed.network.transport import MeteredStream, MeteredTCP

_log = logging.getLogger(__name__)

UPGRADE_SECONDS = 5.0
MAX_HANDSHAKES = 16
MAX_STREAMS_PER_CONNECTION = 64
WATCH_SECONDS = 2.0
_PING = bytes((0, 2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1))  # a Yamux ping frame: version, type, SYN, stream 0, value 1

OnConnection = Callable[[str, bool], None]


class Door(Protocol):
    """Who is served, and who is spoken to: `Membership`."""

    def serves(self, peer: str) -> bool: ...

    def greets(self, peer: str) -> bool: ...


class _OpenDoor:
    def serves(self, peer: str) -> bool:
        return True

    greets = serves


class _NoConnector(AutoConnector):
    """libp2p's auto-connector dials whatever its address book holds, strangers' included; ours is `Dialer`."""

    async def run_background_task(self, nursery: trio.Nursery) -> None: ...

    async def maybe_connect(self) -> None: ...


class GuardedSwarm(Swarm):
    """libp2p's swarm with bounded handshakes, and with inbound slots that are given back when a connection ends."""

    def __init__(self, key: bytes, settings: NetworkSettings, counters: Counters, throttles: Throttles) -> None:
        pair = create_new_key_pair(key)
        own = ID.from_pubkey(pair.public_key)
        store = PeerStore()
        store.add_key_pair(own, pair)
        noise = NoiseTransport(pair, noise_privkey=create_noise_key_pair().private_key)
        limit = settings.max_connections
        super().__init__(
            own,
            store,
            TransportUpgrader({TProtocol(NOISE_ID): noise}, {TProtocol(YAMUX_ID): Yamux}, int(UPGRADE_SECONDS)),
            transports=[MeteredTCP(counters, throttles)],
            retry_config=RetryConfig(max_retries=0),
            connection_config=ConnectionConfig(
                max_connections=limit,
                min_connections=0,
                low_watermark=0,
                high_watermark=limit,
                inbound_upgrade_timeout=UPGRADE_SECONDS,
                outbound_upgrade_timeout=UPGRADE_SECONDS,
                inbound_stream_protocol_negotiation_timeout=UPGRADE_SECONDS,
                outbound_stream_protocol_negotiation_timeout=UPGRADE_SECONDS,
            ),
        )
        self.auto_connector = _NoConnector(self)
        self.counters = counters
        self.throttles = throttles
        self._settings = settings
        self._handshakes = 0

    async def _handle_inbound_connection(self, read_write_closer: Any, maddr: Multiaddr) -> None:
        """libp2p holds one of `max_connections` slots for ever for each connection that ever came in."""
        if self._handshakes >= MAX_HANDSHAKES:
            self.counters.dropped["too-many-handshakes"] += 1
            await read_write_closer.close()
            return
        self._handshakes += 1
        try:
            muxed: Any = await self.upgrade_inbound_raw_conn(RawConnection(read_write_closer, False), maddr)
        finally:
            self._handshakes -= 1
        remote = read_write_closer.get_remote_address()
        self.counters.incoming += remote is not None and not is_own(remote[0])
        # The listener closes the socket when this returns.
        await muxed.event_closed.wait()

    async def upgrade_outbound_raw_conn(
        self, raw_conn: IRawConnection, peer_id: ID, pre_scope: Any = None
    ) -> SwarmConn:
        """libp2p puts no deadline on an outbound security handshake."""
        with trio.move_on_after(UPGRADE_SECONDS):
            return await super().upgrade_outbound_raw_conn(raw_conn, peer_id, pre_scope)
        raise SwarmException(f"no handshake within {UPGRADE_SECONDS:.0f} s")

    async def add_conn(self, muxed_conn: IMuxedConn, direction: str = "unknown") -> SwarmConn:
        peer = muxed_conn.peer_id
        if peer == self.self_id:
            socket_of(muxed_conn).abort()
            raise SwarmException("a connection to ourselves")
        if not self._settings.permits(str(peer)):
            self.counters.dropped["denied"] += 1
            socket_of(muxed_conn).abort()
            raise SwarmException("a peer that is denied, or not among the allowed ones")
        muxed_conn.swarm = self  # type: ignore[attr-defined]  # where the patches find counters and throttles
        return await super().add_conn(muxed_conn, direction)

    def live(self) -> list[INetConn]:
        return [conn for conn in self.get_connections() if not conn.is_closed]

    def abort_all(self) -> None:
        for conn in self.get_connections():
            socket_of(conn.muxed_conn).abort()

    def abort_peer(self, peer: ID) -> None:
        for conn in self.get_connections(peer):
            socket_of(conn.muxed_conn).abort()


def socket_of(muxed: Any) -> MeteredStream:
    """The TCP stream under a Yamux connection: session, Noise, framing, raw connection, stream."""
    stream = muxed.secured_conn.conn.read_writer.read_write_closer.stream
    assert isinstance(stream, MeteredStream)
    return stream


class GuardedHost(BasicHost):
    """libp2p's host; a failing stream handler ends its stream only, no peer may open more than 64 at once, and who is
    not served finds every protocol closed but identify, ping and those that `set_open_handler` registers."""

    def __init__(self, swarm: GuardedSwarm, door: Door) -> None:
        self.door = door
        super().__init__(swarm, negotiate_timeout=int(UPGRADE_SECONDS), disable_identify_address_discovery=True)
        self.remove_stream_handler(ID_PUSH)
        self._counters = swarm.counters
        self._open: dict[int, int] = {}

    async def _swarm_stream_handler(self, net_stream: INetStream) -> None:
        connection = id(net_stream.muxed_conn)
        if self._open.get(connection, 0) >= MAX_STREAMS_PER_CONNECTION:
            self._counters.dropped["too-many-streams"] += 1
            await net_stream.reset()
            return
        self._open[connection] = self._open.get(connection, 0) + 1
        try:
            await super()._swarm_stream_handler(net_stream)
        except Exception as error:
            self._counters.dropped["stream-error"] += 1
            _log.debug("a stream of %s failed: %r", net_stream.muxed_conn.peer_id, error, exc_info=error)
            with trio.move_on_after(1.0):
                await net_stream.reset()
        finally:
            self._open[connection] -= 1
            if not self._open[connection]:
                del self._open[connection]

    def set_stream_handler(self, protocol_id: TProtocol, stream_handler: Any) -> None:
        async def guarded(stream: INetStream) -> None:
            if self.door.serves(str(stream.muxed_conn.peer_id)):
                await stream_handler(stream)
            else:
                self._counters.dropped["stranger"] += 1
                await stream.reset()

        super().set_stream_handler(protocol_id, guarded)

    def set_open_handler(self, protocol_id: TProtocol, stream_handler: Any) -> None:
        """Serve a protocol to everybody, strangers included."""
        super().set_stream_handler(protocol_id, stream_handler)

    def _schedule_identify(self, peer_id: ID, *, reason: str) -> None:
        """We answer identify, but ask nobody: nothing here depends on what a peer says about itself."""


class _Notifee(INotifee):
    """Turns libp2p's per-connection events into one event per peer."""

    def __init__(self, swarm: GuardedSwarm, connected: set[str], on_peer: OnConnection) -> None:
        self._swarm = swarm
        self._connected = connected
        self._on_peer = on_peer

    async def connected(self, network: INetwork, conn: INetConn) -> None:
        self.settle(conn.muxed_conn.peer_id)

    async def disconnected(self, network: INetwork, conn: INetConn) -> None:
        self.settle(conn.muxed_conn.peer_id)

    def settle(self, peer_id: ID) -> None:
        peer = str(peer_id)
        alive = any(not conn.is_closed for conn in self._swarm.get_connections(peer_id))
        if alive == (peer in self._connected):
            return
        (self._connected.add if alive else self._connected.discard)(peer)
        self._on_peer(peer, alive)

    async def opened_stream(self, network: INetwork, stream: INetStream) -> None: ...

    async def closed_stream(self, network: INetwork, stream: INetStream) -> None: ...

    async def listen(self, network: INetwork, multiaddr: Multiaddr) -> None: ...

    async def listen_close(self, network: INetwork, multiaddr: Multiaddr) -> None: ...


class Host:
    """A running host: its swarm, its pubsub, and the set of connected peers."""

    def __init__(
        self,
        key: bytes,
        settings: NetworkSettings,
        counters: Counters,
        *,
        deliver: Deliver,
        on_peer: OnConnection,
        throttles: Throttles | None = None,
        door: Door | None = None,
    ) -> None:
        patches.apply()
        self.settings = settings
        self.swarm = GuardedSwarm(key, settings, counters, throttles or Throttles())
        self._door = door or _OpenDoor()
        self.streams = GuardedHost(self.swarm, self._door)
        self.gossip = Gossip(self.streams, settings, counters, deliver, self.swarm.abort_peer, self._door.greets)
        self.connected: set[str] = set()
        self._notifee = _Notifee(self.swarm, self.connected, on_peer)
        self.swarm.register_notifee(self._notifee)

    def reaches(self, peer: str) -> bool:
        """Whether the peer is connected, and is one that we speak to."""
        return peer in self.connected and self._door.greets(peer)

    def has_connection(self, peer: str) -> bool:
        """Whether a connection to the peer is open at this moment; `connected` follows a little later."""
        return any(not conn.is_closed for conn in self.swarm.get_connections(ID.from_base58(peer)))

    @asynccontextmanager
    async def running(self, listen: list[Address]) -> AsyncIterator[list[Address]]:
        """Run the host; yields the addresses that it listens on. Any failure inside is raised here.

        Raises:
            NetworkError: an address could not be listened on.
        """
        async with background_trio_service(self.swarm):
            bound = [await self._listen(address) for address in listen]
            async with background_trio_service(self.gossip.gossip_router), background_trio_service(self.gossip):
                await self.gossip.wait_until_ready()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._watch)
                    try:
                        yield bound
                    finally:
                        # First of all: frames are written under a shield, only a closed socket ends them.
                        self.swarm.abort_all()
                        nursery.cancel_scope.cancel()

    def traffic(self) -> dict[str, Traffic]:
        """Per connected peer, what its connections carried; the direction is that of the oldest."""
        found: dict[str, Traffic] = {}
        for conn in self.swarm.live():
            peer, socket = str(conn.muxed_conn.peer_id), socket_of(conn.muxed_conn)
            before = found.get(peer, Traffic(0, 0, "outbound" if conn.muxed_conn.is_initiator else "inbound"))
            sent, received = before.sent + socket.sent, before.received + socket.received
            found[peer] = Traffic(sent, received, before.direction)
        return found

    async def _listen(self, address: Address) -> Address:
        if await self.swarm.listen(Multiaddr(str(address))):
            listener = self.swarm.listeners[str(Multiaddr(str(address)))]
        else:
            if address.port == 0:
                raise NetworkError(
                    f"cannot listen on {address}: no such interface, or no free port. Check --listen.",
                    code="cannot-listen",
                )
            _log.info("cannot listen on %s (is the port taken?); using any free port", address)
            return await self._listen(Address(address.kind, address.host, 0))
        return Address.parse(str(listener.get_addrs()[0]))

    async def _watch(self) -> None:
        """Ping silent connections, close dead ones, and keep the set of connected peers true."""
        last = trio.current_time()
        async with trio.open_nursery() as nursery:
            while True:
                await trio.sleep(WATCH_SECONDS)
                now = trio.current_time()
                slept = now - last > 2 * WATCH_SECONDS
                last = now
                for conn in self.swarm.get_connections():
                    socket = socket_of(conn.muxed_conn)
                    if slept:  # stopped or suspended ourselves: the silence says nothing about the peer
                        socket.last_received = now - self.settings.ping_after
                    silent = now - socket.last_received
                    if silent >= self.settings.dead_after:
                        self.swarm.counters.dropped["silent-connection"] += 1
                        socket.abort()
                    elif silent >= self.settings.ping_after:
                        nursery.start_soon(_ping, conn.muxed_conn)
                for peer in {*self.swarm.connections, *map(ID.from_base58, self.connected)}:
                    self._notifee.settle(peer)


async def _ping(muxed: Any) -> None:
    try:
        await muxed._write_frame(_PING)
    except Exception as error:
        _log.debug("ping failed: %r", error)
