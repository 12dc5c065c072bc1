"""The demo's control: every shard trained alone, as many steps as its node made in the swarm; used by `course`.

The work is done by `alone`, in processes of their own, one a core: the demo itself never loads torch.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass

import trio

from learnae.errors import TrainerError


@dataclass(frozen=True, slots=True)
class Comparison:
    """Accuracy (a fraction) of every shard trained alone, None where unknown, and the model's float weights."""

    accuracies: tuple[float | None, ...]
    weights: int | None


async def compare(command: Sequence[str], task: str, skew: float, seed: int, steps: Sequence[int]) -> Comparison:
    """Train shard i alone for `steps[i]` steps. Cancelled, it ends its processes.

    Raises:
        TrainerError: a process failed; with the end of what it said.
    """
    accuracies: list[float | None] = [None] * len(steps)
    weights: int | None = None
    workers = min(len(steps), os.cpu_count() or 1)

    async def work(first: int) -> None:
        nonlocal weights
        shards = range(first, len(steps), workers)
        flags = ["--task", task, "--count", str(len(steps)), "--skew", str(skew), "--seed", str(seed)]
        # One thread each: on models this small, more of them only wait for one another.
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        result = await trio.run_process(
            [*command, *flags, *(f"{shard}:{steps[shard]}" for shard in shards)],
            env=environment,
            capture_stdout=True,
            capture_stderr=True,
            check=False,
        )
        if result.returncode != 0:
            tail = "\n".join(result.stderr.decode(errors="replace").splitlines()[-5:])
            raise TrainerError(
                f"training alone failed with exit code {result.returncode}:\n{tail}", code="trainer-failed"
            )
        answer = json.loads(result.stdout)
        weights = int(answer["weights"])
        for shard, accuracy in zip(shards, answer["accuracies"], strict=True):
            accuracies[shard] = accuracy

    async with trio.open_nursery() as nursery:
        for first in range(workers):
            nursery.start_soon(work, first)
    return Comparison(tuple(accuracies), weights)
