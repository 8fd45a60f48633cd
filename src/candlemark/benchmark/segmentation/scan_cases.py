"""A case as files, as a segmenter sees it, and as it is scored.

    scan = open_scan_case(case)                     # the image alone
    reference = read_reference(case, scan, references)
    keep_mask(labels, scan, folder, case.id)

The reference never enters a `Case`: it is read apart, off the clock, and put on the image's grid
only where that was asked for.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from candlemark.errors import ScanError
from candlemark.models.segmentation.base import Case, Labels
from candlemark.scans.geometry import compare_geometry, require_same_grid, resample_labels
from candlemark.scans.masks import LabelMap, mask_to_file, open_mask
from candlemark.scans.packed import refuse_damaged
from candlemark.scans.pairs import Match, content_hash, stamp
from candlemark.scans.volume import Scan, open_scan

KEPT = " ()[],+@"
"""Signs that a name of a file may have as they are, beside `_`, `.`, `-` and `~`."""

LONGEST_NAME = 200
"""Bytes of a name before its ending; disks take 255, and a half-written file has more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanCase:
    """Two files that belong together.

    sha256: of the content of both
    image_sha256: of the image's voxels; empty: nobody learns, so that no copy needs to be known
    stamp: their sizes and times when they were hashed; empty: nobody looks whether they change
    """

    id: str
    image: Path
    reference: Path
    sha256: str
    image_sha256: str = field(default="", compare=False)
    stamp: tuple[tuple[str, int, int], ...] = ()

    @property
    def match(self) -> Match:
        """As a pair of files."""
        return Match(case=self.id, image=self.image, reference=self.reference)


@dataclass(frozen=True, slots=True, kw_only=True)
class References:
    """What the values of the references mean, and what to do with one on another grid."""

    labels: LabelMap
    geometry: Literal["refuse", "resample"] = "refuse"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OpenScan:
    """An image, opened, and the case that segmenters see of it."""

    scan: Scan
    case: Case


def require_unchanged(case: ScanCase) -> None:
    """Refuse files that are not those which the trial's id was made of.

    Raises ScanError: a file is gone, or holds something else than when the run began.
    """
    if case.stamp and stamp(case.match) != case.stamp and content_hash(case.match) != case.sha256:
        raise ScanError(
            f"the files of case {case.id} changed while the run was on ({case.image}, "
            f"{case.reference}); the same command begins again with what they are now"
        )


def voxels_sha256(image: Path) -> str:
    """SHA-256 in hex of shape and voxels: the same of a copy that was packed or saved otherwise.

    Of an image of one intensity its path counts too: black slices of two scans are no copies, and
    there is nothing in them to learn by heart.

    Raises ScanError: the image cannot be read to its end.
    """
    refuse_damaged(image)
    scan = open_scan(image)
    shape = scan.geometry.shape
    found = hashlib.sha256(f"{shape} {scan.channels}".encode())
    ends: set[float] = set()
    for place in range(shape[0]):
        values = np.ascontiguousarray(scan.read(place, place + 1), np.float64)
        found.update(values.data)
        ends |= {values.min(), values.max()}
    scan.release()
    if len(ends) == 1:
        found.update(str(image.resolve()).encode())
    return found.hexdigest()


def open_scan_case(case: ScanCase) -> OpenScan:
    """Open the image; its voxels are read when they are asked for.

    Raises ScanError: it cannot be read.
    """
    scan = open_scan(case.image)
    return OpenScan(
        scan=scan,
        case=Case(
            id=case.id,
            path=case.image,
            shape=scan.geometry.shape,
            spacing_mm=scan.geometry.spacing_mm,
            channels=scan.channels,
            read=scan.read,
            window=scan.window,
        ),
    )


def read_reference(case: ScanCase, scan: OpenScan, references: References) -> Labels:
    """The reference on the image's grid: uint8 (Z, Y, X).

    Raises ScanError: it cannot be read, has values that are no class, or lies on another grid
    and is not to be resampled.
    """
    return labels_on(case.reference, scan, references, name=case.id)


def labels_on(path: Path, scan: OpenScan, references: References, *, name: str) -> Labels:
    """A mask of a file, on the scan's grid: uint8 (Z, Y, X)."""
    mask = open_mask(path, references.labels)
    own, wanted = mask.geometry, scan.scan.geometry
    if references.geometry == "refuse":
        require_same_grid(wanted, own, case=name)
    if not compare_geometry(wanted, own):
        return mask.labels
    return resample_labels(mask.labels, own, wanted)


def labels_in(labels: npt.NDArray[Any]) -> set[int]:
    """Every label that is there, counted slice by slice: to sort a volume takes its size again."""
    if labels.dtype != np.uint8:
        return set(np.unique(labels).tolist())
    counts = np.zeros(256, np.int64)
    for plane in labels:
        counts += np.bincount(plane.reshape(-1), minlength=256)
    return set(np.flatnonzero(counts).tolist())


def mask_name(case_id: str, *, picture: bool) -> str:
    """The name of a case's mask in a folder of predictions; any id gives a name of its own.

    Letters and digits of any script stay; what could be a path, or hide the file, becomes %XX.
    """
    plain = "".join(
        one if one.isalnum() or one in KEPT else quote(one, safe="", errors="surrogateescape")
        for one in case_id
    )
    plain = f"%2E{plain[1:]}" if plain.startswith(".") else plain
    if len(plain.encode()) > LONGEST_NAME:
        cut = plain.encode()[: LONGEST_NAME - 20].decode(errors="ignore")
        plain = f"{cut}%{hashlib.sha256(plain.encode()).hexdigest()[:16]}"
    return f"{plain}{'.png' if picture else '.nii.gz'}"


def keep_mask(labels: Labels, scan: OpenScan, folder: Path, case_id: str) -> Path:
    """Write an answer on its scan's grid: NIfTI, or PNG of a picture without spacing."""
    geometry = scan.scan.geometry
    picture = geometry.shape[0] == 1 and geometry.spacing_mm is None
    return mask_to_file(labels, geometry, folder / mask_name(case_id, picture=picture))


def kept_mask(folder: Path, case_id: str) -> Path | None:
    """The mask that `keep_mask` wrote; None where there is none."""
    names = (folder / mask_name(case_id, picture=picture) for picture in (False, True))
    return next((path for path in names if path.is_file()), None)
