"""The secret on its way in: files, prompts, variables, invitations; and what of it is seen."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from click.testing import CliRunner, Result
from trio.testing import MockClock

from learnae.cli import cli
from learnae.club import Secrets
from learnae.config import Config
from learnae.errors import ConfigError
from learnae.invitation import Invitation
from learnae.peer import peer_id
from learnaed import app, joining, passphrase, rotation
from learnaed import main as daemon
from tests.face.test_cli import learnae, running

LONG, OTHER = "correct horse battery", "staple of another kind"
PEER = f"/ip4/192.0.2.7/tcp/4117/p2p/{peer_id(bytes(32))}"
BASE = {"topic": "t", "task": "digits"}


def settings(tmp_path: Path, **flags: object) -> Config:
    return Config.resolve({**BASE, "home": tmp_path, **flags}, {})


def secret_file(tmp_path: Path, text: str = f"{LONG}\n") -> Path:
    path = tmp_path / "s"
    path.write_text(text)
    path.chmod(0o600)
    return path


# --- where it comes from


def test_it_comes_from_a_file_a_prompt_or_the_environment(tmp_path: Path) -> None:
    path = secret_file(tmp_path)
    plain, named = settings(tmp_path), settings(tmp_path, secret_file=path)
    prompt = lambda: OTHER  # noqa: E731
    choose = passphrase.choose
    assert choose(plain, ask=False, named=False, variable=None) == (plain, None)
    assert choose(named, ask=False, named=True, variable=None) == (named, Secrets([LONG]))
    assert choose(plain, ask=True, named=False, variable=None, prompt=prompt) == (plain, Secrets([OTHER]))
    assert choose(plain, ask=False, named=False, variable=f"{LONG}\n{OTHER}") == (plain, Secrets([LONG, OTHER]))


def test_what_is_said_wins_over_what_is_around(tmp_path: Path) -> None:
    named = settings(tmp_path, secret_file=secret_file(tmp_path))
    assert passphrase.choose(named, ask=False, named=True, variable=OTHER)[1] == Secrets([LONG])
    config, secrets = passphrase.choose(named, ask=False, named=False, variable=OTHER)
    assert (config.secret_file, secrets) == (None, Secrets([OTHER]))
    with pytest.raises(ConfigError, match="one of the two"):
        passphrase.choose(named, ask=True, named=True, variable=None)


@pytest.mark.parametrize("text", ["", "short\n", "\xff", "x" * 9000], ids=["empty", "short", "latin", "huge"])
def test_a_file_that_holds_none_is_named_and_not_shown(tmp_path: Path, text: str) -> None:
    path = tmp_path / "s"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=re.escape(str(path))) as caught:
        passphrase.read(path)
    assert "short\n" not in str(caught.value) and "xxx" not in str(caught.value)
    with pytest.raises(ConfigError, match="cannot be read"):
        passphrase.read(tmp_path / "none")


def test_lists_of_peers_are_checked(tmp_path: Path) -> None:
    peer = peer_id(bytes(32))
    config = Config.resolve({**BASE, "home": tmp_path, "deny": (peer,)}, {"LEARNAE_ALLOW": f"{peer} {peer}"})
    assert (config.allow, config.deny) == ((peer, peer), (peer,))
    with pytest.raises(ConfigError, match=r"--deny.*12D3Koo"):
        settings(tmp_path, deny=("nobody",))


async def test_a_changed_file_is_taken_up(
    tmp_path: Path, autojump_clock: MockClock, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = secret_file(tmp_path)
    seen: list[tuple[str, ...]] = []
    told: list[tuple[str, str]] = []

    async def at_once(function: Callable[..., Any], *arguments: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return function(*arguments)  # the virtual clock does not wait for threads

    monkeypatch.setattr(trio.to_thread, "run_sync", at_once)

    async def changed(secrets: Secrets) -> None:
        seen.append(tuple(secrets))

    nursery.start_soon(rotation.follow, path, Secrets([LONG]), changed, lambda level, text: told.append((level, text)))
    await trio.sleep(12)
    assert not seen
    path.write_text(f"{OTHER}\n{LONG}\n")
    await trio.sleep(12)
    path.write_text("short\n")
    await trio.sleep(12)
    path.unlink()
    await trio.sleep(12)
    path.write_text(f"{OTHER}\n")
    await trio.sleep(12)
    assert seen == [(OTHER, LONG), (OTHER,)]
    assert [level for level, _ in told] == ["warning", "warning"]
    assert not any("short\n" in text for _, text in told)


# --- what a start refuses


def test_a_named_ipfs_node_and_a_secret_do_not_go_together(tmp_path: Path) -> None:
    config = settings(tmp_path, ipfs="/ip4/127.0.0.1/tcp/5001")
    with pytest.raises(ConfigError, match=r"--ipfs.*private.*CID"):
        app.run(config, Secrets([LONG]))


def test_a_profile_of_a_private_swarm_does_not_start_open(tmp_path: Path) -> None:
    config = settings(tmp_path)
    app._keep_private(tmp_path, config, None)
    app._keep_private(tmp_path, config, Secrets([LONG]))
    with pytest.raises(ConfigError, match="no secret was given"):
        app._keep_private(tmp_path, config, None)


# --- the daemon's command


def learnaed(
    monkeypatch: pytest.MonkeyPatch, *arguments: str, typed: str = "", **environment: str
) -> tuple[Result, Any]:
    """The command with a daemon that only notes what it was given, and what is left in the environment."""
    given: list[Any] = []

    def run(config: Config, secrets: Secrets | None) -> int:
        given.append((config, secrets, os.environ.get(passphrase.VARIABLE)))
        return 0

    monkeypatch.setattr(app, "run", run)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LEARNAE_IPFS", "off")
    result = CliRunner().invoke(daemon.cli, arguments, input=typed)
    return result, given[0] if given else None


def test_the_variable_is_taken_out_of_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    run = ("run", "--topic", "t", "--task", "digits", "--home", str(tmp_path))
    result, (config, secrets, left) = learnaed(monkeypatch, *run, LEARNAE_SECRET=LONG)
    assert (result.exit_code, secrets, left) == (0, Secrets([LONG]), None)
    assert LONG not in repr(config) + result.output


def test_it_can_be_piped_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    run = ("run", "--topic", "t", "--task", "digits", "--home", str(tmp_path), "--secret")
    result, (_, secrets, _) = learnaed(monkeypatch, *run, typed=f"{LONG}\n")
    assert secrets == Secrets([LONG]) and LONG not in result.output
    result, given = learnaed(monkeypatch, *run, typed="short\n")
    assert (result.exit_code, given) == (2, None) and "short\n" not in result.output


def test_an_invitation_is_all_that_a_newcomer_needs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    line = Invitation("lab", "digits", (PEER,), Secrets([LONG, OTHER])).line()
    result, (config, secrets, _) = learnaed(
        monkeypatch, "join", "-", "--home", str(tmp_path), "--shard", "2/4", typed=line
    )
    assert (config.topic, config.task, config.peer, config.shard) == ("lab", "digits", (PEER,), "2/4")
    assert secrets == Secrets([LONG, OTHER])
    path = tmp_path / "lab.secret"
    assert config.secret_file == path and passphrase.read(path) == secrets
    assert os.name != "posix" or path.stat().st_mode & 0o777 == 0o600
    assert str(path) in result.output and LONG not in result.output and "process" not in result.output


def test_an_invitation_among_the_arguments_works_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    line = Invitation("lab", "digits", (PEER,), Secrets([LONG])).line()
    result, (_, secrets, _) = learnaed(monkeypatch, "join", line, "--home", str(tmp_path))
    assert secrets == Secrets([LONG])
    assert "other users of this PC can see the invitation" in result.output and line not in result.output


def test_an_open_invitation_makes_no_private_node(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    line = Invitation("lab", "digits", ()).line()
    result, (config, secrets, _) = learnaed(
        monkeypatch, "join", "--home", str(tmp_path), typed=line, LEARNAE_SECRET=LONG
    )
    assert (config.secret_file, secrets) == (None, None) and result.exit_code == 0


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("learnae:AAAA", "the invitation cannot be used"),
        (Invitation("lab", "digits", ()).line()[:-3], "the invitation cannot be used"),
        (Invitation("lab", None, ()).line(), "say --task"),
    ],
)
def test_an_invitation_that_is_not_enough(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, line: str, words: str
) -> None:
    result, given = learnaed(monkeypatch, "join", "--home", str(tmp_path), typed=line)
    assert (result.exit_code, given) == (2, None)
    assert words in " ".join(result.output.split())


def test_an_older_secret_of_that_name_is_kept_beside_it(tmp_path: Path) -> None:
    for phrase in (LONG, OTHER, OTHER):
        joining.settle(Invitation("lab", "digits", (), Secrets([phrase])), {"home": tmp_path}, {})
    assert (tmp_path / "lab.secret").read_text() == f"{OTHER}\n"
    assert (tmp_path / "lab.secret.old").read_text() == f"{LONG}\n"


# --- `learnae invite` and `secret`


def test_invite_prints_the_line_and_a_code(tmp_path: Path) -> None:
    path = secret_file(tmp_path)
    with running(tmp_path) as source:
        status = source.status()
        status |= {"private": True, "secret_file": str(path), "listen": [PEER], "topic": "lab", "task": "digits"}
        source.status = lambda: status  # type: ignore[method-assign]
        result = learnae(tmp_path, "invite", "--qr")
        as_json = learnae(tmp_path, "invite", "--json")
    assert result.exit_code == 0, result.output
    assert "would send a password" in result.stderr
    line, *code = result.stdout.splitlines()
    invitation = Invitation.parse(line)
    assert (invitation.topic, invitation.task, invitation.secrets) == ("lab", "digits", Secrets([LONG]))
    assert invitation.peers[0] == PEER
    assert len(code) > 20 and max(map(len, code)) < 100
    assert Invitation.parse(json.loads(as_json.stdout)["line"]) == invitation


def test_invite_to_an_open_swarm_with_a_task_of_ones_own(tmp_path: Path) -> None:
    with running(tmp_path) as source:
        status = source.status() | {"private": False, "secret_file": None, "listen": [], "task": "my.py:Mine"}
        source.status = lambda: status  # type: ignore[method-assign]
        result = learnae(tmp_path, "invite")
    invitation = Invitation.parse(result.stdout)
    assert (invitation.task, invitation.secrets) == (None, None)
    assert "my.py:Mine" in result.stderr and "password" not in result.stderr


def test_invite_where_the_secret_is_in_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(tmp_path) as source:
        status = source.status() | {"private": True, "secret_file": None, "listen": [], "task": "digits"}
        source.status = lambda: status  # type: ignore[method-assign]
        refused = learnae(tmp_path, "invite")
        named = learnae(tmp_path, "invite", "--secret-file", str(secret_file(tmp_path)))
        monkeypatch.setenv("LEARNAE_SECRET", OTHER)
        around = learnae(tmp_path, "invite")
    assert refused.exit_code == 2 and "--secret-file" in refused.stderr
    assert Invitation.parse(named.stdout).secrets == Secrets([LONG])
    assert Invitation.parse(around.stdout).secrets == Secrets([OTHER])


def test_a_secret_is_made_and_changed_step_by_step(tmp_path: Path) -> None:
    path = tmp_path / "s"

    def step(*words: str) -> tuple[str, ...]:
        result = CliRunner().invoke(cli, ["secret", str(path), *words])
        assert result.exit_code == 0, result.output
        found = tuple(passphrase.read(path))
        assert not any(phrase in result.output for phrase in found)
        assert os.name != "posix" or path.stat().st_mode & 0o777 == 0o600
        return found

    (old,) = step()
    first, new = step("--rotate", "add")
    assert first == old
    assert step("--rotate", "promote") == (new, old)
    assert step("--rotate", "drop") == (new,)


def test_a_secret_is_never_overwritten_and_no_step_is_skipped(tmp_path: Path) -> None:
    path = secret_file(tmp_path)
    for words in ((), ("--rotate", "promote"), ("--rotate", "drop")):
        result = CliRunner().invoke(cli, ["secret", str(path), *words])
        assert result.exit_code == 2
    assert path.read_text() == f"{LONG}\n"
    missing = CliRunner().invoke(cli, ["secret", str(tmp_path / "x"), "--rotate", "add"])
    assert missing.exit_code == 2
