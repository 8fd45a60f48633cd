"""A scan: its grid, its slices read as they are asked for, and the window of its intensities.

    scan = open_scan(Path("case_7.nii.gz"))
    scan.geometry.shape, scan.dtype                 # (155, 240, 240), int16
    scan.read(70, 74).shape                         # (4, 240, 240)
    scan.window()                                   # (12.0, 1830.0)

Arrays are (Z, Y, X), a picture has Z = 1; colour has a last axis of 3. Nothing is scaled: a
scan comes in the type of its file.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from candlemark.errors import ScanError
from candlemark.scans.geometry import Geometry
from candlemark.scans.reading import Source, open_source

SLAB_BYTES = 64 * 2**20
"""About how much is read at once where every voxel must be seen."""

LARGEST_SAMPLE = 2**22
"""Most intensities that are sorted for a window; more are thinned out evenly."""

POINTS = (0.005, 0.995)
"""Which share of all intensities lies at or below the window's ends."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scan:
    """An opened scan.

    dtype: of its voxels, as the file has them
    channels: 1, or 3 for pictures in colour
    """

    path: Path
    geometry: Geometry
    dtype: np.dtype[Any]
    channels: int
    source: Source = field(repr=False)
    _windows: list[tuple[float, float]] = field(default_factory=list, repr=False)

    def read(self, start: int = 0, stop: int | None = None) -> npt.NDArray[Any]:
        """Slices start..stop, (n, Y, X) or (n, Y, X, 3), in the file's own type.

        A file that cannot be read in part is read once and kept; `release` lets it go.
        """
        count = self.geometry.shape[0]
        stop = count if stop is None else stop
        if not 0 <= start <= stop <= count:
            raise ScanError(f"{self.path} has slices 0 to {count}; {start} to {stop} were asked")
        return self.source.read(start, stop)

    def release(self) -> None:
        """Forget what is kept in memory; it is read again when it is asked for."""
        self.source.release()

    @property
    def window_is_exact(self) -> bool:
        """Whether `window` saw every voxel, and not one in so many."""
        return _counted(self.dtype) or self.values <= LARGEST_SAMPLE

    @property
    def values(self) -> int:
        """Intensities in all: voxels x channels."""
        return int(np.prod(self.geometry.shape)) * self.channels

    def window(self) -> tuple[float, float]:
        """The intensities at or below which 0.5 and 99.5 percent of all lie; found once.

        Exact for integers of 16 bits or fewer, by counting; of other types at most 4,194,304
        evenly thinned values are sorted (`window_is_exact` tells). NaN and infinities do not
        count. Where both ends are one value the scan is flat.
        """
        if not self._windows:
            found = self._by_counting() if _counted(self.dtype) else self._by_sorting()
            self._windows.append(found)
        return self._windows[0]

    def _slabs(self) -> list[tuple[int, int]]:
        count, rows, columns = self.geometry.shape
        one = rows * columns * self.channels * max(1, self.dtype.itemsize)
        thick = max(1, SLAB_BYTES // one)
        return [(start, min(count, start + thick)) for start in range(0, count, thick)]

    def _by_counting(self) -> tuple[float, float]:
        lowest = 0 if self.dtype.kind == "b" else int(np.iinfo(self.dtype).min)
        counts = np.zeros(1 << 16, dtype=np.int64)
        for start, stop in self._slabs():
            flat = self.read(start, stop).reshape(-1)
            counts += np.bincount(flat.astype(np.int32) - lowest, minlength=1 << 16)
        reached = np.cumsum(counts)
        low, high = (lowest + int(np.searchsorted(reached, q * reached[-1])) for q in POINTS)
        return float(low), float(high)

    def _by_sorting(self) -> tuple[float, float]:
        thinning = max(1, -(-self.values // LARGEST_SAMPLE))
        parts, seen = [], 0
        for start, stop in self._slabs():
            flat = self.read(start, stop).reshape(-1)
            parts.append(flat[-seen % thinning :: thinning].astype(np.float64))
            seen += flat.size
        taken = np.concatenate(parts)
        taken = taken[np.isfinite(taken)]
        if not taken.size:
            raise ScanError(f"{self.path} has no finite intensity; is it damaged?")
        low, high = np.quantile(taken, POINTS, method="inverted_cdf")
        return float(low), float(high)


def open_scan(path: Path) -> Scan:
    """Open NIfTI, NRRD, MetaImage, PNG, JPEG, TIFF, BMP, NPY, DICOM or a folder of its slices.

    Raises ScanError for what cannot be read, has several times or channels, or ends too early.
    """
    source = open_source(path)
    return Scan(
        path=path,
        geometry=source.geometry,
        dtype=source.dtype,
        channels=source.channels,
        source=source,
    )


def _counted(dtype: np.dtype[Any]) -> bool:
    return dtype.kind in "bui" and dtype.itemsize <= 2
