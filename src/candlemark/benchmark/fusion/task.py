"""The task `fusion`: train one row on pictures, texts or numbers, and measure both its answers.

    result = run(work)

A network, a rule and boosting differ only in how they are made: each is fitted on the training
split, gives class probabilities and log returns for the test split, and is scored by the same
code, `scores_of`, which `fuse evaluate` uses too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np

from candlemark.benchmark.fusion.plan import FusionWork
from candlemark.benchmark.fusion.row import Answer, Row, conformal
from candlemark.benchmark.tasks.base import FloatArray, IntArray, TaskResult
from candlemark.benchmark.tasks.steps import (
    Slices,
    environment_of,
    open_planned,
    slices,
    timed,
    training_order,
)
from candlemark.dataset.lazy import Dataset
from candlemark.dataset.returns import next_returns
from candlemark.metrics.forecast import score_forecast
from candlemark.metrics.summary import score
from candlemark.records import Measurement, Predictions


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scored:
    """An answer held against what came.

    measurements: of the classes and of the forecast, each with its interval
    samples: log_return and forecast_log_return of the cases whose next close is known, and
        forecast_case, their places among the predictions
    """

    measurements: tuple[Measurement, ...]
    predictions: Predictions
    samples: Mapping[str, FloatArray]
    block_length: int


def run(work: FusionWork) -> TaskResult:
    """Fit, answer, score and time one row; the dataset must be the one that was planned."""
    trial = work.trial
    trained = train(work)
    dataset, rows, returns, row = trained.dataset, trained.rows, trained.returns, trained.row
    test = rows["test"]
    answer = row.predict(test)
    scored = scores_of(
        dataset, test, answer, returns["test"], replicates=trial.config["measure"]["replicates"]
    )
    residuals = conformal(returns["validation"], row.predict(rows["validation"]).log_return)
    interval = {
        **residuals.to_dict(),
        "coverage": residuals.coverage(returns["test"], answer.log_return),
    }
    environment = environment_of(trial.config["device"], row.conditions())
    measurements = (*scored.measurements, *timed(trial, lambda: row.measure(test)))
    facts = {
        "block_length": scored.block_length,
        "case_counts": {name: len(indices) for name, indices in rows.items()},
        "forecast_interval": interval,
        **row.facts(),
    }
    if work.model_dir is not None:
        told = {
            "trial_id": trial.id,
            "row": trial.row,
            "trial": trial.config,
            "facts": {**trial.facts, **facts},
            "measurements": {
                one.name: {**asdict(one), "verdict": str(one.verdict)} for one in measurements
            },
            "history": list(row.history),
            "environment": environment,
        }
        row.keep(work.model_dir, residuals, told)
        facts["model_dir"] = work.model_dir.name
    return TaskResult(
        measurements=measurements,
        predictions=scored.predictions,
        history=row.history,
        samples=scored.samples,
        facts=facts,
        environment=environment,
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trained:
    """A row that has learnt, with what it learnt from.

    rows: of each split; returns: of each of them, NaN where the next close is not known
    """

    dataset: Dataset
    rows: Slices
    returns: Mapping[str, FloatArray]
    row: Row


def train(work: FusionWork) -> Trained:
    """The part of a trial that several processes do together; the rest is for the first."""
    dataset = open_planned(work)
    rows = slices(dataset)
    returns = {name: next_returns(dataset, indices) for name, indices in rows.items()}
    row = _make_row(work, dataset)
    order = training_order(work.trial, rows)
    row.fit(
        rows,
        {name: dataset.targets(rows[name])[order[name]] for name in order},
        {name: returns[name][order[name]] for name in order},
    )
    return Trained(dataset=dataset, rows=rows, returns=returns, row=row)


def scores_of(
    dataset: Dataset, rows: IntArray, answer: Answer, log_return: FloatArray, *, replicates: int
) -> Scored:
    """Every score of the answers about `rows`, in time order as a split is.

    log_return: float64[N], what came; NaN where the next close is not known
    """
    target = dataset.targets(rows)
    block_length = dataset.block_length(rows)
    known = np.flatnonzero(np.isfinite(log_return))
    of_classes = score(target, answer.probability, block_length=block_length, replicates=replicates)
    of_forecast = score_forecast(
        log_return[known],
        answer.log_return[known],
        block_length=block_length,
        replicates=replicates,
    )
    return Scored(
        measurements=(*of_classes, *of_forecast),
        predictions=Predictions(
            window_start_ms=dataset.window_start_ms(rows),
            target=target,
            probability=answer.probability,
            series=tuple(dataset.symbols(rows)),
        ),
        samples={
            "log_return": log_return[known],
            "forecast_log_return": answer.log_return[known],
            "forecast_case": known.astype(np.float64),
        },
        block_length=block_length,
    )


def _make_row(work: FusionWork, dataset: Dataset) -> Row:
    if work.trial.config["kind"] == "numeric":
        from candlemark.benchmark.fusion.numbers import NumbersRow

        return NumbersRow(work.trial, dataset)
    from candlemark.benchmark.fusion.network import NetworkRow

    return NetworkRow(work, dataset)
