"""The interactive charts of the inference page, as plain plotly.js data.

Colours are names that begin with "@" (`@model`, `@warn`); the page looks them up in its theme.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from math import log10

import numpy as np

from candlemark.report.drawing import round_ticks
from candlemark.report.inference.cells import LATENCY, PEAK, Cell, families
from candlemark.report.inference.figures import clip, grouped
from candlemark.report.inference.numbers import figures, measured
from candlemark.report.inference.parts import (
    COLOURS,
    MOST_NAMED,
    TradeOff,
    batch_curves,
    memory_parts,
    memory_range,
    stage_parts,
)
from candlemark.report.page import Chart
from candlemark.report.style import series_colour

MOST_POINTS = 240
"""Of one cell's calls: every so-manieth of more is drawn."""
MOST_TRACES = 6


def _axis_title(text: str) -> Chart:
    return {"title": {"text": text}}


def latency(cells: Sequence[Cell]) -> Chart | None:
    """p50 with its interval, and p95, a line a cell on a log axis."""
    rows = [cell for _, cell in reversed(grouped(cells, LATENCY))]
    if not rows:
        return None
    names = [html.escape(cell.label) for cell in rows]
    values = [cell.value(LATENCY) or 0.0 for cell in rows]
    colours = ["@model" if cell.quotable else "@warn" for cell in rows]
    late = [(name, cell.value("latency_p95_ms")) for name, cell in zip(names, rows, strict=True)]
    known = [(name, value) for name, value in late if value is not None]
    ends = [
        end
        for m in (cell.latency for cell in rows)
        for end in ((m.low, m.high) if m is not None else ())
        if end is not None and end > 0
    ]
    places, labels = round_ticks(
        [*values, *ends, *(v for _, v in known)], lambda tick: f"{tick:,g}"
    )
    return {
        "data": [
            *_intervals(rows, names),
            {
                "type": "scatter",
                "mode": "markers",
                "x": [value for _, value in known],
                "y": [name for name, _ in known],
                "marker": {"symbol": "line-ns-open", "size": 11, "color": "@baseline"},
                "hovertemplate": "<b>%{y}</b><br>p95 %{x:.4g} ms<extra></extra>",
                "showlegend": False,
            },
            {
                "type": "scatter",
                "mode": "markers",
                "x": values,
                "y": names,
                "marker": {
                    "color": ["@model" if cell.quotable else "@paper" for cell in rows],
                    "size": 10,
                    "line": {"color": colours, "width": 2},
                },
                "text": [_told(cell) for cell in rows],
                "hovertemplate": "<b>%{y}</b><br>%{text}<extra></extra>",
                "showlegend": False,
            },
        ],
        "layout": {
            "height": 110 + 27 * len(rows),
            "annotations": [],
            "xaxis": {
                "type": "log",
                "tickvals": places,
                "ticktext": labels,
                **_axis_title(
                    "ms a call (log scale): p50, its interval, p95; hollow may not be quoted"
                ),
            },
            "yaxis": {"categoryorder": "array", "categoryarray": names, "showgrid": False},
        },
    }


def _told(cell: Cell) -> str:
    """A cell's latency with its interval and whatever is to be said of it."""
    m = cell.latency
    lines = [f"p50 {measured(m)}"]
    if m is not None and m.reason:
        lines.append(f"{m.verdict}: {m.reason}" if m.verdict != "VALID" else m.reason)
    if cell.changed_answer:
        lines.append("the answer changed")
    return "<br>".join(html.escape(line) for line in lines)


def _intervals(rows: Sequence[Cell], names: Sequence[str]) -> list[Chart]:
    """Error bars, a trace for each colour because a trace has one."""
    traces: list[Chart] = []
    for quotable in (True, False):
        held = [
            (name, m.value, m.low, m.high)
            for name, cell in zip(names, rows, strict=True)
            if cell.quotable is quotable
            and (m := cell.latency) is not None
            and m.value is not None
            and m.low is not None
            and m.high is not None
        ]
        colour = "@model" if quotable else "@warn"
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": [value for _, value, _, _ in held],
                "y": [name for name, *_ in held],
                "marker": {"size": 0.1, "color": colour},
                "error_x": {
                    "type": "data",
                    "symmetric": False,
                    "array": [high - value for _, value, _, high in held],
                    "arrayminus": [value - low for _, value, low, _ in held],
                    "color": colour,
                    "thickness": 4,
                    "width": 0,
                },
                "hoverinfo": "skip",
                "showlegend": False,
            }
        )
    return traces


def stages(cells: Sequence[Cell]) -> Chart | None:
    """Shares of one batch's time by stage."""
    chart = _stacked(cells, stage_parts, "ms", relative=True)
    if chart is not None:
        chart["layout"]["xaxis"] = {**_axis_title("share of the time, %"), "range": [0, 100]}
    return chart


def memory(cells: Sequence[Cell]) -> Chart | None:
    """The peak by what it is made of."""
    chart = _stacked(cells, memory_parts, "MB", relative=False)
    if chart is not None:
        chart["layout"]["xaxis"] = _axis_title("MB at the peak of forward passes")
    return chart


def _stacked(
    cells: Sequence[Cell],
    parts_of: Callable[[Cell], dict[str, float]],
    unit: str,
    *,
    relative: bool,
) -> Chart | None:
    ordered = [cell for family in families(cells) for cell in family.cells]
    rows = [cell for cell in reversed(ordered) if parts_of(cell)]
    if not rows:
        return None
    labels = [html.escape(cell.label) for cell in rows]
    parts = [parts_of(cell) for cell in rows]
    traces = []
    seen = {name for one in parts for name in one}
    for name in (name for name in COLOURS if name in seen):
        held = [
            (label, one[name], sum(one.values()))
            for label, one in zip(labels, parts, strict=True)
            if name in one
        ]
        traces.append(
            {
                "type": "bar",
                "orientation": "h",
                "name": name,
                "y": [label for label, _, _ in held],
                "x": [100 * v / whole if relative and whole else v for _, v, whole in held],
                "text": [f"{figures(v)} of {figures(whole)} {unit}" for _, v, whole in held],
                "textposition": "none",
                "hovertemplate": f"<b>%{{y}}</b><br>{name} %{{text}}<extra></extra>",
                "marker": {"color": "@control" if name == "rest" else COLOURS[name]},
            }
        )
    return {
        "data": traces,
        "layout": {
            "height": 130 + 27 * len(rows),
            "barmode": "stack",
            "bargap": 0.35,
            "annotations": [],
            "yaxis": {"categoryorder": "array", "categoryarray": labels, "showgrid": False},
            "legend": {"orientation": "h", "y": 1, "yanchor": "bottom", "traceorder": "normal"},
        },
    }


def throughput(cells: Sequence[Cell]) -> Chart | None:
    """Items a second by batch size; the best of each model is named on hover."""
    curves = batch_curves(cells)
    if not curves:
        return None
    sizes = sorted({point.batch for curve in curves for point in curve.points})
    return {
        "data": [
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": html.escape(curve.label),
                "x": [point.batch for point in curve.points],
                "y": [point.rate for point in curve.points],
                "text": [
                    f"{figures(point.rate)} {html.escape(curve.item)}/s"
                    + (", the best" if point is curve.best else "")
                    + ("" if point.quotable else ", may not be quoted")
                    for point in curve.points
                ],
                "hovertemplate": "batch %{x}: %{text}",
                "line": {"color": series_colour(place), "width": 1.6},
                "marker": {"size": 8},
            }
            for place, curve in enumerate(curves)
        ],
        "layout": {
            "height": 360,
            "annotations": [],
            "showlegend": True,
            "xaxis": {
                "type": "log",
                "tickvals": sizes,
                "ticktext": [str(size) for size in sizes],
                **_axis_title("batch size"),
            },
            "yaxis": {"rangemode": "tozero", **_axis_title("items a second")},
            "legend": {"orientation": "h", "y": 1, "yanchor": "bottom", "font": {"size": 10}},
        },
    }


def trade_off(group: TradeOff) -> Chart:
    """Latency against peak memory; the front of what no cell beats in both is joined.

    Where cells are many only the front is named; the others are on hover.
    """
    cells, front = group.cells, group.front
    steps = sorted((c.value(LATENCY) or 1.0, (c.value(PEAK) or 0.0) / 1e6) for c in front)
    times = [cell.value(LATENCY) or 1.0 for cell in cells]
    places, labels = round_ticks(times, lambda tick: f"{tick:,g}")
    sound = [cell.quotable and not cell.changed_answer for cell in cells]
    edge = [
        "@model" if cell in front else "@baseline" if good else "@warn"
        for cell, good in zip(cells, sound, strict=True)
    ]
    return {
        "data": [
            {
                "type": "scatter",
                "mode": "lines",
                "x": [x for x, _ in steps],
                "y": [y for _, y in steps],
                "line": {"shape": "hv", "color": "@model", "width": 1.2},
                "opacity": 0.5,
                "hoverinfo": "skip",
                "showlegend": False,
            },
            {
                "type": "scatter",
                "mode": "markers",
                "x": times,
                "y": [(cell.value(PEAK) or 0.0) / 1e6 for cell in cells],
                "marker": {
                    "size": 11,
                    "color": [c if s else "@paper" for c, s in zip(edge, sound, strict=True)],
                    "line": {"color": edge, "width": 2},
                },
                "text": [
                    f"<b>{html.escape(c.label)}</b><br>{_told(c)}<br>peak {measured(c.get(PEAK))}"
                    for c in cells
                ],
                "hovertemplate": "%{text}<extra></extra>",
                "showlegend": False,
            },
        ],
        "layout": {
            "height": 330,
            "title": {"text": html.escape(group.title), "font": {"size": 13}, "x": 0},
            "xaxis": {
                "type": "log",
                "tickvals": places,
                "ticktext": labels,
                "range": [log10(min(times)) - 0.3, log10(max(times)) + 0.3],
                **_axis_title("latency p50, ms"),
            },
            "yaxis": {"range": list(memory_range(cells)), **_axis_title("peak memory, MB")},
            "annotations": [
                {
                    "x": log10(time),  # plotly places notes of a log axis by exponent
                    "y": (cell.value(PEAK) or 0.0) / 1e6,
                    "text": html.escape(clip(name, 34)),
                    "showarrow": False,
                    "yshift": 14,
                    "name": "row",  # the page moves these apart
                    "font": {"size": 10, "color": "@muted"},
                }
                for time, cell, name in zip(times, cells, group.names, strict=True)
                if cell in front or len(cells) <= MOST_NAMED
            ],
        },
    }


def samples(cells: Sequence[Cell]) -> Chart | None:
    """Each call over its cell's median, in the order of the calls: drift and outliers."""
    timed = [c for c in cells if c.finished and len(c.record.samples.get("latency_ms", ())) > 1]
    if not timed:
        return None
    chosen = sorted(timed, key=lambda cell: cell.quotable)[:MOST_TRACES]
    traces = []
    for place, cell in enumerate(chosen):
        values = np.asarray(cell.record.samples["latency_ms"], dtype=np.float64)
        every = -(-len(values) // MOST_POINTS)
        middle = float(np.median(values)) or 1.0
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": html.escape(cell.label),
                "x": [int(call) + 1 for call in range(0, len(values), every)],
                "y": [round(float(v) / middle, 4) for v in values[::every]],
                "hovertemplate": "call %{x}: %{y:.3f} of the median",
                "marker": {"size": 4, "color": series_colour(place)},
                "visible": True if place < 3 else "legendonly",
            }
        )
    return {
        "data": traces,
        "layout": {
            "height": 380,
            "annotations": [],
            "showlegend": True,
            "xaxis": _axis_title("call"),
            "yaxis": _axis_title("time over the median"),
            "legend": {"orientation": "h", "y": 1, "yanchor": "bottom", "font": {"size": 10}},
        },
    }
