"""From slices to what networks eat, and from their scores back to labels.

    n  slices; Y, X  rows and columns of a scan; h, w  of a network's scores; C  its classes

    for start, stop in batches(case, 4):
        pictures = rgb(case.read(start, stop), case.window())     # uint8 (n, Y, X, 3)
        labels[start:stop] = labels_of(scores, case.shape[1:], table=table)

Every slice is covered and only a batch of them is in memory. One window of intensities holds for
the whole scan, so that a slice is as bright in its batch as it is among all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from candlemark.errors import ModelError
from candlemark.models.segmentation.base import Case, Labels
from candlemark.models.segmentation.failures import not_a_number

if TYPE_CHECKING:
    import torch

MOST_BYTES = 1 << 28
"""Of scores that are enlarged at once, float32; 150 classes of 4000 x 4000 px would be 10 GB."""


def batches(case: Case, batch_size: int) -> Iterator[tuple[int, int]]:
    """(start, stop) of consecutive slices, `batch_size` each, the last perhaps fewer."""
    depth = case.shape[0]
    for start in range(0, depth, batch_size):
        yield start, min(start + batch_size, depth)


def scaled(slices: npt.NDArray[Any], window: tuple[float, float]) -> npt.NDArray[np.float32]:
    """Intensities as shares of the window: float32 of the same shape, from 0 to 1.

    What lies outside the window is cut off; NaN becomes 0. Of a window without width, what is
    above it is 1 and the rest 0.
    """
    low, high = window
    if not high > low:
        return (slices > low).astype(np.float32)
    wide = slices.dtype.itemsize > 2  # float32 has no room for what int32 or float64 may hold
    shares: npt.NDArray[Any] = slices.astype("float64" if wide else "float32")
    shares -= low
    shares *= 1.0 / (high - low)
    np.clip(shares, 0.0, 1.0, out=shares)
    if np.issubdtype(slices.dtype, np.floating):
        np.nan_to_num(shares, copy=False, nan=0.0)
    return shares.astype(np.float32, copy=False)


def rgb(slices: npt.NDArray[Any], window: tuple[float, float]) -> npt.NDArray[np.uint8]:
    """Pictures as vision models take them: uint8 (n, Y, X, 3).

    slices: (n, Y, X), grey, repeated in three channels; or (n, Y, X, 3)

    Eight-bit colour is a picture already and stays as it is; all else goes by the window.
    """
    if slices.ndim == 4 and slices.dtype == np.uint8:
        # Of a file that is mapped into memory nobody may write to, which torch warns of.
        return np.require(slices, requirements=["C", "W"])
    pictures = np.rint(scaled(slices, window) * np.float32(255.0)).astype(np.uint8)
    return pictures if pictures.ndim == 4 else np.repeat(pictures[..., None], 3, axis=-1)


def grey(slices: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """One intensity a voxel, (n, Y, X): colour by its luma (ITU-R BT.601), grey as it is."""
    if slices.ndim == 3:
        return slices
    weights = np.array((0.299, 0.587, 0.114), np.float32)
    return (slices.astype(np.float32) @ weights).astype(np.float32)


def labels_of(
    scores: torch.Tensor,
    size: tuple[int, int],
    *,
    table: npt.NDArray[np.uint8] | None = None,
) -> Labels:
    """The class of each pixel: uint8 (n, Y, X).

    scores: (n, C, h, w), any float type, on any device; the higher wins, on a tie the lower class
    size: (Y, X); scores of another size are enlarged bilinearly before one wins, because
        enlarging labels would make steps
    table: uint8 (C,), the label of each class of the network (`class_table`); None: its number

    Raises ModelError: more than 256 classes and no table. CaseError: a score is NaN.
    """
    import torch

    count, classes = scores.shape[:2]
    if table is None and classes > 256:
        raise ModelError(
            f"the network has {classes} classes, and labels go to 255; give it a class map"
        )
    labels = np.empty((count, *size), np.uint8)
    step = max(1, MOST_BYTES // (4 * size[0] * size[1] * max(classes, 1)))
    with torch.inference_mode():
        for start in range(0, count, step):
            won = _winners(scores[start : start + step], size)
            if table is not None:
                won = torch.from_numpy(table).to(won.device)[won]
            labels[start : start + step] = won.to(torch.uint8).cpu().numpy()
    return labels


def _winners(scores: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """(n, C, h, w) -> int64 (n, Y, X): the class that scores highest, some classes at a time."""
    import torch
    from torch.nn.functional import interpolate

    step = max(1, MOST_BYTES // (4 * size[0] * size[1] * len(scores)))
    best: torch.Tensor | None = None
    won: torch.Tensor | None = None
    for first in range(0, scores.shape[1], step):
        part = scores[:, first : first + step].float()
        if tuple(part.shape[-2:]) != tuple(size):
            part = interpolate(part, size=size, mode="bilinear", align_corners=False)
        high, place = part.max(dim=1)
        if bool(high.isnan().any()):
            raise not_a_number()
        if best is None or won is None:
            best, won = high, place
            continue
        won = torch.where(high > best, place + first, won)
        best = torch.maximum(best, high)
    if won is None:
        raise ModelError("the network gives no class a score")
    return won


def class_table(mapping: Mapping[int, int], classes: int) -> npt.NDArray[np.uint8]:
    """The label of each of a network's classes: uint8 (classes,); what is not mapped is 0.

    mapping: label of the reference by the network's class

    Raises ModelError: a class the network does not have, or a label that is no uint8.
    """
    table = np.zeros(classes, np.uint8)
    for own, label in mapping.items():
        if not 0 <= own < classes:
            raise ModelError(
                f"the class map names class {own}; the network has classes 0 to {classes - 1}"
            )
        if not 0 <= label <= 255:
            raise ModelError(f"the class map gives label {label}; labels are 0 to 255")
        table[own] = label
    return table


def mapped(values: npt.NDArray[Any], mapping: Mapping[int, int]) -> Labels:
    """Labels of a file or a function, by the reference's numbers; what is not mapped is 0.

    values: any integers
    mapping: label of the reference by the value found
    """
    if values.dtype == np.uint8:
        table = class_table({own: to for own, to in mapping.items() if 0 <= own <= 255}, 256)
        return np.asarray(table[values])
    labels = np.zeros(values.shape, np.uint8)
    for own, label in mapping.items():
        labels[values == own] = label
    return labels
