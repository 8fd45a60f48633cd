"""How the numbers of inference are written, with as many digits as their intervals bear.

with_interval(12.3456, 12.28, 12.41)     # "12.35 ±0.07"
with_interval(12.3, 12.1, 15.0)          # "12.3 -0.2 +2.7"
figures(1234.5), figures(0.01234)        # "1,230", "0.0123"
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from candlemark.metrics.measures import MEASURES
from candlemark.records import Measurement

UNKNOWN = "-"

UNITS: dict[str, tuple[float, str]] = {
    "bytes": (1e6, "MB"),
    "FLOPs": (1e9, "GFLOPs"),
    "MACs": (1e9, "GMACs"),
    "FLOPs/s": (1e9, "GFLOPs/s"),
}
"""Units that are shown in larger ones: the divisor and the name."""


def figures(value: float, digits: int = 3) -> str:
    """A number to `digits` significant figures, never in powers of ten below a billion."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else str(value)
    if not 1e-6 <= abs(value) < 1e9:
        return f"{value:.{digits - 1}e}"
    decimals = digits - 1 - math.floor(math.log10(abs(value)))
    return f"{round(value, decimals):,.{max(decimals, 0)}f}"


def with_interval(value: float, low: float | None, high: float | None) -> str:
    """A value and its interval, rounded outward, with two to four figures of the value.

    One distance stands for both sides, the larger, unless the sides are unlike or it is most of
    the value.
    """
    if low is None or high is None:
        return figures(value)
    below, above = max(value - low, 0.0), max(high - value, 0.0)
    wider, narrower = max(below, above), min(below, above)
    if not wider:
        return f"{figures(value, 4)} ±0"
    power = math.floor(math.log10(abs(value))) if value else 0
    decimals = max(min(_decimals(wider), 3 - power), 1 - power)
    middle = _rounded(value, decimals)
    if wider <= SKEWED * narrower and wider < abs(value) / 2:
        return f"{middle} ±{_outward(wider, decimals)}"
    return f"{middle} -{_outward(below, decimals)} +{_outward(above, decimals)}"


SKEWED = 3
"""An interval of which one side is so many times the other is written with both."""


def _decimals(error: float) -> int:
    """Places after the point of an error: one figure, two where the first is a 1."""
    power = math.floor(math.log10(error))
    return -power + (error / 10.0**power < 2)


def _rounded(value: float, decimals: int) -> str:
    return f"{round(value, decimals):,.{max(decimals, 0)}f}"


def _outward(value: float, decimals: int) -> str:
    step = 10.0**-decimals
    return _rounded(math.ceil(value / step - 1e-6) * step, decimals)


def interval(m: Measurement | None) -> str:
    """`[12.28, 12.41]`, "" where there is none."""
    if m is None or m.low is None or m.high is None:
        return ""
    divisor, _ = unit_of(m.name)
    return f"[{figures(m.low / divisor, 4)}, {figures(m.high / divisor, 4)}]"


def measured(m: Measurement | None) -> str:
    """Value, interval and unit; `-` for what is unknown."""
    if m is None or m.value is None:
        return UNKNOWN
    divisor, unit = unit_of(m.name)
    if m.name in {"utilisation", "answer_agreement"}:
        return share(m.value)
    if m.name == "relative_error":
        return error(m.value)
    if m.name == "parameters":
        return scaled(m.value)
    ends = (None if end is None else end / divisor for end in (m.low, m.high))
    return f"{with_interval(m.value / divisor, *ends)} {unit}".strip()


def scaled(value: float) -> str:
    """`1327216` as `1.33 M`."""
    for size, suffix in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{suffix}"
    return f"{value:.3g}"


def unit_of(name: str) -> tuple[float, str]:
    """By what a measure is divided before it is shown, and the unit that it then has."""
    unit = MEASURES[name].unit if name in MEASURES else ""
    return UNITS.get(unit, (1.0, unit))


def share(value: float) -> str:
    """0.123 as `12 %`, small ones with more figures."""
    percent = 100 * value
    return f"{percent:.0f} %" if percent >= 10 else f"{percent:.2g} %"


def error(value: float) -> str:
    """A relative error to two figures: `0.0041`, `2.3e-05`."""
    return figures(value, 2) if value == 0 or value >= SMALL else f"{value:.1e}"


SMALL = 1e-3


def span(values: Sequence[float], unit: str) -> str:
    """From the least to the most of several values: `0.1 to 2.3 s`."""
    low, high = figures(min(values), 2), figures(max(values), 2)
    return f"{low} {unit}" if low == high else f"{low} to {high} {unit}"
