"""What pictures and the page show of a case: its slices, its reference, and what rows answered.

    Z, Y, X  slices, rows and columns of a scan; Z is 1 for a picture

    seen = load("case_7", trials_of(board, "case_7"))      # a CaseView, or None
    grey(seen.image[12], seen.window)                      # uint8, as it is shown

The report knows no files of scans: whoever has them hands in a `Loader`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from candlemark.errors import ScanError
from candlemark.report.segmentation.board import Board, Row

Labels: TypeAlias = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CaseView:
    """A case to be looked at.

    image: (Z, Y, X), or (Z, Y, X, 3) in colour, in any type
    window: (low, high), the intensities that are black and white
    spacing_mm: along Z, Y, X; None where the file has none
    reference: uint8 (Z, Y, X); predictions: the same by row, those that have an answer
    sides: letters of what lies to the left and at the top of a slice; None where nobody knows
    """

    case: str
    image: npt.NDArray[Any]
    window: tuple[float, float]
    spacing_mm: tuple[float, float, float] | None
    reference: Labels
    predictions: Mapping[str, Labels] = field(default_factory=dict)
    sides: tuple[str, str] | None = None

    def __post_init__(self) -> None:
        shape = self.image.shape[:3]
        for what, labels in (("reference", self.reference), *self.predictions.items()):
            if labels.shape != shape:
                raise ScanError(
                    f"case {self.case}: {what} has shape {labels.shape}, its image {shape}; "
                    "run the comparison again with --no-resume"
                )

    @property
    def pixel_aspect(self) -> float:
        """How much taller than wide a pixel is."""
        return 1.0 if self.spacing_mm is None else self.spacing_mm[1] / self.spacing_mm[2]


SIDES = "Letters: R and L the right and left of the patient, A front, P back, S head, I feet."
"""What the letters beside a slice mean."""

Loader: TypeAlias = Callable[[str, Mapping[str, str]], CaseView | None]
"""(case id, trial id by row) -> the case with what those trials answered, or None where its files
are gone."""


def trials_of(board: Board, case: str) -> dict[str, str]:
    """The trial whose answer to a case is shown, by row: that of the first seed, if it has one."""
    shown = {}
    for row in (*board.rows, *board.oracles):
        if not row.cases:
            continue
        first = row.cases[0].trial_id
        answers = [c for c in row.cases if c.case == case and c.trial_id == first and not c.failed]
        if answers:
            shown[row.name] = first
    return shown


def cases_worth_a_look(board: Board) -> list[str]:
    """All cases: the worst, best and median of each model first, then the others in their order."""
    primary = board.settings.primary.name
    told: list[str] = []
    for which in ("worst", "best", "median"):
        for row in contestants(board):
            telling = row.telling_cases(primary).get(which)
            told += [telling.case] if telling is not None else []
    return list(dict.fromkeys((*told, *board.cases)))


def contestants(board: Board) -> tuple[Row, ...]:
    """Models, oracles among them; controls are no answer that is worth a look."""
    return tuple(row for row in (*board.rows, *board.oracles) if row.is_model)


def grey(pixels: npt.NDArray[Any], window: tuple[float, float]) -> npt.NDArray[np.uint8]:
    """Intensities as 0..255 between the ends of the window; what is not a number is black."""
    low, high = window
    if pixels.ndim and pixels.shape[-1] == 3 and pixels.dtype == np.uint8:
        return pixels
    span = (high - low) or 1.0
    with np.errstate(invalid="ignore"):
        scaled = np.clip((pixels.astype(np.float32) - low) / span, 0.0, 1.0)
    shown: npt.NDArray[np.uint8] = np.rint(np.nan_to_num(scaled) * 255).astype(np.uint8)
    return shown


def telling_slice(reference: Labels, prediction: Labels) -> int:
    """Where the reference is largest; where it is empty, where the prediction is."""
    for labels in (reference, prediction):
        areas = [int(np.count_nonzero(one)) for one in labels]
        if any(areas):
            return areas.index(max(areas))
    return len(reference) // 2


def close_up(reference: Labels, prediction: Labels, *, aspect: float) -> tuple[slice, slice]:
    """Rows and columns around what one slice is about, (Y, X), as a square in space.

    aspect: how much taller than wide a pixel is
    """
    rows, columns = reference.shape
    marked = reference if reference.any() else prediction
    if not marked.any():
        return slice(0, rows), slice(0, columns)
    (top, bottom), (left, right) = (
        (int(found[0]), int(found[-1]) + 1)
        for found in (np.flatnonzero(marked.any(axis=axis)) for axis in (1, 0))
    )
    side = max(2.0 * (bottom - top) * aspect, 2.0 * (right - left), 24.0)
    return (
        _around((top + bottom) / 2, side / aspect, rows),
        _around((left + right) / 2, side, columns),
    )


def _around(middle: float, length: float, whole: int) -> slice:
    length = min(length, whole)
    start = min(max(0.0, middle - length / 2), whole - length)
    return slice(round(start), max(round(start) + 1, round(start + length)))


def edges(mask: npt.NDArray[np.bool_]) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """The outline of a mask (Y, X) along the borders of its pixels, as lines (x, y) to (x, y).

    The middle of pixel (y, x) lies at (x, y), as in matplotlib's `imshow`.
    """
    padded = np.pad(mask, 1)
    lines = []
    for y, x in np.argwhere(padded[1:, :] != padded[:-1, :]):
        lines.append(((x - 1.5, y - 0.5), (x - 0.5, y - 0.5)))
    for y, x in np.argwhere(padded[:, 1:] != padded[:, :-1]):
        lines.append(((x - 0.5, y - 1.5), (x - 0.5, y - 0.5)))
    return [((float(a), float(b)), (float(c), float(d))) for (a, b), (c, d) in lines]


def labels_in(views: Sequence[Labels]) -> tuple[int, ...]:
    """Labels above 0 that any of the masks has."""
    found: set[int] = set()
    for labels in views:
        found |= set(np.flatnonzero(np.bincount(labels.ravel(), minlength=256)).tolist())
    return tuple(sorted(found - {0}))
