from __future__ import annotations

import json
import os
import plistlib
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from learnae.cli import cli
from learnae.cli.service import unit

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a fake systemctl is found by Linux only")

SYSTEMCTL = """#!/bin/sh
echo "$@" >> "$STATE/calls"
case "$2" in
    enable|disable) echo "$2" > "$STATE/enabled" ;;
    restart) [ -e "$STATE/broken" ] && { echo "Failed to connect to bus: No medium found" >&2; exit 1; }
             echo active > "$STATE/active" ;;
    is-enabled) [ "$(cat "$STATE/enabled" 2>/dev/null)" = enable ] && echo enabled || { echo disabled; exit 1; } ;;
    is-active) cat "$STATE/active" 2>/dev/null || { echo inactive; exit 3; } ;;
esac
[ "$2" = disable ] && rm -f "$STATE/active"
exit 0
"""


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A service manager that remembers what it was told."""
    state = tmp_path / "state"
    (tmp_path / "bin").mkdir()
    state.mkdir()
    script = tmp_path / "bin" / "systemctl"
    script.write_text(SYSTEMCTL)
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("STATE", str(state))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return state


def run(*words: str) -> Result:
    return CliRunner().invoke(cli, ["service", *words])


def configured(home: Path) -> list[str]:
    home.mkdir(exist_ok=True)
    (home / "learnae.toml").write_text('topic = "lab"\ntask = "digits"\n')
    return ["--home", str(home)]


def test_what_a_service_will_not_find_is_said(system: Path, tmp_path: Path) -> None:
    flags = configured(tmp_path / "home")
    with (tmp_path / "home" / "learnae.toml").open("a") as file:
        file.write('secret_file = "/var/tmp/lab.secret"\ndata = "/usr"\n')
    done = run("install", *flags)
    assert done.exit_code == 0, done.output
    assert "will not find" in done.stderr and "/var/tmp/lab.secret: move" in done.stderr and "/usr" not in done.stderr


def test_install_status_and_uninstall(system: Path, tmp_path: Path) -> None:
    path = tmp_path / "config" / "systemd" / "user" / "learnaed.service"
    assert run("status").exit_code == 3
    assert "not installed" in run("status").output
    (system / "calls").unlink()
    done = run("install", *configured(tmp_path / "home"))
    assert done.exit_code == 0, done.output
    assert f"installed and started: {path}" in done.output
    assert f"run --home {tmp_path / 'home'}\n" in path.read_text()
    assert (system / "calls").read_text().splitlines() == [
        "--user daemon-reload",
        "--user enable learnaed.service",
        "--user restart learnaed.service",
    ]
    state = run("status", "--json")
    assert state.exit_code == 0
    assert json.loads(state.output) == {
        "installed": True, "enabled": True, "active": True, "detail": "active", "unit": str(path),
    }  # fmt: skip
    assert "stopped and removed" in run("uninstall").output
    assert not path.exists()
    assert run("uninstall").output.startswith("not installed")


def test_a_service_needs_a_complete_file(system: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEARNAE_TOPIC", "lab")
    done = run("install", "--home", str(tmp_path))
    assert done.exit_code == 2
    text = " ".join(done.stderr.split())
    assert f"a service takes all from {tmp_path / 'learnae.toml'}: no topic was given" in text
    assert "LEARNAE_TOPIC" in text
    assert not (system / "calls").exists()


def test_a_manager_that_cannot_be_reached_is_told(system: Path, tmp_path: Path) -> None:
    (system / "broken").touch()
    done = run("install", *configured(tmp_path / "home"))
    assert done.exit_code == 1
    assert "Failed to connect to bus: No medium found" in " ".join(done.stderr.split())


def test_without_a_manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    done = run("install", *configured(tmp_path))
    assert done.exit_code == 1
    assert "there is no systemctl here" in done.stderr
    assert "ExecStart=" in run("install", "--print").output


@pytest.mark.parametrize("name", ["plain", "with blank", 'quote"d', "50%", "$HOME", "back\\slash"])
def test_paths_survive_the_unit(name: str) -> None:
    path = Path("/srv") / name
    text = unit.systemd(path, path)
    line = next(line for line in text.splitlines() if line.startswith("ExecStart="))
    words = [word.replace("%%", "%") for word in shlex.split(line.removeprefix("ExecStart="))]
    assert words == [str(path).replace("$", "$$"), "run", "--home", str(path)]
    agent = plistlib.loads(unit.launchd(path, path).encode())
    assert agent["ProgramArguments"] == [str(path), "run", "--home", str(path)]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is missing")
def test_systemd_finds_no_fault_with_the_unit(tmp_path: Path) -> None:
    file = tmp_path / "learnaed.service"
    file.write_text(unit.systemd(Path("/bin/true"), tmp_path))
    done = subprocess.run(["systemd-analyze", "verify", file], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_windows_command_quotes_what_has_blanks() -> None:
    command = unit.windows_task(Path(r"C:\My Programs\learnaed.exe"), Path(r"C:\My Data"))
    assert r'/TR "\"C:\My Programs\learnaed.exe\" run --home \"C:\My Data\""' in command
