"""A delay line in user space, one process for all nodes: run by `network` where the kernel has no netem.

::

    eth0 of a node (TAP) ──> this process, which waits ──> the node's port of the bridge (TAP), and back

Frames pass in order and unchanged, each held back by the latency of its node's link and a random jitter, or lost.
Imports nothing of the project: it starts in a moment. What to do comes as one line of JSON on standard input; when that
ends, so does this process.
"""

from __future__ import annotations

import contextlib
import heapq
import io
import json
import os
import random
import select
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

STOP = 0  # standard input
FRAME = 65536  # more than any
BATCH = 64  # frames read from one end before the others have their turn


@dataclass(slots=True)
class End:
    """What becomes of the frames that come out of one file descriptor."""

    out: int
    """Where they go."""
    latency: float
    """Seconds that each is held back."""
    jitter: float
    """Mean of the exponential addition."""
    loss: float
    """Part that is lost."""
    dice: random.Random
    last: float = 0.0
    """When the frame before leaves: none overtakes it, which TCP would take for a loss."""

    def due(self, now: float) -> float | None:
        """When a frame that came now leaves; None: it is lost."""
        if self.loss and self.dice.random() < self.loss:
            return None
        extra = self.dice.expovariate(1 / self.jitter) if self.jitter else 0.0
        self.last = max(self.last, now + self.latency + extra)
        return self.last


def ends(cables: Sequence[Mapping[str, Any]], seed: int) -> dict[int, End]:
    """Both directions of each cable, by the descriptor that frames are read from.

    Args:
        cables: ``node`` and ``port``, the descriptors of a cable's ends, and its ``latency``, ``jitter`` and ``loss``.
        seed: of what happens to the frames.
    """
    return {
        source: End(out, c["latency"], c["jitter"], c["loss"], random.Random(f"{seed} {number} {source == c['node']}"))
        for number, c in enumerate(cables)
        for source, out in ((c["node"], c["port"]), (c["port"], c["node"]))
    }


def carry(lines: Mapping[int, End]) -> None:
    """Pass frames on until standard input ends or the devices are gone."""
    held: list[tuple[float, int, int, bytes]] = []  # (when it leaves, number, where to, frame)
    sources = [STOP, *lines]
    number = 0
    while True:
        wait = max(0.0, held[0][0] - time.monotonic()) if held else None
        for source in select.select(sources, (), (), wait)[0]:
            if source == STOP:
                return
            end = lines[source]
            for _ in range(BATCH):
                try:
                    frame = os.read(source, FRAME)
                except BlockingIOError:
                    break
                except OSError:
                    return  # the namespace is being removed
                if (due := end.due(time.monotonic())) is not None:
                    number += 1
                    heapq.heappush(held, (due, number, end.out, frame))
        now = time.monotonic()
        while held and held[0][0] <= now:
            _, _, out, frame = heapq.heappop(held)
            with contextlib.suppress(OSError):  # a full queue loses frames, as a real one does
                os.write(out, frame)


def main() -> None:
    """Entry point of the process."""
    order = json.loads(io.FileIO(STOP, closefd=False).readline())
    lines = ends(order["cables"], order["seed"])
    for descriptor in lines:
        os.set_blocking(descriptor, False)
    with contextlib.suppress(KeyboardInterrupt):
        carry(lines)


if __name__ == "__main__":
    main()
