"""Records as a benchmark leaves them, made up but consistent: scores come from predictions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from candlemark.metrics.summary import score
from candlemark.records import Measurement, Predictions, RunRecord, Status, Verdict, content_id

HOUR_MS = 3_600_000
BLOCK = 25
WHEN = "2025-06-01T09:30:00+00:00"

ENVIRONMENT = {
    "comparability_key": "5e1f0c77a9b1d2e3",
    "device": {"kind": "cpu", "name": "AMD EPYC 7B13", "threads": 2},
    "versions": {"python": "3.11.9", "torch": "2.11.0", "timm": "1.0.20"},
    "precision": "fp32",
}


@dataclass(frozen=True, kw_only=True)
class FakeRow:
    name: str
    role: str
    strength: float
    parameters: int = 0
    seconds: float = 1.0
    latency_ms: float = 1.0
    weights: str | None = None


ROWS = (
    FakeRow(name="baseline: majority", role="baseline", strength=0.0),
    FakeRow(name="baseline: persistence", role="baseline", strength=0.05, seconds=0.01),
    FakeRow(name="baseline: visible_trend", role="baseline", strength=-0.05, seconds=0.01),
    FakeRow(name="baseline: logistic", role="baseline", strength=0.25, seconds=0.2),
    FakeRow(name="baseline: gradient_boosting", role="baseline", strength=0.45, seconds=0.9),
    FakeRow(
        name="timm/edgenext_xx_small.in1k",
        role="model",
        strength=1.0,
        parameters=1_327_216,
        seconds=41.0,
        latency_ms=6.1,
        weights="random",
    ),
    FakeRow(
        name="timm/mobilenetv3_small_100.lamb_in1k",
        role="model",
        strength=0.93,
        parameters=2_542_856,
        seconds=18.0,
        latency_ms=3.4,
        weights="random",
    ),
    FakeRow(
        name="microsoft/resnet-50",
        role="model",
        strength=0.4,
        parameters=25_557_032,
        seconds=130.0,
        latency_ms=31.0,
        weights="random",
    ),
    FakeRow(
        name="google/vit-base-patch16-224",
        role="model",
        strength=0.6,
        parameters=86_567_656,
        seconds=420.0,
        latency_ms=88.0,
        weights="random",
    ),
    FakeRow(
        name="control: shuffled labels, timm/edgenext_xx_small.in1k",
        role="control",
        strength=0.0,
        parameters=1_327_216,
        seconds=40.0,
        latency_ms=6.0,
        weights="random",
    ),
)


def fake_record(
    row: FakeRow,
    *,
    market: str = "planted",
    label: str = "next_candle",
    kind: str = "forecast",
    seed: int = 0,
    cases: int = 700,
    classes: int = 2,
    truth_seed: int = 7,
    **facts: Any,
) -> RunRecord:
    """One finished trial; rows of one market, label and truth_seed share their cases."""
    truth = np.random.default_rng([truth_seed, cases, len(market), len(label)])
    signal = truth.normal(size=cases)
    target = np.digitize(signal + truth.normal(size=cases), [0.0] if classes == 2 else [-0.7, 0.7])
    noise = np.random.default_rng([seed, sum(map(ord, row.name)), len(market)])
    strength = {"random_walk": 0.0}.get(market, row.strength)
    centre = np.linspace(-1, 1, classes)
    logit = strength * signal[:, None] * centre + 0.35 * noise.normal(size=(cases, classes))
    if kind == "recognition":
        logit = 4 * np.eye(classes)[target] + 0.5 * noise.normal(size=(cases, classes))
    if "majority" in row.name:
        logit = np.tile(np.log(np.bincount(target, minlength=classes) / cases), (cases, 1))
    probability = np.exp(logit) / np.exp(logit).sum(axis=1, keepdims=True)
    trial = {"row": row.name, "market": market, "label": label, "seed": seed, "cases": cases}
    return RunRecord(
        trial_id=content_id(trial),
        trial=trial,
        status=Status.OK,
        started_at=WHEN,
        duration_s=row.seconds + 3,
        measurements=(
            *score(target, probability, block_length=BLOCK, replicates=200),
            *_costs(row),
        ),
        predictions=Predictions(
            window_start_ms=1_704_067_200_000 + HOUR_MS * np.arange(cases),
            target=target.astype(np.int64),
            probability=probability,
            series=("PLANTED",) * cases,
        ),
        history=_history(row, strength, noise),
        facts={
            "row": row.name,
            "role": row.role,
            "market": market,
            "label": label,
            "label_kind": kind,
            "class_names": ["down", "up"] if classes == 2 else ["down", "flat", "up"],
            "weights": row.weights,
            "block_length": BLOCK,
            "dataset_hash": content_id([market, label]),
            "dataset": {
                "planted": "planted market",
                "random_walk": "random walk",
                "real": "BTCUSDT 1h",
            }[market],
            "attainable_auroc": 0.83 if market == "planted" and kind == "forecast" else None,
            "seed": seed,
            "parameters": row.parameters or None,
            "audit": {
                "ok": True,
                "kind": kind,
                "checks": [
                    {"name": "no reach crosses a split", "ok": True, "detail": "0 of 3,570"},
                    {"name": "no window is shared", "ok": True, "detail": "purge 25 slots"},
                    {"name": "label balance", "ok": True, "detail": "down 49.8 %, up 50.2 %"},
                ],
            },
            **facts,
        },
        environment=ENVIRONMENT,
    )


def _costs(row: FakeRow) -> tuple[Measurement, ...]:
    shared = (Measurement(name="training_time_s", value=row.seconds, unit="s"),)
    if not row.parameters:
        return shared
    return (
        *shared,
        Measurement(name="parameters", value=float(row.parameters)),
        Measurement(name="peak_memory_bytes", value=4e8 + 18.0 * row.parameters, unit="B"),
        Measurement(name="latency_p50_ms", value=row.latency_ms, unit="ms", sample_count=40),
        Measurement(
            name="latency_p99_ms",
            value=None,
            unit="ms",
            sample_count=40,
            verdict=Verdict.TOO_FEW,
            reason="p99 needs 299 samples, 259 more",
        ),
        Measurement(name="throughput_items_per_s", value=900 / row.latency_ms, unit="1/s"),
        Measurement(name="flops", value=90.0 * row.parameters),
    )


def _history(
    row: FakeRow, strength: float, noise: np.random.Generator
) -> tuple[dict[str, float | int | None], ...]:
    if not row.parameters:
        return ()
    return tuple(
        {
            "epoch": epoch,
            "train_loss": float(0.69 - 0.1 * strength * (1 - np.exp(-epoch / 2)))
            + 0.004 * float(noise.normal()),
            "validation_loss": float(0.695 - 0.07 * strength * (1 - np.exp(-epoch / 2)))
            + 0.006 * float(noise.normal()),
            "validation_auroc": None if epoch == 0 else 0.5 + 0.2 * strength,
            "learning_rate": 1e-3,
            "duration_s": row.seconds / 8,
        }
        for epoch in range(8)
    )


def failed_record(row: FakeRow, **options: Any) -> RunRecord:
    """The same trial, out of memory."""
    good = fake_record(row, **options)
    return RunRecord(
        trial_id=content_id({**good.trial, "failed": True}),
        trial=good.trial,
        status=Status.OUT_OF_MEMORY,
        reason="asked for 24.0 GiB, 15.6 GiB are free <b>&</b>",
        started_at=WHEN,
        duration_s=12.0,
        facts={**good.facts, "row": "facebook/convnext-tiny-224"},
        environment=ENVIRONMENT,
    )


def fake_suite(*, seeds: tuple[int, ...] = (0,)) -> list[RunRecord]:
    """A suite like the demo's: planted signal, random walk, recognition, one failure."""
    records = [
        fake_record(row, market=market, label=label, kind=kind, seed=seed)
        for market, label, kind in (
            ("planted", "next_candle", "forecast"),
            ("random_walk", "next_candle", "forecast"),
            ("random_walk", "last_candle", "recognition"),
        )
        for row in ROWS
        for seed in (seeds if row.role == "model" else seeds[:1])
    ]
    return [*records, failed_record(ROWS[7])]
