"""How a classifier learns; apart from the loop, so that a config can be read without torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from candlemark.config import Config


class TrainingConfig(Config):
    """How a classifier learns.

    learning_rate: the peak, after `warmup_share` of all steps
    patience: epochs without a better validation loss before stopping; None never stops
    mode: "full" trains every weight, "frozen" only the head, on features computed once
    class_weights: a rare class counts as much as a common one
    checkpoint_every_s: seconds of work that a kill may cost; 0 saves after every step
    """

    epochs: int = Field(default=10, ge=1)
    batch_size: int = Field(default=32, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.05, ge=0)
    warmup_share: float = Field(default=0.1, ge=0, le=1)
    patience: int | None = Field(default=5, ge=1)
    gradient_clip: float | None = Field(default=1.0, gt=0)
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    mode: Literal["full", "frozen"] = "full"
    class_weights: bool = True
    checkpoint_every_s: float = Field(default=60.0, ge=0)
