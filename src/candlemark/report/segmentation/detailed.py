"""All that is known of segmentation boards as text: tables, scores, pairs, ranks, configs.

detailed([board], suites)    # plain text for `*_detailed_report.txt`
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence

from candlemark.metrics.segmentation.catalog import SEGMENTATION_METRICS
from candlemark.records import Measurement
from candlemark.report.format import UNKNOWN, short
from candlemark.report.segmentation.board import Board, Row
from candlemark.report.segmentation.terminal import show
from candlemark.report.segmentation.text import duel_line, written
from candlemark.report.text import DETAIL_WIDTH, config_lines
from candlemark.results.store import Suite


def detailed(boards: Sequence[Board], suites: Sequence[Suite] = ()) -> str:
    """Everything in plain text: tables, all scores, all pairs, ranks, failures, configs."""
    from rich.console import Console

    target = Console(file=io.StringIO(), width=DETAIL_WIDTH, color_system=None)
    target.print("candlemark: segmentation, detailed report", highlight=False)
    target.print("=" * 41, highlight=False)
    for board in boards:
        target.print()
        show(board, target)
        for lines in (_all_scores(board), _pairs(board), _rankings(board)):
            target.print("\n".join(["", *lines]), markup=False, highlight=False)
    target.print("\n".join(config_lines(suites)), markup=False, highlight=False, soft_wrap=True)
    file = target.file
    text = file.getvalue() if isinstance(file, io.StringIO) else ""
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"


def _all_scores(board: Board) -> Iterator[str]:
    yield "All scores (mean over cases, 95 % bootstrap interval)"
    for row in (*board.rows, *board.oracles):
        seeds = f", seeds {', '.join(map(str, row.seeds))}" if len(row.seeds) > 1 else ""
        weights = f", weights {row.weights}" if row.weights else ""
        yield f"  {row.name} ({row.role}, {row.protocol}{weights}{seeds})"
        if row.description or row.notes:
            yield f"    {' '.join(filter(None, (row.description, row.notes)))}"
        for label, scores in (("", row.scores), *_classes(board, row)):
            for metric, m in scores.items():
                title = f"{SEGMENTATION_METRICS[metric].title} {label}".strip()
                reason = f"  ({m.reason})" if m.reason else ""
                yield f"    {title:<32} {written(m, with_unit=True)}{reason}"


def _classes(board: Board, row: Row) -> list[tuple[str, dict[str, Measurement]]]:
    if len(board.class_names) < 2:
        return []
    return [
        (f"of {board.class_names.get(label, label)}", dict(scores))
        for label, scores in row.by_class.items()
    ]


def _pairs(board: Board) -> Iterator[str]:
    contest = board.contest
    title = SEGMENTATION_METRICS[contest.metric].title
    if contest.beats_controls:
        yield f"Differences of {title} from the control a model is hardest to tell from"
        yield "(paired; p of beating every control, corrected by Holm over the models)"
        yield from (f"  {duel_line(duel)}" for duel in contest.beats_controls.values())
    if contest.pairs:
        yield f"Differences of {title} of every two models (paired, corrected by Holm over all)"
        for duel in contest.pairs:
            tested = duel.p_value is not None
            yield f"  {duel_line(duel)}{', a tie' if tested and not duel.told_apart else ''}"


def _rankings(board: Board) -> Iterator[str]:
    if not board.stability.rankings:
        return
    yield "Values by convention (means as each tool takes them)"
    for one in board.stability.rankings:
        title = SEGMENTATION_METRICS[one.metric].title
        if one.absent is not None:
            yield f"  {title}, {one.convention}: {one.absent}"
            continue
        values = "; ".join(
            f"{short(name)} {UNKNOWN if value is None else f'{value:.4f}'}"
            for name, value in one.values.items()
        )
        tau = "" if one.tau is None else f" (tau {one.tau:.2f})"
        yield f"  {title}, {one.convention}: {values}{tau}"
