"""The memory that this process has taken at most; used by the simulator and the baselines."""

from __future__ import annotations

import sys


def peak() -> float:
    """Bytes, of the whole process since its start; nan where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return float("nan")
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(most if sys.platform == "darwin" else most * 1024)
