"""Counts and distances of two masks, held against brute force, scipy and known answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from candlemark.errors import ConfigError, ScanError
from candlemark.metrics.segmentation import distances
from candlemark.metrics.segmentation.measure import (
    ClassMeasure,
    Histogram,
    measure,
    measure_all,
)

SPACINGS = ((1.0, 1.0, 1.0), (3.0, 0.7, 0.7), (2.5, 0.5, 0.5), (0.3, 1.1, 2.0))


def border(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    return mask & ~ndimage.binary_erosion(mask)


def by_hand(
    origin: npt.NDArray[np.bool_], target: npt.NDArray[np.bool_], spacing: tuple[float, ...]
) -> npt.NDArray[np.float64]:
    """Every border voxel against every border voxel, sorted."""
    if origin.shape[0] == 1:
        origin, target, spacing = origin[0], target[0], spacing[1:]
    one, other = (np.argwhere(border(mask)) * np.array(spacing) for mask in (origin, target))
    apart = np.sqrt(((one[:, None] - other[None]) ** 2).sum(-1))
    return np.sort(apart.min(axis=1))


def elements(histogram: Histogram) -> npt.NDArray[np.float64]:
    return np.repeat(histogram.value, histogram.weight.astype(int))


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Any, Any, tuple[float, float, float]]:
    depth = draw(st.sampled_from([1, 1, 2, 5]))
    height, width = draw(st.integers(1, 9)), draw(st.sampled_from([1, 3, 7, 61, 62, 63, 64, 130]))
    seed = draw(st.integers(0, 2**32 - 1))
    random = np.random.default_rng(seed)
    shares = [draw(st.sampled_from([0.005, 0.1, 0.5, 0.95, 1.0])) for _ in range(2)]
    masks = [random.random((depth, height, width)) < share for share in shares]
    for mask in masks:
        mask.flat[random.integers(mask.size)] = True
    return masks[0], masks[1], draw(st.sampled_from(SPACINGS))


def check(reference: Any, prediction: Any, spacing: tuple[float, float, float]) -> None:
    found = measure(reference, prediction, 1, spacing)
    assert found.true_positive == np.sum(reference & prediction)
    assert found.false_positive == np.sum(~reference & prediction)
    assert found.false_negative == np.sum(reference & ~prediction)
    assert found.true_negative == np.sum(~reference & ~prediction)
    assert found.voxels == reference.size
    assert found.to_reference is not None
    assert found.to_prediction is not None
    for directed, ends in (
        (found.to_reference, (prediction, reference)),
        (found.to_prediction, (reference, prediction)),
    ):
        np.testing.assert_allclose(
            elements(directed.voxels), by_hand(*ends, spacing), rtol=0, atol=1e-9
        )
        assert np.all(np.diff(directed.voxels.value) > 0)
        assert np.all(np.diff(directed.areas.value) > 0)
        assert np.all(directed.areas.weight > 0)


@settings(max_examples=60, deadline=None)
@given(pairs())
def test_counts_and_distances_are_those_of_brute_force(pair: Any) -> None:
    check(*pair)


@pytest.mark.parametrize("reach", [0, 2])
@pytest.mark.parametrize("dear", ["ROW_NS", "PLANE_NS"])
def test_every_way_to_what_is_far_is_exact(
    monkeypatch: pytest.MonkeyPatch, reach: int, dear: str
) -> None:
    """By rows and by planes alone: what one is told to cost decides which is taken."""
    taken: list[str] = []
    for name in ("by_rows", "by_planes"):
        kernel = getattr(distances, name)
        monkeypatch.setattr(
            distances,
            name,
            lambda *a, kernel=kernel, name=name: (taken.append(name), kernel(*a))[1],
        )
    monkeypatch.setattr(distances, "NEAR_STEPS", reach)
    monkeypatch.setattr(distances, dear, 1e9)
    random = np.random.default_rng(reach)
    for number in range(12):
        shape = (1, 20, 40) if number % 3 == 0 else (9, 11, 70)
        masks = [np.zeros(shape, bool) for _ in range(2)]
        masks[0][..., :4] = random.random((*shape[:2], 4)) < 0.4
        masks[1][:, 3:9, -9:] = random.random((shape[0], 6, 9)) < 0.4
        masks[0].flat[0] = masks[1].flat[-1] = True
        check(*masks, SPACINGS[number % 4])
    assert set(taken) == {"by_planes" if dear == "ROW_NS" else "by_rows"}


def test_where_all_is_far_and_only_looked_at_here_and_there_is_exact() -> None:
    everything = np.ones((40, 44, 90), bool)
    spot = np.zeros_like(everything)
    spot[18:23, 20:24, 40:44] = True
    for spacing in SPACINGS:
        found = measure(spot, everything, 1, spacing)
        away = ndimage.distance_transform_edt(~border(spot), sampling=spacing)
        assert found.to_reference is not None
        np.testing.assert_allclose(
            elements(found.to_reference.voxels), np.sort(away[border(everything)]), atol=1e-9
        )


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_any_number_of_threads_gives_the_same(threads: int) -> None:
    random = np.random.default_rng(3)
    one, other = (ndimage.binary_dilation(random.random((40, 128, 256)) < 1e-4) for _ in range(2))
    assert measure_all(one, other, (1,), (2.0, 1.0, 1.0), threads=threads) == measure_all(
        one, other, (1,), (2.0, 1.0, 1.0), threads=3
    )


def test_no_threads_at_all_are_refused() -> None:
    with pytest.raises(ConfigError, match="threads is 0; it must be at least 1"):
        measure_all(np.ones((1, 1, 1)), np.ones((1, 1, 1)), (1,), threads=0)


def test_identical_masks_of_0_and_255_do_not_overflow() -> None:
    """As uint8, 255 + 255 is 254: a Dice made of sums of the masks was 0.0039 for these."""
    mask = np.zeros((6, 7, 8), np.uint8)
    mask[1:4, 2:5, 2:6] = 255
    found = measure(mask, mask, 255)
    assert (found.true_positive, found.false_positive, found.false_negative) == (36, 0, 0)
    assert found.to_reference is not None
    assert found.to_reference.voxels.value.tolist() == [0.0]


def test_label_2_is_measured_as_itself() -> None:
    """A mask whose label is 2 alone is neither empty nor twice as much as one of label 1."""
    mask = np.zeros((3, 9, 9), np.uint8)
    mask[1, 2:6, 2:6] = 2
    found = measure_all(mask, np.roll(mask, 1, 2), (1, 2))
    assert found[2].true_positive == 12
    assert found[2].reference == found[2].prediction == 16
    assert found[1].reference == found[1].prediction == 0
    assert found[1].to_reference is None
    assert found[1].to_prediction is None


@pytest.mark.parametrize("kind", [bool, np.uint8, np.int16, np.int64, np.float32])
def test_any_type_of_labels_is_measured_alike(kind: type) -> None:
    random = np.random.default_rng(0)
    one, other = ((random.random((4, 9, 33)) < 0.3).astype(kind) for _ in range(2))
    assert measure(one, other) == measure(one.astype(np.uint8), other.astype(bool))


def test_labels_beyond_a_byte_and_views_are_measured() -> None:
    labels = np.zeros((4, 6, 130), np.int32)
    labels[1:3, 2:4, 5:100] = 300
    turned = labels.transpose(2, 1, 0)[::-1]
    assert measure(labels, labels, 300).true_positive == 2 * 2 * 95
    assert measure(turned, turned, 300).true_positive == 2 * 2 * 95
    assert measure(labels, labels, 44).reference == 0  # 300 - 256: no wrapping round


def test_one_side_empty_has_counts_and_no_distances() -> None:
    mask = np.zeros((4, 5, 6), np.uint8)
    full = np.ones_like(mask)
    found = measure(full, mask)
    assert (found.false_negative, found.true_negative) == (120, 0)
    assert found.to_reference is None
    assert found.to_prediction is None


def test_a_ball_beside_itself_is_as_far_as_it_was_moved() -> None:
    z, y, x = np.ogrid[:30, :30, :40]
    one = (z - 15) ** 2 + (y - 15) ** 2 + (x - 12) ** 2 <= 64
    found = measure(one, np.roll(one, 3, 2), 1, (1.0, 1.0, 2.0))
    assert found.to_reference is not None
    assert found.to_reference.voxels.value[-1] == 6.0


def test_a_shell_is_two_surfaces() -> None:
    """Walls of three voxels: their inner border lies two steps behind the outer one."""
    box = np.zeros((20, 22, 70), bool)
    box[2:18, 2:20, 2:68] = True
    shell = box.copy()
    shell[5:15, 5:17, 5:65] = False
    found = measure(shell, box)
    assert found.to_reference is not None
    assert found.to_prediction is not None
    assert found.to_reference.voxels.value.tolist() == [0.0]
    assert found.to_prediction.voxels.value.tolist() == [0.0, 2.0]
    inner = 2 * (10 * 12 + 10 * 60 + 12 * 60)
    assert found.to_prediction.voxels.weight[1] == inner


def test_a_picture_is_measured_in_its_plane() -> None:
    """As a volume of one slice each of its voxels would be a border, and nothing inside."""
    square = np.zeros((1, 9, 9), np.uint8)
    square[0, 2:7, 2:7] = 1
    found = measure(square, square, 1, (5.0, 1.0, 1.0))
    assert found.to_reference is not None
    assert found.to_reference.voxels.weight.tolist() == [16.0]
    assert found.to_reference.areas.weight.sum() == pytest.approx(16 + 4 * np.sqrt(0.5))


def test_the_area_of_a_box_is_its_faces_with_bevelled_edges() -> None:
    box = np.zeros((12, 12, 12), np.uint8)
    box[1:11, 1:11, 1:11] = 1
    found = measure(box, box)
    assert found.to_reference is not None
    edges, corners = 12 * 9 * np.sqrt(0.5), 8 * np.sqrt(3) / 8
    assert found.to_reference.areas.weight.sum() == pytest.approx(6 * 81 + edges + corners)


def test_a_measure_is_kept_as_json_without_loss() -> None:
    random = np.random.default_rng(1)
    one, other = (random.random((5, 20, 30)) < share for share in (0.3, 0.01))
    found = measure(one, other, 1, (3.3, 0.1, 0.7))
    again = ClassMeasure.from_dict(json.loads(json.dumps({**found.to_dict(), "name": "lesion"})))
    assert again == found
    assert hash(again.to_reference) == hash(found.to_reference)
    empty = measure(one, other, 9)
    assert ClassMeasure.from_dict(json.loads(json.dumps(empty.to_dict()))) == empty


def test_what_is_kept_stays_small_where_all_is_wrong() -> None:
    spot = np.zeros((64, 96, 96), bool)
    spot[30:34, 40:44, 40:44] = True
    found = measure(spot, np.ones_like(spot), 1, (3.0, 0.7, 0.7))
    assert found.to_reference is not None
    assert found.to_reference.voxels.value.size > 1500
    assert len(json.dumps(found.to_dict())) < 200_000


def test_a_histogram_is_not_equal_to_anything_else() -> None:
    histogram = Histogram(np.array([0.0]), np.array([1.0]))
    assert histogram != 3
    assert histogram != Histogram(np.array([0.0]), np.array([2.0]))


@pytest.mark.parametrize(
    ("one", "other"),
    [((2, 3, 4), (2, 3, 5)), ((3, 4), (3, 4)), ((0, 3, 4), (0, 3, 4))],
)
def test_shapes_that_cannot_be_compared_are_named(one: Any, other: Any) -> None:
    with pytest.raises(ScanError, match="must have one shape") as caught:
        measure(np.ones(one), np.ones(other))
    assert str(one) in str(caught.value)
    assert str(other) in str(caught.value)


@pytest.mark.parametrize("spacing", [(1.0, 0.0, 1.0), (1.0, -1.0, 1.0), (np.nan, 1, 1), (1.0, 1.0)])
def test_a_spacing_that_is_none_is_named(spacing: Any) -> None:
    mask = np.ones((2, 2, 2), np.uint8)
    with pytest.raises(ScanError, match=r"spacing_mm is .*three steps above 0"):
        measure(mask, mask, 1, spacing)


@pytest.mark.parametrize("name", ["brain1", "brain2", "breast1"])
def test_a_real_label_beside_itself_moved_is_measured_as_by_scipy(
    shared_data: Path, name: str
) -> None:
    image = SimpleITK.ReadImage(str(shared_data / "scans" / "nrrd" / f"{name}_label.nrrd"))
    spacing = tuple(image.GetSpacing()[::-1])
    labels = SimpleITK.GetArrayFromImage(image)
    label = int(labels.max())
    moved = np.roll(labels, (1, 3, -2), (0, 1, 2))
    one, other = labels == label, moved == label
    found = measure(labels, moved, label, spacing)
    assert found.true_positive == np.sum(one & other)
    for directed, (origin, target) in (
        (found.to_reference, (other, one)),
        (found.to_prediction, (one, other)),
    ):
        away = ndimage.distance_transform_edt(~border(target), sampling=spacing)
        assert directed is not None
        np.testing.assert_allclose(
            elements(directed.voxels), np.sort(away[border(origin)]), rtol=0, atol=1e-9
        )


@pytest.mark.slow
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("level", [-1.5, 0.0, 1.5])
@pytest.mark.parametrize("moved", [0, 1, 30])
def test_folds_and_islands_of_any_size_are_measured_as_by_scipy(
    spacing: tuple[float, float, float], level: float, moved: int
) -> None:
    random = np.random.default_rng(int(10 * level) + 100)
    field = ndimage.gaussian_filter(random.standard_normal((48, 90, 150)), 3)
    one = field / field.std() > level
    other = np.roll(one, moved, 2) ^ (random.random(one.shape) < 1e-4)
    found = measure(one, other, 1, spacing)
    for directed, (origin, target) in (
        (found.to_reference, (other, one)),
        (found.to_prediction, (one, other)),
    ):
        away = ndimage.distance_transform_edt(~border(target), sampling=spacing)
        assert directed is not None
        np.testing.assert_allclose(
            elements(directed.voxels), np.sort(away[border(origin)]), rtol=0, atol=1e-9
        )
