"""The simulator: real coordinators under a virtual clock and a modelled network; used by the command line and tests."""

from netsim.sim.simulation import simulate

__all__ = ["simulate"]
