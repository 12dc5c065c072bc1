"""Addresses of IPFS nodes' RPC APIs: checked when given, looked for when not; used by `IpfsNode` and the pinning."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from pathlib import Path

import multiaddr

from learnae.errors import ConfigError

DEFAULT = "/ip4/127.0.0.1/tcp/5001"
"""Where Kubo and IPFS Desktop listen unless told otherwise."""

_HOSTS = ("ip4", "ip6", "dns", "dns4", "dns6")
_MAX_FILE = 256


def parse_address(text: str) -> str:
    """The address, if it can be one.

    Raises:
        ConfigError: it is no multiaddr of an HTTP API.
    """
    try:
        names = [protocol.name for protocol in multiaddr.Multiaddr(text).protocols()]
    except (multiaddr.exceptions.Error, ValueError, TypeError) as error:
        names, why = [], f" ({error})"
    else:
        why = ""
    if len(names) < 2 or names[0] not in _HOSTS or names[1] != "tcp" or names[2:] not in ([], ["http"], ["https"]):
        raise ConfigError(
            f"{text!r} is not the address of an IPFS node's RPC API{why}: give it as {DEFAULT}, "
            "as `ipfs config Addresses.API` shows it",
            code="ipfs-address",
        )
    return text


def is_loopback(address: str) -> bool:
    """Whether this address, in the form that `parse_address` accepts, stays within this machine."""
    _, protocol, host, *_ = address.split("/")
    return protocol in ("ip4", "ip6") and ipaddress.ip_address(host).is_loopback


def nearby(environment: Mapping[str, str]) -> list[str]:
    """Where an IPFS node of this user would listen, likeliest first: only addresses on loopback.

    A node that runs writes its address to the file ``api`` in ``$IPFS_PATH`` (default ``~/.ipfs``).
    """
    found = []
    try:
        named = environment.get("IPFS_PATH")
        repository = Path(named) if named else Path.home() / ".ipfs"
        with (repository / "api").open("rb") as file:
            written = parse_address(file.read(_MAX_FILE).decode().strip())
        if is_loopback(written):
            found.append(written)
    except (OSError, UnicodeDecodeError, RuntimeError, ConfigError):
        pass  # No node has run here, or not in a way that we could use.
    if DEFAULT not in found:
        found.append(DEFAULT)
    return found
