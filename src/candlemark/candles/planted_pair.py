"""A synthetic market whose next move depends on two facts that stand in two places.

    market = planted_pair(4000, interval="1h", seed=1, strength=0.9, density=1.0)
    market.attainable("both").auroc      # no model that knows both facts scores higher
    market.attainable("volume").auroc    # nor one that knows the volume alone

The next candle, t + 1, depends on two facts, each +1, -1 or 0 (there is none):

- the *volume* of candle t: heavy (+1) or light (-1). A style without a volume panel draws it
  nowhere. The `classic` caption, which describes candle t alone, prints it.
- the *shape* of candle t - 1: a long shadow below its body (+1, a hammer) or above it (-1, a
  shooting star). The picture shows it. The `classic` caption of candle t has no word of it.

Candle t + 1 rises with probability 1/2 + (strength - 1/2) * (volume + shape) / 2: with
`strength` where both facts say so, half as sure on the word of one alone, and by a fair coin
where they contradict one another or there is none. A model that sees one place only averages
over the other fact, and `attainable` says what is left to it.

How far a candle moves is planted as well, so that labels with a neutral class have an answer.
Where the facts speak (their sum is not 0) the body is 0.9 to 1.7 % of the price, else 0.1 to
0.2 %. The neutral band of the label `direction` is 0.43 standard deviations of the moves in the
window, and so never wider than 0.43 x 1.7 = 0.73 %: every move that is foretold lies outside it.
It is wider than 0.2 % as long as an eighth of the window's moves are foretold ones, which fails
in one window of 20 candles in three thousand (at density 1). So a candle is neutral exactly
where the facts are silent.

All else is as in the random walk: shadows, the coin behind each direction, and a volume that
is log-normal. Its level is 3,162 without a fact and ten times that or a tenth with one, so
that the number of digits before the point tells the fact, and it knows nothing of what is drawn.
Facts of different candles, and the two facts of one candle, are independent.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np
import numpy.typing as npt

from candlemark.candles.series import CandleSeries, FloatArray
from candlemark.candles.synthetic import (
    VOLATILITY,
    check_signal,
    checked_count,
    draw_shadows,
    series_of,
)

Known = Literal["both", "volume", "shape", "neither"]
"""Which of the two facts a forecast can see."""

FORETOLD_BODY = (0.9, 1.7)
SILENT_BODY = (0.1, 0.2)
"""Bodies in units of VOLATILITY, where the facts speak and where they do not."""

VOLUME_LEVEL = 10.0**3.5
VOLUME_STEP = 10.0
VOLUME_SPREAD = 0.25
"""The spread is that of the logarithm: a level is left in one candle of two hundred thousand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attainable:
    """Scores of the best possible forecast, in the long run.

    auroc: with two classes of "up", with three the mean over classes against the rest
    accuracy: of naming the most probable class
    """

    auroc: float
    accuracy: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PlantedPair:
    """Candles, and the two facts that were planted in them.

    volume_fact: int8[N]; +1 heavy, -1 light, 0 nothing; speaks of the next candle
    shape_fact: int8[N]; +1 hammer, -1 shooting star, 0 nothing; speaks of the next but one
    """

    candles: CandleSeries
    volume_fact: npt.NDArray[np.int8]
    shape_fact: npt.NDArray[np.int8]
    strength: float
    density: float

    def attainable(self, known: Known = "both", *, classes: Literal[2, 3] = 2) -> Attainable:
        """What a forecast of the next candle can reach that sees the facts `known`."""
        return attainable_pair(self.strength, self.density, known, classes=classes)


def planted_pair(
    count: int,
    *,
    symbol: str = "PLANTED_PAIR",
    interval: str = "1h",
    seed: int = 0,
    strength: float = 0.8,
    density: float = 0.6,
) -> PlantedPair:
    """`count` candles with two facts that foretell the next move together.

    strength: probability in [0.5, 1] that the next candle agrees where both facts do
    density: share in [0, 1] of candles that carry a fact, for each of the two

    Raises ConfigError: one of them cannot be had.
    """
    check_signal(strength, density)
    generator = np.random.default_rng([seed, 2])
    planted = generator.random((2, checked_count(count))) < density
    signs = generator.choice([-1, 1], (2, count))
    volume_fact, shape_fact = np.where(planted, signs, 0).astype(np.int8)

    spoken = np.zeros(count)
    spoken[1:] += volume_fact[:-1] / 2
    spoken[2:] += shape_fact[:-2] / 2
    rise_probability = 0.5 + (strength - 0.5) * spoken
    direction = np.where(generator.random(count) < rise_probability, 1.0, -1.0)
    foretold = generator.uniform(*FORETOLD_BODY, count)
    silent = generator.uniform(*SILENT_BODY, count)
    body = VOLATILITY * np.where(spoken != 0, foretold, silent)
    above, below = draw_shadows(generator, shape_fact)
    level = VOLUME_LEVEL * VOLUME_STEP ** volume_fact.astype(np.float64)
    candles = series_of(
        direction * body,
        above,
        below,
        volume=level * generator.lognormal(0, VOLUME_SPREAD, count),
        symbol=symbol,
        interval=interval,
    )
    return PlantedPair(
        candles=candles,
        volume_fact=volume_fact,
        shape_fact=shape_fact,
        strength=strength,
        density=density,
    )


def foretold_share(density: float) -> float:
    """Share of candles of which the two facts before them speak with one voice."""
    return 1 - (1 - density) ** 2 - density**2 / 2


def attainable_pair(
    strength: float, density: float, known: Known = "both", *, classes: Literal[2, 3] = 2
) -> Attainable:
    """Scores of the best possible forecast of the next candle that sees the facts `known`.

    classes: 2 (does it rise?) or 3 (bearish, neutral, bullish, as `direction` names them)

    What can be told of a case is its state: the value of each known fact. A score is the
    probability of a class given the state, which ranks as well as anything can (Neyman and
    Pearson), so that all follows from the joint probabilities of states and classes.
    """
    share = {-1: density / 2, 0: 1 - density, 1: density / 2}
    joint: dict[tuple[int, int], FloatArray] = {}
    for volume, shape in product(share, share):
        rise = 0.5 + (strength - 0.5) * (volume + shape) / 2
        if classes == 2:
            outcome = np.array([1 - rise, rise])
        elif volume + shape == 0:
            outcome = np.array([0.0, 1.0, 0.0])
        else:
            outcome = np.array([1 - rise, 0.0, rise])
        state = (
            volume if known in {"both", "volume"} else 0,
            shape if known in {"both", "shape"} else 0,
        )
        cases = share[volume] * share[shape] * outcome
        joint[state] = joint.get(state, np.zeros(classes)) + cases
    table = np.stack(list(joint.values()))
    asked = [1] if classes == 2 else range(classes)
    return Attainable(
        auroc=float(np.mean([_auroc(table, positive) for positive in asked])),
        accuracy=float(table.max(axis=1).sum()),
    )


def _auroc(table: FloatArray, positive: int) -> float:
    """Area under the ROC of one class against the rest; NaN where either never occurs.

    table: float64[S, C], joint probabilities of states and classes
    """
    hits = table[:, positive]
    misses = table.sum(axis=1) - hits
    if hits.sum() == 0 or misses.sum() <= 0:
        return float("nan")
    occurs = hits + misses > 0
    hits, misses = hits[occurs], misses[occurs]
    # Rounded, so that states of equal promise are the tie that they are.
    promise = np.round(hits / (hits + misses), 12)
    higher = np.sign(promise[:, None] - promise[None, :])
    won = (hits[:, None] * misses[None, :] * (higher + 1) / 2).sum()
    return float(won / (hits.sum() * misses.sum()))
