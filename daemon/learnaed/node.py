"""What a node shows of itself: the source of the status endpoint, and the verbs that steer it; built by `app`."""

from __future__ import annotations

import base64
import os
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import trio

from learnae import __version__
from learnae.config import Config
from learnae.coordinator import Coordinator, CoordinatorStatistics, events
from learnae.errors import DaemonError
from learnae.ledger import Entry
from learnae.peer import peer_id
from learnae.rules import FULL
from learnae.wire import CutId
from learnaed import diagnosis, logs
from learnaed.driver import Driver
from learnaed.feed import Feed, Kind, finite
from learnaed.history import History
from learnaed.limits import Warden
from learnaed.network import Network
from learnaed.snapshots import Catalogue, Shelf
from learnaed.store import Store
from learnaed.trainer.supervisor import Trainer
from learnaed.watch import watch

log = logs.get("node")

_MESSAGES = 50
_ROLES = {
    "training": "trains",
    "alone": "trains",
    "finishing": "trains",
    "paused": "paused",
    "starting": "serves",
    "joining": "serves",
    "settling": "serves",
    "leaving": "serves",
}
_ENDING = ("finishing", "settling", "leaving", "stopping")
_LEVELS = {"info": log.info, "warning": log.warning, "error": log.error}


class Messages:
    """What the user was told lately; the same lines are in the log, and events of `feed`."""

    def __init__(self, feed: Feed | None = None) -> None:
        self.feed = feed or Feed()
        self._lines: deque[dict[str, str]] = deque(maxlen=_MESSAGES)

    def add(self, level: str, text: str) -> None:
        """Tell the user."""
        _LEVELS[level](text)
        self.feed.post(Kind.MESSAGE, level=level, text=text)
        self._lines.append({"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "level": level, "text": text})

    def lines(self) -> list[dict[str, str]]:
        """The last fifty, oldest first."""
        return list(self._lines)


class Node:
    """The union of the parts' statistics, and the verbs `finish`, `pause`, `resume` and `stop`."""

    def __init__(
        self,
        config: Config,
        profile: Path,
        coordinator: Coordinator,
        driver: Driver,
        network: Network,
        store: Store,
        shelf: Shelf,
        trainer: Trainer,
        catalogue: Catalogue,
        messages: Messages,
        warden: Warden,
    ) -> None:
        self._config = config
        self._profile = profile
        self._coordinator = coordinator
        self._driver = driver
        self._network = network
        self._store = store
        self._shelf = shelf
        self._catalogue = catalogue
        self._trainer = trainer
        self._messages = messages
        self.feed = messages.feed
        self.history = History()
        self._warden = warden
        self._started = time.time()
        self.stop = trio.Event()
        """Set when the user wants the daemon to end now, without settling."""

    async def watch(self) -> None:
        """Post what changes, and keep the history, until cancelled."""
        await watch(self.status, self.feed, self.history)

    def state(self) -> str:
        """The coordinator's state, or stopping."""
        return "stopping" if self.stop.is_set() else self._coordinator.state(time.time())

    def status(self) -> dict[str, Any]:
        """Everything about this node, ready for JSON."""
        coordinator, config = self._coordinator, self._config
        genesis, ledger = coordinator.genesis, coordinator.ledger
        statistics = coordinator.statistics(time.time())
        network = self._network.statistics()
        slot_seconds = genesis.slot_seconds if genesis else None
        return {
            "version": __version__,
            "peer": peer_id(coordinator.author),
            "topic": config.topic,
            "private": self._network.private,
            "secret_file": str(config.secret_file) if config.secret_file and self._network.private else None,
            "task": config.task,
            "data": str(config.data) if config.data else None,
            "shard": config.shard,
            "profile": self._profile.name,
            "state": self.state(),
            "paused": self._warden.paused(),
            "limits": self._warden.limits.texts(),
            "warden": self._warden_status(),
            "swarm": ledger.swarm.hex() if ledger is not None else None,
            "layout": genesis.layout.fingerprint.hex() if genesis else None,
            "parameters": genesis.layout.size if genesis else None,
            "slot": int(time.time() // slot_seconds) if slot_seconds else None,
            "slot_seconds": slot_seconds,
            "share": statistics.share,
            "members": statistics.members,
            "uptime": time.time() - self._started,
            "pid": os.getpid(),
            "listen": list(self._network.addresses),
            "trainer": self._trainer_status(),
            "ledger": {
                "updates": len(ledger) if ledger is not None else 0,
                "authors": len(ledger.vector.authors) if ledger is not None else 0,
                "samples": statistics.ledger.samples if statistics.ledger else 0,
                "vector_digest": statistics.ledger.digest if statistics.ledger else None,
                "missing": statistics.fetches_pending,
                "syncing": statistics.syncs_running,
                "clipped": statistics.ledger.clipped if statistics.ledger else 0,
                "floor": statistics.ledger.floor if statistics.ledger else None,
                "vector": {peer_id(a): ledger.vector.last(a) for a in ledger.vector.authors} if ledger else {},
            },
            "cuts": self._cuts_status(statistics),
            "snapshots": self._snapshots_status(),
            "ipfs": self._catalogue.statistics(),
            "bitswap": asdict(self._network.block_statistics()),
            "clock_offset": statistics.clock_offset,
            "refused": statistics.refused,
            "network": {
                **asdict(network.counters),
                "dropped": dict(network.counters.dropped),  # asdict makes a Counter of a Counter's pairs
                "peers": network.peers,
                "connections": network.connections,
                "known_peers": network.known_peers,
            },
            "store": asdict(self._store.statistics()),
            "driver": asdict(self._driver.statistics()),
            "feed": asdict(self.feed.statistics()),
            "messages": self._messages.lines(),
        }

    def _warden_status(self) -> dict[str, Any]:
        figures = asdict(self._warden.statistics())
        del figures["reasons"]  # they are in `paused`
        return figures

    @staticmethod
    def _cuts_status(statistics: CoordinatorStatistics) -> dict[str, Any]:
        cuts = statistics.cuts
        return {
            "settled": _named(cuts.settled) if cuts else None,
            "newest": _named(cuts.newest) if cuts else None,
            "votes": cuts.votes if cuts else 0,
            "electorate": cuts.electorate if cuts else 0,
            "unsettled": cuts.unsettled if cuts else 0,
            "disputed": cuts.disputed if cuts else 0,
            "adopting": statistics.adoption.adopting,
            "adopted": statistics.adoption.adopted,
        }

    def _snapshots_status(self) -> dict[str, Any]:
        fetching = self._driver.download or self._catalogue.download
        blocks = self._shelf.store.statistics()
        return {
            "held": len(self._shelf.cids),
            "bytes": blocks.bytes,
            "cap": blocks.cap,
            "collected": blocks.collected,
            "damaged": blocks.damaged,
            **self._catalogue.activity(),
            "fetching": None
            if fetching is None
            else {
                "cid": _text(fetching.cid),
                "done": fetching.done,
                "size": fetching.size,
                "holders": fetching.holders,
                "speed": fetching.speed,
                "seconds_left": fetching.seconds_left,
            },
        }

    def _trainer_status(self) -> dict[str, Any]:
        trainer, report = self._trainer.statistics(), self._driver.report
        return {
            "state": trainer.state,
            "pid": trainer.pid,
            "restarts": trainer.restarts,
            "queued": trainer.queued,
            "last_error": trainer.last_error,
            "rounds": self._driver.rounds,
            "steps": report.steps if report else 0,
            "samples": report.samples if report else 0,
            "loss": finite(report.loss) if report else None,
            "accuracy": finite(report.metrics.get("accuracy")) if report else None,
            "accuracy_averaged": finite(report.averaged.get("accuracy")) if report else None,
            "metrics": {name: finite(value) for name, value in report.metrics.items()} if report else {},
            "digest": report.digest.hex() if report else None,
            "steps_per_second": report.steps_per_second if report else 0.0,
            "samples_per_second": report.samples_per_second if report else 0.0,
            "training_seconds": report.training_seconds if report else 0.0,
            "exchange_seconds": report.exchange_seconds if report else 0.0,
            "slots_per_round": report.slots_per_round if report else 1,
        }

    def peers(self) -> list[dict[str, Any]]:
        """Everybody on the topic that this node knows of."""
        now = time.time()
        known = self._network.known_addresses()
        members = {peer.key for peer in self._coordinator.members(now)}
        traffic = self._network.traffic()
        genesis, ledger = self._coordinator.genesis, self._coordinator.ledger
        slot = int(now // genesis.slot_seconds) if genesis else 0
        newest = {entry.author: entry.slot for entry in ledger.entries()} if ledger is not None else {}
        rows = []
        for peer in self._coordinator.peers:
            beat = peer.heartbeat
            moved = traffic.get(peer_id(peer.key))
            rows.append(
                {
                    "peer": peer_id(peer.key),
                    "addresses": known.get(peer_id(peer.key), list(beat.addresses) if beat else []),
                    "connected": peer.connected,
                    "swarm_match": peer.key in members,
                    "state": beat.state if beat else "unknown",
                    "role": _ROLES.get(beat.state, "unknown") if beat else "unknown",
                    "bytes_sent": moved.sent if moved else 0,
                    "bytes_received": moved.received if moved else 0,
                    "direction": moved.direction if moved else None,
                    "staleness": max(0, slot - newest[peer.key]) if peer.key in newest else None,
                    "agent": beat.agent if beat else None,
                    "updates": beat.updates if beat else None,
                    "vector_digest": beat.digest.hex() if beat else None,
                    "samples_per_second": beat.rate if beat else None,
                    "settled": _named(beat.settled[-1]) if beat and beat.settled else None,
                    "newest": _named(beat.cuts[-1]) if beat and beat.cuts else None,
                    "floor": beat.floor if beat and beat.floor >= 0 else None,
                    "clock_ahead": peer.ahead if beat else None,
                    "forked": peer.forked,
                    "last_seen": now - peer.heard if beat else None,
                    "layout": beat.layout.hex() if beat and beat.layout else None,
                    "problem": "; ".join(peer.differences) or None,
                }
            )
        return rows

    def diagnosis(self) -> dict[str, Any]:
        """What this node knows of its own troubles, ready for JSON; for `learnae doctor`."""
        return diagnosis.diagnose(
            self._config,
            self._profile,
            self._network.diagnosis(),
            self._catalogue.statistics(),
            self._coordinator.statistics(time.time()).clock_offset,
            [(peer_id(peer.key), peer.ahead) for peer in self._coordinator.peers if peer.heartbeat is not None],
        )

    def healthy(self) -> tuple[bool, str]:
        """Whether this node does its work, and why not."""
        trainer = self._trainer.statistics()
        if trainer.state == "restarting":
            return False, f"the trainer process ended, and is started again in a while: {trainer.last_error}"
        driver = self._driver.statistics()
        if driver.store_waiting:
            return False, "the database cannot be written, the disk may be full: nothing is published meanwhile"
        if driver.queued > 1000:
            return False, "events are coming in faster than they are handled"
        return True, self.state()

    async def updates(self, limit: int) -> list[dict[str, Any]]:
        """The newest updates that are held here above the pruned part of the log, newest first."""
        ledger = self._coordinator.ledger
        if ledger is None:
            return []
        entries = ledger.entries()[-limit:][::-1]
        counts = [ledger.ratio(entry) / FULL for entry in entries]
        sizes = await trio.to_thread.run_sync(self._store.sizes, ledger.swarm, entries)
        voids = set(self._driver.voids)

        def row(entry: Entry, size: int | None, counts: float) -> dict[str, Any]:
            return {
                "author": peer_id(entry.author),
                "seq": entry.seq,
                "slot": entry.slot,
                "interval": ledger.rules.interval(entry.slot),
                "samples": entry.samples,
                "norm": finite(entry.norm),
                "loss": finite(entry.loss),
                "bytes": size,
                "counts": counts,
                "void": entry.id in voids,
            }

        return [row(*columns) for columns in zip(entries, sizes, counts, strict=True)]

    async def snapshots(self) -> list[dict[str, Any]]:
        """The cuts that are kept here."""
        return await self._catalogue.rows()

    async def pin(self, cid: str) -> dict[str, Any]:
        """Keep a cut until it is unpinned."""
        return await self._catalogue.pin(cid)

    async def unpin(self, cid: str) -> None:
        """Take that back."""
        await self._catalogue.unpin(cid)

    async def take(self, path: Path) -> dict[str, Any]:
        """Take in a file that holds a cut or a snapshot."""
        return await self._catalogue.take(path)

    async def pause(self, seconds: float | None = None) -> None:
        """Stop training, for so many seconds or until it is resumed. Raises DaemonError where that is not possible."""
        self._refuse_at_the_end("pause")
        self._warden.pause(seconds)
        self._messages.add("info", "asked to pause" if seconds is None else f"asked to pause for {seconds:g} s")

    async def resume(self) -> None:
        """Go on training, unless a limit keeps it from that. Raises DaemonError where that is not possible."""
        self._refuse_at_the_end("resume")
        self._messages.add("info", "asked to resume")
        self._warden.resume()

    def _refuse_at_the_end(self, verb: str) -> None:
        state = self.state()
        if state in _ENDING:
            raise DaemonError(f"it cannot {verb}: this node is {state}; start it again to go on", code="node-ending")

    def limits(self) -> dict[str, Any]:
        """The limits in force, by name, as they are written in the configuration file; null where there is none."""
        return self._warden.limits.texts()

    async def set_limits(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Put other limits in force until the daemon ends; null takes one away. All that are in force then.

        The configuration file stays as it is: `learnae config set` writes it.

        Raises:
            ConfigError: there is no such limit, or a value is not valid; nothing is changed.
        """
        self._warden.change(changes, "the limit")
        return self.limits()

    async def command(self, verb: str) -> None:
        """Carry out a verb of the status endpoint."""
        if verb == "pause":
            await self.pause()
            return
        if verb == "resume":
            await self.resume()
            return
        self._messages.add("info", f"asked to {verb}")
        match verb:
            case "finish":
                self._driver.post(events.Finish())
            case "stop":
                self.stop.set()
                self._driver.left.set()


def _named(cut: CutId | None) -> dict[str, Any] | None:
    return {"index": cut.index, "cid": _text(cut.cid)} if cut is not None else None


def _text(cid: bytes) -> str:
    """A CID as people and other programs write it: base32, in lower case."""
    return "b" + base64.b32encode(cid).decode().rstrip("=").lower()
