"""What the swarm is measured against, in the same harness: alone, FedAvg, DiLoCo, NoLoCo, pairwise averaging."""

from netsim.baselines.course import run

__all__ = ["run"]
