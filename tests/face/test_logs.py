from __future__ import annotations

import io
import json
import logging
from pathlib import Path

import pytest

from learnaed import logs


def test_text_lines() -> None:
    stream = io.StringIO()
    with logs.configured("info", "text", stream):
        logs.get("network").info("peer connected", peer="12D3", seconds=0.123456789, why="two words", nothing="")
        logs.get("network").debug("unseen")
    line = stream.getvalue()
    assert line.count("\n") == 1
    assert 'INFO    network  peer connected peer=12D3 seconds=0.123457 why="two words" nothing=""' in line
    assert "\x1b" not in line


def test_a_stranger_cannot_forge_a_line_or_colour_it() -> None:
    stream = io.StringIO()
    with logs.configured("info", "text", stream):
        logs.get("network").info("got\nforged", name="\x1b[31mred\nline")
    assert stream.getvalue().count("\n") == 1
    assert "\x1b" not in stream.getvalue()


def test_colours_only_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal = Terminal()
    with logs.configured("info", "text", terminal):
        logs.get("app").warning("look")
    assert "\x1b[33m" in terminal.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    plain = Terminal()
    with logs.configured("info", "text", plain):
        logs.get("app").warning("look")
    assert "\x1b" not in plain.getvalue()


def test_json_lines() -> None:
    stream = io.StringIO()
    with logs.configured("debug", "json", stream):
        logs.get("store").debug("stored", seq=3, path=Path("/x"), event="mine")
        try:
            raise ValueError("why")
        except ValueError:
            logs.get("store").exception("failed")
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert first["time"].endswith("+00:00")
    assert {key: first[key] for key in first if key != "time"} == {
        "level": "debug",
        "logger": "store",
        "event": "stored",
        "seq": 3,
        "path": "/x",
        "event_": "mine",
    }
    assert "ValueError: why" in second["traceback"]


def test_others_speak_at_warning_only() -> None:
    stream = io.StringIO()
    with logs.configured("debug", "text", stream):
        logging.getLogger("libp2p.pubsub").info("chatter")
        logging.getLogger("zeroconf").warning("trouble")
    assert "chatter" not in stream.getvalue()
    assert "trouble" in stream.getvalue()


def test_the_block_leaves_nothing_behind() -> None:
    before = list(logging.getLogger().handlers)
    with logs.configured("debug", "text", io.StringIO()):
        pass
    assert logging.getLogger().handlers == before
    assert logging.getLogger("learnaed").level == logging.NOTSET


def test_the_file_rotates_by_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "FILE_BYTES", 2000)
    with logs.configured("info", "text", io.StringIO()), logs.to_file(tmp_path, "json") as path:
        for number in range(100):
            logs.get("app").info("line", number=number)
    assert path == tmp_path / "learnaed.log"
    assert json.loads(path.read_text().splitlines()[-1])["number"] == 99
    kept = sorted(file.name for file in tmp_path.iterdir())
    assert kept == ["learnaed.log", "learnaed.log.1", "learnaed.log.2"]
    assert all(file.stat().st_size <= 2000 for file in tmp_path.iterdir())


def test_explanations_are_never_empty() -> None:
    assert logs.explain(TimeoutError()) == "TimeoutError"
    assert logs.explain(ExceptionGroup("outer", [ExceptionGroup("inner", [ValueError("why")])])) == "why"
