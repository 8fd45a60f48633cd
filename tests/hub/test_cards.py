"""Cards: what candlemark writes into a README, and that nothing else of it is touched."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import DatasetCard, ModelCard
from hypothesis import given
from hypothesis import strategies as st

from candlemark.config import parse
from candlemark.dataset.audit import audit
from candlemark.dataset.build import build_dataset
from candlemark.dataset.config import DatasetConfig
from candlemark.dataset.lazy import Dataset
from candlemark.errors import HubError
from candlemark.hub.cards import Card, front_matter, merge
from candlemark.hub.dataset_card import dataset_card, licence_note, size_category
from candlemark.hub.model_card import evaluation_results, model_card
from candlemark.hub.trained import read_trained

CARD = Card(name="model", data={"license": "mit", "tags": ["a"]}, body="# Ours\n")


def test_a_card_of_its_own() -> None:
    assert CARD.to_text() == (
        "---\n"
        "# candlemark:begin (written by candlemark; a key of yours goes outside of these lines)\n"
        "license: mit\n"
        "tags:\n"
        "- a\n"
        "# candlemark:end\n"
        "---\n"
        "\n"
        "<!-- candlemark:begin model -->\n"
        "# Ours\n"
        "<!-- candlemark:end model -->\n"
    )


PERSON = """---
# my own comment
license: apache-2.0   # chosen by me
datasets: [me/x]
---
# My model

I wrote this.
"""


def test_what_a_person_wrote_stays_and_the_card_follows_it() -> None:
    text = merge(PERSON, CARD)
    assert text == (
        "---\n"
        "# my own comment\n"
        "license: apache-2.0   # chosen by me\n"
        "datasets: [me/x]\n"
        "# candlemark:begin (written by candlemark; a key of yours goes outside of these lines)\n"
        "tags:\n- a\n"
        "# candlemark:end\n"
        "---\n"
        "# My model\n\nI wrote this.\n"
        "\n"
        "<!-- candlemark:begin model -->\n# Ours\n<!-- candlemark:end model -->\n"
    )
    assert front_matter(text) == {"license": "apache-2.0", "datasets": ["me/x"], "tags": ["a"]}


def test_only_what_stands_between_the_lines_is_replaced() -> None:
    before = merge(PERSON, CARD) + "\nAnd this below.\n"
    after = merge(before, Card(name="model", data={"tags": ["b"]}, body="new\n"))
    assert after == before.replace("# Ours\n", "new\n").replace("- a\n", "- b\n")


def test_parts_stand_beside_one_another() -> None:
    text = merge(merge(None, CARD), Card(name="benchmark", body="numbers"))
    again = merge(text, Card(name="benchmark", body="others"))
    assert again == text.replace("numbers", "others")
    assert again.count("<!-- candlemark:begin") == 2
    assert front_matter(again) == CARD.data


def test_a_card_without_front_matter_adds_none() -> None:
    assert merge("Hello.\n", Card(name="benchmark", body="x")).startswith("Hello.\n\n<!-- candle")
    assert merge(None, Card(name="benchmark", body="x")).startswith("<!-- candlemark:begin")


def test_results_of_others_are_kept_and_ours_replaced_wherever_they_stand() -> None:
    def results(*entries: tuple[str, float]) -> Card:
        listed = [{"name": name, "results": [{"value": value}]} for name, value in entries]
        return Card(name="model", data={"model-index": listed}, body="x")

    # As a client leaves it that keeps no comments.
    theirs = "---\nlicense: mit\nmodel-index:\n- name: other\n  results: []\n- name: mine\n"
    theirs += "  results:\n  - value: 0.1\nlanguage: en\n---\ntext\n"
    text = merge(theirs, results(("mine", 0.7)))
    assert front_matter(text) == {
        "license": "mit",
        "language": "en",
        "model-index": [
            {"name": "mine", "results": [{"value": 0.7}]},
            {"name": "other", "results": []},
        ],
    }
    again = merge(text, results(("mine", 0.8)))
    assert again == text.replace("0.7", "0.8")


def test_line_ends_and_byte_order_mark_of_the_file_stay() -> None:
    windows = "\ufeff" + PERSON.replace("\n", "\r\n")
    text = merge(windows, CARD)
    assert text.startswith("\ufeff---\r\n")
    assert text.count("\n") == text.count("\r\n")
    assert text.replace("\r\n", "\n").removeprefix("\ufeff") == merge(PERSON, CARD)
    assert merge(text, CARD) == text


def test_line_ends_of_both_kinds_are_read() -> None:
    mixed = PERSON.replace("---\n", "---\r\n")
    text = merge(mixed, CARD)
    assert text.count("license:") == 1
    assert text.startswith("---\r\n# my own comment\n")
    half = merge(PERSON, CARD).replace("model -->\n", "model -->\r\n")
    again = merge(half, Card(name="model", data={"tags": ["a"]}, body="new"))
    assert again.count("<!-- candlemark:begin model -->") == 1
    assert "# Ours" not in again


@given(
    body=st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\r"), max_size=80),
    above=st.sampled_from(["", PERSON, "---\n---\n", "---\nkey: [1,\n 2]\n---"]),
    below=st.sampled_from(["", "\nbelow\n", "below without an end"]),
)
def test_writing_again_changes_nothing_and_a_person_loses_nothing(
    body: str, above: str, below: str
) -> None:
    card = Card(name="model", data={"tags": ["a"], "text": body}, body=body)
    text = merge(merge(above, card) + below, card)
    assert merge(text, card) == text
    assert text.endswith(below)
    for line in above.splitlines():
        assert line in text
    assert front_matter(text)["text"] == body


def test_text_cannot_end_its_own_part() -> None:
    card = Card(name="model", body="a\n<!-- candlemark:end model -->\nb")
    text = merge(None, card)
    assert merge(text, card) == text
    assert text.count("<!-- candlemark:end model -->") == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "<!-- candlemark:begin model -->\nx\n",
            "1 lines '<!-- candlemark:begin model -->' and 0 lines",
        ),
        (
            "<!-- candlemark:end model -->\n<!-- candlemark:begin model -->\n",
            "there must be one of each, in this order",
        ),
        (
            2 * "<!-- candlemark:begin model -->\n<!-- candlemark:end model -->\n",
            "has 2 lines",
        ),
        ("---\nkey: [\n---\n", "is not valid YAML"),
        ("---\n- a\n- b\n---\n", "holds list, not keys and values"),
        ("---\n# candlemark:begin\na: 1\n---\n", "0 lines '# candlemark:end'"),
        ("---\n{a: 1}\n---\n", "is not valid YAML|written in a way that keys cannot be added to"),
    ],
)
def test_a_file_that_cannot_be_written_into_is_refused(text: str, said: str) -> None:
    with pytest.raises(HubError, match=said) as found:
        merge(text, CARD, where="me/x/README.md")
    assert "me/x/README.md" in str(found.value)
    assert "\n" not in str(found.value)


# --- datasets


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    values = {
        "candles": {"kind": "random_walk", "count": 400, "seed": 1},
        "window": 10,
        "label": {"name": "next_candle"},
        "style": {"kind": "jkx", "moving_averages": [], "height": 32},
    }
    return build_dataset(parse(DatasetConfig, values), tmp_path_factory.mktemp("walk") / "data")


def test_a_dataset_card_reads_as_the_hub_reads_it(walk: Dataset) -> None:
    card = dataset_card(walk, audit(walk), repo_id="me/walk", caption="window")
    data = DatasetCard(card.to_text()).data.to_dict()
    assert data["configs"][0]["data_files"][0] == {"split": "train", "path": "data/train-*"}
    assert [one["split"] for one in data["configs"][0]["data_files"]] == [
        "train",
        "validation",
        "test",
    ]
    assert data["size_categories"] == ["n<1K"]
    assert "forecast" in data["tags"]
    assert "license" not in data


def test_a_dataset_card_says_source_gaps_audit_licence_and_shows_the_sheet(walk: Dataset) -> None:
    text = dataset_card(walk, audit(walk), repo_id="me/walk", caption="window").body
    assert "Source: synthetic (random_walk)." in text
    assert "No candle is missing" in text
    assert "| files | ok | 2 files match the SHA-256 of the manifest |" in text
    assert "no market, company or person stands behind them" in text
    assert "](contact-sheet.png)" in text
    assert 'load_dataset("me/walk")' in text
    assert "**Forecast**" in text
    assert str(walk.path) not in text


def test_a_dataset_card_is_the_same_for_the_same_dataset(walk: Dataset) -> None:
    one, two = (
        dataset_card(walk, audit(walk), repo_id="me/walk", caption="window") for _ in range(2)
    )
    assert one == two


def test_gaps_are_listed(make_series: Any, tmp_path: Path) -> None:
    series = make_series(400, missing=[100, 101, 102, 200])
    config = parse(
        DatasetConfig,
        {
            "candles": {"kind": "file", "path": "prices.csv", "interval": "1h"},
            "window": 8,
            "max_missing": 0.5,
        },
    )
    dataset = build_dataset(config, tmp_path / "data", candles=[series])
    text = dataset_card(dataset, audit(dataset), repo_id="me/x", caption="window").body
    assert "All 2 gaps." in text
    assert "lacks more than 50 % of its candles" in text
    assert "| TEST | 2024-01-05 04:00 | 3 |" in text
    assert "| TEST | 2024-01-09 08:00 | 1 |" in text
    assert "handed to the build by whoever made this dataset" in text
    assert "**Recognition**" in text


def test_a_leak_is_told_in_bold(walk: Dataset, tmp_path: Path) -> None:
    leaky = walk.config.model_copy(
        update={"split": walk.config.split.model_copy(update={"method": "random"})}
    )
    dataset = build_dataset(leaky, tmp_path / "leaky")
    text = dataset_card(dataset, audit(dataset), repo_id="me/x", caption="window").body
    assert "**This dataset leaks or is damaged: a score on it means nothing.**" in text
    assert "**FAIL**" in text


@pytest.mark.parametrize(
    ("candles", "given", "chosen", "said", "data"),
    [
        ({"kind": "archive", "symbols": ["BTCUSDT"]}, False, None, "Binance", "other"),
        ({"kind": "file", "path": "a.csv"}, False, None, "come from a file", None),
        ({"kind": "planted"}, False, None, "made by a formula", None),
        ({"kind": "archive", "symbols": ["ETHUSDT"]}, True, None, "handed to the build", None),
        ({"kind": "planted"}, False, "cc0-1.0", "under `cc0-1.0`", "cc0-1.0"),
    ],
)
def test_the_licence_note_claims_no_more_than_is_known(
    candles: dict[str, Any],
    given: bool,
    chosen: str | None,
    said: str,
    data: str | None,
) -> None:
    from candlemark.candles.source import CandlesConfig
    from candlemark.hub.dataset_card import _license

    config = parse(CandlesConfig, candles)
    assert said in licence_note(config, given, chosen)
    assert _license(config, given, chosen).get("license") == data


@pytest.mark.parametrize(
    ("count", "name"), [(999, "n<1K"), (1000, "1K<n<10K"), (999_999, "100K<n<1M"), (10**8, "n>10M")]
)
def test_size_categories_are_the_hubs(count: int, name: str) -> None:
    assert size_category(count) == name


# --- models


def measured(name: str, value: float | None, low: float | None = None, **more: Any) -> Any:
    high = None if low is None or value is None else 2 * value - low
    level = None if low is None else 0.95
    found = {"name": name, "value": value, "low": low, "high": high, "level": level}
    return {**found, "sample_count": 800, **more}


def training(**facts: Any) -> dict[str, Any]:
    """What a training leaves, as the record of its trial."""
    return {
        "row": "text + image (text_to_image)",
        "started_at": "2025-06-01T09:30:00+00:00",
        "facts": {
            "role": "model",
            "label": "direction",
            "label_kind": "forecast",
            "dataset": "BTCUSDT 1h",
            "dataset_hash": "abc123",
            "inputs": "both",
            "text_encoder": "bert-base-uncased",
            "image_encoder": "/srv/somebody/models/lite0",
            "encoder_weights": {"text": "random", "image": "pretrained"},
            "market": "real",
            "seed": 3,
            **facts,
        },
        "trial": {
            "model": {"heads": 8, "image_encoder": "/srv/somebody/models/lite0"},
            "training": {"epochs": 3, "learning_rate": 0.001, "patience": None},
        },
        "measurements": [
            measured("auroc", 0.62, 0.58),
            measured("accuracy", 0.41, 0.37),
            measured("mase", 0.98, 0.95),
            measured("mae_percent", 0.31, 0.29, unit="%"),
            measured("directional_accuracy", None, reason="no forecast has a direction"),
            measured("brier", 0.2, verdict="TOO_FEW"),
            measured("training_time_s", 12.5, unit="s"),
            measured("energy_per_item_j", 0.5, unit="J"),
        ],
        "history": [
            {"epoch": 1, "validation_loss": 1.2},
            {"epoch": 2, "validation_loss": 1.1},
            {"epoch": 3, "validation_loss": 1.3},
        ],
        "environment": {"device": "cpu", "cpu": "A CPU", "packages": {"torch": "2.11.0"}},
        "beside": [
            {
                "row": "baseline: persistence",
                "facts": {"role": "baseline"},
                "measurements": {"mase": measured("mase", 1.0, 1.0)},
            },
            {
                "row": "control: shuffled labels",
                "facts": {"role": "control"},
                "measurements": {"auroc": measured("auroc", 0.5, 0.46)},
            },
        ],
    }


CONFIG = {
    "model_type": "candlemark_fusion",
    "inputs": "both",
    "fusion": "text_to_image",
    "id2label": {"0": "bearish", "1": "neutral", "2": "bullish"},
    "chart": {"window": 30, "style": {"kind": "candlestick"}, "image_shape": [96, 160]},
    "returns": {"level": 0.9},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    (tmp_path / "training.json").write_text(json.dumps(training()), encoding="utf-8")
    return tmp_path


def test_a_model_card_has_evaluation_results_that_the_hub_reads(folder: Path) -> None:
    text = model_card(read_trained(folder), repo_id="me/fusion").to_text()
    data = ModelCard(text).data
    assert data.model_name == "fusion"
    found = {result.metric_type: result for result in data.eval_results or []}
    # Without a value, or with a verdict, a score may not be quoted.
    assert set(found) == {"roc_auc", "accuracy", "mase", "mae"}
    auroc = found["roc_auc"]
    assert auroc.metric_value == 0.62
    assert auroc.metric_args == {
        "interval": [0.58, 0.66],
        "level": 0.95,
        "method": "block bootstrap",
        "test_cases": 800,
    }
    assert (auroc.dataset_name, auroc.dataset_type) == ("BTCUSDT 1h", "btcusdt-1h")
    assert auroc.dataset_split == "test"
    assert auroc.task_name == "direction (forecast)"
    assert found["mae"].metric_name == "MAE, % of the last close"
    assert found["mase"].task_type == "time-series-forecasting"
    assert data.library_name == "transformers"
    # The client writes its own card to the same meaning.
    assert yaml.safe_load(data.to_yaml()) == front_matter(text)


def test_a_model_card_says_limits_controls_training_and_cost(folder: Path) -> None:
    files = ["config.json", "model.safetensors", "pytorch_model.bin"]
    text = model_card(read_trained(folder), repo_id="me/fusion", files=files).body
    assert "- **Forecast**: the label `direction` lies after the last candle" in text
    assert "which began from random weights" in text
    assert "`lite0`" in text
    assert "/srv/somebody" not in text
    assert "**text + image (text\\_to\\_image)** | model | 0.620 [0.580, 0.660]" in text
    assert "| baseline: persistence | baseline | n/a |" in text
    assert "| control: shuffled labels | control | 0.500 [0.460, 0.540] |" in text
    assert "The interval of the AUROC lies above 0.5, a guess." in text
    assert "cannot be told from saying that the next close is the last one" in text
    assert "A control must not succeed" in text
    assert "| Directional accuracy | n/a (no forecast has a direction) |" in text
    assert "0.200 TOO_FEW" in text
    assert "| `heads` | 8 |" in text
    assert "| `image_encoder` | lite0 |" in text
    assert "| `patience` | none |" in text
    assert "charts of 30 candles of BTCUSDT 1h, drawn as `candlestick`, 160 x 96 pixels;" in text
    assert "lowest in epoch 2: 1.1" in text
    assert "| energy | 0.5 J |" in text
    assert "Trained on 2025-06-01 on A CPU, with torch 2.11.0." in text
    assert 'AutoModel.from_pretrained("me/fusion", trust_remote_code=True)' in text
    assert 'hf_hub_download("me/fusion", "pytorch_model.bin")' in text
    assert "meant to hold 90 % of cases" in text


def test_a_market_that_was_made_says_what_can_be_attained(folder: Path) -> None:
    told = training(market="planted", attainable_auroc=0.8312)
    (folder / "training.json").write_text(json.dumps(told), encoding="utf-8")
    text = model_card(read_trained(folder), repo_id="me/fusion").body
    assert "No model can exceed an AUROC of 0.831 on this market." in text
    assert "says nothing about any real market" in text


def test_recognition_is_never_called_a_forecast(folder: Path) -> None:
    (folder / "training.json").write_text(
        json.dumps(training(label_kind="recognition")), encoding="utf-8"
    )
    card = model_card(read_trained(folder), repo_id="me/fusion")
    assert "- **Recognition**: the label `direction` is visible in the picture." in card.body
    assert "the model reads the chart" in card.body
    first = card.data["model-index"][0]["results"][0]
    assert first["task"]["name"] == "direction (recognition: the answer is visible)"


def test_scores_of_a_split_that_leaks_are_no_evaluation_results(folder: Path) -> None:
    (folder / "training.json").write_text(json.dumps(training(leaky_split=True)), encoding="utf-8")
    trained = read_trained(folder)
    assert evaluation_results(trained) == []
    card = model_card(trained, repo_id="me/fusion")
    assert "model-index" not in card.data
    assert "**The split is random and leaks**" in card.body


def test_a_folder_without_its_training_says_so(folder: Path) -> None:
    (folder / "training.json").unlink()
    card = model_card(read_trained(folder), repo_id="me/fusion")
    assert "How it was trained is not recorded here." in card.body
    assert "No score is recorded with this model." in card.body
    assert "**not recorded**" in card.body
    assert "model-index" not in card.data


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("config.json", None, "holds no config.json"),
        ("config.json", "{", "cannot be read"),
        ("config.json", "[]", "holds list"),
        ("training.json", '{"measurements": [{"name": "auroc"}]}', "is damaged"),
        ("training.json", '{"measurements": 3}', "is damaged"),
    ],
)
def test_a_folder_that_is_no_model_is_refused(
    folder: Path, name: str, text: str | None, said: str
) -> None:
    if text is None:
        (folder / name).unlink()
    else:
        (folder / name).write_text(text, encoding="utf-8")
    with pytest.raises(HubError, match=said) as found:
        read_trained(folder)
    assert "\n" not in str(found.value)


def test_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HubError, match="candlemark fuse train --output"):
        read_trained(tmp_path / "nothing")
