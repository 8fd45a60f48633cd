"""Cross-fitting: each case by the head of its own fold, and each head as if it were alone."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from candlemark.benchmark.segmentation import probe, task
from candlemark.benchmark.segmentation.folds import Fold
from candlemark.benchmark.segmentation.probe import train_probe
from candlemark.benchmark.segmentation.seen import TrainCase
from candlemark.errors import ConfigError, DatasetError, ModelError
from candlemark.models.segmentation.backbones import Backbone
from candlemark.models.segmentation.base import Case, SegmenterSpec, Stopwatch
from candlemark.models.segmentation.probe import FoldedSegmenter, Head
from candlemark.scans.geometry import Geometry
from candlemark.scans.masks import mask_to_file
from candlemark.training.loop import FitResult
from candlemark.training.position import History

SIDE, SLICES, BLOCK = 32, 2, 4
NAMES = ("case_0", "case_1", "case_2", "case_3")
Voxels = npt.NDArray[Any]


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def noise(name: str) -> tuple[Voxels, Voxels]:
    """An image and a mask that have nothing to do with each other, nor with any other case."""
    random = np.random.default_rng(NAMES.index(name))
    image = random.normal(100, 30, (SLICES, SIDE, SIDE)).astype(np.int16)
    coarse = random.random((SLICES, SIDE // BLOCK, SIDE // BLOCK)) < 0.3
    return image, np.kron(coarse, np.ones((1, BLOCK, BLOCK))).astype(np.uint8)


def to_learn(name: str) -> TrainCase:
    image, mask = noise(name)
    case = Case(
        id=name,
        path=Path(f"{name}.nii.gz"),
        shape=(SLICES, SIDE, SIDE),
        spacing_mm=(3.0, 1.0, 1.0),
        channels=1,
        read=lambda start, stop: image[start:stop],
        window=lambda: (0.0, 200.0),
    )
    return TrainCase(case, lambda start, stop: mask[start:stop])


def in_folds(*parts: tuple[str, ...]) -> list[Fold]:
    ids = [one for part in parts for one in part]
    return [Fold(train=tuple(i for i in ids if i not in part), test=part) for part in parts]


TWO = in_folds(("case_0", "case_3"), ("case_1", "case_2"))


def train(
    folder: Path, folds: list[Fold], names: tuple[str, ...] = NAMES, **changed: Any
) -> tuple[FoldedSegmenter, History]:
    spec = SegmenterSpec(
        name="probe",
        source="tiny:segformer",
        kind="hub",
        protocol="linear_probe",
        classes={1: "lesion"},
        options={"image_size": SIDE},
        weights="random",
    )
    cases = [to_learn(name) for name in names]
    settings: dict[str, Any] = {"epochs": 2, "batch_size": 2} | changed
    return train_probe(spec, cases, folds, checkpoint_dir=folder, **settings)


def ask(segmenter: Any, name: str) -> Voxels:
    labels: Voxels = segmenter.segment(to_learn(name).case, Stopwatch(time.perf_counter_ns))
    return labels


def dice(labels: Voxels, name: str) -> float:
    mask = noise(name)[1]
    return float(2 * np.sum(labels * mask) / (labels.sum() + mask.sum()))


class Memory(Head):
    """Learns by heart: the mask of the slice that looks most like the one asked for."""

    def __init__(self, backbone: Backbone, classes: int) -> None:
        super().__init__(backbone.channels)
        self.classes = classes
        self.last = torch.nn.Conv2d(1, classes, 1)
        self.known: list[tuple[torch.Tensor, torch.Tensor]] = []

    @property
    def answer(self) -> torch.nn.Conv2d:
        return self.last

    def forward(self, **maps: torch.Tensor) -> torch.Tensor:
        found = []
        for one in maps["map0"]:
            far = [float((one - seen).square().sum()) for seen, _ in self.known]
            labels = self.known[int(np.argmin(far))][1].long()
            found.append(torch.nn.functional.one_hot(labels, self.classes).permute(2, 0, 1))
        return torch.stack(found).float()


def by_heart(head: Memory, prepare: object, data: Any, *_: Any, **__: Any) -> FitResult:
    features, targets = data.batch(np.arange(len(data)))
    head.known = list(zip(features["map0"], targets["labels"], strict=True))
    return FitResult(
        history=({"epoch": 1},),
        best_epoch=1,
        best_validation_loss=None,
        stopped_early=False,
        steps=1,
        samples_seen=len(data),
        duration_s=0.5,
        resumed_at_step=0,
        process_count=1,
    )


def test_a_head_that_learns_by_heart_has_not_seen_the_case_it_answers_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Masks of pure chance: whoever is right about one of them has been shown it."""
    monkeypatch.setattr(
        probe, "build_head", lambda _, backbone, *, classes, seed: Memory(backbone, classes)
    )
    monkeypatch.setattr(probe, "fit", by_heart)
    segmenter, _ = train(tmp_path, TWO)
    assert all(dice(ask(segmenter, name), name) < 0.6 for name in NAMES)
    for name, place in segmenter.fold_of.items():  # the other head knows it to the last voxel
        other = segmenter.heads[1 - place]
        object.__setattr__(other, "learnt", frozenset())
        assert dice(ask(other, name), name) == 1.0


def state(head: Any) -> dict[str, list[float]]:
    return {name: one.flatten().tolist() for name, one in head.head.state_dict().items()}


def test_a_head_is_what_it_would_be_if_the_cases_of_its_fold_were_not_there(
    tmp_path: Path,
) -> None:
    """To the last bit: neither features, nor what they are standardised by, nor odds leak."""
    both, history = train(tmp_path / "both", TWO)
    for number, fold in enumerate(TWO):
        alone, story = train(tmp_path / f"alone {number}", [fold], fold.train)
        assert state(alone.heads[0]) == state(both.heads[number])
        rows = [row for row in history if row["fold"] == number + 1]
        assert [row["train_loss"] for row in rows] == [row["train_loss"] for row in story]
    assert state(both.heads[0]) != state(both.heads[1])


def test_the_backbone_sees_each_slice_once_whatever_the_folds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[int] = []
    load = probe.load_backbone

    def counting(spec: SegmenterSpec) -> Backbone:
        backbone = load(spec)
        backbone.module.register_forward_hook(lambda _, given, __: shown.append(len(given[0])))
        return backbone

    monkeypatch.setattr(probe, "load_backbone", counting)
    train(tmp_path, in_folds(*((name,) for name in NAMES)), epochs=1)
    assert sum(shown) == len(NAMES) * SLICES


def test_facts_and_history_name_the_fold_of_each_head(tmp_path: Path) -> None:
    segmenter, history = train(tmp_path, TWO)
    assert [(row["fold"], row["epoch"]) for row in history] == [(1, 1), (1, 2), (2, 1), (2, 2)]
    heads = segmenter.facts["heads"]
    assert [head["fold"] for head in heads] == [1, 2]
    assert [head["test_cases"] for head in heads] == [["case_0", "case_3"], ["case_1", "case_2"]]
    assert heads[0]["train_cases"] == heads[1]["test_cases"]
    assert heads[0]["train_voxels"] == {
        "lesion": sum(int(noise(name)[1].sum()) for name in ("case_1", "case_2"))
    }
    assert segmenter.facts["training_time_s"] == sum(head["training_time_s"] for head in heads)
    assert (segmenter.facts["untrained"], segmenter.facts["head"]) == (False, "LinearHead")
    assert not list(tmp_path.glob("features*"))


class StopError(Exception):
    """Stands for a kill: raised from inside the data."""


def test_killed_in_the_second_fold_it_goes_on_there_with_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "CHECKPOINT_EVERY_S", 0.0)
    whole, story = train(tmp_path / "whole", TWO)
    losses = iter(range(6))  # a fold has four updates

    class Fused(probe.PixelClasses):
        def losses(self, output: Any, targets: Any) -> torch.Tensor:
            if next(losses, None) is None:
                raise StopError
            return super().losses(output, targets)

    with monkeypatch.context() as patch:
        patch.setattr(probe, "PixelClasses", Fused)
        with pytest.raises(StopError):
            train(tmp_path / "killed", TWO)
    resumed, again = train(tmp_path / "killed", TWO)
    assert [head["resumed_at_step"] for head in resumed.facts["heads"]] == [4, 2]
    assert [state(head) for head in resumed.heads] == [state(head) for head in whole.heads]
    assert [row["train_loss"] for row in again] == [row["train_loss"] for row in story]
    with pytest.raises(ModelError, match="belongs to another run"):
        train(tmp_path / "killed", in_folds(("case_0", "case_1"), ("case_2", "case_3")))


def test_a_case_of_no_fold_is_not_answered_and_one_head_at_a_time_is_on_the_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segmenter, _ = train(tmp_path, TWO, epochs=1)
    moved: list[tuple[int, str]] = []
    for place, one in enumerate(segmenter.heads):
        object.__setattr__(one, "device", torch.device("meta"))
        monkeypatch.setattr(one.head, "to", lambda to, place=place: moved.append((place, str(to))))
    assert segmenter.of("case_1") is segmenter.heads[1]
    assert moved == [(0, "cpu"), (1, "meta")]
    with pytest.raises(ModelError, match="case case_9 is in no fold of this probe; it answers for"):
        segmenter.of("case_9")


@pytest.mark.parametrize(
    ("folds", "said"),
    [
        (in_folds(("case_0", "case_1"), ("case_1", "case_2")), "case case_1 is in two folds"),
        (
            [Fold(train=("case_0", "case_1"), test=("case_1",))],
            "case case_1 would be learnt from and answered for by the head of fold 1",
        ),
        ([Fold(train=("case_7",), test=("case_1",))], "fold 1 learns from case case_7, which is"),
        ([Fold(train=(), test=("case_1",))], "no case to learn from"),
    ],
)
def test_folds_that_would_leak_are_refused(tmp_path: Path, folds: list[Fold], said: str) -> None:
    with pytest.raises(DatasetError, match=said):
        train(tmp_path, folds)


def probes(**changed: Any) -> dict[str, Any]:
    model = {"model_id": "tiny:resnet", "protocol": "linear_probe", "weights": "random"}
    return {"huggingface_models": [{**model, "epochs": 1, **changed}]}


def test_a_probe_answers_for_every_case_as_all_other_rows_do(config_of: Any, works_of: Any) -> None:
    asked = config_of({"folds": 2}, controls=("otsu", "untrained_head"), **probes())
    results = {work.trial.role + work.spec.protocol: task.run(work) for work in works_of(asked)}
    tested = [[case["case"] for case in result.cases] for result in results.values()]
    assert tested == [["case_1", "case_2", "case_3", "case_4"]] * 3
    learnt = results["modellinear_probe"]
    assert [case["outcome"] for case in learnt.cases] == ["ok"] * 4
    assert len(learnt.samples["case_ms"]) == 4
    assert [row["fold"] for row in learnt.history] == [1, 2]
    heads = learnt.facts["heads"]
    assert sorted(one for head in heads for one in head["test_cases"]) == tested[0]


def test_a_head_that_knows_its_case_fails_the_case_and_not_the_row(
    config_of: Any, works_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last guard: heads in the wrong order answer for nothing."""
    of = FoldedSegmenter.of

    def turned(self: FoldedSegmenter, case_id: str) -> Any:
        return self.heads[1 - self.heads.index(of(self, case_id))]

    monkeypatch.setattr(FoldedSegmenter, "of", turned)
    (work,) = works_of(config_of({"folds": 2}, **probes()))
    result = task.run(work)
    assert [case["outcome"] for case in result.cases] == ["refused"] * 4
    assert "is one that this head was trained on" in result.cases[0]["reason"]


def test_one_file_under_two_ids_is_refused_before_anything_is_learnt(
    config_of: Any, works_of: Any, scans: Path, tmp_path: Path
) -> None:
    table = tmp_path / "pairs.csv"
    image, masks = scans / "images" / "case_1.nii.gz", scans / "masks"
    lines = [f"{name},{image},{masks / name}.nii.gz" for name in ("case_1", "case_2")]
    table.write_text("\n".join(["case,image,reference", *lines]) + "\n", encoding="utf-8")
    splits = {"train": ["case_1"], "test": ["case_2"]}
    given = {"image_dir": None, "seg_dir": None, "pairs": table, "splits": splits}
    drawn = np.zeros((4, 12, 12), np.uint8)
    drawn[1, :3] = 1
    grid = Geometry(shape=drawn.shape, spacing_mm=(3.0, 1.0, 1.0))
    mask_to_file(drawn, grid, masks / "case_2.nii.gz")
    with pytest.raises(ConfigError, match="'case_2' of the test split shows the same image as"):
        works_of(config_of(given, **probes()))
