"""Scores of third parties: what their entry points must hold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import EntryPoint
from typing import Any

import pytest

from candlemark.errors import ConfigError
from candlemark.metrics import catalog


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    catalog.all_metrics.cache_clear()
    yield
    catalog.all_metrics.cache_clear()


def install(monkeypatch: pytest.MonkeyPatch, thing: object) -> None:
    class Point(EntryPoint):
        def load(self) -> Any:
            return thing

    point = Point(name="theirs", value="their.package:score", group=catalog.ENTRY_POINTS)
    monkeypatch.setattr(catalog, "entry_points", lambda group: [point])


def test_a_third_party_adds_a_score(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = replace(catalog.METRICS["accuracy"], name="theirs")
    install(monkeypatch, theirs)
    assert catalog.find(("theirs",)) == (theirs,)
    assert catalog.find(None) == (*catalog.METRICS.values(), theirs)


def test_what_is_no_metric_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, len)
    with pytest.raises(ConfigError) as caught:
        catalog.all_metrics()
    assert str(caught.value) == (
        "entry point their.package:score of candlemark.metrics is a builtin_function_or_method; "
        "it must be a candlemark.metrics.catalog.Metric"
    )


def test_a_name_that_is_taken_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, catalog.METRICS["auroc"])
    with pytest.raises(ConfigError, match=r"is called 'auroc', which exists; uninstall"):
        catalog.all_metrics()


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(ConfigError, match=r"unknown metric 'auc'; known: accuracy, .*ece"):
        catalog.find(("auc",))
