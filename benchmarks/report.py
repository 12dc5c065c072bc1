"""What all benchmarks share: flags, the machine's line, tables, and figures beside their targets."""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

WIDTH = 120


@dataclass(frozen=True, slots=True)
class Target:
    """A figure that has to reach a bound. `unit` is what both are shown in: "%", "s", "MB", or nothing."""

    what: str
    measured: float
    direction: Literal["at least", "at most"]
    bound: float
    unit: str = ""

    @property
    def met(self) -> bool:
        """Whether the figure reaches the bound; one that is not a number does not."""
        return self.measured >= self.bound if self.direction == "at least" else self.measured <= self.bound


def arguments(description: str, given: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the flags that every benchmark takes."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="a short look: fewer seeds and rounds, figures less sure")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to FILE")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a target is missed, naming it")
    return parser.parse_args(given)


def machine() -> dict[str, str]:
    """What the figures were measured on."""
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": model,
        "cores": str(os.cpu_count()),
        "memory": f"{memory / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
        "python": platform.python_version(),
        "torch": version("torch").partition("+")[0],
        "learnae": version("learnae"),
        "date": date.today().isoformat(),
    }


class Report:
    """Collects a benchmark's tables and targets, shows them as they come, and closes with the verdict."""

    def __init__(self, name: str, options: argparse.Namespace) -> None:
        self.name = name
        self.options = options
        self.targets: list[Target] = []
        self._machine = machine()
        self._tables: dict[str, list[dict[str, Any]]] = {}
        # A file or a pipe gets a fixed width, so that tables do not depend on who looks.
        self._console = Console() if Console().is_terminal else Console(width=WIDTH)
        self._console.print(f"[bold]{name}[/]  " + "  ".join(f"{k} {v}" for k, v in self._machine.items()))

    def note(self, text: str) -> None:
        """Say what is going on."""
        self._console.print(f"[dim]{text}[/]")

    def table(self, title: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Show rows with equal keys; floats get three significant digits."""
        if not rows:
            return
        table = Table(title=title, title_justify="left")
        for key, value in rows[0].items():
            table.add_column(key, justify="left" if isinstance(value, str) else "right")
        for row in rows:
            table.add_row(*(_shown(value) for value in row.values()))
        self._console.print(table)
        self._tables[title] = [dict(row) for row in rows]

    def target(
        self, what: str, measured: float, direction: Literal["at least", "at most"], bound: float, unit: str = ""
    ) -> None:
        """Put a figure beside the bound that it has to reach."""
        self.targets.append(Target(what, measured, direction, bound, unit))

    def close(self) -> int:
        """Show the targets, write the JSON file, and return the exit code."""
        table = Table(title="Targets", title_justify="left")
        for column in ("what", "measured", "target", ""):
            table.add_column(column, justify="left" if column in ("what", "") else "right")
        for target in self.targets:
            bound = f"{target.direction} {_shown(target.bound)} {target.unit}".rstrip()
            verdict = "[green]met[/]" if target.met else "[red]missed[/]"
            table.add_row(target.what, f"{_shown(target.measured)} {target.unit}".rstrip(), bound, verdict)
        self._console.print(table)
        if self.options.json:
            content = {
                "benchmark": self.name,
                "quick": self.options.quick,
                "machine": self._machine,
                "tables": self._tables,
                "targets": [asdict(target) | {"met": target.met} for target in self.targets],
            }
            self.options.json.write_text(json.dumps(content, indent=1) + "\n")
        missed = [target for target in self.targets if not target.met]
        for target in missed:
            self._console.print(f"[red]missed:[/] {target.what}: {_shown(target.measured)} {target.unit}".rstrip())
        return 1 if missed and self.options.check else 0


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}" if abs(value) < 10 else f"{value:.1f}"
    return str(value)
