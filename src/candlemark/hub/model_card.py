"""The card of a model on the Hub: what it answers, what it scored, how it was trained, its limits.

    card = model_card(read_trained(folder), repo_id="me/btc-fusion", files=names)
    card.data["model-index"]           # evaluation results as the Hub reads them

Only numbers that may be quoted go into `model-index`: those with a verdict other than VALID, and
all scores of a split that leaks, stand in the text with the reason and nowhere else. The same
folder gives the same card.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import PurePath
from typing import Any

from candlemark.hub.cards import RESULTS_KEY, Card
from candlemark.hub.markdown import FORECASTS, code, count, escaped, interval, number, table, title
from candlemark.hub.trained import Run, Trained
from candlemark.metrics.catalog import METRICS
from candlemark.metrics.measures import MEASURES
from candlemark.records import Measurement, Verdict
from candlemark.report.format import title_of
from candlemark.report.settings import flatten

METRIC_TYPES = {
    "auroc": "roc_auc",
    "auprc": "average_precision",
    "mcc": "matthews_correlation",
    "brier": "brier_score",
    "ece": "expected_calibration_error",
    "mae_percent": "mae",
    "rmse_percent": "rmse",
}
"""The Hub's names of scores, where they differ from ours."""

_HEADLINES = ("auroc", "accuracy", "mase", "mae_percent", "directional_accuracy")
_READS = {
    "both": "a chart image and a text about it",
    "image": "a chart image",
    "text": "a text about a chart",
    "numbers": "the candles as numbers",
}
_PIPELINES = {
    "both": "image-classification",
    "image": "image-classification",
    "text": "text-classification",
    "numbers": "time-series-forecasting",
}


def model_card(
    trained: Trained,
    *,
    repo_id: str,
    files: Collection[str] = (),
    license_id: str | None = None,
) -> Card:
    """What the repository `repo_id` says about a model.

    files: names in the repository, for what can be loaded by name
    license_id: what its owner puts it under; None: nobody said
    """
    name = repo_id.rpartition("/")[2]
    sections = [
        f"# {name}",
        _what(trained),
        "## What its answer means",
        _limits(trained),
        "## Results",
        _results(trained),
        "## How it was trained",
        _training(trained),
        "## How to load it",
        _loading(repo_id, files),
    ]
    data = _front_matter(trained, name)
    if license_id is not None:
        data = {"license": license_id, **data}
    return Card(name="model", data=data, body="\n\n".join(sections) + "\n")


def _inputs(trained: Trained) -> str:
    return str(trained.config.get("inputs") or trained.fact("inputs") or "both")


def _is_recognition(trained: Trained) -> bool:
    return bool(trained.fact("label_kind") == "recognition")


def _front_matter(trained: Trained, name: str) -> dict[str, Any]:
    inputs = _inputs(trained)
    kind = trained.fact("label_kind")
    tags = ["candlemark", "candlestick", "finance", "chart-images"]
    tags += [str(tag) for tag in (trained.config.get("model_type"), kind) if tag]
    data: dict[str, Any] = {
        "library_name": "transformers",
        "pipeline_tag": _PIPELINES.get(inputs, "image-classification"),
        "language": ["en"],
        "tags": list(dict.fromkeys(tag.replace("_", "-") for tag in tags)),
    }
    results = evaluation_results(trained)
    if results:
        # Imported here: a dataset is published without it.
        from huggingface_hub.repocard_data import eval_results_to_model_index

        data[RESULTS_KEY] = eval_results_to_model_index(name, results)
    return data


def evaluation_results(trained: Trained) -> list[Any]:
    """The scores that may be quoted, as `huggingface_hub.EvalResult`."""
    from huggingface_hub import EvalResult

    run = trained.run
    if run is None or trained.fact("leaky_split"):
        return []
    label, kind = trained.fact("label") or "label", trained.fact("label_kind") or "unknown kind"
    dataset = str(trained.fact("dataset") or "unknown dataset")
    said = "recognition: the answer is visible" if _is_recognition(trained) else kind
    details = {
        "label": label,
        "label_kind": trained.fact("label_kind"),
        "content_hash": trained.fact("dataset_hash"),
    }
    return [
        EvalResult(
            task_type="time-series-forecasting"
            if name in FORECASTS
            else _PIPELINES.get(_inputs(trained), "image-classification"),
            task_name="Next close" if name in FORECASTS else f"{label} ({said})",
            dataset_type=_slug(dataset),
            dataset_name=dataset,
            dataset_split="test",
            dataset_args={key: value for key, value in details.items() if value is not None},
            metric_type=METRIC_TYPES.get(name, name),
            metric_name=_metric_title(m),
            metric_value=_short(m.value or 0.0),
            metric_args=_bounds(m),
        )
        for name in (*METRICS, *FORECASTS)
        if (m := run.get(name)) is not None and m.verdict is Verdict.VALID
    ]


def _metric_title(m: Measurement) -> str:
    return f"{title_of(m.name)}, % of the last close" if m.name.endswith("_percent") else title(m)


def _bounds(m: Measurement) -> dict[str, Any] | None:
    if m.low is None or m.high is None:
        return None
    bounds: dict[str, Any] = {
        "interval": [_short(m.low), _short(m.high)],
        "level": m.level,
        "method": "block bootstrap",
        "test_cases": m.sample_count,
    }
    return {key: value for key, value in bounds.items() if value is not None}


def _short(value: float) -> float:
    return float(f"{value:.6g}")


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "dataset"


def _what(trained: Trained) -> str:
    config, inputs = trained.config, _inputs(trained)
    classes = config.get("id2label") or {}
    names = ", ".join(f"{number} {name}" for number, name in classes.items())
    reads = _READS.get(inputs, inputs)
    answers = f"the classes {names}" if names else "classes"
    about = [f"It reads {reads} and answers with {answers} and a forecast of the next close."]
    parts = {"text": trained.fact("text_encoder"), "image": trained.fact("image_encoder")}
    weights = trained.fact("encoder_weights") or {}
    for part, encoder in parts.items():
        if encoder and inputs in ("both", part):
            began = weights.get(part) if isinstance(weights, dict) else None
            about.append(
                f"The {part} encoder is {code(_public(str(encoder)))}, which began from "
                f"{f'{began} weights' if began else 'weights that are not recorded'}."
            )
    if inputs == "both" and config.get("fusion"):
        about.append(f"The two meet by {code(config['fusion'])}.")
    about.append("Made with candlemark.")
    return " ".join(about)


def _public(name: str) -> str:
    """A Hub id as it is; of a folder its last name, for the rest is nobody's business."""
    path = PurePath(name)
    return path.name if path.is_absolute() or name.startswith((".", "~")) else name


def _limits(trained: Trained) -> str:
    label = trained.fact("label")
    kind = trained.fact("label_kind")
    lines = []
    asked = f"The label {code(label)}" if label else "Its label"
    if kind == "recognition":
        lines.append(
            f"**Recognition**: {asked[0].lower()}{asked[1:]} is visible in the picture. A score "
            "says that the model can read a chart, not that it can foresee one."
        )
    elif kind == "forecast":
        lines.append(
            f"**Forecast**: {asked[0].lower()}{asked[1:]} lies after the last candle that the "
            "model is shown."
        )
    else:
        lines.append("Whether its label is recognition or a forecast is **not recorded**.")
    if trained.fact("leaky_split"):
        lines.append("**The split is random and leaks**: its scores mean nothing.")
    market = {
        "planted": "The market is made by a formula with a signal planted in it: a score there "
        "says nothing about any real market.",
        "random_walk": "The market is a random walk, on which nothing can be foreseen.",
    }.get(str(trained.fact("market")))
    if market:
        lines.append(market)
    if seen := _seen(trained):
        lines.append(
            f"It was trained on {seen}; other markets, intervals, windows and styles were not "
            "tried."
        )
    returns = trained.config.get("returns")
    if isinstance(returns, dict) and returns.get("level"):
        lines.append(
            f"The interval of the next close is meant to hold {returns['level'] * 100:g} % of "
            "cases, worked out on the validation split; it holds less where the market changes."
        )
    lines.append("It is no advice to buy or sell; costs of trading are in no number here.")
    return "\n".join(f"- {line}" for line in lines)


def _seen(trained: Trained) -> str:
    """The charts that it knows: `charts of 30 candles of BTCUSDT 1h, drawn as candlestick, ...`."""
    chart, dataset = trained.config.get("chart"), trained.fact("dataset")
    if not isinstance(chart, dict) or not chart.get("window"):
        return ""
    text = f"charts of {chart['window']} candles{f' of {escaped(dataset)}' if dataset else ''}"
    style, shape = chart.get("style"), chart.get("image_shape")
    if isinstance(style, dict) and style.get("kind"):
        text += f", drawn as {code(style['kind'])}"
    if isinstance(shape, list) and len(shape) >= 2:
        text += f", {shape[1]} x {shape[0]} pixels"
    return text


def _results(trained: Trained) -> str:
    run = trained.run
    if run is None or not run.measurements:
        return "No score is recorded with this model."
    rows = [run, *trained.beside]
    heads = [name for name in _HEADLINES if any(row.get(name) for row in rows)]
    cases = next((m.sample_count for m in run.measurements.values() if m.sample_count), None)
    level = next((m.level for m in run.measurements.values() if m.level), None)
    told = f"On the test split{f', {cases:,} cases' if cases else ''}"
    if level:
        told += f"; brackets hold {level * 100:g} % intervals from a bootstrap of blocks of windows"
    measured = {m.name: m for row in rows for m in row.measurements.values()}
    lines = [
        (
            f"**{escaped(row.row)}**" if row is run else escaped(row.row),
            row.role,
            *(interval(row.measurements.get(name)) for name in heads),
        )
        for row in rows
    ]
    scores = [name for name in (*METRICS, *FORECASTS) if name in run.measurements]
    parts = [
        f"{told}.",
        table(
            ("row", "role", *(title(measured[name]) for name in heads)),
            lines,
            right=range(2, 2 + len(heads)),
        ),
        *_readings(trained, run),
        "All scores of this model:",
        table(
            ("score", "value"),
            ((title(run.measurements[name]), _explained(run, name)) for name in scores),
            right=(1,),
        ),
    ]
    return "\n\n".join(part for part in parts if part)


def _explained(run: Run, name: str) -> str:
    m = run.measurements[name]
    return f"{interval(m)} ({escaped(m.reason)})" if m.reason else interval(m)


def _readings(trained: Trained, run: Run) -> list[str]:
    """What the intervals say by themselves, without calling anything a winner."""
    said = []
    auroc, mase = run.get("auroc"), run.get("mase")
    if auroc is not None and auroc.low is not None and auroc.high is not None:
        if auroc.low > 0.5:
            said.append(
                "The interval of the AUROC lies above 0.5, a guess."
                if not _is_recognition(trained)
                else "The interval of the AUROC lies above 0.5: the model reads the chart."
            )
        elif auroc.high < 0.5:
            said.append("The interval of the AUROC lies below 0.5: worse than a guess.")
        else:
            said.append("The interval of the AUROC holds 0.5: it cannot be told from a guess.")
    if mase is not None and mase.low is not None and mase.high is not None:
        persistence = "saying that the next close is the last one (MASE 1)"
        if mase.high < 1:
            said.append(f"The forecast of the close errs less than {persistence}.")
        elif mase.low > 1:
            said.append(f"The forecast of the close errs **more** than {persistence}.")
        else:
            said.append(f"The forecast of the close cannot be told from {persistence}.")
    attainable = trained.fact("attainable_auroc")
    if attainable is not None:
        said.append(f"No model can exceed an AUROC of {attainable:.3f} on this market.")
    roles = {row.role for row in trained.beside}
    if "control" in roles:
        said.append("A control must not succeed: it learned from labels that were shuffled.")
    else:
        said.append("No control that learned from shuffled labels was trained beside it.")
    if "baseline" not in roles:
        said.append("No baseline is recorded beside it.")
    return [" ".join(said)] if said else []


def _training(trained: Trained) -> str:
    run = trained.run
    if run is None:
        return "How it was trained is not recorded here."
    parameters = {**(run.trial.get("model") or {}), **(run.trial.get("training") or {})}
    lines = [(code(name), escaped(_value(value))) for name, value in flatten(parameters).items()]
    seed = trained.fact("seed")
    lines += [] if seed is None else [("`seed`", escaped(seed))]
    parts = [table(("parameter", "value"), lines)] if lines else []
    parts += [_epochs(run.history), _cost(run), _machine(run)]
    return "\n\n".join(part for part in parts if part) or "No parameter is recorded."


def _value(value: Any) -> str:
    return "none" if value is None else _public(str(value))


def _epochs(history: Sequence[Any]) -> str:
    """How many epochs, and which was the best by what early stopping watched."""
    if not history:
        return ""
    losses = [
        (epoch["validation_loss"], epoch.get("epoch", place))
        for place, epoch in enumerate(history)
        if isinstance(epoch.get("validation_loss"), int | float)
    ]
    epochs = f"Trained for {count(len(history), 'epoch')}"
    if not losses:
        return f"{epochs}."
    best, when = min(losses)
    return f"{epochs}; the validation loss was lowest in epoch {when}: {best:.4g}."


def _cost(run: Run) -> str:
    """Time, size and energy, as far as they were measured, with the verdict that a number has."""
    energy = [name for name in run.measurements if _is_energy(name)]
    names = ("training_time_s", "parameters", "flops", "latency_p50_ms", *energy)
    lines = [
        (MEASURES[name].title if name in MEASURES else title_of(name), _amount(m))
        for name in names
        if (m := run.get(name)) is not None
    ]
    text = table(("cost", ""), lines, right=(1,)) if lines else ""
    if not any(run.get(name) is not None for name in energy):
        text += "\n\nEnergy and carbon were not measured."
    return text.strip()


def _is_energy(name: str) -> bool:
    return name in MEASURES and MEASURES[name].group == "energy"


def _amount(m: Measurement) -> str:
    text = number(m.name, m.value)
    text += f" {m.unit}" if _is_energy(m.name) else ""
    return text if m.verdict is Verdict.VALID else f"{text} {m.verdict}"


def _machine(run: Run) -> str:
    environment = run.environment
    device = environment.get("gpu") or environment.get("cpu") or environment.get("device")
    if not device:
        return ""
    packages = environment.get("packages") or {}
    versions = ", ".join(f"{name} {version}" for name, version in packages.items() if version)
    when = f" on {run.started_at[:10]}" if run.started_at else ""
    text = f"Trained{when} on {escaped(device)}"
    return f"{text}, with {escaped(versions)}." if versions else f"{text}."


def _loading(repo_id: str, files: Collection[str]) -> str:
    weights = [name for name in ("model.safetensors", "pytorch_model.bin") if name in files]
    by_name = [
        "from huggingface_hub import hf_hub_download",
        *(f'path = hf_hub_download("{repo_id}", "{name}")' for name in weights),
    ]
    parts = [
        "```python",
        "from transformers import AutoModel",
        "",
        f'model = AutoModel.from_pretrained("{repo_id}", trust_remote_code=True)',
        *(["", *by_name] if weights else []),
        "```",
        "",
        "```shell",
        f"candlemark hub pull {repo_id} --out {repo_id.rpartition('/')[2]}",
        f"candlemark fuse predict {repo_id.rpartition('/')[2]} --chart chart.png",
        f"candlemark app {repo_id.rpartition('/')[2]}",
        "```",
    ]
    return "\n".join(parts)
