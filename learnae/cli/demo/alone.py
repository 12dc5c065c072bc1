"""Trains some shards of a task alone and prints how well; a process that `control` starts."""

from __future__ import annotations

import json

import click


@click.command()
@click.option("--task", "spec", required=True)
@click.option("--count", type=int, required=True, help="Shards in all.")
@click.option("--skew", type=float, required=True)
@click.option("--seed", type=int, required=True)
@click.argument("shards", nargs=-1, required=True, metavar="SHARD:STEPS...")
def main(spec: str, count: int, skew: float, seed: int, shards: tuple[str, ...]) -> None:
    """Train some shards (from 0), and print {"accuracies": [fraction or null, ...], "weights": floats} as JSON."""
    from learnae.learner import Learner
    from learnae.model import gather
    from learnae.replica import Replica
    from learnae.task import Shard, load_task

    task = load_task(spec)
    accuracies: list[float | None] = []
    weights = 0
    for index, steps in (map(int, shard.split(":")) for shard in shards):
        # A learner that never ends its round is plain local training, from the weights that the swarm starts from.
        learner = Learner(task, Shard(index, count, skew), seed=seed)
        for _ in range(steps):
            learner.step()
        learner.replica = Replica.from_weights(learner.layout, learner.exponents, gather(learner.model))
        accuracies.append(learner.evaluate().get("accuracy"))
        weights = learner.layout.size
    click.echo(json.dumps({"accuracies": accuracies, "weights": weights}))


if __name__ == "__main__":
    main()
