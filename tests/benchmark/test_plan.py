"""Trial ids: the same for the same outcome, another for another, wherever the files lie."""

from __future__ import annotations

import pytest

from candlemark.benchmark.config import BenchmarkConfig
from candlemark.benchmark.plan import cheapest_model
from candlemark.benchmark.prepare import prepare
from candlemark.config import parse
from candlemark.errors import ConfigError

RESNET, EDGENEXT = "timm/test_resnet.r160_in1k", "timm/edgenext_xx_small.in1k"


def suite(**changes):
    dataset = {
        "candles": {"kind": "planted", "count": 400, **changes.pop("candles", {})},
        "window": 12,
        "label": {"name": changes.pop("label", "next_candle")},
        "style": {"kind": "candlestick", "height": 32, "width": 36},
    }
    fields = {"datasets": [dataset], "models": [RESNET], "weights": "random", **changes}
    return parse(BenchmarkConfig, fields)


def works(config, folder, device="cpu"):
    prepared = prepare(config, folder)
    return prepared.works(device=device, checkpoints=folder / "checkpoints")


def ids(config, folder, **options):
    return [work.trial.id for work in works(config, folder, **options)]


def test_the_same_config_gives_the_same_trials_in_any_folder(tmp_path):
    assert ids(suite(), tmp_path / "a") == ids(suite(), tmp_path / "b")


@pytest.mark.parametrize(
    "change",
    [
        {"seeds": (1,)},
        {"training": {"epochs": 3}},
        {"candles": {"strength": 0.9}},
        {"label": "last_candle"},
    ],
)
def test_whatever_changes_the_outcome_changes_the_id(tmp_path, change):
    def model_ids(config):
        trials = [work.trial for work in works(config, tmp_path)]
        return {t.id for t in trials if t.role == "model" and t.facts["market"] == "planted"}

    assert not model_ids(suite()) & model_ids(suite(**change))


def test_weights_count_by_content_and_not_by_place(tmp_path):
    def model_id(path):
        trials = [work.trial for work in works(suite(weights=str(path)), tmp_path / "data")]
        return next(trial.id for trial in trials if trial.role == "model")

    first, copy = tmp_path / "first.safetensors", tmp_path / "copy.safetensors"
    for path in (first, copy):
        path.write_bytes(b"weights")
    before = model_id(first)
    assert model_id(copy) == before
    first.write_bytes(b"other weights")
    assert model_id(first) != before


def test_another_device_is_another_trial_for_models_only(tmp_path):
    on_cpu, on_gpu = works(suite(), tmp_path), works(suite(), tmp_path, device="cuda:0")
    same = {work.trial.id for work in on_cpu} & {work.trial.id for work in on_gpu}
    assert same == {work.trial.id for work in on_cpu if work.trial.role == "baseline"}


def test_rows_roles_and_controls(tmp_path):
    rows = [work.trial.facts for work in works(suite(models=[EDGENEXT, RESNET]), tmp_path)]
    planted = [(row["role"], row["row"]) for row in rows if row["market"] == "planted"]
    walk = [(row["role"], row["row"]) for row in rows if row["market"] == "random_walk"]
    assert planted[-3:] == [
        ("model", EDGENEXT),
        ("model", RESNET),
        ("control", f"control: shuffled labels, {RESNET}"),
    ]
    assert walk[-1] == ("model", RESNET)
    assert [name for role, name in planted if role == "baseline"] == [
        name for role, name in walk if role == "baseline"
    ]


def test_a_visible_answer_needs_no_random_walk(tmp_path):
    markets = {w.trial.facts["market"] for w in works(suite(label="last_candle"), tmp_path)}
    assert markets == {"planted"}


def test_the_control_walk_is_as_long_as_the_market(tmp_path):
    prepared = prepare(suite(), tmp_path)
    (walk,) = prepared.walks
    assert walk.manifest.series[0].candle_count == 400
    assert walk.window == 12


def test_the_attainable_auroc_is_known_where_the_pattern_decides(tmp_path):
    known = {w.trial.facts["attainable_auroc"] for w in works(suite(), tmp_path / "a")} - {None}
    assert list(known) == [pytest.approx(0.725)]
    unknown = works(suite(label="last_candle"), tmp_path / "b")
    assert {w.trial.facts["attainable_auroc"] for w in unknown} == {None}


def test_the_cheapest_model_has_the_fewest_parameters():
    assert cheapest_model([EDGENEXT, RESNET]) == RESNET


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"baselines": ["oracle"]}, "unknown baseline 'oracle'; known: majority"),
        ({"seeds": [1, 1]}, "names an entry twice"),
        ({"seeds": [-1]}, "seeds.0 = -1: Input should be greater than or equal to 0"),
        ({"datasets": []}, "datasets = []"),
        ({"modles": []}, "unknown key 'modles'; did you mean 'models'?"),
        ({"datasets": [{"windw": 3}]}, "unknown key 'datasets.0.windw'; did you mean 'window'?"),
    ],
)
def test_configs_that_make_no_sense_are_refused(fields, message):
    with pytest.raises(ConfigError) as caught:
        parse(BenchmarkConfig, {"datasets": [{"candles": {"kind": "planted"}}], **fields})
    assert message in str(caught.value)
