"""Masks: whatever numbers a file has, as uint8 labels that a declared map gives them.

    labels = label_map({1: "lesion"})
    mask = open_mask(Path("case_7_seg.png"), labels)        # 0/255 is understood: one class
    mask.labels                                             # uint8 (Z, Y, X), 0 is background

A value that the map does not know is refused, or told in `Mask.notes`; it is never wrapped,
rounded or dropped in silence.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from candlemark.errors import MaskError, ScanError
from candlemark.scans.geometry import Geometry, to_itk
from candlemark.scans.packed import refuse_damaged
from candlemark.scans.reading import PLACED, ending, open_source
from candlemark.scans.writing import write_image

WHITE = 255
"""What a mask saved as a picture has instead of 1."""

MOST_LABELS = 255

ROUNDING = 1e-4
"""How far from a whole number a label may lie: a header's slope in 32 bits misses by 1e-5."""

MOST_TOLD = 8
"""Values that a message names before it only counts them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelMap:
    """Which value of a file is which label here.

    labels: label (1 to 255) by value of the file; 0 is background
    names: name of each label
    binary: every value above 0 is label 1
    others: what to do with values that are not in `labels`: "refuse" the file, or take them as
        "background", which `Mask.notes` tells
    """

    labels: Mapping[int, int]
    names: Mapping[int, str]
    binary: bool = False
    others: Literal["refuse", "background"] = "refuse"


def label_map(
    classes: Mapping[int, str],
    *,
    binary: bool = False,
    others: Literal["refuse", "background"] = "refuse",
) -> LabelMap:
    """A map that keeps the numbers of the files, or counts from 1 where one of them exceeds 255.

    classes: name by value of the file, without background
    binary: take every value above 0 as one class, named by the one entry of `classes` if any
    """
    if binary:
        if len(classes) > 1:
            raise ScanError(
                f"--binary makes one class, and {len(classes)} are named "
                f"({', '.join(classes.values())}); leave out one of the two"
            )
        name = next(iter(classes.values()), "foreground")
        return LabelMap(labels={1: 1}, names={1: name}, binary=True, others=others)
    if not classes:
        raise ScanError("a mask needs at least one class beside background")
    wrong = [value for value in classes if value <= 0]
    if wrong:
        raise ScanError(f"label {wrong[0]} cannot be a class: 0 is background, others are above it")
    names = list(classes.values())
    for name in names:
        if not name.strip() or names.count(name) > 1:
            told = f"{names.count(name)} classes are called '{name}'" if name.strip() else "no name"
            raise ScanError(f"{told}; give each label above 0 a name of its own: {dict(classes)}")
    if len(classes) > MOST_LABELS:
        raise ScanError(f"{len(classes)} classes; at most {MOST_LABELS} can be told apart")
    kept = max(classes) <= MOST_LABELS
    labels = {
        value: value if kept else place for place, value in enumerate(sorted(classes), start=1)
    }
    return LabelMap(
        labels=labels,
        names={labels[value]: classes[value] for value in sorted(classes)},
        others=others,
    )


def discover_labels(paths: Iterable[Path]) -> LabelMap:
    """The map of every value that is found in these masks, each class named by its number.

    Where every mask has 1 or 255 alone, they are pictures of one class: label 1, "foreground".

    Raises ScanError where all are empty, and naming the file that has values below 0 or more
    than 255 of them, as a scan has and a mask has not.
    """
    found: set[int] = set()
    alone = True
    for path in paths:
        values = set(_counts(read_integers(path)[0])) - {0}
        if len(values) > MOST_LABELS or min(values, default=0) < 0:
            raise ScanError(
                f"{path} has {len(values):,} values from {min(values)} to {max(values)}, as a scan "
                "has; give the folder of masks as --seg-dir, name the classes with --classes, or "
                "take all above 0 as one with --binary"
            )
        alone = alone and len(values) <= 1 and values <= {1, WHITE}
        found |= values
    if not found:
        raise ScanError("every reference is empty: there is nothing to find, and nothing to score")
    if alone:
        return label_map({1: "foreground"})
    return label_map({value: str(value) for value in sorted(found)})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Mask:
    """A mask that was read.

    labels: uint8 (Z, Y, X), 0 is background
    notes: what was done to its values and a reader must know
    """

    path: Path
    geometry: Geometry
    labels: npt.NDArray[np.uint8]
    notes: tuple[str, ...] = ()


def open_mask(path: Path, labels: LabelMap) -> Mask:
    """Read a mask. Raises ScanError for probabilities, colours, and values that are no class."""
    values, geometry = read_integers(path)
    mapped, notes = apply_labels(values, labels, name=str(path))
    return Mask(path=path, geometry=geometry, labels=mapped, notes=notes)


def apply_labels(
    values: npt.NDArray[Any], labels: LabelMap, *, name: str
) -> tuple[npt.NDArray[np.uint8], tuple[str, ...]]:
    """Whole numbers of any type as labels, and notes of what was done; `name` is for messages."""
    counts = _counts(values)
    if labels.binary:
        if min(counts) < 0:
            raise ScanError(f"{name} has the value {min(counts)}; a label is not below 0")
        return np.asarray(values > 0, dtype=np.uint8), ()
    meant = dict(labels.labels)
    notes = []
    if set(counts) - {0} == {WHITE} and WHITE not in meant and len(set(meant.values())) == 1:
        (only,) = set(meant.values())
        meant[WHITE] = only
        notes.append(f"255 is {labels.names.get(only, only)}")
    strange = {value: count for value, count in counts.items() if value and value not in meant}
    if strange:
        shown = list(strange.items())[:MOST_TOLD]
        told = ", ".join(f"{value} ({count:,} voxels)" for value, count in shown)
        if len(strange) > len(shown):
            told += f" and {len(strange) - len(shown)} more"
        if labels.others == "refuse":
            known = ", ".join(f"{v}={labels.names.get(m, m)}" for v, m in sorted(meant.items()))
            raise ScanError(
                f"{name} has values that are no class: {told}; classes are 0=background, {known}; "
                "name them with --classes, or take all as one with --binary"
            )
        notes.append(f"values that are no class count as background: {told}")
    mapped = np.zeros(values.shape, dtype=np.uint8)
    for value in counts.keys() & meant.keys():
        mapped[values == value] = meant[value]
    return mapped, tuple(notes)


def _counts(values: npt.NDArray[Any]) -> dict[int, int]:
    """How often each whole number occurs, slice by slice, so that no copy of all is made."""
    counts: dict[int, int] = {}
    for one in values:
        lowest, highest = int(one.min()), int(one.max())
        if highest - lowest < 1 << 20 and highest < 1 << 62:
            # Widened first: 32767 - (-32768) does not fit what it came from.
            found = np.bincount(one.astype(np.int64).ravel() - lowest)
            some = {lowest + int(at): int(found[at]) for at in np.flatnonzero(found)}
        else:
            some = dict(
                zip(*(part.tolist() for part in np.unique(one, return_counts=True)), strict=True)
            )
        for value, count in some.items():
            counts[value] = counts.get(value, 0) + count
    return dict(sorted(counts.items()))


def read_integers(path: Path) -> tuple[npt.NDArray[Any], Geometry]:
    """The whole numbers of a mask (Z, Y, X) and its grid; a palette's numbers, not its colours.

    Raises ScanError for what cannot be read, MaskError for colours and decimal numbers.
    """
    source = open_source(path, indexed=True)
    refuse_damaged(path)
    values = source.read(0, source.geometry.shape[0])
    source.release()
    if source.channels == 3:
        first = values[..., 0]
        if not (np.array_equal(first, values[..., 1]) and np.array_equal(first, values[..., 2])):
            raise MaskError(
                f"{path} is in colour; a mask has one number a pixel: save it as grey levels, "
                "or as a PNG with a palette"
            )
        values = first
    if ending(path) in {".jpg", ".jpeg"} and len(smeared := set(_counts(values)) - {0}) > 1:
        raise MaskError(
            f"{path} has {len(smeared)} values from {min(smeared)} to {max(smeared)}: JPEG smears "
            "labels at their edges; save masks as PNG or TIFF"
        )
    if values.dtype.kind == "f":
        values = _whole(path, values)
    elif values.dtype.kind == "b":
        values = values.astype(np.uint8)
    return values, source.geometry


def _whole(path: Path, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Decimal numbers as int32, slice by slice, so that no second copy of decimals is made."""
    whole = np.empty(values.shape, np.int32)
    for place, one in enumerate(values):
        if not np.isfinite(one).all():
            raise MaskError(f"{path} has NaN or infinite values; a mask has whole numbers")
        nearest = np.rint(one)
        broken = np.abs(one - nearest) > ROUNDING
        if broken.any():
            shares = values.min() >= 0 and values.max() <= 1
            raise MaskError(
                f"{path} has {'probabilities' if shares else 'decimal numbers'} "
                f"({float(one[broken][0]):.4g}), and a mask has whole numbers; "
                "threshold it and save the labels"
            )
        if np.abs(nearest).max(initial=0) >= 2**31:
            raise MaskError(f"{path} has the value {np.abs(one).max():.4g}; that is no label")
        whole[place] = nearest
    return whole


def mask_to_file(labels: npt.NDArray[np.uint8], geometry: Geometry, path: Path) -> Path:
    """Write labels on a grid, complete or not at all; NIfTI, NRRD, MetaImage or PNG by its name.

    Where the grid has no spacing, a NIfTI is written with one of 1 mm: give a PNG name to a
    picture. Raises ScanError where labels and grid differ in shape, or the name has no such end.
    """
    import SimpleITK

    if labels.dtype != np.uint8:
        raise ScanError(f"labels are {labels.dtype}; uint8 is written")
    if labels.shape != geometry.shape:
        raise ScanError(f"labels have shape {labels.shape}, and their grid {geometry.shape}")
    known = ending(path)
    flat = known == ".png" and labels.shape[0] == 1
    if not flat and known not in {one for one in PLACED if one not in {".dcm", ".mhd", ".nhdr"}}:
        raise ScanError(
            f"{path.name} is no name for a mask of shape {labels.shape}; give .nii.gz, .nii, "
            ".nrrd or .mha, or .png for a single slice"
        )
    image = SimpleITK.GetImageFromArray(labels[0]) if flat else to_itk(labels, geometry)
    return write_image(image, path)
