"""Predictions that were finished before: a folder of masks, as nnU-Net or a MONAI bundle leaves it.

    files = find_predictions(Path("nnunet_out"), matches)       # {"case_7": Path(...), ...}

Masks are found by exact case id, as references are. A case without one is a failure of this row
and of no other: it stays in the denominator.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from candlemark.errors import MaskError, ModelError, ScanError
from candlemark.models.segmentation.base import Case, Labels, Stopwatch
from candlemark.models.segmentation.failures import CaseError
from candlemark.models.segmentation.own_labels import own_map, whole_labels
from candlemark.scans.geometry import compare_geometry, require_overlap, resample_labels
from candlemark.scans.masks import LabelMap, apply_labels, read_integers
from candlemark.scans.pairs import Match, predictions_of
from candlemark.scans.volume import open_scan

if TYPE_CHECKING:
    from candlemark.benchmark.segmentation.scan_cases import References
    from candlemark.benchmark.segmentation.work import SegmentationWork

NNUNET_DATASET = "dataset.json"


def find_predictions(folder: Path, matches: Sequence[Match]) -> dict[str, Path]:
    """The mask of each case that has one, and exactly one.

    Raises ModelError: the folder holds no mask, two masks of one case, or none of these cases.
    """
    try:
        found = predictions_of(folder, matches)
    except ScanError as error:
        raise ModelError(str(error)) from error
    wanted = {match.case for match in matches}
    doubts = [doubt for doubt in found.doubts if doubt.case in wanted]
    if doubts:
        masks = [str(path.relative_to(folder)) for path in doubts[0].references]
        more = f" and {len(masks) - 2} more" if len(masks) > 2 else ""
        raise ModelError(
            f"{folder} has several masks of case {doubts[0].case} ({', '.join(masks[:2])}{more}); "
            "leave one of them, or name a folder with one"
        )
    files = {match.case: match.reference for match in found.matches}
    if not files:
        there = ", ".join(list(found.missing_image)[:3]) or "none"
        raise ModelError(
            f"{folder} has no mask of any case here: it has {there}, and the cases are "
            f"{', '.join(sorted(wanted)[:3])}; name the masks by the case"
        )
    return files


def nnunet_labels(folder: Path) -> dict[int, str]:
    """Name by label as nnU-Net's `dataset.json` beside its predictions says; empty without one.

    Version 2 writes {"lesion": 1}, version 1 {"1": "lesion"}. Of regions, which are lists of
    labels, nothing is taken: the numbers in the masks stand for themselves.
    """
    try:
        said = json.loads((folder / NNUNET_DATASET).read_text(encoding="utf-8"))["labels"]
        pairs = [
            (name, label) if str(name).isdigit() else (label, name) for name, label in said.items()
        ]
        return {int(label): str(name) for label, name in pairs if int(label) != 0}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


class FinishedPredictions:
    """A segmenter that has answered already."""

    def __init__(self, work: SegmentationWork) -> None:
        self.files = work.files
        self.mapping = own_map(work.spec.options.get("class_map"), work.spec.classes)
        named = None if self.mapping else named_labels(Path(work.spec.source), work.references)
        self.references = replace(work.references, labels=named or work.references.labels)
        missing = [case.id for case in work.test if case.id not in self.files]
        self._facts = {
            "model_class": "finished predictions",
            "weights": None,
            "weights_sha256": None,
            "parameters": None,
            "protocol": work.spec.protocol,
            "untrained": False,
            "masks": len(self.files),
            "missing": missing,
            "class_map": {
                str(own): label
                for own, label in (self.mapping or (named.labels if named else {})).items()
            },
        }

    @property
    def facts(self) -> Mapping[str, Any]:
        """JSON types only."""
        return self._facts

    def segment(self, case: Case, watch: Stopwatch) -> Labels:
        """The mask of the case, by its file.

        Raises CaseError: there is none, or it is not on the scan's grid.
        """
        path = self.files.get(case.id)
        if path is None:
            raise CaseError("missing", f"the folder has no mask of case {case.id}")
        with watch("load"):
            return mask_of(path, case, self.mapping, self.references)


def named_labels(folder: Path, references: References) -> LabelMap | None:
    """What the values of the masks mean by nnU-Net's names; None where they stand for themselves.

    Names of `dataset.json` are used where each of the reference's is among them: its other
    classes are background, and a value that it does not name is no class.
    """
    named = {name.casefold(): value for value, name in nnunet_labels(folder).items()}
    ours = {name.casefold(): label for label, name in references.labels.names.items()}
    if not ours or not set(ours) <= set(named):
        return None
    return LabelMap(
        labels={value: ours.get(name, 0) for name, value in named.items()},
        names={0: "another class of dataset.json", **references.labels.names},
    )


def mask_of(path: Path, case: Case, mapping: Mapping[int, int], references: References) -> Labels:
    """A mask from a file as labels on the grid of the case: uint8 (Z, Y, X).

    mapping: label by value of the file, other values are background; empty: values mean what they
        mean in the references, 255 of a mask saved as a picture included

    Raises CaseError: "crashed" where it cannot be read, "wrong_labels" where it holds no labels or
    no class, "wrong_shape" where it lies on another grid and is not to be resampled.
    """
    try:
        values, own = read_integers(path)
    except MaskError as error:
        raise CaseError("wrong_labels", str(error)) from error
    except ScanError as error:
        raise CaseError("crashed", str(error)) from error
    labels = _labels(path, values, mapping, references)
    wanted = open_scan(case.path).geometry
    different = compare_geometry(wanted, own)
    if not different:
        return labels
    if references.geometry == "resample" and wanted.placed and own.placed:
        try:
            require_overlap(own, wanted, case=case.id)
        except ScanError as error:
            raise CaseError("wrong_shape", str(error)) from error
        return resample_labels(labels, own, wanted)
    raise CaseError(
        "wrong_shape",
        f"{path.name} lies on another grid than its scan: {'; '.join(map(str, different))}; "
        "--geometry resample puts it on the scan's",
    )


def _labels(
    path: Path, values: npt.NDArray[Any], mapping: Mapping[int, int], references: References
) -> Labels:
    if mapping:
        return whole_labels(values, mapping)
    try:
        return apply_labels(values, references.labels, name=path.name)[0]
    except ScanError as error:
        raise CaseError("wrong_labels", f"{error}; or give the model a class_map") from error
