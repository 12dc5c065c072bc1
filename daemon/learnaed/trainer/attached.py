"""The trainer of `--task loop`: a script of the user's, which attaches to the daemon with `learnae.join`; for `app`.

Towards the driver it is what the supervised process is. But nothing is started or ended here: the daemon waits until a
script comes, and when that ends, for the next one.
"""

from __future__ import annotations

import math
import os
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Self

import psutil
import trio

from learnae import protocol
from learnae.errors import LearnaeError, TaskError, WireError, coded
from learnae.genesis import Genesis
from learnae.trainer.door import DOOR_FILE, GREETING, NONCE, PROOF, Door
from learnaed import logs
from learnaed.status.files import write_private
from learnaed.trainer.supervisor import Item, Trainer, TrainerStatistics

_HANDSHAKE_SECONDS = 5.0
_STRANGERS = 8
"""Connections that have not shown yet that they are the user's."""
_LOOK_SECONDS = 1.0
_SILENT_SLOTS = 3
_SILENT_SECONDS = 30.0

log = logs.get("trainer")


class Script:
    """A script that has attached, in the shape in which the supervisor knows its process."""

    def __init__(self, stream: trio.SocketStream, pid: int) -> None:
        self._stream = stream
        self.pid = pid
        self.returncode: int | None = None
        self.stdin = self.stdout = self
        self.stderr = None
        self.gone = trio.Event()

    async def send_all(self, data: bytes) -> None:
        """Send a frame."""
        await self._stream.send_all(data)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            if data := await self._stream.receive_some():
                return bytes(data)
        raise StopAsyncIteration

    def kill(self) -> None:
        """Hang up; the script itself is the user's."""
        with suppress(OSError):
            self._stream.socket.shutdown(trio.socket.SHUT_RDWR)

    async def wait(self) -> int:
        """The connection is over."""
        self.returncode = 0
        return 0

    async def aclose(self) -> None:
        """Hang up, and free the connection."""
        self.gone.set()
        await trio.aclose_forcefully(self._stream)


class Silence:
    """Notices that a script that should train has said nothing for long: a rule without a clock."""

    def __init__(self) -> None:
        self._since = math.inf
        self._told = False

    def heard(self, now: float) -> bool:
        """It said something; True if it had been silent for long."""
        told, self._told, self._since = self._told, False, now
        return told

    def look(self, now: float, slot_seconds: float, *, training: bool) -> float | None:
        """How long it has been silent, the first time that this is too long."""
        if not training:
            self._since = now
        silent = now - self._since
        if self._told or silent < max(_SILENT_SLOTS * slot_seconds, _SILENT_SECONDS):
            return None
        self._told = True
        return silent


class Attached(Trainer):
    """Waits for a script and lets it train.

    Args:
        setup: what a script is told when it attaches.
        profile: the directory into which the way to this daemon is written.
        hear: takes each message of the script, in order.
        lost: called with a text for the user when a script has gone.
        notify: tells the user.
        tether: which script this daemon was started by, and serves alone; None: anybody's of this user.
    """

    def __init__(
        self,
        setup: protocol.Setup,
        profile: Path,
        *,
        hear: Callable[[protocol.TrainerMessage], Awaitable[None]],
        lost: Callable[[str], None],
        notify: Callable[[str, str], None],
        tether: str | None = None,
    ) -> None:
        super().__init__(setup, hear=self._heard, lost=lambda _: lost(self._how_it_went()))
        self._profile = profile
        self._hear_script = hear
        self._notify = notify
        self._tether = tether
        self._door: Door | None = None
        self._arrivals, self._next = trio.open_memory_channel[Script](0)
        self._strangers = trio.CapacityLimiter(_STRANGERS)
        self._mode = ""
        self._slot_seconds = 0.0
        self._silence = Silence()
        self._refused = False
        self._failed: str | None = None

    # --- what the driver calls

    def tell(self, item: Item) -> None:
        """Queue a message or a unit for the script; dropped while there is none."""
        if isinstance(item, protocol.SetMode):
            self._mode = item.mode
        super().tell(item)

    def limit(self, limits: protocol.SetLimits) -> None:
        """Keep the script, and those that come after it, to these limits; whether it uses a GPU is its own choice."""
        super().limit(replace(limits, gpu=self._limits.gpu))

    def restart(self, why: str) -> None:
        """Tell the script to end."""
        self._refuse(why, code="trainer-ended")

    def statistics(self) -> TrainerStatistics:
        """Figures for the status endpoint; while there is no script, the state is "starting"."""
        found = super().statistics()
        return replace(found, state="starting") if found.state == "restarting" else found

    async def run(self) -> None:
        """Wait for scripts and serve them, one at a time, until stopped."""
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listeners[0].socket.getsockname()[1]
        self._door = Door.open(port, os.getpid(), self._setup.topic, self._tether)
        write_private(self._profile / DOOR_FILE, self._door.text())
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.serve_listeners, self._answer, listeners)
                nursery.start_soon(self._watch)
                if self._tether is None:
                    self._notify(
                        "info",
                        "waiting for a script of yours on this PC that says "
                        f'learnae.join("{self._setup.topic}", model, optimizer)',
                    )
                while not self._stopping:
                    await self._live()
                    if not self._stopping:
                        self._restarts += 1
                        self._lost(False)
                nursery.cancel_scope.cancel()
        finally:
            (self._profile / DOOR_FILE).unlink(missing_ok=True)
            self._ended.set()

    # --- the door

    async def _answer(self, stream: trio.SocketStream) -> None:
        async with stream:
            script = None
            with trio.move_on_after(_HANDSHAKE_SECONDS), suppress(trio.BrokenResourceError, LearnaeError, EOFError):
                async with self._strangers:
                    script = await self._introduced(stream)
            if script is not None:
                await script.gone.wait()

    async def _introduced(self, stream: trio.SocketStream) -> Script | None:
        """Who has come, if it is a script of the user's that is wanted now."""
        assert self._door is not None
        nonce = secrets.token_bytes(NONCE)
        await stream.send_all(GREETING + nonce)
        answer = await _take(stream, NONCE + PROOF)
        challenges = nonce + answer[:NONCE]
        if not self._door.accepts(answer[NONCE:], "trainer", challenges):
            log.warning("somebody on this PC wanted to be the trainer, without the secret of this profile")
            return None
        await stream.send_all(self._door.proof("daemon", challenges))
        attach = await _first(stream)
        why = None
        if not isinstance(attach, protocol.Attach) or attach.version != protocol.VERSION:
            why = "the script's learnae is of another version than the daemon's. Run both from one installation"
        else:
            script = Script(stream, attach.pid)
            try:
                self._arrivals.send_nowait(script)
            except trio.WouldBlock:
                why = (
                    f"another script (process {self._process.pid if self._process else '?'}) is attached to this "
                    "daemon. End it, or start another daemon with --profile"
                )
            else:
                return script
        await stream.send_all(protocol.to_frame(protocol.Refused(why, code="trainer-refused")))
        return None

    async def _spawn(self) -> Script:
        script = await self._next.receive()
        self._refused, self._failed, self._mode = False, None, ""
        self._silence = Silence()
        log.info("a script has attached", pid=script.pid)
        return script

    # --- what it says

    async def _heard(self, message: protocol.TrainerMessage) -> None:
        if self._silence.heard(trio.current_time()):
            self._notify("info", "the script goes on")
        if isinstance(message, protocol.Hello):
            with suppress(WireError):
                self._slot_seconds = Genesis.from_wire(message.genesis).slot_seconds
        if isinstance(message, protocol.Failed):
            self._failed = message.message
        try:
            await self._hear_script(message)
        except TaskError as error:
            self._notify("error", coded(error))
            self._refuse(str(error), error.code)

    async def _receive_all(self, process: Script) -> None:  # type: ignore[override]
        with suppress(TaskError):
            await super()._receive_all(process)

    def _refuse(self, why: str, code: str) -> None:
        if self._process is not None and not self._refused:
            self._refused, self._error = True, why
            self._items.clear()
            self._items.append(protocol.Refused(why, code))
            self._wake.set()

    def _how_it_went(self) -> str:
        if self._refused:
            return "the script was told to end; the daemon waits for the next one"
        how = "has failed" if self._failed else "has ended or lost its connection"
        return f"the training script {how}; the daemon lives on, and training resumes when a script joins again"

    async def _watch(self) -> None:
        """A script that has died while a child of it holds the connection, or that hangs, is noticed."""
        while True:
            await trio.sleep(_LOOK_SECONDS)
            script = self._process
            if script is None:
                continue
            if not alive(script.pid):
                script.kill()
            silent = self._silence.look(
                trio.current_time(), self._slot_seconds, training=self._ready and self._mode == "train"
            )
            if silent is not None:
                self._notify(
                    "warning",
                    f"the script (process {script.pid}) has done no step for {silent:.0f} s: it hangs, or a step or an "
                    "evaluation takes very long. Nothing of this node is published meanwhile; what the others send "
                    "is kept for it",
                )


def alive(pid: int) -> bool:
    """Whether this process runs; one that has ended and was not collected yet does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:
        return True


async def _take(stream: trio.SocketStream, length: int) -> bytes:
    data = b""
    while len(data) < length:
        if not (found := await stream.receive_some(length - len(data))):
            raise EOFError
        data += found
    return data


async def _first(stream: trio.SocketStream) -> protocol.TrainerMessage:
    """Its first message; it says nothing more before it is answered."""
    frames = protocol.FrameReader()
    while True:
        if not (data := await stream.receive_some(1 << 16)):
            raise EOFError
        for message in frames.feed(bytes(data)):
            return message
