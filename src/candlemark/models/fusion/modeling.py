"""CandleFusion: a text and a chart to a direction and a next close.

    model = AutoModel.from_pretrained(FOLDER, trust_remote_code=True)
    output = model(pixel_values=pixels, input_ids=ids, attention_mask=mask)
    output.logits, output.forecast

    N samples, C classes, T text tokens, P patches of the picture, D widths, W candles

This file needs torch and transformers and nothing else: it travels with the weights, so that a
published model loads where candlemark is not installed. The fields of the config that say how
a chart was drawn and what a return means are data here; candlemark reads them.

The text's first token is the query, the picture's patches are keys and values, and what they
answer is added to the query: a residual, so that a picture that says nothing leaves the text's
own summary. Padded tokens are never keys. What is not used by the chosen inputs is not built,
and encoder weights that no answer depends on (`unused`) do not ask for gradients: every
parameter that is trained gets a gradient in every step, as several devices need it.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    MODEL_MAPPING,
    AutoConfig,
    AutoModel,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.utils import ModelOutput

FORMAT = 1
"""Version of the config's fields; a reader refuses a later one."""

INPUTS = ("both", "image", "text", "numbers")
FUSIONS = ("text_to_image", "image_to_text", "both_ways", "gated", "late")
ASKS_IMAGE = ("text_to_image", "both_ways", "gated")
"""Ways in which the text asks the picture."""
ASKS_TEXT = ("image_to_text", "both_ways")
"""Ways in which the picture asks the text."""


class FusionConfig(PreTrainedConfig):  # type: ignore[misc]  # transformers has no types
    """What a `FusionModel` is made of, and what its numbers mean.

    inputs: "both", "image", "text" or "numbers"; encoders that are not needed are not built
    fusion: how text and picture meet; only where inputs is "both"
    text_config, image_config: configs of the encoders, as mappings with `model_type`, or None
    text_width: width of the text encoder's tokens
    image_tokens: how the picture encoder's answer is read: `width`; `grid`, rows and columns of
        patches, or None where they have no place; `prefix`, tokens before the first patch;
        `layout`, "tokens", "map" (channels first) or "map_last"; `interpolate`, whether its
        position table is stretched to the picture
    unused: names of encoder parameters that no answer depends on
    width: of the cross-attention and the heads; heads: of the cross-attention
    caption, max_tokens: which text was learnt, and the longest there may be
    chart: style, window, image_shape, input_shape, mean, std of the pictures; a picture of
        image_shape is filled to input_shape with zeros, above and left of it
    returns: mean and std that turn a forecast into a log return; quantiles of what it missed
    numbers: window and channels of windows as numbers
    origin: dataset, label and weights that the model was made from
    format: version of these fields
    """

    model_type = "candlemark_fusion"

    def __init__(  # noqa: PLR0917 - transformers gives names
        self,
        inputs: str = "both",
        fusion: str = "text_to_image",
        text_config: Mapping[str, Any] | None = None,
        image_config: Mapping[str, Any] | None = None,
        text_width: int = 0,
        image_tokens: Mapping[str, Any] | None = None,
        unused: list[str] | None = None,
        width: int = 128,
        heads: int = 8,
        dropout: float = 0.1,
        caption: str = "window",
        max_tokens: int = 128,
        chart: Mapping[str, Any] | None = None,
        returns: Mapping[str, Any] | None = None,
        numbers: Mapping[str, Any] | None = None,
        origin: Mapping[str, Any] | None = None,
        format: int = FORMAT,  # noqa: A002 - the name in the file
        **kwargs: Any,
    ) -> None:
        if inputs not in INPUTS:
            raise ValueError(f"inputs is {inputs!r}; allowed: {', '.join(INPUTS)}")
        if fusion not in FUSIONS:
            raise ValueError(f"fusion is {fusion!r}; allowed: {', '.join(FUSIONS)}")
        if width % heads and inputs == "both" and fusion != "late":
            raise ValueError(f"width {width} cannot be shared by {heads} heads; give a multiple")
        self.inputs = inputs
        self.fusion = fusion
        self.text_config = None if text_config is None else dict(text_config)
        self.image_config = None if image_config is None else dict(image_config)
        self.text_width = text_width
        self.image_tokens = dict(image_tokens or {})
        self.unused = list(unused or [])
        self.width = width
        self.heads = heads
        self.dropout = dropout
        self.caption = caption
        self.max_tokens = max_tokens
        self.chart = dict(chart or {})
        self.returns = dict(returns or {})
        self.numbers = dict(numbers or {})
        self.origin = dict(origin or {})
        self.format = format
        super().__init__(**kwargs)

    @property
    def reads_text(self) -> bool:
        """Whether a text goes in."""
        return self.inputs in {"both", "text"}

    @property
    def reads_image(self) -> bool:
        """Whether a picture goes in."""
        return self.inputs in {"both", "image"}

    def asks(self, ways: tuple[str, ...]) -> bool:
        """Whether text and picture meet in one of `ways`."""
        return self.inputs == "both" and self.fusion in ways

    def get_text_config(self, *_: Any, **__: Any) -> FusionConfig:
        """The config itself: `text_config` is a mapping, which the library cannot read."""
        return self


@dataclass
class FusionOutput(ModelOutput):  # type: ignore[misc]  # transformers has no types
    """What a `FusionModel` answers.

    logits: (N, C) of the classes
    forecast: (N,), the next log return in standard deviations of the training returns from
        their mean: `returns` of the config turns it back
    attentions: (N, heads, P), how much of each patch the text asked for; rows sum to 1, but
        for dropout while training. None unless asked for, and where no text asks a picture
    text_attentions: (N, heads, T), how much of each token the picture asked for, or None
    """

    logits: Tensor | None = None
    forecast: Tensor | None = None
    attentions: Tensor | None = None
    text_attentions: Tensor | None = None


class FusionModel(PreTrainedModel):  # type: ignore[misc]  # transformers has no types
    """Encoders, cross-attention with a residual, a classifier and a forecaster."""

    config_class = FusionConfig
    base_model_prefix = ""
    main_input_name = "pixel_values"
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True

    def __init__(self, config: FusionConfig) -> None:
        super().__init__(config)
        if config.reads_text:
            self.text_encoder = build_encoder(config.text_config, "text_config")
        if config.reads_image:
            self.image_encoder = build_encoder(config.image_config, "image_config")
        self.head = FusionHead(config)
        self.post_init()
        self._freeze_unused()

    @classmethod
    def from_pretrained(cls, *arguments: Any, **options: Any) -> Any:
        """As transformers does it; what asks for no gradient still asks for none."""
        loaded = super().from_pretrained(*arguments, **options)
        (loaded[0] if isinstance(loaded, tuple) else loaded)._freeze_unused()  # noqa: SLF001
        return loaded

    def forward(
        self,
        pixel_values: Tensor | None = None,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        numbers: Tensor | None = None,
        output_attentions: bool = False,
    ) -> FusionOutput:
        """Class logits and the standardised next return.

        pixel_values: (N, 3, H, W), normalised; numbers: (N, W, 5), NaN where a candle is missing
        input_ids, attention_mask: (N, T); without a mask nothing is padding

        Raises ValueError: an input that this model reads is missing or of another shape.
        """
        features = self.features(
            pixel_values=pixel_values,
            input_ids=input_ids,
            attention_mask=attention_mask,
            numbers=numbers,
        )
        output: FusionOutput = self.head(**features, output_attentions=output_attentions)
        return output

    def features(
        self,
        pixel_values: Tensor | None = None,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        numbers: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """What the encoders make of the inputs: the keywords of `head`, N first in each.

        Where tokens are among them their mask is too: batches of texts of other lengths join
        once they are filled up with zeros.
        """
        config, found = self.config, {}
        if config.inputs == "numbers":
            found["numbers"] = _visible(_given(numbers, "numbers", config))
        if config.reads_text:
            ids = _given(input_ids, "input_ids", config)
            mask = torch.ones_like(ids) if attention_mask is None else attention_mask
            tokens = self.text_encoder(input_ids=ids, attention_mask=mask).last_hidden_state
            found["text"] = tokens[:, 0]
            if config.asks(ASKS_TEXT):
                found["tokens"], found["mask"] = tokens, mask
        if config.reads_image:
            first, patches = self._look(_given(pixel_values, "pixel_values", config))
            if not config.asks(("text_to_image", "gated")):
                found["image"] = first
            if config.asks(ASKS_IMAGE):
                found["patches"] = patches
        return found

    def _look(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """The picture's summary (N, D) and its patches (N, P, D)."""
        layout = self.config.image_tokens
        options = {"interpolate_pos_encoding": True} if layout["interpolate"] else {}
        seen = self.image_encoder(pixel_values=self._fill(pixels), **options).last_hidden_state
        if layout["layout"] == "map":
            seen = seen.flatten(2).transpose(1, 2)
        elif layout["layout"] == "map_last":
            seen = seen.flatten(1, 2)
        prefix = layout["prefix"]
        patches = seen[:, prefix:]
        return (seen[:, 0] if prefix else patches.mean(dim=1)), patches

    def _fill(self, pixels: Tensor) -> Tensor:
        """Zeros, the mean colour, before the first row and column, up to whole patches.

        The newest candle keeps its place at the right edge.
        """
        high, wide = self.config.chart.get("input_shape", pixels.shape[-2:])
        top, left = high - pixels.shape[-2], wide - pixels.shape[-1]
        if not top and not left:
            return pixels
        allowed = self.config.chart.get("image_shape")
        if list(pixels.shape[-2:]) != list(allowed or ()):
            raise ValueError(
                f"pixel_values are {tuple(pixels.shape)}; this model looks at pictures of "
                f"{allowed} (height, width)"
            )
        return nn.functional.pad(pixels, (left, 0, top, 0))

    def _freeze_unused(self) -> None:
        unused = set(self.config.unused)
        for name, parameter in self.named_parameters():
            if name in unused:
                parameter.requires_grad_(False)

    def _init_weights(self, module: nn.Module) -> None:
        """Torch's own starts for what is not an encoder: 0.02 is too narrow for a small head."""
        if isinstance(module, nn.MultiheadAttention):
            module._reset_parameters()  # noqa: SLF001 - its public name does not exist
        elif isinstance(module, nn.Linear | nn.Conv1d | nn.LayerNorm | nn.GroupNorm | Places):
            module.reset_parameters()


class FusionHead(nn.Module):
    """All that is learnt from nothing: what `features` gave to logits and a forecast."""

    def __init__(self, config: FusionConfig) -> None:
        super().__init__()
        self.inputs, self.fusion = config.inputs, config.fusion
        width, heads, dropout = config.width, config.heads, config.dropout
        text, image = config.text_width, config.image_tokens.get("width", 0)
        joined = width
        if config.inputs == "numbers":
            self.numbers = NumberEncoder(config.numbers.get("channels", 5), width, dropout)
        if config.reads_text and not config.asks(("image_to_text",)):
            self.text = Summary(text, width)
        if config.reads_image and not config.asks(("text_to_image", "gated")):
            self.image = Summary(image, width)
        if config.asks(ASKS_IMAGE):
            self.patches = Keys(image, config.image_tokens)
            self.ask_image = Ask(width, image, heads, dropout)
        if config.asks(ASKS_TEXT):
            self.tokens = nn.LayerNorm(text)
            self.ask_text = Ask(width, text, heads, dropout)
        if config.asks(("gated",)):
            self.gate = nn.Linear(2 * width, width)
        if config.asks(("both_ways", "late")):
            joined = 2 * width
        self.classifier = _answer(joined, width, config.num_labels, dropout)
        self.forecaster = _answer(joined, width, 1, dropout)

    def forward(  # noqa: PLR0917 - called with names
        self,
        text: Tensor | None = None,
        image: Tensor | None = None,
        patches: Tensor | None = None,
        tokens: Tensor | None = None,
        mask: Tensor | None = None,
        numbers: Tensor | None = None,
        output_attentions: bool = False,
    ) -> FusionOutput:
        """What `FusionModel.features` gave, to answers."""
        on_image = on_text = None
        parts = []
        if numbers is not None:
            parts.append(self.numbers(numbers))
        if text is not None and hasattr(self, "text"):
            query = self.text(text)
            if patches is None:
                parts.append(query)
            else:
                answer, on_image = self.ask_image(query, self.patches(patches), output_attentions)
                if self.fusion == "gated":
                    answer = answer * self.gate(torch.cat([query, answer], dim=-1)).sigmoid()
                parts.append(self.ask_image.join(query, answer))
        if image is not None:
            query = self.image(image)
            if tokens is None:
                parts.append(query)
            else:
                padding = None if mask is None else mask == 0
                answer, on_text = self.ask_text(
                    query, self.tokens(tokens), output_attentions, padding
                )
                parts.append(self.ask_text.join(query, answer))
        fused = torch.cat(parts, dim=-1)
        return FusionOutput(
            logits=self.classifier(fused),
            forecast=self.forecaster(fused).squeeze(-1),
            attentions=on_image,
            text_attentions=on_text,
        )


class Summary(nn.Module):
    """An encoder's one vector for a whole input, in the width of the heads: (N, D) -> (N, width).

    Encoders differ in scale: some end with a norm, some do not.
    """

    def __init__(self, found: int, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(found)
        self.project = nn.Identity() if found == width else nn.Linear(found, width)

    def forward(self, summary: Tensor) -> Tensor:
        """(N, D) -> (N, width)."""
        projected: Tensor = self.project(self.norm(summary))
        return projected


class Keys(nn.Module):
    """Patches as keys, each with its place where the encoder has not told it: (N, P, D)."""

    def __init__(self, width: int, layout: Mapping[str, Any]) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        # A convolution answers for a patch the same wherever it is; a transformer knows.
        count = 0 if layout["layout"] == "tokens" else layout["grid"][0] * layout["grid"][1]
        self.places = Places(count, width) if count else None

    def forward(self, patches: Tensor) -> Tensor:
        """(N, P, D) -> (N, P, D)."""
        keys: Tensor = self.norm(patches)
        return keys if self.places is None else self.places(keys)


class Places(nn.Module):
    """A learnt vector for each patch."""

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(count, width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """As position tables of transformers start."""
        nn.init.normal_(self.weight, std=0.02)

    def forward(self, keys: Tensor) -> Tensor:
        """(N, P, D) -> (N, P, D). Raises ValueError: another number of patches."""
        if keys.shape[1] != len(self.weight):
            raise ValueError(
                f"the picture has {keys.shape[1]} patches; this model was made for "
                f"{len(self.weight)}"
            )
        return keys + self.weight


class Ask(nn.Module):
    """Cross-attention of one query, and the residual: (N, width) asks (N, K, D)."""

    def __init__(self, width: int, found: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(
            width, heads, dropout=dropout, kdim=found, vdim=found, batch_first=True
        )
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(width)

    def forward(
        self, query: Tensor, keys: Tensor, weights: bool, padding: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """The answer (N, width), and the attention (N, heads, K) where asked for.

        padding: bool (N, K), True where a key is none
        """
        answer, attention = self.attention(
            query.unsqueeze(1),
            keys,
            keys,
            key_padding_mask=padding,
            need_weights=weights,
            average_attn_weights=False,
        )
        return answer.squeeze(1), attention.squeeze(2) if weights else None

    def join(self, query: Tensor, answer: Tensor) -> Tensor:
        """The query with what was answered added."""
        joined: Tensor = self.norm(query + self.dropout(answer))
        return joined


class NumberEncoder(nn.Module):
    """A 1-D CNN over candles: (N, W, channels + 1) -> (N, width).

    The last channel is 1 where a candle can be seen. The others are 0 where not, and such slots
    are left out of what is pooled, so that nothing depends on what stands in them.
    """

    def __init__(self, channels: int, width: int, dropout: float) -> None:
        super().__init__()
        sizes = [channels + 1, width, width, width]
        self.convolutions = nn.ModuleList(
            nn.Conv1d(before, after, kernel_size=3, padding=step, dilation=step)
            for before, after, step in zip(sizes, sizes[1:], (1, 2, 4), strict=False)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in self.convolutions)
        self.dropout = nn.Dropout(dropout)
        self.project = nn.Linear(3 * width, width)

    def forward(self, candles: Tensor) -> Tensor:
        """(N, W, channels + 1) -> (N, width)."""
        seen = candles[..., -1:]
        hidden = candles
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            hidden = norm(convolution(hidden.transpose(1, 2)).transpose(1, 2))
            hidden = nn.functional.gelu(hidden) * seen
        mean = hidden.sum(dim=1) / seen.sum(dim=1).clamp(min=1)
        # gelu is above -0.2 everywhere: a hidden slot never has the largest value of seen ones.
        largest = (hidden - (1 - seen)).amax(dim=1)
        newest = hidden[:, -1]
        pooled: Tensor = self.project(self.dropout(torch.cat([mean, largest, newest], dim=-1)))
        return pooled


def build_encoder(config: Mapping[str, Any] | None, name: str = "config") -> Any:
    """An encoder of transformers with random weights, without the pooler nobody asks.

    Raises ValueError: there is no config, or transformers knows no such model.
    """
    if not config or "model_type" not in config:
        raise ValueError(f"{name} names no model_type, so the encoder cannot be built")
    built = AutoConfig.for_model(**config)
    return AutoModel.from_config(built, **encoder_options(built))


def encoder_options(config: Any) -> dict[str, bool]:
    """What an encoder's class is told beside its config: no pooler, where it has the choice."""
    if type(config) not in MODEL_MAPPING:
        return {}
    chosen = MODEL_MAPPING[type(config)]
    known = inspect.signature(chosen).parameters if isinstance(chosen, type) else {}
    return {"add_pooling_layer": False} if "add_pooling_layer" in known else {}


def _answer(found: int, width: int, count: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(found, width), nn.GELU(), nn.Dropout(dropout), nn.Linear(width, count)
    )


def _visible(numbers: Tensor) -> Tensor:
    """(N, W, 5) with NaN -> (N, W, 6) without: the last channel is 1 where a candle is whole."""
    seen = torch.isfinite(numbers).all(dim=-1, keepdim=True)
    return torch.cat([torch.where(seen, numbers, 0.0), seen.to(numbers.dtype)], dim=-1)


def _given(tensor: Tensor | None, name: str, config: FusionConfig) -> Tensor:
    if tensor is None:
        raise ValueError(f"{name} is missing; this model reads inputs '{config.inputs}'")
    return tensor


AutoConfig.register(FusionConfig.model_type, FusionConfig, exist_ok=True)
AutoModel.register(FusionConfig, FusionModel, exist_ok=True)
FusionConfig.register_for_auto_class()
FusionModel.register_for_auto_class("AutoModel")
