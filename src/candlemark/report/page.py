"""What every page of a report shares: one HTML file that opens with no network.

    drawn: dict[str, Chart] = {}
    body = [header, chart("latency", latency_chart(cells), drawn), environments(records)]
    text = document("demo", body, drawn)

plotly.js is inside, once, where there is a chart. Whatever comes from records is escaped; the page
holds no reference to another host.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from candlemark.records import Measurement, Verdict
from candlemark.report.format import quantity
from candlemark.report.settings import flatten
from candlemark.results.store import Suite

Chart = dict[str, Any]
"""A figure as plotly.js takes it; colours are names that begin with "@"."""


def document(
    title: str,
    body: Sequence[str],
    drawn: Mapping[str, Chart],
    *,
    data: Mapping[str, Any] | None = None,
    scripts: Sequence[str] = (),
) -> str:
    """The whole page around `body`, with the charts that its places name.

    data: JSON types by the id of the element that holds them
    scripts: names of further files of `assets`, which read it; a style of the same name is taken
    """
    assets = files("candlemark.report") / "assets"
    style = (assets / "dashboard.css").read_text(encoding="utf-8")
    script = (assets / "dashboard.js").read_text(encoding="utf-8")
    own = [Path(name).stem for name in scripts]
    styles = [assets / f"{stem}.css" for stem in own]
    style += "".join(path.read_text(encoding="utf-8") for path in styles if path.is_file())
    return "\n".join(
        [
            '<!doctype html>\n<html lang="en" data-theme="light">\n<head>',
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<link rel="icon" href="data:,">',
            f"<title>{escape(title)}: candlemark report</title>",
            f"<style>\n{style}</style>\n</head>\n<body>",
            *body,
            f'<script type="application/json" id="charts">{_embedded(drawn)}</script>',
            *(
                f'<script type="application/json" id="{escape(name)}">{_embedded(value)}</script>'
                for name, value in (data or {}).items()
            ),
            f"<script>{_plotly()}</script>" if drawn else "",
            f"<script>\n{script}</script>",
            *(
                f"<script>\n{(assets / name).read_text(encoding='utf-8')}</script>"
                for name in scripts
            ),
            "</body>\n</html>\n",
        ]
    )


def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


def _embedded(value: Any) -> str:
    """JSON that cannot end the script element it stands in."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def chart(name: str, drawing: Chart | None, drawn: dict[str, Chart]) -> str:
    """The place of a chart, which is noted in `drawn`; nothing where there is none."""
    if drawing is None:
        return ""
    drawn[name] = drawing
    height = int(drawing["layout"]["height"])
    return f'<div class="chart" id="{name}" style="height:{height}px"></div>'


def environments(found: Iterable[Mapping[str, Any]]) -> str:
    """Every machine and its versions, each once."""
    seen = {json.dumps(one, sort_keys=True): one for one in found if one}
    lists = [
        "<dl>"
        + "".join(
            f"<dt>{escape(name)}</dt><dd>{escape('unknown' if value is None else str(value))}</dd>"
            for name, value in flatten(environment).items()
        )
        + "</dl>"
        for environment in seen.values()
    ]
    note = ""
    if len(seen) > 1:
        note = (
            f'<p class="note">{len(seen)} environments: timings compare only where '
            "comparability_key is the same.</p>"
        )
    return f'<section id="environment"><h2>Environment</h2>{note}{"".join(lists)}</section>'


def configs(suites: Sequence[Suite]) -> str:
    """The complete config of every suite, to be opened."""
    parts = [
        f"<details><summary>Suite {escape(suite.suite_id)}, started {escape(suite.started_at)}"
        f"</summary><pre>{escape(json.dumps(suite.config, indent=2))}</pre></details>"
        for suite in suites
    ]
    shown = "".join(parts) or '<p class="note">No suite is stored with these trials.</p>'
    return f'<section id="config"><h2>Config</h2>{shown}</section>'


def score_cell(name: str, m: Measurement | None) -> str:
    """A cell of a table that sorts: the value, its interval, and what keeps it from being quoted.

    Empty where nothing was measured.
    """
    value = "" if m is None or m.value is None else repr(m.value)
    shown = escape(quantity(name, m.value)) if m is not None else ""
    if m is not None and m.low is not None and m.high is not None:
        shown += f"<small>{m.low:.3f} to {m.high:.3f}</small>"
    hint = f' title="{escape(m.reason)}"' if m is not None and m.reason else ""
    if m is not None and m.verdict is not Verdict.VALID:
        shown += (
            f'<small><abbr class="verdict" tabindex="0"{hint}>{escape(m.verdict)}</abbr></small>'
        )
    return f'<td class="number" data-value="{value}"{hint}>{shown}</td>'
