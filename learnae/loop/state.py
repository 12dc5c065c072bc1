"""`StateCopy`: what a restart of a script needs, copied while the training goes on; for `LiveWeights` and `Keeper`.

What torch holds is kept as a structure, in which tensors without values stand for the large ones, and these apart: so
they are copied once, and written without Python's lock.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

if TYPE_CHECKING:
    from learnae.loop.weights import LiveWeights

State = dict[str, NDArray[Any]]

_SLICE: Final = 2**21
"""Bytes that are copied at a time."""
_SMALL: Final = 2**12
"""Bytes of a tensor that is kept in its place."""
_ALIGNED: Final = 64
_STRUCTURE, _TENSOR = "torch", "torch."


class StateCopy:
    """A copy of the state of ``weights``, to be made in three strides.

    `make_room`, beside the training: fresh memory costs far more than copying. `fill`, as work between steps: the
    swarm's vectors, which nothing changes meanwhile, slice by slice; last and at once what each step changes, the
    parameters and the optimisers' state. That is a fraction of what a step of the optimiser takes. Then `arrays`.
    """

    def __init__(self, weights: LiveWeights) -> None:
        self.arrays: State = {}
        self.begun = self.done = False
        self.seconds = 0.0
        """Of the processor, so far."""
        self._weights = weights
        tensors: list[torch.Tensor] = []
        _mapped(weights.local_state(), tensors.append)
        sizes = [array.nbytes for array in weights.vectors().values()]
        sizes += [tensor.nbytes for tensor in tensors if _apart(tensor)]
        self._size = sum(size + _ALIGNED for size in sizes)
        self._room = np.empty(0, np.uint8)
        self._used = 0

    def make_room(self) -> None:
        """Get the memory. May run beside the training."""
        began = time.thread_time()
        room = np.empty(self._size, np.uint8)
        room.fill(0)  # Now it is there.
        self._room = room
        self.seconds += time.thread_time() - began

    def fill(self) -> Iterator[None]:
        """Copy, slice by slice."""
        self.begun = True
        began = time.thread_time()
        for name, array in self._weights.vectors().items():
            copy = self._take(array.nbytes).view(array.dtype)
            self.arrays[name] = copy
            step = _SLICE // array.itemsize
            for start in range(0, len(array), step):
                copy[start : start + step] = array[start : start + step]
                self.seconds += time.thread_time() - began
                yield
                began = time.thread_time()
        self.arrays |= self._weights.numbers()
        apart: list[torch.Tensor] = []
        local = _mapped(self._weights.local_state(), lambda tensor: self._copied(tensor, apart))
        archive = io.BytesIO()
        torch.save(local, archive)
        self.arrays[_STRUCTURE] = np.frombuffer(archive.getvalue(), np.uint8)
        self.done = True
        self.seconds += time.thread_time() - began

    def _copied(self, tensor: torch.Tensor, apart: list[torch.Tensor]) -> torch.Tensor:
        if not _apart(tensor):
            return tensor.detach().clone()
        room = self._take(tensor.nbytes)
        torch.from_numpy(room).view(tensor.dtype).view(tensor.shape).copy_(tensor.detach())
        self.arrays[f"{_TENSOR}{len(apart)}"] = room
        apart.append(tensor)
        return torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")

    def _take(self, size: int) -> NDArray[np.uint8]:
        """So many bytes of the room, or of what is fresh, if it was made too small."""
        if self._used + size > len(self._room):
            return np.empty(size, np.uint8)
        found = self._room[self._used : self._used + size]
        self._used += -(-size // _ALIGNED) * _ALIGNED
        return found


def local_state(state: Mapping[str, NDArray[Any]]) -> Any:
    """What torch held, from the arrays of a copy. Raises anything if they are damaged."""
    structure = torch.load(io.BytesIO(state[_STRUCTURE].tobytes()), "cpu", weights_only=True)
    number = iter(range(len(state)))

    def whole(tensor: torch.Tensor) -> torch.Tensor:
        if not tensor.is_meta:
            return tensor
        found = np.array(state[f"{_TENSOR}{next(number)}"])
        return torch.from_numpy(found).view(tensor.dtype).view(tensor.shape)

    return _mapped(structure, whole)


def _apart(tensor: torch.Tensor) -> bool:
    """Whether it is kept apart: an ordinary one that is large."""
    plain = type(tensor) in (torch.Tensor, torch.nn.Parameter) and tensor.layout == torch.strided
    return plain and not tensor.is_quantized and tensor.nbytes > _SMALL


def _mapped(value: Any, change: Callable[[torch.Tensor], Any]) -> Any:
    """The same structure of dictionaries, lists and tuples, with each tensor changed."""
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return {key: _mapped(one, change) for key, one in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_mapped(one, change) for one in value)
    return value
