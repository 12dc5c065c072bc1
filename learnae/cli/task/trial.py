"""A dry run of a task: what a swarm would ask of it, tried in this process; used by `learnae task check`."""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import psutil
import torch
from torch import nn

from learnae.cli.doctor.verdict import Verdict, fail, ok, warn
from learnae.errors import LearnaeError
from learnae.learner import Learner
from learnae.task import Shard, Task, load_task

T = TypeVar("T")

_FEW_STEPS = 4
"""Steps in a slot below which rounds say little."""
_MEGABYTE = 1e6


class Broken(Exception):
    """The task does not work; the verdict says why."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.text)
        self.verdict = verdict


class Trial:
    """One trial of the task ``spec``. ``traceback`` is that of the user's own code, if it raised.

    ``data``, ``shard``: as for the daemon. ``seconds``: how long to do local steps.
    """

    def __init__(self, spec: str, data: Path | None, shard: str, seconds: float) -> None:
        self.traceback = ""
        self._spec, self._data, self._shard_text, self._seconds = spec, data, shard, seconds

    def verdicts(self) -> Iterator[Verdict]:
        """Try one thing after another; the first that fails is the last."""
        try:
            yield from self._try_all()
        except Broken as broken:
            yield broken.verdict

    def _try_all(self) -> Iterator[Verdict]:
        shard = self._do("shard", lambda: Shard.parse(self._shard_text))
        task = self._do("task", lambda: load_task(self._spec, self._data))
        yield ok("task", f"{task.name}: {type(task).__name__} in {self._spec.rpartition(':')[0] or 'learnae'}")
        learner = self._do("model", lambda: Learner(task, shard))
        yield from self._model(task, shard, learner)
        yield from self._data_of(task, shard)
        yield from self._steps(task, learner)
        yield from self._evaluation(task, learner)
        yield from self._round(task, shard, learner)
        peak = psutil.Process().memory_info().rss
        yield ok("memory", f"{peak / _MEGABYTE:.0f} MB in this process, torch included")

    def _do(self, check: str, call: Callable[[], T]) -> T:
        """Call the user's code; what it raises becomes the last verdict."""
        try:
            return call()
        except LearnaeError as error:
            if error.__cause__ is not None:
                self.traceback = _own_frames(error.__cause__)
            raise Broken(fail(check, str(error), "correct it, and try again")) from error
        except Exception as error:
            self.traceback = _own_frames(error)
            text = f"your code raised {type(error).__name__}: {error}"
            raise Broken(fail(check, text, "the traceback is below")) from error

    def _model(self, task: Task, shard: Shard, learner: Learner) -> Iterator[Verdict]:
        layout = learner.layout
        again = self._do("model", lambda: Learner(task, shard, seed=1))
        if again.genesis_digest != learner.genesis_digest:
            raise Broken(
                fail(
                    "model",
                    "model() makes other initial weights each time, so no two nodes could train together",
                    "draw them from torch's random numbers only, which are seeded before the call",
                )
            )
        device = next(learner.model.parameters()).device
        text = f"{layout.size:,} weights in {len(layout.tensors)} tensors are shared, on {device}"
        local = ", ".join(tensor.name for tensor in layout.local[:3]) + (" ..." if len(layout.local) > 3 else "")
        yield ok("model", text + (f"; {len(layout.local)} stay local ({local})" if layout.local else ""))

    def _data_of(self, task: Task, shard: Shard) -> Iterator[Verdict]:
        began = time.perf_counter()
        first = self._do("data", lambda: next(task.batches(shard, 0), None))
        took = time.perf_counter() - began
        second = self._do("data", lambda: next(task.batches(shard, 0), None))
        if first is None:
            raise Broken(fail("data", "batches() gave no batch", "let it go on for ever, epoch after epoch"))
        size = self._do("data", lambda: task.batch_size(first))
        if type(size) is not int or size < 1:
            raise Broken(fail("data", f"a batch has {size!r} samples", "let batch_size() return their number"))
        yield ok("data", f"{size} samples a batch ({_shapes(first)}), the first after {took:.1f} s")
        if not _equal(first, second):
            yield warn(
                "data",
                "the first batch is another one each time, so a restarted node sees other data than it would have",
                "let batches() draw from a generator of its own, seeded with the seed that it is given",
            )

    def _steps(self, task: Task, learner: Learner) -> Iterator[Verdict]:
        first = self._do("steps", learner.step)
        idle = [name for name, p in learner.model.named_parameters() if p.requires_grad and p.grad is None]
        losses, began = [first], time.perf_counter()
        while len(losses) < 3 or time.perf_counter() - began < self._seconds:
            losses.append(self._do("steps", learner.step))
        rate = (len(losses) - 1) / (time.perf_counter() - began)
        if not all(map(math.isfinite, losses)):
            raise Broken(
                fail(
                    "steps",
                    f"the loss became {next(x for x in losses if not math.isfinite(x))} after "
                    f"{next(i for i, x in enumerate(losses, 1) if not math.isfinite(x))} steps",
                    "lower the learning rate, or look for bad samples in the data",
                )
            )
        samples = learner.round_samples / len(losses)
        yield ok("steps", f"{rate:,.1f} a second here, {rate * samples:,.0f} samples a second")
        if idle:
            names = ", ".join(idle[:3]) + (" ..." if len(idle) > 3 else "")
            yield warn(
                "steps",
                f"{len(idle)} shared tensors got no gradient: {names}",
                "use them in loss(), or freeze them with requires_grad_(False) to keep them local",
            )
        part = max(1, len(losses) // 5)
        before, after = sum(losses[:part]) / part, sum(losses[-part:]) / part
        if after < before:
            yield ok("learning", f"the training loss fell from {before:.4g} to {after:.4g} in {len(losses)} steps")
        else:
            yield warn(
                "learning",
                f"the training loss did not fall: {before:.4g}, then {after:.4g}, in {len(losses)} steps",
                "try for longer with --seconds; if it stays so, try another learning rate",
            )
        in_slot = min(rate * task.slot_seconds, task.round_steps or math.inf)
        if in_slot < _FEW_STEPS:
            yield warn(
                "slots",
                f"{in_slot:.1f} steps fit into a slot of {task.slot_seconds:g} s here",
                "set a longer slot_seconds: each slot ends with an exchange",
            )
        else:
            yield ok("slots", f"about {in_slot:.0f} steps in a slot of {task.slot_seconds:g} s here")

    def _round(self, task: Task, shard: Shard, learner: Learner) -> Iterator[Verdict]:
        began = time.perf_counter()
        done = self._do("round", lambda: learner.finish_round(1.0))
        took = time.perf_counter() - began
        size = sum(map(len, done.parts))
        learner.accept(learner.payload(done.norm, done.parts), done.samples)
        other = self._do("round", lambda: Learner(task, shard, seed=2))
        other.apply(other.payload(done.norm, done.parts), done.samples)
        if other.replica.digest() != learner.replica.digest():
            raise Broken(fail("round", "two replicas differ after the same update", "report this: it is a defect"))
        dense = 4 * learner.layout.size
        yield ok(
            "round", f"an update has {size:,} bytes, 1/{dense / max(size, 1):.0f} of the model; made in {took:.2f} s"
        )
        hourly = size * 3600 / task.slot_seconds / _MEGABYTE
        rates = ", ".join(f"{(nodes - 1) * hourly:,.1f} MB with {nodes}" for nodes in (2, 8, 32))
        yield ok("traffic", f"a node receives at most {rates} nodes in an hour, if all send every slot")

    def _evaluation(self, task: Task, learner: Learner) -> Iterator[Verdict]:
        began = time.perf_counter()
        figures = self._do("evaluation", lambda: _evaluate(task, learner.model))
        took = time.perf_counter() - began
        wrong = not isinstance(figures, dict) or not all(
            isinstance(name, str) and isinstance(value, int | float) for name, value in figures.items()
        )
        if wrong:
            raise Broken(
                fail("evaluation", f"evaluate() returned {figures!r}", 'return numbers by name: {"loss": 0.5}')
            )
        yield ok("evaluation", ", ".join(f"{name} {value:.4g}" for name, value in figures.items()) or "no figures")
        if took > task.slot_seconds:
            yield warn(
                "evaluation",
                f"it takes {took:.1f} s, longer than a slot",
                "evaluate on fewer samples; it is done less often otherwise",
            )


def _evaluate(task: Task, model: nn.Module) -> Any:
    model.eval()
    with torch.no_grad():
        return task.evaluate(model)


def _shapes(batch: Any) -> str:
    parts = batch if isinstance(batch, list | tuple) else list(batch.values()) if isinstance(batch, dict) else [batch]
    return ", ".join(
        f"{str(part.dtype).removeprefix('torch.')}{list(part.shape)}"
        if isinstance(part, torch.Tensor)
        else type(part).__name__
        for part in parts
    )


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    if isinstance(one, list | tuple):
        return isinstance(other, list | tuple) and len(one) == len(other) and all(map(_equal, one, other))
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(_equal(one[k], other[k]) for k in one)
    return bool(one == other)


def _own_frames(error: BaseException) -> str:
    """The traceback without learnae's own frames before the user's."""
    told = traceback.TracebackException.from_exception(error)
    package = str(Path(__file__).parents[2])
    frames = list(told.stack)
    while len(frames) > 1 and frames[0].filename.startswith((package, "<frozen")):
        frames.pop(0)
    told.stack = traceback.StackSummary.from_list(frames)
    return "".join(told.format(chain=False))
