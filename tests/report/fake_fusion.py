"""Records of the task `fusion`, made up so that the answers are known.

The next return is the sum of what only the text tells, what only the picture tells, and noise.
A row forecasts with the share of each that its strengths say.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from candlemark.metrics.forecast import score_forecast
from candlemark.metrics.summary import score
from candlemark.records import Measurement, Predictions, RunRecord, Status, content_id

HOUR_MS = 3_600_000
BLOCK = 25
WHEN = "2025-06-01T09:30:00+00:00"
VOLATILITY = 0.01
SCORES = ("accuracy", "auroc", "brier", "ece")
UNKNOWN_EVERY = 50
"""The next close of each so-manieth case is not known."""

ENVIRONMENT = {
    "comparability_key": "5e1f0c77a9b1d2e3",
    "device": {"kind": "cpu", "name": "AMD EPYC 7B13", "threads": 2},
    "versions": {"python": "3.11.9", "torch": "2.11.0"},
    "precision": "fp32",
}


@dataclass(frozen=True, kw_only=True)
class FusionRow:
    """text, image: how much of what each tells the row knows, 0 to 1."""

    name: str
    role: str = "model"
    inputs: str | None = None
    fusion: str | None = None
    text: float = 0.0
    image: float = 0.0
    noise: float = 0.15


BOTH = FusionRow(
    name="text + image (text_to_image)", inputs="both", fusion="text_to_image", text=1.0, image=1.0
)
GATED = FusionRow(name="text + image (gated)", inputs="both", fusion="gated", text=1.0, image=0.9)
IMAGE = FusionRow(name="image only", inputs="image", image=1.0)
TEXT = FusionRow(name="text only", inputs="text", text=1.0)
NUMBERS = FusionRow(name="numbers only: 1-D CNN", inputs="numbers", text=0.3, image=0.3)
BOOSTING = FusionRow(name="baseline: gradient_boosting", role="baseline", text=0.35, image=0.35)
PERSISTENCE = FusionRow(name="baseline: persistence", role="baseline", noise=0.0)
MAJORITY = FusionRow(name="baseline: majority", role="baseline", noise=0.0)
SHUFFLED = FusionRow(
    name="control: shuffled labels, text + image (text_to_image)", role="control", inputs="both"
)
ROWS = (BOTH, IMAGE, TEXT, NUMBERS, BOOSTING, PERSISTENCE, MAJORITY, SHUFFLED)


def fusion_record(
    row: FusionRow,
    *,
    market: str = "real",
    label: str = "direction",
    kind: str = "forecast",
    seed: int = 0,
    cases: int = 800,
    truth_seed: int = 7,
    **facts: Any,
) -> RunRecord:
    """One finished trial; rows of one market and label share their cases."""
    truth = np.random.default_rng([truth_seed, cases, len(market)])
    told, drawn, luck = truth.normal(size=(3, cases))
    scale = 0.0 if market == "random_walk" else 0.7
    value = VOLATILITY * (scale * (told + drawn) + luck)
    own = np.random.default_rng([seed, sum(map(ord, row.name)), len(market)])
    said = scale * (row.text * told + row.image * drawn) + row.noise * own.normal(size=cases)
    forecast = np.zeros(cases) if row.noise == 0 else VOLATILITY * said
    target = np.digitize(value, VOLATILITY * np.array([-0.5, 0.5])).astype(np.int64)
    logit = 1.5 * said[:, None] * np.array([-1.0, 0.0, 1.0])
    if row is PERSISTENCE:
        logit = 0.2 * own.normal(size=(cases, 3))
    probability = np.exp(logit) / np.exp(logit).sum(axis=1, keepdims=True)
    known = np.flatnonzero(np.arange(cases) % UNKNOWN_EVERY != UNKNOWN_EVERY - 1)
    forecasts = row is not MAJORITY
    trial = {"task": "fusion", "row": row.name, "market": market, "seed": seed, "cases": cases}
    trial["truth_seed"] = truth_seed
    trial |= {"label": label, "kind": kind, "strength": [row.text, row.image, row.noise]}
    return RunRecord(
        trial_id=content_id(trial),
        trial=trial,
        status=Status.OK,
        started_at=WHEN,
        duration_s=12.0,
        measurements=(
            *score(target, probability, block_length=BLOCK, replicates=100, names=SCORES),
            *(
                score_forecast(value[known], forecast[known], block_length=BLOCK, replicates=100)
                if forecasts
                else ()
            ),
            *_costs(row),
        ),
        predictions=Predictions(
            window_start_ms=1_704_067_200_000 + HOUR_MS * np.arange(cases),
            target=target,
            probability=probability,
            series=("BTCUSDT",) * cases,
        ),
        samples={
            "log_return": value[known],
            "forecast_log_return": forecast[known],
            "forecast_case": known.astype(np.float64),
        }
        if forecasts
        else {},
        history=_history(row, own),
        facts={
            "row": row.name,
            "role": row.role,
            "inputs": row.inputs,
            "fusion": row.fusion,
            "market": market,
            "label": label,
            "label_kind": kind,
            "class_names": ["bearish", "neutral", "bullish"],
            "weights": None if row.role == "baseline" else "random",
            "block_length": BLOCK,
            "dataset_hash": content_id([market, label]),
            "dataset": {"real": "BTCUSDT 1h", "random_walk": "random walk 1h"}.get(market, market),
            "attainable_auroc": None,
            "seed": seed,
            **facts,
        },
        environment=ENVIRONMENT,
    )


def _costs(row: FusionRow) -> tuple[Measurement, ...]:
    if row.role == "baseline":
        return (Measurement(name="training_time_s", value=0.4, unit="s"),)
    size = {"both": 195_000_000, "image": 86_000_000, "text": 109_000_000}.get(
        row.inputs or "", 9e4
    )
    return (
        Measurement(name="training_time_s", value=size / 1e6, unit="s"),
        Measurement(name="parameters", value=float(size)),
        Measurement(name="latency_p50_ms", value=1 + size / 4e6, unit="ms", sample_count=300),
        Measurement(name="peak_memory_bytes", value=4e8 + 18.0 * size, unit="bytes"),
    )


def _history(
    row: FusionRow, noise: np.random.Generator
) -> tuple[dict[str, float | int | None], ...]:
    if row.role == "baseline":
        return ()
    return tuple(
        {
            "epoch": epoch,
            "train_loss": 1.1 - 0.2 * (1 - float(np.exp(-epoch))) + 0.005 * float(noise.normal()),
            "validation_loss": 1.1 - 0.1 * (1 - float(np.exp(-epoch))),
        }
        for epoch in range(6)
    )


def failed(row: FusionRow, **options: Any) -> RunRecord:
    """The same trial, out of memory."""
    good = fusion_record(row, **options)
    return RunRecord(
        trial_id=content_id({**good.trial, "failed": True}),
        trial=good.trial,
        status=Status.OUT_OF_MEMORY,
        reason="asked for 24.0 GiB, 15.6 GiB are free",
        started_at=WHEN,
        duration_s=12.0,
        facts=good.facts,
        environment=ENVIRONMENT,
    )
