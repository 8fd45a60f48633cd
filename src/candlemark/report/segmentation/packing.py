"""Slices and masks as small as a page can carry them, and as a browser can unpack them.

    packed = pack(board, load)
    packed.cases[0]["images"][12]                 # a JPEG, in base64
    packed.left_out                               # cases that no longer fitted

An image is a JPEG a slice, no side longer than 320 pixels: a page is for looking, measures come
from the whole scan. A mask is a list of runs a slice, three bytes each (label, and how many
pixels, low byte first), the last run of background left out.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from candlemark import progress
from candlemark.report.segmentation.board import Board
from candlemark.report.segmentation.overlays import class_colours, line_colours, score_of
from candlemark.report.segmentation.views import (
    CaseView,
    Labels,
    Loader,
    cases_worth_a_look,
    contestants,
    grey,
    trials_of,
)

LONGEST_SIDE = 320
MOST_SLICES = 80
JPEG_QUALITY = 80
PAGE_BYTES = 16 * 2**20
"""Of all slices and masks together, as base64."""

MASK_BYTES = 2**19
"""Of one mask; a more ragged one (a threshold on noise) is left out, and the page says so."""

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """What the viewer of a page reads; all JSON types.

    rows: models first, then oracles, then controls
    classes: name, colour of the reference and of the prediction, by label
    cases: see `_case`; left_out: ids of cases whose slices are not on the page
    gone: ids of cases whose files were not there any more
    """

    rows: tuple[str, ...]
    classes: Mapping[str, Mapping[str, str]]
    cases: tuple[Mapping[str, Any], ...]
    left_out: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """What stands in the page."""
        return {"rows": list(self.rows), "classes": self.classes, "cases": list(self.cases)}


def pack(board: Board, load: Loader, *, budget_bytes: int = PAGE_BYTES) -> Packed:
    """The cases worth a look, those first that tell most, until the budget is spent.

    The first case always goes in. Each case is loaded once.
    """
    packed: list[Mapping[str, Any]] = []
    gone: list[str] = []
    wanted = cases_worth_a_look(board)
    spent, full = 0, False
    with progress.track("page", total=len(wanted), unit="cases") as bar:
        for case in wanted:
            if not full:
                seen = load(case, trials_of(board, case))
                if seen is None:
                    gone.append(case)
                else:
                    one = _case(board, seen)
                    size = _bytes(one)
                    full = bool(packed) and spent + size > budget_bytes
                    if not full:
                        packed.append(one)
                        spent += size
            bar.advance()
    shown = {one["id"] for one in packed}
    return Packed(
        rows=_rows(board),
        classes=_classes(board),
        cases=tuple(packed),
        left_out=tuple(case for case in wanted if case not in shown and case not in gone),
        gone=tuple(gone),
    )


def _rows(board: Board) -> tuple[str, ...]:
    models = [row.name for row in contestants(board)]
    scored = [row.name for row in (*board.rows, *board.oracles)]
    return tuple(dict.fromkeys((*models, *scored)))


def _classes(board: Board) -> dict[str, dict[str, str]]:
    fills = class_colours(board.class_names)
    lines = line_colours(fills)
    return {
        label: {"name": name, "fill": fills[int(label)], "line": lines[int(label)]}
        for label, name in board.class_names.items()
    }


def _case(board: Board, seen: CaseView) -> dict[str, Any]:
    """One case.

    size: [rows, columns] of what is shown; shrunk: by how much each side is smaller than the scan
    aspect: how much taller than wide a pixel is; slices: which are shown, from 1; of: how many
    start: the place in `slices` where the reference is largest
    sides: letters to the left and at the top, or null
    images: JPEG by slice; reference: runs by slice; masks: the same by row, or null where the
        mask is too ragged; told: what stands below the picture, by row
    """
    depth, height, width = seen.reference.shape
    step = -(-depth // MOST_SLICES)
    shrunk = -(-max(height, width) // LONGEST_SIDE)
    kept = list(range(0, depth, step))
    reference = _runs(seen.reference[::step], shrunk)
    areas = [int(np.count_nonzero(seen.reference[place])) for place in kept]
    return {
        "id": seen.case,
        "size": [-(-height // shrunk), -(-width // shrunk)],
        "shrunk": shrunk,
        "aspect": round(seen.pixel_aspect, 4),
        "slices": [place + 1 for place in kept],
        "of": depth,
        "start": areas.index(max(areas)) if any(areas) else len(kept) // 2,
        "sides": None if seen.sides is None else list(seen.sides),
        "images": [_jpeg(shrink(grey(seen.image[place], seen.window), shrunk)) for place in kept],
        "reference": reference,
        "masks": {
            row: runs
            if sum(map(len, runs := _runs(labels[::step], shrunk))) <= MASK_BYTES
            else None
            for row, labels in seen.predictions.items()
        },
        "told": _told(board, seen.case),
    }


def _told(board: Board, case: str) -> dict[str, str]:
    """Scores of the case, or how it failed, by row."""
    metrics = [name for name in ("dice", "hd95", "nsd") if name in board.settings.metrics]
    shown = tuple(dict.fromkeys((board.settings.primary.name, *metrics)))
    told = {}
    for row in (*board.rows, *board.oracles):
        first = row.cases[0].trial_id if row.cases else None
        for one in row.cases:
            if one.case != case or one.trial_id != first:
                continue
            text = ", ".join(score_of(board, one, metric) for metric in shown)
            reason = f": {one.reason}" if one.reason else ""
            ended = f"{one.outcome.replace('_', ' ')}{reason}; scored as the worst ({text})"
            told[row.name] = ended if one.failed else text
    return told


def shrink(pixels: Pixels, by: int) -> Pixels:
    """The mean of each `by` x `by` block; the last ones may be smaller."""
    if by == 1:
        return pixels
    rows, columns = (range(0, side, by) for side in pixels.shape[:2])
    sums = np.add.reduceat(np.add.reduceat(pixels.astype(np.float64), rows, 0), columns, 1)
    heights, widths = (
        np.diff([*starts, side])
        for starts, side in zip((rows, columns), pixels.shape[:2], strict=True)
    )
    counts = np.outer(heights, widths)
    means = sums / (counts if pixels.ndim == 2 else counts[..., None])
    smaller: Pixels = np.rint(means).astype(np.uint8)
    return smaller


def _jpeg(pixels: Pixels) -> str:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="JPEG", quality=JPEG_QUALITY, optimize=True)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def _runs(labels: Labels, shrunk: int) -> list[str]:
    """Each slice as runs in base64, "" where it is empty."""
    return [
        runs_of(one[shrunk // 2 :: shrunk, shrunk // 2 :: shrunk], one, shrunk) for one in labels
    ]


def runs_of(middles: Labels, whole: Labels, shrunk: int) -> str:
    """A slice as runs; a block at the edge whose middle is missing takes its first pixel."""
    rows, columns = (-(-side // shrunk) for side in whole.shape)
    full = np.array(whole[::shrunk, ::shrunk])
    full[: middles.shape[0], : middles.shape[1]] = middles
    flat = full.reshape(rows * columns)
    if not flat.any():
        return ""
    starts = np.flatnonzero(np.diff(flat, prepend=flat[:1] ^ 1))
    lengths = np.diff([*starts, flat.size])
    values = flat[starts]
    if values[-1] == 0:
        values, lengths = values[:-1], lengths[:-1]
    pieces = -(-lengths // 65535)
    runs = np.zeros(int(pieces.sum()), dtype=[("label", "u1"), ("length", "<u2")])
    runs["label"] = np.repeat(values, pieces)
    runs["length"] = 65535
    runs["length"][np.cumsum(pieces) - 1] = lengths - (pieces - 1) * 65535
    return base64.b64encode(runs.tobytes()).decode("ascii")


def _bytes(case: Mapping[str, Any]) -> int:
    masks = [case["reference"], *(runs for runs in case["masks"].values() if runs is not None)]
    return sum(map(len, case["images"])) + sum(len(one) for runs in masks for one in runs)
