"""Intervals cover what they say, differences are paired, families are corrected."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from arch.bootstrap import CircularBlockBootstrap, StationaryBootstrap
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import false_discovery_control
from statsmodels.stats.multitest import multipletests  # type: ignore[import-untyped]

from candlemark.errors import ConfigError
from candlemark.metrics.catalog import METRICS
from candlemark.metrics.resampling import Scheme, resample_counts
from candlemark.metrics.summary import (
    holm,
    interval,
    pair,
    paired_difference,
    replicates_of,
    score,
    time_order,
)
from candlemark.records import Predictions, Verdict

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


def moving_average(random: np.random.Generator, count: int, length: int) -> FloatArray:
    """Noise of variance 1 that remembers `length` steps, as overlapping windows do."""
    total = np.cumsum(np.r_[0.0, random.normal(size=count + length - 1)])
    value: FloatArray = (total[length:] - total[:-length]) / np.sqrt(length)
    return value


def two_columns(value: FloatArray) -> FloatArray:
    up = 1 / (1 + np.exp(-value))
    return np.column_stack([1 - up, up])


def market(
    random: np.random.Generator, count: int, *, signal: float = 0.0, memory: int = 25
) -> tuple[IntArray, FloatArray]:
    """A score that remembers `memory` cases, and a label it predicts with strength `signal`."""
    value = moving_average(random, count, memory)
    target = (random.normal(size=count) + signal * value > 0).astype(np.int64)
    return target, two_columns(value)


class TestResampling:
    @settings(max_examples=40, deadline=None)
    @given(
        count=st.integers(1, 60),
        share=st.floats(0.01, 1),
        scheme=st.sampled_from(["circular", "stationary"]),
        seed=st.integers(0, 99),
    )
    def test_every_row_draws_as_many_cases_as_there_are(
        self, count: int, share: float, scheme: Scheme, seed: int
    ) -> None:
        length = max(1, int(share * count))
        rows = np.concatenate(
            list(
                resample_counts(
                    case_count=count, block_length=length, replicates=7, seed=seed, scheme=scheme
                )
            )
        )
        assert rows.shape == (7, count)
        assert np.all(rows >= 0)
        assert np.all(rows.sum(axis=1) == count)

    def test_cases_are_drawn_in_whole_blocks(self) -> None:
        (rows,) = resample_counts(case_count=100, block_length=10, replicates=50, seed=0)
        changes = (np.diff(rows, axis=1, append=rows[:, :1]) != 0).sum(axis=1)
        assert changes.max() <= 20  # ten blocks have twenty ends

    @pytest.mark.parametrize(
        ("scheme", "bootstrap"),
        [("circular", CircularBlockBootstrap), ("stationary", StationaryBootstrap)],
    )
    def test_standard_error_agrees_with_arch(self, scheme: Scheme, bootstrap: type) -> None:
        value = moving_average(np.random.default_rng(0), 400, 10)
        counts = np.concatenate(
            list(
                resample_counts(
                    case_count=400, block_length=20, replicates=4000, seed=1, scheme=scheme
                )
            )
        )
        ours = (counts @ value / 400).std()
        theirs = bootstrap(20, value, seed=2).apply(np.mean, 4000).std()
        assert ours == pytest.approx(theirs, rel=0.06)

    def test_a_block_longer_than_the_sample_is_refused(self) -> None:
        with pytest.raises(ConfigError, match="block_length = 11 is longer than the sample of 10"):
            next(resample_counts(case_count=10, block_length=11, replicates=1, seed=0))


class TestScore:
    def test_holds_every_metric_with_an_interval_around_the_value(self) -> None:
        target, probability = market(np.random.default_rng(0), 500, signal=0.8)
        measurements = score(target, probability, block_length=25, replicates=200)
        assert [m.name for m in measurements] == list(METRICS)
        for m in measurements:
            assert m.value is not None
            assert m.low is not None
            assert m.high is not None
            assert METRICS[m.name].low <= m.low <= m.value <= m.high <= METRICS[m.name].high
            assert (m.level, m.sample_count, m.verdict) == (0.95, 500, Verdict.VALID)

    def test_same_seed_same_bounds(self) -> None:
        target, probability = market(np.random.default_rng(0), 300)
        first = score(target, probability, block_length=25, replicates=100, seed=3)
        assert first == score(target, probability, block_length=25, replicates=100, seed=3)
        assert first != score(target, probability, block_length=25, replicates=100, seed=4)

    def test_too_few_blocks_say_how_many_more_cases(self) -> None:
        target, probability = market(np.random.default_rng(0), 100)
        (auroc,) = score(target, probability, block_length=31, names=["auroc"])
        assert auroc.verdict is Verdict.TOO_FEW
        assert auroc.value is not None
        assert auroc.low is None
        assert auroc.reason == (
            "100 cases are 3.2 blocks of 31; an interval needs 5 blocks, 55 more cases"
        )

    def test_one_class_gives_no_value_and_the_reason(self) -> None:
        target = np.ones(200, dtype=np.int64)
        auroc, accuracy = score(
            target,
            np.tile([0.4, 0.6], (200, 1)),
            block_length=10,
            replicates=50,
            names=["auroc", "accuracy"],
        )
        assert auroc.value is None
        assert auroc.reason == (
            "undefined: a class has no case (200 test cases of class 1; 2 classes)"
        )
        assert accuracy.value == 1.0

    def test_a_rare_class_that_resamples_miss_gives_a_value_but_no_interval(self) -> None:
        target = np.zeros(500, dtype=np.int64)
        target[250] = 1
        _, probability = market(np.random.default_rng(0), 500)
        (auroc,) = score(target, probability, block_length=25, replicates=200, names=["auroc"])
        assert auroc.value is not None
        assert auroc.low is None
        assert auroc.reason is not None
        assert "of resamples: a class has no case" in auroc.reason

    def test_all_right_is_not_certain_but_a_constant_is(self) -> None:
        target = np.arange(500) % 2
        perfect, _ = score(
            target, np.eye(2)[target], block_length=25, replicates=100, names=["auroc", "ece"]
        )
        assert (perfect.value, perfect.high) == (1.0, 1.0)
        assert perfect.low == pytest.approx(0.05 ** (1 / 20))
        (constant,) = score(
            target, np.full((500, 2), 0.5), block_length=25, replicates=100, names=["auroc"]
        )
        assert (constant.low, constant.value, constant.high) == (0.5, 0.5, 0.5)

    def test_more_blocks_make_a_narrower_interval(self) -> None:
        random = np.random.default_rng(1)
        widths = []
        for count in (250, 1000, 4000):
            target, probability = market(random, count, signal=0.8)
            (auroc,) = score(target, probability, block_length=25, replicates=200, names=["auroc"])
            assert auroc.low is not None
            assert auroc.high is not None
            widths.append(auroc.high - auroc.low)
        assert widths == sorted(widths, reverse=True)

    @pytest.mark.parametrize(
        ("target", "probability", "message"),
        [
            ([0, 2], [[0.5, 0.5]] * 2, "target holds classes 0 to 2; allowed are 0 to 1"),
            ([0, 1], [[0.5, 0.5]], r"target is \(2,\) and probability \(1, 2\)"),
            ([0, 1], [[0.5, np.nan]] * 2, "holds NaN or infinity; the model diverged"),
            ([0, 1], [[2.0, 3.0]] * 2, "sum to 1; apply a softmax first"),
            ([], np.empty((0, 2)), r"at least \(1, 2\) is needed"),
        ],
    )
    def test_cases_that_cannot_be_scored_are_refused(
        self, target: list[int], probability: list[list[float]], message: str
    ) -> None:
        with pytest.raises(ConfigError, match=message):
            score(np.asarray(target), np.asarray(probability), block_length=1)

    def test_an_unknown_metric_names_the_known(self) -> None:
        with pytest.raises(ConfigError, match="unknown metric 'auc'; known: accuracy, "):
            score(np.array([0, 1]), np.full((2, 2), 0.5), block_length=1, names=["auc"])


def coverage(*, samples: int, count: int, signal: float, level: float) -> float:
    """Share of simulated markets whose AUROC interval holds the true AUROC."""
    random = np.random.default_rng(11)
    far_target, far_probability = market(random, 300_000, signal=signal)
    truth = METRICS["auroc"].function(far_target, far_probability, np.ones((1, 300_000)))[0]
    hits = 0
    for seed in range(samples):
        target, probability = market(random, count, signal=signal)
        value, resampled = replicates_of(
            "auroc", target, probability, block_length=25, replicates=300, seed=seed
        )
        bounds = interval(
            value,
            resampled,
            metric=METRICS["auroc"],
            case_count=count,
            block_length=25,
            level=level,
        )
        assert bounds.low is not None
        assert bounds.high is not None
        hits += bounds.low <= truth <= bounds.high
    return hits / samples


class TestCoverage:
    def test_intervals_hold_chance_on_a_random_walk(self) -> None:
        assert coverage(samples=150, count=500, signal=0.0, level=0.95) >= 0.90
        assert coverage(samples=150, count=500, signal=0.0, level=0.995) >= 0.98

    @pytest.mark.slow
    @pytest.mark.parametrize("count", [500, 1000, 2000])
    @pytest.mark.parametrize(("signal", "least"), [(0.0, 0.93), (0.7, 0.88)])
    def test_long_run(self, count: int, signal: float, least: float) -> None:
        assert coverage(samples=1500, count=count, signal=signal, level=0.95) >= least

    @pytest.mark.slow
    @pytest.mark.parametrize(("signal", "least"), [(0.0, 0.985), (0.7, 0.965)])
    def test_long_run_of_corrected_intervals(self, signal: float, least: float) -> None:
        assert coverage(samples=1500, count=500, signal=signal, level=0.995) >= least


class TestPairedDifference:
    def test_a_better_model_is_told_from_a_worse(self) -> None:
        random = np.random.default_rng(0)
        value = moving_average(random, 1000, 10)
        target = (value + random.normal(size=1000) > 0).astype(np.int64)
        good, bad = two_columns(value), two_columns(random.normal(size=1000))
        found = paired_difference(target, good, bad, block_length=20, replicates=500)
        assert found.value is not None
        assert found.low is not None
        assert found.p_value is not None
        assert found.value > 0.15
        assert found.low > 0
        assert found.p_value < 0.001
        back = paired_difference(target, bad, good, block_length=20, replicates=500)
        assert back.value == pytest.approx(-found.value)
        assert back.p_value == pytest.approx(found.p_value)

    def test_a_model_ties_with_itself(self) -> None:
        target, probability = market(np.random.default_rng(0), 500)
        found = paired_difference(target, probability, probability, block_length=25)
        assert (found.value, found.p_value) == (0.0, 1.0)

    def test_false_alarms_are_rare(self) -> None:
        random = np.random.default_rng(5)
        alarms = 0
        for _ in range(150):
            target, first = market(random, 500)
            second = two_columns(moving_average(random, 500, 25))
            found = paired_difference(target, first, second, block_length=25, replicates=200)
            assert found.p_value is not None
            alarms += found.p_value < 0.05
        assert alarms / 150 <= 0.10

    def test_too_few_blocks_give_a_reason(self) -> None:
        target, probability = market(np.random.default_rng(0), 60)
        found = paired_difference(target, probability, probability, block_length=30)
        assert found.value is None
        assert found.reason == (
            "60 cases are 2.0 blocks of 30; an interval needs 5 blocks, 90 more cases"
        )


def predictions(start: list[int], series: list[str], target: list[int]) -> Predictions:
    return Predictions(
        window_start_ms=np.asarray(start, dtype=np.int64),
        target=np.asarray(target, dtype=np.int64),
        probability=np.column_stack([1 - np.asarray(start) / 100, np.asarray(start) / 100]),
        series=tuple(series),
    )


class TestPair:
    def test_cases_match_by_series_and_time(self) -> None:
        first = predictions([30, 10, 10], ["A", "A", "B"], [1, 0, 1])
        second = predictions([10, 20, 30], ["B", "A", "A"], [1, 0, 1])
        target, one, two, share = pair(first, second)
        assert target.tolist() == [1, 1]
        np.testing.assert_allclose(one[:, 1], [0.1, 0.3])
        np.testing.assert_allclose(two[:, 1], [0.1, 0.3])
        assert share == pytest.approx(2 / 3)
        assert time_order(first).tolist() == [1, 2, 0]

    def test_strangers_are_refused(self) -> None:
        with pytest.raises(ConfigError, match="share no case"):
            pair(predictions([1], ["A"], [0]), predictions([1], ["B"], [0]))
        with pytest.raises(ConfigError, match="two targets"):
            pair(predictions([1], ["A"], [0]), predictions([1], ["A"], [1]))


class TestHolm:
    @settings(max_examples=50, deadline=None)
    @given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
    def test_agrees_with_statsmodels(self, values: list[float]) -> None:
        expected = multipletests(values, method="holm")[1]
        np.testing.assert_allclose(holm(values), expected, atol=1e-12)

    def test_is_stricter_than_the_false_discovery_rate(self) -> None:
        values = [0.001, 0.01, 0.03, 0.04]
        assert np.all(np.asarray(holm(values)) >= false_discovery_control(values) - 1e-12)

    def test_refuses_what_is_no_p_value(self) -> None:
        with pytest.raises(ConfigError, match="between 0 and 1"):
            holm([0.2, 1.2])
        assert holm([]) == ()
