"""What the callbacks do when a framework calls them; the frameworks themselves need not be there."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from learnae.errors import ConfigError, LayoutError
from learnae.integrations.membership import Membership
from tests.integrations.conftest import FakeSwarm

StandIn = Callable[..., None]


class Unclear(Exception):
    pass


def length(batch: Any) -> int:
    if not isinstance(batch, list):
        raise Unclear("no tensor")
    return len(batch[0])


@pytest.fixture
def hugging(stand_in: StandIn) -> Any:
    names = ("TrainerControl", "TrainerState", "TrainingArguments")
    stand_in("transformers", transformers={"TrainerCallback": type("TrainerCallback", (), {}), **dict.fromkeys(names)})
    return importlib.import_module("learnae.integrations.transformers").LearnaeCallback


@pytest.fixture
def lightning(stand_in: StandIn) -> Any:
    stand_in(
        "lightning",
        lightning={},
        lightning__pytorch={"Callback": type("Callback", (), {}), "LightningModule": nn.Module, "Trainer": object},
        lightning__pytorch__utilities={},
        lightning__pytorch__utilities__data={"extract_batch_size": length},
        lightning__pytorch__utilities__exceptions={"MisconfigurationException": Unclear},
    )
    return importlib.import_module("learnae.integrations.lightning").LearnaeCallback


class Hugging:
    """The Trainer of transformers, as its callbacks see it."""

    def __init__(self, callback: Any, steps: int = 0, **arguments: Any) -> None:
        self.callback = callback
        usual = {"train_batch_size": 8, "gradient_accumulation_steps": 2, "world_size": 1}
        self.args = SimpleNamespace(**{**usual, "load_best_model_at_end": False, "deepspeed": None, **arguments})
        self.state = SimpleNamespace(global_step=steps, max_steps=10, train_batch_size=8)
        self.control = SimpleNamespace(should_training_stop=False)
        self.model = nn.Linear(2, 2)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1.0)
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda step: 1 - step / 10)

    def tell(self, event: str, **more: Any) -> None:
        about = {"model": self.model, "optimizer": self.optimizer, "lr_scheduler": self.scheduler}
        getattr(self.callback, f"on_{event}")(self.args, self.state, self.control, **about, **more)


def test_transformers_steps_samples_and_losses_are_told(hugging: Any, joined: list[FakeSwarm]) -> None:
    trainer = Hugging(hugging("t", slot_seconds=3.0))
    trainer.tell("train_begin")
    (swarm,) = joined
    assert (swarm.topic, swarm.model, swarm.started) == ("t", trainer.model, 1)
    assert swarm.optimizers == [trainer.optimizer] and swarm.settings == {"slot_seconds": 3.0}
    trainer.tell("step_end")
    trainer.tell("log", logs={"loss": 0.5, "learning_rate": 1.0})
    trainer.tell("log", logs={"eval_loss": 9.0})
    trainer.tell("step_end")
    trainer.tell("step_end")
    assert swarm.told == [(16, None), (16, 0.5), (16, None)]
    assert not trainer.control.should_training_stop
    trainer.tell("train_end")
    assert swarm.closed == [None]
    assert trainer.callback.swarm is swarm


def test_transformers_ends_when_the_node_is_told_to_finish(hugging: Any, joined: list[FakeSwarm]) -> None:
    trainer = Hugging(hugging("t", last=2))
    trainer.tell("train_begin")
    trainer.tell("step_end")
    assert not trainer.control.should_training_stop
    trainer.tell("step_end")
    assert trainer.control.should_training_stop


@pytest.mark.parametrize("checkpoint", [0, 4])
def test_transformers_goes_on_where_the_node_was(hugging: Any, joined: list[FakeSwarm], checkpoint: int) -> None:
    """With or without a checkpoint of its own, which may be older, the Trainer's schedule is where the weights are."""
    trainer = Hugging(hugging("t", before=6), steps=checkpoint)
    for _ in range(checkpoint):
        trainer.optimizer.step()
        trainer.scheduler.step()
    trainer.tell("train_begin")
    for step in range(6, 10):
        assert not trainer.control.should_training_stop
        trainer.optimizer.step()
        trainer.scheduler.step()
        assert math.isclose(trainer.optimizer.param_groups[0]["lr"], 1 - (step + 1) / 10, abs_tol=1e-12)
        trainer.tell("step_end")
    assert trainer.control.should_training_stop


@pytest.mark.parametrize("setting", [{"load_best_model_at_end": True}, {"deepspeed": "zero.json"}])
def test_transformers_settings_that_put_other_weights_into_the_model_are_refused(
    hugging: Any, joined: list[FakeSwarm], setting: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError, match=rf"{next(iter(setting))} puts weights of its own .* leave it out"):
        Hugging(hugging("t"), **setting).tell("train_begin")
    assert joined == []


def test_several_processes_are_refused(hugging: Any, lightning: Any, joined: list[FakeSwarm]) -> None:
    with pytest.raises(LayoutError, match=r"runs in 2 processes.* train in one process"):
        Hugging(hugging("t"), world_size=2).tell("train_begin")
    with pytest.raises(LayoutError, match="runs in 4 processes"):
        Lightning(lightning("t"), world_size=4).begin()
    assert joined == []


class Lightning:
    """The Trainer of Lightning, as its callbacks see it."""

    def __init__(self, callback: Any, *, automatic: bool = True, **about: Any) -> None:
        self.callback = callback
        self.module = nn.Linear(2, 2)
        self.module.automatic_optimization = automatic  # type: ignore[assignment]
        optimizer = torch.optim.SGD(self.module.parameters(), lr=1.0)
        kinds = {
            interval: torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0) for interval in ("step", "epoch")
        }
        configs = [SimpleNamespace(scheduler=made, interval=interval) for interval, made in kinds.items()]
        usual = {"world_size": 1, "global_step": 0, "accumulate_grad_batches": 1, "estimated_stepping_batches": 10}
        self.trainer = SimpleNamespace(
            optimizers=[optimizer], lr_scheduler_configs=configs, should_stop=False, **{**usual, **about}
        )

    def begin(self) -> None:
        self.callback.on_train_start(self.trainer, self.module)

    def batch(self, outputs: Any, samples: int = 8, *, steps: int = 1) -> None:
        self.trainer.global_step += steps
        self.callback.on_train_batch_end(self.trainer, self.module, outputs, [torch.zeros(samples, 2)], 0)


def test_lightning_steps_samples_and_losses_are_told(lightning: Any, joined: list[FakeSwarm]) -> None:
    one = Lightning(lightning("t"))
    one.begin()
    one.batch({"loss": torch.tensor(0.5)})
    one.batch(torch.tensor(0.25), 4)
    one.batch(None)
    assert joined[0].told == [(8, 0.5), (4, 0.25), (8, None)]
    one.callback.on_train_end(one.trainer, one.module)
    assert joined[0].closed == [None]


@pytest.mark.parametrize("automatic", [True, False])
def test_lightning_steps_of_several_batches_count_once(
    lightning: Any, joined: list[FakeSwarm], automatic: bool
) -> None:
    """What Lightning optimises by itself has its loss divided by the number of batches."""
    one = Lightning(lightning("t"), automatic=automatic, accumulate_grad_batches=2 if automatic else 1)
    one.begin()
    divided = 2 if automatic else 1
    one.batch({"loss": torch.tensor(0.5 / divided)}, steps=0)
    one.batch({"loss": torch.tensor(0.25 / divided)}, 4)
    one.batch({"loss": torch.tensor(1.0 / divided)})
    assert joined[0].told == [(12, 0.375), (8, 1.0)]


def test_lightning_goes_on_where_the_node_was_and_stops_in_time(lightning: Any, joined: list[FakeSwarm]) -> None:
    one = Lightning(lightning("t", before=8))
    one.begin()
    assert [found.scheduler.last_epoch for found in one.trainer.lr_scheduler_configs] == [8, 0]
    one.batch(None)
    assert not one.trainer.should_stop
    one.batch(None)
    assert one.trainer.should_stop


def test_lightning_without_an_end_goes_on_until_the_node_is_told_to_finish(
    lightning: Any, joined: list[FakeSwarm]
) -> None:
    one = Lightning(lightning("t", last=30), estimated_stepping_batches=-1)
    one.begin()
    for _ in range(29):
        one.batch(None)
    assert not one.trainer.should_stop
    one.batch(None)
    assert one.trainer.should_stop


def test_lightning_tells_of_errors(lightning: Any, joined: list[FakeSwarm]) -> None:
    one = Lightning(lightning("t"))
    one.begin()
    error = ZeroDivisionError()
    one.callback.on_exception(one.trainer, one.module, error)
    assert joined[0].closed == [error]


def test_lightning_batches_without_a_length_need_a_function(lightning: Any, joined: list[FakeSwarm]) -> None:
    one = Lightning(lightning("t"))
    one.begin()
    with pytest.raises(ConfigError, match=r"type set cannot be told: give .*batch_size=function"):
        one.callback.on_train_batch_end(one.trainer, one.module, None, {1, 2}, 0)
    other = Lightning(lightning("t", batch_size=len))
    other.begin()
    other.trainer.global_step += 1
    other.callback.on_train_batch_end(other.trainer, other.module, None, {1, 2}, 0)
    assert joined[1].told == [(2, None)]


def test_a_block_around_the_training_tells_of_its_error(joined: list[FakeSwarm]) -> None:
    error = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError), Membership("t") as member:
        member._join(nn.Linear(1, 1), [], 1)
        raise error
    assert joined[0].closed == [error]
    with Membership("t"):
        pass  # nothing was joined: nothing to leave


def test_a_training_after_one_that_failed_leaves_it_first(joined: list[FakeSwarm]) -> None:
    member = Membership("t")
    member._join(nn.Linear(1, 1), [], 1)
    member._join(nn.Linear(1, 1), [], 1)
    assert [swarm.closed for swarm in joined] == [[None], []]
    assert member.swarm is joined[1]  # type: ignore[comparison-overlap]


def test_a_setting_that_there_is_not_is_told_with_the_one_that_was_meant() -> None:
    with pytest.raises(ConfigError, match=r"'slot_second' is no setting.* Did you mean 'slot_seconds'"):
        Membership("t", slot_second=1.0)._join(nn.Linear(1, 1), [], 1)


@pytest.mark.parametrize("extra", ["transformers", "lightning"])
def test_a_missing_framework_is_told_with_the_command_that_installs_it(stand_in: StandIn, extra: str) -> None:
    stand_in(extra, **{extra: None, f"{extra}__pytorch": None})
    with pytest.raises(ModuleNotFoundError) as found:
        importlib.import_module(f"learnae.integrations.{extra}")
    assert str(found.value) == (
        f"learnae.integrations.{extra} needs {extra}, which is not installed: pip install 'learnae[{extra}]'"
    )
