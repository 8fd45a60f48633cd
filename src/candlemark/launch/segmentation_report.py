"""What a finished comparison of segmenters is shown as: tables, files, pictures and a page.

    report = write_report(finished, config, Path("benchmarks"))
    show_report(report)
    report.lines()                # where the files are, and what to type next

All of it comes from one board. Pictures need the masks of the run; where they are gone, that is
said and everything else stands.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from candlemark import progress
from candlemark.benchmark.segmentation.config import SegmentationConfig
from candlemark.benchmark.segmentation.scan_cases import (
    kept_mask,
    open_scan_case,
    read_reference,
)
from candlemark.errors import ScanError
from candlemark.launch.segmentation import (
    PREDICTIONS,
    FinishedSegmentation,
    drop_masks,
    missing_masks,
)
from candlemark.report.segmentation.board import Board, build_boards
from candlemark.report.segmentation.export import Exported, board_to_dict, write_exports
from candlemark.report.segmentation.overlays import draw_overlays, drop_overlays, overlay_path
from candlemark.report.segmentation.packing import pack
from candlemark.report.segmentation.page import write_page
from candlemark.report.segmentation.terminal import show
from candlemark.report.segmentation.views import CaseView, Loader
from candlemark.results.store import Suite, open_results
from candlemark.scans.geometry import upright
from candlemark.scans.masks import read_integers

if TYPE_CHECKING:
    from rich.console import Console

REPORTS = "reports"
OVERLAYS = Path(REPORTS) / "overlays"
PAGE = "segmentation.html"
PREFIX = "segment"
"""Of the names of pictures."""


def _suites(finished: FinishedSegmentation) -> list[Suite]:
    with open_results(finished.results_dir, read_only=True) as results:
        return [suite for suite in results.suites() if suite.suite_id == finished.suite_id]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SegmentationReport:
    """Where everything is.

    overlays: the pictures of the best, median and worst cases
    page: the HTML page with the slice viewer; None where none was asked for
    masks: the folder of the predicted masks; None where they were not kept
    """

    boards: tuple[Board, ...]
    exported: Exported
    results_dir: Path
    config: Path
    overlays: tuple[Path, ...] = ()
    page: Path | None = None
    masks: Path | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON types only."""
        return {
            "boards": [board_to_dict(board) for board in self.boards],
            "files": {
                "cases": str(self.exported.cases),
                "summary": str(self.exported.summary),
                "comparison": str(self.exported.comparison),
                "markdown": str(self.exported.markdown),
                "page": None if self.page is None else str(self.page),
                "overlays": [str(path) for path in self.overlays],
                "predictions": None if self.masks is None else str(self.masks),
                "results": str(self.results_dir),
                "config": str(self.config),
            },
        }

    def lines(self) -> list[str]:
        """Where the files are, and the next commands."""
        found = [f"\ncases:   {self.exported.cases}", f"table:   {self.exported.markdown}"]
        if self.page is not None:
            found.append(f"page:    {self.page}")
        if self.overlays:
            found.append(f"images:  {self.overlays[0].parent} ({len(self.overlays)})")
        if self.masks is not None:
            found.append(f"masks:   {self.masks}")
        found.append(f"results: {self.results_dir}")
        other = "monai" if self._convention != "monai" else "candlemark"
        again = ["candlemark", "segment", "--config", str(self.config)]
        again += ["--output-dir", str(self.results_dir.parent), "--convention", other]
        return [*found, f"next:    {shlex.join(again)}"]

    @property
    def _convention(self) -> str:
        return self.boards[0].settings.convention if self.boards else "candlemark"


def write_report(
    finished: FinishedSegmentation,
    config: SegmentationConfig,
    folder: Path,
    *,
    at: datetime | None = None,
) -> SegmentationReport:
    """Write the files of a run below `folder/reports`; nothing is asked of any model again.

    at: the time in the names of files; None: now
    """
    scoring, shown = config.benchmark, config.reporting
    boards = build_boards(
        finished.records,
        convention=shown.convention,
        metrics=scoring.metrics,
        thresholds=scoring.thresholds,
        tolerance_mm=scoring.tolerance_mm,
    )
    when = at or datetime.now().astimezone()
    exported = write_exports(boards, folder / REPORTS, at=when)
    lost = missing_masks(finished, folder)
    if lost and (shown.overlays or shown.page):
        progress.warning(
            f"the masks of {', '.join(lost)} are gone, and no picture shows them; --no-resume "
            "makes them again"
        )
    load = loader_of(finished, folder)
    overlays: list[Path] = []
    page = None
    for board in boards:  # one: a run asks all about the same cases
        if shown.overlays:
            overlays += draw_overlays(board, load, folder / OVERLAYS, prefix=PREFIX)
        if shown.page:
            page = write_page(
                board,
                pack(board, load),
                _suites(finished),
                folder / REPORTS / PAGE,
                title="segment",
            )
    if shown.overlays:
        # Where the masks are gone, the picture that was drawn of them is all there is.
        old = [overlay_path(row, folder / OVERLAYS, prefix=PREFIX) for row in lost]
        drop_overlays(folder / OVERLAYS, prefix=PREFIX, keep=[*overlays, *old])
    if not shown.keep_predictions:
        drop_masks(finished, folder)
    masks = folder / PREDICTIONS
    return SegmentationReport(
        boards=boards,
        exported=exported,
        results_dir=finished.results_dir,
        config=finished.results_dir / f"suite_{finished.suite_id}.yaml",
        overlays=tuple(overlays),
        page=page,
        masks=masks if shown.keep_predictions and masks.is_dir() else None,
    )


def loader_of(finished: FinishedSegmentation, folder: Path) -> Loader:
    """What gives pictures their scans: image, reference, and the masks that are still there."""
    prepared = finished.prepared
    cases = {case.id: case for case in prepared.test}

    def load(case_id: str, trials: Mapping[str, str]) -> CaseView | None:
        case = cases.get(case_id)
        places = {row: folder / PREDICTIONS / trial for row, trial in trials.items()}
        kept = {row: path for row, place in places.items() if (path := kept_mask(place, case_id))}
        if case is None or not kept:
            return None
        try:
            scan = open_scan_case(case)
            turned, sides = upright(scan.scan.geometry) or ((), None)
            return CaseView(
                case=case_id,
                image=scan.scan.read()[turned],
                window=scan.case.window(),
                spacing_mm=scan.case.spacing_mm,
                reference=read_reference(case, scan, prepared.references)[turned],
                predictions={row: read_integers(path)[0][turned] for row, path in kept.items()},
                sides=sides,
            )
        except ScanError as error:
            progress.warning(f"case {case_id} is not shown: {error}")
            return None

    return load


def show_report(report: SegmentationReport, console: Console, *, cases: bool = False) -> None:
    """Print the tables; cases: every case of every row as well."""
    for board in report.boards:
        show(board, console)
        if cases:
            _show_cases(board, console)


def _show_cases(board: Board, console: Console) -> None:
    from rich.markup import escape
    from rich.table import Table

    metrics = board.settings.metrics
    table = Table("row", "seed", "case", "outcome", *metrics, box=None)
    for row in (*board.rows, *board.oracles):
        for case in row.cases:
            values = (case.scores.get(metric) for metric in metrics)
            table.add_row(
                escape(row.name),
                "-" if case.seed is None else str(case.seed),
                escape(case.case),
                escape(case.outcome if case.reason is None else f"{case.outcome}: {case.reason}"),
                *("-" if value is None else f"{value:.3f}" for value in values),
            )
    console.print(table)
