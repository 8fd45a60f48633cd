"""`candlemark fuse`: train models of text and chart, hold them against one another, score them.

candlemark dataset build --symbol BTCUSDT --label direction --out data/btc
candlemark fuse train --data-dir data/btc --output models/btc
candlemark fuse compare --data-dir data/btc
candlemark fuse evaluate models/btc --data-dir data/btc
candlemark fuse predict models/btc --symbol BTCUSDT
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from candlemark.cli import fuse_predict
from candlemark.cli.bench import show_finished
from candlemark.cli.options import AsJson, OutputDir, Resume, whole_numbers, words

if TYPE_CHECKING:
    from candlemark.benchmark.fusion.config import FusionBenchmarkConfig
    from candlemark.benchmark.fusion.evaluate import Evaluation
    from candlemark.hub.client import Hub
    from candlemark.hub.publish import Pushed
    from candlemark.launch.suite import FinishedRun
    from candlemark.records import RunRecord

app = typer.Typer(
    help="Text and chart to direction and next close: train, compare, evaluate, predict.",
    no_args_is_help=True,
)

app.command("predict")(fuse_predict.predict)

DataDir = Annotated[
    Path,
    typer.Option("--data-dir", help="A dataset: candlemark dataset build --label direction."),
]
TextEncoder = Annotated[
    str, typer.Option(help="Id on the Hub, a local folder, or tiny:bert (small, random).")
]
ImageEncoder = Annotated[
    str,
    typer.Option(help="Id on the Hub, a local folder, or tiny:resnet, tiny:vit (small, random)."),
]
Weights = Annotated[str, typer.Option(help="Of the encoders: pretrained or random.")]
Caption = Annotated[
    str,
    typer.Option(help="The text: window (the whole window) or classic (the last candle)."),
]
MaxTokens = Annotated[
    int, typer.Option(help="A caption with more tokens is an error; none is ever cut.")
]
BatchSize = Annotated[int, typer.Option(help="Windows a step.")]
Epochs = Annotated[int, typer.Option(help="Epochs at most; training stops early.")]
Rate = Annotated[
    float | None,
    typer.Option(
        "--lr",
        help="Peak learning rate; by default 5e-5 where pretrained encoders learn, 2e-4 with "
        "--lora-rank, else 1e-3.",
    ),
]
Schedule = Annotated[str, typer.Option(help="How the rate falls: cosine or linear.")]
Accumulation = Annotated[
    int, typer.Option("--accumulation-steps", help="Batches whose gradients make one update.")
]
Precision = Annotated[str, typer.Option(help="fp32, bf16 or fp16.")]
Freeze = Annotated[
    bool,
    typer.Option("--freeze", help="Keep the encoders as they are; features are computed once."),
]
LoraRank = Annotated[
    int, typer.Option(help="Above 0 the encoders learn low-rank updates only (extra lora).")
]
Patience = Annotated[
    int, typer.Option(help="Epochs without a better validation loss before stopping.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, mps or xpu.")]
Timeout = Annotated[
    float | None, typer.Option(help="Seconds a trial may take; by default no limit.")
]

RATE_OF_PRETRAINED, RATE_OF_LOW_RANK, RATE_OF_NEW = 5e-5, 2e-4, 1e-3
"""What is learnt from little or nothing bears larger steps than what is to be kept."""


@app.command()
def train(
    data_dir: DataDir,
    inputs: Annotated[
        str, typer.Option(help="What it is shown: both, image, text or numbers.")
    ] = "both",
    fusion: Annotated[
        str,
        typer.Option(help="text_to_image, image_to_text, both_ways, gated or late."),
    ] = "text_to_image",
    text_encoder: TextEncoder = "bert-base-uncased",
    image_encoder: ImageEncoder = "google/vit-base-patch16-224",
    weights: Weights = "pretrained",
    caption: Caption = "window",
    max_tokens: MaxTokens = 128,
    batch_size: BatchSize = 32,
    epochs: Epochs = 10,
    lr: Rate = None,
    schedule: Schedule = "cosine",
    accumulation_steps: Accumulation = 1,
    precision: Precision = "fp32",
    freeze: Freeze = False,
    lora_rank: LoraRank = 0,
    patience: Patience = 5,
    seed: Annotated[int, typer.Option(min=0, help="Of weights and training.")] = 0,
    device: Device = "auto",
    timeout: Timeout = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", help="Folder of the model; default: OUTPUT_DIR/models/..."),
    ] = None,
    pytorch_bin: Annotated[
        bool, typer.Option("--pytorch-bin", help="Write pytorch_model.bin as well.")
    ] = False,
    push_to_hub: Annotated[
        bool, typer.Option("--push-to-hub", help="Publish the model when it is trained.")
    ] = False,
    hub_model_id: Annotated[
        str | None, typer.Option("--hub-model-id", help="user/name, for --push-to-hub.")
    ] = None,
    private: Annotated[
        bool, typer.Option("--private", help="A repository that is new is private.")
    ] = False,
    create_pr: Annotated[
        bool, typer.Option("--create-pr", help="Publish as a pull request.")
    ] = False,
    token: Annotated[
        str | None, typer.Option("--token", help="For the Hub; better: the variable HF_TOKEN.")
    ] = None,
    output_dir: OutputDir = Path("benchmarks"),
    resume: Resume = True,
    json: AsJson = False,
) -> None:
    """Train one model, beside baselines on the same windows, and keep it as a folder.

    A run that was interrupted goes on where it was when the same command is given again. On
    several devices: accelerate launch $(which candlemark) fuse train ...

    - `candlemark fuse train --data-dir data/btc --output models/btc`
    - `candlemark fuse train --data-dir data/btc --text-encoder tiny:bert
      --image-encoder tiny:vit --weights random --epochs 2`
    - `candlemark fuse train --data-dir data/btc --inputs image --freeze`
    - `candlemark fuse train --data-dir data/btc --push-to-hub --hub-model-id me/btc-fusion`
    """
    from candlemark.app.space import write_space
    from candlemark.launch.fusion import run_fusion
    from candlemark.launch.several import is_follower

    config = _config(
        (data_dir,),
        model={
            "text_encoder": text_encoder,
            "image_encoder": image_encoder,
            "weights": weights,
            "caption": caption,
            "max_tokens": max_tokens,
            "lora_rank": lora_rank,
        },
        training={
            "batch_size": batch_size,
            "epochs": epochs,
            "learning_rate": lr,
            "schedule": schedule,
            "accumulation_steps": accumulation_steps,
            "precision": precision,
            "mode": "frozen" if freeze else "full",
            "patience": patience,
        },
        inputs=(inputs,),
        fusions=(fusion,),
        controls=(),
        seeds=(seed,),
        device=device,
        timeout_s=timeout,
        keep_models=True,
    )
    wanted = _wants_push(push_to_hub, hub_model_id) and not is_follower()
    hub = _hub_for(hub_model_id, token) if wanted else None
    finished = run_fusion(
        config, output_dir=output_dir, resume=resume, model_dir=output, pickle=pytorch_bin
    )
    if is_follower():
        return
    record = _trained(finished)
    folder = output or output_dir / "models" / str(record.facts["model_dir"])
    write_space(folder)
    pushed = (
        None
        if hub is None
        else _push(folder, str(hub_model_id), hub, private=private, create_pr=create_pr)
    )
    lines = [f"model:   {folder}"]
    if pushed is not None:
        lines.append(f"hub:     {pushed.pull_request or pushed.url}")
    lines.append(f"next:    candlemark fuse predict {folder} --symbol {_symbol(data_dir)}")
    show_finished(
        finished,
        output_dir,
        prefix="fuse",
        json=json,
        lines=lines,
        more={
            "model": str(folder),
            "trial_id": record.trial_id,
            "pushed": None if pushed is None else pushed.to_dict(),
        },
    )


@app.command()
def compare(
    data_dir: Annotated[
        list[Path],
        typer.Option("--data-dir", help="A dataset; repeat it for a table of each."),
    ],
    inputs: Annotated[
        list[str] | None,
        typer.Option(help="both, image, text, numbers; by default all. Separate by commas."),
    ] = None,
    fusion: Annotated[
        list[str] | None,
        typer.Option(
            help="text_to_image (default), image_to_text, both_ways, gated, late; or all."
        ),
    ] = None,
    text_encoder: TextEncoder = "bert-base-uncased",
    image_encoder: ImageEncoder = "google/vit-base-patch16-224",
    weights: Weights = "pretrained",
    caption: Caption = "window",
    max_tokens: MaxTokens = 128,
    batch_size: BatchSize = 32,
    epochs: Epochs = 10,
    lr: Rate = None,
    schedule: Schedule = "cosine",
    accumulation_steps: Accumulation = 1,
    precision: Precision = "fp32",
    freeze: Freeze = False,
    lora_rank: LoraRank = 0,
    patience: Patience = 5,
    seeds: Annotated[str, typer.Option(help="One training each, e.g. 0,1,2.")] = "0",
    controls: Annotated[
        bool,
        typer.Option(
            "--controls/--no-controls",
            help="Also train on shuffled labels, and of forecasts on a random walk.",
        ),
    ] = True,
    device: Device = "auto",
    timeout: Timeout = None,
    keep_models: Annotated[
        bool, typer.Option("--keep-models", help="Keep what is trained in OUTPUT_DIR/models.")
    ] = False,
    output_dir: OutputDir = Path("benchmarks"),
    resume: Resume = True,
    json: AsJson = False,
) -> None:
    """Does the text help? Do the pixels? Every input by itself and together, with controls.

    - `candlemark fuse compare --data-dir data/btc`
    - `candlemark fuse compare --data-dir data/btc --fusion all --seeds 0,1,2`
    - `candlemark fuse compare --data-dir data/btc --inputs both,text --text-encoder tiny:bert
      --image-encoder tiny:vit --weights random --epochs 2`
    """
    from typing import get_args

    from candlemark.launch.fusion import run_fusion
    from candlemark.launch.several import is_follower
    from candlemark.models.fusion.spec import Fusion, Inputs

    ways = words(fusion) or ["text_to_image"]
    config = _config(
        tuple(data_dir),
        model={
            "text_encoder": text_encoder,
            "image_encoder": image_encoder,
            "weights": weights,
            "caption": caption,
            "max_tokens": max_tokens,
            "lora_rank": lora_rank,
        },
        training={
            "batch_size": batch_size,
            "epochs": epochs,
            "learning_rate": lr,
            "schedule": schedule,
            "accumulation_steps": accumulation_steps,
            "precision": precision,
            "mode": "frozen" if freeze else "full",
            "patience": patience,
        },
        inputs=tuple(words(inputs)) or get_args(Inputs),
        fusions=get_args(Fusion) if ways == ["all"] else tuple(ways),
        controls=("shuffled_labels", "random_walk") if controls else (),
        seeds=whole_numbers(seeds),
        device=device,
        timeout_s=timeout,
        keep_models=keep_models,
    )
    finished = run_fusion(config, output_dir=output_dir, resume=resume)
    if is_follower():
        return
    lines = [f"models:  {output_dir / 'models'}"] if keep_models else []
    show_finished(finished, output_dir, prefix="fuse", json=json, lines=lines)


@app.command()
def evaluate(
    model: Annotated[str, typer.Argument(help="A model folder, or an id on the Hub.")],
    data_dir: DataDir,
    split: Annotated[str, typer.Option(help="test, validation or train.")] = "test",
    device: Device = "auto",
    json: AsJson = False,
) -> None:
    """Score a trained model on a dataset, beside persistence, with intervals.

    On the data that it was trained on, the test split gives the scores of its record again.

    - `candlemark fuse evaluate models/btc --data-dir data/btc`
    - `candlemark fuse evaluate models/btc --data-dir data/eth --json`
    """
    from typing import cast, get_args

    from candlemark.benchmark.fusion.evaluate import Split
    from candlemark.benchmark.fusion.evaluate import evaluate as score
    from candlemark.cli.output import print_json
    from candlemark.errors import ConfigError

    if split not in get_args(Split):
        raise ConfigError(f"--split '{split}' is not known; allowed: {', '.join(get_args(Split))}")
    found = score(model, data_dir, split=cast("Split", split), device=device)
    if json:
        print_json(found.to_dict())
        return
    _print_scores(found)


def _config(
    data_dirs: Sequence[Path],
    *,
    model: dict[str, Any],
    training: dict[str, Any],
    **fields: Any,
) -> FusionBenchmarkConfig:
    """One complete config of what the flags said; ConfigError names what does not fit."""
    from candlemark.benchmark.fusion.config import FusionBenchmarkConfig
    from candlemark.config import parse
    from candlemark.errors import ConfigError

    frozen, rank = training["mode"] == "frozen", model["lora_rank"]
    if frozen and rank:
        raise ConfigError(
            f"--freeze keeps the encoders as they are and --lora-rank {rank} teaches them; "
            "leave one of them out"
        )
    if training["learning_rate"] is None:
        learns_pretrained = model["weights"] == "pretrained" and not frozen
        rate = RATE_OF_PRETRAINED if learns_pretrained else RATE_OF_NEW
        training = {**training, "learning_rate": RATE_OF_LOW_RANK if rank else rate}
    return parse(
        FusionBenchmarkConfig,
        {"data_dirs": tuple(data_dirs), "model": model, "training": training, **fields},
        where="fuse",
    )


def _wants_push(push_to_hub: bool, hub_model_id: str | None) -> bool:
    """ConfigError unless both or neither are given."""
    from candlemark.errors import ConfigError

    if push_to_hub and hub_model_id is None:
        raise ConfigError("--push-to-hub needs a name for the model; add --hub-model-id USER/NAME")
    if hub_model_id is not None and not push_to_hub:
        raise ConfigError(
            f"--hub-model-id {hub_model_id} publishes nothing by itself; add --push-to-hub"
        )
    return push_to_hub


def _hub_for(repo_id: str | None, token: str | None) -> Hub:
    """A Hub that answers and knows who asks, before anything is trained for it."""
    from candlemark.hub.client import Hub

    hub = Hub(token=token)
    hub.user()  # a push without a token would fail when all else is done
    hub.head(hub.full_id(str(repo_id)), "model")
    return hub


def _push(folder: Path, repo_id: str, hub: Hub, *, private: bool, create_pr: bool) -> Pushed:
    """Publish; HubError also says that the model is kept, and how to publish it later."""
    from candlemark.errors import HubError
    from candlemark.hub.publish import push_model

    try:
        return push_model(folder, repo_id, hub=hub, private=private, create_pr=create_pr)
    except HubError as error:
        raise HubError(
            f"{error}; the model is kept: candlemark hub push-model {folder} {repo_id}"
        ) from error


def _trained(finished: FinishedRun) -> RunRecord:
    """The record of the one model; ModelError with its reason where it has none to keep."""
    from candlemark.errors import ModelError
    from candlemark.records import Status

    (record,) = (one for one in finished.records if one.facts["role"] == "model")
    if record.status is not Status.OK:
        what = "" if record.status is Status.REFUSED else f"training {record.status.value}: "
        raise ModelError(f"{what}{record.reason}")
    return record


def _symbol(data_dir: Path) -> str:
    """What `fuse predict --symbol` takes for the market of a dataset."""
    from shlex import quote

    from candlemark.candles.source import SYNTHETIC
    from candlemark.dataset.manifest import read_manifest

    candles = read_manifest(data_dir).config.candles
    if candles.kind in SYNTHETIC:
        return candles.kind
    return quote(str(candles.path)) if candles.kind == "file" else candles.symbols[0]


def _print_scores(found: Evaluation) -> None:
    """The model and persistence side by side, and what must be said of these numbers."""
    from rich.table import Table

    from candlemark.cli.output import table_console
    from candlemark.report.format import measured, title_of

    dataset = found.dataset
    typer.echo(
        f"{found.model}: {found.row}, on the {found.split} split of {dataset.path}: "
        f"{len(found.scored.predictions.target):,} windows, label {dataset.config.label.name} "
        f"({dataset.label_kind})"
    )
    table = Table("score", "model", "persistence", box=None)
    beside = {one.name: one for one in found.persistence.measurements}
    for one in found.scored.measurements:
        table.add_row(title_of(one.name), measured(one), measured(beside.get(one.name)))
    table_console().print(table)
    if found.coverage is not None and found.level is not None:
        typer.echo(f"its {found.level:.0%} interval held {found.coverage:.1%} of the next closes")
    if found.seen is not None:
        typer.echo(f"these scores are no test: {found.seen}")
    if found.changes is not None:
        same = "the same as training recorded, to the last digit"
        different = f"{len(found.changes)} scores differ from those that training recorded"
        typer.echo(different if found.changes else same)
