"""The interactive chart of what each input adds, as plain plotly.js data."""

from __future__ import annotations

import html

from candlemark.report.format import short
from candlemark.report.fusion.questions import Answer, Study
from candlemark.report.fusion.sentences import bare
from candlemark.report.fusion.text import gained, judged
from candlemark.report.page import Chart

_COLOURS = {"yes": "@good", "worse": "@bad", "not shown": "@muted"}
_ASKED = {
    "text": "text",
    "pixels": "pixels",
    "numbers": "against numbers",
    "persistence": "against persistence",
}
_AXES = {"auroc": "AUROC gained", "mase": "MASE saved"}


def gains(study: Study) -> Chart | None:
    """Each comparison with its interval, a panel for each measure; right of 0 is better."""
    shown = [answer for answer in study.answers if answer.gain_bounds is not None]
    if not shown:
        return None
    measures = [metric for metric in _AXES if any(a.metric == metric for a in shown)]
    names = list(dict.fromkeys(line_name(answer, study) for answer in reversed(shown)))
    data = [
        _trace(answer, place + 1, html.escape(line_name(answer, study)))
        for place, metric in enumerate(measures)
        for answer in shown
        if answer.metric == metric
    ]
    share = 1 / len(measures)
    axes: Chart = {
        f"xaxis{'' if place == 0 else place + 1}": {
            "domain": [place * share + 0.02 * place, (place + 1) * share - 0.02 * (place == 0)],
            "title": {"text": _AXES[metric], "font": {"size": 11}},
            "rangemode": "tozero",
            "zeroline": False,
            "gridcolor": "@line",
            "nticks": 5,
        }
        for place, metric in enumerate(measures)
    }
    return {
        "data": data,
        "layout": {
            "height": 90 + 30 * len(names),
            "annotations": [],
            "shapes": [_zero(place + 1) for place in range(len(measures))],
            "yaxis": {
                "categoryorder": "array",
                "categoryarray": [html.escape(name) for name in names],
                "showgrid": False,
            },
            **axes,
        },
    }


def _zero(panel: int) -> Chart:
    return {
        "type": "line",
        "xref": f"x{'' if panel == 1 else panel}",
        "yref": "paper",
        "x0": 0,
        "x1": 0,
        "y0": 0,
        "y1": 1,
        "line": {"color": "@muted", "width": 1.3, "dash": "dash"},
        "layer": "below",
    }


def line_name(answer: Answer, study: Study) -> str:
    """What a line of a figure is called: the question, and the row where there are several."""
    several = len({other.row for other in study.answers}) > 1
    asked = _ASKED[answer.question]
    return f"{asked}: {short(answer.row)}" if several else asked


def _trace(answer: Answer, panel: int, name: str) -> Chart:
    low, high = answer.gain_bounds or (0.0, 0.0)
    gain = answer.gain or 0.0
    colour = _COLOURS.get(answer.verdict, "@muted")
    over = html.escape(bare(answer.other or ""))
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [gain],
        "y": [name],
        "xaxis": f"x{'' if panel == 1 else panel}",
        "yaxis": "y",
        "marker": {"color": colour, "size": 10, "line": {"color": "@paper", "width": 1.5}},
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": [high - gain],
            "arrayminus": [gain - low],
            "color": colour,
            "thickness": 3,
            "width": 0,
        },
        "text": [html.escape(f"{gained(answer)}, {judged(answer)}")],
        "hovertemplate": f"<b>%{{y}}</b><br>over {over}<br>%{{text}}<extra></extra>",
        "showlegend": False,
    }
