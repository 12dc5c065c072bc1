"""Where settings come from: flags, the environment, a TOML file; used by `Config`."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from learnae.config.file import FILE_NAME, load
from learnae.config.parsers import parse
from learnae.errors import ConfigError

ENVIRONMENT_PREFIX = "LEARNAE_"

# field -> (where it came from, for messages; the value as found)
Layer = dict[str, tuple[str, Any]]


def first_path(layers: list[Layer], name: str) -> Path | None:
    """The setting `name`, a path, of the first layer that has it: it is needed before the file is read."""
    for layer in layers:
        if name in layer:
            source, value = layer[name]
            parsed = parse(name, value, source)
            return parsed if isinstance(parsed, Path) else None
    return None


def flag(name: str) -> str:
    """How the setting of this field is called on the command line: "from" cannot be a field's name."""
    return "--from" if name == "start" else f"--{name.replace('_', '-')}"


def from_flags(flags: Mapping[str, object]) -> Layer:
    """What was typed on the command line."""
    return {name: (flag(name), value) for name, value in flags.items() if value not in (None, ())}


def from_environment(names: Iterable[str], environment: Mapping[str, str]) -> Layer:
    """What LEARNAE_* variables say; lists are split at blanks."""
    layer: Layer = {}
    for name in names:
        variable = ENVIRONMENT_PREFIX + name.upper()
        text = environment.get(variable, "")
        if text:
            layer[name] = (variable, tuple(text.split()) if name in ("listen", "peer") else text)
    return layer


def from_file(names: Iterable[str], named: Path | None, home: Path) -> Layer:
    """What the file `named`, or the one in `home`, says; nothing if there is none in `home`.

    Raises:
        ConfigError: it cannot be read, is no TOML, or has a key that is no setting.
    """
    path = named or home / FILE_NAME
    if named is None and not path.is_file():
        return {}
    table = load(path)
    known = [name for name in names if name != "config"]
    layer: Layer = {}
    for key, value in table.items():
        name = key.replace("-", "_")
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0)[0]
            raise ConfigError(
                f"{path} has the key {key!r}, which is not a setting. Did you mean {near!r}? "
                f"Settings are: {', '.join(known)}."
            )
        layer[name] = (f"{key} in {path}", value)
    return layer
