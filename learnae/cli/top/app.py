"""The screen of `learnae top`, with textual: lays the picture out, takes keys; started by the command."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Iterator
from typing import ClassVar, Final

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.coordinate import Coordinate
from textual.css.query import NoMatches
from textual.events import Resize
from textual.screen import Screen
from textual.widgets import DataTable, Footer, Sparkline, Static

from learnae.cli.common import EXIT_INTERRUPTED, EXIT_TERMINATED
from learnae.cli.top import picture, style
from learnae.cli.top.dialogs import Help, HowLong
from learnae.cli.top.feed import Look, Source
from learnae.cli.top.trail import Trail
from learnae.cli.words import clean
from learnae.errors import DaemonError

_ORDER: Final = ("peer", "role", "updates", "rate", "stale", "sent", "received", "settled", "seen")
"""The columns by which `s` sorts, one after the other."""
_LOW = 20
"""Lines below which messages and some of the figures are left out."""
_NARROW = 70
"""Columns below which the figures beside the charts take what they need, not the same for all."""
_REDRAW = 1.0
"""Seconds between two drawings of what only time changes, the rest of a pause for instance."""


class Top(App[int]):
    """A live view of one daemon, and keys to steer it. The result of `run` is the exit code."""

    TITLE = "learnae top"
    ENABLE_COMMAND_PALETTE = False
    CSS = style.CSS
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("p", "pause", "pause"),
        Binding("r", "resume", "resume"),
        Binding("s", "sort", "sort"),
        Binding("S", "turn", "turn round", show=False),
        Binding("d", "switch", "daemon"),
        Binding("question_mark", "help", "help", key_display="?"),
        Binding("q", "leave", "quit"),
        Binding("ctrl+c", "interrupt", "quit", show=False, priority=True),
    ]

    def __init__(self, source: Source) -> None:
        super().__init__()
        self.animation_level = "none"  # Each step of an animation would have to go through ssh.
        self._source = source
        self._look = Look()
        self._trail = Trail()
        self._watched = ""
        self._sorted_by, self._backwards = "peer", False
        self._table: object = None

    def compose(self) -> ComposeResult:
        """The parts, from top to bottom."""
        yield Static(id="head")
        yield Static(id="reasons")
        for name in ("accuracy", "loss", "traffic"):
            with Horizontal(classes="chart"):
                yield Static(name, classes="label")
                yield Sparkline([], id=f"{name}-chart")
                yield Static(id=f"{name}-now", classes="now")
        yield Static(id="figures")
        yield DataTable(id="peers", cursor_type="row", zebra_stripes=True)
        yield Static(id="no-peers")
        with Vertical(id="messages-box"):
            yield Static(id="messages")
        yield Footer()

    def on_mount(self) -> None:
        """Begin to look."""
        with contextlib.suppress(NotImplementedError):  # Windows knows no such signal.
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self.exit, EXIT_TERMINATED)
        self.run_worker(self._source.run(self.show), exit_on_error=True)
        self.set_interval(_REDRAW, self._draw_reasons)

    def on_resize(self, event: Resize) -> None:
        """Show what fits now."""
        self.screen_stack[0].set_class(event.size.height < _LOW, "low")
        self.screen_stack[0].set_class(event.size.width < _NARROW, "narrow")
        self.call_after_refresh(self._draw)

    def show(self, look: Look) -> None:
        """Take in and draw what was seen."""
        if look.daemon is None:
            # The last picture stays, greyed, until the daemon is back.
            look = Look(look.running, None, look.trouble, self._look.status, self._look.peers)
        else:
            if look.past or self._watched != look.daemon.profile:
                self._trail = Trail()
                self._trail.begin(look.past)
            self._watched = look.daemon.profile
            self._trail.add(look.status, time.time())
        self._look = look
        self._draw()

    def _draw(self) -> None:
        with self._main() as main:
            self._draw_all(main)

    @contextlib.contextmanager
    def _main(self) -> Iterator[Screen[object]]:
        """The picture, below whatever dialog; drawing ends where parts of it are missing, as it is put up or down."""
        with contextlib.suppress(NoMatches):
            yield self.screen_stack[0] if self.screen_stack else Screen()

    def _draw_all(self, main: Screen[object]) -> None:
        status = self._look.status
        main.set_class(self._look.daemon is None, "gone")
        _text(main, "head", picture.head(self._look))
        self._draw_reasons()
        for name, points, now in (
            ("accuracy", self._trail.accuracy, picture.accuracy(status)),
            ("loss", self._trail.loss, picture.loss(status)),
            ("traffic", self._trail.traffic, picture.traffic(self._trail)),
        ):
            main.query_one(f"#{name}-chart", Sparkline).data = list(points) if any(points) else []
            _text(main, f"{name}-now", Text(now))
        _text(main, "figures", Text("\n").join(picture.figures(status) if status else []))
        box = main.query_one("#messages-box")
        _text(main, "messages", picture.messages(status, max(box.size.height, 1)))
        self._draw_peers(main)

    def _draw_reasons(self) -> None:
        text = picture.reasons(self._look, time.time())
        with self._main() as main:
            _text(main, "reasons", text)
            main.query_one("#reasons").display = bool(text)

    def _draw_peers(self, main: Screen[object]) -> None:
        table = main.query_one("#peers", DataTable)
        found = self._look.peers
        none = Text(" no peer known yet; it keeps looking", "dim") if self._look.status else Text("")
        _text(main, "no-peers", none)
        main.query_one("#no-peers").display = not found
        table.display = bool(found)
        drawn = picture.peers(found, max(table.size.width - 4, 8), self._sorted_by, self._backwards)
        if drawn == self._table:
            return
        self._table = drawn
        headings, rows = drawn
        selected = (
            table.coordinate_to_cell_key(Coordinate(table.cursor_row, 0)).row_key.value if table.row_count else None
        )
        place = next((index for index, (peer, _) in enumerate(rows) if peer == selected), 0)
        offset = table.scroll_y
        table.clear(columns=True)
        for key, heading, width in headings:
            table.add_column(heading, key=key, width=width)
        for peer, cells in rows:
            table.add_row(*cells, key=peer)
        table.move_cursor(row=place, animate=False, scroll=False)
        table.scroll_to(y=offset, animate=False)

    # Keys

    def on_data_table_header_selected(self, event: DataTable.HeaderSelected) -> None:
        """Sort by the column that was clicked; a second click turns the order round."""
        heading = str(event.column_key.value)
        self._backwards = heading == self._sorted_by and not self._backwards
        self._sorted_by = heading
        self._draw()

    def action_sort(self) -> None:
        """Sort the peers by the next column that is on the screen."""
        shown = {str(key.value) for key in self.screen_stack[0].query_one("#peers", DataTable).columns}
        there = [name for name in _ORDER if name in shown] or [_ORDER[0]]
        place = there.index(self._sorted_by) if self._sorted_by in there else -1
        self._sorted_by = there[(place + 1) % len(there)]
        self._draw()

    def action_turn(self) -> None:
        """Turn the order round."""
        self._backwards = not self._backwards
        self._draw()

    def action_pause(self) -> None:
        """Ask for how long, and pause."""

        def answered(seconds: float | None) -> None:
            if seconds is not None:
                self._post("pause", f"/api/pause?seconds={seconds:.0f}" if seconds else "/api/pause")

        self.push_screen(HowLong(), answered)

    def action_resume(self) -> None:
        """Train again."""
        self._post("resume", "/api/resume")

    def action_switch(self) -> None:
        """Watch the next daemon."""
        if not self._source.switch():
            self.notify("no other daemon runs on this PC", timeout=3)

    def action_help(self) -> None:
        """Explain keys and words."""
        self.push_screen(Help())

    def action_leave(self) -> None:
        """End; the daemon goes on."""
        self.exit(0)

    def action_interrupt(self) -> None:
        """End as Ctrl+C ends any command."""
        self.exit(EXIT_INTERRUPTED)

    def _post(self, verb: str, path: str) -> None:
        daemon = self._look.daemon
        if daemon is None:
            self.notify(f"no daemon to {verb}: it does not run now", severity="warning")
            return

        async def post() -> None:
            try:
                await self._source.post(daemon, path)
            except DaemonError as error:
                self.notify(clean(error), severity="error", timeout=10, markup=False)
            else:
                self.notify(f"{verb} accepted", timeout=3)

        self.run_worker(post())


def _text(main: Screen[object], name: str, text: Text) -> None:
    main.query_one(f"#{name}", Static).update(text)
