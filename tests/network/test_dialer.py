from __future__ import annotations

from itertools import pairwise

import pytest
import trio
from trio.testing import MockClock

from learnae.errors import NetworkError
from learnae.peer import peer_id
from learnaed.network.addresses import Address
from learnaed.network.dialer import LAST_RETRY, LAST_RETRY_MET, MAX_ADDRESSES, MAX_PEERS, PARALLEL_DIALS, Dialer, Source
from learnaed.network.ratelimit import RateLimiter
from learnaed.network.settings import Counters

SMALL, MIDDLE, LARGE = sorted(peer_id(bytes([n]) * 32) for n in (1, 2, 3))


def at(peer: str, port: int = 1000, host: str = "192.0.2.7") -> Address:
    return Address("ip4", host, port, peer)


class World:
    """What a dialer dials: nothing answers unless it is in `open`."""

    def __init__(self, own: str = MIDDLE) -> None:
        self.counters = Counters()
        self.dialer = Dialer(own, self.counters, seed=1)
        self.connected: set[str] = set()
        self.open: set[Address] = set()
        self.calls: list[tuple[float, Address]] = []
        self.busy = self.most_busy = 0

    async def dial(self, address: Address) -> None:
        self.calls.append((trio.current_time(), address))
        self.busy += 1
        self.most_busy = max(self.busy, self.most_busy)
        try:
            await trio.sleep(0.5)
        finally:
            self.busy -= 1
        if address not in self.open:
            raise NetworkError("refused")
        assert address.peer is not None
        self.connected.add(address.peer)

    async def run_for(self, seconds: float) -> None:
        with trio.move_on_after(seconds):
            await self.dialer.run(self.dial, self.connected, 40)


async def test_it_never_gives_up_and_backs_off_to_a_minute(autojump_clock: MockClock) -> None:
    world = World()
    world.dialer.add([at(LARGE)], Source.GIVEN, trio.current_time())
    await world.run_for(3600)
    times = [time for time, _ in world.calls]
    gaps = [after - before - 0.5 for before, after in pairwise(times)]
    assert times[0] < 0.2
    assert gaps[0] <= 2.0
    assert max(gaps) <= LAST_RETRY
    assert min(gaps[8:]) >= LAST_RETRY / 2
    assert world.counters.dials == world.counters.dial_failures == len(times)


async def test_being_seen_anew_ends_the_backoff(autojump_clock: MockClock) -> None:
    world = World()
    world.dialer.add([at(LARGE)], Source.DISCOVERED, trio.current_time())
    await world.run_for(600)
    world.open.add(at(LARGE, 2000))
    seen = trio.current_time()
    world.dialer.add([at(LARGE, 2000)], Source.DISCOVERED, seen)
    await world.run_for(5)
    assert world.connected == {LARGE}
    assert world.calls[-1][0] < seen + 1.0
    assert world.dialer.worked() == {LARGE: [str(at(LARGE, 2000))]}


async def test_the_smaller_id_dials_and_the_other_waits_but_dials_too(autojump_clock: MockClock) -> None:
    world = World()
    world.dialer.add([at(SMALL), at(LARGE)], Source.DISCOVERED, trio.current_time())
    await world.run_for(10)
    first = {address.peer: time for time, address in reversed(world.calls)}
    assert first[LARGE] < 0.2
    assert 2.0 <= first[SMALL] < 3.0


async def test_connected_peers_and_ourselves_are_not_dialled(autojump_clock: MockClock) -> None:
    world = World()
    world.connected.add(LARGE)
    world.dialer.add([at(MIDDLE), at(LARGE)], Source.GIVEN, trio.current_time())
    await world.run_for(600)
    assert world.calls == []


async def test_an_address_that_leads_nowhere_any_more_is_not_remembered(autojump_clock: MockClock) -> None:
    world = World()
    world.dialer.add([at(LARGE, 1), at(LARGE, 2), at(SMALL, 3)], Source.WORKED, trio.current_time())
    world.open.add(at(LARGE, 1))
    await world.run_for(10)
    assert world.dialer.worked() == {LARGE: [str(at(LARGE, 1))]}
    world.open.clear()
    world.connected.clear()
    world.dialer.lost(LARGE, trio.current_time())
    await world.run_for(10)
    assert world.dialer.worked() == {}


async def test_a_lost_peer_is_dialled_again_at_once(autojump_clock: MockClock) -> None:
    world = World()
    world.open.add(at(LARGE))
    world.dialer.add([at(LARGE)], Source.HEARD, trio.current_time())
    await world.run_for(100)
    assert len(world.calls) == 1
    world.connected.clear()
    world.dialer.lost(LARGE, trio.current_time())
    await world.run_for(2)
    assert world.connected == {LARGE}


async def cut_off(world: World, peers: list[str], seconds: float) -> None:
    """Connect to these peers, then lose them all for so long."""
    world.open |= {at(peer) for peer in peers}
    world.dialer.add([at(peer) for peer in peers], Source.DISCOVERED, trio.current_time())
    await world.run_for(10)
    assert world.connected == set(peers)
    world.open.clear()
    world.connected.clear()
    for peer in peers:
        world.dialer.lost(peer, trio.current_time())
    await world.run_for(seconds)


async def test_a_few_lost_peers_are_dialled_every_ten_seconds(autojump_clock: MockClock) -> None:
    world = World()
    await cut_off(world, [LARGE], 600)
    late = [time for time, _ in world.calls if time > 300]
    assert max(after - before for before, after in pairwise(late)) <= LAST_RETRY_MET + 0.5
    assert len(late) < 300 / (LAST_RETRY_MET / 2)


async def test_many_lost_peers_are_dialled_once_a_second_together(autojump_clock: MockClock) -> None:
    world = World()
    await cut_off(world, [peer_id(n.to_bytes(32, "big")) for n in range(30)], 900)
    assert sum(time > 600 for time, _ in world.calls) < 2 * 300


async def test_when_one_lost_peer_is_back_the_others_are_dialled_at_once(autojump_clock: MockClock) -> None:
    world = World(SMALL)
    peers = [peer_id(n.to_bytes(32, "big")) for n in range(20)]
    await cut_off(world, peers, 600)
    back = trio.current_time()
    world.open |= {at(peer) for peer in peers}
    world.dialer.met(peers[0], back)
    world.connected.add(peers[0])
    await world.run_for(6)
    assert world.connected == set(peers)


async def test_a_stranger_that_comes_wakes_nobody(autojump_clock: MockClock) -> None:
    world = World()
    await cut_off(world, [LARGE], 600)
    world.dialer.add([at(SMALL)], Source.HEARD, trio.current_time())
    came = trio.current_time()
    world.dialer.met(SMALL, came)
    world.connected.add(SMALL)
    await world.run_for(0.3)
    assert not [time for time, address in world.calls if time >= came and address.peer == LARGE]


async def test_few_dials_at_once_and_strangers_cannot_fill_the_memory(autojump_clock: MockClock) -> None:
    world = World()
    given = at(LARGE)
    world.dialer.add([given], Source.GIVEN, 0.0)
    for n in range(MAX_PEERS + 50):
        world.dialer.add([at(peer_id(n.to_bytes(32, "big")))], Source.HEARD, 0.0)
    world.dialer.add([at(LARGE, port) for port in range(1, 300)], Source.HEARD, 0.0)
    await world.run_for(120)
    assert len(world.dialer) == MAX_PEERS
    assert world.most_busy == PARALLEL_DIALS
    assert given in {address for _, address in world.calls}
    assert len({address for _, address in world.calls if address.peer == LARGE}) <= MAX_ADDRESSES


@pytest.mark.parametrize("burst", [1.0, 10.0])
def test_rate_limiter_allows_the_burst_then_the_rate(burst: float) -> None:
    limiter = RateLimiter(5.0, burst)
    allowed = sum(limiter.allow("a", 0.0) for _ in range(1000))
    assert allowed == int(5 * burst)
    assert limiter.allow("b", 0.0)
    later = sum(limiter.allow("a", second / 100) for second in range(1, 1001))
    assert 45 <= later <= 51


def test_rate_limiter_forgets_the_longest_silent() -> None:
    limiter = RateLimiter(1.0, 1.0)
    for n in range(100_000):
        limiter.allow(n, float(n))
    assert len(limiter._buckets) <= 4096


async def test_a_peer_that_keeps_hanging_up_is_dialled_ever_more_rarely(autojump_clock: MockClock) -> None:
    """So does one that denies this node: it must not be bothered every second."""
    world = World()
    world.dialer.add([at(LARGE)], Source.GIVEN, trio.current_time())
    world.open.add(at(LARGE))

    async def hang_up() -> None:
        while True:
            await trio.sleep(0.3)
            if world.connected:
                world.connected.clear()
                world.dialer.lost(LARGE, trio.current_time())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(hang_up)
        await world.run_for(600)
        nursery.cancel_scope.cancel()
    times = [time for time, _ in world.calls]
    gaps = [after - before for before, after in pairwise(times)]
    assert 10 < len(times) < 40
    assert gaps[0] < 2 and 30 < gaps[-1] <= LAST_RETRY + 1


async def test_a_stranger_is_dialled_about_once_a_minute_until_it_is_forgiven(autojump_clock: MockClock) -> None:
    world = World()
    world.dialer.add([at(LARGE)], Source.GIVEN, trio.current_time())
    world.open.add(at(LARGE))

    async def refuse() -> None:
        while True:
            await trio.sleep(0.3)
            if world.connected:
                world.dialer.refused(LARGE)
                world.connected.clear()
                world.dialer.lost(LARGE, trio.current_time())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(refuse)
        await world.run_for(600)
        times = [time for time, _ in world.calls]
        assert all(LAST_RETRY / 2 <= after - before <= LAST_RETRY + 2 for before, after in pairwise(times))
        assert 9 <= len(times) <= 20
        world.dialer.forgive(trio.current_time())
        await world.run_for(1)
        assert len(world.calls) == len(times) + 1
        nursery.cancel_scope.cancel()


async def test_who_is_denied_is_not_even_known(autojump_clock: MockClock) -> None:
    dialer = Dialer(MIDDLE, Counters(), seed=1, permits=lambda peer: peer != LARGE)
    dialer.add([at(LARGE), at(SMALL)], Source.GIVEN, trio.current_time())
    assert len(dialer) == 1
