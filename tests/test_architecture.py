"""Who may import what, and what the package must declare and contain: read from the sources, nothing is run."""

from __future__ import annotations

import ast
import functools
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BASES = {"learnae": ROOT, "learnaed": ROOT / "daemon", "netsim": ROOT, "benchmarks": ROOT, "tests": ROOT}
TORCH = (
    r"learnae/(initial|model|weights|learner|task|cli/exporting|cli/doctor/probe|cli/task/trial)\.py|learnae/tasks/.*|learnae/trainer/(checkpoint|restraint)\.py|learnae/(loop|integrations)/.*|daemon/learnaed/trainer/worker\.py"
    r"|netsim/workloads/.*|benchmarks/.*|tests/.*"
)
EXTRAS = ("accelerate", "images", "lightning", "transformers")
"""Of learnae itself: what its own modules import if it is there."""
NUMPY = TORCH + r"|learnae/replica\.py|learnae/codec/.*|netsim/(attacks|baselines|sim)/.*"


def sources(*packages: str) -> list[Path]:
    return sorted(path for package in packages for path in (BASES[package] / package).rglob("*.py"))


@functools.cache
def imports(path: Path) -> tuple[str, ...]:
    """Full names of the modules that a file imports, wherever in it, but for those that only type checkers see."""
    return tuple(_imports(ast.parse(path.read_text())))


def _imports(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
        return
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module:
        yield node.module
    for child in ast.iter_child_nodes(node):
        yield from _imports(child)


def importers(module: str, *packages: str) -> set[str]:
    """Files of these packages (default: all) that import `module` or something inside it."""
    return {
        path.relative_to(ROOT).as_posix()
        for path in sources(*(packages or BASES))
        if any(f"{name}.".startswith(f"{module}.") for name in imports(path))
    }


@pytest.mark.parametrize(
    ("module", "allowed"),
    [
        ("torch", TORCH),
        ("safetensors", TORCH),
        ("numpy", NUMPY),
        ("libp2p", r"daemon/learnaed/network/.*|tests/network/.*|tests/system/test_hostile_donors\.py"),
        ("zeroconf", r"daemon/learnaed/network/.*|tests/network/.*"),
        *((extra, rf"learnae/integrations/{extra}\.py|tests/.*") for extra in ("lightning", "transformers")),
        ("learnaed", r"daemon/learnaed/.*|benchmarks/.*|tests/.*"),
        ("netsim", r"netsim/.*|benchmarks/.*|tests/.*"),
        ("benchmarks", r"benchmarks/.*|tests/.*"),
        ("tests", r"tests/.*"),
    ],
)
def test_a_module_is_imported_only_where_it_belongs(module: str, allowed: str) -> None:
    found = importers(module)
    assert found, f"nothing imports {module}: is the rule out of date?"
    assert [path for path in sorted(found) if not re.fullmatch(allowed, path)] == []


def test_the_library_core_does_no_input_or_output() -> None:
    pure = (
        r"learnae/(club/|codec/|coordinator/|ledger/"
        r"|(bucket|car|cbor|cid|dagcbor|genesis|hours|invitation|layout|limits|manifest|peer|protocol|replica|schema|snapshot|unixfs|vector|wire)\.).*"
    )
    for module in ("socket", "threading", "time", "trio", "asyncio", "subprocess", "sqlite3"):
        assert [path for path in sorted(importers(module, "learnae")) if re.fullmatch(pure, path)] == [], module


def test_every_folder_with_modules_is_a_package() -> None:
    folders = {path.parent for path in sources(*BASES)}
    assert sorted(str(folder.relative_to(ROOT)) for folder in folders if not (folder / "__init__.py").exists()) == []


@pytest.mark.parametrize(
    ("packages", "extras"),
    [
        (("learnae", "learnaed"), EXTRAS),
        (("netsim",), ("sim",)),
        (("benchmarks", "tests"), ("sim", "dev", *EXTRAS)),
    ],
)
def test_what_is_imported_is_declared(packages: tuple[str, ...], extras: tuple[str, ...]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {name(line) for line in project["dependencies"]}
    for extra in extras:
        declared |= {name(line) for line in project["optional-dependencies"][extra]}
    providers = packages_distributions()
    used = {module.partition(".")[0] for path in sources(*packages) for module in imports(path)}
    foreign = used - set(sys.stdlib_module_names) - set(BASES)
    assert sorted(m for m in foreign if not declared & {name(d) for d in providers.get(m, [m])}) == []


def test_every_dependency_has_its_line_and_its_pin() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    chosen = [line for extra in ("sim", "dev", *EXTRAS) for line in extras[extra]]
    declared = {name(line) for line in [*project["dependencies"], *chosen]} - {"learnae"}
    pinned = {name(line) for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")}
    assert sorted(declared - pinned) == []
    explained = {name(word) for word in re.findall(r"[\w.-]+", (ROOT / "docs" / "dependencies.md").read_text())}
    assert sorted(declared - explained) == []


def name(requirement: str) -> str:
    """The normalised name of the distribution in a requirement such as "hypercorn[trio]>=0.17"."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\s\[<>=!~;]", requirement, maxsplit=1)[0]).lower()
