"""The daemon that a script attaches to: one that runs already, or one that is started for the script; for `Swarm`."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from learnae.cli import daemons
from learnae.errors import DaemonError, TrainerError
from learnae.loop.link import Link
from learnae.tasks import LOOP
from learnae.trainer.door import DOOR_FILE, TETHER, Door

_START_SECONDS = 60.0
_TAKEN_SECONDS = 8.0
"""How long a daemon may take to notice that the script that it served before is gone."""
_POLL = 0.1
_END_SECONDS = 12.0
_FIRST_RESTART, _LAST_RESTART = 1.0, 60.0


class LocalDaemon:
    """Finds the daemon of a topic, and starts one where none runs.

    Args:
        home: directory of the profiles.
        topic: of the swarm.
        profile: name of the daemon's profile; None: any that waits for a script on this topic.
        flags: of `learnaed run`, for a daemon that is started here.
        environment: variables beside those of this process, for it too.
        start: whether one may be started.
    """

    def __init__(
        self,
        home: Path,
        topic: str,
        profile: str | None,
        flags: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        *,
        start: bool = True,
    ) -> None:
        self._home = home
        self._topic = topic
        self._profile = profile
        self._flags = flags
        self._environment = environment or {}
        self._may_start = start
        self._tether = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._process: subprocess.Popen[bytes] | None = None
        self._says: IO[bytes] | None = None
        self._starts = 0
        self._next_start = 0.0
        self.directory: Path | None = None
        """The profile of the daemon that was found."""

    @property
    def own(self) -> bool:
        """Whether the daemon was started here."""
        return self._process is not None

    @property
    def alive(self) -> bool:
        """Whether the daemon that was found still runs."""
        if self._process is not None:
            return self._process.poll() is None
        door = Door.read(self.directory) if self.directory is not None else None
        return door is not None and daemons.alive(door.pid)

    def attach(self) -> Link:
        """A connection to the daemon, which is started if there is none; waits for it.

        Raises:
            DaemonError: it cannot be started, or does not answer.
            TrainerError: it serves another script.
        """
        deadline = time.monotonic() + _TAKEN_SECONDS
        while True:
            try:
                link = self.look()
            except TrainerError:
                if time.monotonic() > deadline:
                    raise
                link = None
            except DaemonError:
                link = None  # The remains of one that has ended.
            else:
                if link is None and not self.own:
                    self._check_start()
                    self._start()
                    deadline = time.monotonic() + _START_SECONDS
            if link is not None:
                return link
            self._check_process()
            if time.monotonic() > deadline:
                raise DaemonError(
                    f"no daemon for topic {self._topic!r} has answered in time; look into learnaed.log in the "
                    f"profiles in {self._home}",
                    code="daemon-silent",
                )
            time.sleep(_POLL)

    def look(self) -> Link | None:
        """A connection to the daemon if one waits for this script now; for a daemon that comes back.

        Raises what `Link` raises.
        """
        profiles = [self._home / self._profile] if self._profile else sorted(self._home.glob("*/"))
        for directory in profiles:
            door = Door.read(directory)
            if door is None or door.topic != self._topic or not daemons.alive(door.pid):
                continue
            if door.tether == (self._tether if self.own else None):
                link = Link(door)
                self.directory = directory
                return link
        return None

    def revive(self) -> None:
        """Start a daemon that was started here and has ended once more, at growing intervals."""
        if self._process is not None and self._process.poll() is not None and time.monotonic() >= self._next_start:
            self._start()

    def status(self, path: str) -> Any:
        """What the daemon's status endpoint answers. Raises DaemonError."""
        found = [daemon for daemon in daemons.find(self._home) if daemon.directory == self.directory]
        if not found:
            raise DaemonError(
                f"the daemon of topic {self._topic!r} does not run any more; it is attached to again when it is back",
                code="no-daemon",
            )
        return found[0].get(path)

    def end(self, *, wait: bool) -> None:
        """End a daemon that was started here: after it has settled with the others, if it is to wait, or at once."""
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(subprocess.TimeoutExpired):
            if wait:
                process.wait(_END_SECONDS)
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self._says is not None:
            self._says.close()

    def _start(self) -> None:
        self._next_start = time.monotonic() + min(_FIRST_RESTART * 2**self._starts, _LAST_RESTART)
        self._starts += 1
        if self._says is not None:
            self._says.close()
        self._says = tempfile.TemporaryFile()  # noqa: SIM115 - closed when the daemon has ended
        profile = self.directory.name if self.directory is not None else self._profile
        chosen = ("--profile", profile) if profile else ()
        command = [sys.executable, "-m", "learnaed", "run", "--topic", self._topic, "--task", LOOP]
        self._process = subprocess.Popen(
            [*command, "--home", str(self._home), *chosen, *self._flags],
            env={**os.environ, **self._environment, TETHER: self._tether},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._says,
            # Ctrl+C in the terminal is for the script, which ends the daemon when it has left the swarm.
            start_new_session=os.name == "posix",
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )

    def _check_process(self) -> None:
        """Raises DaemonError if the daemon that was started has ended."""
        if self._process is None or self._process.poll() is None:
            return
        code, self._process = self._process.returncode, None
        said = ""
        if self._says is not None:
            self._says.seek(0)
            said = self._says.read().decode(errors="replace").strip()[-2000:]
            self._says.close()
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        raise DaemonError(f"the daemon ended as soon as it was started ({how}): {said}", code="daemon-start")

    def _check_start(self) -> None:
        """Raises DaemonError if no daemon may be started now."""
        for daemon in daemons.find(self._home):
            if daemon.profile == self._profile and not (daemon.directory / DOOR_FILE).exists():
                raise DaemonError(
                    f"the daemon of profile {daemon.profile!r} trains by itself and waits for no script. Start it with "
                    f"--task {LOOP}, or give another profile",
                    code="daemon-refused",
                )
        if not self._may_start:
            raise DaemonError(
                f"no daemon on this PC waits for a script on topic {self._topic!r}. Start one with: "
                f"learnaed run --topic {self._topic} --task {LOOP}",
                code="no-daemon",
            )
