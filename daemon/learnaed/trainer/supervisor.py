"""Starts the trainer process, restarts it when it dies, and carries messages to and from it; used by the driver."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import trio

from learnae import protocol
from learnae.errors import LearnaeError, TaskError
from learnaed import logs

STOP_SECONDS = 3.0
"""How long the trainer may take to save its state and exit before it is killed."""
WORKER = (sys.executable, "-m", "learnaed.trainer.worker")
_FIRST_RESTART, _LAST_RESTART = 1.0, 60.0
_STEADY = 60.0
"""After so many seconds of life a crash counts as the first one again."""

log = logs.get("trainer")

Send = Callable[[protocol.TrainerMessage], Awaitable[None]]
Unit = Callable[[Send], Awaitable[None]]
"""Sends messages that belong together, an update and its pieces for instance. It is called when the process is ready
to take them, so that payloads do not pile up in memory, and nothing else is sent in between."""
Item = protocol.TrainerMessage | Unit


class Process(Protocol):
    """What a trainer runs in, with what is used of it."""

    pid: int
    stdin: Any
    stdout: Any
    stderr: Any

    @property
    def returncode(self) -> int | None: ...

    def kill(self) -> None: ...

    async def wait(self) -> int: ...


class Undeliverable(LearnaeError):
    """Raised by a unit that cannot be sent as a whole any more: the process is started again, with a state to match,
    unless nothing of the unit was sent and it was taken back meanwhile."""


@dataclass(frozen=True, slots=True)
class TrainerStatistics:
    """Figures for the status endpoint."""

    state: str  # "starting", "running", "restarting" or "stopped"
    pid: int | None
    restarts: int
    queued: int
    last_error: str | None


class Trainer:
    """The supervised trainer process.

    Args:
        setup: what to train.
        hear: takes each message of the process, in order.
        lost: called when the process has ended without being asked to, or to be started anew; it is told whether the
            user's limits wanted that.
        command: what to start.
    """

    def __init__(
        self,
        setup: protocol.Setup,
        *,
        hear: Callable[[protocol.TrainerMessage], Awaitable[None]],
        lost: Callable[[bool], None],
        command: Sequence[str] = WORKER,
    ) -> None:
        self._setup = setup
        self._limits = setup.limits
        self._limited = setup.limits  # what this process was told
        self._hear = hear
        self._lost = lost
        self._command = command
        self._process: Process | None = None
        self._items: deque[Item] = deque()
        self._taken_back = False  # the unit under way, if there is one
        self.life = 0
        """Counts the processes: which one said something, for `begin`."""
        self._ready = False
        self._wake = trio.Event()
        self._stopping = False
        self._ended = trio.Event()
        self._restarts = 0
        self._error: str | None = None
        """Why this process ends, as far as it is known."""
        self._last_error: str | None = None
        self._wanted = False
        """This process ends because the user's limits want another one: that is no failure."""

    # --- what the driver calls

    def begin(self, life: int | None = None) -> None:
        """The process has said hello and the driver has taken note: what is told from here on is for this process.

        It may have ended since it said hello; then nothing is told to the next one before that has done so, too.
        """
        if life in (None, self.life) and self._process is not None:
            self._items.clear()
            self._ready = True
            self.limit(self._limits)

    def limit(self, limits: protocol.SetLimits) -> None:
        """Keep the process, and those that come after it, to these limits; one that may use a GPU or may not, as it
        did not, is started anew."""
        self._limits = limits
        self._setup = replace(
            self._setup, cpu=limits.cpu, threads=limits.threads, nice=limits.nice, gpu=limits.gpu, ram=limits.ram
        )
        if self._process is None or limits == self._limited:
            return
        if limits.gpu != self._limited.gpu:
            self._wanted = True
            self.restart("it is started anew to use the GPU or not, as the limits want it")
        elif self._ready:
            self._limited = limits
            self.tell(limits)

    def restart(self, why: str) -> None:
        """End the process, if there is one; a new one takes over from its last saved state."""
        if self._process is not None and not self._stopping:
            self._error = why
            self._process.kill()

    def tell(self, item: Item) -> None:
        """Queue a message or a unit for the process; dropped while there is none."""
        if self._ready:
            self._items.append(item)
            self._wake.set()

    def forget_units(self) -> None:
        """Take back the units that wait, or are about to be sent: what they are about is not wanted any more."""
        self._taken_back = True
        self._items = deque(item for item in self._items if not callable(item))

    async def stop(self) -> None:
        """Ask the process to save its state and exit; kill it after three seconds, or at once while it still loads."""
        self._stopping = True
        process = self._process
        if process is None:
            return
        if not self._ready:
            process.kill()  # It is still loading: there is nothing to save.
            return
        with trio.move_on_after(STOP_SECONDS):
            self._items.clear()
            self._items.append(protocol.Stop())
            self._wake.set()
            await self._ended.wait()
        if process.returncode is None:
            log.warning("the trainer did not stop in time and is killed; it resumes from its last saved state")
            process.kill()

    async def run(self) -> None:
        """Keep the process alive until it is stopped.

        Raises:
            TaskError: the task cannot be loaded, and starting again cannot help.
        """
        crashes = 0
        while not self._stopping:
            started = trio.current_time()
            self._error = None
            await self._live()
            if self._stopping:
                break
            self._lost(self._wanted)
            if self._wanted:
                continue
            crashes = 0 if trio.current_time() - started > _STEADY else crashes + 1
            wait = min(_FIRST_RESTART * 2 ** max(crashes - 1, 0), _LAST_RESTART)
            self._restarts += 1
            log.warning("trainer ended", why=self._last_error, restart_in=f"{wait:g} s", restarts=self._restarts)
            await trio.sleep(wait)
        self._ended.set()

    def statistics(self) -> TrainerStatistics:
        """Figures for the status endpoint."""
        state = "stopped" if self._stopping else "running" if self._ready else "starting"
        if self._process is None and not self._stopping:
            state = "restarting" if self._restarts and not self._wanted else "starting"
        pid = self._process.pid if self._process is not None else None
        return TrainerStatistics(state, pid, self._restarts, len(self._items), self._last_error)

    # --- one life of the process

    async def _live(self) -> None:
        self.life += 1
        self._ready = False
        self._items.clear()
        try:
            process = await self._spawn()
        except OSError as error:
            self._last_error = f"the process cannot be started: {error}"
            self._wanted = False
            return
        self._process, self._wanted = process, False
        fatal: TaskError | None = None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._log_errors, process)
                nursery.start_soon(self._send_all, process)
                fatal = await self._receive_all(process)
                nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True):
                await self._reap(process)
        if not self._stopping and not self._wanted:
            self._last_error = self._error or _how_it_ended(process.returncode)
        if fatal is not None and not self._stopping:
            raise fatal

    async def _spawn(self) -> Process:
        return await trio.lowlevel.open_process(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # A session of its own: Ctrl+C in a terminal is the daemon's to handle, which then stops the trainer.
            start_new_session=os.name == "posix",
        )

    async def _reap(self, process: Process) -> None:
        self._process = None
        self._ready = False
        if process.stdin is not None:
            await process.stdin.aclose()
        with trio.move_on_after(1.0):
            await process.wait()
        if process.returncode is None:
            process.kill()
            await process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                await pipe.aclose()

    async def _send_all(self, process: Process) -> None:
        pipe = process.stdin
        assert pipe is not None

        sent = 0

        async def send(message: protocol.TrainerMessage) -> None:
            nonlocal sent
            sent += 1
            await pipe.send_all(protocol.to_frame(message))

        async def send_unit(unit: Unit) -> None:
            before, self._taken_back = sent, False
            try:
                await unit(send)
            except Undeliverable:
                if not self._taken_back or sent > before:
                    raise

        try:
            self._limited = self._setup.limits
            await send(self._setup)
            while True:
                while self._items:
                    item = self._items.popleft()
                    await (send_unit(item) if callable(item) else send(item))
                self._wake = trio.Event()
                await self._wake.wait()
        except Undeliverable as error:
            self._error = str(error)
            process.kill()  # Half of a unit may have been sent.
            await trio.sleep_forever()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            # The process is gone; the reading side sees that too and ends this life.
            await trio.sleep_forever()

    async def _receive_all(self, process: Process) -> TaskError | None:
        assert process.stdout is not None
        frames = protocol.FrameReader()
        fatal = None
        async for data in process.stdout:
            try:
                messages = list(frames.feed(bytes(data)))
            except LearnaeError as error:
                self._error = str(error)
                break
            for message in messages:
                if isinstance(message, protocol.Failed):
                    self._error = message.message
                    for line in message.traceback.splitlines():
                        log.error(line)
                    fatal = TaskError(message.message, code=message.code) if message.fatal else None
                await self._hear(message)
        return fatal

    async def _log_errors(self, process: Process) -> None:
        if process.stderr is None:
            return
        rest = b""
        async for data in process.stderr:
            *lines, rest = (rest + bytes(data)).split(b"\n")
            for line in lines:
                log.info("trainer says", text=line.decode(errors="replace")[:1000])
            rest = rest[-4096:]


def _how_it_ended(code: int | None) -> str:
    if code is None or code >= 0:
        return f"the process ended with code {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    hint = ", as the system does when memory runs out" if name == "SIGKILL" else ""
    return f"the process was killed ({name}){hint}"
