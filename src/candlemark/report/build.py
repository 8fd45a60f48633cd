"""A whole report from a store: one page, figures, CSV and text.

    files = build_report(results, Path("benchmarks/reports"), prefix="demo")
    files.html, files.figures, files.boards

Files of the first board are called `{prefix}_performance.png` and so on; those of further
boards carry the board's market and label as well.
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
from candlemark.report.contests import Duel, hold
from candlemark.report.recommendations import answer, recommendations
from candlemark.report.statistics import Board, Row, build_boards
from candlemark.results.export import file_stem, records_to_csv, write_text
from candlemark.results.store import Results


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportFiles:
    """What `build_report` wrote, and the boards it was written from."""

    html: Path
    csv: Path
    detailed: Path
    figures: tuple[Path, ...]
    boards: tuple[Board, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON types: the answer, the boards, and where the files are."""
        return {
            "answer": answer(self.boards),
            "boards": [board_to_dict(board) for board in self.boards],
            "files": {
                "html": str(self.html),
                "csv": str(self.csv),
                "detailed": str(self.detailed),
                "figures": [str(path) for path in self.figures],
            },
        }


def build_report(
    results: Results,
    out_dir: str | Path,
    *,
    prefix: str = "benchmark",
    suite_id: str | None = None,
    suite_ids: Sequence[str] | None = None,
) -> ReportFiles:
    """Write the report of one suite, of several, or of all trials of the store.

    Writes `{prefix}_report.html` and the same page as `report.html`, the newest report of the
    folder, `{prefix}_results.csv`, `{prefix}_detailed_report.txt` and the figures as PNG.

    Raises ResultsError: the suite is unknown or holds no trial, or the folder cannot be
    written.
    """
    out = Path(out_dir)
    wanted = [suite_id] if suite_id is not None else suite_ids
    records = _records(results, wanted)
    suites = [s for s in results.suites() if wanted is None or s.suite_id in wanted]
    with progress.track("report", total=3, unit="parts") as bar:
        boards = build_boards(records)
        bar.advance(text="figures")
        pictures = _figures(boards, out, file_stem(prefix))
        bar.advance(text="page")
        name = file_stem(prefix)
        html = dashboard.page(boards, suites, title=prefix)
        write_text(out / f"{name}_report.html", html)
        files = ReportFiles(
            html=write_text(out / "report.html", html),
            csv=write_text(out / f"{name}_results.csv", records_to_csv(records)),
            detailed=write_text(out / f"{name}_detailed_report.txt", text.detailed(boards, suites)),
            figures=tuple(pictures),
            boards=boards,
        )
        bar.advance()
    return files


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
        name = prefix if place == 0 else f"{prefix}_{file_stem(f'{board.dataset}_{board.label}')}"
        # Two boards may share dataset and label names and differ in content alone.
        name = name if name not in taken else f"{name}_{board.dataset_hash[:8]}"
        taken.add(name)
        written += figures.draw_all(board, out, prefix=name)
    return written


def board_to_dict(board: Board) -> dict[str, Any]:
    """A board as JSON types."""
    contest = hold(board)
    return {
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
    }


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
