"""What stands in the query of a request, checked; used by the routes."""

from __future__ import annotations

import re

from starlette.exceptions import HTTPException
from starlette.requests import Request


def only(request: Request, *names: str) -> None:
    """Answers 400 if the query has anything else, or one of these twice: a slip must not do something else."""
    given = [name for name, _ in request.query_params.multi_items()]
    for name in given:
        if name not in names:
            raise HTTPException(400, f"there is no parameter {name[:40]!r}; there is: {', '.join(names)}")
        if given.count(name) > 1:
            raise HTTPException(400, f"{name} is given more than once")


def whole(request: Request, name: str, low: int, high: int) -> int | None:
    """The query's number of this name; None if it is not given. Answers 400 if it is none, or out of range."""
    text = request.query_params.get(name)
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,16}", text) or not low <= int(text) <= high:
        raise HTTPException(400, f"{name} must be a whole number from {low} to {high}")
    return int(text)


def number(request: Request, name: str, low: float, high: float) -> float | None:
    """The same with a fraction."""
    text = request.query_params.get(name)
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,16}(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?", text) or not low <= float(text) <= high:
        raise HTTPException(400, f"{name} must be a number from {low:g} to {high:g}")
    return float(text)
