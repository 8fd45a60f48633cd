"""The interactive charts of the page, as plain plotly.js data.

Colours are names that begin with "@" (`@model`, `@muted`); the page looks them up in its
theme, so that one chart serves light and dark.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from math import log10
from typing import Any

from candlemark.report.contests import pareto_front
from candlemark.report.figures import cost_ticks, reliability
from candlemark.report.format import measured, quantity, short, title_of
from candlemark.report.page import Chart
from candlemark.report.statistics import PRIMARY, Board, Row


def forest(board: Board) -> Chart | None:
    """AUROC of every row with both of its intervals."""
    rows = [row for row in reversed(board.rows) if row.value(PRIMARY) is not None]
    if not rows:
        return None
    names = [html.escape(short(row.name)) for row in rows]
    values = [row.value(PRIMARY) for row in rows]
    colours = [f"@{row.role}" for row in rows]
    thin = _bars(rows, [(row.adjusted.low, row.adjusted.high) for row in rows], 1.2, 0)
    thick = _bars(rows, [(row.scores[PRIMARY].low, row.scores[PRIMARY].high) for row in rows], 4, 0)
    points = {
        "type": "scatter",
        "mode": "markers",
        "x": values,
        "y": names,
        "marker": {"color": colours, "size": 10, "line": {"color": "@paper", "width": 1.5}},
        "text": [html.escape(measured(row.scores[PRIMARY])) for row in rows],
        "hovertemplate": "<b>%{y}</b><br>AUROC %{text}<extra></extra>",
        "showlegend": False,
    }
    shapes = [_line(0.5, "@muted", "dash")]
    attainable = board.attainable_auroc
    near = attainable is not None and abs(attainable - 0.5) < 0.1
    notes = [_note(0.5, "chance", "@muted", "right" if near else "center")]
    if attainable is not None:
        shapes.append(_line(attainable, "@good", "solid"))
        notes.append(_note(attainable, "attainable", "@good", "left" if near else "center"))
    together = f"{board.family_level:.0%}".replace("%", " %")
    return {
        "data": [*thin, *thick, points],
        "layout": {
            "height": 110 + 30 * len(rows),
            "shapes": shapes,
            "annotations": notes,
            "xaxis": {
                "title": {"text": f"AUROC: thick 95 %, thin {together} for all rows together"}
            },
            "yaxis": {"categoryorder": "array", "categoryarray": names, "showgrid": False},
        },
    }


def _bars(
    rows: Sequence[Row], bounds: Sequence[tuple[float | None, float | None]], width: float, cap: int
) -> list[Chart]:
    """Error bars, a trace for each role because a trace has one colour."""
    traces = []
    for role in dict.fromkeys(row.role for row in rows):
        held = [
            (html.escape(short(row.name)), row.value(PRIMARY) or 0.0, low, high)
            for row, (low, high) in zip(rows, bounds, strict=True)
            if row.role == role and low is not None and high is not None
        ]
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": [value for _, value, _, _ in held],
                "y": [name for name, *_ in held],
                "marker": {"size": 0.1, "color": f"@{role}"},
                "error_x": {
                    "type": "data",
                    "symmetric": False,
                    "array": [high - value for _, value, _, high in held],
                    "arrayminus": [value - low for _, value, low, _ in held],
                    "color": f"@{role}",
                    "thickness": width,
                    "width": cap,
                },
                "hoverinfo": "skip",
                "showlegend": False,
            }
        )
    return traces


def _line(x: float, colour: str, dash: str) -> Chart:
    return {
        "type": "line",
        "xref": "x",
        "yref": "paper",
        "x0": x,
        "x1": x,
        "y0": 0,
        "y1": 1,
        "line": {"color": colour, "width": 1.3, "dash": dash},
        "layer": "below",
    }


def _note(x: float, text: str, colour: str, anchor: str) -> Chart:
    return {
        "x": x,
        "y": 1,
        "yref": "paper",
        "text": text,
        "showarrow": False,
        "xanchor": anchor,
        "yanchor": "bottom",
        "font": {"size": 11, "color": colour},
    }


def trade_off(board: Board, cost: str) -> Chart | None:
    """AUROC against a cost on a log axis; filled points lie on the Pareto front."""
    rows = [row for row in board.models if row.value(cost)]
    if not rows:
        return None
    front = pareto_front(rows, cost)
    ordered = sorted(rows, key=lambda row: row.value(cost) or 0.0)
    on_front = [row for row in ordered if row.name in front]
    spent = [row.value(cost) or 1.0 for row in ordered]
    places, labels = cost_ticks(cost, spent)
    return {
        "data": [
            {
                "type": "scatter",
                "mode": "lines",
                "x": [row.value(cost) for row in on_front],
                "y": [row.value(PRIMARY) for row in on_front],
                "line": {"shape": "hv", "color": "@model", "width": 1.2},
                "opacity": 0.5,
                "hoverinfo": "skip",
                "showlegend": False,
            },
            {
                "type": "scatter",
                "mode": "markers",
                "x": [row.value(cost) for row in ordered],
                "y": [row.value(PRIMARY) for row in ordered],
                "marker": {
                    "size": 11,
                    "color": ["@model" if row.name in front else "@baseline" for row in ordered],
                },
                "text": [_tip(row, cost) for row in ordered],
                "hovertemplate": "%{text}<extra></extra>",
                "showlegend": False,
            },
        ],
        "layout": {
            "height": 320,
            "title": {"text": f"Accuracy against {title_of(cost)}", "font": {"size": 13}, "x": 0},
            "xaxis": {
                "type": "log",
                "title": {"text": title_of(cost)},
                "tickvals": places,
                "ticktext": labels,
                "range": [log10(spent[0]) - 0.35, log10(spent[-1]) + 0.35],
            },
            "yaxis": {"title": {"text": "AUROC"}},
            "annotations": [_name(row, cost) for row in ordered],
        },
    }


def _tip(row: Row, cost: str) -> str:
    auroc = html.escape(measured(row.scores[PRIMARY]))
    spent = f"{title_of(cost)} {quantity(cost, row.value(cost))}"
    return f"<b>{html.escape(short(row.name))}</b><br>AUROC {auroc}<br>{spent}"


def _name(row: Row, cost: str) -> Chart:
    return {
        "x": log10(row.value(cost) or 1.0),  # plotly places notes of a log axis by exponent
        "y": row.value(PRIMARY),
        "text": html.escape(short(row.name)[:32]),
        "showarrow": False,
        "yshift": 14,
        "name": "row",  # the page moves these apart
        "font": {"size": 10, "color": "@muted"},
    }


def curves(board: Board) -> Chart | None:
    """Validation loss by epoch of every model, the first seed of each."""
    traces: list[Chart] = []
    for row in board.models:
        history: Sequence[Mapping[str, Any]] = row.records[0].history if row.records else ()
        for name, dash in (("train_loss", "dot"), ("validation_loss", "solid")):
            points = [(e["epoch"], e[name]) for e in history if e.get(name) is not None]
            if points:
                traces.append(
                    {
                        "type": "scatter",
                        "mode": "lines+markers" if len(points) < 3 else "lines",
                        "x": [x for x, _ in points],
                        "y": [y for _, y in points],
                        "name": html.escape(short(row.name)),
                        "legendgroup": row.name,
                        "showlegend": name == "validation_loss",
                        "line": {"dash": dash, "width": 2, "color": _series(row, board)},
                    }
                )
    if not traces:
        return None
    longest = max(len(trace["x"]) for trace in traces)
    return {
        "data": traces,
        "layout": {
            "height": 340,
            "title": {
                "text": "Loss by epoch: solid validation, dotted train",
                "font": {"size": 13},
                "x": 0,
            },
            "xaxis": {"title": {"text": "epoch"}, "tick0": 1, "dtick": max(1, -(-longest // 8))},
            "yaxis": {"title": {"text": "loss"}},
            "legend": {"orientation": "h", "y": -0.25, "font": {"size": 10}},
        },
    }


def calibration(board: Board) -> Chart | None:
    """Said against came true for each model."""
    rows = [row for row in board.models if row.records and row.records[0].predictions]
    if not rows:
        return None
    diagonal = {
        "type": "scatter",
        "mode": "lines",
        "x": [0, 1],
        "y": [0, 1],
        "line": {"color": "@muted", "dash": "dash", "width": 1},
        "hoverinfo": "skip",
        "showlegend": False,
    }
    traces = [diagonal]
    for row in rows:
        said, came_true, count = reliability(row)
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "x": said.tolist(),
                "y": came_true.tolist(),
                "name": html.escape(short(row.name)),
                "text": [f"{int(n):,} cases" for n in count],
                "hovertemplate": "said %{x:.2f}, came true %{y:.2f}<br>%{text}",
                "line": {"width": 1.5, "color": _series(row, board)},
                "marker": {"size": (5 + 18 * (count / count.sum()) ** 0.5).tolist()},
            }
        )
    floor = 1 / max(len(board.class_names), 2)
    return {
        "data": traces,
        "layout": {
            "height": 340,
            "title": {
                "text": "Calibration: on the line, a probability means what it says",
                "font": {"size": 13},
                "x": 0,
            },
            "xaxis": {"title": {"text": "probability said"}, "range": [floor - 0.03, 1.03]},
            "yaxis": {"title": {"text": "share that came true"}, "range": [-0.03, 1.03]},
            "legend": {"orientation": "h", "y": -0.25, "font": {"size": 10}},
        },
    }


def _series(row: Row, board: Board) -> str:
    from candlemark.report.style import series_colour

    return series_colour([model.name for model in board.models].index(row.name))
