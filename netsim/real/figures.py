"""What real daemons say of themselves, as the looks and the summary that the simulator gives; used by `course`.

Two figures cannot be had from outside: the distance of the replicas from each other (nan, or 0 where all are equal),
and the staleness of the updates (nan).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import fmean
from typing import Any

from netsim.result import Look

State = Mapping[str, Any]
"""A daemon's status."""


def look(moment: float, states: Sequence[State], traffic: Sequence[tuple[int, int]]) -> Look:
    """The swarm at one moment.

    Args:
        moment: second of the run.
        states: of the daemons that answer.
        traffic: bytes sent and received since the start by each node that was ever there.
    """
    accuracies = _known(state["trainer"]["accuracy_averaged"] for state in states)
    return Look(
        time=moment,
        live=len(states),
        accuracy=_mean(accuracies),
        worst=min(accuracies, default=math.nan),
        loss=_mean(_known(state["trainer"]["metrics"].get("loss") for state in states)),
        consensus=0.0 if states and equal(states) else math.nan,
        staleness=math.nan,
        sent=_mean([sent for sent, _ in traffic]),
        received=_mean([received for _, received in traffic]),
        updates=_mean([state["ledger"]["updates"] for state in states]),
    )


def equal(states: Sequence[State]) -> bool:
    """Whether all hold the same updates, the same weights to the bit, and the same newest cut."""
    return all(
        len({repr(state[part][key]) for state in states}) == 1
        for part, key in (("ledger", "vector_digest"), ("trainer", "digest"), ("cuts", "newest"))
    )


def summary(looks: Sequence[Look], states: Sequence[State], traffic: Mapping[int, tuple[int, int]]) -> dict[str, float]:
    """The figures of the end, as `netsim.result.Result` names them.

    Args:
        looks: all of them; the last is of after the quiet.
        states: of the daemons at that one.
        traffic: bytes sent and received by each node that was ever there.
    """
    last = looks[-1]
    course = [look.accuracy for look in looks if look.accuracy == look.accuracy]
    both = [sent + received for sent, received in traffic.values()]
    refused: Counter[str] = Counter()
    for state in states:
        refused.update(state["refused"])
    return {
        "accuracy": last.accuracy,
        "worst": last.worst,
        "loss": last.loss,
        "consensus": last.consensus,
        "identical": float(bool(states) and equal(states)),
        "live": float(last.live),
        "updates": last.updates,
        "sent": last.sent,
        "received": last.received,
        "bytes": _mean(both),
        "bytes_most": float(max(both, default=0)),
        "rounds": _mean([state["trainer"]["rounds"] for state in states]),
        "staleness": math.nan,
        "lost_accuracy": 100 * max((max(0.0, before - after) for before, after in pairwise(course)), default=0.0),
        **{f"refused.{reason}": float(count) for reason, count in sorted(refused.items()) if count},
    }


def _known(values: Any) -> list[float]:
    return [value for value in values if value is not None]


def _mean(values: Sequence[float]) -> float:
    return fmean(values) if values else math.nan
