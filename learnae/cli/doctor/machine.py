"""What this PC has and allows: disk, memory, network interfaces, ports; used by `gathering`. Seen on Linux."""

from __future__ import annotations

import errno
import ipaddress
import os
import shutil
import socket
import tempfile
from pathlib import Path

import psutil

from learnae.cli.doctor.addresses import endpoint
from learnae.cli.doctor.facts import Disk, Interface, Memory, Port

_TRIAL_BYTES = 64 * 1024


def disk(profile: Path) -> Disk | None:
    """Room where the profile lies, or will lie, with a trial."""
    directory = next((one for one in (profile, *profile.parents) if one.is_dir()), None)
    if directory is None:
        return None
    usage = shutil.disk_usage(directory)
    return Disk(usage.free, usage.total, _trial(directory), _inodes(directory))


def _trial(directory: Path) -> str | None:
    try:
        # Deleted as soon as it is closed, and nobody sees its name on Linux.
        with tempfile.TemporaryFile(dir=directory) as file:
            file.write(bytes(_TRIAL_BYTES))
            file.flush()
    except OSError as error:
        return error.strerror or str(error)
    return None


def _inodes(directory: Path) -> int | None:
    if not hasattr(os, "statvfs"):
        return None
    about = os.statvfs(directory)
    return about.f_favail if about.f_files else None


def memory() -> Memory:
    """Of the whole PC."""
    found = psutil.virtual_memory()
    return Memory(found.available, found.total)


def interfaces() -> tuple[Interface, ...]:
    """Those that are up."""
    addresses = psutil.net_if_addrs()
    found = []
    for name, about in psutil.net_if_stats().items():
        if about.isup:
            flags = about.flags.split(",") if about.flags else []
            ips = tuple(a.address.partition("%")[0] for a in addresses.get(name, ()) if _is_ip(a.address))
            found.append(Interface(name, ips, "multicast" in flags if flags else None))
    return tuple(found)


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    return True


def port(address: str) -> Port:
    """Whether one could listen there now. The port is free again when this returns."""
    place = endpoint(address)
    if place is None:
        return Port(address, "it is no address of TCP")
    host, number = place
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as trial:
        if os.name == "posix":
            # As the daemon does: a port in TIME_WAIT is free.
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((host, number))
            trial.listen(1)
        except OSError as error:
            holder = listener(number)
            return Port(
                address, error.strerror or str(error), holder is not None or error.errno == errno.EADDRINUSE, holder
            )
    return Port(address, None)


def listener(number: int) -> str | None:
    """The program that listens on this port, "nginx (process 123)", as far as this user may know."""
    try:
        for one in psutil.net_connections("tcp"):
            if one.status == psutil.CONN_LISTEN and one.laddr and one.laddr.port == number and one.pid:
                return f"{psutil.Process(one.pid).name()} (process {one.pid})"
    except (psutil.Error, OSError):
        pass  # macOS tells only root.
    return None
