"""The user guide names every flag, metric, refusal and verb that there is."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from learnae.cli import cli
from learnae.ledger.admission import Refusal
from learnaed.config import Config
from learnaed.status import metrics
from tests.face.fakes import fake_status

GUIDE = (Path(__file__).parents[2] / "docs" / "user-guide.md").read_text()


@pytest.mark.parametrize("name", [field.name for field in fields(Config)])
def test_flags(name: str) -> None:
    assert f"`--{name.replace('_', '-')}" in GUIDE


def test_metrics() -> None:
    status = fake_status()
    status["trainer"]["accuracy_averaged"] = 0.5
    status["ledger"]["samples"] = 1
    names = {
        sample.name
        for family in text_string_to_metric_families(metrics.render(status, True).decode())
        for sample in family.samples
    }
    assert len(names) >= 24
    assert not [name for name in names if f"`{name}" not in GUIDE]


@pytest.mark.parametrize("refusal", list(Refusal))
def test_refusals(refusal: Refusal) -> None:
    assert f"| `{refusal.value}` |" in GUIDE


@pytest.mark.parametrize("command", sorted(set(cli.commands) - {"version", "resume"}))
def test_commands(command: str) -> None:
    assert f"`learnae {command}`" in GUIDE
