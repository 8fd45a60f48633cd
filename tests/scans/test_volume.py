"""Every kind of file gives the voxels and the grid that were written, slice by slice."""

from __future__ import annotations

import resource
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from candlemark.errors import ScanError
from candlemark.scans import volume
from candlemark.scans.geometry import Geometry, to_itk
from candlemark.scans.masks import mask_to_file
from candlemark.scans.volume import Scan, open_scan

SPACING, ORIGIN = (3.0, 0.75, 0.5), (-10.0, 20.0, 4.5)
FLIPPED = (1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0)


@pytest.fixture
def voxels() -> np.ndarray:
    return np.random.default_rng(0).integers(-500, 2000, (6, 5, 4)).astype(np.int16)


def write(values: np.ndarray, path: Path, *, packed: bool = False) -> Path:
    grid = Geometry(shape=values.shape[:3], spacing_mm=SPACING, origin=ORIGIN, direction=FLIPPED)
    SimpleITK.WriteImage(to_itk(values, grid), str(path), packed)
    return path


PLACED = ("a.nii", "a.nii.gz", "a.nrrd", "a.nhdr", "a.mha", "a.mhd")


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", PLACED)
def test_a_file_with_a_place_gives_its_voxels_and_grid(
    tmp_path: Path, voxels: np.ndarray, name: str, packed: bool
) -> None:
    scan = open_scan(write(voxels, tmp_path / name, packed=packed))
    assert scan.geometry.shape == (6, 5, 4)
    assert scan.geometry.spacing_mm == pytest.approx(SPACING)
    assert scan.geometry.origin == pytest.approx(ORIGIN)
    assert scan.geometry.direction == pytest.approx(FLIPPED)
    assert (scan.dtype, scan.channels) == (np.int16, 1)
    np.testing.assert_array_equal(scan.read(), voxels)
    for start in range(6):
        np.testing.assert_array_equal(scan.read(start, start + 1), voxels[start : start + 1])
    np.testing.assert_array_equal(scan.read(1, 4), voxels[1:4])


@pytest.mark.parametrize(
    ("name", "packed", "alone"),
    [
        ("a.nii", False, True),
        ("a.nii.gz", True, False),
        ("a.mha", False, True),
        ("a.mha", True, False),
        ("a.nrrd", False, False),
    ],
)
def test_slices_are_read_alone_where_the_format_allows(
    tmp_path: Path, voxels: np.ndarray, name: str, packed: bool, alone: bool
) -> None:
    assert open_scan(write(voxels, tmp_path / name, packed=packed)).source.by_region is alone


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.mha", "a.nrrd"])
def test_colour_volumes_are_read_in_part(tmp_path: Path, name: str) -> None:
    colours = np.random.default_rng(0).integers(0, 255, (6, 5, 4, 3), dtype=np.uint8)
    scan = open_scan(write(colours, tmp_path / name))
    assert (scan.geometry.shape, scan.channels) == ((6, 5, 4), 3)
    np.testing.assert_array_equal(scan.read(2, 4), colours[2:4])


@pytest.mark.parametrize("name", PLACED)
def test_endings_in_capitals_are_endings(tmp_path: Path, voxels: np.ndarray, name: str) -> None:
    path = write(voxels, tmp_path / name)
    np.testing.assert_array_equal(
        open_scan(path.rename(path.with_name(name.upper()))).read(2, 4), voxels[2:4]
    )


def test_a_volume_larger_than_what_is_asked_of_it_stays_on_disk(tmp_path: Path) -> None:
    slices, side = 2000, 512
    path = write(np.zeros((1, side, side), np.int16), tmp_path / "a.nii")
    head = bytearray(path.read_bytes()[:352])
    head[40:56] = struct.pack("<8h", 3, side, side, slices, 1, 1, 1, 1)
    path.write_bytes(bytes(head))
    with path.open("r+b") as file:  # a gigabyte of holes
        file.truncate(352 + 2 * slices * side * side)
        file.seek(352 + 2 * 1990 * side * side)
        file.write(np.full(side * side, 7, np.int16).tobytes())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    scan = open_scan(path)
    assert scan.geometry.shape == (slices, side, side)
    assert scan.read(1989, 1992).reshape(3, -1).mean(axis=1).tolist() == [0, 7, 0]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int32", "float32", "float64"])
def test_the_type_of_the_file_is_kept(tmp_path: Path, dtype: str) -> None:
    values = np.arange(24).reshape(2, 3, 4).astype(dtype)
    scan = open_scan(write(values, tmp_path / "a.nrrd"))
    assert scan.dtype == dtype == scan.read().dtype
    np.testing.assert_array_equal(scan.read(), values)


def test_a_file_read_at_once_is_read_once_and_again_after_release(
    tmp_path: Path, voxels: np.ndarray
) -> None:
    path = write(voxels, tmp_path / "a.nii.gz")
    scan = open_scan(path)
    before = scan.read(0, 2).copy()
    path.unlink()
    np.testing.assert_array_equal(scan.read(0, 2), before)
    scan.release()
    with pytest.raises(ScanError, match="cannot read"):
        scan.read(0, 2)


def test_a_slope_in_the_header_is_applied(tmp_path: Path) -> None:
    path = write(np.arange(24, dtype=np.int16).reshape(2, 3, 4), tmp_path / "a.nii")
    head = bytearray(path.read_bytes())
    head[112:120] = struct.pack("<ff", 0.5, 10.0)
    path.write_bytes(bytes(head))
    scan = open_scan(path)
    assert scan.dtype.kind == "f"
    np.testing.assert_allclose(scan.read().ravel(), np.arange(24) * 0.5 + 10)


def test_a_two_dimensional_file_has_one_slice(tmp_path: Path) -> None:
    image = SimpleITK.GetImageFromArray(np.arange(12, dtype=np.int16).reshape(3, 4))
    image.SetSpacing((0.5, 0.75))
    SimpleITK.WriteImage(image, str(tmp_path / "a.nrrd"))
    scan = open_scan(tmp_path / "a.nrrd")
    assert scan.geometry.shape == (1, 3, 4)
    assert scan.geometry.spacing_mm == (1.0, 0.75, 0.5)
    np.testing.assert_array_equal(scan.read()[0], np.arange(12).reshape(3, 4))


def test_a_fourth_axis_of_one_is_no_axis(tmp_path: Path) -> None:
    values = np.arange(24, dtype=np.int16).reshape(1, 2, 3, 4)
    SimpleITK.WriteImage(
        SimpleITK.JoinSeries(SimpleITK.GetImageFromArray(values[0])), str(tmp_path / "a.nii.gz")
    )
    scan = open_scan(tmp_path / "a.nii.gz")
    assert scan.geometry.shape == (2, 3, 4)
    np.testing.assert_array_equal(scan.read(), values[0])


def test_pictures_have_no_spacing(tmp_path: Path) -> None:
    grey = np.random.default_rng(1).integers(0, 255, (5, 7), dtype=np.uint8)
    colour = np.random.default_rng(2).integers(0, 255, (5, 7, 3), dtype=np.uint8)
    deep = grey.astype(np.uint16) * 200
    made: dict[str, tuple[np.ndarray, np.ndarray]] = {
        "g.png": (grey, grey[None]),
        "d.png": (deep, deep[None]),
        "c.png": (colour, colour[None]),
        "g.tif": (grey, grey[None]),
        "c.bmp": (colour, colour[None]),
    }
    for name, (values, expected) in made.items():
        Image.fromarray(values).save(tmp_path / name, dpi=(300, 300))
        scan = open_scan(tmp_path / name)
        assert scan.geometry == Geometry(shape=(1, 5, 7)), name
        assert scan.channels == (3 if values.ndim == 3 else 1)
        assert scan.dtype == values.dtype
        np.testing.assert_array_equal(scan.read(), expected)


def test_alpha_is_left_out(tmp_path: Path) -> None:
    values = np.random.default_rng(2).integers(0, 255, (5, 7, 4), dtype=np.uint8)
    Image.fromarray(values).save(tmp_path / "a.png")
    np.testing.assert_array_equal(open_scan(tmp_path / "a.png").read()[0], values[..., :3])


def test_a_jpeg_is_nearly_what_was_saved(tmp_path: Path) -> None:
    Image.fromarray(np.full((16, 16, 3), 90, np.uint8)).save(tmp_path / "a.JPG")
    scan = open_scan(tmp_path / "a.JPG")
    assert scan.geometry.shape == (1, 16, 16)
    assert np.abs(scan.read().astype(int) - 90).max() <= 1


def test_the_pages_of_a_tiff_are_slices(tmp_path: Path) -> None:
    pages = np.random.default_rng(1).integers(0, 60000, (4, 5, 6)).astype(np.uint16)
    first, *rest = (Image.fromarray(page) for page in pages)
    first.save(tmp_path / "a.tiff", save_all=True, append_images=rest)
    scan = open_scan(tmp_path / "a.tiff")
    assert scan.geometry == Geometry(shape=(4, 5, 6))
    np.testing.assert_array_equal(scan.read(1, 3), pages[1:3])


@pytest.mark.parametrize(
    ("values", "shape", "channels"),
    [
        (np.arange(12.0).reshape(3, 4), (1, 3, 4), 1),
        (np.arange(24).reshape(2, 3, 4), (2, 3, 4), 1),
        (np.zeros((5, 4, 3), np.uint8), (1, 5, 4), 3),
        (np.zeros((2, 5, 4, 3), np.uint8), (2, 5, 4), 3),
        (np.zeros((5, 4, 3), np.int16), (5, 4, 3), 1),
        (np.ones((2, 2), bool), (1, 2, 2), 1),
    ],
)
def test_numpy_files(
    tmp_path: Path, values: np.ndarray, shape: tuple[int, int, int], channels: int
) -> None:
    np.save(tmp_path / "a.npy", values)
    scan = open_scan(tmp_path / "a.npy")
    assert (scan.geometry.shape, scan.channels) == (shape, channels)
    np.testing.assert_array_equal(scan.read().ravel(), values.ravel())


def _pickle(folder: Path) -> Path:
    np.save(folder / "a.npy", np.array([{}], dtype=object), allow_pickle=True)
    return folder / "a.npy"


def _words(folder: Path) -> Path:
    np.save(folder / "a.npy", np.array(["a", "b"]))
    return folder / "a.npy"


def _nifti_2(folder: Path) -> Path:
    (folder / "a.nii").write_bytes(struct.pack("<i", 540) + bytes(600))
    return folder / "a.nii"


def _lost_offset(folder: Path) -> Path:
    path = write(np.zeros((2, 3, 4), np.int16), folder / "a.nii")
    damaged = bytearray(path.read_bytes())
    damaged[108:112] = struct.pack("<f", float("nan"))
    path.write_bytes(damaged)
    return path


def _backwards(folder: Path) -> Path:
    np.save(folder / "a.npy", np.zeros((22, 30)))
    written = (folder / "a.npy").read_bytes()
    (folder / "a.npy").write_bytes(written.replace(b"(22, 30)", b"(-2, 30)"))
    return folder / "a.npy"


def _open_bracket(folder: Path) -> Path:
    np.save(folder / "a.npy", np.zeros((22, 30)))
    written = (folder / "a.npy").read_bytes()
    (folder / "a.npy").write_bytes(written.replace(b"(22, 30)", b"K22, 30)"))
    return folder / "a.npy"


def _text_for_array(folder: Path) -> Path:
    (folder / "a.npy").write_text("hello", encoding="utf-8")
    return folder / "a.npy"


def _no_meta(folder: Path) -> Path:
    (folder / "a.mha").write_text("hello", encoding="utf-8")
    return folder / "a.mha"


def _archive(folder: Path) -> Path:
    np.savez(folder / "a.npz", values=np.zeros((2, 2)))
    return (folder / "a.npz").rename(folder / "a.npy")


def _five_axes(folder: Path) -> Path:
    np.save(folder / "a.npy", np.zeros((2, 2, 2, 2, 2)))
    return folder / "a.npy"


def _times(folder: Path) -> Path:
    one = SimpleITK.Image([4, 3, 2], SimpleITK.sitkInt16)
    SimpleITK.WriteImage(SimpleITK.JoinSeries([one, one, one]), str(folder / "a.nii.gz"))
    return folder / "a.nii.gz"


def _field(folder: Path) -> Path:
    image = SimpleITK.Image([4, 3, 2], SimpleITK.sitkVectorFloat32, 3)
    SimpleITK.WriteImage(image, str(folder / "a.nrrd"))
    return folder / "a.nrrd"


def _pairs(folder: Path) -> Path:
    image = SimpleITK.Image([4, 3, 2], SimpleITK.sitkVectorInt16, 2)
    SimpleITK.WriteImage(image, str(folder / "a.nrrd"))
    return folder / "a.nrrd"


def _sheared(folder: Path) -> Path:
    path = write(np.zeros((2, 3, 4), np.int16), folder / "a.nii")
    header = bytearray(path.read_bytes())
    header[252:256] = struct.pack("<hh", 0, 1)  # of its two places only the rows below count
    rows = (1, 0.4, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0)
    header[280:328] = struct.pack("<12f", *(number for row in rows for number in row))
    path.write_bytes(header)
    return path


def _many(folder: Path) -> Path:
    image = SimpleITK.Image([4, 3, 2], SimpleITK.sitkVectorUInt8, 7)
    SimpleITK.WriteImage(image, str(folder / "a.nrrd"))
    return folder / "a.nrrd"


def _complex(folder: Path) -> Path:
    SimpleITK.WriteImage(
        SimpleITK.Image([4, 3, 2], SimpleITK.sitkComplexFloat32), str(folder / "a.nii")
    )
    return folder / "a.nii"


def _text(folder: Path) -> Path:
    (folder / "a.nrrd").write_text("hello", encoding="utf-8")
    return folder / "a.nrrd"


def _empty_gzip(folder: Path) -> Path:
    (folder / "a.nii.gz").write_bytes(b"hello")
    return folder / "a.nii.gz"


def _other(folder: Path) -> Path:
    (folder / "a.docx").write_text("hello", encoding="utf-8")
    return folder / "a.docx"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: folder / "none.nii", "does not exist"),
        (_other, "no kind of scan that is read; known: .nii.gz"),
        (_text, "is it damaged, or misnamed"),
        (_empty_gzip, "is it damaged, or misnamed"),
        (_pickle, "numbers only"),
        (_words, "a scan has real numbers"),
        (_nifti_2, "is NIfTI-2, which is not read; write it as NIfTI-1"),
        (_lost_offset, "its voxels begin at byte nan; is it damaged"),
        (_archive, "is an archive of arrays"),
        (_backwards, "must be positive; write it again with numpy.save"),
        (_open_bracket, "cannot read .*; write it again with numpy.save"),
        (_text_for_array, "it is no NPY file, or holds objects; write it again with numpy.save"),
        (_no_meta, "File cannot be read: .*a.mha for reading; is it damaged, or misnamed"),
        (_five_axes, r"has shape \(2, 2, 2, 2, 2\)"),
        (_times, r"has 4 axes of sizes \(4, 3, 2, 3\)"),
        (_field, r"has 3 numbers a voxel \(float32\): a field, not a scan"),
        (_pairs, r"has 2 numbers a voxel \(int16\): a field, not a scan; write one"),
        (_sheared, "has axes that are not at right angles; resample it"),
        (_many, "has 7 values a voxel"),
        (_complex, "complex numbers"),
    ],
)
def test_what_is_no_scan_is_refused(
    tmp_path: Path, make: Callable[[Path], Path], message: str
) -> None:
    with pytest.raises(ScanError, match=message):
        open_scan(make(tmp_path))


@pytest.mark.parametrize("name", PLACED)
def test_a_file_that_ends_too_early_is_refused(tmp_path: Path, name: str) -> None:
    values = np.random.default_rng(0).integers(0, 30000, (8, 32, 32)).astype(np.int16)
    path = write(values, tmp_path / name, packed=True)
    cut = tmp_path / {"a.nhdr": "a.raw.gz", "a.mhd": "a.zraw"}.get(name, name)
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    with pytest.raises(ScanError, match=r"ends too early|cannot read"):
        open_scan(path).read()


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp", "a.tif"])
def test_half_a_picture_is_refused(tmp_path: Path, name: str) -> None:
    values = np.random.default_rng(0).integers(0, 255, (32, 32), dtype=np.uint8)
    path = tmp_path / name
    Image.fromarray(values).save(path)
    open_scan(path).read()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ScanError, match=r"ends too early|is it damaged"):
        open_scan(path).read()


def test_a_name_that_is_no_text_is_refused_and_ends_no_process(tmp_path: Path) -> None:
    path = tmp_path / "case_\udce9.nii.gz"
    with pytest.raises(ScanError, match=r"case_\?\.nii\.gz: each \? stands for a byte that is no"):
        open_scan(path)
    with pytest.raises(ScanError, match="rename the file, or set a UTF-8 locale"):
        mask_to_file(np.ones((1, 2, 2), np.uint8), Geometry(shape=(1, 2, 2)), path)


def test_slices_that_are_not_there_are_refused(tmp_path: Path, voxels: np.ndarray) -> None:
    scan = open_scan(write(voxels, tmp_path / "a.nii"))
    with pytest.raises(ScanError, match="has slices 0 to 6; 4 to 9 were asked"):
        scan.read(4, 9)


def scan_of(tmp_path: Path, values: np.ndarray) -> Scan:
    np.save(tmp_path / "window.npy", values)
    return open_scan(tmp_path / "window.npy")


@settings(max_examples=40, deadline=None)
@given(
    values=st.one_of(
        *(
            hnp.arrays(dtype, hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=9))
            for dtype in (np.uint8, np.int16, np.uint16)
        )
    ),
    slab=st.sampled_from([1, 40, 1 << 20]),
)
def test_the_window_is_the_exact_quantiles(
    tmp_path_factory: pytest.TempPathFactory, values: np.ndarray, slab: int
) -> None:
    if values.shape[-1] == 3 and values.dtype == np.uint8:
        values = values[..., :1]
    scan = scan_of(tmp_path_factory.mktemp("window"), values)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(volume, "SLAB_BYTES", slab)
        found = scan.window()
    expected = np.quantile(values.astype(float), (0.005, 0.995), method="inverted_cdf")
    assert found == tuple(expected)
    assert scan.window_is_exact


def test_the_window_of_decimals_leaves_out_what_is_not_finite(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(4, 20, 20)).astype(np.float32)
    values[0, 0, :3] = (np.nan, np.inf, -np.inf)
    expected = np.quantile(
        values[np.isfinite(values)].astype(float), (0.005, 0.995), method="inverted_cdf"
    )
    assert scan_of(tmp_path, values).window() == tuple(expected)


def test_a_large_scan_of_decimals_is_thinned_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(volume, "LARGEST_SAMPLE", 1000)
    monkeypatch.setattr(volume, "SLAB_BYTES", 4000)
    values = np.random.default_rng(0).permutation(17 * 23 * 31).reshape(17, 23, 31) / 17.0
    scan = scan_of(tmp_path, values)
    assert not scan.window_is_exact
    thinned = values.ravel()[:: -(-values.size // 1000)]
    assert scan.window() == tuple(np.quantile(thinned, (0.005, 0.995), method="inverted_cdf"))


def test_a_scan_of_nothing_but_nan_has_no_window(tmp_path: Path) -> None:
    with pytest.raises(ScanError, match="no finite intensity"):
        scan_of(tmp_path, np.full((2, 2, 2), np.nan)).window()


def test_real_scans(shared_data: Path) -> None:
    folder = shared_data / "scans" / "nrrd"
    shapes: dict[str, Any] = {
        "brain1": ((25, 256, 256), (6.5, 0.78125, 0.78125)),
        "brain2": ((23, 256, 256), (6.5, 0.78125, 0.78125)),
        "breast1": ((21, 120, 45), (2.1, 0.664062, 0.664062)),
    }
    for name, (shape, spacing) in shapes.items():
        scan = open_scan(folder / f"{name}_image.nrrd")
        assert scan.geometry.shape == shape
        assert scan.geometry.spacing_mm == pytest.approx(spacing)
        low, high = scan.window()
        assert 0 <= low < high <= scan.read().max()
