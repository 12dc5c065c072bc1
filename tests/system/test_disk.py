"""Disks that fail: a full one is waited for, a damaged database is replaced, and no own number is used twice."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from netsim.daemons import Node, Swarm
from tests.lab import TASKS, start_local

BRISK = ("--task", f"{TASKS}:Brisk", "--topic", "t")


@pytest.fixture
def tmpfs(tmp_path: Path) -> Iterator[Path]:
    """A disk of 48 MB."""
    directory = tmp_path / "disk"
    directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=48m", "learnae-test", str(directory)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a disk")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


def fill(directory: Path) -> Path:
    """Take all room that is left on a disk."""
    ballast = directory / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
    return ballast


def numbers(node: Node) -> dict[str, int]:
    return node.status()["ledger"]["vector"]  # type: ignore[no-any-return]


def test_a_full_disk_is_waited_for(tmpfs: Path, swarm: Swarm) -> None:
    home = tmpfs / "home"
    full = swarm.start(
        *BRISK, "--shard", "1/2", "--listen", "/ip4/127.0.0.1/tcp/0", "--no-mdns", "--status-port", "0", home=home
    )
    swarm.wait("its address", lambda: full.status()["listen"], 20, [full])
    other = start_local(swarm, *BRISK, "--shard", "2/2", peer=full)
    swarm.wait_together()
    swarm.wait_rounds(3, 40)
    ballast = fill(tmpfs)
    swarm.wait("the disk's refusal", lambda: full.status()["driver"]["store_failures"] >= 2, 30, [full, other])
    assert "check that the disk is not full" in full.messages()
    before = other.status()["trainer"]["rounds"]
    swarm.wait("the other to go on", lambda: other.status()["trainer"]["rounds"] > before + 2, 30, [full, other])
    ballast.unlink()
    swarm.wait("it to write again", lambda: "can be written again" in full.messages(), 20, [full, other])
    rounds = full.status()["trainer"]["rounds"]
    swarm.wait("new rounds", lambda: full.status()["trainer"]["rounds"] > rounds + 2, 30, [full, other])
    swarm.wait_equal()
    for refused in (full.status()["refused"], other.status()["refused"]):
        assert not refused["conflict"] and not refused["void"]
    code, seconds = full.terminate()
    assert (code, seconds < 5) == (0, True)


@pytest.mark.slow
def test_a_damaged_database_is_replaced(swarm: Swarm) -> None:
    first = start_local(swarm, *BRISK, "--shard", "1/2", name="first")
    swarm.wait("its address", lambda: first.status()["listen"], 20, [first])
    second = start_local(swarm, *BRISK, "--shard", "2/2", peer=first, name="second")
    swarm.wait_together()
    swarm.wait_rounds(6, 60)
    peer = second.status()["peer"]
    second.kill()
    database = second.profile / "ledger.sqlite"
    database.write_bytes(b"not a database any more" * 1000)
    for suffix in ("-wal", "-shm"):
        database.with_name(database.name + suffix).unlink(missing_ok=True)
    before = numbers(first)[peer]
    again = start_local(swarm, *BRISK, "--shard", "2/2", peer=first, name="second")
    swarm.wait("the message", lambda: "moved to ledger.sqlite.damaged" in again.messages(), 20, [first, again])
    swarm.wait("its next update", lambda: numbers(first)[peer] > before + 1, 60, [first, again])
    swarm.wait_equal()
    # Were a number used twice, one of the two updates would be refused.
    assert not any(node.status()["refused"]["conflict"] for node in (first, again))
    assert not any(row["forked"] for row in first.peers())
