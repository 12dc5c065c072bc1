from __future__ import annotations

import base64
import json
import os
import stat
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from learnae.cli import cli
from learnae.cli.bundle.redaction import Redactor
from learnae.errors import StoreError

NOWHERE = Path("/nowhere/at/all")
KEY = bytes(range(100, 132))


def run(home: Path, *words: str) -> Result:
    return CliRunner().invoke(cli, ["bundle", "--home", str(home), *words])


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    home = tmp_path / "data"
    profile = home / "default"
    profile.mkdir(parents=True)
    (profile / "identity.key").write_bytes(KEY)
    (profile / "token").write_text("tOkEn-0123456789abcdef")
    (profile / "secret").write_text("correct horse battery staple\n")
    (profile / "summary.json").write_text('{"status": {"peer": "12D3KooWx"}}')
    (home / "learnae.toml").write_text('topic = "lab"\ntask = "digits"\n')
    (profile / "learnaed.log").write_text(
        f"started in {profile}\n"
        f"key {KEY.hex()} and {base64.b64encode(KEY).decode()}\n"
        "Authorization: Bearer tOkEn-0123456789abcdef\n"
        "passphrase: correct horse battery staple\n"
        "peer at /ip4/203.0.114.7/tcp/4117/p2p/12D3KooWx, again 203.0.114.7:4117, and /ip4/192.168.1.5/tcp/4117\n"
        "and /ip6/2a00:1450:4001:81b::200e/tcp/4117 at 12:34:56, version 1.2.3, own 127.0.0.1:4118\n"
    )
    return home


def contents(file: Path) -> dict[str, str]:
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name).decode() for name in archive.namelist()}


def test_it_holds_what_helps_and_no_secret(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "bundle.zip"
    done = run(home, str(file))
    assert done.exit_code == 0, done.output
    files = contents(file)
    assert set(files) == {
        "about.txt", "settings.json", "learnae.toml",
        "default/files.txt", "default/learnaed.log", "default/summary.json",
    }  # fmt: skip
    assert "identity.key" in files["default/files.txt"]
    assert "torch==" in files["about.txt"]
    assert json.loads(files["settings.json"])["topic"][0] == "lab"
    whole = "".join(files.values())
    for secret in ("tOkEn", KEY.hex(), base64.b64encode(KEY).decode(), "correct horse", "203.0.114.7", "192.168.1.5"):
        assert secret not in whole
    log = files["default/learnaed.log"]
    assert "started in ~/data/default" in log
    assert "/ip4/public-4-1/tcp/4117/p2p/12D3KooWx, again public-4-1:4117, and /ip4/private-4-2/tcp" in log
    assert "/ip6/public-6-3/tcp/4117 at 12:34:56, version 1.2.3, own 127.0.0.1:4118" in log
    if os.name == "posix":
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_addresses_stay_if_asked_for(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "bundle.zip"
    assert run(home, str(file), "--addresses").exit_code == 0
    assert "/ip4/203.0.114.7/tcp" in contents(file)["default/learnaed.log"]


def test_a_wrong_file_name_is_told(home: Path) -> None:
    done = run(home, str(NOWHERE / "x.zip"))
    assert done.exit_code == 1
    assert f"{NOWHERE / 'x.zip'} cannot be written" in done.stderr


def test_a_broken_configuration_does_not_keep_it_from_helping(home: Path, tmp_path: Path) -> None:
    (home / "learnae.toml").write_text("topic = = 1")
    file = tmp_path / "bundle.zip"
    assert run(home, str(file)).exit_code == 0
    assert "is not valid TOML" in contents(file)["settings.json"]


@given(st.binary(min_size=6, max_size=40), st.text(), st.text())
def test_no_form_of_a_secret_passes(secret: bytes, before: str, after: str) -> None:
    redactor = Redactor([secret], NOWHERE)
    forms = [secret.hex(), base64.b64encode(secret).decode()]
    text = redactor.text(before + forms[0] + after + forms[1])
    if len(secret.strip()) >= 6:
        assert secret.strip().hex() not in text
        redactor.check("log", text.encode())
        with pytest.raises(StoreError):
            redactor.check("log", b"x" + secret.strip().hex().encode())


@given(st.ip_addresses())
def test_an_address_has_one_name(address: object) -> None:
    redactor = Redactor([], NOWHERE)
    first, second = (redactor.text(f"/ip/{address}/tcp/1 {address}").split() for _ in range(2))
    assert first == second
    assert first[0] == f"/ip/{first[1]}/tcp/1"
