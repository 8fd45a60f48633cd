"""A complete study of fusion: which data, which inputs, how they meet, how they are trained.

    config = load(FusionBenchmarkConfig, Path("fusion.yaml"))

Each dataset is asked the same questions: what do text and picture say together, what does each
say alone, what do the same windows say as numbers, and what does knowing nothing give.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from candlemark.benchmark.config import Control, MeasureConfig
from candlemark.config import Config
from candlemark.dataset.config import DatasetConfig
from candlemark.models.fusion.spec import Fusion, FusionSpec, Inputs
from candlemark.training.config import TrainingConfig

Baseline = Literal["majority", "persistence", "gradient_boosting"]


class FusionBenchmarkConfig(Config):
    """Datasets x (baselines + inputs + ways to fuse) x seeds.

    datasets: built below the output folder; data_dirs: datasets that are there already
    model: everything about the model but what the two lists below vary
    inputs: what models are shown; each word is a row of its own
    fusions: how the encoders meet, for `both`; each word is a row of its own
    baselines: rules and numeric learners on the same windows; persistence says that the next
        close is the last one, and that the next move is the last candle's
    controls: what must not succeed: training on shuffled labels, and a random walk of the same
        length
    keep_models: keep every trained model as a folder below `models/` that can be asked, served
        and published
    """

    task: Literal["fusion"] = "fusion"
    datasets: tuple[DatasetConfig, ...] = ()
    data_dirs: tuple[Path, ...] = ()
    model: FusionSpec = FusionSpec()
    inputs: tuple[Inputs, ...] = ("both", "image", "text", "numbers")
    fusions: tuple[Fusion, ...] = ("text_to_image",)
    baselines: tuple[Baseline, ...] = ("majority", "persistence", "gradient_boosting")
    controls: tuple[Control, ...] = ("shuffled_labels", "random_walk")
    training: TrainingConfig = TrainingConfig()
    measure: MeasureConfig = MeasureConfig()
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(default=(0,), min_length=1)
    device: str = "auto"
    timeout_s: float | None = Field(default=None, gt=0)
    isolate: bool = True
    keep_models: bool = False

    @field_validator("inputs", "fusions", "baselines", "controls", "seeds", "data_dirs")
    @classmethod
    def _unique(cls, values: tuple[object, ...]) -> tuple[object, ...]:
        if len(set(values)) != len(values):
            raise ValueError("names an entry twice")
        return values

    @model_validator(mode="after")
    def _has_data(self) -> FusionBenchmarkConfig:
        if not self.datasets and not self.data_dirs:
            raise ValueError("names no data; give datasets, or data_dirs of datasets that exist")
        return self
