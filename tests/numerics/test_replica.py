from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from learnae.codec import decode_part
from learnae.errors import LayoutError
from learnae.layout import Layout, TensorSpec
from learnae.replica import Replica, unit_exponents
from tests.numerics.samples import layouts, updates

PAIR = Layout((TensorSpec("a", (3,), "float32"), TensorSpec("b", (2,), "float32")))


def apply(replica: Replica, part: bytes, sign: int = 1) -> None:
    decoded = decode_part(replica.layout, part)
    replica.apply(decoded.index, sign * decoded.delta())


def floats(*values: float) -> NDArray[np.float32]:
    return np.array(values, np.float32)


def test_units_follow_the_largest_weight() -> None:
    assert unit_exponents(PAIR, floats(0, 0, 0, 0, 0)) == (-24, -24)
    assert unit_exponents(PAIR, floats(0.5, -1, 0, 2, -1)) == (-24, -23)
    assert unit_exponents(PAIR, floats(0, 1.5, 0, 2.0001, 0)) == (-23, -22)
    assert unit_exponents(PAIR, floats(0, 0, 0, 0, 2.0**96)) == (-24, 72)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e38])
def test_units_refuse_weights_that_are_not_finite_or_too_large(bad: float) -> None:
    with pytest.raises(LayoutError, match="'b'"):
        unit_exponents(PAIR, floats(0, 0, 0, bad, 0))


@given(st.lists(st.floats(-(2.0**70), 2.0**70, width=32), min_size=5, max_size=5))
def test_a_replica_reads_back_its_genesis(values: list[float]) -> None:
    weights = floats(*values)
    exponents = unit_exponents(PAIR, weights)
    read = Replica.from_weights(PAIR, exponents, weights).read()
    units = np.repeat(2.0 ** np.array(exponents), (3, 2))
    assert (np.abs(read.astype(np.float64) - weights) <= units / 2).all()
    again = Replica.from_weights(PAIR, exponents, read)
    assert (again.read() == read).all()


def test_reading_is_the_exact_scaling_of_the_nearest_float() -> None:
    units = np.array([2**24 + 1, -(2**24 + 3), 2**31 - 1, -(2**31), 1], np.int32)
    replica = Replica(PAIR, (-24, 3), units)
    expected = floats(1.0, -(2.0**24 + 4) / 2**24, 128.0, -(2.0**34), 8.0)
    assert (replica.read() == expected).all()
    out = np.empty(5, np.float32)
    assert replica.read(out) is out
    assert (out == expected).all()


def test_from_weights_holds_what_exceeds_the_range_at_its_end() -> None:
    replica = Replica.from_weights(PAIR, (-24, -24), floats(1e9, -1e9, 128, 0, -128))
    assert replica.weights.tolist() == [2**31 - 1, 1 - 2**31, 2**31 - 1, 0, 1 - 2**31]


@settings(max_examples=50)
@given(st.data())
def test_updates_commute_to_the_bit(data: st.DataObject) -> None:
    """Any order gives the same bits, past the end of the range too, and taking an update out leaves the others."""
    layout = data.draw(layouts())
    parts = [data.draw(updates(layout))[0] for _ in range(4)]
    order = data.draw(st.permutations(parts))
    start = np.random.default_rng(data.draw(st.integers(0, 99))).integers(-(2**31), 2**31, layout.size, np.int32)
    exponents = (-24,) * len(layout.tensors)
    one, other, without = (Replica(layout, exponents, start.copy()) for _ in range(3))
    for part in parts:
        apply(one, part)
    for part in order:
        apply(other, part)
    assert one.digest() == other.digest()
    for part in parts[1:]:
        apply(without, part)
    apply(one, parts[0], -1)
    assert one.digest() == without.digest()


def test_sums_wrap() -> None:
    replica = Replica(PAIR, (-24, -24), np.array([2**31 - 1, 0, 0, 0, -(2**31)], np.int32))
    replica.apply(np.array([0, 4]), np.array([1, -1], np.int32))
    assert replica.weights.tolist() == [-(2**31), 0, 0, 0, 2**31 - 1]


def test_the_digest_is_that_of_little_endian_integers() -> None:
    replica = Replica(PAIR, (-24, -24), np.array([1, -1, 2, 0, 258], np.int32))
    expected = b"\1\0\0\0\xff\xff\xff\xff\2\0\0\0\0\0\0\0\2\1\0\0"
    assert replica.digest() == hashlib.sha256(expected).digest()


def test_headroom_and_alarms_name_the_tensor_near_its_limit() -> None:
    replica = Replica(PAIR, (-24, -24), np.array([0, 0, 0, 2**29, 0], np.int32))
    assert replica.headroom() == 0.75
    assert replica.alarms() == []
    replica.apply(np.array([4]), np.array([-(2**29) - 1], np.int32))
    assert replica.alarms() == ["b"]
    replica.apply(np.array([0]), np.array([-(2**31)], np.int32))
    assert replica.headroom() == 0.0
    statistics = replica.statistics()
    assert (statistics.weights, statistics.applied, statistics.alarms) == (5, 2, ("a", "b"))


@pytest.mark.parametrize(
    "build",
    [
        lambda: Replica(PAIR, (-24, -24), np.zeros(4, np.int32)),
        lambda: Replica(PAIR, (-24, -24), np.zeros(5, np.int64)),
        lambda: Replica(PAIR, (-24,), np.zeros(5, np.int32)),
        lambda: Replica(PAIR, (-24, 97), np.zeros(5, np.int32)),
        lambda: Replica(PAIR, (-24, -121), np.zeros(5, np.int32)),
    ],
)
def test_a_replica_must_fit_its_layout(build: Callable[[], Replica]) -> None:
    with pytest.raises(LayoutError):
        build()


def test_golden() -> None:
    """Fixed weights and updates in, fixed bits out: any change of the arithmetic, on any machine, shows here."""
    layout = Layout((TensorSpec("w", (100, 50), "float32"), TensorSpec("b", (50,), "float32")))
    weights = np.sin(np.arange(5050, dtype=np.float64)).astype(np.float32) * np.float32(3)
    weights.view(np.uint32)[:] &= 0xFFFFF000  # where sin differs between C libraries, it does so in the last bits
    exponents = unit_exponents(layout, weights)
    assert exponents == (-22, -22)
    replica = Replica.from_weights(layout, exponents, weights)
    assert replica.digest().hex() == "fd261f4bee9b0a90786028aa8153ae9c7f40c8c9baff8069fac56bf40bea14b0"
    for part in map(bytes.fromhex, GOLDEN_PARTS):
        apply(replica, part)
    assert replica.digest().hex() == "c1566715ede13c1e61a6436547eea8fbe97950524333dd142d951c53ae933674"
    assert (
        hashlib.sha256(replica.read().astype("<f4").tobytes()).hexdigest()
        == "89cf923028b2216c6236d4df3422b6dc1e0b8c5bf663dbe48f3e4f5bddbca1fc"
    )


GOLDEN_PARTS = [
    (
        "01060000000003000000330000004a3500001e4500002734000094e3fad0b55600de28c4002909f56a91535bbd89a3b599a9"
        "09252d65df9979781af94d0d71c13a43accbb51de002ba4bb910707f72b6cd64f86d4400"
    ),
    (
        "01060000000003000000330000002845000009440000f12900006c2caf8b452b006a45fc8fe8dc6b5caf6ce1481412671c25"
        "72c690cd7e79dcb9e530e2325cc0034aec094ceb930325925d4c75b833665efaf8c37200"
    ),
]
