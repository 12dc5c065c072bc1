"""The docs name every flag, metric, field, refusal and verb that there is."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import click
import pytest
from prometheus_client.parser import text_string_to_metric_families

from learnae.cli import cli, dropped
from learnae.config import Config, flag
from learnae.ledger.admission import Refusal
from learnaed.status import metrics
from learnaed.status.reference import markdown
from tests.face.fakes import fake_status

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "user-guide.md").read_text()
METRICS = (ROOT / "docs" / "metrics.md").read_text()
API = (ROOT / "docs" / "api.md").read_text()


@pytest.mark.parametrize("name", [field.name for field in fields(Config)])
def test_flags(name: str) -> None:
    assert f"`{flag(name)}" in GUIDE


def test_metrics() -> None:
    status = fake_status()
    status["trainer"]["accuracy_averaged"] = 0.5
    status["paused"] = {"reasons": [{"reason": "user", "text": "you said so", "until": None}]}
    status["api"] = {"connections": 1, "turned_away": 0, "requests": 1, "refused": 0, "streams": 0}
    names = {
        sample.name
        for family in text_string_to_metric_families(metrics.render(status, True).decode())
        for sample in family.samples
    }
    assert len(names) >= 25
    assert not [name for name in names if f"`{name}" not in METRICS]


@pytest.mark.parametrize("refusal", list(Refusal))
def test_refusals(refusal: Refusal) -> None:
    assert f"| `{refusal.value}` |" in GUIDE


def test_drops() -> None:
    sources = "".join(path.read_text() for path in (ROOT / "daemon" / "learnaed" / "network").rglob("*.py"))
    counted = re.findall(r'(?:count\(\w+, |_expel\(\w+, )"([a-z-]+)"', sources)
    counted += re.findall(r'"([a-z-]+)"', " ".join(re.findall(r"dropped\[[^]]+]", sources)))
    assert set(counted) == set(dropped.MEANINGS)
    assert not [reason for reason, meaning in dropped.MEANINGS.items() if f"| `{reason}` | {meaning}" not in GUIDE]


def test_the_reference_of_the_api() -> None:
    assert markdown() == API.rstrip(), "write it anew, as learnaed.status.reference says"


@pytest.mark.parametrize("command", sorted(set(cli.list_commands(click.Context(cli))) - {"version", "resume"}))
def test_commands(command: str) -> None:
    assert f"`learnae {command}`" in GUIDE
