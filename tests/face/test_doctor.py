"""Faults are planted, and `learnae doctor` finds each of them and names the cure."""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from click.testing import CliRunner, Result

from learnae.cli import cli
from learnae.cli.doctor import lying, probing
from learnae.cli.doctor.facts import Database, Training
from learnae.config import Config
from learnae.peer import peer_id
from learnaed.diagnosis import diagnose
from learnaed.identity import load_identity
from learnaed.network import Network
from learnaed.store import Store
from tests.face.fakes import FakeSource, fake_diagnosis
from tests.face.test_cli import running
from tests.network.support import make, start, until

STRANGER = peer_id(bytes(32))
_ASK = probing._ask
STUB = """
__version__ = "0.0"
get_num_threads = lambda: 1
class cuda:
    is_available = staticmethod(lambda: False)
class backends:
    class mps:
        is_available = staticmethod(lambda: False)
"""


@pytest.fixture(autouse=True)
def no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """No process is started to import torch: that takes seconds."""
    monkeypatch.setattr(probing, "_ask", lambda words, environment: Training("0.0", ("1 thread of the CPU",)))


@pytest.fixture
def small_torch(no_torch: None, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A process is started, which imports this torch, at once."""
    folder = tmp_path_factory.mktemp("stub")
    (folder / "torch.py").write_text(STUB)
    monkeypatch.setattr(probing, "_ask", _ASK)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), *sys.path]))
    return folder


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    """A profile that a daemon has used, with nothing wrong in it. No daemon of this PC comes in between."""
    directory = tmp_path / "default"
    directory.mkdir(0o700)
    identity = load_identity(directory / "identity.key")
    store = Store(directory / "ledger.sqlite", identity.author)
    store.remember({STRANGER: [f"/ip4/192.0.2.7/tcp/{port}" for port in range(1, 9)]}, 1.0)
    store.close()
    (tmp_path / "learnae.toml").write_text('listen = ["/ip4/127.0.0.1/tcp/0"]\nipfs = "off"\n')
    return directory


def doctor(home: Path, *words: str) -> Result:
    return CliRunner().invoke(cli, ["doctor", "--home", str(home), *words], env={"COLUMNS": "400"})


def found(home: Path, check: str, level: str, *words: str) -> str:
    """The action of the verdict of this check and level, whose text and action contain these words."""
    result = doctor(home, "--json")
    answer = json.loads(result.stdout)
    assert answer["ok"] == (result.exit_code == 0) == all(v["level"] != "fail" for v in answer["verdicts"])
    assert level != "fail" or result.exit_code == 1
    fitting = [v for v in answer["verdicts"] if (v["check"], v["level"]) == (check, level)]
    for verdict in fitting:
        if all(word in f"{verdict['text']} {verdict['action']}" for word in words):
            return verdict["action"] or ""
    raise AssertionError(f"{check} {level} {words} is not in {answer['verdicts']}")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def test_nothing_is_wrong(profile: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in profile.rglob("*")}
    answer = json.loads(doctor(profile.parent, "--json").stdout)
    assert answer["profile"] == "default" and answer["ok"]
    levels = {v["check"]: v["level"] for v in answer["verdicts"]}
    assert levels["daemon"] == "warn"
    assert {levels[name] for name in ("settings", "profile", "files", "key", "database", "torch", "port")} == {"ok"}
    assert {path: path.stat().st_mtime_ns for path in profile.rglob("*")} == before


def test_before_the_first_start(tmp_path: Path) -> None:
    (tmp_path / "learnae.toml").write_text('listen = ["/ip4/127.0.0.1/tcp/0"]\nipfs = "off"\n')
    result = doctor(tmp_path)
    assert result.exit_code == 0
    assert "warn  daemon      none runs" in result.output and "-> start one: learnaed run" in result.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["learnae.toml"]


# --- the planted faults


@pytest.mark.skipif(os.name != "posix", reason="Windows has no modes of files")
def test_a_key_that_others_can_read(profile: Path) -> None:
    (profile / "identity.key").chmod(0o644)
    assert "chmod 600" in found(profile.parent, "key", "fail", "mode 0644")


def test_a_key_that_is_cut_off(profile: Path) -> None:
    (profile / "identity.key").write_bytes(b"short")
    assert "backup" in found(profile.parent, "key", "fail", "5 bytes")


def test_a_port_that_another_program_has(profile: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        (profile.parent / "learnae.toml").write_text(f'listen = ["/ip4/127.0.0.1/tcp/{port}"]\nipfs = "off"\n')
        holder = f"process {os.getpid()}" if sys.platform == "linux" else ""
        assert "--listen" in found(profile.parent, "port", "warn", f"tcp/{port} is taken by", holder)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("topic = ", "config-invalid"),
        ('topik = "hello"', "unknown-setting"),
        ('task = "digits"\nshard = "3/2"', "bad-setting"),
    ],
)
def test_a_broken_configuration_file(profile: Path, text: str, code: str) -> None:
    (profile.parent / "learnae.toml").write_text(text)
    assert "learnae.toml" in found(profile.parent, "settings", "fail", f"[{code}]")


def test_a_wrong_variable(profile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEARNAE_STATUS_PORT", "many")
    found(profile.parent, "settings", "fail", "[bad-setting]", "LEARNAE_STATUS_PORT")


def test_a_full_disk_by_its_figures(profile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = SimpleNamespace(free=2**20, total=2**40)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    assert "make room" in found(profile.parent, "disk", "fail", "full: 1.0 MB of 1.1 TB free")


def test_a_full_disk(profile: Path) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "learnae-test", str(profile)]
    if sys.platform != "linux" or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a small disk")
    try:
        with pytest.raises(OSError) as caught:
            (profile / "filling").write_bytes(bytes(2**20))
        assert caught.value.errno == errno.ENOSPC
        assert "make room" in found(profile.parent, "disk", "fail", "full")
    finally:
        subprocess.run(["umount", str(profile)], check=True)


def test_a_damaged_database(profile: Path) -> None:
    path = profile / "ledger.sqlite"
    data = bytearray(path.read_bytes())
    data[4096:8192] = bytes(range(256)) * 16
    path.write_bytes(data)
    assert "set" in found(profile.parent, "database", "fail", "damaged")
    path.write_bytes(b"no database at all " * 1000)
    found(profile.parent, "database", "fail", "file is not a database")


def test_a_database_that_was_set_aside(profile: Path) -> None:
    (profile / "ledger.sqlite").rename(profile / "ledger.sqlite.damaged")
    assert "delete" in found(profile.parent, "database", "warn", "ledger.sqlite.damaged")


@pytest.mark.skipif(os.name != "posix", reason="Windows has other permissions")
def test_a_profile_of_another_user(profile: Path) -> None:
    if os.geteuid() == 0:
        os.chown(profile, 54321, -1)
        assert "chown" in found(profile.parent, "profile", "fail", "belongs to user 54321")
    else:
        profile.chmod(0)
        try:
            assert "--home" in found(profile.parent, "profile", "fail", "cannot be read")
        finally:
            profile.chmod(0o700)


@pytest.mark.skipif(os.name != "posix", reason="Windows has other permissions")
def test_a_profile_that_cannot_be_listed(profile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = Path.iterdir

    def refused(path: Path) -> Iterator[Path]:
        if path == profile:
            raise PermissionError(errno.EACCES, "Permission denied")
        return listed(path)

    monkeypatch.setattr(Path, "iterdir", refused)
    assert "--home" in found(profile.parent, "profile", "fail", "Permission denied")


def test_a_torch_that_can_be_imported(profile: Path, small_torch: Path) -> None:
    found(profile.parent, "torch", "ok", "0.0; 1 threads of the CPU")


def test_a_torch_that_cannot_be_imported(profile: Path, small_torch: Path) -> None:
    (small_torch / "torch.py").write_text('raise ImportError("libcudart.so.12: cannot open shared object file")')
    assert "pip install" in found(profile.parent, "torch", "fail", "ImportError: libcudart.so.12")


def test_a_torch_that_kills_the_process(profile: Path, small_torch: Path) -> None:
    (small_torch / "torch.py").write_text("import os; os.abort()")
    found(profile.parent, "torch", "fail", "cannot be imported", "signal 6" if os.name == "posix" else "exit code")


def test_a_torch_that_hangs(profile: Path, small_torch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (small_torch / "torch.py").write_text("import sys; sys.stdin.read(); import time; time.sleep(60)")
    monkeypatch.setattr(probing, "_SECONDS", 0.5)
    found(profile.parent, "torch", "fail", "more than")


def test_a_task_that_cannot_be_loaded(profile: Path, small_torch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # the real torch
    task = profile.parent / "mine.py"
    task.write_text("print('hello')\nclass Mine: pass\n")
    (profile.parent / "learnae.toml").write_text(f'task = "{task.as_posix()}:Mine"\nipfs = "off"\n')
    assert "mine.py:Mine" in found(profile.parent, "task", "fail", "[task-class-missing]")


def test_a_daemon_that_was_killed(profile: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    content = {"url": "http://127.0.0.1:1", "pid": int(killed.stdout), "peer": "x", "topic": "t"}
    (profile / "status.json").write_text(json.dumps(content))
    (profile / "learnaed.log").write_text("2030-01-31 12:00:00.000 ERROR    trainer  out of \x1b memory\nINFO bye\n")
    action = found(profile.parent, "daemon", "fail", f"process {content['pid']}", "killed", "trainer  out of   memory")
    assert "start it again" in action and "learnaed.log" in action


def test_a_status_file_that_is_no_daemons(profile: Path) -> None:
    (profile / "status.json").write_text("[1")
    found(profile.parent, "daemon", "fail", "status.json cannot be read")


def test_a_daemon_that_does_not_answer(profile: Path) -> None:
    content = {"url": f"http://127.0.0.1:{free_port()}", "pid": os.getpid(), "peer": "x", "topic": "t"}
    (profile / "status.json").write_text(json.dumps(content))
    assert str(os.getpid()) in found(profile.parent, "daemon", "fail", "does not answer")


# --- with a daemon


def tell(home: Path, dials: int, **settings: Any) -> dict[str, Any]:
    """What a daemon with a real network tells once so many of its dials have failed."""

    async def main() -> dict[str, Any]:
        async with trio.open_nursery() as nursery:
            node = await start(nursery, "one", **settings)
            await until(lambda: sum(row.failure is not None for row in node.network.diagnosis().dials) == dials)
            told = _told(node.network, home)
            nursery.cancel_scope.cancel()
        return told

    return trio.run(main)


def _told(network: Network, home: Path) -> dict[str, Any]:
    config = Config(topic="test", task="digits", home=home, ipfs="off")
    told: dict[str, Any] = json.loads(json.dumps(diagnose(config, home, network.diagnosis(), None, 0.0, [])))
    return told


def test_a_peer_that_is_not_there(tmp_path: Path) -> None:
    """A real network dials a real port; what it tells goes through a real status endpoint."""
    address = f"/ip4/127.0.0.1/tcp/{free_port()}"
    with running(tmp_path) as source:
        source.found = tell(tmp_path, 1, peers=(f"{address}/p2p/{STRANGER}",))
        action = found(tmp_path, "peer", "fail", f"...{STRANGER[-8:]}", "[peer-refused]", address)
        assert "start learnaed there" in action


def test_a_peer_that_is_another_one(tmp_path: Path) -> None:
    port = free_port()
    own = f"/ip4/127.0.0.1/tcp/{port}"
    with running(tmp_path) as source:
        # The node itself answers at that address.
        source.found = tell(tmp_path, 1, listen=(own,), peers=(f"{own}/p2p/{STRANGER}",))
        assert "copy its address anew" in found(tmp_path, "peer", "fail", "[wrong-peer-id]", own)


def test_a_port_that_was_taken_when_it_started(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with running(tmp_path) as source:
            source.found = tell(tmp_path, 0, listen=(f"/ip4/127.0.0.1/tcp/{port}",))
            found(tmp_path, "port", "warn", f"port {port} is taken by another program")


def test_clocks_that_are_wrong(tmp_path: Path) -> None:
    one, two = STRANGER, peer_id(bytes([1]) * 32)
    with running(tmp_path) as source:
        source.found = fake_diagnosis(clock={"offset": 42.0, "peers": {one: 42.0, two: 43.0}})
        found(tmp_path, "clock", "fail", "this PC's clock is 42 s behind", "let the system set it")
        source.found = fake_diagnosis(clock={"offset": 0.0, "peers": {one: 42.0, two: 0.1}})
        found(tmp_path, "clock", "warn", f"peer ...{one[-8:]} is 42 s ahead")


def test_an_address_that_cannot_be_dialled(tmp_path: Path) -> None:
    port = free_port()
    with running(tmp_path) as source:
        source.found = fake_diagnosis(announced=[f"/ip4/127.0.0.1/tcp/{port}/p2p/x"])
        assert "firewall" in found(tmp_path, "reachable", "fail", f"/ip4/127.0.0.1/tcp/{port} cannot be dialled")


def test_a_trainer_that_keeps_ending_and_a_pause(tmp_path: Path) -> None:
    with running(tmp_path) as source:
        source.state["trainer"] |= {"state": "restarting", "last_error": "the process was killed (SIGKILL)"}
        assert "memory" in found(tmp_path, "trainer", "fail", "keeps ending", "SIGKILL")
        source.state["paused"] = {"reasons": [{"reason": "battery", "text": "on battery", "until": None}]}
        assert "learnae resume" in found(tmp_path, "progress", "warn", "on battery")


def test_multicast_that_is_blocked(tmp_path: Path) -> None:
    with running(tmp_path) as source:
        source.found = fake_diagnosis(mdns=fake_diagnosis()["mdns"] | {"own_heard": 0, "others_heard": 0})
        assert "5353" in found(tmp_path, "mdns", "fail", "firewall")


# --- IPFS


def test_an_ipfs_node_that_is_away(profile: Path) -> None:
    address = f"/ip4/127.0.0.1/tcp/{free_port()}"
    (profile.parent / "learnae.toml").write_text(f'listen = ["/ip4/127.0.0.1/tcp/0"]\nipfs = "{address}"\n')
    assert "ipfs daemon" in found(profile.parent, "ipfs", "fail", f"nothing answers at {address}")


@contextmanager
def answering(status: int, body: bytes) -> Iterator[str]:
    """The multiaddr of a server that answers everything so."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"/ip4/127.0.0.1/tcp/{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (403, b"403 - Forbidden", "refuses (HTTP 403)"),
        (200, b'{"Version": "0.4.23"}', "version 0.4.23"),
        (404, b"not here", "no IPFS node (HTTP 404)"),
        (200, b"x" * 100_000, "no IPFS node (HTTP 200)"),
    ],
)
def test_an_ipfs_node_that_is_of_no_use(profile: Path, status: int, body: bytes, words: str) -> None:
    with answering(status, body) as address:
        (profile.parent / "learnae.toml").write_text(f'listen = ["/ip4/127.0.0.1/tcp/0"]\nipfs = "{address}"\n')
        assert "ipfs" in found(profile.parent, "ipfs", "fail", words)


def test_an_ipfs_node_that_is_fine(profile: Path) -> None:
    with answering(200, b'{"Version": "0.39.0", "Commit": ""}') as address:
        (profile.parent / "learnae.toml").write_text(f'listen = ["/ip4/127.0.0.1/tcp/0"]\nipfs = "{address}"\n')
        found(profile.parent, "ipfs", "ok", "version 0.39.0")


# --- which profiles, and how it is shown


def test_the_profile_that_was_used_last(tmp_path: Path) -> None:
    for name, moment in (("old", 1000), ("new", 2000), ("older", 500)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "identity.key").write_bytes(bytes(32))
        (tmp_path / name / "learnaed.log").touch()
        os.utime(tmp_path / name / "learnaed.log", (moment, moment))
    assert json.loads(doctor(tmp_path, "--json").stdout)["profile"] == "new"
    assert json.loads(doctor(tmp_path, "--json", "--profile", "old").stdout)["profile"] == "old"


def test_every_daemon_that_runs_and_that_died(tmp_path: Path) -> None:
    (tmp_path / "dead").mkdir()
    (tmp_path / "dead" / "status.json").write_text(json.dumps({"url": "u", "pid": 2**22 + 1, "peer": "", "topic": ""}))
    with running(tmp_path, "one"), running(tmp_path, "two"):
        result = doctor(tmp_path, "--json")
        answers = {a["profile"]: a["ok"] for a in map(json.loads, result.stdout.splitlines())}
        assert answers == {"dead": False, "one": True, "two": True} and result.exit_code == 1
        shown = doctor(tmp_path).output
    assert [line for line in shown.splitlines() if line.startswith("profile")] == [
        f"profile {name} in {tmp_path}" for name in ("dead", "one", "two")
    ]
    assert "ok    daemon      runs" in shown and "\x1b" not in shown


def test_an_older_daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: FakeSource) -> dict[str, Any]:
        raise ZeroDivisionError

    monkeypatch.setattr(FakeSource, "diagnosis", broken)
    with running(tmp_path):
        assert "restart" in found(tmp_path, "daemon", "warn", "older")


def test_text_of_strangers_cannot_move_the_cursor(tmp_path: Path) -> None:
    with running(tmp_path) as source:
        source.state["trainer"] |= {"restarts": 1, "last_error": "[bold]\x1b[2Jgone[/nonsense]\nok    key"}
        shown = doctor(tmp_path).output
    assert "[bold] [2Jgone[/nonsense] ok    key" in shown and "\x1b" not in shown


def test_a_database_in_use_is_not_looked_into(profile: Path) -> None:
    assert lying.database(profile, look_inside=True) == Database("ok")
    with closing(sqlite3.connect(profile / "ledger.sqlite")) as connection:
        connection.execute("PRAGMA user_version")  # Its log now lies beside it.
        assert lying.database(profile, look_inside=True) == Database("ok")
    (profile / "ledger.sqlite").write_bytes(b"damaged")
    assert lying.database(profile, look_inside=False) == Database(None)
    assert lying.database(profile / "none", look_inside=True) is None


def test_a_network_that_has_not_begun_is_no_trouble(tmp_path: Path) -> None:
    told = _told(make("idle").network, tmp_path)
    assert told["dials"] == told["connected"] == told["listening"] == []
