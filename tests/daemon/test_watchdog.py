"""The end of the daemon: orderly, or enforced; and its new beginning after damage."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from learnae.config import Config
from learnae.errors import ConfigError, StoreError
from learnaed import app
from learnaed.blockstore.pins import DamagedPins
from learnaed.store import DamagedStore
from learnaed.watchdog import Watchdog


def test_an_end_that_hangs_is_enforced(caplog: pytest.LogCaptureFixture) -> None:
    ended: list[int] = []
    over = threading.Event()

    def end(code: int) -> None:
        ended.append(code)
        over.set()

    watchdog = Watchdog(end)
    watchdog.arm(0.01)
    watchdog.arm(0.02)
    assert over.wait(10)
    assert ended == [1]
    assert "ended now" in caplog.text


def test_an_orderly_end_is_left_alone() -> None:
    ended: list[int] = []
    watchdog = Watchdog(ended.append)
    watchdog.arm(3600)
    (thread,) = [thread for thread in threading.enumerate() if thread.name == "watchdog"]
    assert thread.daemon
    watchdog.disarm()
    thread.join(10)
    assert not thread.is_alive() and ended == []


def run(home: Path, monkeypatch: pytest.MonkeyPatch, *ends: BaseException | int) -> tuple[int, list[list[str]]]:
    """Run the daemon with lives that end like this; its exit code, and what each life knew that users were told."""
    told: list[list[str]] = []

    async def life(config: Config, secrets: object, profile: Path, messages: Any, watchdog: Watchdog) -> int:
        (profile / "ledger.sqlite").write_bytes(b"x")
        told.append([line["text"] for line in messages.lines()])
        match ends[len(told) - 1]:
            case int() as code:
                return code
            case error:
                raise ExceptionGroup("a nursery", [ExceptionGroup("a nursery", [cast(Exception, error)])])

    monkeypatch.setattr(app, "_run", life)
    config = SimpleNamespace(home=home, profile="p", log_format="text")
    return app.run(cast(Config, config)), told


def test_a_database_that_is_damaged_in_use_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    damage = DamagedStore(tmp_path / "p" / "ledger.sqlite", "malformed")
    code, told = run(tmp_path, monkeypatch, damage, 0)
    assert code == 0
    assert told[0] == []
    assert "moved to ledger.sqlite.damaged" in told[1][0]
    assert (tmp_path / "p" / "ledger.sqlite.damaged").read_bytes() == b"x"


def test_a_disk_that_damages_everything_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    damage = DamagedStore(tmp_path / "p" / "ledger.sqlite", "malformed")
    with pytest.raises(StoreError, match="have the disk checked"):
        run(tmp_path, monkeypatch, damage, damage, damage)


def test_only_the_database_that_is_to_blame_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pins = tmp_path / "p" / "snapshots" / "pins.sqlite"
    pins.parent.mkdir(parents=True)
    pins.write_bytes(b"rotten")
    code, told = run(tmp_path, monkeypatch, DamagedPins(pins, "malformed"), 0)
    assert code == 0 and "moved to pins.sqlite.damaged" in told[1][0]
    assert (tmp_path / "p" / "ledger.sqlite").read_bytes() == b"x"
    assert not pins.exists() and pins.with_name("pins.sqlite.damaged").read_bytes() == b"rotten"


def test_other_errors_are_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.RaisesGroup(pytest.RaisesGroup(ConfigError)):
        run(tmp_path, monkeypatch, ConfigError("wrong"))
    assert not (tmp_path / "p" / "ledger.sqlite.damaged").exists()
