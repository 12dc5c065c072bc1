"""The task ``image-folders``: the user's own pictures, sorted into one folder for each class."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from learnae.errors import DataError
from learnae.tasks.convolutional import convolutional
from learnae.tasks.images import Images, ImageTask

ENDINGS: Final = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
CLASSES: Final = "classes.txt"


class ImageFolders(ImageTask):
    """``DIR/cat/1.jpg``, ``DIR/dog/2.png``: the folders' names are the classes, each picture is scaled to 32 x 32.

    All nodes of a swarm need the same classes in the same order: the sorted names of the folders, or the lines of
    ``DIR/classes.txt`` for nodes that have pictures of some of them only. One picture in ten, by the hash of its path,
    is held out. Needs Pillow. Raises `DataError` if pictures or classes are missing.
    """

    name: ClassVar[str] = "image-folders"
    slot_seconds: ClassVar[float] = 10.0
    batch: ClassVar[int] = 32
    white: ClassVar[float] = 255.0
    size: ClassVar[int] = 32
    """Pixels of a side, a multiple of 4."""

    def model(self) -> nn.Module:
        """A convolutional network of six layers."""
        return convolutional(self.size, len(self.classes))

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """SGD with momentum."""
        return torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4, fused=True)

    @property
    def root(self) -> Path:
        """The folder of folders."""
        if self.directory is None or not self.directory.is_dir():
            where = "" if self.directory is None else f"{self.directory} is no directory: "
            raise DataError(
                f"{where}give the directory that holds a folder of pictures for each class with --data or LEARNAE_DATA",
                code="data-missing",
            )
        return self.directory

    @cached_property
    def classes(self) -> list[str]:
        """Their names, in the order of the model's outputs."""
        listed = self.root / CLASSES
        if listed.is_file():
            names = [line.strip() for line in listed.read_text(encoding="utf-8").splitlines() if line.strip()]
        else:
            names = sorted(path.name for path in self.root.iterdir() if path.is_dir() and not path.name.startswith("."))
        if len(names) < 2 or len(set(names)) < len(names):
            raise DataError(
                f"{self.root} has {len(set(names))} classes: make one folder of pictures for each, at least two, or "
                f"write the names into {CLASSES}, a line each",
                code="data-missing",
            )
        return names

    def load(self, train: bool) -> Images:
        """Read the pictures that are, or are not, held out."""
        found = [(path, label) for path, label in self._pictures() if (train is not self._held_out(path))]
        if not found:
            part = "to train with" if train else "that is held out"
            raise DataError(
                f"{self.root} has no picture {part}: put at least twenty into each folder ({', '.join(ENDINGS)})",
                code="data-missing",
            )
        pixels = np.stack([_read(path, self.size) for path, _ in found])
        return Images(pixels, np.array([label for _, label in found], np.int64))

    def _pictures(self) -> Iterator[tuple[Path, int]]:
        for label, name in enumerate(self.classes):
            for path in sorted((self.root / name).rglob("*")):
                if path.suffix.lower() in ENDINGS:
                    yield path, label

    def _held_out(self, path: Path) -> bool:
        return hashlib.sha256(path.relative_to(self.root).as_posix().encode()).digest()[0] < 26


def _read(path: Path, size: int) -> NDArray[np.uint8]:
    """Red, green and blue of a picture, uint8[3 * size * size]."""
    try:
        from PIL import Image
    except ImportError as error:
        raise DataError(
            "pictures are read with Pillow, which is missing: pip install 'learnae[images]'", code="data-missing"
        ) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as picture:
                small: Any = picture.convert("RGB").resize((size, size))
    except (OSError, ValueError, Warning, Image.DecompressionBombError) as error:
        raise DataError(f"{path} cannot be read ({error}): remove it or convert it", code="data-damaged") from error
    return np.asarray(small, np.uint8).transpose(2, 0, 1).reshape(-1)
