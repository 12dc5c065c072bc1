from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from learnae.cli import cli
from learnae.config import Config, settable
from learnae.config.file import VERSION, change, load
from learnae.errors import ConfigError
from learnae.peer import peer_id

PEER = f"/ip4/192.0.2.7/tcp/4117/p2p/{peer_id(bytes(32))}"
FIXTURES = Path(__file__).parent / "config_versions"


def run(home: Path, *words: str) -> Result:
    return CliRunner().invoke(cli, ["config", words[0], "--home", str(home), *words[1:]])


@pytest.mark.parametrize("version", range(VERSION + 1))
def test_a_file_of_every_version_means_the_same(version: int) -> None:
    path = FIXTURES / f"v{version}.toml"
    before = path.read_bytes()
    config = Config.resolve({"home": "/nowhere", "config": str(path)}, {})
    assert (config.topic, config.task, config.status_port) == ("lab", "digits", 5000)
    assert (config.torch_threads, config.peer, config.mdns) == (2, (PEER,), False)
    assert path.read_bytes() == before


def test_there_is_a_fixture_for_every_version() -> None:
    assert {path.name for path in FIXTURES.iterdir()} == {f"v{version}.toml" for version in range(VERSION + 1)}


@pytest.mark.parametrize("version", ["99", '"one"', "-1", "true"])
def test_a_version_that_is_not_known_is_refused(tmp_path: Path, version: str) -> None:
    path = tmp_path / "learnae.toml"
    path.write_text(f"version = {version}\n")
    with pytest.raises(ConfigError, match="version"):
        load(path)
    with pytest.raises(ConfigError, match="version"):
        change(path, {"seed": 1})
    assert path.read_text() == f"version = {version}\n"


def test_a_change_keeps_comments_and_brings_the_file_to_this_version(tmp_path: Path) -> None:
    path = tmp_path / "learnae.toml"
    path.write_text('# mine\n"status-port" = 5000  # behind the firewall\nseed = 3\n')
    change(path, {"seed": 4, "limits.upload": "200kB/s"})
    text = path.read_text()
    assert "# mine" in text
    assert "# behind the firewall" in text
    assert load(path) == {"status_port": 5000, "seed": 4, "limits": {"upload": "200kB/s"}}
    assert text.startswith(f"version = {VERSION}\n")
    change(path, {"limits.upload": None, "nothing.here": None})
    assert load(path) == {"status_port": 5000, "seed": 4, "limits": {}}


@pytest.mark.skipif(os.name != "posix", reason="modes and links are those of POSIX")
def test_the_file_is_its_users_alone_and_a_link_stays_a_link(tmp_path: Path) -> None:
    real, link = tmp_path / "dotfiles.toml", tmp_path / "learnae.toml"
    real.write_text("seed = 1\n")
    link.symlink_to(real)
    change(link, {"seed": 2})
    assert link.is_symlink()
    assert load(real) == {"seed": 2}
    assert stat.S_IMODE(real.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [real, link] or set(tmp_path.iterdir()) == {real, link}


def test_set_show_and_unset(tmp_path: Path) -> None:
    assert run(tmp_path, "set", "topic", "lab").output == 'topic = "lab"\n'
    assert run(tmp_path, "set", "--torch-threads", "2").exit_code == 0
    assert run(tmp_path, "set", "peer", PEER, PEER).exit_code == 0
    shown = run(tmp_path, "show", "--json")
    rows = json.loads(shown.output)
    file = tmp_path / "learnae.toml"
    assert rows["topic"] == {"value": "lab", "source": f"topic in {file}"}
    assert rows["peer"]["value"] == [PEER, PEER]
    assert rows["task"] == {"value": None, "source": "default"}
    assert rows["status_port"] == {"value": 4118, "source": "default"}
    lines = run(tmp_path, "show").stdout.splitlines()
    assert f'topic = "lab"  # topic in {file}' in lines
    assert not [line for line in lines if line.startswith("status_port")]
    assert run(tmp_path, "unset", "topic").exit_code == 0
    assert json.loads(run(tmp_path, "show", "--json").output)["topic"]["value"] is None
    assert run(tmp_path, "path").output == f"{file}\n"


def test_a_variable_shows_as_the_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path, "set", "seed", "1")
    monkeypatch.setenv("LEARNAE_SEED", "2")
    assert json.loads(run(tmp_path, "show", "--json").output)["seed"] == {"value": 2, "source": "LEARNAE_SEED"}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("set", "rounds", "-5"), "rounds is '-5', but must be a whole number"),
        (("set", "round", "5"), "Did you mean 'rounds'?"),
        (("set", "home", "/x"), "home says where the file is"),
        (("unset", "taks"), "Did you mean 'task'?"),
    ],
)
def test_what_is_wrong_is_told_and_the_file_is_left_alone(tmp_path: Path, words: tuple[str, ...], says: str) -> None:
    run(tmp_path, "set", "seed", "1")
    before = (tmp_path / "learnae.toml").read_bytes()
    result = run(tmp_path, *words)
    assert result.exit_code == 2
    assert says in " ".join(result.stderr.split())
    assert (tmp_path / "learnae.toml").read_bytes() == before


def test_every_setting_but_two_can_stand_in_the_file() -> None:
    from dataclasses import fields

    names = {field.name for field in fields(Config)}
    assert {settable(name).key for name in names - {"home", "config"}} == names - {"home", "config"}
