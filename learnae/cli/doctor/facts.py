"""What is known of a node and its PC, before anybody judges it; made by `gathering`, read by `checks`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings outside the command line: file and environment, and what is wrong with them."""

    file: Path | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    """Those that are given and valid."""
    code: str | None = None
    """Of the error that the daemon would end with; None: there is none."""
    error: str = ""


@dataclass(frozen=True, slots=True)
class File:
    """One file or directory of the profile."""

    name: str
    mode: int
    owner: str | None
    """Whose it is, if not this user's."""
    readable: bool
    writable: bool
    bytes: int


@dataclass(frozen=True, slots=True)
class Database:
    """The ledger's file. `verdict`: what SQLite's check said, "ok" if all is well; None if it was not asked."""

    verdict: str | None
    aside: Path | None = None
    """A damaged one that a daemon moved out of the way, and when (Unix time)."""
    aside_since: float = 0.0


@dataclass(frozen=True, slots=True)
class Disk:
    """Room where the profile lies, in bytes. `trial`: why a small file could not be written there; None: it could."""

    free: int
    total: int
    trial: str | None = None
    inodes: int | None = None
    """How many more files can be made; None where the system does not tell."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Of this PC, in bytes."""

    available: int
    total: int


@dataclass(frozen=True, slots=True)
class Port:
    """A listen address, tried while no daemon runs."""

    address: str
    error: str | None
    taken: bool = False
    holder: str | None = None
    """The program that holds it, as far as the system tells."""


@dataclass(frozen=True, slots=True)
class Reach:
    """An announced address, dialled from this PC; why that did not work, or None."""

    address: str
    error: str | None


@dataclass(frozen=True, slots=True)
class Interface:
    """A network interface that is up."""

    name: str
    addresses: tuple[str, ...]
    multicast: bool | None
    """None where the system does not tell."""


@dataclass(frozen=True, slots=True)
class Training:
    """What came of importing torch, and of loading the task, in a process of its own."""

    torch: str | None
    devices: tuple[str, ...] = ()
    torch_error: str | None = None
    task: str | None = None
    """None: not known, or not loaded."""
    task_code: str | None = None
    task_error: str | None = None


@dataclass(frozen=True, slots=True)
class Ipfs:
    """What an IPFS node's RPC API answered. `wanted`: the setting; "auto" looks for one on this PC."""

    wanted: str
    address: str
    status: int | None = None
    """Of the HTTP answer; None: there was none."""
    version: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Daemon:
    """A daemon that has left its `status.json` in the profile, and what it answered."""

    pid: int
    url: str
    alive: bool
    error: str | None = None
    """Why it does not answer."""
    status: Mapping[str, Any] = field(default_factory=dict)
    peers: tuple[Mapping[str, Any], ...] = ()
    told: Mapping[str, Any] = field(default_factory=dict)
    """The answer of /api/doctor."""
    last_words: str | None = None
    """The last error in its log, or the last line, if it is dead."""

    @property
    def answers(self) -> bool:
        """Whether it runs and talks to us."""
        return self.alive and self.error is None


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything. `now` is Unix time, `system` is `sys.platform`."""

    now: float
    system: str
    profile: Path
    exists: bool = False
    profile_error: str | None = None
    """Why the profile cannot be looked into."""
    files: tuple[File, ...] = ()
    key_bytes: int | None = None
    """Length of the key file; None if there is none, or it cannot be read."""
    settings: Settings = field(default_factory=Settings)
    database: Database | None = None
    disk: Disk | None = None
    memory: Memory | None = None
    ports: tuple[Port, ...] = ()
    reach: tuple[Reach, ...] = ()
    interfaces: tuple[Interface, ...] = ()
    training: Training | None = None
    ipfs: Ipfs | None = None
    daemon: Daemon | None = None
    neighbours: tuple[str, ...] = ()
    """Listen addresses of the other daemons of this user here."""

    @property
    def running(self) -> Daemon | None:
        """The daemon, if it runs and answers."""
        return self.daemon if self.daemon is not None and self.daemon.answers else None

    def file(self, name: str) -> File | None:
        """The file of this name in the profile."""
        return next((file for file in self.files if file.name == name), None)
