"""Patches cover every voxel, are blended, and cost one slab of memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from candlemark.errors import ModelError
from candlemark.models.segmentation.base import Case, Stopwatch
from candlemark.models.segmentation.patches import (
    BLENDINGS,
    Layout,
    blend_weights,
    patch_starts,
    sweep,
)

lengths = st.integers(1, 12)
patches = st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 6))


def floats(raw: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    return raw.astype(np.float32)[None]


def swept(
    case: Case, watch: Stopwatch, layout: Layout, ask: Callable[[Tensor], Tensor]
) -> npt.NDArray[np.float32]:
    """The blended scores of the whole volume, and a check that slices come once, in order."""
    parts: list[Tensor] = []

    def finish(scores: Tensor, start: int, stop: int) -> None:
        assert start == sum(part.shape[1] for part in parts)
        assert scores.shape[1] == stop - start
        parts.append(scores.clone())

    sweep(case, watch, layout, prepare=floats, ask=ask, finish=finish)
    return torch.cat(parts, dim=1).numpy()


@given(st.integers(1, 60), st.integers(1, 20), st.floats(0, 0.99))
def test_starts_leave_no_voxel_out_and_none_behind_the_end(
    length: int, patch: int, overlap: float
) -> None:
    starts = patch_starts(length, patch, overlap)
    covered = {voxel for start in starts for voxel in range(start, start + patch)}
    assert set(range(length)) <= covered
    assert starts == sorted(set(starts))
    assert starts[-1] + patch <= max(length, patch)


def test_half_an_overlap_is_half_a_patch() -> None:
    assert patch_starts(20, 8, 0.5) == [0, 4, 8, 12]
    assert patch_starts(10, 5, 0.0) == [0, 5]
    assert patch_starts(4, 8, 0.5) == [0]


@pytest.mark.parametrize("blending", BLENDINGS)
def test_every_voxel_of_a_patch_has_weight_and_the_middle_most(blending: Any) -> None:
    weights = blend_weights((5, 7, 9), blending)
    assert weights.min() > 0
    assert weights[2, 3, 4] == weights.max() == 1.0
    assert np.array_equal(weights, weights[::-1, ::-1, ::-1])


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(lengths, lengths, lengths),
    patch=patches,
    overlap=st.sampled_from([0.0, 0.25, 0.5, 0.75]),
    blending=st.sampled_from(BLENDINGS),
    batch_size=st.integers(1, 5),
)
def test_a_local_network_answers_as_on_the_whole_volume(
    shape: tuple[int, int, int],
    patch: tuple[int, int, int],
    overlap: float,
    blending: Any,
    batch_size: int,
) -> None:
    """What depends on the voxel alone does not depend on how the volume was cut."""
    volume = np.random.default_rng(sum(shape)).normal(size=shape)
    case = _case(volume)
    layout = Layout(patch=patch, overlap=overlap, blending=blending, batch_size=batch_size)
    scores = swept(
        case,
        Stopwatch(lambda: 0),
        layout,
        lambda pixels: torch.cat([pixels * 2, pixels**2 - 1], dim=1),
    )
    values = volume.astype(np.float32)
    assert np.allclose(scores, np.stack([values * 2, values**2 - 1]), atol=1e-4)


@pytest.mark.slow  # importing it takes most of ten seconds
def test_a_network_with_neighbours_agrees_with_monai() -> None:
    inferers = pytest.importorskip("monai.inferers", reason="monai is not installed")
    torch.manual_seed(0)
    network = torch.nn.Conv3d(1, 2, 3, padding=1).eval()
    volume = np.random.default_rng(0).normal(size=(12, 16, 20)).astype(np.float32)
    layout = Layout(patch=(4, 8, 4), overlap=0.5, batch_size=3)
    with torch.inference_mode():
        ours = swept(_case(volume), Stopwatch(lambda: 0), layout, network)
        theirs = inferers.sliding_window_inference(
            torch.from_numpy(volume)[None, None], (4, 8, 4), 3, network, 0.5, mode="gaussian"
        )
    assert np.allclose(ours, theirs[0].numpy(), atol=1e-5)


def test_weights_are_a_gaussian_of_an_eighth_of_the_patch() -> None:
    line = blend_weights((1, 1, 8), "gaussian").ravel()
    by_hand = [np.exp(-(distance**2) / 2) for distance in (3.5, 2.5, 1.5, 0.5)]
    assert line[:4] == pytest.approx(by_hand)
    assert blend_weights((8, 8, 8), "gaussian").min() == pytest.approx(0.001)


def test_patches_trust_their_middle_more_than_their_rim() -> None:
    """A network that errs at its rim is corrected by its neighbours, and with flat less so."""

    def errs(pixels: Tensor) -> Tensor:
        answer = torch.zeros_like(pixels)
        answer[..., 0] = answer[..., -1] = 1.0
        return answer

    case = _case(np.zeros((1, 1, 64), np.float32))
    layout = Layout(patch=(1, 1, 16), overlap=0.5)
    by_middle = swept(case, Stopwatch(lambda: 0), layout, errs)[..., 8:-8]
    flat = swept(case, Stopwatch(lambda: 0), replace(layout, blending="flat"), errs)[..., 8:-8]
    assert by_middle.max() < 0.01
    assert flat.max() == pytest.approx(0.5)


def test_a_long_volume_is_read_once_and_only_a_slab_is_held() -> None:
    seen: list[int] = []
    widest = 0

    def read(start: int, stop: int) -> npt.NDArray[Any]:
        seen.extend(range(start, stop))
        return np.zeros((stop - start, 6, 6), np.int16)

    def ask(pixels: Tensor) -> Tensor:
        nonlocal widest
        widest = max(widest, pixels.shape[2])
        return pixels

    case = replace(_case(np.zeros((1, 6, 6))), shape=(300, 6, 6), read=read)
    handed: list[tuple[int, int]] = []
    sweep(
        case,
        Stopwatch(lambda: 0),
        Layout(patch=(8, 4, 4), batch_size=2),
        prepare=floats,
        ask=ask,
        finish=lambda scores, start, stop: handed.append((scores.shape[1], stop - start)),
    )
    assert seen == list(range(300))
    assert widest == 8
    assert all(given == wanted <= 8 for given, wanted in handed)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (lambda pixels: pixels[..., :-1], r"float32 of shape \(1, 1, 2, 2, 1\)"),
        (lambda pixels: pixels[:, 0], r"of shape \(1, 2, 2, 2\)"),
        (lambda pixels: pixels.long(), "int64.*patches are blended by their scores"),
    ],
)
def test_an_answer_of_another_size_is_refused(answer: Any, told: str) -> None:
    case = _case(np.zeros((2, 2, 2)))
    with pytest.raises(ModelError, match=told):
        swept(case, Stopwatch(lambda: 0), Layout(patch=(2, 2, 2)), answer)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"patch": (0, 2, 2)}, r"patch is \(0, 2, 2\); allowed: three lengths"),
        ({"overlap": 1.0}, r"overlap is 1.0; allowed: from 0 to below 1"),
        ({"blending": "hann"}, "blending is 'hann'; allowed: gaussian, flat"),
    ],
)
def test_a_layout_that_cannot_be_is_refused(changed: dict[str, Any], told: str) -> None:
    with pytest.raises(ModelError, match=told):
        Layout(**{"patch": (2, 2, 2), **changed})


def _case(volume: npt.NDArray[Any]) -> Case:
    from pathlib import Path

    return Case(
        id="case",
        path=Path("case.nii.gz"),
        shape=(volume.shape[0], volume.shape[1], volume.shape[2]),
        spacing_mm=None,
        channels=1,
        read=lambda start, stop: volume[start:stop],
        window=lambda: (float(volume.min()), float(volume.max())),
    )
