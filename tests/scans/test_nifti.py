"""The voxels of a NIfTI are those of the file, all of them, or it is refused."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from candlemark.errors import ScanError
from candlemark.scans.volume import open_scan


def write(values: np.ndarray, path: Path) -> Path:
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(values), str(path))
    return path


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_is_no_number_is_not_made_zero(tmp_path: Path, name: str, dtype: str) -> None:
    values = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(dtype)
    values[0, 0, :3] = np.nan, np.inf, -np.inf
    scan = open_scan(write(values, tmp_path / name))
    assert scan.dtype == dtype
    np.testing.assert_array_equal(scan.read(), values)
    np.testing.assert_array_equal(scan.read(0, 1), values[:1])


@pytest.mark.parametrize("order", ["<", ">"])
def test_numbers_of_a_nifti_in_either_byte_order(tmp_path: Path, order: str) -> None:
    values = np.random.default_rng(0).integers(-500, 2000, (3, 4, 5)).astype(order + "i2")
    head = struct.pack(order + "i", 348) + bytes(36)
    head += struct.pack(order + "8h", 3, 5, 4, 3, 1, 1, 1, 1) + bytes(14)
    head += struct.pack(order + "2h", 4, 16) + bytes(2)
    head += struct.pack(order + "8f", 1, 1, 1, 1, 1, 1, 1, 1)
    head += struct.pack(order + "3f", 352, 0.5, -10)
    path = tmp_path / "a.nii"
    path.write_bytes(head.ljust(344, b"\0") + b"n+1\0" + bytes(4) + values.tobytes())
    np.testing.assert_array_equal(open_scan(path).read(), values * 0.5 - 10)


def test_a_file_whose_two_places_differ_is_read_without_noise(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    voxels = np.random.default_rng(0).integers(-500, 2000, (6, 5, 4)).astype(np.int16)
    path = write(voxels, tmp_path / "a.nii")
    head = bytearray(path.read_bytes())
    head[280:284] = struct.pack("<f", 3.0)
    path.write_bytes(head)
    np.testing.assert_array_equal(open_scan(path).read(), voxels)
    assert capfd.readouterr() == ("", "")


def test_a_row_of_voxels_is_a_scan(tmp_path: Path) -> None:
    path = write(np.arange(4, dtype=np.int16).reshape(1, 1, 4), tmp_path / "a.nii")
    head = bytearray(path.read_bytes())
    head[40:42] = struct.pack("<h", 1)
    path.write_bytes(head)
    scan = open_scan(path)
    assert scan.geometry.shape == (1, 1, 4)
    assert scan.read().ravel().tolist() == [0, 1, 2, 3]


def test_a_nifti_compressed_in_blocks_is_whole(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 300, (8, 16, 16)).astype(np.int16)
    plain = write(values, tmp_path / "a.nii").read_bytes()
    blocks = [gzip.compress(plain[at : at + 1000]) for at in range(0, len(plain), 1000)]
    path = tmp_path / "b.nii.gz"
    path.write_bytes(b"".join([*blocks, gzip.compress(b"")]))
    np.testing.assert_array_equal(open_scan(path).read(), values)
    path.write_bytes(b"".join(blocks[:-2]))
    with pytest.raises(ScanError, match="ends too early: its header promises"):
        open_scan(path)
