from __future__ import annotations

from pathlib import Path

import pytest

from netsim.errors import ResultError, ScenarioError
from netsim.sweep import Sweep
from tests.netsim.face.fake import simulate

OVER = {"codec.density": [0.01, 0.02, 0.05], "codec.mu": [0.7, 0.8]}


def grid(directory: Path, **changes: object) -> Sweep:
    return Sweep("lan-lab", OVER, directory, changes=changes, small=True, seeds=(0, 1))


def fill(sweep: Sweep, most: int = 1000) -> int:
    missing = sweep.open()
    for job in missing[:most]:
        sweep.take(job, simulate(job.name, job.scenario, job.seed))
    return len(missing)


def test_every_combination_is_run_with_every_seed(tmp_path: Path) -> None:
    sweep = grid(tmp_path)
    assert fill(sweep) == 12
    assert len(sweep.points) == 6
    for point in sweep.points:
        assert [run.seed for run in sweep.at(point)] == [0, 1]
        assert all(
            run.scenario.codec == {k.removeprefix("codec."): v for k, v in point.values.items()}
            for run in sweep.at(point)
        )
    assert sweep.table().row_count == 6
    assert [row["point"] for row in sweep.rows()] == [dict(point.values) for point in sweep.points]


def test_what_is_there_is_not_made_again(tmp_path: Path) -> None:
    assert fill(grid(tmp_path), most=5) == 12
    assert fill(grid(tmp_path)) == 7
    assert fill(grid(tmp_path)) == 0


def test_runs_of_another_scenario_or_that_cannot_be_read_are_made_again(tmp_path: Path) -> None:
    fill(grid(tmp_path))
    assert fill(grid(tmp_path, **{"run.seconds": 50})) == 12
    (next(tmp_path.glob("*.json"))).write_text("{")
    assert fill(grid(tmp_path, **{"run.seconds": 50})) == 1


def test_the_plot_has_a_line_for_each_value_of_the_second_setting(tmp_path: Path) -> None:
    sweep = grid(tmp_path)
    fill(sweep)
    files = sweep.draw(tmp_path / "sweep")
    assert [path.name for path in files] == ["sweep.png", "sweep.svg"]
    text = files[1].read_text()
    assert "codec.mu=0.7" in text and "codec.mu=0.8" in text and "codec.density" in text


def test_the_figures_of_the_plot_can_be_chosen(tmp_path: Path) -> None:
    sweep = grid(tmp_path)
    fill(sweep)
    text = sweep.draw(tmp_path / "chosen", ["staleness", "rounds", "bytes"])[1].read_text()
    assert ">staleness<" in text and ">rounds<" in text and ">traffic of a node, kB<" in text
    with pytest.raises(ResultError, match="there is no figure 'stale'; there are accuracy, bytes"):
        sweep.draw(tmp_path / "none", ["stale"])


def test_points_with_long_or_odd_values_have_files_of_their_own(tmp_path: Path) -> None:
    directory = tmp_path / "runs"
    names = ["/a/" + 120 * "x" + "1", "/a/" + 120 * "x" + "2", "../b"]
    sweep = Sweep("lan-lab", {"workload.task": names}, directory, small=True)
    assert fill(sweep) == 3
    assert len(list(directory.iterdir())) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_an_impossible_point_is_refused_before_anything_is_run(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=r"run\.seconds"):
        Sweep("lan-lab", {"run.seconds": [10, -1]}, tmp_path)
