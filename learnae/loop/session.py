"""`Session`: a script's line to its daemon, and all that is done between two steps; used by `Swarm`."""

from __future__ import annotations

import logging
import math
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from learnae import protocol
from learnae.blocks import Blocks
from learnae.errors import DaemonError, StoreError, TrainerError, coded
from learnae.genesis import Genesis
from learnae.loop.daemon import LocalDaemon
from learnae.loop.keeper import Keeper
from learnae.loop.link import Link
from learnae.loop.origin import Start
from learnae.loop.reports import Figures, Reports
from learnae.loop.rounds import Rounds
from learnae.loop.seeker import Seeker
from learnae.loop.weights import LiveWeights
from learnae.trainer.restraint import Restraint, let_go
from learnae.trainer.updates import Updates

_SLICE_SECONDS = 0.004
"""Most time that a step spends on merging, if steps are short; else `_SLICE_PART` of a step."""
_SLICE_PART = 0.1
_COMES_BACK_SECONDS = 30.0

log = logging.getLogger("learnae")


class Session:
    """Attaches to daemons, carries out what they say, and brings the own rounds forward.

    Args:
        resumes: whether to begin with the weights that this profile's last script on the topic had.
        evaluate: see `Reports`.
    """

    def __init__(
        self,
        weights: LiveWeights,
        topic: str,
        daemon: LocalDaemon,
        genesis: Genesis,
        evaluate: Callable[[bool], Figures] | None,
        *,
        resumes: bool,
    ) -> None:
        self.weights = weights
        self.daemon = daemon
        self.genesis = genesis
        self.link: Link | None = None
        """None while there is no daemon."""
        self.seeker = Seeker(daemon)
        self.aside = ThreadPoolExecutor(2, "learnae")
        """What is done beside the training."""
        self.rounds = Rounds(weights, genesis, self.send, self.warn)
        self.stopped = False
        """The daemon was stopped; it has what it needs."""
        self.leaving = False
        """A daemon that hangs up is not looked for."""
        self.due = 0.0
        """When `attend` is to be called, if nothing comes before."""
        self.last = time.monotonic()
        """The end of the last step."""
        self.merging = self.longest = 0.0
        self._topic = topic
        self._evaluator = evaluate
        self._resumes = resumes
        self._resumed = False
        self._keeper = Keeper(weights, self.warn)
        self._reports: Reports | None = None
        self._restraint = Restraint(self.warn)
        self._limited = False

    @property
    def mode(self) -> str:
        """As in `SwarmStatistics`."""
        return self.rounds.mode

    @property
    def finished(self) -> bool:
        """The node was told to finish, and has handed in its last round."""
        return self.rounds.finished

    # --- the daemon

    def attach(self, link: Link) -> None:
        """Take up with a daemon: say what this node has, and go on from there."""
        setup = link.setup
        self.link = link
        self.rounds.mode = "pause"
        self._restraint = Restraint(self.warn, daemon=link.pid)
        self._restraint.apply(setup.limits)
        self._limited = setup.limits.cpu is not None
        blocks = Blocks(Path(setup.blocks))
        if not self._resumed:
            self._resumed = True
            self._resume(setup, blocks)
            self._restraint.loaded()
        books = self.rounds.books
        self.rounds.updates = Updates(
            self.weights, books, setup.author, blocks, self.send, lambda write: self.aside.submit(write)
        )
        self.send(
            protocol.Hello(
                genesis=self.genesis.to_wire(),
                base=books.base,
                total=books.total,
                applied=books.rows(),
                own_seq=books.own_seq,
                parameters=self.weights.layout.size,
                local=len(self.weights.layout.local),
                rounds=books.rounds,
            )
        )
        self.rounds.hand_in()

    def _resume(self, setup: protocol.Setup, blocks: Blocks) -> None:
        start = Start(Path(setup.directory), setup.topic, self.genesis, self.weights.genesis_digest)
        jitter = random.Random(setup.author)
        start, books = self._keeper.resume(start, blocks, jitter, found=self._resumes)
        self.genesis = start.genesis
        if books is not None:
            self.rounds.books = books
        self._reports = Reports(
            self.weights, self.rounds, self.genesis.slot_seconds, self._evaluator, self.send, jitter
        )
        self._reports.evaluate()

    def _detach(self, why: str) -> None:
        """Go on alone until the daemon is back."""
        if self.link is not None:
            self.link.close(0.1)
        self.link = self.rounds.updates = None
        self.rounds.mode = "alone"
        if self.leaving or self.finished:
            return
        log.warning("%s; training goes on alone, and joins the swarm again when the daemon is back", why)
        self.seeker.start()

    def attach_again(self) -> None:
        """Take up with the daemon that was found, if one was."""
        link = self.seeker.take()
        if link is not None:
            log.info("the daemon is back")
            self.attach(link)

    def wait_for_daemon(self) -> None:
        """It has hung up before training began, as it does if what a script has does not fit any more.

        Raises `DaemonError` if it is gone for good.
        """
        deadline = time.monotonic() + _COMES_BACK_SECONDS
        while not self.seeker.found:
            if not self.daemon.alive or time.monotonic() > deadline:
                raise DaemonError(
                    "the daemon ended before training began; look into its log, `learnae logs` shows it",
                    code="daemon-silent",
                )
            time.sleep(0.05)
        self.attach_again()

    def close(self) -> None:
        """Hang up, and wait for what is done beside the training."""
        self.seeker.close()
        if self.link is not None:
            self.link.close()
        self.link = None
        let_go()
        self.aside.shutdown(wait=True)

    def send(self, message: protocol.TrainerMessage) -> None:
        """Tell the daemon, if one is there."""
        link = self.link
        if link is not None:
            link.send(message)

    def warn(self, text: str) -> None:
        """Tell the user, here and in the daemon's status."""
        log.warning("%s", text)
        self.send(protocol.Warned(text))

    # --- between two steps

    @property
    def busy(self) -> bool:
        """There is something to do, or to read."""
        return not self.weights.idle or (self.link is not None and self.link.waiting)

    def attend(self, now: float) -> None:
        """Do what there is to do after a step, but no more than fits between two steps; wait where the swarm does."""
        self.attach_again()
        self.rounds.note_step()
        self.turn(max(_SLICE_SECONDS, _SLICE_PART * (now - self.last)))
        took = time.monotonic() - now
        self.merging += took
        self.rounds.exchange += took
        self.longest = max(self.longest, took)
        self.wait_while_told()
        self.last = time.monotonic()
        next_report = self._reports.due if self._reports is not None else 0.0
        self.due = self.last + min(self.rounds.left, max(next_report - self.last, 0.0))
        if self._limited or self.rounds.bounded:
            self.due = 0.0

    def turn(self, patience: float, timeout: float = 0.0) -> None:
        """Do what there is to do, for so long; wait up to `timeout` seconds for something.

        Raises `TrainerError` if the daemon has told the script to end.
        """
        deadline = time.monotonic() + patience
        try:
            while True:
                if not self.weights.idle:
                    self.weights.work()
                elif not self._advance():
                    message = self.link.receive(timeout) if self.link is not None else None
                    if message is None:
                        break
                    self._handle(message)
                    timeout = 0.0
                if time.monotonic() >= deadline:
                    break
            self._report()
        except EOFError:
            self._detach("the daemon has hung up")
        except (StoreError, TrainerError) as error:
            if error.code == "trainer-ended" or not isinstance(error, StoreError):
                raise
            # The daemon looks after what it wanted to be loaded; we come again with the weights that we have.
            self.send(protocol.Failed(str(error), "", fatal=False, code=error.code))
            self._detach(coded(error))

    def wait_while_told(self) -> None:
        """While the node is paused, rests for a limit, or has done the steps of a slot."""
        told = False
        while self.link is not None and not self.finished:
            if self.mode == "pause":
                if not told:
                    log.info("paused: see `learnae status`")
                told = True
                self.turn(math.inf, 0.2)
            elif self._limited and (left := self._restraint.rest()) > 0:
                self.turn(math.inf, min(left, 1.0))
            elif self.mode == "train" and self.rounds.slot_is_full:
                self.turn(math.inf, min(max(self.rounds.left, 0.001), 0.2))
            else:
                return

    def _advance(self) -> bool:
        """Bring forward what is under way; whether there was something to bring."""
        if self.rounds.take_settled():
            self._after_round()
            return True
        rounds = self.rounds
        return self._keeper.advance(rounds.books, self.aside, at_rest=rounds.at_rest) or rounds.advance(self.aside)

    def _after_round(self) -> None:
        """The model has gone over to phi."""
        if self._reports is not None:
            self._reports.evaluate(thrifty=True)
        self._keeper.begin(self.aside)
        self._report(at_once=True)

    def save(self, *, wait: bool = False) -> None:
        """Keep the state for a restart; not while a round is closed, whose local steps would be encoded twice."""
        self.weights.finish_work()
        if self.rounds.at_rest:
            self._keeper.save(self.rounds.books, self.aside, wait=wait)

    def _report(self, *, final: bool = False, at_once: bool = False) -> None:
        if self._reports is None or not (final or at_once or time.monotonic() >= self._reports.due):
            return
        if self.link is None:
            self._reports.due = time.monotonic() + 1.0
            return
        self._restraint.hold_memory()
        self._reports.send(final=final)

    # --- messages

    def _handle(self, message: protocol.TrainerMessage) -> None:
        assert self.rounds.updates is not None
        match message:
            case protocol.SetMode():
                self.rounds.set_mode(message.mode)
            case protocol.SetShare():
                self.rounds.share = message.share
            case protocol.SetLimits():
                self._restraint.apply(message)
                self._limited = message.cpu is not None
            case protocol.Evaluate():
                if self._reports is not None:
                    self._reports.evaluate()
                self._report(final=True)
            case protocol.Stop():
                self.save(wait=True)
                self.stopped = True
                self._detach("the daemon was stopped")
            case protocol.Refused():
                raise TrainerError(message.message, code=message.code)
            case protocol.Load():
                self.rounds.load(message)
                self.save()
            case protocol.Accepted():
                self.rounds.accept(message)
            case _:
                if not self.rounds.updates.handle(message):
                    raise TrainerError(
                        f"the daemon sent {type(message).__name__}, which is not for trainers", code="trainer-protocol"
                    )
