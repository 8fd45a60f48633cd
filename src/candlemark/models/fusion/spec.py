"""What a fusion model is made of; apart from the network, so that a config needs no torch.

FusionSpec()                                       # BERT asks ViT, as the field does it
FusionSpec(text_encoder="tiny:bert", image_encoder="tiny:vit", weights="random")
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from candlemark.config import Config

Inputs = Literal["both", "image", "text", "numbers"]
"""What a model is shown: the ablations are this one word."""

Fusion = Literal["text_to_image", "image_to_text", "both_ways", "gated", "late"]
"""How two encoders meet.

text_to_image: the text's first token asks the image's patches, with a residual
image_to_text: the image's first token asks the text's tokens, with a residual
both_ways: both of these, side by side
gated: as text_to_image, with a learned gate on what the image answers
late: no attention; the two summaries side by side
"""


class FusionSpec(Config):
    """How a fusion model is built.

    text_encoder, image_encoder: ids on the Hub, local folders, or `tiny:NAME`
    weights: "pretrained", or "random" (from the encoders' configs)
    heads: of the cross-attention
    width: of the cross-attention; None: the text encoder's own
    lora_rank: above 0, the encoders learn low-rank updates only (needs the extra `lora`)
    caption: which description of the window the text is
    max_tokens: a caption longer than this is an error, never cut
    """

    inputs: Inputs = "both"
    fusion: Fusion = "text_to_image"
    text_encoder: str = "bert-base-uncased"
    image_encoder: str = "google/vit-base-patch16-224"
    weights: Literal["pretrained", "random"] = "pretrained"
    heads: int = Field(default=8, ge=1)
    width: int | None = Field(default=None, ge=1)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    lora_rank: int = Field(default=0, ge=0)
    caption: Literal["window", "classic"] = "window"
    max_tokens: int = Field(default=128, ge=8)
