"""What was measured here, joined to models of the Hub by their name.

scores = measured_here(Path("benchmarks/results"))
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from candlemark.records import Measurement, Verdict
from candlemark.report.segmentation.board import Board, Row, build_boards
from candlemark.results.naming import task_of
from candlemark.results.own_scores import OwnScore, compared, own_rows
from candlemark.results.store import open_results

METRIC = "dice"


def measured_here(path: Path) -> list[OwnScore]:
    """Every score of a store that says how right a model is.

    Masks are scored from their stored cases, by candlemark's convention; charts as they were.

    Raises ResultsError: there is no store, or it cannot be read.
    """
    with open_results(path, read_only=True) as results:
        rows = own_rows(results)
        records = [record for record in results.records() if task_of(record) == "segmentation"]
    for board in build_boards(records, metrics=(METRIC,)):
        rows += _rows(board)
    return compared(rows)


def _rows(board: Board) -> Iterator[dict[str, Any]]:
    for row in (*board.rows, *board.oracles):
        score = row.scores.get(METRIC)
        if score is None or score.value is None:
            continue
        yield {
            "model": row.model or row.name,
            "row": row.name,
            "role": row.role,
            "protocol": row.protocol,
            "task": "segmentation",
            "dataset": board.title,
            "label": None,
            "metric": METRIC,
            "value": score.value,
            "low": score.low,
            "high": score.high,
            "verdict": _verdict(row, score),
            "reason": score.reason,
        }


def _verdict(row: Row, score: Measurement) -> str | None:
    """What an oracle is stands above how few cases it was asked about."""
    if row.oracle:
        return Verdict.ORACLE.value
    return None if score.verdict is Verdict.VALID else score.verdict.value
