"""Grids are one or they are not; what differs is named, and can be undone on request."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from candlemark.errors import ScanError
from candlemark.scans.geometry import (
    Geometry,
    compare_geometry,
    require_overlap,
    require_same_grid,
    resample_labels,
    upright,
)
from candlemark.scans.masks import label_map, mask_to_file, open_mask
from candlemark.scans.phantoms import ball

GRID = Geometry(shape=(10, 20, 30), spacing_mm=(3.0, 1.0, 0.5), origin=(5.0, -7.0, 11.0))
FLIPPED_X = (-1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


def test_a_grid_is_itself() -> None:
    assert compare_geometry(GRID, replace(GRID)) == []
    require_same_grid(GRID, replace(GRID), case="a")


@given(
    place=st.tuples(*[st.floats(-500, 500)] * 3),
    spacing=st.tuples(*[st.floats(0.3, 6)] * 3),
    angle=st.floats(-3.1, 3.1),
)
def test_what_32_bit_floats_lose_is_no_difference(
    place: tuple[float, float, float], spacing: tuple[float, float, float], angle: float
) -> None:
    c, s = np.cos(angle), np.sin(angle)
    grid = Geometry(
        shape=(60, 256, 256),
        spacing_mm=spacing,
        origin=place,
        direction=(c, -s, 0.0, s, c, 0.0, 0.0, 0.0, 1.0),
    )
    rounded = Geometry(
        shape=grid.shape,
        spacing_mm=tuple(float(np.float32(v)) for v in spacing),  # type: ignore[arg-type]
        origin=tuple(float(np.float32(v)) for v in place),  # type: ignore[arg-type]
        direction=tuple(float(np.float32(v)) for v in grid.direction),
    )
    assert compare_geometry(grid, rounded) == []


@pytest.mark.parametrize(
    ("other", "field", "moved"),
    [
        (replace(GRID, spacing_mm=(3.0, 1.0, 0.51)), "spacing", 0.29),
        (replace(GRID, origin=(5.0, -7.0, 12.0)), "origin", 1.0),
        (replace(GRID, direction=FLIPPED_X), "direction", 29.0),
        (replace(GRID, shape=(10, 20, 31)), "shape", None),
    ],
)
def test_each_difference_is_named(other: Geometry, field: str, moved: float | None) -> None:
    (found,) = compare_geometry(GRID, other)
    assert found.field == field
    assert found.moved_mm == (None if moved is None else pytest.approx(moved))


def test_a_tenth_of_a_voxel_is_the_limit() -> None:
    near, far = (replace(GRID, origin=(5.0 + move, -7.0, 11.0)) for move in (0.049, 0.051))
    assert compare_geometry(GRID, near) == []
    assert [one.field for one in compare_geometry(GRID, far)] == ["origin"]


def test_small_differences_add_up(tmp_path: Path) -> None:
    grid = Geometry(shape=(10, 20, 30), spacing_mm=(2.0, 1.0, 1.0))
    longer, aside = (2.0, 1.0, 1.0 + 0.09 / 29), (0.09, 0.0, 0.0)
    for one in (replace(grid, spacing_mm=longer), replace(grid, origin=aside)):
        assert compare_geometry(grid, one) == []
    found = compare_geometry(grid, replace(grid, spacing_mm=longer, origin=aside))
    assert [one.field for one in found] == ["spacing", "origin"]
    middle = replace(grid, spacing_mm=(2.0, 1.0, 1.0 + 0.15 / 29), origin=(-0.075, 0.0, 0.0))
    assert compare_geometry(grid, middle) == []


def test_a_mask_beside_its_image_is_not_made_empty() -> None:
    grid = Geometry(
        shape=(4, 6, 8), spacing_mm=(2.0, 1.0, 1.0), direction=(-1, 0, 0, 0, 1, 0, 0, 0, 1)
    )
    require_overlap(replace(grid, origin=(7.4, 0.0, 0.0)), grid, case="a")
    require_overlap(replace(grid, shape=(1, 2, 2), spacing_mm=(50.0, 9.0, 9.0)), grid, case="a")
    with pytest.raises(
        ScanError, match="case a: the mask lies beside its image, and nothing of it"
    ):
        require_overlap(replace(grid, origin=(7.6, 0.0, 0.0)), grid, case="a")


def test_a_place_that_is_not_a_number_is_a_difference() -> None:
    here = Geometry(shape=(2, 3, 4), spacing_mm=(1.0, 1.0, 1.0))
    lost = Geometry(shape=(2, 3, 4), spacing_mm=(1.0, 1.0, 1.0), origin=(math.nan, 0.0, 0.0))
    assert [one.field for one in compare_geometry(here, lost)] == ["origin"]


def test_the_refusal_names_all_and_the_way_out() -> None:
    other = replace(GRID, shape=(9, 20, 30), origin=(5.0, -7.0, 14.0))
    with pytest.raises(ScanError) as refused:
        require_same_grid(GRID, other, case="case_7")
    assert str(refused.value) == (
        "case case_7: image and reference lie on different grids: shape (10, 20, 30) and "
        "(9, 20, 30); origin (5, -7, 11) and (5, -7, 14) (up to 3 mm apart); put the reference on "
        "the image's grid by nearest neighbour with: --geometry resample"
    )


def test_without_a_spacing_only_shapes_can_differ() -> None:
    bare = Geometry(shape=GRID.shape)
    assert compare_geometry(GRID, bare) == []
    cropped = Geometry(shape=(9, 20, 30))
    with pytest.raises(ScanError, match="the reference has no spacing, so --geometry resample c"):
        require_same_grid(GRID, cropped, case="a")
    with pytest.raises(ScanError, match=r"cannot resample shape .* the reference has no spacing"):
        resample_labels(np.zeros(cropped.shape, np.uint8), cropped, GRID)


def test_resampling_onto_itself_changes_nothing() -> None:
    labels = np.random.default_rng(0).integers(0, 5, GRID.shape).astype(np.uint8)
    np.testing.assert_array_equal(resample_labels(labels, GRID, GRID), labels)


def test_a_crop_goes_back_to_its_place_with_background_around() -> None:
    labels = np.random.default_rng(0).integers(1, 5, GRID.shape).astype(np.uint8)
    crop = labels[2:8, 3:, :25]
    grid = Geometry(
        shape=(6, 17, 25), spacing_mm=(3.0, 1.0, 0.5), origin=(5.0, -7.0 + 3, 11.0 + 2 * 3)
    )
    back = resample_labels(np.ascontiguousarray(crop), grid, GRID)
    expected = np.zeros_like(labels)
    expected[2:8, 3:, :25] = crop
    np.testing.assert_array_equal(back, expected)


def test_a_mirrored_file_is_turned_back() -> None:
    labels = np.random.default_rng(0).integers(0, 5, GRID.shape).astype(np.uint8)
    mirrored = replace(GRID, direction=FLIPPED_X, origin=(5.0 + 29 * 0.5, -7.0, 11.0))
    turned = resample_labels(np.ascontiguousarray(labels[:, :, ::-1]), mirrored, GRID)
    np.testing.assert_array_equal(turned, labels)


def test_a_coarser_mask_keeps_its_labels_and_about_its_volume() -> None:
    coarse = Geometry(shape=(15, 20, 20), spacing_mm=(2.0, 2.0, 2.0))
    fine = Geometry(shape=(30, 40, 40), spacing_mm=(1.0, 1.0, 1.0), origin=(-0.5, -0.5, -0.5))
    labels = ball(coarse.shape, (2.0, 2.0, 2.0), (14.0, 20.0, 20.0), 10.0) * np.uint8(3)
    moved = resample_labels(labels, coarse, fine)
    assert set(np.unique(moved)) == {0, 3}
    assert np.count_nonzero(moved) == 8 * np.count_nonzero(labels)


def test_a_written_grid_is_the_grid(tmp_path: Path) -> None:
    turned = replace(GRID, direction=(0.0, 1.0, 0.0, -1.0, 0.0, 0.0, 0.0, 0.0, 1.0))
    path = mask_to_file(np.ones(GRID.shape, np.uint8), turned, tmp_path / "a.nii.gz")
    assert compare_geometry(open_mask(path, label_map({1: "a"})).geometry, turned) == []


def turned(*axes: str, shape: tuple[int, int, int] = (2, 2, 2)) -> Geometry:
    """A grid whose x, y and z go to these sides of the patient."""
    ways = {"L": (1, 0, 0), "R": (-1, 0, 0), "P": (0, 1, 0), "A": (0, -1, 0)}
    ways |= {"S": (0, 0, 1), "I": (0, 0, -1)}
    direction = np.array([ways[axis] for axis in axes], float).T.ravel()
    return Geometry(shape=shape, spacing_mm=(1.0, 1.0, 1.0), direction=tuple(direction))


@pytest.mark.parametrize(
    ("axes", "shown", "sides"),
    [
        ("LPS", [[0, 1], [2, 3]], ("R", "A")),  # DICOM's own
        ("RAS", [[3, 2], [1, 0]], ("R", "A")),  # most NIfTI
        ("LAS", [[2, 3], [0, 1]], ("R", "A")),
        ("LSA", [[2, 3], [0, 1]], ("R", "S")),  # coronal
        ("PSR", [[2, 3], [0, 1]], ("A", "S")),  # sagittal
        ("AIL", [[1, 0], [3, 2]], ("A", "S")),
    ],
)
def test_slices_are_turned_as_radiologists_look_at_them(
    axes: str, shown: list[list[int]], sides: tuple[str, str]
) -> None:
    found = upright(turned(*axes))
    assert found is not None
    assert np.arange(8).reshape(2, 2, 2)[found[0]].tolist()[0] == shown
    assert found[1] == sides


def test_nobody_knows_the_sides_of_a_picture() -> None:
    assert upright(turned("R", "A", "S", shape=(1, 2, 2))) is None
    assert upright(Geometry(shape=(2, 2, 2))) is None


def test_a_grid_without_place_has_no_corners() -> None:
    with pytest.raises(ScanError, match="no place in space"):
        Geometry(shape=(1, 2, 3)).corners()
