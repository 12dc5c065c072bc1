"""Serves the API on loopback with hypercorn and leaves `status.json` for clients while it runs; started by `app`."""

from __future__ import annotations

import logging
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import trio
from hypercorn.config import Config as HypercornConfig

from learnae.errors import ConfigError
from learnaed import logs
from learnaed.status import files
from learnaed.status.access import Access
from learnaed.status.api import build
from learnaed.status.connections import Connections
from learnaed.status.guard import Guard, Load, local_hosts, remote_hosts
from learnaed.status.source import StatusSource

if TYPE_CHECKING:
    # libp2p installs stubs for trio that lack its `TaskStatus`; at run time the two are the same thing.
    from trio_typing import TaskStatus

LOOPBACK = ("127.0.0.1", "::1")
PORT_TRIES = 32
_BACKLOG = 128
"""Connections that the system holds until it is their turn; those beyond come again a second later by themselves."""

log = logs.get("status")


async def serve(
    source: StatusSource,
    bind: str,
    port: int,
    token: str,
    *,
    remote: str | None = None,
    directory: Path | None = None,
    task_status: TaskStatus[str] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled; `task_status` gets the URL once requests are answered.

    Args:
        source: what to show and steer.
        bind: "127.0.0.1" or "::1"; never anything that another machine can reach.
        port: first port to try; the next free of 32 is taken. 0: any free port.
        token: bearer token that requests must carry which change anything; see `files.create_token`.
        remote: "ADDRESS:PORT" to listen on besides, for other machines: everything needs the token there.
        directory: profile directory for `status.json`, written (mode 0600) before `started`, removed at exit.

    Raises:
        ConfigError: `bind` is not a loopback address, no port of those tried is free, or `remote` cannot be had.
        StoreError: `status.json` cannot be written.
    """
    far = _listen_to_all(remote) if remote is not None else None
    try:
        listener = _listen(bind, port)
    except ConfigError:
        if far is not None:
            far.close()
        raise
    bound = listener.getsockname()[1]
    url = f"http://[{bind}]:{bound}" if ":" in bind else f"http://{bind}:{bound}"
    connections, access, load = Connections(_config()), Access(token), Load()

    def figures() -> dict[str, int]:
        return {
            "connections": len(connections),
            "turned_away": connections.turned_away,
            "requests": load.requests,
            "refused": load.refused,
        }

    app = build(source, access, figures)
    async with trio.open_nursery() as nursery:
        local = Guard(app, local_hosts(bound), access, load, connections.has, closed=False)
        nursery.start_soon(connections.serve, local, listener)
        if far is not None:
            distant = Guard(app, remote_hosts(), access, load, connections.has, closed=True)
            nursery.start_soon(connections.serve, distant, far)
            log.warning("other machines reach the status endpoint, unencrypted and with the token", address=remote)
        try:
            if directory is not None:
                about = source.status()
                content = {"url": url, "pid": os.getpid(), "peer": about.get("peer"), "topic": about.get("topic")}
                files.write_status(directory, content | ({"remote": remote} if remote else {}))
            log.info("status endpoint ready", url=url)
            task_status.started(url)
            await trio.sleep_forever()
        finally:
            if directory is not None:
                files.remove_status(directory)


def _config() -> HypercornConfig:
    config = HypercornConfig()
    config.errorlog = logging.getLogger("hypercorn.error")
    config.include_server_header = False
    config.h11_max_incomplete_size = 16 * 1024
    # No read_timeout: it would also end a request that waits for its answer, as `pin` and `import` may for long. Who
    # does not send its request is cut off by the keep-alive timeout, who does not send its body by the API.
    return config


def _listen_to_all(where: str) -> socket.socket:
    host, _, port = where.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    if os.name == "posix":
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, int(port)))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"the status endpoint cannot listen on {where}: {error.strerror}. Say --status-listen with an address of "
            "this PC and a port that is free.",
            code="status-address",
        ) from error
    return listener


def _listen(bind: str, port: int) -> socket.socket:
    if bind not in LOOPBACK:
        raise ConfigError(
            f"the status endpoint cannot listen on {bind}: it steers the daemon, so other machines must not reach it. "
            f"Use {' or '.join(LOOPBACK)}, and an SSH tunnel to watch from elsewhere.",
            code="status-address",
        )
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    ports = range(port, min(port + PORT_TRIES, 65536)) if port else (0,)
    for candidate in ports:
        listener = socket.socket(family, socket.SOCK_STREAM)
        if os.name == "posix":
            # A port in TIME_WAIT is free; on Windows the option would share a port that is taken.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((bind, candidate))
            # Of two daemons that bound the port at the same moment, only one may listen.
            listener.listen(_BACKLOG)
        except OSError:
            listener.close()
        else:
            return listener
    raise ConfigError(
        f"no port from {ports[0]} to {ports[-1]} is free on {bind} for the status endpoint. "
        "Say --status-port with another one, or 0 for any.",
        code="status-port",
    )
