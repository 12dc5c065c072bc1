"""A scenario with real daemons in network namespaces instead of the simulator: `run`."""

from __future__ import annotations

import sys
from collections.abc import Callable

from netsim.errors import RealError
from netsim.result import Look, Result
from netsim.scenario import Scenario

__all__ = ["run"]


def run(name: str, scenario: Scenario, seed: int, progress: Callable[[float, Look], None] | None = None) -> Result:
    """Run a scenario with real daemons, in real time.

    The clock starts when all nodes that are there from the start have become one swarm, and bytes count from then on:
    whole Ethernet frames at the nodes' interfaces. A run cannot be repeated to the bit: daemons make their own keys,
    and time is the machine's. Everything that was made is removed again, whatever happens.

    Args:
        name: of the scenario, for the result.
        scenario: what to run.
        seed: of the data's split, the initial weights, the nodes' speeds, and the links' jitter and loss.
        progress: told, at every look, which part of the run is over (0 to 1) and what was seen.

    Raises:
        RealError: the scenario cannot be run with real daemons, or not on this machine, or a daemon failed.
    """
    if sys.platform != "linux":
        raise RealError(
            f"real daemons run in network namespaces, which {sys.platform} does not have: use Linux, or `netsim run`"
        )
    from netsim.real import course  # it needs what only Linux has

    return course.run(name, scenario, seed, progress or (lambda part, look: None))
