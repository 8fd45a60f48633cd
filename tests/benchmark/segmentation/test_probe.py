"""Probes learn what can be seen, only from what they may see, and go on bit for bit."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from candlemark.benchmark.segmentation import probe
from candlemark.benchmark.segmentation.folds import Fold
from candlemark.benchmark.segmentation.probe import draw_probe, train_probe
from candlemark.benchmark.segmentation.seen import TrainCase
from candlemark.errors import DatasetError, ModelError
from candlemark.models.segmentation.base import Case, SegmenterSpec, Stopwatch
from candlemark.models.segmentation.probe import ProbeSegmenter
from candlemark.scans.volume import open_scan
from candlemark.training.position import History

SIDE, SLICES = 32, 3
Voxels = npt.NDArray[Any]


class StopError(Exception):
    """Stands for a kill: raised from inside the data."""


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    torch.set_num_threads(1)


def disc(number: int, *, label: int = 1) -> tuple[Voxels, Voxels]:
    """A disc brighter than its noise, and its mask."""
    random = np.random.default_rng(number)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    middle, radius = random.uniform(10, SIDE - 10, 2), random.uniform(5, 8)
    inside = (rows - middle[0]) ** 2 + (columns - middle[1]) ** 2 < radius**2
    mask = np.repeat(inside[None], SLICES, axis=0)
    image = (100 + random.normal(0, 8, mask.shape) + 90 * mask).astype(np.int16)
    return image, np.where(mask, label, 0).astype(np.uint8)


def case_of(name: str, image: Voxels) -> Case:
    low, high = np.percentile(image, (0.5, 99.5))
    return Case(
        id=name,
        path=Path(f"{name}.nii.gz"),
        shape=(image.shape[0], image.shape[1], image.shape[2]),
        spacing_mm=(3.0, 1.0, 1.0),
        channels=1,
        read=lambda start, stop: image[start:stop],
        window=lambda: (float(low), float(high)),
    )


def to_learn(number: int, mask: Voxels | None = None, *, label: int = 1) -> TrainCase:
    image, own = disc(number, label=label)
    shown = own if mask is None else mask
    return TrainCase(case_of(f"case_{number}", image), lambda start, stop: shown[start:stop])


def spec(protocol: str = "linear_probe", **changed: Any) -> SegmenterSpec:
    fields: dict[str, Any] = {
        "name": "probe",
        "source": "tiny:segformer",
        "kind": "hub",
        "classes": {1: "lesion"},
        "weights": "random",
        "options": {"image_size": SIDE, "clip": "not ours"},
    }
    return SegmenterSpec(protocol=protocol, **(fields | changed))


def train(
    folder: Path, cases: list[TrainCase], of: SegmenterSpec | None = None, **changed: Any
) -> tuple[ProbeSegmenter, History]:
    """One head that learns from all of the cases."""
    settings: dict[str, Any] = {"epochs": 12, "batch_size": 3} | changed
    folds = [Fold(train=tuple(one.case.id for one in cases), test=("another",))]
    probe, history = train_probe(of or spec(), cases, folds, checkpoint_dir=folder, **settings)
    return probe.of("another"), history


def dice_on_new_cases(segmenter: ProbeSegmenter) -> float:
    scores = []
    for number in range(20, 24):
        image, mask = disc(number)
        labels = segmenter.segment(case_of(f"new_{number}", image), Stopwatch(time.perf_counter_ns))
        scores.append(2 * np.sum(labels * mask) / (labels.sum() + mask.sum()))
    return float(np.mean(scores))


@pytest.mark.parametrize("protocol", ["linear_probe", "upernet_frozen"])
def test_what_is_brighter_is_learnt_even_on_random_features(tmp_path: Path, protocol: str) -> None:
    """All foreground would score about 0.2 here, and the head as it is drawn no more."""
    cases = [to_learn(number) for number in range(4)]
    segmenter, history = train(tmp_path, cases, spec(protocol))
    assert dice_on_new_cases(segmenter) > 0.75
    losses = [row["train_loss"] for row in history]
    assert len(losses) == 12
    assert losses[-1] < losses[0] / 2  # type: ignore[operator]
    facts = segmenter.facts
    assert facts["train_cases"] == ["case_0", "case_1", "case_2", "case_3"]
    assert facts["train_slices"] == 4 * SLICES
    assert facts["train_voxels"] == {"lesion": sum(int(disc(n)[1].sum()) for n in range(4))}
    assert not list(tmp_path.glob("features*"))


def test_references_that_have_nothing_to_do_with_the_images_teach_nothing(tmp_path: Path) -> None:
    """As many voxels of each class, anywhere: a probe that scored would have seen the answer."""
    random = np.random.default_rng(0)
    masks = [random.permutation(disc(number)[1].ravel()) for number in range(4)]
    cases = [to_learn(n, mask.reshape(SLICES, SIDE, SIDE)) for n, mask in enumerate(masks)]
    segmenter, _ = train(tmp_path, cases)
    assert dice_on_new_cases(segmenter) < 0.45


def test_an_untrained_head_says_so_and_sees_no_reference() -> None:
    segmenter = draw_probe(spec(), batch_size=3)
    assert segmenter.facts["untrained"] is True
    assert dice_on_new_cases(segmenter) < 0.45


def test_labels_with_gaps_and_classes_nobody_shows_come_back_by_their_own_number(
    tmp_path: Path,
) -> None:
    cases = [to_learn(number, label=7) for number in range(3)]
    classes = {3: "organ", 7: "lesion"}
    segmenter, _ = train(tmp_path, cases, spec(classes=classes))
    image, mask = disc(30, label=7)
    labels = segmenter.segment(case_of("new", image), Stopwatch(time.perf_counter_ns))
    assert set(np.unique(labels)) == {0, 7}
    assert np.mean(labels == mask) > 0.9
    assert segmenter.facts["train_voxels"]["organ"] == 0


@pytest.mark.slow
def test_on_real_tissue_it_finds_between_slices_what_it_learnt_on_them(
    tmp_path: Path, shared_data: Path
) -> None:
    """Slices of one brain on both sides, which no benchmark may do: only whether it learns."""
    scans = shared_data / "scans" / "nrrd"
    image = open_scan(scans / "brain1_image.nrrd").read(0, 25)
    mask = open_scan(scans / "brain1_label.nrrd").read(0, 25).astype(np.uint8)
    learnt = TrainCase(case_of("even", image[::2]), lambda a, b: mask[::2][a:b])
    trained = spec(
        source=str(shared_data / "models" / "efficientnet-lite0-timm"),
        weights="pretrained",
        options={"image_size": 192},
    )
    segmenter, _ = train(tmp_path, [learnt], trained, epochs=20, batch_size=4)
    labels = segmenter.segment(case_of("odd", image[1::2]), Stopwatch(time.perf_counter_ns))
    overlap = 2 * np.sum(labels * mask[1::2]) / (labels.sum() + mask[1::2].sum())
    assert overlap > 0.55


def weights(segmenter: ProbeSegmenter) -> dict[str, list[float]]:
    return {name: one.flatten().tolist() for name, one in segmenter.head.state_dict().items()}


def stop_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Every step leaves a checkpoint, and the fetch for `step` is the last."""
    fetches = iter(range(step + 1))

    class Fused(probe.PixelClasses):
        def losses(self, output: Any, targets: Any) -> torch.Tensor:
            if next(fetches, None) is None or step == 0:
                raise StopError
            return super().losses(output, targets)

    monkeypatch.setattr(probe, "PixelClasses", Fused)


@pytest.mark.parametrize("protocol", ["linear_probe", "upernet_frozen"])
def test_killed_in_the_middle_it_ends_with_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: str
) -> None:
    monkeypatch.setattr(probe, "CHECKPOINT_EVERY_S", 0.0)
    cases = [to_learn(number) for number in range(2)]
    asked = {"of": spec(protocol), "epochs": 3}
    whole, story = train(tmp_path / "whole", cases, **asked)
    with monkeypatch.context() as patch:
        stop_at(patch, 3)
        with pytest.raises(StopError):
            train(tmp_path / "killed", cases, **asked)
    resumed, again = train(tmp_path / "killed", cases, **asked)
    assert resumed.facts["resumed_at_step"] == 4
    assert weights(resumed) == weights(whole)
    assert [row["train_loss"] for row in again] == [row["train_loss"] for row in story]
    with pytest.raises(ModelError, match="belongs to another run"):
        train(tmp_path / "killed", [to_learn(0), to_learn(5)], **asked)


def test_each_case_is_let_go_before_the_next_is_opened(tmp_path: Path) -> None:
    told: list[str] = []

    def telling(number: int) -> TrainCase:
        image, mask = disc(number)

        def read(start: int, stop: int) -> Voxels:
            told.append(f"read {number}")
            return image[start:stop]

        case = case_of(f"case_{number}", image)
        object.__setattr__(case, "read", read)
        return TrainCase(
            case, lambda start, stop: mask[start:stop], lambda: told.append(f"let go of {number}")
        )

    train(tmp_path, [telling(0), telling(1)], epochs=1)
    assert told == ["read 0", "let go of 0", "read 1", "let go of 1"]


def test_a_head_does_not_answer_for_a_case_it_learnt_from(tmp_path: Path) -> None:
    segmenter, _ = train(tmp_path, [to_learn(0), to_learn(1)], epochs=1)
    with pytest.raises(ModelError, match="case case_1 is one that this head was trained on"):
        segmenter.segment(to_learn(1).case, Stopwatch(time.perf_counter_ns))


def wrong(change: Callable[[Voxels], Voxels]) -> TrainCase:
    return to_learn(0, change(disc(0)[1]))


@pytest.mark.parametrize(
    ("cases", "message"),
    [
        (list[TrainCase](), "no case to learn from"),
        ([to_learn(0), to_learn(0)], "case case_0 is given twice"),
        ([wrong(lambda mask: mask * 0)], "no voxel of lesion in any case that the head of fold"),
        ([wrong(lambda mask: mask * 9)], "case case_0 holds label 9, which is no class"),
        ([wrong(lambda mask: mask[:, 1:])], r"gives slices 0 to 3 as \(3, 31, 32\)"),
    ],
)
def test_cases_that_cannot_teach_are_refused(
    tmp_path: Path, cases: list[TrainCase], message: str
) -> None:
    with pytest.raises(DatasetError, match=message):
        train(tmp_path, cases)


def test_as_many_classes_are_learnt_as_bytes_can_name(tmp_path: Path) -> None:
    def many(count: int) -> SegmenterSpec:
        return spec(classes={label: f"class {label}" for label in range(1, count + 1)})

    _, history = train(tmp_path, [to_learn(0, label=254)], many(254), epochs=1)
    assert history
    with pytest.raises(ModelError, match="learn 255 classes, and a probe learns at most 254"):
        train(tmp_path, [to_learn(0)], many(255))
