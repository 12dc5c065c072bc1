"""The plots and tables of docs/defaults.md: `python -m benchmarks.defaults [NAME...]`.

Each is one `netsim sweep`, whose command line is shown. Runs are kept in build/defaults: a sweep that is started again
goes on where it was.
"""

from __future__ import annotations

import shlex
import sys
from typing import Final

from netsim.cli import cli

SCENARIO: Final = "benchmarks/defaults.toml"
JUDGED: Final = "--figure accuracy --figure loss"
"""What is plotted where the bytes do not depend on it."""
BOWL: Final = "--set workload.kind=quadratic"
"""Where the network is what matters, a noisy quadratic bowl stands in for the model: it costs next to nothing."""

SWEEPS: Final = {
    "density": f"{SCENARIO} --over codec.density=0.0025,0.005,0.01,0.02,0.05 --seeds 3",
    "round-length": (
        f"{SCENARIO} --over workload.slot_seconds=2.5,5,10 --set workload.round_steps=10000"
        " --set nodes.0.speed=6 --seeds 2"
    ),
    "outer": f"{SCENARIO} --over codec.lr_outer=0.5,0.8,1.0 --over codec.mu=0.8,0.9 {JUDGED} --seeds 2",
    "beta": f"{SCENARIO} --over codec.beta=0.8,0.95,1.0 {JUDGED} --seeds 2",
    "clip": f"20-percent-byzantine --small --over rules.clip=0.75,1.25,2.0,4.0 {JUDGED} --seeds 2",
    "window": (
        f"partition-and-heal --small {BOWL} --set run.seconds=280 --set happenings.1.at=200"
        " --over rules.window=1,2,3,4,6 --figure loss --figure updates --figure identical --seeds 3"
    ),
    "heartbeat": (
        f"lossy-30 --small {BOWL} --over settings.heartbeat=0.5,1,2,4,8"
        " --figure staleness --figure loss --figure bytes --seeds 3"
    ),
    "nodes": (
        f"lan-lab {BOWL} --set run.seconds=100 --over nodes.0.count=4,8,16,32"
        " --figure loss --figure bytes --figure bytes_most --seeds 1"
    ),
}


def command(name: str) -> str:
    """The command line that makes a plot."""
    return f"netsim sweep {SWEEPS[name]} --jobs 1 --out build/defaults/{name} --plot docs/images/defaults/{name}"


def main() -> None:
    """Make those that were named, or all."""
    wanted = sys.argv[1:] or list(SWEEPS)
    if unknown := sorted(set(wanted) - set(SWEEPS)):
        sys.exit(f"there is no sweep {unknown[0]!r}: use {', '.join(SWEEPS)}")
    for name in wanted:
        print(f"\n{command(name)}", flush=True)
        cli.main(shlex.split(command(name))[1:], prog_name="netsim", standalone_mode=False)


if __name__ == "__main__":
    main()
