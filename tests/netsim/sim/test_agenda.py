from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from netsim.sim.agenda import Agenda

moments = st.lists(st.sampled_from([0.0, 1.0, 1.5, 2.0, 7.0]) | st.floats(0, 10), max_size=40)


@given(moments)
def test_calls_are_made_by_moment_and_among_equals_in_the_order_in_which_they_were_asked_for(
    times: list[float],
) -> None:
    agenda = Agenda(0)
    made: list[tuple[float, int]] = []
    for number, time in enumerate(times):
        agenda.at(time, lambda number=number: made.append((agenda.now, number)))
    agenda.run(10.0)
    assert made == sorted((time, number) for number, time in enumerate(times))
    assert agenda.calls == len(times)
    assert agenda.now == 10.0


@given(moments, st.floats(0, 10))
def test_a_run_that_stops_half_way_goes_on_as_if_it_had_not(times: list[float], stop: float) -> None:
    def made(stops: list[float]) -> list[int]:
        agenda, order = Agenda(0), list[int]()
        for number, time in enumerate(times):
            agenda.at(time, order.append, number)
        for moment in stops:
            agenda.run(moment)
            assert all(times[number] <= moment for number in order)
        return order

    assert made([stop, 10.0]) == made([10.0])


def test_what_is_due_in_the_past_is_done_now_and_time_never_goes_back() -> None:
    agenda = Agenda(0)
    seen: list[float] = []

    def late() -> None:
        agenda.at(1.0, lambda: seen.append(agenda.now))
        agenda.after(0.0, lambda: seen.append(agenda.now))

    agenda.at(5.0, late)
    agenda.at(5.0, seen.append, -1.0)
    agenda.run(6.0)
    assert seen == [-1.0, 5.0, 5.0]
    agenda.run(2.0)
    assert agenda.now == 6.0


def test_each_name_has_random_numbers_of_its_own_whatever_else_is_drawn() -> None:
    alone = [Agenda(3).stream("a").random() for _ in range(1)]
    agenda = Agenda(3)
    agenda.stream("b").random()
    assert [agenda.stream("a").random()] == alone
    assert agenda.stream("b").random() != alone[0]
    assert Agenda(4).stream("a").random() != alone[0]
