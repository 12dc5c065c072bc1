"""Finds the daemons that run on this PC by their `status.json`, and talks to them; used by the CLI's commands."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from learnae.cli.words import clean
from learnae.errors import DaemonError
from learnae.home import LOG_FILE, STATUS_FILE, TOKEN_FILE

TIMEOUT = 10.0
LONG = 3600.0
"""Seconds for what may have to fetch a snapshot."""
CAN_TELL = os.name == "posix"
"""Whether it shows without asking that a process is gone."""
START = "Start one with: learnaed run --topic NAME --task digits"


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

    def get(self, path: str, timeout: float = TIMEOUT) -> Any:
        """The JSON answer to GET. Raises DaemonError if there is none, or it is silent for so long."""
        return self.content(self._request("GET", path, self.reading(), timeout))

    def ticket(self) -> str:
        """What opens the dashboard in a browser with the right to steer, once, within a minute."""
        return str(self.post("/api/ticket")["ticket"])

    def post(self, path: str, timeout: float = TIMEOUT) -> Any:
        """The JSON answer to POST, with the token. Raises DaemonError if it refuses, or is silent for so long."""
        return self.content(self._request("POST", path, self.authorisation(), timeout))

    def put(self, path: str, body: Mapping[str, Any]) -> Any:
        """The JSON answer to PUT of a JSON body, with the token. Raises DaemonError if it refuses."""
        return self.content(self._request("PUT", path, self.authorisation(), TIMEOUT, body))

    def authorisation(self) -> dict[str, str]:
        """The header that lets a request steer the daemon. Raises DaemonError if its token cannot be read."""
        try:
            token = (self.directory / TOKEN_FILE).read_text(encoding="utf-8")
        except OSError as error:
            raise DaemonError(
                f"the token of daemon {self.profile!r} in {self.directory} cannot be read: {error.strerror}. "
                "Only the user who started the daemon may steer it.",
                code="token-unreadable",
            ) from error
        return {"Authorization": f"Bearer {token.strip()}"}

    def reading(self) -> dict[str, str]:
        """Headers of a request that only reads: with the token where it can be read, as some daemons want it always."""
        try:
            return {"Accept": "application/json"} | self.authorisation()
        except DaemonError:
            return {"Accept": "application/json"}

    def silent(self, error: Exception) -> DaemonError:
        """What to raise where a request broke off."""
        return DaemonError(
            f"daemon {self.profile!r} (process {self.pid}) does not answer at {self.url}: "
            f"{str(error) or type(error).__name__}. Look into {self.directory / LOG_FILE}.",
            code="daemon-silent",
        )

    def refused(self, answer: httpx.Response) -> DaemonError:
        """What to raise for an answer that says no; its body has been read."""
        return DaemonError(f"daemon {self.profile!r} refused: {_message(answer)}", code=_code(answer))

    def _request(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        timeout: float,
        body: Mapping[str, Any] | None = None,
    ) -> httpx.Response:
        try:
            # No proxy of the environment stands between this PC and itself.
            with httpx.Client(trust_env=False, timeout=timeout) as client:
                answer = client.request(method, self.url + path, headers=dict(headers), json=body)
        except httpx.HTTPError as error:
            raise self.silent(error) from error
        if answer.is_error:
            raise self.refused(answer)
        return answer

    def content(self, answer: httpx.Response) -> Any:
        """The JSON of an answer. Raises DaemonError if it is none."""
        try:
            return answer.json()
        except ValueError as error:
            raise DaemonError(
                f"what answers at {self.url} for daemon {self.profile!r} does not speak learnae's language. "
                f"Another program may have its port now: look into {self.directory / LOG_FILE}.",
                code="daemon-silent",
            ) from error


def _message(answer: httpx.Response) -> str:
    try:
        return clean(answer.json()["error"])
    except (ValueError, KeyError, TypeError):
        return f"HTTP status {answer.status_code}; `learnae logs` may say why"


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
            others = f"Running: {', '.join(daemon.profile for daemon in found)}." if found else START
            raise DaemonError(f"no daemon runs with profile {profile!r} in {home}. {others}", code="no-daemon")
        return chosen
    if not found:
        ended = ", ".join(sorted(repr(path.parent.name) for path in home.glob(f"*/{LOG_FILE}")))
        why = f"that of {ended} in {home} has ended (`learnae logs`)" if ended else f"there is no profile in {home} yet"
        raise DaemonError(f"no daemon runs here: {why}. {START}", code="no-daemon")
    return found


def alive(pid: int) -> bool:
    """Whether a process with this number exists. On Windows always True: there the request itself finds out."""
    if not CAN_TELL:
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return pid > 0
