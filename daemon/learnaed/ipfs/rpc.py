"""Requests to an IPFS node's RPC API, blocking, with bounded answers; used by `IpfsNode`, in threads.

ipfshttpclient 0.7.0 knows addresses, sessions and uploads. Its own calls would read answers of any length into memory,
follow redirects, and use the proxy of the environment, even for loopback; so its answers are read here, in pieces.
"""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Generator, Iterator, Mapping
from typing import Any, Final

import ipfshttpclient
import requests
import urllib3
from ipfshttpclient import multipart

from learnae.errors import ConfigError, NetworkError, WireError
from learnaed.ipfs.address import parse_address
from learnaed.ipfs.call import Call

MAX_ANSWER: Final = 256 * 1024
"""Most bytes of an answer that is not a stream of blocks."""

PIECE: Final = 128 * 1024
_MAX_COMPLAINT: Final = 4096

# ipfshttpclient gives urllib3 2 an argument that it no longer needs.
warnings.filterwarnings("ignore", message="The 'strict' parameter is no longer needed", category=FutureWarning)


class Refused(NetworkError):
    """The IPFS node is there, and says that it cannot do what it is asked."""

    code = "ipfs-refused"


class Rpc:
    """The RPC API at one address.

    Args:
        address: multiaddr, such as ``/ip4/127.0.0.1/tcp/5001``.
        stall: seconds without a byte after which a connection is given up while it sends.
        answer: the same while it waits for an answer or receives one.

    Raises:
        ConfigError: nothing can be at that address.
    """

    def __init__(self, address: str, stall: float, answer: float) -> None:
        self.address = parse_address(address)
        self._timeout = (stall, answer)
        self._new_client()

    def _new_client(self) -> Any:
        try:
            client = ipfshttpclient.Client(self.address, timeout=self._timeout)._client
        except ipfshttpclient.exceptions.Error as error:
            raise ConfigError(f"no IPFS node can be reached at {self.address}: {error}", code="ipfs-address") from error
        return client

    def stream(
        self,
        call: Call,
        path: str,
        *arguments: str,
        options: Mapping[str, str] | None = None,
        upload: Iterator[bytes] | None = None,
    ) -> Generator[bytes, None, None]:
        """The answer in pieces of at most `PIECE` bytes. Close it.

        Raises:
            Refused: the node says no.
            NetworkError: it cannot be reached, is too slow, or does not speak HTTP.
        """
        client = self._new_client()
        client._session_props.update(trust_env=False, hooks={"response": [lambda answer, **_: _check(answer, call)]})
        headers = {"Accept-Encoding": "identity"}
        body = None
        if upload is not None:
            body, described = multipart.stream_files(_File(upload, call), chunk_size=4 * PIECE)
            headers.update(described)
        parameters = [*(options or {}).items(), *(("arg", argument) for argument in arguments)]
        try:
            closables, pieces = client._request(
                "POST", path, parameters, auth=None, data=body, headers=headers, timeout=None, chunk_size=PIECE
            )
            try:
                for piece in pieces:
                    call.move(len(piece))
                    yield piece
            finally:
                for closable in closables:
                    closable.close()
        except (ipfshttpclient.exceptions.Error, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise NetworkError(_reason(error), code="ipfs-away") from error

    def answer(
        self,
        call: Call,
        path: str,
        *arguments: str,
        options: Mapping[str, str] | None = None,
        upload: Iterator[bytes] | None = None,
    ) -> list[dict[str, Any]]:
        """The objects in an answer of JSON lines.

        Raises:
            Refused, NetworkError: as `stream`.
            WireError: the answer is too long, or not JSON objects.
        """
        data = bytearray()
        with contextlib.closing(self.stream(call, path, *arguments, options=options, upload=upload)) as pieces:
            for piece in pieces:
                data += piece
                if len(data) > MAX_ANSWER:
                    raise WireError(f"the answer to {path} has more than {MAX_ANSWER} bytes")
        try:
            objects = [json.loads(line) for line in data.splitlines() if line.strip()]
        except (ValueError, RecursionError) as error:
            raise WireError(f"the answer to {path} is not JSON") from error
        if not all(isinstance(item, dict) for item in objects):
            raise WireError(f"the answer to {path} is not made of JSON objects")
        return objects


class _File:
    """What is uploaded, as a file of which ipfshttpclient reads one piece after the other."""

    def __init__(self, pieces: Iterator[bytes], call: Call) -> None:
        self._pieces = pieces
        self._call = call

    def read(self, _size: int) -> bytes:
        """A few pieces in one: each read becomes a packet of its own."""
        data = bytearray()
        while len(data) < PIECE and (piece := next(self._pieces, None)) is not None:
            data += piece
        self._call.move(len(data))
        return bytes(data)


def _check(answer: requests.Response, call: Call) -> None:
    """Refuse whatever is not a plain answer, before anybody reads it or follows it elsewhere."""
    encoding = answer.headers.get("Content-Encoding", "identity")
    if answer.status_code == 200 and encoding == "identity":
        return
    complaint = bytearray()
    try:
        while len(complaint) < _MAX_COMPLAINT and (piece := answer.raw.read1(_MAX_COMPLAINT, decode_content=False)):
            complaint += piece
            call.move(len(piece))
    except (urllib3.exceptions.HTTPError, OSError):
        pass  # What it says of its refusal is lost.
    finally:
        answer.close()
    if answer.status_code == 200:
        raise NetworkError(f"the answer is encoded as {encoding[:40]!r}, which was not asked for", code="ipfs-refused")
    raise Refused(_complaint(answer.status_code, bytes(complaint)))


def _complaint(status: int, body: bytes) -> str:
    """What a refusal says, in one printable line."""
    try:
        said = json.loads(body)["Message"]
    except (ValueError, KeyError, TypeError, RecursionError):
        said = body.decode(errors="replace")
    text = printable(str(said), 200)
    return f"HTTP status {status}: {text}" if text else f"HTTP status {status}"


def printable(text: str, length: int) -> str:
    """Text from a stranger as it may stand in a log."""
    return "".join(character if character.isprintable() else " " for character in text[:length]).strip()


def _reason(error: Exception) -> str:
    """Why a request failed, without the layers around it."""
    text = str(error)
    if isinstance(error, ipfshttpclient.exceptions.TimeoutError) or "timed out" in text:
        return "it does not answer in time"
    if "refused" in text:
        return "nothing listens there"
    return printable(text, 200) or type(error).__name__
