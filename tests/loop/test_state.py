"""A script's state: copied while it trains, and as exact as if nothing had been done meanwhile."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from learnae import protocol
from learnae.loop import state
from learnae.loop.state import StateCopy
from learnae.loop.weights import LiveWeights
from learnae.model import gather
from learnae.trainer.checkpoint import FILE_NAME
from tests.loop.support import FakeLink, Script, add, batches, finish, perceptron, trained, updates


class Net(nn.Module):
    """Large and small parameters, of two data types, one that does not lie in order, and a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 200)
        self.norm = nn.BatchNorm1d(200)
        self.turned = nn.Parameter(torch.randn(16, 200).t() / 16)
        self.coarse = nn.Linear(16, 200, dtype=torch.bfloat16)
        self.last = nn.Linear(200, 4)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        hidden = self.norm(self.first(inputs)).relu() @ self.turned
        found: torch.Tensor = self.last(self.coarse(hidden.bfloat16()).float())
        return found


def train(model: nn.Module, optimizer: torch.optim.Optimizer, weights: LiveWeights, steps: int, seed: int) -> None:
    data = batches(seed)
    for _ in range(steps):
        inputs, labels = next(data)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(inputs), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        weights.note(16, loss)


def test_a_copy_is_that_of_one_moment_though_steps_are_done_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "_SLICE", 4096)
    torch.manual_seed(0)
    model = Net()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    weights = LiveWeights(model, (optimizer,))
    train(model, optimizer, weights, 3, seed=1)
    finish(weights)
    train(model, optimizer, weights, 2, seed=2)
    copy = StateCopy(weights)
    copy.make_room()
    weights.copy_later(copy)
    slices = 0
    while not copy.done:
        train(model, optimizer, weights, 1, seed=slices)
        weights.work()
        slices += 1
    assert slices > 5 * 4, "five vectors of more than four slices each"
    whole = weights.state()
    assert copy.arrays.keys() == whole.keys()
    assert all((copy.arrays[name] == whole[name]).all() for name in whole if name != "torch")
    before = gather(model)
    train(model, optimizer, weights, 3, seed=3)
    other = Net()
    again = torch.optim.Adam(other.parameters(), lr=0.5)
    restarted = LiveWeights(other, (again,))
    restarted.load_state(copy.arrays)
    assert (gather(other) == before).all()
    assert other.turned.stride() == model.turned.stride()
    train(other, again, restarted, 3, seed=3)
    assert (gather(other) == gather(model)).all()
    assert str(again.state_dict()) == str(optimizer.state_dict())
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name
    assert restarted.mean_loss == weights.mean_loss and restarted.steps == weights.steps


def test_room_is_got_beforehand_and_more_if_it_was_too_small() -> None:
    model = perceptron()
    wide = nn.Sequential(nn.Linear(8, 400), nn.ReLU(), nn.Linear(400, 4))
    optimizer = torch.optim.Adam(wide.parameters())
    weights = LiveWeights(wide, (optimizer,))
    copy = StateCopy(weights)
    copy.make_room()
    train(wide, optimizer, weights, 1, seed=0)  # only now there is a state of the optimiser
    for _ in copy.fill():
        pass
    assert not LiveWeights(model).statistics().steps
    theta = gather(wide)
    exact = LiveWeights(wide, (torch.optim.Adam(wide.parameters()),))
    exact.load_state(copy.arrays)
    assert (gather(wide) == theta).all() and exact.steps == 1


def test_a_survey_finds_what_the_replica_says() -> None:
    weights = LiveWeights(nn.Sequential(nn.Linear(500, 400), nn.Linear(400, 4)))
    survey = weights.survey_later()
    weights.work()
    assert not survey.digest
    weights.finish_work()
    assert (survey.digest, survey.alarms) == (weights.replica.digest(), [])
    weights.replica.weights[7] = weights.replica.weights[-1] = 2**30
    survey = weights.survey_later()
    weights.finish_work()
    assert survey.alarms == weights.replica.alarms() == ["0.weight", "1.bias"]


# --- a restart


def kept(script: Script, directory: Path) -> None:
    """Train until the state has been kept anew, and no further."""
    for file in directory.glob(f"trainer/*/{FILE_NAME}"):
        file.unlink()
    script.session._keeper._budget._next = 0.0
    script.until(lambda: list(directory.glob(f"trainer/*/{FILE_NAME}")))


def skipped(script: Script) -> None:
    """Go on in the data where the script was."""
    for _ in range(script.swarm.steps):
        next(script.data)


def test_killed_and_restarted_is_as_if_it_had_not_been(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Model, momentum, error feedback, optimiser, position in the data and books, to the bit."""
    monkeypatch.setattr("learnae.loop.session._SLICE_SECONDS", 60.0)  # by steps, not by the clock
    others = updates(2)

    def run(directory: Path, *, kill: bool) -> tuple[Script, int]:
        link = trained(FakeLink(directory))
        script = Script(perceptron(1), None, link)
        script.swarm.start()
        script.until(lambda: script.swarm.rounds == 2)
        link.tell(*add(others[0], seq=1))
        script.until(lambda: script.swarm.steps == 13)
        kept(script, directory)
        saved = script.swarm.steps
        if kill:
            script.until(lambda: script.swarm.steps == saved + 2)  # which are lost
            script.session.close()  # and nothing is saved
            link = trained(FakeLink(directory))
            script = Script(perceptron(2), None, link)
            script.swarm.start()
            assert script.swarm.steps == saved
            skipped(script)
        script.until(lambda: script.swarm.steps == 23)
        link.tell(*add(others[1], seq=2))
        script.until(lambda: script.swarm.steps == 43 and script.weights.idle and script.session.rounds.at_rest)
        return script, saved

    straight, saved = run(tmp_path / "straight", kill=False)
    killed, same = run(tmp_path / "killed", kill=True)
    assert saved == same < 23
    assert straight.swarm.steps == killed.swarm.steps
    assert (gather(straight.model) == gather(killed.model)).all()
    assert str(straight.optimizer.state_dict()) == str(killed.optimizer.state_dict())
    one, two = straight.weights.state(), killed.weights.state()
    assert {"momentum", "pending", "replica", "base", "average", "counters"} < one.keys() == two.keys()
    for name in one.keys() - {"torch"}:
        np.testing.assert_array_equal(one[name], two[name], err_msg=name)
    assert np.abs(one["momentum"]).max() > 0 and np.abs(one["pending"]).max() > 0
    assert [*straight.session.rounds.books.rows()] == [*killed.session.rounds.books.rows()]
    for script in (straight, killed):
        script.swarm.close(KeyboardInterrupt())


def test_weights_that_are_given_up_while_they_are_copied_are_not_kept(tmp_path: Path) -> None:
    link = trained(FakeLink(tmp_path))
    script = Script(None, None, link)
    with script.swarm as swarm:
        script.until(lambda: swarm.rounds == 1)
        kept(script, tmp_path)
        script.until(lambda: script.weights.idle and script.session.rounds.at_rest)
        keeper = script.session._keeper
        keeper._budget._next = 0.0
        keeper.begin(script.session.aside)
        assert keeper.advance(script.session.rounds.books, script.session.aside, at_rest=True)
        script.weights.work()
        script.weights.load(script.weights.replica.copy(), 0)
        for file in tmp_path.glob(f"trainer/*/{FILE_NAME}"):
            file.unlink()
        assert keeper.advance(script.session.rounds.books, script.session.aside, at_rest=True)
        assert not list(tmp_path.glob(f"trainer/*/{FILE_NAME}"))
        kept(script, tmp_path)
    assert not link.of(protocol.Warned)
