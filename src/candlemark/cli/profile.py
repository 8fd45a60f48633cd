"""`candlemark profile`: how fast, how heavy and how sure the inference of any model is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from candlemark.benchmark.inference.config import InferenceConfig
    from candlemark.launch.suite import FinishedRun
    from candlemark.records import RunRecord

Words = list[str] | None
"""An option that may be repeated, each time with several values between commas."""

EXIT_NOTHING_MEASURED = 1


def profile(
    models: Annotated[
        Words,
        typer.Argument(
            metavar="MODEL...",
            help="Ids on the Hub or of timm, local folders, tiny:NAME, or python:MODULE:FUNCTION.",
        ),
    ] = None,
    suite: Annotated[
        str | None,
        typer.Option(
            help="text, vision, speech, multimodal or charts; each as NAME-tiny with small models "
            "and no download; tiny is all four modalities."
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="A YAML or JSON file; flags change what it says.")
    ] = None,
    device: Annotated[Words, typer.Option(help="auto, cpu, cuda, cuda:1, mps, xpu.")] = None,
    batch_size: Annotated[Words, typer.Option(help="Items a call, e.g. 1,8,32.")] = None,
    sequence_length: Annotated[
        Words, typer.Option(help="Tokens, for models that read text.")
    ] = None,
    image_size: Annotated[
        int | None, typer.Option(help="Side of an image in pixels; by default the model's own.")
    ] = None,
    audio_seconds: Annotated[
        float | None, typer.Option(help="Length of a clip; by default the model's own.")
    ] = None,
    new_tokens: Annotated[
        int | None, typer.Option(help="Tokens that generating models are asked for.")
    ] = None,
    precision: Annotated[Words, typer.Option(help="fp32, tf32, fp16, bf16, int8.")] = None,
    backend: Annotated[Words, typer.Option(help="eager, compile, onnxruntime.")] = None,
    metric: Annotated[
        Words,
        typer.Option(
            help="latency, throughput, stages, memory, flops, energy, numerics, largest_batch; "
            "by default all but the last."
        ),
    ] = None,
    warmup: Annotated[
        float | None, typer.Option(help="Seconds of calls before the first sample.")
    ] = None,
    budget: Annotated[
        float | None, typer.Option(help="Seconds that timing one cell's latency may take.")
    ] = None,
    width: Annotated[
        str | None,
        typer.Option(help="Stop when the median's interval is that narrow, e.g. 2% or 0.02."),
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="pretrained, random (no download), or a local path.")
    ] = None,
    allow_pickle: Annotated[
        bool, typer.Option("--allow-pickle", help="Load weights that are no safetensors.")
    ] = False,
    threads: Annotated[
        int | None, typer.Option(help="Of torch on the CPU; by default one a physical core.")
    ] = None,
    seed: Annotated[Words, typer.Option(help="Of inputs and random weights, e.g. 0,1.")] = None,
    isolation: Annotated[
        str | None,
        typer.Option(help="A process for each cell, each model, or none: all share one."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes that load side by side; timed one by one.")
    ] = None,
    timeout: Annotated[float | None, typer.Option(help="Seconds a cell may take.")] = None,
    rerun: Annotated[
        bool, typer.Option("--rerun", help="Measure finished cells again, as one more attempt.")
    ] = False,
    only: Annotated[
        str | None, typer.Option(help="failed: run only the cells that ended badly.")
    ] = None,
    run_name: Annotated[
        str | None,
        typer.Option(help="Name to find these results by, e.g. main; by default the time."),
    ] = None,
    output_dir: Annotated[Path, typer.Option("--output-dir", help="Folder for results.")] = Path(
        "benchmarks"
    ),
    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object instead of tables.")
    ] = False,
) -> None:
    """Measure the inference of models: latency, throughput, memory, FLOPs, energy, numerics.

    - `candlemark profile --suite tiny`
    - `candlemark profile gpt2 bert-base-uncased --weights random --batch-size 1,8`
    - `candlemark profile timm/resnet50.a1_in1k --device cpu,cuda --precision fp32,bf16
      --backend eager,compile --run-name main`
    """
    from candlemark.errors import ConfigError

    timing = {"warmup_s": warmup, "budget_s": budget, "width": _share(width)}
    flags = {
        "models": _words(models),
        "devices": _words(device),
        "batch_sizes": _words(batch_size),
        "sequence_lengths": _words(sequence_length),
        "image_size": image_size,
        "audio_s": audio_seconds,
        "new_tokens": new_tokens,
        "precisions": _words(precision),
        "backends": _words(backend),
        "metrics": _words(metric),
        "weights": weights,
        "allow_pickle": allow_pickle or None,
        "threads": threads,
        "seeds": _words(seed),
        "isolation": isolation,
        "workers": workers,
        "timeout_s": timeout,
    }
    if only not in {None, "failed"}:
        raise ConfigError(f"--only '{only}' is not understood; allowed: --only failed")
    complete = resolve(flags, timing, suite=suite, config=config)
    measure_and_show(
        complete,
        output_dir,
        rerun=rerun,
        only_failed=only == "failed",
        run_name=run_name,
        json=json,
    )


def resolve(
    flags: Mapping[str, Any],
    timing: Mapping[str, Any],
    *,
    suite: str | None = None,
    config: Path | None = None,
) -> InferenceConfig:
    """One complete config: a file or a suite, changed by the flags that were given (not None).

    Raises ConfigError: both are named, or nothing names a model, or a value does not fit.
    """
    from candlemark.benchmark.inference import suites
    from candlemark.benchmark.inference.config import InferenceConfig
    from candlemark.config import parse, read_mapping
    from candlemark.errors import ConfigError

    if suite is not None and config is not None:
        raise ConfigError(f"--suite {suite} and --config {config} are both given; name one")
    base: dict[str, Any] = {}
    if config is not None:
        base = read_mapping(config)
    elif suite is not None:
        base = suites.suite(suite)
    given = {name: value for name, value in flags.items() if value is not None}
    timed = {name: value for name, value in timing.items() if value is not None}
    if timed:
        given["timing"] = {**_mapping(base.get("timing")), **timed}
    if not {**base, **given}.get("models"):
        raise ConfigError(
            "no model is named; name one or more, or a suite: candlemark profile --suite tiny"
        )
    return parse(InferenceConfig, {**base, **given}, where=str(config) if config else "profile")


def measure_and_show(
    config: InferenceConfig,
    output_dir: Path,
    *,
    rerun: bool = False,
    only_failed: bool = False,
    run_name: str | None = None,
    json: bool = False,
    again: str = "--rerun",
) -> None:
    """Run, then show: what `profile` and `run` share.

    again: the flag of the command that measures finished cells once more
    """
    from candlemark.cli.output import print_json
    from candlemark.launch.inference import run_inference
    from candlemark.records import Status

    finished = run_inference(
        config,
        output_dir=output_dir,
        resume=not rerun,
        only_failed=only_failed,
        run_name=run_name,
    )
    if json:
        print_json(_as_json(finished))
    else:
        _show(finished)
        typer.echo(f"\nresults: {finished.results_dir}")
        if finished.run is not None:
            typer.echo(f"run:     {finished.run}")
        elif only_failed:
            typer.echo("no cell has failed; nothing was run")
        else:
            typer.echo(f"every cell had been measured before; {again} measures them again")
    if not any(record.status is Status.OK for record in finished.records):
        raise typer.Exit(EXIT_NOTHING_MEASURED)


def _show(finished: FinishedRun) -> None:
    """The tables, with gains from every attempt that the store holds."""
    from candlemark.report.inference.cells import all_attempts
    from candlemark.report.inference.text import show_inference
    from candlemark.results.store import open_results

    with open_results(finished.results_dir, read_only=True) as results:
        attempts = all_attempts(results, finished.records)
    show_inference(finished.records, attempts=attempts)


def _as_json(finished: FinishedRun) -> dict[str, Any]:
    return {
        "suite_id": finished.suite_id,
        "run": finished.run,
        "ran": finished.ran,
        "results": str(finished.results_dir),
        "cells": [_cell_as_json(record) for record in finished.records],
    }


def _cell_as_json(record: RunRecord) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "trial_id": record.trial_id,
        "status": str(record.status),
        "reason": record.reason,
        "trial": dict(record.trial),
        "facts": dict(record.facts),
        "measurements": [asdict(measured) for measured in record.measurements],
        "comparability_key": record.environment.get("comparability_key"),
    }


def _words(values: Words) -> list[str] | None:
    """`["a,b", "c"]` as a, b, c; None where nothing was given."""
    if not values:
        return None
    return [word.strip() for value in values for word in value.split(",") if word.strip()]


def _share(text: str | None) -> float | None:
    """`2%` or `0.02` as 0.02; ConfigError for anything else."""
    from candlemark.errors import ConfigError

    if text is None:
        return None
    digits = text.strip().removesuffix("%")
    try:
        number = float(digits)
    except ValueError as error:
        raise ConfigError(
            f"--width '{text}' is not understood; write a share such as 2% or 0.02"
        ) from error
    return number / 100 if text.strip().endswith("%") else number


def _mapping(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}
