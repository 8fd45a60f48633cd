"""What a kept fusion config must hold, so that a damaged one is one line when it is read.

    check_fields(config, where="models/fusion/config.json")

Only fields that an answer depends on are looked at, and only where the model reads them; what
else is there is left alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import ConfigDict, Field, FiniteFloat

from candlemark.config import Config, parse
from candlemark.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from candlemark.models.fusion.modeling import FusionConfig

Count = Annotated[int, Field(ge=1)]
Pair = tuple[Count, Count]
Colour = tuple[FiniteFloat, FiniteFloat, FiniteFloat]
Positive = Annotated[FiniteFloat, Field(gt=0)]


class _Part(Config):
    """Fields that are known; others may stand beside them."""

    model_config = ConfigDict(extra="ignore")


class _Chart(_Part):
    window: Count
    image_shape: Pair


class _SeenChart(_Chart):
    input_shape: Pair
    mean: Colour
    std: tuple[Positive, Positive, Positive]


class _ImageTokens(_Part):
    width: Count
    grid: Pair | None
    prefix: Annotated[int, Field(ge=0)]
    layout: Literal["tokens", "map", "map_last"]
    interpolate: bool


class _Returns(_Part):
    mean: FiniteFloat = 0.0
    std: Annotated[FiniteFloat, Field(ge=0)] = 1.0
    residual_low: FiniteFloat | None = None
    residual_high: FiniteFloat | None = None
    level: Annotated[float, Field(gt=0, lt=1)] | None = None
    reason: str | None = None


class _Numbers(_Part):
    window: Count
    channels: Count


class _Origin(_Part):
    text_encoder: str | None = None
    image_encoder: str | None = None
    weights: dict[str, str | None] = Field(default_factory=dict)
    label: str | None = None
    label_kind: str | None = None
    interval: str | None = None
    symbols: tuple[str, ...] | None = None


class _Kept(_Part):
    """Of every model."""

    id2label: Annotated[dict[int, str], Field(min_length=2)]
    returns: _Returns
    origin: _Origin
    chart: _Chart


class _Text(_Part):
    caption: str
    max_tokens: Count


class _Image(_Part):
    chart: _SeenChart
    image_tokens: _ImageTokens


class _OfNumbers(_Part):
    numbers: _Numbers


def check_fields(config: FusionConfig, *, where: str) -> None:
    """Raise ModelError naming every field that an answer depends on and that is none.

    where: the file, for the message
    """
    held: dict[str, Any] = {name: getattr(config, name, None) for name in _FIELDS}
    parts: list[type[_Part]] = [_Kept]
    parts += [_Text] if config.reads_text else []
    parts += [_Image] if config.reads_image else []
    parts += [_OfNumbers] if config.inputs == "numbers" else []
    try:
        for part in parts:
            parse(part, held, where=f"{where} is damaged")
    except ConfigError as error:
        raise ModelError(str(error)) from error
    if sorted(config.id2label) != list(range(len(config.id2label))):
        counted = ", ".join(map(str, config.id2label))
        raise ModelError(f"{where} is damaged: id2label counts classes {counted}, not from 0 on")


_FIELDS = tuple(name for part in (_Kept, _Text, _Image, _OfNumbers) for name in part.model_fields)
