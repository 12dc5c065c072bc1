"""The rhythm of a simulated trainer: slots, local steps, rounds, as the daemon's trainer process paces them.

A round starts with a slot of the node's own clock and ends when its steps are done or its last slot is over. Steps take
their time on the virtual clock; the numbers are worked out later, by the crew.
"""

from __future__ import annotations

import math
from typing import Protocol

from learnae.coordinator.actions import Mode
from learnae.trainer.pace import Pace
from netsim.crew import Trainer
from netsim.sim.agenda import Agenda
from netsim.sim.clocks import Clock

EXCHANGE = 0.02
"""Seconds that a round takes besides its steps: encoding, handing in, a checkpoint."""
PER_UPDATE = 0.0005
"""Seconds that a trainer takes to add an update of others."""
_LOCAL = 1e-6


class Owner(Protocol):
    """What the rounds need of their node."""

    agenda: Agenda
    clock: Clock

    def close_round(self) -> bool:
        """The steps are done: encode and hand in; False if there is nothing to hand in."""

    def report(self, rate: float) -> None:
        """The trainer's speed."""

    def finished(self) -> None:
        """The last round is over."""


class Rounds:
    """When a trainer steps, and when it hands in.

    Args:
        owner: the node.
        trainer: does the steps.
        speed: steps a second.
        slot_seconds: as genesis says.
        round_steps: most steps in a slot; None: as many as fit.
    """

    def __init__(
        self, owner: Owner, trainer: Trainer, speed: float, slot_seconds: float, round_steps: int | None
    ) -> None:
        self._owner = owner
        self._trainer = trainer
        self._speed = speed
        self._slot_seconds = slot_seconds
        self._most = math.inf if round_steps is None else round_steps
        self._pace = Pace(slot_seconds)
        self._mode = Mode.PAUSE
        self._slots = range(0)
        self._plan = 0
        """Names what was planned last: whatever was planned before is void."""
        self._from = 0.0
        self._planned = self._done = self._round = 0
        self._waiting = False
        self._applied = 0

    def stop(self) -> None:
        """The trainer is gone."""
        self._plan += 1
        self._planned = self._done = 0

    def set_mode(self, mode: Mode) -> None:
        """What the trainer is told to do."""
        if mode == self._mode:
            return
        if mode is Mode.PAUSE:
            self.catch_up()
            self.stop()
        elif mode is Mode.FINISH:
            self._plan += 1
            self._owner.agenda.after(0.0, self._finish, self._plan)
        elif not self._waiting:
            self._plan += 1
            self._owner.agenda.after(0.0, self._next, self._plan)
        self._mode = mode

    def catch_up(self) -> None:
        """Have the steps counted that are over by now."""
        if self._done >= self._planned:
            return
        passed = (self._owner.agenda.now - self._from) * self._speed
        due = min(self._planned, math.floor(passed + _LOCAL)) - self._done
        if due > 0:
            self._done += due
            self._round += due
            self._trainer.advance(due)

    def added(self) -> None:
        """An update of others was added: that takes time too."""
        self._applied += 1

    def answered(self) -> None:
        """The round that was handed in is dealt with."""
        self._waiting = False
        self._round = 0
        self._planned = self._done = 0
        if self._mode is Mode.TRAIN:
            self._plan += 1
            self._owner.agenda.after(0.0, self._next, self._plan)
        elif self._mode is Mode.FINISH:
            self._owner.agenda.after(0.0, self._finish, self._plan)

    def hand_in(self) -> None:
        """A round from before a restart is handed in: there is an answer to wait for."""
        self._waiting = True

    # --- plans

    def _slot(self) -> int:
        return int(self._owner.clock.read(self._owner.agenda.now) // self._slot_seconds)

    def _starts(self, slot: int) -> float:
        """A moment at which the own clock shows this slot, hardly later than when it begins."""
        return self._owner.clock.when(slot * self._slot_seconds) + _LOCAL

    def _next(self, plan: int) -> None:
        """Begin a round, or wait for the slot in which the next one begins."""
        if plan != self._plan or self._waiting:
            return
        slot = self._slot()
        if slot in self._slots:
            self._owner.agenda.at(self._starts(slot + 1), self._next, plan)
            return
        self._slots = range(slot, self._pace.last_slot(slot) + 1)
        self._trainer.tick_average()
        self._applied = 0
        self._work(plan)

    def _work(self, plan: int) -> None:
        """Do the steps of this slot."""
        if plan != self._plan:
            return
        now, slot = self._owner.agenda.now, self._slot()
        left = self._owner.clock.when((slot + 1) * self._slot_seconds) - now
        fit = max(1, math.ceil(left * self._speed - _LOCAL))
        self._from, self._planned, self._done = now, int(min(fit, self._most)), 0
        self._owner.report(min(self._speed, self._most / self._slot_seconds))
        self._owner.agenda.after(self._planned / self._speed, self._worked, plan, slot)

    def _worked(self, plan: int, began: int) -> None:
        if plan != self._plan:
            return
        self.catch_up()
        slot = self._slot()
        if slot == began and slot != self._slots[-1]:
            self._owner.agenda.at(self._starts(slot + 1), self._work, plan)
        elif slot != began and slot in self._slots:
            self._work(plan)
        else:
            self._owner.agenda.after(EXCHANGE, self._close, plan)

    def _close(self, plan: int) -> None:
        if plan != self._plan:
            return
        self._pace.note(EXCHANGE + PER_UPDATE * self._applied)
        self._round = 0
        self._waiting = True
        if not self._owner.close_round():
            self.answered()

    def _finish(self, plan: int) -> None:
        if plan != self._plan or self._waiting:
            return
        if self._round:
            self.catch_up()
            self.stop()
            self._close(self._plan)
        else:
            self._owner.finished()
