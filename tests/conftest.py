from __future__ import annotations

import functools

import pytest
from hypothesis import settings

from netsim.namespaces import unavailable

# The same examples on every run: a red run can be repeated. No deadline: the machine may be busy.
settings.register_profile("learnae", derandomize=True, deadline=None)
settings.load_profile("learnae")


@functools.cache
def _no_lab() -> str | None:
    return unavailable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("netns") and (reason := _no_lab()):
            item.add_marker(pytest.mark.skip(reason=reason))
