from __future__ import annotations

import io
import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from click.testing import CliRunner, Result
from rich.console import Console

from learnae import __version__
from learnae.cli import cli, dropped, progress, tables
from learnae.cli.daemons import Daemon
from learnae.cli.tables import show_peers, show_snapshots, show_status
from learnae.ledger.admission import Refusal
from learnaed.status import create_token, serve
from tests.face.fakes import FakeSource, fake_cut, fake_status


@contextmanager
def running(home: Path, profile: str = "default") -> Iterator[FakeSource]:
    """A fake daemon with a real status server, in a thread of its own."""
    directory = home / profile
    directory.mkdir(parents=True)
    source = FakeSource(profile=profile, pid=os.getpid())
    ready = threading.Event()
    stop: list[object] = []

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(serve, directory=directory), source, "127.0.0.1", 0, create_token(directory))
            stop.append((trio.lowlevel.current_trio_token(), nursery.cancel_scope))
            ready.set()

    thread = threading.Thread(target=trio.run, args=(main,))
    thread.start()
    assert ready.wait(10)
    try:
        yield source
    finally:
        token, scope = stop[0]  # type: ignore[misc]
        trio.from_thread.run_sync(scope.cancel, trio_token=token)  # type: ignore[has-type]
        thread.join(10)


def learnae(home: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli, [*arguments, "--home", str(home)])


def test_ctrl_c_ends_with_130(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("learnae.cli.daemons.select", interrupted)
    result = learnae(tmp_path, "status")
    assert (result.exit_code, result.output) == (130, "")


@pytest.fixture
def no_proxy_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")


@pytest.mark.usefixtures("no_proxy_helps")
def test_status_of_one_daemon(tmp_path: Path) -> None:
    with running(tmp_path) as source:
        result = learnae(tmp_path, "status", "--json")
        assert source.state.items() <= json.loads(result.stdout).items()
        shown = learnae(tmp_path, "status")
    assert shown.exit_code == 0
    for text in ("default", "training", "topic test", "2 connected", "round 7", "90.0 %", "2 forged", "hello"):
        assert text in shown.output
    assert "\x1b" not in shown.output


def test_addresses_are_not_broken_over_lines(capsys: pytest.CaptureFixture[str]) -> None:
    address = f"/ip4/192.0.2.77/tcp/41170/p2p/{fake_status()['peer']}"
    assert len(address) > 80
    show_status(fake_status(listen=[address, address]), Console(width=80))
    assert capsys.readouterr().out.count(address) == 2


def test_refusals_are_explained(capsys: pytest.CaptureFixture[str]) -> None:
    network = {"peers": 1, "dropped": {"busy": 3, "handshake": 0, "new-reason": 1}}
    show_status(fake_status(refused={"duplicate": 12, "void": 0}, network=network), Console(width=200))
    shown = capsys.readouterr().out
    assert f"12 duplicate: {Refusal.DUPLICATE.meaning}" in shown
    assert f"3 busy: {dropped.MEANINGS['busy']}" in shown
    assert "1 new-reason" in shown
    assert "void" not in shown and "handshake" not in shown


def test_history_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    show_status(fake_status(), Console(width=200))
    shown = capsys.readouterr().out
    for text in (
        "settled up to 98 (asettled), newest 99 (a-newest) attested by 2 of 3; pruned up to 90",
        "2 of them count in part",
        "adopting  the others have settled far more",
        "█████████░░░░░░░░░░░ 34.0 kB of 69.0 kB at 1.2 kB/s, 29 s left, from 3 peers",
        "has gone over to the weights of others once",
        "3.2 s ahead of the swarm's",
    ):
        assert text in shown
    show_status(fake_status(cuts=None, snapshots=None, clock_offset=0.0, ledger={}), Console(width=200))
    shown = capsys.readouterr().out
    assert not [text for text in ("cuts", "adopting", "lineage", "snapshot", "clock", "in part") if text in shown]


def test_nothing_is_said_twice_of_cuts(capsys: pytest.CaptureFixture[str]) -> None:
    cuts = fake_status()["cuts"]
    show_status(fake_status(cuts=cuts | {"newest": cuts["settled"]}), Console(width=200))
    assert "settled up to 98 (asettled), attested by 2 of 3; pruned" in capsys.readouterr().out
    show_status(fake_status(cuts=cuts | {"settled": None}), Console(width=200))
    assert "none settled yet, newest 99 (a-newest) attested by 2 of 3" in capsys.readouterr().out


def test_messages_have_their_time(capsys: pytest.CaptureFixture[str]) -> None:
    at = datetime(2030, 1, 31, 12, tzinfo=UTC).astimezone()
    messages = [*fake_status()["messages"], {"time": "no time", "level": "warning", "text": "watch out"}]
    show_status(fake_status(messages=messages), Console(width=200))
    shown = capsys.readouterr().out
    assert f"info      {at:%H:%M:%S} hello" in shown
    assert "warning   watch out" in shown


def test_peers_fit_on_a_narrow_screen(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (peer,) = FakeSource().peers()
    daemon = Daemon(tmp_path / "default", "http://127.0.0.1:1", 1, "p", "t")
    peer |= {"addresses": [f"/ip4/192.0.2.7/tcp/4117/p2p/{peer['peer']}"], "problem": None, "swarm_match": True}
    show_peers(daemon, [peer, peer | {"connected": False}], Console(width=100))
    shown = capsys.readouterr().out
    assert "/ip4/192.0.2.7/tcp/4117" in shown and "/p2p/" not in shown and "problem" not in shown
    assert shown.count("not connected") == 1
    assert len(shown.splitlines()) == 4


def test_a_peer_that_cheats_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (peer,) = FakeSource().peers()
    daemon = Daemon(tmp_path / "default", "http://127.0.0.1:1", 1, "p", "t")
    show_peers(daemon, [peer, peer | {"forked": True, "settled": None}], Console(width=200))
    shown = capsys.readouterr().out
    assert "98 (asettled)" in shown and "signed two updates for one slot" in shown


def test_peers(tmp_path: Path) -> None:
    with running(tmp_path) as source:
        answer = json.loads(learnae(tmp_path, "peers", "--json").stdout)
        assert answer == {"profile": "default", "peers": source.peers()}
        shown = learnae(tmp_path, "peers").output
        assert source.peers()[0]["peer"][-8:] in shown and "1 s ago" in shown


def test_several_daemons(tmp_path: Path) -> None:
    with running(tmp_path, "a") as first, running(tmp_path, "b") as second:
        lines = learnae(tmp_path, "status", "--json").stdout.splitlines()
        assert [json.loads(line)["profile"] for line in lines] == ["a", "b"]
        refused = learnae(tmp_path, "finish")
        assert refused.exit_code == 2
        assert "--profile" in refused.stderr and "a, b" in refused.stderr
        assert learnae(tmp_path, "finish", "--profile", "a").output == "a: finish accepted\n"
        assert (first.verbs, second.verbs) == (["finish"], [])
        assert learnae(tmp_path, "pause", "--all").exit_code == 0
        assert (first.verbs, second.verbs) == (["finish", "pause"], ["pause"])
        assert learnae(tmp_path, "pause", "--all", "--profile", "a").exit_code == 2
        missing = learnae(tmp_path, "status", "--profile", "c")
        assert missing.exit_code == 1 and "Running: a, b" in missing.stderr


def test_the_list_of_cuts(tmp_path: Path) -> None:
    with running(tmp_path) as source:
        assert "default: no cut is settled yet" in learnae(tmp_path, "snapshots").output
        assert json.loads(learnae(tmp_path, "snapshots", "--json").stdout) == {"profile": "default", "snapshots": []}
        source.cuts = [fake_cut(7), fake_cut(8, loss=None)]
        assert json.loads(learnae(tmp_path, "snapshots", "--json").stdout)["snapshots"] == source.cuts


def test_cuts_are_shown_with_why_they_are_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    daemon = Daemon(tmp_path / "lab", "", 1, "", "hello")
    cuts = [fake_cut(7, pinned=True, milestone=True), fake_cut(8, attested_by=1), fake_cut(9, loss=None)]
    show_snapshots(daemon, cuts, Console(width=80))
    title, *rows = [line for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert title.strip() == "lab: cuts of hello"
    assert rows[-3:] == [f"{cut['index']}  {cut['cid']}" for cut in cuts]
    shown = [line for line in rows if "peer" in line]
    for line, texts in zip(
        shown,
        (
            ("7", "21", "0.125", "69.0 kB", "2 peers", "pinned, milestone"),
            ("8", "24", "1 peer ", "for now"),
            ("9", "27", " - "),
        ),
        strict=True,
    ):
        assert all(text in line for text in texts), line


def test_cuts_of_several_daemons(tmp_path: Path) -> None:
    with running(tmp_path, "a") as one, running(tmp_path, "b"):
        one.cuts = [fake_cut(7)]
        answers = [json.loads(line) for line in learnae(tmp_path, "snapshots", "--json").stdout.splitlines()]
        assert [(answer["profile"], len(answer["snapshots"])) for answer in answers] == [("a", 1), ("b", 0)]
        shown = learnae(tmp_path, "snapshots").output
        assert "a: cuts of test" in shown and "b: no cut is settled yet" in shown
        file = tmp_path / "x.car"
        file.touch()
        for words in (("pin", "bafy"), ("unpin", "bafy"), ("import", str(file))):
            result = learnae(tmp_path, *words)
            assert result.exit_code == 2 and "2 daemons run here: a, b. Say --profile NAME" in result.stderr
        assert learnae(tmp_path, "pin", "bafy", "--profile", "a").exit_code == 0
        assert one.asked == [("pin", "bafy")]


def test_pin_unpin_and_import(tmp_path: Path) -> None:
    file, alone = tmp_path / "a b&?.car", tmp_path / "alone.safetensors"
    file.touch()
    alone.touch()
    with running(tmp_path) as source:
        assert learnae(tmp_path, "pin", "bafyrei8").output == "pinned: cut 8, 24 updates, 69000 bytes\n"
        assert learnae(tmp_path, "unpin", "bafyrei8").output == "unpinned\n"
        assert learnae(tmp_path, "import", str(file)).output == "pinned: cut 8, 69000 bytes, bafyrei8\n"
        assert learnae(tmp_path, "import", str(alone)).output == "pinned: a snapshot, 69000 bytes, bafyrei8\n"
        asked = [("pin", "bafyrei8"), ("unpin", "bafyrei8"), ("import", str(file)), ("import", str(alone))]
        assert source.asked == asked
        for cid, error in source.failures.items():
            result = learnae(tmp_path, "pin", cid)
            assert result.exit_code == 1 and str(error) in " ".join(result.stderr.split())
        assert learnae(tmp_path, "pin", "../../finish").exit_code == 1
        assert learnae(tmp_path, "import", str(tmp_path / "none")).exit_code == 2
        assert source.verbs == []


def test_an_import_shows_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal; the daemon's status tells."""
    looked, shown = threading.Event(), io.StringIO()
    at = {"file": "cut.car", "done": 34_500, "size": 69_000}

    class Slow(Daemon):
        def get(self, path: str, timeout: float = 0.0) -> Any:
            looked.set()
            return {"snapshots": {"importing": at}}

        def post(self, path: str, timeout: float = 0.0) -> Any:
            assert looked.wait(10)
            return {"index": 8}

    monkeypatch.setattr(progress, "EVERY", 0.01)
    monkeypatch.setattr(progress, "Console", lambda **_: Console(file=shown, force_terminal=True, width=200))
    daemon = Slow(tmp_path, "http://127.0.0.1:1", 1, "peer", "t")
    assert progress.post(daemon, "/api/import", "importing") == {"index": 8}
    assert looked.is_set()
    text = tables.progress(at)
    assert text == f"{'█' * 10}{'░' * 10} 34.5 kB of 69.0 kB"


def test_a_snapshot_without_a_cut_is_listed(tmp_path: Path) -> None:
    unknown: dict[str, Any] = dict.fromkeys(("index", "updates", "samples", "loss", "authors"))
    with running(tmp_path) as source:
        source.cuts = [fake_cut(7, pinned=True, attested_by=0) | unknown]
        shown = learnae(tmp_path, "snapshots").output
    assert "pinned" in shown and f"?  bafyrei{7:052}" in shown


def test_a_refusal_is_told(tmp_path: Path) -> None:
    with running(tmp_path):
        result = learnae(tmp_path, "resume")
    assert result.exit_code == 1
    assert "not paused" in result.stderr


def test_one_that_has_ended_has_left_a_log(tmp_path: Path) -> None:
    assert "there is no profile in" in learnae(tmp_path, "status").stderr
    (tmp_path / "attic").mkdir()
    (tmp_path / "attic" / "learnaed.log").touch()
    shown = " ".join(learnae(tmp_path, "status").stderr.split())
    assert "that of 'attic' in" in shown and "has ended (`learnae logs`). Start one" in shown


def test_none_running_says_what_to_do(tmp_path: Path) -> None:
    result = learnae(tmp_path, "status")
    assert result.exit_code == 1
    assert "learnaed run" in " ".join(result.stderr.split())
    assert "Traceback" not in result.output


def test_leftovers_are_passed_over(tmp_path: Path) -> None:
    for name, content in {
        "dead": json.dumps({"url": "http://127.0.0.1:1", "pid": 2**22 + 1, "peer": "x", "topic": "t"}),
        "negative": json.dumps({"url": "http://127.0.0.1:1", "pid": -1, "peer": "x", "topic": "t"}),
        "broken": "{",
        "foreign": "[1]",
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "status.json").write_text(content)
    assert "no daemon runs here" in learnae(tmp_path, "status").stderr


def test_a_daemon_that_does_not_answer(tmp_path: Path) -> None:
    (tmp_path / "default").mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        content = {"url": url, "pid": os.getpid(), "peer": "x", "topic": "t"}
        (tmp_path / "default" / "status.json").write_text(json.dumps(content))
        result = learnae(tmp_path, "status")
        assert result.exit_code == 1 and "does not answer" in result.stderr
        result = learnae(tmp_path, "stop")
        assert result.exit_code == 1 and "token" in result.stderr


def test_a_young_daemon_can_be_shown(capsys: pytest.CaptureFixture[str]) -> None:
    show_status(fake_status(trainer=None, ledger=None, network={}, refused={}, messages=[], listen=[]))
    assert "accuracy -" in capsys.readouterr().out


def test_text_from_strangers_is_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    show_status(fake_status(messages=[{"time": 1, "level": "warning", "text": "[bold]layout[/nonsense]"}]))
    assert "[bold]layout[/nonsense]" in capsys.readouterr().out


def test_home_from_the_environment(tmp_path: Path) -> None:
    with running(tmp_path):
        result = CliRunner().invoke(cli, ["status", "--json"], env={"LEARNAE_HOME": str(tmp_path)})
    assert json.loads(result.stdout)["topic"] == "test"


def test_version_and_help() -> None:
    for word in ("version", "--version"):
        assert CliRunner().invoke(cli, [word]).output == f"learnae {__version__}\n"
    text = CliRunner().invoke(cli, ["--help"]).output
    for verb in ("status", "peers", "finish", "pause", "resume", "stop", "demo", "snapshots", "import", "Exit codes"):
        assert verb in text
