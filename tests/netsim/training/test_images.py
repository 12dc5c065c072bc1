from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
import torch

from learnae.learner import Learner
from learnae.model import gather
from learnae.rules import FULL
from learnae.task import Shard
from learnae.tasks.digits import Digits
from learnae.tasks.images import Batch, perceptron
from netsim.scenario import Nodes, Run, Scenario, Workload
from netsim.workloads import images, lockstep
from netsim.workloads.images import Images, Pupil
from netsim.workloads.lockstep import Lockstep

NODES = 5


def crew(nodes: int = NODES, attack: str | None = None, shards: int | None = None) -> Images:
    groups = (Nodes(count=nodes, attack=attack),)
    workload = Workload(task="digits", alpha=0.1, shards=shards)
    return Images(Scenario(purpose="a test", run=Run(seconds=10), workload=workload, nodes=groups), 3)


def plain(pupil: Pupil) -> Learner:
    return Learner(pupil.task, pupil.shard, pupil.encoder.settings, pupil.seed)


def test_steps_done_together_are_those_that_each_learner_would_do() -> None:
    those = crew(shards=60)  # shards of fewer samples than a batch, of unequal sizes
    pupils = [those.trainer(number) for number in range(NODES)]
    learners = [plain(pupil) for pupil in pupils]
    for _ in range(2):
        for number, (pupil, learner) in enumerate(zip(pupils, learners, strict=True)):
            pupil.advance(10 + 3 * number)
            for _ in range(10 + 3 * number):
                learner.step()
        rounds = [
            (pupil.finish_round(0.2), learner.finish_round(0.2))
            for pupil, learner in zip(pupils, learners, strict=True)
        ]
        for (ours, theirs), pupil, learner in zip(rounds, pupils, learners, strict=True):
            assert (ours.samples, ours.steps) == (theirs.samples, theirs.steps)
            assert ours.loss == pytest.approx(theirs.loss, rel=1e-4)
            np.testing.assert_allclose(gather(pupil.model), gather(learner.model), rtol=0, atol=2e-5)
            payload = learner.payload(theirs.norm, theirs.parts)
            learner.accept(payload, theirs.samples, FULL)
            pupil.accept(payload, theirs.samples, FULL)
            assert pupil.replica.digest() == learner.replica.digest()


def test_a_clipped_gradient_moves_no_further_together_than_alone() -> None:
    class Steep(Digits):
        max_grad_norm = 0.01

    those = crew()
    cast(Any, those)._task = Steep()
    group = Lockstep(perceptron(64, 128, 64, 10), 1, 0.9, 0.01)
    pupil = those.trainer(0)
    cast(Any, those)._lockstep = None
    before = gather(pupil.model)
    group.put(0, *pupil.tensors())
    batch = next(Digits().batches(pupil.shard, 0))
    group.step([batch], [1.0])
    group.get(0, *pupil.tensors())
    assert float(np.linalg.norm(gather(pupil.model) - before)) == pytest.approx(0.01, rel=1e-3)


def test_the_learning_rate_follows_the_rule_of_the_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Digits, "learning_rate", lambda self, samples: 0.25)
    those = crew(2)
    pupil = those.trainer(0)
    learner = plain(pupil)
    pupil.advance(8)
    for _ in range(8):
        learner.step()
    np.testing.assert_allclose(pupil.weights(), gather(learner.model), rtol=0, atol=1e-6)


def test_looking_at_one_does_the_steps_of_all_and_of_none_twice() -> None:
    those = crew()
    pupils = [those.trainer(number) for number in range(NODES)]
    for pupil in pupils:
        pupil.advance(4)
        pupil.advance(2)
    assert pupils[2].finish_round(0.1).steps == 6
    assert [pupil.finish_round(0.1).steps for pupil in (pupils[0], pupils[4])] == [6, 6]


def test_a_restart_goes_on_exactly_where_the_state_was_taken() -> None:
    those = crew()
    pupil = those.trainer(1)
    pupil.advance(7)
    state = pupil.state()
    pupil.advance(9)
    expected = pupil.weights()
    again = those.trainer(1)
    again.load_state(state)
    again.advance(9)
    assert again.weights().tobytes() == expected.tobytes()


def test_equal_runs_are_equal_to_the_bit() -> None:
    ends = []
    for _ in range(2):
        those = crew()
        pupils = [those.trainer(number) for number in range(NODES)]
        for pupil in pupils:
            pupil.advance(20)
        ends.append([pupil.finish_round(0.2).parts for pupil in pupils])
    assert ends[0] == ends[1]


def test_a_network_whose_loss_is_not_finite_stays_where_it_is() -> None:
    model = perceptron(4, 3, 2)
    group = Lockstep(model, 2, 0.9, 1.0)
    weights = [parameter.detach() for parameter in model.parameters()]
    for row in range(2):
        group.put(row, weights, [torch.ones_like(weight) for weight in weights])
    good: Batch = torch.ones(3, 4), torch.tensor([0, 1, 0])
    bad: Batch = torch.full((3, 4), float("nan")), torch.tensor([0, 1, 0])
    losses = group.step([bad, good], [0.1, 0.1])
    assert np.isnan(losses[0]) and np.isfinite(losses[1])
    kept, momenta = [torch.empty_like(w) for w in weights], [torch.empty_like(w) for w in weights]
    group.get(0, kept, momenta)
    assert all(torch.equal(a, b) for a, b in zip(kept, weights, strict=True))
    assert all(bool((m == 1).all()) for m in momenta)
    group.get(1, kept, momenta)
    assert all(bool(a.isfinite().all()) and not torch.equal(a, b) for a, b in zip(kept, weights, strict=True))


def test_other_tasks_step_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    together = crew()
    monkeypatch.setattr(lockstep, "layers", lambda model: None)
    monkeypatch.setattr(images, "layers", lambda model: None)
    apart = crew()
    ends = []
    for those in (together, apart):
        pupil = those.trainer(0)
        pupil.advance(10)
        ends.append(pupil.weights())
    np.testing.assert_allclose(ends[0], ends[1], rtol=0, atol=1e-5)


def test_what_is_no_perceptron_is_not_taken_for_one() -> None:
    linear, relu = torch.nn.Linear, torch.nn.ReLU
    assert lockstep.layers(perceptron(3, 4, 2)) is not None
    assert lockstep.layers(linear(3, 2)) is None
    assert lockstep.layers(torch.nn.Sequential(linear(3, 2), relu())) is None
    assert lockstep.layers(torch.nn.Sequential(linear(3, 2), torch.nn.Tanh(), linear(2, 2))) is None
    assert lockstep.layers(torch.nn.Sequential(linear(3, 2, bias=False), relu(), linear(2, 2))) is None


def test_equal_weights_are_judged_once(monkeypatch: pytest.MonkeyPatch) -> None:
    those = crew()
    pupils = [those.trainer(number) for number in range(NODES)]
    asked: list[int] = []
    judge = Digits.evaluate

    def counted(self: Digits, model: torch.nn.Module) -> dict[str, float]:
        asked.append(1)
        return judge(self, model)

    monkeypatch.setattr(Digits, "evaluate", counted)
    pupils[3].set_weights(pupils[3].weights() * 2)
    assert len(set(those.scores(pupils))) == 1
    assert len(asked) == 1
    assert those.scores_of([pupils[0].weights(), pupils[3].weights()])[0] == those.scores(pupils[:1])[0]


def test_those_who_flip_labels_train_on_false_ones() -> None:
    honest, false = crew().trainer(0), crew(attack="label-flip").trainer(0)
    (images_of_one, labels), (images_of_other, others) = honest.draw(), false.draw()
    assert torch.equal(images_of_one, images_of_other)
    assert torch.equal(labels, 9 - others)


def test_what_is_retired_needs_no_steps() -> None:
    those = crew()
    gone, other = those.trainer(0), those.trainer(1)
    gone.advance(5)
    other.advance(5)
    those.retire(gone)
    other.weights()
    assert gone.draw()[1].tolist() == next(Digits().batches(Shard(0, NODES, 0.1, 3), gone.seed))[1].tolist()
