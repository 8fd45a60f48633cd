"""What a page carries comes out as it went in, and never grows past its bound."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from candlemark.report.segmentation import packing
from candlemark.report.segmentation.packing import pack, runs_of, shrink
from candlemark.report.segmentation.views import CaseView


def unpacked(text: str, shape: tuple[int, int]) -> np.ndarray:
    """As the page does it: a label and a length of two bytes, low byte first."""
    labels, pixel = np.zeros(shape[0] * shape[1], np.uint8), 0
    packed = base64.b64decode(text)
    for at in range(0, len(packed), 3):
        length = packed[at + 1] + 256 * packed[at + 2]
        labels[pixel : pixel + length] = packed[at]
        pixel += length
    return labels.reshape(shape)


@given(
    labels=hnp.arrays(
        np.uint8,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=20),
        elements=st.sampled_from([0, 0, 1, 2, 255]),
    )
)
def test_runs_are_the_mask(labels: np.ndarray) -> None:
    np.testing.assert_array_equal(unpacked(runs_of(labels, labels, 1), labels.shape), labels)


@pytest.mark.parametrize("value", [0, 1])
def test_long_runs_are_cut(value: int) -> None:
    labels = np.full((300, 300), value, np.uint8)
    labels[299, 299] = 2
    text = runs_of(labels, labels, 1)
    np.testing.assert_array_equal(unpacked(text, labels.shape), labels)
    assert len(base64.b64decode(text)) == 9
    assert runs_of(np.zeros((9, 9), np.uint8), np.zeros((9, 9), np.uint8), 1) == ""


@pytest.mark.parametrize("by", [1, 2, 3, 5])
@pytest.mark.parametrize("shape", [(10, 15), (11, 7), (4, 4)])
def test_shrinking_takes_the_mean_of_each_block(shape: tuple[int, int], by: int) -> None:
    values = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    rows, columns = (range(0, side, by) for side in shape)
    expected = [[np.rint(values[y : y + by, x : x + by].mean()) for x in columns] for y in rows]
    assert shrink(values, by).tolist() == expected
    colour = np.repeat(values[..., None], 3, axis=2)
    assert shrink(colour, by)[..., 1].tolist() == expected


def view(shape: tuple[int, int, int], **more: Any) -> CaseView:
    image = np.random.default_rng(0).integers(0, 500, shape).astype(np.int16)
    reference = np.zeros(shape, np.uint8)
    reference[shape[0] // 3, : shape[1] // 2] = 1
    return CaseView(
        case="a",
        image=image,
        window=(0.0, 500.0),
        spacing_mm=more.pop("spacing_mm", None),
        reference=reference,
        predictions=more.pop("predictions", {}),
    )


def test_a_case_is_whole_where_it_fits(board: Any, fake: Any, scans: list[Any]) -> None:
    packed = pack(board, fake.loader(scans))
    assert packed.left_out == packed.gone == ()
    assert json.loads(json.dumps(packed.to_dict(), allow_nan=False)) == packed.to_dict()
    one = next(case for case in packed.cases if case["id"] == scans[1].case)
    depth, height, width = scans[1].labels.shape
    assert (one["size"], one["of"], one["shrunk"]) == ([height, width], depth, 1)
    assert one["slices"] == list(range(1, depth + 1))
    for place in range(depth):
        np.testing.assert_array_equal(
            unpacked(one["reference"][place], (height, width)), scans[1].labels[place]
        )
        with Image.open(io.BytesIO(base64.b64decode(one["images"][place]))) as picture:
            assert picture.size == (width, height)
    everything = np.stack([unpacked(t, (height, width)) for t in one["masks"]["all foreground"]])
    assert everything.all()
    assert one["start"] == int(scans[1].labels.sum(axis=(1, 2)).argmax())
    assert set(one["masks"]) == {"clinic/moved", "all foreground", "sam oracle box"}
    assert one["told"]["hub/thinner"].startswith("crashed: the network raised ValueError; scored")
    assert one["told"]["clinic/moved"].startswith("Dice 0.")


def test_large_scans_are_shown_smaller_and_thinned_out(
    board: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "LONGEST_SIDE", 16)
    monkeypatch.setattr(packing, "MOST_SLICES", 5)
    seen = view((12, 20, 50), spacing_mm=(5.0, 2.0, 1.0))
    one = packing._case(board, seen)
    assert (one["shrunk"], one["size"], one["aspect"]) == (4, [5, 13], 2.0)
    assert (one["slices"], one["of"], len(one["images"])) == ([1, 4, 7, 10], 12, 4)
    assert one["slices"][one["start"]] == 7 if any(one["reference"]) else True
    with Image.open(io.BytesIO(base64.b64decode(one["images"][0]))) as picture:
        assert picture.size == (13, 5)


def test_blocks_of_a_mask_are_their_middle_pixel() -> None:
    labels = np.arange(35, dtype=np.uint8).reshape(5, 7)
    middles = labels[1::3, 1::3]
    found = unpacked(runs_of(middles, labels, 3), (2, 3))
    assert found.tolist() == [[8, 11, 6], [29, 32, 27]]


def test_a_ragged_mask_is_left_out_and_a_page_keeps_its_bound(
    board: Any, fake: Any, scans: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = pack(board, fake.loader(scans))
    sizes = [packing._bytes(case) for case in whole.cases]
    asked: list[str] = []
    few = pack(board, fake.loader(scans, asked=asked), budget_bytes=sum(sizes[:2]))
    assert [case["id"] for case in few.cases] == [case["id"] for case in whole.cases[:2]]
    assert list(few.left_out) == [case["id"] for case in whole.cases[2:]]
    assert len(asked) == 3  # nothing is read once the page is full
    assert len(pack(board, fake.loader(scans), budget_bytes=1).cases) == 1
    monkeypatch.setattr(packing, "MASK_BYTES", 200)
    ragged = pack(board, fake.loader(scans))
    assert None in ragged.cases[0]["masks"].values()


def test_cases_whose_files_are_gone_are_named(board: Any, fake: Any, scans: list[Any]) -> None:
    packed = pack(board, fake.loader(scans[:1]))
    assert [case["id"] for case in packed.cases] == [scans[0].case]
    assert sorted(packed.gone) == [scan.case for scan in scans[1:]]
