"""The page of a run: its tables, and a viewer of slices in which answers lie on the references.

    packed = pack(board, load)
    write_page(board, packed, suites, Path("reports/segmentation.html"), title="segment")

One file that opens with no network: slices, masks and script are inside. Arrow keys change the
slice, `n` and `m` the row, `,` and `.` the case, `r` and `p` hide reference and prediction.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from candlemark.report.format import listed, short
from candlemark.report.page import Chart, configs, document, environments
from candlemark.report.segmentation.board import Board
from candlemark.report.segmentation.packing import Packed
from candlemark.report.segmentation.tables import FOOTER, section
from candlemark.report.segmentation.text import answer
from candlemark.report.segmentation.views import SIDES
from candlemark.results.files import write_text
from candlemark.results.store import Suite

KEYS = (
    "Keys: left and right change the slice, n and m the row, comma and full stop the case; "
    "r hides the reference, p the prediction."
)


def write_page(
    board: Board, packed: Packed, suites: Sequence[Suite], path: Path, *, title: str
) -> Path:
    """Write the page, whole or not at all."""
    return write_text(path, page(board, packed, suites, title=title))


def page(board: Board, packed: Packed, suites: Sequence[Suite] = (), *, title: str) -> str:
    """The whole page of one board."""
    drawn: dict[str, Chart] = {}
    body = [
        _header(board, packed, title),
        '<main class="masks wide">',
        section(board, place=0, drawn=drawn),
        viewer(board, packed),
        environments(record.environment for row in board.everyone for record in row.records),
        configs(suites),
        "</main>",
        FOOTER,
    ]
    data = {"slices-data": packed.to_dict()}
    return document(title, body, drawn, data=data, scripts=("slices.js",))


def _header(board: Board, packed: Packed, title: str) -> str:
    look = '<a href="#slices">Slices</a>' if packed.cases else ""
    return (
        '<header class="wide"><div>'
        f'<p class="asked">{escape(title)}: which model segments these scans best, '
        "and can the answer be trusted?</p>"
        f"<h1>{escape(answer(board))}</h1>"
        f'<nav aria-label="Sections"><a href="#masks-0">Scores</a>{look}'
        '<a href="#environment">Environment</a><a href="#config">Config</a>'
        '<button class="theme" type="button" aria-label="Change colours">dark</button>'
        "</nav></div></header>"
    )


def viewer(board: Board, packed: Packed) -> str:
    """The place of the slice viewer; a sentence where there is nothing to be seen."""
    if not packed.cases:
        return (
            '<section id="slices"><h2>Slices</h2><p class="note">No slice is shown: no case has '
            "an answer whose files are still there.</p></section>"
        )
    cases = "".join(
        f'<option value="{place}">{escape(str(case["id"]))}</option>'
        for place, case in enumerate(packed.cases)
    )
    marks = {row.name: _marks(board, row.name) for row in (*board.rows, *board.oracles)}
    rows = "".join(
        f'<option value="{escape(name)}">{escape(short(name) + marks[name])}</option>'
        for name in packed.rows
    )
    legend = "".join(
        f'<li><span class="fill" style="background:{one["fill"]}"></span>'
        f'<span class="line" style="border-color:{one["line"]}"></span>{escape(one["name"])}</li>'
        for one in packed.classes.values()
    )
    notes = "".join(f'<p class="note">{escape(line)}</p>' for line in (*_missing(packed), KEYS))
    return (
        '<section id="slices"><h2>Slices</h2><div class="viewer">'
        f'<div class="choices"><label>Case <select id="slices-case">{cases}</select></label>'
        f'<label>Row <select id="slices-row">{rows}</select></label>'
        '<label><input type="checkbox" id="slices-reference" checked> Reference</label>'
        '<label><input type="checkbox" id="slices-prediction" checked> Prediction</label></div>'
        f'<p class="told" id="slices-told" aria-live="polite"></p>'
        '<canvas id="slices-view" role="img" tabindex="0"></canvas>'
        '<div class="travel"><canvas id="slices-areas" aria-hidden="true"></canvas>'
        '<input type="range" id="slices-place" min="0" value="0" aria-label="Slice">'
        '<output id="slices-where" for="slices-place"></output></div>'
        f'<ul class="legend">{legend}<li>filled: reference, line: prediction</li></ul></div>'
        f"{notes}</section>"
    )


def _marks(board: Board, name: str) -> str:
    row = board.row(name)
    marks = [mark for mark, set_ in (("ORACLE", row.oracle), ("UNTRAINED", row.untrained)) if set_]
    marks += ["control"] if not row.is_model else []
    return f" ({', '.join(marks)})" if marks else ""


def _missing(packed: Packed) -> list[str]:
    """What the viewer does not show, and why; what its letters mean."""
    lines = []
    if packed.left_out:
        here = f"{len(packed.cases)} cases are here" if len(packed.cases) > 1 else "1 case is here"
        more = f"{len(packed.left_out)} case{'s' if len(packed.left_out) > 1 else ''} more"
        lines.append(f"{here}, the most telling; {more} would make the page too large.")
    if packed.gone:
        lines.append(f"The files of {_some(packed.gone)} are not there any more.")
    if any(case["sides"] for case in packed.cases):
        lines.append(SIDES)
    if any(case["shrunk"] > 1 or len(case["slices"]) < case["of"] for case in packed.cases):
        lines.append(
            "Large scans are shown smaller and thinned out, as the line above the picture says; "
            "scores are of the whole scan."
        )
    return lines


def _some(names: Sequence[str]) -> str:
    return listed(names) if len(names) < 4 else f"{len(names)} others"
