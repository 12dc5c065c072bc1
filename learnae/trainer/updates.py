"""Updates on their way into the replica and out of it, piece by piece, and the cuts taken of it; used by trainers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from learnae import protocol, snapshot
from learnae.blocks import Blocks
from learnae.errors import LearnaeError, StoreError
from learnae.trainer.books import Applied, Books

if TYPE_CHECKING:
    from learnae.codec import Payload
    from learnae.replica import Replica
    from learnae.weights import SharedWeights

Announced: TypeAlias = protocol.Add | protocol.Remove | protocol.Without


class _Coming(NamedTuple):
    """An update whose pieces are still coming; `payload` is None if they are of no use."""

    message: Announced
    payload: Payload | None
    left: int


class _Cut(NamedTuple):
    """A cut that is being taken; `left` updates are still to be left out of the copy, if that is `sound`."""

    message: protocol.TakeCut
    copy: Replica
    left: int
    sound: bool = True


class Updates:
    """Carries out what the daemon says about updates and cuts, and keeps the books.

    An update is applied when its last piece is here, as a whole or not at all.

    Args:
        learner: holds the replica.
        books: what is in it.
        author: the own key.
        blocks: where snapshots are written to and read from.
        send: takes messages for the daemon.
        aside: has a snapshot written; by default at once, else in a thread beside the training.
    """

    def __init__(
        self,
        learner: SharedWeights,
        books: Books,
        author: bytes,
        blocks: Blocks,
        send: Callable[[protocol.TrainerMessage], None],
        aside: Callable[[Callable[[], None]], object] | None = None,
    ) -> None:
        self._learner = learner
        self._books = books
        self.waiting = False
        """Whether a round is handed in and not answered yet."""
        self.loads = 0
        """How often the weights were given up for those of a snapshot."""
        self._author = author
        self._blocks = blocks
        self._send = send
        self._aside = aside
        self._coming: _Coming | None = None
        self._cut: _Cut | None = None

    def handle(self, message: protocol.TrainerMessage) -> bool:
        """Carry out a message; False if it is not about updates or cuts.

        Raises:
            LearnaeError: the daemon breaks the protocol.
            StoreError: a snapshot to go on from cannot be read.
        """
        match message:
            case protocol.Piece():
                self._take_piece(message)
            case protocol.Add() | protocol.Remove() | protocol.Without():
                self._announce(message)
            case protocol.Accepted():
                self._accept(message)
            case protocol.TakeCut():
                # Nothing is left out: then the replica itself is written, without a copy.
                apart = message.minus or self._aside is not None
                copy = self._learner.replica.copy() if apart else self._learner.replica
                self._cut = _Cut(message, copy, message.minus)
                self._finish_cut()
            case protocol.Forget():
                self._books.stand_on(message.base, message.total, message.slot)
            case protocol.Load():
                self._load(message)
            case _:
                return False
        return True

    # --- piece by piece

    def _announce(self, message: Announced) -> None:
        if self._coming is not None:
            raise LearnaeError("the daemon announced an update before the last one was complete", code="defect")
        row = self._books.applied.get((message.author, message.seq, message.digest))
        wanted = row is None if isinstance(message, protocol.Add) else row is not None and not row.void
        claim = message.norm if isinstance(message, protocol.Add) else None
        payload = self._learner.payload(claim) if wanted else None
        self._coming = _Coming(message, payload, message.pieces)
        self._finish_update()

    def _take_piece(self, piece: protocol.Piece) -> None:
        if self._coming is None:
            raise LearnaeError("the daemon sent a piece of no update", code="defect")
        if self._coming.payload is not None:
            self._coming.payload.add(piece.data)
        self._coming = self._coming._replace(left=self._coming.left - 1)
        self._finish_update()

    def _finish_update(self) -> None:
        if self._coming is None or self._coming.left > 0:
            return
        message, payload, _ = self._coming
        self._coming = None
        match message:
            case protocol.Add():
                if payload is not None:
                    self._add(message, payload)
            case protocol.Remove():
                row = self._books.applied.pop((message.author, message.seq, message.digest), None)
                if row is not None and payload is not None:
                    self._learner.remove(payload, message.samples, row.ratio)
            case protocol.Without():
                self._leave_out(message, payload)

    def _add(self, message: protocol.Add, payload: Payload) -> None:
        sound = self._learner.apply(payload, message.samples, message.ratio)
        key = (message.author, message.seq, message.digest)
        self._books.applied[key] = Applied(message.slot, message.ratio, void=not sound)
        if message.author == self._author:
            self._books.own_seq = max(self._books.own_seq, message.seq)
        if not sound:
            self._send(protocol.Void(message.author, message.seq))

    # --- the own rounds

    def _accept(self, message: protocol.Accepted) -> None:
        """Theta := phi at any rate; the round is in the replica, or will never be."""
        books, round_ = self._books, self._books.outbox
        books.own_seq = max(books.own_seq, message.seq)
        self.waiting = False
        key = (message.author, message.seq, message.digest)
        # After a crash the update may have come back as an ordinary one already.
        if round_ is None or message.ratio is None or key in books.applied:
            self._learner.restart_round()
        else:
            self._learner.accept(self._learner.payload(parts=round_.parts), round_.samples, message.ratio)
            books.applied[key] = Applied(message.slot, message.ratio)
        books.outbox = None

    # --- cuts

    def _leave_out(self, message: protocol.Without, payload: Payload | None) -> None:
        if self._cut is None:
            raise LearnaeError("the daemon left an update out of no cut", code="defect")
        if payload is not None:
            row = self._books.applied[message.author, message.seq, message.digest]
            for part in payload.parts:
                self._cut.copy.apply(part.index, -part.delta(row.ratio))
        # It was sound when it was added: now the daemon's store must be damaged.
        sound = self._cut.sound and (payload is None or payload.void is None)
        self._cut = self._cut._replace(left=self._cut.left - 1, sound=sound)
        self._finish_cut()

    def _finish_cut(self) -> None:
        if self._cut is None or self._cut.left > 0:
            return
        cut, self._cut = self._cut, None
        if self._aside is not None:
            self._aside(lambda: self._write_cut(cut))
        else:
            self._write_cut(cut)

    def _write_cut(self, cut: _Cut) -> None:
        message = cut.message
        try:
            if not cut.sound:
                raise StoreError(
                    "a cut cannot be taken: the stored payload of an update is damaged", code="snapshot-damaged"
                )
            root = snapshot.write(self._blocks, cut.copy.pieces())
            self._send(protocol.CutTaken(message.index, message.token, root.cid, root.size))
        except StoreError as error:
            self._send(protocol.Warned(str(error)))
            self._send(protocol.CutTaken(message.index, message.token, None, 0))

    def _load(self, message: protocol.Load) -> None:
        # Only the trainer process has numpy.
        from learnae.replica import Replica

        replica = Replica.from_snapshot(snapshot.read(self._blocks, message.weights), self._learner.layout)
        self._learner.load(replica, message.samples)
        self._books.stand_on(message.base, message.total)
        self._books.outbox = None  # A round on weights that are no more; its answer may still come.
        self.loads += 1
