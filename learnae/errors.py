"""The exceptions of learnae: one small tree, raised everywhere and shown to users by the CLI.

::

    LearnaeError
    ├── ConfigError         a flag, environment variable or configuration file is wrong
    ├── TaskError           the user's task cannot be loaded or breaks its contract
    │   └── DataError       a data set is missing or unreadable
    ├── LayoutError         a model that cannot be shared, or two layouts that do not match
    ├── LearnerError        training went wrong (a loss that is not finite, for instance)
    ├── WireError           bytes from outside that break the format or a bound
    │   └── CodecError      an update's payload that cannot be decoded
    ├── StoreError          the local database or a state file is damaged or not writable
    ├── NetworkError        a peer could not be reached or broke the protocol
    ├── TrainerError        the trainer process could not be started or kept alive
    └── DaemonError         a client found no daemon, or the daemon refused its request

A message that a user can meet says what happened, why, and what to do.
"""

from __future__ import annotations


class LearnaeError(Exception):
    """Base of everything that learnae raises on purpose."""


class ConfigError(LearnaeError):
    """A flag, environment variable or configuration file is wrong."""


class TaskError(LearnaeError):
    """The task cannot be loaded, or breaks the contract of `learnae.task.Task`."""


class DataError(TaskError):
    """A data set is missing or unreadable."""


class LayoutError(LearnaeError):
    """A model that cannot be shared, or two models whose layouts differ."""


class LearnerError(LearnaeError):
    """Local training failed: nothing of the round is published."""


class WireError(LearnaeError):
    """Bytes from outside break the format or a bound; they were dropped."""


class CodecError(WireError):
    """An update's payload cannot be decoded; it counts as an update of zeros."""


class StoreError(LearnaeError):
    """The local database or a state file is damaged or cannot be written."""


class NetworkError(LearnaeError):
    """A peer could not be reached, was too slow, or broke the protocol."""


class TrainerError(LearnaeError):
    """The trainer process could not be started or kept alive."""


class DaemonError(LearnaeError):
    """A client found no running daemon, or the daemon refused what it asked."""
