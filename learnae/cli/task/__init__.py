"""`learnae task`: write a task of one's own, and try it before anybody is joined."""

from learnae.cli.task.commands import task

__all__ = ["task"]
