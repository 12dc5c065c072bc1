"""The daemon's settings, merged from flags, environment and a TOML file; built by `learnaed.main`, read everywhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

from learnae.config.file import FILE_NAME
from learnae.config.parsers import parse
from learnae.config.sources import LIMITS, chosen_limits, first_path, from_environment, from_file, from_flags
from learnae.errors import ConfigError
from learnae.home import default_home
from learnae.limits import Limits
from learnae.tasks import BUILT_IN, LOOP

_MISSING = {
    "topic": "no topic was given, so this node does not know which swarm to join. "
    "Say --topic NAME; everybody who uses the same name and task trains together.",
    "task": "no task was given, so there is nothing to train. "
    f"Say --task with one that is built in ({', '.join(BUILT_IN)}), or --task my_task.py:MyTask (your own).",
}


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
        secret_file: file with the passphrases of a private swarm, one a line; None: an open swarm, or another source.
        allow: peer ids; if there are any, this node has connections to these alone.
        deny: peer ids that this node has no connections to.
        home: directory that holds the profiles.
        profile: name of the state directory inside `home`. None: "default", or the next free one of
            "default-2", "default-3", ... where another daemon holds it.
        status_port: first port to try for the local status endpoint; 0 takes any free port.
        status_listen: "ADDRESS:PORT" on which other machines reach the status endpoint too; everything needs the token
            there, which travels unencrypted. None: this machine alone.
        init: weights that the swarm begins with instead of the task's own: a safetensors file, or the CID of a cut.
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
        limits: what the node may take of this PC, and when; `[limits]` in the file, LEARNAE_LIMITS_..., `--limit`.

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
    secret_file: Path | None = None
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    home: Path
    profile: str | None = None
    status_port: int = 4118
    status_listen: str | None = None
    init: str | None = None
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
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        for own in fields(self):
            object.__setattr__(self, own.name, parse(own.name, getattr(self, own.name), own.name))
        if self.init is not None and self.task == LOOP:
            raise ConfigError(
                f"init is {self.init!r}, but the task {LOOP} waits for a script, whose model has weights already. Load "
                "them there before learnae.join, and leave init out.",
                code="bad-setting",
            )

    @property
    def initial_cut(self) -> str | None:
        """The CID of the cut whose weights the swarm begins with, if they are those of a cut."""
        return self.init if self.init is not None and not Path(self.init).is_absolute() else None

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
        home, values, chosen = cls._merge(flags, environment)
        for name, text in _MISSING.items():
            if name not in values:
                raise ConfigError(text, code="missing-setting")
        given = {name: value for name, (value, _) in values.items()}
        file = home / FILE_NAME
        return cls(
            **{"home": home, "config": file if file.is_file() else None, LIMITS: Limits().changed(chosen), **given}
        )

    @classmethod
    def survey(cls, flags: Mapping[str, object], environment: Mapping[str, str]) -> dict[str, tuple[Any, str]]:
        """Each setting's value, and where it comes from: a flag, a variable, a key of the file, or "default".

        What has no default is None where nobody gave it. Raises `ConfigError` as `resolve` does otherwise.
        """
        home, values, chosen = cls._merge(flags, environment)
        rows: dict[str, tuple[Any, str]] = {
            own.name: (None if own.default is MISSING else own.default, "default") for own in fields(cls)
        }
        del rows[LIMITS]
        rows |= {"home": (home, "default")} | values
        for name, text in Limits().changed(chosen).texts().items():
            rows[f"{LIMITS}.{name}"] = text, chosen[name][0] if name in chosen else "default"
        return rows

    @classmethod
    def _merge(
        cls, flags: Mapping[str, object], environment: Mapping[str, str]
    ) -> tuple[Path, dict[str, tuple[Any, str]], dict[str, tuple[str, object]]]:
        """The directory of profiles; the settings that somebody gave, each with its source; the limits likewise."""
        names = [own.name for own in fields(cls) if own.name != LIMITS]
        layers = [from_flags(flags), from_environment(names, environment)]
        home = first_path(layers, "home") or default_home()
        layers.append(from_file(names, first_path(layers, "config"), home))
        values = {}
        for name in names:
            for layer in layers:
                if name in layer:
                    source, value = layer[name]
                    values[name] = parse(name, value, source), source
                    break
        return home, values, chosen_limits(layers)
