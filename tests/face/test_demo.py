from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from learnae.cli.demo import Options, run
from learnae.errors import ConfigError
from netsim import processes

ROOT = Path(__file__).parents[2]
DAEMON = (sys.executable, "-m", "tests.face.fake_daemon")
CONTROL = (sys.executable, "-m", "tests.face.fake_control")


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = [str(ROOT), str(ROOT / "daemon"), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, path)))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    # What surrounds the demo must not leak into its daemons.
    monkeypatch.setenv("LEARNAE_PEER", "nonsense")
    monkeypatch.setattr("learnae.cli.demo.course.POLL_EVERY", 0.1)


def options(task: str, nodes: int = 3, report: Path | None = None) -> Options:
    task = task if task == "digits" else f"{__file__}:{task}"
    return Options(nodes=nodes, task=task, seconds=1, daemon=DAEMON, control=CONTROL, report=report)


def daemons(directory: Path) -> list[int]:
    """The process numbers of the demo's daemons, by the files in its directories."""
    files = directory.glob("learnae-demo-*/node*/default/status.json")
    return [int(json.loads(path.read_text())["pid"]) for path in files]


@pytest.fixture
def no_orphans() -> Iterator[None]:
    """What other tests of this process keep running, a browser for example, is not the demo's."""
    before = set(processes.descendants(os.getpid()))
    yield
    assert not [pid for pid in processes.descendants(os.getpid()) if pid not in before and processes.alive(pid)]


pytestmark = [
    pytest.mark.usefixtures("no_orphans"),
    pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc"),
]


def test_a_good_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(options("digits", report=tmp_path / "report.json")) == 0
    shown = capsys.readouterr().out
    assert "the same on all nodes: " + "0" * 64 in shown
    assert "swarm 97.0 %, each shard alone 60.0 % in the mean (+37.0 points)" in shown
    report = json.loads((tmp_path / "report.json").read_text())
    assert set(report) == {"seconds", "solo_accuracy", "consensus_accuracy", "fedavg_bytes_per_node", "nodes"}
    assert report["solo_accuracy"] == pytest.approx(0.6)
    assert report["consensus_accuracy"] == pytest.approx(0.97)
    rounds = sum(node["rounds"] for node in report["nodes"]) / 3
    assert report["fedavg_bytes_per_node"] == round(rounds * 2 * 4 * 17226)
    assert 1 < report["seconds"] < 60
    first = report["nodes"][0]
    assert first == {
        "peer": "12D3KooWFakeNode00000001",
        "accuracy": 0.97,
        "digest": "0" * 64,
        "rounds": first["rounds"],
        "bytes_sent": 5000,
        "bytes_received": 7000,
        "exit_code": 0,
    }
    assert not list(tmp_path.glob("learnae-demo-*"))


def test_a_node_that_dies_is_reported_with_its_log(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(options("crash")) == 1
    shown = capsys.readouterr().out
    assert "Node 2 died with exit code 9" in shown
    assert "the disk caught fire" in shown


def test_nodes_that_disagree_fail(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(options("differ", nodes=2)) == 1
    assert re.search(r"Weights +DIFFERENT", capsys.readouterr().out)


def test_daemons_that_cannot_start_end_the_demo(capsys: pytest.CaptureFixture[str]) -> None:
    broken = Options(nodes=2, seconds=60, daemon=(sys.executable, "-c", "raise SystemExit('no disk')"), control=CONTROL)
    assert run(broken) == 1
    assert "no disk" in capsys.readouterr().out


@pytest.mark.parametrize("task", ["hang", "stubborn"])
def test_a_node_that_does_not_finish_is_ended(
    task: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("learnae.cli.demo.course.FINISH_LIMIT", 0.5)
    monkeypatch.setattr("learnae.cli.demo.swarm.PATIENCE", 1.0)
    assert run(options(task, nodes=2)) == 1
    assert "did not end within 0.5 s" in capsys.readouterr().out


def test_a_comparison_that_fails_is_no_failure_of_the_swarm(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(options("fail", nodes=2)) == 0
    shown = capsys.readouterr().out
    assert "no such task" in shown and "each shard alone -" in shown


def test_a_report_that_cannot_be_written_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        run(options("digits", report=tmp_path / "none" / "report.json"))


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_no_process_outlives_the_demo(number: signal.Signals, code: int, tmp_path: Path) -> None:
    script = f"from learnae.cli.demo import Options, run; raise SystemExit(run({Options(seconds=60, daemon=DAEMON)!r}))"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert any("training: states" in line for line in process.stdout)
        nodes = daemons(tmp_path)
        assert len(nodes) == 4
        process.send_signal(number)
        assert process.wait(20) == code
    deadline = time.monotonic() + 20
    while any(map(processes.alive, nodes)):
        assert time.monotonic() < deadline, "daemons outlive the demo"
        time.sleep(0.05)
    if number != signal.SIGKILL:
        assert not list(tmp_path.glob("learnae-demo-*"))


def test_the_real_control_trains_shards_alone() -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    flags = ["--task", "digits", "--count", "4", "--skew", "0.3", "--seed", "0", "0:60", "2:0"]
    command = [sys.executable, "-m", "learnae.cli.demo.alone", *flags]
    answer = json.loads(subprocess.run(command, check=True, capture_output=True, env=environment).stdout)
    trained, untrained = answer["accuracies"]
    assert untrained < 0.3 < trained < 0.95
    assert answer["weights"] == 17226
