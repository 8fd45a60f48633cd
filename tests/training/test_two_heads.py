"""A module with two inputs and two heads: killed, accumulated, frozen, in half precision, in two
processes. What the loop promises for pictures holds for it as well.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from candlemark.errors import ModelError
from candlemark.training import frozen
from candlemark.training.batches import Batch, Indices
from candlemark.training.config import TrainingConfig
from candlemark.training.inference import infer, predict
from candlemark.training.loop import FitResult, fit
from candlemark.training.objectives import ClassAndReturn

CPU = torch.device("cpu")
CONFIG = TrainingConfig(
    epochs=2, batch_size=4, accumulation_steps=3, learning_rate=5e-3, checkpoint_every_s=0
)


class StopError(Exception):
    """Stands for a kill: raised from inside the data."""


class Pairs:
    """A picture that tells one bit and a text that tells another: together they are the class.

    The value is the second pixel of the picture; a third of the values is unknown. Texts have
    2 to 5 tokens, padded with 0 to the longest of a batch.

    fuse: counts down fetches until a kill
    """

    def __init__(self, count: int, seed: int = 0, fuse: int | None = None) -> None:
        random = np.random.default_rng(seed)
        bits = random.integers(0, 2, (count, 2))
        self.targets = bits.sum(axis=1)
        self.images = random.integers(0, 100, (count, 2, 3)).astype(np.uint8)
        self.images[:, 0, 0] += (150 * bits[:, 0]).astype(np.uint8)
        self.lengths = random.integers(2, 6, count)
        self.words = np.where(np.arange(5) < self.lengths[:, None], 1, 0)
        self.words[:, 0] = 2 + bits[:, 1]
        values = (self.images[:, 0, 1].astype(np.float64) - 50) / 30
        self.values = np.where(random.random(count) < 2 / 3, values, np.nan)
        self.fuse = fuse

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> Batch:
        raise AssertionError("the data has whole batches")

    def batch(self, indices: Indices) -> Batch:
        if self.fuse is not None:
            self.fuse -= 1
            if self.fuse < 0:
                raise StopError
        length = int(self.lengths[indices].max())
        return {
            "images": torch.from_numpy(self.images[indices]),
            "input_ids": torch.from_numpy(self.words[indices, :length].astype(np.int32)),
        }, {
            "target": torch.from_numpy(self.targets[indices]),
            "value": torch.from_numpy(self.values[indices]),
        }


@dataclass
class Output:
    """Logits (N, 3) and forecast (N,)."""

    logits: Tensor
    forecast: Tensor


class Heads(nn.Module):
    """The mean of the tokens that are there beside the picture, to two heads."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.hidden = nn.Linear(12, 8)
        self.classifier = nn.Linear(8, 3)
        self.forecaster = nn.Linear(8, 1)

    def forward(self, tokens: Tensor, mask: Tensor, picture: Tensor) -> Output:
        share = mask.unsqueeze(-1).float()
        text = (tokens * share).sum(dim=1) / share.sum(dim=1)
        joined = self.dropout(self.hidden(torch.cat([text, picture], dim=1)).relu())
        return Output(self.classifier(joined), self.forecaster(joined).squeeze(-1))


class Both(nn.Module):
    """Words and pixels, by keywords; `norm` and dropout remember and roll dice."""

    def __init__(self, *, dropout: float = 0.2, norm: bool = True) -> None:
        super().__init__()
        self.words = nn.Embedding(4, 6)
        self.pixels = nn.Linear(6, 6)
        self.norm = nn.BatchNorm1d(6) if norm else nn.Identity()
        self.head = Heads(dropout)

    def features(self, pixels: Tensor, input_ids: Tensor) -> dict[str, Tensor]:
        return {
            "tokens": self.words(input_ids),
            "mask": input_ids > 0,
            "picture": self.norm(self.pixels(pixels)),
        }

    def forward(self, pixels: Tensor, input_ids: Tensor) -> Output:
        output: Output = self.head(**self.features(pixels, input_ids))
        return output


def prepare(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        "pixels": inputs["images"].flatten(1).float() / 128 - 1,
        "input_ids": inputs["input_ids"].long(),
    }


def both(seed: int = 0, *, dropout: float = 0.2, norm: bool = True) -> Both:
    torch.manual_seed(seed)
    return Both(dropout=dropout, norm=norm)


def train(
    module: nn.Module,
    config: TrainingConfig = CONFIG,
    folder: Path | None = None,
    *,
    data: Pairs | None = None,
    objective: ClassAndReturn | None = None,
) -> FitResult:
    return fit(
        module,
        prepare,
        Pairs(38) if data is None else data,
        Pairs(20, seed=1),
        config,
        class_count=3,
        device=CPU,
        seed=0,
        objective=ClassAndReturn(torch.ones(3)) if objective is None else objective,
        checkpoint_dir=folder,
    )


def change(**values: object) -> TrainingConfig:
    return TrainingConfig.model_validate({**CONFIG.model_dump(), **values})


def weights(module: nn.Module) -> dict[str, list[float]]:
    return {name: tensor.flatten().tolist() for name, tensor in module.state_dict().items()}


def story(result: FitResult) -> list[dict[str, float | int | None]]:
    return [{k: v for k, v in row.items() if k != "duration_s"} for row in result.history]


LONG = {
    "epochs": 12,
    "learning_rate": 2e-2,
    "accumulation_steps": 1,
    "batch_size": 16,
    "patience": None,
}


def read(output: Output) -> dict[str, Tensor]:
    return {"probability": output.logits.softmax(dim=1), "forecast": output.forecast}


def scores(module: nn.Module, precision: Any = "fp32") -> tuple[float, float]:
    """Accuracy, and mean square of what the forecast misses, on new data."""
    data = Pairs(200, seed=2)
    found = infer(module, prepare, data, device=CPU, read=read, precision=precision)
    known = ~np.isnan(data.values)
    accuracy = float((found["probability"].argmax(axis=1) == data.targets).mean())
    return accuracy, float(np.mean((found["forecast"] - data.values)[known] ** 2))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_it_learns_both(precision: str) -> None:
    module = both()
    train(module, change(**LONG, precision=precision), data=Pairs(300))
    accuracy, missed = scores(module, precision)
    assert accuracy > 0.95
    assert missed < 0.2  # of a variance of 0.9
    assert all(p.dtype == torch.float32 for p in module.parameters())


def test_killed_at_any_fetch_it_ends_with_the_same_bits(tmp_path: Path) -> None:
    """26 samples are updates of 12, 12 and 2: three parts each, and a last one of one part."""
    undisturbed, learnt = both(), ClassAndReturn(torch.ones(3))
    expected = train(undisturbed, data=Pairs(26), objective=learnt)
    assert expected.steps == 6
    # At first, within an update, after its last part, before validation, after the last fetch.
    done = {0: 0, 2: 0, 3: 1, 5: 1, 6: 2, 7: 3, 12: 4, 13: 5}
    for fuse, step in done.items():
        folder = tmp_path / str(fuse)
        with pytest.raises(StopError):
            train(both(), folder=folder, data=Pairs(26, fuse=fuse))
        # Other weights: all must come from the checkpoint, the objective's as well.
        module, objective = both(seed=7), ClassAndReturn(torch.ones(3))
        if not (folder / "checkpoint.pt").exists():
            module = both()
        result = train(module, folder=folder, data=Pairs(26), objective=objective)
        # Nothing of a half-done update is kept, all of a whole one is.
        assert result.resumed_at_step == step
        assert weights(module) == weights(undisturbed)
        assert weights(objective) == weights(learnt)
        assert story(result) == story(expected)


def test_a_checkpoint_of_another_objective_or_other_values_is_refused(tmp_path: Path) -> None:
    train(both(), folder=tmp_path)
    refused = "belongs to another run"
    with pytest.raises(ModelError, match=refused):
        train(both(), folder=tmp_path, objective=ClassAndReturn(torch.ones(3), balance="equal"))
    with pytest.raises(ModelError, match=refused):
        train(both(), folder=tmp_path, objective=ClassAndReturn(torch.tensor([1.0, 2.0, 1.0])))
    with pytest.raises(ModelError, match=refused):
        train(both(), change(accumulation_steps=2), folder=tmp_path)
    with pytest.raises(ModelError, match=refused):
        train(both(), change(schedule="linear"), folder=tmp_path)
    other = Pairs(38)
    other.values = other.values + 1
    with pytest.raises(ModelError, match=refused):
        train(both(), folder=tmp_path, data=other)


@pytest.mark.parametrize(("count", "steps"), [(38, 4), (37, 3), (36, 3), (11, 1)])
def test_several_batches_learn_what_one_learns_that_is_as_large(count: int, steps: int) -> None:
    """Also where the last update has fewer parts, and where a last sample joins the one before."""
    parts, whole = both(dropout=0, norm=False), both(dropout=0, norm=False)
    learnt, other = ClassAndReturn(torch.ones(3)), ClassAndReturn(torch.ones(3))
    first = train(parts, data=Pairs(count), objective=learnt)
    config = change(batch_size=12, accumulation_steps=1)
    second = train(whole, config, data=Pairs(count), objective=other)
    assert first.steps == second.steps == 2 * steps
    assert first.samples_seen == second.samples_seen == 2 * count
    for name, expected in weights(whole).items():
        assert weights(parts)[name] == pytest.approx(expected, abs=1e-5)
    for name, expected in weights(other).items():
        assert weights(learnt)[name] == pytest.approx(expected, abs=1e-5)
    for ours, theirs in zip(story(first), story(second), strict=True):
        assert ours == pytest.approx(theirs, abs=1e-5)


def test_parts_of_an_update_roll_different_dice() -> None:
    """The same dropout for every part would be half of a dropout."""
    seen: list[Tensor] = []

    class Watched(Both):
        def forward(self, pixels: Tensor, input_ids: Tensor) -> Output:
            if self.training:
                seen.append(torch.rand(4))
            return super().forward(pixels, input_ids)

    torch.manual_seed(0)
    train(Watched())
    assert len({tuple(dice.tolist()) for dice in seen}) == len(seen) == 20


def test_frozen_encoders_teach_their_head_from_features_of_any_length(tmp_path: Path) -> None:
    module = both()
    before = weights(module)
    data = Pairs(300, fuse=19)  # one read of each of 19 batches, none for the epochs
    train(module, change(**LONG, mode="frozen"), data=data, folder=tmp_path)
    changed = {name for name, value in weights(module).items() if value != before[name]}
    assert {name.partition(".")[0] for name in changed} == {"head"}
    assert scores(module)[0] > 0.9
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_features_in_files_teach_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_memory, in_files = both(), both()
    train(in_memory, change(mode="frozen"), data=Pairs(50))
    monkeypatch.setattr(frozen, "IN_MEMORY_BYTES", 0)
    seen: list[str] = []
    remove = shutil.rmtree

    def look(folder: Path, **options: Any) -> None:
        seen.extend(sorted(file.name for file in folder.glob("*")))
        remove(folder, **options)

    monkeypatch.setattr(shutil, "rmtree", look)
    (tmp_path / "features-0").mkdir()
    (tmp_path / "features-0" / "left by a kill").touch()
    train(in_files, change(mode="frozen"), data=Pairs(50), folder=tmp_path)
    assert weights(in_memory) == weights(in_files)
    assert seen[0] == "left by a kill"
    assert [name.rstrip("+") for name in seen[1:]] == [
        f"{data}-{number}.npy" for data in ("train", "validation") for number in range(3)
    ]
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_padding_that_the_head_does_not_hide_is_found() -> None:
    class Blind(Heads):
        def forward(self, tokens: Tensor, mask: Tensor, picture: Tensor) -> Output:
            return super().forward(tokens, torch.ones_like(mask), picture)

    module = both()
    module.head = Blind(0.0)
    data = Pairs(40)
    data.lengths[:16], data.lengths[16:] = 2, 5
    data.words[:16, 2:] = 0
    with pytest.raises(ModelError, match="Both cannot be frozen: its head does not follow"):
        train(module, change(mode="frozen", batch_size=8), data=data)


def test_a_disk_without_room_is_an_error_before_the_first_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frozen, "IN_MEMORY_BYTES", 0)
    usage = type("Usage", (), {"free": 10})
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(ModelError, match=r"0\.0 GiB free; train fewer samples or use mode full"):
        train(both(), change(mode="frozen"), folder=tmp_path)


def test_predict_reads_the_logits_of_an_output() -> None:
    module, data = both(), Pairs(30)
    probability = predict(module, prepare, data, device=CPU, class_count=3, batch_size=7)
    found = infer(module, prepare, data, device=CPU, read=read, batch_size=11)
    assert np.allclose(probability, found["probability"], atol=1e-6)


TWO_PROCESSES = """
import importlib.util, json, os, sys
spec = importlib.util.spec_from_file_location("two_heads", sys.argv[1])
tests = importlib.util.module_from_spec(spec)
sys.modules["two_heads"] = tests
spec.loader.exec_module(tests)
tests.torch.set_num_threads(1)
found = tests.in_processes()
if os.environ["RANK"] == "0":
    with open(sys.argv[2], "w") as file:
        json.dump(found, file)
"""


def in_processes() -> list[Any]:
    """Updates of three parts; the last one has a single part, and process 1 one sample of it."""
    answers: list[Any] = []
    for mode in ("full", "frozen"):
        module, objective = both(dropout=0, norm=False), ClassAndReturn(torch.ones(3))
        result = train(module, change(mode=mode), objective=objective)
        answers.append([result.process_count, weights(module), weights(objective), story(result)])
    return answers


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(tmp_path: Path) -> None:
    alone, out = in_processes(), tmp_path / "out.json"
    script = tmp_path / "train.py"
    script.write_text(TWO_PROCESSES, encoding="utf-8")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    subprocess.run(
        [*launcher, "--nproc_per_node=2", str(script), __file__, str(out)],
        check=True,
        env={**os.environ, "ACCELERATE_USE_CPU": "1"},
        timeout=120,
    )
    for one, two in zip(alone, json.loads(out.read_text(encoding="utf-8")), strict=True):
        assert (one[0], two[0]) == (1, 2)
        for which in (1, 2):
            for name, expected in one[which].items():
                assert two[which][name] == pytest.approx(expected, abs=1e-5)
        for ours, theirs in zip(one[3], two[3], strict=True):
            assert theirs == pytest.approx(ours, abs=1e-5)
