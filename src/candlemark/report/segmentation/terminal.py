"""The tables of a segmentation board in a terminal, whatever its width.

show(board)                  # on standard output, coloured on a terminal

Where a table is too wide, intervals go below their scores, then the scores that say least beside
the first are left out, and a line names them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from candlemark.metrics.segmentation.aggregate import MINIMUM_CASES
from candlemark.metrics.segmentation.catalog import SEGMENTATION_METRICS
from candlemark.metrics.segmentation.conventions import CONVENTIONS
from candlemark.records import Verdict
from candlemark.report.format import listed, quantity
from candlemark.report.segmentation.board import Board, Row
from candlemark.report.segmentation.text import (
    ORACLES,
    answer,
    bar_lines,
    bounded,
    failure_lines,
    head,
    named,
    named_beside,
    note_lines,
    plain,
    prompt_of,
    standing,
)
from candlemark.report.segmentation.times import (
    shared_verdict,
    time_of,
    time_stages,
    time_verdict,
    timed_rows,
)
from candlemark.report.tables import ROLE_STYLES, fitted

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

_TELLING = ("dice", "hd95", "nsd", "lesion_f1")


def show(board: Board, console: Console | None = None) -> None:
    """Print the answer, the tables, the tests and the failures."""
    from rich.console import Console

    target = console or Console()
    target.print(answer(board), style="bold", markup=False, highlight=False)
    for part in board_parts(board, width=target.width):
        target.print(part, highlight=False)


def board_parts(board: Board, *, width: int) -> list[RenderableType]:
    """Heading and tables, then bars, rank stability, and what failed."""
    from rich.text import Text

    parts: list[RenderableType] = [heading(board)]
    left_out: dict[str, None] = {}
    if board.rows:
        parts.append(_fitted(board, board.rows, width, left_out, last="against the controls"))
    if board.oracles:
        parts.append(Text(ORACLES, style="bold yellow"))
        parts.append(_fitted(board, board.oracles, width, left_out, last="prompt"))
    if len(board.class_names) > 1:
        parts += [Text("By class", style="bold"), _by_class(board, width, left_out)]
    if timed_rows(board):
        said = ", ".join(filter(None, ("Time of a case", shared_verdict(board))))
        parts += [Text(said, style="bold"), _times(board, width, left_out)]
    if left_out:
        names = ", ".join(left_out)
        parts.append(
            Text(
                f"Left out for want of width: {names}; the CSV and the page have them.", style="dim"
            )
        )
    parts += [Text(line) for line in (*bar_lines(board), *board.stability.sentences())]
    parts += [Text(line, style="dim") for line in note_lines(board)]
    parts += [Text(line, style="red") for line in failure_lines(board)]
    return parts


def heading(board: Board) -> RenderableType:
    """Data and classes, whose convention, and what keeps numbers from being quoted."""
    from rich.text import Text

    text = Text.assemble((board.title, "bold"), "  ")
    text.append(f" {CONVENTIONS[board.settings.convention].title} convention ", "black on green")
    if len(board.cases) < MINIMUM_CASES:
        text.append(" ")
        text.append(" too few cases ", "black on yellow")
    return text


def _fitted(
    board: Board, rows: Sequence[Row], width: int, left_out: dict[str, None], *, last: str
) -> Table:
    """The table as it fits; what it lacks is added to `left_out`."""
    others = board.settings.metrics[1:]
    # Of what there is no room for, that goes first which says least beside the Dice.
    ranked = sorted(others, key=lambda name: name not in _TELLING)
    for stacked in (False, True):

        def build(names: Sequence[str], stacked: bool = stacked) -> Table:
            chosen = [name for name in others if name in names]
            return _table(board, rows, chosen, last=last, stacked=stacked)

        table, kept = fitted(build, ranked, width)
        if len(kept) == len(others):
            break
    missing = (SEGMENTATION_METRICS[name].title for name in others if name not in kept)
    left_out.update(dict.fromkeys(missing))
    return table


def _table(
    board: Board, rows: Sequence[Row], others: Sequence[str], *, last: str, stacked: bool
) -> Table:
    """Protocol, scores and verdict of each row; stacked: intervals stand below their scores."""
    from rich.text import Text

    primary = board.settings.primary.name
    table = _empty()
    table.add_column("row", overflow="fold", min_width=16 if stacked else 18)
    table.add_column("protocol", overflow="fold")
    table.add_column(f"{head(board, primary)} [95 %]", justify="right", no_wrap=True)
    for name in others:
        table.add_column(head(board, name, stacked=stacked), justify="right", no_wrap=True)
    with_failures = any(row.failed_cases for row in rows)
    if with_failures:
        table.add_column("failed", justify="right", no_wrap=True)
    verdicts = {row.name: row.scores[primary].verdict for row in rows}
    # The heading of the oracles says it of all of them.
    marked = last != "prompt" and any(found is not Verdict.VALID for found in verdicts.values())
    if marked:
        table.add_column("verdict", no_wrap=True)
    told = [prompt_of(row) if last == "prompt" else standing(row, board) for row in rows]
    table.add_column(last if any(told) else "", min_width=12 if any(told) else 0)
    for row, said in zip(rows, told, strict=True):
        failed = f"{row.failed_cases} of {len(row.cases)}" if row.failed_cases else "0"
        score = bounded(row.scores[primary])
        verdict = verdicts[row.name]
        table.add_row(
            Text(named_beside(row), style=ROLE_STYLES.get(row.role, "default")),
            row.protocol,
            score.replace(" [", "\n[") if stacked else score,
            *(plain(row.scores[name]) for name in others),
            *((failed,) if with_failures else ()),
            *(("" if verdict is Verdict.VALID else str(verdict),) if marked else ()),
            Text(said),
        )
    return table


def _by_class(board: Board, width: int, left_out: dict[str, None]) -> Table:
    metrics = board.settings.metrics
    table, kept = fitted(lambda names: _class_table(board, names), metrics, width)
    if missing := [SEGMENTATION_METRICS[name].title for name in metrics if name not in kept]:
        left_out[f"{listed(missing)} by class"] = None
    return table


def _class_table(board: Board, metrics: Sequence[str]) -> Table:
    from rich.text import Text

    table = _empty()
    table.add_column("row", overflow="fold", min_width=20)
    for name in metrics:
        table.add_column(head(board, name), justify="right", no_wrap=True)
    table.add_column("class", min_width=10)
    for row in (*board.rows, *board.oracles):
        for place, (label, scores) in enumerate(row.by_class.items()):
            name = named(row) if place == 0 else ""
            table.add_row(
                Text(name, style=ROLE_STYLES.get(row.role, "default")),
                *(plain(scores[metric]) for metric in metrics),
                Text(board.class_names.get(label, label)),
            )
    return table


def _times(board: Board, width: int, left_out: dict[str, None]) -> Table:
    # All stages together say most, then the network's own part.
    ranked = sorted(time_stages(board), key=("case", "forward").__contains__, reverse=True)
    table, kept = fitted(lambda stages: _time_table(board, stages), ranked, width)
    if missing := [_stage_title(stage) for stage in time_stages(board) if stage not in kept]:
        left_out[f"times of {listed(missing)}"] = None
    return table


def _stage_title(stage: str) -> str:
    return "all stages" if stage == "case" else stage


def _time_table(board: Board, stages: Sequence[str]) -> Table:
    from rich.text import Text

    rows = timed_rows(board)
    table = _empty()
    table.add_column("row", overflow="fold", min_width=20)
    for stage, percentiles in time_stages(board).items():
        if stage in stages:
            title = ", ".join([_stage_title(stage), *percentiles])
            table.add_column(title, justify="right", no_wrap=True)
    marked = any(map(time_verdict, rows)) and not shared_verdict(board)
    if marked:
        table.add_column("verdict", no_wrap=True)
    table.add_column("peak memory", min_width=11)
    for row in rows:
        memory = row.peak_memory
        table.add_row(
            Text(named(row), style=ROLE_STYLES.get(row.role, "default")),
            *(
                time_of(row, stage, percentiles)
                for stage, percentiles in time_stages(board).items()
                if stage in stages
            ),
            *((time_verdict(row),) if marked else ()),
            "" if memory is None else quantity("peak_memory_bytes", memory.value),
        )
    return table


def _empty() -> Table:
    from rich import box
    from rich.table import Table

    return Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 0, 0, 1))
