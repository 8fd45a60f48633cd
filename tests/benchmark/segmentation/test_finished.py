"""Finished masks: nnU-Net's folders, MONAI's, masks saved as pictures, and each way of failing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK

from candlemark.benchmark.segmentation.finished import FinishedPredictions, find_predictions
from candlemark.benchmark.segmentation.scan_cases import (
    OpenScan,
    References,
    ScanCase,
    open_scan_case,
)
from candlemark.errors import ModelError
from candlemark.models.segmentation.base import Labels, SegmenterSpec, Stopwatch
from candlemark.models.segmentation.failures import CaseError
from candlemark.scans.geometry import Geometry, to_itk
from candlemark.scans.masks import label_map
from candlemark.scans.pairs import Match

SHAPE = (2, 4, 5)
MASK = np.zeros(SHAPE, np.uint8)
MASK[1, 1:3, 2:4] = 1


def write(path: Path, values: npt.NDArray[Any], **geometry: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    place = {"spacing_mm": (3.0, 1.0, 1.0), **geometry}
    grid = Geometry(shape=values.shape, **place)
    SimpleITK.WriteImage(to_itk(values, grid), str(path))
    return path


@pytest.fixture
def case(tmp_path: Path) -> ScanCase:
    image = write(tmp_path / "images" / "case_1_0000.nii.gz", np.zeros(SHAPE, np.int16))
    return ScanCase(id="case_1", image=image, reference=image, sha256="")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "predictions"


@pytest.fixture
def answer(case: ScanCase, folder: Path) -> Callable[..., Labels]:
    """The labels that the folder gives the case."""

    def asked(
        classes: dict[int, str] | None = None, *, geometry: Any = "refuse", **options: Any
    ) -> Labels:
        match = Match(case=case.id, image=case.image, reference=case.reference)
        references = References(labels=label_map(classes or {1: "lesion"}), geometry=geometry)
        spec = SegmenterSpec(
            name="mine",
            source=str(folder),
            kind="predictions",
            protocol="own",
            classes=references.labels.names,
            options=options,
        )
        work: Any = SimpleNamespace(
            spec=spec,
            files=find_predictions(folder, [match]),
            references=references,
            test=(case,),
        )
        opened: OpenScan = open_scan_case(case)
        return FinishedPredictions(work).segment(opened.case, Stopwatch(lambda: 0))

    return asked


@pytest.mark.parametrize(
    "name",
    [
        "case_1.nii.gz",
        "case_1.nrrd",
        "case_1_pred.mha",
        "case_1/case_1_seg.nii.gz",
        "case_1_0000/case_1_0000_trans.nii.gz",
    ],
)
def test_nnunet_monai_and_plain_folders_are_found(
    answer: Callable[..., Labels], folder: Path, name: str
) -> None:
    write(folder / name, MASK)
    write(folder / name.replace("case_1", "case_10"), 1 - MASK)
    for beside in ("plans.json", "postprocessing.pkl", "summary.json"):
        (folder / beside).write_text("{}", encoding="utf-8")
    assert (answer() == MASK).all()


def test_values_mean_what_they_mean_in_the_references(
    answer: Callable[..., Labels], folder: Path
) -> None:
    write(folder / "case_1.nii.gz", MASK.astype(np.int16) * 300)
    assert (answer({300: "lesion"}) == MASK).all()
    write(folder / "case_1.nii.gz", MASK * 255)
    assert (answer({2: "lesion"}) == 2 * MASK).all()
    write(folder / "case_1.nii.gz", MASK.astype(np.float32))  # as MONAI saves it
    assert (answer() == MASK).all()


@pytest.mark.parametrize(
    "labels",
    [
        {"background": 0, "liver": 1, "Lesion": 4},
        {"0": "background", "1": "liver", "4": "lesion"},
    ],
)
def test_nnunet_names_its_labels(
    answer: Callable[..., Labels], folder: Path, labels: dict[str, Any]
) -> None:
    values = MASK * 4
    values[0, 0, 0] = 1
    write(folder / "case_1.nii.gz", values)
    (folder / "dataset.json").write_text(json.dumps({"labels": labels}), encoding="utf-8")
    assert (answer({1: "lesion"}) == MASK).all()


@pytest.mark.parametrize(
    "labels",
    [{"background": 0, "whole": [1, 2], "core": [2]}, {"background": 0, "edema": 2}, None],
)
def test_where_the_names_are_not_the_references_the_numbers_stand(
    answer: Callable[..., Labels], folder: Path, labels: Any
) -> None:
    write(folder / "case_1.nii.gz", MASK)
    (folder / "dataset.json").write_text(json.dumps({"labels": labels}), encoding="utf-8")
    assert (answer({1: "core"}) == MASK).all()


def test_a_value_that_nnunet_does_not_name_is_no_class(
    answer: Callable[..., Labels], folder: Path
) -> None:
    names = {"background": 0, "lesion": 1, "liver": 2}
    write(folder / "case_1.nii.gz", MASK * 7)
    (folder / "dataset.json").write_text(json.dumps({"labels": names}), encoding="utf-8")
    with pytest.raises(CaseError, match=r"no class: 7 \(4 voxels\); classes are .*1=lesion"):
        answer({1: "lesion"})
    write(folder / "case_1.nii.gz", MASK * 255)
    (folder / "dataset.json").write_text(json.dumps({"labels": {"lesion": 1}}), encoding="utf-8")
    assert (answer({1: "lesion"}) == MASK).all()


def test_a_class_map_stands_above_all(answer: Callable[..., Labels], folder: Path) -> None:
    write(folder / "case_1.nii.gz", MASK.astype(np.int16) * 500)
    assert (answer({1: "liver", 2: "lesion"}, class_map={"500": "lesion"}) == 2 * MASK).all()


@pytest.mark.parametrize(
    ("values", "outcome", "told"),
    [
        (MASK * 7, "wrong_labels", r"values that are no class: 7 \(4 voxels\).*a class_map"),
        (MASK * 0.4, "wrong_labels", "has probabilities"),
        (MASK[:1], "wrong_shape", r"another grid than its scan: shape \(2, 4, 5\) and \(1, 4, 5\)"),
    ],
)
def test_a_mask_that_is_none_fails_its_case(
    answer: Callable[..., Labels],
    folder: Path,
    values: npt.NDArray[Any],
    outcome: str,
    told: str,
) -> None:
    write(folder / "case_1.nii.gz", values)
    with pytest.raises(CaseError, match=told) as raised:
        answer()
    assert raised.value.outcome == outcome


def test_a_mask_that_lies_elsewhere_is_refused_or_resampled(
    answer: Callable[..., Labels], folder: Path
) -> None:
    """The same array, turned about: taken as it is it would be scored as its own mirror image."""
    turned = (-1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
    mirrored = np.ascontiguousarray(MASK[:, :, ::-1])
    write(folder / "case_1.nii.gz", mirrored, origin=(4.0, 0.0, 0.0), direction=turned)
    with pytest.raises(CaseError, match=r"origin.*direction.*--geometry resample puts it on"):
        answer()
    assert (answer(geometry="resample") == MASK).all()
    write(folder / "case_1.nii.gz", mirrored, origin=(400.0, 0.0, 0.0), direction=turned)
    with pytest.raises(CaseError, match="lies beside its image, and nothing of it would be left"):
        answer(geometry="resample")


def test_a_case_without_a_mask_is_missing(case: ScanCase, folder: Path) -> None:
    write(folder / "case_2.nii.gz", MASK)
    references = References(labels=label_map({1: "lesion"}))
    spec = SegmenterSpec(
        name="mine", source=str(folder), kind="predictions", protocol="own", classes={1: "lesion"}
    )
    work: Any = SimpleNamespace(
        spec=spec,
        files={"case_2": folder / "case_2.nii.gz"},
        references=references,
        test=(case,),
    )
    finished = FinishedPredictions(work)
    assert finished.facts["missing"] == ["case_1"]
    with pytest.raises(CaseError, match="the folder has no mask of case case_1") as raised:
        finished.segment(open_scan_case(case).case, Stopwatch(lambda: 0))
    assert raised.value.outcome == "missing"


def test_folders_that_answer_for_nobody_are_refused(
    answer: Callable[..., Labels], folder: Path
) -> None:
    folder.mkdir()
    with pytest.raises(ModelError, match="holds no predicted mask"):
        answer()
    write(folder / "case_7.nii.gz", MASK)
    with pytest.raises(ModelError, match="no mask of any case here: it has case_7, and the cases"):
        answer()
    write(folder / "case_1.nii.gz", MASK)
    write(folder / "case_1_seg.nii.gz", MASK)
    with pytest.raises(ModelError, match=r"several masks of case case_1 \(case_1\.nii\.gz, case"):
        answer()
