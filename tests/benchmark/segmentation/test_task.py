"""One row over every case: what is kept of an answer, and of one that did not come."""

from __future__ import annotations

import json
import re
import sys

import numpy as np
import pytest

from candlemark.benchmark.segmentation import task
from candlemark.benchmark.segmentation.scan_cases import labels_in
from candlemark.errors import ScanError
from candlemark.metrics.segmentation.catalog import SEGMENTATION_METRICS
from candlemark.metrics.segmentation.measure import ClassMeasure
from candlemark.records import Verdict
from candlemark.scans.masks import read_integers

BRIGHT = "own_models:bright"


def run(config_of, works_of, **fields):
    (work,) = works_of(config_of(**fields))
    return work, task.run(work)


def own(source, **more):
    return [{"source": source, **more}]


def test_a_right_answer_is_measured_kept_and_timed(config_of, works_of):
    work, result = run(config_of, works_of, models=own(BRIGHT))
    assert [case["outcome"] for case in result.cases] == ["ok"] * 4
    first = result.cases[0]
    assert (first["case"], first["shape"], first["spacing_mm"]) == (
        "case_1",
        [4, 12, 12],
        [3.0, 1.0, 1.0],
    )
    kept = first["classes"]["1"]
    assert (kept["name"], kept["reference_voxels"], kept["lesions"]["detected"]) == (
        "lesion",
        50,
        1,
    )
    counts = ClassMeasure.from_dict(kept)
    assert (counts.true_positive, counts.false_positive, counts.false_negative) == (50, 0, 0)
    assert set(first["times_ms"]) == {"load", "preprocess", "forward", "postprocess"}
    json.dumps(result.cases, allow_nan=False)
    mask, geometry = read_integers(work.predictions / "case_1.nii.gz")
    assert geometry.spacing_mm == (3.0, 1.0, 1.0)
    assert int((mask == 1).sum()) == 50


def test_a_record_carries_scores_times_and_memory(config_of, works_of):
    _, result = run(config_of, works_of, models=own(BRIGHT))
    found = {one.name: one for one in result.measurements}
    assert found.keys() >= {*SEGMENTATION_METRICS, "case_p50_ms", "peak_memory_bytes"}
    assert (found["dice"].value, found["hd95"].value) == (1.0, 0.0)
    assert found["dice"].verdict is Verdict.TOO_FEW  # of 4 cases no interval can be told
    assert found["case_p50_ms"].value is None
    assert "5 samples, 1 more" in str(found["case_p50_ms"].reason)
    assert len(result.samples["forward_ms"]) == 4
    assert found["peak_memory_bytes"].value > 0
    assert result.environment["comparability_key"]


def test_repeats_are_counted_and_the_scored_pass_warms_up(config_of, works_of):
    performance = {"device": "cpu", "repeats": 2}
    _, result = run(config_of, works_of, models=own(BRIGHT), performance=performance)
    found = {one.name: one for one in result.measurements}
    assert len(result.samples["case_ms"]) == 8
    assert found["case_p50_ms"].value > 0


@pytest.mark.parametrize(
    ("source", "case", "told"),
    [
        ("own_models:fails_on_case_2", "case_2", ("crashed", "the second")),
        ("own_models:leaves_on_case_2", "case_2", ("crashed", "SystemExit: no licence")),
        ("own_models:no_memory", "case_3", ("out_of_memory", "")),
        ("own_models:transposed", "case_1", ("wrong_shape", r"\(12, 12, 4\)")),
        ("own_models:numbers_it_5", "case_1", ("wrong_labels", "label 5.*1 .lesion.*class_map")),
    ],
)
def test_a_case_that_fails_stays_and_says_why(config_of, works_of, source, case, told):
    _, result = run(config_of, works_of, models=own(source))
    assert len(result.cases) == 4
    failed = next(one for one in result.cases if one["case"] == case)
    assert failed["outcome"] == told[0]
    assert re.search(told[1], failed["reason"])
    assert "\n" not in failed["reason"]
    assert failed["classes"] == {"1": {"name": "lesion", "reference_voxels": 50}}
    assert (failed["times_ms"], failed["times_reason"]) == (None, "the case failed")


def test_a_failed_case_scores_the_worst_and_is_in_the_mean(config_of, works_of):
    _, result = run(config_of, works_of, models=own("own_models:fails_on_case_2"))
    found = {one.name: one for one in result.measurements}
    assert found["dice"].value == pytest.approx(3 / 4)
    diagonal = np.hypot(12.0, np.hypot(12.0, 12.0))
    assert found["hd95"].value == pytest.approx(diagonal / 4)


def test_a_class_map_gives_a_model_the_words_of_the_reference(config_of, works_of):
    _, result = run(
        config_of, works_of, models=own("own_models:numbers_it_5", class_map={"5": "lesion"})
    )
    found = {one.name: one for one in result.measurements}
    assert found["dice"].value == 1.0


def test_finished_masks_are_found_by_case_and_a_missing_one_is_a_failure(
    config_of, works_of, scans, tmp_path
):
    folder = tmp_path / "nnunet"
    folder.mkdir()
    for number in (1, 2, 4):
        content = (scans / "masks" / f"case_{number}.nii.gz").read_bytes()
        (folder / f"case_{number}.nii.gz").write_bytes(content)
    _, result = run(config_of, works_of, models=own(str(folder)))
    assert [case["outcome"] for case in result.cases] == ["ok", "ok", "missing", "ok"]
    found = {one.name: one for one in result.measurements}
    assert found["dice"].value == pytest.approx(3 / 4)
    assert found["case_p50_ms"].value is None
    assert "finished before" in str(found["case_p50_ms"].reason)
    assert result.cases[0]["times_ms"] is None


def test_a_command_reads_the_scan_and_writes_the_mask(config_of, works_of, scans, tmp_path):
    script = tmp_path / "tool.py"
    script.write_text(
        "import shutil, sys\n"
        "image, out = sys.argv[1:]\n"
        "shutil.copy(image.replace('images', 'masks'), out)\n",
        encoding="utf-8",
    )
    command = f"{sys.executable} {script} {{input}} {{output}}"
    config = config_of(models=own(command), benchmark={"max_cases": 1})
    (work,) = works_of(config)
    result = task.run(work)
    (case,) = result.cases
    assert (case["outcome"], case["reason"]) == ("ok", None)
    assert case["times_ms"]["forward"] > 0


def test_a_command_that_fails_has_crashed_and_says_its_last_line(config_of, works_of):
    command = f"{sys.executable} -c \"raise SystemExit('no licence')\" {{input}} {{output}}"
    (work,) = works_of(config_of(models=own(command), benchmark={"max_cases": 1}))
    (case,) = task.run(work).cases
    assert case["outcome"] == "crashed"
    assert re.search(r"ended with status 1: no licence", case["reason"])


def test_controls_know_nothing_of_the_reference_but_the_oracle(config_of, works_of):
    works = works_of(config_of(controls=("all_background", "all_foreground", "otsu", "oracle_box")))
    results = {work.spec.source: task.run(work) for work in works}
    dice = {
        name: next(one for one in result.measurements if one.name == "dice")
        for name, result in results.items()
    }
    assert dice["all_background"].value == 0.0
    assert dice["all_foreground"].value == pytest.approx(2 * 50 / (576 + 50))
    assert dice["otsu"].value == 1.0  # the lesion is what is bright
    assert dice["oracle_box"].value == 1.0
    assert dice["oracle_box"].verdict is Verdict.ORACLE
    assert dice["otsu"].verdict is Verdict.TOO_FEW


def test_a_model_that_is_only_timed_has_times_and_no_scores(config_of, works_of):
    models = [{"model_id": "tiny:vit", "protocol": "none"}]
    config = config_of(huggingface_models=models, benchmark={"max_cases": 1})
    (work,) = works_of(config)
    result = task.run(work)
    found = {one.name: one for one in result.measurements}
    assert found["dice"].value is None
    assert "time only" in str(found["dice"].reason)
    (case,) = result.cases
    assert (case["outcome"], case["classes"]["1"]) == (
        "ok",
        {"name": "lesion", "reference_voxels": 50},
    )
    assert case["times_ms"]["forward"] > 0


def test_memory_of_a_shared_process_is_not_quoted(config_of, works_of):
    _, first = run(config_of, works_of, models=own(BRIGHT))
    _, second = run(config_of, works_of, models=own(BRIGHT))
    del first
    (peak,) = (one for one in second.measurements if one.name == "peak_memory_bytes")
    assert peak.verdict is Verdict.CONTENDED
    assert "earlier rows" in str(peak.reason)


def test_a_full_disk_ends_the_trial_and_blames_no_model(config_of, works_of, monkeypatch):
    def full(*_):
        raise ScanError("cannot write case_1.nii.gz: no space left; is the disk full?")

    monkeypatch.setattr(task, "keep_mask", full)
    (work,) = works_of(config_of(models=own(BRIGHT)))
    with pytest.raises(ScanError, match="is the disk full"):
        task.run(work)


def test_files_that_change_while_a_run_is_on_are_noticed(config_of, works_of, write_scan, scans):
    (work,) = works_of(config_of(models=own(BRIGHT)))
    for name in ("images", "masks"):
        (scans / name / "case_2.nii.gz").touch()
    assert len(task.run(work).cases) == 4  # another time and the same content
    write_scan(scans, "case_2", seed=99)
    with pytest.raises(ScanError, match="the files of case case_2 changed while the run was on"):
        task.run(work)
    (scans / "images" / "case_2.nii.gz").unlink()
    with pytest.raises(ScanError, match=r"case_2.nii.gz of case case_2 is gone"):
        task.run(work)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_labels_are_counted_slice_by_slice(dtype):
    labels = np.zeros((3, 4, 5), dtype)
    assert labels_in(labels) == {0}
    labels[0, 1, 1], labels[2] = 7, 255
    assert labels_in(labels[:, ::2]) == {0, 255}
    assert labels_in(labels) == {0, 7, 255}


def test_real_scans_are_measured(shared_data, config_of, works_of):
    folder = shared_data / "scans" / "nrrd"
    data = {"image_dir": folder, "seg_dir": folder, "classes": None, "binary": True}
    config = config_of(data, controls=("all_foreground", "oracle_box"))
    results = [task.run(work) for work in works_of(config)]
    for result in results:
        assert [case["case"] for case in result.cases] == ["brain1", "brain2", "breast1"]
        assert [case["outcome"] for case in result.cases] == ["ok"] * 3
    voxels = [case["classes"]["1"]["reference_voxels"] for case in results[0].cases]
    assert voxels == [4137, 453, 143]
    (box,) = (one for one in results[1].measurements if one.name == "sensitivity")
    assert (box.value, box.verdict) == (1.0, Verdict.ORACLE)
