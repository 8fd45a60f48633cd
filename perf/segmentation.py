"""Five scores of a pair of masks, by candlemark, MONAI and DeepMind's surface-distance.

    python perf/segmentation.py [--size 256] [--rounds 5] [--only blob] [--json segmentation.json]

Each gives Dice, IoU, sensitivity, specificity and HD95 of one pair, from what it takes as it
takes it: candlemark labels (uint8), MONAI one-hot float tensors, surface-distance boolean arrays,
all made beforehand. candlemark measures the two surfaces twice on the way, by voxel and by area,
so the same call holds both peers' HD95. All run in turns in one process on the same masks, the
order changes from round to round, and compared are the medians of a peer's share of our time in
the same round. Threads are as each chooses for itself, which is all cores for MONAI's torch and
for candlemark and one for surface-distance; candlemark with one thread is timed as well.

Every answer is held against ours: a peer that computes something else is no peer.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from candlemark.metrics.segmentation.catalog import Extent
from candlemark.metrics.segmentation.conventions import CONVENTIONS
from candlemark.metrics.segmentation.measure import ClassMeasure, measure_all

GOAL = 10.0
SCORES = ("dice", "iou", "sensitivity", "specificity", "hd95")
TOLERANCE = 1e-6
"""Largest difference from a peer, as a share of what is above 1; MONAI's are in float32."""

Mask = npt.NDArray[np.uint8]
Spacing = tuple[float, float, float]
Scores = dict[str, float]


def _ball(size: int, centre: tuple[float, float, float], radius: float) -> npt.NDArray[np.bool_]:
    z, y, x = np.ogrid[:size, :size, :size]
    apart = (z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2
    return np.asarray(apart <= radius * radius)


def _folded(size: int, shift: float) -> npt.NDArray[np.bool_]:
    """A ball of folds and cavities, some three voxels apart as in a cortex."""
    scale = size / 256
    z, y, x = (axis / scale for axis in np.ogrid[:size, :size, :size])
    folds = np.sin(z / 5 + shift) * np.sin(y / 6) * np.sin(x / 5.5)
    return np.asarray((folds > -0.25) & _ball(size, (size / 2,) * 3, 90 * scale))


def shapes(size: int) -> dict[str, tuple[Mask, Mask, Spacing]]:
    """Reference, prediction and spacing by name."""
    draw = np.random.default_rng(0)
    middle, step = size // 2, max(1, size // 128)
    ball = _ball(size, (middle, middle, middle), size * 0.3125)
    moved = _ball(size, (middle + step, middle, middle - step), size * 0.3125)
    island = ball.copy()
    island[4:8, 4:8, 4:8] = True
    edge = ball ^ _ball(size, (middle, middle, middle), size * 0.3125 + 3)
    noisy = np.where(edge, draw.random(ball.shape) < 0.5, moved)
    dots = np.zeros_like(ball)
    for z, y, x in draw.integers(4, size - 8, (size * 8, 3)):
        dots[z : z + 4, y : y + 4, x : x + 4] = True
    lesion = _ball(size, (middle, middle, size / 4), size / 10)
    pairs = {
        "blob": (ball, moved, (1.0, 1.0, 1.0)),
        "folded, 2 x 0.7 x 0.7 mm": (_folded(size, 0.0), _folded(size, 0.3), (2.0, 0.7, 0.7)),
        "islands": (dots, np.roll(dots, (1, 2, 0), (0, 1, 2)), (1.0, 1.0, 1.0)),
        "noisy border": (ball, noisy, (1.0, 1.0, 1.0)),
        "far island": (ball, island, (1.0, 1.0, 1.0)),
        "everything": (lesion, np.ones_like(ball), (1.0, 1.0, 1.0)),
    }
    return {
        name: (one.astype(np.uint8), other.astype(np.uint8), spacing)
        for name, (one, other, spacing) in pairs.items()
    }


def candlemark(
    reference: Mask, prediction: Mask, spacing: Spacing, threads: int | None
) -> ClassMeasure:
    """Everything that all conventions need."""
    return measure_all(reference, prediction, (1,), spacing, threads=threads)[1]


def read(found: ClassMeasure, convention: str, shape: tuple[int, int, int]) -> Scores:
    """The five scores by a convention; those that it lacks by ours, which agree on full masks."""
    by, ours = CONVENTIONS[convention], CONVENTIONS["candlemark"]
    extent = Extent(shape=shape)
    scores = {name: by.score(name, found, extent) for name in SCORES}
    return {
        name: float(ours.score(name, found, extent) or 0.0 if score is None else score)
        for name, score in scores.items()
    }


def quietly(run: Callable[[], Scores]) -> Callable[[], Scores]:
    """Without what the peers warn of: old names that they call themselves by."""

    def silent() -> Scores:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return run()

    return silent


def monai(reference: Mask, prediction: Mask, spacing: Spacing) -> Callable[[], Scores]:
    """MONAI's functions on one channel."""
    import torch
    from monai import metrics

    truth, guess = (torch.from_numpy(side)[None, None].float() for side in (reference, prediction))

    @quietly
    def run() -> Scores:
        table = metrics.get_confusion_matrix(guess, truth)
        found = {
            "dice": metrics.compute_dice(guess, truth),
            "iou": metrics.compute_iou(guess, truth),
            "sensitivity": metrics.compute_confusion_matrix_metric("sensitivity", table),
            "specificity": metrics.compute_confusion_matrix_metric("specificity", table),
            "hd95": metrics.compute_hausdorff_distance(
                guess, truth, include_background=True, percentile=95, spacing=list(spacing)
            ),
        }
        return {name: float(score) for name, score in found.items()}

    return run


def surface_distance(reference: Mask, prediction: Mask, spacing: Spacing) -> Callable[[], Scores]:
    """surface-distance's functions, and numpy for what it has not."""
    import surface_distance as peer

    truth, guess = reference.astype(bool), prediction.astype(bool)

    @quietly
    def run() -> Scores:
        distances = peer.compute_surface_distances(truth, guess, spacing)
        both = int(np.count_nonzero(truth & guess))
        first, second = int(np.count_nonzero(truth)), int(np.count_nonzero(guess))
        return {
            "dice": float(peer.compute_dice_coefficient(truth, guess)),
            "iou": both / (first + second - both),
            "sensitivity": both / first,
            "specificity": (truth.size - first - second + both) / (truth.size - first),
            "hd95": float(peer.compute_robust_hausdorff(distances, 95)),
        }

    return run


def compare(
    reference: Mask, prediction: Mask, spacing: Spacing, rounds: int
) -> dict[str, dict[str, Any]]:
    """Times in ms by round, each peer's share of ours, and its largest relative difference."""
    shape: tuple[int, int, int] = reference.shape
    found = candlemark(reference, prediction, spacing, None)

    def ours(threads: int | None) -> Callable[[], Scores]:
        def run() -> Scores:
            return read(candlemark(reference, prediction, spacing, threads), "candlemark", shape)

        return run

    calls = {
        "candlemark": ours(None),
        "candlemark, 1 thread": ours(1),
        "monai": monai(reference, prediction, spacing),
        "surface-distance": surface_distance(reference, prediction, spacing),
    }
    names = list(calls)
    times: dict[str, list[float]] = {name: [] for name in names}
    apart: dict[str, float] = dict.fromkeys(names, 0.0)
    for number in range(rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            begin = time.perf_counter()
            scores = calls[name]()
            times[name].append((time.perf_counter() - begin) * 1e3)
            wanted = read(found, name if name in CONVENTIONS else "candlemark", shape)
            worst = max(
                abs(scores[score] - wanted[score]) / max(1.0, abs(wanted[score]))
                for score in SCORES
            )
            apart[name] = max(apart[name], worst)
    shares = {
        name: [t / mine for t, mine in zip(own, times["candlemark"], strict=True)]
        for name, own in times.items()
    }
    return {
        name: {
            "median_ms": statistics.median(times[name]),
            "rounds_ms": times[name],
            "over_ours": statistics.median(shares[name]),
            "over_ours_range": [min(shares[name]), max(shares[name])],
            "largest_difference": apart[name],
        }
        for name in names
    }


def _show(name: str, peers: dict[str, dict[str, Any]]) -> None:
    print(name)
    for peer, row in peers.items():
        low, high = row["over_ours_range"]
        print(
            f"  {peer:22} {row['median_ms']:10.1f} ms  {row['over_ours']:7.1f} x"
            f"  ({low:.1f} to {high:.1f})  differs by {row['largest_difference']:.1e}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", help="one shape by the beginning of its name")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    cases: dict[str, Any] = {}
    for name, (reference, prediction, spacing) in shapes(args.size).items():
        if args.only is None or name.startswith(args.only):
            cases[name] = compare(reference, prediction, spacing, args.rounds)
            _show(name, cases[name])
    rows = [row for peers in cases.values() for row in peers.values()]
    report = {
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "size": args.size,
        "rounds": args.rounds,
        "goal": GOAL,
        "versions": {name: version(name) for name in ("monai", "surface-distance", "scipy")},
        "met": {
            peer: min(peers[peer]["over_ours"] for peers in cases.values()) >= GOAL
            for peer in ("monai", "surface-distance")
        },
        "agree": all(row["largest_difference"] <= TOLERANCE for row in rows),
        "shapes": cases,
    }
    print(f"at least {GOAL:g} x: {report['met']}; same answers: {report['agree']}")
    if args.json is not None:
        args.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
