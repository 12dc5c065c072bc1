from __future__ import annotations

import pytest

from learnae.club import LEAST_LENGTH, Secrets
from learnae.errors import ConfigError

LONG = "correct horse battery staple"


def test_one_passphrase_a_line_blanks_around_it_do_not_count() -> None:
    assert tuple(Secrets.read(f"  {LONG}\r\n\n another one, longer \n")) == (LONG, "another one, longer")


def test_an_accent_is_the_same_however_a_system_writes_it() -> None:
    assert Secrets(["cafe\u0301 au lait, s'il vous plai\u0302t"]) == Secrets(
        ["caf\u00e9 au lait, s'il vous pla\u00eet"]
    )


@pytest.mark.parametrize(
    "lines", [[], ["", " "], ["x" * (LEAST_LENGTH - 1)], ["x" * 300], [LONG, LONG], ["tab\tin the middle"],
              [f"{LONG} {n}" for n in range(5)]],
)  # fmt: skip
def test_what_cannot_be_used_is_refused_and_not_shown(lines: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        Secrets(lines)
    assert not any(line.strip() and line in str(caught.value) for line in lines)


def test_fresh_ones_differ_and_are_read_as_they_were_written() -> None:
    made = {Secrets.fresh() for _ in range(50)}
    assert len(made) == 50
    assert all(Secrets.read(secrets.text) == secrets for secrets in made)


def test_it_shows_only_how_many_there_are() -> None:
    secrets = Secrets([LONG])
    assert repr(secrets) == "<1 secrets>" and LONG not in f"{secrets} {[secrets]} {secrets!r}"
