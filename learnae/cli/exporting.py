"""`learnae export`: turns a snapshot of the swarm's exact weights into a model file that any program can read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from learnae.blocks import Blocks
from learnae.cid import DAG_CBOR, codec_of, from_text, to_text
from learnae.cli import daemons
from learnae.errors import DaemonError, LayoutError, StoreError
from learnae.manifest import Manifest
from learnae.snapshot import read

if TYPE_CHECKING:
    import torch

_BLOCKS = Path("snapshots", "blocks")
_BATCHES = 100
"""Batches that BatchNorm statistics are estimated from: more is steadier, and slower."""


@dataclass(frozen=True, slots=True)
class Found:
    """A snapshot on this disk, and what its daemon trains, if one runs."""

    cid: str
    """Of the cut, or of the snapshot itself."""
    blocks: Blocks
    root: bytes
    task: str | None
    data: Path | None


def locate(home: Path, profile: str | None, cid: str | None) -> Found:
    """Find the snapshot with this CID, of a cut or of its weights; without one, that of the newest cut.

    Raises:
        DaemonError: no daemon runs that could tell the newest, or it has none yet; no profile has the snapshot.
        WireError: it is no CID.
    """
    running = [daemon for daemon in daemons.find(home) if profile in (None, daemon.profile)]
    if cid is None:
        rows = [(row["index"], row["cid"], daemon) for daemon in running for row in daemon.get("/api/snapshots")]
        if not rows:
            raise DaemonError(
                "no daemon here has settled a cut yet: wait for one (`learnae snapshots`), or give the CID of a cut "
                "that is on this disk"
            )
        _, cid, daemon = max(rows, key=lambda row: row[0])
        return _at(daemon.directory, cid, daemon)
    names = sorted(path.parent.parent for path in home.glob(f"{profile or '*'}/{_BLOCKS}"))
    for directory in names:
        if Blocks(directory / _BLOCKS).has(from_text(cid)):
            return _at(directory, cid, next((d for d in running if d.directory == directory), None))
    raise DaemonError(f"no profile in {home} has {cid}: fetch it with `learnae pin {cid}` first")


def _at(directory: Path, cid: str, daemon: daemons.Daemon | None) -> Found:
    blocks = Blocks(directory / _BLOCKS)
    root = from_text(cid)
    if codec_of(root) == DAG_CBOR:
        data = blocks.get(root)
        if data is None:
            raise StoreError(f"the cut {cid} is damaged on the disk: fetch it again with `learnae pin {cid}`")
        root = Manifest.decode(data).weights
    status = daemon.get("/api/status") if daemon is not None else {}
    folder = status.get("data")
    return Found(to_text(from_text(cid)), blocks, root, status.get("task"), Path(folder) if folder else None)


def write(found: Found, file: Path, task: str | None, data: Path | None) -> int:
    """Write the model; how many weights it has.

    Raises:
        StoreError: a block is missing or damaged, or the file cannot be written.
        LayoutError: it is the snapshot of another model than the task's.
    """
    from safetensors.torch import save_file

    tensors = dict(_tensors(read(found.blocks, found.root)))
    count = sum(tensor.numel() for tensor in tensors.values())
    state = _completed(tensors, task, data) if task is not None else tensors
    draft = file.with_name(file.name + ".new")
    try:
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, draft, {"learnae": found.cid})
        draft.replace(file)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise StoreError(f"{file} cannot be written: {error.strerror}. Give another path, or make room") from error
    return count


def _tensors(leaves: Iterator[bytes]) -> Iterator[tuple[str, torch.Tensor]]:
    """The weights as float32, under their names."""
    import torch
    from safetensors.torch import load

    content = b"".join(leaves)
    exponents = _exponents(content)
    for (name, units), exponent in zip(
        sorted(load(content).items(), key=lambda item: _offset(content, item[0])), exponents, strict=True
    ):
        yield name, (units.to(torch.float64) * 2.0**exponent).to(torch.float32)


def _header(content: bytes) -> dict[str, Any]:
    import json

    header: dict[str, Any] = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return header


def _exponents(content: bytes) -> list[int]:
    try:
        return [int(number) for number in _header(content)["__metadata__"]["exponents"].split(",")]
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError("this is not the snapshot of a swarm's weights: give the CID of a cut") from error


def _offset(content: bytes, name: str) -> tuple[int, int]:
    begin, end = _header(content)[name]["data_offsets"]
    return begin, end


def _completed(tensors: dict[str, torch.Tensor], task: str, data: Path | None) -> dict[str, torch.Tensor]:
    """The state of the task's model with these weights, BatchNorm statistics estimated on local data."""
    import torch
    from torch import nn

    from learnae.task import Shard, load_task

    loaded = load_task(task, data)
    model = loaded.model()
    wrong = model.load_state_dict(tensors, strict=False).unexpected_keys
    if wrong:
        raise LayoutError(
            f"the snapshot has weights that the model of task {task} has not ({', '.join(wrong[:3])}): give the task "
            "that it was trained with"
        )
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    if norms:
        for module in norms:
            module.reset_running_stats()
            module.momentum = None  # a plain mean over all batches
        model.train()
        with torch.no_grad():
            for number, batch in enumerate(loaded.batches(Shard(0, 1), 0)):
                if number == _BATCHES:
                    break
                loaded.loss(model, batch)
    return dict(model.state_dict())
