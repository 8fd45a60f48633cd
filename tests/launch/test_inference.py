"""A sweep from end to end: what is finished is not run again, and every failure is a row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
import yaml

import candlemark
from candlemark.benchmark.inference.plan import plan
from candlemark.errors import ConfigError, MissingExtraError
from candlemark.execution.base import Failure, FailureKind, Outcome
from candlemark.launch.inference import SHARED_BY, profile, run_inference
from candlemark.launch.run import as_config
from candlemark.records import Status, Verdict
from candlemark.results.store import open_results

LINEAR = "python:gadgets:linear"
QUICK = {"warmup_calls": 1, "warmup_s": 0.0, "budget_s": 0.05, "minimum_samples": 5}


class Here:
    """Runs calls in this process, one after the other, and counts them."""

    def __init__(self) -> None:
        self.ran: list[str] = []

    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Outcome]:
        for item in items:
            self.ran.append(item.trial.model)
            value, failure = None, None
            try:
                value = function(item)
            except ValueError as error:
                failure = Failure(kind=FailureKind.CRASHED, reason=str(error))
            yield Outcome(
                item=item, value=value, failure=failure, started_at="2026-01-01", duration_s=0.0
            )


def config(**changes: Any):
    value = {
        "task": "inference",
        "models": [LINEAR],
        "devices": ["cpu"],
        "threads": 1,
        "metrics": ["latency"],
        "timing": QUICK,
        **changes,
    }
    return as_config(value)


def test_what_is_measured_is_kept_and_not_measured_again(tmp_path):
    asked = config(precisions=["fp32", "bf16"])
    here = Here()
    first = run_inference(asked, output_dir=tmp_path, run_name="main", executor=here)
    assert (first.ran, first.run, len(here.ran)) == (2, "main", 2)
    assert {record.status for record in first.records} == {Status.OK}
    again = run_inference(asked, output_dir=tmp_path, executor=here)
    assert (again.ran, again.run, again.suite_id) == (0, None, first.suite_id)
    more = run_inference(
        config(precisions=["fp32", "bf16", "fp16"]), output_dir=tmp_path, executor=here
    )
    assert (more.ran, len(more.records)) == (1, 3)
    with open_results(tmp_path / "results", read_only=True) as store:
        assert next(run.name for run in store.runs()) == "main"
        assert len(store.run_records("main")) == 2
        samples = store.run_records("main")[0].samples["latency_ms"]
        assert len(samples) >= 5
    (saved,) = tmp_path.glob(f"results/suite_{first.suite_id}.yaml")
    assert as_config(saved) == asked
    assert (tmp_path / "results" / "candlemark.duckdb").is_file()


def test_measuring_again_is_one_more_attempt(tmp_path):
    here = Here()
    run_inference(config(), output_dir=tmp_path, executor=here, run_name="one")
    again = run_inference(
        config(), output_dir=tmp_path, executor=here, run_name="two", resume=False
    )
    assert again.ran == 1
    with open_results(tmp_path / "results", read_only=True) as store:
        (record,) = store.records()
        assert len(store.attempts(record.trial_id)) == 2
        assert {run.name for run in store.runs()} == {"one", "two"}


def test_only_what_failed_is_run_again(tmp_path):
    models = [LINEAR, "python:gadgets:raising", "python:gadgets:convolution"]

    first = run_inference(config(models=models), output_dir=tmp_path, executor=Here())
    assert [record.status for record in first.records] == [Status.OK, Status.CRASHED, Status.OK]
    failed = first.records[1]
    assert failed.reason == "this model always fails"
    assert failed.facts["modality"] == "text"
    here = Here()
    some = config(models=models[1:], batch_sizes=[1, 2])
    again = run_inference(some, output_dir=tmp_path, executor=here, only_failed=True)
    assert (again.ran, here.ran) == (1, ["python:gadgets:raising"])


def test_to_measure_all_again_and_only_what_failed_is_a_contradiction(tmp_path):
    with pytest.raises(ConfigError, match="--rerun measures every cell again and --only failed"):
        run_inference(config(), output_dir=tmp_path, resume=False, only_failed=True)


def test_a_run_has_a_name_or_the_time(tmp_path):
    with pytest.raises(ConfigError, match="the name of a run is empty"):
        run_inference(config(), output_dir=tmp_path, run_name=" ")


def test_a_crash_and_the_end_of_memory_are_rows_and_stop_nothing(tmp_path):
    names = ("leaving", "greedy", "raising", "linear")
    finished = run_inference(
        config(models=[f"python:gadgets:{name}" for name in names], isolation="none"),
        output_dir=tmp_path,
    )
    ended = {record.facts["row"].rpartition(":")[2]: record for record in finished.records}
    assert {name: str(record.status) for name, record in ended.items()} == {
        "leaving": "crashed",
        "greedy": "out_of_memory",
        "raising": "crashed",
        "linear": "ok",
    }
    assert ended["leaving"].reason == "its process ended with exit status 7"
    assert ended["greedy"].facts["precision"] == "fp32"
    assert ended["raising"].reason == "ValueError: this model always fails"
    assert "gadgets.py" in ended["raising"].facts["details"]


def test_a_cell_that_takes_too_long_is_a_row(tmp_path):
    asked = config(models=["python:gadgets:sleeping"], timeout_s=3)
    (record,) = run_inference(asked, output_dir=tmp_path).records
    assert (record.status, record.reason) == (Status.TIMED_OUT, "took longer than 3 s")


def test_a_combination_that_cannot_be_is_a_row_without_a_process(tmp_path, monkeypatch):
    monkeypatch.setattr("candlemark.hardware.device.available_devices", lambda: ("cuda:0", "cpu"))
    here = Here()
    asked = config(devices=["cpu", "cuda"], precisions=["tf32"])
    monkeypatch.setattr(
        "candlemark.launch.inference.plan",
        lambda given: [work for work in plan(given) if work.refusal],
    )
    (record,) = run_inference(asked, output_dir=tmp_path, executor=here).records
    assert here.ran == []
    assert record.status is Status.REFUSED
    assert record.reason == "tf32 is a mode of CUDA devices; cpu has none"


def test_what_cannot_run_at_all_leaves_no_results_behind(tmp_path, monkeypatch):
    monkeypatch.setattr("candlemark.benchmark.inference.precision.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="torchao"):
        run_inference(config(precisions=["int8"]), output_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_isolation_says_which_cells_share_a_process():
    works = plan(config(models=[LINEAR, "tiny:bert"], precisions=["fp32", "bf16"]))
    keys = {name: [share(work) for work in works] for name, share in SHARED_BY.items()}
    assert keys == {
        "cell": [None] * 4,
        "model": [LINEAR, LINEAR, "tiny:bert", "tiny:bert"],
        "none": ["all"] * 4,
    }


def test_cells_of_a_model_reuse_it_where_isolation_allows(tmp_path):
    finished = run_inference(
        config(precisions=["fp32", "bf16"], metrics=["memory"], isolation="model"),
        output_dir=tmp_path,
    )
    plain, half = finished.records
    assert (plain.facts["reused"], half.facts["reused"]) == (False, True)
    assert half.measurement("load_s").reason == "loaded by an earlier cell of this process"
    assert plain.measurement("peak_memory_bytes").verdict is not Verdict.CONTENDED
    assert half.measurement("peak_memory_bytes").verdict is Verdict.CONTENDED


def test_two_workers_find_what_one_finds(tmp_path):
    asked = {"precisions": ["fp32", "bf16"], "metrics": ["latency", "flops", "numerics"]}
    alone = run_inference(config(**asked), output_dir=tmp_path / "1", executor=Here()).records
    beside = run_inference(config(workers=2, **asked), output_dir=tmp_path / "2").records
    assert [record.trial_id for record in beside] == [record.trial_id for record in alone]
    for one, two in zip(alone, beside, strict=True):
        for name in ("flops", "parameters", "relative_error"):
            assert two.measurement(name) == one.measurement(name)
        assert two.facts["same_answer"] == one.facts["same_answer"]
    loaded = beside[0].measurement("load_s")
    assert loaded.verdict is Verdict.CONTENDED
    assert loaded.reason == "other cells may have loaded at the same time"


def test_a_config_file_names_its_task(tmp_path):
    path = tmp_path / "inference.yaml"
    path.write_text(yaml.safe_dump(config().model_dump(mode="json")), encoding="utf-8")
    finished = candlemark.run(path, output_dir=tmp_path, executor=Here())
    assert finished.records[0].trial["task"] == "inference"
    with pytest.raises(
        ConfigError, match=r"unknown task 'inferense'; known: charts, fusion, inference"
    ):
        as_config({"task": "inferense"})
    with pytest.raises(ConfigError, match=r"unknown task \['inference'\]; known"):
        as_config({"task": ["inference"]})
    with pytest.raises(ConfigError, match="a config of inference says task: inference"):
        as_config({"models": ["tiny:bert"]})


def test_profile_takes_names_and_options(tmp_path, monkeypatch):
    monkeypatch.setattr("candlemark.launch.inference.LocalExecutor", lambda **_: Here())
    options = {"threads": 1, "metrics": ("memory",), "timing": QUICK}
    finished = candlemark.profile(LINEAR, output_dir=tmp_path, **options)
    assert finished.records[0].facts["model"] == LINEAR
    with pytest.raises(ConfigError, match="profile: unknown key 'metric'; did you mean 'metrics'"):
        profile([LINEAR], metric="latency")
