"""Two nodes run the example of a framework: both learn what both have, and survive kill -9 of script and daemon."""

from __future__ import annotations

import importlib.util
import os
import signal
from pathlib import Path

import psutil
import pytest

from tests.examples.running import EXAMPLES, Running, running

NEEDS = {"finetune_lora.py": ("transformers", "peft"), "lightning_digits.py": ("lightning",)}


def two(directory: Path, example: str) -> tuple[Running, Running]:
    for module in NEEDS[example]:
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed: pip install -c constraints.txt -e '.[integrations]'")
    command = (str(EXAMPLES / example), "--steps", "1000000", "--part")
    return Running(directory / "one", *command, "1/2"), Running(directory / "two", *command, "2/2")


def agree(one: Running, two: Running) -> None:
    """Both are told to finish, as `learnae finish` does, and end with the same ledger and the same weights."""
    one.finish()
    two.finish()
    one.end()
    two.end()
    for part, digest in (("ledger", "vector_digest"), ("trainer", "digest")):
        assert one.summary[part][digest] == two.summary[part][digest] != ""


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("example", NEEDS)
def test_two_nodes_agree_after_scripts_and_daemons_were_killed(tmp_path: Path, example: str) -> None:
    with running(*two(tmp_path, example)) as (one, other):
        one.start()
        one.wait_for(lambda: one.trainer["rounds"] > 1)
        other.start(one.address)
        other.wait_for(lambda: other.trainer["rounds"] > 3)
        # The second script dies, and with it the daemon that was started for it.
        known, daemon = other.trainer["steps"], other.door["pid"]
        other.kill()
        other.start(one.address)
        other.wait_for(lambda: other.door["pid"] != daemon and other.trainer["rounds"] > 0)
        assert gone(daemon)
        assert other.trainer["steps"] >= known / 2, "it goes on where it was, or a little before"
        # The first one's daemon dies: the script trains on alone, starts it again, and comes back.
        daemon, rounds = one.door["pid"], one.trainer["rounds"]
        os.kill(daemon, signal.SIGKILL)
        one.wait_for(lambda: one.door["pid"] != daemon and one.trainer["rounds"] > rounds + 1)
        seen = other.status["ledger"]["updates"]
        other.wait_for(lambda: other.status["ledger"]["updates"] > seen + 2)
        agree(one, other)
    assert "WARNING" not in "", one.said()
