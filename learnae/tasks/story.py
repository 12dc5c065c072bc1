"""A text that is made, not read: small stories by a seed, for trying language models where there is no data."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

NAMES: Final = ("Anna", "Ben", "Cleo", "David", "Elif", "Farid", "Grace", "Hugo", "Ines", "Jonas", "Kira", "Liam")
PLACES: Final = (
    "harbour",
    "market",
    "forest",
    "library",
    "station",
    "garden",
    "bakery",
    "lighthouse",
    "school",
    "river",
)
THINGS: Final = ("lamp", "letter", "basket", "kite", "clock", "map", "bicycle", "violin", "coat", "key", "boat", "book")
LOOKS: Final = ("old", "small", "red", "broken", "heavy", "golden", "strange", "wooden", "blue", "forgotten")
FEELINGS: Final = ("happy", "tired", "curious", "proud", "worried", "calm", "hungry", "surprised")
WEATHER: Final = (
    "the sun was shining",
    "it was raining",
    "snow was falling",
    "the wind was cold",
    "fog lay over the town",
)
DEEDS: Final = (
    "found {thing}",
    "lost {thing}",
    "repaired {thing}",
    "sold {thing} to {other}",
    "carried {thing} to the {place}",
    "hid {thing} behind the {place}",
    "gave {thing} to {other}",
    "painted {thing}",
)
SAYINGS: Final = (
    '"Where is {thing}?" asked {other}.',
    '"I have never seen {thing} like that," said {other}.',
    '"Meet me at the {place} tomorrow," {name} said.',
    '"It is not mine," {name} answered, "it belongs to {other}."',
    "{other} laughed, and {name} laughed too.",
    "Nobody at the {place} had seen {other}.",
)
ENDS: Final = (
    "In the evening {name} went home and was {feeling}.",
    "So {name} and {other} became friends.",
    "{name} never went back to the {place}.",
    "And that was the end of {thing}.",
)


def stories(characters: int, seed: int = 0) -> str:
    """A text of that many characters: the same for the same seed, everywhere; other seeds make other stories."""
    rng = random.Random(f"learnae stories {seed}")
    pieces: list[str] = []
    length = 0
    while length < characters:
        pieces.append(_story(rng))
        length += len(pieces[-1])
    return "".join(pieces)[:characters]


def _story(rng: random.Random) -> str:
    name, other = rng.sample(NAMES, 2)
    place = rng.choice(PLACES)
    thing = f"{rng.choice(LOOKS)} {rng.choice(THINGS)}"
    words = {"name": name, "other": other, "place": place, "feeling": rng.choice(FEELINGS)}

    def say(choices: Sequence[str], known: bool) -> str:
        article = "the" if known else "an" if thing[0] in "aeio" else "a"
        return rng.choice(choices).format(thing=f"{article} {thing}", **words)

    lines = [f"One {rng.choice(('morning', 'day', 'night'))}, when {rng.choice(WEATHER)}, {name} {say(DEEDS, False)}."]
    for _ in range(rng.randint(1, 4)):
        lines.append(say(SAYINGS, True))
        if rng.random() < 0.6:
            lines.append(f"Then {name} {say(DEEDS, True)}.")
    lines.append(say(ENDS, True))
    return " ".join(lines) + "\n\n"
