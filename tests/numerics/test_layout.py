from __future__ import annotations

from dataclasses import replace
from typing import Any

import cbor2
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from learnae.errors import LayoutError, WireError
from learnae.layout import CHUNK, MAX_DIFFERENCES, MAX_SIZE, MAX_TENSORS, Layout, TensorSpec
from tests.numerics.samples import layouts

FC1 = TensorSpec("fc1.weight", (64, 64), "float32")
FC2 = TensorSpec("fc2.weight", (10, 64), "float32")


def test_offsets_and_size() -> None:
    layout = Layout((FC1, TensorSpec("scalar", (), "float16"), TensorSpec("empty", (0, 3), "float32"), FC2))
    assert layout.offsets == (0, 4096, 4097, 4097)
    assert layout.size == 4096 + 1 + 640


@given(layouts())
def test_chunks_tile_the_vector_within_tensors(layout: Layout) -> None:
    chunks = layout.chunks()
    assert [start for start, _ in chunks] == [0, *(stop for _, stop in chunks[:-1])]
    assert chunks[-1][1] == layout.size
    assert all(0 < stop - start <= CHUNK for start, stop in chunks)
    assert set(layout.offsets) <= {start for start, _ in chunks}


def test_the_fingerprint_is_fixed_for_ever() -> None:
    """Peers of other versions compare it: a change splits every swarm."""
    assert Layout((FC1, FC2)).fingerprint.hex() == "40635d015e8254ef106e8851856a3d15bbfa252f3dcf176508bd6cbff7cf6995"


def test_the_fingerprint_sees_everything_shared_and_nothing_local() -> None:
    layout = Layout((FC1, FC2))
    others = [
        Layout((FC2, FC1)),
        Layout((FC1,)),
        Layout((replace(FC1, name="fc0.weight"), FC2)),
        Layout((replace(FC1, shape=(4096,)), FC2)),
        Layout((replace(FC1, dtype="bfloat16"), FC2)),
    ]
    assert len({layout.fingerprint, *(other.fingerprint for other in others)}) == 6
    with_buffers = Layout((FC1, FC2), (TensorSpec("bn.running_mean", (64,), "float32"),))
    assert with_buffers.fingerprint == layout.fingerprint
    assert with_buffers == layout


def test_differences_name_tensor_and_shapes() -> None:
    here = Layout((FC1, FC2))
    there = Layout((replace(FC1, shape=(32, 64)), TensorSpec("fc3.bias", (5,), "float32")))
    assert here.differences(there) == [
        "tensor 'fc1.weight': here (64, 64) float32, there (32, 64) float32",
        "tensor 'fc2.weight': here (10, 64) float32, there missing",
        "tensor 'fc3.bias': here missing, there (5,) float32",
    ]


def test_differences_tell_another_order_and_nothing_for_equals() -> None:
    assert "another order" in Layout((FC1, FC2)).differences(Layout((FC2, FC1)))[0]
    assert Layout((FC1, FC2)).differences(Layout((FC1, FC2))) == []


def test_differences_are_few_and_safe_to_print() -> None:
    hostile = Layout(tuple(TensorSpec(f"\x1b[2J\n{i}", (1,), "float32") for i in range(500)))
    lines = Layout((FC1,)).differences(hostile)
    assert len(lines) == MAX_DIFFERENCES + 1
    assert lines[-1] == f"... and {501 - MAX_DIFFERENCES} more"
    assert all(line.isprintable() for line in lines)


@given(layouts())
def test_wire_round_trip(layout: Layout) -> None:
    assert Layout.from_wire(cbor2.loads(cbor2.dumps(layout.to_wire()))) == layout


good = ["fc1.weight", [64, 64], "float32"]


@pytest.mark.parametrize(
    "obj",
    [
        None,
        {},
        [],
        b"",
        [good] * (MAX_TENSORS + 1),
        [good, good],
        [["a", [0], "float32"]],
        [["a" * 600, [1], "float32"]],
        [["a\x1b[2J", [1], "float32"]],
        [["a\n", [1], "float32"]],
        [["\u202ea", [1], "float32"]],
        [[b"a", [1], "float32"]],
        [["a", [1], "complex64"]],
        [["a", [-1], "float32"]],
        [["a", [True], "float32"]],
        [["a", [1.0], "float32"]],
        [["a", 1, "float32"]],
        [["a", [1] * 17, "float32"]],
        [["a", [MAX_SIZE, MAX_SIZE], "float32"]],
        [["a", [1]]],
        [["a", [1], "float32", None]],
    ],
)
def test_from_wire_refuses_what_cannot_be(obj: object) -> None:
    with pytest.raises(WireError):
        Layout.from_wire(obj)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)


@given(anything | st.lists(st.tuples(st.text(), st.lists(st.integers()), st.text()).map(list)))
@example([["w", [3], "float32"]])
def test_from_wire_raises_wire_errors_only(obj: Any) -> None:
    try:
        layout = Layout.from_wire(obj)
    except WireError:
        return
    assert layout.to_wire() == obj


def test_a_layout_needs_weights_with_names_of_their_own_and_a_known_type() -> None:
    with pytest.raises(LayoutError, match="0 trainable"):
        Layout(())
    with pytest.raises(LayoutError, match="same name"):
        Layout((FC1, FC1))
    with pytest.raises(LayoutError, match="float8_e5m2, which cannot be shared"):
        Layout((TensorSpec("w", (1,), "float8_e5m2"),))
