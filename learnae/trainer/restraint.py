"""Keeps the trainer process to the user's limits: CPU time, threads, priority, GPU and memory; used by the trainers."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

from learnae.bucket import Bucket
from learnae.protocol import SetLimits

_BURST = 1.0
"""Seconds of the allowed CPU time that may be used at once after a rest."""
_PARENT_EVERY = 0.5
"""Seconds between two looks at what the daemon has used."""
_LIBRARIES = 320 * 2**20
"""Bytes of files that torch and its libraries map, as long as they are not loaded."""
_SLACK = 32 * 2**20
"""Bytes of files that may still be mapped after that."""
_OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "bad_alloc", "cannot allocate memory", "out of memory")


class Duty:
    """How long to rest between steps so that CPU time stays a part of what the PC has: a rule without a clock.

    Args:
        part: of all cores, 0 to 1.
        cores: of the PC.
        now: seconds of any clock.
        used: CPU seconds used so far.
    """

    def __init__(self, part: float, cores: int, now: float, used: float) -> None:
        self._bucket = Bucket(part * cores, part * cores * _BURST, now)
        self._then = now
        self._used = used

    def rest(self, now: float, used: float) -> float:
        """Seconds to rest from now on, if `used` CPU seconds were used in all."""
        # Taken as of the last look: what was used over a long while is set against all that came in meanwhile.
        self._bucket.take(max(0.0, used - self._used), self._then)
        self._then, self._used = now, max(used, self._used)
        return self._bucket.delay(0.0, now)


class Restraint:
    """The limits in force in this process.

    Args:
        warn: told what cannot be kept.
        daemon: id of the daemon's process. None: this process was started by it, which then chooses its priority and
            GPUs, too.
    """

    def __init__(self, warn: Callable[[str], None], *, daemon: int | None = None) -> None:
        self._warn = warn
        self._priority = daemon is None
        self._limits: SetLimits | None = None
        self._duty: Duty | None = None
        self._parent = _process(os.getppid() if daemon is None else daemon)
        self._parent_used = (float("-inf"), 0.0)
        self._loaded = False

    def apply(self, limits: SetLimits) -> None:
        """Keep to these limits from now on. What cannot be changed any more is told to the user."""
        before, self._limits = self._limits, limits
        if before is None and not limits.gpu and self._priority:
            # Read when torch begins to use a GPU; a change later needs a new process, which the daemon sees to.
            os.environ["CUDA_VISIBLE_DEVICES"] = os.environ["HIP_VISIBLE_DEVICES"] = ""
        if self._priority and (before is None or before.nice != limits.nice):
            self._give_way(limits.nice)
        if limits.threads is not None and (before is None or before.threads != limits.threads):
            import torch

            torch.set_num_threads(limits.threads)
        if before is None or before.cpu != limits.cpu:
            cores = os.cpu_count() or 1
            self._duty = Duty(limits.cpu, cores, time.monotonic(), self._used()) if limits.cpu is not None else None
        self.hold_memory()

    def loaded(self) -> None:
        """The model and all libraries are loaded."""
        self._loaded = True
        self.hold_memory()

    def rest(self) -> float:
        """Seconds to rest before the next step."""
        return self._duty.rest(time.monotonic(), self._used()) if self._duty is not None else 0.0

    def _used(self) -> float:
        """CPU seconds of this process and of the daemon, whose share is one."""
        now = time.monotonic()
        looked, used = self._parent_used
        if self._parent is not None and now - looked >= _PARENT_EVERY:
            with suppress(psutil.Error):
                times = self._parent.cpu_times()
                used = times.user + times.system
            self._parent_used = (now, used)
        return time.process_time() + used

    def _give_way(self, nice: int) -> None:
        try:
            if sys.platform == "win32":
                psutil.Process().nice(
                    psutil.IDLE_PRIORITY_CLASS
                    if nice >= 15
                    else psutil.BELOW_NORMAL_PRIORITY_CLASS
                    if nice >= 5
                    else psutil.NORMAL_PRIORITY_CLASS
                )
            else:
                # On Linux each thread has a priority of its own.
                threads = Path("/proc/self/task")
                own = [int(task.name) for task in threads.iterdir()] if threads.is_dir() else [0]
                for thread in own:
                    with suppress(ProcessLookupError):
                        os.setpriority(os.PRIO_PROCESS, thread, nice)
        except (OSError, psutil.Error):
            self._warn(f"the trainer's niceness can become {nice} only when the daemon is started again")

    def hold_memory(self) -> None:
        """Have the system refuse what would be too much; on other systems than Linux the daemon's watch must do."""
        if sys.platform != "linux" or self._limits is None:
            return
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_DATA)
        bound = most
        if self._limits.ram is not None:
            mapped = shared_memory() + _SLACK
            bound = self._limits.ram - (mapped if self._loaded else max(mapped, _LIBRARIES))
            bound = max(bound, 0) if most == resource.RLIM_INFINITY else min(max(bound, 0), most)
        resource.setrlimit(resource.RLIMIT_DATA, (bound, most))


def let_go() -> None:
    """Lift the bound on memory, to be able to say that it was reached."""
    if sys.platform == "linux":
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def shared_memory() -> int:
    """Resident bytes of this process that are of files or shared, which the bound on its own memory does not cover."""
    found = 0
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(("RssFile:", "RssShmem:")):
            found += int(line.split()[1]) * 1024
    return found


def means_memory(error: BaseException) -> bool:
    """Whether this is how Python or torch say that there is no more memory."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError | OSError) and any(sign in str(error).lower() for sign in _OUT_OF_MEMORY)
    )


def _process(pid: int) -> psutil.Process | None:
    try:
        return psutil.Process(pid)
    except psutil.Error:
        return None
