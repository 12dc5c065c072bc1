"""Asks the daemon, an IPFS node, and whoever listens at an address, each for a few seconds; used by `gathering`."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import httpx

from learnae.cli import daemons
from learnae.cli.doctor import lying
from learnae.cli.doctor.addresses import endpoint
from learnae.cli.doctor.facts import Daemon, Ipfs, Reach
from learnae.errors import DaemonError
from learnae.home import STATUS_FILE

_SECONDS = 3.0
_MOST_ADDRESSES = 8
_MOST_BYTES = 4096
_IPFS = "/ip4/127.0.0.1/tcp/5001"


def daemon(profile: Path) -> Daemon | None:
    """Who left `status.json` here, and what it says of itself; None if there is no such file, or it is no daemon's."""
    path = profile / STATUS_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found = daemons.Daemon(profile, str(content["url"]), int(content["pid"]), "", str(content.get("topic")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return Daemon(0, "", False, f"{path} cannot be read: {error}", last_words=lying.last_words(profile))
    if not daemons.alive(found.pid):
        return Daemon(found.pid, found.url, False, last_words=lying.last_words(profile))
    try:
        status, peers = found.get("/api/status"), tuple(found.get("/api/peers"))
    except DaemonError as error:
        return Daemon(found.pid, found.url, True, str(error), last_words=lying.last_words(profile))
    return Daemon(found.pid, found.url, True, None, status, peers, _told(found))


def _told(found: daemons.Daemon) -> dict[str, Any]:
    try:
        told = found.get("/api/doctor")
    except DaemonError:
        return {}  # An older one.
    return told if isinstance(told, dict) else {}


def status(found: daemons.Daemon) -> dict[str, Any]:
    """The status of a daemon; nothing if it does not answer."""
    try:
        answer = found.get("/api/status")
    except DaemonError:
        return {}
    return answer if isinstance(answer, dict) else {}


def reach(addresses: Iterable[str]) -> tuple[Reach, ...]:
    """Whether a connection to these addresses can be opened from here."""
    return tuple(Reach(address, _reached(address)) for address in list(addresses)[:_MOST_ADDRESSES])


def _reached(address: str) -> str | None:
    place = endpoint(address)
    if place is None:
        return "it is no address of TCP"
    try:
        socket.create_connection(place, _SECONDS).close()
    except OSError as error:
        return error.strerror or str(error) or type(error).__name__
    return None


def ipfs(address: str | None, wanted: str) -> Ipfs | None:
    """What the IPFS node says of its version; None if none is wanted."""
    if wanted == "off":
        return None
    chosen = wanted if wanted != "auto" else address or _IPFS
    place = endpoint(chosen)
    if place is None:
        return Ipfs(wanted, chosen, error="it is no address of TCP")
    host, port = place
    scheme = "https" if chosen.endswith("/https") else "http"
    url = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}/api/v0/version"
    try:
        with (
            httpx.Client(trust_env=False, timeout=_SECONDS) as client,
            client.stream("POST", url) as answer,
        ):
            body = b""
            for piece in answer.iter_raw(_MOST_BYTES):
                body += piece
                if len(body) >= _MOST_BYTES:
                    break
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return Ipfs(wanted, chosen, error=str(error) or type(error).__name__)
    return Ipfs(wanted, chosen, answer.status_code, _version(body))


def _version(body: bytes) -> str | None:
    try:
        version = json.loads(body)["Version"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return version[:40] if isinstance(version, str) and version.isprintable() else None
