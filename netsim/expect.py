"""Whether a run came out as its scenario expects; used by `run --check` and by the tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from netsim.result import Result

UNSEEN = ("consensus", "staleness")


@dataclass(frozen=True, slots=True)
class Verdict:
    """One bound beside what was found; `found` is None if the summary has no such figure."""

    what: str
    found: float | None
    side: Literal["at least", "at most"]
    bound: float

    @property
    def met(self) -> bool:
        """Whether the figure is within the bound; one that is missing or is not a number is not."""
        if self.found is None:
            return False
        return self.found >= self.bound if self.side == "at least" else self.found <= self.bound

    def __str__(self) -> str:
        found = "is not among the figures" if self.found is None else f"is {self.found:.6g}"
        return f"{self.what} {found}, {'as' if self.met else 'but'} {self.side} {self.bound:.6g} is expected"


def verdicts(result: Result) -> list[Verdict]:
    """All bounds of the result's scenario, which are those of the small version if that was run.

    Figures that cannot be seen of real daemons from outside (`UNSEEN`) are left out of real runs.
    """
    found = []
    for wanted in result.scenario.expect:
        if result.kind == "real" and wanted.what in UNSEEN:
            continue
        figure = result.summary.get(wanted.what)
        if figure is None and wanted.what.startswith("refused."):
            figure = 0.0  # Only reasons that came up are in the summary.
        if wanted.at_least is not None:
            found.append(Verdict(wanted.what, figure, "at least", wanted.at_least))
        if wanted.at_most is not None:
            found.append(Verdict(wanted.what, figure, "at most", wanted.at_most))
    return found


def missed(result: Result) -> list[Verdict]:
    """The bounds that the run fell short of."""
    return [verdict for verdict in verdicts(result) if not verdict.met]
