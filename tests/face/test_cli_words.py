"""Strangers' text, figures and times in words."""

from __future__ import annotations

import unicodedata
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from learnae.cli.times import LONGEST, next_time, seconds
from learnae.cli.top.dialogs import span
from learnae.cli.words import clean, duration, moment, short, size

HOSTILE = {
    "escape": "\x1b[2J\x1b[31mowned\x1b[0m",
    "title": "\x1b]0;owned\x07",
    "line": "fine\r\nlearnae: all is well",
    "tab": "a\tb",
    "override": "\u202egnp.exe",
    "isolate": "\u2066abc\u2069",
    "right to left": "שלום مرحبا",
    "zalgo": "a" + "\u0301" * 50,
    "wide": "漢字" * 5,
    "long": "x" * 100_000,
    "surrogate": "\ud800",
    "null": "\x00",
    "separator": "a\u2028b\u2029c",
    "csi": "\x9b31m",
    "zero width": "pa\u200bypal\ufeff",
    "markup": "[bold red]hm[/] [link=http://x]y[/link]",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_strangers_say_is_one_harmless_line(name: str) -> None:
    _harmless(clean(HOSTILE[name]), 400)


@given(st.text(max_size=300), st.integers(2, 60))
def test_so_is_any_text(text: str, most: int) -> None:
    _harmless(clean(text, most), most)


def _harmless(shown: str, most: int) -> None:
    assert len(shown) <= most
    assert shown.isprintable() and "\x1b" not in shown and "\n" not in shown
    assert not [char for char in shown if unicodedata.bidirectional(char) in ("R", "AL", "RLO", "LRO", "RLE", "RLI")]
    shown.encode("utf-8")
    run = 0
    for char in shown:
        run = run + 1 if unicodedata.category(char) == "Mn" else 0
        assert run <= 2


def test_honest_text_stays_as_it_is() -> None:
    for text in ("layer.0.weight differs: 3x4, here 3x5", "Größe naïve 漢字 Ελλάδα", "a\u0308", "/ip4/192.0.2.7/tcp/1"):
        assert clean(text) == unicodedata.normalize("NFC", text)
    assert clean(HOSTILE["markup"]) == HOSTILE["markup"]
    assert cell_len(clean("漢字")) == 4
    assert clean("abcdef", 4) == "abc…"


def test_ids_are_short_and_harmless_too() -> None:
    assert short("12D3KooWabcdefgh") == "abcdefgh"
    assert short("12D3\x1b[2Jxyz").isprintable() and short(None) == "-"


def test_figures() -> None:
    assert [size(n) for n in (None, 0, 999, 1200, 3.45e7, 2e13)] == [
        "-",
        "0 B",
        "999 B",
        "1.2 kB",
        "34.5 MB",
        "20.0 TB",
    ]
    assert [duration(s) for s in (59, 300, 9000, 345600)] == ["59 s", "5 min", "2.5 h", "4.0 d"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("90s", 90), ("30m", 1800), ("30min", 1800), ("2h", 7200), ("1d", 86400), ("1h30m", 5400), (" 1.5H ", 5400)],
)
def test_lengths_of_time(text: str, expected: float) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize(
    "text", ["", "2", "h", "-2h", "0s", "0.5s", "2 weeks", "1h x", "367d", "nan", "inf", "1e9s", "²h", "9" * 400 + "h"]
)
def test_what_is_no_length_of_time(text: str) -> None:
    with pytest.raises(ValueError, match="Write 90s, 30m, 2h"):
        seconds(text)


@given(st.integers(1, int(LONGEST)))
def test_lengths_in_seconds_come_back(count: int) -> None:
    assert seconds(f"{count}s") == count


def test_times_of_day_lie_ahead() -> None:
    now = datetime(2030, 6, 1, 12, 30).astimezone()
    assert next_time("12:31", now) == now + timedelta(minutes=1)
    assert next_time("12:30", now) == now + timedelta(days=1)
    assert next_time(" 7:05 ", now) == now + timedelta(hours=18, minutes=35)
    for text in ("", "24:00", "7", "12:60", "noon"):
        with pytest.raises(ValueError, match="Write HH:MM"):
            next_time(text, now)


def test_a_time_to_come_has_its_day_if_it_is_another() -> None:
    now = datetime(2030, 6, 1, 12, 30).astimezone()
    assert moment(now.timestamp() + 3600, now.timestamp()) == "13:30"
    assert moment(now.timestamp() + 86400, now.timestamp()) == "2030-06-02 12:30"


def test_the_dialog_takes_either() -> None:
    now = datetime(2030, 6, 1, 12, 30).astimezone().timestamp()
    assert (span("", now), span("2h", now), span("13:00", now)) == (0, 7200, 1800)
    with pytest.raises(ValueError, match="Write"):
        span("soon", now)
