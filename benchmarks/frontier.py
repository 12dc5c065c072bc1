"""How much accuracy do a hundred nodes get for how many bytes? `python -m benchmarks.frontier`.

An ideal swarm in one process: everybody is in step, nothing is lost, and updates are added to one replica that all have
in common, so that a hundred nodes fit on a PC. Real training, real codec. Bytes are those of updates, sent and
received, with their announcements as often as gossip repeats them; heartbeats and snapshots are not among them.

All runs do as many local steps; they differ in how often the nodes talk, and what they say. Each is kept in
build/frontier, so that the benchmark goes on where it was; the plot is docs/images/frontier.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import torch
from nacl.signing import SigningKey

from benchmarks.report import Report, arguments
from learnae import wire
from learnae.cid import raw_cid
from learnae.codec import CodecSettings, Payload
from learnae.learner import AVERAGING, Round
from learnae.wire import MAX_INLINE, Part, Update
from netsim import baselines, plots
from netsim.scenario import Engine, Nodes, Run, Scenario, Workload
from netsim.workloads.images import Images, Pupil

KEPT: Final = Path("build/frontier")
PLOT: Final = Path("docs/images/frontier")
_CODEC: Final = CodecSettings()
TASK: Final = f"{Path(__file__).with_name('pictures.py')}:SmallFashion"
RUNS: Final[tuple[tuple[Engine, int, float], ...]] = (
    ("fedavg", 50, _CODEC.density),
    ("ledger", 10, 0.005),
    ("ledger", 10, 0.002),
    ("ledger", 10, 0.0015),
)
"""Engine, rounds, density of updates, which baselines have none of."""
FRUGAL: Final = 20
"""Of the bytes of the best FedAvg, the part one over this is what the target asks of."""
COPIES: Final = 2.1
"""How often a node receives what is gossiped, as measured among daemons with a mesh of three."""
REQUEST: Final = 120
"""Bytes to ask for a block and to frame it."""
LOOKS: Final = 10
"""Points of a curve."""


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """One run: a node has so many ``rounds`` of so many ``steps`` each.

    ``stretch``: the swarm's rounds end in turns, an equal part of the nodes each time; 1: all at once. The rest is as
    in `learnae.codec.CodecSettings`.
    """

    engine: Engine
    rounds: int
    steps: int
    stretch: int = 1
    density: float = _CODEC.density
    lr_outer: float = _CODEC.lr_outer
    mu: float = _CODEC.mu
    beta: float = _CODEC.beta

    def __str__(self) -> str:
        words = f"{self.engine}, {self.rounds} rounds"
        return words if self.engine != "ledger" else f"{words}, density {100 * self.density:g} %"


class Place(msgspec.Struct, frozen=True):
    """What a hundred nodes train: how many they are, on what, how unevenly it is split."""

    task: str
    nodes: int
    alpha: float
    seed: int


class Point(msgspec.Struct, frozen=True):
    """A moment of a run: accuracy of the running average and of the exact weights; bytes of a node, both ways."""

    accuracy: float
    exact: float
    bytes: float


class Course(msgspec.Struct, frozen=True):
    """A run: its points, and the mean bytes of an update's parts."""

    points: list[Point]
    update: float = 0.0


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


def scenario(place: Place, setting: Setting) -> Scenario:
    """The run as the simulator would have it; its second is a round, or a part of one if rounds end in turns."""
    codec = {"density": setting.density, "lr_outer": setting.lr_outer, "mu": setting.mu, "beta": setting.beta}
    return Scenario(
        purpose="accuracy over traffic",
        run=Run(seconds=float(setting.rounds), engine=setting.engine, evaluate=max(1.0, setting.rounds / LOOKS)),
        workload=Workload(task=place.task, alpha=place.alpha, slot_seconds=1.0, round_steps=setting.steps),
        nodes=(Nodes(count=place.nodes, speed=1e6),),
        codec=codec,
    )


def swarm(place: Place, setting: Setting) -> Course:
    """The ideal swarm."""
    crew = Images(scenario(place, setting), place.seed)
    pupils = [crew.trainer(number) for number in range(place.nodes)]
    common = pupils[0].replica.copy()
    average = common.read()
    sizes: list[int] = []
    points: list[Point] = []
    slots = setting.rounds * setting.stretch
    for slot in range(1, slots + 1):
        for pupil in pupils:
            pupil.advance(setting.steps // setting.stretch)
        before = common.read()
        ends = [number for number in range(place.nodes) if (slot + number) % setting.stretch == 0]
        for number in ends:
            done = pupils[number].finish_round(1 / place.nodes)
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
        if slot * LOOKS // slots != (slot - 1) * LOOKS // slots:
            averaged, exact = crew.scores_of([average, common.read()])
            heard = sum(map(announcement, sizes)) * (place.nodes - 1) / place.nodes
            points.append(Point(averaged.accuracy, exact.accuracy, 2 * heard))
    return Course(points, float(np.mean(sizes)))


def _payload(pupil: Pupil, done: Round) -> Payload:
    payload = pupil.payload(done.norm, done.parts)
    if payload.void is not None:
        raise AssertionError(f"an update that a learner made is void: {payload.void}")
    return payload


def baseline(place: Place, setting: Setting) -> Course:
    """A baseline with the same shards and steps."""
    looks = baselines.run(setting.engine, scenario(place, setting), place.seed).looks
    return Course([Point(look.accuracy, look.accuracy, look.sent + look.received) for look in looks])


def course(place: Place, setting: Setting) -> Course:
    """A run, or the one that is kept."""
    key = hashlib.sha256(msgspec.json.encode((place, setting))).hexdigest()[:16]
    path = KEPT / f"{key}.json"
    if path.exists():
        return msgspec.json.decode(path.read_bytes(), type=Course)
    made = (swarm if setting.engine == "ledger" else baseline)(place, setting)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.encode(made))
    return made


def row(setting: Setting, course: Course, reference: Course) -> dict[str, Any]:
    """A line of the table."""
    end, best = course.points[-1], reference.points[-1]
    ledger = setting.engine == "ledger"
    return {
        "engine": setting.engine,
        "rounds": setting.rounds,
        "steps": setting.steps,
        "density %": 100 * setting.density if ledger else "",
        "accuracy": 100 * end.accuracy,
        "exact": 100 * end.exact,
        "points below": 100 * (best.accuracy - end.accuracy),
        "MB of a node": end.bytes / 1e6,
        "bytes, one in": best.bytes / end.bytes if end.bytes else float("inf"),
        "B an update": course.update if ledger else "",
    }


def draw(courses: dict[str, Course]) -> None:
    """Accuracy over what a node has sent and received by then."""
    with plots.canvas() as figure:
        axes = figure.add_subplot()
        for (words, one), style in zip(courses.items(), plots.styles(), strict=False):
            points = [point for point in one.points if point.bytes]
            axes.plot(
                [point.bytes / 1e6 for point in points],
                [100 * point.accuracy for point in points],
                label=words,
                marker="o",
                markersize=3,
                linewidth=1.5,
                **style,
            )
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set(
            title="Accuracy for traffic, 100 nodes", xlabel="sent and received by a node, MB", ylabel="accuracy, %"
        )
        axes.legend(fontsize=8)
        plots.save(figure, PLOT)


def main(given: Sequence[str] | None = None) -> int:
    """Run, print, compare with the target."""
    options = arguments(__doc__ or "", given)
    torch.set_num_threads(1)
    report = Report("frontier", options)
    place = Place("digits", 20, 0.1, 0) if options.quick else Place(TASK, 100, 0.1, 0)
    steps = 100 if options.quick else 500
    settings = [Setting(engine=e, rounds=rounds, steps=steps // rounds, density=part) for e, rounds, part in RUNS]
    courses = {}
    for setting in settings:
        courses[setting] = course(place, setting)
        print(setting, courses[setting].points[-1], flush=True)
    best = max((one for one in settings if one.engine == "fedavg"), key=lambda one: courses[one].points[-1].accuracy)
    rows = [row(setting, made, courses[best]) for setting, made in courses.items()]
    report.table(f"{place.nodes} nodes, Dirichlet {place.alpha}, {steps} local steps each; below {best}", rows)
    frugal = [line for line in rows if line["engine"] == "ledger" and line["bytes, one in"] >= FRUGAL]
    lost = min((line["points below"] for line in frugal), default=float("inf"))
    report.target(f"points below FedAvg at 1/{FRUGAL} of its bytes or less", lost, "at most", 1.0)
    if not options.quick:
        draw({str(setting): made for setting, made in courses.items()})
    return report.close()


if __name__ == "__main__":
    sys.exit(main())
