"""A complete inference benchmark: which models, on what, how large, and how it is measured.

    config = load(InferenceConfig, Path("inference.yaml"))

`candlemark profile` resolves its flags to one of these; it is saved beside the results, and
`candlemark run CONFIG` runs it again.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from candlemark.config import Config

Precision = Literal["fp32", "tf32", "fp16", "bf16", "int8"]
Backend = Literal["eager", "compile", "onnxruntime"]
Metric = Literal[
    "latency", "throughput", "stages", "memory", "flops", "energy", "numerics", "largest_batch"
]
Isolation = Literal["cell", "model", "none"]
PositiveInt = Annotated[int, Field(ge=1)]


TOLERANCES: dict[Precision, float] = {
    "fp32": 1e-4,
    "tf32": 5e-3,
    "fp16": 1e-2,
    "bf16": 5e-2,
    "int8": 1e-1,
}
"""Largest `relative_error` that still counts as the same answer."""


class TimingConfig(Config):
    """When a measurement starts and when it is enough.

    warmup_calls, warmup_s: at least so many calls and so long before the first sample
    width: a latency is settled when the 95 % interval of its median spans at most this share
        of it
    minimum_samples: not settled before; 299 bear a p99
    budget_s: seconds after which timing one cell's latency ends, settled or not. Throughput gets
        half as long, each window of energy a fifth, each stage a tenth
    """

    warmup_calls: int = Field(default=3, ge=0)
    warmup_s: float = Field(default=0.5, ge=0)
    width: float = Field(default=0.02, gt=0, lt=1)
    minimum_samples: PositiveInt = 59
    budget_s: float = Field(default=5.0, gt=0)


SWEPT = (
    *("models", "devices", "batch_sizes", "sequence_lengths", "precisions", "backends"),
    *("metrics", "seeds"),
)
"""Keys that take one value or several."""


class InferenceConfig(Config):
    """Models x devices x batch sizes x lengths x precisions x backends x seeds.

    models: ids on the Hub or of timm, local folders, `tiny:NAME`, or `python:MODULE:FUNCTION`
    weights: "pretrained", "random" (from the model's config, no download), or a local path
    devices: "auto" takes the best there is; each is checked against the hardware found
    batch_sizes: items a call; sequence_lengths: tokens, for models that read text only
    image_size, audio_s: of one item; None: what the model was made for
    new_tokens: tokens that generating models are asked for
    tolerances: largest `relative_error` of a precision that still counts as the same answer;
        precisions that are not named keep their defaults
    threads: of torch on the CPU; None: one a physical core that this process may use
    isolation: "cell" starts a process for every cell; "model" lets the cells of one model reuse
        a process and the loaded weights; "none" runs all in one (memory is then CONTENDED)
    workers: processes at once; they load and compile side by side, but are timed one by one
    timeout_s: seconds a cell may take; None: no limit
    """

    task: Literal["inference"] = "inference"
    models: tuple[str, ...] = Field(min_length=1)
    weights: str = "pretrained"
    allow_pickle: bool = False
    devices: tuple[str, ...] = Field(default=("auto",), min_length=1)
    batch_sizes: tuple[PositiveInt, ...] = Field(default=(1,), min_length=1)
    sequence_lengths: tuple[PositiveInt, ...] = Field(default=(128,), min_length=1)
    image_size: PositiveInt | None = None
    audio_s: float | None = Field(default=None, gt=0)
    new_tokens: PositiveInt = 16
    precisions: tuple[Precision, ...] = Field(default=("fp32",), min_length=1)
    backends: tuple[Backend, ...] = Field(default=("eager",), min_length=1)
    metrics: tuple[Metric, ...] = Field(
        default=("latency", "throughput", "stages", "memory", "flops", "energy", "numerics"),
        min_length=1,
    )
    timing: TimingConfig = TimingConfig()
    tolerances: dict[Precision, float] = TOLERANCES
    threads: PositiveInt | None = None
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(default=(0,), min_length=1)
    isolation: Isolation = "cell"
    workers: PositiveInt = 1
    timeout_s: float | None = Field(default=None, gt=0)

    @field_validator(*SWEPT, mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        """A lone value is a list of one."""
        return (value,) if isinstance(value, str | int) else value

    @field_validator(*SWEPT)
    @classmethod
    def _unique(cls, values: tuple[object, ...]) -> tuple[object, ...]:
        if len(set(values)) != len(values):
            raise ValueError("names an entry twice")
        return values

    @field_validator("tolerances")
    @classmethod
    def _complete(cls, values: dict[Precision, float]) -> dict[Precision, float]:
        return {**TOLERANCES, **values}
