"""`Keeper`: a script's state on disk, from which it goes on after a restart; used by `Session`."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

from learnae import snapshot
from learnae.blocks import Blocks
from learnae.errors import LearnerError, StoreError
from learnae.loop.origin import Start
from learnae.loop.state import State, StateCopy
from learnae.loop.weights import LiveWeights
from learnae.replica import Replica
from learnae.trainer.books import Books
from learnae.trainer.checkpoint import load_checkpoint, set_aside, write_checkpoint
from learnae.trainer.pace import Budget

_KEEPING = 0.005
"""Most of the time that may be spent on it."""

log = logging.getLogger("learnae")


class Keeper:
    """Keeps ``weights`` and books in the directory of their swarm; written in a thread beside the training."""

    def __init__(self, weights: LiveWeights, warn: Callable[[str], None]) -> None:
        self._weights = weights
        self._warn = warn
        self._path: Path | None = None
        self._copy: StateCopy | None = None
        self._writing: Future[None] | None = None
        self._budget = Budget(_KEEPING, random.Random(0))

    def resume(self, start: Start, blocks: Blocks, jitter: random.Random, *, found: bool) -> tuple[Start, Books | None]:
        """Go on where this script, or with ``found`` the one before it in this profile, was.

        Returns:
            Where its swarm began, and its books if there was a state.
        """
        self._budget = Budget(_KEEPING, jitter)
        fresh, start = start, start.found() if found else start
        weights = self._weights
        self._path, weights.genesis_digest = start.path, start.digest
        try:
            books = load_checkpoint(self._path, weights)
        except LearnerError as error:
            self._warn(f"{error}; the file was moved aside")
            set_aside(self._path)
            books = None
        if books is not None:
            log.info("going on after step %d", weights.steps)
            return start, books
        try:
            if start.genesis != fresh.genesis:
                leaves = snapshot.read(blocks, start.genesis.weights)
                weights.load(Replica.from_snapshot(leaves, weights.layout), 0)
            else:
                snapshot.write(blocks, weights.replica.pieces())
            start.keep()
        except StoreError as error:
            self._warn(str(error))
            weights.genesis_digest = weights.replica.digest()
            return fresh, None
        return start, None

    def begin(self, aside: Executor) -> None:
        """Begin to keep the state without holding up the training, if it is time again; `advance` goes on with it."""
        if self._budget.allows() and self._copy is None and (self._writing is None or self._writing.done()):
            self._copy = StateCopy(self._weights)
            self._writing = aside.submit(self._copy.make_room)

    def advance(self, books: Books, aside: Executor, *, at_rest: bool) -> bool:
        """Bring forward what was begun, when no work is left; whether there was something to bring.

        ``at_rest``: no round is closed, whose local steps would be encoded twice after a restart.
        """
        copy = self._copy
        if copy is None or self._path is None or self._writing is None or not self._writing.done():
            return False
        self._writing.result()
        if not copy.begun:
            if at_rest:
                self._weights.copy_later(copy)
            return at_rest
        self._copy = None
        if copy.done:  # else the weights were given up meanwhile
            self._budget.rest(copy.seconds)
            self._submit(self._path, copy.arrays, books, aside)
        return True

    def save(self, books: Books, aside: Executor, *, wait: bool = False) -> None:
        """Copy the state at once and have it written; not while a round is closed, or work is left."""
        self._copy = None
        if self._writing is not None and wait:
            self._writing.exception()
        if self._path is not None:
            self._submit(self._path, self._weights.state(), books, aside)
            if wait and self._writing is not None:
                self._writing.result()

    def _submit(self, path: Path, state: State, books: Books, aside: Executor) -> None:
        genesis, rows = self._weights.genesis_digest, books.to_wire()
        self._writing = aside.submit(self._write, path, state, genesis, rows)

    def _write(self, path: Path, state: State, genesis: bytes, books: list[Any]) -> None:
        try:
            write_checkpoint(path, state, genesis, books)
        except StoreError as error:
            self._warn(str(error))
