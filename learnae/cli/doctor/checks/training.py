"""Memory, torch, the task, the trainer process, and whether it gets on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from learnae.cli.doctor.checks.disk import size
from learnae.cli.doctor.facts import Facts
from learnae.cli.doctor.verdict import Verdict, fail, ok, skip, warn

BASE = 600 * 1024**2
"""What a trainer needs before its model: Python, torch, some data."""
PER_WEIGHT = 40
"""Bytes: weights, base, replica, gradient, momentum, what is pending, and AdamW's two, as four bytes each; and room."""
SILENCE = 120.0
"""Seconds after its start in which a trainer may be busy with loading."""


def memory(facts: Facts) -> Iterator[Verdict]:
    """There is memory for the trainer."""
    found = facts.memory
    if found is None:
        yield skip("memory", "this system does not tell")
        return
    status = facts.running.status if facts.running else {}
    trains = (status.get("trainer") or {}).get("state") == "running"
    needed = BASE // 4 if trains else BASE + PER_WEIGHT * int(status.get("parameters") or 0)
    text = f"{size(found.available)} of {size(found.total)} available"
    if found.available < needed:
        more = "for what may come" if trains else "for the trainer"
        yield warn(
            "memory",
            f"{text}, about {size(needed)} are needed {more}: the system may kill it",
            "close other programs, or train a smaller model or batch",
        )
    else:
        yield ok("memory", text)


def torch(facts: Facts) -> Iterator[Verdict]:
    """Torch can be imported."""
    found = facts.training
    if found is None:
        yield skip("torch", "it was not tried")
    elif found.torch is None:
        yield fail(
            "torch",
            f"torch cannot be imported: {found.torch_error}",
            "install it again into the environment of learnae: pip install --force-reinstall torch",
        )
    else:
        yield ok("torch", f"{found.torch}; {', '.join(found.devices)}")


def task(facts: Facts) -> Iterator[Verdict]:
    """The task can be loaded."""
    found = facts.training
    if found is None or found.task is None:
        if facts.running is not None and _trainer(facts).get("state") == "running":
            yield ok("task", f"{facts.running.status.get('task')} is loaded and trains")
        else:
            yield skip("task", "it is not known which, or torch is missing")
    elif found.task_code is not None:
        yield fail(
            "task",
            f"[{found.task_code}] {found.task_error}",
            f"correct the task {found.task} as the line says, and start the daemon again",
        )
    else:
        yield ok("task", f"{found.task} can be loaded")


def trainer(facts: Facts) -> Iterator[Verdict]:
    """The trainer process lives."""
    found = _trainer(facts)
    if not found:
        yield skip("trainer", "no daemon runs")
        return
    restarts, why = int(found.get("restarts") or 0), found.get("last_error") or "it did not say why"
    log = facts.profile / "learnaed.log"
    if found.get("state") == "restarting":
        memory = "SIGKILL" in why
        remedy = "make more memory free, or use a smaller model or batch" if memory else f"correct what {log} shows"
        yield fail("trainer", f"it keeps ending, {restarts} times so far: {why}", remedy)
    elif restarts:
        yield warn("trainer", f"it was started again {restarts} times: {why}", f"look into {log} if it goes on")
    else:
        yield ok("trainer", f"{found.get('state')}, process {found.get('pid')}")


def progress(facts: Facts) -> Iterator[Verdict]:
    """It trains, or one knows why not."""
    running = facts.running
    if running is None:
        yield skip("progress", "no daemon runs")
        return
    status, found = running.status, _trainer(facts)
    fetching = (status.get("snapshots") or {}).get("fetching")
    if reasons := _paused(status):
        yield warn("progress", f"paused: {'; '.join(reasons)}", "learnae resume, or change what pauses it (limits)")
    elif _driver(status, "store_waiting"):
        yield fail(
            "progress",
            "the database cannot be written, and nothing is published until it can",
            "make room on the disk, or give its file back to this user",
        )
    elif fetching:
        done = 100 * fetching.get("done", 0) / max(fetching.get("size") or 1, 1)
        yield ok("progress", f"fetches a snapshot, {done:.0f} % are here; training begins after that")
    elif not found.get("steps") and float(status.get("uptime") or 0) > SILENCE:
        yield fail(
            "progress",
            f"no step was trained in {float(status['uptime']):.0f} s, the state is {status.get('state')}",
            f"look into {facts.profile / 'learnaed.log'}: data that load slowly, or a task whose batches() gives none",
        )
    else:
        yield ok(
            "progress", f"{found.get('rounds', 0)} rounds, {found.get('steps_per_second') or 0:.1f} steps a second"
        )


def _paused(status: Mapping[str, Any]) -> list[str]:
    told = (status.get("paused") or {}).get("reasons") or []
    reasons = [f"{one.get('text') or one.get('reason')}{_until(one.get('until'))}" for one in told]
    return reasons or (["by the user"] if status.get("state") == "paused" else [])


def _until(moment: float | None) -> str:
    return f" (until {datetime.fromtimestamp(moment):%H:%M})" if moment else ""


def _trainer(facts: Facts) -> Mapping[str, Any]:
    return (facts.running.status.get("trainer") or {}) if facts.running else {}


def _driver(status: Mapping[str, Any], name: str) -> Any:
    return (status.get("driver") or {}).get(name)
