"""Small grey pictures in IDX files, as MNIST and its successors are handed out; base of `fashion` and `mnist`."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from learnae.errors import DataError
from learnae.tasks.images import Images, ImageTask, perceptron


class IdxTask(ImageTask):
    """28 x 28 pixels in ten classes, from four files in ``--data``, else in ``LEARNAE_DATA``, else in ``system``.

    A file may be gzipped, with or without the ending ``.gz``.
    """

    slot_seconds: ClassVar[float] = 2.0
    round_steps: ClassVar[int | None] = 50
    batch: ClassVar[int] = 32
    white: ClassVar[float] = 255.0
    title: ClassVar[str]
    """What people call the set."""
    system: ClassVar[Path | None] = None
    """Where a package of the system puts the files, and ``package``, its name."""
    package: ClassVar[str | None] = None

    def model(self) -> nn.Module:
        """A perceptron, 784-256-128-10. 235,146 weights."""
        return perceptron(784, 256, 128, 10)

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """SGD with momentum."""
        return torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, fused=True)

    def load(self, train: bool) -> Images:
        """Read the two files of the training or of the held-out set."""
        given = self.directory or self.system
        if given is None:
            raise DataError(f"where is {self.title}? {self._hint()}", code="data-missing")
        part = "train" if train else "t10k"
        images = self._read(given, f"{part}-images-idx3-ubyte", 3)
        labels = self._read(given, f"{part}-labels-idx1-ubyte", 1)
        if len(images) != len(labels) or images.shape[1:] != (28, 28) or labels.max(initial=0) > 9:
            raise DataError(
                f"the files {part}-* in {given} are not those of {self.title}: fetch them again", code="data-damaged"
            )
        return Images(images.reshape(len(images), -1), labels.astype(np.int64))

    def _read(self, directory: Path, name: str, dimensions: int) -> NDArray[np.uint8]:
        """The bytes in one IDX file with that many dimensions."""
        path = next((p for p in (directory / f"{name}.gz", directory / name) if p.is_file()), None)
        if path is None:
            raise DataError(f"{directory / name}.gz is missing: {self._hint()}", code="data-missing")
        try:
            content = path.read_bytes()
            if content[:2] == b"\x1f\x8b":
                content = gzip.decompress(content)
        except (OSError, EOFError) as error:
            raise DataError(f"{path} cannot be read ({error}): fetch it again", code="data-damaged") from error
        header = struct.Struct(f">HBB{dimensions}I")
        if len(content) >= header.size:
            zero, kind, rank, *shape = header.unpack_from(content)
            if (zero, kind, rank) == (0, 8, dimensions) and len(content) == header.size + int(np.prod(shape)):
                return np.frombuffer(content, np.uint8, offset=header.size).reshape(shape)
        raise DataError(f"{path} is not an IDX file of {dimensions} dimensions: fetch it again", code="data-damaged")

    def _hint(self) -> str:
        package = f"install the Debian package {self.package}, or " if self.package else ""
        return (
            f"{package}give a directory that holds the four *-ubyte.gz files of {self.title} with --data or "
            "LEARNAE_DATA"
        )
