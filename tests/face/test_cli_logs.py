"""`learnae logs`: the end of a rotated log, and what is written to it from now on."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from learnae.cli import cli
from learnae.cli.logfile import Follower, entries, tail
from learnaed import logs
from tests.face.canned import canned


def learnae(home: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli, [*arguments, "--home", str(home)])


def write(directory: Path, style: str = "text") -> None:
    """A log as the daemon writes it."""
    directory.mkdir(parents=True, exist_ok=True)
    logger = logging.getLogger("learnaed.test")
    logger.setLevel("DEBUG")
    log = logs.get("test")
    with logs.to_file(directory, style):
        log.debug("a detail")
        log.info("peer connected", peer="12D3KooWabc", address="/ip4/192.0.2.7/tcp/4117", why='with "blanks" = marks')
        log.warning("late")
        try:
            raise ZeroDivisionError("a \x1b[31mdefect")
        except ZeroDivisionError as error:
            log.error("failed", exc_info=error, code=3)


@pytest.mark.parametrize("style", ["text", "json"])
def test_json_is_the_same_whatever_the_log_is_in(tmp_path: Path, style: str) -> None:
    write(tmp_path / "lab", style)
    rows = [json.loads(line) for line in learnae(tmp_path, "logs", "--json").output.splitlines()]
    assert [(row["level"], row["event"]) for row in rows] == [
        ("debug", "a detail"),
        ("info", "peer connected"),
        ("warning", "late"),
        ("error", "failed"),
    ]
    assert {row["logger"] for row in rows} == {"test"} and all(row["time"].endswith("+00:00") for row in rows)
    assert rows[1]["why"] == 'with "blanks" = marks' and rows[1]["address"] == "/ip4/192.0.2.7/tcp/4117"
    assert str(rows[3]["code"]) == "3" and "ZeroDivisionError" in rows[3]["traceback"]


@pytest.mark.parametrize("style", ["text", "json"])
def test_levels_and_counts(tmp_path: Path, style: str) -> None:
    write(tmp_path / "lab", style)
    assert len(learnae(tmp_path, "logs", "--level", "warning", "--json").output.splitlines()) == 2
    (last,) = learnae(tmp_path, "logs", "-n", "1", "--level", "info", "--json").output.splitlines()
    assert json.loads(last)["event"] == "failed"
    assert learnae(tmp_path, "logs", "-n", "0").output == ""
    shown = learnae(tmp_path, "logs").output
    assert "peer connected" in shown and "\x1b" not in shown and "ZeroDivisionError" in shown


def test_rotated_files_count_too(tmp_path: Path) -> None:
    path = tmp_path / "learnaed.log"
    for generation, numbers in (("", range(6, 9)), (".1", range(3, 6)), (".2", range(3))):
        lines = [f"2030-01-31 12:00:00.{n:03} INFO    test     event {n}\n" for n in numbers]
        path.with_name(path.name + generation).write_text("".join(lines))
    assert [entry.fields()["event"] for entry in tail(path, 5)] == [f"event {n}" for n in range(4, 9)]
    assert len(tail(path, 100)) == 9


def line(number: int) -> str:
    return f"2030-01-31 12:00:00.000 INFO    test     event {number}"


def test_what_is_written_from_now_on(tmp_path: Path) -> None:
    path = tmp_path / "learnaed.log"
    path.write_text(f"{line(0)}\n{line(1)[:20]}")
    follower = Follower(path)
    assert tail(path, 9, end=follower.position) == list(entries([line(0)]))
    assert follower.poll() == []
    with path.open("a") as file:
        file.write(f"{line(1)[20:]}\n{line(2)}\n")
    assert follower.poll() == [line(1), line(2)]
    assert follower.poll() == []


def test_rotation_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "learnaed.log"
    path.write_text(f"{line(0)}\n")
    follower = Follower(path)
    with path.open("a") as file:
        file.write(f"{line(1)}\n")
    path.rename(tmp_path / "learnaed.log.1")
    path.write_text(f"{line(2)}\n")
    assert follower.poll() == [line(1), line(2)]
    # Twice between two looks.
    (tmp_path / "learnaed.log.1").rename(tmp_path / "learnaed.log.2")
    path.rename(tmp_path / "learnaed.log.1")
    path.write_text(f"{line(3)}\n")
    assert follower.poll() == [line(3)]


def test_a_log_that_was_emptied_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "learnaed.log"
    path.write_text(f"{line(0)}\n{line(1)}\n")
    follower = Follower(path)
    path.write_text(f"{line(2)}\n")
    assert follower.poll() == [line(2)]
    path.unlink()
    assert follower.poll() == []


def test_strange_lines_harm_nobody(tmp_path: Path) -> None:
    path = tmp_path / "lab" / "learnaed.log"
    path.parent.mkdir()
    path.write_bytes(b'\xff\x1b[2Jno entry\n{"event": 1\n' + b"[" * 100_000 + b"\n" + line(1).encode() + b" a=b=c\n")
    result = learnae(tmp_path, "logs")
    assert result.exit_code == 0 and "\x1b" not in result.output and "event 1 a=b=c" in result.output
    assert learnae(tmp_path, "logs", "--json").exit_code == 0


def test_which_log_is_meant(tmp_path: Path) -> None:
    none = learnae(tmp_path, "logs")
    assert none.exit_code == 1 and "no daemon has run there yet" in " ".join(none.stderr.split())
    for name, event in (("old", 1), ("new", 2)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "learnaed.log").write_text(line(event) + "\n")
    os.utime(tmp_path / "old" / "learnaed.log", (1, 1))
    assert "event 2" in learnae(tmp_path, "logs").output
    assert "event 1" in learnae(tmp_path, "logs", "--profile", "old").output
    missing = learnae(tmp_path, "logs", "--profile", "none")
    assert missing.exit_code == 1 and "There are logs of: new, old" in " ".join(missing.stderr.split())
    with canned(tmp_path, {}, "old"):
        assert "event 1" in learnae(tmp_path, "logs").output, "the one that runs comes first"
        with canned(tmp_path, {}, "new"):
            several = learnae(tmp_path, "logs")
            assert several.exit_code == 2 and "Say --profile NAME" in several.stderr
