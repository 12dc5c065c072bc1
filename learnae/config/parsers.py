"""One parser per setting: from what was typed, or stands in a file, to a valid value; used by `Config`."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from learnae.cid import DAG_CBOR, codec_of, from_text
from learnae.errors import ConfigError, WireError
from learnae.limits import Limits
from learnae.peer import public_key
from learnae.tasks import BUILT_IN, LOOP

LOG_LEVELS = ("debug", "info", "warning", "error")
LOG_FORMATS = ("text", "json")


def parse(name: str, value: Any, source: str) -> Any:
    """The value in its setting's type. Parsing a parsed value changes nothing.

    Raises:
        ConfigError: it is not valid; the message begins with `source`, where it came from.
    """
    if value is None:
        return None
    try:
        return _PARSERS[name](value)
    except (ValueError, TypeError) as error:
        shown = " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
        raise ConfigError(f"{source} is {shown[:200]!r}, but {error}", code="bad-setting") from error


def _name(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", value):
        raise ValueError(
            "must be 1 to 64 letters, digits, dots, dashes or underscores, and begin with a letter or digit. "
            "Choose a name such as my-swarm."
        )
    return value


_TASKS = (
    f"{', '.join(BUILT_IN)}, or file.py:Class for your own; {LOOP} waits for a script of yours that calls learnae.join"
)


def _task(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"must name a task. Say {_TASKS}.")
    if value in BUILT_IN or value == LOOP:
        return value
    path, colon, name = value.rpartition(":")
    if not colon or not name.isidentifier():
        file = value.rstrip(":")
        if file.endswith(".py"):
            raise ValueError(f"must name a class of that file too: write {file}:YourClass.")
        raise ValueError(f"must be a task that there is. Say {_TASKS}.")
    if not Path(path).is_file():
        raise ValueError(
            f"must name a file that exists: {Path(path).absolute()} is none. Correct the path before the colon."
        )
    return value


def _shard(value: object) -> str:
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", value) if isinstance(value, str) else None
    if match is None or not 1 <= int(match[1]) <= int(match[2]) <= 10_000:
        raise ValueError(
            "must be K/N with 1 <= K <= N <= 10000: the K-th of N shards. "
            "Say 1/2 on one PC and 2/2 on the other, for instance."
        )
    return f"{int(match[1])}/{int(match[2])}"


def _skew(value: object) -> float:
    remedy = (
        "must be a number from 0.001 to 1000000: the Dirichlet alpha of the split. "
        "Say 0.3 for shards that differ much, 100 for nearly even."
    )
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError(remedy)
    try:
        alpha = float(value)
    except ValueError:
        raise ValueError(remedy) from None
    if not 0.001 <= alpha <= 1e6:
        raise ValueError(remedy)
    return alpha


def _path(value: object) -> Path:
    if not isinstance(value, (str, Path)) or not str(value):
        raise ValueError("must be a path. Write it between quotes.")
    return Path(value).expanduser().absolute()


def _directory(value: object) -> Path:
    path = _path(value)
    if not path.is_dir():
        raise ValueError("is not a directory. Create it and put the task's data files there, or correct the path.")
    return path


def _whole(low: int, high: int) -> Callable[[object], int]:
    def parse(value: object) -> int:
        text = str(value)
        if isinstance(value, bool) or not re.fullmatch(r"\d{1,19}", text) or not low <= int(text) <= high:
            raise ValueError(f"must be a whole number from {low} to {high}. Leave it out for the default.")
        return int(text)

    return parse


def _size(value: object) -> int:
    match = re.fullmatch(r"(\d{1,15})\s*(?:([kMGT])(i?))?B?", str(value))
    size = int(match[1]) * (1024 if match[3] else 1000) ** " kMGT".index(match[2] or " ") if match else 0
    if not 2**20 <= size <= 2**60:
        raise ValueError("must be a number of bytes from 1 MiB on. Say 500MB or 20GiB, for instance.")
    return size


def _switch(value: object) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).lower()
    if text not in ("1", "true", "yes", "on", "0", "false", "no", "off"):
        raise ValueError("must be true or false. Say 1 or 0.")
    return text in ("1", "true", "yes", "on")


def _choice(*allowed: str) -> Callable[[object], str]:
    def parse(value: object) -> str:
        text = str(value).lower()
        if text not in allowed:
            raise ValueError(f"must be one of: {', '.join(allowed)}. Choose one of them.")
        return text

    return parse


def _addresses(check: Callable[[str], None], example: str) -> Callable[[object], tuple[str, ...]]:
    def parse(value: object) -> tuple[str, ...]:
        items = (value,) if isinstance(value, str) else value
        if not isinstance(items, (list, tuple)) or not all(isinstance(item, str) for item in items):
            raise ValueError(f'must be a text or a list of texts. In the file, write ["{example}"].')
        for item in items:
            check(item)
        return tuple(items)

    return parse


def _check_listen(address: str) -> None:
    match = re.fullmatch(r"/(ip4|ip6)/([^/]+)/tcp/(\d{1,5})", address)
    try:
        if match is None or int(match[3]) > 65535:
            raise ValueError(address)
        (ipaddress.IPv4Address if match[1] == "ip4" else ipaddress.IPv6Address)(match[2])
    except ValueError:
        raise ValueError(
            "a listen address must read /ip4/ADDRESS/tcp/PORT or /ip6/ADDRESS/tcp/PORT. "
            "Say /ip4/0.0.0.0/tcp/4117 to listen on every network of this PC, with port 0 for any free port."
        ) from None


def _check_peer(address: str) -> None:
    match = re.fullmatch(r"/(?:ip4|ip6|dns|dns4|dns6)/[^/]+/tcp/(\d{1,5})/p2p/([^/]+)", address)
    try:
        if match is None or int(match[1]) > 65535:
            raise WireError("no address")
        public_key(match[2])
    except WireError:
        raise ValueError(
            "a peer address must read /ip4/ADDRESS/tcp/PORT/p2p/PEER_ID. Copy it from `learnae status` on the other PC."
        ) from None


def _status_listen(value: object) -> str:
    host, _, port = str(value).rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    try:
        address = ipaddress.ip_address(bare)
        right = address.version == (6 if host != bare else 4) and re.fullmatch(r"\d{1,5}", port)
        if not right or not 1 <= int(port) <= 65535:
            raise ValueError(value)
    except ValueError:
        raise ValueError(
            "must read ADDRESS:PORT, or [ADDRESS]:PORT for IPv6. Say 192.0.2.7:4119 with this PC's own address, or "
            "0.0.0.0:4119 for all of them."
        ) from None
    return str(value)


def _check_id(peer: str) -> None:
    try:
        public_key(peer)
    except WireError:
        raise ValueError("a peer id begins with 12D3Koo. Copy it from `learnae peers`.") from None


def _init(value: object) -> str:
    text = str(value)
    try:
        cut = codec_of(from_text(text)) == DAG_CBOR
    except WireError:
        cut = False
    path = _path(value)
    if not cut and not path.is_file():
        raise ValueError(
            "must be a safetensors file that exists, or the CID of a cut, which begins with bafyrei. Correct the path, "
            "or copy the CID from `learnae snapshots`."
        )
    return text if cut else str(path)


def _start(value: object) -> str:
    text = str(value)
    try:
        codec = codec_of(from_text(text))
    except WireError as error:
        raise ValueError(f"must be the CID of a cut: {error}. Copy it from `learnae snapshots`.") from error
    if codec != DAG_CBOR:
        raise ValueError("must be the CID of a cut, which begins with bafyrei. Copy it from `learnae snapshots`.")
    return text


def _ipfs(value: object) -> str:
    text = str(value)
    if text in ("auto", "off"):
        return text
    if not re.fullmatch(r"/(?:ip4|ip6|dns|dns4|dns6)/[^/]+/tcp/\d{1,5}(?:/https?)?", text):
        raise ValueError(
            "must be auto, off, or the address of an IPFS node's RPC API. Say /ip4/127.0.0.1/tcp/5001 for a node on "
            "this PC."
        )
    return text


def _limits(value: object) -> Limits:
    if not isinstance(value, Limits):
        raise ValueError("must be a table of limits. In the file, begin it with [limits].")
    return value


_PARSERS: dict[str, Callable[[object], Any]] = {
    "topic": _name,
    "task": _task,
    "shard": _shard,
    "skew": _skew,
    "data": _directory,
    "listen": _addresses(_check_listen, "/ip4/0.0.0.0/tcp/4117"),
    "peer": _addresses(_check_peer, "/ip4/192.0.2.7/tcp/4117/p2p/PEER_ID"),
    "secret_file": _path,
    "allow": _addresses(_check_id, "12D3Koo..."),
    "deny": _addresses(_check_id, "12D3Koo..."),
    "home": _path,
    "profile": _name,
    "status_port": _whole(0, 65535),
    "status_listen": _status_listen,
    "init": _init,
    "start": _start,
    "ipfs": _ipfs,
    "snapshot_cap": _size,
    "mdns": _switch,
    "paused": _switch,
    "seed": _whole(0, 2**63 - 1),
    "rounds": _whole(1, 2**31),
    "log_format": _choice(*LOG_FORMATS),
    "log_level": _choice(*LOG_LEVELS),
    "config": _path,
    "torch_threads": _whole(1, 1024),
    "limits": _limits,
}
