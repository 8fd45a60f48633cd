"""`candlemark segment`: which segmentation model is right about one's own scans, and how sure."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from candlemark.cli.options import AsJson, Resume, whole_numbers, words

if TYPE_CHECKING:
    from rich.console import Console

    from candlemark.benchmark.segmentation.config import SegmentationConfig
    from candlemark.scans.pairs import Pairing

EXIT_NOTHING_ANSWERED = 1
PIPE_WIDTH = 200
"""Of what is no terminal: a file or a pipe has no width that a table must fit."""
SEVERAL = ("--hf-models", "--model", "--metric")
"""Flags that take several words, as scripts write them: --hf-models A B C."""
SHOWN_MATCHES = 10
"""Matches that are printed; --verbose prints them all. Misses and doubts always are."""


class SeveralWords(TyperCommand):
    """A command whose SEVERAL take words by commas, by repeats, or up to the next flag."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As any command, each of those words behind a flag of its own."""
        return super().parse_args(ctx, one_each(args))


def one_each(args: Sequence[str]) -> list[str]:
    """`--hf-models A B` as `--hf-models A --hf-models B`; what stands before a flag stays."""
    found: list[str] = []
    flag, several = "", False
    for place, word in enumerate(args):
        if word == "--":
            return [*found, *args[place:]]
        if word.startswith("-"):
            flag, _, value = word.partition("=")
            several = bool(value)
        elif flag in SEVERAL:
            if several:
                found.append(flag)
            several = True
        found.append(word)
    return found


def segment(
    image_dir: Annotated[
        Path | None, typer.Option("--image-dir", help="Scans: NIfTI, NRRD, DICOM, PNG, TIFF, NPY.")
    ] = None,
    seg_dir: Annotated[
        Path | None, typer.Option("--seg-dir", help="Their reference masks, paired by case id.")
    ] = None,
    pairs: Annotated[
        Path | None, typer.Option(help="A CSV of case,image,reference instead of folders.")
    ] = None,
    phantoms: Annotated[
        int | None, typer.Option(min=1, help="Make so many scans of known shapes instead.")
    ] = None,
    max_cases: Annotated[
        int | None, typer.Option("--max-cases", min=0, help="The first so many cases; 0: all.")
    ] = None,
    hf_models: Annotated[
        list[str] | None,
        typer.Option(
            "--hf-models",
            metavar="ID[=PROTOCOL]",
            help="Ids on the Hub, local folders or tiny:NAME, by commas or spaces; protocols: "
            "native_head, linear_probe, upernet_frozen, clip_dense, sam_auto, sam_oracle_box, "
            "sam_oracle_point, none.",
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            metavar="SOURCE",
            help="Your own: package.module:function, a .onnx or .pt file, a folder of finished "
            "masks, or a command in quotes with {input} and {output}. Repeat it for several.",
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="A YAML or JSON file; flags change what it says.")
    ] = None,
    classes: Annotated[
        str | None, typer.Option(help="Names by label of the references, e.g. 1=liver,2=tumor.")
    ] = None,
    binary: Annotated[
        bool, typer.Option("--binary", help="Take every label above 0 as one class.")
    ] = False,
    geometry: Annotated[
        str | None,
        typer.Option(help="Of a reference on another grid: refuse (default) or resample."),
    ] = None,
    metric: Annotated[
        list[str] | None, typer.Option(help="Columns, e.g. dice,hd95; the first one orders rows.")
    ] = None,
    convention: Annotated[
        str | None,
        typer.Option(
            help="candlemark, monai, metrics-reloaded, nnunet, torchmetrics, surface-distance; "
            "nothing is run again to see another."
        ),
    ] = None,
    controls: Annotated[
        bool | None,
        typer.Option(
            "--controls/--no-controls", help="Rows that no model may lose to; on by default."
        ),
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="Of --hf-models: pretrained, random, or a local path.")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="That probes of --hf-models train.")
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(min=2, help="Of probes: each case by a head that learnt from other folds."),
    ] = None,
    seeds: Annotated[
        str | None, typer.Option(help="Of what learns or draws by chance, e.g. 0,1,2.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1, mps, xpu.")] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Slices or patches in a network at once.")
    ] = None,
    repeats: Annotated[
        int | None,
        typer.Option(min=0, help="Timed passes a case after one that warms up; 0: one, as asked."),
    ] = None,
    timeout: Annotated[
        float | None, typer.Option(help="Seconds a row may take, and a command for one case.")
    ] = None,
    keep_predictions: Annotated[
        bool | None,
        typer.Option(
            "--keep-predictions/--no-keep-predictions", help="Keep each mask; on by default."
        ),
    ] = None,
    overlays: Annotated[
        bool | None,
        typer.Option(
            "--overlays/--no-overlays", help="Draw best, median and worst cases; on by default."
        ),
    ] = None,
    page: Annotated[
        bool | None,
        typer.Option(
            "--page/--no-page", help="Write the HTML page with the slice viewer; on by default."
        ),
    ] = None,
    output_dir: Annotated[
        Path | None, typer.Option("--output-dir", help="By default benchmarks.")
    ] = None,
    resume: Resume = True,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Print every pair of files and every case.")
    ] = False,
    json: AsJson = False,
) -> None:
    """Hold segmentation models against your own masks, with controls, intervals and honest times.

    Each model is asked under a declared protocol, every case counts, and what fails stays in the
    table. The same command goes on where an interrupted one was.

    - `candlemark segment --phantoms 6 --output-dir /tmp/segment`
    - `candlemark segment --image-dir images --seg-dir masks --model nnunet_out
      --model mypackage.model:segment`
    - `candlemark segment --config segment.yaml --hf-models nvidia/mit-b0=linear_probe
      --seeds 0,1,2`
    """
    asked = resolve(
        {
            "dataset": {
                "image_dir": image_dir,
                "seg_dir": seg_dir,
                "pairs": pairs,
                "phantoms": phantoms,
                "classes": read_classes(classes),
                "binary": binary or None,
                "geometry": geometry,
                "folds": folds,
            },
            "huggingface_models": hub_models(hf_models, weights=weights, epochs=epochs),
            "models": [{"source": source} for source in model or []] or None,
            "controls": _controls(controls),
            "benchmark": {
                "max_cases": max_cases,
                "metrics": named(metric, "--metric", "metric", "dice"),
            },
            "performance": {
                "device": device,
                "batch_size": batch_size,
                "repeats": repeats,
                "timeout_s": timeout,
            },
            "reporting": {
                "convention": convention,
                "overlays": overlays,
                "page": page,
                "keep_predictions": keep_predictions,
            },
            "seeds": None if seeds is None else whole_numbers(seeds),
        },
        config=config,
    )
    segment_and_show(asked, output_dir, resume=resume, verbose=verbose, json=json)


def _controls(asked: bool | None) -> tuple[str, ...] | None:
    """Every control, none, or (None) those of the config."""
    from candlemark.benchmark.segmentation.config import SegmentationConfig

    if asked is None:
        return None
    return tuple(SegmentationConfig.model_fields["controls"].default) if asked else ()


def resolve(flags: Mapping[str, Any], *, config: Path | None = None) -> SegmentationConfig:
    """One complete config: a file, changed by the flags that were given (not None).

    Models named by flags stand beside those of the file. Scans named by flags replace the file's.

    Raises ConfigError: nothing names scans, or a value does not fit.
    """
    from candlemark.benchmark.segmentation.config import SegmentationConfig
    from candlemark.config import parse, read_mapping
    from candlemark.errors import ConfigError

    base = {} if config is None else read_mapping(config)
    merged: dict[str, Any] = dict(base)
    for name, value in flags.items():
        if isinstance(value, Mapping):
            given = {key: item for key, item in value.items() if item is not None}
            if not given:
                continue
            before = dict(base.get(name) or {}) if isinstance(base.get(name), Mapping) else {}
            if name == "dataset" and given.keys() & {"image_dir", "seg_dir", "pairs", "phantoms"}:
                for key in ("image_dir", "seg_dir", "pairs", "phantoms"):
                    before.pop(key, None)
            merged[name] = {**before, **given}
        elif isinstance(value, list):
            listed = base.get(name) or []
            merged[name] = [*listed, *value] if isinstance(listed, list) else listed
        elif value is not None:
            merged[name] = value
    if merged.get("dataset") is None:
        raise ConfigError(
            "no scans are named; give --image-dir and --seg-dir, or --pairs pairs.csv, or try: "
            "candlemark segment --phantoms 6"
        )
    return parse(SegmentationConfig, merged, where=str(config) if config else "segment")


def named(values: list[str] | None, flag: str, kind: str, example: str) -> list[str] | None:
    """The words behind a flag; None where it is not given.

    Raises ConfigError: it is given, and names nothing.
    """
    from candlemark.errors import ConfigError

    found = words(values)
    if values and not found:
        raise ConfigError(f"{flag} '{values[0]}' names no {kind}; write one, such as {example}")
    return found or None


def hub_models(
    names: list[str] | None, *, weights: str | None, epochs: int | None
) -> list[dict[str, Any]] | None:
    """`["a/b=linear_probe,c/d"]` as entries of `huggingface_models`; None where none are named.

    Raises ConfigError: a word names no model or no protocol, or --weights or --epochs stand
    without a model that they are of.
    """
    from candlemark.benchmark.segmentation.protocols import LEARNING
    from candlemark.errors import ConfigError

    found = []
    for word in named(names, "--hf-models", "model", "nvidia/mit-b0") or ():
        name, equals, protocol = word.partition("=")
        if equals and not protocol:
            raise ConfigError(
                f"--hf-models '{word}' names no protocol; write one after =, or leave = out"
            )
        entry: dict[str, Any] = {"model_id": name}
        if protocol:
            entry["protocol"] = protocol
        if weights is not None:
            entry["weights"] = weights
        if epochs is not None and protocol in {"", *LEARNING}:
            entry["epochs"] = epochs
        found.append(entry)
    if weights is not None and not found:
        raise ConfigError("--weights is of models named with --hf-models, and none is named")
    if epochs is not None and not any("epochs" in entry for entry in found):
        raise ConfigError(
            "--epochs is of probes, and none is named; such as --hf-models "
            "microsoft/resnet-50=linear_probe"
        )
    return found or None


def read_classes(text: str | None) -> dict[int, str] | None:
    """`1=liver,2=tumor` as {1: "liver", 2: "tumor"}; ConfigError for anything else."""
    from candlemark.errors import ConfigError

    if text is None:
        return None
    found: dict[int, str] = {}
    for word in words([text]):
        label, equals, name = word.partition("=")
        if not equals or not label.strip().isdecimal() or not name.strip() or int(label) == 0:
            raise ConfigError(
                f"--classes '{text}' is not understood; write labels above 0 and their names, "
                "such as 1=liver,2=tumor"
            )
        if int(label) in found:
            raise ConfigError(f"--classes '{text}' names label {int(label)} twice")
        found[int(label)] = name.strip()
    return found


def segment_and_show(
    config: SegmentationConfig,
    output_dir: Path | None,
    *,
    resume: bool = True,
    verbose: bool = False,
    json: bool = False,
) -> None:
    """Pair, run, report: what `segment` and `run` share."""
    from candlemark.benchmark.segmentation.prepare import find_cases
    from candlemark.cli.output import print_json
    from candlemark.launch.segmentation import output_folder, run_segmentation
    from candlemark.launch.segmentation_report import show_report, write_report

    folder = output_folder(config, output_dir)
    pairing = find_cases(config.dataset, folder, max_cases=config.benchmark.max_cases)
    if not json:
        show_pairs(pairing, whole=verbose)
    finished = run_segmentation(config, output_dir=folder, resume=resume, pairing=pairing)
    report = write_report(finished, config, folder)
    if json:
        left_out = [asdict(line) for line in pairing.table() if line.state != "match"]
        told = {"suite_id": finished.suite_id, "ran": finished.ran, "left_out": left_out}
        print_json({**told, **report.to_dict()})
    else:
        show_report(report, report_console(), cases=verbose)
        for line in report.lines():
            typer.echo(line)
        if not finished.ran:
            typer.echo("every trial had been finished before; --no-resume runs them again")
    answered = any(case["outcome"] == "ok" for one in finished.records for case in one.cases)
    if not answered:
        if not json:
            typer.echo(
                "no model answered: mend what is told above, and the same command asks again"
            )
        raise typer.Exit(EXIT_NOTHING_ANSWERED)


def report_console() -> Console:
    """As wide as the terminal; into a file or a pipe wide enough for every column."""
    from rich.console import Console

    console = Console()
    if console.is_terminal or os.environ.get("COLUMNS"):
        return console
    return Console(width=PIPE_WIDTH)


def show_pairs(pairing: Pairing, *, whole: bool) -> None:
    """The table of matches, misses and doubts."""
    from rich.table import Table

    from candlemark.cli.output import table_console

    lines = pairing.table()
    matches = [line for line in lines if line.state == "match"]
    others = [line for line in lines if line.state != "match"]
    shown = matches if whole or len(matches) <= SHOWN_MATCHES else matches[:SHOWN_MATCHES]
    table = Table("case", "pair", "image", "reference", "note", box=None)
    for line in (*shown, *others):
        table.add_row(line.case, line.state, line.image or "-", line.reference or "-", line.note)
    table_console().print(table)
    hidden = len(matches) - len(shown)
    more = f" ({hidden} not shown; --verbose shows them)" if hidden else ""
    count = "1 case" if len(matches) == 1 else f"{len(matches)} cases"
    typer.echo(f"{count}{more}{_left_out(pairing)}\n")


def _left_out(pairing: Pairing) -> str:
    """How many files are no part of the comparison, behind a comma; "" where all are."""
    files = {*pairing.missing_reference.values(), *pairing.missing_image.values()}
    files.update(path for one in pairing.doubts for path in (*one.images, *one.references))
    if not files:
        return ""
    told, verb = ("1 file", "is") if len(files) == 1 else (f"{len(files)} files", "are")
    return f", {told} without a partner or in doubt, which {verb} left out"
