"""A daemon and its trainer: started, killed, stopped, restarted; no process is ever left behind."""

from __future__ import annotations

from netsim import processes
from netsim.daemons import Swarm
from tests.lab import no_orphans, start_local


def test_a_killed_trainer_is_restarted_and_nothing_is_lost(swarm: Swarm) -> None:
    node = start_local(swarm)
    swarm.wait_rounds(3, 40)
    before = node.status()
    old = node.trainer
    processes.kill([old])
    swarm.wait("another trainer", lambda: node.trainer != old, 20, [node])
    swarm.wait("new rounds", lambda: node.status()["trainer"]["rounds"] > before["trainer"]["rounds"] + 1, 30, [node])
    after = node.status()
    assert after["trainer"]["restarts"] == 1
    assert "trainer" in node.messages()
    assert after["swarm"] == before["swarm"]
    assert after["ledger"]["updates"] > before["ledger"]["updates"]
    assert after["trainer"]["samples"] > before["trainer"]["samples"]
    # Every round that was counted is in the ledger: none was lost, none published twice.
    assert list(after["ledger"]["vector"].values()) == [after["ledger"]["updates"]]


def test_the_trainer_of_a_killed_daemon_ends_within_five_seconds(swarm: Swarm) -> None:
    node = start_local(swarm)
    swarm.wait_rounds(1, 40)
    trainer = node.trainer
    node.kill()
    swarm.wait("the trainer's end", lambda: not processes.alive(trainer), 5)
    no_orphans(swarm, 1)


def test_a_killed_daemon_goes_on_where_it_was(swarm: Swarm) -> None:
    node = start_local(swarm, name="again")
    swarm.wait_rounds(3, 40)
    before = node.status()
    node.kill()
    again = start_local(swarm, name="again")
    swarm.wait_ready(40)
    after = again.status()
    assert after["peer"] == before["peer"]
    assert after["ledger"]["updates"] >= before["ledger"]["updates"]
    swarm.wait("a new update", lambda: again.status()["ledger"]["updates"] > after["ledger"]["updates"], 20, [again])


def test_sigterm_ends_it_cleanly_at_any_moment(swarm: Swarm) -> None:
    early = start_local(swarm, name="early")
    swarm.wait("the process to be a daemon", lambda: early.status(), 20, [early])
    code, seconds = early.terminate()
    assert (code, seconds < 5) == (0, True), f"code {code} after {seconds:.1f} s"
    node = start_local(swarm, name="training")
    swarm.wait("a round under way", lambda: node.status()["trainer"]["steps"] > 60, 40, [node])
    code, seconds = node.terminate()
    assert (code, seconds < 5) == (0, True), f"code {code} after {seconds:.1f} s"
    no_orphans(swarm, 0)


def test_finish_publishes_the_round_settles_and_exits_with_zero(swarm: Swarm) -> None:
    first = start_local(swarm, "--shard", "1/2", name="first")
    swarm.wait("its address", lambda: first.status()["listen"], 20, [first])
    start_local(swarm, "--shard", "2/2", peer=first, name="second")
    swarm.wait_together()
    swarm.wait_rounds(3, 30)
    one, two = swarm.finish(30)
    assert one["trainer"]["digest"] == two["trainer"]["digest"]
    assert one["ledger"]["vector"] == two["ledger"]["vector"]
    for summary in (one, two):
        assert any("settled" in message["text"] for message in summary["messages"])
    no_orphans(swarm, 0)


def test_the_daemon_process_maps_neither_torch_nor_numpy(swarm: Swarm) -> None:
    node = start_local(swarm)
    swarm.wait_rounds(1, 40)
    heavy = ("libtorch", "libc10", "_multiarray_umath", "libopenblas", "libscipy")
    assert [name for name in processes.libraries(node.pid) if name.startswith(heavy)] == []
    # The same look finds them where they belong.
    assert [name for name in processes.libraries(node.trainer) if name.startswith(heavy)] != []


def test_a_paused_daemon_is_small_and_does_not_train(swarm: Swarm) -> None:
    """How idle it is, is measured by `benchmarks.footprint`: a share of CPU depends on what else the machine does."""
    node = start_local(swarm, "--paused")
    swarm.wait_ready(20)
    assert node.status()["state"] == "paused"
    assert node.status()["trainer"]["steps"] == 0
    assert processes.resident(node.pid) <= 120e6
