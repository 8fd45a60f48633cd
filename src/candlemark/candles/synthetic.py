"""Synthetic markets: one with nothing to find, one with a pattern of known strength.

    candles = random_walk(4000, interval="1h", seed=1)
    market = planted_market(4000, interval="1h", seed=1, strength=0.8, density=0.6)
    market.attainable_auroc    # no model, however good, scores higher in the long run

In the random walk the direction of a candle is a fair coin, independent of everything
before it: an honest forecast scores an AUROC of 0.5. In the planted market a share of the
candles (`density`) carries a long shadow: below the body (a hammer) or above it (a
shooting star), each equally often. After a hammer the next candle closes above its open
with probability `strength`, after a star with `1 - strength`, otherwise with one half.
Nothing else in the market says anything about the next candle, so the best possible score
follows from the two numbers alone.

A third market, in which two facts that are told in two places foretell the next candle
together, is `planted_pair`'s.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from candlemark.candles.series import CandleSeries, FloatArray, interval_ms
from candlemark.errors import ConfigError

START_MS = 1_704_067_200_000
"""2024-01-01 00:00 UTC, the first open time of every synthetic market."""

FIRST_PRICE = 100.0
VOLATILITY = 0.01
"""Scale of a body as a share of the price."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PlantedMarket:
    """Candles, and the pattern that was planted in them.

    pattern: int8[N]; +1 hammer (speaks for a rise of the next candle), -1 shooting star
    (for a fall), 0 nothing.
    """

    candles: CandleSeries
    pattern: npt.NDArray[np.int8]
    strength: float
    density: float

    @property
    def attainable_auroc(self) -> float:
        """AUROC of the best possible forecast of the next candle's colour."""
        return attainable_auroc(self.strength, self.density)


def attainable_auroc(strength: float, density: float) -> float:
    """AUROC of ranking windows by the planted pattern of their last candle.

    Rises and falls are equally likely. Before a rise the pattern is a hammer with
    probability density * strength, a star with density * (1 - strength), else nothing;
    before a fall the other way round. The AUROC is the probability that a rise shows the
    higher pattern than a fall, ties counted half.
    """
    agrees, disagrees, nothing = density * strength, density * (1 - strength), 1 - density
    higher = agrees * (nothing + agrees) + nothing * agrees
    equal = 2 * agrees * disagrees + nothing**2
    return higher + equal / 2


def random_walk(
    count: int, *, symbol: str = "RANDOM_WALK", interval: str = "1h", seed: int = 0
) -> CandleSeries:
    """`count` candles whose directions are fair coins; the same seed gives the same candles."""
    generator = np.random.default_rng([seed, 0])
    pattern = np.zeros(checked_count(count), dtype=np.int8)
    return _market(generator, pattern, np.full(count, 0.5), symbol=symbol, interval=interval)


def planted_market(
    count: int,
    *,
    symbol: str = "PLANTED",
    interval: str = "1h",
    seed: int = 0,
    strength: float = 0.8,
    density: float = 0.6,
) -> PlantedMarket:
    """`count` candles with hammers and shooting stars that foretell the next candle.

    strength: probability in [0.5, 1] that the next candle agrees with the pattern.
    density: share in [0, 1] of candles that carry one.
    """
    check_signal(strength, density)
    generator = np.random.default_rng([seed, 1])
    planted = generator.random(checked_count(count)) < density
    pattern = np.where(planted, generator.choice([-1, 1], count), 0).astype(np.int8)
    rise_probability = np.full(count, 0.5)
    rise_probability[1:] += (strength - 0.5) * pattern[:-1]
    candles = _market(generator, pattern, rise_probability, symbol=symbol, interval=interval)
    return PlantedMarket(candles=candles, pattern=pattern, strength=strength, density=density)


def check_signal(strength: float, density: float) -> None:
    """ConfigError unless the strength and the density of a planted signal can be had."""
    if not 0.5 <= strength <= 1:
        raise ConfigError(f"strength = {strength}: must lie between 0.5 (no signal) and 1")
    if not 0 <= density <= 1:
        raise ConfigError(f"density = {density}: must lie between 0 and 1")


def checked_count(count: int) -> int:
    """`count` itself; ConfigError for a market of no candles."""
    if count < 1:
        raise ConfigError(f"count = {count}: a market has at least 1 candle")
    return count


def _market(
    generator: np.random.Generator,
    pattern: npt.NDArray[np.int8],
    rise_probability: FloatArray,
    *,
    symbol: str,
    interval: str,
) -> CandleSeries:
    """Candles whose direction follows `rise_probability`; sizes know nothing of direction."""
    count = len(pattern)
    marked = pattern != 0
    direction = np.where(generator.random(count) < rise_probability, 1.0, -1.0)
    # A body of at least a tenth of the scale, so that no candle is without a colour.
    body = VOLATILITY * (0.1 + np.abs(generator.normal(0, 1, count)))
    body = np.where(marked, 0.4 * body, body)
    above, below = draw_shadows(generator, pattern)
    activity = (body + above + below) / VOLATILITY
    return series_of(
        direction * body,
        above,
        below,
        volume=1000 * activity * generator.lognormal(0, 0.3, count),
        symbol=symbol,
        interval=interval,
    )


def draw_shadows(
    generator: np.random.Generator, pattern: npt.NDArray[np.int8]
) -> tuple[FloatArray, FloatArray]:
    """Shadows above and below, float64[N] each, as logs: long where the pattern says so.

    Ordinary ones reach 0.015 in one candle of a hundred thousand, long ones begin at 0.025.
    """
    shadow = VOLATILITY * np.abs(generator.normal(0, 0.35, (2, len(pattern))))
    long_shadow = VOLATILITY * generator.uniform(2.5, 3.5, len(pattern))
    above = np.where(pattern < 0, long_shadow, shadow[0])
    below = np.where(pattern > 0, long_shadow, shadow[1])
    return above, below


def series_of(
    move: FloatArray,
    above: FloatArray,
    below: FloatArray,
    *,
    volume: FloatArray,
    symbol: str,
    interval: str,
) -> CandleSeries:
    """Candles from float64[N] each: log(close / open), shadows as logs, volume.

    Every candle opens at the close before it.
    """
    log_close = np.log(FIRST_PRICE) + np.cumsum(move)
    log_open = log_close - move
    return CandleSeries(
        symbol=symbol,
        interval=interval,
        open_time_ms=START_MS + np.arange(len(move)) * interval_ms(interval),
        open=np.exp(log_open),
        high=np.exp(np.maximum(log_open, log_close) + above),
        low=np.exp(np.minimum(log_open, log_close) - below),
        close=np.exp(log_close),
        volume=volume,
    )
