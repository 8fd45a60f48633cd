"""What a fusion model is fed: pictures, captions and numbers of the same windows, by the batch.

    tokens = caption_tokens(dataset, tokenizer, style="window", max_tokens=128)
    train = FusionData(
        dataset, rows, inputs="both", tokens=tokens, values=standardised, targets=targets
    )
    inputs, targets = train.batch([0, 5, 9])
    inputs["images"]            # uint8 (3, H, W[, 3])
    inputs["input_ids"]         # int64 (3, T)
    inputs["attention_mask"]    # int64 (3, T), 0 behind the text
    targets["target"]           # int64 (3,)
    targets["value"]            # float32 (3,), NaN where unknown

    inputs["numbers"]           # of inputs="numbers" alone: float32 (3, W, 5), NaN where missing

Pictures are drawn when they are asked for and nothing is decoded; captions were tokenised once,
for the whole dataset. What a model is not shown is not made.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from candlemark.candles.series import FloatArray, IntArray
from candlemark.dataset.captions import captions, check_style
from candlemark.dataset.lazy import Dataset, Rows, checked_rows
from candlemark.dataset.torch_dataset import ChartDataset
from candlemark.errors import DatasetError
from candlemark.models.fusion.spec import Inputs
from candlemark.models.fusion.tokens import Tokens, cached_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Batch = tuple[dict[str, Tensor], dict[str, Tensor]]

WITH_IMAGES = ("both", "image")
WITH_TEXT = ("both", "text")


class FusionData(TorchDataset[Batch]):
    """Inputs and targets of `rows`, in the order of `rows`.

    inputs: what is shown; see the module for the names of the tensors
    tokens: of every row of the dataset (not of `rows` alone), for inputs with text
    values: float64[N], what the forecaster learns of each of `rows`, NaN where unknown
    targets: int64[N], classes of `rows`; a control may have shuffled them

    Raises DatasetError: there are not as many tokens, values or targets as there should be.
    """

    def __init__(
        self,
        dataset: Dataset,
        rows: Rows,
        *,
        inputs: Inputs,
        tokens: Tokens | None,
        values: FloatArray,
        targets: IntArray,
    ) -> None:
        self.dataset = dataset
        self.rows = checked_rows(rows, len(dataset))
        self.inputs = inputs
        self.tokens = _checked_tokens(tokens, dataset) if inputs in WITH_TEXT else None
        for name, given in (("values", values), ("targets", targets)):
            if len(given) != len(self.rows):
                raise DatasetError(f"{len(given)} {name} for {len(self.rows)} rows; give one each")
        self.values = torch.from_numpy(np.asarray(values, dtype=np.float32).copy())
        self._charts = ChartDataset(dataset, self.rows, np.asarray(targets, dtype=np.int64))
        self.targets = self._charts.targets

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, position: int) -> Batch:
        inputs, targets = self.batch([position])
        return (
            {name: tensor[0] for name, tensor in inputs.items()},
            {name: tensor[0] for name, tensor in targets.items()},
        )

    def batch(self, positions: Sequence[int] | npt.NDArray[Any]) -> Batch:
        """Inputs and targets of a whole batch, each (n, ...).

        It depends on nothing but `positions`, and may be called from several threads at once.
        """
        chosen = np.asarray(positions, dtype=np.int64)
        targets = {
            "target": torch.from_numpy(self.targets.numpy()[chosen]),
            "value": torch.from_numpy(self.values.numpy()[chosen]),
        }
        return self._inputs(chosen), targets

    def _inputs(self, chosen: IntArray) -> dict[str, Tensor]:
        inputs: dict[str, Tensor] = {}
        if self.inputs in WITH_IMAGES:
            inputs["images"], _ = self._charts.batch(chosen)
        if self.tokens is not None:
            ids, mask = self.tokens.take(self.rows[chosen])
            inputs["input_ids"] = torch.from_numpy(ids)
            inputs["attention_mask"] = torch.from_numpy(mask)
        if self.inputs == "numbers":
            inputs["numbers"] = torch.from_numpy(self.dataset.features(self.rows[chosen]))
        return inputs


def caption_tokens(
    dataset: Dataset, tokenizer: PreTrainedTokenizerBase, *, style: str, max_tokens: int
) -> Tokens:
    """Tokens of the captions of every row, made once for a dataset, a style and a tokenizer.

    Raises ConfigError: there is no such style. ModelError: a caption has more tokens than
    `max_tokens`.
    """
    check_style(style)
    return cached_tokens(
        {"dataset": dataset.content_hash, "caption": style},
        len(dataset),
        lambda rows: captions(dataset, rows, style=style),
        tokenizer,
        max_tokens=max_tokens,
    )


def _checked_tokens(tokens: Tokens | None, dataset: Dataset) -> Tokens:
    if tokens is None:
        raise DatasetError("a model that reads text needs tokens; make them with caption_tokens")
    if len(tokens) != len(dataset):
        raise DatasetError(
            f"tokens of {len(tokens)} texts for a dataset of {len(dataset)} windows; they must be "
            "those of every row: caption_tokens makes them"
        )
    return tokens
