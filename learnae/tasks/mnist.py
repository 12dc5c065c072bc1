"""The task ``mnist``: 70,000 handwritten digits, 28 x 28 pixels, from files that the user has."""

from __future__ import annotations

from typing import ClassVar

from learnae.tasks.idx import IdxTask


class Mnist(IdxTask):
    """MNIST (LeCun, Cortes and Burges 1998)."""

    name: ClassVar[str] = "mnist"
    title: ClassVar[str] = "MNIST"
