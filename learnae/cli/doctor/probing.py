"""Imports torch and loads the task in a process of its own, which may hang or crash; used by `gathering`."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Mapping

from learnae.cli.doctor.facts import Training

_SECONDS = 90.0
_COMMAND = (sys.executable, "-m", "learnae.cli.doctor.probe")


def training(task: str | None, data: str | None, environment: Mapping[str, str]) -> Training:
    """What came of it. Torch is imported once per task, however many daemons are looked at."""
    words = (*((task,) if task else ()), *((str(data),) if task and data else ()))
    return _ask(words, tuple(sorted(environment.items())))


@functools.lru_cache(maxsize=8)
def _ask(words: tuple[str, ...], environment: tuple[tuple[str, str], ...]) -> Training:
    try:
        result = subprocess.run(
            [*_COMMAND, *words],
            env=dict(environment),
            capture_output=True,
            timeout=_SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        return Training(None, torch_error=f"it took more than {_SECONDS:.0f} s", task=words[0] if words else None)
    except OSError as error:
        return Training(None, torch_error=f"no process can be started: {error}")
    answers = [json.loads(line) for line in result.stdout.decode(errors="replace").splitlines() if line[:1] == "{"]
    if not answers:
        return Training(None, torch_error=_end(result))
    torch, *task = answers
    last = task[-1] if task else {}
    if words and not task and torch["torch"]:
        last = {"code": "task-failed", "error": f"the process that loaded it ended: {_end(result)}"}
    return Training(
        torch["torch"],
        tuple(torch["devices"]),
        torch["error"],
        words[0] if words and torch["torch"] else None,
        last.get("code"),
        last.get("error"),
    )


def _end(result: subprocess.CompletedProcess[bytes]) -> str:
    code = result.returncode
    lines = result.stderr.decode(errors="replace").strip().splitlines()
    how = f"killed by signal {-code}" if code < 0 and os.name == "posix" else f"exit code {code}"
    return f"{how}: {lines[-1][:300]}" if lines else how
