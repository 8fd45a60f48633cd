"""Inference records as a benchmark leaves them, made up but consistent with one another."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from candlemark.metrics.latency import summarise_latency
from candlemark.records import Measurement, RunRecord, Status, Verdict, content_id

WHEN = "2025-06-01T09:30:00+00:00"

MACHINE: dict[str, Any] = {
    "device": "cpu",
    "cpu": "AMD EPYC 7B13",
    "physical_cores": 2,
    "usable_cores": 2,
    "threads": 2,
    "interop_threads": 1,
    "gpu": None,
    "system": "Linux",
    "machine": "x86_64",
    "python": "3.11.9",
    "packages": {"torch": "2.11.0", "transformers": "5.1.0"},
}

GPU: dict[str, Any] = {
    **MACHINE,
    "device": "cuda",
    "gpu": "NVIDIA H100 80GB HBM3",
    "driver": "570.1",
}

TASKS = {
    "text": ("text-encoder", "sequences"),
    "vision": ("image-classification", "images"),
    "speech": ("speech-seq2seq", "clips"),
    "multimodal": ("image-captioning", "pairs"),
}


def samples(median_ms: float, count: int = 80, seed: int = 0, spread: float = 0.01) -> Any:
    """Call times around a median with a few late ones, float64 (count,), ms."""
    random = np.random.default_rng([seed, count])
    return median_ms * (1 + spread * np.abs(random.standard_normal(count)))


def fake_cell(
    model: str = "google-bert/bert-base-uncased",
    modality: str = "text",
    *,
    median_ms: float = 12.0,
    precision: str = "fp32",
    backend: str = "eager",
    device: str = "cpu",
    batch_size: int = 1,
    calls: int = 80,
    seed: int = 0,
    spread: float = 0.01,
    error: float | None = None,
    generates: bool = False,
    peak_bytes: float = 612e6,
    model_bytes: float = 438e6,
    contended: str | None = None,
    attempt: int = 0,
    **facts: Any,
) -> RunRecord:
    """One finished cell. `contended`: why its timings may not be quoted."""
    model_task, item = TASKS[modality]
    tolerance = {"fp32": 1e-4, "bf16": 5e-2}.get(precision, 1e-1)
    trial = {
        "task": "inference",
        "model": model,
        "weights_sha256": "random",
        "device": device,
        "batch_size": batch_size,
        "sequence_length": 128 if modality == "text" else None,
        "image_size": None,
        "audio_s": None,
        "new_tokens": 16 if generates else None,
        "precision": precision,
        "backend": backend,
        "metrics": ["latency", "memory"],
        "timing": {"budget_s": 5.0},
        "threads": 2,
        "tolerance": tolerance,
        "seed": 0,
        "isolation": "cell",
    }
    taken = samples(median_ms, calls, seed + 1000 * attempt, spread)
    measurements = [
        *summarise_latency(taken),
        *_others(median_ms, batch_size, peak_bytes, model_bytes),
        *(_generation(median_ms) if generates else ()),
        *(_real_time(median_ms) if modality == "speech" else ()),
    ]
    if error is not None:
        measurements.append(Measurement(name="relative_error", value=error))
    if contended is not None:
        measurements = [
            replace(m, verdict=Verdict.CONTENDED, reason=contended)
            if m.unit in {"ms", "items/s"} and m.value is not None
            else m
            for m in measurements
        ]
    machine = MACHINE if device == "cpu" else GPU
    key = content_id([machine, precision, backend, batch_size, model])
    return RunRecord(
        trial_id=content_id(trial),
        trial=trial,
        status=Status.OK,
        started_at=f"2025-06-01T09:{30 + attempt}:00+00:00",
        duration_s=9.0,
        measurements=tuple(measurements),
        samples={
            "latency_ms": taken,
            "throughput_round_ms": taken[:20],
            "memory_timeline_s": np.linspace(0, 0.2, 60),
            "memory_timeline_bytes": peak_bytes * (0.9 + 0.1 * np.sin(np.linspace(0, 9, 60)) ** 2),
        },
        facts={
            "row": model,
            "role": "model",
            "model": model,
            "modality": modality,
            "model_task": model_task,
            "item": item,
            "weights": "random",
            "device": device,
            "precision": precision,
            "backend": backend,
            "batch_size": batch_size,
            "shape": {
                "sequence_length": 128 if modality == "text" else None,
                "image_size": 224 if modality in {"vision", "multimodal"} else None,
                "audio_s": 5.0 if modality == "speech" else None,
                "new_tokens": 16 if generates else None,
            },
            "stopped": "precise",
            "same_answer": True if error is None else error <= tolerance,
            "attention": "sdpa",
            "inputs": "random token ids",
            **facts,
        },
        environment={
            **machine,
            "precision": precision,
            "backend": backend,
            "batch_size": batch_size,
            "input_shape": {"input_ids": [batch_size, 128]},
            "comparability_key": key,
            "conditions": {"foreign_load_cores": 0.02 + 0.01 * attempt, "cpu_mhz_before": 2450.0},
        },
    )


def _others(median_ms: float, batch: int, peak: float, model: float) -> tuple[Measurement, ...]:
    flops = 22.3e9
    return (
        Measurement(name="throughput_items_per_s", value=1000 * batch / median_ms, unit="items/s"),
        Measurement(name="load_s", value=0.8, unit="s"),
        Measurement(name="first_call_ms", value=3 * median_ms, unit="ms"),
        Measurement(name="preprocess_ms", value=0.1 * median_ms, unit="ms"),
        Measurement(
            name="transfer_ms", value=None, unit="ms", reason="nothing is transferred on a CPU"
        ),
        Measurement(name="postprocess_ms", value=0.02 * median_ms, unit="ms"),
        Measurement(name="peak_memory_bytes", value=peak, unit="bytes"),
        Measurement(name="activation_memory_bytes", value=0.05 * peak, unit="bytes"),
        Measurement(name="model_bytes", value=model, unit="bytes"),
        Measurement(name="parameters", value=model / 4),
        Measurement(name="flops", value=flops),
        Measurement(name="macs", value=flops / 2, unit="MACs"),
        Measurement(name="utilisation", value=0.42),
        Measurement(
            name="energy_per_item_j",
            value=None,
            unit="J",
            reason="no counter of energy can be read here",
        ),
    )


def _generation(median_ms: float) -> tuple[Measurement, ...]:
    step = 0.2 * median_ms
    return (
        Measurement(name="prefill_ms", value=median_ms, unit="ms"),
        Measurement(name="decode_ms_per_token", value=step, unit="ms"),
        Measurement(
            name="generated_tokens_per_s",
            value=16_000 / (median_ms + 15 * step),
            unit="tokens/s",
        ),
    )


def _real_time(median_ms: float) -> tuple[Measurement, ...]:
    return (Measurement(name="real_time_factor", value=median_ms / 1000 / 5),)


def failed_cell(
    model: str = "facebook/opt-30b",
    *,
    status: Status = Status.OUT_OF_MEMORY,
    reason: str = "asked for 112 GiB, 15.6 GiB are free <b>&</b>",
    **options: Any,
) -> RunRecord:
    """A cell that left no number."""
    good = fake_cell(model, **options)
    facts = {k: v for k, v in good.facts.items() if k not in {"shape", "stopped", "same_answer"}}
    return RunRecord(
        trial_id=good.trial_id,
        trial=good.trial,
        status=status,
        reason=reason,
        started_at=WHEN,
        duration_s=2.0,
        facts=facts,
    )


def fake_sweep() -> list[RunRecord]:
    """Four modalities, two precisions, one failure: what most reports hold."""
    busy = "other processes used {} of 2 cores ({})"
    return [
        fake_cell(median_ms=12.0),
        fake_cell(median_ms=6.8, precision="bf16", error=0.004),
        fake_cell(
            "openai-community/gpt2",
            median_ms=21.0,
            generates=True,
            peak_bytes=810e6,
            model_bytes=498e6,
            contended=busy.format("0.31", "chromium 0.3"),
        ),
        fake_cell(
            "openai-community/gpt2",
            median_ms=11.0,
            precision="bf16",
            error=0.21,
            generates=True,
            peak_bytes=560e6,
            model_bytes=249e6,
        ),
        fake_cell(
            "distilbert/distilbert-base-uncased",
            median_ms=6.1,
            calls=30,
            model_bytes=265e6,
            peak_bytes=430e6,
            contended=busy.format("0.74", "python 0.7"),
        ),
        fake_cell(
            "google/vit-base-patch16-224",
            "vision",
            median_ms=88.0,
            model_bytes=346e6,
            peak_bytes=700e6,
        ),
        fake_cell(
            "timm/mobilenetv3_small_100.lamb_in1k",
            "vision",
            median_ms=3.4,
            model_bytes=10e6,
            peak_bytes=300e6,
        ),
        fake_cell("openai/whisper-tiny", "speech", median_ms=160.0, generates=True),
        fake_cell("openai/clip-vit-base-patch32", "multimodal", median_ms=45.0),
        failed_cell(),
    ]
