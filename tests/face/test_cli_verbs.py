"""The verbs of `learnae` against answers that a test writes, against none, and their completion and help."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from learnae.cli import cli
from learnae.cli.columns import COLUMNS, fitting, ordered
from learnae.cli.daemons import Daemon
from learnae.cli.steering import ended
from learnae.cli.stream import LONGEST, Event, Parser, in_words
from learnae.cli.tables import show_peers, show_status
from tests.face.canned import canned
from tests.face.fakes import fake_status
from tests.face.test_cli_words import HOSTILE

NEED_A_DAEMON = (
    "status", "peers", "events", "events --follow", "logs", "logs --follow", "pause", "pause --for 2h", "resume",
    "finish", "stop", "stop --wait", "limits", "limits show", "limits set upload=1MB/s", "snapshots", "pin bafy",
    "unpin bafy", "export model.safetensors",
)  # fmt: skip
NEED_NONE = ("version", "completion bash", "completion zsh", "completion fish")


def learnae(home: Path, *arguments: str, **environment: str) -> Result:
    # Test runners that start processes give them COLUMNS.
    return CliRunner().invoke(cli, [*arguments, "--home", str(home)], env={"COLUMNS": None, **environment})


def peer(name: str = "aaaaaaaa", **changes: Any) -> dict[str, Any]:
    return {
        "peer": f"12D3KooW{name}",
        "addresses": ["/ip4/192.0.2.7/tcp/4117"],
        "connected": True,
        "swarm_match": True,
        "state": "training",
        "updates": 7,
        "settled": {"index": 98, "cid": "bafkreiaaaaaasettled"},
        "last_seen": 1.4,
        "problem": None,
    } | changes


# --- no daemon


@pytest.mark.parametrize("words", NEED_A_DAEMON)
def test_without_a_daemon_each_says_so_and_ends_with_1(tmp_path: Path, words: str) -> None:
    result = learnae(tmp_path, *words.split())
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("learnae: ") and "learnaed run" in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr


def test_import_without_a_daemon(tmp_path: Path) -> None:
    (tmp_path / "cut.car").touch()
    result = learnae(tmp_path, "import", str(tmp_path / "cut.car"))
    assert result.exit_code == 1 and "learnaed run" in " ".join(result.stderr.split())


def test_top_needs_a_terminal(tmp_path: Path) -> None:
    result = learnae(tmp_path, "top")
    assert result.exit_code == 1 and "learnae status" in " ".join(result.stderr.split()) and result.stdout == ""


@pytest.mark.parametrize("words", NEED_NONE)
def test_some_need_no_daemon(words: str) -> None:
    result = CliRunner().invoke(cli, words.split())
    assert result.exit_code == 0 and result.stdout


@pytest.mark.parametrize(
    "words",
    ["pause --for soon", "pause --until 25:00", "pause --for 1h --until 12:00", "events --kind nonsense", "limits set",
     "limits set upload", "limits set =3", "logs -n -1", "logs --level loud", "completion tcsh", "nonsense", "pin"],
)  # fmt: skip
def test_what_is_wrong_on_the_line_ends_with_2(tmp_path: Path, words: str) -> None:
    result = learnae(tmp_path, *words.split())
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Error" in result.stderr


# --- help and completion


def test_what_one_command_needs_slows_no_other() -> None:
    code = "import sys; from learnae.cli import cli; cli(['--help'], standalone_mode=False); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"textual", "numpy", "torch", "trio"} & set(loaded)


def test_help_has_sections_examples_and_exit_codes() -> None:
    text = CliRunner().invoke(cli, ["--help"], terminal_width=80).output
    places = [
        text.index(heading) for heading in ("Watch:", "Steer:", "The swarm's model:", "Set up:", "Examples:", "Exit")
    ]
    assert places == sorted(places)
    assert "..." not in text[text.index("Watch:") : text.index("Examples:")], "nothing is cut off"
    for name in cli.list_commands(click.Context(cli)):
        assert f"\n  {name} " in text
        assert CliRunner().invoke(cli, [name, "--help"]).exit_code == 0


DOCUMENTED = ("status", "top", "peers", "events", "logs", "pause", "resume", "finish", "stop", "limits", "snapshots",
              "export", "import", "demo", "completion", "version")  # fmt: skip


@pytest.mark.parametrize("name", DOCUMENTED)
def test_the_reference_has_every_command_and_option(name: str) -> None:
    reference = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
    section = reference.partition(f"### {name}\n")[2].partition("\n### ")[0]
    command = cli.get_command(click.Context(cli), name)
    assert section and command is not None
    common = {"--home", "--profile", "--all", "--json", "--help", "-h"}
    options = {text for option in command.params if isinstance(option, click.Option) for text in option.opts}
    assert not [option for option in options - common if f"`{option}" not in section], section
    for code in ("0", "1", "2", "130", "143"):
        assert f"\n| {code} |" in reference.partition("## Exit codes")[2] and f"\n  {code} " in str(cli.epilog)


def complete(words: str, home: Path) -> set[str]:
    typed = words.split(" ")
    environment = {
        "_LEARNAE_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(typed) - 1),
        "LEARNAE_HOME": str(home),
    }
    output = CliRunner().invoke(cli, [], prog_name="learnae", env=environment, complete_var="_LEARNAE_COMPLETE").stdout
    return {line.partition(",")[2] for line in output.splitlines() if line}


def test_completion_of_commands_profiles_cids_kinds_and_limits(tmp_path: Path) -> None:
    assert complete("learnae pa", tmp_path) == {"pause"}
    assert complete("learnae events --kind s", tmp_path) == {"state", "settled"}
    assert complete("learnae pin b", tmp_path) == set(), "nobody to ask, and nothing said"
    cuts = [{"cid": cid, "index": 1, "since": 1} for cid in ("bafyone", "bafytwo", "baf $(reboot)")]
    with canned(tmp_path, {"/api/snapshots": cuts, "/api/limits": {"upload": None, "hours": None}}, "lab"):
        (tmp_path / "other").mkdir()
        assert complete("learnae status --profile ", tmp_path) == {"lab"}
        assert complete("learnae pin bafy", tmp_path) == {"bafyone", "bafytwo"}
        assert complete("learnae export baf", tmp_path) == {"bafyone", "bafytwo"}
        assert complete("learnae limits set u", tmp_path) == {"upload="}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_a_shell_calls_learnae(shell: str) -> None:
    script = CliRunner().invoke(cli, ["completion", shell]).stdout
    assert f"_LEARNAE_COMPLETE={shell}_complete" in script and "learnae" in script


# --- pauses, ends, limits


def test_pauses_with_an_end(tmp_path: Path) -> None:
    with canned(tmp_path, {"/api/pause": {"accepted": "pause"}}) as source:
        assert learnae(tmp_path, "pause").stdout == "default: pause accepted\n"
        shown = learnae(tmp_path, "pause", "--for", "2h").stdout
        assert shown.startswith("default: pause accepted, until ") and shown.endswith("(2.0 h)\n")
        before = time.time()
        row = json.loads(learnae(tmp_path, "pause", "--for", "90s", "--json").stdout)
        assert row.pop("until") == pytest.approx(before + 90, abs=5)
        assert row == {"profile": "default", "accepted": "pause"}
        assert learnae(tmp_path, "pause", "--until", "12:00").exit_code == 0
    *paths, until = [path for _, path, _ in source.asked]
    assert paths == ["/api/pause", "/api/pause?seconds=7200", "/api/pause?seconds=90"]
    assert 0 < float(until.partition("=")[2]) <= 90_000
    assert source.headers[0]["Authorization"] == "Bearer secret"


def test_a_limit_that_goes_on_holding_is_said_on_resume(tmp_path: Path) -> None:
    reason = {"reason": "hours", "text": "it trains only in the hours sat\x1b[2J", "until": None}
    for reasons, more in (([], ""), ([reason], "default: still not training: it trains only in the hours sat")):
        with canned(tmp_path, {"/api/resume": {}, "/api/status": {"paused": {"reasons": reasons}}}):
            shown = learnae(tmp_path, "resume").stdout
        assert shown.startswith(f"default: resume accepted\n{more}") and "\x1b" not in shown
        assert ("still" in shown) == bool(reasons)


def test_the_other_verbs_in_json(tmp_path: Path) -> None:
    with canned(tmp_path, {"/api/resume": {}, "/api/finish": {}, "/api/stop": {}}) as source:
        for verb in ("resume", "finish", "stop"):
            assert json.loads(learnae(tmp_path, verb, "--json").stdout) == {"profile": "default", "accepted": verb}
    assert [path for _, path, _ in source.asked] == ["/api/resume", "/api/finish", "/api/stop"]


def test_waiting_for_an_end(tmp_path: Path) -> None:
    slept: list[float] = []
    with canned(tmp_path, {}):
        daemon = Daemon(tmp_path / "default", "", os.getpid(), "", "")
        assert not ended(daemon, 1.0, lambda: sum(slept), slept.append), "it still runs"
        assert 1.0 <= sum(slept) < 1.3
    gone = Daemon(tmp_path / "default", "", 2**22 + 1, "", "")
    assert ended(gone, 1.0, lambda: 0.0, lambda _: None)


LIMITS = {"hours": "22:00-07:00", "upload": "200kB/s", "cpu": None, "gpu": True, "nice": 10}


def test_limits_are_shown(tmp_path: Path) -> None:
    with canned(tmp_path, {"/api/limits": LIMITS}):
        for words in (("limits",), ("limits", "show")):
            _, *lines = learnae(tmp_path, *words).stdout.splitlines()
            assert [line.strip().split(None, 1) for line in lines] == [
                ["hours", "22:00-07:00"], ["upload", "200kB/s"], ["cpu", "no limit"], ["gpu", "on"], ["nice", "10"],
            ]  # fmt: skip
        answer = json.loads(learnae(tmp_path, "limits", "show", "--json").stdout)
        assert answer == {"profile": "default", "limits": LIMITS}


def test_limits_are_changed(tmp_path: Path) -> None:
    with canned(tmp_path, {"/api/limits": LIMITS}) as source:
        result = learnae(tmp_path, "limits", "set", "upload=200kB/s", "hours=22:00-07:00, sat", "idle-after=off")
        assert result.stdout.splitlines() == [
            "default: upload is now 200kB/s",
            "default: hours is now 22:00-07:00",
            "default: idle_after is now no limit",
        ]
        wanted = {"upload": "200kB/s", "hours": "22:00-07:00, sat", "idle_after": "off"}
        assert source.asked == [("PUT", "/api/limits", wanted)]
        source.answers["/api/limits"] = 404
        refused = learnae(tmp_path, "limits", "set", "upload=1")
        assert refused.exit_code == 1 and "refused" in refused.stderr


# --- events

STREAM = (
    b": hello\n\nid: 11\nevent: state\ndata: {\"time\": 1.7e9, \"state\": \"training\"}\n\n"
    b"event: nonsense\ndata: {\n\n"
    b"id: 12\nevent: message\ndata: {\"time\": 1.7e9,\ndata: \"level\": \"warning\", \"text\": \"\\u001b[2Jmind\"}\n\n"
)  # fmt: skip
PAST = [{"id": 10, "time": 1.7e9, "kind": "settled", "data": {"cut": {"index": 98, "cid": "bafkreiaaaaaasettled"}}}]


def test_events_of_the_past(tmp_path: Path) -> None:
    with canned(tmp_path, {"/api/events": PAST}) as source:
        shown = learnae(tmp_path, "events").stdout
        assert "settled  cut=98 (asettled)  #10" in shown
        assert json.loads(learnae(tmp_path, "events", "--since", "9", "--json").stdout) == PAST[0]
        assert learnae(tmp_path, "events", "--kind", "peer").stdout == ""
        assert source.asked[1][1] == "/api/events?since=9&wait=0"
        for nonsense in ([{"id": "x"}], [1], "no list"):
            source.answers["/api/events"] = nonsense
            result = learnae(tmp_path, "events")
            assert result.exit_code == 1 and "no events" in result.stderr


def test_events_that_follow_go_on_where_the_stream_broke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with canned(tmp_path, {"/api/events": STREAM, "past": PAST}) as source:

        def again(seconds: float) -> None:
            last = len(source.asked) > 2
            if last:
                (tmp_path / "default" / "status.json").unlink()
            source.answers["/api/events"] = b"" if last else b'id: 13\nevent: peer\ndata: {"peer": "12D3KooWxyz"}\n\n'

        monkeypatch.setattr("learnae.cli.watching.time.sleep", again)
        result = learnae(tmp_path, "events", "--follow")
    assert result.exit_code == 0 and "default: the daemon has ended" in result.stderr
    assert [line.rpartition("#")[2] for line in result.stdout.splitlines()] == ["10", "11", "12", "13"]
    assert "warning: \\x1b[2Jmind" in result.stdout and "\x1b" not in result.stdout
    assert [path for _, path, _ in source.asked] == [
        "/api/events?since=0&wait=0", "/api/events?since=10", "/api/events?since=12", "/api/events?since=13",
    ]  # fmt: skip
    assert source.headers[2]["Last-Event-ID"] == "12"


def test_a_stream_is_bounded() -> None:
    parser = Parser()
    assert [parser.feed(line) for line in ("id: 1", "data: " + "x" * (LONGEST + 1), "")] == [None] * 3
    for _ in range(10):
        parser.feed("data: " + "x" * LONGEST)
    parser.feed("")
    assert [parser.feed(line) for line in ("id: 2", 'data: {"time": 1}', "")][-1] == Event(2, "message", 1.0, {})
    assert [parser.feed(line) for line in ("id: 3", "data: " + "[" * 10_000, "")][-1] is None


def test_events_of_any_kind_are_said_in_words() -> None:
    data = {"accuracy": 0.5, "bytes_sent": 1200, "on": True, "of": None, "list": [1], "loss": 0.123456, "n": 3}
    shown = in_words(Event(1, "report", 0, data))
    assert shown == "accuracy=50.0%  bytes_sent=1.2kB  on=yes  of=-  list=[1]  loss=0.1235  n=3"
    for text in HOSTILE.values():
        for event in (Event(1, "message", 0, {"text": text, "level": text}), Event(1, text, 0, {text: text})):
            assert in_words(event).isprintable() and len(in_words(event)) <= 600


# --- status and peers


def test_status_says_why_it_is_paused_and_until_when(capsys: pytest.CaptureFixture[str]) -> None:
    reasons = [
        {"reason": "user", "text": "you paused it", "until": time.time() + 3601},
        {"reason": "hours", "text": "outside of its hours", "until": None},
    ]
    show_status(fake_status(state="paused", paused={"reasons": reasons}), Console(width=100))
    shown = capsys.readouterr().out
    assert "paused    you paused it, until " in shown and "(60 min left)" in shown
    assert "paused    outside of its hours\n" in "\n".join(line.rstrip() for line in shown.splitlines())
    older: tuple[Any, ...] = (None, {}, {"reasons": []})
    for old in older:
        show_status(fake_status(paused=old), Console(width=100))
        assert "paused " not in capsys.readouterr().out


NEW: dict[str, Any] = {
    "role": "trains",
    "samples_per_second": 120.4,
    "staleness": 1,
    "bytes_sent": 1234,
    "bytes_received": 5.6e6,
    "direction": "inbound",
}


def test_peers_show_what_is_known_of_them(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    daemon = Daemon(tmp_path / "default", "", 1, "", "t")
    show_peers(daemon, [peer(**NEW)], Console(width=200))
    shown = capsys.readouterr().out
    for text in ("trains", "120/s", "1 slot", "1.2 kB", "5.6 MB", "98 (asettled)", "/ip4/192.0.2.7/tcp/4117", "by it"):
        assert text in shown
    show_peers(daemon, [peer()], Console(width=200))
    shown = capsys.readouterr().out
    assert "training" in shown and not [text for text in ("rate", "stale", "sent", "dialled") if text in shown]


@pytest.mark.parametrize("width", [200, 100, 80, 60, 40])
def test_peers_fit(width: int, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    rows = [peer(**NEW), peer("bbbbbbbb", **NEW, connected=False)]
    show_peers(Daemon(tmp_path / "d", "", 1, "", "t"), rows, Console(width=width))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 or width < 100
    assert max(map(len, lines)) <= width and "aaaaaaaa" in lines[2]
    assert [column.heading for column in fitting(rows, 1000)] == [c.heading for c in COLUMNS if c.heading != "problem"]


def test_peers_are_sorted_with_the_unknown_last() -> None:
    rows = [peer("a", updates=3), peer("b", updates=None), peer("c", updates=10), peer("d", updates="x")]
    order = [row["peer"][-1] for row in ordered(rows, "updates")]
    assert order == ["a", "c", "b", "d"]
    assert [row["peer"][-1] for row in ordered(rows, "updates", backwards=True)] == ["c", "a", "b", "d"]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_peers_forge_nothing(name: str, tmp_path: Path) -> None:
    text = HOSTILE[name]
    rows = [
        peer(),
        peer("bbbbbbbb", state=text, role=text, problem=text, addresses=[text] * 9, direction=text, agent=text),
        peer(text, settled={"index": text, "cid": text}, updates=text, last_seen=text, staleness=text),
    ]
    message = {"time": text, "level": text, "text": text}
    status = fake_status(messages=[message], state=text, paused={"reasons": [{"reason": "user", "text": text}]})
    status |= {"refused": {text: 3}, "listen": [text], "topic": text, "profile": text}
    with canned(tmp_path, {"/api/peers": json.loads(json.dumps(rows)), "/api/status": status}):
        for verb in ("peers", "status"):
            result = learnae(tmp_path, verb, COLUMNS="80", FORCE_COLOR="1")
            assert result.exit_code == 0, result.output
            assert "owned" not in result.stdout or text.partition("owned")[0] not in result.stdout
            assert not [c for c in result.stdout if c in "\x07\x9b\r\u202e\u2066\u200b" or "֐" <= c <= "ۿ"]
            assert not [line for line in result.stdout.splitlines() if line.startswith("learnae: all is well")]
            as_json = learnae(tmp_path, verb, "--json").stdout
            assert as_json.isascii() and as_json.count("\n") == 1


def test_nothing_is_wrapped_or_coloured_for_programs(tmp_path: Path) -> None:
    with canned(tmp_path, {"/api/status": fake_status(), "/api/peers": [peer(problem="x " * 150, **NEW)]}):
        shown = learnae(tmp_path, "peers").stdout
        assert len(shown.splitlines()) == 3 and "\x1b" not in shown
        assert "\x1b" not in learnae(tmp_path, "status").stdout


def test_a_stranger_on_the_daemons_port_is_no_daemon(tmp_path: Path) -> None:
    with canned(tmp_path, {"/api/status": b"<html>"}):
        result = learnae(tmp_path, "status")
    assert result.exit_code == 1 and "Another program may have its port" in " ".join(result.stderr.split())
