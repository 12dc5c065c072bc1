"""The parts of Bitswap that do no input or output: format, ledger, schedule; time is a number here."""

from __future__ import annotations

import tracemalloc
from random import Random
from time import process_time
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from libp2p.bitswap.pb import bitswap_pb2
from trio.testing import MockClock

from learnae.cid import DAG_PB, MAX_BLOCK, cid_of, raw_cid
from learnae.errors import NetworkError, WireError
from learnaed.network.bitswap import Bitswap, Session, wire
from learnaed.network.bitswap.inlet import Inlet
from learnaed.network.bitswap.ledger import MAX_WANTS, Ledger
from learnaed.network.bitswap.pieces import Pieces
from learnaed.network.bitswap.schedule import (
    FIRST_WINDOW,
    FORGET_ABSENCE,
    TYPICAL_BLOCK,
    Drop,
    Limits,
    Orders,
    Schedule,
)
from learnaed.network.ratelimit import RateLimiter
from learnaed.network.settings import Counters

BLOCK = TYPICAL_BLOCK
pb2: Any = bitswap_pb2


def cids(count: int, seed: int = 1) -> list[bytes]:
    random = Random(seed)
    return [raw_cid(random.randbytes(8)) for _ in range(count)]


# --- format

entries = st.builds(
    wire.Entry,
    st.binary(max_size=40),
    st.integers(0, 2**31 - 1),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)


@given(st.lists(entries, max_size=5), st.booleans(), st.lists(st.binary(max_size=300), max_size=4), st.booleans())
def test_what_is_written_is_what_others_read_and_what_we_read(
    wants: list[wire.Entry], full: bool, blocks: list[bytes], has: bool
) -> None:
    parts = [wire.wantlist(wants, full=full)]
    for block in blocks:
        parts.extend(wire.block_parts(raw_cid(block), block, wire.PROTOCOLS[0]))
    parts.append(wire.presence(raw_cid(b"x"), has))
    framed = b"".join(wire.framed(parts))
    raw = b"".join(parts)
    assert framed == wire.varint(len(raw)) + raw

    theirs = pb2.Message()
    theirs.ParseFromString(raw)
    assert [
        wire.Entry(e.block, e.priority, e.cancel, e.wantType == 1, e.sendDontHave) for e in theirs.wantlist.entries
    ] == wants
    assert theirs.wantlist.full == full
    assert [(part.prefix, part.data) for part in theirs.payload] == [(raw_cid(b"")[:4], block) for block in blocks]
    assert [(part.cid, part.type) for part in theirs.blockPresences] == [(raw_cid(b"x"), 0 if has else 1)]

    ours = wire.parse(theirs.SerializeToString())
    assert (ours.wants, ours.full, ours.presences) == (wants, full, [(raw_cid(b"x"), has)])
    assert [(prefix, bytes(data)) for prefix, data in ours.blocks] == [(raw_cid(b"")[:4], block) for block in blocks]


def test_version_one_sends_bare_blocks() -> None:
    head, data = wire.block_parts(raw_cid(b"block"), b"block", wire.PROTOCOLS[-1])
    theirs = pb2.Message()
    theirs.ParseFromString(head + data)
    assert list(theirs.blocks) == [b"block"]
    assert [bytes(body) for _, body in wire.parse(head + data).blocks] == [b"block"]


def test_a_negative_priority_and_unknown_fields_are_legal() -> None:
    theirs = pb2.Message()
    theirs.wantlist.entries.add(block=b"cid", priority=-7)
    raw = theirs.SerializeToString() + b"\x28\x05\x4d\x00\x00\x00\x00\x51" + bytes(8)
    assert wire.parse(raw).wants == [wire.Entry(b"cid", -7)]


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_a_wire_error(raw: bytes) -> None:
    try:
        message = wire.parse(raw)
    except WireError:
        return
    assert len(message.wants) + len(message.blocks) + len(message.presences) <= len(raw)


@given(st.binary(max_size=300), st.integers(0, 400))
def test_a_message_of_one_block_is_recognised_by_its_beginning(block: bytes, cut: int) -> None:
    cid = raw_cid(block)
    raw = b"".join(wire.block_parts(cid, block, wire.PROTOCOLS[0]))
    found = wire.lone_block(memoryview(raw[:cut]), len(raw))
    head = len(raw) - len(block)
    assert found == ((cid[:4], head) if cut >= head else None)
    if found:
        [(prefix, data)] = wire.parse(raw).blocks
        assert (prefix, bytes(data)) == (found[0], raw[found[1] :])
    assert wire.lone_block(memoryview(raw), len(raw) + 1) is None


@given(st.binary(max_size=200), st.integers(0, 300))
def test_whatever_else_begins_a_message_is_no_lone_block(raw: bytes, size: int) -> None:
    for beginning in (raw, b"\x1a" + raw, wire.presence(raw_cid(raw), True), b"\x12\x01x"):
        found = wire.lone_block(memoryview(beginning), size)
        if found is not None and size == len(beginning):
            [(prefix, data)] = wire.parse(beginning).blocks
            assert (prefix, bytes(data)) == (found[0], beginning[found[1] :])


@pytest.mark.parametrize("raw", [b"\x12\x00", b"\x1a\x00", b"\x22\x00", b"\x0a\x02\x0a\x00"])
def test_a_message_of_endless_empty_parts_is_refused(raw: bytes) -> None:
    wire.parse(raw * wire.MAX_PARTS)
    with pytest.raises(WireError, match="parts"):
        wire.parse(raw * (wire.MAX_PARTS + 1))


@pytest.mark.parametrize(
    "cid",
    [
        b"",
        b"\x12\x20" + bytes(32),  # version 0
        b"\x01\x55\x12\x20" + bytes(31),
        b"\x01\x55\x13\x20" + bytes(32),  # another hash
        b"\x01\x78\x12\x20" + bytes(32),  # another codec
    ],
)
def test_other_kinds_of_cid_are_not_ours(cid: bytes) -> None:
    assert wire.digest_of(cid) is None


def test_blocks_that_are_too_large_or_hashed_otherwise_have_no_name() -> None:
    assert wire.MAX_BLOCK == MAX_BLOCK < wire.MAX_MESSAGE
    assert wire.hash_block(b"", memoryview(bytes(wire.MAX_BLOCK))) is not None
    assert wire.hash_block(b"", memoryview(bytes(wire.MAX_BLOCK + 1))) is None
    assert wire.hash_block(b"\x01\x55\x13\x40", memoryview(b"x")) is None


# --- ledger


def test_a_ledger_answers_by_priority_and_forgets_what_it_answered() -> None:
    a, b, c = cids(3)
    ledger = Ledger()
    ledger.update([wire.Entry(a, 1), wire.Entry(b, 5), wire.Entry(c, 5)], full=False)
    order = []
    while (entry := ledger.next_due()) is not None:
        order.append(entry.cid)
        ledger.answered(entry)
    assert order == [b, c, a]
    assert len(ledger) == 0 and not ledger.has_due


def test_a_want_that_could_not_be_answered_stands_until_the_block_arrives_or_it_is_cancelled() -> None:
    a, b = cids(2)
    ledger = Ledger()
    ledger.update([wire.Entry(a), wire.Entry(b)], full=False)
    assert ledger.next_due() and ledger.next_due() and ledger.next_due() is None
    ledger.update([wire.Entry(b, cancel=True)], full=False)
    ledger.arrived(a[4:])
    ledger.arrived(b[4:])
    entry = ledger.next_due()
    assert entry is not None and entry.cid == a
    assert ledger.next_due() is None


def test_a_full_wantlist_replaces_and_a_question_does_not_undo_a_want() -> None:
    a, b = cids(2)
    ledger = Ledger()
    ledger.update([wire.Entry(a)], full=False)
    ledger.update([wire.Entry(b), wire.Entry(b, have=True)], full=True)
    assert ledger.next_due() == wire.Entry(b)
    assert ledger.next_due() is None


def test_a_ledger_is_bounded_whatever_is_wanted_and_cancelled() -> None:
    ledger = Ledger()
    many = cids(5 * MAX_WANTS)
    ledger.update([wire.Entry(cid) for cid in many], full=False)
    assert len(ledger) == MAX_WANTS
    assert ledger.refused == 4 * MAX_WANTS
    for cid in many:
        ledger.update([wire.Entry(many[0], cancel=True), wire.Entry(many[0]), wire.Entry(cid, cancel=True)], full=False)
        assert len(ledger._due) <= 4 * MAX_WANTS + 1
    assert len(ledger) == 1
    assert ledger.next_due() == wire.Entry(many[0])


# --- schedule


class Bench:
    """A schedule, peers that answer as a test says, and a clock that the test moves."""

    def __init__(self, *peers: str, **limits: Any) -> None:
        self.now = 1000.0
        self.schedule = Schedule(Limits(**limits), self.now)
        self.asked: dict[str, list[bytes]] = {peer: [] for peer in peers}
        self.cancelled: dict[str, list[bytes]] = {peer: [] for peer in peers}
        for peer in peers:
            self.schedule.add(peer, True, self.now)

    def look(self) -> None:
        for peer, orders in self.schedule.orders().items():
            self.cancelled[peer] += orders.cancels
            self.asked[peer] = [cid for cid in self.asked[peer] if cid not in orders.cancels] + orders.wants

    def want(self, wanted: list[bytes]) -> None:
        self.schedule.want(wanted, self.now)
        self.look()

    def give(self, peer: str, cid: bytes, size: int = BLOCK) -> bytes | None:
        if cid in self.asked[peer]:
            self.asked[peer].remove(cid)
        self.schedule.progress(peer, size)
        found = self.schedule.block(peer, cid[4:], size, self.now)
        if found is not None:
            self.schedule.taken(size, self.now)
        self.look()
        return found

    def wait(self, seconds: float) -> None:
        while seconds > 0:
            self.now += min(1.0, seconds)
            seconds -= 1.0
            self.schedule.tick(self.now)
            self.look()


def test_each_block_is_asked_of_one_peer_and_wants_spread() -> None:
    bench = Bench("a", "b", "c")
    wanted = cids(9)
    bench.want(wanted)
    assert sorted(cid for asked in bench.asked.values() for cid in asked) == sorted(wanted)
    assert [len(asked) for asked in bench.asked.values()] == [3, 3, 3]


def test_a_window_bounds_what_one_peer_is_asked() -> None:
    bench = Bench("a")
    bench.want(cids(100))
    assert len(bench.asked["a"]) == FIRST_WINDOW // BLOCK


def test_what_the_caller_has_not_taken_counts() -> None:
    bench = Bench("a", held=3 * BLOCK)
    wanted = cids(10)
    bench.want(wanted)
    assert len(bench.asked["a"]) == 3
    for cid in wanted[:3]:
        bench.schedule.block("a", cid[4:], BLOCK, bench.now)
    assert not bench.schedule.orders()
    bench.schedule.taken(BLOCK, bench.now)
    bench.look()
    assert bench.asked["a"][3:] == [wanted[3]]


def test_a_slower_peer_gets_fewer_wants() -> None:
    bench = Bench("quick", "slow")
    bench.want(cids(400))
    given = dict.fromkeys(bench.asked, 0)
    for step in range(200):
        bench.now += 0.05
        for peer, every in (("quick", 1), ("slow", 10)):
            if step % every == 0 and bench.asked[peer]:
                bench.give(peer, bench.asked[peer][0])
                given[peer] += 1
    shown = bench.schedule.peers(bench.now)
    assert given["quick"] > 8 * given["slow"] > 0
    assert len(bench.asked["quick"]) > 2 * len(bench.asked["slow"])
    assert shown["quick"].speed > 5 * shown["slow"].speed


def test_a_late_block_is_asked_of_a_second_peer_only_at_the_end_and_is_delivered_once() -> None:
    bench = Bench("a", "b")
    wanted = cids(2)
    bench.want(wanted)
    [first], [second] = bench.asked["a"], bench.asked["b"]
    bench.give("b", second)
    assert bench.asked["b"] == []  # the other block is not late yet
    bench.wait(2.0)
    assert bench.asked["b"] == [first]
    assert bench.give("b", first) == first
    assert bench.cancelled["a"] == [first]
    assert bench.give("a", first) is None
    assert bench.schedule.duplicates == 1
    assert bench.schedule.wanted == 0


def test_a_byte_a_second_is_too_slow() -> None:
    bench = Bench("drip", "good")
    wanted = cids(4)
    bench.want(wanted)
    for _ in range(12):
        bench.schedule.progress("drip", 1)
        for cid in list(bench.asked["good"]):
            bench.give("good", cid)
        bench.wait(1.0)
    assert bench.schedule.wanted == 0  # the good one was asked for the rest, which was late
    bench.want(cids(40, seed=2))
    for _ in range(12):
        bench.schedule.progress("drip", 1)
        bench.schedule.progress("good", 100_000)
        bench.wait(1.0)
    assert bench.schedule.dropped == {"drip": Drop.SLOW}


def test_slow_but_steady_stays_and_steady_without_a_block_does_not() -> None:
    bench = Bench("a")
    bench.want(cids(8))
    for _ in range(100):
        bench.schedule.progress("a", 20_000)
        bench.wait(1.0)
    assert bench.schedule.dropped == {}
    for _ in range(25):
        bench.schedule.progress("a", 20_000)
        bench.wait(1.0)
    assert bench.schedule.dropped == {"a": Drop.STALLED}


def test_silence_while_we_were_suspended_is_nobodys_fault() -> None:
    bench = Bench("a")
    bench.want(cids(2))
    bench.now += 3600.0
    bench.schedule.tick(bench.now)
    bench.wait(8.0)
    assert bench.schedule.dropped == {}
    bench.wait(3.0)
    assert bench.schedule.dropped == {"a": Drop.SLOW}


def test_a_prompt_peer_with_small_blocks_is_not_slow() -> None:
    bench = Bench("a")
    wanted = cids(200)
    bench.want(wanted)
    for _ in range(30):
        bench.wait(1.0)
        for cid in bench.asked["a"][:3]:
            bench.give("a", cid, 100)
        bench.asked["a"] = list(bench.schedule.outstanding("a"))
        for cid in bench.asked["a"][:-1]:
            bench.give("a", cid, 100)
    assert bench.schedule.dropped == {}


def test_a_liar_is_dropped_and_its_wants_go_to_others() -> None:
    bench = Bench("liar", "good")
    wanted = cids(4)
    bench.want(wanted)
    lost = list(bench.asked["liar"])
    for _ in range(3):
        bench.schedule.unwanted("liar", bench.now)
    bench.look()
    assert bench.schedule.dropped == {"liar": Drop.LIED}
    assert set(bench.cancelled["liar"]) == set(lost)
    assert set(bench.asked["good"]) == set(wanted)
    bench.schedule.add("liar", True, bench.now)
    assert not bench.schedule.has("liar")


def test_who_goes_away_loses_its_wants_and_takes_part_again() -> None:
    bench = Bench("a", "b")
    wanted = cids(6)
    bench.want(wanted)
    bench.schedule.connection("a", False, bench.now)
    bench.look()
    assert bench.schedule.outstanding("a") == []
    assert len(bench.asked["b"]) == 4
    bench.asked["a"].clear()
    bench.schedule.connection("a", True, bench.now)
    bench.look()
    assert set(bench.asked["a"]) | set(bench.asked["b"]) == set(wanted)


def test_who_lacks_a_block_is_asked_again_later_and_who_lacks_much_is_left_alone() -> None:
    bench = Bench("a", "b")
    [cid] = cids(1)
    bench.want([cid])
    bench.schedule.lacks("a", cid[4:], bench.now)
    bench.look()
    assert bench.asked["b"] == [cid]
    bench.schedule.lacks("b", cid[4:], bench.now)
    bench.look()
    assert bench.asked == {"a": [], "b": []}
    bench.wait(FORGET_ABSENCE + 1.0)
    assert [cid] in bench.asked.values()

    lone = Bench("a")
    lone.want(cids(1000))
    questions = 0
    while lone.asked["a"]:
        questions += 1
        lone.schedule.lacks("a", lone.asked["a"][0][4:], lone.now)
        lone.look()
    assert questions < 100
    lone.wait(FORGET_ABSENCE + 1.0)
    assert lone.asked["a"]


def test_small_nodes_say_nothing_about_how_large_leaves_are() -> None:
    bench = Bench("a", held=8 * BLOCK)
    nodes = [cid_of(DAG_PB, cid[4:]) for cid in cids(100, seed=2)]
    bench.want(nodes)
    while bench.asked["a"]:
        bench.give("a", bench.asked["a"][0], 8700)
        bench.now += 0.01
    bench.want(cids(1000))
    assert 4 <= len(bench.asked["a"]) <= 8


def test_promised_sizes_are_what_counts() -> None:
    bench = Bench("a", held=8 * BLOCK)
    wanted = cids(1000)
    bench.schedule.want(wanted, bench.now, dict.fromkeys(wanted, BLOCK // 4))
    bench.look()
    assert len(bench.asked["a"]) == 4 * FIRST_WINDOW // BLOCK


def test_it_is_hopeless_when_all_are_given_up_or_lack_all_of_it() -> None:
    bench = Bench("a", "b", "away")
    bench.schedule.connection("away", False, bench.now)
    wanted = cids(2)
    bench.want(wanted)
    for cid in wanted:
        for peer in ("a", "b", "a"):
            bench.schedule.lacks(peer, cid[4:], bench.now)
            bench.look()
    assert not bench.schedule.hopeless  # one is away, and may come back with it
    bench.schedule.remove("away", bench.now)
    assert bench.schedule.hopeless
    bench.wait(FORGET_ABSENCE + 1.0)
    assert not bench.schedule.hopeless  # they are asked again
    for peer in ("a", "b"):
        bench.schedule.drop(peer, Drop.SLOW, bench.now)
    assert bench.schedule.hopeless


def test_many_blocks_that_one_peer_lacks_cost_little() -> None:
    """With 16,384 leaves, and a search through all of them for each, it took seconds of the main task."""
    bench = Bench("a", "b", held=10**9)
    wanted = cids(16_384)
    bench.want(wanted)
    began, given = process_time(), 0
    bench.schedule.lacks("a", bench.asked["a"][0][4:], bench.now)
    bench.look()
    while bench.asked["a"] or bench.asked["b"]:
        for peer in ("a", "b"):
            if bench.asked[peer]:
                bench.give(peer, bench.asked[peer][-1])
                given += 1
    assert given == len(wanted)
    assert process_time() - began < 3.0


class Mute:
    """An engine with nobody behind it."""

    def is_connected(self, peer: str) -> bool:
        return True

    def send(self, session: Session, orders: dict[str, Orders]) -> None: ...

    def enter(self, session: Session) -> None: ...

    def leave(self, session: Session) -> None: ...


async def test_a_session_without_peers_fails_at_once(autojump_clock: MockClock) -> None:
    began = trio.current_time()
    with Session(Mute(), ["a"], Limits(), lambda peer, why: None) as session:
        session.want(cids(3))
        session.schedule.drop("a", Drop.SLOW, trio.current_time())
        with pytest.raises(NetworkError, match="3 blocks are missing and no peer that is left has them"):
            await anext(session)
    assert trio.current_time() - began < 1.0


async def test_a_block_larger_than_its_link_promised_is_not_kept() -> None:
    with Session(Mute(), ["a"], Limits(), lambda peer, why: None) as session:
        small, large = cids(2)
        session.want([small, large], {small: 10, large: 10})
        for cid, size in ((small, 10), (large, 11)):
            assert session.schedule.block("a", cid[4:], size, trio.current_time()) == cid
            session.deliver(cid, bytes(size))
        assert session.schedule.held == 10
        assert await anext(session) == (small, bytes(10))
        with pytest.raises(WireError, match="11 bytes, where its link promises 10"):
            await anext(session)


# --- the end of a stream that is read


class Connection:
    """The part of a Yamux connection, and of its only stream, that an inlet needs."""

    def __init__(self) -> None:
        self.conn, self.stream_id, self.target_recv_window = self, 1, 200
        self.recv_closed = self.closed = self.reset_received = False
        self.event_shutting_down = trio.Event()
        self.stream_buffers = {1: bytearray()}
        self.stream_events: dict[int, Any] = {1: trio.Event()}
        self.muxed_stream = self
        self.released = 0

    def arrive(self, data: bytes) -> None:
        self.stream_buffers[1].extend(data)
        self.stream_events[1].set()

    async def _auto_tune_and_send_window_update(self, *, bytes_read: int) -> None:
        self.released += bytes_read


@pytest.mark.parametrize(("wanted", "wakes_at"), [(3, 3), (50, 50), (1000, 100)])
async def test_a_reader_sleeps_until_enough_is_there(
    wanted: int, wakes_at: int, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    connection = Connection()
    inlet = Inlet(connection)
    there: list[int] = []

    async def read() -> None:
        await inlet.wait(wanted)
        there.append(inlet.waiting)

    nursery.start_soon(read)
    for _ in range(wakes_at):
        await trio.testing.wait_all_tasks_blocked()
        assert not there
        connection.arrive(b"x")
    await trio.testing.wait_all_tasks_blocked()
    assert there == [wakes_at]  # a thousand would be more than the peer may send: half of its window will do
    assert await inlet.take(wanted) == b"x" * wakes_at
    assert (connection.released, inlet.waiting) == (wakes_at, 0)


async def test_a_reader_wakes_at_the_end_and_when_it_is_poked(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    connection = Connection()
    inlet = Inlet(connection)
    woken: list[int] = []

    async def read() -> None:
        for _ in range(2):
            await inlet.wait(100)
            woken.append(inlet.waiting)

    nursery.start_soon(read)
    await trio.testing.wait_all_tasks_blocked()
    inlet.poke()
    await trio.testing.wait_all_tasks_blocked()
    assert woken == []  # there is nothing to take
    connection.arrive(b"slow")
    inlet.poke()
    await trio.testing.wait_all_tasks_blocked()
    assert woken == [4]
    connection.recv_closed = True
    connection.stream_events[1].set()
    await trio.testing.wait_all_tasks_blocked()
    assert woken == [4, 4]


async def test_the_engine_is_told_of_peers_while_it_ends() -> None:
    bitswap = Bitswap(Counters())
    async with trio.open_nursery() as nursery:
        bitswap._nursery = nursery
    link = bitswap._link("peer")
    link.order(Orders(wants=cids(1)))
    bitswap._poke(link)
    assert not link.writing


def test_only_cids_of_our_kind_can_be_wanted() -> None:
    with pytest.raises(ValueError, match="not a CID"):
        Bench("a").want([b"\x12\x20" + bytes(32)])


@given(st.integers(0, 2**32))
def test_whatever_happens_every_block_comes_once_and_the_books_balance(seed: int) -> None:
    random = Random(seed)
    peers = [f"peer {n}" for n in range(random.randrange(1, 5))]
    bench = Bench(*peers, held=random.choice([1, 4, 64]) * BLOCK, lies=10**9, slowest=0.0, stalled=1e9)
    wanted = cids(random.randrange(1, 60), seed)
    bench.want(wanted[: len(wanted) // 2])
    came: list[bytes] = []
    connected = set(peers)
    for _ in range(300):
        peer = random.choice(peers)
        outstanding = bench.schedule.outstanding(peer)
        match random.randrange(8):
            case 0 if len(connected) > 1:
                bench.schedule.connection(peer, peer not in connected, bench.now)
                connected ^= {peer}
            case 1 if outstanding:
                bench.schedule.lacks(peer, random.choice(outstanding)[4:], bench.now)
            case 2:
                bench.wait(random.choice([0.1, 1.5, 12.0]))
            case 3:
                bench.want(random.sample([cid for cid in wanted if cid not in came], len(wanted) - len(came)))
            case _ if outstanding:
                cid = random.choice(outstanding)
                if bench.give(peer, cid, random.choice([10, BLOCK, 4 * BLOCK])) is not None:
                    came.append(cid)
        bench.look()
        schedule = bench.schedule
        in_flight = [schedule._sizes[cid[4:]] for peer in peers for cid in schedule.outstanding(peer)]
        assert schedule._coming == sum(in_flight) == sum(donor.coming for donor in schedule._donors.values())
        assert all(len(given) <= 2 for given in schedule._asked_of.values())
        assert set(schedule._free) | set(schedule._asked_of) == set(schedule._wanted) == set(schedule._sizes)
    bench.want([cid for cid in wanted if cid not in came])
    for peer in set(peers) - connected:
        bench.schedule.connection(peer, True, bench.now)
    for _ in range(500):
        bench.wait(1.0)
        for peer in peers:
            came += [cid for cid in bench.schedule.outstanding(peer) if bench.give(peer, cid) is not None]
    assert sorted(came) == sorted(set(wanted))
    assert bench.schedule.held == 0


# --- rate limits


def test_a_flood_is_delayed_in_proportion() -> None:
    limiter = RateLimiter(10.0, burst_seconds=2.0)
    assert limiter.delay("a", 20, 0.0) == 0.0
    assert limiter.delay("a", 5, 0.0) == pytest.approx(0.5)
    assert limiter.delay("b", 5, 0.0) == 0.0
    assert limiter.delay("a", 5, 1.0) == 0.0


@given(
    st.lists(st.one_of(st.binary(max_size=9), st.integers(1, 3 * 4096).map(lambda n: Random(n).randbytes(n)))),
    st.data(),
)
def test_pieces_give_the_bytes_that_came_in_order(came: list[bytes], data: st.DataObject) -> None:
    pieces, expected = Pieces(), b""
    for piece in came:
        pieces.extend(piece)
        expected += piece
        size = data.draw(st.integers(0, 5000))
        assert (len(pieces), pieces[:size], bytes(pieces)) == (len(expected), expected[:size], expected)
        assert pieces.take(size) == expected[:size]
        expected = expected[size:]
        if data.draw(st.booleans()):
            del pieces[:3]
            expected = expected[3:]
    assert pieces[:] == expected
    pieces.clear()
    assert (len(pieces), pieces.take(1)) == (0, b"")


def test_pieces_of_a_byte_each_cost_about_a_byte_each() -> None:
    tracemalloc.start()
    try:
        pieces = Pieces(bytes([n & 255]) + b"x" for n in range(100_000))
        assert tracemalloc.get_traced_memory()[0] < 1.3 * len(pieces)
    finally:
        tracemalloc.stop()
