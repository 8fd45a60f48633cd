"""A complete comparison of segmentation models, with the sections that people write.

    config = load(SegmentationConfig, Path("segment.yaml"))

Every key is honoured or refused by name. What is asked for here decides the outcome; how it is
shown (`reporting`, the bars of `benchmark.thresholds`) does not, and changes no trial.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from candlemark.benchmark.segmentation.protocols import protocol_of_type
from candlemark.config import Config
from candlemark.errors import ConfigError
from candlemark.metrics.segmentation.catalog import SEGMENTATION_METRICS
from candlemark.metrics.segmentation.conventions import CONVENTIONS
from candlemark.models.segmentation.base import PROTOCOLS, AskProtocol

Control = Literal["all_background", "all_foreground", "otsu", "oracle_box", "untrained_head"]

HUB_PROTOCOLS = ("auto", *(name for name in PROTOCOLS if name != "own"))


def _refuse_unknown(names: tuple[str, ...]) -> None:
    unknown = [name for name in names if name not in SEGMENTATION_METRICS]
    if unknown:
        raise ValueError(
            f"{', '.join(unknown)} is no metric of masks; known: {', '.join(SEGMENTATION_METRICS)}"
        )


ALSO_CALLED = {
    **dict.fromkeys(("dsc", "dice_score", "dice_coefficient"), "dice"),
    **dict.fromkeys(("jaccard", "jaccard_index"), "iou"),
    **dict.fromkeys(("hausdorff_95", "hausdorff95", "hd_95", "hausdorff_distance_95"), "hd95"),
    **dict.fromkeys(("hausdorff", "hausdorff_distance"), "hd"),
    **dict.fromkeys(("surface_dice", "normalized_surface_dice"), "nsd"),
    "recall": "sensitivity",
}
"""Metric by what else people call it."""


def _metric(name: Any) -> Any:
    """`HD95`, `Hausdorff-95` and the like as the catalog writes them."""
    if not isinstance(name, str):
        return name
    word = name.strip().lower().replace("-", "_").replace(" ", "_")
    return ALSO_CALLED.get(word, word)


MetricName = Annotated[str, BeforeValidator(_metric)]


def _by_word(found: Any) -> Any:
    """YAML reads the 1 of {1: lesion} as a number; JSON can only write it as a word."""
    return {str(own): to for own, to in found.items()} if isinstance(found, dict) else found


Place = Annotated[Path, AfterValidator(Path.expanduser)]
"""A path from where the command is run; `~` is the user's own folder, as in a shell."""


def _no_yes(value: Any) -> Any:
    """`seeds: [yes]` would be 1."""
    if isinstance(value, bool):
        raise ValueError("Input should be a number")  # noqa: TRY004 - what pydantic tells on
    return value


Label = Annotated[str | int, BeforeValidator(_no_yes)]
ClassMap = Annotated[dict[str, Label], BeforeValidator(_by_word)]
Words = Annotated[str, Field(min_length=1)]
Typed = Annotated[str, BeforeValidator(str)]
"""YAML reads a bare 100000 as a number and 100M as text."""
Voxels = Annotated[int, Field(ge=1), BeforeValidator(_no_yes)]
Seed = Annotated[int, Field(ge=0), BeforeValidator(_no_yes)]
Jitter = Annotated[float, Field(ge=0, le=1), BeforeValidator(_no_yes)]
Bar = Annotated[float, BeforeValidator(_no_yes)]


class Section(Config):
    """A part of a config in which a key without a value (`notes:`) says nothing."""

    model_config = ConfigDict(allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _without_empty(cls, found: Any) -> Any:
        if not isinstance(found, dict):
            return found
        return {key: value for key, value in found.items() if value is not None}

    @field_validator("*", mode="before")
    @classmethod
    def _no_yes_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        """`max_cases: yes` would be 1."""
        kind = cls.model_fields[str(info.field_name)].annotation
        return _no_yes(value) if kind in {int, float, int | None, float | None} else value


class ScansConfig(Section):
    """Which scans, and what their labels mean.

    image_dir, seg_dir: folders whose files are paired by exact case id
    pairs: a CSV of case,image,reference for what names do not tell
    phantoms: make so many scans of known shapes instead, seeded by `seed`; needs no files
    classes: name by label; None: every label of the references, by its number
    binary: take every label above 0 as one class
    geometry: what to do where a reference lies on another grid than its image: "refuse", or
        "resample" the reference by nearest neighbour
    folds: for protocols that learn: so many heads, each of which answers for the cases of its
        own fold and learnt from those of all others; at most as many as there are cases, and
        dealt by `seed`
    splits: case ids by split instead: one head learns from `train`, and all rows are tested on
        `test`
    """

    image_dir: Place | None = None
    seg_dir: Place | None = None
    pairs: Place | None = None
    phantoms: int = Field(default=0, ge=0)
    classes: dict[int, str] | None = None
    binary: bool = False
    geometry: Literal["refuse", "resample"] = "refuse"
    folds: int = Field(default=5, ge=2)
    splits: dict[Literal["train", "test"], tuple[str, ...]] | None = None
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _one_way_to_split(self) -> ScansConfig:
        if self.splits is not None and self.folds != type(self).model_fields["folds"].default:
            raise ValueError("splits names who learns and who is tested; take folds out")
        return self


class HubModelConfig(Section):
    """A model of the Hub (or a folder, or `tiny:NAME`) and how it is asked.

    type: what people call it ("segformer", "backbone", "clip", "sam", ...); a protocol follows
        from it where none is given
    protocol: "auto" goes by the model's own config
    class_map: label of the reference, or its name, by the model's own class (number or name)
    prompts: texts by class name, "background" among them, for clip_dense
    jitter: shares of the box's size by which an oracle's prompt is moved, each a row
    image_size: side in px of the squares that it sees; None: what it was made for
    """

    model_id: Words
    description: str = ""
    type: str | None = None
    notes: str = ""
    protocol: AskProtocol | Literal["auto"] = "auto"
    class_map: ClassMap | None = None
    prompts: dict[str, str] | None = None
    jitter: tuple[Jitter, ...] = Field(default=(0.0, 0.1, 0.2), min_length=1)
    weights: str = "pretrained"
    epochs: int = Field(default=30, ge=1)
    image_size: int | None = Field(default=None, ge=16)
    allow_pickle: bool = False

    @field_validator("type")
    @classmethod
    def _known_type(cls, name: str | None) -> str | None:
        if name is not None:
            try:
                protocol_of_type(name)
            except ConfigError as error:
                raise ValueError(str(error)) from error
        return name

    @field_validator("protocol", mode="before")
    @classmethod
    def _of_the_hub(cls, name: Any) -> Any:
        if name == "own":
            raise ValueError("is of a model of your own; name it in `models`, or with --model")
        if name not in HUB_PROTOCOLS:
            near = difflib.get_close_matches(str(name), HUB_PROTOCOLS, n=1, cutoff=0.5)
            hint = f"did you mean '{near[0]}'? " if near else ""
            raise ValueError(f"is no protocol; {hint}known: {', '.join(HUB_PROTOCOLS)}")
        return name


class OwnModelConfig(Section):
    """A model of the user's own.

    source: `package.module:function`, an ONNX or TorchScript file, a folder of finished
        predictions (nnU-Net and MONAI bundle folders too), or a command with {input} and {output}
    patch: voxels (Z, Y, X) of a network that reads patches; None: slice by slice
    overlap: share of a patch that its neighbour covers too
    threshold: of a network's probability of the one class, where it gives one channel
    class_map: label of the reference, or its name, by the model's own label
    intensity: what a network sees: "window", shares of the scan's window from 0 to 1, or "raw",
        as the file has it; a function always gets it raw
    activation: of a network that gives one channel: "none", it is a probability, "sigmoid", it
        is a logit, or "auto", by whether a case's values leave 0 to 1
    dimensions, channels: what a network takes, where its first layer does not tell
    allow_pickle: also load a torch module that was pickled whole; that can run any code
    """

    name: str | None = None
    source: Words
    description: str = ""
    notes: str = ""
    patch: tuple[Voxels, Voxels, Voxels] | None = None
    overlap: float = Field(default=0.5, ge=0, lt=1)
    threshold: float = Field(default=0.5, gt=0, lt=1)
    class_map: ClassMap | None = None
    intensity: Literal["window", "raw"] = "window"
    activation: Literal["auto", "none", "sigmoid"] = "auto"
    dimensions: Literal[2, 3] | None = None
    channels: Literal[1, 3] | None = None
    allow_pickle: bool = False


class ScoringConfig(Section):
    """What is scored, and when it is good enough.

    max_cases: the first so many cases by id; 0: all
    metrics: which columns are shown
    thresholds: bar by metric ("dice": 0.8); tables say who clears it
    output: folder; the command's --output-dir stands above it
    tolerance_mm: of the normalised surface Dice
    """

    max_cases: int = Field(default=0, ge=0)
    metrics: tuple[MetricName, ...] = Field(
        default=("dice", "iou", "sensitivity", "precision", "hd95", "assd", "nsd"), min_length=1
    )
    thresholds: dict[MetricName, Bar] = Field(default_factory=dict)
    output: Place | None = None
    tolerance_mm: float = Field(default=1.0, gt=0)

    @field_validator("metrics")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        _refuse_unknown(names)
        return names

    @field_validator("thresholds", mode="before")
    @classmethod
    def _one_bar_each(cls, bars: Any) -> Any:
        """Of two names of one metric the last bar would win in silence."""
        names: dict[Any, str] = {}
        for name in bars if isinstance(bars, dict) else ():
            first = names.setdefault(_metric(name), name)
            if first != name:
                raise ValueError(
                    f"{first} and {name} are one metric, {_metric(name)}; keep one of them"
                )
        return bars

    @field_validator("thresholds")
    @classmethod
    def _known_bars(cls, bars: dict[str, float]) -> dict[str, float]:
        _refuse_unknown(tuple(bars))
        for name, bar in bars.items():
            most = SEGMENTATION_METRICS[name].high
            if bar < 0 or bar > most == 1:
                allowed = "runs from 0 to 1" if most == 1 else "is never below 0"
                raise ValueError(f"{name} {allowed}, and {bar:g} is no bar of it")
        return bars


class PerformanceConfig(Section):
    """Where models run, and how often each case is timed.

    repeats: timed passes a case after one that warms up; 0: the scored pass alone is timed
    timeout_s: seconds a row may take or, of a command, a case; None: no limit
    """

    device: str = "auto"
    batch_size: int = Field(default=4, ge=1)
    repeats: int = Field(default=0, ge=0)
    threads: int | None = Field(default=None, ge=1)
    timeout_s: float | None = Field(default=None, gt=0)


class LeaderboardConfig(Section):
    """What `candlemark hub leaderboard --config` asks the Hub for; a run of scans reads none of it.

    queries: as the command takes them; empty: the set for medical imaging
    min_parameters, max_parameters: as the command takes them, such as 100M
    """

    queries: tuple[str, ...] = ()
    task: str | None = None
    limit: int = Field(default=20, ge=1)
    min_parameters: Typed | None = None
    max_parameters: Typed | None = None


class ReportingConfig(Section):
    """How results are shown; changes no trial.

    convention: whose conventions the numbers follow
    overlays: pictures of the best, median and worst cases of each model; page: the HTML page
    keep_predictions: keep each predicted mask as NIfTI
    """

    convention: str = "candlemark"
    overlays: bool = True
    page: bool = True
    keep_predictions: bool = True

    @field_validator("convention")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in CONVENTIONS:
            raise ValueError(f"is no convention; known: {', '.join(CONVENTIONS)}")
        return name


class SegmentationConfig(Section):
    """Scans x (controls + own models + models of the Hub) x seeds."""

    task: Literal["segmentation"] = "segmentation"
    dataset: ScansConfig
    huggingface_models: tuple[HubModelConfig, ...] = ()
    models: tuple[OwnModelConfig, ...] = ()
    controls: tuple[Control, ...] = (
        "all_background",
        "all_foreground",
        "otsu",
        "oracle_box",
        "untrained_head",
    )
    benchmark: ScoringConfig = ScoringConfig()
    performance: PerformanceConfig = PerformanceConfig()
    leaderboard: LeaderboardConfig = LeaderboardConfig()
    reporting: ReportingConfig = ReportingConfig()
    seeds: tuple[Seed, ...] = Field(default=(0,), min_length=1)
    isolate: bool = True

    @model_validator(mode="after")
    def _has_scans(self) -> SegmentationConfig:
        data = self.dataset
        ways = [bool(data.pairs), bool(data.image_dir or data.seg_dir), bool(data.phantoms)]
        if sum(ways) != 1:
            raise ValueError("dataset: give image_dir and seg_dir, or pairs, or phantoms")
        if bool(data.image_dir) != bool(data.seg_dir):
            raise ValueError("dataset: image_dir and seg_dir go together")
        return self
