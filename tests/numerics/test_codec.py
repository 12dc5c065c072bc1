from __future__ import annotations

import struct
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from learnae.codec import PART_LIMIT, CodecSettings, Encoder, decode_part
from learnae.codec.part import HEADER
from learnae.errors import CodecError, ConfigError
from learnae.layout import CHUNK, Layout, TensorSpec
from tests.numerics.samples import layouts, numbers, updates

FLAT = Layout((TensorSpec("w", (10_000,), "float32"),))
codecs = st.builds(
    CodecSettings,
    density=st.sampled_from([0.001, 0.02, 0.3, 1.0]),
    lr_outer=st.floats(0.1, 2),
    mu=st.floats(0, 0.95),
    beta=st.floats(0, 1),
)


def dense(layout: Layout, parts: list[bytes]) -> NDArray[np.int64]:
    """The sum of some parts as a dense vector."""
    total = np.zeros(layout.size, np.int64)
    for part in parts:
        decoded = decode_part(layout, part)
        total[decoded.index] += decoded.delta()
    return total


@given(st.data())
def test_decoding_gives_back_what_was_encoded(data: st.DataObject) -> None:
    layout = data.draw(layouts())
    part, (index, delta) = data.draw(updates(layout))
    if len(part) > PART_LIMIT:
        return
    decoded = decode_part(layout, part)
    assert decoded.index.dtype == np.int64 and decoded.delta().dtype == np.int32
    assert (decoded.index == index).all() and (decoded.delta() == delta).all()
    assert decoded.counts.sum() == len(index) and len(decoded.counts) == len(decoded.scales)


@given(layouts(), codecs, st.integers(0, 2**32), st.sampled_from([1e-12, 1e-3, 1e3]))
def test_conservation(layout: Layout, codec: CodecSettings, seed: int, scale: float) -> None:
    """What is sent and what is kept for later add up to what there was, in whole units, round after round."""
    encoder = Encoder(layout, range(-24, len(layout.tensors) - 24), codec)
    for turn in range(3):
        encoder.accumulate(numbers(seed + turn, layout.size, scale), 0.25)
        before = encoder.pending.astype(np.int64)
        sent = dense(layout, encoder.emit().parts)
        assert (sent + encoder.pending == before).all()
        assert before.any() == sent.any()


@given(layouts(), codecs, st.integers(0, 2**32))
def test_an_update_is_sparse_and_has_one_magnitude_per_chunk(layout: Layout, codec: CodecSettings, seed: int) -> None:
    encoder = Encoder(layout, (-24,) * len(layout.tensors), codec)
    encoder.accumulate(numbers(seed, layout.size), 1.0)
    before = encoder.pending.copy()
    sent = dense(layout, encoder.emit().parts)
    for start, stop in layout.chunks():
        kept = np.flatnonzero(sent[start:stop])
        assert 0 < len(kept) <= max(1, round(codec.density * (stop - start)))
        magnitudes = np.abs(before[start:stop])
        assert magnitudes[kept].min() >= np.delete(magnitudes, kept).max(initial=0)
        assert set(np.abs(sent[start:stop][kept])) == {np.rint(magnitudes[kept].mean())}
        assert (np.sign(sent[start:stop][kept]) == np.sign(before[start:stop][kept])).all()


def test_the_formulas_of_the_outer_optimiser() -> None:
    """Against the textbook form in float64: Nesterov momentum, then decayed error feedback."""
    settings = CodecSettings(density=0.1, lr_outer=0.7, mu=0.9, beta=0.5)
    encoder = Encoder(FLAT, (-24,), settings)
    momentum, pending = np.zeros(FLAT.size), np.zeros(FLAT.size)
    for turn in range(4):
        delta = numbers(turn, FLAT.size)
        momentum = 0.9 * momentum + delta
        pending = 0.5 * pending + 0.25 * 0.7 * (delta + 0.9 * momentum)
        encoder.accumulate(delta, 0.25)
        assert np.abs(encoder.momentum - momentum).max() < 1e-7
        assert np.abs(encoder.pending * 2.0**-24 - pending).max() < 3e-7
        pending -= dense(FLAT, encoder.emit().parts) * 2.0**-24


@settings(max_examples=30)
@given(layouts(), st.sampled_from([0.02, 0.3, 1.0]), st.integers(0, 2**32))
def test_what_is_pending_shrinks_until_it_is_sent(layout: Layout, density: float, seed: int) -> None:
    """Error feedback without decay: every further update takes k * scale**2 off the squared norm of each chunk."""
    encoder = Encoder(layout, (-24,) * len(layout.tensors), CodecSettings(density=density, mu=0.0, beta=1.0))
    encoder.accumulate(numbers(seed, layout.size), 1.0)
    for _ in range(3):
        before = encoder.pending.astype(np.float64)
        sent = dense(layout, encoder.encode(np.zeros(layout.size, np.float32), 1.0).parts).astype(np.float64)
        expected = before @ before - sent @ sent
        # The scale is the mean rounded to a whole unit: at most half a unit off for each entry.
        assert abs(encoder.pending.astype(np.float64) @ encoder.pending - expected) <= np.abs(sent).sum()


@pytest.mark.parametrize(("least", "counts"), [(1, [20, 20, 1, 13, 1]), (64, [20, 20, 64, 64, 10])])
def test_small_tensors_have_the_least_entries_whatever_the_density(least: int, counts: list[int]) -> None:
    sizes = (2 * CHUNK, 256, 2560, 10)
    layout = Layout(tuple(TensorSpec(str(i), (size,), "float32") for i, size in enumerate(sizes)))
    encoder = Encoder(layout, (-24,) * len(sizes), CodecSettings(density=0.005, least=least))
    (part,) = encoder.encode(numbers(3, layout.size), 0.25).parts
    assert decode_part(layout, part).counts.tolist() == counts


@given(layouts())
def test_a_zero_update_is_legal_and_adds_nothing(layout: Layout) -> None:
    encoder = Encoder(layout, (-24,) * len(layout.tensors))
    parts, norm = encoder.encode(np.zeros(layout.size, np.float32), 0.5)
    assert len(parts) == 1
    assert len(decode_part(layout, parts[0]).index) == 0
    assert norm == 0.0
    assert not encoder.pending.any()


def test_an_update_costs_less_than_a_150th_of_the_float_model() -> None:
    for sizes in [(784 * 256, 256, 256 * 128, 128, 1280, 10), (64 * 128, 128, 128 * 64, 64, 640, 10)]:
        layout = Layout(tuple(TensorSpec(str(i), (size,), "float32") for i, size in enumerate(sizes)))
        parts = Encoder(layout, (-24,) * len(sizes)).encode(numbers(3, layout.size), 0.25).parts
        assert sum(map(len, parts)) < 4 * layout.size / 150


def test_large_updates_come_in_parts_within_the_limit() -> None:
    layout = Layout((TensorSpec("a", (1_300_000,), "float32"), TensorSpec("b", (5,), "float32")))
    encoder = Encoder(layout, (-24, -24), CodecSettings(density=1.0))
    encoder.accumulate(numbers(0, layout.size), 1.0)
    before = encoder.pending.astype(np.int64)
    parts = encoder.emit().parts
    assert len(parts) > 1
    assert max(map(len, parts)) <= PART_LIMIT
    assert (dense(layout, parts) + encoder.pending == before).all()
    assert encoder.statistics().bytes == sum(map(len, parts))
    assert encoder.statistics().entries == np.count_nonzero(before)


def test_pending_saturates_without_wrapping() -> None:
    encoder = Encoder(FLAT, (-24,), CodecSettings(beta=1.0, mu=0.0))
    for _ in range(2):
        encoder.accumulate(np.full(FLAT.size, 1e9, np.float32), 1.0)
    assert (encoder.pending == 2**30).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
def test_the_encoder_refuses_what_is_not_finite_and_stays_as_it_was(bad: float) -> None:
    encoder = Encoder(FLAT, (-24,))
    encoder.encode(numbers(0, FLAT.size), 0.5)
    before = {name: values.copy() for name, values in encoder.state().items()}
    delta = numbers(1, FLAT.size)
    delta[77] = bad
    with pytest.raises(CodecError, match="finite"):
        encoder.encode(delta, 0.5)
    with pytest.raises(CodecError, match="share"):
        encoder.encode(numbers(1, FLAT.size), float("nan"))
    assert all((before[name] == values).all() for name, values in encoder.state().items())


def test_state_continues_to_the_bit() -> None:
    one, other = Encoder(FLAT, (-24,)), Encoder(FLAT, (-24,))
    one.encode(numbers(0, FLAT.size), 0.5)
    other.load_state(one.state())
    assert one.encode(numbers(1, FLAT.size), 0.5) == other.encode(numbers(1, FLAT.size), 0.5)
    with pytest.raises(CodecError, match="another model"):
        Encoder(Layout((TensorSpec("w", (5,), "float32"),)), (-24,)).load_state(one.state())


@pytest.mark.parametrize(
    "bad", [{"density": 0.0}, {"density": 1.1}, {"mu": 1.0}, {"beta": -0.1}, {"lr_outer": 0.0}, {"least": 0}]
)
def test_codecsout_of_range(bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="out of range"):
        CodecSettings(**bad)


# --- strangers' bytes ------------------------------------------------------------------------------------------------


def check(layout: Layout, part: bytes) -> None:
    """The promise of `decode_part` for any bytes: `CodecError`, or entries in order and inside the model."""
    try:
        decoded = decode_part(layout, part)
    except CodecError:
        return
    index, delta = decoded.index, decoded.delta()
    assert len(index) == len(delta)
    assert (np.diff(index, prepend=-1) > 0).all()
    assert len(index) == 0 or index[-1] < layout.size
    assert delta.all()


@given(layouts(), st.binary(max_size=200))
def test_any_bytes(layout: Layout, part: bytes) -> None:
    check(layout, part)


@given(
    layouts(),
    st.integers(0, 2) | st.just(1),
    st.integers(0, 30),
    st.integers(0, 6),
    st.integers(0, 6) | st.just(2**32 - 1),
    st.integers(0, 40) | st.just(2**32 - 1),
    st.binary(max_size=60),
)
def test_any_header(layout: Layout, version: int, rice: int, first: int, chunks: int, n: int, rest: bytes) -> None:
    check(layout, struct.pack("<BBIII", version, rice, first, chunks, n) + rest)


@given(st.data())
def test_mutated_parts(data: st.DataObject) -> None:
    layout = data.draw(layouts())
    part = bytearray(data.draw(updates(layout))[0])
    for _ in range(data.draw(st.integers(1, 3))):
        part[data.draw(st.integers(0, len(part) - 1))] = data.draw(st.integers(0, 255))
    check(layout, bytes(part))
    check(layout, bytes(part[: data.draw(st.integers(0, len(part)))]))
    check(layout, bytes(part) + data.draw(st.binary(max_size=3)))


@given(st.data())
def test_a_part_has_one_spelling(data: st.DataObject) -> None:
    """Appended bytes, cut bytes and set padding bits are refused, so that equal updates with unequal CIDs are rare."""
    layout = data.draw(layouts())
    part, (index, _) = data.draw(updates(layout))
    if len(part) >= PART_LIMIT:
        return
    for other in (part + b"\0", part + b"\xff", part[:-1]):
        with pytest.raises(CodecError):
            decode_part(layout, other)
    if len(index) % 8:
        chunks = HEADER.unpack_from(part)[3]
        signs_end = HEADER.size + 4 * chunks + -(-len(index) // 8)
        padded = bytearray(part)
        padded[signs_end - 1] |= 0x80
        with pytest.raises(CodecError, match="padded"):
            decode_part(layout, bytes(padded))


@pytest.mark.parametrize("rest", [b"\0", b"\xff", b"\x55"])
@pytest.mark.parametrize(("rice", "n"), [(0, 2**32 - 1), (24, 2**32 - 1), (0, 1_000_000), (24, 80_000), (1, 700_000)])
def test_memory_is_bounded_by_the_length(rest: bytes, rice: int, n: int) -> None:
    part = struct.pack("<BBIII", 1, rice, 0, 3, n).ljust(PART_LIMIT, rest)
    tracemalloc.start()
    try:
        check(FLAT, part)
        assert tracemalloc.get_traced_memory()[1] < 200 * PART_LIMIT
    finally:
        tracemalloc.stop()


def test_bounds_on_each_field() -> None:
    def part(
        *,
        version: int = 1,
        rice: int = 0,
        first: int = 0,
        scales: tuple[int, ...] = (5,),
        n: int = 1,
        rest: bytes = b"\0\0",
    ) -> bytes:
        return struct.pack(f"<BBIII{len(scales)}I", version, rice, first, len(scales), n, *scales) + rest

    decoded = decode_part(FLAT, part())
    assert decoded.index.tolist() == [0] and decoded.delta().tolist() == [5]
    assert decode_part(FLAT, part(first=2, scales=(5,), rest=b"\1\0")).delta().tolist() == [-5]
    outside = part(first=2, rest=b"\0" + b"\xff" * ((10_000 - 2 * CHUNK) // 8) + b"\0")
    for bad, why in {
        part(version=2): "format 2",
        part(rice=25): "Rice",
        part(first=3): "out of range",
        part(scales=()): "out of range",
        part(scales=(5, 0, 0, 0)): "out of range",
        part(scales=(2**31,)): "scale",
        part(scales=(0,)): "no scale",
        part(scales=(5, 5)): "no entries",
        part(n=0): "fill",
        part(n=9): "shorter|fill",
        part(n=17): "shorter|fill",
        part(rest=b"\2\0"): "padded",
        part(rest=b"\0\2"): "fill",
        part(rest=b"\0\xff"): "fill",
        outside: "outside",
        bytes(PART_LIMIT + 1): "bytes",
        b"": "bytes",
    }.items():
        with pytest.raises(CodecError, match=why):
            decode_part(FLAT, bad)
