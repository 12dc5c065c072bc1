"""Scripts that go wrong beside a swarm that goes on: the user is told, nobody is poisoned, their daemon lives."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from netsim.daemons import ROOT, Node, Swarm

LOOPBACK = ("--topic", "t", "--task", "loop", "--listen", "/ip4/127.0.0.1/tcp/0", "--no-mdns", "--status-port", "0")


class Script:
    """A script that runs beside a daemon, and what it printed."""

    def __init__(self, name: str, home: Path, *arguments: str) -> None:
        self.output = home.parent / f"{home.name}-{'-'.join(arguments) or name}.out"
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name(name)), str(home), *arguments],
                env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "daemon")])},
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def text(self) -> str:
        return self.output.read_text(errors="replace")


def told(node: Node, words: str) -> Callable[[], bool]:
    """Whether the daemon has said this since, in its log."""
    before = node.log_text().count(words)
    return lambda: node.log_text().count(words) > before


def updates(node: Node) -> int:
    """In its ledger, of everybody."""
    status: dict[str, Any] = node.status()
    return int(status["ledger"]["updates"])


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_scripts_that_go_wrong_harm_nobody(tmp_path: Path) -> None:
    with Swarm(tmp_path) as swarm:
        good = swarm.start(*LOOPBACK, name="good")
        swarm.wait("the good one", lambda: good.status()["listen"], 30)
        peer = good.status()["listen"][0]
        bad = swarm.start(*LOOPBACK, "--peer", peer, "--limit", "ram=1GB", name="bad")
        well = Script("trouble.py", good.home, "well")
        scripts = [well]
        try:
            swarm.wait_rounds(2, 90, [good])

            def run(how: str) -> Script:
                scripts.append(Script("trouble.py", bad.home, how))
                return scripts[-1]

            # NaN: the round is dropped, the user told, and the script goes on.
            nan = told(bad, "became NaN or infinite")
            script = run("nan")
            swarm.wait("the daemon's word on NaN", nan, 90)
            (dropped,) = {line.split()[1] for line in script.text.splitlines()[-1:]}
            assert dropped == "1" and script.process.poll() is None
            rounds = bad.status()["trainer"]["rounds"]
            swarm.wait("rounds after NaN", lambda: bad.status()["trainer"]["rounds"] > rounds + 1, 60)
            script.process.kill()
            script.process.wait(10)

            # An error: the script's own, and the daemon's user is told.
            failed = told(bad, "ZeroDivisionError")
            script = run("raise")
            swarm.wait("the daemon's word on the error", failed, 90)
            assert script.process.wait(30) == 1 and "ZeroDivisionError: the script's own error" in script.text

            # It hangs: the daemon says so, and the others go on.
            hangs = told(bad, "has done no step for")
            script = run("hang")
            swarm.wait("the daemon's word on the script that hangs", hangs, 150)
            before = updates(good)
            swarm.wait("rounds of the others", lambda: updates(good) > before + 2, 30)
            script.process.kill()
            script.process.wait(10)

            # It leaks: its allocation fails at the limit, and the daemon lets the node rest.
            memory = told(bad, "needed more memory")
            script = run("leak")
            swarm.wait("the daemon's word on memory", memory, 120)
            assert script.process.wait(60) == 1, script.text[-2000:]
            swarm.wait("the rest", lambda: "memory" in str(bad.status()["paused"]["reasons"]), 30)

            assert well.process.poll() is None and bad.running and good.running
            good.command("pause")
            swarm.wait(
                "equal ledgers",
                lambda: good.status()["ledger"]["vector_digest"] == bad.status()["ledger"]["vector_digest"],
                60,
            )
            loss = good.status()["trainer"]["loss"]
            assert loss is not None and 0 <= loss < 1, "it has learned, and from nobody's NaN"
        finally:
            for script in scripts:
                if script.process.poll() is None:
                    script.process.kill()
                script.process.wait(10)
