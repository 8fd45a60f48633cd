"""From market candles to chart images to benchmarks of Hugging Face models that can be trusted.

    import candlemark

    candles = candlemark.load_candles("random_walk")
    pictures = candlemark.render(candles, "ohlc4", window=60, count=100)

Names load what they need when they are first used, so `import candlemark` is instant.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from candlemark.candles.series import CandleSeries
    from candlemark.candles.source import load_candles
    from candlemark.charts.render import render
    from candlemark.dataset.audit import audit
    from candlemark.dataset.build import build_dataset
    from candlemark.dataset.lazy import load_images, open_dataset
    from candlemark.launch.inference import profile
    from candlemark.launch.run import run
    from candlemark.models.store import load_model, save_model
    from candlemark.models.versions import list_models
    from candlemark.results.store import open_results

__version__ = "0.1.0"

__all__ = [
    "CandleSeries",
    "audit",
    "build_dataset",
    "list_models",
    "load_candles",
    "load_images",
    "load_model",
    "open_dataset",
    "open_results",
    "profile",
    "render",
    "run",
    "save_model",
]

_HOMES = {
    "CandleSeries": "candlemark.candles.series",
    "audit": "candlemark.dataset.audit",
    "build_dataset": "candlemark.dataset.build",
    "list_models": "candlemark.models.versions",
    "load_candles": "candlemark.candles.source",
    "load_images": "candlemark.dataset.lazy",
    "load_model": "candlemark.models.store",
    "open_dataset": "candlemark.dataset.lazy",
    "open_results": "candlemark.results.store",
    "profile": "candlemark.launch.inference",
    "render": "candlemark.charts.render",
    "run": "candlemark.launch.run",
    "save_model": "candlemark.models.store",
}


def __getattr__(name: str) -> Any:
    """Import a public name at its first use."""
    if name not in _HOMES:
        raise AttributeError(f"module 'candlemark' has no attribute '{name}'")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
