from __future__ import annotations

import math
from typing import Any

from netsim.real.figures import equal, look, summary


def state(accuracy: float | None = 0.9, digest: str = "a", **refused: int) -> dict[str, Any]:
    return {
        "trainer": {"accuracy_averaged": accuracy, "metrics": {"loss": 0.5}, "digest": digest, "rounds": 3},
        "ledger": {"updates": 12, "vector_digest": "v"},
        "cuts": {"newest": {"index": 1, "cid": "c"}},
        "refused": refused,
    }


def test_a_look_is_the_mean_over_those_that_answer() -> None:
    found = look(10.0, [state(0.9), state(0.7, "b")], [(100, 300), (300, 100), (200, 200)])
    assert (found.time, found.live, found.accuracy, found.worst) == (10.0, 2, 0.8, 0.7)
    assert (found.sent, found.received, found.updates, found.loss) == (200.0, 200.0, 12.0, 0.5)
    assert math.isnan(found.consensus) and math.isnan(found.staleness)


def test_what_is_not_known_yet_counts_as_nothing() -> None:
    found = look(0.0, [state(None), state(0.4)], [])
    assert (found.accuracy, found.worst) == (0.4, 0.4)
    assert math.isnan(look(0.0, [], []).accuracy)


def test_equal_means_updates_weights_and_cuts() -> None:
    assert equal([state(), state(0.1)])
    assert not equal([state(), state(digest="b")])
    other = state()
    other["cuts"] = {"newest": None}
    assert not equal([state(), other])


def test_the_summary_is_of_the_end_and_of_the_worst_fall() -> None:
    states = [state(0.8, late=1), state(0.6, late=2, void=0)]
    looks = [look(float(time), [state(accuracy)], [(1, 1)]) for time, accuracy in enumerate((0.5, 0.75, 0.5))]
    looks.append(look(9.0, states, [(1, 2), (3, 4)]))
    found = summary(looks, states, {0: (1, 2), 1: (3, 4)})
    assert found["accuracy"] == 0.7
    assert (found["bytes"], found["bytes_most"], found["sent"], found["received"]) == (5.0, 7.0, 2.0, 3.0)
    assert (found["live"], found["rounds"], found["identical"]) == (2.0, 3.0, 1.0)
    assert found["lost_accuracy"] == 25.0
    assert {key: found[key] for key in found if key.startswith("refused")} == {"refused.late": 3.0}
