"""`kill -9` at random moments, again and again: nothing announced is lost, no number is used twice, no file breaks."""

from __future__ import annotations

import logging
import random
import shutil
import time
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from netsim import processes
from netsim.daemons import Node, Swarm
from tests.lab import TASKS, address, start_local
from tests.system import books
from tests.system.tasks import Hasty

_log = logging.getLogger(__name__)  # shown by --log-cli-level=info

HASTY = ("--task", f"{TASKS}:Hasty", "--topic", "t")
SHORT = [pytest.mark.timeout(300)]
LONG = [pytest.mark.slow, pytest.mark.timeout(3600)]


class Victim:
    """A daemon with many lives, and what others hold of it."""

    def __init__(self, swarm: Swarm, witnesses: list[Node], scratch: Path, seed: int) -> None:
        self.swarm = swarm
        self.witnesses = witnesses
        self.seen: defaultdict[int, set[bytes]] = defaultdict(set)
        self.moments: Counter[str] = Counter()
        self._scratch = scratch
        self._random = random.Random(seed)
        peers = (flag for node in witnesses for flag in ("--peer", address(node)))
        self._flags = (*HASTY, "--shard", "3/3", *peers)
        self.node = self.start()
        swarm.wait("its name", lambda: self.node.status()["peer"], 20, [self.node])
        self.peer = str(self.node.status()["peer"])
        self._database = self.node.profile / "ledger.sqlite"

    def start(self) -> Node:
        """Start it with the files that it left."""
        self.node = start_local(self.swarm, *self._flags, name="victim")
        return self.node

    def live_and_die(self) -> None:
        """Kill it at a random moment: while it starts, or with rounds going out, or with its trainer just killed."""
        draw, node = self._random, self.node
        fate = draw.random()
        if fate < 0.35:
            time.sleep(draw.uniform(0.0, 4.0))
            self.moments["starting"] += 1
        elif fate < 0.5:
            self.swarm.wait("it to join", lambda: node.status()["swarm"], 120, [node, *self.witnesses])
            time.sleep(draw.uniform(0.0, 2.0))
            self.moments["joining"] += 1
        else:
            before = self._published()
            self.swarm.wait("an update of it", lambda: self._published() > before, 120, [node, *self.witnesses])
            time.sleep(draw.uniform(0.0, 1.5))
            if draw.random() < 0.3:
                processes.kill([node.trainer])
                time.sleep(draw.uniform(0.0, 4.0))
                self.moments["trainer killed before"] += 1
            else:
                self.moments["training"] += 1
        node.kill()

    def _published(self) -> int:
        return max(int(node.status()["ledger"]["vector"].get(self.peer, 0)) for node in self.witnesses)

    def examine(self) -> None:
        """What it left behind must be sound, and have everything that others hold of it."""
        # It is dead: whatever the others hold, it had announced before.
        elsewhere = [books.read(node.profile / "ledger.sqlite", self.peer, Hasty.rules) for node in self.witnesses]
        left = books.copied(self._database, self._scratch / f"life-{self.moments.total()}")
        assert books.verdict(left) == []
        own = books.read(left, self.peer, Hasty.rules)
        for book in (own, *elsewhere):
            for row in book.rows:
                self.seen[row.seq].add(row.digest)
            assert [row for row in book.rows if not own.accounts_for(row)] == [], "it has lost what it had announced"
        assert {seq: digests for seq, digests in self.seen.items() if len(digests) > 1} == {}, "numbers used twice"
        shutil.rmtree(left.parent)


@pytest.mark.parametrize("kills", [pytest.param(3, marks=SHORT), pytest.param(200, marks=LONG)])
def test_a_daemon_killed_again_and_again(swarm: Swarm, tmp_path: Path, kills: int) -> None:
    first = start_local(swarm, *HASTY, "--shard", "1/3", name="first")
    swarm.wait("its address", lambda: first.status()["listen"], 20, [first])
    second = start_local(swarm, *HASTY, "--shard", "2/3", peer=first, name="second")
    swarm.wait("its address", lambda: second.status()["listen"], 20, [first, second])
    victim = Victim(swarm, [first, second], tmp_path, seed=kills)
    swarm.wait_together(60)
    for _ in range(kills):
        victim.live_and_die()
        victim.examine()
        _log.info("%s, %d updates", dict(victim.moments), len(victim.seen))
        victim.start()
    alive = [first, second, victim.node]
    swarm.wait_together(60, alive)
    before = victim.node.status()["ledger"]["updates"]
    swarm.wait("new updates", lambda: victim.node.status()["ledger"]["updates"] > before + 3, 30, alive)
    swarm.wait_equal(60, alive)
    for node in alive:
        assert not node.status()["refused"]["conflict"] and not node.status()["refused"]["void"]
        assert not any(row["forked"] for row in node.peers())
    victim.node.kill()
    victim.examine()
    _log.info("%s; %d updates, the highest number is %d", dict(victim.moments), len(victim.seen), max(victim.seen))
