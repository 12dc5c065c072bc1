"""What does `swarm.step` cost a training loop? `python -m benchmarks.step_overhead`.

Three looks at a script that has joined a swarm on loopback. A call that has nothing to do, by itself. A loop whose
steps take about 10 ms, by turns alone and joined, with rounds of two seconds instead of the usual ten: the time inside
the calls, and CPU time of the training thread of both loops, which a busy machine disturbs less than the clock. And a
model of 10 million weights into which another node's updates are merged: how long any call keeps the training waiting
while one is under way.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from argparse import ArgumentParser
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

import torch
from torch import nn
from torch.nn import functional

import learnae
from benchmarks.report import Report, arguments
from learnae.loop.swarm import Swarm

SLOT = 2.0
STEP = 0.010
CALLS = 20_000
LARGE = 3_162
"""Width of a square layer of 10 million weights."""
PATIENCE = 120.0


def join(model: nn.Module, home: Path, *peers: str) -> Swarm:
    """The model in a swarm on loopback."""
    return learnae.join(
        "step-overhead",
        model,
        slot_seconds=SLOT,
        home=home,
        listen=("/ip4/127.0.0.1/tcp/0",),
        peer=peers,
        mdns=False,
        status_port=0,
    )


class Loop:
    """A training loop on random data; ``step`` does one step of it."""

    def __init__(self, *widths: int, batch: int) -> None:
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), nn.ReLU()]
        self.model = nn.Sequential(*layers[:-1])
        self._optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01)
        generator = torch.Generator().manual_seed(0)
        self._inputs = torch.randn(batch, widths[0], generator=generator)
        self._labels = torch.randint(0, widths[-1], (batch,), generator=generator)

    def step(self) -> torch.Tensor:
        """Forward, backward, optimiser; returns the loss."""
        loss = functional.cross_entropy(self.model(self._inputs), self._labels)
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        return loss


def small() -> Loop:
    """One whose steps take about 10 ms here: 200,000 weights, and as large a batch as that takes."""
    batch = 64
    while True:
        loop = Loop(256, 512, 128, 10, batch=batch)
        times = []
        for _ in range(15):
            began = time.thread_time()
            loop.step()
            times.append(time.thread_time() - began)
        if median(times[5:]) >= STEP:
            return loop
        batch = int(batch * 1.2)


def wait_until_training(loop: Loop, swarm: Swarm, applied: int = 0) -> None:
    """Until the swarm has stored a round, and so many updates of others are in."""
    deadline = time.monotonic() + PATIENCE
    while swarm.rounds < 1 or swarm.statistics().applied < applied + swarm.rounds:
        swarm.step(1, loop.step())
        if time.monotonic() > deadline:
            raise TimeoutError(f"no round of the swarm was seen within {PATIENCE:g} s: {swarm.statistics()}")


def idle_call(home: Path) -> float:
    """Median seconds of a call with nothing to do."""
    loop = Loop(16, 32, 4, batch=8)
    with join(loop.model, home) as swarm:
        wait_until_training(loop, swarm)
        times, loss = [], loop.step().detach()
        for _ in range(CALLS):
            began = time.perf_counter()
            swarm.step(8, loss)
            times.append(time.perf_counter() - began)
    return median(times)


@dataclass(frozen=True, slots=True)
class Turn:
    """Seconds a step: of CPU in the loop alone and joined, and inside the call; and the part of the clock's time."""

    alone: float
    joined: float
    call: float
    part: float


def turn(loop: Loop, home: Path, steps: int) -> Turn:
    """So many steps alone, and as many joined."""
    began = time.thread_time()
    for _ in range(steps):
        loop.step()
    alone = (time.thread_time() - began) / steps
    with join(loop.model, home) as swarm:
        wait_until_training(loop, swarm)
        inside, began, clock = 0.0, time.thread_time(), time.monotonic()
        for _ in range(steps):
            loss = loop.step()
            entered = time.monotonic()
            swarm.step(1, loss)
            inside += time.monotonic() - entered
        joined, clock = (time.thread_time() - began) / steps, time.monotonic() - clock
    return Turn(alone, joined, inside / steps, inside / (clock - inside))


def address(home: Path) -> str:
    """Where the daemon of this home listens."""
    (file,) = home.glob("*/status.json")
    url = json.loads(file.read_text())["url"]
    with urllib.request.urlopen(f"{url}/api/status", timeout=10) as answer:
        found: str = json.loads(answer.read())["listen"][0]
    return found


@dataclass(frozen=True, slots=True)
class Stall:
    """Seconds of the longest call while an update was merged: by the clock, and of the training thread's CPU."""

    clock: float
    cpu: float


def stalls(directory: Path, seconds: float) -> list[Stall]:
    """One for each update of another node that was merged."""
    loop = Loop(LARGE, LARGE, batch=2)
    with join(loop.model, directory / "one") as swarm:
        command = [sys.executable, "-m", "benchmarks.step_overhead", "--peer", address(directory / "one"), "--home"]
        other = subprocess.Popen([*command, str(directory / "two")])
        try:
            wait_until_training(loop, swarm, applied=1)
            found, clock, cpu, before = [], 0.0, 0.0, swarm.statistics()
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                loss = loop.step()
                entered, used = time.monotonic(), time.thread_time()
                swarm.step(2, loss)
                clock, cpu = max(clock, time.monotonic() - entered), max(cpu, time.thread_time() - used)
                now = swarm.statistics()
                others = (now.applied - now.rounds) - (before.applied - before.rounds)
                if others > 0:
                    found.append(Stall(clock, cpu))
                    clock, cpu, before = 0.0, 0.0, now
            return found
        finally:
            other.terminate()
            with suppress(subprocess.TimeoutExpired):
                other.wait(20)
            other.kill()


def take_part(peer: str, home: Path) -> None:
    """The other node: trains until it is ended."""
    torch.set_num_threads(1)
    loop = Loop(LARGE, LARGE, batch=2)
    with join(loop.model, home, peer) as swarm:
        while swarm.step(2, loop.step()):
            pass


def main(given: Sequence[str] | None = None) -> int:
    """Run, print, compare with the targets."""
    parser = ArgumentParser(add_help=False)
    parser.add_argument("--peer")
    parser.add_argument("--home", type=Path)
    own, rest = parser.parse_known_args(given)
    torch.set_num_threads(1)
    if own.peer:
        take_part(own.peer, own.home)
        return 0
    options = arguments(__doc__ or "", rest)
    report = Report("step_overhead", options)
    turns, steps, seconds = (2, 200, 15.0) if options.quick else (7, 600, 60.0)
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory)
        call = idle_call(home / "idle")
        loop = small()
        seen = [turn(loop, home / f"turn {number}", steps) for number in range(turns)]
        waits = stalls(home, seconds)
    report.table("A call with nothing to do", [{"calls": CALLS, "median, us": 1e6 * call}])
    rows = [
        {
            "turn": number,
            "alone, ms of CPU": 1e3 * found.alone,
            "joined, ms of CPU": 1e3 * found.joined,
            "more, %": 100 * (found.joined / found.alone - 1),
            "in the call, us": 1e6 * found.call,
            "of the step, %": 100 * found.part,
        }
        for number, found in enumerate(seen)
    ]
    report.table(f"A loop of {steps} steps, alone and joined, rounds of {SLOT:g} s", rows)
    clocks, cpus = (sorted(1e3 * wait for wait in kind) for kind in ([w.clock for w in waits], [w.cpu for w in waits]))
    report.table(
        f"10 million weights: the longest call for each of {len(waits)} updates that were merged, ms",
        [
            {"": name, "median": median(found), "most": found[-1]}
            for name, found in (("by the clock", clocks), ("of the thread's CPU", cpus))
            if found
        ],
    )
    report.target("a call with nothing to do", 1e6 * call, "at most", 50, "us")
    report.target("time in the call for a step of 10 ms", 100 * median(found.part for found in seen), "at most", 1, "%")
    report.target(
        "more CPU in the loop than alone",
        100 * median(found.joined / found.alone - 1 for found in seen),
        "at most",
        1,
        "%",
    )
    report.target("stall by a merge, median", median(clocks) if clocks else float("nan"), "at most", 10, "ms")
    report.target("CPU of that, median", median(cpus) if cpus else float("nan"), "at most", 10, "ms")
    return report.close()


if __name__ == "__main__":
    sys.exit(main())
