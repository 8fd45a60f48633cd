"""The terminal table and the detailed text report.

show(boards)                 # on standard output, coloured on a terminal
detailed(boards, suites)     # plain text for `*_detailed_report.txt`
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from candlemark.report.contests import Contest, Duel, hold
from candlemark.report.format import UNKNOWN, measured, p_value, quantity, short, title_of
from candlemark.report.fusion import text as fusion
from candlemark.report.fusion.questions import ask
from candlemark.report.recommendations import RECOGNITION, answer, recommendations
from candlemark.report.settings import flatten
from candlemark.report.statistics import PRIMARY, SCORES, Board, Row
from candlemark.report.tables import ROLE_STYLES, fitting
from candlemark.results.store import Suite

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table
    from rich.text import Text

_COSTS = ("training_time_s", "latency_p50_ms", "peak_memory_bytes", "parameters")
_HEADS = dict(zip(_COSTS, ("training", "latency", "memory", "params"), strict=True))
DETAIL_WIDTH = 118


def show(boards: Sequence[Board], console: Console | None = None) -> None:
    """Print the answer, a table for each board, recommendations and failures."""
    from rich.console import Console

    target = console or Console()
    target.print(answer(boards), style="bold", markup=False, highlight=False)
    for board in boards:
        target.print()
        for part in board_parts(board, hold(board), width=target.width):
            target.print(part)


def board_parts(board: Board, contest: Contest, *, width: int) -> list[RenderableType]:
    """Heading, table, recommendations and failed rows of one board."""
    from rich.text import Text

    costs = [cost for cost in _COSTS if any(row.value(cost) is not None for row in board.rows)]
    table = fitting(lambda names: _table(board, contest, names), costs, width)
    parts: list[RenderableType] = [heading(board), table]
    parts += [
        Text.assemble((f"{item.title}: ", "bold"), item.text)
        for item in recommendations(board, contest)
    ]
    if board.is_fusion:
        parts += [Text(""), *fusion.parts(board, ask(board), width=width)]
    for row in board.rows:
        for record in row.failed:
            line = f"failed: {short(row.name)}: {record.status}, {record.reason}"
            parts.append(Text(line, style="red"))
    return parts


def heading(board: Board) -> Text:
    """Dataset and label, then badges for whatever changes what the numbers mean."""
    from rich.text import Text

    text = Text.assemble((board.title, "bold"), "  ")
    if board.is_recognition:
        text.append(f" {RECOGNITION} ", "black on yellow")
    else:
        text.append(" forecast ", "black on green")
    if any(row.random_weights for row in board.rows):
        text.append(" ")
        text.append(" random weights ", "black on magenta")
    if board.leaky_split:
        text.append(" ")
        text.append(" random split: leaky ", "white on red")
    if board.attainable_auroc is not None:
        text.append(f"  attainable AUROC {board.attainable_auroc:.3f}", "green")
    return text


def _table(board: Board, contest: Contest, costs: Sequence[str]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("row", overflow="fold", min_width=20)
    table.add_column("AUROC, 95 %", justify="right", no_wrap=True)
    table.add_column("accuracy", justify="right")
    for cost in costs:
        table.add_column(_HEADS[cost], justify="right", no_wrap=True)
    table.add_column(
        "against chance" if board.market == "random_walk" else "against the controls", min_width=20
    )
    for row in board.rows:
        if not row.records:
            continue
        name = Text(short(row.name), style=ROLE_STYLES.get(row.role, "default"))
        auroc = measured(row.scores.get(PRIMARY))
        values = [quantity(cost, row.value(cost)) if row.scores.get(cost) else "" for cost in costs]
        accuracy = quantity("accuracy", row.value("accuracy"))
        table.add_row(name, auroc, accuracy, *values, standing(row, board, contest))
    return table


def standing(row: Row, board: Board, contest: Contest) -> str:
    """What the tests say of a row, in a few words."""
    auroc = row.scores.get(PRIMARY)
    if auroc is None or auroc.value is None:
        return (auroc.reason if auroc else None) or "AUROC was not measured"
    if board.is_recognition:
        return "recognition"
    if board.market == "random_walk":
        return _against_chance(row, board)
    duel = contest.beats_controls.get(row.name)
    return "" if duel is None else _against_controls(duel, contest)


def _against_chance(row: Row, board: Board) -> str:
    if row.adjusted.low is None:
        return row.adjusted.reason or "no interval"
    return "leaves out chance" if row in board.outside_chance else "contains chance"


def _against_controls(duel: Duel, contest: Contest) -> str:
    if duel.p_value is None:
        return duel.difference.reason or "not tested"
    verdict = "beats all" if duel.won else f"does not beat {short(duel.other).split(': ')[-1]}"
    text = f"{verdict}, {p_value(duel.p_value)}"
    tied = duel.model in contest.tied_for_best and len(contest.tied_for_best) > 1
    return f"{text}; tied for best" if tied else text


def detailed(boards: Sequence[Board], suites: Sequence[Suite] = ()) -> str:
    """Everything in plain text: boards, all scores, duels, failures, environment, config."""
    from rich.console import Console

    target = Console(file=io.StringIO(), width=DETAIL_WIDTH, color_system=None)
    target.print("candlemark: detailed report", highlight=False)
    target.print("=" * 27, highlight=False)
    target.print(answer(boards), markup=False, highlight=False)
    for board in boards:
        contest = hold(board)
        target.print()
        target.rule(characters="-")
        for part in board_parts(board, contest, width=DETAIL_WIDTH):
            target.print(part)
        found = ["", *_all_scores(board), *_duels(contest)]
        found += fusion.lines(ask(board)) if board.is_fusion else []
        target.print("\n".join(found), markup=False)
    lines = [*_environments(boards), *config_lines(suites)]
    target.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)
    file = target.file
    text = file.getvalue() if isinstance(file, io.StringIO) else ""
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"


def _all_scores(board: Board) -> list[str]:
    lines = ["All scores (95 % block-bootstrap interval)"]
    for row in board.rows:
        if not row.records:
            continue
        seeds = f", seeds {', '.join(map(str, row.seeds))}" if len(row.seeds) > 1 else ""
        weights = f", {row.weights} weights" if row.weights else ""
        lines.append(f"  {row.name} ({row.role}{weights}{seeds})")
        names = [*SCORES, *(name for name in row.scores if name not in SCORES)]
        for name in names:
            m = row.scores.get(name)
            if m is not None:
                reason = f"  ({m.reason})" if m.reason else ""
                lines.append(f"    {title_of(name):<20} {measured(m)}{reason}")
    return lines


def _duels(contest: Contest) -> list[str]:
    lines = ["", "Paired differences of AUROC on the same cases (p corrected by Holm)"]
    duels = [*contest.beats_controls.values(), *contest.against_best.values()]
    for duel in duels:
        d = duel.difference
        # Against the best, the best stands first: the difference is what a model lacks.
        first, second = (
            (duel.model, duel.other)
            if duel in contest.beats_controls.values()
            else (duel.other, duel.model)
        )
        found = d.reason
        if d.value is not None and d.low is not None and d.high is not None:
            found = f"{d.value:+.3f} [{d.low:+.3f}, {d.high:+.3f}], {p_value(duel.p_value)}"
        lines.append(f"  {short(first)} - {short(second)}: {found}")
    return lines if duels else []


def _environments(boards: Sequence[Board]) -> list[str]:
    seen = {
        json.dumps(record.environment, sort_keys=True): record.environment
        for board in boards
        for row in board.rows
        for record in row.records
        if record.environment
    }
    lines = ["", "Environment"]
    for place, environment in enumerate(seen.values()):
        lines += [""] if place else []
        lines += [
            f"  {name}: {UNKNOWN if value is None else value}"
            for name, value in flatten(environment).items()
        ]
    return lines if seen else []


def config_lines(suites: Sequence[Suite]) -> list[str]:
    """The complete config of each suite."""
    lines = []
    for suite in suites:
        lines += ["", f"Suite {suite.suite_id}, started {suite.started_at}, config"]
        lines += [f"  {line}" for line in json.dumps(suite.config, indent=2).splitlines()]
    return lines
