"""What the best possible model scores on a synthetic market, where that is known by formula.

    attainable_auroc(config)                  # of whoever sees all that was planted
    attainable_of_pair(config, "shape")       # of whoever sees one of the two facts
    attainable_of_picture(config)             # of whoever sees what the style draws of it

It is known only where what was planted decides the label and nothing hides it: the markets
`planted` and `planted_pair`, labels of the next candle. Else the answer is None.
"""

from __future__ import annotations

from typing import Literal

from candlemark.candles import planted_pair, synthetic
from candlemark.dataset.config import DatasetConfig
from candlemark.dataset.labels import NEUTRAL_SHARE_OF_DEVIATION

FLAT, FORETOLD = 0.0021, 0.0089
"""A move of `planted_pair` is at most 0.20 % or at least 0.90 %. A threshold between these
divides the market as the planted facts do, be it of simple returns or of logarithms."""

MISJUDGED = 0.01
"""Windows with a neutral band that is too narrow, above which the formula is not quoted."""


def attainable_auroc(config: DatasetConfig) -> float | None:
    """AUROC of the best forecast there can be in the long run; None where nobody knows."""
    candles = config.candles
    if candles.kind == "planted_pair":
        return attainable_of_pair(config, "both")
    if candles.kind != "planted" or _classes_foretold(config) != 2:
        return None
    return synthetic.attainable_auroc(candles.strength, candles.density)


def attainable_of_pair(config: DatasetConfig, known: planted_pair.Known) -> float | None:
    """AUROC of the best forecast of a `planted_pair` that sees the facts `known`, else None."""
    candles, classes = config.candles, _classes_foretold(config)
    if candles.kind != "planted_pair" or classes is None:
        return None
    return planted_pair.attainable_pair(
        candles.strength, candles.density, known, classes=classes
    ).auroc


def attainable_of_picture(config: DatasetConfig) -> float | None:
    """AUROC of the best forecast that sees no more than the picture, else None."""
    if config.candles.kind == "planted_pair" and not config.drawn_style.draws_volume:
        return attainable_of_pair(config, "shape")
    return attainable_auroc(config)


def _classes_foretold(config: DatasetConfig) -> Literal[2, 3] | None:
    """How many classes the label has, if the planted facts are all that decides it."""
    label = config.label
    if config.experiment == "irregular":
        return None
    if label.name in {"next_candle", "next_close"}:
        return 2
    if label.name not in {"forward_return", "direction"} or label.horizon != 1:
        return None
    if label.classes == 2:
        return None if label.threshold else 2
    if label.threshold is None and label.name == "direction":
        return 3 if _share_misjudged(config) < MISJUDGED else None
    threshold = 0.005 if label.threshold is None else label.threshold
    return 3 if FLAT <= threshold <= FORETOLD else None


def _share_misjudged(config: DatasetConfig) -> float:
    """Share of windows in which the neutral band of `direction` is narrower than a flat move.

    That is where too few of the visible moves are foretold ones: the mean square of the moves,
    which decides the band, is a mixture of the two kinds'.
    """
    from scipy.stats import binom

    flat, foretold = (
        (high**3 - low**3) / (3 * (high - low))
        for low, high in (planted_pair.SILENT_BODY, planted_pair.FORETOLD_BODY)
    )
    needed = (planted_pair.SILENT_BODY[1] / NEUTRAL_SHARE_OF_DEVIATION) ** 2
    share = (needed - flat) / (foretold - flat)
    moves = config.window - 1
    return float(
        binom.cdf(share * moves, moves, planted_pair.foretold_share(config.candles.density))
    )
