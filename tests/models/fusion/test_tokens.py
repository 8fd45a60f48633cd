"""Texts are tokenised whole and once, and what is kept of them is trusted only if it is right."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from candlemark.errors import ModelError
from candlemark.models.fusion import tokens as module
from candlemark.models.fusion.tokens import Tokens, cached_tokens, fingerprint, tokenise
from candlemark.progress import Event

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "up", "down", "flat", "1", "2", "3", ".", "%")


def make_tokenizer(words: tuple[str, ...] = WORDS, **options: Any) -> PreTrainedTokenizerFast:
    vocabulary = {word: number for number, word in enumerate(words)}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    special = {"unk_token": "[UNK]", "pad_token": "[PAD]", **options}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **special)


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    return make_tokenizer()


class Captions:
    """Texts by row, which remembers what it was asked for."""

    def __init__(self, texts: list[str]) -> None:
        self.texts = texts
        self.asked: list[int] = []

    def __call__(self, rows: Any) -> list[str]:
        self.asked += rows.tolist()
        return [self.texts[row] for row in rows]


@pytest.fixture
def captions() -> Captions:
    return Captions([f"Up {'1 ' * (row % 5)}down." for row in range(200)])


@pytest.fixture
def get(tmp_path: Path, captions: Captions) -> Callable[..., Tokens]:
    def make(tokenizer: Any, key: str = "a", *, texts: Any = captions, most: int = 32) -> Tokens:
        folder = tmp_path / "kept"
        count = len(texts.texts)
        return cached_tokens({"data": key}, count, texts, tokenizer, max_tokens=most, folder=folder)

    return make


def kept(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "kept").iterdir())


def test_a_table_with_padding_behind(tokenizer: PreTrainedTokenizerFast) -> None:
    found = tokenise(["Up 1 %.", "down", "sideways 2"], tokenizer, max_tokens=8)
    assert found.ids.tolist() == [[2, 4, 7, 11, 10, 3], [2, 5, 3, 0, 0, 0], [2, 1, 8, 3, 0, 0]]
    assert found.lengths.tolist() == [6, 3, 4]
    assert found.ids.dtype == found.lengths.dtype == np.int32
    assert (len(found), found.width) == (3, 6)
    ids, mask = found.take([1, 0])
    assert ids.tolist() == found.ids[[1, 0]].tolist()
    assert mask.tolist() == [[1, 1, 1, 0, 0, 0], [1] * 6]
    assert ids.dtype == mask.dtype == np.int64


@given(
    texts=st.lists(
        st.lists(st.sampled_from(["up", "down", "1", "%", "odd"]), max_size=9).map(" ".join),
        min_size=1,
        max_size=12,
    ),
    batch=st.integers(1, 5),
)
@settings(deadline=None, max_examples=30)
def test_the_same_as_the_tokenizer_one_by_one(texts: list[str], batch: int) -> None:
    tokenizer = make_tokenizer()
    before, module.BATCH_TEXTS = module.BATCH_TEXTS, batch
    try:
        found = tokenise(texts, tokenizer, max_tokens=11)
    finally:
        module.BATCH_TEXTS = before
    for text, ids, length in zip(texts, found.ids.tolist(), found.lengths.tolist(), strict=True):
        assert ids[:length] == tokenizer(text)["input_ids"]
        assert set(ids[length:]) <= {0}
    assert found.width == found.lengths.max()


def test_a_text_that_is_too_long_is_named_and_never_cut(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    tokenizer(["up"], truncation=True, max_length=3, padding="max_length")  # as somebody left it
    texts = ["up", "up 1 2 3", "down"]
    assert tokenise(texts, tokenizer, max_tokens=6).lengths.tolist() == [3, 6, 3]
    with pytest.raises(
        ModelError,
        match=r"text 1 has 6 tokens, max_tokens allows 5, and none is ever cut: 'up 1 2 3'; take",
    ):
        tokenise(texts, tokenizer, max_tokens=5)
    short = make_tokenizer(model_max_length=4)
    with pytest.raises(ModelError, match="text 1 has 6 tokens, the text encoder reads 4"):
        tokenise(texts, short, max_tokens=64)


def test_what_cannot_be_tokenised_is_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(ModelError, match="there are no texts"):
        tokenise([], tokenizer, max_tokens=8)
    bare = make_tokenizer(pad_token=None)
    with pytest.raises(ModelError, match="has no padding token"):
        tokenise(["up"], bare, max_tokens=8)


def test_the_second_time_only_a_sample_is_read(
    get: Callable[..., Tokens], tokenizer: PreTrainedTokenizerFast, captions: Captions
) -> None:
    first = get(tokenizer)
    assert captions.asked == list(range(200))
    captions.asked.clear()
    second = get(tokenizer)
    assert len(captions.asked) == module.SAMPLE_TEXTS
    assert isinstance(second.ids, np.memmap)
    assert not second.ids.flags.writeable
    whole = tokenise(captions.texts, tokenizer, max_tokens=32)
    for found in (first, second):
        np.testing.assert_array_equal(found.ids, whole.ids)
        np.testing.assert_array_equal(found.lengths, whole.lengths)


def test_another_key_or_tokenizer_is_another_file(
    get: Callable[..., Tokens], tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    get(tokenizer)
    get(tokenizer, "b")
    get(make_tokenizer((*WORDS, "more")))
    assert len(kept(tmp_path)) == 3
    assert not [path for path in kept(tmp_path) if path.name.startswith(".")]


def test_how_a_tokenizer_was_last_used_makes_no_difference(
    get: Callable[..., Tokens], tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    before = fingerprint(tokenizer)
    get(tokenizer)
    tokenizer(["up"], truncation=True, max_length=3, padding="max_length")
    assert fingerprint(tokenizer) == before
    get(tokenizer)
    assert len(kept(tmp_path)) == 1
    assert fingerprint(make_tokenizer(pad_token="[UNK]")) != before


def test_captions_that_are_worded_anew_are_tokenised_anew(
    get: Callable[..., Tokens], tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    get(tokenizer)
    (old,) = kept(tmp_path)
    other = Captions([f"Down {'2 ' * (row % 5)}up." for row in range(200)])
    found = get(tokenizer, texts=other)
    assert found.ids.tolist() == tokenise(other.texts, tokenizer, max_tokens=32).ids.tolist()
    (new,) = kept(tmp_path)
    assert new != old


def spoil_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-7] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    "spoil",
    [
        spoil_a_byte,
        lambda path: os.truncate(path, path.stat().st_size - 8),
        lambda path: os.truncate(path, 0),
        lambda path: path.write_bytes(b"something else"),
        lambda path: np.save(path, np.zeros((200, 4))),
    ],
    ids=["a bit", "cut", "empty", "no array", "another array"],
)
def test_damaged_tokens_are_made_anew(
    get: Callable[..., Tokens],
    tokenizer: PreTrainedTokenizerFast,
    captions: Captions,
    tmp_path: Path,
    spoil: Callable[[Path], None],
) -> None:
    get(tokenizer)
    (path,) = kept(tmp_path)
    spoil(path)
    found = get(tokenizer)
    whole = tokenise(captions.texts, tokenizer, max_tokens=32)
    np.testing.assert_array_equal(found.ids, whole.ids)
    assert kept(tmp_path) == [path]


def test_kept_tokens_obey_the_limit_too(
    get: Callable[..., Tokens], tokenizer: PreTrainedTokenizerFast, captions: Captions
) -> None:
    get(tokenizer)
    assert get(tokenizer, most=9).width == 9
    with pytest.raises(
        ModelError, match=r"text 4 has 9 tokens, max_tokens allows 8.*'Up 1 1 1 1 d"
    ):
        get(tokenizer, most=8)


def test_a_cache_that_cannot_be_written_to_is_warned_of(
    tokenizer: PreTrainedTokenizerFast, captions: Captions, tmp_path: Path, told: list[Event]
) -> None:
    folder = tmp_path / "file"
    folder.write_text("in the way", encoding="utf-8")
    found = cached_tokens({}, 200, captions, tokenizer, max_tokens=32, folder=folder)
    assert len(found) == 200
    (warned,) = [event.text for event in told if event.kind == "warning"]
    assert warned.startswith(f"tokens are not kept in {folder}: ")
    assert "CANDLEMARK_CACHE" in warned


def test_the_cache_folder_is_the_one_that_is_named(
    tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CANDLEMARK_CACHE", str(tmp_path / "cache"))
    cached_tokens({}, 1, lambda rows: ["up"], tokenizer, max_tokens=8)
    assert len(list((tmp_path / "cache" / "tokens").iterdir())) == 1
