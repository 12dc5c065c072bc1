"""The daemon's side of a script's line, over real sockets on loopback: who is let in, and what becomes of whom."""

from __future__ import annotations

import os
import socket
import stat
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from learnae import protocol
from learnae.errors import DaemonError, TrainerError
from learnae.genesis import Genesis
from learnae.layout import Layout, TensorSpec
from learnae.loop.link import Link
from learnae.trainer.door import DOOR_FILE, GREETING, NONCE, Door
from learnaed.trainer import attached
from learnaed.trainer.attached import Attached, Silence, alive

SETUP = protocol.Setup(bytes(32), "t", "loop", None, "1/1", None, 0, None, "somewhere", "elsewhere")
GENESIS = Genesis(Layout((TensorSpec("w", (3,), "float32"),)), (-24,), b"\x01\x55\x12\x20" + bytes(32), 2.0, None)
HELLO = protocol.Hello(GENESIS.to_wire(), None, bytes(32), [], 0, 3, 0, 0)


class Host:
    """An attached trainer under test, with what the driver and the user were told."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.heard: list[protocol.TrainerMessage] = []
        self.told: list[str] = []
        self.lost: list[str] = []
        self._changed = trio.Event()
        self.trainer = Attached(
            SETUP, directory, hear=self._hear, lost=self._note(self.lost), notify=lambda _, text: self._say(text)
        )

    async def _hear(self, message: protocol.TrainerMessage) -> None:
        self.heard.append(message)
        if isinstance(message, protocol.Hello):
            self.trainer.begin()
        self._changed.set()

    def _note(self, where: list[str]) -> Callable[[str], None]:
        def note(text: str) -> None:
            where.append(text)
            self._changed.set()

        return note

    def _say(self, text: str) -> None:
        self.told.append(text)
        self._changed.set()

    async def until(self, done: Callable[[], Any]) -> None:
        with trio.fail_after(30):
            while not done():
                self._changed = trio.Event()
                with trio.move_on_after(0.2):
                    await self._changed.wait()

    async def join(self) -> Link:
        door = Door.read(self.directory)
        assert door is not None
        return await trio.to_thread.run_sync(Link, door)


@asynccontextmanager
async def running(directory: Path) -> AsyncIterator[Host]:
    host = Host(directory)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(host.trainer.run)
        await host.until(lambda: (directory / DOOR_FILE).exists() and host.told)
        yield host
        nursery.cancel_scope.cancel()
    assert not (directory / DOOR_FILE).exists()


async def receive(link: Link) -> protocol.TrainerMessage | None:
    return await trio.to_thread.run_sync(link.receive, 10.0)


async def close(link: Link) -> None:
    await trio.to_thread.run_sync(link.close)


async def test_a_script_attaches_and_messages_pass(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        assert "learnae.join" in host.told[0]
        assert host.trainer.statistics().state == "starting"
        link = await host.join()
        assert link.setup == SETUP
        link.send(HELLO)
        await host.until(lambda: host.heard == [HELLO])
        assert host.trainer.statistics().state == "running" and host.trainer.statistics().pid == os.getpid()
        host.trainer.tell(protocol.SetShare(0.25))
        assert await receive(link) == protocol.SetShare(0.25)
        await close(link)
        await host.until(lambda: host.lost)
        assert "daemon lives on" in host.lost[0]
        again = await host.join()
        again.send(HELLO)
        await host.until(lambda: len(host.heard) == 2)
        await close(again)


async def test_only_its_user_may_read_the_secret(tmp_path: Path) -> None:
    async with running(tmp_path):
        assert stat.S_IMODE((tmp_path / DOOR_FILE).stat().st_mode) == 0o600


async def test_a_stranger_learns_nothing_and_is_let_in_nowhere(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        door = Door.read(tmp_path)
        assert door is not None

        def knock(answer: bytes) -> bytes:
            with socket.create_connection(("127.0.0.1", door.port), timeout=10) as line:
                greeting = line.recv(1000)
                assert greeting.startswith(GREETING)
                line.sendall(answer)
                try:
                    line.shutdown(socket.SHUT_WR)
                    return line.recv(1000)
                except ConnectionError:
                    return b""

        for answer in (bytes(64), b"", os.urandom(64), b"GET / HTTP/1.1\r\n\r\n" * 10):
            assert await trio.to_thread.run_sync(knock, answer) == b""
        link = await host.join()
        await close(link)


def test_a_script_tells_its_secret_to_nobody(tmp_path: Path) -> None:
    """Another program may have the port of a daemon that has ended."""
    door = Door.open(1, os.getpid(), "t", None)
    with socket.create_server(("127.0.0.1", 0)) as server:
        door = Door(server.getsockname()[1], door.secret, 1, "t")
        heard = b""

        def serve() -> None:
            nonlocal heard
            connection, _ = server.accept()
            with connection:
                connection.sendall(GREETING + bytes(NONCE))
                heard = connection.recv(1000)
                connection.sendall(bytes(32))
                connection.recv(1000)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(DaemonError, match="is not the daemon"):
            Link(door)
        thread.join()
    assert len(heard) == 64 and bytes.fromhex(door.secret) not in heard


async def test_a_second_script_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        link = await host.join()
        link.send(HELLO)
        await host.until(lambda: host.heard)
        with pytest.raises(TrainerError, match="another script") as caught:
            await host.join()
        assert caught.value.code == "trainer-refused"
        host.trainer.tell(protocol.SetShare(0.5))
        assert await receive(link) == protocol.SetShare(0.5), "the first one notices nothing"
        await close(link)


class OldLink(Link):
    version = 0


async def test_a_script_of_another_version_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        door = Door.read(tmp_path)
        assert door is not None
        with pytest.raises(TrainerError, match="another version"):
            await trio.to_thread.run_sync(OldLink, door)
        await close(await host.join())


async def test_a_script_that_is_to_end_is_told_why(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        link = await host.join()
        link.send(HELLO)
        await host.until(lambda: host.heard)
        host.trainer.restart("it uses too much memory")
        host.trainer.restart("and more")
        assert await receive(link) == protocol.Refused("it uses too much memory", "trainer-ended")
        await close(link)
        await host.until(lambda: host.lost)
        assert "told to end" in host.lost[0]
        assert host.trainer.statistics().last_error == "it uses too much memory"


async def test_failures_are_told_and_the_next_script_is_let_in(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        for fatal in (False, True):
            link = await host.join()
            link.send(protocol.Failed("it broke", "line 1\nline 2", fatal, "task-failed"))
            await close(link)
            await host.until(lambda: len(host.lost) == 1 + fatal)  # noqa: B023
        assert all("has failed" in text for text in host.lost)
        await close(await host.join())


async def test_rubbish_ends_the_connection_and_nothing_else(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        link = await host.join()
        link._outbox.put(b"\xff" * 8)
        await host.until(lambda: host.lost)
        await close(link)
        await close(await host.join())


async def test_a_dead_script_is_noticed_though_a_child_holds_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attached, "_LOOK_SECONDS", 0.05)
    dead = await trio.lowlevel.open_process([sys.executable, "-c", ""])
    await dead.wait()
    monkeypatch.setattr(os, "getpid", lambda: dead.pid)
    async with running(tmp_path) as host:
        link = await host.join()
        await host.until(lambda: host.lost)
        await close(link)
    assert not alive(dead.pid)


async def test_a_script_that_hangs_is_told_of_and_so_is_its_going_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attached, "_LOOK_SECONDS", 0.02)
    monkeypatch.setattr(attached, "_SILENT_SECONDS", 0.1)
    monkeypatch.setattr(attached, "_SILENT_SLOTS", 0)
    async with running(tmp_path) as host:
        link = await host.join()
        link.send(HELLO)
        await host.until(lambda: host.heard)
        host.trainer.tell(protocol.SetMode("train"))
        await host.until(lambda: any("it hangs" in text for text in host.told))
        assert not host.lost, "it keeps its place"
        link.send(protocol.Warned("here I am"))
        await host.until(lambda: "the script goes on" in host.told)
        await close(link)


async def test_stopping_asks_the_script_to_save(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        link = await host.join()
        link.send(HELLO)
        await host.until(lambda: host.heard)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(host.trainer.stop)
            assert await receive(link) == protocol.Stop()
            await close(link)
        assert host.trainer.statistics().state == "stopped"


def test_silence_is_told_once_and_so_is_its_end() -> None:
    silence = Silence()
    assert not silence.heard(0.0)
    assert silence.look(29.0, 1.0, training=True) is None
    assert silence.look(31.0, 1.0, training=True) == 31.0
    assert silence.look(40.0, 1.0, training=True) is None
    assert silence.heard(50.0)
    assert silence.look(200.0, 60.0, training=True) is None, "three slots are longer"
    assert silence.look(231.0, 60.0, training=True) == 181.0
    assert Silence().look(1e9, 1.0, training=True) is None, "who has said nothing yet is still loading"
    paused = Silence()
    paused.heard(0.0)
    assert paused.look(1000.0, 1.0, training=False) is None
    assert paused.look(1001.0, 1.0, training=True) is None, "the time of a pause does not count"
