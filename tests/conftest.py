from __future__ import annotations

import functools
from collections.abc import Generator

import pytest
from hypothesis import settings

from netsim.daemons import Swarm
from netsim.namespaces import unavailable

pytest_plugins = ["tests.lab"]

LONGEST = ("test_scenarios.py", "test_schedules.py")
"""Files that one process is busy with for minutes: they come first, with those that wait for real daemons."""

# The same examples on every run: a red run can be repeated. No deadline: the machine may be busy.
settings.register_profile("learnae", derandomize=True, deadline=None)
settings.load_profile("learnae")


@functools.cache
def _no_lab() -> str | None:
    return unavailable()


def pytest_configure(config: pytest.Config) -> None:
    # Else xdist starts the files with few tests last, which are the ones that take longest.
    config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: "system" not in item.path.parts and item.path.name not in LONGEST)
    for item in items:
        if item.get_closest_marker("netns") and (reason := _no_lab()):
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the daemons said beside a failure."""
    report = yield
    if report.failed and report.when == "call":
        for value in getattr(item, "funcargs", {}).values():
            if isinstance(value, Swarm):
                report.sections.append(("daemons", value.report()))
    return report
