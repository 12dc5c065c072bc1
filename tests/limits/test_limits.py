"""Limits as they are written: in the file, the environment, flags and JSON; and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from learnae.config import Config
from learnae.errors import ConfigError
from learnae.hours import Hours
from learnae.limits import NAMES, Limits, assignments, parse


@pytest.fixture
def base(tmp_path: Path) -> dict[str, Any]:
    return {"topic": "t", "task": "digits", "home": str(tmp_path)}


@pytest.mark.parametrize(
    ("name", "written", "value"),
    [
        ("hours", "22:00-07:00, sat, sun", Hours.parse("22:00-07:00,sat,sun")),
        ("idle_after", "10m", 600.0),
        ("idle_after", 90, 90.0),
        ("idle_after", "1.5h", 5400.0),
        ("on_battery", "RUN", "run"),
        ("cpu", "50%", 0.5),
        ("cpu", 25, 0.25),
        ("threads", 2, 2),
        ("nice", "19", 19),
        ("gpu", "off", False),
        ("gpu", True, True),
        ("ram", "4GiB", 4 * 2**30),
        ("disk", "20GB", 20 * 10**9),
        ("upload", "1MB/s", 10**6),
        ("upload", "8Mbit/s", 10**6),
        ("download", "100kB", 10**5),
        ("download", 123456, 123456),
    ],
)
def test_what_is_understood(name: str, written: object, value: object) -> None:
    assert parse(name, written, "x") == value


@pytest.mark.parametrize("name", NAMES)
def test_none_is_the_default(name: str) -> None:
    assert parse(name, None, "x") == getattr(Limits(), name)
    if name not in ("gpu", "on_battery"):
        assert parse(name, "off", "x") == getattr(Limits(), name)


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("hours", 5),
        ("hours", "at night"),
        ("idle_after", "soon"),
        ("idle_after", "0"),
        ("idle_after", True),
        ("on_battery", "stop"),
        ("cpu", "0%"),
        ("cpu", 0.5),
        ("cpu", "101%"),
        ("cpu", True),
        ("threads", 0),
        ("nice", -5),
        ("nice", "20"),
        ("gpu", "maybe"),
        ("ram", "1MiB"),
        ("ram", True),
        ("ram", ["4GiB"]),
        ("disk", "1kB"),
        ("upload", "1kB/s"),
        ("upload", "fast"),
        ("download", "-1MB"),
        ("download", {}),
    ],
)
def test_what_is_refused_says_what_to_write(name: str, written: object) -> None:
    with pytest.raises(ConfigError, match=r"^here is .* Say|^here is .*hours"):
        parse(name, written, "here")


sizes = (
    st.integers(10**8, 2**60)
    | st.integers(1, 2**20).map(lambda n: n * 10**9)
    | st.integers(1, 2**20).map(lambda n: n * 2**30)
)
limits = st.builds(
    Limits,
    hours=st.none() | st.sampled_from(["22:00-07:00, sat, sun", "mon-fri 18:00-24:00", "wed"]).map(Hours.parse),
    idle_after=st.none() | st.integers(1000, 7 * 86_400_000).map(lambda n: n / 1000),
    on_battery=st.sampled_from(["pause", "run"]),
    cpu=st.none() | st.integers(100, 10_000).map(lambda n: round(n / 10_000, 4)),
    threads=st.none() | st.integers(1, 1024),
    nice=st.integers(0, 19),
    gpu=st.booleans(),
    ram=st.none() | sizes.filter(lambda n: n >= 2**28),
    disk=st.none() | sizes,
    upload=st.none() | st.integers(50_000, 2**50),
    download=st.none() | st.integers(50_000, 2**50),
)


@given(limits)
def test_what_is_shown_can_be_written(wanted: Limits) -> None:
    texts = wanted.texts()
    assert set(texts) == set(NAMES)
    again = Limits().changed({name: ("x", value) for name, value in texts.items()})
    assert again.texts() == texts
    assert again == wanted


def test_flags_win_over_environment_over_file_for_each_limit(base: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "learnae.toml").write_text('[limits]\ncpu = "10%"\nidle-after = "5m"\nnice = 3\nupload = "2MB/s"\n')
    environment = {"LEARNAE_LIMITS_CPU": "20%", "LEARNAE_LIMITS_IDLE_AFTER": "1h", "LEARNAE_LIMITS_UPLOAD": "off"}
    config = Config.resolve({**base, "limit": ("cpu=30%", "on-battery=run")}, environment)
    assert config.limits == Limits(cpu=0.3, idle_after=3600.0, nice=3, on_battery="run")
    assert Config.resolve(base, {}).limits.nice == 3


def test_without_any_word_there_is_no_limit_but_the_battery(base: dict[str, Any]) -> None:
    found = Config.resolve(base, {}).limits
    assert found == Limits()
    assert {name for name, value in found.texts().items() if value is not None} == {"on_battery", "nice", "gpu"}


@pytest.mark.parametrize(
    ("flags", "environment", "content", "match"),
    [
        (("cpus=1",), {}, "", r"--limit sets 'cpus'.*'cpu'"),
        (("cpu",), {}, "", "must be KEY=VALUE"),
        (("cpu=lots",), {}, "", r"^--limit cpu is 'lots'"),
        ((), {"LEARNAE_LIMITS_RAM": "1"}, "", r"^LEARNAE_LIMITS_RAM is '1'"),
        ((), {}, "[limits]\nuplod = 5\n", r"\[limits\] in .*'uplod'.*'upload'"),
        ((), {}, "[limits]\nupload = 5\n", r"^limits.upload in .* is '5'"),
        ((), {}, "limits = 5\n", "'limits'"),
    ],
)
def test_where_a_wrong_limit_came_from_is_said(
    base: dict[str, Any], tmp_path: Path, flags: tuple[str, ...], environment: dict[str, str], content: str, match: str
) -> None:
    (tmp_path / "learnae.toml").write_text(content)
    with pytest.raises(ConfigError, match=match):
        Config.resolve({**base, "limit": flags}, environment)


def test_nothing_is_changed_by_changes_of_which_one_is_wrong() -> None:
    before = Limits()
    with pytest.raises(ConfigError):
        before.changed({"cpu": ("x", "50%"), "ram": ("x", "none of it")})
    assert before == Limits()
    assert before.changed(assignments(["cpu=50%"])).cpu == 0.5
