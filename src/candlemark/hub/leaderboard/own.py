"""What was measured here, joined to models of the Hub by their name.

scores = measured_here(Path("benchmarks/results"))
"""

from __future__ import annotations

from pathlib import Path

from candlemark.results.own_scores import OwnScore, own_scores
from candlemark.results.store import open_results


def measured_here(path: Path) -> list[OwnScore]:
    """Every score of a store that says how right a model is.

    Raises ResultsError: there is no store, or it cannot be read.
    """
    with open_results(path, read_only=True) as results:
        return own_scores(results)
