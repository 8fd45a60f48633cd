"""Areas of surface, held against the table and the answers of DeepMind's surface-distance."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candlemark.metrics.segmentation.catalog import Extent
from candlemark.metrics.segmentation.conventions import CONVENTIONS
from candlemark.metrics.segmentation.measure import Histogram, measure
from candlemark.metrics.segmentation.surfaces import area_table

peer = pytest.importorskip("surface_distance", reason="surface-distance is not installed")
tables = pytest.importorskip("surface_distance.lookup_tables")

SPACINGS = ((1.0, 1.0, 1.0), (3.0, 1.2, 0.7))


def their(reference: Any, prediction: Any, spacing: tuple[float, ...]) -> dict[str, Any]:
    if reference.shape[0] == 1:
        reference, prediction, spacing = reference[0], prediction[0], spacing[1:]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it calls scipy by old names
        return dict(peer.compute_surface_distances(reference, prediction, spacing))


@pytest.fixture
def _old_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    """It writes infinity and NaN by names that numpy has dropped."""
    monkeypatch.setattr(np, "Inf", np.inf, raising=False)
    monkeypatch.setattr(np, "NaN", np.nan, raising=False)


@pytest.mark.parametrize("spacing", SPACINGS)
def test_the_table_of_areas_is_theirs(spacing: tuple[float, float, float]) -> None:
    """Ours counts a corner's voxels from the other end, which mirrors it and changes no area."""
    theirs = tables.create_table_neighbour_code_to_surface_area(spacing)
    np.testing.assert_allclose(area_table(spacing, flat=False), theirs, atol=1e-12)


@pytest.mark.parametrize("spacing", SPACINGS)
def test_the_table_of_contours_is_theirs(spacing: tuple[float, float, float]) -> None:
    theirs = tables.create_table_neighbour_code_to_contour_length(spacing[1:])
    np.testing.assert_allclose(area_table(spacing, flat=True)[np.arange(16) * 17], theirs)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    depth=st.sampled_from([1, 2, 6]),
    width=st.sampled_from([3, 62, 63, 70]),
    spacing=st.sampled_from(SPACINGS),
)
def test_areas_at_distances_are_theirs(
    seed: int, depth: int, width: int, spacing: tuple[float, float, float]
) -> None:
    random = np.random.default_rng(seed)
    one, other = (random.random((depth, 5, width)) < random.random() for _ in range(2))
    one.flat[0] = other.flat[-1] = True
    found = measure(one, other, 1, spacing)
    theirs = their(one, other, spacing)
    assert found.to_reference is not None
    assert found.to_prediction is not None
    for side, areas, histogram in (
        ("distances_pred_to_gt", "surfel_areas_pred", found.to_reference.areas),
        ("distances_gt_to_pred", "surfel_areas_gt", found.to_prediction.areas),
    ):
        np.testing.assert_allclose(histogram.weight.sum(), theirs[areas].sum())
        _same_curve(histogram, theirs[side], theirs[areas])
    score = CONVENTIONS["surface-distance"].score
    extent = Extent(shape=one.shape, spacing_mm=spacing)
    expected = {
        "dice": peer.compute_dice_coefficient(one, other),
        "hd": peer.compute_robust_hausdorff(theirs, 100),
        "nsd": peer.compute_surface_dice_at_tolerance(theirs, 1.3),
    }
    for name, value in expected.items():
        assert score(name, found, extent, tolerance_mm=1.3) == pytest.approx(value, abs=1e-9)


def _same_curve(histogram: Histogram, value: Any, weight: Any) -> None:
    """As much area below each distance, whatever the order of equal ones."""
    for limit in histogram.value:
        near = histogram.weight[histogram.value <= limit + 1e-9].sum()
        assert near == pytest.approx(weight[value <= limit + 1e-9].sum())


def test_hd95_of_smooth_masks_is_theirs() -> None:
    z, y, x = np.ogrid[:30, :30, :40]
    one = (z - 15) ** 2 + (y - 15) ** 2 + (x - 14) ** 2 <= 81
    other = (z - 14) ** 2 + (y - 15) ** 2 + (x - 17) ** 2 <= 100
    for spacing in SPACINGS:
        found = measure(one, other, 1, spacing)
        score = CONVENTIONS["surface-distance"].score(
            "hd95", found, Extent(shape=one.shape, spacing_mm=spacing)
        )
        assert score == pytest.approx(peer.compute_robust_hausdorff(their(one, other, spacing), 95))


@pytest.mark.usefixtures("_old_numpy")
@pytest.mark.parametrize("sides", [(False, True), (True, False), (False, False)])
def test_empty_masks_score_as_theirs(sides: tuple[bool, bool]) -> None:
    one, other = (np.zeros((4, 5, 6), bool) for _ in range(2))
    one[1:3, 1:3, 1:3], other[1:3, 1:3, 2:4] = sides
    theirs = their(one, other, (1.0, 1.0, 1.0))
    found, extent = measure(one, other), Extent(shape=(4, 5, 6))
    score = CONVENTIONS["surface-distance"].score
    with np.errstate(invalid="ignore"):
        expected = {
            "dice": peer.compute_dice_coefficient(one, other),
            "hd95": peer.compute_robust_hausdorff(theirs, 95),
            "nsd": peer.compute_surface_dice_at_tolerance(theirs, 1.0),
        }
    for name, value in expected.items():
        assert score(name, found, extent) == pytest.approx(value, nan_ok=True), name
