"""A script's life with a scripted daemon: rounds, merges, pauses, losses of the daemon, failures, restarts."""

from __future__ import annotations

import math
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from learnae import protocol, snapshot
from learnae.blocks import Blocks
from learnae.errors import ConfigError, LayoutError, TrainerError
from learnae.model import gather
from learnae.trainer.checkpoint import FILE_NAME
from tests.loop.support import (
    ME,
    OTHER,
    FakeLink,
    Script,
    add,
    digest,
    perceptron,
    sum_of,
    trained,
    updates,
)

SLOT = 0.05


@pytest.fixture
def link(tmp_path: Path) -> FakeLink:
    return trained(FakeLink(tmp_path))


def replica(script: Script) -> bytes:
    return script.weights.replica.digest()


# --- rounds


def test_rounds_are_handed_in_and_their_sum_is_the_replica(link: FakeLink) -> None:
    script = Script(None, None, link)
    before = gather(script.model)
    with script.swarm as swarm:
        script.until(lambda: swarm.rounds == 4)
        assert swarm.attached and not swarm.finished
    done = link.of(protocol.RoundDone)
    assert len(done) >= 4 and [one.after for one in done] == list(range(len(done)))
    assert all(one.share == 0.5 and one.samples and one.loss and one.loss < 3 for one in done)
    assert replica(script) == sum_of(*(one.parts for one in done)) != sum_of()
    assert sum(one.samples for one in done) == swarm.samples == 16 * swarm.steps
    assert (gather(script.model) == script.weights.replica.read()).all(), "the block leaves the swarm's weights behind"
    assert (gather(script.model) != before).any()
    assert link.closed and script.daemon.ended is True


def test_hello_names_the_model_and_its_first_weights_are_there(link: FakeLink, tmp_path: Path) -> None:
    script = Script(None, None, link)
    root = snapshot.root_of(script.weights.replica.pieces()).cid
    with script.swarm:
        pass
    (hello,) = link.of(protocol.Hello)
    assert hello.genesis == script.genesis.to_wire()
    assert (hello.base, hello.applied, hello.own_seq, hello.parameters) == (None, [], 0, 8 * 16 + 16 + 16 * 4 + 4)
    assert sum(map(len, snapshot.read(Blocks(tmp_path / "blocks"), root))) > 4 * hello.parameters


def test_a_round_has_the_steps_since_the_last_one_even_while_that_one_is_on_its_way(tmp_path: Path) -> None:
    link = FakeLink(tmp_path)
    link.tell(protocol.SetMode("train"))
    script = Script(None, None, link)
    with script.swarm as swarm:
        script.until(lambda: link.of(protocol.RoundDone))
        (first,) = link.of(protocol.RoundDone)
        for _ in range(50):
            script.step()
        assert link.of(protocol.RoundDone) == [first], "one round is under way at a time"
        link.accept_rounds()
        link.tell(protocol.Accepted(ME, 1, digest(first.parts), 1, 65536))
        script.until(lambda: swarm.rounds == 3)
        while script.weights.closed:
            script.step()
        moved = script.weights.round_steps
    rounds = link.of(protocol.RoundDone)
    assert sum(one.samples for one in rounds) == 16 * swarm.steps
    assert moved < 50 <= rounds[1].samples // 16
    assert replica(script) == sum_of(*(one.parts for one in rounds))


def test_the_steps_of_a_slot_are_bounded_where_the_swarm_wants_that(link: FakeLink) -> None:
    script = Script(None, None, link, round_steps=3, slot_seconds=SLOT)
    with script.swarm as swarm:
        began = time.monotonic()
        for _ in range(13):
            script.step()
        took = time.monotonic() - began
        assert swarm.steps == 13
    assert took > 3 * SLOT, "it waits for the slots of the clock"


# --- the updates of others


def test_updates_are_added_once_and_the_model_follows(link: FakeLink) -> None:
    one, two = updates(2)
    script = Script(None, None, link, slot_seconds=1000.0)
    with script.swarm as swarm:
        before = gather(script.model)
        link.tell(*add(one), *add(two, seq=2), *add(one))
        while link.waiting or not script.weights.idle:
            script.tell(0)
        assert swarm.statistics().applied == 2
        assert replica(script) == sum_of(one.parts, two.parts)
        moved = gather(script.model) - before
        assert (moved != 0).sum() > 4
        assert abs(gather(script.model) - script.weights.replica.read()).max() < 1e-6
        assert swarm.samples_seen == one.samples + two.samples


def test_a_void_update_adds_nothing_and_is_told(link: FakeLink) -> None:
    (one,) = updates(1)
    one.parts[0] = one.parts[0][:-1]
    script = Script(None, None, link)
    with script.swarm as swarm:
        link.tell(*add(one))
        while link.waiting:
            script.tell(0)
        assert link.of(protocol.Void) == [protocol.Void(OTHER, 1)]
        assert swarm.statistics().void == 1


def test_a_cut_is_written_beside_the_training(link: FakeLink, tmp_path: Path) -> None:
    (one,) = updates(1)
    script = Script(None, None, link, slot_seconds=1000.0)
    with script.swarm as swarm:
        link.tell(*add(one), protocol.TakeCut(3, 7, 0))
        script.until(lambda: link.of(protocol.CutTaken))
        (cut,) = link.of(protocol.CutTaken)
        root = snapshot.root_of(script.weights.replica.pieces()).cid
        assert (cut.index, cut.token, cut.weights) == (3, 7, root)
        link.tell(protocol.Load(root, b"base", bytes(32), 1234))
        script.until(lambda: swarm.samples_seen == 1234)
        assert replica(script) == sum_of(one.parts)


def test_going_over_to_other_weights_drops_what_was_on_its_way(tmp_path: Path) -> None:
    link = FakeLink(tmp_path)
    link.tell(protocol.SetMode("train"))
    script = Script(None, None, link)
    other = Script(perceptron(5))
    root = snapshot.write(Blocks(tmp_path / "blocks"), other.weights.replica.pieces()).cid
    with script.swarm:
        script.until(lambda: link.of(protocol.RoundDone))
        assert script.optimizer.state
        link.tell(protocol.Load(root, b"base", bytes(32), 77), protocol.Accepted(b"", 0, b"", 0, None))
        while link.waiting:
            script.tell(0)
        assert not script.optimizer.state, "its state belongs to the weights that were"
        assert replica(script) == replica(other)
        assert (gather(script.model) == gather(other.model)).all()
        link.accept_rounds()
        script.until(lambda: len(link.of(protocol.RoundDone)) == 2)
    assert [one.loads for one in link.of(protocol.RoundDone)][:2] == [0, 1]


# --- what the daemon says of training


def test_a_pause_holds_the_loop_and_merges_go_on(link: FakeLink) -> None:
    (one,) = updates(1)
    script = Script(None, None, link)
    with script.swarm as swarm:
        link.tell(protocol.SetMode("pause"), *add(one), protocol.SetMode("train"))
        script.until(lambda: not link.waiting and script.weights.idle, 10)
        assert swarm.statistics().applied == 1
        assert swarm.statistics().mode == "train"


def test_finishing_ends_the_loop_after_its_last_round(link: FakeLink) -> None:
    script = Script(None, None, link)
    with script.swarm as swarm:
        script.until(lambda: swarm.rounds == 1)
        link.tell(protocol.SetMode("finish"))
        steps = 0
        while script.step():
            steps += 1
            assert steps < 100
        assert swarm.finished
        assert link.said[-1] == protocol.Finished() or link.of(protocol.Finished)
    assert len(link.of(protocol.Finished)) == 1
    assert replica(script) == sum_of(*(one.parts for one in link.of(protocol.RoundDone)))


def test_leaving_a_daemon_of_its_own_waits_until_the_swarm_has_settled(tmp_path: Path) -> None:
    link = trained(FakeLink(tmp_path))
    link.settle()
    (late,) = updates(1)
    link.rules.insert(0, lambda said: link.tell(*add(late)) if isinstance(said, protocol.Finished) else None)
    script = Script(None, None, link, own=True, evaluate=lambda model: {"zero": 0.0})
    with script.swarm as swarm:
        script.until(lambda: swarm.rounds == 1)
    report = link.of(protocol.Report)[-1]
    assert report.final and report.metrics == {"zero": 0.0}
    assert report.digest == replica(script) == sum_of(late.parts, *(one.parts for one in link.of(protocol.RoundDone)))
    assert script.daemon.ended is True


def test_a_script_that_is_told_to_end_is_told_why(link: FakeLink) -> None:
    script = Script(None, None, link)
    with pytest.raises(TrainerError, match="no room") as caught, script.swarm as swarm:
        link.tell(protocol.Refused("no room", "trainer-ended"))
        script.until(lambda: swarm.finished)
    assert caught.value.code == "trainer-ended"


# --- without a daemon


def test_without_its_daemon_a_script_goes_on_alone_and_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("learnae.loop.seeker.SECONDS", 0.01)
    first, second = trained(FakeLink(tmp_path)), trained(FakeLink(tmp_path))
    (one,) = updates(1)
    script = Script(None, None, first, second)
    with script.swarm as swarm:
        script.until(lambda: swarm.rounds == 2)
        first.tell(*add(one), None)
        script.until(lambda: not swarm.attached)
        assert "goes on alone" in caplog.text
        script.until(lambda: swarm.attached)
        script.until(lambda: second.of(protocol.RoundDone))
    (hello,) = second.of(protocol.Hello)
    handed = [one.parts for one in first.of(protocol.RoundDone)]
    assert [row[0] for row in hello.applied].count(OTHER) == 1
    parts = [one.parts] + [each for each in handed if each not in [r.parts for r in second.of(protocol.RoundDone)]]
    assert replica(script) == sum_of(*parts, *(r.parts for r in second.of(protocol.RoundDone)))


def test_a_round_whose_answer_was_lost_with_the_daemon_is_handed_in_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("learnae.loop.seeker.SECONDS", 0.01)
    first, second = FakeLink(tmp_path), trained(FakeLink(tmp_path))
    first.tell(protocol.SetMode("train"))
    first.rules.append(lambda said: first.tell(None) if isinstance(said, protocol.RoundDone) else None)
    script = Script(None, None, first, second)
    with script.swarm as swarm:
        script.until(lambda: not swarm.attached)
        script.until(lambda: len(second.of(protocol.RoundDone)) == 2)
    rounds = second.of(protocol.RoundDone)
    assert rounds[0].parts == first.of(protocol.RoundDone)[0].parts
    assert replica(script) == sum_of(*(one.parts for one in rounds))
    assert sum(one.samples for one in rounds) == 16 * swarm.steps


# --- restarts


def test_a_script_that_was_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    link = trained(FakeLink(tmp_path))
    script = Script(perceptron(1), None, link)
    swarm = script.swarm.start()
    script.until(lambda: swarm.rounds == 3)
    script.until(lambda: script.session.rounds.at_rest and script.weights.idle)
    script.session.save(wait=True)  # and no more: as by kill -9
    rounds = swarm.rounds
    theta, momentum = gather(script.model), script.weights.encoder.momentum.copy()
    again = trained(FakeLink(tmp_path))
    other = Script(perceptron(2), None, again)  # another model each time it starts, as without a seed
    with other.swarm:
        assert other.swarm.steps == swarm.steps and other.swarm.rounds == rounds
        assert (gather(other.model) == theta).all()
        assert (other.weights.encoder.momentum == momentum).all()
        assert replica(other) == replica(script)
        assert str(other.optimizer.state_dict()) == str(script.optimizer.state_dict())
        (hello,) = again.of(protocol.Hello)
        assert hello.genesis == script.genesis.to_wire() != other.genesis.to_wire()
        assert hello.own_seq == rounds == len(hello.applied)
    script.swarm.close(KeyboardInterrupt())


def test_without_a_saved_state_it_begins_with_the_weights_of_the_first_time(tmp_path: Path) -> None:
    link = trained(FakeLink(tmp_path))
    script = Script(perceptron(1), None, link)
    first = gather(script.model)
    script.swarm.start()
    other = Script(perceptron(2), None, trained(FakeLink(tmp_path)))
    with other.swarm:
        assert (gather(other.model) == first).all()
        assert other.swarm.steps == 0
    script.swarm.close(KeyboardInterrupt())


def test_a_damaged_state_is_set_aside_and_told(tmp_path: Path) -> None:
    with Script(None, None, trained(FakeLink(tmp_path))).swarm:
        pass
    (state,) = tmp_path.glob(f"trainer/*/{FILE_NAME}")
    state.write_bytes(b"rubbish" * 100)
    link = trained(FakeLink(tmp_path))
    with Script(None, None, link).swarm as swarm:
        assert swarm.steps == 0
    (warned,) = link.of(protocol.Warned)
    assert "moved aside" in warned.text
    assert state.with_suffix(".aside").exists()


def test_the_state_of_another_optimiser_is_set_aside(tmp_path: Path) -> None:
    script = Script(None, None, trained(FakeLink(tmp_path)))
    with script.swarm:
        script.until(lambda: script.swarm.rounds == 1)
    link = trained(FakeLink(tmp_path))
    two = Script(None, lambda m: torch.optim.SGD([{"params": [p]} for p in m.parameters()], lr=0.1), link)
    with two.swarm:
        two.step()
    assert "moved aside" in link.of(protocol.Warned)[0].text


# --- what can go wrong in a loop


@pytest.mark.parametrize("where", ["loss", "weights", "tensor"])
def test_a_round_that_is_not_finite_is_dropped_and_poisons_nobody(link: FakeLink, where: str) -> None:
    script = Script(None, None, link)
    with script.swarm as swarm:
        script.until(lambda: swarm.rounds == 2 and not script.weights.closed)
        good = len(link.of(protocol.RoundDone))
        if where == "loss":
            script.tell(1, math.nan)
        elif where == "tensor":
            script.tell(1, torch.tensor(math.inf, requires_grad=True))
        else:
            with torch.no_grad():
                next(script.model.parameters())[0, 0] = math.nan
            script.optimizer.state[next(script.model.parameters())]["exp_avg"][0, 0] = math.nan
        while not swarm.statistics().dropped:
            script.tell(1)
        assert len(link.of(protocol.RoundDone)) == good
        assert "NaN" in link.of(protocol.Warned)[-1].text
        assert (gather(script.model) == script.weights.replica.read()).all()
        script.until(lambda: swarm.rounds >= good + 2)
        assert swarm.statistics().dropped == 1, "the optimiser is sound again, too"
    assert replica(script) == sum_of(*(one.parts for one in link.of(protocol.RoundDone)))


def test_an_error_of_the_script_is_its_own_and_is_told(link: FakeLink, tmp_path: Path) -> None:
    script = Script(None, None, link)
    with pytest.raises(ZeroDivisionError), script.swarm as swarm:
        script.until(lambda: swarm.rounds == 1)
        swarm.step(samples=1 // 0)
    (failed,) = link.of(protocol.Failed)
    assert "ZeroDivisionError" in failed.message and "test_swarm.py" in failed.traceback
    assert (failed.fatal, failed.memory, failed.code) == (False, False, "task-failed")
    assert list(tmp_path.glob(f"trainer/*/{FILE_NAME}")) and link.closed
    assert script.daemon.ended is False


def test_an_interrupted_script_leaves_quietly(link: FakeLink) -> None:
    script = Script(None, None, link)
    with pytest.raises(KeyboardInterrupt), script.swarm:
        raise KeyboardInterrupt
    assert not link.of(protocol.Failed) and link.closed


def test_out_of_memory_is_told_as_such(link: FakeLink) -> None:
    script = Script(None, None, link)
    with pytest.raises(RuntimeError), script.swarm:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes")
    (failed,) = link.of(protocol.Failed)
    assert failed.memory


def test_a_model_that_changes_while_it_trains_is_refused(link: FakeLink) -> None:
    script = Script(None, None, link)
    with pytest.raises(LayoutError, match="others than when it joined"), script.swarm:
        script.step()
        script.model.add_module("more", nn.Linear(8, 16))
        for _ in range(100):
            script.tell()


def test_a_loss_of_many_numbers_is_refused(link: FakeLink) -> None:
    with pytest.raises(Exception, match="tensor of 3 values"), Script(None, None, link).swarm as swarm:
        swarm.step(loss=torch.ones(3))


def test_a_step_outside_of_the_block_is_refused(link: FakeLink) -> None:
    script = Script(None, None, link)
    with pytest.raises(TrainerError, match="outside of the block"):
        script.swarm.step()
    with script.swarm:
        pass
    with pytest.raises(TrainerError, match="outside of the block"):
        for _ in range(100):
            script.swarm.step()


# --- what the script may ask


def test_evaluating_and_snapshots_leave_the_model_as_it_is(link: FakeLink) -> None:
    model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 4))
    model[1].eval()
    script = Script(model, None, link, slot_seconds=1000.0)
    with script.swarm as swarm:
        for _ in range(5):
            script.step()
        theta = gather(model)
        modes: list[bool] = []

        def function(shown: nn.Module) -> dict[str, float]:
            modes.append(shown.training)
            return {"moved": float(abs(gather(shown) - theta).max())}

        assert swarm.evaluate(function)["moved"] > 0
        state = swarm.snapshot()
        assert (gather(model) == theta).all() and modes == [False]
        assert model.training and not model[1].training
        assert state.keys() == model.state_dict().keys()
        assert not torch.equal(state["0.weight"], model.get_parameter("0.weight"))
        with pytest.raises(ConfigError, match="nothing to evaluate with"):
            swarm.evaluate()


def test_a_step_with_nothing_to_do_costs_little(link: FakeLink) -> None:
    """Measured as the processor's time, and the best of many: the machine may be busy."""
    script = Script(None, None, link, slot_seconds=1000.0)
    with script.swarm as swarm:
        script.step()
        costs = []
        for _ in range(200):
            began = time.process_time_ns()
            for _ in range(10):
                swarm.step(samples=16, loss=0.5)
            costs.append((time.process_time_ns() - began) / 10)
    assert sorted(costs)[len(costs) // 2] < 50_000
