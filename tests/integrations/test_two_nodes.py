"""Two nodes run the example of a framework: both learn what both have, and survive kill -9 of script and daemon."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
from functools import partial
from pathlib import Path

import psutil
import pytest
from safetensors import safe_open

from tests.examples.running import EXAMPLES, Running, running

NEEDS = {"finetune_lora.py": ("transformers", "peft"), "lightning_digits.py": ("lightning",)}
PER_SLOT = 20
"""Steps that an example does in a slot, at the least."""


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


def hear_each_other(*scripts: Running) -> None:
    """Each has something new of both."""
    for script in scripts:
        known: dict[str, int] = {}
        script.wait_for(partial(listen, script, known))
        script.wait_for(partial(grown, known, script))


def listen(script: Running, known: dict[str, int]) -> bool:
    known |= script.status["ledger"]["vector"]
    return True


def grown(before: dict[str, int], script: Running) -> bool:
    now: dict[str, int] = script.status["ledger"]["vector"]
    return len(now) == 2 and all(number > before.get(author, 0) for author, number in now.items())


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


@pytest.mark.timeout(500)
@pytest.mark.parametrize("example", NEEDS)
def test_two_nodes_learn_from_each_other(tmp_path: Path, example: str) -> None:
    with running(*two(tmp_path, example)) as (one, other):
        one.start()
        one.wait_for(lambda: one.trainer["rounds"] > 0)
        other.start(one.address)
        hear_each_other(one, other)
        agree(one, other)
    ended = [re.findall(r"^steps: (\d+), accuracy.*: (\d\.\d{3})$", script.said(), re.M) for script in (one, other)]
    (_, accuracy), (_, same) = ended[0] + ended[1]
    assert accuracy == same, "equal weights are equally good"


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("example", NEEDS)
def test_two_nodes_agree_after_scripts_and_daemons_were_killed(tmp_path: Path, example: str) -> None:
    with running(*two(tmp_path, example)) as (one, other):
        one.start()
        one.wait_for(lambda: one.trainer["rounds"] > 1)
        other.start(one.address)
        other.wait_for(lambda: saved(other) >= 3 * PER_SLOT)
        # The second script dies, and with it the daemon that was started for it.
        known, daemon = saved(other), other.door["pid"]
        other.kill()
        other.start(one.address)
        other.wait_for(lambda: other.door["pid"] != daemon and other.trainer["steps"] > 0)
        assert gone(daemon)
        assert other.trainer["steps"] >= known, "it goes on where its state was saved"
        # The first one's daemon dies: the script trains on alone, starts it again, and comes back.
        daemon, rounds = one.door["pid"], one.trainer["rounds"]
        os.kill(daemon, signal.SIGKILL)
        one.wait_for(lambda: one.door["pid"] != daemon and one.trainer["rounds"] > rounds + 1)
        hear_each_other(one, other)
        agree(one, other)


def saved(script: Running) -> int:
    """Steps in its saved state."""
    files = list(script.home.glob("*/trainer/*/trainer.safetensors"))
    if not files:
        return 0
    with safe_open(files[0], "numpy") as file:
        return int(file.get_tensor("counters")[2])  # after the samples of the swarm and the own rounds
