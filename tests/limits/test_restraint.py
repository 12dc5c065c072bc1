"""CPU time, priority and memory of the trainer process: the rule under a virtual clock, the rest on small processes."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learnae.trainer.restraint import Duty, means_memory


@settings(max_examples=50)
@given(
    st.floats(0.01, 1.0),
    st.integers(1, 64),
    st.lists(st.tuples(st.floats(0.001, 3.0), st.floats(0.1, 1.0)), min_size=20, max_size=40),
)
def test_whoever_rests_uses_just_the_part_that_is_allowed(
    part: float, cores: int, steps: list[tuple[float, float]]
) -> None:
    """Steps take so many seconds on such a part of all cores."""
    now, used = 50.0, 7.0
    duty = Duty(part, cores, now, used)
    largest = 0.0
    for seconds, width in steps:
        now += seconds
        largest = max(largest, seconds * width * cores)
        used += seconds * width * cores
        now += duty.rest(now, used)
        assert used - 7.0 <= (part * cores * (now - 50.0) + part * cores) * (1 + 1e-6) + 1e-5
    wanted = sum(seconds * width for seconds, width in steps) * cores
    if wanted > 20 * (part * cores * 2 + largest):
        assert used - 7.0 >= 0.9 * part * cores * (now - 50.0), "and not much less"


def test_a_long_while_of_little_use_is_not_paid_for_later() -> None:
    duty = Duty(0.1, 2, 0.0, 0.0)
    assert duty.rest(36_000.0, 450.0) == 0.0
    assert duty.rest(36_001.0, 450.4) == pytest.approx(0.0)
    assert duty.rest(36_002.0, 452.4) == pytest.approx(9.0)
    assert duty.rest(36_003.0, 452.4) == pytest.approx(8.0)


def test_a_burst_is_bounded() -> None:
    duty = Duty(0.5, 4, 0.0, 0.0)
    assert duty.rest(1000.0, 0.0) == 0.0
    assert duty.rest(1001.0, 6.0) == pytest.approx(1.0), "a second's worth was saved, three are used in one"


@pytest.mark.parametrize(
    ("error", "wanted"),
    [
        (MemoryError(), True),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried"),
            True,
        ),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."), True),
        (RuntimeError("CUDA out of memory. Tried to allocate"), True),
        (OSError(12, "Cannot allocate memory"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_what_says_that_there_is_no_memory(error: Exception, wanted: bool) -> None:
    assert means_memory(error) is wanted


def outcome(code: str) -> list[str]:
    """What a process prints that holds itself to limits and then does this."""
    program = """
        import os, sys
        from learnae.protocol import SetLimits
        from learnae.trainer.restraint import Restraint, let_go, shared_memory
        said = []
        restraint = Restraint(said.append)
        def apply(ram=None, nice=10, gpu=True):
            restraint.apply(SetLimits(None, None, nice, gpu, ram))
        def resident():
            return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    """
    program = textwrap.dedent(program) + textwrap.dedent(code)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.split()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux refuses memory to a process by its size")
def test_memory_never_exceeds_the_limit() -> None:
    """It takes all it can get, piece by piece; the peak stays below the limit, and the process lives to say so."""
    code = """
        restraint.loaded()
        most = 200 * 2**20
        apply(most)
        taken, got = [], 0
        try:
            while True:
                taken.append(b"x" * 2**20)
        except MemoryError:
            got = len(taken)
        peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) * 1024
        taken.clear()
        let_go()
        again = bytearray(b"x" * most)
        print(got, peak <= most, len(again) == most)
    """
    got, below, lifted = outcome(code)
    assert int(got) > 100, "most of what is allowed can be used"
    assert (below, lifted) == ("True", "True")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux refuses memory to a process by its size")
def test_the_bound_on_memory_can_be_raised_and_taken_away() -> None:
    code = """
        restraint.loaded()
        def room():
            try:
                return bool(bytearray(300 * 2**20))
            except MemoryError:
                return False
        for ram in (200 * 2**20, 500 * 2**20, 200 * 2**20, None):
            apply(ram)
            print(room())
    """
    assert outcome(code) == ["False", "True", "False", "True"]


def test_priority_and_gpu_are_set_for_the_whole_process() -> None:
    code = """
        import threading
        done = threading.Event()
        threading.Thread(target=done.wait).start()
        apply(nice=12, gpu=False)
        nices = {os.getpriority(os.PRIO_PROCESS, int(task)) for task in os.listdir("/proc/self/task")}
        print(nices == {12}, repr(os.environ["CUDA_VISIBLE_DEVICES"]))
        apply(nice=15, gpu=False)
        print(os.getpriority(os.PRIO_PROCESS, 0), len(said))
        done.set()
    """
    if sys.platform != "linux":
        pytest.skip("priorities of threads are Linux's")
    assert outcome(code) == ["True", "''", "15", "0"]


@pytest.mark.skipif(sys.platform != "linux", reason="priorities of threads are Linux's")
def test_a_priority_that_cannot_be_raised_is_told() -> None:
    if os.geteuid() == 0:
        pytest.skip("root may raise it")
    assert outcome("apply(nice=15)\napply(nice=5)\nprint(len(said))") == ["1"]
