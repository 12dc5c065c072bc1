"""Handwritten digits with a LightningModule.

pip install 'learnae[lightning]'
python lightning_digits.py --part 1/2      on one PC
python lightning_digits.py --part 2/2      on another one, or in another terminal
"""

import argparse

from learnae.integrations.lightning import LearnaeCallback  # isort: skip - says what to install if it is missing

import lightning
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Digits(lightning.LightningModule):
    """A perceptron; `training_step` and `configure_optimizers` are what Lightning asks for."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Dropout(0.2), nn.Linear(128, 10))

    def training_step(self, batch: list[torch.Tensor], index: int) -> torch.Tensor:
        pictures, labels = batch
        return nn.functional.cross_entropy(self.layers(pictures), labels)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


def accuracy(module: Digits) -> dict[str, float]:
    return {"accuracy": (module.layers(pictures[:360]).argmax(1) == labels[:360]).float().mean().item()}


options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
options.add_argument("--part", default="1/1", help="which part of the data is here (default: %(default)s)")
options.add_argument("--steps", type=int, default=2000, help="of the optimiser (default: %(default)s)")
options.add_argument("--topic", default="lightning-digits", help="name of the swarm (default: %(default)s)")
chosen = options.parse_args()
part, parts = map(int, chosen.part.split("/"))

found = load_digits()
order = torch.randperm(len(found.target), generator=torch.Generator().manual_seed(0))
pictures = torch.tensor(found.data, dtype=torch.float32)[order] / 16
labels = torch.tensor(found.target)[order]
mine = TensorDataset(pictures[360 + part - 1 :: parts], labels[360 + part - 1 :: parts])

lightning.seed_everything(0)
module = Digits()
callback = LearnaeCallback(chosen.topic, slot_seconds=1.0, round_steps=40, evaluate=accuracy)
trainer = lightning.Trainer(
    accelerator="cpu",
    max_steps=chosen.steps,
    callbacks=[callback],
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
)
trainer.fit(module, DataLoader(mine, batch_size=32, shuffle=True))
print(f"steps: {callback.swarm.steps}, accuracy: {accuracy(module.eval())['accuracy']:.3f}")
