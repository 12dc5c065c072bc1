"""The example of the docs: as few changed lines as they say, and a script that runs. As a module, it writes them."""

from __future__ import annotations

import difflib
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs" / "train-your-own.md"
BLOCK = re.compile(r"```diff\n.*?```\n", re.DOTALL)


def difference() -> list[str]:
    before, after = (ROOT / "examples" / name for name in ("plain_loop_before.py", "plain_loop.py"))
    old, new = (path.read_text().splitlines() for path in (before, after))
    return list(difflib.unified_diff(old, new, before.name, after.name, lineterm="", n=1))


def written() -> str:
    return BLOCK.sub(lambda _: "```diff\n" + "\n".join(difference()) + "\n```\n", DOCS.read_text(), count=1)


def test_the_docs_show_the_difference_of_the_two_examples() -> None:
    assert DOCS.read_text() == written(), "run `python -m tests.loop.test_plain_loop`"


def test_a_loop_of_thirty_lines_takes_at_most_five_changed_ones() -> None:
    assert len((ROOT / "examples" / "plain_loop_before.py").read_text().splitlines()) <= 32
    changed = [line[1:] for line in difference() if line[0] == "+" and not line.startswith("+++")]
    assert 0 < len([line for line in changed if line.strip()]) <= 5


def test_the_example_runs(tmp_path: Path) -> None:
    """On loopback and for a few steps: the variables are those of the daemon, which the script starts."""
    text = (ROOT / "examples" / "plain_loop.py").read_text()
    assert text.count("20_000") == 1
    script = tmp_path / "plain_loop.py"
    script.write_text(text.replace("20_000", "300"))
    variables = {
        "LEARNAE_HOME": str(tmp_path / "home"),
        "LEARNAE_LISTEN": "/ip4/127.0.0.1/tcp/0",
        "LEARNAE_MDNS": "false",
        "LEARNAE_STATUS_PORT": "0",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "daemon")]),
    }
    done = subprocess.run(
        [sys.executable, str(script)], env={**os.environ, **variables}, capture_output=True, text=True, timeout=110
    )
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"accuracy: \d\.\d{3}\n", done.stdout)
    (summary,) = (tmp_path / "home").glob("*/summary.json")
    assert '"steps": 300' in summary.read_text()


if __name__ == "__main__":
    DOCS.write_text(written())
