"""A board of made-up scans with answers of known kinds, and the loader that shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from scipy import ndimage

from candlemark.records import Measurement, RunRecord, Status
from candlemark.report.segmentation.board import Board, build_board
from candlemark.report.segmentation.views import CaseView, Loader
from candlemark.scans.phantoms import Phantom, draw_phantom


def _records() -> ModuleType:
    """`fake_segmentation.py` of the folder above; tests are no package."""
    path = Path(__file__).parents[1] / "fake_segmentation.py"
    spec = spec_from_file_location("candlemark_test_fake_segmentation_of_pictures", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def phantoms(count: int) -> list[Phantom]:
    return [draw_phantom(place, seed=0) for place in range(count)]


def two_class(made: Phantom) -> np.ndarray:
    """Its lesion, the half of larger columns as a second class."""
    labels = made.labels.copy()
    labels[:, :, labels.shape[2] // 2 :] *= 2
    return labels


def answers(reference: np.ndarray, image: np.ndarray, row: str) -> np.ndarray:
    """What each row answers: moved, thinner, a threshold, everything, or the reference's box."""
    if row == "moved":
        return np.roll(reference, (2, 3), (1, 2))
    if row == "thinner":
        kept = ndimage.binary_erosion(reference > 0, np.ones((1, 3, 3)))
        return np.where(kept, reference, 0).astype(np.uint8)
    if row == "threshold":
        return np.where(image > 430, 1, 0).astype(np.uint8)
    if row == "all foreground":
        return np.ones_like(reference)
    if row == "all background":
        return np.zeros_like(reference)
    boxed = np.zeros_like(reference)
    for label, place in enumerate(ndimage.find_objects(reference), start=1):
        if place is not None:
            boxed[place] = label
    return boxed


ROWS: Mapping[str, Mapping[str, Any]] = {
    "clinic/moved": {"protocol": "own", "description": "the clinic's own"},
    "hub/thinner": {"protocol": "linear_probe", "weights": "pretrained"},
    "hub/untrained": {"protocol": "native_head", "untrained": True, "weights": "random"},
    "threshold": {"protocol": "otsu", "role": "control"},
    "all foreground": {"protocol": "all_foreground", "role": "control"},
    "sam oracle box": {"protocol": "sam_oracle_box", "oracle": True, "jitter": 0.0},
}

_KIND = {"clinic/moved": "moved", "hub/thinner": "thinner", "hub/untrained": "threshold"}


def _answer(reference: np.ndarray, image: np.ndarray, row: str) -> np.ndarray:
    return answers(reference, image, _KIND.get(row, row))


def board_of(
    scans: Sequence[Phantom],
    *,
    classes: int = 1,
    rows: Sequence[str] = tuple(ROWS),
    fails: Mapping[str, Sequence[str]] | None = None,
    dead: Sequence[str] = (),
    **settings: Any,
) -> Board:
    """The board of these rows; `fails`: cases that crash by row; `dead`: rows that fail whole."""
    fake = _records()
    records: list[RunRecord] = []
    names = [scan.case for scan in scans]
    for row in rows:
        facts = dict(ROWS.get(row, {}))
        cases = []
        for scan in scans:
            if scan.case in (fails or {}).get(row, ()):
                cases.append(fake.failed_case(scan.case, shape=scan.labels.shape))
                continue
            reference = two_class(scan) if classes == 2 else scan.labels
            cases.append(
                fake.case_of_masks(
                    scan.case,
                    reference,
                    _answer(reference, scan.image, row),
                    classes,
                    spacing=scan.geometry.spacing_mm,
                    times={"load": 3.0, "preprocess": 4.0, "forward": 20.0, "postprocess": 5.0},
                )
            )
        status = Status.CRASHED if row in dead else Status.OK
        records.append(
            fake.record(
                row,
                () if row in dead else cases,
                planned=names,
                classes=classes,
                status=status,
                reason="the process was killed <by> the system" if row in dead else None,
                measurements=(
                    Measurement(name="peak_memory_bytes", value=3.2e8, unit="B", sample_count=1),
                ),
                **facts,
            )
        )
    return build_board(records, **settings)


def loader(scans: Sequence[Phantom], *, classes: int = 1, asked: list[str] | None = None) -> Loader:
    """Shows the phantoms; notes in `asked` each case that is loaded."""
    known = {scan.case: scan for scan in scans}

    def load(case: str, trials: Mapping[str, str]) -> CaseView | None:
        if asked is not None:
            asked.append(case)
        scan = known.get(case)
        if scan is None:
            return None
        reference = two_class(scan) if classes == 2 else scan.labels
        return CaseView(
            case=case,
            image=scan.image,
            window=(0.0, 560.0),
            spacing_mm=scan.geometry.spacing_mm,
            reference=reference,
            predictions={row: _answer(reference, scan.image, row) for row in trials},
            sides=("R", "A"),
        )

    return load
