from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from learnae.cli import cli

GOOD = """
import torch
from torch import nn
from learnae.task import Task

class Mine(Task):
    name = "mine"
    slot_seconds = 1.0
    made = 0

    def model(self):
        return nn.Linear(3, 1)

    def batches(self, shard, seed):
        random = torch.Generator().manual_seed(seed)
        inputs = torch.rand(4, 3, generator=random)
        while True:  # the same batch again and again, so that the loss falls however few steps there are
            yield inputs, inputs.sum(1, keepdim=True)

    def loss(self, model, batch):
        return (model(batch[0]) - batch[1]).square().mean()

    def evaluate(self, model):
        return {"loss": 1.0}
"""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*given: str) -> Result:
    return CliRunner().invoke(cli, ["task", *given])


def check(source: str, *given: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """Exit code, and the worst verdict of each check."""
    Path("mine.py").write_text(source)
    result = run("check", "mine.py:Mine", "--seconds", "0.1", "--json", *given)
    answer = json.loads(result.stdout)
    assert answer["task"] == "mine.py:Mine" and answer["ok"] is (result.exit_code == 0)
    order = ["skip", "ok", "warn", "fail"]
    rows = sorted(answer["verdicts"], key=lambda row: order.index(row["level"]))
    return result.exit_code, {row["check"]: row for row in rows}


def test_a_new_task_runs_as_it_is() -> None:
    written = run("new", "my_pets")
    assert written.exit_code == 0 and "learnae task check my_pets.py:MyPets" in written.output
    assert 'name = "my-pets"' in Path("my_pets.py").read_text()
    tried = run("check", "my_pets.py:MyPets", "--seconds", "0.5")
    assert tried.exit_code == 0, tried.output
    assert "193 weights in 4 tensors" in tried.output and "warn" not in tried.output and "fail" not in tried.output


def test_a_file_is_not_overwritten_by_mistake() -> None:
    run("new", "pets")
    Path("pets.py").write_text("mine")
    refused = run("new", "pets")
    assert refused.exit_code == 2 and "--force" in refused.output and Path("pets.py").read_text() == "mine"
    assert run("new", "pets", "--force").exit_code == 0 and Path("pets.py").read_text() != "mine"


@pytest.mark.parametrize("name", ["class", "Pets", "../pets", "1pet", "a-b", ""])
def test_names_that_cannot_be(name: str) -> None:
    assert run("new", name).exit_code == 2
    assert list(Path().iterdir()) == []


def test_a_good_task() -> None:
    code, verdicts = check(GOOD)
    assert code == 0 and {row["level"] for row in verdicts.values()} == {"ok"}
    assert "4 weights in 2 tensors" in verdicts["model"]["text"]
    assert "float32[4, 3], float32[4, 1]" in verdicts["data"]["text"]
    assert verdicts["evaluation"]["text"] == "loss 1"


FAULTS = {
    "model": ("nn.Linear(3, 1)", "nn.Linear(3, 1, dtype=torch.complex64)", "complex"),
    "weights": (
        "return nn.Linear(3, 1)",
        "self.made += 1; m = nn.Linear(3, 1); m.weight.data += self.made; return m",
        "each time",
    ),
    "nothing": ("nn.Linear(3, 1)", "nn.Linear(3, 1).requires_grad_(False)", "nothing to train"),
    "end": ("while True:", "for _ in range(2):", "must go on for ever"),
    "none": ("while True:", "while False:", "gave no batch"),
    "raises": ("model(batch[0])", "model(batch[0][:, :2])", "RuntimeError"),
    "scalar": (".mean()", "", "one element"),
    "nan": (".mean()", ".mean() * float('nan')", "became nan after 1 steps"),
    "figures": ('{"loss": 1.0}', "1.0", "returned 1.0"),
    "syntax": ("class Mine", "klass Mine", "SyntaxError"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_would_not_work_fails(fault: str) -> None:
    good, bad, told = FAULTS[fault]
    assert good in GOOD
    code, verdicts = check(GOOD.replace(good, bad))
    failed = [row for row in verdicts.values() if row["level"] == "fail"]
    assert code == 1 and len(failed) == 1 and told in failed[0]["text"] and failed[0]["action"]


def test_the_users_own_traceback_is_shown() -> None:
    Path("mine.py").write_text(GOOD.replace("model(batch[0])", "model(batch[0][:, :2])"))
    result = run("check", "mine.py:Mine")
    first, *rest = result.stderr.split("File ")
    assert "Traceback" in first and "mine.py" in rest[0] and "learnae" not in rest[0].split("mine.py")[1]
    assert result.stderr.rstrip().splitlines()[-1].startswith("RuntimeError")


WARNINGS = {
    "data": (", generator=random", "", "another one each time"),
    "steps": ("nn.Linear(3, 1)", "Two()", "got no gradient: idle.weight, idle.bias"),
    "learning": (".square().mean()", ".square().mean() * 0 + 1", "did not fall"),
    "slots": ("slot_seconds = 1.0", "slot_seconds = 0.05; round_steps = 2", "longer slot_seconds"),
    "evaluation": ('return {"loss": 1.0}', 'return {"loss": sum(range(10**8))}', "longer than a slot"),
}
TWO = """
class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.idle = nn.Linear(3, 1), nn.Linear(3, 1)
    def forward(self, inputs):
        return self.used(inputs)
"""


@pytest.mark.parametrize("doubt", WARNINGS)
def test_what_could_be_better_is_told(doubt: str) -> None:
    good, bad, told = WARNINGS[doubt]
    assert good in GOOD
    code, verdicts = check(GOOD.replace(good, bad) + TWO)
    assert code == 0 and verdicts[doubt]["level"] == "warn"
    assert told in verdicts[doubt]["text"] + verdicts[doubt]["action"]
