"""What a node shows of itself: complete, ready for JSON, and what the fakes of other tests pretend it is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from learnae import protocol, wire
from learnae.cid import raw_cid
from learnae.config import Config
from learnae.coordinator import Coordinator, actions, events
from learnae.errors import ConfigError, DaemonError
from learnae.ledger import Kept
from learnae.limits import Limits
from learnae.peer import peer_id
from learnae.wire import CutId, Heartbeat, Update, seal
from learnaed.blockstore import BlockStore
from learnaed.diagnosis import MOST_DIALS, diagnose
from learnaed.driver import Driver
from learnaed.ipfs import IpfsPinning
from learnaed.limits import Warden
from learnaed.network import Network, NetworkDiagnosis, NetworkSettings
from learnaed.network.dialer import Dialled, Failure
from learnaed.network.discovery import MdnsFigures
from learnaed.node import Messages, Node
from learnaed.snapshots import Archive, Catalogue, Finder, Importer, Shelf
from learnaed.status.openapi import description
from learnaed.store import Store
from learnaed.trainer.supervisor import Trainer
from tests.core.stored import AUTHOR, KEY, OTHER, genesis
from tests.face.fakes import FakeSource, fake_diagnosis, fake_status
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
        config = Config(topic="t", task="digits", home=directory, listen=settings.listen)
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
        self.coordinator.handle(ready, NOW - 1)
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


def breaches(name: str, value: Any) -> list[str]:
    """What of this answer is not as the API's reference says."""
    document = description()
    schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
    validator = jsonschema_rs.validator_for(schema)
    return [f"{error.instance_path}: {error.message}" for error in validator.iter_errors(value)]


async def test_answers_are_what_the_reference_says(rig: Rig) -> None:
    assert breaches("Status", json.loads(json.dumps(rig.node.status()))) == []
    rig.meet()
    assert breaches("Status", json.loads(json.dumps(rig.node.status()))) == []
    (peer,) = json.loads(json.dumps(rig.node.peers()))
    assert breaches("Peer", peer) == []
    assert (peer["role"], peer["bytes_sent"], peer["direction"], peer["staleness"]) == ("trains", 0, None, None)
    assert breaches("Peer", peer | {"role": "idles"}) and breaches("Status", {})


async def test_updates_are_listed_newest_first(rig: Rig) -> None:
    assert await rig.node.updates(10) == []
    rig.meet()
    swarm = genesis().swarm_id("t")
    slot = int(NOW // genesis().slot_seconds)
    for seq in (1, 2, 3):
        payload = bytes(100 + 50 * seq)
        update = Update(swarm, seq, slot - 3 + seq, None, 64, 0.5, 2.0, 0.25, payload, ())
        envelope = seal(update, wire.signer(OTHER), bytes(OTHER.verify_key))
        event = events.UpdateHeard(envelope, bytes(OTHER.verify_key))
        changes = [action for action in rig.coordinator.handle(event, NOW) if isinstance(action, actions.Store)]
        rig.store.carry_out(changes)
    await rig.driver.hear_trainer(protocol.Void(bytes(OTHER.verify_key), 2))
    rows = await rig.node.updates(2)
    assert [breaches("Update", row) for row in rows] == [[], []]
    assert [(row["seq"], row["slot"], row["void"]) for row in rows] == [(3, slot, False), (2, slot - 1, True)]
    assert {row["author"] for row in rows} == {peer_id(bytes(OTHER.verify_key))}
    assert rows[0]["bytes"] - rows[1]["bytes"] == 50 and rows[1]["bytes"] > 200
    assert rows[0]["counts"] == 1.0
    assert rig.node.peers()[0]["staleness"] == 0


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


async def test_a_diagnosis_is_as_the_fakes_pretend(rig: Rig) -> None:
    rig.meet()
    found, fake = json.loads(json.dumps(rig.node.diagnosis())), fake_diagnosis()
    assert set(found) == set(fake)
    assert {name: set(found[name]) for name in ("settings", "disk")} == {n: set(fake[n]) for n in ("settings", "disk")}
    assert found["clock"]["peers"] == {peer_id(bytes(OTHER.verify_key)): 5.0} and found["clock"]["offset"] > 0
    assert (found["mdns"], found["dials"], found["key_mode"]) == (None, [], None)
    assert found["disk"]["free"] > 0
    assert found["ipfs"] == rig.node.status()["ipfs"]


async def test_a_diagnosis_tells_of_dials(rig: Rig) -> None:
    row = Dialled("12D3Koo", "/ip4/192.0.2.7/tcp/1", "given", 3, Failure("peer-refused", "no", 7.0))
    network = NetworkDiagnosis(("/w",), ("/b",), ("/a",), (row,) * 300, ("12D3Koo",), 4, MdnsFigures(("192.0.2.1",)))
    config = Config(topic="t", task="digits", home=Path("/none"))
    found = diagnose(config, Path("/none/such"), network, None, 0.0, [])
    assert found["listening"] == [{"wanted": "/w", "bound": "/b"}]
    assert len(found["dials"]) == MOST_DIALS and set(found["dials"][0]) == set(fake_diagnosis()["dials"][0])
    assert (found["dials"][0]["code"], found["dials"][0]["tried"]) == ("peer-refused", 7.0)
    assert found["silent"] == ["12D3Koo"] and found["disk"] is None
    assert set(found["mdns"]) == set(fake_diagnosis()["mdns"])
    assert fake_diagnosis().keys() == found.keys()


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
