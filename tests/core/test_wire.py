"""The wire format: round trips, bounds, signatures, and whatever bytes a stranger may send."""

from __future__ import annotations

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey

from learnae import cbor, wire
from learnae.cid import raw_cid
from learnae.errors import WireError
from learnae.vector import VersionVector
from learnae.wire import (
    BadSignature,
    BlockReply,
    BlockRequest,
    GenesisReply,
    GenesisRequest,
    Heartbeat,
    Message,
    Part,
    SyncReply,
    SyncRequest,
    Update,
    open_envelope,
    pack,
    seal,
    unpack,
)
from tests.core.swarm import genesis

KEY = SigningKey(b"k" * 32)
AUTHOR = bytes(KEY.verify_key)
SIGN = wire.signer(KEY)

hashes = st.binary(min_size=32, max_size=32)
parts = st.builds(Part, st.binary(max_size=40).map(raw_cid), st.integers(1, wire.MAX_PART))
payloads = st.one_of(
    st.tuples(st.binary(min_size=1, max_size=wire.MAX_INLINE), st.just(())),
    st.tuples(st.just(b""), st.lists(parts, min_size=1, max_size=5).map(tuple)),
)
cuts = st.builds(wire.CutId, st.integers(0, 2**53), st.binary(max_size=9).map(raw_cid))
updates = st.builds(
    lambda payload, **fields: Update(payload=payload[0], parts=payload[1], **fields),
    payload=payloads,
    swarm=hashes,
    seq=st.integers(1, 2**53),
    slot=st.integers(0, 2**53),
    base=st.none() | cuts,
    samples=st.integers(0, 2**40),
    share=st.floats(0, 1),
    norm=st.floats(0, 1e30),
    loss=st.none() | st.floats(-1e30, 1e30),
)
heartbeats = st.builds(
    Heartbeat,
    time=st.floats(0, 1e11),
    state=st.sampled_from(["training", "leaving"]),
    swarm=st.none() | hashes,
    layout=st.none() | hashes,
    digest=st.binary(min_size=16, max_size=16),
    updates=st.integers(0, 2**53),
    rate=st.floats(0, 1e12),
    settled=st.lists(cuts, max_size=wire.MAX_CUTS).map(tuple),
    cuts=st.lists(cuts, max_size=wire.MAX_CUTS).map(tuple),
    floor=st.integers(-1, 2**53),
    addresses=st.lists(st.just("/ip4/192.0.2.1/tcp/4117"), max_size=8).map(tuple),
    agent=st.just("learnae/0"),
)


def some_vector() -> VersionVector:
    vector = VersionVector()
    for seq in (1, 2, 5):
        vector.add(AUTHOR, seq)
    return vector


PLAIN = [
    SyncRequest(bytes(32), some_vector(), -1, ((bytes(32), bytes(8)),)),
    SyncReply(some_vector(), (b"one", b"two"), more=True),
    BlockRequest((raw_cid(b"a"), raw_cid(b"b"))),
    BlockReply((b"", b"block")),
    GenesisRequest(),
    GenesisReply(None),
    GenesisReply(genesis()),
]


@given(st.one_of(updates, heartbeats))
def test_signed_round_trip(message: Message) -> None:
    opened = open_envelope(type(message), seal(message, SIGN, AUTHOR))
    assert opened.message == message
    assert opened.author == AUTHOR
    assert opened.digest == open_envelope(type(message), opened.envelope).digest


@pytest.mark.parametrize("message", PLAIN, ids=lambda message: type(message).__name__)
def test_plain_round_trip(message: Message) -> None:
    assert unpack(type(message), pack(message)) == message


@given(updates, st.data())
def test_any_changed_byte_is_noticed(message: Update, data: st.DataObject) -> None:
    envelope = bytearray(seal(message, SIGN, AUTHOR))
    at = data.draw(st.integers(0, len(envelope) - 1))
    envelope[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(WireError):
        open_envelope(Update, bytes(envelope))


@given(st.binary(max_size=300))
def test_random_bytes_are_refused(data: bytes) -> None:
    for kind in (Update, Heartbeat):
        with pytest.raises(WireError):
            open_envelope(kind, data)
    for message in PLAIN:
        with pytest.raises(WireError):
            unpack(type(message), b"\x00" + data)


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.binary(max_size=40)
    | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=20,
)


@given(st.lists(values, max_size=10))
def test_well_formed_cbor_of_the_wrong_shape_is_refused(fields: list[object]) -> None:
    for message in PLAIN:
        data = cbor2.dumps([message.TAG, *fields], canonical=True)
        try:
            unpack(type(message), data)
        except WireError:
            continue
        assert pack(unpack(type(message), data)) == data


def test_signature_of_another_kind_of_message_does_not_count() -> None:
    beat = Heartbeat(1.0, "training", None, None, bytes(16), 0, 0.0, (), (), -1, (), "x")
    tag, author, body, signature = cbor2.loads(seal(beat, SIGN, AUTHOR))
    assert tag == Heartbeat.TAG
    with pytest.raises(BadSignature):
        open_envelope(Update, cbor.encode([Update.TAG, author, body, signature]))


@pytest.mark.parametrize(
    "data",
    [
        bytes.fromhex("c249010000000000000000"),  # bignum
        bytes.fromhex("d8236161"),  # regular expression
        bytes.fromhex("d81c80"),  # shared reference
        bytes.fromhex("c48221196ab3"),  # decimal fraction
        bytes.fromhex("9f01ff"),  # indefinite length
        bytes.fromhex("1801"),  # not the shortest form
        bytes.fromhex("a2616101616102"),  # duplicate key
        bytes.fromhex("8101") + b"\x00",  # trailing byte
        b"\x81" * 50 + b"\x00",  # deep
        bytes.fromhex("9b7fffffffffffffff"),  # a list of 2**63
        bytes.fromhex("5b0000000006400000"),  # 100 MB of bytes, announced
        b"",
    ],
)
def test_dangerous_cbor_is_refused(data: bytes) -> None:
    with pytest.raises(WireError):
        cbor.decode(data, 1000)


def test_bounds() -> None:
    good = Update(bytes(32), 1, 1, None, 1, 0.5, 1.0, None, b"x", ())
    fields = {name: getattr(good, name) for name in Update.__dataclass_fields__}
    for wrong in (
        {"seq": 0},
        {"seq": True},
        {"slot": -1},
        {"share": 1.5},
        {"share": float("nan")},
        {"norm": float("inf")},
        {"loss": float("nan")},
        {"payload": b""},
        {"payload": bytes(wire.MAX_INLINE + 1)},
        {"parts": (Part(raw_cid(b""), 1),)},
        {"swarm": bytes(31)},
    ):
        with pytest.raises(WireError):
            seal(Update(**{**fields, **wrong}), SIGN, AUTHOR)
    with pytest.raises(WireError):
        cbor.decode(bytes(wire.MAX_ENVELOPE + 1), wire.MAX_ENVELOPE)


def test_terminal_escapes_do_not_get_in() -> None:
    beat = Heartbeat(1.0, "training", None, None, bytes(16), 0, 0.0, (), (), -1, (), "\x1b[2Jevil")
    with pytest.raises(WireError):
        seal(beat, SIGN, AUTHOR)
