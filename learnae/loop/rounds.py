"""`Rounds`: when the script's own rounds end, and their way to the daemon; used by `Session`."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import replace

from learnae import protocol
from learnae.errors import LearnerError
from learnae.genesis import Genesis
from learnae.loop.weights import LiveWeights
from learnae.trainer.books import Books
from learnae.trainer.pace import Pace
from learnae.trainer.updates import Updates
from learnae.weights import Round


class Rounds:
    """Closes a round at the end of its slots, encodes it in a thread beside the training, and hands it in.

    Args:
        weights: what is trained.
        genesis: its clock, and the most steps of a slot.
        send, warn: take messages for the daemon, and words for the user.
    """

    def __init__(
        self,
        weights: LiveWeights,
        genesis: Genesis,
        send: Callable[[protocol.TrainerMessage], None],
        warn: Callable[[str], None],
    ) -> None:
        self.books = Books()
        self.updates: Updates | None = None
        """None while there is no daemon."""
        self.mode = "pause"
        self.share = 1.0
        self.dropped = 0
        self.finished = False
        """The node was told to finish, and its last round is stored."""
        self.pace = Pace(genesis.slot_seconds)
        self.exchange = 0.0
        """Seconds spent on exchange since the last round was settled."""
        self._weights = weights
        self._slot_seconds, self._most = genesis.slot_seconds, genesis.round_steps
        self._send, self._warn = send, warn
        self._encoding: Future[Round] | None = None
        self._settled = False  # the last round has just been settled
        self._last_closed = False  # the last round before the node finishes
        self._last_slot: int | None = None  # of the round under way
        self._slot_steps = (-1, 0)

    # --- the clock

    def slot(self) -> int:
        """The number of the slot that it is now."""
        return int(time.time() // self._slot_seconds)

    @property
    def left(self) -> float:
        """Seconds of the slot that are left."""
        return self._slot_seconds - time.time() % self._slot_seconds

    def note_step(self) -> None:
        """A step was done: is it the first one of its slot?"""
        if (slot := self.slot()) != self._slot_steps[0]:
            self._slot_steps = slot, self._weights.steps - 1

    @property
    def bounded(self) -> bool:
        """A slot has room for so many steps and no more."""
        return self._most is not None

    @property
    def slot_is_full(self) -> bool:
        """The slot's steps are done."""
        slot, before = self._slot_steps
        return self._most is not None and slot == self.slot() and self._weights.steps - before >= self._most

    # --- from the last step of a round to its place in the replica

    @property
    def at_rest(self) -> bool:
        """No round is closed and not stored yet: the state may be kept, whose local steps would be encoded twice."""
        return not self._weights.closed and self._encoding is None

    def advance(self, aside: Executor) -> bool:
        """Bring the own rounds forward; whether there was something to bring."""
        weights = self._weights
        if self._encoding is not None:
            if not self._encoding.done():
                return False
            self._encoded()
        elif weights.closed and weights.collected is False:
            self.dropped += 1
            self._warn(str(weights.drop_round()))
        elif weights.closed and weights.collected and self.books.outbox is None and not self._settled:
            self._encoding = aside.submit(weights.encode, self.share)
        elif not weights.closed and self._is_over():
            self.close_round()
        elif self.mode == "finish" and not weights.closed and not self.finished:
            self.finished = True
            self._send(protocol.Finished())
        else:
            return False
        return True

    def take_settled(self) -> bool:
        """Whether the model has gone over to what is stored, since this was asked last."""
        if not self._settled or self._weights.closed or self._encoding is not None:
            return False
        self._settled = False
        self.pace.note(self.exchange)
        self.exchange = 0.0
        return True

    def _is_over(self) -> bool:
        if self.mode == "finish":
            return self._weights.round_steps > 0 and not self._last_closed
        if self.mode != "train":
            return False
        slot = self.slot()
        if self._last_slot is None:
            self._last_slot = self.pace.last_slot(slot)
        return slot > self._last_slot and self._weights.round_steps > 0

    def close_round(self) -> None:
        """The steps that come now belong to the next round."""
        self._last_slot = self.pace.last_slot(self.slot())
        self._last_closed = self.mode == "finish"
        self._weights.close_round()

    def _encoded(self) -> None:
        assert self._encoding is not None
        future, self._encoding = self._encoding, None
        try:
            finished = future.result()
        except LearnerError as error:
            self._weights.drop_round()
            self._warn(str(error))
            return
        self.books.close(finished, self.share, loads=0)
        self.hand_in()

    def hand_in(self) -> None:
        """Give the daemon the round that is not stored yet, if there is one."""
        if self.updates is not None and self.books.outbox is not None:
            self.updates.waiting = True
            self._send(replace(self.books.outbox, after=self.books.own_seq, loads=self.updates.loads))

    # --- what the daemon says

    def set_mode(self, mode: str) -> None:
        """Train, pause or finish."""
        self.mode = mode
        self.finished = self.finished and mode == "finish"
        self._last_closed = self._last_closed and mode == "finish"

    def accept(self, message: protocol.Accepted) -> None:
        """The round is stored, or never will be."""
        if self.books.outbox is None:
            # Of a round on weights that were given up.
            self.books.own_seq = max(self.books.own_seq, message.seq)
            return
        assert self.updates is not None
        self.updates.handle(message)
        self._settled = True

    def load(self, message: protocol.Load) -> None:
        """Go over to other weights; a round that is on its way is dropped. Raises `StoreError` without them."""
        assert self.updates is not None
        if self._encoding is not None:
            self._encoding.exception()  # The encoder is not to be reset under its hands.
            self._encoding = None
        self.updates.handle(message)
        self._settled = False
