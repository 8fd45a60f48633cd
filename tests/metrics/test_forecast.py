"""Scores of a forecast of the close: known answers, sklearn, persistence, intervals that cover."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import mean_absolute_error, mean_squared_error

from candlemark.errors import ConfigError
from candlemark.metrics import regression
from candlemark.metrics.catalog import FORECAST_METRICS, METRICS, ForecastMetric, all_scores
from candlemark.metrics.forecast import (
    forecast_difference,
    forecast_replicates_of,
    score_forecast,
)
from candlemark.metrics.resampling import resample_counts
from candlemark.metrics.segmentation.catalog import SEGMENTATION_METRICS
from candlemark.metrics.summary import Interval, interval
from candlemark.records import Measurement, Verdict

FloatArray = npt.NDArray[np.float64]
BY_NAME = pytest.mark.parametrize("metric", FORECAST_METRICS.values(), ids=FORECAST_METRICS)


def once(value: FloatArray, forecast: FloatArray, name: str) -> float:
    found = FORECAST_METRICS[name].function(value, forecast, np.ones((1, len(value))))
    return float(found[0])


def noise(count: int, seed: int = 0) -> tuple[FloatArray, FloatArray]:
    """Returns, and a forecast that knows something of them."""
    random = np.random.default_rng(seed)
    value = 0.01 * random.normal(size=count)
    return value, 0.4 * value + 0.004 * random.normal(size=count)


class TestKnownAnswers:
    """Five moves from a last close of 100: to 110, 90, 100, 120 and 105."""

    value = np.log([1.10, 0.90, 1.00, 1.20, 1.05])
    forecast = np.log([1.05, 0.95, 1.10, 1.00, 0.95])

    def test_errors_of_the_price_in_per_cent_of_the_last_close(self) -> None:
        assert once(self.value, self.forecast, "mae_percent") == pytest.approx(10.0)
        squares = np.mean([25, 25, 100, 400, 100])
        assert once(self.value, self.forecast, "rmse_percent") == pytest.approx(squares**0.5)

    def test_mase_divides_by_the_error_of_the_last_close(self) -> None:
        assert once(self.value, self.forecast, "mase") == pytest.approx(50 / 45)

    def test_direction_leaves_out_what_did_not_move_and_tosses_a_coin_for_zero(self) -> None:
        # Right, right, (not moved), no direction said, wrong.
        assert once(self.value, self.forecast, "directional_accuracy") == pytest.approx(2.5 / 4)

    def test_agree_with_sklearn_on_prices(self) -> None:
        value, forecast = noise(500)
        last = 42_000.0
        came, said = last * np.exp(value), last * np.exp(forecast)
        mae = mean_absolute_error(came, said) / last * 100
        rmse = mean_squared_error(came, said) ** 0.5 / last * 100
        assert once(value, forecast, "mae_percent") == pytest.approx(mae, rel=1e-12)
        assert once(value, forecast, "rmse_percent") == pytest.approx(rmse, rel=1e-12)
        still = mean_absolute_error(came, np.full(500, last)) / last * 100
        assert once(value, forecast, "mase") == pytest.approx(mae / still, rel=1e-12)

    def test_persistence_has_exactly_1_and_no_direction(self) -> None:
        value, _ = noise(300)
        mase, mae, rmse, direction = score_forecast(
            value, np.zeros(300), block_length=25, replicates=100
        )
        assert (mase.value, mase.low, mase.high) == (1.0, 1.0, 1.0)
        assert mae.value is not None
        assert rmse.value is not None
        assert 0 < mae.value < rmse.value
        assert direction.value is None
        assert direction.reason == (
            "undefined: no price moved, or no forecast has a direction "
            "(300 test cases, 300 moves, 0 forecasts of a move)"
        )

    def test_a_price_that_never_moves_has_errors_but_no_mase(self) -> None:
        mase, mae, _, direction = score_forecast(
            np.zeros(300), np.full(300, 0.01), block_length=25, replicates=100
        )
        assert (mase.value, direction.value) == (None, None)
        assert mase.reason == (
            "undefined: no price moved (300 test cases, 0 moves, 300 forecasts of a move)"
        )
        assert mae.value == pytest.approx(100 * (math.exp(0.01) - 1))


class TestEveryScore:
    @BY_NAME
    @settings(max_examples=30, deadline=None)
    @given(seed=st.integers(0, 999))
    def test_a_weight_of_2_is_a_case_twice(self, metric: ForecastMetric, seed: int) -> None:
        random = np.random.default_rng(seed)
        value, forecast = random.choice([-0.02, 0.0, 0.01], (2, 20))
        weight = random.integers(0, 3, 20)
        weighted = metric.function(value, forecast, weight[None].astype(np.float64))
        rows = np.repeat(np.arange(20), weight)
        repeated = metric.function(value[rows], forecast[rows], np.ones((1, len(rows))))
        np.testing.assert_allclose(weighted, repeated, rtol=1e-9)

    @BY_NAME
    @settings(max_examples=30, deadline=None)
    @given(
        returns=arrays(np.float64, (2, 12), elements=st.floats(-0.5, 0.5)),
        order=st.permutations(range(12)),
    )
    def test_order_is_of_no_matter_and_the_range_holds(
        self, metric: ForecastMetric, returns: FloatArray, order: list[int]
    ) -> None:
        value, forecast = returns
        weight = np.ones((1, 12))
        (found,) = metric.function(value, forecast, weight)
        (moved,) = metric.function(value[order], forecast[order], weight)
        assert moved == pytest.approx(found, nan_ok=True)
        assert math.isnan(found) or metric.low <= found <= metric.high

    @BY_NAME
    def test_many_weightings_are_each_one_alone(self, metric: ForecastMetric) -> None:
        value, forecast = noise(60)
        (rows,) = resample_counts(case_count=60, block_length=6, replicates=5, seed=0)
        together = metric.function(value, forecast, rows)
        alone = [metric.function(value, forecast, row[None])[0] for row in rows]
        np.testing.assert_allclose(together, alone, rtol=1e-12)
        assert together.dtype == np.float64

    @BY_NAME
    def test_the_truth_is_best_and_no_case_is_unknown(self, metric: ForecastMetric) -> None:
        value, forecast = noise(200)
        best, worse = once(value, value, metric.name), once(value, forecast, metric.name)
        assert best > worse if metric.higher_is_better else best < worse
        assert best == (metric.high if metric.higher_is_better else metric.low)
        assert np.isnan(metric.function(value, forecast, np.zeros((1, 200)))).all()

    def test_stand_in_one_table_beside_those_of_classes(self) -> None:
        functions = {metric.function for metric in FORECAST_METRICS.values()}
        public = {
            value
            for name, value in vars(regression).items()
            if callable(value)
            and not name.startswith("_")
            and getattr(value, "__module__", "") == regression.__name__
        }
        assert functions == public
        assert all(name == metric.name for name, metric in FORECAST_METRICS.items())
        assert set(all_scores()) == {*METRICS, *FORECAST_METRICS, *SEGMENTATION_METRICS}


class TestScoreForecast:
    def test_intervals_lie_around_the_value_and_above_0(self) -> None:
        value, forecast = noise(400)
        found = score_forecast(value, forecast, block_length=25, replicates=200)
        assert [m.name for m in found] == list(FORECAST_METRICS)
        for m in found:
            assert m.low is not None
            assert m.value is not None
            assert m.high is not None
            assert 0 < m.low < m.value < m.high
            assert (m.level, m.sample_count, m.verdict) == (0.95, 400, Verdict.VALID)
        assert [m.unit for m in found] == ["", "%", "%", ""]

    def test_too_few_blocks_say_how_many_more_cases(self) -> None:
        value, forecast = noise(100)
        (mase,) = score_forecast(value, forecast, block_length=31, names=["mase"])
        assert mase.verdict is Verdict.TOO_FEW
        assert mase.value is not None
        assert mase.low is None
        assert mase.reason == (
            "100 cases are 3.2 blocks of 31; an interval needs 5 blocks, 55 more cases"
        )

    def test_no_known_close_gives_no_value(self) -> None:
        nothing = np.empty(0)
        for m in score_forecast(nothing, nothing, block_length=25):
            assert (m.value, m.verdict) == (None, Verdict.TOO_FEW)
            assert m.reason == "no test case has a known next close"
        found = forecast_difference(nothing, nothing, nothing, block_length=25)
        assert (found.value, found.reason) == (None, "no test case has a known next close")
        with pytest.raises(ConfigError, match="there is nothing to score"):
            forecast_replicates_of("mase", nothing, nothing, block_length=25)

    def test_an_exact_forecast_has_no_interval_and_the_reason(self) -> None:
        value, _ = noise(300)
        mase, *_, direction = score_forecast(value, value, block_length=25, replicates=100)
        assert (mase.value, mase.low) == (0.0, None)
        assert mase.reason == (
            "every case was forecast exactly; how large an error may be is unseen"
        )
        assert direction.high == 1.0
        assert direction.low == pytest.approx(0.05 ** (25 / 300))

    def test_one_miss_in_many_keeps_a_finite_interval(self) -> None:
        value, _ = noise(300)
        forecast = value.copy()
        forecast[150] += 0.05
        (mase,) = score_forecast(value, forecast, block_length=25, replicates=200, names=["mase"])
        assert mase.low is not None
        assert mase.high is not None
        assert mase.value is not None
        assert 0 < mase.low < mase.value < mase.high < math.inf

    @pytest.mark.parametrize(
        ("value", "forecast", "message"),
        [
            ([0.1, 0.2], [0.1], r"value is \(2,\) and forecast \(1,\); expected \(N,\) and \(N,\)"),
            ([0.1, np.nan], [0.1, 0.1], "1 of 2 returns are not known; leave those cases out"),
            ([0.1, 0.2], [0.1, np.inf], "forecast holds NaN or infinity; the model diverged"),
            ([0.1, 0.2], [0.1, 42_000.0], r"forecast holds 4\.2e\+04; a log return lies within"),
        ],
    )
    def test_what_is_no_return_is_refused(
        self, value: list[float], forecast: list[float], message: str
    ) -> None:
        with pytest.raises(ConfigError, match=message):
            score_forecast(np.asarray(value), np.asarray(forecast), block_length=1)

    def test_an_unknown_score_names_the_known(self) -> None:
        value, forecast = noise(10)
        with pytest.raises(ConfigError, match=r"forecast 'mape'; known: mase, mae_percent, "):
            score_forecast(value, forecast, block_length=1, names=["mape"])


class TestDifference:
    def test_identical_forecasts_differ_by_exactly_0(self) -> None:
        value, forecast = noise(400)
        for name in FORECAST_METRICS:
            found = forecast_difference(
                value, forecast, forecast.copy(), block_length=25, metric=name, replicates=100
            )
            assert (found.value, found.low, found.high, found.p_value) == (0.0, 0.0, 0.0, 1.0)

    def test_a_better_forecast_errs_less(self) -> None:
        value, forecast = noise(600)
        found = forecast_difference(value, forecast, np.zeros(600), block_length=25, replicates=200)
        assert found.value is not None
        assert found.high is not None
        assert found.p_value is not None
        assert found.value < 0
        assert found.high < 0
        assert found.p_value < 0.001
        back = forecast_difference(value, np.zeros(600), forecast, block_length=25, replicates=200)
        assert back.value == pytest.approx(-found.value)
        assert back.p_value == pytest.approx(found.p_value)

    def test_against_persistence_is_the_mase_less_1(self) -> None:
        value, forecast = noise(400)
        found = forecast_difference(value, forecast, np.zeros(400), block_length=25, replicates=100)
        assert found.value == pytest.approx(once(value, forecast, "mase") - 1)

    def test_no_direction_on_one_side_gives_the_reason(self) -> None:
        value, forecast = noise(400)
        found = forecast_difference(
            value,
            forecast,
            np.zeros(400),
            block_length=25,
            metric="directional_accuracy",
            replicates=50,
        )
        assert found.value is None
        assert found.reason == (
            "Directional accuracy is undefined: no price moved, or no forecast has a direction"
        )


def slow(random: np.random.Generator, count: int, memory: int = 25) -> FloatArray:
    """Noise of variance 1 of a first-order model that forgets within `memory` steps."""
    from scipy.signal import lfilter

    keep = math.exp(-3 / memory)
    shocks = random.normal(size=count + 10 * memory) * math.sqrt(1 - keep**2)
    return np.asarray(lfilter([1.0], [1.0, -keep], shocks)[10 * memory :])


def turbulent(
    random: np.random.Generator, count: int, *, skill: float = 0.5, other: float = 0.3
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Returns of slowly changing volatility, and two forecasts of known skill.

    Both forecasts err by noise that remembers, as neighbours that share candles do.
    """
    volatility = 0.01 * np.exp(0.4 * slow(random, count))
    told = random.normal(size=count)
    value = volatility * (0.6 * told + random.normal(size=count))
    first, second = (0.01 * (share * told + 0.3 * slow(random, count)) for share in (skill, other))
    return value, first, second


def covers(bounds: Interval | Measurement, truth: float) -> bool:
    assert bounds.low is not None
    assert bounds.high is not None
    return bounds.low <= truth <= bounds.high


def coverage(*, samples: int, count: int, names: tuple[str, ...]) -> dict[str, float]:
    """Share of simulated markets whose intervals hold the true scores."""
    random = np.random.default_rng(3)
    far = turbulent(random, 400_000)
    truth = {name: once(far[0], far[1], name) for name in names}
    hits = dict.fromkeys(names, 0)
    for seed in range(samples):
        value, forecast, _ = turbulent(random, count)
        for name in names:
            point, resampled = forecast_replicates_of(
                name, value, forecast, block_length=25, replicates=250, seed=seed
            )
            bounds = interval(
                point,
                resampled,
                metric=FORECAST_METRICS[name],
                case_count=count,
                block_length=25,
            )
            hits[name] += covers(bounds, truth[name])
    return {name: hit / samples for name, hit in hits.items()}


def difference_coverage(*, samples: int, count: int, other: float) -> tuple[float, float]:
    """Shares of markets whose interval of the difference holds the truth, and leaves out 0."""
    random = np.random.default_rng(4)
    far = turbulent(random, 400_000, other=other)
    truth = once(far[0], far[1], "mase") - once(far[0], far[2], "mase") if other != 0.5 else 0.0
    held = told = 0
    for seed in range(samples):
        value, first, second = turbulent(random, count, other=other)
        found = forecast_difference(
            value, first, second, block_length=25, replicates=250, seed=seed
        )
        assert found.low is not None
        assert found.high is not None
        held += found.low <= truth <= found.high
        told += not found.low <= 0 <= found.high
    return held / samples, told / samples


class TestCoverage:
    def test_intervals_of_the_mase_hold_the_truth(self) -> None:
        assert coverage(samples=100, count=600, names=("mase",))["mase"] >= 0.88

    def test_the_difference_of_equal_skill_is_seldom_told(self) -> None:
        held, told = difference_coverage(samples=100, count=600, other=0.5)
        assert held >= 0.88
        assert told <= 0.12

    @pytest.mark.slow
    @pytest.mark.parametrize("count", [500, 1000, 2000])
    def test_long_run(self, count: int) -> None:
        found = coverage(samples=1000, count=count, names=tuple(FORECAST_METRICS))
        assert min(found["mase"], found["directional_accuracy"]) >= 0.92, found
        assert found["mae_percent"] >= 0.88, found
        assert found["rmse_percent"] >= 0.84, found

    @pytest.mark.slow
    @pytest.mark.parametrize("count", [500, 1000, 2000])
    @pytest.mark.parametrize("other", [0.3, 0.5])
    def test_long_run_of_differences(self, count: int, other: float) -> None:
        held, told = difference_coverage(samples=1000, count=count, other=other)
        assert held >= 0.92
        assert told <= 0.08 if other == 0.5 else told >= 0.15
