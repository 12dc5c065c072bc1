"""The passphrases of a private swarm as a user writes them, one a line; used by `learnaed` and by invitations."""

from __future__ import annotations

import base64
import secrets as random
import unicodedata
from collections.abc import Iterator

from learnae.errors import ConfigError

LEAST_LENGTH = 12
"""Fewest characters of a passphrase. Whoever meets a member can try guesses at leisure; short ones are soon found."""
MOST_LENGTH = 256
MOST_SECRETS = 4
"""Most passphrases at a time: the one in use, and those that are on their way in or out."""


class Secrets:
    """One to four passphrases: the first seals, all open. It never shows them in its `repr`.

    Args:
        lines: the passphrases. Blanks around one do not count, nor do empty lines, nor the way in which a system
            writes an accented letter (Unicode NFC).

    Raises:
        ConfigError: none, too many, one that is too short or too long, or one twice; the message shows none of them.
    """

    __slots__ = ("_lines",)

    def __init__(self, lines: list[str] | tuple[str, ...]) -> None:
        cleaned = tuple(unicodedata.normalize("NFC", line.strip()) for line in lines if line.strip())
        if not cleaned:
            raise ConfigError(
                "the secret is empty. Write a passphrase; `learnae secret` makes a good one.", code="bad-secret"
            )
        if len(cleaned) > MOST_SECRETS:
            raise ConfigError(
                f"{len(cleaned)} secrets were given, {MOST_SECRETS} at most are allowed. Drop the oldest: it is the "
                "first that seals, the others only open what some node still seals with them.",
                code="bad-secret",
            )
        for number, line in enumerate(cleaned, 1):
            if not LEAST_LENGTH <= len(line) <= MOST_LENGTH or not line.isprintable():
                raise ConfigError(
                    f"secret {number} cannot be used: it must have {LEAST_LENGTH} to {MOST_LENGTH} printable "
                    "characters, because whoever meets a member can try short ones until one fits. Take a longer "
                    "passphrase; `learnae secret` makes a good one.",
                    code="bad-secret",
                )
        if len(set(cleaned)) != len(cleaned):
            raise ConfigError("the same secret was given twice. Leave one of the two lines out.", code="bad-secret")
        self._lines = cleaned

    @classmethod
    def read(cls, text: str) -> Secrets:
        """The passphrases in a text, one a line.

        Raises:
            ConfigError: see `Secrets`.
        """
        return cls(text.split("\n"))

    @classmethod
    def fresh(cls) -> Secrets:
        """One new passphrase of 125 random bits, in letters and digits that are hard to confuse."""
        letters = base64.b32encode(random.token_bytes(16)).decode().lower()[:25]
        return cls(["-".join(letters[start : start + 5] for start in range(0, len(letters), 5))])

    @property
    def text(self) -> str:
        """As `read` takes it: a line each."""
        return "".join(f"{line}\n" for line in self._lines)

    def __iter__(self) -> Iterator[str]:
        return iter(self._lines)

    def __len__(self) -> int:
        return len(self._lines)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secrets) and self._lines == other._lines

    def __hash__(self) -> int:
        return hash(self._lines)

    def __repr__(self) -> str:
        return f"<{len(self)} secrets>"
