"""The trainer's state on disk: one safetensors file, replaced as a whole; used by the trainer process."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cbor2
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from learnae.errors import LearnerError, StoreError, WireError
from learnae.protocol import RoundDone
from learnae.vector import VersionVector

if TYPE_CHECKING:
    from learnae.learner import Learner

FILE_NAME = "trainer.safetensors"
_OUTBOX = "outbox"


@dataclass(slots=True)
class Checkpoint:
    """What the trainer keeps beside the learner's own state."""

    applied: VersionVector
    """The updates that are in the replica."""
    rounds: int = 0
    outbox: RoundDone | None = None
    """An encoded round that the daemon has not accepted yet. It is handed in again after a restart; the daemon
    recognises it if it had been stored, so that it counts exactly once."""


def save_checkpoint(directory: Path, learner: Learner, saved: Checkpoint) -> None:
    """Replace the checkpoint; a crash leaves the old or the new one.

    Raises:
        StoreError: the disk is full or the directory not writable; the old checkpoint stays.
    """
    path = directory / FILE_NAME
    draft = path.with_suffix(".new")
    arrays = dict(learner.state())
    extra = cbor2.dumps(saved.outbox and [getattr(saved.outbox, name) for name in RoundDone.__slots__])
    arrays[_OUTBOX] = np.frombuffer(extra, np.uint8)
    about = {"genesis": learner.genesis_digest.hex(), "applied": saved.applied.to_wire(), "rounds": saved.rounds}
    metadata = {"learnae": json.dumps(about, default=bytes.hex)}
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
            "last state that was saved"
        ) from error


def set_aside(directory: Path) -> None:
    """Rename a damaged checkpoint, so that the next start does not stumble over it again."""
    path = directory / FILE_NAME
    path.replace(path.with_suffix(".damaged"))


def load_checkpoint(directory: Path, learner: Learner) -> Checkpoint | None:
    """Bring the learner to its saved state; None, with the learner untouched, if there is none for this model."""
    path = directory / FILE_NAME
    if not path.exists():
        return None
    try:
        with safe_open(path, "numpy") as file:
            about = json.loads(file.metadata()["learnae"])
            if about["genesis"] != learner.genesis_digest.hex():
                return None
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        outbox = cbor2.loads(arrays.pop(_OUTBOX).tobytes())
        rows = [[bytes.fromhex(row[0]), *row[1:]] for row in about["applied"]]
        saved = Checkpoint(VersionVector.from_wire(rows), about["rounds"], outbox and RoundDone(*outbox))
    except (OSError, SafetensorError, WireError, KeyError, TypeError, ValueError) as error:
        raise LearnerError(
            f"the trainer's state in {path} is damaged ({error}); the model is rebuilt from the updates in the ledger"
        ) from error
    learner.load_state(arrays)
    return saved
