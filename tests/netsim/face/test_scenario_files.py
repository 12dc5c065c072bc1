"""Reading, changing and showing scenarios; what comes out of the shipped ones is in tests/netsim/test_scenarios.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from netsim import scenario
from netsim.errors import ScenarioError

MINE = """
purpose = "Mine."
nodes = [{ count = 2 }]

[run]
seconds = 10

[[expect]]
what = "accuracy"
at_least = 0.9
small_at_least = 0.5

[[expect]]
what = "worst"
at_most = 1.0

[small]
"run.seconds" = 5
"nodes.0.count" = 1
"""


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(MINE)
    return path


def test_the_small_version_has_its_own_bounds_and_nothing_that_is_small_is_left(mine: Path) -> None:
    full, small = scenario.load(str(mine)), scenario.load(str(mine), small=True)
    assert [wanted.at_least for wanted in full.expect] == [0.9, None]
    assert [wanted.at_least for wanted in small.expect] == [0.5, None]
    assert small.expect[1] == full.expect[1]
    assert (small.run.seconds, small.nodes[0].count, small.small) == (5, 1, {})
    assert (full.run.seconds, full.nodes[0].count) == (10, 2)


def test_what_the_user_sets_stands_above_the_small_version(mine: Path) -> None:
    changes = {"run.seconds": 7, "codec.density": 0.1, "nodes.0.link.up": 1e5}
    changed = scenario.load(str(mine), {**changes, "nodes.0.link.down": 2e5}, small=True)
    assert changed.run.seconds == 7
    assert changed.codec == {"density": 0.1}
    assert isinstance(changed.nodes[0].link, scenario.Link)
    assert (changed.nodes[0].link.up, changed.nodes[0].link.down) == (1e5, 2e5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"nodes.2.count": 1}, "names no entry"),
        ({"run.seconds.much": 1}, "no table before"),
        ({"run.seconds": -1}, r"run\.seconds"),
        ({"run.second": 1}, "second"),
        ({"nodes.0.link": "wire"}, "link"),
        ({"codec.densty": 0.1}, r"there is no codec\.densty; there are density, lr_outer"),
        ({"rules.clip": 0.0}, r"clip from 0\.1"),
        ({"settings.hearbeat": 1.0}, r"there is no settings\.hearbeat; there are heartbeat"),
        ({"expect.0.at_least": None}, "expects nothing of 'accuracy'"),
    ],
)
def test_wrong_settings_are_refused_with_their_place(mine: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(ScenarioError, match=message):
        scenario.load(str(mine), changes)


def test_a_missing_scenario_is_named_with_those_that_there_are() -> None:
    with pytest.raises(ScenarioError, match=r"'lan-lap': use the path of a TOML file or one of .*lan-lab"):
        scenario.load("lan-lap")


def test_a_file_that_is_no_toml_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_bytes(b"purpose = \xff")
    with pytest.raises(ScenarioError, match=r"bad\.toml cannot be read"):
        scenario.load(str(tmp_path / "bad.toml"))
