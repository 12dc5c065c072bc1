from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from learnae.errors import ConfigError, DataError, TaskError
from learnae.learner import Learner
from learnae.model import describe
from learnae.task import Shard, load_task
from learnae.tasks.digits import Digits
from learnae.tasks.fashion import FashionMnist


def test_shards_are_written_as_k_of_n() -> None:
    assert Shard.parse("2/4") == Shard(1, 4)
    assert Shard.parse("1/1", alpha=0.3, seed=2) == Shard(0, 1, 0.3, 2)
    assert str(Shard(1, 4)) == "2/4"


@pytest.mark.parametrize("text", ["", "2", "0/4", "5/4", "-1/4", "1/0", "a/b", "1/2/3", "1.0/2", "1/99999999999999"])
def test_other_shards_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="K/N"):
        Shard.parse(text)


@pytest.mark.parametrize("alpha", [0.0, -1.0, float("nan"), float("inf")])
def test_a_skew_must_be_a_positive_number(alpha: float) -> None:
    with pytest.raises(ConfigError, match="skew"):
        Shard(0, 1, alpha)


@given(
    st.integers(1, 20),
    st.none() | st.sampled_from([0.001, 0.1, 0.3, 10.0]),
    st.integers(0, 1000),
    st.integers(1, 10),
    st.integers(20, 500),
)
def test_shards_split_the_data(count: int, alpha: float | None, seed: int, classes: int, samples: int) -> None:
    labels = np.random.default_rng(seed).integers(0, classes, samples)
    shards = [Shard(index, count, alpha, seed).select(labels) for index in range(count)]
    assert sorted(np.concatenate(shards)) == list(range(samples))
    assert min(map(len, shards)) >= min(10, samples // count)
    assert all((np.diff(shard) > 0).all() for shard in shards)


def test_the_split_is_fixed_for_ever() -> None:
    """Nodes of other versions split by it: a change would give two nodes the same samples."""
    labels = np.arange(1000) % 10
    assert Shard(1, 4, 0.3, 7).select(labels)[:8].tolist() == [3, 6, 8, 9, 16, 18, 19, 23]
    assert [len(Shard(i, 4, 0.3, 7).select(labels)) for i in range(4)] == [153, 340, 198, 309]
    assert Shard(1, 4, None, 7).select(labels)[:8].tolist() == [6, 8, 11, 19, 24, 34, 40, 43]


def test_a_low_alpha_skews_the_classes() -> None:
    labels = np.arange(10_000) % 10

    def most(alpha: float | None) -> float:
        shares = [np.bincount(labels[Shard(i, 8, alpha).select(labels)], minlength=10).max() for i in range(8)]
        sizes = [len(Shard(i, 8, alpha).select(labels)) for i in range(8)]
        return float(np.mean(np.divide(shares, sizes)))

    assert most(None) < 0.15
    assert most(100.0) < 0.2
    assert most(0.1) > 0.4


def test_more_shards_than_samples() -> None:
    with pytest.raises(ConfigError, match="fewer shards"):
        Shard(0, 5).select([0, 1, 2])


def test_digits() -> None:
    task = load_task("digits")
    assert isinstance(task, Digits)
    assert (len(task.train.labels), len(task.test.labels)) == (1437, 360)
    first, again = (next(task.batches(Shard(0, 4, 0.3), seed=1)) for _ in range(2))
    other = next(task.batches(Shard(0, 4, 0.3), seed=2))
    assert torch.equal(first[0], again[0]) and not torch.equal(first[0], other[0])
    assert task.batch_size(first) == len(first[1]) == task.batch
    assert float(first[0].min()) >= 0 and float(first[0].max()) <= 1
    assert 0 < task.evaluate(task.model())["accuracy"] < 0.4


def test_a_shard_smaller_than_a_batch_gives_small_batches() -> None:
    task = load_task("digits")
    shard = Shard(0, 140)
    size = len(shard.select(task.train.labels))  # type: ignore[attr-defined]
    batches = task.batches(shard, seed=0)
    assert size < task.batch  # type: ignore[attr-defined]
    assert [task.batch_size(next(batches)) for _ in range(3)] == [size] * 3


def write_idx(path: Path, values: np.ndarray) -> None:
    header = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
    path.write_bytes(gzip.compress(header + values.astype(np.uint8).tobytes()))


def write_fashion(directory: Path, train: int = 50, test: int = 20) -> None:
    rng = np.random.default_rng(0)
    for part, count in (("train", train), ("t10k", test)):
        write_idx(directory / f"{part}-images-idx3-ubyte.gz", rng.integers(0, 256, (count, 28, 28)))
        write_idx(directory / f"{part}-labels-idx1-ubyte.gz", np.arange(count) % 10)


def test_fashion_mnist_from_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_fashion(tmp_path)
    task = load_task("fashion-mnist", tmp_path)
    assert isinstance(task, FashionMnist)
    images, labels = next(task.batches(Shard(), seed=0))
    assert images.shape == (task.batch, 784) and labels.dtype == torch.int64
    assert set(task.evaluate(task.model())) == {"accuracy", "loss"}
    monkeypatch.setenv("LEARNAE_DATA", str(tmp_path))
    assert len(load_task("fashion-mnist").train.labels) == 50  # type: ignore[attr-defined]


def test_missing_and_damaged_data_say_what_to_do(tmp_path: Path) -> None:
    task = FashionMnist(tmp_path)
    with pytest.raises(DataError, match="is missing: install"):
        _ = task.train
    write_fashion(tmp_path)
    images = tmp_path / "train-images-idx3-ubyte.gz"
    whole = images.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"plain text", gzip.compress(b"\0\0\x08\x03"), gzip.compress(b"")):
        images.write_bytes(damaged)
        with pytest.raises(DataError, match="fetch it again"):
            task.load(train=True)
    write_idx(images, np.zeros((49, 28, 28)))
    with pytest.raises(DataError, match="not those of Fashion-MNIST"):
        task.load(train=True)


def test_models_are_of_the_promised_size() -> None:
    assert describe(FashionMnist().model()).size == 235_146
    assert describe(Digits().model()).size == 17_226


def test_the_genesis_of_digits_is_the_same_on_every_machine() -> None:
    """Members never exchange initial weights: they draw them alike."""
    assert (
        Learner(Digits(), Shard()).genesis_digest.hex()
        == "053a37b4f000676ba40fecc98a9fd6801994cf8155f437751e72a9493930c6f6"
    )


USER = """
from learnae.task import Task
from learnae.tasks.digits import Digits

class Mine(Digits):
    name = "mine"

class Abstract(Task):
    name = "abstract"

class Broken(Digits):
    name = "broken"
    def __init__(self, data=None):
        raise RuntimeError("no such thing")

class Plain:
    pass
"""


def test_a_users_file(tmp_path: Path) -> None:
    path = tmp_path / "my_task.py"
    path.write_text(USER)
    task = load_task(f"{path}:Mine", tmp_path)
    assert (task.name, task.data) == ("mine", tmp_path)
    for name, why in {
        "Abstract": "lacks batches, evaluate, loss, model",
        "Broken": "RuntimeError: no such thing",
        "Plain": "no class 'Plain' derived",
        "Missing": "no class 'Missing'",
    }.items():
        with pytest.raises(TaskError, match=why):
            load_task(f"{path}:{name}")


def test_tasks_that_cannot_be_found(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="digits, fashion-mnist"):
        load_task("digit")
    with pytest.raises(TaskError, match="does not exist"):
        load_task(f"{tmp_path}/none.py:Task")
    (tmp_path / "bad.py").write_text("1/0")
    with pytest.raises(TaskError, match="ZeroDivisionError"):
        load_task(f"{tmp_path}/bad.py:Task")
    (tmp_path / "notes.txt").write_text("x = 1")
    with pytest.raises(TaskError, match=r"must end in \.py"):
        load_task(f"{tmp_path}/notes.txt:Task")
