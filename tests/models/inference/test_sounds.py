"""Synthetic speech: deterministic, in range, and like speech where models listen."""

from __future__ import annotations

import numpy as np
import pytest

from candlemark.models.inference.sounds import PEAK, SYLLABLE_S, make_waves

RATE = 16_000


def test_a_wave_depends_on_its_seed_and_place_alone() -> None:
    many = make_waves(3, RATE, RATE, seed=5)
    assert many.shape == (3, RATE)
    assert many.dtype == np.float32
    assert np.array_equal(make_waves(1, RATE, RATE, seed=5), many[:1])
    assert not np.array_equal(make_waves(1, RATE, RATE, seed=6), many[:1])
    assert np.allclose(np.abs(many).max(axis=1), PEAK)


@pytest.mark.parametrize("samples", [1, 7, 400, 3333])
def test_any_length_can_be_asked_for(samples: int) -> None:
    waves = make_waves(2, samples, RATE, seed=0)
    assert waves.shape == (2, samples)
    assert np.isfinite(waves).all()


def test_syllables_rise_and_fall_four_or_five_times_a_second() -> None:
    (wave,) = make_waves(1, 8 * RATE, RATE, seed=1)
    loudness = np.abs(wave).reshape(-1, 160).mean(axis=1)  # a hundred a second
    spectrum = np.abs(np.fft.rfft(loudness - loudness.mean()))
    rhythm_hz = np.fft.rfftfreq(len(loudness), 0.01)
    strongest = rhythm_hz[spectrum.argmax()]
    assert 0.6 / SYLLABLE_S <= strongest <= 1.1 / SYLLABLE_S


def test_sound_lies_where_speech_does() -> None:
    (wave,) = make_waves(1, 4 * RATE, RATE, seed=2)
    power = np.abs(np.fft.rfft(wave)) ** 2
    pitch_hz = np.fft.rfftfreq(len(wave), 1 / RATE)
    speech = power[(pitch_hz > 80) & (pitch_hz < 4000)].sum() / power.sum()
    assert speech > 0.9


def test_formants_above_half_the_rate_are_left_out() -> None:
    waves = make_waves(1, 4000, 4000, seed=0)
    assert np.isfinite(waves).all()
    assert waves.std() > 0.01
