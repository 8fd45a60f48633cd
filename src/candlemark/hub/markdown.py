"""Tables, numbers and names in the Markdown of cards.

table(("row", "AUROC"), [("mine", "0.71")], right=(1,))
number(0.71234)                       # "0.712"
interval(m)                           # "0.712 [0.650, 0.774]"
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from candlemark.metrics.catalog import METRICS
from candlemark.records import Measurement, Verdict
from candlemark.report.format import quantity, title_of

UNKNOWN = "n/a"


def table(head: Sequence[str], lines: Iterable[Sequence[str]], *, right: Sequence[int] = ()) -> str:
    """A table; columns in `right` are flush right. Cells are Markdown already."""
    rule = ["---:" if column in right else "---" for column in range(len(head))]
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, rule, *lines))


def escaped(text: object) -> str:
    r"""Text that Markdown shows as it is: `a|b_c` becomes `a\|b\_c`, a line end a space."""
    return re.sub(r"([\\|`*_<>\[\]#~])", r"\\\1", " ".join(str(text).split()))


def code(text: object) -> str:
    """Text as code, in a table as well; a backtick in it becomes an apostrophe."""
    plain = " ".join(str(text).split()).replace("`", "'").replace("|", "\\|")
    return f"`{plain}`"


def count(number: int, noun: str) -> str:
    """`1 window`, `2 windows`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def title(m: Measurement) -> str:
    """What a measurement is called, with its unit where the value does not carry it."""
    return f"{title_of(m.name)}{f', {m.unit}' if m.unit == '%' else ''}"


def interval(m: Measurement | None) -> str:
    """Value, interval, and the verdict that keeps it from being quoted."""
    if m is None or m.value is None:
        return UNKNOWN
    bounded = m.low is not None and m.high is not None
    text = number(m.name, m.value)
    if bounded:
        text += f" [{number(m.name, m.low)}, {number(m.name, m.high)}]"
    return text if m.verdict is Verdict.VALID else f"{text} {m.verdict}"


def number(name: str, value: float | None) -> str:
    """A value at the precision it bears: scores and errors to three places, the rest in units."""
    if value is None:
        return UNKNOWN
    if name in METRICS or name in FORECASTS:
        return f"{value:.3f}"
    return quantity(name, value)


FORECASTS = ("mae_percent", "rmse_percent", "mase", "directional_accuracy")
"""Scores of the next close, in the order of tables."""
