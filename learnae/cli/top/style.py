"""The layout of `learnae top`, in textual's CSS: fits into 80x24, breaks nothing in 40 columns; used by `app`."""

from __future__ import annotations

from typing import Final

CSS: Final = """
Screen { overflow: hidden; }
Static { text-wrap: nowrap; text-overflow: ellipsis; }
#head { height: 1; padding: 0 1; background: $panel; }
#reasons { height: auto; max-height: 3; padding: 0 1; text-wrap: wrap; }
.chart { height: 1; padding: 0 1; }
.label { width: 10; color: $text-muted; }
.chart Sparkline { width: 1fr; height: 1; }
.now { width: auto; min-width: 32; max-width: 60%; padding: 0 0 0 1; }
.narrow .now { min-width: 0; }
Sparkline > .sparkline--min-color { color: $success-darken-2; }
Sparkline > .sparkline--max-color { color: $success; }
#loss-chart > .sparkline--min-color { color: $warning-darken-2; }
#loss-chart > .sparkline--max-color { color: $warning; }
#traffic-chart > .sparkline--min-color { color: $secondary-darken-2; }
#traffic-chart > .sparkline--max-color { color: $secondary; }
#figures { height: auto; padding: 0 1; }
#peers { height: 1fr; min-height: 3; }
#no-peers { height: 1fr; min-height: 1; }
#messages-box { height: 4; padding: 0 1; border-top: solid $panel; }
.gone #figures, .gone .chart, .gone #peers, .gone #messages-box { opacity: 50%; }

.low #messages-box { display: none; }
.low #figures { max-height: 4; }
.low #peers { min-height: 2; }

Help, HowLong { align: center middle; background: $background 60%; }
.dialog { width: 64; max-width: 100%; height: auto; max-height: 100%; overflow-y: auto; }
.dialog { padding: 0 2; border: round $primary; background: $surface; }
.dialog Static { height: auto; text-wrap: wrap; }
.dialog Input { margin: 1 0 0 0; }
#wrong { color: $error; }
"""
