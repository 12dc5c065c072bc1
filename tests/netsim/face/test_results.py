from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netsim import expect, report
from netsim import result as results
from netsim.errors import ResultError
from netsim.result import Result
from netsim.scenario import Expectation, load
from tests.netsim.face.fake import simulate

SCENARIO = load("lan-lab", small=True)


def expecting(*wanted: Expectation, **summary: float) -> Result:
    made = simulate("mine", SCENARIO, 0)
    scenario = load("lan-lab")
    table = {name: getattr(scenario, name) for name in scenario.__struct_fields__}
    return replace(made, scenario=type(scenario)(**table | {"expect": wanted}), summary={**made.summary, **summary})


# Files


def test_a_result_survives_its_file(tmp_path: Path) -> None:
    made = simulate("mine", SCENARIO, 3)
    results.write(made, tmp_path / "a.json")
    again = results.read(tmp_path / "a.json")
    assert again.digest == made.digest
    assert math.isnan(again.looks[0].staleness)
    assert repr(again) == repr(made), "repr, because no nan equals another"
    assert again.scenario == made.scenario
    assert results.digest(again.scenario, again.seed, again.looks, again.summary) == made.digest
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"name": "a"}', '"text"', "null"])
def test_a_file_without_a_result_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(ResultError, match=r"a\.json"):
        results.read(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ResultError, match=r"none\.json cannot be read: No such file"):
        results.read(tmp_path / "none.json")


# Expectations


@given(st.floats(allow_nan=True), st.floats(allow_nan=False, allow_infinity=False))
def test_a_bound_is_met_by_what_is_within_it_and_never_by_what_is_no_number(found: float, bound: float) -> None:
    result = expecting(Expectation(what="x", at_least=bound, at_most=bound), x=found)
    assert [verdict.met for verdict in expect.verdicts(result)] == [found >= bound, found <= bound]
    assert len(expect.missed(result)) == (2 if math.isnan(found) else 0 if found == bound else 1)


def test_a_figure_that_is_not_there_falls_short_and_is_named() -> None:
    (verdict,) = expect.missed(expecting(Expectation(what="acuracy", at_least=0.0)))
    assert str(verdict) == "acuracy is not among the figures, but at least 0 is expected"


def test_a_refusal_that_never_came_up_counts_as_none() -> None:
    assert expect.missed(expecting(Expectation(what="refused.late", at_most=0))) == []
    (verdict,) = expect.missed(expecting(Expectation(what="refused.late", at_least=1)))
    assert str(verdict) == "refused.late is 0, but at least 1 is expected"


def test_what_cannot_be_seen_of_real_daemons_is_not_expected_of_them() -> None:
    result = expecting(Expectation(what="staleness", at_most=0.1), staleness=math.nan)
    assert len(expect.missed(result)) == 1
    assert expect.verdicts(replace(result, kind="real")) == []


# Tables


def row(groups: dict[str, list[Result]], place: int = 0) -> dict[str, str]:
    table = report.table(groups)
    return {str(column.header): str(list(column.cells)[place]) for column in table.columns}


def test_a_row_has_the_mean_and_the_spread_of_its_seeds() -> None:
    runs = [replace(simulate("mine", SCENARIO, seed), summary={"accuracy": a, "bytes": 1e6, "identical": i})
            for seed, a, i in ((0, 0.90, 1.0), (1, 0.94, 0.0), (2, 0.98, 1.0))]  # fmt: skip
    groups = report.grouped(runs)
    assert list(groups) == ["mine"]
    cells = row(groups)
    assert cells["accuracy"] == "94.0 ± 4.0 %"
    assert cells["bytes"] == "1.0 MB"
    assert (cells["seeds"], cells["equal"]) == ("3", "2 of 3")
    assert "stale" not in cells, "none of them has it"


def test_a_narrow_screen_shows_what_matters_most() -> None:
    groups = report.grouped(simulate("mine", SCENARIO, seed) for seed in (0, 1))
    headings = [[str(column.header) for column in report.table(groups, "", width).columns] for width in (40, 80, 200)]
    assert headings[0] == ["", "accuracy", "bytes", "equal"]
    assert set(headings[0]) < set(headings[1]) < set(headings[2])
    assert "memory" in headings[2]


def test_groups_are_named_by_what_tells_them_apart() -> None:
    def runs(*changes: dict[str, object], name: str = "lan-lab") -> list[Result]:
        return [simulate(name, load("lan-lab", change), seed) for change in changes for seed in (0, 1)]

    assert list(report.grouped(runs({}, {"run.engine": "fedavg"}))) == ["ledger", "fedavg"]
    assert list(report.grouped([*runs({}), *runs({}, name="other")])) == ["lan-lab", "other"]
    by_density = report.grouped(runs({"codec.density": 0.01}, {"codec.density": 0.05}))
    assert list(by_density) == ["lan-lab, codec.density=0.01", "lan-lab, codec.density=0.05"]
    real = [replace(run, kind="real") for run in runs({})]
    assert list(report.grouped([*runs({}), *real])) == ["simulated", "real"]


def test_the_words_about_a_scenario_do_not_tell_runs_apart() -> None:
    one, other = load("lan-lab"), load("lan-lab", {"purpose": "Other words.", "expect": [], "small": {}})
    groups = report.grouped([simulate("a", one, 0), simulate("a", other, 1)])
    assert [len(group) for group in groups.values()] == [2]


def test_of_each_expectation_that_is_missed_there_is_a_line() -> None:
    bad = expecting(Expectation(what="accuracy", at_least=2.0), Expectation(what="worst", at_least=0.0))
    (line,) = report.expectations([bad])
    assert line.plain.startswith("missed  mine, seed 0: accuracy is 0.9")
    good = expecting(Expectation(what="worst", at_least=0.0))
    (line,) = report.expectations([good, good])
    assert line.plain == "met  all 2 expectations"
    assert report.expectations([expecting()]) == []
