"""Records as an inference benchmark leaves them, made up."""

from __future__ import annotations

from typing import Any

import numpy as np

from candlemark.hardware.comparability import comparability_key
from candlemark.records import Measurement, RunRecord, Status, Verdict, content_id

WHEN = "2025-06-01T09:30:00+00:00"

ENVIRONMENT: dict[str, Any] = {
    "device": "cpu",
    "cpu": "AMD EPYC 7B13",
    "gpu": None,
    "threads": 2,
    "packages": {"torch": "2.11.0", "transformers": "5.1.0"},
    "precision": "fp32",
    "batch_size": 1,
}


def make(
    model: str = "gpt2",
    *,
    p50: float | None = 10.0,
    memory: float | None = 300e6,
    trial: dict[str, Any] | None = None,
    facts: dict[str, Any] | None = None,
    environment: dict[str, Any] | None = None,
    more: tuple[Measurement, ...] = (),
    **changes: Any,
) -> RunRecord:
    """One cell; `more` replaces measurements of the same name."""
    config: dict[str, Any] = {
        "task": "inference",
        "model": model,
        "weights_sha256": "random",
        "device": "cpu",
        "batch_size": 1,
        "sequence_length": 128,
        "precision": "fp32",
        "backend": "eager",
        "seed": 0,
        **(trial or {}),
    }
    machine = {**ENVIRONMENT, **(environment or {})}
    measured = {
        "latency_p50_ms": Measurement(
            name="latency_p50_ms",
            value=p50,
            unit="ms",
            low=None if p50 is None else p50 * 0.99,
            high=None if p50 is None else p50 * 1.01,
            level=0.95,
            sample_count=100,
            reason=None if p50 is not None else "the clock stood still",
        ),
        "latency_p99_ms": Measurement(
            name="latency_p99_ms",
            value=None,
            unit="ms",
            sample_count=100,
            verdict=Verdict.TOO_FEW,
            reason="p99 needs 299 samples, 199 more",
        ),
        "peak_memory_bytes": Measurement(
            name="peak_memory_bytes",
            value=memory,
            unit="bytes",
            reason=None if memory is not None else "not measured",
        ),
    }
    measured |= {m.name: m for m in more}
    fields: dict[str, Any] = {
        "trial_id": content_id(config),
        "trial": config,
        "status": Status.OK,
        "started_at": WHEN,
        "duration_s": 3.5,
        "measurements": tuple(measured.values()),
        "samples": {"latency_ms": np.linspace(9.0, 11.0, 5)},
        "facts": {
            "row": model,
            "role": "model",
            "model": model,
            "modality": "text",
            "model_task": "text-decoder",
            "item": "sequences",
            "same_answer": True,
            **{k: config[k] for k in ("device", "precision", "backend", "batch_size")},
            "sequence_length": config["sequence_length"],
            "weights": "random",
            **(facts or {}),
        },
        "environment": {**machine, "comparability_key": comparability_key(machine)},
    }
    return RunRecord(**{**fields, **changes})
