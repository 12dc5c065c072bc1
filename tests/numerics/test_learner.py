from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from learnae.codec import CodecSettings
from learnae.errors import CodecError, LearnerError
from learnae.learner import Learner, Round
from learnae.model import gather
from learnae.replica import Replica
from learnae.rules import FULL
from learnae.task import Shard
from tests.numerics.samples import Blobs


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


class Normed(Blobs):
    """With BatchNorm: its statistics stay local."""

    def model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(20, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 10))


class Halved(Blobs):
    """With bfloat16 weights, which swallow small changes."""

    def model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 10)).bfloat16()

    def loss(self, model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        return super().loss(model, (batch[0].bfloat16(), batch[1]))

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        right = model(self.points[1000:].bfloat16()).argmax(1) == self.labels[1000:]
        return {"accuracy": float(right.float().mean())}


class Exploding(Normed):
    """The loss of the batch after the first 30 is NaN, and every gradient before it is sound."""

    poisoned = 30

    def batches(self, shard: Shard, seed: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for count, (points, labels) in enumerate(super().batches(shard, seed)):
            yield (points * torch.nan if count == self.poisoned else points), labels


def saved(learner: Learner) -> dict[str, NDArray[Any]]:
    return {name: values.copy() for name, values in learner.state().items()}


def local_round(learner: Learner, share: float = 0.5, steps: int = 20) -> Round:
    for _ in range(steps):
        learner.step()
    return learner.finish_round(share)


def apply(learner: Learner, update: Round, ratio: int = FULL) -> bool:
    return learner.apply(learner.payload(update.norm, update.parts), update.samples, ratio)


def accept(learner: Learner, update: Round, ratio: int = FULL) -> None:
    learner.accept(learner.payload(parts=update.parts), update.samples, ratio)


def exchange(learners: list[Learner], rounds: int, steps: int = 20) -> None:
    for _ in range(rounds):
        finished = [local_round(learner, 1 / len(learners), steps) for learner in learners]
        for learner, own in zip(learners, finished, strict=True):
            accept(learner, own)
            assert all(apply(learner, other) for other in finished if other is not own)
            learner.tick_average()


def test_two_learners_agree_to_the_bit_and_beat_each_alone() -> None:
    shards = [Shard(index, 2, alpha=0.1, seed=1) for index in range(2)]
    solo = [Learner(Blobs(), shard, seed=3) for shard in shards]
    pair = [Learner(Blobs(), shard, seed=3) for shard in shards]
    assert pair[0].genesis_digest == pair[1].genesis_digest
    for learner in solo:
        for _ in range(20):
            finished = local_round(learner, share=1.0)
            accept(learner, finished)
    exchange(pair, 20)
    assert pair[0].replica.digest() == pair[1].replica.digest() != pair[0].genesis_digest
    alone = max(learner.evaluate()["accuracy"] for learner in solo)
    together = min(learner.evaluate()["accuracy"] for learner in pair)
    assert together > alone + 0.1
    assert pair[0].evaluate(averaged=True)["accuracy"] > alone + 0.1
    assert pair[0].samples_seen == pair[1].samples_seen == 2 * 20 * 20 * 16


def test_order_and_delay_do_not_matter() -> None:
    author, early, late = (Learner(Blobs(), Shard(index, 3)) for index in range(3))
    rounds = []
    for _ in range(4):
        rounds.append(local_round(author))
        accept(author, rounds[-1])
        early.step()
        assert apply(early, rounds[-1])
    for finished in reversed(rounds):
        assert apply(late, finished)
    assert author.replica.digest() == early.replica.digest() == late.replica.digest()


@pytest.mark.parametrize("task", [Blobs, Normed, Halved])
def test_remote_updates_keep_the_local_progress_of_the_round(task: type[Blobs]) -> None:
    """Theta and its base move together: the round's pseudo-gradient is that of the own steps alone."""
    author, learner = Learner(task(), Shard(0, 2), seed=1), Learner(task(), Shard(1, 2), seed=1)
    exchange([author, learner], 3)
    remote = local_round(author)
    for _ in range(7):
        learner.step()
    before = gather(learner.model)
    norm_before = np.linalg.norm(before - learner._base)
    assert apply(learner, remote)
    assert (gather(learner.model) != before).any()
    norm_after = np.linalg.norm(gather(learner.model) - learner._base)
    assert norm_after == pytest.approx(norm_before, rel=1e-5)


def test_a_round_without_steps_reports_no_progress_in_bfloat16() -> None:
    """What rounding to the model's type changes is no pseudo-gradient."""
    author, learner = Learner(Halved(), Shard(0, 2)), Learner(Halved(), Shard(1, 2))
    remote = local_round(author)
    apply(learner, remote)
    finished = learner.finish_round(0.5)
    assert (finished.norm, finished.steps, finished.samples, finished.loss) == (0.0, 0, 0, None)


def test_bfloat16_models_learn_together() -> None:
    learners = [Learner(Halved(), Shard(index, 2, alpha=0.1, seed=1)) for index in range(2)]
    exchange(learners, 15)
    assert learners[0].replica.digest() == learners[1].replica.digest()
    assert learners[0].evaluate()["accuracy"] > 0.85


def test_buffers_stay_local() -> None:
    learners = [Learner(Normed(), Shard(index, 2, alpha=0.1, seed=1)) for index in range(2)]
    assert [tensor.name for tensor in learners[0].layout.local] == [
        "1.running_mean",
        "1.running_var",
        "1.num_batches_tracked",
    ]
    exchange(learners, 3)
    means = [learner.model.get_buffer("1.running_mean") for learner in learners]
    assert not torch.equal(*means)
    assert np.allclose(gather(learners[0].model), gather(learners[1].model), atol=1e-6)


def test_own_updates_count_as_everybody_elses() -> None:
    author, other = Learner(Blobs(), Shard(0, 2)), Learner(Blobs(), Shard(1, 2))
    finished = local_round(author)
    theta = gather(author.model)
    assert (author.replica.digest(), finished.steps, finished.samples) == (author.genesis_digest, 20, 320)
    assert (gather(author.model) == theta).all()
    accept(author, finished)
    apply(other, finished)
    assert author.replica.digest() == other.replica.digest() != author.genesis_digest
    assert (gather(author.model) == author.replica.read()).all()
    assert (gather(other.model) == other.replica.read()).all()


def test_a_void_update_changes_nothing_and_is_counted() -> None:
    author, learner = Learner(Blobs(), Shard(0, 2)), Learner(Blobs(), Shard(1, 2))
    finished = local_round(author)
    theta = gather(learner.model)
    for parts in ([b""], [*finished.parts, b"noise"], [finished.parts[0][:-1]]):
        assert learner.apply(learner.payload(parts=parts), 320) is False
    assert learner.replica.digest() == learner.genesis_digest
    assert (gather(learner.model) == theta).all()
    assert (learner.statistics().void, learner.statistics().applied, learner.samples_seen) == (3, 0, 0)


def test_a_round_with_a_nan_is_dropped_and_training_goes_on() -> None:
    learner = Learner(Exploding(), Shard(0, 1))
    first = local_round(learner, 1.0)
    accept(learner, first)
    shared, pending = learner.replica.digest(), learner.encoder.pending.copy()
    statistics = learner.model.get_buffer("1.running_mean").clone()
    for _ in range(20):
        learner.step()
    with pytest.raises(LearnerError, match="learning rate"):
        learner.finish_round(1.0)
    assert learner.replica.digest() == shared
    assert (learner.encoder.pending == pending).all()
    assert (gather(learner.model) == learner.replica.read()).all()
    assert torch.equal(learner.model.get_buffer("1.running_mean"), statistics)
    assert learner.statistics().rounds == 1
    after = local_round(learner, 1.0)
    assert after.steps == 20 and after.norm > 0
    accept(learner, after)
    assert learner.evaluate()["accuracy"] > 0.3


@pytest.mark.parametrize("steps_before", [0, 7])
def test_a_restored_learner_goes_on_to_the_bit(steps_before: int) -> None:
    """In the middle of a round too: dropout, momentum, data order, error feedback and running average included."""

    def continued(learner: Learner) -> tuple[list[bytes], bytes, bytes]:
        finished = local_round(learner)
        accept(learner, finished)
        learner.tick_average()
        return finished.parts, learner.replica.digest(), learner.averaged().tobytes()

    original = Learner(Blobs(), Shard(0, 2), seed=5)
    exchange([original, Learner(Blobs(), Shard(1, 2), seed=5)], 2)
    for _ in range(steps_before):
        original.step()
    state = saved(original)
    assert all(isinstance(value, np.ndarray) for value in state.values())
    expected = continued(original)
    restored = Learner(Blobs(), Shard(0, 2), seed=99)
    restored.seed = 5
    restored.load_state(state)
    assert continued(restored) == expected
    assert restored.statistics() == original.statistics()


def test_a_round_that_was_saved_before_it_was_accepted() -> None:
    """The trainer saves a finished round, hands it in, and may die before the answer."""
    original, restored = (Learner(Blobs(), Shard(0, 2), seed=5) for _ in range(2))
    finished = local_round(original)
    state = saved(original)
    accept(original, finished)
    following = local_round(original)
    restored.load_state(state)
    accept(restored, finished)
    assert restored.replica.digest() == original.replica.digest()
    assert local_round(restored) == following


def test_a_state_of_another_model_is_refused() -> None:
    with pytest.raises(LearnerError, match="does not fit"):
        Learner(Normed(), Shard()).load_state(Learner(Blobs(), Shard()).state())
    with pytest.raises(LearnerError, match="does not fit"):
        Learner(Blobs(), Shard()).load_state({})


def test_evaluation_leaves_the_round_as_it_was() -> None:
    learner, twin = (Learner(Normed(), Shard(), seed=1) for _ in range(2))
    for _ in range(5):
        learner.step()
    theta = gather(learner.model)
    result = learner.evaluate()
    assert (gather(learner.model) == theta).all()
    assert result != learner.task.evaluate(learner.model)
    for _ in range(5):
        twin.step()
    assert learner.step() == twin.step()


def test_the_average_follows_the_replica() -> None:
    learner = Learner(Blobs(), Shard())
    genesis = learner.replica.read()
    finished = local_round(learner, 1.0)
    accept(learner, finished)
    assert (learner.averaged() == genesis).all()
    for _ in range(60):
        learner.tick_average()
    assert np.allclose(learner.averaged(), learner.replica.read(), atol=1e-6)
    assert learner.evaluate(averaged=True) == learner.evaluate()


def test_the_learning_rate_follows_the_swarms_samples() -> None:
    class Decaying(Blobs):
        def learning_rate(self, samples: int) -> float:
            return 1.0 if samples < 1000 else 0.0

    learner = Learner(Decaying(), Shard(0, 2))
    author = local_round(Learner(Blobs(), Shard(1, 2)))
    assert local_round(learner).norm > 0
    learner.apply(learner.payload(parts=author.parts), 1000)
    before = gather(learner.model)
    learner.step()
    assert (gather(learner.model) == before).all()


def test_batches_that_end_are_an_error_of_the_task() -> None:
    class Finite(Blobs):
        def batches(self, shard: Shard, seed: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
            yield self.points[:4], self.labels[:4]

    learner = Learner(Finite(), Shard())
    learner.step()
    with pytest.raises(LearnerError, match="for ever"):
        learner.step()


def test_only_the_settings_of_the_own_codec_differ() -> None:
    """Receivers need not know how an update was made."""
    sparse = Learner(Blobs(), Shard(0, 2), CodecSettings(density=0.001))
    dense = Learner(Blobs(), Shard(1, 2), CodecSettings(density=1.0, mu=0.0))
    exchange([sparse, dense], 3)
    assert sparse.replica.digest() == dense.replica.digest()


@pytest.mark.parametrize("ratio", [FULL, 40_000, 1])
def test_removing_is_the_exact_inverse(ratio: int) -> None:
    author, learner = Learner(Blobs(), Shard(0, 2)), Learner(Blobs(), Shard(1, 2))
    first = local_round(author)
    accept(author, first)
    second = local_round(author)
    assert apply(learner, second)
    before, seen = learner.replica.digest(), learner.samples_seen
    assert apply(learner, first, ratio)
    assert learner.replica.digest() != before
    learner.remove(learner.payload(first.norm, first.parts), first.samples, ratio)
    assert (learner.replica.digest(), learner.samples_seen, learner.applied) == (before, seen, 1)
    with pytest.raises(CodecError):
        learner.remove(learner.payload(parts=[b"noise"]), 1)


@pytest.mark.parametrize("task", [Blobs, Halved])
def test_removing_keeps_the_local_progress_of_the_round(task: type[Blobs]) -> None:
    author, learner = Learner(task(), Shard(0, 2), seed=1), Learner(task(), Shard(1, 2), seed=1)
    remote = local_round(author)
    assert apply(learner, remote)
    for _ in range(7):
        learner.step()
    theta, progress = gather(learner.model), gather(learner.model) - learner._base
    learner.remove(learner.payload(parts=remote.parts), remote.samples)
    assert (gather(learner.model) != theta).any()
    assert np.allclose(gather(learner.model) - learner._base, progress, atol=1e-6 if task is Blobs else 2e-2)


def test_a_ratio_counts_for_own_and_remote_updates_alike() -> None:
    author, learner = Learner(Blobs(), Shard(0, 2)), Learner(Blobs(), Shard(1, 2))
    finished = local_round(author)
    accept(author, finished, FULL // 3)
    assert apply(learner, finished, FULL // 3)
    assert author.replica.digest() == learner.replica.digest()
    moved = author.replica.read() - Learner(Blobs(), Shard(0, 2)).replica.read()
    assert np.linalg.norm(moved) == pytest.approx(finished.norm / 3, rel=1e-3)


def test_a_round_declares_the_norm_of_what_it_adds() -> None:
    learner = Learner(Blobs(), Shard())
    genesis = learner.replica.read()
    finished = local_round(learner, share=0.25)
    accept(learner, finished)
    assert finished.norm == pytest.approx(np.linalg.norm(learner.replica.read() - genesis), rel=1e-5)
    assert learner.payload(finished.norm, finished.parts).void is None
    assert not learner.apply(learner.payload(finished.norm * 0.999, finished.parts), 1)


def test_going_on_from_another_replica() -> None:
    """As a joiner, or as one whose swarm's history was given up: with other units too."""
    other = Learner(Blobs(), Shard(1, 2))
    accept(other, local_round(other))
    coarse = Replica.from_weights(other.layout, [e + 1 for e in other.exponents], other.replica.read())
    learner = Learner(Blobs(), Shard(0, 2))
    for _ in range(2):
        accept(learner, local_round(learner))
    learner.step()
    learner.load(coarse, 5000)
    assert learner.exponents == coarse.exponents
    assert learner.replica.digest() == coarse.digest()
    assert (gather(learner.model) == coarse.read()).all()
    assert (learner.averaged() == coarse.read()).all()
    assert (learner.samples_seen, learner.round_samples) == (5000, 0)
    assert not learner.encoder.pending.any() and not learner.encoder.momentum.any()
    finished = local_round(learner)
    genesis = learner.replica.read()
    accept(learner, finished)
    assert finished.norm == pytest.approx(np.linalg.norm(learner.replica.read() - genesis), rel=1e-5)
    state = saved(learner)
    expected = local_round(learner)
    restored = Learner(Blobs(), Shard(0, 2))
    restored.load_state(state)
    assert restored.exponents == coarse.exponents
    assert local_round(restored) == expected
