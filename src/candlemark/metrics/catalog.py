"""The tables of scores: what each is called, its range, direction, chance level and limits.

    METRICS["auroc"].function(target, probability, weight)           # of a classifier
    FORECAST_METRICS["mase"].function(value, forecast, weight)       # of a forecast of the close

A third party adds a classifier's score through the entry point group `candlemark.metrics`: an
entry point whose object is a `Metric`; `all_metrics()` holds the table and those, `all_scores()`
the forecasts' and those of masks (`candlemark.metrics.segmentation.catalog`) as well.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points

from candlemark.errors import ConfigError
from candlemark.metrics import classification, regression
from candlemark.metrics.classification import WeightedScore
from candlemark.metrics.regression import WeightedError
from candlemark.metrics.score import Score
from candlemark.metrics.segmentation.catalog import SEGMENTATION_METRICS

ENTRY_POINTS = "candlemark.metrics"


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric(Score):
    """One score of a classifier."""

    function: WeightedScore


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastMetric(Score):
    """One score of a forecast of the next close."""

    function: WeightedError


METRICS: dict[str, Metric] = {
    "accuracy": Metric(
        name="accuracy",
        title="Accuracy",
        function=classification.accuracy,
        degenerate="there is no case",
    ),
    "balanced_accuracy": Metric(
        name="balanced_accuracy",
        title="Balanced accuracy",
        function=classification.balanced_accuracy,
        chance=lambda classes: 1 / classes,
        degenerate="a class has no case",
    ),
    "f1": Metric(
        name="f1",
        title="F1",
        function=classification.f1,
        degenerate="a class has no case and is never predicted",
    ),
    "recall": Metric(
        name="recall",
        title="Recall",
        function=classification.recall,
        degenerate="a class has no case",
    ),
    "precision": Metric(
        name="precision",
        title="Precision",
        function=classification.precision,
        degenerate="a class is never predicted",
    ),
    "auroc": Metric(
        name="auroc",
        title="AUROC",
        function=classification.auroc,
        chance=lambda _classes: 0.5,
        degenerate="a class has no case",
    ),
    "auprc": Metric(
        name="auprc",
        title="AUPRC",
        function=classification.auprc,
        degenerate="a class has no case",
    ),
    "mcc": Metric(
        name="mcc",
        title="MCC",
        function=classification.mcc,
        low=-1.0,
        chance=lambda _classes: 0.0,
        degenerate="all cases or all predictions are of one class",
    ),
    "brier": Metric(
        name="brier",
        title="Brier score",
        function=classification.brier,
        higher_is_better=False,
        degenerate="there is no case",
    ),
    "ece": Metric(
        name="ece",
        title="Calibration error",
        function=classification.ece,
        higher_is_better=False,
        degenerate="there is no case",
    ),
}

FORECAST_METRICS: dict[str, ForecastMetric] = {
    "mase": ForecastMetric(
        name="mase",
        title="MASE",
        function=regression.mase,
        high=math.inf,
        higher_is_better=False,
        degenerate="no price moved",
    ),
    "mae_percent": ForecastMetric(
        name="mae_percent",
        title="MAE",
        function=regression.mae_percent,
        unit="%",
        high=math.inf,
        higher_is_better=False,
        degenerate="there is no case",
    ),
    "rmse_percent": ForecastMetric(
        name="rmse_percent",
        title="RMSE",
        function=regression.rmse_percent,
        unit="%",
        high=math.inf,
        higher_is_better=False,
        degenerate="there is no case",
    ),
    "directional_accuracy": ForecastMetric(
        name="directional_accuracy",
        title="Directional accuracy",
        function=regression.directional_accuracy,
        chance=lambda _classes: 0.5,
        degenerate="no price moved, or no forecast has a direction",
    ),
}


@cache
def all_metrics() -> dict[str, Metric]:
    """The table and what installed packages add to it.

    Raises ConfigError: an entry point holds no `Metric` or takes a name that is taken.
    """
    found = dict(METRICS)
    for entry in entry_points(group=ENTRY_POINTS):
        metric = entry.load()
        if not isinstance(metric, Metric):
            raise ConfigError(
                f"entry point {entry.value} of {ENTRY_POINTS} is a {type(metric).__name__}; "
                "it must be a candlemark.metrics.catalog.Metric"
            )
        if metric.name in found or metric.name in FORECAST_METRICS:
            raise ConfigError(
                f"entry point {entry.value} of {ENTRY_POINTS} is called '{metric.name}', "
                "which exists; uninstall that package or rename its metric"
            )
        found[metric.name] = metric
    return found


def find(names: tuple[str, ...] | None) -> tuple[Metric, ...]:
    """Metrics by name in the order given; all of them for None.

    Raises ConfigError: a name is not known.
    """
    known = all_metrics()
    unknown = [name for name in names or () if name not in known]
    if unknown:
        raise ConfigError(f"unknown metric '{unknown[0]}'; known: {', '.join(known)}")
    return tuple(known[name] for name in (names or known))


def all_scores() -> dict[str, Score]:
    """Every score by name, of classifiers, of forecasts and of masks.

    `precision` is that of classifiers and of masks: of one unit, range and direction.
    """
    return {**SEGMENTATION_METRICS, **all_metrics(), **FORECAST_METRICS}


def find_forecast(names: tuple[str, ...] | None) -> tuple[ForecastMetric, ...]:
    """Forecasts' scores by name in the order given; all of them for None.

    Raises ConfigError: a name is not known.
    """
    unknown = [name for name in names or () if name not in FORECAST_METRICS]
    if unknown:
        raise ConfigError(
            f"unknown score of a forecast '{unknown[0]}'; known: {', '.join(FORECAST_METRICS)}"
        )
    return tuple(FORECAST_METRICS[name] for name in (names or FORECAST_METRICS))
