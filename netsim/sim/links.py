"""Lines to the Internet: latency, queues, loss, and what messages weigh on them; used by gossip and exchanges.

Bytes are those of whole Ethernet frames, acknowledgements included, as a node's interface counts them. A message is
queued behind what its sender's uplink and its receiver's downlink still have to carry. The sizes below were read off
real daemons, swarms of two, four and eight that idled and trained: see docs/benchmarks.md.
"""

from __future__ import annotations

import random
from typing import Final

from netsim.scenario import Link

PRESETS: Final = {
    "lan": Link(latency=0.0003, jitter=0.0002, up=117e6, down=117e6),
    "fibre": Link(latency=0.005, jitter=0.001, up=12.5e6, down=31e6),
    "home": Link(latency=0.015, jitter=0.003, up=1.25e6, down=6.25e6, nat="cone"),
    "mobile": Link(latency=0.04, jitter=0.02, up=0.6e6, down=2.5e6, loss=0.005, nat="symmetric"),
}

NOISE: Final = 18
"""Bytes that encryption adds to a frame: its length and its tag."""
YAMUX: Final = 12
"""Bytes of the multiplexer's header."""
LARGEST_FRAME: Final = 65_519
SEGMENT: Final = 1_448
"""Most bytes of a stream in one Ethernet frame."""
HEADERS: Final = 66
"""Bytes of the Ethernet, IP and TCP headers of each, which is all that an acknowledgement has."""
GOSSIP: Final = 10
"""Bytes of the RPC around a published message, besides its topic: field tags, lengths."""
PEERS_TOPIC: Final = 23
UPDATES_TOPIC: Final = 90
"""Lengths of the topics' names: that of the updates holds the fingerprint of the model's layout."""
STREAM: Final = 500
"""Bytes that each side sends to open, negotiate and close a stream."""
HANDSHAKE: Final = 4_000
"""Bytes that each side sends to set up a connection: Noise, identify, subscriptions, each in frames of its own."""
IHAVE: Final = 126
"""Bytes of the frame in which a node tells a neighbour outside its mesh, once a second, what it has heard,"""
IHAVE_ID: Final = 22
"""and of each message named in it."""
LAZY, LAZY_PART = 6, 0.25
"""So many neighbours outside the mesh are told that, and at least this part of them."""


def framed(size: int) -> int:
    """What so many bytes of a stream weigh on the wire."""
    size += (NOISE + YAMUX) * -(-size // LARGEST_FRAME)
    return size + HEADERS * -(-size // SEGMENT)


def acknowledged(weight: int) -> int:
    """What the acknowledgements for so many bytes on the wire weigh: one for two frames, at least one."""
    return HEADERS * -(-weight // (2 * (SEGMENT + HEADERS)))


class _Queue:
    """What waits for one direction of a line, in seconds that it takes to carry it.

    Gossip books the hops of a message ahead, so that the times do not ascend. What is booked for later makes the queue
    longer, but what is booked for now does not wait until then.
    """

    __slots__ = ("_at", "_rate", "_waiting")

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._at = 0.0
        self._waiting = 0.0

    def put(self, now: float, size: int) -> float:
        """Append so many bytes; seconds until they are through."""
        if now > self._at:
            self._waiting = max(0.0, self._waiting - (now - self._at))
            self._at = now
        self._waiting += size / self._rate
        return self._waiting


class Line:
    """One place's line, with what has gone over it.

    Args:
        link: what it can do.
        draw: random numbers of its own.
    """

    __slots__ = ("_down", "_draw", "_up", "link", "received", "sent")

    def __init__(self, link: Link, draw: random.Random) -> None:
        self.link = link
        self.sent = 0.0
        self.received = 0.0
        self._draw = draw
        self._up = _Queue(link.up)
        self._down = _Queue(link.down)

    def loses(self) -> bool:
        """Whether a message is lost on this line."""
        return self.link.loss > 0 and self._draw.random() < self.link.loss

    def delay(self) -> float:
        """Seconds from here to the core of the network, or back, besides queues."""
        jitter = self.link.jitter
        return self.link.latency + (self._draw.expovariate(1.0 / jitter) if jitter else 0.0)

    def send(self, now: float, size: int) -> float:
        """Put so many bytes on the uplink; when the last of them has left."""
        self.sent += size
        return now + self._up.put(now, size)

    def receive(self, now: float, size: int, rate: float = 0.0) -> float:
        """Take so many bytes from the downlink, the last of which gets there now; when they have all come.

        They come as fast as the sender's line lets them (`rate`); through a wider downlink as late as that one can
        carry them, so that others may use it before.
        """
        self.received += size
        first = now - size / max(rate, self.link.down)
        return max(now, first + self._down.put(first, size))


def carry(source: Line, target: Line, size: int, now: float, *, lossless: bool = False) -> float | None:
    """Send bytes from one line to another; when they have come, or None if they are lost."""
    left = source.send(now, size)
    back = acknowledged(size)
    target.sent += back
    source.received += back
    if not lossless and (source.loses() or target.loses()):
        return None
    return target.receive(left + source.delay() + target.delay(), size, source.link.up)


def reach(one: Link, other: Link) -> bool:
    """Whether a connection between these two can come about: one of them must let itself be dialled, or punch."""
    return not (one.nat == other.nat == "symmetric")
