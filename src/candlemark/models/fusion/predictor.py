"""Ask a trained fusion model: pictures, texts or numbers in, answers for people out.

    predictor = Predictor.load("models/fusion")               # or an id on the Hub
    (answer,) = predictor.predict(images=[chart], texts=[text], last_close=[94_250.0])
    answer.probabilities["bullish"]
    answer.next_close, answer.next_close_low, answer.next_close_high
    answer.attention                          # float32 (H, W) over the chart, or None: why not

    N samples, H x W pixels as drawn, W' slots of a window, P places that attention looks at

The forecast is a standardised log return; mean and standard deviation of the training split,
which the model keeps, turn it back, and the last close turns it into a price. The interval is
split-conformal (Vovk and others, 2005; Lei and others, JASA 2018): the forecast and around it
the quantiles of what the model missed by on data that it was not trained on. It holds on
average, for markets that go on as they were; it is no wider where the market is wild.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from candlemark.errors import ModelError
from candlemark.hardware.device import resolve_device
from candlemark.models.fusion.building import Fusion
from candlemark.models.fusion.saving import load_fusion
from candlemark.models.fusion.spec import Inputs
from candlemark.models.fusion.tokens import tokenise

UInt8Array = npt.NDArray[np.uint8]
Float32Array = npt.NDArray[np.float32]

BATCH = 32
"""Samples asked about at once: bounds the memory of attention, whatever is asked."""

READS: dict[Inputs, tuple[str, ...]] = {
    "both": ("pictures", "texts"),
    "image": ("pictures",),
    "text": ("texts",),
    "numbers": ("numbers",),
}
"""What a model of each kind of inputs is shown."""

INTERVAL_KEYS = ("residual_low", "residual_high", "level")
"""Of the config's `returns`: what is added to a forecast for the ends of the interval, as log
returns, and the share of cases that it holds in."""

GREY_KINDS = ("ohlc4", "jkx")
"""Chart styles of two levels."""

NO_INTERVAL = "the model keeps no residuals of held-out data"
NO_FORECAST = "the model keeps no mean and standard deviation of returns"
"""Why an answer is left out."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Answer:
    """What a model says of one window.

    probabilities: by class, in the order of the targets; they sum to 1
    log_return: natural log return of the next close against the last visible one; None where
        the model cannot say, with `forecast_reason`
    log_return_low, log_return_high: the interval that holds it in a share `level` of cases;
        None with `interval_reason`
    next_close, next_close_low, next_close_high: the same as prices; None without a last close
    attention: float32 (H, W) >= 0 over the chart as drawn, a density that sums to at most 1
        (the rest fell on the border that fills the picture up); None with `attention_reason`
    """

    probabilities: Mapping[str, float]
    log_return: float | None = None
    log_return_low: float | None = None
    log_return_high: float | None = None
    level: float | None = None
    last_close: float | None = None
    next_close: float | None = None
    next_close_low: float | None = None
    next_close_high: float | None = None
    attention: Float32Array | None = None
    forecast_reason: str | None = None
    interval_reason: str | None = None
    attention_reason: str | None = None

    @property
    def label(self) -> str:
        """The most probable class; of equals the first."""
        return max(self.probabilities, key=lambda name: self.probabilities[name])

    def to_dict(self) -> dict[str, Any]:
        """JSON types; the attention map, which is a picture, is left out."""
        left_out = {"probabilities", "attention"}
        return {
            "label": self.label,
            "probabilities": dict(self.probabilities),
            **{name: getattr(self, name) for name in Answer.__slots__ if name not in left_out},
        }


class Predictor:
    """A fusion model on a device, ready to be asked.

    Several threads may ask at once.
    """

    def __init__(self, fusion: Fusion, device: torch.device) -> None:
        self.fusion = fusion
        self.config = fusion.config
        self.device = device
        self._model = fusion.model.to(device).eval()

    @classmethod
    def load(
        cls, folder_or_id: str | Path, device: str = "auto", *, allow_pickle: bool = False
    ) -> Predictor:
        """From a folder, the Hub's cache, or the Hub.

        allow_pickle: also load weights that are not safetensors; still tensors only

        Raises ModelError: there is no fusion model there. ConfigError: no such device.
        """
        chosen = resolve_device(device)
        return cls(load_fusion(folder_or_id, allow_pickle=allow_pickle), chosen)

    @property
    def inputs(self) -> Inputs:
        """What the model reads: both, image, text or numbers."""
        return cast("Inputs", self.config.inputs)

    @property
    def reads_image(self) -> bool:
        """Whether it reads a picture."""
        return self.inputs in {"both", "image"}

    @property
    def reads_text(self) -> bool:
        """Whether it reads a text."""
        return self.inputs in {"both", "text"}

    @property
    def reads_numbers(self) -> bool:
        """Whether it reads the window as numbers."""
        return self.inputs == "numbers"

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, by target."""
        names: Mapping[int, str] = self.config.id2label
        return tuple(names[target] for target in sorted(names))

    @property
    def image_shape(self) -> tuple[int, int]:
        """(H, W) of the pictures that the model was trained on."""
        high, wide = self.config.chart["image_shape"][:2]
        return int(high), int(wide)

    @property
    def is_grey(self) -> bool:
        """Whether those pictures had no colours."""
        style = self.config.chart.get("style") or {}
        return style.get("kind") in GREY_KINDS

    def predict(
        self,
        images: UInt8Array | Sequence[UInt8Array] | None = None,
        texts: Sequence[str] | None = None,
        numbers: Float32Array | None = None,
        last_close: Sequence[float | None] | None = None,
    ) -> list[Answer]:
        """One answer a sample, in order. Exactly what the model reads must be given.

        images: uint8 (N, H, W) or (N, H, W, 3), of the model's own H and W
        texts: N captions, or whatever is written in their place; never cut
        numbers: float32 (N, W', 5), as `Dataset.features`; NaN where no candle is visible
        last_close: N prices, so that the answer has a next close; None where one is unknown

        Raises ModelError: an input is missing, of no use, of another shape, or a text has more
        tokens than the model takes.
        """
        given = {"pictures": images, "texts": texts, "numbers": numbers}
        count = self._count(given, last_close)
        prices = [None] * count if last_close is None else list(last_close)
        answers: list[Answer] = []
        for first in range(0, count, BATCH):
            part = slice(first, first + BATCH)
            inputs: dict[str, Tensor] = {}
            if images is not None:
                inputs["images"] = self._pictures(images[part])
            if texts is not None:
                inputs |= self._tokens(texts[part])
            if numbers is not None:
                inputs["numbers"] = self._numbers(numbers[part])
            answers += self._ask(inputs, prices[part])
        return answers

    def _count(self, given: Mapping[str, Any], last_close: Sequence[float | None] | None) -> int:
        """How many samples there are; ModelError unless all agree and all that is read is there."""
        reads = READS[self.inputs]
        for name, value in given.items():
            if value is None and name in reads:
                raise ModelError(f"this model reads {' and '.join(reads)}, and no {name} are given")
            if value is not None and name not in reads:
                raise ModelError(
                    f"this model reads {' and '.join(reads)}; it has no use for {name}"
                )
        counts = {name: len(value) for name, value in given.items() if value is not None}
        if last_close is not None:
            counts["last closes"] = len(last_close)
        if len(set(counts.values())) > 1:
            told = ", ".join(f"{count} {name}" for name, count in counts.items())
            raise ModelError(f"got {told}; there must be one of each for every sample")
        return next(iter(counts.values()))

    def _pictures(self, images: UInt8Array | Sequence[UInt8Array]) -> Tensor:
        for image in images:
            if image.dtype != np.uint8 or image.shape not in self._shapes:
                high, wide = self.image_shape
                raise ModelError(
                    f"got a picture {image.dtype} {image.shape}; this model looks at uint8 "
                    f"({high}, {wide}[, 3]): bring it to that size first, as fit_picture does"
                )
        try:
            return torch.from_numpy(np.stack(list(images)))
        except ValueError as error:
            raise ModelError(
                "some pictures have colours and some have none; ask them apart"
            ) from error

    @property
    def _shapes(self) -> tuple[tuple[int, ...], ...]:
        return self.image_shape, (*self.image_shape, 3)

    def _tokens(self, texts: Sequence[str]) -> dict[str, Tensor]:
        if self.fusion.tokenizer is None:
            raise ModelError("the model has no tokenizer, so it cannot read a text; train it again")
        for row, text in enumerate(texts):
            if not _is_unicode(text):
                raise ModelError(f"text {row} is {text!r}, and no text in Unicode")
        tokens = tokenise(texts, self.fusion.tokenizer, max_tokens=self.config.max_tokens)
        ids, mask = tokens.take(range(len(tokens)))
        return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}

    def _numbers(self, numbers: Float32Array) -> Tensor:
        window, channels = self.config.numbers["window"], self.config.numbers["channels"]
        if numbers.shape[1:] != (window, channels):
            raise ModelError(
                f"got numbers {numbers.shape}; this model reads windows of {window} candles, "
                f"(N, {window}, {channels})"
            )
        return torch.from_numpy(np.ascontiguousarray(numbers, dtype=np.float32))

    @torch.inference_mode()
    def _ask(self, inputs: Mapping[str, Tensor], prices: Sequence[float | None]) -> list[Answer]:
        on_device = {name: tensor.to(self.device) for name, tensor in inputs.items()}
        prepared = self.fusion.prepare(on_device)
        output = self._model(**prepared, output_attentions=True)
        probabilities = output.logits.double().softmax(dim=-1).cpu().numpy()
        forecasts = output.forecast.double().cpu().numpy()
        if not np.isfinite(probabilities).all() or not np.isfinite(forecasts).all():
            raise ModelError(
                "the model answers with no numbers (NaN or infinity): its weights are of no use; "
                "train it again, with a lower --lr"
            )
        maps, reason = self._maps(output.attentions)
        return [
            Answer(
                probabilities=dict(zip(self.class_names, row.tolist(), strict=True)),
                attention=None if maps is None else maps[place],
                attention_reason=reason,
                **self._forecast(float(forecasts[place]), prices[place]),
            )
            for place, row in enumerate(probabilities)
        ]

    def _forecast(self, standardised: float, last_close: float | None) -> dict[str, Any]:
        """The fields of an answer that tell the next close."""
        returns = self.config.returns
        if "mean" not in returns or "std" not in returns:
            return {"forecast_reason": NO_FORECAST, "interval_reason": NO_FORECAST}
        forecast = returns["mean"] + returns["std"] * standardised
        low = high = level = None
        reason: str | None
        if all(returns.get(name) is not None for name in INTERVAL_KEYS):
            low, high = forecast + returns["residual_low"], forecast + returns["residual_high"]
            level, reason = returns["level"], None
        else:
            reason = returns.get("reason") or NO_INTERVAL

        return {
            "log_return": forecast,
            "log_return_low": low,
            "log_return_high": high,
            "level": level,
            "last_close": last_close if _is_price(last_close) else None,
            "next_close": _price(last_close, forecast),
            "next_close_low": _price(last_close, low),
            "next_close_high": _price(last_close, high),
            "interval_reason": reason,
        }

    def _maps(self, attentions: Tensor | None) -> tuple[Float32Array | None, str | None]:
        """Attention (N, heads, P) as densities float32 (N, H, W), or None and why not."""
        if not self.reads_image:
            return None, f"a model of {' and '.join(READS[self.inputs])} looks at no chart"
        if attentions is None:
            return None, self._why_no_attention()
        grid = self.config.image_tokens["grid"]
        if grid is None:
            return None, "the tokens of its image encoder have no place in the picture"
        weights = attentions.float().mean(dim=1).cpu().numpy()
        high, wide = self.image_shape[:2]
        filled = tuple(self.config.chart.get("input_shape") or (high, wide))
        return spread(weights, tuple(grid), filled)[:, -high:, -wide:], None

    def _why_no_attention(self) -> str:
        if self.inputs == "image":
            return "a model of pictures alone has no text that asks them"
        if self.config.fusion == "late":
            return "the fusion 'late' has no attention"
        return f"in the fusion '{self.config.fusion}' no text asks the picture"


def _is_price(number: float | None) -> bool:
    return number is not None and 0 < number < math.inf


def _price(last_close: float | None, log_return: float | None) -> float | None:
    """The price after a return; None where either is unknown or no number can hold it."""
    if last_close is None or log_return is None or not _is_price(last_close):
        return None
    try:
        price = last_close * math.exp(log_return)
    except OverflowError:
        return None
    return price if _is_price(price) else None


def _is_unicode(text: object) -> bool:
    """Bytes that a command line could not read are lone surrogates, which no tokenizer takes."""
    return isinstance(text, str) and not any("\ud800" <= letter <= "\udfff" for letter in text)


def spread(
    weights: npt.NDArray[np.floating], grid: tuple[int, int], shape: tuple[int, ...]
) -> Float32Array:
    """Weights of patches (N, P) as densities over pixels, float32 (N, H, W) with equal sums.

    grid: rows and columns of patches, P = rows * columns, the first row first
    """
    rows, columns = grid
    patch_of_row = np.arange(shape[0]) * rows // shape[0]
    patch_of_column = np.arange(shape[1]) * columns // shape[1]
    areas = np.outer(
        np.bincount(patch_of_row, minlength=rows),
        np.bincount(patch_of_column, minlength=columns),
    )
    density = weights.reshape(-1, rows, columns) / np.maximum(areas, 1)
    maps: Float32Array = density[:, patch_of_row][:, :, patch_of_column].astype(np.float32)
    return maps


def shown_name(path: str | Path) -> str:
    """The name of a file as it can be printed and drawn, whatever bytes it is made of."""
    return "".join(letter if letter.isprintable() else "?" for letter in Path(path).name)


def read_picture(path: str | Path) -> UInt8Array:
    """A picture file as uint8 (H, W, 3), turned as its camera says.

    What is transparent becomes white. Of 16 bits the upper 8 are taken.

    Raises ModelError: there is no such file, or it is no picture, or a damaged one, one of
    more pixels than Pillow takes for harmless (89 million), or one whose numbers have no white.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    name = shown_name(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as picture:
                whole = _eight_bits(ImageOps.exif_transpose(picture), picture.format, name)
    except FileNotFoundError as error:
        raise ModelError(f"there is no file {path}; give a picture of a chart") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ModelError(f"{name} has too many pixels: {error}; make it smaller") from error
    except UnidentifiedImageError as error:
        raise ModelError(f"{name} is no picture that can be read (PNG, JPEG, ...)") from error
    except (OSError, ValueError, SyntaxError) as error:
        raise ModelError(f"{name} cannot be read as a picture: {error}") from error
    if not whole.has_transparency_data:
        return np.asarray(whole.convert("RGB"))
    layer = whole.convert("RGBA")
    paper = Image.new("RGBA", layer.size, "white")
    return np.asarray(Image.alpha_composite(paper, layer).convert("RGB"))


def _eight_bits(picture: Any, kind: str | None, name: str) -> Any:
    """The picture of Pillow in 8 bits a channel: its own conversion makes all above 255 white."""
    from PIL import Image

    if picture.mode.startswith("I;16") or (picture.mode == "I" and kind in {"PNG", "PPM"}):
        return Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    if picture.mode in {"I", "F"}:
        raise ModelError(f"{name} has pixels of 32 bits, and does not tell which of them is white")
    return picture


def fit_picture(
    picture: UInt8Array, shape: tuple[int, int], *, grey: bool = False
) -> tuple[UInt8Array, str | None]:
    """The picture in the size and colours that a model looks at, and a note if that changed it.

    picture: uint8 (H, W) or (H, W, 3); shape: the model's (H, W)
    grey: the model was trained on pictures without colours

    Another size is brought to the model's by bilinear filtering, as preprocessors of vision
    models do. A line of one pixel does not survive that as it was drawn.
    """
    from PIL import Image

    drawn, size = Image.fromarray(picture), (shape[1], shape[0])
    notes = []
    if drawn.size != size:
        notes.append(
            f"the picture is {drawn.width} x {drawn.height} pixels and was resized to {size[0]} x "
            f"{size[1]}, which the model was trained on; thin lines do not survive that as drawn"
        )
    if grey:
        if picture.ndim == 3 and (picture != picture[..., :1]).any():
            notes.append("its colours were turned to grey: the model was trained on charts of two")
        drawn = drawn.convert("L")
    if drawn.size != size:
        drawn = drawn.resize(size, Image.Resampling.BILINEAR)
    return np.asarray(drawn), "; ".join(notes) or None
