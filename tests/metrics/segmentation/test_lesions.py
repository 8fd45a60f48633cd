"""Lesions are counted by touch and by IoU, over faces, edges and corners."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from candlemark.errors import ConfigError
from candlemark.metrics.segmentation.lesions import Lesions, count_lesions

Mask = npt.NDArray[np.uint8]


def drawn(text: str) -> Mask:
    """A picture (1, Y, X) of text: `#` is class 1, `o` class 2."""
    rows = [line.strip() for line in text.strip().splitlines()]
    return np.array([[[".#o".index(sign) for sign in row] for row in rows]], dtype=np.uint8)


REFERENCE = drawn("""
    ##......
    ##...#..
    ......#.
    ........
    ###.....
""")
PREDICTION = drawn("""
    .##.....
    .##.....
    ........
    .....##.
    ###.....
""")


def test_a_known_picture() -> None:
    found = count_lesions(REFERENCE, PREDICTION)
    assert found == Lesions(
        reference_count=3,  # the two voxels that share a corner are one
        prediction_count=3,
        detected=2,
        confirmed=2,
        matched=1,  # IoU 1/3 of the block, 1 of the line
        largest_missed_voxels=2,
    )
    assert found.sensitivity() == pytest.approx(2 / 3)
    assert found.f1() == pytest.approx(2 / 3)
    assert found.f1("iou") == pytest.approx(1 / 3)


@pytest.mark.parametrize("kind", ["bool", ">i2", ">u4", "<i8", "f4"])
def test_masks_of_any_type_and_order_of_bytes_are_counted(kind: str) -> None:
    known = count_lesions(REFERENCE, PREDICTION)
    assert count_lesions(REFERENCE.astype(kind), PREDICTION.astype(kind)) == known


def test_corners_of_volumes_hang_together() -> None:
    scan = np.zeros((2, 2, 2), np.uint8)
    scan[0, 0, 0] = scan[1, 1, 1] = 1
    assert count_lesions(scan, scan).reference_count == 1


def test_one_blob_over_everything_is_kind_by_touch_alone() -> None:
    found = count_lesions(REFERENCE, np.ones_like(REFERENCE))
    assert (found.sensitivity(), found.precision()) == (1.0, 1.0)
    assert found.f1("iou") == 0.0


def test_only_the_label_that_was_asked_for_counts() -> None:
    scan = drawn("#.o.o")
    assert count_lesions(scan, scan, label=2).reference_count == 2
    assert count_lesions(scan, scan, label=3) == Lesions(
        reference_count=0, prediction_count=0, detected=0, confirmed=0, matched=0
    )


def test_what_is_not_there_has_no_share() -> None:
    none = np.zeros_like(REFERENCE)
    missed, invented = count_lesions(REFERENCE, none), count_lesions(none, PREDICTION)
    assert (missed.sensitivity(), missed.precision(), missed.f1()) == (0.0, None, 0.0)
    assert missed.largest_missed_voxels == 4
    assert (invented.sensitivity(), invented.precision(), invented.f1()) == (None, 0.0, 0.0)
    assert count_lesions(none, none).f1() is None


def test_unlike_shapes_are_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        count_lesions(np.zeros((1, 2, 2), np.uint8), np.zeros((1, 2, 3), np.uint8))
    assert str(caught.value) == (
        "reference is (1, 2, 2) and prediction (1, 2, 3); lesions are counted on one grid (Z, Y, X)"
    )


def by_hand(reference: Mask, prediction: Mask) -> Lesions:
    """Parts by flooding, one voxel after the other."""
    ours, theirs = flooded(reference), flooded(prediction)
    met = [(a, b) for a in ours for b in theirs if a & b]
    touched = {min(a) for a, _ in met}
    missed = [len(a) for a in ours if min(a) not in touched]
    return Lesions(
        reference_count=len(ours),
        prediction_count=len(theirs),
        detected=len(touched),
        confirmed=len({min(b) for _, b in met}),
        matched=sum(len(a & b) / len(a | b) > 0.5 for a, b in met),
        largest_missed_voxels=max(missed, default=0),
    )


def flooded(mask: Mask) -> list[set[tuple[int, ...]]]:
    left = {tuple(int(n) for n in place) for place in np.argwhere(mask)}
    parts = []
    while left:
        part, edge = set(), [left.pop()]
        while edge:
            here = edge.pop()
            part.add(here)
            near = {p for p in left if max(abs(a - b) for a, b in zip(p, here, strict=True)) < 2}
            left -= near
            edge += near
        parts.append(part)
    return parts


SMALL = arrays(np.uint8, (2, 4, 7), elements=st.sampled_from([0, 0, 0, 1]))


@given(reference=SMALL, prediction=SMALL)
@settings(max_examples=40, deadline=None)
def test_counts_are_those_of_flooding(reference: Mask, prediction: Mask) -> None:
    found = count_lesions(reference, prediction)
    assert found == by_hand(reference, prediction)
    assert Lesions.from_dict(found.to_dict()) == found
    other = count_lesions(prediction, reference)
    assert (other.sensitivity(), other.f1()) == (found.precision(), found.f1())
