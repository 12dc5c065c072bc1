"""What simulated nodes train: `crew` builds the trainers of a scenario; used by the engine and the baselines."""

from __future__ import annotations

from typing import Any

from netsim.crew import Crew
from netsim.scenario import Scenario


def crew(scenario: Scenario, seed: int) -> Crew[Any]:
    """The trainers of a run of this scenario."""
    if scenario.workload.kind == "quadratic":
        from netsim.workloads.quadratic import Quadratic

        return Quadratic(scenario, seed)
    from netsim.workloads.images import Images  # torch takes seconds to load

    return Images(scenario, seed)
