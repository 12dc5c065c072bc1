"""The dashboard's files in memory, each with its media type and tag; read once, by the routes of `status`."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from types import MappingProxyType
from typing import Final

HEADERS: Final = MappingProxyType(
    {
        # The page runs its own files alone: no inline script, nothing from elsewhere, in nobody's frame.
        "Content-Security-Policy": "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        # Kept by the browser, and asked for with its tag each time: a new version of learnae shows at once.
        "Cache-Control": "no-cache",
    }
)
"""What every one of the files is sent with."""

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    "": "text/plain; charset=utf-8",
}


@dataclass(frozen=True, slots=True)
class Asset:
    """One file: `content`, its `media_type`, and `etag`, which changes with the content."""

    content: bytes
    media_type: str
    etag: str


@functools.cache
def assets() -> Mapping[str, Asset]:
    """All files by their path, "index.html" for instance; some 250 kB, and no path that a browser asks for is opened."""
    return MappingProxyType(dict(_below(files("learnaed.dashboard") / "static", "")))


def _below(folder: Traversable, path: str) -> list[tuple[str, Asset]]:
    found = []
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.is_dir():
            found += _below(entry, f"{path}{entry.name}/")
        elif (suffix := entry.name[entry.name.rfind(".") :] if "." in entry.name else "") in _TYPES:
            content = entry.read_bytes()
            tag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
            found.append((path + entry.name, Asset(content, _TYPES[suffix], tag)))
    return found
