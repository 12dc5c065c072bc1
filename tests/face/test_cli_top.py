"""`learnae top`: the picture, the screen under textual's pilot, and all of it in a real terminal."""

from __future__ import annotations

import asyncio
import math
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from textual.pilot import Pilot

from learnae.cli.daemons import Daemon
from learnae.cli.top import picture
from learnae.cli.top.app import Top
from learnae.cli.top.feed import Look, Watch
from learnae.cli.top.trail import STEP, Trail
from learnae.errors import DaemonError
from tests.face.canned import canned
from tests.face.fakes import fake_status
from tests.face.terminal import Terminal
from tests.face.test_cli_verbs import NEW, peer
from tests.face.test_cli_words import HOSTILE

LAB = Daemon(Path("/profiles/lab"), "http://127.0.0.1:1", 1, "12D3KooWme", "test")
PAST = [
    {
        "time": 1e9 + 5 * n,
        "loss": 2.3 * math.exp(-n / 40),
        "accuracy": 1 - math.exp(-n / 30),
        "bytes_sent": 9000 * n,
        "bytes_received": 5000 * n,
    }
    for n in range(200)
]


def look(**changes: Any) -> Look:
    """A daemon with five peers, and a past."""
    peers = [peer(name * 8, **NEW | {"samples_per_second": 100 + n}) for n, name in enumerate("edcba")]
    return Look(("lab",), LAB, "", fake_status(**{"profile": "lab"} | changes), peers, PAST)


class Fed:
    """Shows what the test gives, takes what it is told."""

    def __init__(self, first: Look) -> None:
        self.first = first
        self.posted: list[str] = []
        self.failure: DaemonError | None = None
        self.others = False

    async def run(self, show: Callable[[Look], None]) -> None:
        show(self.first)
        await asyncio.Event().wait()

    async def post(self, daemon: Daemon, path: str) -> None:
        if self.failure:
            raise self.failure
        self.posted.append(path)

    def switch(self) -> bool:
        return self.others


def piloted(
    test: Callable[[Top, Pilot[int], Fed], Awaitable[None]], first: Look, size: tuple[int, int] = (80, 24)
) -> int | None:
    """Run the app with a test beside it; its exit code."""
    fed = Fed(first)
    app = Top(fed)

    async def main() -> None:
        async with app.run_test(size=size, notifications=True) as pilot:
            async with asyncio.timeout(30):
                while "p pause" not in shown(app)[-1]:  # the footer is filled a little later than the rest
                    await pilot.pause()
            await test(app, pilot, fed)

    asyncio.run(main())
    return app.return_value


def shown(app: Top) -> list[str]:
    """The lines on the screen, each as wide as it is."""
    return ["".join(segment.text for segment in strip) for strip in app.screen._compositor.render_strips()]


def test_the_picture_has_all_that_there_is_to_see() -> None:
    async def test(app: Top, pilot: Pilot[int], fed: Fed) -> None:
        text = "\n".join(shown(app))
        for part in (
            "lab  training", "topic test, task digits", "90.0 %", "0.25", "round 7, 55.5 steps/s", "21 by 3 nodes",
            "3: 2 forged", "settled up to 98", "█████████░░░", "5.0 kB sent", "aaaaaaaa", "trains", "hello", "q quit",
            "3.2 s ahead",
        ):  # fmt: skip
            assert part in text, part
        chart = next(line for line in shown(app) if line.startswith(" accuracy"))
        assert "▁" in chart and "█" in chart and chart.index("▁") < chart.index("█"), "it has risen"

    piloted(test, look())


@pytest.mark.parametrize("size", [(80, 24), (40, 24), (40, 12), (20, 5), (200, 60)])
def test_every_line_is_as_wide_as_the_screen(size: tuple[int, int]) -> None:
    async def test(app: Top, pilot: Pilot[int], fed: Fed) -> None:
        assert [cell_len(line) for line in shown(app)] == [size[0]] * size[1]
        assert " lab  train"[: size[0]] in shown(app)[0]
        await pilot.resize_terminal(80, 24)
        await pilot.pause()
        assert "aaaaaaaa" in "\n".join(shown(app)) and [cell_len(line) for line in shown(app)] == [80] * 24
        await pilot.resize_terminal(40, 24)
        await pilot.pause()
        assert "aaaaaaaa" in "\n".join(shown(app)) and [cell_len(line) for line in shown(app)] == [40] * 24

    piloted(test, look(cuts={}, snapshots={}, clock_offset=0), size)


def hostile(name: str) -> Look:
    text = HOSTILE[name]
    rows = [peer(text, state=text, role=text, problem=text, direction=text, addresses=[text] * 50)]
    rows.append(peer("aaaaaaaa", updates=text, settled={"index": text, "cid": text}, staleness=text))
    message = {"time": text, "level": text, "text": text}
    status = fake_status(messages=[message] * 50, state=text, topic=text, profile=text, refused={text: 1})
    status["cuts"] |= {"adopting": text}
    return Look(
        ("lab",), LAB, "", status | {"paused": {"reasons": [{"text": text}]}}, rows, [{"loss": text, "time": text}]
    )


def test_hostile_strings_break_nothing() -> None:
    async def test(app: Top, pilot: Pilot[int], fed: Fed) -> None:
        for width in (80, 40):
            await pilot.resize_terminal(width, 24)
            for name in HOSTILE:
                app.show(hostile(name))
                await pilot.pause()
                lines = shown(app)
                assert [cell_len(line) for line in lines] == [width] * 24, name
                strange = [
                    char for line in lines for char in line if not char.isprintable() or "\u0590" <= char < "\u0700"
                ]
                assert not strange, name
                assert "quit" in lines[-1] or width == 40
        app.show(Look(("lab",), None, HOSTILE["title"] + HOSTILE["long"]))
        await pilot.pause()
        assert [cell_len(line) for line in shown(app)] == [40] * 24

    piloted(test, look())


def test_pause_asks_for_how_long() -> None:
    async def test(app: Top, pilot: Pilot[int], fed: Fed) -> None:
        await pilot.press("p", *"soon", "enter")
        assert "no length of time" in "\n".join(shown(app)) and not fed.posted
        await pilot.press(*["backspace"] * 4, *"2h", "enter")
        await pilot.press("p", "enter")
        await pilot.press("p", "escape")
        await pilot.press("r")
        await pilot.pause()
        assert fed.posted == ["/api/pause?seconds=7200", "/api/pause", "/api/resume"]
        assert "resume accepted" in "\n".join(shown(app))
        fed.failure = DaemonError("not paused \x1b[2J[bold]")
        await pilot.press("r")
        await pilot.pause()
        assert "[bold]" in "\n".join(shown(app))

    piloted(test, look())


def first_peer(app: Top) -> str:
    lines = shown(app)
    return lines[next(n for n, line in enumerate(lines) if line.startswith(" peer")) + 1].split()[0]


def test_peers_are_sorted_by_any_column() -> None:
    async def test(app: Top, pilot: Pilot[int], fed: Fed) -> None:
        assert first_peer(app) == "aaaaaaaa"
        await pilot.press("S")
        assert first_peer(app) == "eeeeeeee"
        await pilot.press("S", "s", "s", "s")
        await pilot.pause()
        assert "rate ▲" in "\n".join(shown(app)) and first_peer(app) == "eeeeeeee"
        place = "\n".join(shown(app)).split("\n")
        line = next(n for n, text in enumerate(place) if text.startswith(" peer"))
        for expected in ("▲", "▼"):
            await pilot.click(offset=(3, line))
            await pilot.pause()
            assert f"peer {expected}" in "\n".join(shown(app))
        assert first_peer(app) == "eeeeeeee"

    piloted(test, look(cuts={}))


def test_the_row_that_was_chosen_stays_chosen() -> None:
    async def test(app: Top, pilot: Pilot[int], fed: Fed) -> None:
        await pilot.press("down", "down")
        app.show(Look(("lab",), LAB, "", fed.first.status, fed.first.peers[:4]))
        await pilot.pause()
        table: Any = app.query_one("#peers")
        assert table.coordinate_to_cell_key((table.cursor_row, 0)).row_key.value == "12D3KooWcccccccc"

    piloted(test, look())


def test_a_daemon_that_has_gone_is_told_and_its_last_picture_stays() -> None:
    async def test(app: Top, pilot: Pilot[int], fed: Fed) -> None:
        app.show(Look((), None, "daemon 'lab' does not run now"))
        await pilot.pause()
        text = "\n".join(shown(app))
        assert "does not run now" in text and "90.0 %" in text and "aaaaaaaa" in text
        await pilot.press("r")
        await pilot.pause()
        assert not fed.posted and "no daemon to resume" in "\n".join(shown(app))
        app.show(look())
        await pilot.pause()
        assert "does not run now" not in "\n".join(shown(app))

    piloted(test, look())


def test_help_switch_and_the_ways_out() -> None:
    async def test(app: Top, pilot: Pilot[int], fed: Fed) -> None:
        await pilot.press("question_mark")
        assert "slots since a peer's newest update" in "\n".join(shown(app))
        await pilot.press("escape", "d")
        await pilot.pause()
        assert "no other daemon runs" in "\n".join(shown(app))
        fed.others = True
        await pilot.press("d", "q")

    assert piloted(test, look()) == 0

    async def interrupted(app: Top, pilot: Pilot[int], fed: Fed) -> None:
        await pilot.press("p", "ctrl+c")

    assert piloted(interrupted, look()) == 130

    async def terminated(app: Top, pilot: Pilot[int], fed: Fed) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    assert piloted(terminated, look()) == 143


def test_a_young_daemon_has_an_empty_picture() -> None:
    async def test(app: Top, pilot: Pilot[int], fed: Fed) -> None:
        text = "\n".join(shown(app))
        assert "no peer known yet" in text and "accuracy" in text

    status = {"profile": "lab", "state": "starting", "trainer": None, "ledger": None, "cuts": None, "messages": None}
    piloted(test, Look(("lab",), LAB, "", status))


def test_hostile_strings_in_a_real_terminal(tmp_path: Path) -> None:
    looks = [hostile(name) for name in HOSTILE]
    status = dict(looks[0].status) | {"messages": [one.status["messages"][0] for one in looks]}
    answers = {"/api/status": status, "/api/peers": [row for one in looks for row in one.peers]}
    with canned(tmp_path, answers) as source, Terminal("top", LEARNAE_HOME=str(tmp_path)) as top:
        for columns in (80, 40):
            top.resize(columns, 24)
            top.until(lambda text: "accuracy" in text)
            assert len(max(top.shown.splitlines(), key=len)) <= columns
        source.answers["/api/status"] = status | {"state": "seen"}
        top.until(lambda text: "seen" in text)
        top.press("q")
        assert top.ended() == 0
    text = top.sent.decode()
    for raw in ("\x1b[2J\x1b[31mowned", "\x1b]0;owned", "\u202e", "\u2066", "\x9b", "\u200b", "\u05e9", "\u0645"):
        assert raw not in text


# --- over time


def test_the_trail_goes_on_from_the_daemons_history() -> None:
    trail = Trail()
    trail.begin(PAST)
    assert list(trail.accuracy) == [row["accuracy"] for row in PAST]
    assert (trail.sent, trail.received) == (1800, 1000)
    status = {"trainer": {"loss": 0.5, "accuracy": None}, "network": {"bytes_sent": 200 * 9000, "bytes_received": 0}}
    now = 1e9 + 5 * 200
    trail.add(status, now)
    assert trail.loss[-1] == 0.5 and len(trail.accuracy) == 200
    assert trail.sent == 1800, "started anew: it counts from zero, and no rate is known of that moment"
    trail.add(status, now + 1)
    assert len(trail.loss) == 201, "points come every five seconds"
    trail.add(status, now + STEP)
    assert len(trail.loss) == 202 and trail.sent == 0
    trail.add(status, now - 1000)
    assert len(trail.loss) == 203, "a clock that is set back stops nothing"


def test_the_trail_is_bounded_and_takes_no_nonsense() -> None:
    trail = Trail()
    for n in range(2000):
        trail.add({"trainer": {"loss": 1.0, "accuracy": "x"}, "network": {"bytes_sent": True}}, n * STEP)
    assert len(trail.loss) == 360 and not trail.accuracy and trail.sent is None


def test_thousands_of_peers_are_cut_short() -> None:
    rows = [peer(f"{n:08}") for n in range(2000)]
    _, lines = picture.peers(rows, 80, "updates", False)
    assert len(lines) == picture.MOST_PEERS


# --- where it looks


def looked(home: Path, profile: str | None, done: Callable[[list[Look], Watch], bool]) -> list[Look]:
    """Looks until enough were seen."""
    looks: list[Look] = []
    watch = Watch(home, profile)

    async def seen() -> None:
        enough = asyncio.Event()

        def show(one: Look) -> None:
            looks.append(one)
            if done(looks, watch):
                enough.set()

        task = asyncio.create_task(watch.run(show))
        await asyncio.wait_for(enough.wait(), 10)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(seen())
    return looks


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OFTEN", "POLL", "SELDOM"):
        monkeypatch.setattr(f"learnae.cli.top.feed.{name}", 0.02)


@pytest.mark.usefixtures("hurried")
def test_it_polls_a_daemon_without_events_and_history(tmp_path: Path) -> None:
    with canned(tmp_path, {"/api/status": {"state": "training"}, "/api/peers": []}, "lab") as source:
        looks = looked(tmp_path, None, lambda looks, _: len(looks) == 3)
        assert all(one.daemon and one.status == {"state": "training"} and not one.past for one in looks)
        assert source.headers[0]["Authorization"] == "Bearer secret"


@pytest.mark.usefixtures("hurried")
def test_it_goes_on_when_the_daemon_is_back(tmp_path: Path) -> None:
    answers = {"/api/status": {}, "/api/peers": [], "/api/history": {"every": 5, "rows": PAST}}
    with canned(tmp_path, answers, "lab") as source:
        file = tmp_path / "lab" / "status.json"
        about = file.read_text()

        def done(looks: list[Look], _: Watch) -> bool:
            match len(looks):
                case 1:
                    assert len(looks[0].past) == 200
                    file.unlink()
                    source.answers["/api/status"] = 503
                case 5:
                    source.answers["/api/status"] = {"state": "back"}
                    file.write_text(about)
            return looks[-1].status == {"state": "back"}

        looks = looked(tmp_path, "lab", done)
    assert "does not run now" in looks[3].trouble and looks[3].daemon is None
    assert looks[-1].past == PAST, "the history is asked for anew"


@pytest.mark.usefixtures("hurried")
def test_it_switches_between_daemons(tmp_path: Path) -> None:
    answers: dict[str, Any] = {"/api/status": {}, "/api/peers": []}
    with canned(tmp_path, answers, "a"), canned(tmp_path, answers, "b"):
        names: list[str] = []

        def done(looks: list[Look], watch: Watch) -> bool:
            assert looks[-1].daemon is not None and looks[-1].running == ("a", "b")
            names.append(looks[-1].daemon.profile)
            assert watch.switch()
            return len(names) == 3

        looked(tmp_path, None, done)
        assert names == ["a", "b", "a"]


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("nonsense", [[1], "x", b"no json"])
def test_nonsense_is_told(tmp_path: Path, nonsense: Any) -> None:
    with canned(tmp_path, {"/api/status": nonsense, "/api/peers": [], "/api/history": nonsense}, "lab"):
        (one,) = looked(tmp_path, None, lambda looks, _: True)[:1]
    assert one.daemon is None and ("no learnae daemon" in one.trouble or "language" in one.trouble)
