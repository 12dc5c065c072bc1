"""Which pins on which IPFS node are ours, on disk; used by the pinning, which removes no others."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path

from learnae.errors import StoreError, disk_code
from learnaed import durable
from learnaed.ipfs.node import Kind

_log = logging.getLogger(__name__)

FORMAT = 1
_KINDS: dict[str, Kind] = {"recursive": "recursive", "direct": "direct"}


class PinBook:
    """A small JSON file: peer id of the IPFS node -> CID -> kind of pin. A damaged one is put aside.

    What is not in the book is left alone: after its loss, old pins stay until the user removes them.

    Raises:
        StoreError: (all methods) it cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pins: dict[str, dict[bytes, Kind]] = {}
        try:
            self._pins = _parse(path.read_bytes())
        except FileNotFoundError:
            pass
        except OSError as error:
            raise StoreError(
                f"the list of our pins, {path}, cannot be read: {error}", code="file-unreadable"
            ) from error
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            aside = path.with_name(path.name + ".damaged")
            _log.warning(
                "the list of our pins, %s, is damaged (%r): it goes on as %s, old pins stay", path, error, aside
            )
            try:
                path.replace(aside)
            except OSError as trouble:
                raise StoreError(
                    f"the damaged list of our pins, {path}, cannot be put aside: {trouble}", code="file-unwritable"
                ) from trouble

    def of(self, node: str) -> Mapping[bytes, Kind]:
        """Our pins on this node."""
        return dict(self._pins.get(node, {}))

    def add(self, node: str, root: bytes, kind: Kind) -> None:
        """Durable before the pin is made, so that none is forgotten."""
        self._write({**self._pins, node: {**self._pins.get(node, {}), root: kind}})

    def remove(self, node: str, root: bytes) -> None:
        """Once the pin is gone."""
        pins = {cid: kind for cid, kind in self._pins.get(node, {}).items() if cid != root}
        self._write({key: value for key, value in {**self._pins, node: pins}.items() if value})

    def _write(self, pins: dict[str, dict[bytes, Kind]]) -> None:
        written = {node: {root.hex(): kind for root, kind in roots.items()} for node, roots in pins.items()}
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            durable.replace(self._path, json.dumps({"format": FORMAT, "pins": written}, indent=1).encode())
        except OSError as error:
            raise StoreError(
                f"the list of our pins, {self._path}, cannot be written: {error}. Make room",
                code=disk_code(error, "file-unwritable"),
            ) from error
        self._pins = pins


def _parse(data: bytes) -> dict[str, dict[bytes, Kind]]:
    content = json.loads(data)
    if content["format"] != FORMAT:
        raise ValueError("another format")
    return {
        str(node): {bytes.fromhex(root): _KINDS[kind] for root, kind in roots.items()}
        for node, roots in content["pins"].items()
    }
