from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from netsim.real.cable import End, ends

CABLES = [
    {"node": 5, "port": 6, "latency": 0.02, "jitter": 0.0, "loss": 0.0},
    {"node": 7, "port": 8, "latency": 0.0, "jitter": 0.01, "loss": 0.5},
]


def test_both_directions_of_each_cable_have_its_latency() -> None:
    lines = ends(CABLES, seed=0)
    assert {source: end.out for source, end in lines.items()} == {5: 6, 6: 5, 7: 8, 8: 7}
    assert lines[5].due(10.0) == lines[6].due(10.0) == 10.02


@given(st.lists(st.floats(0, 0.1), min_size=2, max_size=50), st.floats(0, 1), st.integers(0, 2**32))
def test_no_frame_overtakes_another_and_none_comes_too_early(gaps: list[float], jitter: float, seed: int) -> None:
    end = End(0, 0.05, jitter, 0.0, random.Random(seed))
    now, before = 0.0, 0.0
    for gap in gaps:
        now += gap
        due = end.due(now)
        assert due is not None and due >= max(before, now + 0.05)
        before = due


def test_jitter_and_loss_are_what_was_asked_for() -> None:
    end = End(0, 0.0, 0.01, 0.0, random.Random(1))
    extra = [(end.due(float(now)) or 0.0) - now for now in range(1, 20_001)]
    assert abs(sum(extra) / len(extra) - 0.01) < 0.0005
    lossy = ends(CABLES, seed=1)[7]
    assert abs(sum(lossy.due(0.0) is None for _ in range(20_000)) / 20_000 - 0.5) < 0.02


def test_the_same_seed_loses_the_same_frames() -> None:
    one, again, other = ([ends(CABLES, seed)[8].due(0.0) for _ in range(50)] for seed in (1, 1, 2))
    assert one == again != other
