"""Multiaddrs of TCP peers, parsed strictly; used by every module that dials, listens or announces."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

import ifaddr

from learnae.errors import WireError
from learnae.peer import public_key

_HOST_KINDS = ("ip4", "ip6", "dns4", "dns6", "dns")
_DNS_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?(\.[A-Za-z0-9_-]{1,63})*\.?")
_MAX_TEXT = 400


@dataclass(frozen=True, slots=True)
class Address:
    """One TCP address: `/ip4/192.0.2.7/tcp/4117/p2p/12D3Koo...`, with or without the peer id."""

    kind: str
    host: str
    port: int
    peer: str | None = None

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read a multiaddr of the form `/ip4|ip6|dns|dns4|dns6/HOST/tcp/PORT[/p2p/PEER]`.

        Raises:
            WireError: anything else, relayed and QUIC addresses included.
        """
        if len(text) > _MAX_TEXT:
            raise WireError("a multiaddr of more than 400 characters")
        parts = text.split("/")
        if len(parts) not in (5, 7) or parts[0] or parts[3] != "tcp" or parts[1] not in _HOST_KINDS:
            raise WireError(f"not a TCP multiaddr like /ip4/192.0.2.7/tcp/4117: {text!r}")
        kind, host, port = parts[1], parts[2], parts[4]
        if not (port.isascii() and port.isdigit() and len(port) <= 5 and int(port) < 65536):
            raise WireError(f"not a TCP port: {port!r} in {text!r}")
        peer = None
        if len(parts) == 7:
            if parts[5] != "p2p":
                raise WireError(f"expected /p2p/PEER at the end of {text!r}")
            peer = parts[6]
            public_key(peer)
        return cls(kind, _checked_host(kind, host), int(port), peer)

    def __str__(self) -> str:
        suffix = f"/p2p/{self.peer}" if self.peer else ""
        return f"/{self.kind}/{self.host}/tcp/{self.port}{suffix}"

    def of(self, peer: str | None) -> Address:
        """The same place with another (or no) peer id."""
        return replace(self, peer=peer)

    @property
    def wildcard(self) -> bool:
        """True for 0.0.0.0 and ::, which stand for every interface and cannot be dialled."""
        return self.kind in ("ip4", "ip6") and ipaddress.ip_address(self.host).is_unspecified

    @property
    def loopback(self) -> bool:
        return self.kind in ("ip4", "ip6") and ipaddress.ip_address(self.host).is_loopback

    @property
    def dialable(self) -> bool:
        """False for wildcards, multicast and port 0."""
        if self.port == 0:
            return False
        if self.kind not in ("ip4", "ip6"):
            return True
        ip = ipaddress.ip_address(self.host)
        return not (ip.is_unspecified or ip.is_multicast)


def _checked_host(kind: str, host: str) -> str:
    if kind == "ip4" or kind == "ip6":
        try:
            ip = ipaddress.IPv4Address(host) if kind == "ip4" else ipaddress.IPv6Address(host)
        except ValueError as error:
            raise WireError(f"not an {kind} address: {host!r}") from error
        return str(ip)
    if len(host) > 253 or not _DNS_NAME.fullmatch(host):
        raise WireError(f"not a host name: {host!r}")
    return host


def interface_hosts() -> list[tuple[str, str]]:
    """("ip4" or "ip6", address) of every interface, link-local IPv6 left out (it needs a zone to be dialled)."""
    hosts: list[tuple[str, str]] = []
    for adapter in ifaddr.get_adapters():
        for entry in adapter.ips:
            if isinstance(entry.ip, str):
                hosts.append(("ip4", entry.ip))
            elif not ipaddress.IPv6Address(entry.ip[0]).is_link_local:
                hosts.append(("ip6", entry.ip[0]))
    return hosts


def is_own(host: str) -> bool:
    """Whether this is an IP address of this machine."""
    plain = host.partition("%")[0]
    return ipaddress.ip_address(plain).is_loopback or any(plain == own for _, own in interface_hosts())


def expand(listening: Iterable[Address]) -> list[Address]:
    """Listen addresses as others can dial them: wildcards become interface addresses, loopback only if alone."""
    found: list[Address] = []
    for address in listening:
        if not address.wildcard:
            found.append(address)
            continue
        hosts = [host for kind, host in interface_hosts() if kind == address.kind]
        found.extend(Address(address.kind, host, address.port, address.peer) for host in hosts)
    unique = list(dict.fromkeys(found))
    return [address for address in unique if not address.loopback] or unique
