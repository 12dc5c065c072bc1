"""The task ``fashion-mnist``: 70,000 pictures of clothes, 28 x 28 pixels, in ten classes; for benchmarks."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from learnae.tasks.idx import IdxTask


class FashionMnist(IdxTask):
    """Fashion-MNIST (Xiao, Rasul and Vollgraf 2017, arXiv 1708.07747)."""

    name: ClassVar[str] = "fashion-mnist"
    title: ClassVar[str] = "Fashion-MNIST"
    system: ClassVar[Path | None] = Path("/usr/share/datasets/fashion-mnist")
    package: ClassVar[str | None] = "dataset-fashion-mnist"
