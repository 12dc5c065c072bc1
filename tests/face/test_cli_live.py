"""Every verb of `learnae` against one real daemon on loopback, in a real terminal where one is needed."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from learnae.cli import cli
from netsim.daemons import Node, Swarm
from tests.face.terminal import Terminal
from tests.lab import LOCAL

# One after the other, and in this order: the last one ends the daemon.
FLAGS = ("--topic", "live", "--task", "digits", "--profile", "lab", "--ipfs", "off", "--torch-threads", "1", *LOCAL)


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Swarm, Node]]:
    """A daemon that trains."""
    with Swarm(tmp_path_factory.mktemp("live")) as swarm:
        yield swarm, swarm.start(*FLAGS, name="lab")


def learnae(node: Node, *arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments), env={"LEARNAE_HOME": str(node.home), "COLUMNS": "100"})


def said(node: Node, *arguments: str) -> str:
    """What it says, if it does what it is told."""
    result = learnae(node, *arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def told(node: Node, *arguments: str) -> Any:
    """The same as JSON, of one line."""
    (line,) = said(node, *arguments, "--json").splitlines()
    return json.loads(line)


def until(right: Callable[[], Any], seconds: float = 90) -> Any:
    """What this gives as soon as it gives something."""
    deadline = time.monotonic() + seconds
    while not (result := right()):
        assert time.monotonic() < deadline, "it has not come"
        time.sleep(0.2)
    return result


def test_status_peers_and_events(live: tuple[Swarm, Node]) -> None:
    _, node = live
    until(lambda: learnae(node, "status").exit_code == 0)
    until(lambda: told(node, "status")["state"] == "alone" and told(node, "status")["trainer"]["accuracy"] is not None)
    shown = said(node, "status")
    assert shown.startswith("lab  alone  topic live, task digits") and "accuracy" in shown
    assert said(node, "peers") == "lab: no peer known yet on topic live; it keeps looking\n"
    assert told(node, "peers") == {"profile": "lab", "peers": []}
    rows = [json.loads(line) for line in said(node, "events", "--json").splitlines()]
    assert {"state", "report"} <= {row["kind"] for row in rows}
    assert [row["id"] for row in rows] == sorted(row["id"] for row in rows)
    later = said(node, "events", "--since", str(rows[-2]["id"]), "--json").splitlines()
    assert json.loads(later[0]) == rows[-1]
    assert said(node, "events", "--kind", "state").count(" state ") >= 1


def test_logs(live: tuple[Swarm, Node]) -> None:
    _, node = live
    assert "trainer ready" in said(node, "logs", "-n", "500")
    rows = [json.loads(line) for line in said(node, "logs", "--json", "-n", "500").splitlines()]
    assert any(row["event"] == "ready" and row["topic"] == "live" for row in rows)


def test_pause_with_an_end_and_resume(live: tuple[Swarm, Node]) -> None:
    _, node = live
    before = time.time()
    assert told(node, "pause", "--for", "1h")["until"] == pytest.approx(before + 3600, abs=10)
    until(lambda: told(node, "status")["state"] == "paused")
    (reason,) = told(node, "status")["paused"]["reasons"]
    assert reason["reason"] == "user" and reason["until"] == pytest.approx(before + 3600, abs=10)
    assert ", until " in said(node, "status") and "(60 min left)" in said(node, "status")
    assert told(node, "resume") == {"profile": "lab", "accepted": "resume"}
    until(lambda: told(node, "status")["state"] == "alone")


def test_limits(live: tuple[Swarm, Node]) -> None:
    _, node = live
    assert "upload" in told(node, "limits")["limits"]
    assert "lab: upload is now 200kB/s" in said(node, "limits", "set", "upload=200kB/s")
    assert told(node, "limits", "show")["limits"]["upload"] == "200kB/s"
    assert told(node, "limits", "set", "upload=off")["limits"]["upload"] is None
    wrong = learnae(node, "limits", "set", "upload=nonsense")
    assert wrong.exit_code == 1 and "upload" in wrong.stderr
    assert learnae(node, "limits", "set", "uplaod=1MB/s").exit_code == 1


def test_the_model(live: tuple[Swarm, Node], tmp_path: Path) -> None:
    _, node = live
    row = until(lambda: told(node, "snapshots")["snapshots"])[-1]
    assert row["cid"] in said(node, "snapshots")
    assert told(node, "pin", row["cid"])["pinned"]
    car = tmp_path / "cut.car"
    assert told(node, "export", "--car", row["cid"], str(car)) == {
        "file": str(car), "cid": row["cid"], "bytes": car.stat().st_size,
    }  # fmt: skip
    assert told(node, "import", str(car))["index"] == row["index"]
    assert said(node, "unpin", row["cid"]) == "unpinned\n"
    assert learnae(node, "pin", "no-cid").exit_code == 1


@pytest.mark.slow
def test_top_in_a_terminal_outlives_the_daemon(live: tuple[Swarm, Node]) -> None:
    swarm, node = live
    home = str(node.home)
    with Terminal("top", LEARNAE_HOME=home) as top, Terminal("events", "-f", LEARNAE_HOME=home) as events:
        shown = top.until(lambda text: all(word in text for word in ("%", "settled up to", "q quit")))
        assert "lab  alone  topic live, task digits" in shown and "no peer known yet" in shown
        assert shown.splitlines()[-1].split()[:2] == ["p", "pause"] and len(shown.splitlines()) == 24
        top.resize(40, 24)
        shown = top.until(lambda text: " updates" in text and max(map(len, text.splitlines())) <= 40)
        assert "lab  alone" in shown and "accuracy" in shown and "refused" in shown
        top.resize(80, 24)
        top.until(lambda text: "q quit" in text)
        top.press("p")
        top.until(lambda text: "Pause for how long?" in text)
        top.press("2h\r")
        top.until(lambda text: "lab  paused" in text and "(120 min left)" in text)
        top.press("r")
        top.until(lambda text: "lab  alone" in text)
        events.until(lambda text: " paused " in text)

        # The daemon is this test's child: somebody must take its exit code for it to be gone.
        reaper = threading.Thread(target=node.process.wait)
        reaper.start()
        assert told(node, "stop", "--wait") == {"profile": "lab", "accepted": "stop", "ended": True}
        reaper.join(10)
        assert node.process.returncode == 0
        assert events.ended() == 0 and "lab: the daemon has ended" in events.shown
        top.until(lambda text: "does not run now" in text and "accuracy" in text)

        node = swarm.start(*FLAGS, name="lab")
        top.until(lambda text: "does not run now" not in text and "up " in text)
        top.press("\x03")
        assert top.ended() == 130
        assert b"\x1b[?1049l" in top.sent, "the screen from before is back"


@pytest.mark.slow
def test_status_finish_and_logs_in_a_terminal(live: tuple[Swarm, Node]) -> None:
    swarm, _ = live
    node = swarm.nodes[-1]
    home = str(node.home)
    for columns in (80, 40):
        with Terminal("status", columns=columns, lines=60, LEARNAE_HOME=home) as status:
            assert status.ended() == 0 and "lab  " in status.shown and b"\x1b[" in status.sent
        with Terminal("status", columns=columns, lines=60, LEARNAE_HOME=home, NO_COLOR="1") as status:
            assert status.ended() == 0 and b"\x1b[3" not in status.sent
    with Terminal("logs", "-f", "-n", "5", LEARNAE_HOME=home) as log:
        log.until(lambda text: "ready" in text)
        assert said(node, "finish") == "lab: finish accepted\n"
        log.until(lambda text: "asked to finish" in text)
        log.press("\x03")
        assert log.ended() == 130
    assert node.exit_code(40) == 0
    for verb in ("status", "finish", "events"):
        gone = learnae(node, verb)
        assert gone.exit_code == 1 and "no daemon runs here" in gone.stderr
    assert "bye" in said(node, "logs"), "also of a daemon that has ended"
