"""Looks at the node's status every second: posts what changed to the feed, and keeps the history; run by `app`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import trio

from learnaed.feed import JSON, Feed, Kind
from learnaed.history import History, Row

LOOK_EVERY = 1.0
"""Seconds from one look to the next: more delays what the dashboard shows, less costs a paused node more."""

Status = Mapping[str, Any]


def changes(before: Status, after: Status) -> list[tuple[Kind, dict[str, JSON]]]:
    """The events that lie between two looks at one node."""
    found: list[tuple[Kind, dict[str, JSON]]] = []
    if after.get("state") != before.get("state"):
        found.append((Kind.STATE, {"state": after.get("state"), "before": before.get("state")}))
    if after.get("paused") != before.get("paused"):
        found.append((Kind.PAUSED, dict(after.get("paused") or {"reasons": []})))
    if after.get("limits") != before.get("limits"):
        found.append((Kind.LIMITS, {"limits": after.get("limits")}))
    for kind, name in ((Kind.CUT, "newest"), (Kind.SETTLED, "settled")):
        cut = (after.get("cuts") or {}).get(name)
        if cut is not None and cut != (before.get("cuts") or {}).get(name):
            found.append((kind, {"index": cut["index"], "cid": cut["cid"]}))
    return [*found, *_download(_fetching(before), _fetching(after))]


def _fetching(status: Status) -> dict[str, JSON] | None:
    return (status.get("snapshots") or {}).get("fetching")


def _download(before: dict[str, JSON] | None, after: dict[str, JSON] | None) -> list[tuple[Kind, dict[str, JSON]]]:
    found: list[tuple[Kind, dict[str, JSON]]] = []
    if before is not None and (after is None or after["cid"] != before["cid"]):
        found.append((Kind.DOWNLOAD, {**before, "ended": True}))
    if after is not None and after != before:
        found.append((Kind.DOWNLOAD, {**after, "ended": False}))
    return found


async def watch(status: Callable[[], Status], feed: Feed, history: History) -> None:
    """Look until cancelled."""
    before: Status | None = None
    noted = -history.every
    while True:
        now = status()
        for kind, data in changes(before, now) if before is not None else ():
            feed.post(kind, **data)
        before = now
        if trio.current_time() - noted >= history.every - LOOK_EVERY / 2:
            noted = trio.current_time()
            history.add(Row.of(now, time.time()))
        await trio.sleep(LOOK_EVERY)
