"""A made-up daemon for the tests of status server and CLI: believable answers, and a record of the verbs it got."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import trio

from learnae.errors import ConfigError, DaemonError, LearnaeError, NetworkError, StoreError, WireError
from learnae.peer import peer_id
from learnaed.feed import Feed
from learnaed.history import History


def fake_status(**changes: Any) -> dict[str, Any]:
    status: dict[str, Any] = {
        "version": "0.1.0",
        "peer": peer_id(bytes(range(32))),
        "topic": "test",
        "private": False,
        "secret_file": None,
        "task": "digits",
        "data": None,
        "shard": "1/2",
        "profile": "default",
        "state": "training",
        "swarm": "ab" * 32,
        "layout": "cd" * 32,
        "slot": 123,
        "slot_seconds": 10.0,
        "uptime": 12.5,
        "pid": 1,
        "listen": ["/ip4/127.0.0.1/tcp/4117"],
        "parameters": 17226,
        "share": 0.5,
        "members": 1,
        "trainer": {
            "state": "running",
            "pid": 2,
            "restarts": 1,
            "queued": 0,
            "rounds": 7,
            "steps": 350,
            "samples": 11200,
            "loss": 0.25,
            "accuracy": 0.9,
            "accuracy_averaged": None,
            "digest": "ef" * 32,
            "metrics": {"accuracy": 0.9},
            "steps_per_second": 55.5,
            "samples_per_second": 1776.0,
            "training_seconds": 8.0,
            "exchange_seconds": 0.5,
            "slots_per_round": 1,
            "last_error": None,
        },
        "ledger": {
            "updates": 21,
            "authors": 3,
            "vector_digest": "12" * 32,
            "samples": 33600,
            "missing": 0,
            "syncing": 0,
            "clipped": 2,
            "floor": 90,
            "vector": {"a": 7},
        },
        "cuts": {
            "settled": {"index": 98, "cid": "bafkreiaaaaaasettled"},
            "newest": {"index": 99, "cid": "bafkreiaaaaaa-newest"},
            "votes": 2,
            "electorate": 3,
            "unsettled": 1,
            "disputed": 0,
            "adopting": "the others have settled far more than this node has",
            "adopted": 1,
        },
        "ipfs": {
            "state": "importing",
            "why": None,
            "address": "/ip4/127.0.0.1/tcp/5001",
            "node": "12D3KooWIpfs",
            "agent": "kubo/0.39.0/",
            "last_success": 1.7e9,
            "pins": 5,
            "queue": 2,
            "imports": 6,
            "bytes_sent": 400_000,
            "failures": 1,
        },
        "snapshots": {
            "held": 4,
            "bytes": 300_000,
            "cap": 1_000_000,
            "collected": 7,
            "damaged": 1,
            "lost": 0,
            "mended": 1,
            "importing": None,
            "fetching": {
                "cid": "bafybeiaaaaaa",
                "done": 34_000,
                "size": 69_000,
                "speed": 1_200.0,
                "seconds_left": 29.2,
                "holders": 3,
            },
        },
        "clock_offset": -3.25,
        "store": {"path": "ledger.sqlite", "bytes": 4096, "writes": 3},
        "refused": {"forged": 2, 'odd "reason"\n': 1},
        "network": {
            "peers": 2,
            "connections": 2,
            "known_peers": 3,
            "bytes_sent": 5000,
            "bytes_received": 7000,
            "messages_published": 40,
            "messages_received": 80,
            "requests_sent": 3,
            "requests_failed": 0,
            "requests_served": 4,
            "dials": 5,
            "dial_failures": 1,
            "incoming": 3,
            "discovered": 2,
            "host_restarts": 0,
            "dropped": {"busy": 3},
        },
        "bitswap": {
            "blocks_sent": 3,
            "bytes_sent": 60_000,
            "blocks_received": 2,
            "bytes_received": 40_000,
            "duplicates": 0,
            "unwanted": 0,
            "unwanted_bytes": 0,
            "malformed": 0,
            "wants": 3,
            "refused_wants": 0,
            "links": 2,
            "sessions": 0,
        },
        "driver": {"queued": 0, "events": 900, "store_failures": 0, "store_waiting": 0},
        "feed": {"events": 12, "readers": 1, "gaps": 0},
        "paused": {"reasons": []},
        "warden": {"daemon_memory": 60_000_000, "trainer_memory": 400_000_000, "pauses": 2},
        "messages": [{"time": "2030-01-31T12:00:00.000+00:00", "level": "info", "text": "hello"}],
    }
    return status | changes


def fake_cut(index: int, **changes: Any) -> dict[str, Any]:
    return {
        "index": index,
        "cid": f"bafyrei{index:052}",
        "weights": f"bafybei{index:052}",
        "size": 69_000,
        "updates": 3 * index,
        "samples": 480,
        "loss": 0.125,
        "authors": 3,
        "since": 1.7e9,
        "milestone": False,
        "pinned": False,
        "attested_by": 2,
    } | changes


def fake_update(seq: int, **changes: Any) -> dict[str, Any]:
    return {
        "author": peer_id(bytes(32)),
        "seq": seq,
        "slot": 100 + seq,
        "interval": (100 + seq) // 8,
        "samples": 1280,
        "norm": 41.5,
        "loss": 0.25,
        "bytes": 950,
        "counts": 1.0,
        "void": False,
    } | changes


class FakeSource:
    """Has the cuts of `cuts`, updates 1 to 150, and one limit. To pin "bafynobody" and so on fails as the names say."""

    failures: ClassVar[dict[str, LearnaeError]] = {
        "bafyno-cid": WireError("this is no CID. Give one."),
        "bafynobody": NetworkError("nobody has it. Connect to a peer."),
        "bafyfull": StoreError("there is no room. Make some."),
    }

    def __init__(self, **changes: Any) -> None:
        self.feed = Feed()
        self.history = History()
        self.in_force: dict[str, Any] = {"upload": 1_000_000}
        self.pauses: list[float | None] = []
        self.cuts: list[dict[str, Any]] = []
        self.asked: list[tuple[str, str]] = []
        self.state = fake_status(**changes)
        self.verbs: list[str] = []
        self.found = fake_diagnosis()
        self.health = (True, "training")
        self.broken = False
        self.stopped = trio.Event()

    def status(self) -> dict[str, Any]:
        if self.broken:
            raise ZeroDivisionError("a defect")
        return self.state

    def peers(self) -> list[dict[str, Any]]:
        return [
            {
                "peer": peer_id(bytes(32)),
                "addresses": ["/ip4/127.0.0.1/tcp/1"],
                "connected": True,
                "swarm_match": True,
                "state": "training",
                "role": "trains",
                "agent": "learnae/0.1.0",
                "updates": 7,
                "vector_digest": "12" * 16,
                "samples_per_second": 1776.0,
                "settled": {"index": 98, "cid": "bafkreiaaaaaasettled"},
                "newest": None,
                "floor": None,
                "clock_ahead": 0.1,
                "forked": False,
                "last_seen": 1.4,
                "layout": "cd" * 32,
                "problem": None,
                "bytes_sent": 2500,
                "bytes_received": 3500,
                "direction": "inbound",
                "staleness": 2,
            }
        ]

    def diagnosis(self) -> dict[str, Any]:
        return self.found

    def healthy(self) -> tuple[bool, str]:
        return self.health

    async def command(self, verb: str) -> None:
        if verb == "resume":
            raise DaemonError("not paused, so there is nothing to resume. Say pause first.")
        self.verbs.append(verb)
        if verb == "stop":
            self.stopped.set()

    async def pause(self, seconds: float | None) -> None:
        self.pauses.append(seconds)
        await self.command("pause")

    async def resume(self) -> None:
        await self.command("resume")

    def limits(self) -> dict[str, Any]:
        return self.in_force

    async def set_limits(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        for name in changes:
            if name not in self.in_force:
                raise ConfigError(f"there is no limit {name!r}; there is: upload")
        self.in_force |= changes
        return self.in_force

    async def updates(self, limit: int) -> list[dict[str, Any]]:
        return [fake_update(seq) for seq in range(150, 0, -1)][:limit]

    async def snapshots(self) -> list[dict[str, Any]]:
        return self.cuts

    async def pin(self, cid: str) -> dict[str, Any]:
        self._ask("pin", cid)
        return fake_cut(8, cid=cid, pinned=True)

    async def unpin(self, cid: str) -> None:
        self._ask("unpin", cid)

    async def take(self, path: Path) -> dict[str, Any]:
        self._ask("import", str(path))
        index = None if path.suffix == ".safetensors" else 8
        return {"cid": "bafyrei8", "weights": "bafybei8", "size": 69_000, "index": index}

    def _ask(self, verb: str, what: str) -> None:
        if what in self.failures:
            raise self.failures[what]
        self.asked.append((verb, what))


def fake_diagnosis(**changes: Any) -> dict[str, Any]:
    """What `GET /api/doctor` answers where all is well."""
    other = peer_id(bytes(32))
    diagnosis: dict[str, Any] = {
        "time": 1.7e9,
        "settings": {
            "home": "/home",
            "config": None,
            "listen": ["/ip4/127.0.0.1/tcp/0"],
            "peer": [],
            "mdns": True,
            "ipfs": "off",
            "task": "digits",
            "data": None,
        },
        "listening": [{"wanted": "/ip4/0.0.0.0/tcp/4117", "bound": "/ip4/0.0.0.0/tcp/4117"}],
        "announced": [],
        "incoming": 2,
        "dials": [
            {
                "peer": other,
                "address": "/ip4/192.0.2.7/tcp/4117",
                "source": "discovered",
                "failures": 0,
                "code": None,
                "why": None,
                "tried": None,
            }
        ],
        "connected": [other],
        "silent": [],
        "mdns": {
            "interfaces": ["192.0.2.1"],
            "announced": 5,
            "own_heard": 5,
            "others_heard": 3,
            "last_heard": 1.7e9,
            "error": None,
        },
        "clock": {"offset": 0.1, "peers": {other: 0.1}},
        "ipfs": None,
        "disk": {"free": 10**11, "total": 10**12},
        "key_mode": "0600",
    }
    return diagnosis | changes
