from __future__ import annotations

import math
from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netsim.scenario import Link
from netsim.sim import gossip
from tests.netsim.sim.people import FAST, Town

SIZE = 400


def spread(town: Town, messages: int, seconds: float = 60.0) -> None:
    """Everybody in turn announces something."""
    for number in range(messages):
        town.publish(number % len(town.people), number.to_bytes(SIZE))
        town.agenda.run(town.agenda.now + seconds / messages)


@pytest.mark.parametrize("count", [2, 5, 30, gossip.EXACT + 20])
def test_everybody_hears_everything_once_and_the_author_nothing_of_its_own(count: int) -> None:
    town = Town(count)
    spread(town, 12)
    for person in town.people:
        wanted = sorted(n.to_bytes(SIZE) for n in range(12) if n % count != person.place)
        assert sorted(person.letters()) == wanted


@settings(max_examples=10)
@given(st.integers(2, 40), st.floats(0, 0.15), st.integers(2, 6), st.integers(0, 99))
def test_bytes_that_come_are_those_that_were_sent_less_what_was_lost(
    count: int, loss: float, degree: int, seed: int
) -> None:
    town = Town(count, Link(loss=loss, up=1e6, down=1e6), degree, seed)
    spread(town, 6)
    assert town.received() + town.network.lost == pytest.approx(town.sent())


def test_on_average_bytes_balance_as_they_do_copy_by_copy() -> None:
    town = Town(gossip.EXACT + 20, Link(loss=0.1))
    spread(town, 30)
    assert town.received() + town.network.lost == pytest.approx(town.sent(), rel=0.005)


@pytest.mark.parametrize("count", [30, gossip.EXACT + 20])
def test_hardly_anybody_misses_a_message_where_one_of_ten_is_lost(count: int) -> None:
    town = Town(count, Link(loss=0.05))  # at either end
    spread(town, 20)
    heard = sum(len(person.letters()) for person in town.people)
    assert heard >= 0.97 * 20 * (count - 1)
    town.network.lossless = True
    before = heard
    spread(town, 20)
    assert sum(len(person.letters()) for person in town.people) - before == 20 * (count - 1)


def test_where_all_is_lost_nobody_hears_anything() -> None:
    for count in (10, gossip.EXACT + 20):
        town = Town(count, Link(loss=1.0))
        spread(town, 3)
        assert all(not person.letters() for person in town.people)


@pytest.mark.parametrize("degree", [3, 4, 6])
def test_a_message_is_sent_about_as_often_as_the_mesh_has_neighbours(degree: int) -> None:
    def copies(count: int) -> float:
        town = Town(count, degree=degree)
        spread(town, 10)
        return town.gossip.copies / 10 / count

    assert copies(60) == pytest.approx(degree - 1, rel=0.3)
    assert copies(gossip.EXACT + 40) == pytest.approx(degree - 1, rel=0.05)


def test_both_ways_of_reckoning_agree_on_bytes_and_on_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    def figures(exact: int) -> tuple[float, float]:
        monkeypatch.setattr(gossip, "EXACT", exact)
        town = Town(90, FAST)
        before, began = town.sent(), town.agenda.now
        town.publish(0, bytes(SIZE))
        town.agenda.run(began + 5.0)
        here = [town.people[place] for place in range(1, 90)]
        # Whatever else they were told, they were told before.
        came = [
            time
            for person in here
            for time, event in [*person.heard, *(letter[:2] for letter in person.inbox)]
            if time > began
        ]
        return town.sent() - before, fmean(came) - began

    (bytes_each, delay_each), (bytes_mean, delay_mean) = figures(100), figures(50)
    assert bytes_mean == pytest.approx(bytes_each, rel=0.25)
    assert delay_mean == pytest.approx(delay_each, rel=0.4)


def test_nobody_on_the_other_side_of_a_partition_hears_a_thing() -> None:
    for count in (20, gossip.EXACT + 20):
        town = Town(count)
        town.network.partition(0.5)
        town.agenda.run(town.agenda.now + 30.0)
        town.publish(0, b"here")
        town.agenda.run(town.agenda.now + 30.0)
        heard = [bool(person.letters()) for person in town.people]
        assert not any(heard[count // 2 :])
        assert all(heard[1 : count // 2])


def test_who_has_no_connection_yet_tells_nobody_and_hears_nothing() -> None:
    for count in (20, gossip.EXACT + 20):
        town = Town(count)
        lonely = town.people[0]
        lonely.gone = True
        town.network.go(lonely, announced=True)
        lonely.gone = False
        lonely.heard.clear()
        town.network.come(lonely)  # it looks for others, and has not found them
        town.publish(0, b"hello?")
        town.publish(1, b"hello!")
        town.agenda.run(town.agenda.now + 0.2)
        assert all(b"hello?" not in person.letters() for person in town.people)
        assert not lonely.letters()


def test_who_is_not_even_there_tells_nobody() -> None:
    town = Town(3)
    town.people[0].gone = True
    town.network.go(town.people[0], announced=True)
    town.publish(0, b"hello?")
    town.agenda.run(town.agenda.now + 5.0)
    assert all(not person.letters() for person in town.people)


def test_a_heartbeat_is_void_once_the_next_one_of_its_author_lies_in_every_inbox() -> None:
    town = Town(120, FAST)
    town.publish(0, b"first")
    town.agenda.run(town.agenda.now + 5.0)
    between = town.agenda.now
    town.publish(0, b"second")
    town.publish(1, b"another")
    for person in town.people[2:]:
        (first, second, another) = person.inbox
        assert first[2].void >= max(between, *(other.inbox[1][0] for other in town.people[2:]))
        assert second[2].void == another[2].void == math.inf
