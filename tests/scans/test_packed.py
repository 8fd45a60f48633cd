"""A wrong bit in what is packed is noticed, whichever way the file is read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from candlemark.errors import ScanError
from candlemark.scans.masks import read_integers
from candlemark.scans.packed import require_readable
from candlemark.scans.volume import open_scan


def write(values: np.ndarray, path: Path, *, packed: bool = False) -> Path:
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(values), str(path), packed)
    return path


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nrrd", "a.nhdr", "a.mha", "a.mhd"])
@pytest.mark.parametrize("place", [0.3, 0.8])
def test_one_wrong_bit_in_what_is_packed_is_noticed(
    tmp_path: Path, name: str, place: float
) -> None:
    values = np.random.default_rng(0).integers(0, 300, (8, 32, 32)).astype(np.int16)
    path = write(values, tmp_path / name, packed=True)
    require_readable(path)
    packed = tmp_path / {"a.nhdr": "a.raw.gz", "a.mhd": "a.zraw"}.get(name, name)
    damaged = bytearray(packed.read_bytes())
    damaged[int(len(damaged) * place)] ^= 4
    packed.write_bytes(damaged)
    for read in (require_readable, read_integers):
        with pytest.raises(ScanError, match=r"cannot read .*; is it damaged"):
            read(path)


def test_one_wrong_bit_of_a_packed_nifti_in_colour_is_noticed(tmp_path: Path) -> None:
    """Its voxels are read by ITK, which does not look at the checksum."""
    values = np.random.default_rng(0).integers(0, 255, (16, 128, 128, 3)).astype(np.uint8)
    path = tmp_path / "a.nii.gz"
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(values, isVector=True), str(path))
    require_readable(path)
    damaged = bytearray(path.read_bytes())
    damaged[-6] ^= 4
    path.write_bytes(damaged)
    with pytest.raises(ScanError, match=r"cannot read .*; is it damaged\? Copy it again"):
        require_readable(path)


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nrrd", "a.mha"])
def test_what_is_not_packed_or_padded_is_not_damaged(tmp_path: Path, name: str) -> None:
    values = np.random.default_rng(0).integers(0, 300, (8, 32, 32)).astype(np.int16)
    path = write(values, tmp_path / name)
    require_readable(path)
    with path.open("ab") as file:
        file.write(bytes(100))
    require_readable(path)
    np.testing.assert_array_equal(open_scan(path).read(), values)
