"""Learning what is there, stopping in time, and going on bit for bit after a kill."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from candlemark.errors import ConfigError, DatasetError, ModelError
from candlemark.training.config import TrainingConfig
from candlemark.training.inference import predict
from candlemark.training.loop import FitResult, _Run, fit
from candlemark.training.objectives import Classification

CPU = torch.device("cpu")


class StopError(Exception):
    """Stands for a kill: raised from inside the data."""


class Pictures:
    """Noise with a bright left or right half; `fuse` counts down fetches until a kill."""

    def __init__(self, count: int, seed: int = 0, fuse: int | None = None) -> None:
        random = np.random.default_rng(seed)
        self.targets = random.integers(0, 2, count)
        images = random.integers(0, 160, (count, 8, 8))
        for image, target in zip(images, self.targets, strict=True):
            image[:, 4 * target : 4 * target + 4] += 60
        self.images = torch.from_numpy(images.astype(np.uint8))
        self.fuse = fuse

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images[index], int(self.targets[index])

    def __getitems__(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        if self.fuse is not None:
            self.fuse -= 1
            if self.fuse < 0:
                raise StopError
        return self.images[indices], torch.from_numpy(self.targets[indices])


class Tiny(nn.Module):
    """A network with batch norm and dropout: both remember or roll dice."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.3)
        )
        self.head = nn.Linear(4 * 64, 2)

    def features(self, images: Tensor) -> Tensor:
        out: Tensor = self.body(images).flatten(1)
        return out

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.head(self.features(images))
        return out


def prepare(images: Tensor) -> Tensor:
    return images.unsqueeze(1).float() / 255


def tiny(seed: int = 0) -> Tiny:
    torch.manual_seed(seed)
    return Tiny()


CONFIG = TrainingConfig(epochs=3, batch_size=16, learning_rate=5e-3, checkpoint_every_s=0)


def train(
    module: nn.Module,
    config: TrainingConfig = CONFIG,
    folder: Path | None = None,
    *,
    data: Pictures | None = None,
    seed: int = 0,
) -> FitResult:
    return fit(
        module,
        prepare,
        Pictures(50) if data is None else data,
        Pictures(20, seed=1),
        config,
        class_count=2,
        device=CPU,
        seed=seed,
        checkpoint_dir=folder,
    )


def weights(module: nn.Module) -> dict[str, list[float]]:
    return {name: tensor.flatten().tolist() for name, tensor in module.state_dict().items()}


def test_it_learns_and_tells_the_story() -> None:
    module = tiny()
    config = CONFIG.model_copy(update={"epochs": 6, "patience": None})
    result = train(module, config, data=Pictures(200))
    probability = predict(module, prepare, Pictures(100, seed=2), device=CPU, class_count=2)
    truth = Pictures(100, seed=2).targets
    assert (probability.argmax(axis=1) == truth).mean() > 0.9
    assert [row["epoch"] for row in result.history] == [1, 2, 3, 4, 5, 6]
    first, last = result.history[0], result.history[-1]
    assert first["train_loss"] is not None
    assert last["train_loss"] is not None
    assert last["train_loss"] < first["train_loss"]
    assert set(first) == {
        "epoch",
        "train_loss",
        "validation_loss",
        "validation_accuracy",
        "learning_rate",
        "duration_s",
    }
    assert result.steps == 6 * 13
    assert result.samples_seen == 6 * 200
    assert not module.training


def test_probabilities_are_float64_in_the_datas_order_whatever_the_batch() -> None:
    module, data = tiny().eval(), Pictures(30)
    one = predict(module, prepare, data, device=CPU, class_count=2, batch_size=7)
    other = predict(module, prepare, data, device=CPU, class_count=2, batch_size=30)
    assert one.dtype == np.float64
    assert np.allclose(one, other, atol=1e-6)
    assert np.allclose(one.sum(axis=1), 1, atol=1e-12)
    empty = predict(module, prepare, Pictures(0), device=CPU, class_count=2)
    assert empty.shape == (0, 2)


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not() -> None:
    first, second, third = tiny(), tiny(), tiny()
    train(first)
    torch.manual_seed(99)  # the caller's random state must not matter
    train(second)
    train(third, seed=1)
    assert weights(first) == weights(second)
    assert weights(first) != weights(third)


def test_the_callers_random_state_is_left_alone() -> None:
    module = tiny()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train(module)
    assert torch.equal(torch.rand(3), expected)


def test_interrupted_at_every_step_it_ends_with_the_same_bits(tmp_path: Path) -> None:
    undisturbed = tiny()
    expected = train(undisturbed)
    resumed_at = []
    for fuse in range(expected.steps):
        folder = tmp_path / str(fuse)
        with pytest.raises(StopError):
            train(tiny(), folder=folder, data=Pictures(50, fuse=fuse))
        module = tiny(seed=7)  # other weights: all must come from the checkpoint
        if fuse == 0:
            module = tiny()  # nothing was saved yet
        result = train(module, folder=folder)
        resumed_at.append(result.resumed_at_step)
        assert weights(module) == weights(undisturbed)
        assert [without_time(row) for row in result.history] == [
            without_time(row) for row in expected.history
        ]
    assert resumed_at == list(range(expected.steps))


def without_time(row: dict[str, float | int | None]) -> dict[str, float | int | None]:
    return {key: value for key, value in row.items() if key != "duration_s"}


def test_interrupted_again_and_again(tmp_path: Path) -> None:
    undisturbed, module = tiny(), tiny()
    train(undisturbed)
    for _ in range(5):
        with pytest.raises(StopError):
            train(tiny(), folder=tmp_path, data=Pictures(50, fuse=2))
    train(module, folder=tmp_path)
    assert weights(module) == weights(undisturbed)


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    first, second = tiny(), tiny(seed=3)
    before = train(first, folder=tmp_path)
    after = train(second, folder=tmp_path, data=Pictures(50, fuse=0))
    assert weights(first) == weights(second)
    assert after.history == before.history


KILLED = """
import importlib.util, sys, time
from pathlib import Path
spec = importlib.util.spec_from_file_location("loop_tests", sys.argv[1])
tests = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tests)
tests.torch.set_num_threads(1)

class Slow(tests.Pictures):
    def __getitems__(self, indices):
        time.sleep(0.02)
        return super().__getitems__(indices)

tests.train(tests.tiny(), folder=Path(sys.argv[2]), data=Slow(50))
"""


def test_killed_by_the_system_it_ends_with_the_same_bits(tmp_path: Path) -> None:
    undisturbed, module = tiny(), tiny()
    train(undisturbed)
    random = np.random.default_rng(int.from_bytes(os.urandom(4), "little"))
    for _ in range(2):
        child = subprocess.Popen([sys.executable, "-c", KILLED, __file__, str(tmp_path)])
        file = tmp_path / "checkpoint.pt"
        deadline = time.monotonic() + 60
        while not file.exists() and child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(random.uniform(0, 0.15))
        child.send_signal(signal.SIGKILL)
        child.wait()
        assert file.exists()
    train(module, folder=tmp_path)
    assert weights(module) == weights(undisturbed)


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    train(tiny(), folder=tmp_path)
    with pytest.raises(ModelError, match="belongs to another run"):
        train(tiny(), folder=tmp_path, seed=1)
    with pytest.raises(ModelError, match="belongs to another run"):
        train(tiny(), CONFIG.model_copy(update={"batch_size": 8}), folder=tmp_path)
    with pytest.raises(ModelError, match="belongs to another run"):
        train(tiny(), folder=tmp_path, data=Pictures(50, seed=4))


def test_early_stopping_returns_to_the_best_weights() -> None:
    """The validation labels are inverted: the more it learns, the worse it gets."""
    inverted = Pictures(40, seed=1)
    inverted.targets = 1 - inverted.targets
    config = CONFIG.model_copy(update={"epochs": 20, "patience": 2})
    module = tiny()
    result = fit(
        module,
        prepare,
        Pictures(100),
        inverted,
        config,
        class_count=2,
        device=CPU,
        seed=0,
    )
    assert result.stopped_early
    assert len(result.history) == result.best_epoch + 2
    best = result.history[result.best_epoch - 1]["validation_loss"]
    assert best == result.best_validation_loss
    probability = predict(module, prepare, inverted, device=CPU, class_count=2)
    chosen = probability[np.arange(40), inverted.targets]
    counts = np.bincount(Pictures(100).targets)
    weight = (100 / (2 * counts))[inverted.targets]
    assert best == pytest.approx(-(weight * np.log(chosen)).sum() / weight.sum(), rel=1e-5)


def test_without_validation_the_last_epoch_counts() -> None:
    result = fit(tiny(), prepare, Pictures(40), None, CONFIG, class_count=2, device=CPU, seed=0)
    assert result.best_epoch == 3
    assert result.best_validation_loss is None
    assert result.history[0]["validation_loss"] is None


def test_a_frozen_backbone_learns_only_its_head(tmp_path: Path) -> None:
    module = tiny()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    config = CONFIG.model_copy(update={"mode": "frozen", "epochs": 8, "patience": None})
    data = Pictures(200, fuse=20)  # 13 reads for the features, none for the 8 epochs
    train(module, config, data=data, folder=tmp_path)
    after = module.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"head.weight", "head.bias"}
    fresh = Pictures(100, seed=2)
    probability = predict(module, prepare, fresh, device=CPU, class_count=2)
    assert (probability.argmax(axis=1) == fresh.targets).mean() > 0.8


def test_what_cannot_be_frozen_says_so() -> None:
    config = CONFIG.model_copy(update={"mode": "frozen"})
    with pytest.raises(ModelError, match="use mode full"):
        train(nn.Sequential(nn.Flatten(), nn.Linear(64, 2)), config)

    class Bypass(Tiny):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images) + images.mean()

    with pytest.raises(ModelError, match="does not follow its features alone"):
        train(Bypass(), config)


def test_a_loss_that_is_no_number_is_an_error_with_its_place() -> None:
    class Broken(Tiny):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images) * (math.nan if self.training else 1.0)

    with pytest.raises(ModelError, match=r"loss became nan in epoch 1, step 1, with learning rate"):
        train(Broken())
    with pytest.raises(ModelError, match="logits that are not numbers"):
        predict(
            Broken().eval(), lambda x: prepare(x) * math.nan, Pictures(4), device=CPU, class_count=2
        )


def test_bfloat16_trains_and_hands_back_a_plain_module() -> None:
    module = tiny()
    config = CONFIG.model_copy(update={"precision": "bf16"})
    train(module, config)
    assert all(p.dtype == torch.float32 for p in module.parameters())
    assert "forward" not in vars(module)
    train(tiny())  # and another precision after it, in the same process
    probability = predict(module, prepare, Pictures(9), device=CPU, class_count=2, precision="bf16")
    assert np.allclose(probability.sum(axis=1), 1, atol=1e-12)


def test_half_precision_on_a_cpu_and_bad_data_are_refused() -> None:
    with pytest.raises(ConfigError, match="fp16 does not train on a CPU; allowed: fp32, bf16"):
        train(tiny(), CONFIG.model_copy(update={"precision": "fp16"}))
    with pytest.raises(DatasetError, match="0 training samples"):
        train(tiny(), data=Pictures(0))
    data = Pictures(30)
    data.targets = data.targets + 1
    with pytest.raises(DatasetError, match=r"target is 2; allowed: 0\.\.1"):
        train(tiny(), data=data)


def test_a_class_the_training_never_saw_does_not_stop_it() -> None:
    result = fit(
        nn.Sequential(nn.Flatten(), nn.Linear(64, 3)),
        prepare,
        Pictures(40),
        Pictures(20, seed=1),
        CONFIG,
        class_count=3,
        device=CPU,
        seed=0,
    )
    assert len(result.history) == 3


TWO_PROCESSES = """
import importlib.util, json, os, sys
spec = importlib.util.spec_from_file_location("loop_tests", sys.argv[1])
tests = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tests)
tests.torch.set_num_threads(1)
module = tests.plain()
result = tests.train(module)
if os.environ["RANK"] == "0":
    with open(sys.argv[2], "w") as file:
        json.dump([result.process_count, tests.weights(module)], file)
"""


def plain() -> nn.Module:
    """A network without batch norm and dropout, which see only their own share of a batch."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 2))


def test_several_processes_never_meet_over_a_checkpoint(tmp_path: Path) -> None:
    """A process whose clock says "now" must not wait for one whose clock does not."""

    def reduce(*_: object, **__: object) -> Tensor:
        raise AssertionError("losses were read while other processes went on")

    module = plain()
    run = _Run(
        module=module,
        prepare=nn.Identity(),
        train_data=Pictures(8),
        validation_data=None,
        config=TrainingConfig(checkpoint_every_s=0),
        objective=Classification(torch.ones(2)),
        targets_hash="",
        device=CPU,
        seed=0,
        accelerator=SimpleNamespace(
            num_processes=2, process_index=0, is_main_process=True, scaler=None, reduce=reduce
        ),
        file=tmp_path / "checkpoint.pt",
        pending=[torch.tensor(0.5)],
    )
    optimizer = torch.optim.AdamW(module.parameters())
    run._save_if_due(optimizer)
    assert not (tmp_path / "checkpoint.pt").exists()
    run.pending.clear()  # read by all, at the step they agree on
    run._save_if_due(optimizer)
    assert (tmp_path / "checkpoint.pt").exists()


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(tmp_path: Path) -> None:
    module, out = plain(), tmp_path / "out.json"
    train(module)
    script = tmp_path / "train.py"
    script.write_text(TWO_PROCESSES, encoding="utf-8")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    subprocess.run(
        [*launcher, "--nproc_per_node=2", str(script), __file__, str(out)],
        check=True,
        env={**os.environ, "ACCELERATE_USE_CPU": "1"},
        timeout=120,
    )
    count, found = json.loads(out.read_text(encoding="utf-8"))
    assert count == 2
    for name, expected in weights(module).items():
        assert found[name] == pytest.approx(expected, abs=1e-5)


class Ahead(Pictures):
    """The same pictures, of a kind that may be fetched by another thread."""

    def batch(self, indices: np.ndarray) -> tuple[Tensor, Tensor]:
        return self.__getitems__(indices.tolist())


def test_fetching_ahead_changes_no_bit(tmp_path: Path) -> None:
    plain, ahead, killed = tiny(), tiny(), tiny()
    first = train(plain)
    second = train(ahead, data=Ahead(50))
    assert weights(plain) == weights(ahead)
    assert first.samples_seen == second.samples_seen
    with pytest.raises(StopError):
        train(killed, folder=tmp_path, data=Ahead(50, fuse=6))
    assert train(tiny(1), folder=tmp_path, data=Ahead(50)).resumed_at_step > 0
    resumed = tiny(2)
    train(resumed, folder=tmp_path, data=Ahead(50))
    assert weights(resumed) == weights(plain)
