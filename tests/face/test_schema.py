"""The OpenAPI document is true: of the fake, by requests that schemathesis draws from it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case, GenerationMode

from learnaed.feed import Kind
from learnaed.history import Row
from learnaed.status.openapi import description
from tests.face.fakes import FakeSource, fake_cut, fake_status
from tests.face.serving import BEARER, in_a_thread

_LAST = "/api/stop"
"""After this one nothing more would be answered."""
OPERATIONS = [
    (path, method, mode)
    for path, methods in description()["paths"].items()
    for method, operation in methods.items()
    for mode in GenerationMode
    if path != _LAST and (mode is GenerationMode.POSITIVE or {"parameters", "requestBody"} & operation.keys())
]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    source = FakeSource()
    source.cuts = [fake_cut(7), fake_cut(8)]
    source.history.add(Row.of(fake_status(), 5.0))
    for kind in Kind:
        source.feed.post(kind, text="something")
    with in_a_thread(source) as found:
        yield found


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    """One for all requests: a connection for each would be more than the server takes."""
    with requests.Session() as made:
        yield made


@pytest.mark.parametrize(("path", "method", "mode"), OPERATIONS)
def test_no_answer_breaks_the_schema(
    url: str, session: requests.Session, path: str, method: str, mode: GenerationMode
) -> None:
    """Nor does anything that the schema does not allow get through, or make the server fail."""
    operation = schemathesis.openapi.from_dict(description())[path][method.upper()]

    @settings(max_examples=10, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(operation.as_strategy(mode))
    def check(case: Case[Any]) -> None:
        # The event stream has no end; the list of the same has.
        case.call_and_validate(
            base_url=url, session=session, headers=BEARER | {"Accept": "application/json"}, timeout=5
        )

    check()
