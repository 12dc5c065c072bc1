"""Donors that cheat, as hosts of a test's own that whole daemons dial; see also `test_bitswap`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

import trio
from libp2p.custom_types import TProtocol
from libp2p.utils.varint import read_varint_prefixed_bytes_limited

from learnaed.network.addresses import Address
from learnaed.network.bitswap import wire
from tests.network.support import LOOPBACK, Attacker

PROTOCOL = wire.PROTOCOLS[0]

Act = Callable[[Any, list[wire.Entry]], Awaitable[None]]
"""What to do with a stream to whoever asks, and with the wants of a message."""


async def say(stream: Any, *parts: bytes) -> None:
    await stream.write(b"".join(wire.framed(list(parts))))


async def lie(stream: Any, wants: list[wire.Entry]) -> None:
    """A wrong block for each."""
    for entry in wants:
        await say(stream, *wire.block_parts(entry.cid, entry.cid[::-1] * 7000, PROTOCOL))


async def babble(stream: Any, wants: list[wire.Entry]) -> None:
    """No Bitswap at all."""
    await stream.write(b"\x30" + Random(5).randbytes(0x30))


async def push(stream: Any, wants: list[wire.Entry]) -> None:
    """Blocks that nobody asked for."""
    for number in range(10):
        await say(stream, *wire.block_parts(wants[0].cid, number.to_bytes(4, "little") * 60_000, PROTOCOL))


async def drip(stream: Any, wants: list[wire.Entry]) -> None:
    """One byte a second."""
    await stream.write(wire.varint(256 * 1024))
    for _ in range(600):
        await stream.write(b"\x1a")
        await trio.sleep(1)


class Enemy:
    """A donor that acts on every wantlist it gets."""

    def __init__(self, act: Act) -> None:
        self._act = act
        self._host = Attacker(act.__name__).host
        self.asked = 0
        """Wants that it was sent."""

    async def run(self, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        self._host.streams.set_stream_handler(TProtocol(PROTOCOL), self._listen)
        async with self._host.running([Address.parse(LOOPBACK[0])]) as (bound, *_):
            self.peer = str(self._host.swarm.get_peer_id())
            self.flags = "--peer", f"{bound}/p2p/{self.peer}"
            task_status.started()
            await trio.sleep_forever()

    async def _listen(self, stream: Any) -> None:
        answer: Any = None
        while True:
            raw = await read_varint_prefixed_bytes_limited(stream, wire.MAX_MESSAGE)
            wants = [entry for entry in wire.parse(raw).wants if not entry.cancel]
            self.asked += len(wants)
            if wants:
                answer = answer or await self._host.streams.new_stream(stream.muxed_conn.peer_id, [TProtocol(PROTOCOL)])
                await self._act(answer, wants)
