"""Multiaddrs as far as the doctor reads them; used by its checks and by what gathers facts."""

from __future__ import annotations

import ipaddress
import re


def endpoint(address: str) -> tuple[str, int] | None:
    """Host and port of a multiaddr of TCP, with or without a peer; None if it is something else."""
    match = re.match(r"/(?:ip4|ip6|dns|dns4|dns6)/([^/]+)/tcp/(\d{1,5})(?:/|$)", address)
    return (match[1], int(match[2])) if match else None


def kind(address: str) -> str:
    """Who can dial it: "loopback", "private" or "public"; a name counts as "public".

    >>> kind("/ip4/192.168.1.7/tcp/4117")
    'private'
    """
    place = endpoint(address)
    try:
        ip = ipaddress.ip_address(place[0] if place else "")
    except ValueError:
        return "public"
    return "loopback" if ip.is_loopback else "public" if ip.is_global else "private"
