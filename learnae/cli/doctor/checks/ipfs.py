"""The IPFS node to which snapshots are pinned."""

from __future__ import annotations

import re
from collections.abc import Iterator

from learnae.cli.doctor.facts import Facts
from learnae.cli.doctor.verdict import Verdict, fail, ok, skip, warn

OLDEST = (0, 5)
"""The first Kubo (then go-ipfs) that imports CAR files."""


def node(facts: Facts) -> Iterator[Verdict]:
    """It is there, lets us in, and knows what we need."""
    found = facts.ipfs
    if found is None:
        yield skip("ipfs", "switched off (ipfs = off)")
        return
    named = found.wanted != "auto"
    if found.status is None:
        if named:
            yield fail(
                "ipfs",
                f"nothing answers at {found.address}: {found.error}; snapshots wait, training goes on",
                "start it (`ipfs daemon`), correct --ipfs, or say --ipfs off",
            )
        else:
            yield ok("ipfs", "none on this PC: snapshots are kept in the profile alone")
    elif found.status in (401, 403):
        yield fail(
            "ipfs",
            f"{found.address} refuses (HTTP {found.status}): its API.Authorizations or API.HTTPHeaders keep us out",
            "allow this PC in its configuration (`ipfs config API`), or say --ipfs off",
        )
    elif found.status != 200 or found.version is None:
        judge = fail if named else warn
        yield judge(
            "ipfs",
            f"what answers at {found.address} is no IPFS node (HTTP {found.status})",
            "give the address of the RPC API: `ipfs config Addresses.API` shows it; or say --ipfs off",
        )
    elif _number(found.version) < OLDEST:
        yield fail(
            "ipfs",
            f"the node at {found.address} is version {found.version}, which cannot import CAR files",
            f"update it to {'.'.join(map(str, OLDEST))} or newer, or say --ipfs off",
        )
    else:
        yield _pinning(facts, found.address, found.version)


def _number(version: str) -> tuple[int, ...]:
    match = re.match(r"(\d+)\.(\d+)", version)
    return (int(match[1]), int(match[2])) if match else OLDEST


def _pinning(facts: Facts, address: str, version: str) -> Verdict:
    told = facts.running.told.get("ipfs") if facts.running else None
    if told and told.get("why"):
        return warn(
            "ipfs",
            f"version {version} answers at {address}, but pinning fails: {told['why']}",
            "look into its log, and make room for it; it is tried again by itself",
        )
    pins = f", {told['pins']} pins" if told and told.get("pins") is not None else ""
    return ok("ipfs", f"version {version} at {address}{pins}")
