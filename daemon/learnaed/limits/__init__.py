"""The user's limits at work: when the node trains, and what it may take of the PC; wired up by `app`."""

from learnaed.limits.enforcer import Enforcer
from learnaed.limits.sensors import Look, Sensors
from learnaed.limits.verdict import Cause, Conditions, Hold, Reason, verdict
from learnaed.limits.warden import Warden, WardenStatistics

__all__ = [
    "Cause",
    "Conditions",
    "Enforcer",
    "Hold",
    "Look",
    "Reason",
    "Sensors",
    "Warden",
    "WardenStatistics",
    "verdict",
]
