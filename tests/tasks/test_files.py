from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from learnae.errors import DataError
from learnae.model import describe
from learnae.task import Shard, load_task
from learnae.tasks.cifar import Cifar10
from learnae.tasks.folders import ImageFolders
from learnae.tasks.mnist import Mnist


def write_mnist(directory: Path, *, packed: bool = True, pictures: int = 30) -> None:
    rng = np.random.default_rng(1)
    for part in ("train", "t10k"):
        images = struct.pack(">HBB3I", 0, 8, 3, pictures, 28, 28) + rng.bytes(pictures * 784)
        labels = struct.pack(">HBBI", 0, 8, 1, pictures) + bytes(i % 10 for i in range(pictures))
        for name, content in ((f"{part}-images-idx3-ubyte", images), (f"{part}-labels-idx1-ubyte", labels)):
            path = directory / (f"{name}.gz" if packed else name)
            path.write_bytes(gzip.compress(content) if packed else content)


@pytest.mark.parametrize("packed", [True, False])
def test_mnist_from_files(tmp_path: Path, packed: bool) -> None:
    write_mnist(tmp_path, packed=packed)
    task = load_task("mnist", tmp_path)
    images, labels = next(task.batches(Shard(0, 1), 0))
    assert images.shape == (30, 784) and images.max() <= 1 and sorted(labels.tolist()) == sorted([*range(10)] * 3)
    assert describe(task.model()).size == 235_146


def test_mnist_without_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LEARNAE_DATA", raising=False)
    with pytest.raises(DataError, match="--data or LEARNAE_DATA") as nowhere:
        Mnist().load(True)
    assert nowhere.value.code == "data-missing"
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz is missing"):
        Mnist(tmp_path).load(True)
    write_mnist(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(struct.pack(">HBBI", 0, 8, 1, 9) + bytes(9)))
    with pytest.raises(DataError, match="not those of MNIST"):
        Mnist(tmp_path).load(True)


def write_cifar(directory: Path, records: int = 20) -> None:
    rng = np.random.default_rng(2)
    for name in [*(f"data_batch_{n}.bin" for n in range(1, 6)), "test_batch.bin"]:
        (directory / name).write_bytes(b"".join(bytes([i % 10]) + rng.bytes(3072) for i in range(records)))


def test_cifar_from_files(tmp_path: Path) -> None:
    write_cifar(tmp_path)
    task = Cifar10(tmp_path)
    assert task.train.pixels.shape == (100, 3072) and task.test.labels.tolist() == [*range(10)] * 2
    model = task.model()
    images, _ = next(task.batches(Shard(0, 2), 0))
    assert model(images).shape == (len(images), 10)
    assert 0 <= task.evaluate(model)["accuracy"] <= 1


def test_cifar_with_damaged_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="binary version"):
        Cifar10(tmp_path).load(True)
    write_cifar(tmp_path)
    (tmp_path / "data_batch_3.bin").write_bytes(bytes(3072))
    with pytest.raises(DataError, match=r"data_batch_3\.bin is no file of"):
        Cifar10(tmp_path).load(True)


def write_pictures(directory: Path, each: int = 24) -> None:
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    for number, name in enumerate(("cat", "dog")):
        (directory / name).mkdir()
        for index in range(each):
            colour = (200 * number, 10 * (index % 20), 0)
            image.new("RGB", (40 + index, 30), colour).save(directory / name / f"{index}.png")


def test_image_folders(tmp_path: Path) -> None:
    write_pictures(tmp_path)
    task = ImageFolders(tmp_path)
    assert task.classes == ["cat", "dog"]
    assert len(task.train.labels) + len(task.test.labels) == 48 and len(task.test.labels) > 0
    red = task.train.pixels.reshape(-1, 3, 32, 32)[:, 0].mean((1, 2))
    assert np.array_equal(red > 100, task.train.labels == 1)
    assert task.model()(next(task.batches(Shard(0, 1), 0))[0]).shape[1] == 2


def test_classes_without_pictures_can_be_listed(tmp_path: Path) -> None:
    write_pictures(tmp_path)
    (tmp_path / "classes.txt").write_text("bird\ncat\ndog\n")
    task = ImageFolders(tmp_path)
    assert task.classes == ["bird", "cat", "dog"] and set(task.train.labels.tolist()) == {1, 2}


def test_folders_that_hold_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no directory"):
        ImageFolders(tmp_path / "nowhere").load(True)
    with pytest.raises(DataError, match="0 classes"):
        ImageFolders(tmp_path).load(True)
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
    with pytest.raises(DataError, match="no picture to train with"):
        ImageFolders(tmp_path).load(True)


def test_a_picture_that_is_none(tmp_path: Path) -> None:
    write_pictures(tmp_path)
    for path in (tmp_path / "cat").iterdir():
        path.write_bytes(b"no picture")
    with pytest.raises(DataError, match="remove it or convert it"):
        ImageFolders(tmp_path).load(True)
