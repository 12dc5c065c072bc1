"""Pauses and resumes training as the user and the limits want it; a task of `app`, steered by `node`.

What the user paused, the user resumes, or the time that was said; what a limit paused goes on by itself. Both are kept
apart: training goes on when nothing is left that keeps it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import psutil
import trio

from learnae.coordinator import events
from learnae.errors import DaemonError, LearnaeError
from learnae.limits import Limits
from learnaed.limits.sensors import Look
from learnaed.limits.verdict import Cause, Conditions, Hold, Reason, verdict

LOOK_SECONDS = 5.0
"""Between two looks at the PC. Less notices its user sooner, and costs more."""
LONGEST_PAUSE = 366 * 86_400.0
_FIRST_REST, _LONGEST_REST = 600.0, 7200.0
"""Seconds until training is tried again after the memory was used up; twice as long each time."""
_STEADY = 3600.0
"""After so many seconds of training the first rest is the shortest one again."""


class Enforces(Protocol):
    """Has network, trainer and disk keep to the limits."""

    def enforce(self, limits: Limits, look: Look | None) -> None:
        """Carry over what has changed."""

    def restart_trainer(self, why: str) -> None:
        """End the process that holds the model; a new one takes over."""


@dataclass(frozen=True, slots=True)
class WardenStatistics:
    """Figures for the status endpoint."""

    reasons: tuple[Reason, ...]
    daemon_memory: int
    trainer_memory: int
    pauses: int
    """Times that something began to keep this node from training."""


class Warden:
    """Looks at the PC every few seconds and keeps the node to its limits.

    Args:
        limits: in force from the start.
        look: looks at the PC; its argument says whether it matters who uses it.
        post: takes the coordinator's events.
        notify: tells the user.
        enforcer: carries out what is not pausing.
        paused: the user started the node paused.
        clock: Unix time.
    """

    def __init__(
        self,
        limits: Limits,
        *,
        look: Callable[[bool], Awaitable[Look]],
        post: Callable[[events.Event], None],
        notify: Callable[[str, str], None],
        enforcer: Enforces,
        paused: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.limits = limits
        self._look_at = look
        self._post = post
        self._notify = notify
        self._enforcer = enforcer
        self._clock = clock
        self._user = Hold("the user has paused it") if paused else None
        self._memory: Hold | None = None
        self._rest = _FIRST_REST
        self._look: Look | None = None
        self._reasons: tuple[Reason, ...] = ()
        self._told_paused = paused
        self._pauses = 0
        self._blind = False
        self._wake = trio.Event()
        self._judge()

    # --- what the user does

    def pause(self, seconds: float | None = None) -> None:
        """Stop training, for so many seconds or until `resume`.

        Raises:
            DaemonError: it is no time to pause for.
        """
        if seconds is not None and not (math.isfinite(seconds) and 0 < seconds <= LONGEST_PAUSE):
            raise DaemonError(
                f"it cannot pause for {seconds:g} seconds: say a number above 0, of at most a year, or none to pause "
                "until it is resumed",
                code="bad-pause",
            )
        self._user = Hold("the user has paused it", None if seconds is None else self._clock() + seconds)
        self._judge()

    def resume(self) -> tuple[Reason, ...]:
        """Take back a pause, and a rest for want of memory. What still keeps it from training: limits do."""
        self._user = self._memory = None
        self._judge()
        if self._reasons:
            self._notify("info", f"still not training: {_texts(self._reasons)}; see `learnae limits`")
        return self._reasons

    def change(self, changes: Mapping[str, Any], source: str) -> None:
        """Put other limits in force, until the daemon ends. `source` is who wants it, for messages.

        Raises:
            ConfigError: there is no such limit, or a value is not valid; nothing is changed.
        """
        before = self.limits
        self.limits = before.changed({name: (f"{source} {name}", value) for name, value in changes.items()})
        if self.limits == before:
            return
        old, new = before.texts(), self.limits.texts()
        words = [f"{name} {_text(old[name])} -> {_text(new[name])}" for name in new if old[name] != new[name]]
        self._notify("info", f"limits changed: {', '.join(words)}")
        if self.limits.ram != before.ram:
            self._memory, self._rest = None, _FIRST_REST
        self._enforcer.enforce(self.limits, self._look)
        self._judge()

    # --- what the machine does

    def out_of_memory(self, why: str) -> None:
        """The trainer needed more memory than it may have, and is started anew without training for a while."""
        now = self._clock()
        if self._memory is not None and not self._memory.over(now):
            return
        if self._memory is not None and self._memory.until is not None and now - self._memory.until > _STEADY:
            self._rest = _FIRST_REST
        self._memory = Hold(f"{why}; raise the limit ram, or train a smaller model or batch", now + self._rest)
        self._notify("error", f"{why}. It does not train for {self._rest / 60:.0f} minutes, then tries again")
        self._rest = min(2 * self._rest, _LONGEST_REST)
        self._judge()

    async def run(self) -> None:
        """Look and judge until cancelled."""
        while True:
            try:
                self._take_in(await self._look_at(self.limits.idle_after is not None))
                self._blind = False
            except (OSError, LearnaeError, psutil.Error) as error:
                if not self._blind:
                    self._notify("warning", f"the PC cannot be looked at, limits hold as they were: {error}")
                self._blind = True
            self._wake = trio.Event()
            with trio.move_on_after(self._patience()):
                await self._wake.wait()

    def _take_in(self, look: Look) -> None:
        self._look = look
        self._enforcer.enforce(self.limits, look)
        used, most = look.daemon_memory + look.trainer_memory, self.limits.ram
        if most is not None and used > most and look.trainer_memory:
            why = f"daemon and trainer use {used / 2**20:.0f} MiB, where {self.limits.texts()['ram']} are allowed"
            self.out_of_memory(why)
            self._enforcer.restart_trainer(why)
        self._judge()

    def _patience(self) -> float:
        """Seconds until the next look: a pause that has an end ends in time."""
        ends = [reason.until - self._clock() for reason in self._reasons if reason.until is not None]
        return min([LOOK_SECONDS, *(max(end, 0.01) for end in ends)])

    def _judge(self) -> None:
        now = self._clock()
        if self._user is not None and self._user.over(now):
            self._user = None
        conditions = self._look.conditions if self._look is not None else Conditions()
        before = {reason.cause for reason in self._reasons}
        self._reasons = verdict(self.limits, conditions, now, user=self._user, memory=self._memory)
        causes = {reason.cause for reason in self._reasons}
        if new := [reason for reason in self._reasons if reason.cause not in before | {Cause.USER}]:
            self._notify("info", f"not training: {_texts(tuple(new))}")
        if before and not causes:
            self._notify("info", "training goes on: nothing keeps this node from it any more")
        self._pauses += bool(causes) and not before
        if bool(causes) != self._told_paused:
            self._told_paused = bool(causes)
            self._post(events.Pause() if causes else events.Resume())
        self._wake.set()

    # --- what it shows

    def paused(self) -> dict[str, Any]:
        """What keeps the node from training, ready for JSON; no reasons: nothing does."""
        return {"reasons": [reason.as_json() for reason in self._reasons]}

    def statistics(self) -> WardenStatistics:
        """Figures for the status endpoint."""
        look = self._look
        return WardenStatistics(
            self._reasons, look.daemon_memory if look else 0, look.trainer_memory if look else 0, self._pauses
        )


def _texts(reasons: tuple[Reason, ...]) -> str:
    return "; ".join(reason.text for reason in reasons)


def _text(value: object) -> str:
    return "off" if value is None else {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)
