"""A folder of slices is one volume, or is refused with what is wrong with it."""

from __future__ import annotations

import locale
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from candlemark.errors import ScanError
from candlemark.scans.dicom import holds_dicom, is_dicom
from candlemark.scans.geometry import compare_geometry, to_itk
from candlemark.scans.volume import open_scan

VOXELS = np.random.default_rng(0).integers(-1000, 2000, (5, 6, 7)).astype(np.int16)


@pytest.fixture(autouse=True)
def locale_as_before() -> Iterator[None]:
    """ITK leaves the whole process in the locale C after writing DICOM."""
    before = locale.setlocale(locale.LC_ALL)
    yield
    locale.setlocale(locale.LC_ALL, before)


def write_series(
    folder: Path,
    *,
    places: Sequence[tuple[float, float, float]] | None = None,
    uid: str = "1.2.3",
    columns: int = 7,
    ending: str = ".dcm",
) -> Path:
    """Five slices, 2.5 mm apart and named in reverse, as archives like to name them."""
    folder.mkdir(parents=True, exist_ok=True)
    places = places or [(-3.0, 4.0, 10 + 2.5 * place) for place in range(5)]
    writer = SimpleITK.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for place, (x, y, z) in enumerate(places):
        image = SimpleITK.GetImageFromArray(VOXELS[place % 5, :, :columns])
        image.SetSpacing((0.5, 0.75))
        tags = {
            "0008|0060": "CT",
            "0020|000d": "1.2",
            "0020|000e": uid,
            "0008|0018": f"{uid}.{place + 1}",
            "0020|0032": f"{x}\\{y}\\{z}",
            "0020|0037": "1\\0\\0\\0\\1\\0",
            "0020|0013": str(place),
            "0028|1053": "1",
            "0028|1052": "0",
        }
        for tag, value in tags.items():
            image.SetMetaData(tag, value)
        writer.SetFileName(str(folder / f"{uid}_{99 - place}.dcm"))
        writer.Execute(image)
        if ending != ".dcm":
            (folder / f"{uid}_{99 - place}.dcm").rename(folder / f"{uid}_{99 - place}{ending}")
    return folder


def test_reading_leaves_the_locale_of_the_process(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "ct")
    locale.setlocale(locale.LC_ALL, "C.UTF-8")
    open_scan(folder).read()
    assert locale.setlocale(locale.LC_CTYPE) == "C.UTF-8"


@pytest.mark.parametrize("ending", [".dcm", ""])
def test_a_series_is_a_volume_read_slice_by_slice(tmp_path: Path, ending: str) -> None:
    folder = write_series(tmp_path / "ct", ending=ending)
    assert holds_dicom(folder)
    assert is_dicom(next(folder.iterdir()))
    scan = open_scan(folder)
    assert scan.geometry.shape == (5, 6, 7)
    assert scan.geometry.spacing_mm == pytest.approx((2.5, 0.75, 0.5))
    assert scan.geometry.origin == pytest.approx((-3.0, 4.0, 10.0))
    assert scan.dtype == np.int16
    np.testing.assert_array_equal(scan.read(), VOXELS)
    np.testing.assert_array_equal(scan.read(2, 4), VOXELS[2:4])
    assert scan.read(2, 2).shape == (0, 6, 7)


def test_only_the_slices_asked_for_are_opened(tmp_path: Path) -> None:
    scan = open_scan(write_series(tmp_path / "ct"))
    (tmp_path / "ct" / "1.2.3_95.dcm").unlink()  # the last slice: names are in reverse
    np.testing.assert_array_equal(scan.read(0, 4), VOXELS[:4])
    with pytest.raises(ScanError, match=r"cannot read .*1\.2\.3_95\.dcm"):
        scan.read(4, 5)


def test_a_single_slice_is_a_picture_that_knows_its_place(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "one", places=[(0.0, 0.0, 5.0)])
    scan = open_scan(folder)
    assert scan.geometry.shape == (1, 6, 7)
    alone = open_scan(folder / "1.2.3_99.dcm")
    np.testing.assert_array_equal(alone.read(), scan.read())
    assert alone.geometry.spacing_mm is not None


def test_a_rescaled_series_is_in_decimals(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "pet")
    for file in folder.iterdir():
        written = file.read_bytes()
        slope = b"\x28\x00\x53\x10\x02\x00\x00\x00"
        assert slope + b"1 " in written
        file.write_bytes(written.replace(slope + b"1 ", slope + b".5"))
    scan = open_scan(folder)
    assert scan.dtype.kind == "f"
    np.testing.assert_allclose(scan.read(), VOXELS * 0.5)


def test_a_missing_slice_is_named(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "ct")
    (folder / "1.2.3_97.dcm").unlink()
    with pytest.raises(ScanError, match=r"5 mm between 1\.2\.3_98\.dcm and 1\.2\.3_96\.dcm, 2.5"):
        open_scan(folder)


@pytest.mark.parametrize("damage", ["cut", "empty"])
@pytest.mark.parametrize("place", [0, 2, 4])
def test_a_slice_that_cannot_be_read_is_named(tmp_path: Path, place: int, damage: str) -> None:
    folder = write_series(tmp_path / "ct")
    broken = sorted(folder.iterdir())[place]
    broken.write_bytes(broken.read_bytes()[:500] if damage == "cut" else b"")
    (folder / "notes.txt").write_text("", encoding="utf-8")
    with pytest.raises(ScanError, match=rf"cannot read .*{broken.name} as DICOM; is it damaged"):
        open_scan(folder)


def test_a_slice_of_other_spacing_is_named(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "ct")
    path = sorted(folder.iterdir())[2]
    image = SimpleITK.ReadImage(str(path))
    image.SetSpacing((0.7, 0.7, 1.0))
    image.EraseMetaData("0028|0030")
    writer = SimpleITK.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    writer.SetFileName(str(path))
    writer.Execute(image)
    with pytest.raises(ScanError, match="has other rows, columns, spacing or orientation than"):
        open_scan(folder)


@pytest.mark.parametrize("whole", [True, False])
def test_dicom_without_a_spacing_has_none(tmp_path: Path, whole: bool) -> None:
    folder = write_series(tmp_path / "ct", places=[(0, 0, 0)])
    (path,) = folder.iterdir()
    written = path.read_bytes()
    at = written.index(b"\x28\x00\x30\x00")
    end = at + 8 + int.from_bytes(written[at + 4 : at + 8], "little")
    assert open_scan(folder if whole else path).geometry.spacing_mm is not None
    path.write_bytes(written[:at] + written[end:])
    assert open_scan(folder if whole else path).geometry.spacing_mm is None


def element(group: int, number: int, value: bytes) -> bytes:
    """Of a data set in implicit VR, little endian."""
    value += b" " * (len(value) % 2)
    return struct.pack("<HHI", group, number, len(value)) + value


def sequence(group: int, number: int, *items: bytes) -> bytes:
    return element(group, number, b"".join(element(0xFFFE, 0xE000, one) for one in items))


def write_enhanced_mr(path: Path, wide: float, apart: float) -> None:
    """Three frames of 6 x 7 in one file, which share what is said of their pixels."""
    kind, uid = b"1.2.840.10008.5.1.4.1.1.4.1\0", b"1.2.3\0"
    meta = b"".join(
        struct.pack("<HH2sH", 2, number, b"UI", len(value)) + value
        for number, value in ((2, kind), (3, uid), (16, b"1.2.840.10008.1.2\0"))
    )
    shared = sequence(0x20, 0x9116, element(0x20, 0x37, b"1\\0\\0\\0\\1\\0"))
    measures = element(0x18, 0x50, str(apart).encode()) + element(
        0x28, 0x30, f"{wide}\\{wide}".encode()
    )
    shared += sequence(0x28, 0x9110, measures)
    places = (f"0\\0\\{place * apart}".encode() for place in range(3))
    frames = [sequence(0x20, 0x9113, element(0x20, 0x32, place)) for place in places]
    numbers = {0x02: 1, 0x10: 6, 0x11: 7, 0x100: 16, 0x101: 16, 0x102: 15, 0x103: 1}
    head = {number: struct.pack("<H", value) for number, value in numbers.items()}
    head |= {0x04: b"MONOCHROME2", 0x08: b"3"}
    data = element(8, 0x16, kind) + element(8, 0x18, uid)
    data += b"".join(element(0x28, number, head[number]) for number in sorted(head))
    data += sequence(0x5200, 0x9229, shared) + sequence(0x5200, 0x9230, *frames)
    data += element(0x7FE0, 0x10, VOXELS[:3].tobytes())
    group = struct.pack("<HH2sHI", 2, 0, b"UL", 4, len(meta))
    path.write_bytes(bytes(128) + b"DICM" + group + meta + data)


@pytest.mark.parametrize(("wide", "apart"), [(0.5, 3.0), (1.0, 3.0), (1.0, 1.0)])
def test_frames_of_one_file_have_the_spacing_that_they_share(
    tmp_path: Path, wide: float, apart: float
) -> None:
    """Also of 1 mm, which ITK gives where nothing is said."""
    write_enhanced_mr(tmp_path / "a.dcm", wide, apart)
    scan = open_scan(tmp_path / "a.dcm")
    assert scan.geometry.spacing_mm == (apart, wide, wide)
    np.testing.assert_array_equal(scan.read(), VOXELS[:3])


def test_two_series_are_refused(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "ct")
    write_series(folder, uid="1.2.4")
    with pytest.raises(ScanError, match="holds 2 DICOM series"):
        open_scan(folder)


def test_a_tilted_stack_is_refused(tmp_path: Path) -> None:
    leaning = [(0.4 * place, 0.0, 2.5 * place) for place in range(5)]
    with pytest.raises(ScanError, match=r"shifted sideways by 0\.4 mm"):
        open_scan(write_series(tmp_path / "ct", places=leaning))


def test_slices_at_one_place_are_no_volume(tmp_path: Path) -> None:
    same = [(0.0, 0.0, 5.0)] * 3
    with pytest.raises(ScanError, match=r"at one place"):
        open_scan(write_series(tmp_path / "ct", places=same))


def test_a_series_lies_where_its_nifti_lies(tmp_path: Path) -> None:
    scan = open_scan(write_series(tmp_path / "ct"))
    values = to_itk(scan.read(), scan.geometry)
    SimpleITK.WriteImage(values, str(tmp_path / "ct.nii.gz"))
    same = SimpleITK.ReadImage(
        SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(tmp_path / "ct"))
    )
    SimpleITK.WriteImage(same, str(tmp_path / "itk.nii.gz"))
    for name in ("ct.nii.gz", "itk.nii.gz"):
        assert compare_geometry(scan.geometry, open_scan(tmp_path / name).geometry) == []
        np.testing.assert_array_equal(open_scan(tmp_path / name).read(), VOXELS)


def test_colour_is_read_from_a_file_and_from_its_folder(tmp_path: Path) -> None:
    painted = np.random.default_rng(0).integers(0, 255, (6, 7, 3), dtype=np.uint8)
    image = SimpleITK.GetImageFromArray(painted, isVector=True)
    (tmp_path / "us").mkdir()
    SimpleITK.WriteImage(image, str(tmp_path / "us" / "a.dcm"))
    for path in (tmp_path / "us", tmp_path / "us" / "a.dcm"):
        scan = open_scan(path)
        assert (scan.channels, scan.geometry.shape) == (3, (1, 6, 7))
        np.testing.assert_array_equal(scan.read()[0], painted)


def test_a_folder_without_dicom_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing here", encoding="utf-8")
    assert not holds_dicom(tmp_path)
    with pytest.raises(ScanError, match="holds no DICOM series"):
        open_scan(tmp_path)
