"""The dashboard of a daemon that trains with two others; takes the pictures of the user guide."""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path

import pytest

from netsim.daemons import Node, Swarm
from tests.dashboard.browser import PHONE, Browser, link, unavailable

pytestmark = [pytest.mark.slow, pytest.mark.netns, pytest.mark.timeout(600)]

SHOOT = "LEARNAE_SCREENSHOTS" in os.environ
"""Write the pictures anew: LEARNAE_SCREENSHOTS=1 pytest -m slow tests/dashboard/test_swarm.py. Takes some minutes."""
IMAGES = Path(__file__).parents[2] / "docs" / "images"
SIZES = {"light": (1280, 1448), "dark": (1280, 1448), "phone": (PHONE[0], 1500)}
TASK = "fashion-mnist" if SHOOT else "digits"
LEARNED_FOR = 240.0  # seconds of training in the pictures


@pytest.mark.parametrize("hosts", [3], indirect=True)
def test_it_shows_and_steers_a_live_swarm(hosts: Swarm, tmp_path: Path) -> None:
    if reason := unavailable():
        pytest.skip(reason)
    assert hosts.lab is not None
    for k in (1, 2, 3):
        flags = ("--topic", "living-room", "--task", TASK, "--shard", f"{k}/3")
        hosts.start(*flags, host=f"h{k}")
    hosts.wait_together(60)
    if SHOOT:
        hosts.wait("something to show", lambda: hosts.nodes[0].status()["uptime"] > LEARNED_FOR, 2 * LEARNED_FOR)
    # All of it in one thread, which is in the namespace of the first host, as the browser is.
    hosts.lab.call("h1", partial(look, hosts.nodes[0], tmp_path / "browser"))


def look(node: Node, directory: Path) -> None:
    """What a user of the first host sees and does."""

    url, token = json.loads((node.profile / "status.json").read_text())["url"], (node.profile / "token").read_text()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("no_proxy", "*")
        with Browser(directory) as browser:
            browser.open(link(url, token.strip()))
            points = "Number(document.querySelector('#chart-loss').dataset.points)"
            browser.wait("a point of the chart", f"{points} > 0", 30)
            first = browser.evaluate(points)
            browser.wait("more of them", f"{points} > {first}", 20)
            browser.wait("the peers", lambda: len(browser.texts("#swarm line.connected")) == 2)
            roles = [row.split()[1] for row in browser.texts("#peers tbody tr")]
            assert roles == ["trains", "trains"]
            if SHOOT:
                take_pictures(browser, url)
            browser.click("#pause")
            browser.click(".menu button")
            browser.wait("the daemon to pause", lambda: node.status()["state"] == "paused", 20)
            browser.wait("it to be seen", lambda: browser.text("#state") == "paused")
            browser.click("#resume")
            browser.wait("the daemon to resume", lambda: node.status()["state"] == "training", 20)
            browser.wait("it to be seen", lambda: browser.text("#state") == "training")
            assert browser.console() == []


def take_pictures(browser: Browser, url: str) -> None:
    """Of the page as it is, for the user guide."""
    for name, size in SIZES.items():
        browser.open(url, size, dark=name == "dark")
        browser.wait("all of it", lambda: len(browser.texts("#snapshots tbody tr")) > 0)
        browser.wait("the stream", "document.querySelector('.live').textContent === 'live'")
        if name == "phone":
            browser.resize(size, 1.5)
        browser.shoot(IMAGES / f"dashboard-{name}.png")
    browser.open(url)
