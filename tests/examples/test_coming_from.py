"""The lines that the docs show to those who come from elsewhere are lines of Python, and name what there is."""

from __future__ import annotations

import ast
import inspect
import re

import pytest

import learnae
from learnae.loop import Swarm
from learnae.task import Task
from tests.examples.running import ROOT

TEXT = "".join((ROOT / "docs" / name).read_text() for name in ("coming-from.md", "train-your-own.md"))


def after(block: str) -> str:
    """What a difference makes of the lines."""
    return "\n".join(line[1:] for line in block.splitlines() if not line.startswith("-"))


DIFFERENCES = [
    after(block) for block in re.findall(r"^```diff\n(.*?)^```", TEXT, re.M | re.S) if "learnaed run" not in block
]
WHOLE = re.findall(r"^```python\n(.*?)^```", TEXT, re.M | re.S)


def calls(source: str, name: str) -> list[ast.Call]:
    found = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return [call for call in found if ast.unparse(call.func) == name]


@pytest.mark.parametrize("source", [found for found in DIFFERENCES + WHOLE if not found.startswith("++")])
def test_what_is_called_takes_what_it_is_given(source: str) -> None:
    for name, function in (("learnae.join", learnae.join), ("swarm.step", Swarm.step)):
        for call in calls(source, name):
            given = {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}
            itself = [None] if name == "swarm.step" else []
            inspect.signature(function).bind(*itself, *call.args, **given)


def test_the_task_of_the_docs_is_one() -> None:
    (source,) = [source for source in DIFFERENCES if "(Task)" in source]
    names: dict[str, type[Task]] = {}
    exec(source, names)
    assert not inspect.isabstract(names["MyTask"]) and issubclass(names["MyTask"], Task)
