"""Has network, trainer and disk keep to the limits; called by `warden` at each look and change."""

from __future__ import annotations

from typing import Protocol

from learnae import protocol
from learnae.limits import Limits
from learnaed.limits.sensors import Look

_STEP = 32 * 2**20
"""What the daemon needs is rounded up to this, so that the trainer's part does not change at every look."""
_DAEMON_LEAST = 128 * 2**20
_LEAST_BLOCKS = 2**20


class _Network(Protocol):
    def set_rates(self, upload: int | None, download: int | None) -> None: ...


class _Trainer(Protocol):
    def limit(self, limits: protocol.SetLimits) -> None: ...

    def restart(self, why: str) -> None: ...


class _Blocks(Protocol):
    def set_cap(self, cap: int) -> None: ...


class Enforcer:
    """Knows what was told to whom, and tells only what changes.

    Args:
        cap: most bytes of snapshots, by the setting of its own.
        threads: of a training step, by the setting of its own.
    """

    def __init__(self, network: _Network, trainer: _Trainer, blocks: _Blocks, cap: int, threads: int | None) -> None:
        self._network = network
        self._trainer = trainer
        self._blocks = blocks
        self._cap = cap
        self._threads = threads
        self._told: protocol.SetLimits | None = None

    def enforce(self, limits: Limits, look: Look | None) -> None:
        """Carry over what has changed."""
        self._network.set_rates(limits.upload, limits.download)
        room = self._cap
        if limits.disk is not None:
            room = min(room, limits.disk - (look.other_files if look is not None else 0))
        self._blocks.set_cap(max(room, _LEAST_BLOCKS))
        told = trainer_limits(limits, self._threads, look.daemon_memory if look is not None else 0)
        if told != self._told:
            self._told = told
            self._trainer.limit(told)

    def restart_trainer(self, why: str) -> None:
        """End the process that holds the model; a new one takes over."""
        self._trainer.restart(why)


def trainer_limits(limits: Limits, threads: int | None, daemon_memory: int) -> protocol.SetLimits:
    """What the trainer is told: of the memory it gets what the daemon, which grows a little, leaves."""
    ram = limits.ram
    if ram is not None:
        needed = max(daemon_memory * 5 // 4, _DAEMON_LEAST)
        ram = max(ram - -(-needed // _STEP) * _STEP, _STEP)
    return protocol.SetLimits(limits.cpu, limits.threads or threads, limits.nice, limits.gpu, ram)
