"""What a fusion model is fed belongs together, whatever the order of the rows."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerFast

from candlemark.benchmark.fusion.data import FusionData, caption_tokens
from candlemark.config import parse
from candlemark.dataset import captions as captions_module
from candlemark.dataset.build import build_dataset
from candlemark.dataset.captions import captions
from candlemark.dataset.config import DatasetConfig
from candlemark.dataset.lazy import Dataset
from candlemark.errors import ConfigError, DatasetError, ModelError
from candlemark.training.batches import MapDataset, all_targets, epoch_batches, fetch, fetched

Make = Callable[..., FusionData]


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    monkeypatch.setenv("CANDLEMARK_CACHE", str(tmp_path / "cache"))
    config = {
        "candles": {"kind": "planted_pair", "count": 300, "density": 0.9},
        "window": 12,
        "label": {"name": "direction"},
        "style": {"kind": "ohlc4", "height": 24},
    }
    return build_dataset(parse(DatasetConfig, config), tmp_path / "data")


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    """Bytes: nothing is unknown and everything can be read back."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = {word: number for number, word in enumerate(["[PAD]", *alphabet])}
    backend = Tokenizer(models.BPE(words, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="[PAD]")


@pytest.fixture
def make(dataset: Dataset, tokenizer: PreTrainedTokenizerFast) -> Make:
    rows = np.random.default_rng(0).permutation(len(dataset))[:50]

    def made(inputs: str = "both", **changes: Any) -> FusionData:
        tokens = caption_tokens(dataset, tokenizer, style="classic", max_tokens=200)
        values = np.where(rows % 7 == 0, np.nan, dataset.values(rows))
        given: dict[str, Any] = {
            "tokens": tokens,
            "values": values,
            "targets": dataset.targets(rows),
            **changes,
        }
        return FusionData(dataset, given.pop("rows", rows), inputs=inputs, **given)  # type: ignore[arg-type]

    return made


def read(tokenizer: PreTrainedTokenizerFast, ids: torch.Tensor, mask: torch.Tensor) -> str:
    text = "".join(tokenizer.convert_ids_to_tokens(ids[mask.bool()].tolist()))
    return text.replace("Ġ", " ")


def test_picture_caption_class_and_value_are_those_of_one_window(
    make: Make, dataset: Dataset, tokenizer: PreTrainedTokenizerFast
) -> None:
    data = make()
    inputs, targets = data.batch([3, 0, 49])
    rows = data.rows[[3, 0, 49]]
    np.testing.assert_array_equal(inputs["images"].numpy(), dataset.images(rows))
    texts = [
        read(tokenizer, *pair)
        for pair in zip(inputs["input_ids"], inputs["attention_mask"], strict=True)
    ]
    assert texts == captions(dataset, rows, style="classic")
    np.testing.assert_array_equal(targets["target"].numpy(), dataset.targets(rows))
    expected = np.where(rows % 7 == 0, np.nan, dataset.values(rows))
    np.testing.assert_allclose(targets["value"].numpy(), expected, rtol=1e-6)
    assert {name: (tensor.dtype, len(tensor)) for name, tensor in (inputs | targets).items()} == {
        "images": (torch.uint8, 3),
        "input_ids": (torch.int64, 3),
        "attention_mask": (torch.int64, 3),
        "target": (torch.int64, 3),
        "value": (torch.float32, 3),
    }


@pytest.mark.parametrize(
    ("inputs", "names"),
    [
        ("both", {"images", "input_ids", "attention_mask"}),
        ("image", {"images"}),
        ("text", {"input_ids", "attention_mask"}),
        ("numbers", {"numbers"}),
    ],
)
def test_what_is_not_shown_is_not_made(
    make: Make, dataset: Dataset, inputs: str, names: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make(inputs)
    if "images" not in names:
        monkeypatch.setattr(Dataset, "images", None)
    found, _ = data.batch([1, 2])
    assert set(found) == names
    if inputs == "numbers":
        numbers = found["numbers"].numpy()
        np.testing.assert_array_equal(numbers, dataset.features(data.rows[[1, 2]]))
    if inputs in {"image", "numbers"}:
        assert len(make(inputs, tokens=None)) == 50


def test_no_caption_is_written_or_tokenised_for_a_batch(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make()
    monkeypatch.setattr(PreTrainedTokenizerFast, "__call__", None)
    monkeypatch.setattr(captions_module, "_DESCRIBE", {})
    assert len(data.batch(range(50))[0]["input_ids"]) == 50


def test_an_item_is_a_batch_of_one(make: Make) -> None:
    data = make()
    inputs, targets = data[7]
    batch, wanted = data.batch([7])
    for name, tensor in (inputs | targets).items():
        np.testing.assert_array_equal(tensor.numpy(), (batch | wanted)[name][0].numpy())


def test_every_batch_has_one_shape(make: Make) -> None:
    data = make()
    shapes = {tuple(data.batch([item])[0]["input_ids"].shape) for item in range(50)}
    assert len(shapes) == 1


def test_the_loop_of_training_takes_it(make: Make) -> None:
    data: MapDataset = make()
    assert len(all_targets(data)) == 50
    inputs, targets = fetch(data, np.array([4, 2]))
    assert isinstance(inputs, dict)
    assert isinstance(targets, dict)
    batches = epoch_batches(50, batch_size=16, seed=0, epoch=0)
    sizes = [len(x["images"]) for x, _ in fetched(data, batches, torch.device("cpu"))]
    assert sum(sizes) == 50


def test_torch_s_own_loader_gives_the_same(make: Make) -> None:
    data = make()
    inputs, targets = next(iter(DataLoader(data, batch_size=8)))
    expected = data.batch(range(8))
    for name, tensor in (inputs | targets).items():
        np.testing.assert_array_equal(tensor.numpy(), (expected[0] | expected[1])[name].numpy())


def test_threads_and_other_processes_get_the_same(make: Make) -> None:
    data = make()
    orders = [np.random.default_rng(seed).permutation(50)[:20] for seed in range(12)]
    alone = [data.batch(order) for order in orders]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(data.batch, orders))
    copied = [pickle.loads(pickle.dumps(data)).batch(order) for order in orders]  # noqa: S301
    for one, two, three in zip(alone, together, copied, strict=True):
        for name, tensor in one[0].items():
            assert torch.equal(tensor, two[0][name])
            assert torch.equal(tensor, three[0][name])


def test_what_does_not_belong_together_is_refused(make: Make, dataset: Dataset) -> None:
    with pytest.raises(DatasetError, match="49 values for 50 rows; give one each"):
        make(values=np.zeros(49))
    with pytest.raises(DatasetError, match="3 targets for 50 rows"):
        make(targets=np.zeros(3, dtype=np.int64))
    with pytest.raises(DatasetError, match="a model that reads text needs tokens"):
        make("text", tokens=None)
    other = make().tokens
    assert other is not None
    short = type(other)(ids=other.ids[:9], lengths=other.lengths[:9])
    with pytest.raises(DatasetError, match=f"tokens of 9 texts for a dataset of {len(dataset)} wi"):
        make(tokens=short)
    with pytest.raises(ConfigError, match="this dataset has rows 0 to"):
        make(rows=np.full(50, 9999))


def test_captions_of_a_dataset_are_tokenised_once(
    dataset: Dataset, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    for style in ("classic", "window", "classic"):
        caption_tokens(dataset, tokenizer, style=style, max_tokens=200)
    assert len(list((tmp_path / "cache" / "tokens").iterdir())) == 2
    with pytest.raises(ConfigError, match="unknown caption style 'long'"):
        caption_tokens(dataset, tokenizer, style="long", max_tokens=200)
    with pytest.raises(ModelError, match=r"max_tokens allows 60, .* 'The last candle closed"):
        caption_tokens(dataset, tokenizer, style="classic", max_tokens=60)


def test_values_and_targets_are_copies(make: Make) -> None:
    values, targets = np.zeros(50), np.zeros(50, dtype=np.int64)
    data = make(values=values, targets=targets)
    values[:], targets[:] = 1, 1
    assert data.batch([0])[1]["value"].item() == 0
    assert data.targets.sum() == 0
