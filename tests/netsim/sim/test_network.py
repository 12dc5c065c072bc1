from __future__ import annotations

import pytest

from netsim.scenario import Link
from netsim.sim.network import CONNECTIONS
from tests.netsim.sim.people import FAST, Person, Town


def mutual(town: Town) -> None:
    peers = town.network.peers
    assert all(one in peers[other] for one, others in peers.items() for other in others)
    assert all(one not in others for one, others in peers.items())


def test_a_few_are_all_connected_and_were_told_so() -> None:
    town = Town(8)
    mutual(town)
    for person in town.people:
        assert person.connected() == {other.author for other in town.people if other is not person}


def test_many_have_some_connections_each_and_are_one_piece() -> None:
    town = Town(300)
    mutual(town)
    counts = [len(peers) for peers in town.network.peers.values()]
    assert min(counts) >= CONNECTIONS // 4
    assert max(counts) <= 3 * CONNECTIONS
    reached, border = {0}, {0}
    while border:
        border = {other for one in border for other in town.network.peers[one]} - reached
        reached |= border
    assert len(reached) == 300


def test_those_behind_symmetric_nats_meet_through_others() -> None:
    assert all(not peers for peers in Town(4, Link(nat="symmetric")).network.peers.values())
    assert all(len(peers) == 3 for peers in Town(4, Link(nat="cone")).network.peers.values())


@pytest.mark.parametrize(("announced", "within"), [(True, 0.1), (False, 20.0)])
def test_who_leaves_is_missed_at_once_if_it_says_so_and_after_a_while_if_not(announced: bool, within: float) -> None:
    town = Town(5)
    gone = town.people[2]
    gone.gone = True
    town.network.go(gone, announced=announced)
    mutual(town)
    town.agenda.run(town.agenda.now + within / 2)
    assert gone.author in town.people[0].connected() or announced
    town.agenda.run(town.agenda.now + within / 2)
    assert all(gone.author not in person.connected() for person in town.people if person is not gone)
    assert town.network.find(town.people[0], gone.author) is None


def test_a_partition_separates_both_sides_and_heals() -> None:
    town = Town(10)
    one, other = set(range(4)), set(range(4, 10))
    town.network.partition(0.4)
    town.agenda.run(town.agenda.now + 30.0)
    for place, peers in town.network.peers.items():
        assert set(peers) == (one if place in one else other) - {place}
        assert town.people[place].connected() == {town.people[peer].author for peer in peers}
    assert not town.network.together(3, 4)
    town.publish(0, b"here")
    town.publish(9, b"there")
    town.agenda.run(town.agenda.now + 10.0)
    for place in range(10):
        assert (b"here" in town.people[place].letters()) == (place in one and place != 0)
        assert (b"there" in town.people[place].letters()) == (place in other and place != 9)
    town.network.partition(0.0)
    town.agenda.run(town.agenda.now + 30.0)
    assert all(len(peers) == 9 for peers in town.network.peers.values())
    town.publish(0, b"again")
    town.agenda.run(town.agenda.now + 10.0)
    assert all(b"again" in person.letters() for person in town.people[1:])


def ask(town: Town, asker: Person, peer: Person, size: int, back: int) -> list[tuple[float, str | None]]:
    heard: list[tuple[float, str | None]] = []
    town.network.ask(
        asker, peer.author, size, lambda _: ("answer", back), lambda answer: heard.append((town.agenda.now, answer))
    )
    return heard


def test_an_exchange_takes_both_ways_and_the_time_of_its_bytes() -> None:
    town = Town(3)
    began, sent = town.agenda.now, town.sent()
    heard = ask(town, town.people[0], town.people[1], 1_000, 2_000_000)
    town.agenda.run(began + 100.0)
    [(when, answer)] = heard
    assert answer == "answer"
    assert 2.0 + 4 * FAST.latency < when - began < 2.5
    assert 2_001_000 < town.sent() - sent < 1.1 * 2_001_000


def test_an_answer_that_is_lost_is_waited_for_and_then_given_up() -> None:
    town = Town(3, Link(loss=1.0))
    heard = ask(town, town.people[0], town.people[1], 100, 100)
    town.agenda.run(town.agenda.now + 60.0)
    assert [answer for _, answer in heard] == [None]
    assert town.network.lost > 0


def test_nobody_answers_for_who_is_gone_or_was_never_here() -> None:
    town = Town(3)
    stranger = Person(77, town.agenda)
    heard = ask(town, town.people[0], stranger, 100, 100)
    leaving = ask(town, town.people[0], town.people[1], 100, 100)
    town.people[1].gone = True
    town.network.go(town.people[1], announced=True)
    town.agenda.run(town.agenda.now + 60.0)
    assert [answer for _, answer in heard] == [None]
    assert [answer for _, answer in leaving] == [None]
