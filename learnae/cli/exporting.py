"""`learnae export`: a snapshot of the swarm's weights as a model file, or as a CAR file; used by the CLI."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

from learnae import car, unixfs
from learnae.blocks import Blocks
from learnae.cid import DAG_CBOR, RAW, codec_of, from_text, to_text
from learnae.cli import daemons
from learnae.errors import ConfigError, DaemonError, LayoutError, StoreError, WireError, disk_code
from learnae.manifest import Manifest
from learnae.snapshot import layout_of, read

if TYPE_CHECKING:
    import torch

    from learnae.layout import Layout

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
    if cid is None:
        running = daemons.select(home, profile)
        if len(running) > 1:
            several = ", ".join(daemon.profile for daemon in running)
            raise ConfigError(
                f"{len(running)} daemons run here: {several}. Say --profile NAME, or give the CID of a cut",
                code="several-daemons",
            )
        (one,) = running
        cuts = {row["cid"]: row["since"] for row in one.get("/api/snapshots") if row["index"] is not None}
        if not cuts:
            raise DaemonError(
                "no daemon here has settled a cut yet: wait for one (`learnae snapshots`), or give the CID of a cut "
                "that is on this disk",
                code="no-cut-yet",
            )
        # Numbers tell nothing: there may be cuts of another swarm in the same directory.
        settled = (one.get("/api/status")["cuts"]["settled"] or {}).get("cid", "")
        cid = settled if settled in cuts else max(cuts, key=lambda name: cuts[name])
        return _at(one.directory, cid, one)
    root = from_text(cid)
    names = sorted(path.parent.parent for path in home.glob(f"{profile or '*'}/{_BLOCKS}"))
    for directory in names:
        if Blocks(directory / _BLOCKS).has(root):
            return _at(directory, cid, next((d for d in daemons.find(home) if d.directory == directory), None))
    raise DaemonError(f"no profile in {home} has {cid}: fetch it with `learnae pin {cid}` first", code="cut-not-found")


def _at(directory: Path, cid: str, daemon: daemons.Daemon | None) -> Found:
    blocks = Blocks(directory / _BLOCKS)
    root = from_text(cid)
    if codec_of(root) == DAG_CBOR:
        data = blocks.get(root)
        if data is None:
            raise StoreError(
                f"the cut {cid} is damaged on the disk: fetch it again with `learnae pin {cid}`",
                code="snapshot-damaged",
            )
        try:
            root = Manifest.decode(data).weights
        except WireError as error:
            raise WireError(f"{cid} is no cut of a swarm, but something else: {error}", code="not-a-cut") from error
    status = daemon.get("/api/status") if daemon is not None else {}
    folder = status.get("data")
    return Found(to_text(from_text(cid)), blocks, root, status.get("task"), Path(folder) if folder else None)


def write(found: Found, file: Path, task: str | None, data: Path | None) -> int:
    """Write the model as safetensors, float32; how many weights it has.

    Raises:
        StoreError: a block is missing or damaged, or the file cannot be written.
        LayoutError: it is the snapshot of another model than the task's.
        TaskError: there is no such task.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    from learnae.initial import named
    from learnae.replica import Replica

    layout = layout_of(read(found.blocks, found.root))
    tensors = named(Replica.from_snapshot(read(found.blocks, found.root), layout))
    state = dict(tensors) if task is None else _completed(layout, tensors, task, data)
    # Tied tensors share their memory, which such a file cannot.
    state = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in state.items()}
    with _replacing(file) as draft:
        try:
            save_file(state, draft, {"learnae": found.cid})
        except SafetensorError as error:
            raise StoreError(
                f"{file} cannot be written: {error}. Give another path, or make room", code="file-unwritable"
            ) from error
    return layout.size


def _completed(
    layout: Layout, tensors: Mapping[str, torch.Tensor], task: str, data: Path | None
) -> dict[str, torch.Tensor]:
    """The state of the task's model with these weights, BatchNorm statistics estimated on local data."""
    import torch
    from torch import nn

    from learnae.model import describe
    from learnae.task import Shard, load_task

    loaded = load_task(task, data)
    torch.manual_seed(loaded.seed)
    model = loaded.model()
    theirs, ours = ([(tensor.name, tensor.shape) for tensor in one.tensors] for one in (layout, describe(model)))
    if theirs != ours:
        odd = sorted({name for name, _ in set(theirs) ^ set(ours)})
        raise LayoutError(
            f"the snapshot is of another model than that of task {task} (they differ in {', '.join(odd[:3])}): give "
            "the task that it was trained with",
            code="model-mismatch",
        )
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, tensor in tensors.items():
            parameters[name].copy_(tensor)
        norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
        for module in norms:
            module.reset_running_stats()
            module.momentum = None  # a plain mean over all batches
        model.train()
        for batch in islice(loaded.batches(Shard(0, 1), 0), _BATCHES if norms else 0):
            loaded.loss(model, batch)
    return {**model.state_dict(), **tensors}


def write_car(found: Found, file: Path, console: Console | None = None) -> int:
    """Write the cut, or the snapshot, as a CAR file; how many bytes it has. Shows a bar on a terminal.

    Raises:
        StoreError: a block is missing or damaged, or the file cannot be written.
    """
    columns = BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()
    console = console or Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("", total=_size(found))

        def blocks() -> Iterator[car.Block]:
            for cid, block in _blocks(found):
                yield cid, block
                progress.advance(bar, len(block) if codec_of(cid) == RAW else 0)

        with _replacing(file) as draft, draft.open("wb") as out:
            return sum(out.write(piece) for piece in car.write(from_text(found.cid), blocks()))


def _size(found: Found) -> int | None:
    block = found.blocks.get(found.root)
    return None if block is None else unixfs.size_of(found.root, block)


def _blocks(found: Found) -> Iterator[car.Block]:
    """All of them, the root first."""
    get = _getter(found)
    cid = from_text(found.cid)
    if cid != found.root:
        yield cid, get(cid)
    try:
        for step in unixfs.walk(found.root, get):
            yield step.cid, get(step.cid)
    except WireError as error:
        raise StoreError(f"the snapshot {to_text(found.root)} is no file: {error}", code="snapshot-damaged") from error


def _getter(found: Found) -> Callable[[bytes], bytes]:
    def get(cid: bytes) -> bytes:
        block = found.blocks.get(cid)
        if block is None:
            raise StoreError(
                f"{found.cid} is not whole: {to_text(cid)} is missing or damaged. Fetch it again with "
                f"`learnae pin {found.cid}`",
                code="snapshot-damaged",
            )
        return block

    return get


@contextmanager
def _replacing(file: Path) -> Iterator[Path]:
    """Where to write what shall be `file` when all of it is there."""
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        try:
            yield draft
            draft.replace(file)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(
            f"{file} cannot be written: {error.strerror}. Give another path, or make room",
            code=disk_code(error, "file-unwritable"),
        ) from error
