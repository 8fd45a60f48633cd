"""Made-up scans are what they say, byte for byte, and their known scores hold."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.distance import cdist

from candlemark.errors import ScanError
from candlemark.scans.geometry import compare_geometry
from candlemark.scans.masks import label_map, open_mask
from candlemark.scans.phantoms import (
    KINDS,
    KNOWN_PAIRS,
    KnownPair,
    ball,
    box,
    draw_phantom,
    islands,
    make_phantoms,
    shell,
    shifted_box,
)
from candlemark.scans.volume import open_scan


def surface_mm(labels: np.ndarray, spacing_mm: tuple[float, float, float]) -> np.ndarray:
    inside = labels > 0
    edge = inside & ~ndimage.binary_erosion(inside, border_value=0)
    return np.argwhere(edge) * np.array(spacing_mm)


def brute_force(known: KnownPair) -> dict[str, float]:
    """Every score by its definition, from every voxel and every distance."""
    reference, prediction = known.reference > 0, known.prediction > 0
    both = float((reference & prediction).sum())
    far = cdist(*(surface_mm(one, known.spacing_mm) for one in (reference, prediction)))
    lesions = [ndimage.label(one, np.ones((3, 3, 3))) for one in (reference, prediction)]
    hit = [
        len(set(np.unique(drawn[other])) - {0}) / count
        for (drawn, count), other in zip(lesions, (prediction, reference), strict=True)
    ]
    return {
        "dice": 2 * both / (reference.sum() + prediction.sum()),
        "iou": both / (reference | prediction).sum(),
        "sensitivity": both / reference.sum(),
        "precision": both / prediction.sum(),
        "hd": float(max(far.min(axis=0).max(), far.min(axis=1).max())),
        "lesion_sensitivity": hit[0],
        "lesion_precision": hit[1],
    }


@pytest.mark.parametrize("known", KNOWN_PAIRS)
def test_known_scores_are_those_of_brute_force(known: Callable[[], KnownPair]) -> None:
    made = known()
    found = brute_force(made)
    assert made.scores == {name: pytest.approx(found[name], abs=1e-12) for name in made.scores}


@pytest.mark.parametrize("shift", range(9))
def test_a_shifted_box_at_every_shift(shift: int) -> None:
    made = shifted_box(shift)
    found = brute_force(made)
    assert made.scores == {name: pytest.approx(found[name]) for name in made.scores}


def test_shapes_are_in_millimetres() -> None:
    drawn = ball((9, 21, 41), (2.0, 1.0, 0.5), (8.0, 10.0, 10.0), 4.0)
    z, y, x = (np.flatnonzero(drawn.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1)))
    assert (z[0], z[-1], y[0], y[-1], x[0], x[-1]) == (2, 6, 6, 14, 12, 28)
    volume = drawn.sum() * 2.0 * 1.0 * 0.5
    assert volume == pytest.approx(4 / 3 * np.pi * 4.0**3, rel=0.1)
    hollow = shell((9, 21, 41), (2.0, 1.0, 0.5), (8.0, 10.0, 10.0), 4.0, 1.5)
    assert hollow[4, 10, 20] == 0
    assert (hollow <= drawn).all()


def test_islands_are_apart() -> None:
    drawn = islands((16, 64, 64), (3.0, 1.0, 1.0), 5, 5.0, seed=0)
    assert ndimage.label(drawn, np.ones((3, 3, 3)))[1] == 5
    crowded = islands((8, 12, 12), (1.0, 1.0, 1.0), 50, 3.0, seed=0)
    assert 1 <= ndimage.label(crowded, np.ones((3, 3, 3)))[1] < 50


def test_a_box_outside_is_refused() -> None:
    with pytest.raises(ScanError, match="does not lie inside"):
        box((4, 4, 4), (2, 2, 2), (3, 1, 1))
    with pytest.raises(ScanError, match="a shift of 9"):
        shifted_box(9)


@pytest.mark.parametrize("place", range(2 * len(KINDS)))
def test_a_phantom_has_a_brighter_lesion_in_a_body(place: int) -> None:
    made = draw_phantom(place, seed=3)
    inside, outside = made.image[made.labels > 0], made.image[made.labels == 0]
    assert inside.size > 100
    assert inside.mean() > outside.mean() + 100
    assert made.image.min() >= 0
    assert made.labels.max() == 1
    assert made.geometry.spacing_mm is not None
    assert made.geometry.spacing_mm[0] > made.geometry.spacing_mm[1]


def test_phantoms_are_files_that_pair(tmp_path: Path) -> None:
    found = make_phantoms(tmp_path, 5, seed=1)
    assert [match.case for match in found.matches] == [f"phantom_{n:03d}" for n in range(5)]
    for place, match in enumerate(found.matches):
        scan = open_scan(match.image)
        mask = open_mask(match.reference, label_map({1: "lesion"}))
        made = draw_phantom(place, seed=1)
        assert compare_geometry(scan.geometry, mask.geometry) == []
        assert compare_geometry(scan.geometry, made.geometry) == []
        np.testing.assert_array_equal(scan.read(), made.image)
        np.testing.assert_array_equal(mask.labels, made.labels)


def test_the_same_seed_writes_the_same_bytes_and_another_does_not(tmp_path: Path) -> None:
    runs = [
        [path.read_bytes() for m in made.matches for path in (m.image, m.reference)]
        for made in (make_phantoms(tmp_path / str(n), 3, seed) for n, seed in enumerate((4, 4, 5)))
    ]
    assert [one == other for one, other in pairwise(runs)] == [True, False]


def test_fewer_phantoms_than_before_are_fewer(tmp_path: Path) -> None:
    make_phantoms(tmp_path, 4)
    assert [match.case for match in make_phantoms(tmp_path, 1).matches] == ["phantom_000"]
    with pytest.raises(ScanError, match="0 phantoms; at least 1"):
        make_phantoms(tmp_path, 0)
