"""What do updates cost to make and to apply? `python -m benchmarks.codec`.

One thread, models of many equal layers, heavy-tailed pseudo-gradients. Encoding is what follows a round's local steps;
applying is what a receiver does: decode, check the claimed norm, add to the replica and to the model in training.
`torch.topk` of the same density, over the whole vector and over chunks, stands beside it, timed in the same run.
"""

from __future__ import annotations

import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from statistics import median
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from benchmarks.report import Report, arguments
from learnae.codec import CodecSettings, Encoder
from learnae.layout import CHUNK
from learnae.learner import Learner
from learnae.rules import FULL
from learnae.task import Shard, Task

DENSITY = CodecSettings().density
SHARE = 0.125


class Layers(Task):
    """A model to hold, not to train: square layers with biases, some `size` weights in all."""

    name: ClassVar[str] = "layers"

    def __init__(self, size: int) -> None:
        super().__init__()
        width = 1024 if size < 50_000_000 else 2048
        self.shape = (max(1, round(size / (width * width))), width)

    def model(self) -> nn.Module:
        count, width = self.shape
        return nn.Sequential(*(nn.Linear(width, width) for _ in range(count)))

    def batches(self, shard: Shard, seed: int) -> Iterator[Any]:
        return iter(())

    def loss(self, model: nn.Module, batch: Any) -> torch.Tensor:
        raise NotImplementedError

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        return {}


def gradients(size: int, seed: int) -> NDArray[np.float32]:
    """A pseudo-gradient float32[size] with heavy tails, of the usual magnitude."""
    values = np.random.default_rng(seed).standard_normal(size, np.float32)
    values *= np.abs(values)
    values *= np.float32(1e-3)
    return values


def seconds(work: Callable[[], object], times: int) -> float:
    """Median duration, after one run that does not count."""
    work()
    durations = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        durations.append(time.perf_counter() - began)
    return median(durations)


def peak_vectors(work: Callable[[], object], size: int) -> float:
    """Most memory that `work` takes while it runs, in float32 vectors of this size."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1] / (4 * size)
    finally:
        tracemalloc.stop()


def measure(parameters: int, times: int) -> dict[str, float | int]:
    """All figures for a model of about this many parameters; times in nanoseconds for each of them."""
    learner = Learner(Layers(parameters), Shard())
    size = learner.layout.size
    encoder = Encoder(learner.layout, learner.exponents)
    delta = gradients(size, 1)
    encode = seconds(lambda: encoder.encode(delta, SHARE), times)
    memory = peak_vectors(lambda: encoder.encode(delta, SHARE), size)
    before = encoder.statistics()
    parts, norm = encoder.encode(delta, SHARE)
    after = encoder.statistics()

    payload = learner.payload(norm, parts)
    if payload.void is not None:
        raise AssertionError(f"an update that the encoder made is void: {payload.void}")
    decode = seconds(lambda: learner.payload(norm, parts), times)
    add = seconds(lambda: learner.apply(payload, 1), times)
    clipped = seconds(lambda: learner.apply(learner.payload(norm, parts), 1, FULL // 3), times)

    magnitude = torch.from_numpy(np.abs(delta))
    kept = round(DENSITY * size)
    whole = seconds(lambda: torch.topk(magnitude, kept, sorted=False), max(1, times // 2))
    rows = magnitude[: size // CHUNK * CHUNK].view(-1, CHUNK)
    chunked = seconds(lambda: torch.topk(rows, round(DENSITY * CHUNK), dim=1, sorted=False), max(1, times // 2))
    scale = 1e9 / size
    return {
        "parameters": size,
        "encode": encode * scale,
        "decode": decode * scale,
        "add": add * scale,
        "decode + add": (decode + add) * scale,
        "with a ratio": clipped * scale,
        "topk": whole * scale,
        "topk of chunks": chunked * scale,
        "extra vectors": memory,
        "bytes per entry": (after.bytes - before.bytes) / (after.entries - before.entries),
        "parts": len(parts),
    }


def main(given: Sequence[str] | None = None) -> int:
    """Run, print, compare with the targets."""
    options = arguments(__doc__ or "", given)
    torch.set_num_threads(1)
    report = Report("codec", options)
    models, times = ((1_000_000, 10_000_000), 5) if options.quick else ((10_000_000, 100_000_000), 7)
    rows = []
    for parameters in models:
        report.note(f"{parameters / 1e6:.0f} M parameters")
        rows.append(measure(parameters, times))
    report.table(f"density {DENSITY:.0%}, one thread, ns per parameter, median of {times}", rows)
    for row in rows:
        name = f"{row['parameters'] / 1e6:.0f} M"
        report.target(f"{name}: encode, per parameter", row["encode"], "at most", 15.0, "ns")
        report.target(f"{name}: decode and apply, per parameter", row["decode + add"], "at most", 2.0, "ns")
        report.target(f"{name}: memory of encode, float32 vectors", row["extra vectors"], "at most", 2.0)
        report.target(f"{name}: bytes per kept entry", row["bytes per entry"], "at most", 1.1)
    return report.close()


if __name__ == "__main__":
    sys.exit(main())
