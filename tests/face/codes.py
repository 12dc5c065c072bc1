"""Reads from the sources which error codes there are, and which raises have none; for the test of docs/errors.md."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = sorted(path for folder in ("learnae", "daemon/learnaed") for path in (ROOT / folder).rglob("*.py"))

NEEDS_CODE = (
    "LearnaeError",
    "ConfigError",
    "TaskError",
    "DataError",
    "LayoutError",
    "LearnerError",
    "StoreError",
    "TrainerError",
    "DaemonError",
    "UsageError",
)
"""What users meet. The others, which strangers' bytes and peers cause, may have the code of their class."""

_MAKERS = ("_error", "Refused", "_refuse")
"""What makes errors and refusals beside the classes of errors."""

_NOTICE = re.compile(r"^\[([a-z][a-z0-9-]*)\] ")


def strings(node: ast.AST) -> set[str]:
    """The texts in an expression that look like codes."""
    found = {one.value for one in ast.walk(node) if isinstance(one, ast.Constant) and isinstance(one.value, str)}
    return {text for text in found if re.fullmatch(r"[a-z][a-z0-9-]+", text)}


def called(node: ast.Call) -> str:
    """The name of what is called."""
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def keywords(tree: ast.AST) -> Iterator[ast.keyword]:
    """`code=...` of all errors that are made, and of refusals."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and (called(node).endswith("Error") or called(node) in _MAKERS):
            yield from (keyword for keyword in node.keywords if keyword.arg == "code")


def classes(tree: ast.AST) -> Iterator[ast.expr]:
    """Values of `code` in the bodies of classes of errors."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            for line in node.body:
                target = line.targets[0] if isinstance(line, ast.Assign) else getattr(line, "target", None)
                if isinstance(target, ast.Name) and target.id == "code" and (value := getattr(line, "value", None)):
                    yield value


def notices(tree: ast.AST) -> set[str]:
    """Codes at the beginning of texts: "[disk-full] the disk ..."."""
    texts = (one.value for one in ast.walk(tree) if isinstance(one, ast.Constant) and isinstance(one.value, str))
    return {match[1] for text in texts if (match := _NOTICE.match(text))}


def used() -> dict[str, str]:
    """Every code in the sources, with a file that has it."""
    found: dict[str, str] = {}
    for path in SOURCES:
        tree = ast.parse(path.read_text())
        codes = notices(tree)
        for value in (*(keyword.value for keyword in keywords(tree)), *classes(tree)):
            codes |= strings(value)
        for table in _tables(tree):
            codes |= strings(table)
        found |= dict.fromkeys(codes, path.relative_to(ROOT).as_posix())
    return found


def _tables(tree: ast.AST) -> Iterator[ast.AST]:
    """The status endpoint's codes by HTTP status."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "_CODES":
            yield node.value


def without_code() -> list[str]:
    """Where an error that users meet is raised without a code."""
    return [
        f"{path.relative_to(ROOT).as_posix()}:{node.lineno}"
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Raise)
        and isinstance(node.exc, ast.Call)
        and called(node.exc) in NEEDS_CODE
        and not any(keyword.arg == "code" for keyword in node.exc.keywords)
    ]
