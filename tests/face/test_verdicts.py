"""The doctor's checks, each alone: facts in, verdicts out."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from learnae.cli.doctor.checks import CHECKS, disk, examine, ipfs, network, node, peers, training
from learnae.cli.doctor.facts import (
    Daemon,
    Database,
    Disk,
    Facts,
    File,
    Interface,
    Ipfs,
    Memory,
    Port,
    Reach,
    Settings,
    Training,
)
from learnae.cli.doctor.verdict import Level, Verdict
from learnae.peer import peer_id
from tests.face.fakes import FakeSource, fake_diagnosis, fake_status

ROOT = Path(__file__).parents[2]
PROFILE = Path("/home/ada/learnae/lab")
EMPTY = Facts(now=0.0, system="linux", profile=PROFILE)
ONE, TWO, THREE = (peer_id(bytes([n]) * 32) for n in (1, 2, 3))
GIB = 2**30


def facts(status: dict[str, Any] | None = None, told: dict[str, Any] | None = None, **changes: Any) -> Facts:
    """A daemon that runs, with these differences in what it answers."""
    state = fake_status(uptime=500.0, paused=None, snapshots={"fetching": None}, driver={}, **(status or {}))
    found = Daemon(
        7, "http://127.0.0.1:1", True, None, state, tuple(FakeSource().peers()), fake_diagnosis(**(told or {}))
    )
    return replace(EMPTY, **({"daemon": found} | changes))


def only(verdicts: Any) -> Verdict:
    (verdict,) = verdicts
    assert isinstance(verdict, Verdict)
    assert bool(verdict.action) == (verdict.level in (Level.WARN, Level.FAIL)), verdict
    return verdict


def said(verdicts: Any) -> tuple[str, str, str]:
    """Level, text and action of the only verdict."""
    verdict = only(verdicts)
    return verdict.level.value, verdict.text, verdict.action


def dial(peer: str, code: str | None, source: str = "discovered", **changes: Any) -> dict[str, Any]:
    row: dict[str, Any] = fake_diagnosis()["dials"][0]
    return row | {"peer": peer, "code": code, "source": source, "why": "because"} | changes


# --- the node


def test_a_daemon_runs() -> None:
    assert said(node.daemon(facts()))[:2] == ("ok", "runs (process 7) on topic test, training")
    level, _, action = said(node.daemon(EMPTY))
    assert level == "warn" and "learnaed run" in action


def test_a_daemon_that_died() -> None:
    dead = Daemon(7, "", False, last_words="ERROR the disk hangs")
    level, text, action = said(node.daemon(replace(EMPTY, daemon=dead)))
    assert level == "fail" and "process 7" in text and "the disk hangs" in text and "learnaed.log" in action


def test_a_daemon_that_does_not_answer() -> None:
    level, text, action = said(node.daemon(replace(EMPTY, daemon=Daemon(7, "", True, "timed out"))))
    assert level == "fail" and "does not answer: timed out" in text and "end process 7" in action


def test_a_daemon_of_another_version() -> None:
    old = replace(facts().running or Daemon(0, "", True), told={})
    assert said(node.daemon(replace(EMPTY, daemon=old)))[0] == "warn"


def test_settings() -> None:
    wrong = Settings(Path("/x.toml"), {}, "config-invalid", "it is no TOML")
    level, text, action = said(node.settings(replace(EMPTY, settings=wrong)))
    assert (level, text) == ("fail", "[config-invalid] it is no TOML") and "/x.toml" in action
    assert said(node.settings(replace(EMPTY, settings=Settings(Path("/x.toml")))))[0] == "ok"
    assert said(node.settings(EMPTY))[0] == "skip"


# --- profile and disk


def file(name: str, mode: int = 0o600, **changes: Any) -> File:
    made = File(name, mode, None, readable=True, writable=True, bytes=32)
    return replace(made, **changes)


def test_a_profile() -> None:
    there = replace(EMPTY, exists=True, files=(file(".", 0o700),))
    assert said(disk.profile(there))[0] == "ok"
    assert said(disk.profile(EMPTY))[0] == "skip"
    assert "Permission denied" in said(disk.profile(replace(there, profile_error="Permission denied")))[1]
    assert said(disk.profile(replace(there, files=(file(".", writable=False),))))[0] == "fail"
    level, text, action = said(disk.profile(replace(there, files=(file(".", owner="root"),))))
    assert level == "fail" and "belongs to root" in text and "chown" in action


def test_files_of_others() -> None:
    broken = replace(EMPTY, files=(file("token", readable=False), file("ledger.sqlite", owner="root"), file("trainer")))
    unreadable, foreign = disk.files(broken)
    assert "cannot be read" in unreadable.text and "chmod u+rw" in unreadable.action
    assert "belongs to root" in foreign.text and "sudo" in foreign.action
    assert said(disk.files(replace(EMPTY, files=(file("token"),))))[0] == "ok"
    assert list(disk.files(EMPTY)) == []


@pytest.mark.parametrize(
    ("mode", "size", "system", "level", "text"),
    [
        (0o600, 32, "linux", "ok", "mode 0600"),
        (0o400, 32, "linux", "ok", "mode 0400"),
        (0o640, 32, "linux", "fail", "mode 0640"),
        (0o604, 32, "linux", "fail", "chmod 600"),
        (0o666, 32, "win32", "ok", "whole"),
        (0o600, 31, "linux", "fail", "31 bytes"),
        (0o600, None, "linux", "ok", "whole"),
    ],
)
def test_a_key(mode: int, size: int | None, system: str, level: str, text: str) -> None:
    found = said(disk.key(replace(EMPTY, system=system, files=(file("identity.key", mode),), key_bytes=size)))
    assert found[0] == level and text in found[1] + found[2]


def test_a_token_for_everybody() -> None:
    both = (file("identity.key"), file("token", 0o644))
    assert "steer the daemon" in said(disk.key(replace(EMPTY, files=both, key_bytes=32)))[1]
    assert said(disk.key(EMPTY))[0] == "skip"


def test_a_database() -> None:
    assert said(disk.database(EMPTY))[0] == "skip"
    assert said(disk.database(replace(EMPTY, database=Database("ok"))))[0] == "ok"
    assert said(disk.database(replace(EMPTY, database=Database(None))))[0] == "ok"
    level, text, action = said(disk.database(replace(EMPTY, database=Database("page 3 is never used"))))
    assert level == "fail" and "page 3" in text and "sets the file aside" in action
    aside = Database("ok", PROFILE / "ledger.sqlite.damaged", 1e9)
    level, text, action = said(disk.database(replace(EMPTY, database=aside)))
    assert level == "warn" and "ledger.sqlite.damaged" in text and "2001-09-" in text and "delete" in action


@pytest.mark.parametrize(
    ("found", "level", "text"),
    [
        (Disk(500 * GIB, 1000 * GIB), "ok", "536.9 GB of 1.1 TB free"),
        (Disk(GIB // 2, 1000 * GIB), "warn", "nearly full"),
        (Disk(10 * 2**20, 1000 * GIB), "fail", "full"),
        (Disk(0, 2**20), "fail", "full"),
        (Disk(60 * 2**20, 200 * 2**20), "ok", "62.9 MB"),
        (Disk(500 * GIB, 1000 * GIB, "Read-only file system"), "fail", "Read-only"),
        (Disk(500 * GIB, 1000 * GIB, None, 0), "fail", "inodes"),
        (Disk(500 * GIB, 1000 * GIB, None, 1000), "ok", "free"),
    ],
)
def test_room(found: Disk, level: str, text: str) -> None:
    verdict = said(disk.room(replace(EMPTY, disk=found)))
    assert verdict[0] == level and text in verdict[1]


def test_no_disk() -> None:
    assert said(disk.room(EMPTY))[0] == "skip"
    assert (disk.size(999), disk.size(10**18)) == ("999 bytes", "1000.0 PB")


# --- training


def test_memory() -> None:
    assert said(training.memory(EMPTY))[0] == "skip"
    little = Memory(GIB // 2, 8 * GIB)
    assert said(training.memory(replace(EMPTY, memory=little)))[0] == "warn"
    trains = {"trainer": {"state": "running"}}
    assert said(training.memory(facts(trains, memory=little)))[0] == "ok"
    assert (
        said(
            training.memory(
                facts({"parameters": 10**9, "trainer": {"state": "starting"}}, memory=Memory(8 * GIB, 8 * GIB))
            )
        )[0]
        == "warn"
    )


def test_torch_and_task() -> None:
    assert said(training.torch(EMPTY))[0] == "skip"
    missing = replace(EMPTY, training=Training(None, torch_error="ImportError: libcudart.so.12"))
    level, text, action = said(training.torch(missing))
    assert level == "fail" and "libcudart" in text and "pip install" in action
    assert said(training.task(missing))[0] == "skip"
    loads = replace(EMPTY, training=Training("2.9", ("4 threads of the CPU",), task="digits"))
    assert said(training.torch(loads))[:2] == ("ok", "2.9; 4 threads of the CPU")
    assert said(training.task(loads))[0] == "ok"
    fails = replace(
        EMPTY, training=Training("2.9", (), None, "fashion-mnist", "data-missing", "it is missing: install it")
    )
    level, text, action = said(training.task(fails))
    assert level == "fail" and text == "[data-missing] it is missing: install it" and "fashion-mnist" in action
    assert said(training.task(facts({"trainer": {"state": "running"}}, training=Training("2.9"))))[0] == "ok"


@pytest.mark.parametrize(
    ("trainer", "level", "text"),
    [
        ({"state": "running", "pid": 3, "restarts": 0}, "ok", "process 3"),
        ({"state": "running", "restarts": 2, "last_error": "exit code 1"}, "warn", "2 times: exit code 1"),
        ({"state": "restarting", "restarts": 5, "last_error": "killed (SIGKILL)"}, "fail", "memory"),
        ({"state": "restarting", "restarts": 5, "last_error": None}, "fail", "learnaed.log"),
    ],
)
def test_a_trainer(trainer: dict[str, Any], level: str, text: str) -> None:
    verdict = said(training.trainer(facts({"trainer": trainer})))
    assert verdict[0] == level and text in verdict[1] + verdict[2]


def paused(*reasons: dict[str, Any]) -> dict[str, Any]:
    return {"state": "paused", "paused": {"reasons": list(reasons)}}


@pytest.mark.parametrize(
    ("status", "level", "text"),
    [
        ({}, "ok", "7 rounds, 55.5 steps a second"),
        ({"state": "paused"}, "warn", "paused: by the user"),
        (paused({"reason": "battery", "text": "on battery", "until": None}), "warn", "paused: on battery"),
        (paused({"reason": "user", "text": "", "until": 1e9}), "warn", "paused: user (until "),
        ({"driver": {"store_waiting": 1}}, "fail", "cannot be written"),
        ({"snapshots": {"fetching": {"done": 50, "size": 200}}}, "ok", "25 %"),
        ({"trainer": {"steps": 0}, "state": "joining"}, "fail", "no step was trained in 500 s, the state is joining"),
        ({"trainer": {"steps": 0}, "uptime": 20.0}, "ok", "0 rounds"),
    ],
)
def test_progress(status: dict[str, Any], level: str, text: str) -> None:
    found = facts()
    assert found.daemon is not None
    found = replace(found, daemon=replace(found.daemon, status={**found.daemon.status, **status}))
    verdict = said(training.progress(found))
    assert verdict[0] == level and text in verdict[1]


def test_nothing_trains_where_nothing_runs() -> None:
    assert said(training.trainer(EMPTY))[0] == said(training.progress(EMPTY))[0] == "skip"


# --- the network

HELD = "/ip4/0.0.0.0/tcp/4117"


def test_a_port_before_the_start() -> None:
    assert said(network.port(replace(EMPTY, ports=(Port(HELD, None),))))[0] == "ok"
    taken = replace(EMPTY, ports=(Port(HELD, "in use", True, "nginx (process 9)"),))
    level, text, action = said(network.port(taken))
    assert level == "warn" and "nginx (process 9)" in text and "--listen" in action
    assert said(network.port(replace(taken, neighbours=("/ip4/10.0.0.1/tcp/4117/p2p/x",))))[0] == "ok"
    assert said(network.port(replace(EMPTY, ports=(Port(HELD, "Cannot assign"),))))[0] == "fail"


def test_a_port_of_a_daemon_that_runs() -> None:
    assert said(network.port(facts()))[0] == "ok"
    moved = {"listening": [{"wanted": HELD, "bound": "/ip4/0.0.0.0/tcp/39999"}]}
    level, text, _ = said(network.port(facts(told=moved)))
    assert level == "warn" and "4117 is taken by another program" in text and "39999" in text
    assert said(network.port(facts(told=moved, neighbours=("/ip4/10.0.0.1/tcp/4117/p2p/x",))))[0] == "ok"
    free = {"listening": [{"wanted": "/ip4/0.0.0.0/tcp/0", "bound": "/ip4/0.0.0.0/tcp/39999"}]}
    assert said(network.port(facts(told=free)))[0] == "ok"


@pytest.mark.parametrize(
    ("reach", "incoming", "level", "text"),
    [
        ((Reach("/ip4/127.0.0.1/tcp/1/p2p/x", None),), 0, "warn", "this PC alone"),
        ((Reach("/ip4/192.168.1.7/tcp/1", None),), 0, "ok", "only private addresses (/ip4/192.168.1.7/tcp/1)"),
        ((Reach("/ip4/192.168.1.7/tcp/1", None),), 3, "ok", "3 connections have come in"),
        ((Reach("/ip4/8.8.8.8/tcp/1", None), Reach("/ip4/10.0.0.1/tcp/1", None)), 0, "ok", "public address"),
        ((Reach("/ip4/192.168.1.7/tcp/1", "timed out"),), 3, "fail", "even from this PC: timed out"),
    ],
)
def test_reachable(reach: tuple[Reach, ...], incoming: int, level: str, text: str) -> None:
    verdict = said(network.reachable(facts(told={"incoming": incoming}, reach=reach)))
    assert verdict[0] == level and text in verdict[1]


@pytest.mark.parametrize(
    ("changes", "level", "text"),
    [
        ({}, "ok", "3 answers heard of others on 192.0.2.1"),
        ({"interfaces": []}, "fail", "no network interface"),
        ({"error": "No such device"}, "fail", "No such device"),
        ({"own_heard": 0, "others_heard": 0}, "fail", "firewall"),
        ({"own_heard": 0, "announced": 1}, "ok", "heard"),
        ({"others_heard": 0}, "warn", "nobody else's"),
    ],
)
def test_mdns(changes: dict[str, Any], level: str, text: str) -> None:
    verdict = said(network.mdns(facts(told={"mdns": fake_diagnosis()["mdns"] | changes})))
    assert verdict[0] == level and text in verdict[1]


def test_mdns_without_a_daemon_or_switched_off() -> None:
    assert said(network.mdns(facts(told={"mdns": None})))[0] == "skip"
    assert said(network.mdns(EMPTY))[0] == "warn"
    lo, eth = Interface("lo", ("127.0.0.1",), True), Interface("eth0", ("192.0.2.1",), True)
    assert said(network.mdns(replace(EMPTY, interfaces=(lo,))))[0] == "warn"
    assert said(network.mdns(replace(EMPTY, interfaces=(lo, replace(eth, multicast=False)))))[0] == "warn"
    assert said(network.mdns(replace(EMPTY, interfaces=(lo, eth))))[:2] == ("ok", "possible on eth0")


# --- peers


def test_peers_that_are_known() -> None:
    assert said(peers.known(EMPTY))[0] == "skip"
    assert said(peers.known(facts()))[:2] == ("ok", "connected to 1; 1 train the same model")
    alone = facts(told={"connected": [], "dials": []})
    assert alone.daemon is not None
    alone = replace(alone, daemon=replace(alone.daemon, peers=()))
    level, text, action = said(peers.known(alone))
    assert level == "warn" and "none was found" in text and "--topic test" in action
    assert alone.daemon is not None
    off = replace(alone, daemon=replace(alone.daemon, told=fake_diagnosis(mdns=None, connected=[], dials=[])))
    assert "mDNS is off" in said(peers.known(off))[1]
    far = replace(alone, daemon=replace(alone.daemon, told=fake_diagnosis(connected=[])))
    assert said(peers.known(far))[1].startswith("1 peer is known, none connected")


@pytest.mark.parametrize("code", [*sorted(peers._CURES), "network"])
def test_why_a_peer_cannot_be_reached(code: str) -> None:
    level, text, action = said(peers.unreachable(facts(told={"dials": [dial(ONE, code)]})))
    assert level == "warn" and f"...{ONE[-8:]}" in text and f"because [{code}]" in text and action


def test_a_peer_that_was_named_matters_more() -> None:
    rows = [dial(ONE, "peer-refused"), dial(ONE, "no-route", "given", address="/ip4/192.0.2.9/tcp/1")]
    level, text, _ = said(peers.unreachable(facts(told={"dials": rows})))
    assert level == "fail" and "/ip4/192.0.2.9/tcp/1" in text and "1 other addresses" in text


def test_connected_and_untried_peers_are_no_trouble() -> None:
    assert list(peers.unreachable(facts(told={"dials": [dial(ONE, "no-route")], "connected": [ONE]}))) == []
    assert list(peers.unreachable(facts(told={"dials": [dial(ONE, None)]}))) == []
    assert list(peers.unreachable(EMPTY)) == []


def test_many_unreachable_peers_are_summed_up() -> None:
    rows = [dial(peer_id(bytes([n]) * 32), "peer-timeout") for n in range(1, peers.MOST + 8)]
    *_, last = verdicts = list(peers.unreachable(facts(told={"dials": rows})))
    assert len(verdicts) == peers.MOST + 1 and last.text.startswith("7 more")


@pytest.mark.parametrize(
    ("peer", "text"),
    [
        ({"problem": "layer.weight is 3x3 there"}, "another model on this topic: layer.weight"),
        ({"agent": "learnae/9.9.9"}, "learnae/9.9.9"),
        ({"forked": True}, "copied profile"),
    ],
)
def test_peers_that_do_not_fit(peer: dict[str, Any], text: str) -> None:
    found = facts()
    assert found.daemon is not None
    odd = replace(found, daemon=replace(found.daemon, peers=(FakeSource().peers()[0] | peer,)))
    level, shown, _ = said(peers.strangers(odd))
    assert level == "warn" and text in shown


def test_peers_that_say_nothing_or_have_another_secret() -> None:
    assert "says nothing on topic test" in said(peers.strangers(facts(told={"silent": [ONE]})))[1]
    found = facts(told={"silent": [ONE]})
    assert found.daemon is not None
    young = replace(found, daemon=replace(found.daemon, status={**found.daemon.status, "uptime": 5.0}))
    assert list(peers.strangers(young)) == []
    secret = facts({"network": {"dropped": {"wrong-secret": 4}}})
    assert "4 times somebody came with another secret" in said(peers.strangers(secret))[1]
    assert list(peers.strangers(EMPTY)) == []


@pytest.mark.parametrize(
    ("ahead", "expected"),
    [
        ({ONE: 0.2}, [("ok", "agrees with 1 peers")]),
        ({ONE: 40.0}, [("warn", "40 s ahead")]),
        ({ONE: 40.0, TWO: 0.1, THREE: -0.3}, [("warn", f"{ONE[-8:]} is 40 s ahead")]),
        ({ONE: 40.0, TWO: 0.1}, [("warn", f"{ONE[-8:]} is 40 s ahead")]),
        ({ONE: 40.0, TWO: 40.2, THREE: 39.9}, [("fail", "this PC's clock is 40 s behind")]),
        ({ONE: -40.0, TWO: -40.2}, [("fail", "this PC's clock is 40 s ahead")]),
        ({ONE: 40.0, TWO: 40.0, THREE: 90.0}, [("fail", "40 s behind"), ("warn", f"{THREE[-8:]} is 90 s ahead")]),
    ],
)
def test_clocks(ahead: dict[str, float], expected: list[tuple[str, str]]) -> None:
    verdicts = list(peers.clocks(facts(told={"clock": {"offset": 0.0, "peers": ahead}})))
    assert [verdict.level for verdict in verdicts] == [level for level, _ in expected]
    assert all(text in verdict.text for verdict, (_, text) in zip(verdicts, expected, strict=True)), verdicts


@given(st.dictionaries(st.sampled_from([ONE, TWO, THREE, "4", "5"]), st.floats(-100, 100), min_size=1))
def test_a_clock_that_agrees_with_all_is_fine_and_one_that_disagrees_with_all_is_not(ahead: dict[str, float]) -> None:
    levels = [v.level for v in peers.clocks(facts(told={"clock": {"offset": 0.0, "peers": ahead}}))]
    assert (levels == [Level.OK]) == all(abs(gap) <= peers.SKEW for gap in ahead.values())
    if len(ahead) > 1 and all(gap > peers.SKEW for gap in ahead.values()):
        assert Level.FAIL in levels


@pytest.mark.parametrize(("system", "words"), [("linux", "timedatectl"), ("win32", "Settings"), ("darwin", "System")])
def test_how_a_clock_is_put_right(system: str, words: str) -> None:
    found = facts(told={"clock": {"offset": 0.0, "peers": {ONE: 40.0}}}, system=system)
    assert words in said(peers.clocks(found))[2]


# --- IPFS


@pytest.mark.parametrize(
    ("found", "level", "text"),
    [
        (None, "skip", "switched off"),
        (Ipfs("auto", "/a", error="refused"), "ok", "none on this PC"),
        (Ipfs("/a", "/a", error="refused"), "fail", "nothing answers at /a: refused"),
        (Ipfs("/a", "/a", 403), "fail", "API.Authorizations"),
        (Ipfs("/a", "/a", 404), "fail", "no IPFS node (HTTP 404)"),
        (Ipfs("auto", "/a", 200), "warn", "no IPFS node"),
        (Ipfs("/a", "/a", 200, "0.4.23"), "fail", "version 0.4.23"),
        (Ipfs("/a", "/a", 200, "0.39.0"), "ok", "version 0.39.0 at /a"),
        (Ipfs("/a", "/a", 200, "odd"), "ok", "version odd"),
    ],
)
def test_an_ipfs_node(found: Ipfs | None, level: str, text: str) -> None:
    verdict = said(ipfs.node(replace(EMPTY, ipfs=found)))
    assert verdict[0] == level and text in verdict[1]


def test_pinning_that_fails() -> None:
    there = Ipfs("/a", "/a", 200, "0.39.0")
    told = {"ipfs": fake_status()["ipfs"] | {"why": "no space left"}}
    level, text, _ = said(ipfs.node(facts(told=told, ipfs=there)))
    assert level == "warn" and "no space left" in text
    told = {"ipfs": fake_status()["ipfs"]}
    assert "5 pins" in said(ipfs.node(facts(told=told, ipfs=there)))[1]


# --- all of them


def test_a_sound_node_has_nothing_but_good_news() -> None:
    sound = facts(
        reach=(Reach("/ip4/192.168.1.7/tcp/1", None),),
        exists=True,
        files=(file(".", 0o700), file("identity.key"), file("token")),
        key_bytes=32,
        database=Database(None),
        disk=Disk(500 * GIB, 1000 * GIB),
        memory=Memory(8 * GIB, 16 * GIB),
        training=Training("2.9"),
        status={"trainer": fake_status()["trainer"] | {"state": "running", "restarts": 0}},
    )
    verdicts = examine(sound)
    assert {verdict.level for verdict in verdicts} <= {Level.OK, Level.SKIP}
    assert len(verdicts) >= len(CHECKS) - 4


def test_nothing_known_is_nothing_wrong() -> None:
    assert Level.FAIL not in {verdict.level for verdict in examine(EMPTY)}


def test_every_check_has_its_line_in_the_docs() -> None:
    sources = "".join(path.read_text() for path in (ROOT / "learnae" / "cli" / "doctor" / "checks").glob("*.py"))
    names = set(re.findall(r'\b(?:ok|warn|fail|skip|judge|_foreign|_taken)\(\s*"([a-z]+)"', sources))
    assert len(names) >= 16
    page = (ROOT / "docs" / "doctor.md").read_text()
    assert sorted(name for name in names if f"`{name}`" not in page) == []


def test_every_field_that_the_daemon_tells_has_its_line_in_the_docs() -> None:
    told = fake_diagnosis()
    names = set(told) | set(told["dials"][0]) | set(told["mdns"]) | set(told["disk"]) | set(told["listening"][0])
    page = (ROOT / "docs" / "doctor.md").read_text()
    assert sorted(name for name in names if f"`{name}`" not in page) == []
