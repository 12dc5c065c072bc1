"""The layout of a model: which tensors its flat vector of shared weights is made of; used by nearly everything.

Pure Python, so that the daemon can compare layouts without loading numpy or torch.
"""

from __future__ import annotations

import hashlib
import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Final

import cbor2

from learnae.errors import LayoutError, WireError

CHUNK: Final = 4096
"""Weights per chunk of an update. A chunk never crosses from one tensor into the next: units differ per tensor."""

FLOATS: Final = ("float32", "float16", "bfloat16", "float64")
"""Data types of the tensors that can be shared."""

MAX_TENSORS: Final = 100_000
MAX_NAME: Final = 512
MAX_DIMENSIONS: Final = 16
MAX_SIZE: Final = 2**36
MAX_DIFFERENCES: Final = 20


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One tensor: its dotted name, its shape and its data type, such as ``float32``."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    def __str__(self) -> str:
        return f"{self.shape} {self.dtype}"


@dataclass(frozen=True)
class Layout:
    """The tensors that a swarm shares, in the order of the flat vector.

    ``tensors`` take part: floating-point parameters that require a gradient, tied ones once. ``local`` ones are listed
    for people and stay on their node (buffers such as BatchNorm statistics, integer counters, frozen parameters); they
    belong neither to the fingerprint nor to the wire form, and two layouts that differ only there are equal.

    Raises `LayoutError` when there is nothing to share, or a tensor occurs twice or has a data type not in `FLOATS`.
    """

    tensors: tuple[TensorSpec, ...]
    local: tuple[TensorSpec, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        if len({tensor.name for tensor in self.tensors}) != len(self.tensors):
            raise LayoutError(
                "two tensors of the model have the same name: give every parameter a name of its own",
                code="model-unshareable",
            )
        for tensor in self.tensors:
            if tensor.dtype not in FLOATS:
                raise LayoutError(
                    f"tensor {tensor.name!r} is {tensor.dtype}, which cannot be shared: "
                    f"convert it to one of {', '.join(FLOATS)}, or freeze it to keep it local",
                    code="model-unshareable",
                )
        if not 0 < self.size <= MAX_SIZE:
            raise LayoutError(
                f"the model has {self.size} trainable floating-point weights to share; 1 to {MAX_SIZE} are possible",
                code="model-size",
            )

    @cached_property
    def size(self) -> int:
        """Number of shared weights, the length D of the flat vector."""
        return sum(tensor.size for tensor in self.tensors)

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """Where each tensor begins in the flat vector."""
        return tuple(accumulate((tensor.size for tensor in self.tensors), initial=0))[:-1]

    @cached_property
    def fingerprint(self) -> bytes:
        """SHA-256 (32 bytes) of the canonical CBOR of `to_wire`: equal exactly for layouts that can train together."""
        return hashlib.sha256(cbor2.dumps(self.to_wire(), canonical=True)).digest()

    @cached_property
    def boundaries(self) -> array[int]:
        """Chunk i covers the weights from ``boundaries[i]`` up to ``boundaries[i + 1]`` (64-bit integers)."""
        starts = array("q")
        for offset, tensor in zip(self.offsets, self.tensors, strict=True):
            starts.extend(range(offset, offset + tensor.size, CHUNK))
        starts.append(self.size)
        return starts

    def chunks(self) -> Sequence[tuple[int, int]]:
        """Start and stop of every chunk, in order: together they tile the flat vector."""
        return tuple(pairwise(self.boundaries))

    def differences(self, other: Layout) -> list[str]:
        """What keeps ``other`` (a peer's layout) from training with this one: lines for people, empty if nothing does.

        At most `MAX_DIFFERENCES` lines, and one more that counts the rest. Names are quoted, hence safe to print.
        """
        here = {tensor.name: tensor for tensor in self.tensors}
        there = {tensor.name: tensor for tensor in other.tensors}
        lines = []
        for name, mine in here.items():
            theirs = there.get(name)
            if theirs != mine:
                lines.append(f"tensor {name!r}: here {mine}, there {theirs or 'missing'}")
        lines += [
            f"tensor {name!r}: here missing, there {theirs}" for name, theirs in there.items() if name not in here
        ]
        if not lines and self.tensors != other.tensors:
            lines.append("the same tensors in another order: define the layers of both models in one order")
        if len(lines) > MAX_DIFFERENCES:
            lines[MAX_DIFFERENCES:] = [f"... and {len(lines) - MAX_DIFFERENCES} more"]
        return lines

    def to_wire(self) -> list[list[object]]:
        """The shared tensors as plain lists for CBOR: ``[[name, [dimension, ...], dtype], ...]``."""
        return [[tensor.name, list(tensor.shape), tensor.dtype] for tensor in self.tensors]

    @classmethod
    def from_wire(cls, obj: object) -> Layout:
        """The layout that `to_wire` described. Raises `WireError` on anything else, whatever it is."""
        if not isinstance(obj, list) or len(obj) > MAX_TENSORS:
            raise WireError(f"a layout must be a list of at most {MAX_TENSORS} tensors")
        try:
            return cls(tuple(_tensor_from_wire(item) for item in obj))
        except LayoutError as error:
            raise WireError(f"a layout that cannot be: {error}") from error


def _tensor_from_wire(obj: object) -> TensorSpec:
    match obj:
        case [str(name), list(shape), str(dtype)] if (
            len(name) <= MAX_NAME
            and name.isprintable()  # It may end on a user's terminal.
            and len(shape) <= MAX_DIMENSIONS
            and all(type(dimension) is int and 0 <= dimension <= MAX_SIZE for dimension in shape)
            and dtype in FLOATS
        ):
            return TensorSpec(name, tuple(shape), dtype)
    raise WireError("a tensor of a layout must be [name, [dimension, ...], dtype] within the limits")
