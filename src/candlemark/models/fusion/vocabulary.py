"""A tokenizer made from captions, for text encoders that have none of their own.

    tokenizer = make_tokenizer(texts, max_tokens=128, limit=1024)
    tokenizer("Price goes up, from 3 % to 97 % of its range.")["input_ids"]

Words are lower case; every digit is a token, so that a number that was never seen is still
read; a word that was never seen is spelt. The same texts give the same tokenizer, in whatever
order they come. Only training captions may be shown to it: a vocabulary learns too.
"""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from candlemark.errors import ModelError
from candlemark.models.building import first_line

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
"""Tokens that are no words; the padding's id is 0, as encoders take it."""

_ROLES = dict(
    zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), SPECIAL, strict=True)
)
_LETTERS = string.digits + string.ascii_lowercase + string.punctuation


def read_tokenizer(folder: Path, *, name: str) -> Any:
    """The tokenizer in a folder; name: whose it is, for messages.

    Raises ModelError: it cannot be read.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # tokenizers raises Exception itself
        raise ModelError(
            f"the tokenizer of {name} cannot be read: {type(error).__name__}: "
            f"{first_line(error)}; see {folder}"
        ) from error
    # The library keeps how it was loaded, and would write that beside the vocabulary.
    for said in ("is_local", "local_files_only"):
        tokenizer.init_kwargs.pop(said, None)
    return tokenizer


def write_tokenizer(tokenizer: Any, folder: Path) -> None:
    """The tokenizer's files, the same whatever it was last asked."""
    if getattr(tokenizer, "backend_tokenizer", None) is not None:
        tokenizer.backend_tokenizer.no_padding()
        tokenizer.backend_tokenizer.no_truncation()
    tokenizer.save_pretrained(folder)


def make_tokenizer(texts: Iterable[str], *, max_tokens: int, limit: int | None = None) -> Any:
    """A `PreTrainedTokenizerFast` whose words are those of `texts`.

    limit: tokens at most; the rarest words are left out, and spelt

    Raises ModelError: there is no text, or not even the letters fit.
    """
    from tokenizers import Tokenizer, normalizers, pre_tokenizers
    from tokenizers.models import WordPiece
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    normalizer = normalizers.BertNormalizer(lowercase=True)
    splitter = pre_tokenizers.Sequence(
        [pre_tokenizers.BertPreTokenizer(), pre_tokenizers.Digits(individual_digits=True)]
    )
    counts: Counter[str] = Counter()
    # Captions repeat: each different one is cut once.
    for text, times in Counter(texts).items():
        for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text)):
            counts[word] += times
    if not counts:
        raise ModelError("a vocabulary is made from training captions, and there are none")
    letters = [*_LETTERS, *(f"##{letter}" for letter in _LETTERS)]
    words = sorted(counts.keys() - set(letters), key=lambda word: (-counts[word], word))
    names = [*SPECIAL, *letters, *words]
    if limit is not None:
        if limit < len(SPECIAL) + len(letters):
            raise ModelError(
                f"the text encoder has room for {limit} tokens; letters and digits alone need "
                f"{len(SPECIAL) + len(letters)}"
            )
        names = names[:limit]
    ids = {name: index for index, name in enumerate(names)}
    tokenizer = Tokenizer(WordPiece(ids, unk_token=SPECIAL[1], max_input_chars_per_word=100))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = splitter
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])],
    )
    from tokenizers.decoders import WordPiece as Joiner

    tokenizer.decoder = Joiner()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=max_tokens,
        **_ROLES,
        model_input_names=["input_ids", "attention_mask"],
    )
