"""A comparison of segmenters from end to end: resumed, interrupted, reported, never asked twice."""

from __future__ import annotations

import csv
import io
import json
import shlex
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import candlemark
from candlemark.benchmark.segmentation.scan_cases import (
    References,
    ScanCase,
    keep_mask,
    open_scan_case,
)
from candlemark.errors import ConfigError, ScanError
from candlemark.execution.base import Failure, FailureKind, Outcome
from candlemark.launch import segmentation
from candlemark.launch.run import as_config
from candlemark.launch.segmentation import run_segmentation
from candlemark.launch.segmentation_report import loader_of, show_report, write_report
from candlemark.records import Status
from candlemark.results.store import open_results
from candlemark.scans.geometry import Geometry, to_itk
from candlemark.scans.masks import label_map
from candlemark.scans.writing import write_image

OWN_MODELS = Path(__file__).parents[1] / "benchmark" / "segmentation"
BRIGHT = [{"source": "own_models:bright"}]


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(OWN_MODELS))


class Here:
    """Runs calls in this process and counts them; stops as Ctrl-C does after so many."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.ran: list[str] = []
        self.stop_after = stop_after

    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Outcome]:
        for item in items:
            if len(self.ran) == self.stop_after:
                raise KeyboardInterrupt
            self.ran.append(item.trial.row)
            value, failure = None, None
            try:
                value = function(item)
            except candlemark.errors.CandlemarkError as error:
                failure = Failure(kind=FailureKind.REFUSED, reason=str(error))
            yield Outcome(
                item=item, value=value, failure=failure, started_at="2026-01-01", duration_s=0.0
            )


def config(**changes: Any):
    value = {
        "task": "segmentation",
        "dataset": {"phantoms": 2, "classes": {1: "lesion"}},
        "controls": ("all_background", "otsu", "oracle_box"),
        "models": BRIGHT,
        "performance": {"device": "cpu", "threads": 1},
        **changes,
    }
    return as_config(value)


def test_what_has_ended_is_not_asked_again(tmp_path):
    here = Here()
    asked = config(controls=("otsu",))
    first = run_segmentation(asked, output_dir=tmp_path, executor=here)
    assert (first.ran, len(here.ran)) == (2, 2)
    assert {record.status for record in first.records} == {Status.OK}
    again = run_segmentation(asked, output_dir=tmp_path, executor=here)
    assert (again.ran, again.suite_id) == (0, first.suite_id)
    larger = config(controls=("otsu", "all_foreground"))
    more = run_segmentation(larger, output_dir=tmp_path, executor=here)
    assert (more.ran, len(more.records)) == (1, 3)
    forced = run_segmentation(asked, output_dir=tmp_path, executor=here, resume=False)
    assert forced.ran == 2
    with open_results(tmp_path / "results", read_only=True) as store:
        (kept, *_) = store.records(first.suite_id)
        assert len(kept.cases) == 2
    (saved,) = tmp_path.glob(f"results/suite_{first.suite_id}.yaml")
    assert as_config(saved) == asked


def test_an_interrupted_run_goes_on_where_it_was(tmp_path):
    stopped = Here(stop_after=2)
    with pytest.raises(KeyboardInterrupt):
        run_segmentation(config(), output_dir=tmp_path, executor=stopped)
    rest = Here()
    finished = run_segmentation(config(), output_dir=tmp_path, executor=rest)
    assert (len(stopped.ran), len(rest.ran), len(finished.records)) == (2, 2, 4)
    assert set(stopped.ran) & set(rest.ran) == set()


def test_no_empty_folder_of_checkpoints_is_left_behind(tmp_path):
    class Learning(Here):
        """Each trial leaves a checkpoint, as a head in training does."""

        def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Outcome]:
            works = list(items)
            for work in works:
                work.checkpoint_dir.mkdir(parents=True)
            yield from super().map(function, works)

    asked = config(controls=(), dataset={"phantoms": 1})
    run_segmentation(asked, output_dir=tmp_path, executor=Learning())
    assert not (tmp_path / "checkpoints").exists()
    interrupted = tmp_path / "checkpoints" / "of_another_run"
    interrupted.mkdir(parents=True)
    run_segmentation(asked, output_dir=tmp_path, executor=Here(), resume=False)
    assert interrupted.is_dir()


def test_a_process_that_dies_is_a_row_and_the_others_go_on(tmp_path, monkeypatch):
    import os

    monkeypatch.setenv("PYTHONPATH", str(OWN_MODELS), prepend=os.pathsep)

    class OnlyItsOwn(Here):
        """A process for the one that dies; the start of another takes seconds."""

        def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Outcome]:
            for item in items:
                apart = item.spec.kind == "python"
                where = segmentation.LocalExecutor() if apart else super()
                yield from where.map(function, [item])

    models = [{"source": "own_models:kills_its_process"}]
    finished = run_segmentation(
        config(models=models, controls=("otsu",), dataset={"phantoms": 1}),
        output_dir=tmp_path,
        executor=OnlyItsOwn(),
    )
    by_row = {record.facts["row"]: record for record in finished.records}
    dead = by_row["own_models:kills_its_process"]
    assert dead.status is Status.CRASHED
    assert by_row["control: Otsu threshold"].status is Status.OK
    (board,) = write_report(finished, config(), tmp_path).boards
    row = board.row("own_models:kills_its_process")
    assert (row.failed_cases, len(row.cases)) == (1, 1)
    assert row.value("dice") == 0.0


def test_the_report_has_every_case_a_page_and_pictures(tmp_path):
    folder = tmp_path / "my scans"
    finished = run_segmentation(config(), output_dir=folder, executor=Here())
    report = write_report(finished, config(), folder)
    with report.exported.cases.open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 4 * 2
    assert report.exported.cases.name.startswith("benchmark_results_")
    (summary,) = json.loads(report.exported.summary.read_text(encoding="utf-8"))
    assert [row["row"] for row in summary["oracles"]] == ["control: oracle box as mask"]
    assert report.page is not None
    assert "phantom_000" in report.page.read_text(encoding="utf-8")
    assert [path.suffix for path in report.overlays] == [".png"]
    assert all(Path(path).exists() for path in report.overlays)
    json.dumps(report.to_dict())
    _, *typed = shlex.split(report.lines()[-1])
    assert typed[typed.index("--output-dir") + 1] == str(folder)
    assert typed[-2:] == ["--convention", "monai"]
    console = Console(file=io.StringIO(), width=200)
    show_report(report, console, cases=True)
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().count("phantom_000") == 4


def test_pictures_show_scans_as_radiologists_look_at_them(tmp_path):
    """Most NIfTI run to the patient's right and front: shown as they lie they are upside down."""
    image = np.zeros((3, 4, 6), np.int16)
    image[1, 3, 5] = 9  # the patient's left and front
    direction = (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0)
    grid = Geometry(shape=image.shape, spacing_mm=(3.0, 2.0, 1.0), direction=direction)
    for name, values in (("scan", image), ("mask", (image > 0).astype(np.uint8))):
        write_image(to_itk(values, grid), tmp_path / f"{name}.nii.gz")
    case = ScanCase(
        id="a", image=tmp_path / "scan.nii.gz", reference=tmp_path / "mask.nii.gz", sha256=""
    )
    place = tmp_path / segmentation.PREDICTIONS / "trial"
    keep_mask((image > 0).astype(np.uint8), open_scan_case(case), place, "a")
    prepared = SimpleNamespace(test=(case,), references=References(labels=label_map({1: "x"})))
    seen = loader_of(SimpleNamespace(prepared=prepared), tmp_path)("a", {"row": "trial"})
    assert seen is not None
    for shown in (seen.image, seen.reference, seen.predictions["row"]):
        assert np.argwhere(shown).tolist() == [[1, 0, 0]]
    assert seen.sides == ("R", "A")


def test_masks_are_dropped_where_they_are_not_to_be_kept(tmp_path):
    shown = {"overlays": False, "page": False}
    asked = config(controls=("otsu",), reporting={"keep_predictions": False, **shown})
    finished = run_segmentation(asked, output_dir=tmp_path, executor=Here())
    report = write_report(finished, asked, tmp_path)
    assert report.masks is None
    assert not (tmp_path / "predictions").exists()
    again = write_report(finished, config(reporting={"page": False}), tmp_path)
    assert again.overlays == ()
    assert len(again.boards[0].rows) == 2


def test_pictures_of_an_earlier_config_go_and_those_of_lost_masks_stay(tmp_path):
    def pictures(**fields: Any) -> list[str]:
        one = {"phantoms": 1, "classes": {1: "lesion"}}
        asked = config(dataset=one, controls=(), **fields)
        finished = run_segmentation(asked, output_dir=tmp_path, executor=Here())
        write_report(finished, asked, tmp_path)
        return [path.name for path in (tmp_path / "reports" / "overlays").iterdir()]

    earlier = [{**BRIGHT[0], "name": "first", "class_map": {"1": "lesion"}}]
    assert pictures(models=earlier, reporting={"page": False}) == ["segment_overlay_first.png"]
    for way in ({"overlays": False}, {"keep_predictions": False}, {}):
        found = pictures(reporting={"page": False, **way})
        first = "first" if "overlays" in way else "own_models_bright"
        assert found == [f"segment_overlay_{first}.png"]


def test_another_convention_asks_no_model_again(tmp_path):
    here = Here()
    shown = {"overlays": False, "page": False}
    asked = config(reporting=shown)
    finished = run_segmentation(asked, output_dir=tmp_path, executor=here)
    ours = write_report(finished, asked, tmp_path).boards[0]
    other = config(reporting={"convention": "nnunet", **shown})
    resumed = run_segmentation(other, output_dir=tmp_path, executor=here)
    theirs = write_report(resumed, other, tmp_path).boards[0]
    assert (resumed.ran, theirs.settings.convention) == (0, "nnunet")
    assert {row.name for row in ours.rows} == {row.name for row in theirs.rows}


@pytest.mark.parametrize(
    ("dataset", "error", "said"),
    [
        ({"image_dir": "lost", "seg_dir": "lost"}, ScanError, "lost does not exist; give a folder"),
        ({"pairs": "lost.csv"}, ScanError, "cannot read lost.csv"),
        ({"image_dir": "lost"}, ConfigError, "image_dir and seg_dir go together"),
        ({}, ConfigError, "give image_dir and seg_dir, or pairs, or phantoms"),
    ],
)
def test_wrong_scans_are_one_clear_line(tmp_path, monkeypatch, dataset, error, said):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=said):
        run_segmentation(config(dataset=dataset), output_dir=tmp_path / "out", executor=Here())


def test_a_file_is_no_folder_for_results(tmp_path):
    (tmp_path / "taken").write_text("", encoding="utf-8")
    with pytest.raises(ConfigError, match="taken is a file; --output-dir names a folder"):
        run_segmentation(config(), output_dir=tmp_path / "taken" / "below", executor=Here())


def test_a_config_without_a_task_is_known_by_its_scans(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    value = {"dataset": {"phantoms": 1}, "controls": ["all_background"], "benchmark": {}}
    assert as_config(value).task == "segmentation"
    asked = {**value, "benchmark": {"output": str(tmp_path / "mine")}}
    finished = candlemark.run(asked, executor=Here())
    assert finished.results_dir == tmp_path / "mine" / "results"


def test_a_command_has_its_time_for_each_case_and_not_for_the_row(tmp_path, monkeypatch):
    made: list[tuple[float | None, list[str]]] = []

    class Local:
        def __init__(self, *, timeout_s: float | None, share: Any) -> None:
            self.timeout_s = timeout_s

        def map(self, function: Any, items: Any) -> Iterator[Outcome]:
            made.append((self.timeout_s, [work.trial.row for work in items]))
            yield from ()

    monkeypatch.setattr(segmentation, "LocalExecutor", Local)
    commands = [{"source": "true {input} {output}"}, *BRIGHT]
    asked = config(models=commands, controls=("otsu",))
    works, _ = segmentation.planned(asked, tmp_path, device="cpu")
    assert list(segmentation.CommandsApart(60.0, lambda _: None).map(len, works)) == []
    assert made == [
        (60.0, ["control: Otsu threshold", "own_models:bright"]),
        (None, ["true {input} {output}"]),
    ]
