"""`learnae top`: a live view of a daemon that fills the terminal; also usable over ssh."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from learnae.cli.common import example, found, where
from learnae.errors import LearnaeError
from learnae.home import default_home


@click.command(short_help="Watch a daemon live, on the whole terminal.")
@where
def top(home: Path | None, profile: str | None) -> None:
    """Watch a daemon live, on the whole terminal: state, accuracy and loss, peers, updates, traffic, messages.

    \b
    Keys:
      p  pause; asks for how long     s  sort the peers by the next column
      r  resume                       S  turn the order round
      d  the next daemon of this PC   ?  help
      q  leave; the daemon goes on

    It waits for a daemon that ends while it is watched, and goes on when it is back.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()) or os.environ.get("TERM") == "dumb":
        raise LearnaeError(
            "`learnae top` draws on a terminal, and this is none that can. Say `learnae status` for one look, "
            "or `learnae events --follow` for a stream.",
            code="no-terminal",
        )
    home = home or default_home()
    found(home, profile)
    from learnae.cli.top.app import Top
    from learnae.cli.top.feed import Watch

    sys.exit(Top(Watch(home, profile)).run() or 0)


example(top, "learnae top", "learnae top --profile lab", "ssh -t pc learnae top")
