"""A made-up daemon for the tests of status server and CLI: believable answers, and a record of the verbs it got."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import trio

from learnae.errors import DaemonError, LearnaeError, NetworkError, StoreError, WireError
from learnae.peer import peer_id


def fake_status(**changes: Any) -> dict[str, Any]:
    status: dict[str, Any] = {
        "version": "0.1.0",
        "peer": peer_id(bytes(range(32))),
        "topic": "test",
        "task": "digits",
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
            "state": "training",
            "pid": 2,
            "restarts": 1,
            "rounds": 7,
            "steps": 350,
            "samples": 11200,
            "loss": 0.25,
            "accuracy": 0.9,
            "accuracy_averaged": None,
            "digest": "ef" * 32,
            "steps_per_second": 55.5,
            "training_seconds": 8.0,
            "exchange_seconds": 0.5,
            "slots_per_round": 1,
            "last_error": None,
        },
        "ledger": {
            "updates": 21,
            "authors": 3,
            "vector_digest": "12" * 32,
            "missing": 0,
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
        "network": {"peers": 2, "bytes_sent": 5000, "bytes_received": 7000, "dropped": {"busy": 3}},
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


class FakeSource:
    """Has the cuts of `cuts`. To pin "bafynobody" and so on fails as the names say."""

    failures: ClassVar[dict[str, LearnaeError]] = {
        "bafyno-cid": WireError("this is no CID. Give one."),
        "bafynobody": NetworkError("nobody has it. Connect to a peer."),
        "bafyfull": StoreError("there is no room. Make some."),
    }

    def __init__(self, **changes: Any) -> None:
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
                "updates": 7,
                "settled": {"index": 98, "cid": "bafkreiaaaaaasettled"},
                "newest": None,
                "floor": None,
                "clock_ahead": 0.1,
                "forked": False,
                "last_seen": 1.4,
                "layout": "cd" * 32,
                "problem": None,
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
