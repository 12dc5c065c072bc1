"""What can go wrong with the simulator, for people to read.

::

    NetsimError
    └── ScenarioError   a scenario is missing or wrong
"""

from __future__ import annotations


class NetsimError(Exception):
    """Something that the user can put right; the message says how."""


class ScenarioError(NetsimError):
    """A scenario is missing, or a key or a value in it is wrong."""
