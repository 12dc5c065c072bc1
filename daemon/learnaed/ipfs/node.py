"""What learnae does with an IPFS node through its RPC API: identify, import, pin, unpin, read; used by the pinning.

Nothing that the node says is trusted: blocks are verified, answers bounded, and every call ends in time.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

from learnae import car
from learnae.cid import MAX_BLOCK, names, to_text
from learnae.errors import NetworkError, WireError
from learnaed.ipfs import cids
from learnaed.ipfs.address import DEFAULT
from learnaed.ipfs.call import Call, new_limiter
from learnaed.ipfs.rpc import Refused, Rpc, printable

T = TypeVar("T")
Kind = Literal["recursive", "direct"]

_MAX_ADDRESSES = 64
_MAX_LENGTH = 256


class BlockSupply(Protocol):
    """Where the blocks of our own snapshots come from."""

    def blocks(self, root: bytes) -> Iterator[tuple[bytes, bytes]]:
        """The blocks of the DAG below this CID with their CIDs, the root first; called in a thread.

        Raises:
            StoreError: one is missing or damaged.
        """
        ...


class Identity(NamedTuple):
    """Who an IPFS node says that it is."""

    id: str
    """Its peer id."""
    agent: str
    """Program and version."""
    addresses: tuple[str, ...]
    """Where it listens for other IPFS nodes."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long an IPFS node may take.

    The defaults leave a busy node on an old disk its time: what is late costs nothing but a retry, training goes on.
    """

    quick: float = 10.0
    """Seconds for an answer that needs no work."""
    slow: float = 300.0
    """Seconds for the same when it walks a DAG or writes to its disk; also before its answer to an import begins."""
    stall: float = 30.0
    """Seconds without a byte while it receives."""
    rate: float = 64 * 1024
    """Bytes per second; an import or a fetch may last as long as at this rate, beyond ``slow``."""
    upload: float | None = 25e6
    """The most bytes per second sent to it, so that it leaves the processor to the training. None: no limit."""


class IpfsNode:
    """An IPFS node (Kubo, IPFS Desktop, js-ipfs) at an address that was given or found.

    All calls raise `NetworkError` if it cannot be reached, is too slow or refuses, `WireError` if it answers nonsense.

    Args:
        address: multiaddr of its RPC API.
        limits: how long it may take.

    Raises:
        ConfigError: nothing can be at that address.
    """

    def __init__(self, address: str = DEFAULT, limits: Limits | None = None) -> None:
        self.address = address
        self._limits = limits or Limits()
        self._rpc = Rpc(address, self._limits.stall, self._limits.slow)
        self._limiter = new_limiter()

    async def identify(self, seconds: float | None = None) -> Identity:
        """Who is there; waits for ``seconds`` (default: ``limits.quick``)."""
        (answer,) = await self._ask("/id", seconds=seconds, count=1)
        names = answer.get("ID"), answer.get("AgentVersion")
        if not all(isinstance(name, str) and name for name in names):
            raise WireError(f"{self.address} does not answer like an IPFS node")
        addresses = answer.get("Addresses")
        return Identity(
            printable(str(names[0]), 128),
            printable(str(names[1]), 128),
            tuple(
                address
                for address in (addresses if isinstance(addresses, list) else [])[:_MAX_ADDRESSES]
                if isinstance(address, str) and len(address) <= _MAX_LENGTH and address.isprintable()
            ),
        )

    async def pinned(self, root: bytes) -> Kind | None:
        """How this CID is pinned there, indirect pins aside."""
        kinds: tuple[Kind, ...] = ("recursive", "direct")
        for kind in kinds:
            try:
                answers = await self._ask("/pin/ls", to_text(root), options={"type": kind})
            except Refused as error:
                if "not pinned" not in str(error):
                    raise
                continue
            keys = [key for answer in answers if isinstance(found := answer.get("Keys"), dict) for key in found]
            if root not in map(cids.from_text, keys):
                raise WireError("asked for one pin, it names others")
            return kind
        return None

    async def import_dag(self, root: bytes, supply: BlockSupply, recursive: bool = True) -> int:
        """Send the DAG below ``root``, or that block alone; returns how many bytes that took.

        A DAG is pinned as it arrives, so that no garbage collection of the node comes between; `pin` says so for sure.

        Raises:
            StoreError: the supply lacks a block.
        """

        def send(call: Call) -> int:
            blocks: Iterable[car.Block] = supply.blocks(root)
            if not recursive:
                blocks = itertools.islice(blocks, 1)
            answers = self._rpc.answer(
                call, "/dag/import", options={"pin-roots": _flag(recursive)}, upload=car.write(root, blocks)
            )
            # Without a pin, Kubo names no root: only what is named can be wrong.
            roots = [found for answer in answers if isinstance(found := answer.get("Root"), dict)]
            named = [link.get("/") if isinstance(link := found.get("Cid"), dict) else None for found in roots]
            if roots and root not in map(cids.from_text, named):
                raise WireError("it imported something else than was sent")
            if why := next((why for found in roots if (why := found.get("PinErrorMsg"))), None):
                raise Refused(f"it cannot pin what was sent: {printable(str(why), 200)}")
            return call.bytes

        limits = self._limits
        return await self._run("/dag/import", Call(limits.slow, limits.rate, limits.upload), send)

    async def pin(self, root: bytes, recursive: bool = True) -> None:
        """Pin what it holds; returns once it says so."""
        await self._ask("/pin/add", to_text(root), options={"recursive": _flag(recursive)}, seconds=self._limits.slow)

    async def unpin(self, root: bytes, recursive: bool = True) -> None:
        """Remove a pin; there may be none."""
        try:
            await self._ask(
                "/pin/rm", to_text(root), options={"recursive": _flag(recursive)}, seconds=self._limits.slow
            )
        except Refused as error:
            if "not pinned" not in str(error):
                raise

    async def read(self, cid: bytes, seconds: float | None = None) -> bytes:
        """One block, verified; the node may look for it in the network while ``seconds`` last."""

        def receive(call: Call) -> bytes:
            block = bytearray()
            with closing(self._rpc.stream(call, "/block/get", to_text(cid))) as pieces:
                for piece in pieces:
                    block += piece
                    if len(block) > MAX_BLOCK:
                        raise WireError(f"a block of more than {MAX_BLOCK} bytes")
            if not names(cid, bytes(block)):
                raise WireError("a block that does not have the hash that was asked for")
            return bytes(block)

        return await self._run("/block/get", Call(seconds or self._limits.quick, self._limits.rate), receive)

    async def fetch(self, root: bytes, keep: Callable[[bytes, bytes], None], limit: int) -> int:
        """Read the DAG below ``root``, as far as the node has or finds it; returns its bytes.

        What arrived before a failure was kept, and need not come again. A node that lacks a part may end the stream
        early without a word, so look through the DAG afterwards for what is missing.

        Args:
            root: what to read.
            keep: takes each block, verified, with its CID, in a thread.
            limit: the most bytes to accept.

        Raises:
            StoreError: a block cannot be kept.
        """

        def receive(call: Call) -> int:
            size = 0
            found = False
            with closing(self._rpc.stream(call, "/dag/export", to_text(root))) as pieces:
                _, blocks = car.read(_Pieces(pieces))
                for cid, block in blocks:
                    size += len(block)
                    if size > limit:
                        raise WireError(f"more than the {limit} bytes that this DAG can have")
                    found = found or cid == root
                    keep(cid, block)
            if not found:
                raise NetworkError("it does not have that DAG", code="cut-not-found")
            return size

        return await self._run("/dag/export", Call(self._limits.slow, self._limits.rate), receive)

    async def connect_to(self, address: str) -> None:
        """Have it dial a libp2p address (with a peer id), so that Bitswap works between the two."""
        await self._ask("/swarm/connect", address)

    async def _ask(
        self,
        path: str,
        *arguments: str,
        options: dict[str, str] | None = None,
        seconds: float | None = None,
        count: int | None = None,
    ) -> list[dict[str, Any]]:
        def ask(call: Call) -> list[dict[str, Any]]:
            answers = self._rpc.answer(call, path, *arguments, options=options)
            if count not in (None, len(answers)):
                raise WireError(f"{len(answers)} answers")
            return answers

        return await self._run(path, Call(seconds or self._limits.quick, self._limits.rate), ask)

    async def _run(self, path: str, call: Call, method: Callable[[Call], T]) -> T:
        try:
            return await call.run(method, self._limiter)
        except (NetworkError, WireError) as error:
            raise type(error)(f"IPFS node at {self.address}, {path.strip('/')}: {error}") from error


async def discover(addresses: Iterable[str], limits: Limits | None = None, seconds: float = 2.0) -> IpfsNode | None:
    """The first of these addresses at which an IPFS node answers; quick and quiet."""
    for address in addresses:
        node = IpfsNode(address, limits)
        try:
            await node.identify(seconds)
        except (NetworkError, WireError):
            continue
        return node
    return None


class _Pieces:
    """Pieces of bytes as a file."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")

    def read(self, size: int, /) -> bytes:
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._rest = memoryview(piece)
        part, self._rest = self._rest[:size], self._rest[size:]
        return bytes(part)


def _flag(value: bool) -> str:
    return "true" if value else "false"
