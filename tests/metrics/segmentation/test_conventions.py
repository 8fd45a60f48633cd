"""Six tools' numbers from one measure, held against the tools or their published definitions."""

from __future__ import annotations

import math
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from candlemark.metrics.segmentation.catalog import SEGMENTATION_METRICS, Extent
from candlemark.metrics.segmentation.conventions import CONVENTIONS, Convention
from candlemark.metrics.segmentation.measure import ClassMeasure, Histogram, measure
from candlemark.metrics.segmentation.rules import area_percentile, percentile, pool

Mask = npt.NDArray[np.bool_]
Spacing = tuple[float, float, float]
SHAPE = (5, 8, 11)
SPACING: Spacing = (2.0, 0.7, 0.7)
EXTENT = Extent(shape=SHAPE, spacing_mm=SPACING)
KINDS = ("both", "no reference", "no prediction", "neither", "all", "apart")


def pair(kind: str, seed: int = 0) -> tuple[Mask, Mask]:
    """Two masks, of which either may be empty, or full."""
    random = np.random.default_rng(seed)
    one, other = (random.random(SHAPE) < 0.3 for _ in range(2))
    one[2, 3, 4] = other[2, 3, 4] = True
    if kind in {"no reference", "neither"}:
        one[:] = False
    if kind in {"no prediction", "neither"}:
        other[:] = False
    if kind == "all":
        one[:] = other[:] = True
    if kind == "apart":
        one[:, :, 5:] = other[:, :, :6] = False
        one[0, 0, 0] = other[-1, -1, -1] = True
    return one, other


def scores(name: str, reference: Mask, prediction: Mask) -> dict[str, float | None]:
    found = measure(reference, prediction, 1, SPACING)
    convention = CONVENTIONS[name]
    return {m: convention.score(m, found, EXTENT, tolerance_mm=1.1) for m in SEGMENTATION_METRICS}


def same(found: dict[str, float | None], wanted: dict[str, float], rel: float = 1e-6) -> None:
    for name, value in wanted.items():
        assert found[name] == pytest.approx(value, rel=rel, abs=1e-6, nan_ok=True), name


# Every convention


@pytest.mark.parametrize("convention", CONVENTIONS.values(), ids=list(CONVENTIONS))
def test_a_convention_has_each_metric_or_says_why_not(convention: Convention) -> None:
    assert set(convention.rules).isdisjoint(convention.absent)
    assert {*convention.rules, *convention.absent} == set(SEGMENTATION_METRICS)
    assert convention.pooled <= set(convention.rules)
    assert set(convention.first_of) <= set(convention.rules)
    found = measure(*pair("both"))
    for metric in convention.absent:
        assert convention.score(metric, found, EXTENT) is None
        assert convention.aggregate(metric, [[found]], [EXTENT]) is None
        assert convention.absent[metric]


def test_conventions_are_called_by_their_names() -> None:
    assert list(CONVENTIONS) == [convention.name for convention in CONVENTIONS.values()]
    assert next(iter(CONVENTIONS)) == "candlemark"


# Ours


@pytest.mark.parametrize("kind", KINDS)
def test_ours_is_never_nan_or_infinite(kind: str) -> None:
    found = scores("candlemark", *pair(kind))
    for name, value in found.items():
        metric = SEGMENTATION_METRICS[name]
        if metric.needs != "lesions":
            assert value is not None
            assert math.isfinite(value), name
            assert 0 <= value <= min(metric.high, EXTENT.diagonal), name


@pytest.mark.parametrize("kind", ["no reference", "no prediction", "neither"])
def test_ours_of_empty_masks_is_what_the_table_says(kind: str) -> None:
    """Neither has the class: the best. One alone: the worst, where the empty side decides."""
    found = scores("candlemark", *pair(kind))
    for name, metric in SEGMENTATION_METRICS.items():
        if metric.needs == "lesions" or name == "specificity":
            continue
        wanted = metric.both_empty if kind == "neither" else metric.worst_of(EXTENT)
        assert found[name] == wanted, name
    false_alarms = int(pair(kind)[1].sum()) if kind == "no reference" else 0
    assert found["specificity"] == 1 - false_alarms / math.prod(SHAPE)


def test_one_nan_case_does_not_make_the_mean_nan() -> None:
    """A case without the class: a Dice of nothing over nothing made the mean of all cases NaN."""
    good, empty = measure(*pair("both")), measure(*pair("neither"))
    table, extents = [[good], [empty]], [EXTENT, EXTENT]
    ours = CONVENTIONS["candlemark"]
    dice = ours.score("dice", good, EXTENT)
    assert dice is not None
    assert ours.aggregate("dice", table, extents) == (dice + 1) / 2
    assert math.isnan(ours.mean("dice", [[dice], [math.nan]]))  # it would not be hidden either
    assert CONVENTIONS["monai"].aggregate("dice", table, extents) == dice
    assert math.isnan(CONVENTIONS["surface-distance"].aggregate("dice", table, extents) or 0.0)


def test_identical_masks_of_0_and_255_have_a_dice_of_1() -> None:
    mask = np.where(pair("both")[0], 255, 0).astype(np.uint8)
    found = measure(mask, mask, 255, SPACING)
    for convention in CONVENTIONS.values():
        assert convention.score("dice", found, EXTENT) == 1
        assert convention.score("hd", found, EXTENT) == 0


def test_volumes_are_compared_with_their_mean() -> None:
    mask = np.zeros((1, 4, 10), np.uint8)
    mask[0, 0, :6] = 1
    twice = mask.copy()
    twice[0, 1:, :4] = 1
    found = measure(mask, twice)
    ours = CONVENTIONS["candlemark"].score("volume_difference", found, EXTENT)
    assert ours == pytest.approx(12 / ((6 + 18) / 2))
    assert CONVENTIONS["metrics-reloaded"].score("volume_difference", found, EXTENT) == 2


# The disagreement that is known best


def ball_and_island() -> tuple[ClassMeasure, Extent]:
    """A ball of radius 11; predicted 3 voxels aside, and with a slab 37 voxels from the ball."""
    z, y, x = np.ogrid[:52, :52, :97]
    ball, moved = ((z - 26) ** 2 + (y - 26) ** 2 + (x - column) ** 2 <= 121 for column in (19, 22))
    moved[23:33, 33:35, 67:72] = True
    return measure(ball, moved), Extent(shape=ball.shape)


def test_hd95_of_a_ball_with_a_far_island_is_three_numbers() -> None:
    """The island is more than a twentieth of one surface and less of both: 3.0 or 39."""
    found, extent = ball_and_island()
    hd95 = {name: c.score("hd95", found, extent) for name, c in CONVENTIONS.items()}
    assert hd95["nnunet"] == pytest.approx(3.0, abs=0.05)
    assert hd95["surface-distance"] == pytest.approx(38.5, abs=0.05)
    assert hd95["candlemark"] == pytest.approx(39.0, abs=0.05)
    assert hd95["monai"] == hd95["metrics-reloaded"] == hd95["candlemark"]
    assert hd95["torchmetrics"] is None


# Percentiles


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=60), st.sampled_from([0, 5, 50, 95, 99, 100])
)
def test_a_percentile_of_a_histogram_is_numpys(values: list[int], percent: int) -> None:
    value, count = np.unique(np.array(values, np.float64), return_counts=True)
    histogram = Histogram(value, count.astype(np.float64))
    assert percentile(histogram, percent) == pytest.approx(np.percentile(values, percent))


def test_a_percentile_by_area_is_the_first_that_reaches_it() -> None:
    histogram = Histogram(np.array([1.0, 2.0, 7.0]), np.array([90.0, 4.0, 6.0]))
    assert area_percentile(histogram, 90) == 1.0
    assert area_percentile(histogram, 93) == 2.0
    assert area_percentile(histogram, 95) == 7.0
    assert area_percentile(histogram, 100) == 7.0


def test_pooling_adds_counts_and_has_no_distances() -> None:
    one, other = measure(*pair("both")), measure(*pair("apart"))
    both = pool([one, other])
    assert both.true_positive == one.true_positive + other.true_positive
    assert both.voxels == one.voxels + other.voxels
    assert both.to_reference is None


# MONAI


@pytest.fixture(scope="module")
def monai() -> Iterator[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old names of its own and of what it imports
        metrics = pytest.importorskip("monai.metrics", reason="monai is not installed")
        yield metrics


def tensor(*masks: Mask) -> Any:
    import torch

    return torch.from_numpy(np.stack(masks)).float()


MONAI_NAMES = {
    "dice": lambda m: m.DiceMetric(include_background=False),
    "iou": lambda m: m.MeanIoU(include_background=False),
    "sensitivity": lambda m: m.ConfusionMatrixMetric(
        include_background=False, metric_name="sensitivity"
    ),
    "specificity": lambda m: m.ConfusionMatrixMetric(
        include_background=False, metric_name="specificity"
    ),
    "precision": lambda m: m.ConfusionMatrixMetric(
        include_background=False, metric_name="precision"
    ),
    "hd95": lambda m: m.HausdorffDistanceMetric(percentile=95),
    "hd": lambda m: m.HausdorffDistanceMetric(),
    "assd": lambda m: m.SurfaceDistanceMetric(symmetric=True),
    "nsd": lambda m: m.SurfaceDiceMetric(class_thresholds=[1.1, 1.1]),
}


def their_mean(monai: Any, name: str, cases: list[list[tuple[Mask, Mask]]]) -> float:
    """MONAI's number for cases of classes, asked as a user asks it."""
    metric = MONAI_NAMES[name](monai)
    spaced = name in {"hd95", "hd", "assd", "nsd"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of empty masks, and of a name it dropped
        for case in cases:
            nothing = np.zeros_like(case[0][0])
            truth = tensor(nothing, *(one for one, _ in case))[None]
            guess = tensor(nothing, *(other for _, other in case))[None]
            metric(guess, truth, **({"spacing": list(SPACING)} if spaced else {}))
        found = metric.aggregate()
    return float(found[0] if isinstance(found, list) else found)


def test_every_score_of_monai_is_ours_under_its_convention(monai: Any) -> None:
    convention = CONVENTIONS["monai"]
    assert set(MONAI_NAMES) == set(convention.rules)
    cases = [
        [pair("both", 1), pair("apart", 2)],
        [pair("no prediction", 3), pair("both", 4)],
        [pair("no reference", 5), pair("neither", 6)],
        [pair("neither", 7), pair("neither", 8)],
        [pair("all", 9), pair("both", 10)],
    ]
    for chosen in ([0], [0, 4], [0, 3, 4], [0, 1, 2, 3, 4]):
        taken = [cases[k] for k in chosen]
        table = [[measure(one, other, 1, SPACING) for one, other in case] for case in taken]
        for name in MONAI_NAMES:
            ours = convention.aggregate(name, table, [EXTENT] * len(table), tolerance_mm=1.1)
            assert ours == pytest.approx(their_mean(monai, name, taken), rel=1e-5), (name, chosen)


@pytest.mark.parametrize("kind", KINDS)
def test_a_single_pair_scores_as_monais_functions(monai: Any, kind: str) -> None:
    one, other = pair(kind)
    truth, guess = tensor(one)[None], tensor(other)[None]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table = monai.get_confusion_matrix(guess, truth)
        spaced = {"include_background": True, "spacing": list(SPACING)}
        theirs = {
            "dice": monai.compute_dice(guess, truth),
            "iou": monai.compute_iou(guess, truth),
            "hd95": monai.compute_hausdorff_distance(guess, truth, percentile=95, **spaced),
            "hd": monai.compute_hausdorff_distance(guess, truth, **spaced),
            "assd": monai.compute_average_surface_distance(guess, truth, symmetric=True, **spaced),
            "nsd": monai.compute_surface_dice(guess, truth, [1.1], **spaced),
        }
        for name in ("sensitivity", "specificity", "precision"):
            theirs[name] = monai.compute_confusion_matrix_metric(name, table)
    same(scores("monai", one, other), {name: float(x) for name, x in theirs.items()})


def test_a_picture_scores_as_a_picture_of_monais(monai: Any) -> None:
    one, other = pair("both")[0][2:3], pair("both", 1)[1][2:3]
    truth, guess = tensor(one), tensor(other)  # the one slice is the one channel
    asked = {"include_background": True, "spacing": list(SPACING[1:])}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = {
            "hd95": monai.compute_hausdorff_distance(guess, truth, percentile=95, **asked),
            "nsd": monai.compute_surface_dice(guess, truth, [1.1], **asked),
        }
    same(scores("monai", one, other), {name: float(x) for name, x in theirs.items()})


def one_voxel_aside(step: float) -> ClassMeasure:
    """A line and the same line beside it, voxels being so far apart."""
    one, other = np.zeros((2, 1, 4, 6), np.uint8)
    one[0, 1], other[0, 2] = 1, 1
    return measure(one, other, 1, (step, step, step))


@pytest.mark.parametrize("step", [0.3, 0.8, 1.1])
def test_a_step_that_a_nifti_rounds_is_within_a_tolerance_of_that_step(step: float) -> None:
    """NIfTI keeps 0.8 mm as 0.800000012; one voxel aside is still one voxel aside."""
    for spacing in (step, float(np.float32(step))):
        nsd = CONVENTIONS["candlemark"].score(
            "nsd", one_voxel_aside(spacing), EXTENT, tolerance_mm=step
        )
        assert nsd == 1
    nsd = CONVENTIONS["candlemark"].score(
        "nsd", one_voxel_aside(step * 1.001), EXTENT, tolerance_mm=step
    )
    assert nsd is not None
    assert nsd < 1


@pytest.mark.parametrize("steps", [(0.1, 0.3, 0.7), tuple(map(float, np.float32([0.3, 0.7, 1.1])))])
@pytest.mark.parametrize("tolerance", [0.3, 0.7, 1.1])
def test_monai_holds_distances_against_the_tolerance_in_single_precision(
    monai: Any, steps: Spacing, tolerance: float
) -> None:
    for seed in range(4):
        one, other = pair("both", seed)
        other = np.roll(one, 1, axis=seed % 3) if seed else other
        found = measure(one, other, 1, steps)
        ours = CONVENTIONS["monai"].score("nsd", found, EXTENT, tolerance_mm=tolerance)
        asked = {"include_background": True, "spacing": list(steps)}
        truth, guess = tensor(one)[None], tensor(other)[None]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = float(monai.compute_surface_dice(guess, truth, [tolerance], **asked))
        assert ours == pytest.approx(theirs, rel=1e-6)


# TorchMetrics


@pytest.fixture(scope="module")
def torchmetrics() -> Any:
    pytest.importorskip("torchmetrics", reason="torchmetrics is not installed")
    from torchmetrics import classification, segmentation

    return segmentation, classification


def flat_pair(kind: str, seed: int) -> tuple[Mask, Mask]:
    one, other = pair(kind, seed)
    return one[2:3], other[2:3]


def test_every_score_of_torchmetrics_is_ours_under_its_convention(torchmetrics: Any) -> None:
    segmentation, classification = torchmetrics
    cases = [
        [flat_pair("both", 1), flat_pair("apart", 2)],
        [flat_pair("both", 3), flat_pair("neither", 4)],
        [flat_pair("no prediction", 5), flat_pair("no reference", 6)],
        [flat_pair("neither", 7), flat_pair("neither", 8)],
    ]
    truth = tensor(*(np.stack([one[0] for one, _ in case]) for case in cases)).bool()
    guess = tensor(*(np.stack([other[0] for _, other in case]) for case in cases)).bool()
    theirs: dict[str, Any] = {
        "dice": segmentation.DiceScore(2, average="macro"),
        "iou": segmentation.MeanIoU(2),
        "sensitivity": classification.MultilabelRecall(2),
        "specificity": classification.MultilabelSpecificity(2),
        "precision": classification.MultilabelPrecision(2),
    }
    table = [[measure(one, other, 1, SPACING) for one, other in case] for case in cases]
    for name, metric in theirs.items():
        metric.update(guess.int(), truth.int())
        ours = CONVENTIONS["torchmetrics"].aggregate(name, table, [EXTENT] * 4)
        assert ours == pytest.approx(float(metric.compute()), rel=1e-5), name
    assert {*theirs, "hd"} == set(CONVENTIONS["torchmetrics"].rules)


@pytest.mark.parametrize("kinds", [("both", "apart"), ("both", "no prediction")])
def test_the_hausdorff_distance_of_torchmetrics_is_ours_of_square_pictures(
    torchmetrics: Any, kinds: tuple[str, str]
) -> None:
    """Of oblong ones it writes distances to the wrong places: it takes height for width."""
    square = [tuple(side[:, :, :8] for side in flat_pair(kind, 1)) for kind in kinds]
    truth, guess = (tensor(*(case[k] for case in square)).int() for k in (0, 1))
    hausdorff = torchmetrics[0].HausdorffDistance(1, include_background=True, spacing=[0.7, 0.7])
    hausdorff.update(guess, truth)
    table = [[measure(one, other, 1, SPACING)] for one, other in square]
    ours = CONVENTIONS["torchmetrics"].aggregate("hd", table, [EXTENT] * 2)
    assert ours == pytest.approx(float(hausdorff.compute()), rel=1e-5)


def test_torchmetrics_measures_no_volume_and_no_pair_of_empty_masks(torchmetrics: Any) -> None:
    """Why its Hausdorff distance is ours there: it has none."""
    hausdorff = torchmetrics[0].HausdorffDistance(1, include_background=True)
    with pytest.raises(ValueError, match="rank 2"):
        hausdorff.update(tensor(pair("both")[0])[None].int(), tensor(pair("both")[1])[None].int())
    empty = tensor(np.zeros((8, 8), bool))[None].int()
    with pytest.raises(RuntimeError):
        hausdorff.update(empty, empty)
    assert math.isnan(scores("torchmetrics", *pair("neither"))["hd"] or 0.0)


# MetricsReloaded and nnU-Net: their published definitions, voxel by voxel


def maps(one: Mask, other: Mask) -> tuple[Any, Any]:
    """Distances of the reference's border voxels and of the prediction's, by scipy."""
    borders = [mask & ~ndimage.binary_erosion(mask) for mask in (one, other)]
    away = [ndimage.distance_transform_edt(~border, sampling=SPACING) for border in borders]
    return away[1][borders[0]], away[0][borders[1]]


def reloaded(one: Mask, other: Mask) -> dict[str, float]:
    """BinaryPairwiseMeasures of MetricsReloaded, written out from its documentation."""
    tp, fp, fn = int((one & other).sum()), int((other & ~one).sum()), int((one & ~other).sum())
    negative = int((~one).sum())
    both = one.any() and other.any()
    found = {
        "dice": 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else 1.0,
        "iou": tp / (tp + fp + fn) if tp + fp + fn else math.nan,
        "sensitivity": tp / (tp + fn) if tp + fn else math.nan,
        "specificity": (negative - fp) / negative if negative else math.nan,
        "precision": tp / (tp + fp) if tp + fp else (0.0 if one.any() else math.nan),
        "volume_difference": abs(fp - fn) / (tp + fn)
        if tp + fn
        else (math.inf if fp else math.nan),
    }
    if both:
        first, second = maps(one, other)
        every = np.concatenate([first, second])
        found["hd"] = float(every.max())
        found["hd95"] = float(max(np.percentile(first, 95), np.percentile(second, 95)))
        found["assd"] = float(every.mean())
        found["nsd"] = float((every <= 1.1).mean())
    elif not one.any() and not other.any():
        found |= {"hd": 0.0, "hd95": 0.0, "assd": 0.0, "nsd": math.nan}
    return found


def nnunet(one: Mask, other: Mask) -> dict[str, float]:
    """compute_metrics of version 2, and MedPy's distances as version 1 asks for them."""
    tp, fp, fn = int((one & other).sum()), int((other & ~one).sum()), int((one & ~other).sum())
    negative = int((~one).sum())
    found = {
        "dice": 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else math.nan,
        "iou": tp / (tp + fp + fn) if tp + fp + fn else math.nan,
        "sensitivity": tp / (tp + fn) if tp + fn else math.nan,
        "specificity": (negative - fp) / negative if negative else math.nan,
        "precision": tp / (tp + fp) if tp + fp else math.nan,
    }
    if not one.any() or not other.any() or one.all() or other.all():
        return found | dict.fromkeys(("hd", "hd95", "assd"), math.nan)
    first, second = maps(one, other)
    found["hd"] = float(max(first.max(), second.max()))
    found["hd95"] = float(np.percentile(np.hstack([first, second]), 95))
    found["assd"] = float(np.mean([first.mean(), second.mean()]))
    return found


@pytest.mark.parametrize(
    ("name", "definition"), [("metrics-reloaded", reloaded), ("nnunet", nnunet)]
)
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 999))
def test_published_definitions_are_kept(
    name: str, definition: Callable[[Mask, Mask], dict[str, float]], kind: str, seed: int
) -> None:
    one, other = pair(kind, seed)
    same(scores(name, one, other), definition(one, other))


def test_nnunet_averages_cases_first_and_leaves_nan_out() -> None:
    """numpy's nanmean over the cases of a class, then the mean over classes."""
    cases = [
        [pair("both", 1), pair("neither", 2)],
        [pair("both", 3), pair("both", 4)],
        [pair("no prediction", 5), pair("both", 6)],
    ]
    table = [[measure(one, other, 1, SPACING) for one, other in case] for case in cases]
    dice = np.array([[nnunet(one, other)["dice"] for one, other in case] for case in cases])
    ours = CONVENTIONS["nnunet"].aggregate("dice", table, [EXTENT] * 3)
    assert ours == pytest.approx(np.mean(np.nanmean(dice, axis=0)))
    assert ours != pytest.approx(np.mean(np.nanmean(dice, axis=1)))


def test_reading_scores_loads_no_compiler_and_no_torch() -> None:
    """Tables are made of stored measures; only measuring compiles."""
    code = "import sys, candlemark.metrics.segmentation.conventions as c; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True
    )
    assert {"numba", "torch", "scipy"}.isdisjoint(loaded.stdout.split())
