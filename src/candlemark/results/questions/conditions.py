"""Conditions on measures, as people write them.

    parse_conditions(["latency_p95_ms < 20", "peak_memory_bytes <= 500MB and auroc > 0.6"])

    conditions = condition, { "and", condition } ;
    condition  = name, operator, number, [ unit ] ;
    name       = a measure (latency_p95_ms) or a score (auroc) ;
    operator   = "<" | "<=" | ">" | ">=" | "=" ;
    unit       = ns us ms s min h, B kB MB GB KiB MiB GiB, J mJ kJ Wh, W, FLOPs GFLOPs, /s,
                 k M G T, % ;

A number without unit is in the unit at the end of the name. Spaces are free.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from candlemark.errors import ConfigError
from candlemark.results.units import Quantity, find_quantity, in_unit_of

OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "=": operator.eq,
}
_FORM = re.compile(
    r"\s*(?P<name>[A-Za-z_][\w.]*)\s*(?P<operator><=|>=|<|>|==?)\s*"
    r"(?P<number>[+-]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(?P<unit>[A-Za-zµ%/]*)\s*"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """What a value must be; `limit` is in the quantity's own unit, `text` as it was written."""

    quantity: Quantity
    operator: str
    limit: float
    text: str

    def holds(self, value: float) -> bool:
        """Whether a value, in the quantity's own unit, fulfils it."""
        return OPERATORS[self.operator](value, self.limit)


def parse_conditions(texts: Iterable[str]) -> tuple[Condition, ...]:
    """Read conditions; several in one text are joined by `and`.

    Raises ConfigError: one is not of the form, its name or its unit is unknown, or there is
    none.
    """
    parts = [part for text in texts for part in re.split(r"\b(?:and|AND)\b", text)]
    if not parts:
        raise ConfigError('no condition; ask like: candlemark results find "latency_p95_ms < 20"')
    return tuple(_parse(part.strip()) for part in parts)


def _parse(text: str) -> Condition:
    found = _FORM.fullmatch(text)
    if found is None:
        raise ConfigError(
            f"cannot read the condition '{text}'; write a name, one of {' '.join(OPERATORS)}, "
            "a number and perhaps a unit, like: latency_p95_ms < 20, peak_memory_bytes < 500MB"
        )
    quantity = find_quantity(found["name"])
    limit = in_unit_of(quantity, float(found["number"]), found["unit"])
    sign = "=" if found["operator"] == "==" else found["operator"]
    return Condition(quantity=quantity, operator=sign, limit=limit, text=text)
