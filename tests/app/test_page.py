"""The page as a program meets it: answers, one sentence for what is wrong, nothing let in."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from candlemark.app.page import (
    CSS,
    VEIL,
    _market_question,
    answer_html,
    head_of,
    looked_at,
    price_of,
    problem_html,
)
from candlemark.app.questions import Asked, ask_market, known_symbols
from candlemark.models.fusion.predictor import Answer, Predictor

Predictors = Callable[[str], Predictor]

ANSWER = Answer(
    probabilities={"bearish": 0.2, "neutral": 0.3, "bullish": 0.5},
    log_return=0.01,
    log_return_low=-0.01,
    log_return_high=0.02,
    level=0.9,
    last_close=100.0,
    next_close=101.005,
    next_close_low=99.005,
    next_close_high=102.02,
)


def asked(answer: Answer = ANSWER, **changes: Any) -> Asked:
    fields = {"title": "a title", "picture": None, "text": None, "moment": None, "notes": ()}
    return Asked(answer=answer, **{**fields, **changes})


@pytest.fixture(scope="module")
def client(address: str) -> Iterator[Any]:
    from gradio_client import Client

    found = Client(address, verbose=False, analytics_enabled=False)
    yield found
    found.close()


@pytest.fixture
def chart(tmp_path: Path) -> Any:
    from gradio_client import handle_file

    path = tmp_path / "chart.png"
    Image.new("RGB", (40, 32), "white").save(path)
    return handle_file(path)


def test_a_program_asks_about_a_market(client: Any, predictors: Predictors) -> None:
    told, picture = client.predict("random_walk", "", "1h", api_name="/market")
    expected = ask_market(predictors("both"), "random_walk", interval="1h")
    assert told == json.loads(json.dumps(expected.to_dict()))
    shown = np.asarray(Image.open(picture))
    np.testing.assert_array_equal(shown, looked_at(expected))


def test_the_market_that_stands_there_at_first_can_be_asked_about(
    new_predictor: Callable[..., Predictor],
) -> None:
    predictor = new_predictor(inputs="numbers", origin={"symbols": ["RANDOM_WALK"]})
    (symbol,) = known_symbols(predictor.config)
    ask = _market_question(predictor)
    for name in (symbol, " RANDOM_WALK ", "Random_Walk"):
        assert ask(name, None, "1h").title.startswith("RANDOM_WALK 1h")


def test_a_program_asks_about_a_chart(client: Any, chart: Any) -> None:
    told, picture = client.predict(chart, "Price goes up.", "1,000.50", api_name="/chart")
    assert told["last_close"] == 1000.5
    assert told["text"] == "Price goes up."
    assert sum(told["probabilities"].values()) == pytest.approx(1)
    assert picture is not None


@pytest.mark.parametrize(
    ("question", "message"),
    [
        (("BTC/USDT!", "", "1h"), "is no symbol: letters and digits, as in BTCUSDT"),
        (("", "", "1h"), "is no symbol"),
        (("random_walk", "yesterday", "1h"), "'yesterday' is not understood"),
        (("random_walk", "1999", "1h"), "lies outside these candles"),
        (("/etc/passwd", "", "1h"), "'/etc/passwd' is no symbol"),
        (("../model/config.json", "", "1h"), "is no symbol"),
    ],
)
def test_what_is_wrong_with_a_market_is_one_sentence(
    question: tuple[str, ...], message: str, client: Any
) -> None:
    with pytest.raises(Exception, match=re.escape(message)) as told:
        client.predict(*question, api_name="/market")
    assert "Traceback" not in str(told.value)
    assert "\n" not in str(told.value)


def test_a_sentence_that_begins_with_an_address_keeps_it() -> None:
    assert ">file:///mirror has no such symbol.<" in problem_html(
        "file:///mirror has no such symbol"
    )
    assert ">There is none.<" in problem_html("there is none")


def test_what_is_wrong_with_a_chart_is_one_sentence(
    client: Any, chart: Any, tmp_path: Path
) -> None:
    from gradio_client import handle_file

    with pytest.raises(Exception, match="give a text too, such as '30 candles"):
        client.predict(chart, "", "", api_name="/chart")
    with pytest.raises(Exception, match="give a chart too"):
        client.predict(None, "up", "", api_name="/chart")
    with pytest.raises(Exception, match="the last close 'much' is no number"):
        client.predict(chart, "up", "much", api_name="/chart")
    bad = tmp_path / "bad.png"
    bad.write_text("no picture", encoding="utf-8")
    with pytest.raises(Exception, match=r"bad.png is no picture that can be read") as told:
        client.predict(handle_file(bad), "up", "", api_name="/chart")
    assert str(tmp_path) not in str(told.value)
    assert "/gradio" not in str(told.value)


def test_a_file_of_the_server_cannot_be_asked_about(address: str, model_folder: Any) -> None:
    there = {
        "path": str(model_folder("both") / "config.json"),
        "meta": {"_type": "gradio.FileData"},
    }
    call = f"{address}/gradio_api/call/chart"
    event = httpx.post(call, json={"data": [there, "up", ""]}).json()["event_id"]
    told = httpx.get(f"{call}/{event}", timeout=30).text
    assert told.startswith("event: error")
    assert "config.json" not in told


def test_only_the_questions_can_be_asked_from_outside(client: Any) -> None:
    endpoints = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert set(endpoints) == {"/market", "/chart"}


def test_it_listens_on_loopback_alone(address: str) -> None:
    host, _, port = address.removeprefix("http://").partition(":")
    assert host == "127.0.0.1"
    with socket.socket() as probe:  # another address of the same machine
        assert probe.connect_ex(("127.0.0.2", int(port))) != 0


def test_nothing_is_reported_and_nothing_is_loaded_from_elsewhere(address: str) -> None:
    assert "url(" not in CSS
    assert "@import" not in CSS
    text = httpx.get(address).text
    assert '"analytics_enabled":false' in text.replace(" ", "")
    for tag in re.findall(r"<(?:link|script|img)[^>]*>", text):
        assert not re.search(r"(?:src|href)=[\"']https?://", tag), tag


def test_the_head_tells_what_the_model_is_and_escapes_it(
    new_predictor: Callable[..., Predictor],
) -> None:
    predictor = new_predictor(inputs="numbers", origin={"label": "<b>direction</b>"})
    text = head_of(predictor, "<script>alert(1)</script>")
    assert "<script>" not in text
    assert "<b>" not in text
    for words in ("reads candles as numbers", "10 candles", "trained on TEST 1h", "(forecast)"):
        assert words in text


def test_an_answer_is_bars_a_price_and_notes() -> None:
    text = answer_html(asked(notes=("a <note>",)))
    assert 'width:50.00%"' in text
    assert "50.0 %" in text
    assert text.count("best") == 1
    assert "101.005" in text
    assert "+1.01 %" in text
    assert "99.0050 to 102.020 in 90 % of cases; last close 100.000" in text
    assert "A &lt;note&gt;." in text


def test_an_answer_says_why_something_is_left_out() -> None:
    answer = replace(ANSWER, next_close=None, next_close_low=None, last_close=None)
    assert "-1.00 % to +2.02 % in 90 % of cases" in answer_html(asked(answer))
    bare = Answer(
        probabilities={"up": 1.0},
        forecast_reason="nobody knows",
        attention_reason="it has none",
    )
    text = answer_html(asked(bare, picture=np.zeros((4, 4), dtype=np.uint8)))
    assert "No forecast: nobody knows." in text
    assert "No attention is shown: it has none." in text


def test_a_problem_is_one_escaped_sentence() -> None:
    text = problem_html("there is\nno <b>symbol</b>")
    assert "There is no &lt;b&gt;symbol&lt;/b&gt;." in text
    assert 'role="alert"' in text


def test_a_veil_lies_only_where_more_than_an_even_share_was_looked_at() -> None:
    picture = np.full((4, 6, 3), 255, dtype=np.uint8)
    attention = np.full((4, 6), 0.01, dtype=np.float32)
    attention[0, 0] = 0.5
    question = asked(replace(ANSWER, attention=attention), picture=picture)
    shown = looked_at(question)
    assert "nearly alike" not in answer_html(question)
    times = shown.shape[0] // 4
    assert shown.shape == (4 * times, 6 * times, 3)
    assert max(shown.shape) >= 640
    assert (shown[times:] == 255).all()
    corner = shown[0, 0].astype(float)
    np.testing.assert_allclose(corner, 255 + 0.7 * (np.array(VEIL) - 255.0), atol=1)


def test_even_attention_leaves_the_chart_bare() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)
    even = np.full((8, 8), 1 / 64, dtype=np.float32)
    shown = looked_at(asked(replace(ANSWER, attention=even), picture=picture))
    np.testing.assert_array_equal(shown[::80, ::80, 0], picture)
    assert "nearly alike" in answer_html(asked(replace(ANSWER, attention=even), picture=picture))
    assert looked_at(asked()) is None


@pytest.mark.parametrize(
    ("text", "price"), [(None, None), (" ", None), ("94,250.5", 94250.5), ("1 000", 1000.0)]
)
def test_prices_are_read_as_people_write_them(text: str | None, price: float | None) -> None:
    assert price_of(text) == price
