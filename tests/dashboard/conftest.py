from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.dashboard.browser import Browser, unavailable


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One for all tests of a module. Each server has a port, and so a storage, of its own."""
    if reason := unavailable():
        pytest.skip(reason)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("no_proxy", "*")  # between selenium and the driver
        with Browser(tmp_path_factory.mktemp("browser")) as browser:
            yield browser
