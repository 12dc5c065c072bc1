"""What can members do to a swarm who want to harm it? `python -m benchmarks.attack`.

Ten nodes in one process (`simulation`), two of which attack: all have the same time, and no attack needs more than a
key. Each kind is shown with the swarm's usual rules, which bound what one update may do, and without those bounds.
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import simulation
from benchmarks.report import Report, arguments
from benchmarks.seeded import SEEDS
from benchmarks.simulation import FIRST_SLOT, Letter, Member
from learnae.codec import CodecSettings, Encoder, encode_part
from learnae.learner import Learner, Round
from learnae.ledger import Refusal
from learnae.rules import Rules
from learnae.task import Shard
from learnae.tasks.digits import Digits
from learnae.tasks.images import Batch

NODES, ATTACKERS, ALPHA, STEPS = 10, 2, 0.3, 20
SHARE = 1 / NODES
UNBOUNDED = Rules(clip=float("inf"), fair_share=1e6)
PLAIN = CodecSettings(lr_outer=1.0, mu=0.0, beta=0.0)

Mail = tuple[Letter, Sequence[Member]]
"""An update, and who gets it directly."""


class Flipped(Digits):
    """Digits that somebody has labelled the other way round: 9 for 0, 8 for 1, and so on."""

    def batches(self, shard: Shard, seed: int) -> Iterator[Batch]:
        """The same batches, with false labels."""
        for images, labels in super().batches(shard, seed):
            yield images, 9 - labels


class Attack:
    """What the attackers do; this one is none: they are honest."""

    name: ClassVar[str] = "none"
    task: ClassVar[type[Digits]] = Digits
    breaks: ClassVar[bool] = False
    """Whether the swarm collapses under it if nothing bounds an update."""

    def publish(self, member: Member, slot: int, members: Sequence[Member], rng: random.Random) -> list[Mail]:
        """The attacker's updates of one slot."""
        return [(member.train(slot, STEPS, SHARE), members)]


class Silent(Attack):
    """They do nothing at all: what the others reach without the attackers' data."""

    name = "silent"

    def publish(self, member: Member, slot: int, members: Sequence[Member], rng: random.Random) -> list[Mail]:
        """Nothing."""
        return []


class SignFlip(Attack):
    """Minus four times what the attacker has learned, with the norm that this has."""

    name = "sign flip, 4 times"
    breaks = True
    times: ClassVar[int] = 4

    def publish(self, member: Member, slot: int, members: Sequence[Member], rng: random.Random) -> list[Mail]:
        """The honest payload with other signs and larger scales."""
        done = _round(member)
        parts, norm = _opposite(member, done, self.times), self.times * done.norm
        return [(member.letter(slot, parts, norm, SHARE, done.samples, done.loss or 0.0), members)]


class PlainFlip(SignFlip):
    """Minus what the attacker has learned: no larger than the updates of others, so no bound is in its way."""

    name = "sign flip, once"
    breaks = False
    times = 1


class Crafted(Attack):
    """A vector of the attacker's own, where an honest update would be."""

    breaks = True

    def vector(self, member: Member, done: Round, rng: random.Random) -> NDArray[np.float32]:
        """What to add to the weights."""
        raise NotImplementedError

    def publish(self, member: Member, slot: int, members: Sequence[Member], rng: random.Random) -> list[Mail]:
        """The largest entries of the vector, as updates carry them."""
        done = _round(member)
        vector = self.vector(member, done, rng)
        parts, norm = Encoder(member.learner.layout, member.learner.exponents, PLAIN).encode(vector, 1.0)
        return [(member.letter(slot, parts, norm, SHARE, done.samples, done.loss or 0.0), members)]


class Noise(Crafted):
    """Random directions, some hundred times as long as an honest update."""

    name = "noise, 100 times"

    def vector(self, member: Member, done: Round, rng: random.Random) -> NDArray[np.float32]:
        """White noise, of which the largest entries hold most of the length."""
        size = member.learner.layout.size
        noise = np.random.default_rng(rng.getrandbits(64)).standard_normal(size, np.float32)
        largest = np.sort(np.abs(noise))[-size // 50 :]
        return np.asarray(noise * (100 * done.norm / np.linalg.norm(largest)), np.float32)


class Reversed(Crafted):
    """Away from the weights that the swarm has, towards their opposite."""

    name = "reversed weights"

    def vector(self, member: Member, done: Round, rng: random.Random) -> NDArray[np.float32]:
        """All the way there."""
        return -2 * member.learner.replica.read()


class LabelFlip(Attack):
    """An honest round on false labels."""

    name = "label flip"
    task = Flipped


class Oversized(Attack):
    """An honest round that counts as if the attacker had done everybody's work."""

    name = "oversized share"

    def publish(self, member: Member, slot: int, members: Sequence[Member], rng: random.Random) -> list[Mail]:
        """The whole swarm's share."""
        return [(member.train(slot, STEPS, 1.0), members)]


class Replay(Attack):
    """Old updates of anybody, again and again, and nothing else."""

    name = "replay"

    def publish(self, member: Member, slot: int, members: Sequence[Member], rng: random.Random) -> list[Mail]:
        """Ten of all that the attacker has ever seen."""
        seen = list(member.letters.values())
        return [(letter, members) for letter in rng.sample(seen, min(10, len(seen)))]


class Equivocation(Attack):
    """Two updates under one number, to one half of the swarm each: honest for one, the opposite for the other."""

    name = "equivocation"

    def publish(self, member: Member, slot: int, members: Sequence[Member], rng: random.Random) -> list[Mail]:
        """Both of them."""
        done = _round(member)
        opposite = _opposite(member, done)
        one = member.letter(slot, done.parts, done.norm, SHARE, done.samples, done.loss or 0.0)
        other = member.sign(member.seq, slot, opposite, done.norm, SHARE, done.samples, done.loss or 0.0)
        return [(one, members[::2]), (other, members[1::2])]


REFERENCES = (Attack(), Silent(), PlainFlip())
"""Runs to compare with; the first is what the others are measured against."""
KINDS = (SignFlip(), Noise(), Reversed(), LabelFlip(), Oversized(), Replay(), Equivocation())


def _round(member: Member) -> Round:
    """A round's work, which the attacker does not keep."""
    for _ in range(STEPS):
        member.learner.step()
    done = member.learner.finish_round(SHARE)
    member.learner.restart_round()
    return done


def _opposite(member: Member, done: Round, times: int = 1) -> list[bytes]:
    """The round's payload with all signs reversed, and larger."""
    payload, layout = member.learner.payload(done.norm, done.parts), member.learner.layout
    return [encode_part(layout, p.first, times * p.scales, p.index, ~p.negative) for p in payload.parts]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a run, as the honest members see it."""

    accuracy: float
    honest: simulation.Weight
    attackers: simulation.Weight
    refused: Counter[Refusal]
    replaced: float
    """Updates that an honest member took in and dropped again for a rival."""
    agreed: bool


def run(attack: Attack, rules: Rules, seed: int, rounds: int) -> Outcome:
    """One swarm; the last members attack."""
    rng = random.Random(seed)
    refused: Counter[Refusal] = Counter()
    task = Digits()
    tasks = [task] * (NODES - ATTACKERS) + [attack.task() if attack.task is not Digits else task] * ATTACKERS
    shards = [Shard(number, NODES, ALPHA, seed) for number in range(NODES)]
    learners = [Learner(task, shard, seed=seed) for task, shard in zip(tasks, shards, strict=True)]
    members = [Member(number, learner, rules) for number, learner in enumerate(learners)]
    honest, attackers = members[:-ATTACKERS], members[-ATTACKERS:]
    for slot in range(FIRST_SLOT, FIRST_SLOT + rounds):
        mail: list[Mail] = [(member.train(slot, STEPS, SHARE), members) for member in honest]
        mail += [sent for member in attackers for sent in attack.publish(member, slot, members, rng)]
        for letter, receivers in mail:
            for member in receivers:
                refusal = member.receive(letter, slot)
                if refusal is not None and member in honest:
                    refused[refusal] += 1
        simulation.exchange(members, slot)
        for member in members:
            member.follow()
            member.settle(slot)
            member.learner.tick_average()
    judge = honest[0]
    return Outcome(
        accuracy=simulation.accuracy(honest[:1]),
        honest=simulation.weight(honest, judge),
        attackers=simulation.weight(attackers, judge),
        refused=refused,
        replaced=fmean(member.replaced for member in honest),
        agreed=simulation.agreed(honest),
    )


def summary(outcomes: Sequence[Outcome], reference: Sequence[Outcome]) -> dict[str, Any]:
    """A row of the table: medians over the seeds; accuracies in percent, points below the run without an attack."""
    lost = [100 * (before.accuracy - after.accuracy) for before, after in zip(reference, outcomes, strict=True)]
    return {
        "accuracy": 100 * median(o.accuracy for o in outcomes),
        "points lost": median(lost),
        "worst seed": max(lost),
        "honest count %": 100 * median(o.honest.ratio for o in outcomes),
        "attackers' count %": 100 * median(o.attackers.ratio for o in outcomes),
        "refused": median(o.refused.total() for o in outcomes),
        "replaced": median(o.replaced for o in outcomes),
        "equal": all(o.agreed for o in outcomes),
    }


def main(given: Sequence[str] | None = None) -> int:
    """Run, print, compare with the targets."""
    options = arguments(__doc__ or "", given)
    torch.set_num_threads(1)
    report = Report("attack", options)
    seeds, rounds = (SEEDS[:1], 30) if options.quick else (SEEDS, 60)
    tables: dict[str, dict[str, dict[str, Any]]] = {}
    for title, rules in (("with the bounds", Rules()), ("without", UNBOUNDED)):
        reference: list[Outcome] = []
        for attack in (*REFERENCES, *KINDS):
            outcomes = [run(attack, rules, seed, rounds) for seed in seeds]
            reference = reference or outcomes
            tables.setdefault(title, {})[attack.name] = summary(outcomes, reference)
        rows = [{"attack": name} | row for name, row in tables[title].items()]
        report.table(f"digits, {ATTACKERS} of {NODES} attack, Dirichlet {ALPHA}, {rounds} rounds: {title}", rows)
    bounded, free = tables["with the bounds"], tables["without"]
    for attack in KINDS:
        report.target(f"{attack.name}: points lost", bounded[attack.name]["points lost"], "at most", 5.0)
    for attack in KINDS:
        if attack.breaks:
            report.target(f"{attack.name}, no bounds: points lost", free[attack.name]["points lost"], "at least", 30.0)
    cost = free["none"]["accuracy"] - bounded["none"]["accuracy"]
    report.target("points that the bounds cost without an attack", cost, "at most", 0.5)
    equal = [row["equal"] for table in tables.values() for row in table.values()]
    report.target("runs in which all honest nodes end bit-identical", sum(equal), "at least", len(equal))
    return report.close()


if __name__ == "__main__":
    sys.exit(main())
