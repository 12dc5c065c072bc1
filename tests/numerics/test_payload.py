"""What a whole update adds: its exact norm, the claim about it, ratios, and what makes it void."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from learnae.codec import PART_LIMIT, Encoder, Payload, chunk_exponents, encode_part, root_up, squared_norm
from learnae.layout import CHUNK, Layout, TensorSpec
from learnae.rules import FULL
from tests.numerics.samples import layouts, numbers, updates

LAYOUT = Layout((TensorSpec("a", (2 * CHUNK + 5,), "float32"), TensorSpec("b", (3,), "float32")))
UNITS = chunk_exponents(LAYOUT, (-24, -20))


def gather(parts: list[bytes], claim: float | None = None) -> Payload:
    payload = Payload(LAYOUT, UNITS, claim)
    for part in parts:
        payload.add(part)
    return payload


def single(first: int, *, scale: int = 3, at: int = 0, negative: bool = False) -> bytes:
    """A part of one chunk with one entry."""
    index = np.array([LAYOUT.boundaries[first] + at])
    return encode_part(LAYOUT, first, np.array([scale], np.uint32), index, np.array([negative]))


def test_units_of_chunks() -> None:
    assert UNITS.tolist() == [-24, -24, -24, -20]
    hollow = Layout((TensorSpec("none", (0,), "float32"), TensorSpec("w", (CHUNK + 1,), "float32")))
    assert chunk_exponents(hollow, (1, 2)).tolist() == [2, 2]


@given(st.fractions(min_value=0, max_value=10**30) | st.builds(Fraction, st.integers(0, 2**130)))
def test_the_root_is_the_next_float_up(square: Fraction) -> None:
    root = root_up(square)
    assert Fraction(root) ** 2 >= square
    below = math.nextafter(root, -math.inf)
    assert root == 0 or Fraction(below) ** 2 < square


@pytest.mark.parametrize("exponent", [-240, -120, -48, 0, 96, 200])
@pytest.mark.parametrize("number", [1, 2, 3, 2**53 - 1, 2**53 + 1, 2**106 - 1, 2**106, 10**40])
def test_roots_of_large_and_small_numbers(number: int, exponent: int) -> None:
    exact = number * Fraction(2) ** exponent
    root = root_up(exact**2)
    assert Fraction(root) >= exact > Fraction(math.nextafter(root, 0.0))


@given(st.data())
def test_the_squared_norm_is_exact(data: st.DataObject) -> None:
    layout = data.draw(layouts())
    exponents = data.draw(st.lists(st.integers(-120, 96), min_size=len(layout.tensors), max_size=len(layout.tensors)))
    part, (index, delta) = data.draw(updates(layout))
    assume(len(part) <= PART_LIMIT)
    payload = Payload(layout, chunk_exponents(layout, exponents))
    payload.add(part)
    tensor = np.searchsorted(layout.offsets, index, side="right") - 1
    expected = sum(
        (int(d) * Fraction(2) ** exponents[t]) ** 2 for d, t in zip(delta.tolist(), tensor.tolist(), strict=True)
    )
    assert payload.square == expected


def test_the_largest_counts_and_scales_do_not_overflow() -> None:
    chunks = 2**16
    scales = np.full(chunks, 2**31 - 1, np.uint32)
    counts = np.full(chunks, CHUNK, np.int64)
    assert squared_norm(scales, counts, np.full(chunks, -1, np.int32)) == chunks * CHUNK * Fraction(2**31 - 1, 2) ** 2


def test_the_encoder_declares_the_norm_that_receivers_find() -> None:
    encoder = Encoder(LAYOUT, (-24, -20))
    for turn in range(3):
        parts, norm = encoder.encode(numbers(turn, LAYOUT.size), 0.25)
        assert gather(parts, norm).void is None
        assert gather(parts, math.nextafter(norm, 0.0)).void is not None
        weights = np.zeros(LAYOUT.size)
        for part in gather(parts).parts:
            units = np.repeat(2.0 ** UNITS[part.first : part.first + len(part.counts)], part.counts)
            weights[part.index] += part.delta() * units
        assert norm == pytest.approx(np.linalg.norm(weights), rel=1e-12)


def test_a_claim_is_checked_over_all_parts_together() -> None:
    claim = 5 * 2.0**-24  # 3 and 4 units of 2**-24
    parts = [single(0, scale=3), single(1, scale=4, negative=True)]
    assert gather(parts, claim).void is None
    assert "claims" in str(gather(parts, math.nextafter(claim, 0.0)).void)
    assert gather([single(3, scale=1)], 2.0**-20).void is None
    assert gather([single(3, scale=2)], 2.0**-20).void is not None
    assert gather([single(0)], 0.0).void is not None
    assert gather([], 0.0).void is None


@pytest.mark.parametrize(
    "parts",
    [
        [single(1), single(1, at=7)],
        [single(1), single(0)],
        [single(0), b"noise", single(1)],
        [single(0)[:-1]],
    ],
)
def test_what_makes_an_update_void(parts: list[bytes]) -> None:
    """Parts that overlap would add up to more than the sum of their squares says."""
    payload = gather(parts)
    assert payload.void is not None
    assert payload.parts == []
    payload.add(single(3))
    assert payload.parts == [], "nothing makes it whole again"


@given(st.data(), st.integers(0, FULL))
def test_a_ratio_shrinks_each_scale_and_rounds_down(data: st.DataObject, ratio: int) -> None:
    layout = data.draw(layouts())
    part, (index, delta) = data.draw(updates(layout))
    assume(len(part) <= PART_LIMIT)
    payload = Payload(layout, chunk_exponents(layout, [-24] * len(layout.tensors)))
    payload.add(part)
    (decoded,) = payload.parts
    shrunk = np.sign(delta) * ((np.abs(delta.astype(object)) * ratio) // FULL)
    assert (decoded.delta(ratio) == shrunk).all()
    assert (decoded.delta(FULL) == delta).all()
    assert not decoded.delta(0).any()
    assert (decoded.index == index).all()
