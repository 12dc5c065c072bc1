"""The commands of the tutorial, on loopback, as they stand in the docs: two PCs, of which each is a home of its own."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.examples.running import EXAMPLES, PATIENCE, ROOT, Running, loopback, running

COMMANDS = [
    line
    for block in re.findall(r"^```sh\n(.*?)^```", (ROOT / "docs" / "tutorial.md").read_text(), re.M | re.S)
    for line in block.splitlines()
]
MakePc = Callable[[str, str], Running]
ONE, TWO, ALONE = "--shard 1/2 --skew 0.1", "--shard 2/2 --skew 0.1", "--profile alone"


def command(ending: str) -> list[str]:
    """The command of the docs that ends so, for this Python."""
    (line,) = [line for line in COMMANDS if line.endswith(ending)]
    program, *arguments = shlex.split(line)
    start = {"learnae": ["-c", "from learnae.cli import main; main()"], "learnaed": ["-m", "learnaed"], "python": []}
    return start[program] + arguments


def do(home: Path, *arguments: str) -> str:
    """Run a command to its end; what it says."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=home.parent,
        env=loopback(home),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def pc(tmp_path: Path) -> MakePc:
    for name in ("spirals.py", "chart.py"):
        shutil.copy(EXAMPLES / name, tmp_path)

    def make(name: str, ending: str) -> Running:
        return Running(tmp_path / name, *command(ending))

    return make


def charted(node: Running) -> bool:
    with urllib.request.urlopen(f"{node.door['url']}/api/history", timeout=5) as answer:
        return b'"accuracy_averaged":0.' in answer.read().replace(b" ", b"")


def chart(one: Running, other: Running) -> bytes:
    *start, out = command("chart.png")
    urls = {"http://127.0.0.1:4118": one.door["url"], "http://127.0.0.1:4119": other.door["url"]}
    do(one.home, *(replaced(word, urls) for word in start), out)
    return (one.home.parent / out).read_bytes()


def replaced(word: str, urls: dict[str, Any]) -> str:
    for port, url in urls.items():
        word = word.replace(port, url)
    return word


def test_two_pcs_find_each_other_and_end_with_a_chart(pc: MakePc) -> None:
    one, two = pc("one", f"spirals.py:Spirals {ONE}"), pc("two", TWO)
    with running(one, two):
        one.start()
        one.wait_for(lambda: one.address)
        two.start(one.address)
        two.wait_for(lambda: len(two.status["ledger"]["vector"]) == 2 and two.trainer["metrics"])
        assert "spirals" in do(one.home, *command("learnae status"))
        one.wait_for(lambda: charted(one) and charted(two))
        assert chart(one, two).startswith(b"\x89PNG")
        do(one.home, *command("finish --all"))
        two.finish()
        one.end()
        two.end()
    assert one.summary["trainer"]["digest"] == two.summary["trainer"]["digest"] != ""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_whole_tutorial(pc: MakePc) -> None:
    one, two, alone = pc("one", f"spirals.py:Spirals {ONE}"), pc("two", TWO), pc("alone", ALONE)
    assert "FAIL" not in do(one.home, *command("check spirals.py:Spirals"))
    with running(one, two, alone):
        one.start()
        alone.start()
        one.wait_for(lambda: one.trainer["rounds"] > 2)
        two.start(one.address)
        two.wait_for(lambda: two.trainer["rounds"] > 60)
        assert len(do(one.home, *command("peers --profile default")).splitlines()) > 1
        chart(one, alone)
        for node in (one, two):
            assert node.trainer["accuracy_averaged"] > alone.trainer["accuracy_averaged"] + 0.1
        for node in (one, two, alone):
            do(node.home, *command("finish --all"))
        for node in (one, two, alone):
            node.end()
    do(one.home, *command("--profile default --task spirals.py:Spirals"))
    assert (one.home.parent / "spirals.safetensors").stat().st_size > 4 * 4612
    assert one.summary["trainer"]["digest"] == two.summary["trainer"]["digest"] != ""


def drawn(*arguments: str) -> None:
    """What chart.py does, in this process."""
    source = (EXAMPLES / "chart.py").read_text()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["chart.py", *arguments])
        exec(compile(source, "chart.py", "exec"), {"__name__": "__main__"})


def test_a_chart_without_matplotlib_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(SystemExit, match=re.escape("pip install 'learnae[sim]'")):
        drawn()


def test_a_chart_of_nothing_says_what_is_wrong() -> None:
    with pytest.raises(SystemExit, match=r"no daemon answers there .* is it running"):
        drawn("one=http://127.0.0.1:9")
