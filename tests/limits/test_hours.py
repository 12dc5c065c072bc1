"""Hours of the week: what is written, what it means on the clock on the wall, and when clocks are changed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from learnae.hours import Hours, Span

BERLIN = ZoneInfo("Europe/Berlin")


def at(text: str, zone: ZoneInfo = BERLIN, fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=zone, fold=fold).timestamp()


@pytest.mark.parametrize(
    ("text", "moments"),
    [
        ("22:00-07:00", {"2026-11-23 21:59": 0, "2026-11-23 22:00": 1, "2026-11-24 06:59": 1, "2026-11-24 07:00": 0}),
        ("sat, sun", {"2026-11-27 23:59": 0, "2026-11-28 00:00": 1, "2026-11-29 23:59": 1, "2026-11-30 00:00": 0}),
        ("mon-fri 18:00-24:00", {"2026-11-27 23:59": 1, "2026-11-28 00:00": 0, "2026-11-28 19:00": 0}),
        ("fri 22:00-07:00", {"2026-11-28 06:59": 1, "2026-11-28 22:30": 0, "2026-11-27 06:00": 0}),
        ("sat-mon", {"2026-11-28 12:00": 1, "2026-11-30 12:00": 1, "2026-12-01 00:00": 0}),
        ("Friday 9:00-10:00, tue", {"2026-11-27 09:30": 1, "2026-11-24 09:30": 1, "2026-11-25 09:30": 0}),
    ],
)
def test_what_is_open_when(text: str, moments: dict[str, int]) -> None:
    hours = Hours.parse(text)
    for moment, wanted in moments.items():
        assert hours.open(at(moment), BERLIN) == bool(wanted), moment
    assert Hours.parse(str(hours)) == hours


@pytest.mark.parametrize(
    "text", ["", "always", "7-9", "25:00-03:00", "08:60-09:00", "08:00-08:00", "xyz 08:00-09:00", "mon-", "08:00-24:30"]
)
def test_what_cannot_be_read_comes_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="22:00-07:00"):
        Hours.parse(text)


def test_the_next_opening() -> None:
    hours = Hours.parse("22:00-07:00, sat, sun")
    assert hours.opens(at("2026-11-23 12:00"), BERLIN) == at("2026-11-23 22:00")
    assert hours.opens(at("2026-11-23 23:00"), BERLIN) == at("2026-11-23 23:00"), "it is open"
    assert Hours.parse("sun").opens(at("2026-11-23 12:00"), BERLIN) == at("2026-11-29 00:00")
    assert Hours.parse("mon 09:00-09:01").opens(at("2026-11-23 12:00"), BERLIN) == at("2026-11-30 09:00")


def test_the_clock_on_the_wall_counts_where_clocks_are_changed() -> None:
    night = Hours.parse("02:30-04:00")
    # Put on: 02:00 is 03:00 at once. What would be open at 02:30 opens then.
    assert night.opens(at("2026-03-29 01:59"), BERLIN) == at("2026-03-29 03:00")
    # Put back: 02:30 comes twice; in the second 02:00 to 02:30 it is closed again.
    assert night.open(at("2026-10-25 02:45"), BERLIN)
    assert not night.open(at("2026-10-25 02:15", fold=1), BERLIN)
    assert night.opens(at("2026-10-25 02:15", fold=1), BERLIN) == at("2026-10-25 02:30", fold=1)


days = st.lists(st.integers(0, 6), min_size=1, max_size=1).map(tuple) | st.just(tuple(range(7)))
minutes = st.integers(0, 1439)
spans = st.builds(Span, days, minutes, minutes).filter(lambda span: span.start != span.end)


@given(st.lists(spans, min_size=1, max_size=4), st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1)))
def test_it_opens_at_the_first_open_moment(parts: list[Span], moment: datetime) -> None:
    hours = Hours(tuple(parts))
    now = moment.replace(tzinfo=UTC).timestamp()
    opens = hours.opens(now, BERLIN)
    assert opens >= now
    assert hours.open(opens, BERLIN)
    first = datetime.fromtimestamp(now, UTC).replace(second=0, microsecond=0) + timedelta(minutes=1)
    between = (opens - first.timestamp()) / 60
    for step in {0, between // 3, between // 2, between - 1}:
        if 0 <= step < between:
            assert not hours.open(first.timestamp() + 60 * int(step), BERLIN)
    assert Hours.parse(str(hours)) == hours
