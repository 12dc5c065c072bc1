"""The trainer's state on disk: one safetensors file, replaced as a whole; used by trainers."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cbor2
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from learnae.errors import LearnerError, StoreError
from learnae.trainer.books import Books

if TYPE_CHECKING:
    from learnae.weights import SharedWeights

FILE_NAME = "trainer.safetensors"
FORMAT = 2
_BOOKS = "books"


def save_checkpoint(directory: Path, learner: SharedWeights, books: Books) -> None:
    """Replace the checkpoint; a crash leaves the old or the new one.

    Raises:
        StoreError: the disk is full or the directory not writable; the old checkpoint stays.
    """
    write_checkpoint(directory, learner.state(), learner.genesis_digest, books.to_wire())


def write_checkpoint(directory: Path, state: Mapping[str, NDArray[Any]], genesis: bytes, books: list[Any]) -> None:
    """`save_checkpoint` of what was copied before; for a thread beside the training."""
    path = directory / FILE_NAME
    draft = path.with_suffix(".new")
    arrays = {**state, _BOOKS: np.frombuffer(cbor2.dumps(books), np.uint8)}
    metadata = {"learnae": json.dumps({"format": FORMAT, "genesis": genesis.hex()})}
    try:
        directory.mkdir(parents=True, exist_ok=True)
        save_file(arrays, draft, metadata)
        with draft.open("rb+") as file:
            os.fsync(file.fileno())
        draft.replace(path)
    except (OSError, SafetensorError) as error:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise StoreError(
            f"the trainer's state cannot be saved to {path}: {error}. Make room on the disk; training goes on from the "
            "last state that was saved",
            code="state-unwritable",
        ) from error


def set_aside(directory: Path) -> None:
    """Rename a checkpoint that is of no use, so that the next start does not stumble over it again."""
    path = directory / FILE_NAME
    path.replace(path.with_suffix(".aside"))


def load_checkpoint(directory: Path, learner: SharedWeights) -> Books | None:
    """Bring the learner to its saved state; None, with the learner untouched, if there is none for this model.

    Raises:
        LearnerError: the checkpoint is damaged or of another version of learnae; the learner is then of no use.
    """
    path = directory / FILE_NAME
    if not path.exists():
        return None
    try:
        with safe_open(path, "numpy") as file:
            about = json.loads(file.metadata()["learnae"])
            written = about.get("format", 1)
            if written != FORMAT:
                raise LearnerError(
                    f"the trainer's state in {path} is in format {written}, which another version of learnae wrote; "
                    f"this one uses format {FORMAT}. The model is rebuilt from the updates in the ledger",
                    code="state-damaged",
                )
            if about["genesis"] != learner.genesis_digest.hex():
                return None
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        books = Books.from_wire(cbor2.loads(arrays.pop(_BOOKS).tobytes()))
    except (OSError, SafetensorError, cbor2.CBORError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise LearnerError(
            f"the trainer's state in {path} is damaged ({error}); the model is rebuilt from the updates in the ledger",
            code="state-damaged",
        ) from error
    learner.load_state(arrays)
    return books
