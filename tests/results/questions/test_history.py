"""How numbers developed: series by trial and environment, changes with places and sizes."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from candlemark.errors import ConfigError, ResultsError
from candlemark.records import Measurement, Status, Verdict
from candlemark.results.questions.history import read_history
from candlemark.results.store import Results, open_results


def _load_made() -> Any:
    """The made-up records beside this file; tests are no package, so loaded by path."""
    name = "candlemark_test_inference_records"
    if name not in sys.modules:
        spec = spec_from_file_location(name, Path(__file__).parents[1] / "inference_records.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


made = _load_made()


def when(day: int) -> str:
    return f"2025-06-{day:02d}T09:30:00+00:00"


def fill(results: Results, levels: list[tuple[int, float]], **changes: Any) -> None:
    random = np.random.default_rng(0)
    day = 0
    with results.together():
        for count, level in levels:
            for _ in range(count):
                day += 1
                value = float(random.lognormal(np.log(level), 0.01))
                record = made.make("gpt2", p50=value, started_at=when(day), **changes)
                results.append(record, "s1", run=f"day {day}")


@pytest.fixture
def results(tmp_path: Path):
    with open_results(tmp_path) as store:
        yield store


def test_a_slow_down_is_found_where_it_began(results: Results) -> None:
    fill(results, [(8, 10.0), (8, 11.5)])
    told = read_history(results)
    (series,) = told.series
    (change,) = series.changes
    assert series.label == "gpt2 cpu fp32 eager batch 1 length 128"
    assert series.machine == "AMD EPYC 7B13"
    assert (change.index, series.moments[change.index].run) == (8, "day 9")
    assert change.ratio == pytest.approx(1.15, rel=0.02)
    assert series.is_worse(change) is True
    assert series.untested is None
    assert told.new_environments == ()


def test_attempts_are_ordered_by_their_start_and_not_by_their_coming(results: Results) -> None:
    for day in (5, 2, 9):
        results.append(made.make("gpt2", p50=float(day), started_at=when(day)), "s1")
    results.append(made.make("gpt2", p50=1.0, started_at="2025-06-02T11:00:00+02:00"), "s1")
    assert read_history(results).series[0].values == (1.0, 2.0, 5.0, 9.0)


def test_a_new_environment_is_no_change_of_the_model(results: Results) -> None:
    fill(results, [(8, 10.0)])
    newer = {"packages": {"torch": "2.12.0", "transformers": "5.1.0"}}
    random = np.random.default_rng(1)
    for day in range(9, 17):
        value = float(random.lognormal(np.log(14.0), 0.01))
        results.append(made.make("gpt2", p50=value, started_at=when(day), environment=newer), "s1")
    told = read_history(results)
    assert [len(series.values) for series in told.series] == [8, 8]
    assert all(series.changes == () for series in told.series)
    (new,) = told.new_environments
    assert new.differing == {"packages.torch": ("2.11.0", "2.12.0")}
    assert (new.attempt, new.started_at) == (9, when(9))


def test_what_may_not_be_quoted_is_no_point_and_is_counted(results: Results) -> None:
    fill(results, [(3, 10.0)])
    contended = Measurement(
        name="latency_p50_ms", value=99.0, unit="ms", verdict=Verdict.CONTENDED, reason="cron"
    )
    results.append(made.make("gpt2", more=(contended,)), "s1")
    results.append(made.make("gpt2", p50=None), "s1")
    failed = made.make("gpt2", status=Status.CRASHED, reason="x", measurements=(), environment={})
    results.append(failed, "s1")
    (series,) = read_history(results).series
    assert len(series.values) == 3
    assert series.withheld == {"CONTENDED: cron": 1, "unknown: the clock stood still": 1}
    assert series.untested == "a change needs 8 attempts, 5 more"


def test_all_series_share_the_chance_of_a_false_alarm(results: Results) -> None:
    with results.together():
        for model in ("a", "b", "c", "d"):
            for day in range(1, 10):
                results.append(made.make(model, p50=10.0 + day % 3, started_at=when(day)), "s1")
    results.append(made.make("short"), "s1")
    told = read_history(results)
    assert told.alpha_each == 0.05 / 4
    # 9 values allow no p-value below 2 / 126, so at 0.0125 a tenth is needed.
    assert told.series[0].untested == "a change needs 10 attempts, 1 more"


def test_models_are_chosen_by_a_glob_and_scores_are_measures_too(results: Results) -> None:
    auroc = Measurement(name="auroc", value=0.6)
    results.append(made.make("org/bert", more=(auroc,)), "s1")
    results.append(made.make("gpt2"), "s1")
    assert [s.model for s in read_history(results, model="org/*").series] == ["org/bert"]
    (series,) = read_history(results, measure="auroc").series
    assert (series.model, series.quantity.higher_is_better) == ("org/bert", True)


def test_direction_decides_what_is_worse(results: Results) -> None:
    with results.together():
        for day in range(1, 17):
            level = 100.0 + day if day < 9 else 50.0 + day
            rate = Measurement(name="throughput_items_per_s", value=level)
            power = Measurement(name="power_w", value=level)
            results.append(made.make("m", more=(rate, power), started_at=when(day)), "s1")
    (series,) = read_history(results, measure="throughput_items_per_s").series
    assert [series.is_worse(change) for change in series.changes] == [True]
    (series,) = read_history(results, measure="power_w").series
    assert [series.is_worse(change) for change in series.changes] == [None]


def test_messages(results: Results) -> None:
    with pytest.raises(ResultsError, match=r"no trial of a model that fits '\*' in "):
        read_history(results)
    results.append(made.make("gpt2"), "s1")
    with pytest.raises(ResultsError, match=r"no trial .* fits 'b\*' in "):
        read_history(results, model="b*")
    with pytest.raises(ResultsError, match="fits '\\*' measured energy_per_item_j"):
        read_history(results, measure="energy_per_item_j")
    with pytest.raises(ConfigError, match="did you mean 'latency_p50_ms'"):
        read_history(results, measure="latency_p_50_ms")
