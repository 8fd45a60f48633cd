"""Numbers with units, in the unit that a measure is stored in.

    in_unit_of(find_quantity("peak_memory_bytes"), 500, "MB")        # 5e8
    in_unit_of(find_quantity("latency_p95_ms"), 0.02, "s")           # 20.0

Decimal prefixes are powers of 1000 (kB, MB), binary ones of 1024 (KiB, MiB). A bare `k`, `M`,
`G` or `T` multiplies the measure's own unit; `%` is a hundredth of a number without one.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from candlemark.errors import ConfigError
from candlemark.metrics.catalog import all_scores
from candlemark.metrics.measures import MEASURES

_PREFIXES = {"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}


def _scaled(unit: str, **more: float) -> dict[str, float]:
    """A unit with the decimal prefixes, and the prefixes alone."""
    prefixed = {f"{prefix}{unit}": factor for prefix, factor in _PREFIXES.items()}
    return {unit: 1.0, **_PREFIXES, **prefixed, **more}


_TIME = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0}
_BYTES = {"KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30, "TiB": 2.0**40, "KB": 1e3, "bytes": 1.0}

_UNITS: dict[str, dict[str, float]] = {
    "ms": {unit: factor * 1e3 for unit, factor in _TIME.items()},
    "s": _TIME,
    "bytes": _scaled("B", **_BYTES),
    "J": {"J": 1.0, "mJ": 1e-3, "uJ": 1e-6, "kJ": 1e3, "Wh": 3600.0},
    "W": {"W": 1.0, "mW": 1e-3, "kW": 1e3},
    "FLOPs": _scaled("FLOPs"),
    "MACs": _scaled("MACs"),
    "FLOPs/s": _scaled("FLOPs/s"),
    "items": _scaled("items"),
    "items/s": {**_scaled("items/s"), "/s": 1.0},
    "tokens/s": {**_scaled("tokens/s"), "/s": 1.0},
    "": {**_PREFIXES, "%": 0.01},
    "%": {"%": 1.0},
}
"""For each unit that a measure is stored in: what other units are in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """What can be asked for by name: a measure, or the score of a classifier.

    is_score: measured on test cases, by the tasks `charts` and `fusion`
    """

    name: str
    title: str
    unit: str
    higher_is_better: bool | None
    is_score: bool


def find_quantity(name: str) -> Quantity:
    """The measure or score called `name`; ConfigError names the nearest one."""
    if name in MEASURES:
        measure = MEASURES[name]
        return Quantity(
            name=name,
            title=measure.title,
            unit=measure.unit,
            higher_is_better=measure.higher_is_better,
            is_score=False,
        )
    scores = all_scores()
    if name in scores:
        return Quantity(
            name=name,
            title=scores[name].title,
            unit=scores[name].unit,
            higher_is_better=scores[name].higher_is_better,
            is_score=True,
        )
    known = [*MEASURES, *scores]
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(known)}"
    raise ConfigError(f"unknown measure '{name}'; {hint}")


def in_unit_of(quantity: Quantity, number: float, unit: str) -> float:
    """`number` of `unit` in the unit of `quantity`; no unit means its own.

    Raises ConfigError: the unit does not measure this.
    """
    if unit in {"", quantity.unit}:
        return number
    known = _UNITS.get(quantity.unit, {})
    if unit not in known:
        own = f"in {quantity.unit}" if quantity.unit else "a number without unit"
        raise ConfigError(
            f"unknown unit '{unit}' of {quantity.name}, which is {own}; known: {', '.join(known)}"
        )
    return number * known[unit]
