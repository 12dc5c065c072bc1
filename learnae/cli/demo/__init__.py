"""`learnae demo`: a whole swarm on this PC, beside nodes that train alone; used by the CLI."""

from learnae.cli.demo.course import Options, run

__all__ = ["Options", "run"]
