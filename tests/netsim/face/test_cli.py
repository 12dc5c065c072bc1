from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from netsim import jobs, namespaces, scenario
from netsim.cli import cli
from netsim.cli.common import value, values
from netsim.scenario import Scenario
from tests.netsim.face import fake

PLAIN = str(Path(__file__).with_name("plain.toml"))


@pytest.fixture(autouse=True)
def _fakes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fake engines, which run in this process."""
    for name in ("SIMULATION", "BASELINES", "REAL"):
        monkeypatch.setattr(jobs, name, f"{fake.HERE}:simulate")

    def run(wanted: list[jobs.Job], processes: int, watcher: jobs.Watcher) -> list[Any]:
        made = []
        for number, job in enumerate(wanted):
            watcher.started(number)
            result = jobs.engine(job.engine)(job.name, job.scenario, job.seed)
            watcher.finished(number, result)
            made.append(result)
        return made

    monkeypatch.setattr(jobs, "run", run)
    yield


def netsim(*words: str, code: int = 0) -> Result:
    done = CliRunner().invoke(cli, words, env={"COLUMNS": "200"})
    assert done.exit_code == code, done.output
    return done


def rows(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


# list and show


def test_list_names_every_shipped_scenario_with_its_purpose() -> None:
    shown = netsim("list").stdout
    listed = rows(netsim("list", "--json").stdout)
    assert [row["name"] for row in listed] == scenario.names()
    for row in listed:
        loaded = scenario.load(row["name"])
        assert row["purpose"] == loaded.purpose
        assert row["name"] in shown and loaded.purpose in " ".join(shown.split())
        assert row["nodes"] == sum(group.count for group in loaded.nodes)


@pytest.mark.parametrize("name", scenario.names())
@pytest.mark.parametrize("flags", [(), ("--small",), ("--all",), ("--small", "--all")], ids=" ".join)
def test_show_prints_the_scenario_that_would_be_run(name: str, flags: tuple[str, ...], tmp_path: Path) -> None:
    text = netsim("show", name, *flags, "--set", "run.seconds=123.5", "--set", "codec.density=0.5").stdout
    path = tmp_path / "shown.toml"
    path.write_text(text)
    wanted = scenario.load(name, {"run.seconds": 123.5, "codec.density": 0.5}, small="--small" in flags)
    assert wanted.run.seconds == 123.5
    assert scenario.load(str(path)) == wanted


def test_show_keeps_the_comments(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('purpose = "x"  # why\nnodes = [{ count = 2 }]\n[run]\nseconds = 5.0 # short\n')
    shown = netsim("show", str(path), "--set", "run.seconds=6.0").stdout
    assert "# why" in shown and "seconds = 6.0 # short" in shown


# run


def test_run_prints_a_table_and_writes_results_and_plots(tmp_path: Path) -> None:
    done = netsim("run", PLAIN, "--small", "--seeds", "2", "--seed", "5", "--out", str(tmp_path / "out"))
    assert "accuracy" in done.stdout and "plain" in done.stdout and "met  all" in done.stdout
    assert "plain, seed 5: done in" in done.stderr and "(2 of 2)" in done.stderr
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"plain.ledger.5.json", "plain.ledger.6.json", "accuracy-over-time.svg", "bytes.png"} <= files


def test_run_gives_json_lines_that_any_reader_takes() -> None:
    done = netsim("run", PLAIN, "--small", "--seeds", "2", "--json", "--set", "workload.kind=quadratic")
    first, second = rows(done.stdout)
    assert (first["seed"], second["seed"]) == (0, 1)
    assert first["summary"]["accuracy"] is None, "no NaN, which is no JSON"
    assert first["missed"] == ["accuracy is nan, but at least 0.85 is expected"]
    assert msgspec.convert(first["scenario"], Scenario).workload.kind == "quadratic"


def test_run_without_check_ends_with_0_and_with_it_with_1_where_a_figure_is_out_of_bounds() -> None:
    high = ("run", PLAIN, "--small", "--set", "expect.0.at_least=2.0")
    assert "missed  plain, seed 0: accuracy is 0.9" in netsim(*high).stdout
    netsim(*high, "--check", code=1)
    netsim("run", PLAIN, "--small", "--check")


def test_a_wrong_command_line_ends_with_2_and_says_what_is_wrong() -> None:
    assert "there is no scenario 'lan'" in netsim("run", "lan", code=2).stderr
    assert "is not KEY=VALUE" in netsim("run", PLAIN, "--set", "run.seconds", code=2).stderr
    assert "run.seconds" in netsim("run", PLAIN, "--set", "run.seconds=-1", code=2).stderr
    assert "names no entry" in netsim("run", PLAIN, "--set", "nodes.7.count=1", code=2).stderr


def test_a_run_that_fails_ends_with_1_and_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "SIMULATION", f"{fake.HERE}:refuse")
    done = netsim("run", PLAIN, code=1)
    assert done.stderr == "netsim: the fake engine is out of order: use another\n"


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("12", 12),
        ("0.5", 0.5),
        ("1e-3", 1e-3),
        ("true", True),
        ("lan", "lan"),
        ('"12"', "12"),
        ("a b", "a b"),
        ("[1]", [1]),
    ],
)
def test_values_are_toml_or_else_text(text: str, meant: object) -> None:
    assert value(text) == meant
    assert type(value(text)) is type(meant)


def test_lists_of_values_are_cut_at_commas() -> None:
    assert values("0.005,0.01, 2") == [0.005, 0.01, 2]
    assert values("lan,home, 3") == ["lan", "home", 3]


# compare


def test_compare_runs_scenarios_with_engines_and_reads_results(tmp_path: Path) -> None:
    netsim("run", PLAIN, "--small", "--out", str(tmp_path / "before"), "--set", "codec.density=0.05")
    done = netsim(
        "compare", PLAIN, "fedavg", "solo", str(tmp_path / "before"), "--small", "--out", str(tmp_path / "out")
    )  # fmt: skip
    first = [line.split("  ")[0] for line in done.stdout.splitlines()[1:]]
    assert first == ["ledger", "fedavg", "solo", "ledger, codec.density=0.05"]
    assert (tmp_path / "out" / "accuracy-over-bytes.svg").exists()
    kept = {path.name for path in (tmp_path / "out").glob("*.json")}
    assert len(kept) == 4, "two of them have equal names, seeds and engines"
    assert {"plain.fedavg.0.json", "plain.solo.0.json"} < kept
    one_file = str(tmp_path / "before" / "plain.ledger.0.json")
    assert len(rows(netsim("compare", one_file, one_file, "--json").stdout)) == 2


def test_compare_says_what_it_cannot_compare(tmp_path: Path) -> None:
    assert "say with which scenario" in netsim("compare", "fedavg", code=2).stderr
    assert "there is no result in" in netsim("compare", str(tmp_path), code=1).stderr
    unread = netsim("compare", str(tmp_path / "x.json"), code=1).stderr
    assert "cannot be read" in " ".join(unread.split())


# sweep


def test_sweep_makes_a_table_and_a_plot_and_goes_on_where_it_was(tmp_path: Path) -> None:
    words = ("sweep", PLAIN, "--small", "--over", "codec.density=0.01,0.02", "--out", str(tmp_path / "runs"))
    done = netsim(*words, "--seeds", "2")
    assert done.stdout.splitlines()[2].startswith("codec.density=0.01")
    assert "there already" not in done.stderr
    assert "plain, codec.density=0.01, seed 0: done in" in done.stderr
    assert len(list((tmp_path / "runs").glob("*.json"))) == 4
    again = netsim(*words, "--seeds", "3", "--json", "--plot", str(tmp_path / "plot"), "--figure", "rounds")
    assert "4 runs are there already, 2 are to be made" in again.stderr
    assert [row["point"] for row in rows(again.stdout)] == [{"codec.density": 0.01}, {"codec.density": 0.02}]
    assert {path.name for path in tmp_path.iterdir()} == {"runs", "plot.png", "plot.svg"}


# real


def test_real_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(namespaces, "unavailable", lambda: "this user may not make them")
    done = netsim("real", PLAIN, "--small", code=1)
    assert "in network namespaces, but this user may not make them. `netsim run` simulates" in " ".join(
        done.stderr.split()
    )


def test_real_reports_like_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(namespaces, "unavailable", lambda: None)
    done = netsim("real", PLAIN, "--small", "--check")
    assert "accuracy" in done.stdout and "met  all" in done.stdout


# What is not installed


def test_without_the_extra_it_says_how_to_get_it() -> None:
    for module, words in (("msgspec", ["list"]), ("matplotlib", ["run", PLAIN, "--small", "--out", "out"])):
        start = f"import sys; sys.modules[{module!r}] = None; sys.argv[1:] = {words!r}"
        code = f"{start}; import netsim.cli; netsim.cli.main()"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode == 1
        assert f"{module}, which is not installed: pip install 'learnae[sim]'" in done.stderr
        assert "Traceback" not in done.stderr


def test_the_scenario_files_are_part_of_the_package() -> None:
    root = Path(__file__).resolve().parents[3]
    project = tomllib.loads((root / "pyproject.toml").read_text())
    assert project["tool"]["setuptools"]["package-data"]["netsim"] == ["scenarios/*.toml"]
    assert project["project"]["scripts"]["netsim"] == "netsim.cli:main"
