"""How much accuracy do a hundred nodes get for how many bytes? `python -m benchmarks.frontier`.

An ideal swarm in one process: everybody is in step, nothing is lost, and updates are added to one replica that all have
in common, so that a hundred nodes fit on a PC. Real training, real codec. Bytes are those of updates, sent and
received, as whole frames: announcements as often as gossip repeats them, requests for payloads and their answers;
heartbeats and snapshots are not among them. FedAvg's are bare float32 weights. Both are judged by the better one of
exact weights and their running average.

All runs do as many local steps; they differ in how often the nodes talk, and what they say. Each is kept in
build/frontier, so that the benchmark goes on where it was; the plot is docs/images/frontier.
"""

from __future__ import annotations

import hashlib
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import torch
from nacl.signing import SigningKey
from numpy.typing import NDArray

from benchmarks.report import Report, arguments
from learnae import wire
from learnae.cid import raw_cid
from learnae.codec import CodecSettings, Payload
from learnae.learner import AVERAGING, Round
from learnae.wire import Part, Update
from netsim import plots
from netsim.scenario import Engine, Nodes, Run, Scenario, Workload
from netsim.sim import links
from netsim.workloads.images import Images, Pupil

KEPT: Final = Path("build/frontier")
PLOT: Final = Path("docs/images/frontier")
_CODEC: Final = CodecSettings()
TASK: Final = f"{Path(__file__).with_name('pictures.py')}:SmallFashion"
FRUGAL: Final = 20
"""Of the bytes of the best FedAvg, the part one over this is what the target asks of."""
COPIES: Final = 2.1
"""How often a node receives what is gossiped, as measured among daemons with a mesh of three."""
RIDING: Final = 1024
"""Bytes of a payload that ride in an announcement, at most. In the daemon up to 4096 do yet, which costs more."""
TOGETHER: Final = 1.9
"""Payloads that one request brings, as simulated among a hundred nodes whose rounds end over half a slot."""
_EMPTY: Final = 64
"""Bytes of a request or an answer besides what it is about."""
LOOKS: Final = 20
"""Points of a curve."""


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """One run: a node has so many ``rounds`` of so many ``steps`` each. The rest is as in `CodecSettings`."""

    engine: Engine
    rounds: int
    steps: int
    density: float = _CODEC.density
    lr_outer: float = _CODEC.lr_outer
    mu: float = _CODEC.mu
    beta: float = _CODEC.beta
    least: int = _CODEC.least

    def __str__(self) -> str:
        words = f"{self.engine}, every {self.steps} steps"
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

    @property
    def best(self) -> float:
        """The better one."""
        return max(self.accuracy, self.exact)


class Course(msgspec.Struct, frozen=True):
    """A run: its points, and the mean bytes of an update's parts."""

    points: list[Point]
    update: float = 0.0


def price(payload: int) -> float:
    """Bytes that a node sends and receives for one update of another with so large a payload."""
    inline = payload <= RIDING
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
    announced = COPIES * _frames(envelope + links.GOSSIP + links.UPDATES_TOPIC)
    if inline:
        return 2 * announced
    asked = (_frames(_EMPTY) + _frames(_EMPTY + TOGETHER * payload) + 2 * links.STREAM) / TOGETHER + 40
    return 2 * (announced + asked)


def _frames(size: float) -> float:
    weight = links.framed(round(size))
    return weight + links.acknowledged(weight)


def scenario(place: Place, setting: Setting) -> Scenario:
    """The run as the simulator would have it; its second is a round."""
    codec = {
        **{"density": setting.density, "lr_outer": setting.lr_outer, "mu": setting.mu},
        **{"beta": setting.beta, "least": setting.least},
    }
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
    for turn in range(1, setting.rounds + 1):
        for pupil in pupils:
            pupil.advance(setting.steps)
        for pupil in pupils:
            done = pupil.finish_round(1 / place.nodes)
            sizes.append(sum(map(len, done.parts)))
            for part in _payload(pupil, done).parts:
                common.apply(part.index, part.delta())
        for pupil in pupils:
            pupil.replica.weights[...] = common.weights
            pupil.restart_round()
        average += np.float32(AVERAGING) * (common.read() - average)
        if looked_at(turn, setting):
            heard = math.fsum(price(size) for size in sizes) * (place.nodes - 1) / place.nodes
            points.append(_point(crew, average, common.read(), heard))
    return Course(points, float(np.mean(sizes)))


def looked_at(turn: int, setting: Setting) -> bool:
    """Whether a point of the curve is at the end of this round."""
    return turn * LOOKS // setting.rounds != (turn - 1) * LOOKS // setting.rounds


def _point(crew: Images, average: NDArray[np.float32], exact: NDArray[np.float32], size: float) -> Point:
    averaged, now = crew.scores_of([average, exact])
    return Point(averaged.accuracy, now.accuracy, size)


def _payload(pupil: Pupil, done: Round) -> Payload:
    payload = pupil.payload(done.norm, done.parts)
    if payload.void is not None:
        raise AssertionError(f"an update that a learner made is void: {payload.void}")
    return payload


def fedavg(place: Place, setting: Setting) -> Course:
    """FedAvg with the same shards, steps and running average; each node sends its weights, and receives the mean."""
    crew = Images(scenario(place, setting), place.seed)
    pupils = [crew.trainer(number) for number in range(place.nodes)]
    average = pupils[0].weights()
    points: list[Point] = []
    for turn in range(1, setting.rounds + 1):
        for pupil in pupils:
            pupil.advance(setting.steps)
        total = np.zeros(len(average))
        for pupil in pupils:
            total += pupil.weights()
        mean = (total / place.nodes).astype(np.float32)
        for pupil in pupils:
            pupil.set_weights(mean)
        average += np.float32(AVERAGING) * (mean - average)
        if looked_at(turn, setting):
            points.append(_point(crew, average, mean, 8.0 * len(mean) * turn))
    return Course(points)


def course(place: Place, setting: Setting) -> Course:
    """A run, or the one that is kept."""
    key = hashlib.sha256(msgspec.json.encode((place, setting, COPIES, TOGETHER))).hexdigest()[:16]
    path = KEPT / f"{key}.json"
    if path.exists():
        return msgspec.json.decode(path.read_bytes(), type=Course)
    made = (swarm if setting.engine == "ledger" else fedavg)(place, setting)
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
        "average %": 100 * end.accuracy,
        "exact %": 100 * end.exact,
        "points below": 100 * (best.best - end.best),
        "MB of a node": end.bytes / 1e6,
        "bytes, one in": best.bytes / end.bytes,
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
                [100 * point.best for point in points],
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


def _ledger(rounds: int, steps: int, density: float) -> Setting:
    return Setting(
        engine="ledger", rounds=rounds, steps=steps, density=density, lr_outer=1.6, mu=0.5, least=64
    )  # of what was tried with 500 steps, the best


RUNS: Final = (
    Setting(engine="fedavg", rounds=200, steps=10),
    Setting(engine="fedavg", rounds=40, steps=50),
    _ledger(40, 50, 0.003),
    _ledger(20, 100, 0.0065),
)
QUICK: Final = (Setting(engine="fedavg", rounds=50, steps=2), _ledger(10, 10, 0.005))


def main(given: Sequence[str] | None = None) -> int:
    """Run, print, compare with the target."""
    options = arguments(__doc__ or "", given)
    torch.set_num_threads(1)
    report = Report("frontier", options)
    place = Place("digits", 20, 0.1, 0) if options.quick else Place(TASK, 100, 0.1, 0)
    courses = {}
    for setting in QUICK if options.quick else RUNS:
        courses[setting] = course(place, setting)
        print(setting, courses[setting].points[-1], flush=True)
    best = max((one for one in courses if one.engine == "fedavg"), key=lambda one: courses[one].points[-1].best)
    rows = [row(setting, made, courses[best]) for setting, made in courses.items()]
    steps = best.rounds * best.steps
    report.table(f"{place.nodes} nodes, Dirichlet {place.alpha}, {steps} local steps each; below {best}", rows)
    frugal = [line for line in rows if line["engine"] == "ledger" and line["bytes, one in"] >= FRUGAL]
    lost = min((line["points below"] for line in frugal), default=float("inf"))
    report.target(f"points below FedAvg at 1/{FRUGAL} of its bytes or less", lost, "at most", 1.0)
    if not options.quick:
        draw({str(setting): made for setting, made in courses.items()})
    return report.close()


if __name__ == "__main__":
    sys.exit(main())
