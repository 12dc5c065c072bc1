"""The callbacks inside the real frameworks, whose extras must be installed; the swarm is none."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from learnae.loop.joining import unwrapped
from learnae.loop.weights import LiveWeights
from tests.integrations.conftest import FakeSwarm

pytestmark = pytest.mark.filterwarnings("ignore")  # of others' code, which changes


def needs(module: str) -> Any:
    return pytest.importorskip(
        module, reason=f"{module} is not installed: pip install -c constraints.txt -e '.[integrations]'"
    )


def samples(count: int) -> list[dict[str, torch.Tensor]]:
    random = torch.Generator().manual_seed(0)
    return [{"x": torch.randn(3, generator=random), "labels": torch.ones(1)} for _ in range(count)]


def loader(count: int) -> Any:
    return torch.utils.data.DataLoader(samples(count), batch_size=4)  # type: ignore[arg-type]


class Judged(nn.Module):
    """A model as the Trainer of transformers wants them: it gives its loss first."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 1)

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        guess = self.layer(x)
        return nn.functional.mse_loss(guess, labels), guess


def hugging(directory: Path, callback: Any, **settings: Any) -> Any:
    transformers = needs("transformers")
    usual = {"per_device_train_batch_size": 4, "logging_steps": 2, "report_to": "none", "disable_tqdm": True}
    arguments = transformers.TrainingArguments(output_dir=str(directory), use_cpu=True, **usual, **settings)
    return transformers.Trainer(Judged(), arguments, train_dataset=samples(40), callbacks=[callback])


def test_transformers_calls_at_each_step_of_the_optimiser(tmp_path: Path, joined: list[FakeSwarm]) -> None:
    needs("transformers")
    from learnae.integrations.transformers import LearnaeCallback

    with LearnaeCallback("t") as callback:
        trainer = hugging(tmp_path, callback, max_steps=6, gradient_accumulation_steps=2, save_strategy="no")
        trainer.train()
    (swarm,) = joined
    assert swarm.model is trainer.model and swarm.optimizers[0].param_groups[0]["params"]
    assert [samples for samples, _ in swarm.told] == [8] * 6
    losses = [loss for _, loss in swarm.told]
    logged = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    assert losses == [None, None, float(logged[0]), None, float(logged[1]), None]
    assert swarm.closed[0] is None


@pytest.mark.parametrize("checkpoint", [False, True])
def test_transformers_restarted_does_what_is_left_with_the_rate_that_it_had(
    tmp_path: Path, joined: list[FakeSwarm], checkpoint: bool
) -> None:
    """A checkpoint of the Trainer's own, older than the state of this node, changes nothing in that."""
    needs("transformers")
    from learnae.integrations.transformers import LearnaeCallback

    settings = {"max_steps": 10, "learning_rate": 1.0, "save_steps": 5}
    if checkpoint:
        hugging(tmp_path, LearnaeCallback("t", last=5), **settings).train()
    trainer = hugging(tmp_path, LearnaeCallback("t", before=7), **settings)
    rates: list[float] = []
    trainer.create_optimizer()
    trainer.optimizer.register_step_pre_hook(lambda optimizer, *_: rates.append(optimizer.param_groups[0]["lr"]))
    trainer.train(resume_from_checkpoint=checkpoint)
    assert trainer.state.global_step == (8 if checkpoint else 3)
    assert len(joined[-1].told) == 3
    assert rates[1:] == pytest.approx([0.2, 0.1]), "the first one comes with the optimiser's state, which is not here"


def test_lightning_calls_at_each_step_of_the_optimiser(tmp_path: Path, joined: list[FakeSwarm]) -> None:
    lightning = needs("lightning")
    from learnae.integrations.lightning import LearnaeCallback

    class Module(lightning.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.judged = Judged()
            self.losses: list[float] = []

        def training_step(self, batch: dict[str, torch.Tensor], index: int) -> torch.Tensor:
            loss: torch.Tensor = self.judged(batch["x"], batch["labels"])[0]
            self.losses.append(float(loss))
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.01)

        def on_train_end(self) -> None:
            if self.global_step == 3:
                raise ZeroDivisionError

    def fit(steps: int) -> Module:
        trainer = lightning.Trainer(
            accelerator="cpu",
            max_steps=steps,
            accumulate_grad_batches=2,
            callbacks=[LearnaeCallback("t")],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=tmp_path,
        )
        module = Module()
        trainer.fit(module, loader(40))
        return module

    module = fit(4)
    (swarm,) = joined
    assert swarm.model is module
    assert [samples for samples, _ in swarm.told] == [8] * 4
    means = [(one + other) / 2 for one, other in list(pairwise(module.losses))[::2]]
    assert [loss for _, loss in swarm.told] == pytest.approx(means)
    assert swarm.closed == [None]
    with pytest.raises(ZeroDivisionError):
        fit(3)
    assert joined[1].closed[0] is None, "it was told at the end, before the module raised"


def test_accelerate_gives_what_join_takes() -> None:
    """The model and the optimiser that `prepare` returns, with an accumulated gradient."""
    accelerate = needs("accelerate")
    accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=2)
    model = Judged()
    prepared, optimizer, data = accelerator.prepare(model, torch.optim.Adam(model.parameters()), loader(16))
    weights = LiveWeights(unwrapped(prepared), (optimizer,))
    for batch in data:
        with accelerator.accumulate(prepared):
            loss, _ = prepared(**batch)
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
        if accelerator.sync_gradients:
            weights.note(8, loss)
    assert (weights.steps, weights.samples) == (2, 16)
    weights.close_round()
    weights.finish_work()
    weights.encode(1.0)
    weights.restart_round()
    weights.finish_work()
    state = weights.state()
    optimizer.zero_grad()
    weights._reset_optimizer()
    assert not optimizer.state
    weights.load_state(state)
    assert {int(value["step"]) for value in optimizer.optimizer.state.values()} == {2}
