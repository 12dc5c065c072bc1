"""Every error that users meet has a code, every code its page, and both commands and the endpoint show it."""

from __future__ import annotations

import errno
import json
import pickle
import re
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from learnae.cli import cli
from learnae.cli.common import Group, UsageError, as_lines
from learnae.errors import ConfigError, DaemonError, LearnaeError, StoreError, coded, disk_code
from learnaed.main import report
from tests.face import codes

PAGE = (codes.ROOT / "docs" / "errors.md").read_text()
DOCUMENTED = re.findall(r"^### (.*)$", PAGE, re.M)


def test_every_code_is_documented_and_the_other_way_round() -> None:
    used = codes.used()
    assert sorted(set(used) - set(DOCUMENTED)) == [], used
    assert sorted(set(DOCUMENTED) - set(used)) == []
    assert len(set(DOCUMENTED)) == len(DOCUMENTED)


def test_every_error_for_users_has_a_code() -> None:
    assert codes.without_code() == []


def test_the_reader_of_sources_sees_what_it_should(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "x.py"
    source.write_text(
        'raise StoreError("a")\nraise ConfigError("b", code="one-two" if full else "three")\n'
        'class E(StoreError):\n    code = "four"\nnotify("error", f"[five] {x}")\n_CODES = {1: "six"}\nWireError("c")\n'
    )
    monkeypatch.setattr(codes, "SOURCES", [source])
    monkeypatch.setattr(codes, "ROOT", tmp_path)
    assert set(codes.used()) == {"one-two", "three", "four", "five", "six"}
    assert codes.without_code() == ["x.py:1"]


@pytest.mark.parametrize("code", DOCUMENTED)
def test_a_page_says_what_why_and_what_to_do(code: str) -> None:
    assert re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", code) and len(code) <= 24
    text = " ".join(PAGE.split(f"### {code}\n")[1].split("\n#")[0].split())
    assert re.fullmatch(r"\S.*\. \*Why:\* \S.*\. \*What to do:\* \S.*\.", text), text


def test_an_error_has_the_code_of_its_class_or_its_own() -> None:
    assert DaemonError("no").code == DaemonError.code == "daemon-refused"
    assert StoreError("full", code="disk-full").code == "disk-full"
    assert coded(StoreError("it is full", code="disk-full")) == "[disk-full] it is full"
    assert coded(LearnaeError()) == "[defect] LearnaeError"
    assert pickle.loads(pickle.dumps(StoreError("x", code="disk-full"))).code == "disk-full"


def test_a_full_disk_is_told_from_other_troubles() -> None:
    assert disk_code(OSError(errno.ENOSPC, "full"), "file-unwritable") == "disk-full"
    assert disk_code(OSError(errno.EACCES, "no"), "file-unwritable") == "file-unwritable"


def test_the_daemon_prints_the_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert report(ExceptionGroup("x", [StoreError("full. Make room.", code="disk-full")])) == 1
    assert report(ConfigError("wrong", code="bad-setting")) == 2
    assert report(ZeroDivisionError("0")) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == ["learnaed: [disk-full] full. Make room.", "learnaed: [bad-setting] wrong"]
    assert lines[2].startswith("learnaed: [defect] unexpected ZeroDivisionError: 0.")


@pytest.fixture
def failing() -> click.Group:
    @click.group(cls=Group)
    def group() -> None:
        pass

    @group.command()
    @as_lines
    def run(as_json: bool) -> None:
        raise StoreError("the disk is full", code="disk-full")

    @group.command()
    def wrong() -> None:
        raise UsageError("say which", code="several-daemons")

    return group


def test_the_client_prints_the_code(failing: click.Group) -> None:
    plain = CliRunner().invoke(failing, ["run"])
    assert (plain.exit_code, plain.stdout, plain.stderr) == (1, "", "learnae: [disk-full] the disk is full\n")
    result = CliRunner().invoke(failing, ["run", "--json"])
    assert (result.exit_code, result.stdout) == (1, "")
    assert json.loads(result.stderr) == {"error": "the disk is full", "code": "disk-full"}
    usage = CliRunner().invoke(failing, ["wrong"])
    assert usage.exit_code == 2 and "Error: [several-daemons] say which" in usage.stderr


def test_no_daemon(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["status", "--json", "--home", str(tmp_path)])
    assert result.exit_code == 1 and json.loads(result.stderr)["code"] == "no-daemon"
    assert list(tmp_path.iterdir()) == []
