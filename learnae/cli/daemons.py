"""Finds the daemons that run on this PC by their `status.json`, and talks to them; used by the CLI's commands."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from learnae.errors import DaemonError
from learnae.home import STATUS_FILE, TOKEN_FILE

TIMEOUT = 10.0
LONG = 3600.0
"""Seconds for what may have to fetch a snapshot."""
_START = "Start one with: learnaed run --topic NAME --task digits"


@dataclass(frozen=True, slots=True)
class Daemon:
    """A daemon that runs on this PC. `directory` is its profile's."""

    directory: Path
    url: str
    pid: int
    peer: str
    topic: str

    @property
    def profile(self) -> str:
        """The profile's name."""
        return self.directory.name

    def get(self, path: str) -> Any:
        """The JSON answer to GET. Raises DaemonError if there is none."""
        return self._request("GET", path, {}).json()

    def command(self, verb: str) -> None:
        """Have the daemon "finish", "pause", "resume" or "stop". Raises DaemonError if it refuses."""
        self.post(f"/api/{verb}")

    def ticket(self) -> str:
        """What opens the dashboard in a browser with the right to steer, once, within a minute."""
        return str(self.post("/api/ticket")["ticket"])

    def post(self, path: str, timeout: float = TIMEOUT) -> Any:
        """The JSON answer to POST, with the token. Raises DaemonError if it refuses, or is silent for so long."""
        try:
            token = (self.directory / TOKEN_FILE).read_text(encoding="utf-8")
        except OSError as error:
            raise DaemonError(
                f"the token of daemon {self.profile!r} in {self.directory} cannot be read: {error.strerror}. "
                "Only the user who started the daemon may steer it.",
                code="token-unreadable",
            ) from error
        return self._request("POST", path, {"Authorization": f"Bearer {token.strip()}"}, timeout).json()

    def _request(self, method: str, path: str, headers: dict[str, str], timeout: float = TIMEOUT) -> httpx.Response:
        try:
            # No proxy of the environment stands between this PC and itself.
            with httpx.Client(trust_env=False, timeout=timeout) as client:
                answer = client.request(method, self.url + path, headers=headers)
        except httpx.HTTPError as error:
            raise DaemonError(
                f"daemon {self.profile!r} (process {self.pid}) does not answer at {self.url}: "
                f"{str(error) or type(error).__name__}. Look into {self.directory / 'learnaed.log'}.",
                code="daemon-silent",
            ) from error
        if answer.is_error:
            raise DaemonError(f"daemon {self.profile!r} refused: {_message(answer)}", code=_code(answer))
        return answer


def _message(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["error"])
    except (ValueError, KeyError, TypeError):
        return f"HTTP status {answer.status_code}"


def _code(answer: httpx.Response) -> str | None:
    try:
        return str(answer.json()["code"])[:40]
    except (ValueError, KeyError, TypeError):
        return None


def find(home: Path) -> list[Daemon]:
    """The running daemons among the profiles in `home`, by profile. Leftovers of dead processes are passed over."""
    found = []
    for path in sorted(home.glob(f"*/{STATUS_FILE}")):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            daemon = Daemon(
                path.parent, str(content["url"]), int(content["pid"]), str(content["peer"]), str(content["topic"])
            )
        except (OSError, ValueError, KeyError, TypeError):
            continue  # Removed this moment, or not a daemon's.
        if alive(daemon.pid):
            found.append(daemon)
    return found


def select(home: Path, profile: str | None) -> list[Daemon]:
    """The running daemons, or the one of `profile`.

    Raises:
        DaemonError: there is none.
    """
    found = find(home)
    if profile is not None:
        chosen = [daemon for daemon in found if daemon.profile == profile]
        if not chosen:
            others = f"Running: {', '.join(daemon.profile for daemon in found)}." if found else _START
            raise DaemonError(f"no daemon runs with profile {profile!r} in {home}. {others}", code="no-daemon")
        return chosen
    if not found:
        raise DaemonError(f"no daemon runs here: none has a profile in {home}. {_START}", code="no-daemon")
    return found


def alive(pid: int) -> bool:
    """Whether a process with this number exists. On Windows always True: there the request itself finds out."""
    if os.name != "posix":
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return pid > 0
