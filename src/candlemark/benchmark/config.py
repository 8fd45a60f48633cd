"""A complete benchmark: which data, which models, how they are trained and measured.

    config = load(BenchmarkConfig, Path("bench.yaml"))

Every shortcut of the command line resolves to one of these; it is saved beside the results,
and `candlemark run CONFIG` runs it again.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from candlemark.config import Config
from candlemark.dataset.config import DatasetConfig
from candlemark.models.baselines import BASELINES
from candlemark.training.config import TrainingConfig

Control = Literal["shuffled_labels", "random_walk"]


class MeasureConfig(Config):
    """How scores and speed are measured.

    replicates: bootstrap replicates behind every interval
    latency_budget_s: seconds that the latency of one model may take to settle
    batch_size: images a call when throughput is measured
    """

    replicates: int = Field(default=2000, ge=100)
    latency_budget_s: float = Field(default=10.0, gt=0)
    batch_size: int = Field(default=32, ge=1)


class BenchmarkConfig(Config):
    """Datasets x (controls + baselines + models x seeds).

    models: ids on the Hub or of timm, or local folders
    weights: "pretrained", "random", or a local path
    baselines: numeric models on the same windows
    controls: what must not succeed: training on shuffled labels (but on a random walk, whose
        labels are random as they are), and a random walk of the same length (for forecasts
        only; a visible answer is visible in any market)
    seeds: one training of every model each
    device: "auto" takes the best there is
    timeout_s: seconds a trial may take; None: no limit
    isolate: a process for every model; False trains them one after another in one, which
        saves the imports, and marks their memory CONTENDED
    keep_models: keep every trained classifier of pictures as a version of the store `models/`
        beside the results, with its scores; rules and numeric learners are retrained at once
    """

    task: Literal["charts"] = "charts"
    datasets: tuple[DatasetConfig, ...] = Field(min_length=1)
    models: tuple[str, ...] = ()
    weights: str = "pretrained"
    allow_pickle: bool = False
    baselines: tuple[str, ...] = tuple(BASELINES)
    controls: tuple[Control, ...] = ("shuffled_labels", "random_walk")
    training: TrainingConfig = TrainingConfig()
    measure: MeasureConfig = MeasureConfig()
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(default=(0,), min_length=1)
    device: str = "auto"
    timeout_s: float | None = Field(default=None, gt=0)
    isolate: bool = True
    keep_models: bool = False

    @field_validator("baselines")
    @classmethod
    def _known_baselines(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in BASELINES:
                raise ValueError(f"unknown baseline '{name}'; known: {', '.join(BASELINES)}")
        return names

    @field_validator("models", "seeds", "baselines", "controls")
    @classmethod
    def _unique(cls, values: tuple[object, ...]) -> tuple[object, ...]:
        if len(set(values)) != len(values):
            raise ValueError("names an entry twice")
        return values
