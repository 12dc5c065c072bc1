"""A made-up daemon with something to see on every part of the dashboard; time passes only when a test lets it."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

from learnae.errors import ConfigError
from learnae.peer import peer_id
from tests.face.fakes import FakeSource, fake_cut, fake_status

SLOT = 10.0
LIMITS: dict[str, Any] = {
    "hours": None,
    "idle_after": "10m",
    "on_battery": "pause",
    "cpu": "50%",
    "threads": None,
    "nice": 10,
    "gpu": True,
    "ram": None,
    "disk": "20GB",
    "upload": "1MB/s",
    "download": None,
}
HOSTILE = "<img src=x onerror=\"document.title='pwned'\"><script>document.title='pwned'</script>\u202egnp"
"""What a peer may say of itself: as text it is harmless, and it must not turn the text around it."""


def author(number: int) -> str:
    """The peer id of the node with this number; 0 is the daemon itself."""
    return peer_id(bytes([(37 * number + 11) % 256] * 32))


class Show(FakeSource):
    """A source for the status endpoint with history, updates, limits, peers and cuts, all of them believable.

    Args:
        rows: rows of history before now, 5 s apart.
        others: peers.
    """

    def __init__(self, rows: int = 60, others: int = 4, **changes: Any) -> None:
        super().__init__(**changes)
        self.began = time.time() - 5 * rows
        self.past = [self._row(place) for place in range(rows)]
        self.rows = [self._peer(number + 1) for number in range(others)]
        self.cuts = [fake_cut(2100 + 8 * n, since=time.time() - 640 + 160 * n, loss=1 / (n + 1)) for n in range(4)]
        self.cuts[0] |= {"milestone": True}
        self.cuts[1] |= {"pinned": True}
        self.kept: dict[str, Any] = dict(LIMITS)
        self.pauses: list[float | None] = []
        self.state |= {
            "peer": author(0),
            "topic": "living-room",
            "members": others,
            "uptime": 5.0 * rows,
            "slot": int(time.time() // SLOT),
            "paused": {"reasons": []},
            "limits": self.kept,
            "clock_offset": 0,
            "refused": {"duplicate": 12, "late": 2, "bad-signature": 1},
            "cuts": {"settled": {"index": 2124, "cid": fake_cut(2124)["cid"]}, "newest": None},
            "snapshots": {"held": 4, "bytes": 276_000, "cap": 20 * 2**30, "fetching": None},
            "messages": [],
        }
        self._show()

    def grow(self, rows: int = 1) -> None:
        """Let time pass: so many more rows of history."""
        for _ in range(rows):
            self.past.append(self._row(len(self.past)))
        self._show()

    def history_rows(self, since: float) -> list[dict[str, Any]]:
        return [row for row in self.past if row["time"] > since]

    def peers(self) -> list[dict[str, Any]]:
        return self.rows

    async def updates(self, limit: int) -> list[dict[str, Any]]:
        newest = int(self.past[-1]["time"] // SLOT) if self.past else 0
        many = min(limit, self.state["ledger"]["updates"])
        return [self._update(newest - place // 5, place) for place in range(many)]

    async def pause(self, seconds: float | None = None) -> None:
        self.pauses.append(seconds)
        until = None if seconds is None else time.time() + seconds
        reason = {"reason": "user", "text": "asked to pause", "until": until}
        self.state |= {"state": "paused", "paused": {"reasons": [reason]}}

    async def resume(self) -> None:
        self.verbs.append("resume")
        self.state |= {"state": "training", "paused": {"reasons": []}}

    async def command(self, verb: str) -> None:
        await {"pause": self.pause, "resume": self.resume}[verb]()

    def limits(self) -> dict[str, Any]:
        return self.kept

    async def set_limits(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        if changes.get("upload") == "fast":
            raise ConfigError("upload is 'fast', but must be bytes per second. Say 1MB/s, for instance, or off.")
        self.kept |= changes
        return self.kept

    async def pin(self, cid: str) -> dict[str, Any]:
        self._ask("pin", cid)
        return self._set(cid, pinned=True)

    async def unpin(self, cid: str) -> None:
        self._ask("unpin", cid)
        self._set(cid, pinned=False)

    def _set(self, cid: str, **changes: Any) -> dict[str, Any]:
        for cut in self.cuts:
            if cut["cid"] == cid:
                cut |= changes
                return cut
        self.cuts.append(fake_cut(8, cid=cid, **changes))
        return self.cuts[-1]

    def _row(self, place: int) -> dict[str, Any]:
        learned = 1 - math.exp(-place / 22)
        wobble = 0.012 * math.sin(place * 1.7) + 0.008 * math.sin(place * 4.1)
        return {
            "time": self.began + 5 * place,
            "slot": int((self.began + 5 * place) // SLOT),
            "loss": 2.3 * math.exp(-place / 14) + 0.12 + abs(wobble),
            "accuracy": 0.1 + 0.86 * learned + wobble,
            "accuracy_averaged": 0.1 + 0.87 * learned,
            "updates": 3 * place,
            "members": 4,
            "bytes_sent": int(60_000 * place + 150_000 * math.sin(place / 4)) + 150_000,
            "bytes_received": int(95_000 * place + 120_000 * math.sin(place / 3)) + 120_000,
            "steps_per_second": 55.0,
            "share": 0.25,
            "state": "training",
        }

    def _show(self) -> None:
        """What the status says follows from the newest row."""
        if not self.past:
            return
        row = self.past[-1]
        self.state["trainer"] = fake_status()["trainer"] | {
            key: row[key] for key in ("loss", "accuracy", "accuracy_averaged")
        }
        self.state["trainer"] |= {"samples_per_second": 1776.0, "rounds": len(self.past) // 2}
        self.state["ledger"] = fake_status()["ledger"] | {"updates": row["updates"], "authors": 5}
        self.state["network"] = fake_status()["network"] | {"peers": 4} | {
            key: row[key] for key in ("bytes_sent", "bytes_received")
        }

    def _peer(self, number: int) -> dict[str, Any]:
        role = ("trains", "trains", "serves", "paused")[number % 4]
        [row] = super().peers()
        return row | {
            "peer": author(number),
            "addresses": [f"/ip4/192.168.1.{number}/tcp/4117"],
            "role": role,
            "state": {"trains": "training", "serves": "joining"}.get(role, role),
            "connected": number % 7 != 6,
            "agent": "learnae/0.1.0 CPython/3.11 Linux",
            "samples_per_second": {"trains": 1500.0 + 100 * number}.get(role, 0.0),
            "staleness": (1, 0, 2, 40)[number % 4],
            "updates": 170 + number,
            "bytes_sent": 700_000 * number,
            "bytes_received": 1_100_000 * number,
            "direction": ("in", "out")[number % 2],
            "settled": {"index": 2124 - number % 2, "cid": fake_cut(2124 - number % 2)["cid"]},
            "vector_digest": "34" * 32,
            "last_seen": 0.4 + number,
        }

    def _update(self, slot: int, place: int) -> dict[str, Any]:
        return {
            "author": author(place % 5),
            "seq": slot,
            "slot": slot,
            "interval": slot // 8,
            "samples": 480 + 7 * (place % 5),
            "norm": 1.25 + 0.1 * (place % 3),
            "loss": 0.13 + 0.01 * (place % 4),
            "bytes": 2_811 + place,
            "counts": 0.41 if place % 11 == 7 else 1.0,
            "void": place % 23 == 19,
        }
