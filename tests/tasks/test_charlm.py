from __future__ import annotations

import random
from pathlib import Path
from typing import ClassVar

import pytest
import torch

from learnae.errors import DataError
from learnae.learner import Learner
from learnae.model import describe
from learnae.task import Shard, load_task
from learnae.tasks.charlm import CharLM
from learnae.tasks.gpt import Gpt, GptSettings
from learnae.tasks.story import stories


class Tiny(CharLM):
    settings: ClassVar[GptSettings] = GptSettings(context=16, width=32, heads=2, layers=1)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "story.txt"
    path.write_text(stories(40_000))
    return path


def test_made_stories_are_the_same_everywhere() -> None:
    assert stories(5_000) == stories(9_000)[:5_000] != stories(5_000, seed=1)
    assert stories(70).startswith("One night, when the sun was shining, Ines found a red coat. Hugo")
    assert stories(5_000).isascii()


def test_the_model_has_about_a_million_weights_and_ties_its_embedding() -> None:
    task = load_task("charlm")
    layout = describe(task.model())
    assert 1e6 < layout.size < 1.05e6
    assert "head.weight" not in {tensor.name for tensor in layout.tensors}


def test_a_token_sees_nothing_of_what_comes_after_it() -> None:
    torch.manual_seed(1)
    model = Gpt(Tiny.settings)
    tokens = torch.randint(256, (1, 16))
    other = tokens.clone()
    other[0, 9:] = 7
    assert torch.equal(model(tokens)[0, :9], model(other)[0, :9])
    assert not torch.equal(model(tokens)[0, 9:], model(other)[0, 9:])


def test_shards_are_disjoint_and_leave_out_what_is_held_out(tmp_path: Path) -> None:
    (tmp_path / "noise.txt").write_bytes(random.Random(3).randbytes(20_000))
    task = Tiny(tmp_path)
    whole = bytes(task.text)
    seen: list[set[int]] = []
    for index in range(3):
        batches = task.batches(Shard(index, 3), 0)
        starts = {whole.find(bytes(row.tolist())) for _ in range(20) for row in next(batches)[0]}
        assert max(starts) + 17 <= len(whole) * 0.95
        seen.append(starts)
    assert max(seen[0]) < min(seen[1]) and max(seen[1]) < min(seen[2])


def test_it_learns(text: Path) -> None:
    learner = Learner(Tiny(text), Shard(0, 1))
    learner.samples_seen = Tiny.warm_up
    before = learner.task.evaluate(learner.model)["loss"]
    for _ in range(150):
        learner.step()
    assert learner.task.evaluate(learner.model)["loss"] < before - 2


def test_a_directory_of_texts_is_one_text(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("second " * 1000)
    (tmp_path / "a.txt").write_text("first " * 1000)
    text = bytes(Tiny(tmp_path).text)
    assert text.startswith(b"first ") and text.rstrip().endswith(b"second")


def test_texts_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no \*\.txt"):
        _ = Tiny(tmp_path).text
    (tmp_path / "short.txt").write_text("too short")
    with pytest.raises(DataError, match="give at least 1700"):
        _ = Tiny(tmp_path).text
    (tmp_path / "short.txt").write_text("long enough " * 200)
    with pytest.raises(DataError, match="fewer shards"):
        next(Tiny(tmp_path).batches(Shard(0, 1000), 0))
