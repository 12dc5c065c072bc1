"""The trainer's state on disk, and what becomes of one that is of no use."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from learnae import protocol
from learnae.replica import Replica
from learnae.rules import FULL
from learnae.trainer.books import Applied, Books
from learnae.trainer.checkpoint import FILE_NAME, load_checkpoint, save_checkpoint
from tests.trainer.support import ME, OTHER, Daemon, add, learner, make, rounds, run, state, sum_of


def test_a_round_trip(tmp_path: Path) -> None:
    at = learner()
    at.step()
    done = at.finish_round(0.5)
    outbox = protocol.RoundDone(done.parts, done.samples, 0.5, done.norm, done.loss, 0, 0)
    applied = {(OTHER, 7, b"d" * 32): Applied(3, FULL), (ME, 7, b"e" * 32): Applied(4, 5, void=True)}
    books = Books(b"base", b"t" * 32, applied, 7, 9, outbox)
    save_checkpoint(tmp_path, at, books)
    other = learner()
    assert load_checkpoint(tmp_path, other) == books
    assert other.step() == at.step()
    assert not list(tmp_path.glob("*.new"))


def test_the_units_are_restored_too(tmp_path: Path) -> None:
    """A node that went over to another genesis may count in other units than its own task's."""
    at = learner()
    (update,) = rounds(1)
    finer = Replica(at.layout, [e - 1 for e in at.exponents], at.replica.weights * 2)
    at.load(finer, 5)
    assert at.apply(at.payload(parts=update.parts), 3)
    save_checkpoint(tmp_path, at, Books())
    other = learner()
    load_checkpoint(tmp_path, other)
    assert other.exponents == finer.exponents != learner().exponents
    assert (other.replica.read() == at.replica.read()).all()
    at.step(), other.step()
    assert other.finish_round(0.5) == at.finish_round(0.5)


def test_a_damaged_one_is_set_aside_and_told(tmp_path: Path) -> None:
    run(tmp_path)
    (state(tmp_path) / FILE_NAME).write_bytes(b"rubbish" * 100)
    (update,) = rounds(1)
    daemon = run(tmp_path, *add(update))
    (warned,) = daemon.of(protocol.Warned)
    assert "damaged" in warned.text
    assert (state(tmp_path) / "trainer.aside").read_bytes().startswith(b"rubbish")
    assert daemon.final.digest == sum_of((update, FULL))
    assert not run(tmp_path).of(protocol.Warned)


@pytest.mark.parametrize("about", ['{"genesis": "00", "applied": [], "rounds": 1}', '{"format": 3}'])
def test_one_of_another_version_is_set_aside_and_told(tmp_path: Path, about: str) -> None:
    run(tmp_path)
    save_file({"replica": np.zeros(3, np.int32)}, state(tmp_path) / FILE_NAME, {"learnae": about})
    (warned,) = run(tmp_path).of(protocol.Warned)
    assert "another version" in warned.text
    assert (state(tmp_path) / "trainer.aside").exists()


@pytest.mark.parametrize("about", ["[]", "nonsense"])
def test_one_whose_header_is_nonsense_is_damaged(tmp_path: Path, about: str) -> None:
    run(tmp_path)
    save_file({"replica": np.zeros(3, np.int32)}, state(tmp_path) / FILE_NAME, {"learnae": about})
    (warned,) = run(tmp_path).of(protocol.Warned)
    assert "damaged" in warned.text


def test_one_that_cannot_be_written_does_not_stop_training(tmp_path: Path, clock: None) -> None:
    for place in ("trainer", *(f"blocks/{number:02x}" for number in range(256))):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_text("a file where the directory should be")
    daemon = Daemon()
    daemon.accept_rounds(2)
    daemon.tell(protocol.SetMode("train"))
    make(tmp_path, daemon).run()
    assert len(daemon.of(protocol.RoundDone)) == 2
    texts = [warned.text for warned in daemon.of(protocol.Warned)]
    assert any("cannot be saved" in text for text in texts)
    assert any("cannot be written" in text for text in texts)
