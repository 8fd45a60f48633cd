"""What costs nothing to answer, so that a score can be held against it.

    build_control(spec)        # spec.source is a key of CONTROLS

    all_background   nothing is anywhere: what a rare class scores for being missed
    all_foreground   the class is everywhere
    otsu             what is brighter than the threshold that parts the histogram best
    oracle_box       the box of each part of the reference on each slice, filled: what the prompt
                     of `sam_oracle_box` is worth before any model has seen it (an ORACLE)

Where the reference has several classes, `all_foreground` and `otsu` answer with the first, the
lowest label, unless the option `label` names another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from candlemark.errors import ModelError
from candlemark.models.segmentation.base import (
    Case,
    Labels,
    OracleSegmenter,
    Segmenter,
    SegmenterSpec,
    Stopwatch,
)
from candlemark.models.segmentation.pixels import batches, grey
from candlemark.models.segmentation.prompts import parts_of

BINS = 4096
"""Of the histogram of intensities that are no small integers, over the scan's window."""


def build_control(spec: SegmenterSpec, *, batch_size: int = 16) -> Segmenter | OracleSegmenter:
    """The control of spec.source.

    Raises ModelError: no control has that name, or `label` is no class of the reference.
    """
    if spec.source not in CONTROLS:
        raise ModelError(f"'{spec.source}' is no control; known: {', '.join(CONTROLS)}")
    if not spec.classes:
        raise ModelError(f"the control {spec.source} has no class to answer with")
    label = int(spec.options.get("label", min(spec.classes)))
    if label not in spec.classes:
        raise ModelError(
            f"label {label} is no class of the reference; it has "
            f"{', '.join(f'{number} ({name})' for number, name in spec.classes.items())}"
        )
    return CONTROLS[spec.source](spec, label, batch_size)


class Everywhere:
    """One answer for every voxel; it reads nothing."""

    def __init__(self, spec: SegmenterSpec, label: int) -> None:
        self._label = label
        self.facts: Mapping[str, Any] = _facts(
            "the same label for every voxel", spec, label or None
        )

    def segment(self, case: Case, watch: Stopwatch) -> Labels:
        """uint8 (Z, Y, X)."""
        with watch("forward"):
            return np.full(case.shape, self._label, np.uint8)


class Otsu:
    """What is brighter than Otsu's threshold (IEEE Trans. SMC 9:62, 1979) of the whole volume.

    Integers of up to 16 bits are counted one by one; other types in 4096 bins over the window,
    with what lies outside counted at its ends. Colour is taken by its luma. A volume of one
    intensity has no threshold, and no foreground.
    """

    def __init__(self, spec: SegmenterSpec, label: int, batch_size: int) -> None:
        self._label = label
        self._batch_size = batch_size
        self.facts: Mapping[str, Any] = _facts("brighter than Otsu's threshold", spec, label)

    def segment(self, case: Case, watch: Stopwatch) -> Labels:
        """uint8 (Z, Y, X); the volume is read twice, a few slices at a time."""
        histogram = _Histogram(case)
        for start, stop in batches(case, self._batch_size):
            with watch("load"):
                raw = case.read(start, stop)
                histogram.open_for(grey(raw[:0]).dtype)
            with watch("preprocess"):
                histogram.add(grey(raw))
        with watch("forward"):
            threshold = otsu_threshold(histogram.counts, histogram.values)
        labels = np.zeros(case.shape, np.uint8)
        if threshold is None:
            return labels
        for start, stop in batches(case, self._batch_size):
            with watch("load"):
                raw = case.read(start, stop)
            with watch("postprocess"):
                labels[start:stop][grey(raw) > threshold] = self._label
        return labels


class OracleBox:
    """The box of each part of each class on each slice, filled; of two, the smaller is on top."""

    def __init__(self, spec: SegmenterSpec) -> None:
        self._classes = tuple(spec.classes)
        rule = "the box of each part of the reference on each slice, filled"
        self.facts: Mapping[str, Any] = {**_facts(rule, spec, None), "oracle": True}

    def segment_with(self, case: Case, reference: Labels, watch: Stopwatch) -> Labels:
        """uint8 (Z, Y, X)."""
        labels = np.zeros(case.shape, np.uint8)
        with watch("forward"):
            for index, picture in enumerate(reference):
                parts = parts_of(picture, self._classes)
                for part in sorted(parts, key=lambda one: -one.width * one.height):
                    left, top, right, bottom = (int(side) for side in part.box)
                    labels[index, top : bottom + 1, left : right + 1] = part.label
        return labels


def otsu_threshold(counts: npt.NDArray[np.int64], values: npt.NDArray[np.float64]) -> float | None:
    """The value above which is foreground; None where fewer than two values occur.

    counts: how often each of `values`, which rise, occurs

    It maximises the variance between what is above and what is not; of equal ones the lowest.
    """
    present = counts > 0
    if present.sum() < 2:
        return None
    counts, values = counts[present], values[present]
    below = np.cumsum(counts, dtype=np.float64)[:-1]
    above = counts.sum() - below
    sums = np.cumsum(counts * values)
    mean_below = sums[:-1] / below
    mean_above = (sums[-1] - sums[:-1]) / above
    between = below * above * (mean_below - mean_above) ** 2
    return float(values[int(np.argmax(between))])


class _Histogram:
    """Counts of intensities, gathered a few slices at a time."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self._lowest = 0
        self.counts: npt.NDArray[np.int64] = np.zeros(0, np.int64)
        self.values: npt.NDArray[np.float64] = np.zeros(0, np.float64)

    def add(self, slices: npt.NDArray[Any]) -> None:
        """slices: (n, Y, X), one intensity a voxel."""
        self.open_for(slices.dtype)
        if _exact(slices.dtype):
            places = slices.astype(np.int64) - self._lowest
        else:
            low, high = self.values[0], self.values[-1]
            finite = slices[np.isfinite(slices)].astype(np.float64)
            share = (finite - low) / ((high - low) or 1.0) * (BINS - 1)
            places = np.clip(np.ceil(share), 0, BINS - 1).astype(np.int64)
        self.counts += np.bincount(places.ravel(), minlength=len(self.counts))

    def open_for(self, dtype: np.dtype[Any]) -> None:
        """Once, before the first slices; reads the scan through where they are not counted."""
        if len(self.counts):
            return
        if _exact(dtype):
            kind = np.iinfo(np.uint8 if dtype.kind == "b" else dtype)
            self._lowest = int(kind.min)
            self.values = np.arange(kind.min, kind.max + 1, dtype=np.float64)
        else:
            self.values = np.linspace(*self._case.window(), BINS)
        self.counts = np.zeros(len(self.values), np.int64)


def _exact(dtype: np.dtype[Any]) -> bool:
    return dtype.kind in "bui" and dtype.itemsize <= 2


def _facts(rule: str, spec: SegmenterSpec, label: int | None) -> dict[str, Any]:
    return {
        "model_class": "control",
        "weights": None,
        "weights_sha256": None,
        "parameters": 0,
        "protocol": spec.protocol,
        "untrained": False,
        "rule": rule,
        "label": label,
    }


CONTROLS: dict[str, Callable[[SegmenterSpec, int, int], Segmenter | OracleSegmenter]] = {
    "all_background": lambda spec, _label, _batch: Everywhere(spec, 0),
    "all_foreground": lambda spec, label, _batch: Everywhere(spec, label),
    "otsu": Otsu,
    "oracle_box": lambda spec, _label, _batch: OracleBox(spec),
}
"""Each control that needs no training, by name."""
