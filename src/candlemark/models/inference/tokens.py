"""Text for models that read it: synthetic English through a tokenizer, or random token ids.

    N items, T tokens

    text = TextInputs.of(request, vocabulary_size=30522, length=128, avoid={0})
    raw = text.make_raw(8, 0)                # eight strings, or int64 (8, 128) without a tokenizer
    text.encode(raw)["input_ids"]            # int64 (8, 128)

Sentences are made of a list of common words, drawn at random: as many words as tokens are
asked for, so that a tokenizer always cuts and never pads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from candlemark.errors import ModelError
from candlemark.models.building import first_line
from candlemark.models.inference.base import Tensors
from candlemark.models.inference.request import LoadRequest

_WORDS = (
    *("a", "an", "the", "this", "that", "we", "they", "she", "he", "it", "you", "who"),
    *("is", "was", "has", "had", "will", "can", "may", "did", "made", "took", "gave", "found"),
    *("and", "but", "or", "so", "because", "while", "when", "before", "after", "until", "since"),
    *("of", "in", "to", "for", "with", "on", "from", "by", "about", "between", "without"),
    *("new", "old", "small", "large", "early", "late", "quiet", "bright", "different", "important"),
    *("house", "water", "market", "candle", "morning", "country", "question", "answer", "letter"),
    *("government", "university", "development", "information", "understanding", "temperature"),
    *("quickly", "slowly", "often", "never", "together", "particularly", "approximately"),
)
_SENTENCE = (5, 17)
"""Fewest words of a sentence, and one more than most."""

_SETTINGS = ("tokenizer_config.json", "special_tokens_map.json")
_VOCABULARIES = (
    *("vocab.txt", "vocab.json", "merges.txt"),
    *("spiece.model", "tokenizer.model", "sentencepiece.bpe.model"),
)


def synthetic_english(count: int, seed: int, words: int) -> list[str]:
    """`count` texts of `words` words each in sentences; item i is the same whatever the count."""
    return [_text(np.random.default_rng((seed, item)), words) for item in range(count)]


def _text(random: np.random.Generator, words: int) -> str:
    chosen = [_WORDS[index] for index in random.integers(0, len(_WORDS), words)]
    start = 0
    while start < words:
        end = min(words, start + int(random.integers(*_SENTENCE)))
        chosen[start] = chosen[start].capitalize()
        chosen[end - 1] += "."
        start = end
    return " ".join(chosen)


def random_token_ids(
    count: int, seed: int, length: int, *, vocabulary_size: int, avoid: frozenset[int]
) -> npt.NDArray[np.int64]:
    """int64 (count, length): ids below `vocabulary_size` that mean words, not the ends of texts."""
    allowed = np.setdiff1d(np.arange(vocabulary_size), np.fromiter(avoid, np.int64))
    rows = [np.random.default_rng((seed, item)).choice(allowed, length) for item in range(count)]
    return np.stack(rows).astype(np.int64)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TextInputs:
    """How the texts of one model are made and read.

    length: tokens of a text, special tokens included
    tokenizer: of transformers; None: items are token ids as they are
    avoid: ids that random texts leave out
    pad_left: short texts are filled in front
    end: id that random texts close with; None: they just stop
    foreign: the tokenizer knows no English, and every word is its token for the unknown
    """

    length: int
    vocabulary_size: int
    avoid: frozenset[int] = frozenset()
    tokenizer: Any = None
    pad_left: bool = False
    end: int | None = None
    foreign: bool = False

    @classmethod
    def of(
        cls,
        request: LoadRequest,
        *,
        length: int,
        vocabulary_size: int,
        avoid: frozenset[int] = frozenset(),
        pad_left: bool = False,
        tokenizer: Any = None,
        end: int | None = None,
    ) -> TextInputs:
        """The texts of the requested model, by its own tokenizer where it has one.

        pad_left: short texts are filled in front, as models need that go on from their end
        tokenizer: where it is loaded already
        end: id that random texts close with; a tokenizer closes texts by itself

        Raises ModelError: `length` leaves no room beside the tokenizer's own special tokens, or
        the tokenizer cannot read, or is another model's.
        """
        tokenizer = tokenizer or load_tokenizer(request)
        if tokenizer is None:
            return cls(
                length=length,
                vocabulary_size=vocabulary_size,
                avoid=avoid,
                pad_left=pad_left,
                end=end,
            )
        if pad_left:
            tokenizer.padding_side = "left"
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
        special = tokenizer.num_special_tokens_to_add(pair=False)
        if length <= special:
            raise ModelError(
                f"sequence_length = {length}; the tokenizer of {request.described.id} adds "
                f"{special} tokens of its own, so {special + 1} or more are needed"
            )
        return cls(
            length=length,
            vocabulary_size=vocabulary_size,
            avoid=avoid,
            tokenizer=tokenizer,
            pad_left=pad_left,
            foreign=_is_foreign(request, tokenizer, vocabulary_size),
        )

    @property
    def origin(self) -> str:
        """Where the items come from, in a sentence."""
        if self.tokenizer is None:
            return "random token ids: the model has no tokenizer here"
        told = "the model's own tokenizer on synthetic English"
        return f"{told}, of which it knows no word" if self.foreign else told

    def make_raw(self, count: int, seed: int) -> Any:
        """`count` strings, or int64 (count, length) ids; the same for the same seed."""
        if self.tokenizer is not None:
            return synthetic_english(count, seed, self.length)
        ids = random_token_ids(
            count, seed, self.length, vocabulary_size=self.vocabulary_size, avoid=self.avoid
        )
        if self.end is not None:
            ids[:, -1] = self.end
        return ids

    def encode(self, raw: Any) -> Tensors:
        """Texts or ids -> "input_ids" and "attention_mask", int64 (N, length) each.

        A tokenizer may add "token_type_ids". Longer texts are cut, shorter ones padded.
        """
        if self.tokenizer is None:
            ids = torch.from_numpy(np.asarray(raw, dtype=np.int64))
            return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        encoded = self.tokenizer(
            list(raw),
            padding="max_length",
            truncation=True,
            max_length=self.length,
            return_tensors="pt",
        )
        return {name: tensor.to(torch.int64) for name, tensor in encoded.items()}


def _is_foreign(request: LoadRequest, tokenizer: Any, vocabulary_size: int) -> bool:
    """Whether the tokenizer knows no word of ours. Raises ModelError: it cannot read them."""
    name = request.described.id
    try:
        ids = set(tokenizer(" ".join(_WORDS))["input_ids"])
    except Exception as error:  # tokenizers raises Exception itself
        raise ModelError(
            f"the tokenizer of {name} cannot read: {type(error).__name__}: {first_line(error)}; "
            "a part of its files may be missing"
        ) from error
    if ids and max(ids) >= vocabulary_size:
        raise ModelError(
            f"the tokenizer of {name} gives the id {max(ids)}, and the model has {vocabulary_size} "
            "tokens: these are files of another model"
        )
    return not ids - set(tokenizer.all_special_ids)


def load_tokenizer(request: LoadRequest) -> Any:
    """The model's own tokenizer from its folder or the Hub, or None if it has none there.

    Raises ModelError: it is there and cannot be read.
    """
    whole = request.beside("tokenizer.json")
    found = [whole] if whole else [request.beside(name) for name in _VOCABULARIES]
    folder = next((path.parent for path in found if path is not None), None)
    if folder is None:
        return None
    for name in _SETTINGS:  # where the model is on the Hub, this brings them
        request.beside(name)
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # tokenizers raises Exception itself
        raise ModelError(
            f"the tokenizer of {request.described.id} cannot be read: {type(error).__name__}: "
            f"{first_line(error)}; see {folder}"
        ) from error
