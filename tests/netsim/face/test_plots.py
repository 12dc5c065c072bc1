from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from netsim import plots, report
from netsim.result import Result
from netsim.scenario import load
from tests.netsim.face.fake import simulate

SVG = "{http://www.w3.org/2000/svg}"


def groups() -> dict[str, list[Result]]:
    changes = {"happenings": [{"at": 20, "what": "partition"}, {"at": 40, "what": "heal"}]}
    scenarios = [load("lan-lab", changes | {"run.engine": engine}, small=True) for engine in ("ledger", "fedavg")]
    return report.grouped(simulate("lan-lab", scenario, seed) for scenario in scenarios for seed in (0, 1))


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the figures of `groups`."""
    folder = tmp_path_factory.mktemp("drawn")
    plots.draw(groups(), folder)
    return folder


def words(path: Path) -> list[str]:
    """The text elements of an SVG file."""
    return ["".join(element.itertext()) for element in ElementTree.parse(path).iter(f"{SVG}text")]


def test_all_figures_are_there_in_both_kinds_and_say_what_they_show(drawn: Path) -> None:
    names = {"accuracy-over-time", "accuracy-over-bytes", "consensus", "bytes", "staleness"}
    assert {path.name for path in drawn.iterdir()} == {f"{name}.{kind}" for name in names for kind in ("png", "svg")}
    said = words(drawn / "accuracy-over-time.svg")
    assert {"Accuracy", "accuracy, %", "time, s", "ledger", "fedavg", "partition", "heal"} <= set(said)
    assert "traffic of a node (sent and received), kB" in words(drawn / "accuracy-over-bytes.svg")
    assert {"ledger, sent", "fedavg, received"} <= set(words(drawn / "bytes.svg"))
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in drawn.glob("*.png"))


def test_the_same_results_give_the_same_bytes_in_any_process(drawn: Path, tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from netsim import plots; from tests.netsim.face.test_plots import groups; "
        f"plots.draw(groups(), Path({str(tmp_path)!r}))"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": "7"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    for path in drawn.iterdir():
        assert path.read_bytes() == (tmp_path / path.name).read_bytes(), path.name


def test_figures_have_no_ground_of_their_own_and_no_ink_that_is_lost_on_white_or_black(drawn: Path) -> None:
    for path in drawn.glob("*.svg"):
        inks = set(re.findall(r"(?:fill|stroke): (#[0-9a-f]{6})", path.read_text()))
        assert inks, path.name
        assert [ink for ink in inks if min(contrast(ink, "#ffffff"), contrast(ink, "#0d1117")) < 2.5] == [], path.name
    png = (drawn / "bytes.png").read_bytes()
    assert png[25] == 6, "with an alpha channel"


def contrast(one: str, other: str) -> float:
    """As WCAG defines it."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_a_workload_without_accuracy_is_shown_by_its_loss(tmp_path: Path) -> None:
    scenario = load("lan-lab", {"workload.kind": "quadratic"}, small=True)
    files = plots.draw(report.grouped([simulate("bowl", scenario, 0)]), tmp_path)
    names = {path.stem for path in files}
    assert {"loss-over-time", "loss-over-bytes"} <= names
    assert not any(name.startswith("accuracy") for name in names)


def test_runs_of_unequal_length_are_drawn_as_far_as_all_go(tmp_path: Path) -> None:
    short, long = (simulate("a", load("lan-lab", {"run.seconds": s}, small=True), 0) for s in (30, 60))
    assert plots.draw({"a": [short, long]}, tmp_path)


def test_a_sweep_is_drawn_over_numbers_and_over_words(tmp_path: Path) -> None:
    curve = plots.Curve("", [0.01, 0.02, 0.1], [90, 95, 97], [89, 94, 96], [91, 96, 98])
    named = plots.Curve("mu=0.8", ["lan", "home"], [90, 80], [90, 80], [90, 80])
    plots.sweep({"accuracy, %": [curve]}, "codec.density", 0.02, tmp_path / "numbers")
    plots.sweep({"accuracy, %": [named, named], "bytes": [named]}, "nodes.0.link", "lan", tmp_path / "words")
    assert {"codec.density", "accuracy, %", "0.01", "0.02", "0.1"} <= set(words(tmp_path / "numbers.svg"))
    assert {"nodes.0.link", "lan", "home", "mu=0.8"} <= set(words(tmp_path / "words.svg"))


@pytest.mark.parametrize(("seconds", "name"), [(10, "s"), (299, "s"), (300, "min"), (3 * 3600, "min"), (86400, "h")])
def test_time_has_a_fitting_unit(seconds: float, name: str) -> None:
    assert plots.time_unit(seconds).name == name


@pytest.mark.parametrize(
    ("count", "name", "size"),
    [(0, "bytes", 1), (999, "bytes", 1), (1e3, "kB", 1e3), (5e6, "MB", 1e6), (1e12, "GB", 1e9)],
)
def test_traffic_has_a_fitting_unit(count: float, name: str, size: float) -> None:
    assert plots.traffic_unit(count) == plots.Unit(name, size)
