"""Stands in for `python -m learnaed` in the demo's tests: the same flags, files and API, but it only pretends to train.

It takes its behaviour from the name of the task's class: "crash" dies on shard 2, "differ" ends with its own digest,
"hang" ignores `finish`, "stubborn" ignores SIGTERM as well.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import click
import trio

from learnae.config import Config
from learnaed.status import create_token, serve
from tests.face.fakes import FakeSource, fake_status

STEPS_PER_ROUND = 40


class Node(FakeSource):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.behaviour = config.task.rpartition(":")[2]
        self.started = time.monotonic()
        self.done = trio.Event()

    def status(self) -> dict[str, Any]:
        age = time.monotonic() - self.started
        rounds = 3 + int(age)
        own = self.behaviour == "differ"
        status = fake_status(topic=self.config.topic, task=self.config.task, pid=os.getpid())
        status["peer"] = f"12D3KooWFakeNode{self.config.shard_index:08d}"
        status["state"] = "training" if age > 0.3 else "starting"
        status["trainer"] |= {"rounds": rounds, "steps": rounds * STEPS_PER_ROUND, "accuracy": 0.97}
        status["trainer"]["digest"] = f"{self.config.shard_index if own else 0:064x}"
        return status

    def peers(self) -> list[dict[str, Any]]:
        return []

    def healthy(self) -> tuple[bool, str]:
        return True, ""

    async def command(self, verb: str) -> None:
        if self.behaviour not in ("hang", "stubborn"):
            self.done.set()


async def main(config: Config) -> None:
    assert config.listen == ("/ip4/127.0.0.1/tcp/0",) and config.mdns and not config.peer
    node = Node(config)
    directory = config.home / "default"
    directory.mkdir()
    if node.behaviour == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    async with trio.open_nursery() as nursery:
        url = await nursery.start(partial(serve, directory=directory), node, "127.0.0.1", 0, create_token(directory))
        click.echo(f"serving {url}")
        if node.behaviour == "crash" and config.shard_index == 2:
            await trio.sleep(1)
            click.echo("the disk caught fire")
            os._exit(9)
        await node.done.wait()
        (directory / "summary.json").write_text(json.dumps({"status": node.status() | {"state": "settled"}}))
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    flags = dict(zip((name[2:].replace("-", "_") for name in sys.argv[2::2]), sys.argv[3::2], strict=True))
    assert sys.argv[1] == "run" and Path(flags["home"]).is_dir()
    trio.run(main, Config.resolve(flags, {}))
