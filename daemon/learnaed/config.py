"""The daemon's settings, merged from flags, environment and a TOML file; built by `main`, read by everybody else."""

from __future__ import annotations

import difflib
import ipaddress
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

from learnae.cid import DAG_CBOR, codec_of, from_text
from learnae.errors import ConfigError, WireError
from learnae.home import default_home
from learnae.peer import public_key
from learnae.tasks import BUILT_IN

ENVIRONMENT_PREFIX = "LEARNAE_"
FILE_NAME = "learnae.toml"
LOG_LEVELS = ("debug", "info", "warning", "error")
LOG_FORMATS = ("text", "json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything that a daemon can be told; a `Config` that exists is valid.

    Attributes:
        topic: name of the swarm's meeting place; nodes with the same topic and task train together.
        task: a built-in task's name, or "file.py:Class".
        shard: "K/N": this node trains on the K-th of N shards of the task's data (1-based).
        skew: Dirichlet alpha of the split; smaller means shards that differ more. None: an even split.
        data: directory with the task's data files, for tasks that need one.
        listen: multiaddrs to listen on. A port that is taken is replaced by a free one.
        peer: multiaddrs to dial, beside those found by mDNS and those remembered.
        home: directory that holds the profiles.
        profile: name of the state directory inside `home`. None: "default", or the next free one of
            "default-2", "default-3", ... where another daemon holds it.
        status_port: first port to try for the local status endpoint; 0 takes any free port.
        start: CID of the cut to start from, if this node does not know of a later one; None: what the peers have.
        ipfs: "auto" pins snapshots to an IPFS node on this machine, if one is found; "off" does not look for one; a
            multiaddr is that of its RPC API.
        snapshot_cap: most bytes that snapshots may take on the disk. More keeps more milestones and pins.
        mdns: find peers on the local network by multicast DNS.
        paused: start without training: store and serve updates until resumed.
        seed: seed of this node's random draws (order of its data).
        rounds: finish after so many own rounds. None: train until told otherwise.
        log_format: "text" or "json".
        log_level: "debug", "info", "warning" or "error".
        config: the TOML file that was read, if any.
        torch_threads: threads of one training step. None: torch's own choice (all cores).

    Raises:
        ConfigError: a value is missing or not valid; says which, why, and what to write instead.
    """

    topic: str
    task: str
    shard: str = "1/1"
    skew: float | None = None
    data: Path | None = None
    listen: tuple[str, ...] = ("/ip4/0.0.0.0/tcp/4117",)
    peer: tuple[str, ...] = ()
    home: Path
    profile: str | None = None
    status_port: int = 4118
    start: str | None = None
    ipfs: str = "auto"
    snapshot_cap: int = 20 * 2**30
    mdns: bool = True
    paused: bool = False
    seed: int = 0
    rounds: int | None = None
    log_format: str = "text"
    log_level: str = "info"
    config: Path | None = None
    torch_threads: int | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            object.__setattr__(self, field.name, _parse(field.name, getattr(self, field.name), field.name))

    @property
    def shard_index(self) -> int:
        """K of "K/N", 1-based."""
        return int(self.shard.split("/")[0])

    @property
    def shard_count(self) -> int:
        """N of "K/N"."""
        return int(self.shard.split("/")[1])

    @classmethod
    def resolve(cls, flags: Mapping[str, object], environment: Mapping[str, str]) -> Config:
        """Merge flags, then LEARNAE_* variables, then the TOML file, then defaults; the first that speaks wins.

        Args:
            flags: field name -> value as typed; None or an empty tuple where the flag was not given.
            environment: the process environment; LEARNAE_STATUS_PORT and so on, lists split at blanks.

        Raises:
            ConfigError: a value is not valid (the message names where it came from), the file cannot be
                read, or the file has a key that is not a setting (the message names the nearest one).
        """
        layers = [_from_flags(flags), _from_environment(environment)]
        home = _first(layers, "home") or default_home()
        layers.append(_from_file(_first(layers, "config"), Path(home)))
        values: dict[str, Any] = {"home": home}
        for field in fields(cls):
            for layer in layers:
                if field.name in layer:
                    source, value = layer[field.name]
                    values[field.name] = _parse(field.name, value, source)
                    break
            else:
                if field.name not in values and field.default is MISSING:
                    raise ConfigError(_MISSING[field.name])
        if "config" not in values and (Path(home) / FILE_NAME).is_file():
            values["config"] = Path(home) / FILE_NAME
        return cls(**values)


# field -> (where it came from, for messages; the value as found)
_Layer = dict[str, tuple[str, Any]]

_MISSING = {
    "topic": "no topic was given, so this node does not know which swarm to join. "
    "Say --topic NAME; everybody who uses the same name and task trains together.",
    "task": "no task was given, so there is nothing to train. "
    f"Say --task with one that is built in ({', '.join(BUILT_IN)}), or --task my_task.py:MyTask (your own).",
}


def _first(layers: list[_Layer], name: str) -> Path | None:
    for layer in layers:
        if name in layer:
            source, value = layer[name]
            parsed = _parse(name, value, source)
            return parsed if isinstance(parsed, Path) else None
    return None


def flag(name: str) -> str:
    """How the setting of this field is called on the command line: "from" cannot be a field's name."""
    return "--from" if name == "start" else f"--{name.replace('_', '-')}"


def _from_flags(flags: Mapping[str, object]) -> _Layer:
    return {name: (flag(name), value) for name, value in flags.items() if value not in (None, ())}


def _from_environment(environment: Mapping[str, str]) -> _Layer:
    layer: _Layer = {}
    for field in fields(Config):
        variable = ENVIRONMENT_PREFIX + field.name.upper()
        text = environment.get(variable, "")
        if text:
            layer[field.name] = (variable, tuple(text.split()) if field.name in ("listen", "peer") else text)
    return layer


def _from_file(named: Path | None, home: Path) -> _Layer:
    path = named or home / FILE_NAME
    if named is None and not path.is_file():
        return {}
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"the configuration file {path} cannot be read: {error.strerror}. Check the path and its permissions."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"the configuration file {path} is not valid TOML: {error}. Correct that place.") from error
    known = [field.name for field in fields(Config) if field.name != "config"]
    layer: _Layer = {}
    for key, value in table.items():
        name = key.replace("-", "_")
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0)[0]
            raise ConfigError(
                f"{path} has the key {key!r}, which is not a setting. Did you mean {near!r}? "
                f"Settings are: {', '.join(known)}."
            )
        layer[name] = (f"{key} in {path}", value)
    return layer


def _parse(name: str, value: Any, source: str) -> Any:
    """The value in its field's type. Parsing a parsed value changes nothing."""
    if value is None:
        return None
    try:
        return _PARSERS[name](value)
    except (ValueError, TypeError) as error:
        shown = " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
        raise ConfigError(f"{source} is {shown[:200]!r}, but {error}") from error


def _name(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", value):
        raise ValueError(
            "must be 1 to 64 letters, digits, dots, dashes or underscores, and begin with a letter or digit. "
            "Choose a name such as my-swarm."
        )
    return value


_TASKS = f"{', '.join(BUILT_IN)}, or file.py:Class for your own"


def _task(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"must name a task. Say {_TASKS}.")
    if value in BUILT_IN:
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
            raise ValueError(f'must be a multiaddr or a list of them. In the file, write ["{example}"].')
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


_PARSERS: dict[str, Callable[[object], Any]] = {
    "topic": _name,
    "task": _task,
    "shard": _shard,
    "skew": _skew,
    "data": _directory,
    "listen": _addresses(_check_listen, "/ip4/0.0.0.0/tcp/4117"),
    "peer": _addresses(_check_peer, "/ip4/192.0.2.7/tcp/4117/p2p/PEER_ID"),
    "home": _path,
    "profile": _name,
    "status_port": _whole(0, 65535),
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
}
