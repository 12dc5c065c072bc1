"""The task ``fashion-mnist``: 70,000 pictures of clothes, 28 x 28 pixels, in ten classes; for benchmarks."""

from __future__ import annotations

import gzip
import os
import struct
from pathlib import Path
from typing import ClassVar, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from learnae.errors import DataError
from learnae.tasks.images import Images, ImageTask, perceptron

SYSTEM: Final = Path("/usr/share/datasets/fashion-mnist")
"""Where the Debian package dataset-fashion-mnist puts the files."""


class FashionMnist(ImageTask):
    """Fashion-MNIST (Xiao, Rasul and Vollgraf 2017, arXiv 1708.07747). 235,146 weights."""

    name: ClassVar[str] = "fashion-mnist"
    slot_seconds: ClassVar[float] = 2.0
    round_steps: ClassVar[int | None] = 50
    batch: ClassVar[int] = 32
    white: ClassVar[float] = 255.0

    def model(self) -> nn.Module:
        """A perceptron, 784-256-128-10."""
        return perceptron(784, 256, 128, 10)

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """SGD with momentum."""
        return torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, fused=True)

    def load(self, train: bool) -> Images:
        """Read the two IDX files of the set from ``--data``, else ``LEARNAE_DATA``, else the Debian package."""
        chosen = self.data or (Path(os.environ["LEARNAE_DATA"]) if os.environ.get("LEARNAE_DATA") else SYSTEM)
        part = "train" if train else "t10k"
        images = _read_idx(chosen / f"{part}-images-idx3-ubyte.gz", 3)
        labels = _read_idx(chosen / f"{part}-labels-idx1-ubyte.gz", 1)
        if len(images) != len(labels) or images.shape[1:] != (28, 28) or labels.max(initial=0) > 9:
            raise DataError(
                f"the files {part}-* in {chosen} are not those of Fashion-MNIST: fetch them again", code="data-damaged"
            )
        return Images(images.reshape(len(images), -1), labels.astype(np.int64))


def _read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """A gzipped IDX file of bytes with that many dimensions."""
    try:
        content = gzip.decompress(path.read_bytes())
    except FileNotFoundError as error:
        raise DataError(
            f"{path} is missing: install the Debian package dataset-fashion-mnist, or give a directory that holds the "
            "four *-ubyte.gz files of Fashion-MNIST with --data or LEARNAE_DATA",
            code="data-missing",
        ) from error
    except (OSError, EOFError) as error:
        raise DataError(f"{path} cannot be read ({error}): fetch it again", code="data-damaged") from error
    header = struct.Struct(f">HBB{dimensions}I")
    if len(content) >= header.size:
        zero, kind, rank, *shape = header.unpack_from(content)
        if (zero, kind, rank) == (0, 8, dimensions) and len(content) == header.size + int(np.prod(shape)):
            return np.frombuffer(content, np.uint8, offset=header.size).reshape(shape)
    raise DataError(f"{path} is not an IDX file of {dimensions} dimensions: fetch it again", code="data-damaged")
