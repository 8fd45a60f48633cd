"""Synthetic speech for models that hear: syllables from a source and a filter.

    waves = make_waves(4, 80_000, 16_000, seed=0)      # float32 (4, 80000), five seconds each

A syllable lasts a fifth of a second: pulses of a voice, with breath, go through the first three
formants of a vowel and rise and fall once (the source-filter model of Fant 1960). Words of one
to four syllables are parted by silence. It is nobody's language, but it has the rhythm, the
pitch and the spectrum of speech, so that normalisation and features work on what they are for.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

SYLLABLE_S = 0.2
PAUSE_S = 0.12
PEAK = 0.5

VOWELS_HZ: dict[str, tuple[int, int, int]] = {
    "heed": (270, 2290, 3010),
    "hid": (390, 1990, 2550),
    "head": (530, 1840, 2480),
    "had": (660, 1720, 2410),
    "hod": (730, 1090, 2440),
    "hawed": (570, 840, 2410),
    "hood": (440, 1020, 2240),
    "who": (300, 870, 2240),
    "hud": (640, 1190, 2390),
}
"""Mean first three formants of men's vowels (Peterson and Barney 1952, table II)."""

BANDWIDTHS_HZ = (60.0, 90.0, 150.0)

Waves = NDArray[np.float32]


def make_waves(count: int, samples: int, sampling_rate_hz: int, seed: int) -> Waves:
    """float32 (count, samples) in -0.5 .. 0.5; wave k depends on the seed and k alone."""
    waves = np.zeros((count, samples), np.float32)
    for index in range(count):
        _speak(waves[index], sampling_rate_hz, np.random.default_rng([seed, index]))
    return waves


def _speak(wave: Waves, rate_hz: int, random: np.random.Generator) -> None:
    """Fill `wave` with words of one speaker."""
    pitch_hz = random.uniform(90, 220)
    length, pause = round(SYLLABLE_S * rate_hz), round(PAUSE_S * rate_hz)
    vowels = list(VOWELS_HZ.values())
    start = 0
    while start < len(wave):
        for _ in range(random.integers(1, 5)):
            formants = vowels[random.integers(len(vowels))]
            sound = _syllable(
                length, rate_hz, pitch_hz * random.uniform(0.9, 1.15), formants, random
            )
            room = len(wave[start : start + length])
            wave[start : start + length] = sound[:room]
            start += length
        start += pause
    loudest = float(np.abs(wave).max())
    if loudest > 0:
        wave *= PEAK / loudest


def _syllable(
    length: int,
    rate_hz: int,
    pitch_hz: float,
    formants_hz: tuple[int, int, int],
    random: np.random.Generator,
) -> NDArray[np.float64]:
    """float64 (length,): one vowel that rises and falls, its peak at 1."""
    from scipy.signal import lfilter

    position = np.arange(length) / length
    # The voice falls by a tenth over a syllable, as it does in speech.
    cycles = np.cumsum(pitch_hz * (1.05 - 0.1 * position) / rate_hz)
    pulses = np.diff(np.floor(cycles), prepend=0.0)
    sound: Any = pulses + 0.02 * random.normal(size=length)
    for centre_hz, width_hz in zip(formants_hz, BANDWIDTHS_HZ, strict=True):
        if centre_hz < 0.45 * rate_hz:
            radius = np.exp(-np.pi * width_hz / rate_hz)
            angle = 2 * np.pi * centre_hz / rate_hz
            feedback = [1.0, -2 * radius * np.cos(angle), radius**2]
            sound = lfilter([sum(feedback)], feedback, sound)
    sound = sound * np.sin(np.pi * position) ** 2
    loudness: NDArray[np.float64] = sound / (np.abs(sound).max() + 1e-12)
    return loudness
