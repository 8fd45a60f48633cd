"""What a terminal and the detailed report show of fusion beside the classes.

parts(board, study, width=80)       # the answers, and a table of the forecasts of the close
lines(study)                        # every comparison, for `*_detailed_report.txt`
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from candlemark.report.format import measured, p_value, quantity, short
from candlemark.report.fusion.questions import QUESTIONS, Answer, Study, says_the_last_close
from candlemark.report.fusion.sentences import alarm, attainable, bare, effect, headline, signed
from candlemark.report.statistics import OF_THE_CLOSE, Board, Row
from candlemark.report.tables import ROLE_STYLES, fitting

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

COLUMNS = {"directional_accuracy": "direction", "mae_percent": "MAE %", "rmse_percent": "RMSE %"}
"""Further scores of a forecast, the last one left out first where there is no room."""

_VERDICTS = {"yes": "green", "worse": "red", "not answered": "dim"}


def parts(board: Board, study: Study, *, width: int) -> list[RenderableType]:
    """Answers to the questions, and the forecasts of the next close."""
    from rich.text import Text

    shown: list[RenderableType] = [
        Text.assemble(("What each input adds: ", "bold"), f"{headline(study)}.")
    ]
    warning = alarm(study)
    if warning:
        shown.append(Text(warning, style="bold red"))
    limit = attainable(study)
    if limit:
        shown.append(Text(limit))
    asked = dict.fromkeys(answer.row for answer in study.answers)
    for row in asked:
        answers = [answer for answer in study.answers if answer.row == row]
        if all(answer.verdict == "not answered" for answer in answers):
            continue
        if len(asked) > 1:
            shown.append(Text(short(row), style=ROLE_STYLES["model"]))
        shown.append(_answers(answers))
    shown += [Text(note, style="dim") for note in unanswered(study)]
    rows = rows_with_forecasts(board)
    if rows:
        shown.append(Text("Next close: error against that of the last close (MASE)", "bold"))
        shown.append(fitting(lambda names: _table(rows, study, names), list(COLUMNS), width))
    return shown


def _answers(answers: Sequence[Answer]) -> Table:
    """What one row was asked: a block for each question, a line for each comparison."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("paired", overflow="fold", min_width=26)
    table.add_column("better by, 95 %", justify="right", no_wrap=True)
    table.add_column("shown?", min_width=12)
    for question, title in QUESTIONS.items():
        asked = [answer for answer in answers if answer.question == question]
        if not asked:
            continue
        if all(answer.verdict == "not answered" for answer in asked):
            table.add_row(Text(title, style="bold"), "", Text("not answered", style="dim"))
            continue
        table.add_row(Text(title, style="bold"))
        for answer in asked:
            over = "" if answer.other is None else f" over {bare(answer.other)}"
            table.add_row(
                Text(f"  {answer.metric.upper()}{over}"),
                gained(answer),
                Text(judged(answer), style=_VERDICTS.get(answer.verdict, "default")),
            )
    return table


def unanswered(study: Study) -> list[str]:
    """Why some questions have no answer, or not a whole one, each reason once."""
    reasons = dict.fromkeys(
        (answer.verdict == "not answered", answer.reason)
        for answer in study.answers
        if answer.reason
    )
    return [f"{'not answered' if none else 'note'}: {reason}" for none, reason in reasons]


def gained(answer: Answer) -> str:
    """`+0.052 [+0.021, +0.083]`, turned so that more is better."""
    bounds = answer.gain_bounds
    if answer.gain is None or bounds is None:
        return ""
    value, low, high = (signed(x, answer.metric) for x in (answer.gain, *bounds))
    return f"{value} [{low}, {high}]"


def judged(answer: Answer) -> str:
    """`yes, p < 0.001`."""
    if answer.p_value is None:
        return "not answered"
    return f"{answer.verdict}, {p_value(answer.p_value)}"


def rows_with_forecasts(board: Board) -> list[Row]:
    """Rows that forecast the close, the least error first."""
    rows = [row for row in board.rows if row.records and OF_THE_CLOSE in row.scores]
    return sorted(rows, key=lambda row: (row.value(OF_THE_CLOSE) is None, _error(row), row.name))


def _error(row: Row) -> float:
    return row.value(OF_THE_CLOSE) or 0.0


def standing(row: Row, study: Study) -> str:
    """How a row's forecasts stand to the last close."""
    if says_the_last_close(row):
        return "is the last close"
    answer = study.closes.get(row.name)
    if answer is None or answer.p_value is None:
        m = row.scores.get(OF_THE_CLOSE)
        return (answer.reason if answer else None) or (m.reason if m else None) or "not compared"
    words = {"yes": "better", "worse": "worse", "not shown": "not told apart"}
    return f"{words[answer.verdict]}, {p_value(answer.p_value)}"


def _table(rows: Sequence[Row], study: Study, names: Sequence[str]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("row", overflow="fold", min_width=20)
    table.add_column("MASE, 95 %", justify="right", no_wrap=True)
    for name in names:
        table.add_column(COLUMNS[name], justify="right", no_wrap=True)
    table.add_column("against it", min_width=17)
    for row in rows:
        table.add_row(
            Text(short(row.name), style=ROLE_STYLES.get(row.role, "default")),
            measured(row.scores.get(OF_THE_CLOSE)),
            *(quantity(name, row.value(name)).removesuffix(" %") for name in names),
            standing(row, study),
        )
    return table


def lines(study: Study) -> list[str]:
    """Every comparison in plain text."""
    if not study.answers:
        return []
    head = f"p corrected by Holm over {study.comparisons} comparisons"
    found = ["", f"What each input adds, paired on the same cases ({head})"]
    for question, title in QUESTIONS.items():
        found.append(f"  {title}")
        found += [
            f"    {short(answer.row)}: {answer.verdict}; {effect(answer)}"
            for answer in study.of(question)
        ]
    if study.closes:
        found += ["", "Forecasts of the next close against the last one (p corrected by Holm)"]
        found += [f"  {short(a.row)}: {effect(a)}" for a in study.closes.values()]
    return found
