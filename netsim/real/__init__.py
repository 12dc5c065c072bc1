"""A scenario with real daemons in network namespaces instead of the simulator: `run`."""

from netsim.real.course import run

__all__ = ["run"]
