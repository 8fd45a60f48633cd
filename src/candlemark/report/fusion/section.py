"""What the page shows of fusion: the answers, their intervals, the forecasts of the close.

html = section(board, ask(board), place=0, drawn=drawn)
"""

from __future__ import annotations

from html import escape

from candlemark.report.format import short, title_of
from candlemark.report.fusion import charts
from candlemark.report.fusion.questions import QUESTIONS, Answer, Study
from candlemark.report.fusion.sentences import alarm, attainable, bare, headline
from candlemark.report.fusion.text import (
    COLUMNS,
    gained,
    judged,
    rows_with_forecasts,
    standing,
    unanswered,
)
from candlemark.report.page import Chart, chart, score_cell
from candlemark.report.statistics import OF_THE_CLOSE, Board

_GAINS = {"auroc": "Class: AUROC gained, 95 %", "mase": "Next close: MASE saved, 95 %"}
_CLASSES = {"yes": "good", "worse": "failed"}


def section(board: Board, study: Study, *, place: int, drawn: dict[str, Chart]) -> str:
    """The part of a board's section that only fusion has."""
    said = headline(study)
    parts = [
        "<h3>What each input adds</h3>",
        f"<p><b>{escape(said[0].upper() + said[1:])}.</b></p>",
    ]
    warning = alarm(study)
    if warning:
        parts.append(f'<p class="failed"><b>{escape(warning)}</b></p>')
    limit = attainable(study)
    if limit:
        parts.append(f'<p class="note">{escape(limit)}</p>')
    parts.append(chart(f"gains-{place}", charts.gains(study), drawn))
    parts.append(_answers(study))
    parts += [f'<p class="note">{escape(note)}</p>' for note in unanswered(study)]
    parts.append(_closes(board, study))
    return "\n".join(parts)


def _answers(study: Study) -> str:
    """A line for each question and row, a column for each measure."""
    measures = [name for name in _GAINS if any(a.metric == name for a in study.answers)]
    rows = list(dict.fromkeys(answer.row for answer in study.answers))
    lines = []
    for question, title in QUESTIONS.items():
        for row in rows:
            asked = {answer.metric: answer for answer in study.of(question) if answer.row == row}
            if all(answer.verdict == "not answered" for answer in asked.values()):
                continue
            cells = "".join(_gain(asked[name]) for name in measures)
            name = f"{escape(title)}<small>{escape(short(row))}</small>"
            lines.append(f'<tr><td class="name">{name}</td>{cells}</tr>')
    if not lines:
        return ""
    head = "".join(f'<th class="number">{escape(_GAINS[name])}</th>' for name in measures)
    return (
        f'<div class="scroll"><table><thead><tr><th>Question</th>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
        f'<p class="note">Paired on the same test cases; p corrected by Holm over all '
        f"{study.comparisons} comparisons. Above 0 is better, whatever the measure.</p>"
    )


def _gain(answer: Answer) -> str:
    if answer.verdict == "not answered":
        return '<td class="number">not answered</td>'
    kind = _CLASSES.get(answer.verdict, "")
    return (
        f'<td class="number">{escape(gained(answer))}<small>'
        f'<b class="{kind}">{escape(judged(answer))}</b>, over {escape(bare(answer.other or ""))}'
        "</small></td>"
    )


def _closes(board: Board, study: Study) -> str:
    rows = rows_with_forecasts(board)
    if not rows:
        return ""
    names = [name for name in COLUMNS if any(name in row.scores for row in rows)]
    head = "".join(
        f'<th class="number"><button type="button">{escape(_head(name))}</button></th>'
        for name in (OF_THE_CLOSE, *names)
    )
    lines = "\n".join(
        f'<tr class="{escape(row.role)}"><td class="name">{escape(short(row.name))}</td>'
        f"{''.join(score_cell(name, row.scores.get(name)) for name in (OF_THE_CLOSE, *names))}"
        f"<td>{escape(standing(row, study))}</td></tr>"
        for row in rows
    )
    return (
        '<h3>The next close</h3><p class="note">MASE: the mean error of the price over that of '
        "saying the last close again, which has 1; MAE and RMSE in per cent of the last close; "
        "direction: share of moves whose sign was forecast.</p>"
        '<div class="scroll"><table><thead><tr><th><button type="button">Row</button></th>'
        f'{head}<th><button type="button">Against the last close</button></th></tr></thead>'
        f"<tbody>{lines}</tbody></table></div>"
    )


def _head(name: str) -> str:
    return "Direction" if name == "directional_accuracy" else title_of(name)
