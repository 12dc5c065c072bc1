"""A headless Chromium that looks at the dashboard, and a server in a thread that has one to look at."""

from __future__ import annotations

import base64
import shutil
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
import trio

from learnaed.status import StatusSource, serve

try:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service
except ImportError:
    webdriver = None  # type: ignore[assignment]

T = TypeVar("T")

TOKEN = "correct horse"
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--disable-sync",
    "--hide-scrollbars",
    "--no-first-run",
    "--no-default-browser-check",
    "--no-proxy-server",
)
WIDE = (1360, 900)
PHONE = (375, 780)
PATIENCE = 20.0
POLL = 0.05


def unavailable() -> str | None:
    """Why there is no browser to test with, or None if there is one."""
    if webdriver is None:
        return "the dashboard's tests need selenium (`pip install -e '.[dev]'`)"
    missing = [name for name, path in (("chromium", _chromium()), ("chromedriver", _driver())) if path is None]
    if missing:
        return f"the dashboard's tests need {' and '.join(missing)} (`apt-get install chromium chromium-driver`)"
    return None


def _chromium() -> str | None:
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def _driver() -> str | None:
    return shutil.which("chromedriver")


def link(url: str, token: str) -> str:
    """An address that opens the page with the right to steer, once, as `learnae dashboard` has it."""
    with httpx.Client(trust_env=False) as client:
        answer = client.post(f"{url}/api/ticket", headers={"Authorization": f"Bearer {token}"})
    return f"{url}/?ticket={answer.json()['ticket']}"


class Browser:
    """One browser with one page; a context manager. `directory` is for its profile.

    What it waits for may take twenty seconds; then it fails with the name of what did not come.
    """

    def __init__(self, directory: Path) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = _chromium() or ""
        for flag in (*FLAGS, f"--user-data-dir={directory}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(_driver()))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.driver.quit()

    def open(self, url: str, size: tuple[int, int] = WIDE, *, dark: bool = False) -> None:
        """Look at this address, and wait until there is something to see."""
        self.resize(size)
        self.prefer(dark=dark)
        self.console()
        self.driver.get(url)
        self.wait("the page to draw the status", "document.querySelector('#topic')?.textContent !== '…'")

    def resize(self, size: tuple[int, int], scale: float = 1) -> None:
        """Give the page so many CSS pixels."""
        width, height = size
        metrics = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def prefer(self, *, dark: bool) -> None:
        """What the system says about light and dark."""
        feature = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        return self.driver.execute_script(f"return {expression}")

    def wait(self, what: str, condition: str | Callable[[], object], seconds: float = PATIENCE) -> None:
        """Until a JavaScript expression, or a function, is true. Raises AssertionError."""
        holds = condition if callable(condition) else partial(self.evaluate, condition)
        deadline = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}; {self.console()}"
            time.sleep(POLL)

    def text(self, selector: str) -> str:
        """What the first such element says, as it is seen."""
        return str(self.evaluate(f"document.querySelector({selector!r}).innerText"))

    def texts(self, selector: str) -> list[str]:
        """What all such elements say."""
        return [
            str(text) for text in self.evaluate(f"[...document.querySelectorAll({selector!r})].map(e => e.innerText)")
        ]

    def visible(self, selector: str) -> bool:
        """Whether there is such an element that can be seen."""
        return bool(self.evaluate(f"Boolean(document.querySelector({selector!r})?.checkVisibility())"))

    def click(self, selector: str) -> None:
        """As a user does: it must be seen, and nothing may lie over it."""
        self.driver.find_element("css selector", selector).click()

    def drag(self, selector: str, start: float, end: float) -> None:
        """Press the button of the mouse over the element, and let it go elsewhere in it: fractions of its width."""
        self.hover(selector, start)
        for kind, place in (("mousePressed", start), ("mouseMoved", (start + end) / 2), ("mouseReleased", end)):
            self._mouse(selector, place, kind, button="left", buttons=1, clickCount=1)

    def hover(self, selector: str, place: float) -> None:
        """Bring the pointer there."""
        self.evaluate(f"document.querySelector({selector!r}).scrollIntoView({{block: 'center'}})")
        self._mouse(selector, place, "mouseMoved")

    def _mouse(self, selector: str, place: float, kind: str, **more: Any) -> None:
        box = self.evaluate(f"document.querySelector({selector!r}).getBoundingClientRect().toJSON()")
        at = {"x": box["x"] + place * box["width"], "y": box["y"] + box["height"] / 2}
        self.driver.execute_cdp_cmd("Input.dispatchMouseEvent", {"type": kind, **at, **more})

    def press(self, *keys: str) -> None:
        """Keys, to whatever has the focus."""
        self.driver.switch_to.active_element.send_keys(*keys)

    def write(self, selector: str, text: str) -> None:
        """Replace what is in a field."""
        field = self.driver.find_element("css selector", selector)
        field.clear()
        field.send_keys(text)

    def console(self) -> list[str]:
        """Warnings and errors of the page since the last call."""
        return [f"{entry['level']}: {entry['message']}" for entry in self.driver.get_log("browser")]  # type: ignore[no-untyped-call]

    def shoot(self, path: Path) -> None:
        """Write what is seen as PNG."""
        image = self.driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})["data"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(image))


class Served:
    """The status endpoint of a made-up daemon, in a thread of its own; a context manager."""

    def __init__(self, source: StatusSource, port: int = 0) -> None:
        self._source = source
        self._port = port
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="status endpoint")
        self.url = ""

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(PATIENCE)
        if self._failure is not None:
            raise self._failure
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._trio.run_sync_soon(self._scope.cancel)
        self._thread.join(PATIENCE)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.url.rpartition(":")[2])

    def link(self) -> str:
        """An address that opens the page with the right to steer."""
        return link(self.url, TOKEN)

    def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """`function(*arguments)` in the server's thread."""
        return trio.from_thread.run_sync(function, *arguments, trio_token=self._trio)

    def _run(self) -> None:
        try:
            trio.run(self._main)
        except BaseException as error:
            self._failure = error
        finally:
            self._ready.set()

    async def _main(self) -> None:
        self._trio = trio.lowlevel.current_trio_token()
        async with trio.open_nursery() as nursery:
            self._scope = nursery.cancel_scope
            self.url = await nursery.start(partial(serve, self._source, "127.0.0.1", self._port, TOKEN))
            self._ready.set()
