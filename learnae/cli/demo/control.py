"""The demo's control: every shard trained alone, as many steps as its node made in the swarm; a process of its own.

It prints one JSON object: {"accuracies": [fraction or null, one per shard], "weights": the model's size in floats}.
"""

from __future__ import annotations

import json

import click


@click.command()
@click.option("--task", "spec", required=True)
@click.option("--skew", type=float, required=True)
@click.option("--seed", type=int, required=True)
@click.option("--steps", required=True, help="Steps of every shard, with commas between.")
def main(spec: str, skew: float, seed: int, steps: str) -> None:
    """Train the control and print its accuracies."""
    from learnae.learner import Learner
    from learnae.model import gather
    from learnae.replica import Replica
    from learnae.task import Shard, load_task

    task = load_task(spec)
    counts = [int(count) for count in steps.split(",")]
    accuracies: list[float | None] = []
    weights = 0
    for index, count in enumerate(counts):
        # A learner that never ends its round is plain local training, from the weights that the swarm starts from.
        learner = Learner(task, Shard(index, len(counts), skew), seed=seed)
        weights = learner.layout.size
        for _ in range(count):
            learner.step()
        learner.replica = Replica.from_weights(learner.layout, learner.exponents, gather(learner.model))
        accuracies.append(learner.evaluate().get("accuracy"))
    click.echo(json.dumps({"accuracies": accuracies, "weights": weights}))


if __name__ == "__main__":
    main()
