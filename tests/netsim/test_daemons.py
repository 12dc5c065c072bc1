"""The harness of the system tests, against a stand-in for the daemon: what it must notice, it notices."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from netsim import daemons, processes
from netsim.daemons import Swarm, SwarmError, Unreachable
from netsim.namespaces import Lab
from tests.lab import end, no_orphans

FAKE = Path(__file__).with_name("fake_daemon.py")


@pytest.fixture
def swarm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Swarm]:
    monkeypatch.setattr(daemons, "learnaed", lambda: [sys.executable, str(FAKE)])
    with Swarm(tmp_path) as swarm:
        yield swarm
    assert swarm.processes() == []


def test_a_daemon_is_started_watched_steered_and_stopped(swarm: Swarm) -> None:
    node = swarm.start()
    with pytest.raises(Unreachable):
        node.status()
    swarm.wait_ready()
    assert sorted(swarm.processes()) == sorted([node.pid, node.trainer])
    assert swarm.wait_equal()["state"] == "pause"
    swarm.resume()
    assert node.status()["state"] == "resume"
    assert swarm.finish() == [{"state": "settled"}]
    end(swarm)


@pytest.mark.netns
def test_in_a_namespace_too(swarm: Swarm) -> None:
    with Lab(1) as lab:
        swarm.lab = lab
        node = swarm.start(host="h1")
        swarm.wait_ready()
        assert set(lab.pids("h1")) == {node.pid, node.trainer}
        assert node.terminate()[0] == 0


def test_a_trainer_that_is_left_behind_is_noticed(swarm: Swarm) -> None:
    node = swarm.start("--forget-trainer")
    swarm.wait_ready()
    trainer = node.trainer
    assert swarm.strays() == {}
    assert node.terminate()[0] == 0
    assert list(swarm.strays()) == [trainer]
    with pytest.raises(AssertionError):
        no_orphans(swarm, 0)


def test_waiting_in_vain_says_for_what_and_shows_the_log(swarm: Swarm) -> None:
    node = swarm.start()
    swarm.wait_ready()
    with pytest.raises(SwarmError, match=r"(?s)waited for the moon: not within 0.3 s.*listening"):
        swarm.wait("the moon", lambda: False, 0.3)
    node.kill()
    with pytest.raises(SwarmError, match="waited for the moon: n1 ended"):
        swarm.wait("the moon", lambda: False, 5, [node])


def test_two_strangers_are_not_together(swarm: Swarm) -> None:
    swarm.start()
    swarm.start()
    swarm.wait_ready()
    with pytest.raises(SwarmError, match="2 nodes to be one swarm"):
        swarm.wait_together(0.3)
    assert not daemons.together(swarm.nodes)
    assert daemons.equal(swarm.nodes)


def test_signals_go_to_processes_of_the_swarm_alone(swarm: Swarm) -> None:
    node = swarm.start()
    swarm.wait_ready()
    trainer = node.trainer
    swarm.signal(trainer, signal.SIGKILL)
    swarm.wait("its end", lambda: not processes.alive(trainer), 5)
    with pytest.raises(ProcessLookupError):
        swarm.signal(os.getpid(), signal.SIGCONT)


def test_the_daemons_of_a_killed_owner_are_swept(swarm: Swarm) -> None:
    owner = subprocess.Popen([sys.executable, "-c", "pass"])
    owner.wait()
    orphan = subprocess.Popen(["sleep", "600"], env={**os.environ, daemons.MARK: f"{owner.pid}-1"})
    while processes.command_line(orphan.pid) != "sleep 600":
        time.sleep(0.01)  # until it has become `sleep`, with its environment
    daemons._sweep()
    assert orphan.wait(5) == -signal.SIGKILL


def test_processes_are_measured() -> None:
    script = "data = bytearray(50_000_000); del data; sum(range(3_000_000)); print(flush=True); input()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", script], **pipes) as child:  # type: ignore[call-overload]
        child.stdout.readline()
        assert 1e6 < processes.resident(child.pid) < 50e6 < processes.peak(child.pid)
        assert processes.cpu_seconds(child.pid) > 0
        assert child.pid in processes.descendants(os.getpid())
        assert any(name.startswith(("python", "libc")) for name in processes.libraries(child.pid))
        child.communicate(b"\n")
    assert not processes.alive(child.pid)
    assert processes.descendants(child.pid) == []
