"""The worker inside this process: a scripted daemon on the other end of its line, a real learner behind it."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest

from learnae import protocol, snapshot
from learnae.cid import digest_of
from learnae.errors import LearnaeError
from learnae.genesis import Genesis
from learnae.rules import FULL
from learnae.trainer.checkpoint import FILE_NAME
from tests.trainer.support import (
    ME,
    OTHER,
    Daemon,
    accepted,
    add,
    blocks_of,
    bring,
    digest,
    learner,
    make,
    remove,
    rounds,
    run,
    state,
    sum_of,
    without,
)

HALF = FULL // 2


# --- rounds


def test_trains_hands_in_and_finishes(tmp_path: Path, clock: None) -> None:
    daemon = Daemon()
    daemon.accept_rounds(3)
    daemon.tell(protocol.SetShare(0.5), protocol.SetMode("train"))
    make(tmp_path, daemon).run()
    assert [done.after for done in daemon.of(protocol.RoundDone)] == [0, 1, 2]
    assert len(daemon.of(protocol.Finished)) == 1
    report = daemon.final
    assert report.rounds == 3
    assert report.steps > 3
    assert 0 < report.metrics["accuracy"] <= 1
    assert report.training_seconds > 0 and report.exchange_seconds > 0 and report.slots_per_round >= 1
    assert (state(tmp_path) / FILE_NAME).exists()


def test_a_round_is_reported_once_with_what_its_evaluation_found(
    tmp_path: Path, clock: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("learnaed.trainer.worker._REPORT_EVERY", math.inf)
    daemon = Daemon()
    daemon.accept_rounds(4)
    daemon.tell(protocol.SetMode("train"))
    worker = make(tmp_path, daemon)
    monkeypatch.setattr(worker._evaluations, "allows", lambda: True)
    worker._next_report = math.inf  # only those of rounds
    worker.run()
    assert [report.rounds for report in daemon.of(protocol.Report)] == [1, 2, 3, 4, 4]


@pytest.mark.parametrize("ratio", [FULL, HALF, 0])
def test_the_own_round_counts_as_the_daemon_says(tmp_path: Path, clock: None, ratio: int) -> None:
    daemon = Daemon()
    daemon.accept_rounds(1, ratio)
    daemon.tell(protocol.SetMode("train"))
    make(tmp_path, daemon).run()
    (done,) = daemon.of(protocol.RoundDone)
    at = learner()
    assert at.apply(at.payload(done.norm, done.parts), done.samples, ratio)
    assert daemon.final.digest == at.replica.digest()
    again = run(tmp_path)
    assert again.hello.applied == [[ME, 1, digest(done.parts), 1, ratio]]
    assert again.hello.own_seq == 1


def test_a_round_that_is_no_longer_wanted_is_dropped(tmp_path: Path, clock: None) -> None:
    daemon = Daemon()
    daemon.accept_rounds(1, None)
    daemon.tell(protocol.SetMode("train"))
    worker = make(tmp_path, daemon)
    worker.run()
    assert daemon.final.digest == sum_of()
    assert worker._learner.round_samples == 0
    again = run(tmp_path)
    assert (again.hello.applied, again.hello.own_seq) == ([], 1)
    assert not again.of(protocol.RoundDone), "it is not handed in again"


def test_the_daemon_knows_best_which_own_numbers_are_taken(tmp_path: Path, clock: None) -> None:
    """A trainer that lost its state, or went over to a cut, may have missed own updates that are below it."""
    daemon = Daemon()

    def rule(message: protocol.TrainerMessage) -> None:
        if isinstance(message, protocol.RoundDone):
            stale = message.after < 7
            daemon.tell(protocol.Accepted(ME, 7, b"", 0, None) if stale else accepted(8, message.parts))
            if not stale:
                daemon.tell(protocol.SetMode("finish"))
        if isinstance(message, protocol.Finished):
            daemon.tell(protocol.Evaluate(), protocol.Stop())

    daemon.rules.append(rule)
    daemon.tell(protocol.SetMode("train"))
    make(tmp_path, daemon).run()
    assert [done.after for done in daemon.of(protocol.RoundDone)] == [0, 7]
    assert run(tmp_path).hello.own_seq == 8


@pytest.mark.parametrize("slots", [1, 3])
def test_a_round_of_several_slots_has_the_steps_of_all(
    tmp_path: Path, clock: None, monkeypatch: pytest.MonkeyPatch, slots: int
) -> None:
    daemon = Daemon()
    daemon.accept_rounds(3)
    daemon.tell(protocol.SetMode("train"))
    worker = make(tmp_path, daemon)
    monkeypatch.setattr(worker._pace, "note", lambda seconds: None)
    worker._pace.slots = slots
    most = Genesis.from_wire(worker._genesis.to_wire()).round_steps
    assert most is not None and most < 1.0 / 0.01 / 2, "in a slot of the clock there is time for more steps"
    worker.run()
    first, *others = [done.samples // 16 for done in daemon.of(protocol.RoundDone)]
    assert others == [most * slots] * 2
    assert most <= first <= most * slots, "it started at any time"
    report = daemon.final
    assert (report.slots_per_round, report.rounds) == (slots, 3)


def test_the_daemon_is_heard_while_a_round_waits_for_its_answer(tmp_path: Path, clock: None) -> None:
    one, two = rounds(2)
    daemon = Daemon()

    def rule(message: protocol.TrainerMessage) -> None:
        if isinstance(message, protocol.RoundDone):
            daemon.tell(*add(one), *add(two, seq=2), protocol.TakeCut(3, 9, 0), *remove(one))
            daemon.tell(accepted(1, message.parts), protocol.SetMode("finish"))
        if isinstance(message, protocol.Finished):
            daemon.tell(protocol.Evaluate(), protocol.Stop())

    daemon.rules.append(rule)
    daemon.tell(protocol.SetMode("train"))
    make(tmp_path, daemon).run()
    (done,) = daemon.of(protocol.RoundDone)
    at = learner()
    for parts, samples in ((two.parts, two.samples), (done.parts, done.samples)):
        at.apply(at.payload(parts=parts), samples)
    assert daemon.final.digest == at.replica.digest()
    assert [cut.index for cut in daemon.of(protocol.CutTaken)] == [3]


def crash_after_handing_in(directory: Path) -> protocol.RoundDone:
    daemon = Daemon()

    def die(message: protocol.TrainerMessage) -> None:
        if isinstance(message, protocol.RoundDone):
            raise EOFError

    daemon.rules.append(die)
    daemon.tell(protocol.SetMode("train"))
    with pytest.raises(EOFError):
        make(directory, daemon).run()
    (done,) = daemon.of(protocol.RoundDone)
    return done


def test_a_round_whose_answer_never_came_is_handed_in_again(tmp_path: Path, clock: None) -> None:
    done = crash_after_handing_in(tmp_path)
    daemon = Daemon()
    daemon.accept_rounds(1)
    make(tmp_path, daemon).run()
    assert daemon.of(protocol.RoundDone) == [done]
    assert daemon.hello.applied == []
    at = learner()
    at.apply(at.payload(done.norm, done.parts), done.samples)
    assert daemon.final.digest == at.replica.digest()


def test_a_round_that_had_been_stored_before_the_crash_counts_once(tmp_path: Path, clock: None) -> None:
    done = crash_after_handing_in(tmp_path)
    daemon = Daemon()
    about = protocol.Add(ME, 1, digest(done.parts), 1, done.samples, done.norm, FULL, len(done.parts))
    daemon.tell(about, *map(protocol.Piece, done.parts))
    daemon.accept_rounds(1)
    again = make(tmp_path, daemon)
    again.run()
    assert again._learner.round_samples == 0, "the local steps of that round must not be encoded again"
    at = learner()
    at.apply(at.payload(done.norm, done.parts), done.samples)
    assert daemon.final.digest == at.replica.digest()


# --- the updates of others


def test_an_update_is_added_once_however_often_it_comes(tmp_path: Path) -> None:
    (update,) = rounds(1)
    for copies in (1, 3):
        daemon = run(tmp_path / str(copies), *add(update) * copies)
        assert daemon.final.digest == sum_of((update, FULL))


def test_the_replica_is_a_function_of_the_set(tmp_path: Path) -> None:
    """Added, removed, weighed anew, in another order: what counts is what is in the end."""
    a, b, c = rounds(3)
    one = run(tmp_path / "1", *add(a), *add(b, seq=2, ratio=HALF), *add(c, seq=3))
    messages = [*add(c, seq=3), *add(a, ratio=12345), *add(b, seq=2), *remove(a), *remove(b, seq=2)]
    other = run(tmp_path / "2", *messages, *add(b, seq=2, ratio=HALF), *add(a))
    assert one.final.digest == other.final.digest == sum_of((a, FULL), (b, HALF), (c, FULL)) != sum_of()
    assert run(tmp_path / "2").hello.applied == [
        [OTHER, 3, digest(c.parts), 1, FULL],
        [OTHER, 2, digest(b.parts), 1, HALF],
        [OTHER, 1, digest(a.parts), 1, FULL],
    ]


def test_two_updates_under_one_number_are_told_apart(tmp_path: Path) -> None:
    a, b = rounds(2)
    daemon = run(tmp_path, *add(a), *add(b), *remove(a))
    assert daemon.final.digest == sum_of((b, FULL))


def test_removing_what_is_not_there_does_nothing(tmp_path: Path) -> None:
    a, b = rounds(2)
    daemon = run(tmp_path, *add(a), *remove(b, seq=2), *remove(a), *remove(a))
    assert daemon.final.digest == sum_of()


@pytest.mark.parametrize("why", ["norm", "bytes", "order", "more"])
def test_void_updates_are_reported_and_add_nothing(tmp_path: Path, why: str) -> None:
    good, bad = rounds(2)
    norm = bad.norm
    if why == "norm":
        norm *= 1 - 1e-12
    elif why == "bytes":
        bad.parts[0] = bad.parts[0][:-1]
    elif why == "order":
        bad.parts.append(bad.parts[0])
    else:
        bad.parts.append(b"not a part")
    daemon = run(tmp_path, *add(bad, seq=2, norm=norm), *add(good))
    assert daemon.of(protocol.Void) == [protocol.Void(OTHER, 2)]
    assert daemon.final.digest == sum_of((good, FULL))
    # Remembered as applied; so it is void when it comes again, goes, or is left out of a cut.
    again = run(tmp_path, *add(bad, seq=2, norm=norm), protocol.TakeCut(1, 0, 1), *without(bad, seq=2))
    assert [row[1] for row in again.hello.applied] == [2, 1]
    assert not again.of(protocol.Void)
    removed = run(tmp_path, *remove(bad, seq=2))
    assert again.final.digest == removed.final.digest == daemon.final.digest
    assert again.of(protocol.CutTaken)[0].weights is not None


def test_an_update_is_applied_with_its_last_piece(tmp_path: Path) -> None:
    (update,) = rounds(1)
    about, *pieces = add(update)
    daemon = run(tmp_path, about, *pieces[:-1])
    assert daemon.final.digest == sum_of()
    assert run(tmp_path).hello.applied == []


@pytest.mark.parametrize(
    "messages",
    [
        [protocol.Piece(b"")],
        [protocol.Without(OTHER, 1, bytes(32), 0)],
        [protocol.Add(OTHER, 1, bytes(32), 1, 1, 0.0, FULL, 1)] * 2,
        [protocol.Finished()],
    ],
)
def test_a_daemon_that_breaks_the_protocol_is_refused(tmp_path: Path, messages: list[protocol.TrainerMessage]) -> None:
    with pytest.raises(LearnaeError, match="the daemon"):
        run(tmp_path, *messages)


# --- cuts


def test_a_cut_leaves_out_what_it_is_told_to(tmp_path: Path) -> None:
    a, b, c = rounds(3)
    daemon = run(
        tmp_path,
        *add(a, ratio=HALF),
        *add(b, seq=2),
        *add(c, seq=3, ratio=HALF),
        protocol.TakeCut(5, 8, 2),
        *without(b, seq=2),
        *without(c, seq=3),
        protocol.TakeCut(5, 9, 1),
        *without(a, seq=77),
    )
    first, second = daemon.of(protocol.CutTaken)
    assert (first.index, first.token, second.index, second.token) == (5, 8, 5, 9)
    assert daemon.final.digest == sum_of((a, HALF), (b, FULL), (c, HALF)), "the replica stays as it was"
    at = learner()
    at.apply(at.payload(parts=a.parts), 1, HALF)
    for cut in (first, second):
        assert cut.weights is not None
        assert sum(map(len, snapshot.read(blocks_of(tmp_path), cut.weights))) == cut.size
    assert snapshot.root_of(at.replica.pieces()).cid == first.weights
    at.apply(at.payload(parts=b.parts), 1)
    at.apply(at.payload(parts=c.parts), 1, HALF)
    assert snapshot.root_of(at.replica.pieces()).cid == second.weights


def test_a_cut_that_cannot_be_written_is_no_end(tmp_path: Path) -> None:
    daemon = Daemon()
    worker = make(tmp_path, daemon)
    blocks = blocks_of(tmp_path).directory
    shutil.rmtree(blocks)
    blocks.write_text("in the way")
    daemon.tell(protocol.TakeCut(5, 8, 0), protocol.Evaluate(), protocol.Stop())
    worker.run()
    assert daemon.of(protocol.CutTaken) == [protocol.CutTaken(5, 8, None, 0)]
    assert any("cannot be written" in warned.text for warned in daemon.of(protocol.Warned))


def test_a_cut_is_refused_if_a_stored_payload_went_bad(tmp_path: Path) -> None:
    (update,) = rounds(1)
    about, *_ = without(update)
    daemon = run(tmp_path, *add(update), protocol.TakeCut(5, 8, 1), about, protocol.Piece(b"rotten"))
    assert daemon.of(protocol.CutTaken) == [protocol.CutTaken(5, 8, None, 0)]


def test_forgetting_what_is_below_a_cut(tmp_path: Path) -> None:
    a, b = rounds(2)
    before = run(tmp_path, *add(a, slot=7), *add(b, seq=2, slot=8), protocol.Forget(7, b"cut", b"s" * 32))
    after = run(tmp_path)
    assert (after.hello.base, after.hello.total) == (b"cut", b"s" * 32)
    assert after.hello.applied == [[OTHER, 2, digest(b.parts), 8, FULL]]
    assert before.final.digest == after.final.digest == sum_of((a, FULL), (b, FULL))


def test_going_on_from_a_cut_of_others(tmp_path: Path) -> None:
    """A joiner or a node from the lighter side: its own work is gone, what follows the cut is added on top."""
    a, b, c = rounds(3)
    theirs = run(tmp_path / "theirs", *add(a), *add(b, seq=2), protocol.TakeCut(5, 8, 0))
    (cut,) = theirs.of(protocol.CutTaken)
    assert cut.weights is not None
    bring(tmp_path / "mine", tmp_path / "theirs", cut.weights)
    load = protocol.Load(cut.weights, b"base", b"t" * 32, 1000)
    daemon = run(tmp_path / "mine", *add(c, seq=3), load, *add(c, seq=3))
    assert daemon.final.digest == sum_of((a, FULL), (b, FULL), (c, FULL))
    again = run(tmp_path / "mine")
    assert (again.hello.base, again.hello.total) == (b"base", b"t" * 32)
    assert [row[1] for row in again.hello.applied] == [3]
    assert again.final.digest == daemon.final.digest


def test_loading_while_a_round_waits_drops_it(tmp_path: Path, clock: None) -> None:
    (a,) = rounds(1)
    theirs = run(tmp_path / "theirs", *add(a), protocol.TakeCut(5, 8, 0))
    weights = theirs.of(protocol.CutTaken)[0].weights
    assert weights is not None
    bring(tmp_path / "mine", tmp_path / "theirs", weights)
    daemon = Daemon()

    def rule(message: protocol.TrainerMessage) -> None:
        if isinstance(message, protocol.RoundDone):
            daemon.tell(protocol.Load(weights, None, bytes(32), 5))
            if message.loads == 0:
                daemon.tell(protocol.Accepted(ME, 0, b"", 0, None))
            else:
                daemon.tell(accepted(message.after + 1, message.parts), protocol.SetMode("finish"))
        if isinstance(message, protocol.Finished):
            daemon.tell(protocol.Evaluate(), protocol.Stop())

    daemon.rules.append(rule)
    daemon.tell(protocol.SetMode("train"))
    make(tmp_path / "mine", daemon).run()
    assert [done.loads for done in daemon.of(protocol.RoundDone)] == [0, 1]
    assert daemon.final.digest == sum_of((a, FULL))
    assert not run(tmp_path / "mine").of(protocol.RoundDone), "it is not handed in again"


def test_a_damaged_snapshot_is_refused_before_anything_changes(tmp_path: Path) -> None:
    a, b = rounds(2)
    before = run(tmp_path, *add(a), protocol.TakeCut(5, 8, 0), *add(b, seq=2))
    weights = before.of(protocol.CutTaken)[0].weights
    assert weights is not None
    name = digest_of(weights).hex()
    path = blocks_of(tmp_path).directory / name[:2] / name
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(LearnaeError, match="damaged"):
        run(tmp_path, protocol.Load(weights, b"base", bytes(32), 5))
    assert run(tmp_path).final.digest == before.final.digest


def test_hello_names_the_genesis_and_its_snapshot_is_there(tmp_path: Path) -> None:
    hello = run(tmp_path).hello
    genesis = Genesis.from_wire(hello.genesis)
    assert genesis.layout.size == hello.parameters
    assert genesis.swarm_id("one") != genesis.swarm_id("two")
    at = learner()
    assert snapshot.root_of(at.replica.pieces()).cid == genesis.weights
    kept = b"".join(snapshot.read(blocks_of(tmp_path), genesis.weights))
    assert kept == b"".join(snapshot.cut_leaves(at.replica.pieces()))
    assert genesis.rules == at.task.rules
    assert (hello.base, hello.total, hello.own_seq) == (None, bytes(32), 0)


def test_limits_are_kept_from_the_start_and_can_be_changed(tmp_path: Path, clock: None) -> None:
    daemon = Daemon()
    daemon.accept_rounds(2)
    daemon.tell(protocol.SetLimits(0.5, 1, 10, True, None), protocol.SetMode("train"))
    worker = make(tmp_path, daemon)
    rests: list[float] = []
    left = iter([0.5, 0.25, 0.0, 0.0, 0.75])
    worker.restraint.rest = lambda: next(left, 0.0)  # type: ignore[method-assign]
    receive = daemon.receive

    def waiting(timeout: float) -> protocol.TrainerMessage | None:
        if timeout in (0.5, 0.25, 0.75):
            rests.append(timeout)
        return receive(timeout)

    daemon.receive = waiting  # type: ignore[method-assign]
    worker.run()
    assert worker.restraint._limits == protocol.SetLimits(0.5, 1, 10, True, None)
    assert rests == [0.5, 0.25, 0.75], "it rests between steps, hearing what the daemon says"
    assert daemon.final.rounds == 2
