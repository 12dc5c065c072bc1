"""The dashboard in a browser, before a made-up daemon."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import trio

from learnaed.feed import Kind
from tests.dashboard.browser import PHONE, Browser, Served
from tests.dashboard.show import HOSTILE, Show, author

CHARTS = ("#chart-accuracy", "#chart-loss", "#chart-bandwidth")


def points(browser: Browser, chart: str) -> int:
    return int(browser.evaluate(f"document.querySelector({chart!r}).dataset.points ?? -1"))


def background(browser: Browser) -> str:
    return str(browser.evaluate("getComputedStyle(document.body).backgroundColor"))


def test_it_shows_what_the_daemon_says_and_follows(browser: Browser) -> None:
    show = Show(rows=60, others=4)
    with Served(show) as served:
        browser.open(served.url)
        browser.wait("the charts", lambda: [points(browser, chart) for chart in CHARTS] == [60, 60, 59])
        assert browser.text("#topic") == "living-room"
        assert browser.text("#state") == "training"
        assert browser.text("#headline") == f"{100 * show.state['trainer']['accuracy_averaged']:.1f}%"
        assert browser.text("#trend").startswith("▲ up")
        browser.wait("the tables", "document.querySelectorAll('#snapshots tbody tr').length === 4")
        rows = browser.texts("#peers tbody tr")
        assert len(rows) == 4
        assert [author(n)[-8:] for n in (1, 4)] == [row.split()[0].removeprefix("▶") for row in rows[:2]]
        assert "signed by the key" in browser.text("#refused")
        assert len(browser.texts("#updates tbody tr")) == 100
        assert browser.evaluate("document.querySelectorAll('#swarm line.connected').length") == 4
        assert "4 of them connected" in browser.evaluate("document.querySelector('#swarm svg').ariaLabel")
        browser.wait("the stream of events", "document.querySelector('.live').textContent === 'live'")
        browser.click("#kinds button:last-child")
        before = len(browser.texts("#events li"))
        served.call(show.grow, 5)
        browser.wait("new points", lambda: [points(browser, chart) for chart in CHARTS] == [65, 65, 64])
        browser.wait("the event", lambda: len(browser.texts("#events li")) == before + 1, 2)
        origins = browser.evaluate("performance.getEntriesByType('resource').map(entry => new URL(entry.name).origin)")
        assert set(origins) == {served.url} and len(origins) > 20
        assert browser.console() == []


def test_pause_and_resume_by_click_and_by_key(browser: Browser) -> None:
    show = Show()
    with Served(show) as served:
        browser.open(served.link())
        assert "key" not in browser.evaluate("location.href")
        browser.wait("the right to pause", lambda: browser.visible("#pause"))
        browser.click("#pause")
        browser.click(".menu button:nth-child(3)")
        browser.wait("the pause", lambda: browser.text("#state").startswith("paused until "))
        assert show.pauses == [3600]
        assert "by you, 60 min left" in browser.text("[data-name=paused-0]")
        browser.click("#resume")
        browser.wait("the end of the pause", lambda: browser.text("#state") == "training")
        assert show.verbs == ["resume"]
        browser.wait("its end on the page", lambda: not browser.visible("[data-name=paused-0]"))
        browser.evaluate("document.querySelector('#pause').focus()")
        browser.press("\ue007")  # Enter
        assert browser.visible(".menu button")
        browser.press("\ue00c")  # Escape
        assert not browser.visible(".menu button")
        browser.press("\ue007")
        browser.press("\ue004")  # Tab
        browser.press("\ue007")
        browser.wait("another pause", lambda: browser.text("#state") == "paused")
        assert show.pauses == [3600, None]
        # The page was opened with a key, which it keeps.
        browser.open(served.url)
        browser.wait("the right to resume", lambda: browser.visible("#resume"))
        assert browser.console() == []


def test_it_asks_for_one_thing_at_a_time(browser: Browser) -> None:
    show = Show()
    gate = trio.Event()

    async def slow(limit: int) -> list[dict[str, Any]]:
        await gate.wait()
        return []

    show.updates = slow  # type: ignore[method-assign]
    with Served(show) as served:
        browser.open(served.link())
        browser.wait("the right to pause", lambda: browser.visible("#pause"))
        browser.click("#pause")
        browser.click(".menu button")
        browser.wait("the pause", lambda: show.pauses == [None])
        browser.wait("the answer to it", "!document.querySelector('.menu button').disabled")
        served.call(gate.set)
        browser.wait("it to be seen", lambda: browser.text("#state") == "paused")
        entries = "performance.getEntriesByType('resource')"
        reads = f"{entries}.filter(e => /api.(status|peers|history|updates)/.test(e.name))"
        times = browser.evaluate(f"{reads}.map(e => [e.startTime, e.responseEnd]).sort((a, b) => a[0] - b[0])")
        assert len(times) >= 5
        assert all(end <= start + 1 for (_, end), (start, _) in pairwise(times))  # ms


def test_limits_and_pins_reach_the_daemon(browser: Browser) -> None:
    show = Show()
    with Served(show) as served:
        browser.open(served.link())
        browser.wait("the limits", lambda: browser.visible("#limit-upload:enabled"))
        browser.write("#limit-upload", "fast")
        browser.click("#limits [type=submit]")
        browser.wait("the refusal", lambda: "must be bytes per second" in browser.text("#limits .failed"))
        browser.write("#limit-upload", "2MB/s")
        browser.write("#limit-idle_after", "")
        browser.click("#limits [type=submit]")
        browser.wait("the change", lambda: show.in_force["upload"] == "2MB/s")
        assert (show.in_force["idle_after"], show.in_force["cpu"]) == (None, "50%")
        browser.wait("it to be saved", lambda: "Saved" in browser.text("#limits"))
        newest = show.cuts[-1]["cid"]
        browser.click("#snapshots tbody tr:first-child td[data-label=Kept] button")
        browser.wait("the pin", lambda: show.asked == [("pin", newest)])
        browser.wait("it on the page", lambda: "pinned" in browser.texts("#snapshots tbody tr")[0])
        browser.click("#snapshots tbody tr:first-child td[data-label=Kept] button")
        browser.wait("its end", lambda: show.asked[1:] == [("unpin", newest)])
        browser.write("#pin-cid", "bafynobody")
        browser.click("#snapshots [type=submit]")
        browser.wait("the refusal", lambda: "nobody has it" in browser.text("#snapshots .failed"))


def test_it_only_shows_without_the_right_to_steer(browser: Browser) -> None:
    show = Show()
    with Served(show) as served:
        browser.open(f"{served.url}/#key={'x' * 43}")
        browser.wait("the notice", lambda: browser.visible("[data-name=rights]"))
        assert "learnae dashboard" in browser.text("[data-name=rights]")
        browser.wait("the limits", lambda: browser.visible("#limit-upload"))
        assert not any(
            map(browser.visible, ("#pause", "#resume", "#limit-upload:enabled", "#pin-cid", "td button.small"))
        )
        status = "(await fetch('api/pause', {method: 'POST'})).status"
        assert browser.driver.execute_script(f"return (async () => {status})()") == 401
        assert show.pauses == []


def test_nothing_is_wider_than_a_phone(browser: Browser) -> None:
    show = Show(others=12)
    show.rows[3]["problem"] = "fc1.weight has shape (64, 64) here and (128, 64) there; " * 4
    with Served(show) as served:
        browser.open(served.link(), PHONE)
        browser.wait("the tables", lambda: len(browser.texts("#snapshots tbody tr")) == 4)
        for summary in ("#peers details", "#steering details"):
            browser.evaluate(f"document.querySelector({summary!r}).open = true")
        wide = "[...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > 375.5)"
        out = f"{wide}.filter(e => !e.closest('.unseen, .u-wrap')).map(e => e.outerHTML.slice(0, 120))"
        assert browser.evaluate(out) == []
        assert browser.evaluate("document.documentElement.scrollWidth") == 375
        assert browser.evaluate("getComputedStyle(document.querySelector('#peers tbody tr')).display") == "grid"


def test_what_peers_say_is_only_text(browser: Browser) -> None:
    show = Show(others=2, topic=HOSTILE)
    for name in ("agent", "problem", "state", "role", "direction"):
        show.rows[0][name] = HOSTILE
    show.rows[0] |= {"addresses": [HOSTILE], "peer": HOSTILE, "settled": {"index": 7, "cid": HOSTILE}}
    show.cuts[0] |= {"cid": HOSTILE, "weights": HOSTILE}
    show.state["refused"] = {HOSTILE: 3, "__proto__": 1}
    show.in_force[HOSTILE] = HOSTILE
    show.feed.post(Kind.MESSAGE, level="info", text=HOSTILE)
    with Served(show) as served:
        browser.open(served.link())
        browser.wait("the event", lambda: "onerror" in browser.text("#events"))
        browser.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
        for part in ("#peers", "#refused", "#limits", "#events", "#topic"):
            browser.wait(f"it in {part}", lambda part=part: "<img src=x" in browser.text(part))  # type: ignore[misc]
        assert browser.evaluate("document.querySelectorAll('img, script:not([src])').length") == 0
        assert "\u202e" not in browser.text("body")
        assert "pwned" not in str(browser.evaluate("document.title")).split("·")[0]
        assert browser.evaluate("Object.prototype.polluted === undefined")
        assert browser.console() == []


def test_light_and_dark(browser: Browser) -> None:
    with Served(Show()) as served:
        browser.open(served.url, dark=False)
        light = background(browser)
        browser.prefer(dark=True)
        browser.wait("the dark page", lambda: background(browser) != light)
        dark = background(browser)
        browser.click("#theme")
        assert background(browser) == light
        browser.open(served.url, dark=True)
        assert background(browser) == light  # as chosen
        browser.click("#theme")
        assert background(browser) == dark


PRESSED = "[...document.querySelectorAll('#range [aria-pressed=true]')].map(button => button.textContent)"


def test_charts_tell_values_and_zoom_together(browser: Browser) -> None:
    show = Show()
    with Served(show) as served:
        browser.open(served.url)
        browser.wait("the charts", lambda: points(browser, "#chart-loss") == 60)
        latest = browser.text("#chart-loss b")
        browser.hover("#chart-loss .u-over", 0.02)
        browser.wait("the value under the pointer", lambda: float(browser.text("#chart-loss b")) > 2 > float(latest))
        # The other charts tell the same moment.
        browser.wait("it there", lambda: 0 < float(browser.text("#chart-accuracy b").split()[0]) < 20)
        whole = browser.evaluate("document.querySelector('#chart-loss .plot').ariaLabel")
        assert whole.startswith("Loss: training from 2.") and "to 0.1" in whole
        browser.drag("#chart-accuracy .u-over", 0.4, 0.7)
        browser.wait("the zoom", f"{PRESSED}.length === 0")
        browser.hover("#chart-loss .u-over", 0.02)
        browser.wait("another value there", lambda: float(browser.text("#chart-loss b")) < 1)
        browser.click("#range button:first-child")
        assert browser.evaluate(PRESSED) == ["all"]
        browser.hover("#chart-loss .u-over", 0.02)
        browser.wait("the first value", lambda: float(browser.text("#chart-loss b")) > 2)
        assert browser.console() == []


def test_charts_and_tables_obey_the_keyboard(browser: Browser) -> None:
    with Served(Show()) as served:
        browser.open(served.url)
        browser.wait("the charts", lambda: points(browser, "#chart-loss") == 60)
        browser.wait("the peers", lambda: len(browser.texts("#peers tbody tr")) == 4)
        assert browser.evaluate(PRESSED) == ["all"]
        browser.evaluate("document.querySelector('#chart-loss .plot').focus()")
        browser.press("+")
        assert browser.evaluate(PRESSED) == [] and browser.visible("#range button:first-child")
        browser.press("0")
        assert browser.evaluate(PRESSED) == ["all"]
        rate = "#peers th:nth-child(3)"
        browser.evaluate(f"document.querySelector('{rate} button').focus()")
        browser.press("\ue007")
        assert browser.evaluate(f"document.querySelector('{rate}').ariaSort") == "descending"
        shown = [row.split()[0].removeprefix("▶") for row in browser.texts("#peers tbody tr")]
        assert shown[:2] == [author(4)[-8:], author(1)[-8:]]


def test_it_says_when_the_daemon_is_gone_and_when_it_is_back(browser: Browser) -> None:
    with Served(Show()) as served:
        browser.open(served.url)
        port = served.port
    browser.wait("the notice", lambda: browser.visible("[data-name=lost]"))
    assert "What you see is from" in browser.text("[data-name=lost]")
    assert browser.text("#state") == "no answer"
    with Served(Show(topic="again"), port):
        browser.wait("the daemon", lambda: browser.text("#topic") == "again")
        assert not browser.visible("[data-name=lost]")


def test_it_explains_what_is_not_there_yet(browser: Browser) -> None:
    show = Show(rows=0, others=0, state="alone")
    show.cuts = []

    async def none(limit: int) -> list[dict[str, Any]]:
        return []

    show.updates = none  # type: ignore[method-assign]
    with Served(show) as served:
        browser.open(served.url)
        browser.wait("the peers", lambda: "Nobody else is here yet" in browser.text("#peers"))
        assert browser.text("#peers .command") == "learnaed run --topic living-room --task digits"
        browser.wait("the rest", lambda: "No snapshot yet" in browser.text("#snapshots"))
        assert "No update yet" in browser.text("#updates")
        assert "No loss yet" in browser.text("#chart-loss")
        assert browser.console() == []
