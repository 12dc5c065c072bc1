"""`learnae export`: the weights to the bit, statistics of the local data, CAR files, and what cannot be exported."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from rich.console import Console
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from learnae import car, snapshot
from learnae.blocks import Blocks
from learnae.cid import DAG_CBOR, from_text, raw_cid, to_text
from learnae.cli import cli, daemons, exporting
from learnae.errors import ConfigError, DaemonError, LayoutError, StoreError, WireError
from learnae.layout import Layout, TensorSpec
from learnae.learner import Learner
from learnae.manifest import Interval, Manifest
from learnae.replica import Replica
from learnae.task import Shard, Task
from learnae.vector import VersionVector


class Normed(Task):
    """A layer with BatchNorm, one that is frozen, and two that are tied."""

    name: ClassVar[str] = "normed"
    seed: ClassVar[int] = 3

    def model(self) -> nn.Module:
        model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 2))
        model[3].weight = model[2].weight
        model[4].requires_grad_(False)
        return model

    def batches(self, shard: Shard, seed: int) -> Iterator[torch.Tensor]:
        generator = torch.Generator().manual_seed(5)
        while True:
            yield torch.randn(16, 4, generator=generator)

    def loss(self, model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        return torch.Tensor(model(batch).square().mean())

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        return {}


TASK = f"{__file__}:Normed"


@pytest.fixture(scope="module")
def learner() -> Learner:
    made = Learner(Normed(), Shard(0, 1))
    for _ in range(3):
        made.step()
    index = np.arange(made.layout.size)
    made.replica.apply(index, np.random.default_rng(1).integers(-(2**20), 2**20, len(index), np.int32))
    return made


def profile(home: Path, name: str = "default") -> Blocks:
    return Blocks(home / name / "snapshots" / "blocks")


def keep(home: Path, replica: Replica, name: str = "default") -> Manifest:
    """A cut with this replica on the disk of a profile."""
    blocks = profile(home, name)
    root = snapshot.write(blocks, replica.pieces())
    vector = VersionVector()
    vector.add(bytes(32), 1)
    made = Manifest(bytes(32), 0, (), (Interval(0, vector, 1.0, 1, None),), bytes(32), 1, 1, root.cid, root.size)
    assert blocks.put(DAG_CBOR, made.encode()) == made.cid
    return made


def learnae(home: Path, *words: object) -> Result:
    return CliRunner().invoke(cli, [*map(str, words), "--home", str(home)])


@pytest.mark.parametrize("of", ["cut", "weights"])
def test_the_weights_are_those_of_the_swarm_to_the_bit(tmp_path: Path, learner: Learner, of: str) -> None:
    made = keep(tmp_path, learner.replica)
    cid = to_text(made.cid if of == "cut" else made.weights)
    result = learnae(tmp_path, "export", cid, tmp_path / "model.safetensors")
    assert result.output == f"wrote {tmp_path / 'model.safetensors'}: {learner.layout.size} weights of {cid}\n"
    tensors = load_file(tmp_path / "model.safetensors")
    weights = learner.replica.read()
    assert set(tensors) == {tensor.name for tensor in learner.layout.tensors}
    for offset, tensor in zip(learner.layout.offsets, learner.layout.tensors, strict=True):
        assert tuple(tensors[tensor.name].shape) == tensor.shape and tensors[tensor.name].dtype == torch.float32
        assert (tensors[tensor.name].numpy().ravel() == weights[offset : offset + tensor.size]).all()
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert file.metadata() == {"learnae": cid}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["default", "model.safetensors"]


def test_units_become_the_nearest_floats(tmp_path: Path) -> None:
    layout = Layout(
        (TensorSpec("w", (2, 3), "float32"), TensorSpec("none", (0,), "float32"), TensorSpec("b", (), "float32"))
    )
    units = np.array([1, -1, 2**31 - 1, -(2**31), 2**24 + 1, 0, 7], np.int32)
    made = keep(tmp_path, Replica(layout, (-24, 0, 5), units))
    exporting.write(exporting.locate(tmp_path, None, to_text(made.cid)), tmp_path / "out", None, None)
    tensors = load_file(tmp_path / "out")
    exact = [float(np.float32(int(unit) * 2.0**-24)) for unit in units[:6]]
    assert tensors["w"].ravel().tolist() == exact
    assert (tensors["b"].item(), tensors["b"].shape, tensors["none"].shape) == (7 * 32, (), (0,))


def test_statistics_are_estimated_on_local_data(tmp_path: Path, learner: Learner) -> None:
    made = keep(tmp_path, learner.replica)
    result = learnae(tmp_path, "export", to_text(made.cid), tmp_path / "out", "--task", TASK)
    assert result.exit_code == 0, result.output
    state = load_file(tmp_path / "out")
    model = Normed().model()
    model.load_state_dict(state)
    task = Normed()
    batches = task.batches(Shard(0, 1), 0)
    first = model.get_submodule("0")
    activations = torch.stack([first(next(batches)) for _ in range(100)])
    assert torch.allclose(state["1.running_mean"], activations.mean((0, 1)), atol=1e-5)
    assert torch.allclose(state["1.running_var"], activations.var(1).mean(0), rtol=1e-4)
    assert state["1.num_batches_tracked"] == 100
    # What is frozen comes from the task's seed, as in training.
    assert torch.equal(state["4.weight"], dict(learner.model.named_parameters())["4.weight"])
    assert torch.equal(state["3.weight"], state["2.weight"])
    offset = learner.layout.offsets[0]
    weights = learner.replica.read()[offset : offset + 24].reshape(6, 4)
    assert (state["0.weight"].numpy() == weights).all()


def test_another_task_is_refused(tmp_path: Path, learner: Learner) -> None:
    layout = Layout((TensorSpec("other.weight", (4,), "float32"),))
    made = keep(tmp_path, Replica(layout, (0,), np.zeros(4, np.int32)))
    found = exporting.locate(tmp_path, None, to_text(made.cid))
    with pytest.raises(LayoutError, match=r"another model than that of task .*give the task that it was trained with"):
        exporting.write(found, tmp_path / "out", TASK, None)
    assert not (tmp_path / "out").exists()


def test_a_damaged_block(tmp_path: Path, learner: Learner) -> None:
    made = keep(tmp_path, learner.replica)
    found = exporting.locate(tmp_path, None, to_text(made.cid))
    name = made.weights[4:].hex()
    (found.blocks.directory / name[:2] / name).write_bytes(b"damage")
    with pytest.raises(StoreError, match="missing or damaged"):
        exporting.write(found, tmp_path / "out", None, None)
    with pytest.raises(StoreError, match="missing or damaged"):
        exporting.write_car(found, tmp_path / "out")
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.new").exists()
    name = made.cid[4:].hex()
    (found.blocks.directory / name[:2] / name).write_bytes(b"damage")
    with pytest.raises(StoreError, match=r"is damaged on the disk: fetch it again with `learnae pin"):
        exporting.locate(tmp_path, None, to_text(made.cid))


def test_what_is_no_snapshot(tmp_path: Path) -> None:
    blocks = profile(tmp_path)
    for codec, block, kind in ((0x55, b"a leaf", StoreError), (DAG_CBOR, b"\x01", WireError)):
        cid = to_text(blocks.put(codec, block))
        with pytest.raises(kind, match=r"this is not the snapshot|no cut of a swarm"):
            exporting.write(exporting.locate(tmp_path, None, cid), tmp_path / "out", None, None)


def test_who_has_it_is_searched(tmp_path: Path, learner: Learner) -> None:
    made = keep(tmp_path, learner.replica, "b")
    profile(tmp_path, "a").put(0x55, b"something else")
    cid = to_text(made.cid)
    assert exporting.locate(tmp_path, None, cid).blocks.directory.parts[-3] == "b"
    for name, wanted in (("a", cid), ("none", cid), (None, to_text(raw_cid(b"other")))):
        with pytest.raises(DaemonError, match=r"no profile in .* fetch it with `learnae pin"):
            exporting.locate(tmp_path, name, wanted)
    with pytest.raises(WireError, match="not the CID"):
        exporting.locate(tmp_path, None, "nonsense")
    for name in (None, "b"):
        with pytest.raises(DaemonError, match="no daemon runs"):
            exporting.locate(tmp_path, name, None)


def test_the_newest_cut_of_the_daemons_that_run(
    tmp_path: Path, learner: Learner, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = keep(tmp_path, learner.replica, "b")
    newest = {"index": 3, "cid": to_text(made.cid), "since": 9.0}
    rows = {
        "a": [{"index": 4, "cid": "bafyold", "since": 1.0}],
        "b": [
            {"index": 7, "cid": "bafyother", "since": 8.0},
            newest,
            {"index": None, "cid": "bafyloose", "since": 10.0},
        ],
    }
    settled: list[dict[str, str] | None] = [{"cid": to_text(made.cid)}, None, {"cid": "bafynothere"}]

    def get(daemon: daemons.Daemon, path: str) -> object:
        if path == "/api/status":
            return {"task": TASK, "data": "/data", "cuts": {"settled": settled[0]}}
        return rows[daemon.profile]

    for name in rows:
        (tmp_path / name).mkdir(exist_ok=True)
        content = {"url": "http://127.0.0.1:1", "pid": os.getpid(), "peer": "x", "topic": "t"}
        (tmp_path / name / "status.json").write_text(json.dumps(content))
    monkeypatch.setattr(daemons.Daemon, "get", get)
    with pytest.raises(ConfigError, match="2 daemons run here: a, b"):
        exporting.locate(tmp_path, None, None)
    while settled:
        found = exporting.locate(tmp_path, "b", None)
        assert (found.cid, found.root, found.task, found.data) == (to_text(made.cid), made.weights, TASK, Path("/data"))
        settled.pop(0)
    rows.update(a=[], b=[])
    with pytest.raises(DaemonError, match="has settled a cut yet"):
        exporting.locate(tmp_path, "b", None)


def test_a_cut_that_gives_way_to_the_next_while_torch_is_loading_does_no_harm(
    tmp_path: Path, learner: Learner, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = keep(tmp_path, learner.replica)
    there = exporting.locate(tmp_path, None, to_text(made.cid))
    gone = replace(there, blocks=profile(tmp_path, "empty"))
    found = [gone, there]
    monkeypatch.setattr(exporting, "locate", lambda *_: found.pop(0))
    result = learnae(tmp_path, "export", tmp_path / "out")
    assert result.exit_code == 0 and load_file(tmp_path / "out"), result.output
    found = [gone, gone]
    assert "missing or damaged" in learnae(tmp_path, "export", tmp_path / "out").output
    found = [gone]
    assert "missing or damaged" in learnae(tmp_path, "export", to_text(made.cid), tmp_path / "out").output


@pytest.mark.parametrize("of", ["cut", "weights"])
def test_a_car_file_has_all_blocks_from_the_root_downwards(tmp_path: Path, of: str) -> None:
    layout = Layout((TensorSpec("w", (300, 500), "float32"),))
    units = np.random.default_rng(1).integers(-(2**31), 2**31, layout.size, np.int32)
    made = keep(tmp_path, Replica(layout, (0,), units))
    cid = to_text(made.cid if of == "cut" else made.weights)
    file = tmp_path / "out.car"
    result = learnae(tmp_path, "export", "--car", cid, file)
    assert result.output == f"wrote {file}: {file.stat().st_size} bytes of {cid}\n"
    with file.open("rb") as stream:
        roots, blocks = car.read(stream)
        cids = [name for name, _ in blocks]
    assert roots == (from_text(cid),) and cids[0] == roots[0]
    assert (
        len(set(cids))
        == len(cids)
        == (4 if of == "weights" else 5)
        == sum(1 for _ in profile(tmp_path)) - (of == "weights")
    )


def test_progress_is_shown_on_a_terminal(tmp_path: Path, learner: Learner, capsys: pytest.CaptureFixture[str]) -> None:
    found = exporting.locate(tmp_path, None, to_text(keep(tmp_path, learner.replica).cid))
    size = sum(map(len, snapshot.read(found.blocks, found.root)))
    exporting.write_car(found, tmp_path / "out", Console(force_terminal=True, width=80))
    shown = capsys.readouterr().out
    assert f"{size}/{size} bytes" in shown
    exporting.write_car(found, tmp_path / "out", Console(width=80))
    assert capsys.readouterr().out == ""


def test_where_nothing_can_be_written(tmp_path: Path, learner: Learner) -> None:
    cid = to_text(keep(tmp_path, learner.replica).cid)
    for words in ((), ("--car",)):
        result = learnae(tmp_path, "export", *words, cid, tmp_path / "none" / "out")
        assert result.exit_code == 1 and "cannot be written" in " ".join(result.stderr.split())
        assert "Traceback" not in result.output


def test_wrong_words(tmp_path: Path) -> None:
    for words in (("a", "b", "c"), ("--car", "a", "b", "--task", "digits")):
        assert learnae(tmp_path, "export", *words).exit_code == 2
