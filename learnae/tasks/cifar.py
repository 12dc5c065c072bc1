"""The task ``cifar-10``: 60,000 coloured pictures, 32 x 32 pixels, in ten classes, from files that the user has."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Final

import numpy as np
import torch
from torch import nn

from learnae.errors import DataError
from learnae.tasks.convolutional import convolutional
from learnae.tasks.images import Images, ImageTask

_PIXELS: Final = 3 * 32 * 32
_RECORD: Final = 1 + _PIXELS


class Cifar10(ImageTask):
    """CIFAR-10 (Krizhevsky 2009) in its binary version, whose files hold nothing but bytes; 289,194 weights.

    The version for Python is made of pickles, which may run any code, and is not read.
    """

    name: ClassVar[str] = "cifar-10"
    slot_seconds: ClassVar[float] = 10.0
    batch: ClassVar[int] = 64
    white: ClassVar[float] = 255.0

    def model(self) -> nn.Module:
        """A convolutional network of six layers."""
        return convolutional(32, 10)

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """SGD with momentum."""
        return torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4, fused=True)

    def load(self, train: bool) -> Images:
        """Read ``data_batch_1.bin`` to ``data_batch_5.bin``, or ``test_batch.bin``."""
        given = self.directory
        names = [f"data_batch_{number}.bin" for number in range(1, 6)] if train else ["test_batch.bin"]
        if given is None or not (given / names[0]).is_file():
            raise DataError(
                f"{names[0] if given is None else given / names[0]} is missing: give the directory with the *.bin "
                "files of CIFAR-10's binary version with --data or LEARNAE_DATA",
                code="data-missing",
            )
        rows = np.concatenate([_read(given / name) for name in names])
        return Images(rows[:, 1:], rows[:, 0].astype(np.int64))


def _read(path: Path) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    """The records of one file, uint8[n, 3073]: class, then red, green and blue."""
    try:
        content = np.fromfile(path, np.uint8)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error}): fetch it again", code="data-damaged") from error
    if not len(content) or len(content) % _RECORD or content[::_RECORD].max() > 9:
        raise DataError(f"{path} is no file of CIFAR-10's binary version: fetch it again", code="data-damaged")
    return content.reshape(-1, _RECORD)
