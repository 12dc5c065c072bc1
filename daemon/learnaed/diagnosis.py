"""What only the daemon knows of its own troubles, ready for JSON; made by `Node`, asked for by `learnae doctor`.

All but two figures come from memory, so that the answer is there when disk or network hang.
"""

from __future__ import annotations

import shutil
import stat
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from learnae.config import Config
from learnaed.network import NetworkDiagnosis

MOST_DIALS = 200
"""Addresses that are told of: a bound, and more than anybody reads."""


def diagnose(
    config: Config,
    profile: Path,
    network: NetworkDiagnosis,
    ipfs: Mapping[str, Any] | None,
    clock_offset: float,
    heard: Iterable[tuple[str, float]],
) -> dict[str, Any]:
    """The answer.

    Args:
        config: the settings in force.
        profile: the directory of this node.
        network: what the network knows.
        ipfs: how it stands with the IPFS node; None if none is wanted.
        clock_offset: seconds by which the swarm's clock is ahead of this one.
        heard: peer ids on this topic that sent a heartbeat, with the seconds by which their clocks seem to be ahead.
    """
    clocks = dict(heard)
    return {
        "time": time.time(),
        "settings": {
            "home": str(config.home),
            "config": str(config.config) if config.config else None,
            "listen": list(config.listen),
            "peer": list(config.peer),
            "mdns": config.mdns,
            "ipfs": config.ipfs,
            "task": config.task,
            "data": str(config.data) if config.data else None,
        },
        "listening": [
            {"wanted": wanted, "bound": bound} for wanted, bound in zip(network.wanted, network.bound, strict=False)
        ],
        "announced": list(network.announced),
        "incoming": network.incoming,
        "dials": [_dial(row) for row in map(asdict, network.dials[:MOST_DIALS])],
        "connected": list(network.connected),
        "silent": [peer for peer in network.connected if peer not in clocks],
        "mdns": asdict(network.mdns) if network.mdns is not None else None,
        "clock": {"offset": clock_offset, "peers": clocks},
        "ipfs": dict(ipfs) if ipfs is not None else None,
        "disk": _disk(profile),
        "key_mode": _mode(profile / "identity.key"),
    }


def _dial(row: dict[str, Any]) -> dict[str, Any]:
    failure = row.pop("failure") or {"code": None, "text": None, "time": None}
    return row | {"code": failure["code"], "why": failure["text"], "tried": failure["time"]}


def _disk(profile: Path) -> dict[str, int] | None:
    try:
        usage = shutil.disk_usage(profile)
    except OSError:
        return None
    return {"free": usage.free, "total": usage.total}


def _mode(path: Path) -> str | None:
    try:
        return f"{stat.S_IMODE(path.stat().st_mode):04o}"
    except OSError:
        return None
