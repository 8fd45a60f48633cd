"""A tokenizer made from captions: deterministic, whole, and never at a loss for a number."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candlemark.errors import ModelError
from candlemark.models.fusion.vocabulary import make_tokenizer, read_tokenizer, write_tokenizer

TEXTS = [
    "30 candles. Price goes up, from 3 % to 97 % of its range.",
    "The last candle closed down: open 1.5, high 2, low 1e-05, close 1.25, volume 7.",
    "Price goes up, from 4 % to 90 % of its range.",
]


def tokens(text: str, texts: list[str] = TEXTS) -> list[str]:
    tokenizer = make_tokenizer(texts, max_tokens=64)
    return tokenizer.convert_ids_to_tokens(tokenizer(text)["input_ids"])


def test_words_are_whole_and_digits_are_single() -> None:
    found = tokens("Price goes UP, from 8 % to 1204 %.")
    assert found[1:-1] == [
        *("price", "goes", "up", ",", "from", "8", "%"),
        *("to", "1", "2", "0", "4", "%", "."),
    ]
    assert (found[0], found[-1]) == ("[CLS]", "[SEP]")


def test_a_number_and_a_word_that_were_never_seen_are_read() -> None:
    assert tokens("6.02")[1:-1] == ["6", ".", "0", "2"]
    assert tokens("pric")[1:-1] == ["p", "##r", "##i", "##c"]
    assert "[UNK]" not in tokens("Zebras quickly vex 1234567890 jumping fowls!")


@given(st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126), max_size=60))
@settings(deadline=None, max_examples=50)
def test_no_plain_text_is_unknown(text: str) -> None:
    tokenizer = make_tokenizer(TEXTS, max_tokens=64)
    assert tokenizer.unk_token_id not in tokenizer(text)["input_ids"]


def test_the_order_of_texts_does_not_matter() -> None:
    shuffled = [*TEXTS, *reversed(TEXTS), *TEXTS[1:], TEXTS[0]]
    one, two = make_tokenizer(TEXTS * 3, max_tokens=64), make_tokenizer(shuffled, max_tokens=64)
    assert one.get_vocab() == two.get_vocab()
    # Frequent words first, then by the alphabet; the padding is 0.
    ids = one.get_vocab()
    assert ids["[PAD]"] == 0
    assert ids["of"] < ids["open"]
    assert ids["price"] < ids["candle"]


def test_padding_is_masked_and_only_what_the_model_takes_is_given() -> None:
    tokenizer = make_tokenizer(TEXTS, max_tokens=64)
    read = tokenizer(["Price", "Price goes up"], padding=True)
    assert set(read) == {"input_ids", "attention_mask"}
    assert read["attention_mask"] == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
    assert read["input_ids"][0][3:] == [0, 0]
    assert tokenizer.model_max_length == 64


def test_rare_words_go_first_where_room_is_short() -> None:
    whole = make_tokenizer(TEXTS, max_tokens=64)
    short = make_tokenizer(TEXTS, max_tokens=64, limit=len(whole) - 1)
    (lost,) = whole.get_vocab().keys() - short.get_vocab().keys()
    assert lost == "volume"
    spelt = short.convert_ids_to_tokens(short("volume")["input_ids"])
    assert spelt == ["[CLS]", "v", *(f"##{letter}" for letter in "olume"), "[SEP]"]


def test_it_survives_its_files(tmp_path: Path) -> None:
    tokenizer = make_tokenizer(TEXTS, max_tokens=64)
    tokenizer(TEXTS, padding=True, truncation=True)  # which it remembers
    write_tokenizer(tokenizer, tmp_path / "a")
    again = read_tokenizer(tmp_path / "a", name="it")
    assert again.get_vocab() == tokenizer.get_vocab()
    for text in TEXTS:
        assert dict(again(text)) == dict(tokenizer(text))
    write_tokenizer(again, tmp_path / "b")
    for file in (tmp_path / "a").iterdir():
        assert (tmp_path / "b" / file.name).read_bytes() == file.read_bytes(), file.name


def test_nothing_to_learn_from_is_refused() -> None:
    with pytest.raises(ModelError, match="made from training captions, and there are none"):
        make_tokenizer([], max_tokens=64)
    with pytest.raises(ModelError, match="room for 20 tokens; letters and digits alone need"):
        make_tokenizer(TEXTS, max_tokens=64, limit=20)
