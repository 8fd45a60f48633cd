"""Masks become labels by a declared map; nothing wraps, rounds or disappears in silence."""

from __future__ import annotations

import os
import resource
import tracemalloc
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from candlemark.errors import ScanError
from candlemark.scans.geometry import Geometry
from candlemark.scans.masks import (
    LabelMap,
    apply_labels,
    discover_labels,
    label_map,
    mask_to_file,
    open_mask,
)
from candlemark.scans.volume import open_scan

ONE = label_map({1: "lesion"})


def saved(folder: Path, values: np.ndarray, name: str = "mask.npy") -> Path:
    np.save(folder / name, values)
    return folder / name


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "int64", "float32"])
def test_0_and_255_are_one_class_in_any_type(tmp_path: Path, dtype: str) -> None:
    values = np.array([[[0, 255], [255, 0]]]).astype(dtype)
    mask = open_mask(saved(tmp_path, values), ONE)
    assert mask.labels.dtype == np.uint8
    assert mask.labels.tolist() == [[[0, 1], [1, 0]]]
    assert mask.notes == ("255 is lesion",)


def test_255_among_several_classes_is_no_class(tmp_path: Path) -> None:
    both = label_map({1: "liver", 2: "lesion"})
    with pytest.raises(ScanError, match=r"no class: 255 \(1 voxels\); classes are 0=backgr"):
        open_mask(saved(tmp_path, np.array([[[0, 1, 2, 255]]])), both)
    with pytest.raises(ScanError, match="255"):
        open_mask(saved(tmp_path, np.array([[[0, 1, 255]]])), ONE)


def test_255_that_is_declared_stays_255(tmp_path: Path) -> None:
    mask = open_mask(saved(tmp_path, np.array([[[0, 7, 255]]])), label_map({7: "a", 255: "b"}))
    assert mask.labels.tolist() == [[[0, 7, 255]]]
    assert mask.notes == ()


def test_a_mask_with_label_2_only_keeps_it(tmp_path: Path) -> None:
    mask = open_mask(saved(tmp_path, np.array([[[0, 2], [2, 0]]])), label_map({2: "tumour"}))
    assert mask.labels.tolist() == [[[0, 2], [2, 0]]]


def test_labels_above_255_are_counted_from_1(tmp_path: Path) -> None:
    labels = label_map({300: "left", 1025: "right"})
    assert (labels.labels, labels.names) == ({300: 1, 1025: 2}, {1: "left", 2: "right"})
    mask = open_mask(saved(tmp_path, np.array([[[0, 300, 1025, 300]]])), labels)
    assert mask.labels.tolist() == [[[0, 1, 2, 1]]]


def test_several_values_can_be_one_class() -> None:
    merged = LabelMap(labels={1: 1, 4: 1, 2: 2}, names={1: "tumour", 2: "oedema"})
    labels, notes = apply_labels(np.array([[[0, 1, 2, 4]]]), merged, name="m")
    assert labels.tolist() == [[[0, 1, 2, 1]]]
    assert notes == ()


def test_binary_takes_all_that_is_above_0(tmp_path: Path) -> None:
    labels = label_map({}, binary=True)
    assert labels.names == {1: "foreground"}
    mask = open_mask(saved(tmp_path, np.array([[[0, 1, 300, 255]]])), labels)
    assert mask.labels.tolist() == [[[0, 1, 1, 1]]]
    with pytest.raises(ScanError, match="has the value -1"):
        open_mask(saved(tmp_path, np.array([[[0, -1]]])), labels)


def test_a_value_that_is_no_class_is_refused_or_told(tmp_path: Path) -> None:
    path = saved(tmp_path, np.array([[[0, 1, 2, 3, 3, -1]]], dtype=np.int8))
    with pytest.raises(ScanError) as refused:
        open_mask(path, ONE)
    assert str(refused.value) == (
        f"{path} has values that are no class: -1 (1 voxels), 2 (1 voxels), 3 (2 voxels); classes "
        "are 0=background, 1=lesion; name them with --classes, or take all as one with --binary"
    )
    mask = open_mask(path, label_map({1: "lesion"}, others="background"))
    assert mask.labels.tolist() == [[[0, 1, 0, 0, 0, 0]]]
    assert mask.notes[0].startswith("values that are no class count as background: -1 (1 voxels)")


def test_whole_numbers_in_decimals_are_read_and_probabilities_are_not(tmp_path: Path) -> None:
    whole = open_mask(saved(tmp_path, np.array([[[0.0, 1.0]]], dtype=np.float32)), ONE)
    assert whole.labels.tolist() == [[[0, 1]]]
    for values, message in (
        ([0.0, 0.37], r"has probabilities \(0\.37\), and a mask has whole numbers; threshold"),
        ([0.0, 2.5], r"has decimal numbers \(2\.5\)"),
        ([0.0, np.nan], "has NaN or infinite values"),
        ([0.0, 1e12], "that is no label"),
        ([0.0, 0.999], r"has probabilities \(0\.999\)"),
    ):
        with pytest.raises(ScanError, match=message):
            open_mask(saved(tmp_path, np.array([[values]])), ONE)


def test_labels_that_jpeg_smeared_are_refused(tmp_path: Path) -> None:
    mask = np.zeros((32, 32), np.uint8)
    mask[5:20, 7:19] = 255
    Image.fromarray(mask).save(tmp_path / "a.jpg")
    with pytest.raises(ScanError, match=r"has \d+ values from 1 to 255: JPEG smears labels .* PNG"):
        open_mask(tmp_path / "a.jpg", label_map({}, binary=True))
    Image.fromarray(mask[:8, :4] | 255).save(tmp_path / "a.jpg")
    assert open_mask(tmp_path / "a.jpg", ONE).labels.all()


def test_a_nifti_mask_of_what_is_no_number_is_no_background(tmp_path: Path) -> None:
    image = SimpleITK.GetImageFromArray(np.array([[[0.0, 1.0, np.nan]]], np.float32))
    for name in ("a.nii", "a.nii.gz"):
        SimpleITK.WriteImage(image, str(tmp_path / name))
        with pytest.raises(ScanError, match="has NaN or infinite values; a mask has whole numbers"):
            open_mask(tmp_path / name, ONE)


def test_labels_that_a_slope_in_the_header_rounded_are_labels(tmp_path: Path) -> None:
    values = np.array([[[0.0, 1.0000061, 2.9999907]]], dtype=np.float32)
    mask = open_mask(saved(tmp_path, values), label_map({1: "a", 3: "b"}))
    assert mask.labels.tolist() == [[[0, 1, 3]]]


def test_a_mask_of_decimals_is_read_without_a_second_copy_of_them(tmp_path: Path) -> None:
    path = saved(tmp_path, np.zeros((64, 128, 128), np.float64))
    tracemalloc.start()
    try:
        open_mask(path, ONE)
        assert tracemalloc.get_traced_memory()[1] < 1.8 * 8 * 2**20
    finally:
        tracemalloc.stop()


def test_pictures_as_masks(tmp_path: Path) -> None:
    drawn = np.array([[0, 255, 0], [255, 255, 0]], dtype=np.uint8)
    grey_in_colour = np.repeat(drawn[..., None], 3, axis=2)
    expected = [[[0, 1, 0], [1, 1, 0]]]
    for name, values in (("grey", drawn), ("colour", grey_in_colour), ("bits", drawn > 0)):
        Image.fromarray(values).save(tmp_path / f"{name}.png")
        assert open_mask(tmp_path / f"{name}.png", ONE).labels.tolist() == expected, name
    painted = grey_in_colour.copy()
    painted[0, 1] = (255, 0, 0)
    Image.fromarray(painted).save(tmp_path / "painted.png")
    with pytest.raises(ScanError, match="is in colour; a mask has one number a pixel"):
        open_mask(tmp_path / "painted.png", ONE)


def test_the_numbers_of_a_palette_count_and_not_its_colours(tmp_path: Path) -> None:
    picture = Image.fromarray(np.array([[0, 1], [2, 2]], dtype=np.uint8)).convert("P")
    picture.putpalette([0, 0, 0, 200, 30, 30, 30, 30, 200])
    picture.save(tmp_path / "voc.png")
    mask = open_mask(tmp_path / "voc.png", label_map({1: "person", 2: "dog"}))
    assert mask.labels.tolist() == [[[0, 1], [2, 2]]]


@given(
    values=hnp.arrays(np.int32, (2, 3, 4), elements=st.integers(0, 6)),
    classes=st.dictionaries(st.integers(1, 6), st.integers(1, 255), min_size=1),
)
def test_any_map_is_applied_value_by_value(values: np.ndarray, classes: dict[int, int]) -> None:
    labels, _ = apply_labels(
        values, LabelMap(labels=classes, names={}, others="background"), name="m"
    )
    assert labels.tolist() == np.vectorize(lambda v: classes.get(int(v), 0))(values).tolist()


def test_values_far_apart_are_counted_too() -> None:
    values = np.array([[[0, 2**30, -(2**30)]]], dtype=np.int32)
    with pytest.raises(ScanError, match=r"-1073741824 \(1 voxels\), 1073741824 \(1 voxels\)"):
        apply_labels(values, ONE, name="m")


@pytest.mark.parametrize("values", [np.arange(-3, 5), np.arange(400)])
def test_a_scan_that_is_taken_for_a_mask_is_named(tmp_path: Path, values: np.ndarray) -> None:
    path = saved(tmp_path, values.reshape(1, 4, -1).astype(np.int16))
    with pytest.raises(
        ScanError, match=rf"{path.name} has \d+ values from .*, as a scan has; give"
    ):
        discover_labels([path])


def test_the_largest_numbers_are_values_and_no_overflow() -> None:
    values = np.full((1, 2, 2), 2**64 - 1, dtype=np.uint64)
    with pytest.raises(ScanError, match=r"18446744073709551615 \(4 voxels\)"):
        apply_labels(values, ONE, name="m")
    with pytest.raises(ScanError, match=r"65535 .* or take all as one with --binary"):
        apply_labels(np.full((1, 2, 2), 65535, np.uint16), ONE, name="m")


def test_classes_are_found_where_none_are_named(tmp_path: Path) -> None:
    white = saved(tmp_path, np.array([[[0, 255]]]), "a.npy")
    ones = saved(tmp_path, np.array([[[0, 1]]]), "b.npy")
    empty = saved(tmp_path, np.array([[[0, 0]]]), "c.npy")
    several = saved(tmp_path, np.array([[[0, 2, 5]]]), "d.npy")
    assert discover_labels([white, empty]).names == {1: "foreground"}
    assert discover_labels([white, ones]).labels == {1: 1}
    assert discover_labels([ones, several]).names == {1: "1", 2: "2", 5: "5"}
    with pytest.raises(ScanError, match="every reference is empty"):
        discover_labels([empty])


@pytest.mark.parametrize(
    ("classes", "binary", "message"),
    [
        ({}, False, "at least one class"),
        ({0: "background", 1: "a"}, False, "label 0 cannot be a class"),
        ({-1: "a"}, False, "label -1 cannot be a class"),
        ({1: "a", 2: "a"}, False, "2 classes are called 'a'; give each label"),
        ({1: " "}, False, "no name; give each label above 0 a name of its own: {1: ' '}"),
        ({1: "a", 2: "b"}, True, "--binary makes one class, and 2 are named"),
        ({n: str(n) for n in range(1, 300)}, False, "299 classes; at most 255"),
    ],
)
def test_a_map_that_cannot_be_is_refused(
    classes: dict[int, str], binary: bool, message: str
) -> None:
    with pytest.raises(ScanError, match=message):
        label_map(classes, binary=binary)


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii", "a.nrrd", "a.mha"])
def test_what_is_written_is_read(tmp_path: Path, name: str) -> None:
    labels = np.random.default_rng(0).integers(0, 4, (3, 5, 7)).astype(np.uint8)
    grid = Geometry(shape=(3, 5, 7), spacing_mm=(2.5, 0.5, 0.5), origin=(1.0, -2.0, 3.0))
    path = mask_to_file(labels, grid, tmp_path / "deep" / name)
    mask = open_mask(path, label_map({1: "a", 2: "b", 3: "c"}))
    np.testing.assert_array_equal(mask.labels, labels)
    assert mask.geometry.spacing_mm == pytest.approx(grid.spacing_mm)
    assert mask.geometry.origin == pytest.approx(grid.origin)
    assert [one.name for one in path.parent.iterdir()] == [name]


def test_a_picture_is_written_as_it_is(tmp_path: Path) -> None:
    labels = np.array([[[0, 1], [2, 0]]], dtype=np.uint8)
    path = mask_to_file(labels, Geometry(shape=(1, 2, 2)), tmp_path / "a.png")
    np.testing.assert_array_equal(open_scan(path).read(), labels)


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    labels, grid = np.zeros((2, 2, 2), np.uint8), Geometry(shape=(2, 2, 2))
    with pytest.raises(ScanError, match=r"no name for a mask of shape \(2, 2, 2\); give"):
        mask_to_file(labels, grid, tmp_path / "a.png")
    with pytest.raises(ScanError, match="and their grid"):
        mask_to_file(labels[:1], grid, tmp_path / "a.nii")
    with pytest.raises(ScanError, match="uint8 is written"):
        mask_to_file(labels.astype(np.int16), grid, tmp_path / "a.nii")  # type: ignore[arg-type]
    (tmp_path / "taken.nii").mkdir()
    with pytest.raises(ScanError, match="cannot write"):
        mask_to_file(labels, grid, tmp_path / "taken.nii")
    assert [one.name for one in tmp_path.iterdir()] == ["taken.nii"]


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nrrd", "a.mha"])
def test_a_full_disk_leaves_no_half_a_mask(tmp_path: Path, name: str) -> None:
    labels = np.random.default_rng(0).integers(0, 200, (20, 60, 60)).astype(np.uint8)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(ScanError, match=r"cannot write .*; is the disk full, or the name"):
            mask_to_file(labels, Geometry(shape=labels.shape), tmp_path / name)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_a_mask_that_cannot_be_written_says_why_in_one_clause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = Geometry(shape=(1, 2, 2))
    (tmp_path / "file").touch()
    with pytest.raises(ScanError, match=r"file/a\.nii: (File exists|Not a directory); is the disk"):
        mask_to_file(np.ones(grid.shape, np.uint8), grid, tmp_path / "file" / "a.nii")
    for name in ("a.nii", "a.nii.gz", "a.png"):
        for there in (b"", b"half"):  # of a full disk ITK takes both for written
            half = partial(Path.write_bytes, data=there)
            monkeypatch.setattr(
                SimpleITK, "WriteImage", lambda _, at, half=half, **__: half(Path(at))
            )
            with pytest.raises(ScanError, match=rf"{name}: only a part of it arrived; is the disk"):
                mask_to_file(np.ones(grid.shape, np.uint8), grid, tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_two_processes_that_write_one_mask_do_not_share_a_half_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels, halves, write = np.ones((1, 2, 2), np.uint8), [], SimpleITK.WriteImage

    def noted(image: object, path: str, **options: object) -> None:
        halves.append(path)
        write(image, path, **options)

    monkeypatch.setattr(SimpleITK, "WriteImage", noted)
    for process in (1, 2):
        monkeypatch.setattr(os, "getpid", lambda process=process: process)
        mask_to_file(labels, Geometry(shape=labels.shape), tmp_path / "a.nii.gz")
    assert len(set(halves)) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["a.nii.gz"]


def test_real_masks(shared_data: Path) -> None:
    folder = shared_data / "scans" / "nrrd"
    paths = {name: folder / f"{name}_label.nrrd" for name in ("brain1", "brain2", "breast1")}
    found = discover_labels(paths.values())
    assert found.names == {1: "foreground"}
    voxels = {name: int(open_mask(path, found).labels.sum()) for name, path in paths.items()}
    assert voxels == {"brain1": 4137, "brain2": 453, "breast1": 143}
