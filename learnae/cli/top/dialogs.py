"""The two dialogs of `learnae top`: for how long to pause, and help."""

from __future__ import annotations

import time
from datetime import datetime
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from learnae.cli.times import next_time, seconds

_HELP = """\
p   pause; asks for how long
r   resume
s   sort the peers by the next column     S   turn the order round
d   watch the next daemon of this PC
q   leave; the daemon goes on

accuracy  on held-out data; averaged: of the running average
loss      of the last round, on this PC's own data
updates   of all nodes, in the ledger here; in part: such as count less
refused   what came from others and did not count, by reason
cuts      up to where the swarm has agreed on what was done
stale     slots since a peer's newest update

learnae --help names the other commands. Escape closes this."""


class Help(ModalScreen[None]):
    """Keys and words."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,question_mark,q,enter", "dismiss(None)", "close")]

    def compose(self) -> ComposeResult:
        """One box."""
        with Vertical(classes="dialog"):
            yield Static(Text(_HELP))


class HowLong(ModalScreen[float | None]):
    """Asks for how long to pause: gives seconds, 0 for "until resumed", None for "not at all"."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss(None)", "close")]

    def compose(self) -> ComposeResult:
        """A question, and room for the answer."""
        with Vertical(classes="dialog"):
            yield Static(Text("Pause for how long? 30m, 2h, 1d, or until 18:00. Nothing: until resumed."))
            yield Input(placeholder="until resumed", max_length=20)
            yield Static(id="wrong")

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Give the answer, or say what is wrong with it."""
        try:
            self.dismiss(span(event.value, time.time()))
        except ValueError as error:
            self.query_one("#wrong", Static).update(Text(str(error)))


def span(text: str, now: float) -> float:
    """The answer in seconds from `now` (Unix time); 0 for "until resumed".

    Raises:
        ValueError: it is neither a length nor a time of day.
    """
    words = text.strip()
    if not words:
        return 0.0
    if ":" in words:
        return next_time(words, datetime.fromtimestamp(now).astimezone()).timestamp() - now
    return seconds(words)
