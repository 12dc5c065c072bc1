"""The course of a demo, from the first daemon to the verdict; called by the `learnae demo` command."""

from __future__ import annotations

import secrets
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import trio
from rich.console import Console

from learnae.cli.demo.control import Comparison, compare
from learnae.cli.demo.report import Report, build, same, vectors
from learnae.cli.demo.swarm import Node, Swarm, open_swarm
from learnae.cli.demo.view import Progress, show_report
from learnae.errors import ConfigError, TrainerError

POLL_EVERY = 1.0
START_LIMIT = 120.0
"""Seconds for all nodes to begin training, the import of torch included."""
FINISH_LIMIT = 60.0
"""Seconds for all nodes to complete their round and settle."""
CONTROL_LIMIT = 600.0


@dataclass(frozen=True, slots=True)
class Options:
    """What the user asked for; see `learnae demo --help`. `daemon` and `control` are the commands that it starts."""

    nodes: int = 4
    task: str = "digits"
    skew: float = 0.3
    seconds: float = 40.0
    seed: int = 0
    report: Path | None = None
    keep: bool = False
    daemon: tuple[str, ...] = (sys.executable, "-m", "learnaed")
    control: tuple[str, ...] = (sys.executable, "-m", "learnae.cli.demo.alone")


def run(options: Options) -> int:
    """Run a demo and print its result. Returns the exit code: 0, 1, or 128 plus the signal that ended it.

    Raises:
        ConfigError: the report could not be written where it is wanted; found out before, not after.
    """
    if options.report is not None and not options.report.absolute().parent.is_dir():
        raise ConfigError(
            f"{options.report} cannot be written: its directory does not exist. Create it first.",
            code="file-unwritable",
        )
    return trio.run(_run_until_signal, options)


async def _run_until_signal(options: Options) -> int:
    code = 1
    caught: int | None = None
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:

            async def watch() -> None:
                nonlocal caught
                async for number in signals:
                    caught = number
                    nursery.cancel_scope.cancel()

            nursery.start_soon(watch)
            with ExitStack() as stack:
                directory = Path(tempfile.mkdtemp(prefix="learnae-demo-"))
                if not options.keep:
                    stack.callback(shutil.rmtree, directory, ignore_errors=True)
                code = await _Demo(options, directory).run()
            nursery.cancel_scope.cancel()
    return code if caught is None else 128 + caught


class _Demo:
    def __init__(self, options: Options, directory: Path) -> None:
        self._options = options
        self._directory = directory
        self._console = Console(highlight=False)
        self._failed: set[int] = set()

    async def run(self) -> int:
        options = self._options
        started = trio.current_time()
        async with open_swarm() as swarm:
            with Progress(self._console, swarm) as progress:
                progress.say(
                    f"{options.nodes} daemons train {options.task} on this PC, on parts of its data split with "
                    f"Dirichlet alpha {options.skew:g}. They find each other by themselves."
                )
                if options.keep:
                    progress.say(f"Their directories stay in {self._directory}")
                await self._start(swarm)
                await self._follow(swarm, progress, "starting", START_LIMIT, lambda: _all_train(swarm))
                for node in swarm.running():
                    if not _trains(node):
                        self._fail(progress, node, f"did not begin to train within {START_LIMIT:g} s")
                await self._follow(swarm, progress, "training", options.seconds, lambda: False)
                await swarm.command("finish")
                await self._follow(swarm, progress, "finishing", FINISH_LIMIT, lambda: not any(swarm.running()))
                self._note_deaths(swarm, progress)
                late = list(swarm.running())
                await swarm.end()
                for node in swarm.nodes:
                    node.read_summary()
                progress.update("ended", force=True)
                for node in late:
                    self._fail(progress, node, f"did not end within {FINISH_LIMIT:g} s")
                alone = await self._compare(swarm, progress)
            report = build(swarm.nodes, trio.current_time() - started, alone.accuracies, alone.weights)
            show_report(self._console, report, swarm.nodes, alone.accuracies)
            if options.report is not None:
                report.write(options.report)
            return self._verdict(swarm, report)

    async def _start(self, swarm: Swarm) -> None:
        options = self._options
        topic = f"demo-{secrets.token_hex(4)}"
        for number in range(1, options.nodes + 1):
            flags = ["--topic", topic, "--task", options.task, "--shard", f"{number}/{options.nodes}"]
            flags += ["--skew", str(options.skew), "--seed", str(options.seed), "--torch-threads", "1"]
            flags += ["--listen", "/ip4/127.0.0.1/tcp/0", "--status-port", "0", "--ipfs", "off"]
            await swarm.start(options.daemon, self._directory / f"node{number}", flags)

    async def _follow(
        self, swarm: Swarm, progress: Progress, phase: str, seconds: float, done: Callable[[], bool]
    ) -> None:
        """Show the nodes for so many seconds, or until `done`, or until none is left."""
        first = True
        with trio.move_on_after(seconds):
            while True:
                await swarm.poll()
                self._note_deaths(swarm, progress)
                progress.update(phase, force=first)
                first = False
                if done() or not any(swarm.running()):
                    return
                await trio.sleep(POLL_EVERY)

    def _note_deaths(self, swarm: Swarm, progress: Progress) -> None:
        for node in swarm.nodes:
            if node.exit_code not in (None, 0) and node.number not in self._failed:
                self._fail(progress, node, f"died with exit code {node.exit_code}")

    def _fail(self, progress: Progress, node: Node, what: str) -> None:
        self._failed.add(node.number)
        progress.say(f"Node {node.number} {what}. The end of its log:\n{node.log_tail()}")

    async def _compare(self, swarm: Swarm, progress: Progress) -> Comparison:
        options = self._options
        steps = [int(node.part("trainer").get("steps") or 0) for node in swarm.nodes]
        if any(steps):
            progress.say("Training each shard alone, for comparison ...")
            try:
                with trio.move_on_after(CONTROL_LIMIT):
                    return await compare(options.control, options.task, options.skew, options.seed, steps)
                progress.say(f"The comparison was given up after {CONTROL_LIMIT:g} s.")
            except* TrainerError as group:
                progress.say(str(group.exceptions[0]))
        return Comparison((None,) * len(steps), None)

    def _verdict(self, swarm: Swarm, report: Report) -> int:
        agreed = same([entry.digest for entry in report.nodes]) and same(vectors(swarm.nodes))
        clean = not self._failed and all(node.exit_code == 0 for node in swarm.nodes)
        return 0 if agreed and clean else 1


def _trains(node: Node) -> bool:
    return node.state in ("training", "alone")


def _all_train(swarm: Swarm) -> bool:
    return all(_trains(node) for node in swarm.running())
