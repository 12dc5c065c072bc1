"""Whether a daemon runs and answers, and whether the settings are sound."""

from __future__ import annotations

from collections.abc import Iterator

from learnae.cli.doctor.facts import Facts
from learnae.cli.doctor.verdict import Verdict, fail, ok, skip, warn

START = "start one: learnaed run --topic NAME --task digits"


def daemon(facts: Facts) -> Iterator[Verdict]:
    """A daemon runs and answers."""
    found = facts.daemon
    log = facts.profile / "learnaed.log"
    if found is None:
        yield warn("daemon", "none runs: below is what can be looked at without one", START)
    elif not found.alive:
        said = f"; its log ends with: {found.last_words}" if found.last_words else ""
        why = (
            found.error or f"the last daemon (process {found.pid}) is gone without having tidied up: killed, or a crash"
        )
        yield fail("daemon", f"{why}{said}", f"start it again, it goes on from what is stored; if it dies again: {log}")
    elif found.error is not None:
        yield fail(
            "daemon",
            f"process {found.pid} is there, but does not answer: {found.error}",
            f"look into {log}; if it hangs, end process {found.pid} and start it again",
        )
    elif not found.told:
        yield warn(
            "daemon",
            f"runs at {found.url}, but is older than this command and cannot tell all",
            "restart it with the learnae that is installed now",
        )
    else:
        status = found.status
        yield ok("daemon", f"runs (process {found.pid}) on topic {status.get('topic')}, {status.get('state')}")


def settings(facts: Facts) -> Iterator[Verdict]:
    """The configuration file and the environment are valid."""
    found = facts.settings
    if found.code is not None:
        where = f"correct it ({found.file})" if found.file else "correct it"
        yield fail("settings", f"[{found.code}] {found.error}", f"{where}; `learnaed run` refuses to start until then")
    elif found.file is not None:
        yield ok("settings", f"{found.file} is valid")
    else:
        yield skip("settings", f"there is no configuration file in {facts.profile.parent}: flags and defaults are used")
