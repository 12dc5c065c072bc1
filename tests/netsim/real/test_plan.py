from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from learnae.rules import Rules
from learnae.task import Shard, load_task
from netsim import scenario
from netsim.errors import RealError
from netsim.real.plan import MOST, plan, refusals
from netsim.real.presence import Step
from netsim.real.stage import Staged

GROUP = {"count": 4, "link": "lan", "speed": 50.0}


def table(**changes: Any) -> scenario.Scenario:
    whole = {"purpose": "a test", "run": {"seconds": 60.0}, "nodes": [GROUP], **changes}
    return msgspec.convert(whole, scenario.Scenario)


def test_each_node_is_told_its_shard_and_its_task() -> None:
    what = plan(table(workload={"alpha": 0.3}), seed=7)
    flags = what.flags(2, Path("/run/tasks.py"))
    assert " ".join(flags) == (
        "--topic netsim --task /run/tasks.py:Node3 --shard 3/4 --seed 700023 --torch-threads 1 --skew 0.3"
    )


def test_an_even_split_and_a_directory_of_data_are_passed_on(tmp_path: Path) -> None:
    what = plan(table(workload={"alpha": None, "shards": 2, "data": str(tmp_path)}), seed=0)
    flags = what.flags(3, Path("tasks.py"))
    assert "--skew" not in flags
    assert flags[flags.index("--shard") + 1] == "2/2"
    assert flags[flags.index("--data") + 1] == str(tmp_path)


def test_the_task_file_holds_paced_tasks_that_differ_from_the_built_in_one_as_the_scenario_says(tmp_path: Path) -> None:
    groups = [{"count": 1, "speed": 30.0}, {"count": 1, "speed": 3.0}]
    work = {"slot_seconds": 4.0, "round_steps": 11}
    what = plan(table(nodes=groups, workload=work, rules={"cut_slots": 3, "clip": 1.5}), seed=5)
    path = tmp_path / "tasks.py"
    path.write_text(what.task_file)
    one, other = (load_task(f"{path}:Node{number}") for number in (1, 2))
    assert isinstance(one, Staged) and isinstance(other, Staged)
    assert (one.speed, other.speed) == (30.0, 3.0)
    assert one.name == "digits"
    assert (one.slot_seconds, one.round_steps, one.rules) == (4.0, 11, Rules(cut_slots=3, clip=1.5))
    assert (one.seed, one.split) == (0, 5)


def test_without_values_of_its_own_the_task_file_keeps_those_of_the_task(tmp_path: Path) -> None:
    path = tmp_path / "tasks.py"
    path.write_text(plan(table(), seed=0).task_file)
    task, digits = load_task(f"{path}:Node1"), load_task("digits")
    assert (task.slot_seconds, task.round_steps, task.rules) == (digits.slot_seconds, digits.round_steps, digits.rules)


def test_steps_are_as_far_apart_as_the_speed_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    monkeypatch.setattr("time.sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    path = tmp_path / "tasks.py"
    path.write_text(plan(table(), seed=0).task_file)
    task = load_task(f"{path}:Node1")
    model = task.model()
    batch = next(task.batches(Shard(), 0))
    moments = []
    for extra in (0.0, 0.0, 0.0, 5.0, 0.0):  # the fourth comes after a pause
        now[0] += extra
        task.loss(model, batch)
        moments.append(now[0])
    assert moments == pytest.approx([100.02, 100.04, 100.06, 105.08, 105.10], abs=1e-3)


def test_happenings_become_steps_in_the_order_of_time() -> None:
    happenings = [
        {"at": 30.0, "what": "restart"},
        {"at": 10.0, "what": "partition", "part": 0.5},
        {"at": 15.0, "what": "heal"},
        {"at": 20.0, "what": "crash", "part": 0.2},
        {"at": 25.0, "what": "leave", "part": 0.4},
        {"at": 70.0, "what": "crash"},
    ]
    late = {"count": 1, "joins": 12.0}
    what = plan(table(nodes=[GROUP, late], happenings=happenings), seed=0)
    assert what.first == (0, 1, 2, 3)
    assert what.steps == (
        Step(10.0, "partition", (0, 1)),
        Step(12.0, "start", (4,)),
        Step(15.0, "heal"),
        Step(20.0, "crash", (0,)),
        Step(25.0, "leave", (1,)),
        Step(30.0, "start", (0,)),
        Step(30.0, "start", (1,)),
    )


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"run": {"seconds": 1.0, "engine": "fedavg"}}, "run.engine"),
        ({"workload": {"kind": "quadratic"}}, "workload.kind"),
        ({"workload": {"task": "sudoku"}}, "workload.task"),
        ({"codec": {"density": 0.1}}, "codec.density"),
        ({"settings": {"heartbeat": 1.0}}, "settings.heartbeat"),
        ({"rules": {"clip": 0.0}}, "rules"),
        ({"rules": {"sparkle": 1.0}}, "rules"),
        ({"nodes": [{"count": MOST + 1}]}, "nodes.count"),
        ({"nodes": [{"joins": 1.0}]}, "from the start"),
        ({"nodes": [{"skew": 1.0}]}, "nodes.0.skew"),
        ({"nodes": [GROUP, {"drift": 1.0}]}, "nodes.1.skew"),
        ({"nodes": [{"attack": "noise"}]}, "nodes.0.attack"),
        ({"nodes": [{"link": {"nat": "symmetric"}}]}, "nodes.0.link.nat"),
        ({"nodes": [{"link": {"loss": 0.3}}]}, "nodes.0.link.loss"),
        ({"happenings": [{"at": 1.0, "what": "clock"}]}, "happenings.0.what"),
    ],
)
def test_what_cannot_be_done_for_real_is_refused_with_its_key(changes: dict[str, Any], key: str) -> None:
    with pytest.raises(RealError, match=key):
        plan(table(**changes), seed=0)


def test_all_refusals_are_named_at_once() -> None:
    assert len(list(refusals(table(codec={"mu": 0.1}, nodes=[{"skew": 1.0, "attack": "noise"}])))) == 3


def test_speeds_are_spread_alike_for_the_same_seed() -> None:
    wide = [{"count": 8, "speed": 50.0, "speed_spread": 0.5}]
    one, again, other = (plan(table(nodes=wide), seed).speeds for seed in (1, 1, 2))
    assert one == again != other
    assert len(set(one)) == 8


CHURN = {"kind": "exponential", "mean": 20.0, "away": 5.0, "goodbye": 0.5, "replaced": 0.5}


def test_comings_and_goings_are_those_that_the_simulator_draws() -> None:
    steps = plan(table(nodes=[{**GROUP, "uptime": CHURN}], run={"seconds": 600.0}), seed=3).steps
    assert steps == plan(table(nodes=[{**GROUP, "uptime": CHURN}], run={"seconds": 600.0}), seed=3).steps
    assert {step.what for step in steps} == {"start", "leave", "crash"}
    assert any(step.fresh for step in steps)
    for number in range(4):
        own = [step.what == "start" for step in steps if step.nodes == (number,)]
        assert own == [index % 2 == 1 for index in range(len(own))]  # it goes, it comes, it goes ...


def test_who_was_felled_by_hand_comes_back_by_hand_only() -> None:
    happenings = [{"at": 1.0, "what": "crash", "part": 1.0}]
    steps = plan(table(nodes=[{**GROUP, "uptime": CHURN}], run={"seconds": 600.0}, happenings=happenings), 3).steps
    assert [step.what for step in steps] == ["crash"] * 4
