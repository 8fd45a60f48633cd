"""One study, looked at from all sides: its records, its kept model, and that model asked again."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from candlemark.benchmark.fusion import task
from candlemark.benchmark.fusion.evaluate import PERSISTENCE, evaluate
from candlemark.benchmark.fusion.plan import FusionWork
from candlemark.benchmark.fusion.prepare import prepare
from candlemark.dataset.build import build_dataset
from candlemark.dataset.lazy import open_dataset
from candlemark.dataset.returns import next_returns
from candlemark.errors import DatasetError, ModelError
from candlemark.metrics.forecast import score_forecast
from candlemark.metrics.summary import score
from candlemark.models.fusion.saving import load_fusion, read_training
from candlemark.records import Status

MAIN = "text + image (text_to_image)"
SCORES = ("auroc", "accuracy", "mase", "mae_percent", "rmse_percent", "directional_accuracy")


def test_every_row_answers_both_questions(finished):
    assert list(finished.rows) == [
        "baseline: majority",
        "baseline: persistence",
        "baseline: gradient_boosting",
        MAIN,
        "numbers only: 1-D CNN",
        f"control: shuffled labels, {MAIN}",
    ]
    for record in finished.rows.values():
        assert record.status is Status.OK
        names = {one.name for one in record.measurements}
        assert {*SCORES, "training_time_s", "latency_p50_ms"} <= names
        cases = len(record.predictions.target)
        places = record.samples["forecast_case"].astype(int)
        assert len(record.samples["log_return"]) == len(places) <= cases
        assert len(record.samples["forecast_log_return"]) == len(places)
        assert np.isfinite(record.samples["forecast_log_return"]).all()
        assert record.facts["audit"]["ok"]
        assert record.environment["comparability_key"]


def test_persistence_is_what_errors_are_held_against(finished):
    record = finished.rows["baseline: persistence"]
    assert record.measurement("mase").value == 1
    assert (record.samples["forecast_log_return"] == 0).all()
    direction = record.measurement("directional_accuracy")
    assert direction.value is None
    assert direction.reason


def test_scores_follow_from_what_the_record_keeps(finished):
    record = finished.rows[MAIN]
    dataset = open_dataset(finished.dataset)
    test = dataset.split("test")
    assert np.array_equal(record.predictions.target, dataset.targets(test))
    known = record.samples["forecast_case"].astype(int)
    assert np.array_equal(record.samples["log_return"], next_returns(dataset, test)[known])
    block, replicates = record.facts["block_length"], 100
    again = (
        *score(
            record.predictions.target,
            record.predictions.probability,
            block_length=block,
            replicates=replicates,
        ),
        *score_forecast(
            record.samples["log_return"],
            record.samples["forecast_log_return"],
            block_length=block,
            replicates=replicates,
        ),
    )
    assert [record.measurement(one.name) for one in again] == list(again)


def test_facts_tell_how_it_was_made_and_how_sure_it_is(finished):
    facts = finished.rows[MAIN].facts
    assert facts["encoder_weights"] == {"text": "random", "image": "random"}
    assert facts["weights"] == "random"
    assert facts["best_epoch"] == 1
    interval = facts["forecast_interval"]
    assert interval["residual_low"] < 0 < interval["residual_high"]
    assert 0 <= interval["coverage"] <= 1
    history = finished.rows[MAIN].history
    assert {"validation_class_loss", "validation_value_loss", "value_loss_weight"} <= set(
        history[0]
    )
    assert finished.rows["baseline: majority"].history == ()


def test_only_models_are_kept_with_what_they_are_held_against(finished):
    kept = sorted(path.name for path in (finished.folder / "models").iterdir())
    named = [record.facts.get("model_dir") for record in finished.rows.values()]
    assert kept == sorted(name for name in named if name)
    assert len(kept) == 2
    told = read_training(finished.model)
    record = finished.rows[MAIN]
    assert told["trial_id"] == record.trial_id
    assert told["measurements"]["auroc"]["value"] == record.measurement("auroc").value
    assert [beside["row"] for beside in told["beside"]] == [
        row for row in finished.rows if row.startswith(("baseline", "control"))
    ]


def test_a_kept_model_knows_how_its_charts_look_and_how_its_forecasts_miss(finished):
    config = load_fusion(finished.model).config
    facts = finished.rows[MAIN].facts
    assert config.chart["window"] == 8
    assert config.chart["style"]["kind"] == "ohlc4"
    assert config.returns["mean"] == facts["return_mean"]
    assert config.returns["std"] == facts["return_std"]
    for name in ("level", "residual_low", "residual_high"):
        assert config.returns[name] == facts["forecast_interval"][name]
    assert config.origin["dataset_hash"] == facts["dataset_hash"]
    assert config.id2label == {0: "bearish", 1: "neutral", 2: "bullish"}


def test_a_kept_model_gives_the_scores_of_its_record(finished):
    found = evaluate(finished.model, finished.dataset, device="cpu")
    record = finished.rows[MAIN]
    for one in found.scored.measurements:
        assert one == record.measurement(one.name)
    assert found.changes == {}
    assert found.seen is None
    assert found.coverage == record.facts["forecast_interval"]["coverage"]
    beside = finished.rows["baseline: persistence"]
    assert [beside.measurement(one.name) for one in found.persistence.measurements] == list(
        found.persistence.measurements
    )
    value = found.to_dict()
    assert json.loads(json.dumps(value, allow_nan=False)) == value
    assert value["scores"]["auroc"]["value"] == record.measurement("auroc").value
    assert value[PERSISTENCE]["mase"]["value"] == 1


@pytest.mark.parametrize(
    ("split", "why"),
    [("train", "it was trained on these very windows"), ("validation", "were chosen on these")],
)
def test_scores_on_what_was_learnt_from_are_no_test(finished, split, why):
    found = evaluate(finished.model, finished.dataset, split=split, device="cpu")
    assert why in found.seen
    assert found.changes is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"window": 9}, r"pictures of window 8, and .* has window 9"),
        (
            {"style": {"kind": "ohlc4", "height": 40}},
            r"of style kind ohlc4, height 32, and .*, height 40",
        ),
        ({"label": {"name": "next_candle"}}, r"tells bearish, neutral, bullish.*classes down, up"),
    ],
)
def test_a_model_is_not_scored_on_what_it_was_not_made_for(finished, tmp_path, change, message):
    config = open_dataset(finished.dataset).config
    fields = {**config.model_dump(exclude_unset=True), **change}
    other = build_dataset(type(config).model_validate(fields), tmp_path / "other")
    with pytest.raises(DatasetError, match=message):
        evaluate(finished.model, other.path, device="cpu")


def test_a_model_without_a_scale_of_returns_is_refused(finished, tmp_path):
    bare = tmp_path / "bare"
    bare.mkdir()
    for path in finished.model.iterdir():
        (bare / path.name).write_bytes(path.read_bytes())
    config = json.loads((bare / "config.json").read_text(encoding="utf-8"))
    config["returns"] = {}
    (bare / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ModelError, match="keeps no scale of returns"):
        evaluate(bare, finished.dataset, device="cpu")


def _work(finished, row: str, folder) -> FusionWork:
    prepared = prepare(finished.config, finished.folder / "datasets")
    works = prepared.works(device="cpu", checkpoints=folder / "checkpoints")
    return next(work for work in works if work.trial.row == row)


def test_a_dataset_that_changed_is_not_trained_on(finished, tmp_path):
    work = _work(finished, "baseline: majority", tmp_path)
    other = replace(work.trial, config={**work.trial.config, "dataset": "0" * 16})
    with pytest.raises(DatasetError, match="changed since the trial was planned"):
        task.run(replace(work, trial=other))


def test_a_control_is_taught_answers_of_other_windows_and_judged_by_its_own(finished, monkeypatch):
    taught = {}

    class Row(SimpleNamespace):
        history = ()

        def fit(self, rows, targets, returns):
            taught.update(targets=targets["train"], returns=returns["train"])
            raise StopIteration

    monkeypatch.setattr(task, "_make_row", lambda work, dataset: Row())
    work = _work(finished, f"control: shuffled labels, {MAIN}", finished.folder)
    with pytest.raises(StopIteration):
        task.run(work)
    dataset = open_dataset(finished.dataset)
    train = dataset.split("train")
    own, returns = dataset.targets(train), next_returns(dataset, train)
    assert not np.array_equal(taught["targets"], own)
    assert sorted(taught["targets"]) == sorted(own)
    # A class goes with its return: both are of one other window.
    pairs = set(zip(own.tolist(), returns.tolist(), strict=True))
    assert set(zip(taught["targets"].tolist(), taught["returns"].tolist(), strict=True)) == pairs
