"""The files a scan can be in, each behind one face: what it is like, and its slices.

    source = open_source(Path("case_7.nii.gz"))
    source.geometry.shape, source.dtype, source.read(10, 14).shape

An uncompressed NIfTI (in grey) or MetaImage, a DICOM folder and an NPY file are read slice by
slice; every other file must be read at once, and stays in memory in its own type until `release`.
"""

from __future__ import annotations

import re
import tokenize
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from candlemark.errors import ScanError
from candlemark.scans.dicom import is_dicom, open_series, quiet, says_spacing
from candlemark.scans.geometry import Geometry
from candlemark.scans.nifti import refuse_truncated_nifti, stored_type, voxels_of
from candlemark.scans.pictures import BROKEN, Pages, pages_of, refuse_truncated_picture

Voxels = npt.NDArray[Any]

PLACED = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".dcm")
"""Endings of files that know where their voxels lie."""

UNPLACED = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".npy")
"""Endings of files that do not: their resolution tags speak of paper, not of bodies."""

ENDINGS = PLACED + UNPLACED


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Source:
    """A file, opened but not read.

    dtype: of its voxels, after the file's own slope and intercept
    channels: 1, or 3 for colour (alpha is left out)
    read: (start, stop) -> slices (n, Y, X) or (n, Y, X, 3)
    release: forget what is kept in memory
    by_region: whether slices are read alone
    """

    geometry: Geometry
    dtype: np.dtype[Any]
    channels: int
    read: Callable[[int, int], Voxels]
    release: Callable[[], None]
    by_region: bool


def ending(path: Path) -> str | None:
    """Which of `ENDINGS` the name has, or None."""
    name = path.name.lower()
    return next((known for known in ENDINGS if name.endswith(known)), None)


def open_source(path: Path, *, indexed: bool = False) -> Source:
    """Open a file, or a folder of DICOM slices.

    indexed: of a picture with a palette take the numbers, which are a mask's labels, and not
        the colours
    Raises ScanError for what is not there, cannot be read, or is no scan.
    """
    refuse_nameless(path)
    if path.is_dir():
        return _of_series(path)
    if not path.is_file():
        raise ScanError(f"{path} does not exist")
    known = ending(path)
    if known is None and not is_dicom(path):
        raise ScanError(
            f"{path} is no kind of scan that is read; known: {', '.join(ENDINGS)}, "
            "or a folder of DICOM slices"
        )
    if known == ".npy":
        return _of_numpy(path)
    if known in {".bmp", ".jpg", ".jpeg", ".tif", ".tiff"}:
        refuse_truncated_picture(path)
    if known in {".png", ".bmp", ".tif", ".tiff"}:
        pages = pages_of(path, indexed=indexed)
        if pages is not None:
            return _of_pages(pages)
    if known in {".nii", ".nii.gz"}:
        refuse_truncated_nifti(path)
    return _of_itk(path, placed=known in PLACED or known is None)


def refuse_nameless(path: Path) -> None:
    """ScanError where the bytes of a path are no letters: ITK ends the process over one."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        shown = str(path).encode(errors="replace").decode()
        raise ScanError(
            f"{shown}: each ? stands for a byte that is no UTF-8; rename the file, or set a UTF-8 "
            "locale (LC_ALL=C.UTF-8)"
        ) from None


def _kept(load: Callable[[], Voxels]) -> tuple[Callable[[int, int], Voxels], Callable[[], None]]:
    """`read` and `release` of a file that is read at once and kept."""
    whole: list[Voxels] = []

    def read(start: int, stop: int) -> Voxels:
        if not whole:
            whole.append(load())
        return whole[0][start:stop]

    return read, whole.clear


def _of_itk(path: Path, *, placed: bool) -> Source:
    import SimpleITK

    reader = _header(path)
    size = list(reader.GetSize())
    if len(size) > 3 and any(extent > 1 for extent in size[3:]):
        raise ScanError(
            f"{path} has {len(size)} axes of sizes {tuple(size)}; a scan has two or three: "
            "write one volume (one time, one channel) to a file of its own"
        )
    parts = reader.GetNumberOfComponents()
    if parts not in {1, 2, 3, 4}:
        raise ScanError(f"{path} has {parts} values a voxel; a scan has 1, or 3 for colour")
    channels = 1 if parts < 3 else 3
    if parts > 1 and placed and ending(path) != ".dcm":
        _refuse_vectors(path, reader)
    if ending(path) in {".dcm", None}:
        placed = placed and says_spacing(reader)
    shape, dtype = _shape(size), _dtype(path, reader)
    stored = stored_type(path) if ending(path) in {".nii", ".nii.gz"} else None

    def extract(start: int, stop: int) -> Voxels:
        if stored is not None:
            return voxels_of(path, start, stop, shape=shape, dtype=dtype)
        part = _header(path)
        if len(size) >= 3:
            wanted = [size[0], size[1], stop - start] + [0] * (len(size) - 3)
            part.SetExtractIndex([0, 0, start] + [0] * (len(size) - 3))
            part.SetExtractSize(wanted)
        image = _execute(path, part)
        values: Voxels = SimpleITK.GetArrayFromImage(image)
        values = values if len(size) >= 3 else values[None]
        if parts == 1:
            return values
        return values[..., 0] if parts == 2 else values[..., :3]

    # ITK cuts colour out of a NIfTI at the wrong place, and writes past its own memory.
    streams = len(size) == 3 and _streams(path) and (parts == 1 or ending(path) != ".nii")
    read, release = (extract, lambda: None) if streams else _kept(lambda: extract(0, shape[0]))
    return Source(
        geometry=_geometry(reader, shape) if placed else Geometry(shape=shape),
        dtype=dtype,
        channels=channels,
        read=read,
        release=release,
        by_region=streams,
    )


def _header(path: Path) -> Any:
    import SimpleITK

    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    if ending(path) in {".mha", ".mhd"}:
        reader.SetImageIO("MetaImageIO")  # which knows its own files by small letters alone
    try:
        with quiet():
            reader.ReadImageInformation()
    except RuntimeError as error:
        if "orthonormal" in str(error):
            raise ScanError(
                f"{path} has axes that are not at right angles; resample it to straight ones first"
            ) from None
        raise ScanError(f"cannot read {path}: {said(error)}; is it damaged, or misnamed?") from None
    return reader


def _execute(path: Path, reader: Any) -> Any:
    try:
        with quiet():
            return reader.Execute()
    except RuntimeError as error:
        raise ScanError(
            f"cannot read {path}: {said(error)}; is it damaged? Copy it again"
        ) from None


def said(error: Exception) -> str:
    """The last sentence of an error, of ITK's without where it was raised."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith("Reason: ")] or lines
    last = (
        re.sub(r"^ITK ERROR: \w+\(0x[0-9a-f]+\): ", "", told[-1]) if told else "no reason was given"
    )
    return last.removeprefix("sitk::ERROR:").removeprefix("ITK ERROR:").strip().rstrip(".")


def _refuse_vectors(path: Path, reader: Any) -> None:
    """Two numbers a voxel, or several decimal ones, are a field of vectors and not colours."""
    parts = reader.GetNumberOfComponents()
    if parts == 2 or _dtype(path, reader).kind == "f":
        raise ScanError(
            f"{path} has {parts} numbers a voxel ({_dtype(path, reader)}): a field, not a scan; "
            "write one of them to a file of its own"
        )


def _shape(size: list[int]) -> tuple[int, int, int]:
    return (size[2] if len(size) > 2 else 1, size[1] if len(size) > 1 else 1, size[0])


def _geometry(reader: Any, shape: tuple[int, int, int]) -> Geometry:
    """Its grid; a two-dimensional file lies in the plane z = 0."""
    axes = len(reader.GetSize())
    spacing, origin = list(reader.GetSpacing()), list(reader.GetOrigin())
    turned = np.eye(3)
    kept = min(axes, 3)
    turned[:kept, :kept] = np.array(reader.GetDirection()).reshape(axes, axes)[:kept, :kept]
    x, y, z = (*spacing, 1.0, 1.0)[:3]
    ox, oy, oz = (*origin, 0.0, 0.0)[:3]
    return Geometry(
        shape=shape,
        spacing_mm=(float(z), float(y), float(x)),
        origin=(float(ox), float(oy), float(oz)),
        direction=tuple(float(part) for part in turned.ravel()),
    )


def _dtype(path: Path, reader: Any) -> np.dtype[Any]:
    import SimpleITK

    kind = SimpleITK.GetPixelIDValueAsString(reader.GetPixelID())
    if "complex" in kind:
        raise ScanError(f"{path} has complex numbers; write its magnitude to a file of its own")
    one = SimpleITK.Image([1, 1], reader.GetPixelID(), reader.GetNumberOfComponents())
    dtype: np.dtype[Any] = SimpleITK.GetArrayViewFromImage(one).dtype
    return dtype


def _streams(path: Path) -> bool:
    """Whether ITK reads slices of it alone; a compressed file is decompressed from its start."""
    known = ending(path)
    if known in {".mha", ".mhd"}:
        with path.open("rb") as file:
            head = file.read(4096)
        return b"compresseddata = true" not in head.lower()
    return known == ".nii"


def _of_series(folder: Path) -> Source:
    series = open_series(folder)
    return Source(
        geometry=series.geometry,
        dtype=series.dtype,
        channels=series.channels,
        read=series.read,
        release=lambda: None,
        by_region=True,
    )


def _of_numpy(path: Path) -> Source:
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except (*BROKEN, OverflowError, tokenize.TokenError) as error:
        # What has not its mark numpy takes for pickled, and tells how to trust it.
        why = "it is no NPY file, or holds objects" if "pickle" in str(error) else error
        raise ScanError(
            f"cannot read {path}: {why}; write it again with numpy.save, numbers only"
        ) from None
    if not isinstance(values, np.ndarray):
        raise ScanError(
            f"{path} is an archive of arrays; write one of them to a file with numpy.save"
        )
    if values.dtype.kind not in "biuf":
        raise ScanError(f"{path} has values of type {values.dtype}; a scan has real numbers")
    colour = values.ndim in {3, 4} and values.shape[-1] == 3 and values.dtype == np.uint8
    planes = values.ndim - colour
    if planes not in {2, 3} or 0 in values.shape:
        raise ScanError(
            f"{path} has shape {values.shape}; a scan is (Y, X) or (Z, Y, X), or uint8 colour "
            "with 3 as the last axis"
        )
    stack = values if planes == 3 else values[None]
    return Source(
        geometry=Geometry(shape=(stack.shape[0], stack.shape[1], stack.shape[2])),
        dtype=values.dtype,
        channels=3 if colour else 1,
        read=lambda start, stop: np.array(stack[start:stop]),
        release=lambda: None,
        by_region=True,
    )


def _of_pages(pages: Pages) -> Source:
    read, release = _kept(pages.load)
    return Source(
        geometry=Geometry(shape=pages.shape),
        dtype=pages.dtype,
        channels=pages.channels,
        read=read,
        release=release,
        by_region=False,
    )
