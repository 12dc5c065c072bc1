"""What can go wrong with the simulator, for people to read.

::

    NetsimError
    ├── ScenarioError   a scenario is missing or wrong
    ├── RealError       a scenario cannot be run with real daemons, or not on this machine
    ├── ResultError     a file holds no result
    ├── RunError        a run has ended without a result
    └── MissingError    something is not installed, or not allowed here
"""

from __future__ import annotations


class NetsimError(Exception):
    """Something that the user can put right; the message says how."""


class ScenarioError(NetsimError):
    """A scenario is missing, or a key or a value in it is wrong."""


class RealError(NetsimError):
    """A scenario cannot be run with real daemons, or not on this machine; says which key or what is missing."""


class ResultError(NetsimError):
    """A file holds no result of a run."""


class RunError(NetsimError):
    """A run has ended without a result."""


class MissingError(NetsimError):
    """Something that is needed is not installed on this machine, or not allowed to this user."""
