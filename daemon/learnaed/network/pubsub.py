"""Gossipsub as learnae uses it: content-addressed, unsigned, bounded, and unbreakable by a peer; used by the host."""

from __future__ import annotations

import hashlib
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import trio
from libp2p.abc import IHost, INetStream
from libp2p.custom_types import TProtocol
from libp2p.io.exceptions import IncompleteReadError, MessageTooLarge
from libp2p.network.stream.exceptions import StreamError
from libp2p.peer.id import ID
from libp2p.pubsub.gossipsub import GossipSub
from libp2p.pubsub.mcache import CacheEntry, MessageCache
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub import Pubsub
from libp2p.utils.varint import read_varint_prefixed_bytes_limited

from learnae.errors import WireError
from learnaed.network.ratelimit import RateLimiter
from learnaed.network.settings import Counters, NetworkSettings

_log = logging.getLogger(__name__)

PROTOCOL = TProtocol("/meshsub/1.1.0")
MAX_RPC = 1024 * 1024
MAX_TOPIC = 256
MAX_TOPICS_PER_PEER = 64
MAX_CONTROL_IDS = 2000
MAX_QUEUED = 256
MAX_CACHED_BYTES = 8 * 1024 * 1024
REMEMBER_SECONDS = 120.0
REMEMBER_MESSAGES = 50_000

Deliver = Callable[[str, bytes, str], None]


def message_id(message: Any) -> bytes:
    """Messages are told apart by topic and content, so that a copy is a copy whoever sends it."""
    digest = hashlib.sha256(message.data)
    for topic in message.topicIDs:
        digest.update(topic.encode())
    return digest.digest()[:20]


class RecentIds:
    """Ids of the messages of the last two minutes, at most 50 000. Replaces libp2p's cache, which runs a thread."""

    def __init__(self) -> None:
        self._ids: OrderedDict[bytes, float] = OrderedDict()

    def has(self, key: bytes) -> bool:
        seen = self._ids.get(key)
        return seen is not None and seen > time.monotonic() - REMEMBER_SECONDS

    def add(self, key: bytes) -> bool:
        fresh = not self.has(key)
        if fresh:
            now = time.monotonic()
            self._ids.pop(key, None)
            self._ids[key] = now
            while len(self._ids) > REMEMBER_MESSAGES or next(iter(self._ids.values())) < now - REMEMBER_SECONDS:
                self._ids.popitem(last=False)
        return fresh


class ContentCache(MessageCache):
    """The router's cache of recent messages, keyed as `RecentIds` is, so that IHAVE and IWANT name the same thing."""

    _bytes = 0

    def put(self, msg: rpc_pb2.Message) -> None:
        mid = message_id(msg)
        if mid not in self.msgs and self._bytes + len(msg.data) <= MAX_CACHED_BYTES:
            self.msgs[mid] = msg
            self.history[0].append(CacheEntry(mid, msg.topicIDs))
            self._bytes += len(msg.data)

    def shift(self) -> None:
        self._bytes -= sum(len(self.msgs[entry.mid].data) for entry in self.history[-1])
        super().shift()


class Router(GossipSub):
    """Gossipsub with a mesh of three: a message crosses the network about three times per node.

    libp2p's scoring, adaptive degrees, peer exchange, equivocation memory and queues for unknown peers are off: they
    drop silently, retain messages, or let a stranger choose whom we dial.
    """

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        super().__init__(
            protocols=[PROTOCOL],
            degree=3,
            degree_low=2,
            degree_high=4,
            heartbeat_interval=1,
            prune_back_off=5,
            unsubscribe_back_off=1,
            adaptive_gossip_enabled=False,
            spam_protection_enabled=False,
            eclipse_protection_enabled=False,
        )
        # Named to peers outside the mesh for one heartbeat, kept for who asks or has just come for six.
        self.mcache = ContentCache(1, 6)
        self.scorer = None

    async def publish(self, msg_forwarder: ID, pubsub_msg: rpc_pb2.Message) -> None:
        """Send a message that is not yet known to the mesh, its sender excepted."""
        assert self.pubsub is not None
        self.mcache.put(pubsub_msg)
        rpc = rpc_pb2.RPC(publish=[pubsub_msg])
        topics = pubsub_msg.topicIDs
        for peer in list(self._get_peers_to_send(topics, msg_forwarder, msg_forwarder, message_id(pubsub_msg))):
            if peer in self.pubsub.peers:
                self.send_rpc(peer, rpc)

    def remove_peer(self, peer_id: ID) -> None:
        super().remove_peer(peer_id)
        # A peer that comes back after a crash must be taken into the mesh at once.
        for peers in self.back_off.values():
            peers.pop(peer_id, None)

    def _handle_dropped_rpc(self, peer_id: ID, rpc: rpc_pb2.RPC, reason: str) -> None:
        self._counters.dropped["send-queue-full"] += 1
        super()._handle_dropped_rpc(peer_id, rpc, reason)

    async def send_recent_messages(self, peer_id: ID, topic: str) -> None:
        """A peer that has just subscribed gets what was published while it was connecting."""
        for entry in [entry for entries in self.mcache.history for entry in entries if topic in entry.topics]:
            message = self.mcache.get(entry.mid)
            if message is not None:
                self.send_rpc(peer_id, rpc_pb2.RPC(publish=[message]))

    async def _do_px(self, px_peers: list[rpc_pb2.PeerInfo]) -> None:
        """Strangers do not tell us whom to dial."""


class Gossip(Pubsub):
    """Pubsub whose every entry point survives any bytes, counts what it drops, and delivers to one callback."""

    def __init__(
        self,
        host: IHost,
        settings: NetworkSettings,
        counters: Counters,
        deliver: Deliver,
        misbehaved: Callable[[ID], None],
        greets: Callable[[str], bool] = lambda peer: True,
    ) -> None:
        self.gossip_router = Router(counters)
        super().__init__(
            host,
            self.gossip_router,
            strict_signing=False,
            msg_id_constructor=message_id,
            max_subscriptions_per_rpc=MAX_TOPICS_PER_PEER,
            max_subscriptions_per_peer=MAX_TOPICS_PER_PEER,
            max_inbound_rpc_size=MAX_RPC,
        )
        self.seen_messages.stop()
        self.seen_messages = RecentIds()  # type: ignore[assignment]
        self._settings = settings
        self._counters = counters
        self._deliver = deliver
        self._misbehaved = misbehaved
        self._greets = greets
        self._limiter = RateLimiter(settings.messages_per_second, burst_seconds=10.0)

    async def publish(self, topic_id: str | list[str], data: bytes) -> None:
        """Send to the mesh; the own handler does not hear it. A repetition within two minutes is not sent again."""
        topics = [topic_id] if isinstance(topic_id, str) else topic_id
        message = rpc_pb2.Message(data=data, topicIDs=topics)
        if self.seen_messages.add(message_id(message)):
            self._counters.messages_published += 1
            await self.gossip_router.publish(self.my_id, message)
        await trio.lowlevel.checkpoint()

    async def continuously_read_stream(self, stream: INetStream) -> None:
        """Read one peer's RPCs until its stream ends."""
        peer = stream.muxed_conn.peer_id
        try:
            while True:
                raw = await read_varint_prefixed_bytes_limited(stream, self.max_inbound_rpc_size)
                rpc = rpc_pb2.RPC()
                rpc.ParseFromString(raw)
                await self._handle(peer, rpc)
        except (StreamError, IncompleteReadError) as error:
            _log.debug("pubsub stream of %s ended: %r", peer, error)
        except MessageTooLarge:
            self._expel(peer, "oversized")
        except Exception as error:
            _log.debug("pubsub of %s: %r", peer, error)
            self._expel(peer, "malformed-rpc")

    def _expel(self, peer: ID, reason: str) -> None:
        self._counters.dropped[reason] += 1
        self._misbehaved(peer)

    async def _handle(self, peer: ID, rpc: Any) -> None:
        for message in rpc.publish:
            await self.push_msg(peer, message)
        if len(rpc.subscriptions) > self.max_subscriptions_per_rpc:
            self._counters.dropped["subscription-flood"] += 1
        else:
            for subscription in rpc.subscriptions:
                if len(subscription.topicid) <= MAX_TOPIC:
                    self.handle_subscription(peer, subscription)
        if rpc.HasField("control"):
            control = rpc.control
            ids = sum(len(part.messageIDs) for part in (*control.ihave, *control.iwant, *control.idontwant))
            if ids + len(control.graft) + len(control.prune) > MAX_CONTROL_IDS:
                self._counters.dropped["control-flood"] += 1
                return
            rpc.ClearField("senderRecord")
            await self.gossip_router.handle_rpc(rpc, peer)

    async def push_msg(self, msg_forwarder: ID, msg: rpc_pb2.Message) -> None:
        """Deliver and forward a peer's message if it is new, addressed to us, small enough and within its rate."""
        if len(msg.topicIDs) != 1 or msg.topicIDs[0] not in self.topic_ids:
            self._counters.dropped["unknown-topic"] += 1
            return
        topic = msg.topicIDs[0]
        if len(msg.data) > self._settings.max_message:
            self._counters.dropped["oversized"] += 1
            return
        if self.seen_messages.has(message_id(msg)):
            return
        if not self._limiter.allow((msg_forwarder, topic), trio.current_time()):
            self._counters.dropped["rate-limited"] += 1
            return
        self.seen_messages.add(message_id(msg))
        self._counters.messages_received += 1
        try:
            self._deliver(topic, msg.data, str(msg_forwarder))
        except WireError as error:
            self._counters.dropped["unopened"] += 1
            _log.debug("a message of %s: %s", msg_forwarder, error)
            return
        except Exception:
            self._counters.dropped["handler-error"] += 1
            _log.exception("the handler of topic %s failed", topic)
        # Unsigned fields that a stranger chose are not passed on.
        clean = rpc_pb2.Message(data=msg.data, topicIDs=[topic])
        await self.gossip_router.publish(msg_forwarder, clean)

    async def _handle_new_peer(self, peer_id: ID) -> None:
        """Strangers are not spoken to."""
        if self._greets(str(peer_id)):
            await super()._handle_new_peer(peer_id)

    async def _send_recent_messages_to_new_peer(self, peer_id: ID) -> None:
        """The first use of a peer's queue, in which libp2p has no room for more than 32 messages: less than a burst."""
        queue = self.peer_queues.get(peer_id)
        if queue is not None:
            queue._queue.max_size = MAX_QUEUED
        await super()._send_recent_messages_to_new_peer(peer_id)

    def welcome(self, peer_id: ID) -> None:
        """A connected peer has become one that is spoken to."""
        if self.manager.is_running:
            self.manager.run_task(self._handle_new_peer_with_retry, peer_id)

    def get_hello_packet(self) -> rpc_pb2.RPC:
        packet = rpc_pb2.RPC()
        packet.subscriptions.extend(rpc_pb2.RPC.SubOpts(subscribe=True, topicid=topic) for topic in self.topic_ids)
        return packet

    async def write_msg(self, stream: INetStream, rpc_msg: rpc_pb2.RPC) -> bool:
        """libp2p adds our signed address record, 200 bytes, to every single message; addresses travel elsewhere."""
        rpc_msg.ClearField("senderRecord")
        if not rpc_msg.ByteSize():
            return True
        return await super().write_msg(stream, rpc_msg)
