"""How much accuracy do a hundred nodes get for how many bytes? `python -m benchmarks.frontier`.

An ideal swarm in one process: everybody is in step, nothing is lost, and updates are added to one replica that all have
in common, so that a hundred nodes fit on a PC. Real training, real codec. Bytes are those of updates, sent and
received, with their announcements as often as gossip repeats them; heartbeats and snapshots are not among them.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from nacl.signing import SigningKey

from benchmarks.report import Report, arguments
from learnae import wire
from learnae.cid import raw_cid
from learnae.codec import Payload
from learnae.learner import AVERAGING, Round
from learnae.wire import MAX_INLINE, Part, Update
from netsim import baselines
from netsim.scenario import Engine, Nodes, Run, Scenario, Workload
from netsim.workloads.images import Images, Pupil

COPIES: Final = 2.1
"""How often a node receives what is gossiped, as measured among daemons with a mesh of three."""
REQUEST: Final = 120
"""Bytes to ask for a block and to frame it."""


@dataclass(frozen=True, slots=True)
class Setting:
    """How the swarm works: ``slots`` in all, so many local ``steps`` in each; a node's round lasts ``stretch`` slots,
    and in every slot an equal part of the nodes ends theirs. The rest is as in `learnae.codec.CodecSettings`."""

    slots: int
    steps: int
    stretch: int = 1
    density: float = 0.02
    lr_outer: float = 0.8
    mu: float = 0.8
    beta: float = 0.95


@dataclass(frozen=True, slots=True)
class Point:
    """Where a run ended: accuracy of the running average and of the exact weights; bytes of a node, both ways."""

    accuracy: float
    exact: float
    bytes: float
    update: float
    """Mean bytes of an update's parts."""


def announcement(payload: int) -> float:
    """Bytes that a node receives for an update with so large a payload: whichever way is the daemon's."""
    inline = payload <= MAX_INLINE
    update = Update(
        swarm=bytes(32),
        seq=40,
        slot=1000,
        base=None,
        samples=3200,
        share=0.01,
        norm=0.123,
        loss=0.456,
        payload=bytes(payload) if inline else b"",
        parts=() if inline else (Part(raw_cid(b""), payload),),
    )
    key = SigningKey(bytes(32))
    envelope = len(wire.seal(update, wire.signer(key), bytes(key.verify_key)))
    return COPIES * envelope + (0 if inline else REQUEST + payload)


def scenario(task: str, nodes: int, alpha: float, setting: Setting, engine: Engine = "ledger") -> Scenario:
    """The swarm as the simulator would have it."""
    codec = {"density": setting.density, "lr_outer": setting.lr_outer, "mu": setting.mu, "beta": setting.beta}
    return Scenario(
        purpose="accuracy over traffic",
        run=Run(seconds=float(setting.slots), engine=engine, evaluate=float(setting.slots)),
        workload=Workload(task=task, alpha=alpha, slot_seconds=1.0, round_steps=setting.steps),
        nodes=(Nodes(count=nodes, speed=1e6),),
        codec=codec,
    )


def swarm(task: str, nodes: int, alpha: float, setting: Setting, seed: int) -> Point:
    """The ideal swarm."""
    crew = Images(scenario(task, nodes, alpha, setting), seed)
    pupils = [crew.trainer(number) for number in range(nodes)]
    common = pupils[0].replica.copy()
    average = common.read()
    sizes: list[int] = []
    for slot in range(1, setting.slots + 1):
        for pupil in pupils:
            pupil.advance(setting.steps)
        before = common.read()
        ends = [number for number in range(nodes) if (slot + number) % setting.stretch == 0]
        for number in ends:
            done = pupils[number].finish_round(1 / nodes)
            sizes.append(sum(map(len, done.parts)))
            for part in _payload(pupils[number], done).parts:
                common.apply(part.index, part.delta())
        moved = common.read() - before
        for number, pupil in enumerate(pupils):
            pupil.replica.weights[...] = common.weights
            if (slot + number) % setting.stretch == 0:
                pupil.restart_round()
            else:
                pupil.move(moved)
        average += np.float32(AVERAGING) * (common.read() - average)
    averaged, exact = crew.scores_of([average, common.read()])
    heard = sum(map(announcement, sizes)) * (nodes - 1) / nodes
    return Point(averaged.accuracy, exact.accuracy, 2 * heard, float(np.mean(sizes)))


def _payload(pupil: Pupil, done: Round) -> Payload:
    payload = pupil.payload(done.norm, done.parts)
    if payload.void is not None:
        raise AssertionError(f"an update that a learner made is void: {payload.void}")
    return payload


def baseline(engine: Engine, task: str, nodes: int, alpha: float, setting: Setting, seed: int) -> Point:
    """A baseline with the same shards and steps."""
    end = baselines.run(engine, scenario(task, nodes, alpha, setting, engine), seed).summary
    return Point(end["accuracy"], end["accuracy"], end["bytes"], 0.0)


def row(name: str, setting: Setting, point: Point, reference: Point) -> dict[str, Any]:
    """A line of the table."""
    return {
        "engine": name,
        "slots": setting.slots,
        "stretch": setting.stretch,
        "steps": setting.steps,
        "density %": 100 * setting.density,
        "accuracy": 100 * point.accuracy,
        "points below FedAvg": 100 * (reference.accuracy - point.accuracy),
        "kB per node": point.bytes / 1000,
        "FedAvg's bytes over its": reference.bytes / point.bytes if point.bytes else float("inf"),
        "bytes of an update": point.update,
    }


def main(given: Sequence[str] | None = None) -> int:
    """Run, print, compare with the target."""
    options = arguments(__doc__ or "", given)
    torch.set_num_threads(1)
    report = Report("frontier", options)
    task, nodes, steps, slots = ("digits", 20, 20, 10) if options.quick else ("fashion-mnist", 100, 50, 40)
    plain = Setting(slots, steps)
    reference = baseline("fedavg", task, nodes, 0.1, plain, 0)
    rows = [row("fedavg", plain, reference, reference)]
    others: tuple[Engine, ...] = ("diloco", "noloco", "pairwise", "solo")
    rows += [row(name, plain, baseline(name, task, nodes, 0.1, plain, 0), reference) for name in others]
    for stretch, density in ((1, 0.02), (1, 0.005), (4, 0.02), (4, 0.005), (8, 0.01), (8, 0.005)):
        setting = Setting(slots, steps, stretch, density)
        rows.append(row("ledger", setting, swarm(task, nodes, 0.1, setting, 0), reference))
        print(rows[-1], flush=True)
    report.table(f"{task}, {nodes} nodes, Dirichlet 0.1, {slots} slots of {steps} steps", rows)
    frugal = [r for r in rows if r["engine"] == "ledger" and r["FedAvg's bytes over its"] >= 20]
    lost = min((r["points below FedAvg"] for r in frugal), default=float("inf"))
    report.target("points below FedAvg at a twentieth of its bytes", lost, "at most", 1.0)
    return report.close()


if __name__ == "__main__":
    sys.exit(main())
