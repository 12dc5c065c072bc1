"""`learnae dashboard`, and the setting for other machines."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from learnae.config.parsers import parse
from learnae.errors import ConfigError
from tests.face.test_cli import learnae, running


def opens(url: str) -> bool:
    return "#key=" in httpx.get(url, trust_env=False).headers.get("location", "")


def test_a_link_is_printed(tmp_path: Path) -> None:
    with running(tmp_path):
        result = learnae(tmp_path, "dashboard", "--print")
        (url,) = result.stdout.split()
        assert result.exit_code == 0 and opens(url) and not opens(url)
        assert (tmp_path / "default" / "token").read_text() not in url


def test_the_link_for_other_machines_is_printed_too(tmp_path: Path) -> None:
    with running(tmp_path):
        path = tmp_path / "default" / "status.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"remote": "192.0.2.7:4119"}))
        first, second = learnae(tmp_path, "dashboard", "--print").stdout.split()
        assert second.startswith("http://192.0.2.7:4119/?ticket=")
        assert first.partition("=")[2] != second.partition("=")[2]


@pytest.mark.parametrize("there", [True, False])
def test_the_browser_is_opened(there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    def browser(url: str) -> bool:
        opened.append(url)
        return there

    monkeypatch.setattr("webbrowser.open", browser)
    with running(tmp_path):
        result = learnae(tmp_path, "dashboard")
        (url,) = opened
        assert (result.exit_code, url in result.stdout, opens(url)) == (0, not there, True)


def test_without_a_daemon(tmp_path: Path) -> None:
    result = learnae(tmp_path, "dashboard")
    assert (result.exit_code, "no daemon runs here" in result.stderr) == (1, True)


@pytest.mark.parametrize("value", ["0.0.0.0:4119", "192.0.2.7:1", "[::]:4119", "[2001:db8::7]:65535"])
def test_addresses_to_listen_on(value: str) -> None:
    assert parse("status_listen", value, "--status-listen") == value


@pytest.mark.parametrize(
    "value", ["4119", ":4119", "pc:4119", "0.0.0.0", "0.0.0.0:0", "0.0.0.0:65536", "::1:4119", "[0.0.0.0]:1", "[::]"]
)
def test_no_addresses_to_listen_on(value: str) -> None:
    with pytest.raises(ConfigError, match="--status-listen.*ADDRESS:PORT"):
        parse("status_listen", value, "--status-listen")
