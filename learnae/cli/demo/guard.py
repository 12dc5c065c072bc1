"""Ends the demo's daemons when the demo itself was killed and could not; started by `swarm` as its own process.

The demo writes "+PID" for every daemon that it starts and "-PID" for every one that it saw end. When the demo is gone
its end of the pipe closes: what is left is asked to end, and killed if it does not.
"""

from __future__ import annotations

import os
import signal
import sys
import time

PATIENCE = 8.0
"""Seconds between SIGTERM and SIGKILL."""


def main() -> None:
    """Read standard input to its end, then see that no daemon is left."""
    groups: set[int] = set()
    for line in sys.stdin:
        (groups.add if line[0] == "+" else groups.discard)(int(line[1:]))
    deadline = time.monotonic() + PATIENCE
    number: int = signal.SIGTERM
    while groups:
        groups = {group for group in groups if _signal(group, number)}
        number = 0 if time.monotonic() < deadline else signal.SIGKILL
        time.sleep(0.1)


def _signal(group: int, number: int) -> bool:
    """Signal a process group (0 only asks whether it is there). False if it is gone."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return number != signal.SIGKILL


if __name__ == "__main__":
    main()
