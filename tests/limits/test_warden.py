"""When the warden pauses and resumes, what it tells, and to whom it carries the limits; under a virtual clock."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from learnae.coordinator import events
from learnae.errors import ConfigError, DaemonError
from learnae.limits import Limits
from learnae.protocol import SetLimits
from learnaed.limits import Enforcer, Look, Warden
from learnaed.limits.enforcer import trainer_limits
from tests.limits.fakes import NOTHING, FakeEnforcer, FakePC

MIB = 2**20
START = 1_000_000.0


class Rig:
    def __init__(self, limits: Limits, *, paused: bool = False) -> None:
        self.pc, self.enforcer = FakePC(), FakeEnforcer()
        self.posted: list[str] = []
        self.said: list[tuple[str, str]] = []
        self.warden = Warden(
            limits,
            look=self.pc.look,
            post=lambda event: self.posted.append(type(event).__name__),
            notify=lambda level, text: self.said.append((level, text)),
            enforcer=self.enforcer,
            paused=paused,
            clock=lambda: START + trio.current_time(),
        )

    @property
    def reasons(self) -> list[str]:
        return [reason["reason"] for reason in self.warden.paused()["reasons"]]


@pytest.fixture
async def rig(request: Any, nursery: trio.Nursery) -> AsyncIterator[Rig]:
    made = Rig(getattr(request, "param", Limits()))
    nursery.start_soon(made.warden.run)
    await trio.sleep(0.1)
    yield made


async def test_the_battery_pauses_and_the_mains_resume(rig: Rig, autojump_clock: MockClock) -> None:
    assert rig.posted == [] and rig.reasons == []
    rig.pc.be(on_battery=True)
    await trio.sleep(6)
    assert (rig.posted, rig.reasons) == (["Pause"], ["battery"])
    await trio.sleep(60)
    rig.pc.be(on_battery=False)
    await trio.sleep(6)
    assert (rig.posted, rig.reasons) == (["Pause", "Resume"], [])
    assert [text for _, text in rig.said] == [
        "not training: the PC runs on its battery",
        "training goes on: nothing keeps this node from it any more",
    ], "once for each change"


async def test_what_the_user_paused_goes_on_only_when_the_user_wants_it(rig: Rig, autojump_clock: MockClock) -> None:
    rig.warden.pause()
    rig.pc.be(on_battery=True)
    await trio.sleep(6)
    assert (rig.posted, rig.reasons) == (["Pause"], ["user", "battery"])
    rig.pc.be(on_battery=False)
    await trio.sleep(600)
    assert (rig.posted, rig.reasons) == (["Pause"], ["user"])
    assert rig.warden.resume() == ()
    assert (rig.posted, rig.reasons) == (["Pause", "Resume"], [])


async def test_what_a_limit_paused_is_not_resumed_by_the_user(rig: Rig, autojump_clock: MockClock) -> None:
    rig.pc.be(on_battery=True)
    await trio.sleep(6)
    rig.warden.pause()
    assert [reason.cause for reason in rig.warden.resume()] == ["battery"]
    assert (rig.posted, rig.reasons) == (["Pause"], ["battery"])
    assert "still not training: the PC runs on its battery" in rig.said[-1][1]
    rig.warden.change({"on_battery": "run"}, "the limit")
    assert rig.posted == ["Pause", "Resume"], "at once"


async def test_a_pause_ends_in_time(rig: Rig, autojump_clock: MockClock) -> None:
    began = trio.current_time()
    rig.warden.pause(3602.5)
    [reason] = rig.warden.paused()["reasons"]
    assert reason["until"] == START + began + 3602.5
    await trio.sleep(3602.4)
    assert rig.reasons == ["user"]
    await trio.sleep(0.2)
    assert (rig.posted, rig.reasons) == (["Pause", "Resume"], [])


async def test_a_later_word_replaces_an_earlier_one(rig: Rig, autojump_clock: MockClock) -> None:
    rig.warden.pause(10)
    rig.warden.pause(None)
    await trio.sleep(100)
    assert rig.reasons == ["user"]
    rig.warden.pause(10)
    await trio.sleep(11)
    assert rig.reasons == []
    assert rig.warden.statistics().pauses == 1


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), 1e10])
async def test_no_time_to_pause_for(rig: Rig, autojump_clock: MockClock, seconds: float) -> None:
    with pytest.raises(DaemonError, match="above 0"):
        rig.warden.pause(seconds)
    assert rig.reasons == []


async def test_started_paused_the_coordinator_knows_already() -> None:
    rig = Rig(Limits(), paused=True)
    assert (rig.posted, rig.reasons) == ([], ["user"])
    rig.warden.resume()
    assert rig.posted == ["Resume"]


@pytest.mark.parametrize("rig", [Limits(idle_after=600)], indirect=True)
async def test_idleness_is_looked_at_only_where_it_matters(rig: Rig, autojump_clock: MockClock) -> None:
    rig.pc.be(idle=0.0)
    await trio.sleep(6)
    assert rig.reasons == ["busy"] and set(rig.pc.looks) == {True}
    rig.pc.be(idle=601.0)
    await trio.sleep(6)
    assert rig.reasons == []
    rig.warden.change({"idle_after": None}, "the limit")
    rig.pc.looks.clear()
    await trio.sleep(6)
    assert set(rig.pc.looks) == {False}


@pytest.mark.parametrize("rig", [Limits(hours=None)], indirect=True)
async def test_looks_are_few(rig: Rig, autojump_clock: MockClock) -> None:
    rig.pc.looks.clear()
    await trio.sleep(100)
    assert 19 <= len(rig.pc.looks) <= 21


async def test_changes_are_carried_on_at_once_or_not_at_all(rig: Rig, autojump_clock: MockClock) -> None:
    rig.enforcer.told.clear()
    with pytest.raises(ConfigError, match=r"^the limit ram is 'x'"):
        rig.warden.change({"cpu": "50%", "ram": "x"}, "the limit")
    with pytest.raises(ConfigError, match="Did you mean 'cpu'"):
        rig.warden.change({"cpus": "50%"}, "the limit")
    assert (rig.enforcer.told, rig.warden.limits) == ([], Limits())
    rig.warden.change({"cpu": "50%", "nice": None}, "the limit")
    assert [limits for limits, _ in rig.enforcer.told] == [Limits(cpu=0.5)]
    assert rig.said == [("info", "limits changed: cpu off -> 50%")]
    rig.warden.change({"cpu": 50}, "the limit")
    assert len(rig.said) == 1, "nothing has changed"


@pytest.mark.parametrize("rig", [Limits(ram=1000 * MIB)], indirect=True)
async def test_too_much_memory_ends_the_trainer_and_it_rests(rig: Rig, autojump_clock: MockClock) -> None:
    rig.pc.now = replace(NOTHING, daemon_memory=100 * MIB, trainer_memory=901 * MIB)
    await trio.sleep(6)
    assert (rig.reasons, rig.posted) == (["memory"], ["Pause"])
    assert len(rig.enforcer.restarts) == 1
    [(level, text)] = [pair for pair in rig.said if pair[0] == "error"]
    assert level == "error" and "1001 MiB" in text and "10 minutes" in text
    rig.pc.now = replace(NOTHING, daemon_memory=100 * MIB, trainer_memory=500 * MIB)
    await trio.sleep(590)
    assert rig.reasons == ["memory"]
    await trio.sleep(20)
    assert (rig.reasons, rig.posted) == ([], ["Pause", "Resume"])
    rig.warden.out_of_memory("training needed more")
    await trio.sleep(1190)
    assert rig.reasons == ["memory"], "twice as long this time"
    rig.warden.change({"ram": "2GiB"}, "the limit")
    assert rig.reasons == [], "there is more of it now"


async def test_the_user_may_try_again_before_the_rest_is_over(rig: Rig, autojump_clock: MockClock) -> None:
    rig.warden.out_of_memory("training needed more")
    rig.warden.out_of_memory("training needed more")
    assert rig.reasons == ["memory"] and len(rig.said) == 2, "told once, and why it does not train"
    assert rig.warden.resume() == ()


async def test_a_pc_that_cannot_be_looked_at_changes_nothing(rig: Rig, autojump_clock: MockClock) -> None:
    rig.pc.be(on_battery=True)
    await trio.sleep(6)
    rig.pc.failure = OSError("no such sensor")
    await trio.sleep(60)
    assert rig.reasons == ["battery"]
    assert [text for level, text in rig.said if level == "warning"] == [
        "the PC cannot be looked at, limits hold as they were: no such sensor"
    ]
    rig.pc.failure = None
    rig.pc.be(on_battery=False)
    await trio.sleep(6)
    assert rig.reasons == []


# --- who is told what


class Parts:
    def __init__(self) -> None:
        self.rates: list[tuple[int | None, int | None]] = []
        self.caps: list[int] = []
        self.limits: list[SetLimits] = []

    def set_rates(self, upload: int | None, download: int | None) -> None:
        self.rates.append((upload, download))

    def set_cap(self, cap: int) -> None:
        self.caps.append(cap)

    def limit(self, limits: SetLimits) -> None:
        self.limits.append(limits)

    def restart(self, why: str) -> None: ...


def test_the_enforcer_tells_the_trainer_only_what_changes() -> None:
    parts = Parts()
    enforcer = Enforcer(parts, parts, parts, 10**9, 3)
    limits = Limits(upload=10**6, ram=1024 * MIB, disk=10**8)
    enforcer.enforce(limits, None)
    enforcer.enforce(limits, replace(NOTHING, daemon_memory=80 * MIB, other_files=10**7))
    assert parts.rates[-1] == (10**6, None)
    assert parts.caps == [10**8, 9 * 10**7], "files other than snapshots count, too"
    assert parts.limits == [SetLimits(None, 3, 10, True, 896 * MIB)]
    enforcer.enforce(limits, replace(NOTHING, daemon_memory=200 * MIB, other_files=10**9))
    assert parts.limits[1:] == [SetLimits(None, 3, 10, True, 768 * MIB)], "the daemon has grown"
    assert parts.caps[-1] == MIB, "some are always kept"
    enforcer.enforce(Limits(threads=1), None)
    assert (parts.limits[-1].threads, parts.limits[-1].ram, parts.caps[-1]) == (1, None, 10**9)


def test_daemon_and_trainer_together_stay_below_the_limit() -> None:
    for megabytes in range(0, 500, 7):
        told = trainer_limits(Limits(ram=2048 * MIB), None, megabytes * MIB)
        assert told.ram is not None and told.ram + megabytes * MIB <= 2048 * MIB


# --- the real sensors, on the PC that runs the test


def test_sensors_tell_something_sensible(tmp_path: Path) -> None:
    from learnaed.limits import Sensors

    (tmp_path / "blocks").mkdir()
    (tmp_path / "blocks" / "one").write_bytes(bytes(5000))
    (tmp_path / "trainer").mkdir()
    (tmp_path / "trainer" / "state").write_bytes(bytes(300))
    (tmp_path / "learnaed.log").write_bytes(bytes(20))
    sensors = Sensors(tmp_path, tmp_path / "blocks", lambda: 5000)
    for pid in (None, 1, 2**22 + 1):
        look: Look = sensors.look(pid, idle_wanted=True)
        assert look.daemon_memory > 10 * MIB
        assert (look.other_files, look.conditions.disk_used) == (320, 5320)
        assert look.conditions.idle is None or look.conditions.idle >= 0
        assert look.conditions.idle_by in ("input", "load")


async def test_the_coordinator_is_told_by_its_own_events() -> None:
    posted: list[events.Event] = []
    rig = Rig(Limits())
    rig.warden._post = posted.append
    rig.warden.pause()
    rig.warden.resume()
    assert posted == [events.Pause(), events.Resume()]
