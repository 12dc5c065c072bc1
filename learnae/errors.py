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

A message that a user can meet says what happened, why, and what to do. Its code names the situation, for scripts and
for `docs/errors.md`: `raise StoreError("...", code="disk-full")`. Errors that only strangers' bytes cause, and that are
counted rather than shown, have the code of their class.
"""

from __future__ import annotations

import errno

_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))


class LearnaeError(Exception):
    """Base of everything that learnae raises on purpose.

    Args:
        code: which situation this is, as in `docs/errors.md`; None: that of the class.
    """

    code: str = "defect"

    def __init__(self, *args: object, code: str | None = None) -> None:
        super().__init__(*args)
        if code is not None:
            self.code = code


class ConfigError(LearnaeError):
    """A flag, environment variable or configuration file is wrong."""

    code = "bad-setting"


class TaskError(LearnaeError):
    """The task cannot be loaded, or breaks the contract of `learnae.task.Task`."""

    code = "task-failed"


class DataError(TaskError):
    """A data set is missing or unreadable."""

    code = "data-damaged"


class LayoutError(LearnaeError):
    """A model that cannot be shared, or two models whose layouts differ."""

    code = "model-unshareable"


class LearnerError(LearnaeError):
    """Local training failed: nothing of the round is published."""

    code = "round-failed"


class WireError(LearnaeError):
    """Bytes from outside break the format or a bound; they were dropped."""

    code = "malformed"


class CodecError(WireError):
    """An update's payload cannot be decoded; it counts as an update of zeros."""

    code = "bad-payload"


class StoreError(LearnaeError):
    """The local database or a state file is damaged or cannot be written."""

    code = "file-damaged"


class NetworkError(LearnaeError):
    """A peer could not be reached, was too slow, or broke the protocol."""

    code = "network"


class TrainerError(LearnaeError):
    """The trainer process could not be started or kept alive."""

    code = "trainer-failed"


class DaemonError(LearnaeError):
    """A client found no running daemon, or the daemon refused what it asked."""

    code = "daemon-refused"


def coded(error: LearnaeError) -> str:
    """The error as users see it, with its code before its text: "[disk-full] ..."."""
    return f"[{error.code}] {str(error) or type(error).__name__}"


def disk_code(error: OSError, otherwise: str) -> str:
    """The code for a file that the system refused to read or write: "disk-full", or `otherwise`."""
    return "disk-full" if error.errno in _FULL else otherwise
