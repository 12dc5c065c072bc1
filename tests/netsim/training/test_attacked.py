"""Attackers in simulated swarms: what they craft is taken in by everybody, does harm, and is held down."""

from __future__ import annotations

from functools import cache

import pytest

from netsim import scenario
from netsim.result import Result
from netsim.sim import simulate

HONEST, SECONDS, SLOT = 4, 35.0, 5.0


@cache
def attacked(name: str) -> Result:
    """Four honest nodes and one attacker, for seven slots."""
    changes = {
        "run.seconds": SECONDS,
        "run.quiet": 10.0,
        "run.evaluate": SECONDS,
        "workload.slot_seconds": SLOT,
        "nodes.0.count": HONEST,
        "nodes.1.count": 1,
        "nodes.1.attack": name,
    }
    return simulate(name, scenario.load("20-percent-byzantine", changes, small=True), 0)


def test_who_is_silent_leaves_the_others_to_themselves() -> None:
    found = attacked("silent").summary
    assert found["updates"] == HONEST * SECONDS / SLOT
    assert found["identical"] == 1


@pytest.mark.parametrize("name", ["alie", "ipm", "adaptive", "sybil"])
def test_crafted_updates_are_taken_in_by_all_do_harm_and_are_held_down(name: str) -> None:
    alone, found = attacked("silent").summary, attacked(name).summary
    assert found["updates"] == (HONEST + 1) * SECONDS / SLOT
    assert found["identical"] == 1
    assert not any(what.startswith("refused.") for what in found)
    if name != "alie":  # it has to hide among the others, and of five it can hardly differ
        assert found["loss"] > alone["loss"]
    assert found["accuracy"] > alone["accuracy"] - 0.25
