"""How names, numbers and units are written, the same in text, figures and HTML."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from candlemark.metrics.catalog import FORECAST_METRICS, METRICS
from candlemark.metrics.score import Score
from candlemark.records import Measurement, Verdict

_SCORES: dict[str, Score] = {**METRICS, **FORECAST_METRICS}
_TITLES = {
    "training_time_s": "training time",
    "peak_memory_bytes": "peak memory",
    "latency_p50_ms": "latency p50",
    "latency_p90_ms": "latency p90",
    "latency_p95_ms": "latency p95",
    "latency_p99_ms": "latency p99",
    "throughput_items_per_s": "throughput",
    "parameters": "parameters",
    "flops": "FLOPs",
    "model_bytes": "model size",
}
_DECIMAL = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_BINARY = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))
UNKNOWN = "n/a"


def short(name: str) -> str:
    """A row's name without the owners of Hub ids: `google/vit-base` as `vit-base`."""
    return " ".join(word.rsplit("/", 1)[-1] for word in name.split(" "))


def listed(names: Sequence[str]) -> str:
    """Rows in one phrase: `a`, `a and b`, `a, b and c`."""
    words = [short(name) for name in names]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def title_of(name: str) -> str:
    """What a measurement is called."""
    if name in _SCORES:
        return _SCORES[name].title
    return _TITLES.get(name, name.replace("_", " "))


def quantity(name: str, value: float | None) -> str:
    """A value with its unit, at the precision that it bears."""
    if value is None:
        return UNKNOWN
    if name in _SCORES:
        return f"{value:.3f} {_SCORES[name].unit}".rstrip()
    for ending, written in _WRITTEN.items():
        if ending in name:
            return written(value)
    return scaled(value, _DECIMAL, "")


def scaled(value: float, steps: tuple[tuple[float, str], ...], unit: str) -> str:
    """`1327216` as `1.33 M`, and never as `1.02e+03 k`: 1000 of a step begin the next one."""
    smaller = (*(size for size, _ in steps[1:]), 1)
    for (size, suffix), below in zip(steps, smaller, strict=True):
        if abs(value) >= min(size, 999.5 * below):
            return f"{value / size:.3g} {suffix}"
    return f"{value:.3g} {unit}".strip()


def milliseconds(value: float) -> str:
    """`241 ms`, `2030 ms`, and `49.1 s` from ten seconds on."""
    if value >= 9999.5:
        return duration(value / 1000)
    return f"{value:.0f} ms" if value >= 999.5 else f"{value:.3g} ms"


def duration(seconds: float) -> str:
    """Seconds as `12.3 s`, `4 min 05 s` or `2 h 10 min`."""
    if seconds < 100:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def measured(m: Measurement | None) -> str:
    """Value, interval and any verdict that keeps it from being quoted."""
    if m is None or m.value is None:
        return UNKNOWN
    text = quantity(m.name, m.value)
    if m.low is not None and m.high is not None:
        text += f" [{m.low:.3f}, {m.high:.3f}]"
    return text if m.verdict is Verdict.VALID else f"{text} {m.verdict}"


def p_value(value: float | None) -> str:
    """A p-value as `p = 0.012` or `p < 0.001`."""
    if value is None:
        return UNKNOWN
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


_WRITTEN: dict[str, Callable[[float], str]] = {
    "per_s": lambda value: f"{value:,.0f}/s",
    "_ms": milliseconds,
    "_bytes": lambda value: scaled(value, _BINARY, "B"),
    "_time_s": duration,
}
