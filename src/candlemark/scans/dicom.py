"""A folder of DICOM slices as one volume, read slice by slice.

    series = open_series(Path("patient_3/ct"))
    series.read(0, 10)                              # only those ten files are opened

ITK would read a series with a missing slice and stretch the rest; here uneven slices, sheared
stacks and folders with two series are refused, because every distance would be wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from candlemark.errors import ScanError
from candlemark.scans.geometry import TOLERANCE_VOXELS, Geometry

SPACINGS = ("0028|0030", "0018|1164", "0018|2010", "3002|0011")
"""Tags of DICOM: spacing of pixels, at the detector, as scanned from film, of a plane of beams."""

FRAMES = "0028|0008"
"""Tag of DICOM: how many slices the file holds."""

LONGEST_HEAD = 1 << 20
"""Bytes of a file within which its frames have said how far pixels lie apart."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Series:
    """A stack of slices; `read` takes (start, stop) and gives (n, Y, X) or (n, Y, X, 3)."""

    geometry: Geometry
    dtype: np.dtype[Any]
    channels: int
    files: tuple[Path, ...]
    read: Callable[[int, int], npt.NDArray[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Head:
    size: tuple[int, int]
    spacing: tuple[float, float, float]
    placed: bool
    origin: npt.NDArray[np.float64]
    turned: npt.NDArray[np.float64]
    dtype: np.dtype[Any]
    channels: int


@contextmanager
def quiet() -> Iterator[None]:
    """Without what ITK says on standard error, of one file again for each of its slices."""
    import SimpleITK

    warned = SimpleITK.ProcessObject.GetGlobalWarningDisplay()
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        SimpleITK.ProcessObject.SetGlobalWarningDisplay(warned)


def is_dicom(path: Path) -> bool:
    """Whether the file has the mark of DICOM, whatever its name."""
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def holds_dicom(folder: Path) -> bool:
    """Whether any file that lies in the folder itself is DICOM; a list of others is none."""
    files = (one for one in sorted(folder.iterdir()) if one.is_file())
    return any(is_dicom(one) for one in files if one.name.upper() != "DICOMDIR")


def open_series(folder: Path) -> Series:
    """The one series of a folder. Raises ScanError for none, several, uneven or sheared ones."""
    files = _files_of(folder)
    heads = [_head(file) for file in files]
    first = heads[0]
    for file, head in zip(files, heads, strict=True):
        if (head.size, head.channels) != (first.size, first.channels) or not (
            np.allclose(head.turned, first.turned, atol=1e-4)
            and np.allclose(head.spacing[:2], first.spacing[:2], rtol=1e-4)
        ):
            raise ScanError(
                f"{file} has other rows, columns, spacing or orientation than {files[0]}; "
                "move slices of other series (scouts, localisers) to a folder of their own"
            )
    step = _step(files, heads)
    dtype = np.result_type(*{head.dtype for head in heads})
    shape = (len(files), first.size[1], first.size[0])
    geometry = Geometry(
        shape=shape,
        spacing_mm=(step, first.spacing[1], first.spacing[0]),
        origin=(float(first.origin[0]), float(first.origin[1]), float(first.origin[2])),
        direction=tuple(float(part) for part in first.turned.ravel()),
    )
    geometry = geometry if first.placed else Geometry(shape=shape)

    def read(start: int, stop: int) -> npt.NDArray[Any]:
        slices = [_slice(file, dtype, first.channels) for file in files[start:stop]]
        shape = geometry.shape[1:] if first.channels == 1 else (*geometry.shape[1:], 3)
        return np.stack(slices) if slices else np.empty((0, *shape), dtype)

    return Series(geometry=geometry, dtype=dtype, channels=first.channels, files=files, read=read)


def _files_of(folder: Path) -> tuple[Path, ...]:
    import SimpleITK

    with quiet():
        found = SimpleITK.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
        if not found:
            raise ScanError(
                f"{folder} holds no DICOM series; give a file, or the folder the slices lie in"
            )
        if len(found) > 1:
            raise ScanError(
                f"{folder} holds {len(found)} DICOM series ({', '.join(sorted(found)[:3])}"
                f"{', ...' if len(found) > 3 else ''}); give each a folder of its own"
            )
        names = SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), found[0])
    files = tuple(map(Path, names))
    _refuse_left_out(folder, files)
    return files


def _refuse_left_out(folder: Path, files: tuple[Path, ...]) -> None:
    """Refuse a slice that GDCM leaves out because it cannot read it, the last one above all."""
    kind, taken = _storage_class(files[0]), {file.name for file in files}
    for one in sorted(folder.iterdir()):
        if one.name in taken or one.name.startswith(".") or not one.is_file():
            continue
        empty = one.suffix.lower() == ".dcm" and one.stat().st_size == 0
        if empty or (kind is not None and _storage_class(one) == kind):
            raise ScanError(f"cannot read {one} as DICOM; is it damaged? Copy it again")


def _storage_class(path: Path) -> bytes | None:
    """What kind of object the head of a DICOM file says it holds, such as a CT image."""
    with path.open("rb") as file:
        head = file.read(1024)
    at = head.find(b"\x02\x00\x02\x00UI")
    if at < 0:
        return None
    length = int.from_bytes(head[at + 6 : at + 8], "little")
    return head[at + 8 : at + 8 + length]


def says_spacing(reader: Any) -> bool:
    """Whether a DICOM header that was read says how far its pixels lie apart.

    ITK takes 1 mm where it does not, as of photographs and of screens.
    """
    told = any(reader.HasMetaDataKey(key) for key in SPACINGS)
    if told or tuple(reader.GetSpacing()[:2]) != (1.0, 1.0):
        return True
    return reader.HasMetaDataKey(FRAMES) and _frames_say_spacing(Path(reader.GetFileName()))


def _frames_say_spacing(path: Path) -> bool:
    """Whether the tag stands in what frames of one file share: ITK reads that, and lists it not."""
    with path.open("rb") as file:
        head = file.read(LONGEST_HEAD)
    return b"\x28\x00\x30\x00" in head.partition(b"\xe0\x7f\x10\x00")[0]


def _head(file: Path) -> _Head:
    import SimpleITK

    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(file))
    try:
        with quiet():
            reader.ReadImageInformation()
    except RuntimeError:
        raise ScanError(f"cannot read {file} as DICOM; is it damaged? Copy it again") from None
    size = reader.GetSize()
    if len(size) > 2 and size[2] > 1:
        raise ScanError(
            f"{file} holds {size[2]} slices by itself; give the file, not the folder it lies in"
        )
    parts = reader.GetNumberOfComponents()
    one = SimpleITK.Image([1, 1], reader.GetPixelID(), parts)
    x, y, z = (*reader.GetSpacing(), 1.0)[:3]
    return _Head(
        size=(size[0], size[1]),
        spacing=(float(x), float(y), float(z)),
        placed=says_spacing(reader),
        origin=np.array((*reader.GetOrigin(), 0.0)[:3]),
        turned=np.array(reader.GetDirection()).reshape(3, 3) if len(size) > 2 else np.eye(3),
        dtype=np.dtype(SimpleITK.GetArrayViewFromImage(one).dtype),
        channels=1 if parts < 3 else 3,
    )


def _step(files: tuple[Path, ...], heads: list[_Head]) -> float:
    """Millimetres between slices, the same everywhere, along the normal of the slices."""
    if len(files) == 1:
        return heads[0].spacing[2]
    normal = heads[0].turned[:, 2]
    places = np.array([head.origin for head in heads])
    gaps = np.diff(places @ normal)
    step = float(np.median(gaps))
    sideways = np.diff(places, axis=0) - gaps[:, None] * normal
    allowed = TOLERANCE_VOXELS * min(*heads[0].spacing[:2], abs(step) or 1.0)
    if step <= 0:
        raise ScanError(
            f"{files[0]} and {files[1]} lie {step:.3g} mm apart along the stack; slices at one "
            "place (several times, several contrasts) are no volume"
        )
    for place in np.flatnonzero(np.abs(gaps - step) > allowed):
        raise ScanError(
            f"slices of {files[0].parent} are unevenly spaced: {gaps[place]:.4g} mm between "
            f"{files[place].name} and {files[place + 1].name}, {step:.4g} mm elsewhere; "
            "is a slice missing, or there twice?"
        )
    if float(np.abs(sideways).max()) > allowed:
        raise ScanError(
            f"slices of {files[0].parent} are shifted sideways by {np.abs(sideways).max():.3g} mm "
            "each (a tilted gantry); resample the stack to a straight one first"
        )
    return step


def _slice(file: Path, dtype: np.dtype[Any], channels: int) -> npt.NDArray[Any]:
    import SimpleITK

    try:
        with quiet():
            values = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(file)))
    except RuntimeError:
        raise ScanError(f"cannot read {file}; is it damaged? Copy it again") from None
    flat = values.reshape(values.shape[-2:] if channels == 1 else (*values.shape[-3:-1], -1))
    flat = flat if channels == 1 else flat[..., :3]
    return np.asarray(flat, dtype=dtype)
