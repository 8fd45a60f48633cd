"""A whole report from a store: one page, figures, CSV and text.

    files = build_report(results, Path("benchmarks/reports"), prefix="demo")
    files.html, files.figures, files.boards

Files of the first board are called `{prefix}_performance.png` and so on; those of further
boards carry the board's market and label as well. Trials of inference and of segmentation have a
page of their own each: the only one of a store that holds nothing else, and beside the page of the
boards otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from candlemark import progress
from candlemark.errors import ResultsError
from candlemark.records import RunRecord
from candlemark.report import dashboard, figures, text
from candlemark.report.comparison import Speedup, speedups
from candlemark.report.contests import Duel, hold
from candlemark.report.fusion.figures import draw as draw_inputs
from candlemark.report.fusion.questions import Answer, ask
from candlemark.report.fusion.sentences import alarm, findings, headline
from candlemark.report.inference.cells import Cell, all_attempts, build_cells
from candlemark.report.inference.cells import answer as cells_answer
from candlemark.report.inference.figures import draw_all as draw_cells
from candlemark.report.inference.page import page as inference_page
from candlemark.report.inference.text import detailed
from candlemark.report.recommendations import answer, recommendations
from candlemark.report.segmentation import export as masks_export
from candlemark.report.segmentation.board import Board as MaskBoard
from candlemark.report.segmentation.board import asked_of
from candlemark.report.segmentation.board import build_boards as build_mask_boards
from candlemark.report.segmentation.detailed import detailed as masks_detailed
from candlemark.report.segmentation.reading import rescored
from candlemark.report.segmentation.tables import page as masks_page
from candlemark.report.segmentation.text import answer as masks_answer
from candlemark.report.statistics import Board, Row, build_boards
from candlemark.results.files import file_stem, write_text
from candlemark.results.naming import SCORED_TASKS, task_of
from candlemark.results.sharing.suites import record_to_dict, records_to_csv
from candlemark.results.store import Results, Suite


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportFiles:
    """What `build_report` wrote, and what it was written from.

    inference_html: the page of the inference trials; the same as `html` where there are no boards
    cells: the inference trials; gains: what changed between cells that differ in one thing
    masks: the boards of segmentation, masks_html their page
    """

    html: Path
    csv: Path
    detailed: Path
    figures: tuple[Path, ...]
    boards: tuple[Board, ...] = ()
    inference_html: Path | None = None
    cells: tuple[Cell, ...] = ()
    gains: tuple[Speedup, ...] = ()
    masks: tuple[MaskBoard, ...] = ()
    masks_html: Path | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON types: the answers, the boards, the cells, and where the files are."""
        return {
            "answer": self._answer(),
            "boards": [board_to_dict(board) for board in self.boards],
            "inference": inference_to_dict(self.cells, self.gains) if self.cells else None,
            "segmentation": [masks_export.board_to_dict(board) for board in self.masks],
            "files": {
                "html": str(self.html),
                "segmentation_html": None if self.masks_html is None else str(self.masks_html),
                "inference_html": None if self.inference_html is None else str(self.inference_html),
                "csv": str(self.csv),
                "detailed": str(self.detailed),
                "figures": [str(path) for path in self.figures],
            },
        }

    def _answer(self) -> str:
        if self.boards:
            return answer(self.boards)
        if self.cells or not self.masks:
            return cells_answer(self.cells)
        return " ".join(masks_answer(board) for board in self.masks)


def build_report(
    results: Results,
    out_dir: str | Path,
    *,
    prefix: str = "benchmark",
    suite_id: str | None = None,
    suite_ids: Sequence[str] | None = None,
    convention: str | None = None,
) -> ReportFiles:
    """Write the report of one suite, of several, or of all trials of the store.

    Writes `{prefix}_report.html` and the same page as `report.html`, the newest report of the
    folder, `{prefix}_results.csv`, `{prefix}_detailed_report.txt` and the figures as PNG.

    convention: whose numbers of masks; None: as the newest suite of segmentation was asked

    Raises ResultsError: the suite is unknown or holds no trial, or the folder cannot be
    written.
    """
    out = Path(out_dir)
    wanted = [suite_id] if suite_id is not None else suite_ids
    records = _records(results, wanted)
    suites = [s for s in results.suites() if wanted is None or s.suite_id in wanted]
    name = file_stem(prefix)
    with progress.track("report", total=3, unit="parts") as bar:
        boards = build_boards([record for record in records if task_of(record) in SCORED_TASKS])
        cells = build_cells(records)
        gains = speedups(all_attempts(results, records))
        masks = build_mask_boards(records, **asked_of(suites, convention=convention))
        bar.advance(text="figures")
        pictures = [*_figures(boards, out, name), *draw_cells(cells, out, prefix=name)]
        bar.advance(text="page")
        pages = _pages(boards, cells, gains, masks, suites=suites, out=out, prefix=prefix)
        parts = [text.detailed(boards, suites)] if boards else []
        parts += [detailed(cells, gains, () if boards else suites)] if cells else []
        parts += [masks_detailed(masks, () if boards or cells else suites)] if masks else []
        files = ReportFiles(
            html=pages.newest,
            csv=write_text(out / f"{name}_results.csv", records_to_csv(_as_shown(records, masks))),
            detailed=write_text(out / f"{name}_detailed_report.txt", "\n".join(parts)),
            figures=tuple(pictures),
            boards=boards,
            inference_html=pages.inference,
            cells=cells,
            gains=gains,
            masks=masks,
            masks_html=pages.masks,
        )
        bar.advance()
    return files


def _as_shown(records: Sequence[RunRecord], masks: Sequence[MaskBoard]) -> Sequence[RunRecord]:
    """The records with the scores of masks that their boards show."""
    for board in masks:
        labels, rows = tuple(board.class_names), (*board.rows, *board.oracles)
        records = rescored(records, rows, labels=labels, settings=board.settings)
    return records


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pages:
    """The newest report of the folder, and the pages of tasks that have one of their own."""

    newest: Path
    inference: Path | None
    masks: Path | None


def _pages(
    boards: Sequence[Board],
    cells: Sequence[Cell],
    gains: Sequence[Speedup],
    masks: Sequence[MaskBoard],
    *,
    suites: Sequence[Suite],
    out: Path,
    prefix: str,
) -> _Pages:
    """Write the pages: that of the boards first, else of the cells, else of segmentation."""
    name = file_stem(prefix)
    first = f"{name}_report.html"

    def of(task: str) -> list[Suite]:
        return [suite for suite in suites if suite.config.get("task") == task]

    def written(html: str) -> Path:
        write_text(out / first, html)
        return write_text(out / "report.html", html)

    newest: Path | None = None
    inference: Path | None = None
    shown: Path | None = None
    if boards:
        beside = f"{name}_inference_report.html" if cells else None
        apart = (*of("inference"), *of("segmentation"))
        others = [suite for suite in suites if suite not in apart]
        newest = written(
            dashboard.page(
                boards,
                others,
                title=prefix,
                inference=beside,
                segmentation=f"{name}_segmentation_report.html" if masks else None,
            )
        )
    if cells or not (boards or masks):
        link = first if boards else None
        html = inference_page(cells, gains, of("inference"), title=prefix, boards=link)
        inference = (
            write_text(out / f"{name}_inference_report.html", html) if boards else written(html)
        )
    if masks:
        main = newest or inference
        html = masks_page(
            masks, of("segmentation"), title=prefix, beside=None if main is None else first
        )
        shown = (
            written(html)
            if main is None
            else write_text(out / f"{name}_segmentation_report.html", html)
        )
    found = newest or inference or shown
    if found is None:
        raise ResultsError("no trial of the store has a page")
    return _Pages(newest=found, inference=inference, masks=shown)


def _records(results: Results, suite_ids: Sequence[str] | None) -> list[RunRecord]:
    if suite_ids is None:
        records = results.records()
    else:
        found = [record for suite in suite_ids for record in results.records(suite)]
        records = list({record.trial_id: record for record in found}.values())
    if not records:
        raise ResultsError(f"{results.path} holds no trial yet; run: candlemark bench")
    return records


def _figures(boards: Sequence[Board], out: Path, prefix: str) -> list[Path]:
    written: list[Path] = []
    taken: set[str] = set()
    for place, board in enumerate(boards):
        own = f"{board.dataset}_{board.label}" + ("_fusion" if board.is_fusion else "")
        name = prefix if place == 0 else f"{prefix}_{file_stem(own)}"
        # Two boards may share dataset and label names and differ in content alone.
        name = name if name not in taken else f"{name}_{board.dataset_hash[:8]}"
        taken.add(name)
        written += figures.draw_all(board, out, prefix=name)
        if board.is_fusion:
            written += draw_inputs(board, ask(board), out, prefix=name)
    return written


def inference_to_dict(cells: Sequence[Cell], gains: Sequence[Speedup]) -> dict[str, Any]:
    """Cells and gains as JSON types."""
    return {
        "answer": cells_answer(cells),
        "cells": [{"label": cell.label, **record_to_dict(cell.record)} for cell in cells],
        "gains": [{**asdict(gain), "change": str(gain.change)} for gain in gains],
    }


def board_to_dict(board: Board) -> dict[str, Any]:
    """A board as JSON types."""
    contest = hold(board)
    return {
        "task": board.task,
        "dataset": board.dataset,
        "dataset_hash": board.dataset_hash,
        "market": board.market,
        "label": board.label,
        "label_kind": board.label_kind,
        "attainable_auroc": board.attainable_auroc,
        "leaky_split": board.leaky_split,
        "family_level": board.family_level,
        "rows": [_row_to_dict(row) for row in board.rows],
        "beats_controls": {n: _duel_to_dict(d) for n, d in contest.beats_controls.items()},
        "against_best": {n: _duel_to_dict(d) for n, d in contest.against_best.items()},
        "tied_for_best": list(contest.tied_for_best),
        "recommendations": [asdict(item) for item in recommendations(board, contest)],
        "inputs": fusion_to_dict(board) if board.is_fusion else None,
    }


def fusion_to_dict(board: Board) -> dict[str, Any]:
    """What each input adds, and how forecasts of the close stand to the last one."""
    study = ask(board)
    return {
        "headline": headline(study),
        "findings": [asdict(finding) for finding in findings(study)],
        "alarm": alarm(study),
        "attainable_auroc": dict(study.attainable),
        "comparisons": study.comparisons,
        "answers": [_answer_to_dict(answer) for answer in study.answers],
        "against_last_close": {n: _answer_to_dict(a) for n, a in study.closes.items()},
    }


def _answer_to_dict(answer: Answer) -> dict[str, Any]:
    return {**asdict(answer), "verdict": answer.verdict, "gain": answer.gain}


def _row_to_dict(row: Row) -> dict[str, Any]:
    return {
        "row": row.name,
        "role": row.role,
        "weights": row.weights,
        "seeds": list(row.seeds),
        "scores": {
            name: {**asdict(m), "verdict": str(m.verdict)} for name, m in row.scores.items()
        },
        "auroc_simultaneous": asdict(row.adjusted),
        "failed": [
            {"trial_id": r.trial_id, "status": str(r.status), "reason": r.reason}
            for r in row.failed
        ],
    }


def _duel_to_dict(duel: Duel) -> dict[str, Any]:
    return {**asdict(duel), "won": duel.won}
