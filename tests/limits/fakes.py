"""A PC that the test controls, and an enforcer that remembers what it was told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import trio

from learnae.limits import Limits
from learnaed.limits import Conditions, Look

NOTHING = Look(Conditions(), 0, 0, 0)


async def no_look(idle_wanted: bool) -> Look:
    return NOTHING


class FakeEnforcer:
    def __init__(self) -> None:
        self.told: list[tuple[Limits, Look | None]] = []
        self.restarts: list[str] = []

    def enforce(self, limits: Limits, look: Look | None) -> None:
        self.told.append((limits, look))

    def restart_trainer(self, why: str) -> None:
        self.restarts.append(why)


class FakePC:
    """What the sensors would tell; each look is counted."""

    def __init__(self) -> None:
        self.now = NOTHING
        self.looks: list[bool] = []
        self.failure: Exception | None = None

    def be(self, **changes: Any) -> None:
        self.now = replace(self.now, conditions=replace(self.now.conditions, **changes))

    async def look(self, idle_wanted: bool) -> Look:
        self.looks.append(idle_wanted)
        await trio.lowlevel.checkpoint()
        if self.failure is not None:
            raise self.failure
        return self.now
