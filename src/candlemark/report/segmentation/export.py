"""A segmentation board as files: every case, a summary, and the comparison as a table.

    files = write_exports([board], Path("benchmarks/segmentation"), at=datetime.now(UTC))
    files.cases          # benchmark_results_20260501_093000.csv
    files.summary        # benchmark_summary_20260501_093000.json
    files.comparison     # model_comparison_20260501_093000.csv, and the same as Markdown

Unknown is an empty field or null, never 0; a case that failed stands there with what it scores
and why.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from candlemark.metrics.segmentation.catalog import SEGMENTATION_METRICS
from candlemark.metrics.segmentation.conventions import CONVENTIONS
from candlemark.metrics.summary import Difference
from candlemark.records import Measurement, Verdict
from candlemark.report.format import p_value
from candlemark.report.segmentation.board import STAGES, Board, CaseScore, Row
from candlemark.report.segmentation.contests import Duel
from candlemark.report.segmentation.ranks import Ranking
from candlemark.report.segmentation.text import (
    ORACLES,
    answer,
    bar_lines,
    bounded,
    head,
    note_lines,
    prompt_of,
    standing,
)
from candlemark.results.files import write_json, write_text

MEAN = "mean of classes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """Where the files are."""

    cases: Path
    summary: Path
    comparison: Path
    markdown: Path

    @property
    def all(self) -> tuple[Path, ...]:
        """Every file."""
        return (self.cases, self.summary, self.comparison, self.markdown)


def write_exports(boards: Sequence[Board], folder: Path, *, at: datetime) -> Exported:
    """Write all of it; `at` names the files. Raises ResultsError: the folder cannot be written."""
    when = f"{at:%Y%m%d_%H%M%S}"
    return Exported(
        cases=write_text(folder / f"benchmark_results_{when}.csv", cases_csv(boards)),
        summary=write_json(
            folder / f"benchmark_summary_{when}.json", [board_to_dict(board) for board in boards]
        ),
        comparison=write_text(folder / f"model_comparison_{when}.csv", comparison_csv(boards)),
        markdown=write_text(folder / f"model_comparison_{when}.md", comparison_markdown(boards)),
    )


def cases_csv(boards: Sequence[Board]) -> str:
    """One line a case, class and seed of every row, the mean of the classes after them."""
    metrics = _metrics(boards)
    stages = [stage for stage in STAGES if stage != "case"]
    columns = [
        *("dataset", "convention", "row", "role", "protocol", "oracle", "seed", "case", "class"),
        *("outcome", "reason", "spacing_z", "spacing_y", "spacing_x", "distance_unit"),
        *(*metrics, "volume_bias", *(f"{stage}_ms" for stage in stages), "trial_id"),
    ]
    return _csv(columns, (line for board in boards for line in _case_lines(board)))


def _case_lines(board: Board) -> Iterator[dict[str, Any]]:
    for row in (*board.rows, *board.oracles):
        for case in row.cases:
            shared = {
                "dataset": board.dataset,
                "convention": board.settings.convention,
                "row": row.name,
                "role": row.role,
                "protocol": row.protocol,
                "oracle": row.oracle,
                "seed": case.seed,
                "case": case.case,
                "outcome": case.outcome,
                "reason": case.reason,
                "distance_unit": "px" if case.spacing_mm is None else "mm",
                **_spacing(case),
                **{f"{stage}_ms": ms for stage, ms in (case.times_ms or {}).items()},
                "trial_id": case.trial_id,
            }
            for label, scores in case.by_class.items():
                bias = case.volume_bias.get(label)
                name = board.class_names.get(label, label)
                yield {**shared, "class": name, **scores, "volume_bias": bias}
            if len(case.by_class) > 1:
                yield {**shared, "class": MEAN, **case.scores}


def _spacing(case: CaseScore) -> dict[str, float]:
    if case.spacing_mm is None:
        return {}
    return dict(zip(("spacing_z", "spacing_y", "spacing_x"), case.spacing_mm, strict=True))


def comparison_csv(boards: Sequence[Board]) -> str:
    """One line a row and class: every score with interval and verdict, and how it stands."""
    metrics = _metrics(boards)
    columns = ["dataset", "convention", "table", "row", "role", "protocol", "class", "cases"]
    columns += ["failed_cases", "seeds"]
    for metric in metrics:
        columns += [metric, f"{metric}_low", f"{metric}_high", f"{metric}_verdict"]
    columns += [f"{stage}_{p}_ms" for stage in STAGES for p in ("p50", "p95")]
    columns += ["peak_memory_bytes", "against_the_controls", "description", "notes"]
    return _csv(columns, (line for board in boards for line in _comparison_lines(board)))


def _comparison_lines(board: Board) -> Iterator[dict[str, Any]]:
    tables = {"main": board.rows, "oracle": board.oracles, "timed": board.timed}
    for table, rows in tables.items():
        for row in rows:
            classes = {MEAN: row.scores} if len(row.by_class) > 1 else {}
            named = {board.class_names.get(k, k): scores for k, scores in row.by_class.items()}
            for name, scores in {**classes, **named}.items():
                yield {
                    "dataset": board.dataset,
                    "convention": board.settings.convention,
                    "table": table,
                    "row": row.name,
                    "role": row.role,
                    "protocol": row.protocol,
                    "class": name,
                    "cases": len(board.cases),
                    "failed_cases": row.failed_cases,
                    "seeds": " ".join(map(str, row.seeds)),
                    **_numbers(scores),
                    **{m.name: m.value for time in row.times for m in (time.p50, time.p95)},
                    "peak_memory_bytes": row.peak_memory and row.peak_memory.value,
                    "against_the_controls": standing(row, board) if table == "main" else "",
                    "description": row.description,
                    "notes": row.notes,
                }


def _numbers(scores: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, m in scores.items():
        found |= {name: m.value, f"{name}_low": m.low, f"{name}_high": m.high}
        found[f"{name}_verdict"] = str(m.verdict)
    return found


def comparison_markdown(boards: Sequence[Board]) -> str:
    """The tables as Markdown, with what must be known to read them."""
    lines = ["# Segmentation models compared"]
    for board in boards:
        lines += ["", f"## {_escaped(board.title)}", "", _escaped(answer(board))]
        for title, rows in (
            ("", board.rows),
            (f"### {ORACLES}", board.oracles),
        ):
            if rows:
                lines += ["", *([title, ""] if title else []), *_markdown_table(board, rows)]
        lines += ["", f"Convention: {CONVENTIONS[board.settings.convention].title}.", ""]
        told = [*bar_lines(board), *board.stability.sentences(), *note_lines(board)]
        lines += [f"- {_escaped(line)}" for line in told]
    return "\n".join(lines) + "\n"


def _markdown_table(board: Board, rows: Sequence[Row]) -> Iterator[str]:
    metrics = board.settings.metrics
    oracles = all(row.oracle for row in rows)
    last = "prompt" if oracles else "against the controls"
    yield _line(["row", "protocol", *(head(board, m) for m in metrics), "failed", "verdict", last])
    yield _line(["---", "---", *("---:" for _ in metrics), "---:", "---", "---"])
    for row in rows:
        stands = prompt_of(row) if oracles else standing(row, board)
        verdict = row.scores[board.settings.primary.name].verdict
        yield _line(
            [
                *(_escaped(row.name), row.protocol),
                *(bounded(row.scores[metric]) for metric in metrics),
                f"{row.failed_cases} of {len(row.cases)}",
                "" if verdict is Verdict.VALID else str(verdict),
                _escaped(stands),
            ]
        )


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escaped(text: str) -> str:
    for sign in "\\|<[*_`":
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.split())


def board_to_dict(board: Board) -> dict[str, Any]:
    """A board as JSON types, single cases apart (they are the CSV's)."""
    settings, contest = board.settings, board.contest
    return {
        "task": "segmentation",
        "answer": answer(board),
        "dataset": board.dataset,
        "dataset_hash": board.dataset_hash,
        "cases": list(board.cases),
        "class_names": dict(board.class_names),
        "convention": settings.convention,
        "convention_source": CONVENTIONS[settings.convention].source,
        "metrics": list(settings.metrics),
        "units": dict(board.units),
        "thresholds": dict(settings.thresholds),
        "tolerance_mm": settings.tolerance_mm,
        "rows": [_row_to_dict(row, board) for row in board.rows],
        "oracles": [_row_to_dict(row, board) for row in board.oracles],
        "timed": [_row_to_dict(row, board) for row in board.timed],
        "beats_controls": {n: _duel_to_dict(d) for n, d in contest.beats_controls.items()},
        "against_best": {n: _duel_to_dict(d) for n, d in contest.against_best.items()},
        "pairs": [_duel_to_dict(duel) for duel in contest.pairs],
        "tied_for_best": list(contest.tied_for_best),
        "rank_stability": {
            "depends_on_the_convention": board.stability.depends,
            "sentences": list(board.stability.sentences()),
            "rankings": [_ranking_to_dict(one) for one in board.stability.rankings],
        },
        "notes": note_lines(board),
    }


def _row_to_dict(row: Row, board: Board) -> dict[str, Any]:
    return {
        "row": row.name,
        "role": row.role,
        "model": row.model,
        "protocol": row.protocol,
        "oracle": row.oracle,
        "untrained": row.untrained,
        "jitter": row.jitter,
        "weights": row.weights,
        "seeds": list(row.seeds),
        "description": row.description,
        "notes": row.notes,
        "case_count": len(board.cases),
        "outcomes": dict(row.outcomes),
        "scores": {name: measurement_to_dict(m) for name, m in row.scores.items()},
        "by_class": {
            label: {name: measurement_to_dict(m) for name, m in scores.items()}
            for label, scores in row.by_class.items()
        },
        "volume_bias": {label: _mean_bias(row, label) for label in row.by_class},
        "bars": [asdict(bar) for bar in row.bars],
        "times": [
            {"p50": measurement_to_dict(time.p50), "p95": measurement_to_dict(time.p95)}
            | {"stage": time.stage}
            for time in row.times
        ],
        "peak_memory": None if row.peak_memory is None else measurement_to_dict(row.peak_memory),
        "telling_cases": {
            which: case.case
            for which, case in row.telling_cases(board.settings.primary.name).items()
        },
        "failed_trials": [
            {"trial_id": r.trial_id, "status": str(r.status), "reason": r.reason}
            for r in row.failed
        ],
    }


def measurement_to_dict(m: Measurement) -> dict[str, Any]:
    """A measurement as JSON types."""
    return {**asdict(m), "verdict": str(m.verdict), "quotable": m.verdict is Verdict.VALID}


def _mean_bias(row: Row, label: str) -> float | None:
    """Mean of predicted minus reference volume over their mean, over cases with an answer."""
    known = [b for case in row.cases if (b := case.volume_bias.get(label)) is not None]
    return math.fsum(known) / len(known) if known else None


def _duel_to_dict(duel: Duel) -> dict[str, Any]:
    return {
        "model": duel.model,
        "other": duel.other,
        "difference": _difference_to_dict(duel.difference),
        "p_value": duel.p_value,
        "p": p_value(duel.p_value),
        "told_apart": duel.told_apart,
        "won": duel.won,
    }


def _difference_to_dict(found: Difference) -> dict[str, Any]:
    return {
        name: float(value) if isinstance(value, float) else value
        for name, value in asdict(found).items()
    }


def _ranking_to_dict(one: Ranking) -> dict[str, Any]:
    return {**asdict(one), "title": SEGMENTATION_METRICS[one.metric].title}


def _metrics(boards: Sequence[Board]) -> list[str]:
    """Every metric of any board, in the order in which each first appears."""
    return list(dict.fromkeys(metric for board in boards for metric in board.units))


def _csv(columns: Sequence[str], lines: Iterator[dict[str, Any]]) -> str:
    file = io.StringIO()
    writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
    writer.writeheader()
    for line in lines:
        writer.writerow({k: "" if line.get(k) is None else line[k] for k in columns})
    return file.getvalue()
