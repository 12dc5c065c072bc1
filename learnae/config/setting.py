"""A setting by its name, as `learnae config set` takes it: its key in the file, and its parser."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from learnae import limits
from learnae.config.config import Config
from learnae.config.parsers import parse
from learnae.config.sources import LIMITS, LISTS
from learnae.errors import ConfigError
from learnae.tasks import BUILT_IN, LOOP

_ELSEWHERE: Final = ("home", "config")
"""They say where the file is, so it cannot say them."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting; ``key`` is what it is called in the file."""

    key: str

    def parse(self, words: Sequence[str]) -> Any:
        """The value that these words stand for. Raises `ConfigError` if it is not valid."""
        if self.key.startswith(f"{LIMITS}."):
            text = " ".join(words)
            limits.parse(self.key.removeprefix(f"{LIMITS}."), text, self.key)
            return text
        if self.key in LISTS:
            return parse(self.key, tuple(words), self.key)
        value = parse(self.key, " ".join(words), self.key)
        if self.key == "task" and value not in (*BUILT_IN, LOOP):
            path, _, name = value.rpartition(":")
            return f"{Path(path).absolute()}:{name}"  # a service has another working directory
        return value


def settable(name: str) -> Setting:
    """The setting of this name, with dashes or underscores, with or without the flag's dashes in front.

    Raises:
        ConfigError: there is none, or it cannot stand in the file.
    """
    key = name.lstrip("-").replace("-", "_")
    key = "start" if key == "from" else key
    if key in _ELSEWHERE:
        raise ConfigError(
            f"{name} says where the file is, so it cannot stand in it. Give it as a flag or a variable.",
            code="unknown-setting",
        )
    known = [field.name for field in fields(Config) if field.name not in (*_ELSEWHERE, LIMITS)]
    known += [f"{LIMITS}.{limit}" for limit in limits.NAMES]
    if key not in known:
        near = difflib.get_close_matches(key, known, n=1, cutoff=0)[0]
        raise ConfigError(
            f"{name!r} is no setting. Did you mean {near!r}? Settings are: {', '.join(known)}.", code="unknown-setting"
        )
    return Setting(key)
