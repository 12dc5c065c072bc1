"""What a node shows of itself: complete, ready for JSON, and what the fakes of other tests pretend it is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from learnae import protocol, wire
from learnae.cid import raw_cid
from learnae.config import Config
from learnae.coordinator import Coordinator, events
from learnae.errors import ConfigError, DaemonError
from learnae.ledger import Kept
from learnae.limits import Limits
from learnae.wire import CutId, Heartbeat, seal
from learnaed.blockstore import BlockStore
from learnaed.driver import Driver
from learnaed.ipfs import IpfsPinning
from learnaed.limits import Warden
from learnaed.network import Network, NetworkSettings
from learnaed.node import Messages, Node
from learnaed.snapshots import Archive, Catalogue, Finder, Importer, Shelf
from learnaed.store import Store
from learnaed.trainer.supervisor import Trainer
from tests.core.stored import AUTHOR, KEY, OTHER, genesis
from tests.face.fakes import FakeSource, fake_status
from tests.limits.fakes import FakeEnforcer, no_look

NOW = 1_000_000.0


class Rig:
    """A node that runs nothing."""

    def __init__(self, directory: Path) -> None:
        self.coordinator = Coordinator(AUTHOR, wire.signer(KEY), "t")
        self.store = Store(directory / "db.sqlite", AUTHOR)
        settings = NetworkSettings(listen=("/ip4/127.0.0.1/tcp/0",), mdns=False)
        network = Network(bytes(KEY), settings, on_peer=lambda *_: None)
        self.blocks = BlockStore(directory / "snapshots")
        shelf = Shelf(self.blocks)
        self.driver = Driver(self.coordinator, self.store, shelf, network, notify=lambda *_: None)
        setup = protocol.Setup(AUTHOR, "t", "digits", None, "1/1", None, 0, None, "", "")
        trainer = Trainer(setup, hear=self.driver.hear_trainer, lost=self.driver.lost_trainer)
        config = cast(Config, SimpleNamespace(topic="t", task="digits", shard="1/1", data=None))
        archive = Archive(shelf)
        finder = Finder(shelf, network, lambda: None, self.store.block)
        pinning = IpfsPinning(archive, directory / "ipfs.json", lambda *_: None)
        catalogue = Catalogue(archive, finder, Importer(self.blocks, archive), self.coordinator, pinning)
        self.warden = Warden(
            Limits(), look=no_look, post=self.driver.post, notify=lambda *_: None, enforcer=FakeEnforcer()
        )
        parts = (self.coordinator, self.driver, network, self.store, shelf, trainer, catalogue, Messages())
        self.node = Node(config, directory, *parts, self.warden)

    def meet(self) -> None:
        """The trainer is ready, and another node is heard of."""
        ready = events.TrainerReady(genesis(), None, bytes(32), (), 0, Kept(snapshots=frozenset({genesis().weights})))
        self.coordinator.handle(ready, NOW)
        beat = Heartbeat(
            time=NOW + 5,
            state="training",
            swarm=genesis().swarm_id("t"),
            layout=genesis().layout.fingerprint,
            digest=bytes(16),
            updates=3,
            rate=1.0,
            settled=(CutId(4, raw_cid(b"four")),),
            cuts=(CutId(5, raw_cid(b"five")), CutId(6, raw_cid(b"six"))),
            floor=2,
            addresses=(),
            agent="test",
        )
        envelope = seal(beat, wire.signer(OTHER), bytes(OTHER.verify_key))
        self.coordinator.handle(events.HeartbeatHeard(envelope, bytes(OTHER.verify_key)), NOW)


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr("learnaed.node.time.time", lambda: NOW)
    made = Rig(tmp_path)
    yield made
    made.store.close()
    made.blocks.close()


def shape(status: Mapping[str, Any]) -> dict[str, Any]:
    return {key: set(value) if isinstance(value, Mapping) else None for key, value in status.items()}


async def test_the_fakes_have_nothing_that_a_node_has_not(rig: Rig) -> None:
    for _ in range(2):
        status = json.loads(json.dumps(rig.node.status()))
        for key, names in shape(fake_status()).items():
            assert key in status
            if names is not None and key not in ("refused", "network"):
                assert names <= set(status[key])
        rig.meet()
    (peer,) = rig.node.peers()
    assert set(FakeSource().peers()[0]) <= set(peer)


async def test_cuts_of_peers_are_shown_by_index_and_name(rig: Rig) -> None:
    rig.meet()
    (peer,) = json.loads(json.dumps(rig.node.peers()))
    assert (peer["settled"]["index"], peer["newest"]["index"], peer["floor"]) == (4, 6, 2)
    # The text form of a CIDv1: multibase base32 of its bytes.
    assert peer["settled"]["cid"].startswith("bafkrei") and len(peer["settled"]["cid"]) == 59
    assert peer["clock_ahead"] == 5.0
    assert 0 < rig.node.status()["clock_offset"] <= 5


async def test_a_node_that_waits_for_the_disk_is_not_healthy(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    assert rig.node.healthy() == (True, "starting")
    rig.driver._patiently.waiting = 1
    healthy, why = rig.node.healthy()
    assert not healthy and "cannot be written" in why


async def test_pauses_and_limits_are_shown_and_changed(rig: Rig) -> None:
    assert rig.node.status()["paused"] == {"reasons": []}
    await rig.node.pause(60)
    [reason] = json.loads(json.dumps(rig.node.status()))["paused"]["reasons"]
    assert reason["reason"] == "user" and reason["until"] > NOW
    await rig.node.command("resume")
    await rig.node.command("pause")
    [reason] = rig.node.status()["paused"]["reasons"]
    assert reason["until"] is None
    await rig.node.resume()
    assert rig.node.status()["paused"] == {"reasons": []}
    changed = await rig.node.set_limits({"cpu": "50%", "upload": "1MB/s"})
    assert changed == rig.node.limits() == rig.node.status()["limits"]
    assert (changed["cpu"], changed["upload"], changed["ram"]) == ("50%", "1MB/s", None)
    with pytest.raises(ConfigError, match=r"^the limit cpu is 'all'"):
        await rig.node.set_limits({"cpu": "all"})
    with pytest.raises(DaemonError, match="above 0"):
        await rig.node.pause(-1)
    rig.node.stop.set()
    for verb in (rig.node.pause, rig.node.resume):
        with pytest.raises(DaemonError, match="stopping"):
            await verb()
