"""The dashboard's files: what they may hold, and that they say the same as the daemon."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest

from learnae.cli import dropped
from learnae.ledger.admission import Refusal
from learnaed.dashboard import HEADERS, assets
from learnaed.feed import Kind

OWN = {path: asset.content.decode() for path, asset in assets().items() if not path.startswith("vendor/")}
SCRIPTS = {path: text for path, text in OWN.items() if path.endswith(".js")}


def table(script: str, name: str) -> dict[str, str]:
    """An object of strings in a script, written as JSON but for its last comma."""
    found = re.search(rf"export const {name} = (\{{.*?\n\}});", SCRIPTS[script], re.DOTALL)
    assert found
    return json.loads(found[1].replace(",\n}", "\n}"))  # type: ignore[no-any-return]


def test_it_explains_refusals_and_drops_as_the_daemon_does() -> None:
    assert table("words.js", "REFUSALS") == {refusal.value: refusal.meaning for refusal in Refusal}
    assert table("words.js", "DROPS") == dropped.MEANINGS


def test_it_listens_to_every_kind_of_event() -> None:
    stirs = re.search(r"const STIRS = \{(.*?)\n\};", SCRIPTS["state.js"], re.DOTALL)
    assert stirs
    assert re.findall(r"^  (\w+):", stirs[1], re.MULTILINE) == [kind.value for kind in Kind]


@pytest.mark.parametrize("path", sorted(OWN))
def test_nothing_comes_from_elsewhere(path: str) -> None:
    names = re.sub(r"http://www\.w3\.org/2000/svg", "", OWN[path])
    assert not re.search(r"https?:|\burl\(|@import", names)


@pytest.mark.parametrize("path", sorted(SCRIPTS))
def test_text_is_never_parsed_as_html_or_code(path: str) -> None:
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|srcdoc", SCRIPTS[path]
    )


def test_modules_import_what_there_is() -> None:
    found = 0
    for path, text in SCRIPTS.items():
        for target in re.findall(r'from "(\.[^"]+)"', text):
            parts = [*path.split("/")[:-1], *target.removeprefix("./").split("/")]
            while ".." in parts:
                place = parts.index("..")
                del parts[place - 1 : place + 1]
            assert "/".join(parts) in assets(), f"{path} imports {target}"
            found += 1
    assert found > 20


class Page(HTMLParser):
    """Collects what a page links to and runs."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: list[str] = []
        self.inline: list[str] = []
        self._script = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self._script = tag in ("script", "style")
        self.links += [str(named[key]) for key in ("src", "href") if key in named]
        self.ids += [str(named["id"])] if "id" in named else []
        self.inline += [name for name in named if name.startswith("on") or name == "style"]

    def handle_data(self, data: str) -> None:
        if self._script and data.strip():
            self.inline.append(data)
        self._script = False


def test_the_page_has_nothing_inline_and_names_its_parts_once() -> None:
    page = Page(OWN["index.html"])
    assert page.inline == []
    assert len(set(page.ids)) == len(page.ids) > 20
    local = [link.removeprefix("assets/") for link in page.links if not link.startswith("#")]
    assert len(local) == 5 and set(local) <= set(assets())
    assert set(re.findall(r'\bat\("([\w-]+)"\)', "".join(SCRIPTS.values()))) <= set(page.ids)


def test_what_it_is_sent_with() -> None:
    assert HEADERS["Content-Security-Policy"].startswith("default-src 'self';")
    assert "unsafe" not in HEADERS["Content-Security-Policy"]
    for path, asset in assets().items():
        assert asset.media_type != "" and asset.etag.startswith('"'), path
    assert sum(len(asset.content) for asset in assets().values()) < 300_000
    assert "MIT" in assets()["vendor/uplot/LICENSE"].content.decode()
