"""`learnae service`: the daemon as a service of its user, kept running by the system's own means."""

from learnae.cli.service.commands import service

__all__ = ["service"]
