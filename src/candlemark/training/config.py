"""How a model learns; apart from the loop, so that a config can be read without torch."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from candlemark.config import Config


class TrainingConfig(Config):
    """How a model learns.

    batch_size: samples of one forward pass; of an update times `accumulation_steps`
    learning_rate: the peak, after `warmup_share` of all steps
    schedule: how the rate falls to zero after the warm-up, a half cosine or a line
    accumulation_steps: batches whose gradients make one update, for models of which a large
        batch does not fit; the samples of an update are those of one batch that many times as
        large, and so is what is learnt, but for batch norm, which sees each batch by itself.
        Checkpoints are written between updates: a kill costs the batches of one at the most
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
    schedule: Literal["cosine", "linear"] = "cosine"
    accumulation_steps: int = Field(default=1, ge=1)

    def deciding(self) -> dict[str, Any]:
        """What an id is made of, JSON types only.

        Keys that came after the first release of ids are left out at their defaults, under which
        training is what it was without them: trials and checkpoints of then keep their names.
        """
        later = {"schedule", "accumulation_steps"}
        values = self.model_dump(mode="json")
        return {
            name: value
            for name, value in values.items()
            if name not in later or value != type(self).model_fields[name].default
        }
