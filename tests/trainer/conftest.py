from __future__ import annotations

import pytest


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every look at the wall clock takes 10 ms of it, so that slots pass without waiting."""
    now = 1_000_000.0

    def tick() -> float:
        nonlocal now
        now += 0.01
        return now

    monkeypatch.setattr("learnaed.trainer.worker.time.time", tick)
