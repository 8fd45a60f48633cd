"""Trials of fusion: which rows there are, and what makes two of them the same trial."""

from __future__ import annotations

import pytest

from candlemark.benchmark.fusion.config import FusionBenchmarkConfig
from candlemark.benchmark.fusion.plan import main_variant, variants
from candlemark.benchmark.fusion.prepare import prepare
from candlemark.config import parse
from candlemark.errors import ConfigError, DatasetError, ModelError

MARKET = {
    "candles": {"kind": "planted_pair", "count": 260},
    "window": 8,
    "label": {"name": "direction"},
    "style": {"kind": "ohlc4", "height": 32},
}
TINY = {"text_encoder": "tiny:bert", "image_encoder": "tiny:vit", "weights": "random"}


def study(**changes):
    fields = {"datasets": [MARKET], "model": {**TINY, **changes.pop("model", {})}, **changes}
    return parse(FusionBenchmarkConfig, fields)


def works(config, folder):
    prepared = prepare(config, folder / "datasets")
    return prepared.works(device="cpu", checkpoints=folder / "c", models=folder / "models")


def ids(config, folder):
    return {work.trial.row: work.trial.id for work in works(config, folder)}


def test_rows_of_a_whole_study_and_of_its_random_walk(tmp_path):
    planned = works(study(fusions=["text_to_image", "late"], seeds=[0, 1]), tmp_path)
    on_market = [work.trial for work in planned if work.trial.facts["market"] == "planted"]
    assert [trial.row for trial in on_market] == [
        "baseline: majority",
        "baseline: persistence",
        "baseline: gradient_boosting",
        *["text + image (text_to_image)"] * 2,
        *["text + image (late)"] * 2,
        *["image only"] * 2,
        *["text only"] * 2,
        *["numbers only: 1-D CNN"] * 2,
        "control: shuffled labels, text + image (text_to_image)",
    ]
    on_walk = [work.trial for work in planned if work.trial.facts["market"] == "random_walk"]
    assert [trial.row for trial in on_walk] == [
        "baseline: majority",
        "baseline: persistence",
        "baseline: gradient_boosting",
        *["text + image (text_to_image)"] * 2,
    ]
    assert len({work.trial.id for work in planned}) == len(planned)


def test_facts_tell_what_a_row_is_shown(tmp_path):
    trials = {work.trial.row: work.trial for work in works(study(controls=[]), tmp_path)}
    both = trials["text + image (text_to_image)"].facts
    assert (both["inputs"], both["fusion"]) == ("both", "text_to_image")
    assert (both["text_encoder"], both["image_encoder"]) == ("tiny:bert", "tiny:vit")
    image = trials["image only"].facts
    assert (image["fusion"], image["text_encoder"], image["image_encoder"]) == (
        None,
        None,
        "tiny:vit",
    )
    numbers = trials["numbers only: 1-D CNN"].facts
    assert (numbers["text_encoder"], numbers["image_encoder"]) == (None, None)
    assert trials["baseline: persistence"].facts["inputs"] == "numbers"
    assert both["label_kind"] == "forecast"


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"caption": "classic"}, {"image only", "numbers only: 1-D CNN"}),
        ({"max_tokens": 64}, {"image only", "numbers only: 1-D CNN"}),
        ({"lora_rank": 2}, {"numbers only: 1-D CNN"}),
        ({"width": 32}, set()),
        ({"fusion": "late"}, {"image only", "text only", "numbers only: 1-D CNN"}),
    ],
)
def test_what_a_row_does_not_read_is_no_part_of_its_id(tmp_path, change, same):
    before = ids(study(controls=[]), tmp_path)
    fusion = change.get("fusion")
    after = ids(
        study(controls=[], model=change, **({"fusions": [fusion]} if fusion else {})), tmp_path
    )
    models = {row for row in before if not row.startswith("baseline")}
    assert {row for row in models if after.get(row) == before[row]} == same
    assert all(after[row] == before[row] for row in before if row.startswith("baseline"))


def test_ids_are_the_same_wherever_the_dataset_lies(tmp_path):
    here = ids(study(controls=[]), tmp_path / "a")
    (place,) = (tmp_path / "a" / "datasets").iterdir()
    moved = place.rename(tmp_path / "elsewhere")
    config = parse(FusionBenchmarkConfig, {"data_dirs": [moved], "model": TINY, "controls": []})
    assert ids(config, tmp_path / "b") == here


def test_a_control_and_a_baseline_keep_no_model(tmp_path):
    planned = works(study(keep_models=True, inputs=["both", "image"]), tmp_path)
    kept = [work.trial.row for work in planned if work.model_dir is not None]
    assert kept == ["text + image (text_to_image)", "image only"]
    assert not any(work.model_dir for work in works(study(), tmp_path))


def test_the_model_that_stands_for_all():
    assert main_variant(study(inputs=["text", "both"], fusions=["late", "gated"])).fusion == "late"
    assert main_variant(study(inputs=["text", "image"])).inputs == "text"
    assert main_variant(study(inputs=[])) is None
    assert [spec.inputs for spec in variants(study(inputs=["image", "text"]))] == ["image", "text"]


def test_a_study_needs_data_that_is_named_once(tmp_path):
    with pytest.raises(ConfigError, match="names no data"):
        study(datasets=[])
    with pytest.raises(ConfigError, match="twice"):
        study(inputs=["both", "both"])
    prepare(study(inputs=[], controls=[]), tmp_path / "datasets")
    (place,) = (tmp_path / "datasets").iterdir()
    with pytest.raises(ConfigError, match="hold the same dataset; name one of them"):
        prepare(study(data_dirs=[place], inputs=[], controls=[]), tmp_path / "datasets")


def test_what_cannot_be_had_is_said_before_anything_is_trained(tmp_path):
    with pytest.raises(ModelError, match=r"'tiny:brt' is no small encoder.*known: tiny:bert"):
        prepare(study(model={"text_encoder": "tiny:brt"}), tmp_path)
    with pytest.raises(ModelError, match="nobody/none"):
        prepare(study(model={"image_encoder": "nobody/none"}), tmp_path)
    missing = {"data_dirs": [tmp_path / "none"], "inputs": ["numbers"]}
    with pytest.raises(DatasetError, match=r"no dataset at .*candlemark dataset build"):
        prepare(parse(FusionBenchmarkConfig, missing), tmp_path)
    few = {**MARKET, "candles": {"kind": "random_walk", "count": 20}, "window": 8}
    config = parse(FusionBenchmarkConfig, {"datasets": [few], "inputs": ["numbers"]})
    with pytest.raises(DatasetError, match=r"2 or more are needed|no window|too few|fewer"):
        prepare(config, tmp_path)
