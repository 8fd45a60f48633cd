"""Captions as numbers: tokenised once, kept as a file, and never cut.

    tokens = tokenise(texts, tokenizer, max_tokens=128)
    tokens.ids, tokens.lengths                   # int32 (N, T), int32 (N,)
    ids, mask = tokens.take(rows)                # int64 (n, T) each

    tokens = cached_tokens(
        {"dataset": dataset.content_hash, "caption": "window"},
        len(dataset),
        lambda rows: captions(dataset, rows),
        tokenizer,
        max_tokens=128,
    )

    N texts, T tokens of the longest

What is kept belongs to the key, to the tokenizer's own definition (vocabulary, normaliser,
special tokens, but not the padding and truncation that somebody last asked it for) and to the
number of texts. It lies in `tokens/` of the cache folder (`CANDLEMARK_CACHE`) and is mapped
into memory, so that several trials on one machine share it. It is trusted only if its bytes
have the checksum in its name and a sample of the texts still gives the same tokens: a caption
that is worded anew is tokenised anew.
"""

from __future__ import annotations

import json
import os
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from candlemark import progress
from candlemark.candles.cache import default_folder
from candlemark.errors import ModelError
from candlemark.records import content_id

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Rows = npt.NDArray[np.int64]
Texts = Callable[[Rows], Sequence[str]]
"""The texts of some rows, in their order; the same rows always give the same texts."""

FORMAT_VERSION = 1
BATCH_TEXTS = 4096
"""Texts tokenised together: bounds the memory that texts take."""

SAMPLE_TEXTS = 64
"""Texts by which kept tokens are compared with what the captions say now."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tokens:
    """Tokens of N texts, special ones included.

    ids: int32 (N, T), filled up with the padding token behind each text; may be mapped from a
        file, and is not to be written to
    lengths: int32 (N,), tokens of each text without padding, 1 to T
    """

    ids: npt.NDArray[np.int32]
    lengths: npt.NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def width(self) -> int:
        """T, the length of the longest text."""
        return int(self.ids.shape[1])

    def take(self, rows: Sequence[int] | Rows) -> tuple[Rows, Rows]:
        """Ids and attention mask of some texts, int64 (n, T) each; 0 in the mask is padding.

        T is that of all texts, so that every batch has one shape.
        """
        chosen = np.asarray(rows, dtype=np.int64)
        mask = np.arange(self.width) < self.lengths[chosen][:, None]
        return self.ids[chosen].astype(np.int64), mask.astype(np.int64)


def tokenise(
    texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, *, max_tokens: int
) -> Tokens:
    """Tokens of some texts, whole.

    Raises ModelError: a text has more tokens than `max_tokens` or than the tokenizer's own
    encoder reads (it is never cut), there are no texts, or the tokenizer has no padding token.
    """
    return _of_parts(
        list(_parts(lambda rows: [texts[row] for row in rows], len(texts), tokenizer, max_tokens)),
        _padding_of(tokenizer),
    )


def cached_tokens(
    key: Mapping[str, Any],
    count: int,
    texts: Texts,
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_tokens: int,
    folder: Path | None = None,
) -> Tokens:
    """Tokens of rows 0 .. count - 1, from the file that is kept of them or newly made.

    key: what decides the texts, as JSON: the hash of the data and the style of its captions
    folder: where to keep them; None: `tokens` in the cache folder

    Raises ModelError: as `tokenise`. A cache that cannot be written to is a warning.
    """
    padding = _padding_of(tokenizer)
    place = folder or default_folder() / "tokens"
    name = content_id(
        {
            "format": FORMAT_VERSION,
            "key": dict(key),
            "count": count,
            "tokenizer": fingerprint(tokenizer),
        }
    )
    found = _kept(place, name, count, texts, tokenizer)
    if found is not None:
        _check_lengths(found.lengths, texts, 0, _limit(tokenizer, max_tokens))
        return found
    tokens = _of_parts(list(_parts(texts, count, tokenizer, max_tokens)), padding)
    try:
        return _keep(place, name, tokens)
    except OSError as error:
        progress.warning(
            f"tokens are not kept in {place}: {error.strerror or error}; they are made anew next "
            "time, unless CANDLEMARK_CACHE names a folder that can be written to"
        )
        return tokens


def fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """Hash of all that decides which tokens a text has, padding and truncation apart."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        definition = json.loads(backend.to_str())
        for asked in ("padding", "truncation"):
            definition.pop(asked, None)
    else:
        definition = {"class": type(tokenizer).__name__, "vocabulary": tokenizer.get_vocab()}
    special = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
    return content_id({"definition": definition, "special": special})


def _parts(
    texts: Texts, count: int, tokenizer: PreTrainedTokenizerBase, max_tokens: int
) -> Iterator[list[npt.NDArray[np.int32]]]:
    """Tokens of all texts, batch by batch, one array a text."""
    limit = _limit(tokenizer, max_tokens)
    with progress.track("tokenising captions", total=count, unit="texts") as bar:
        for first in range(0, count, BATCH_TEXTS):
            rows = np.arange(first, min(first + BATCH_TEXTS, count), dtype=np.int64)
            part = _tokenised(list(texts(rows)), tokenizer)
            lengths = np.array([len(ids) for ids in part], dtype=np.int32)
            _check_lengths(lengths, texts, first, limit)
            yield part
            bar.advance(len(rows))


def _tokenised(texts: list[str], tokenizer: PreTrainedTokenizerBase) -> list[npt.NDArray[np.int32]]:
    # Said aloud, for published tokenizers bring a truncation and a padding of their own.
    found = tokenizer(
        texts,
        truncation=False,
        padding=False,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,
    )["input_ids"]
    return [np.array(ids, dtype=np.int32) for ids in found]


def _check_lengths(
    lengths: npt.NDArray[np.int32], texts: Texts, first: int, limit: tuple[int, str]
) -> None:
    """ModelError naming the longest text if it has more tokens than are allowed."""
    most, whose = limit
    if len(lengths) == 0 or lengths.max() <= most:
        return
    row = first + int(lengths.argmax())
    (text,) = texts(np.array([row], dtype=np.int64))
    raise ModelError(
        f"text {row} has {lengths.max()} tokens, {whose} {most}, and none is ever cut: '{text}'; "
        "take a larger max_tokens, a text encoder that reads more, or the caption 'classic'"
    )


def _limit(tokenizer: PreTrainedTokenizerBase, max_tokens: int) -> tuple[int, str]:
    """How many tokens a text may have, and who says so."""
    own = tokenizer.model_max_length
    if own is not None and own < max_tokens:
        return int(own), "the text encoder reads"
    return max_tokens, "max_tokens allows"


def _padding_of(tokenizer: PreTrainedTokenizerBase) -> int:
    padding = tokenizer.pad_token_id
    if padding is None:
        raise ModelError(
            f"{type(tokenizer).__name__} has no padding token, so texts of different lengths "
            "make no batch; take an encoder that has one, such as bert-base-uncased"
        )
    return int(padding)


def _of_parts(parts: Sequence[Sequence[npt.NDArray[np.int32]]], padding: int) -> Tokens:
    """One table of all texts."""
    lengths = np.array([len(ids) for part in parts for ids in part], dtype=np.int32)
    if len(lengths) == 0:
        raise ModelError("there are no texts to tokenise; a dataset has one caption a window")
    table = np.full((len(lengths), int(lengths.max())), padding, dtype=np.int32)
    table[np.arange(table.shape[1]) < lengths[:, None]] = np.concatenate(
        [ids for part in parts for ids in part]
    )
    return Tokens(ids=table, lengths=lengths)


def _keep(folder: Path, name: str, tokens: Tokens) -> Tokens:
    """Write tokens as one array whose first column is the lengths, and map it."""
    table = np.concatenate([tokens.lengths[:, None], tokens.ids], axis=1)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{zlib.crc32(table.data):08x}.npy"
    handle, scratch = tempfile.mkstemp(dir=folder, prefix=".tokens-")
    try:
        with os.fdopen(handle, "wb") as file:
            np.save(file, table)
        Path(scratch).replace(path)
    except OSError:
        Path(scratch).unlink(missing_ok=True)
        raise
    for other in folder.glob(f"{name}-*.npy"):
        if other != path:  # of captions that were worded otherwise
            other.unlink(missing_ok=True)
    return _mapped(path)


def _mapped(path: Path) -> Tokens:
    table = np.load(path, mmap_mode="r", allow_pickle=False)
    return Tokens(ids=table[:, 1:], lengths=np.array(table[:, 0]))


def _kept(
    folder: Path, name: str, count: int, texts: Texts, tokenizer: PreTrainedTokenizerBase
) -> Tokens | None:
    """What is kept, None where there is nothing or nothing that can be trusted."""
    for path in sorted(folder.glob(f"{name}-*.npy")):
        try:
            table = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError):
            continue
        sound = table.dtype == np.int32 and table.ndim == 2 and len(table) == count
        if not sound or f"{name}-{zlib.crc32(np.ascontiguousarray(table).data):08x}" != path.stem:
            continue
        tokens = Tokens(ids=table[:, 1:], lengths=np.array(table[:, 0]))
        rows = np.unique(np.linspace(0, count - 1, min(count, SAMPLE_TEXTS)).astype(np.int64))
        now = _tokenised(list(texts(rows)), tokenizer)
        if all(
            np.array_equal(tokens.ids[row, : tokens.lengths[row]], ids)
            for row, ids in zip(rows.tolist(), now, strict=True)
        ):
            return tokens
    return None
