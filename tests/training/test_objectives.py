"""Losses by their formulas, log-variances at the optimum of theirs, and unknown values."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from candlemark.errors import DatasetError, ModelError
from candlemark.training.batches import Batch, Indices
from candlemark.training.config import TrainingConfig
from candlemark.training.loop import FitResult, fit
from candlemark.training.objectives import ClassAndReturn, Classification

CPU = torch.device("cpu")


@dataclass
class Output:
    """What a module with two heads gives."""

    logits: Tensor
    forecast: Tensor


LOGITS = torch.tensor([[1.0, 2.0, 0.0], [0.0, 0.0, 0.0], [3.0, 0.0, -1.0], [0.5, 0.0, 1.0]])
TARGETS = torch.tensor([1, 0, 2, 2])
WEIGHT = torch.tensor([0.5, 1.0, 2.0])
CROSS_ENTROPY = [
    float(weight * (torch.logsumexp(row, 0) - row[target]))
    for row, target, weight in zip(LOGITS, TARGETS, WEIGHT[TARGETS], strict=True)
]


def test_classification_is_weighted_cross_entropy_of_logits_or_of_an_output() -> None:
    objective = Classification(WEIGHT)
    assert objective.losses(LOGITS, TARGETS).tolist() == pytest.approx(CROSS_ENTROPY)
    output, targets = Output(LOGITS.bfloat16(), LOGITS[:, 0]), {"target": TARGETS}
    assert objective.losses(output, targets).tolist() == pytest.approx(CROSS_ENTROPY)
    assert objective.losses(output, targets).dtype == torch.float32
    columns = {
        name: total / weight for name, (total, weight) in objective.measure(LOGITS, TARGETS).items()
    }
    assert columns["validation_loss"] == pytest.approx(sum(CROSS_ENTROPY) / 5.5)
    assert columns["validation_accuracy"] == 0.75
    assert objective.watched(columns) == columns["validation_loss"]
    assert not list(objective.parameters())
    assert objective.state_dict() == {}
    assert objective.state_columns() == {}


def test_a_class_and_a_return_add_up_by_hand() -> None:
    """Errors of 0.5, 1, 3 and an unknown one: 0.125, 0.5, and 2.5 beyond the bend."""
    forecast = torch.tensor([0.5, 1.0, -1.0, 9.0])
    value = torch.tensor([0.0, 2.0, 2.0, math.nan])
    huber = [0.125, 0.5, 2.5, 0.0]
    targets = {"target": TARGETS, "value": value}
    equal = ClassAndReturn(WEIGHT, balance="equal")
    assert equal.losses(Output(LOGITS, forecast), targets).tolist() == pytest.approx(
        [a + b for a, b in zip(CROSS_ENTROPY, huber, strict=True)]
    )
    objective = ClassAndReturn(WEIGHT)
    with torch.no_grad():
        objective.class_log_variance.fill_(0.4)
        objective.value_log_variance.fill_(-1.0)
    expected = [
        math.exp(-0.4) * of_class + 0.2 + (math.exp(1.0) * of_value - 0.5 if known else 0.0)
        for of_class, of_value, known in zip(CROSS_ENTROPY, huber, [1, 1, 1, 0], strict=True)
    ]
    losses = objective.losses(Output(LOGITS, forecast), targets)
    assert losses.tolist() == pytest.approx(expected)
    sums = objective.measure(Output(LOGITS, forecast), targets)
    assert sums == equal.measure(Output(LOGITS, forecast), targets)  # no learnt weight in it
    columns = {name: total / weight for name, (total, weight) in sums.items()}
    assert columns["validation_class_loss"] == pytest.approx(sum(CROSS_ENTROPY) / 5.5)
    assert columns["validation_value_loss"] == pytest.approx(3.125 / 3)
    assert objective.watched(columns) == pytest.approx(sum(CROSS_ENTROPY) / 5.5 + 3.125 / 3)
    assert set(objective.columns) == set(columns)
    assert objective.state_columns() == pytest.approx(
        {"class_loss_weight": math.exp(-0.4), "value_loss_weight": math.e}
    )
    assert equal.state_columns() == {"class_loss_weight": 1.0, "value_loss_weight": 1.0}


@given(st.lists(st.booleans(), min_size=4, max_size=4), st.sampled_from(["uncertainty", "equal"]))
@settings(max_examples=20, deadline=None)
def test_no_gradient_comes_from_an_unknown_value(known: list[bool], balance: str) -> None:
    forecast = torch.tensor([0.5, -2.0, math.inf if not known[2] else 1.0, 0.1], requires_grad=True)
    value = torch.where(torch.tensor(known), torch.tensor([1.0, 1.0, -3.0, 0.0]), math.nan)
    logits = LOGITS.clone().requires_grad_()
    objective = ClassAndReturn(WEIGHT, balance=balance)  # type: ignore[arg-type]
    losses = objective.losses(Output(logits, forecast), {"target": TARGETS, "value": value})
    torch.autograd.backward(losses.sum())
    assert forecast.grad is not None
    assert logits.grad is not None
    assert (forecast.grad != 0).tolist() == known
    assert forecast.grad.isfinite().all()
    assert (logits.grad != 0).all()
    if balance == "uncertainty" and not any(known):
        assert objective.value_log_variance.grad == 0


def test_what_is_watched_does_with_what_is_known() -> None:
    objective = ClassAndReturn(WEIGHT)
    one = {"validation_class_loss": 0.7, "validation_value_loss": None}
    assert objective.watched(one) == 0.7
    assert objective.watched({"validation_class_loss": None, "validation_value_loss": 0.2}) == 0.2
    assert objective.watched(dict.fromkeys(objective.columns)) is None


def test_outputs_and_targets_that_do_not_fit_are_named() -> None:
    objective, forecast = ClassAndReturn(WEIGHT), torch.zeros(4)
    with pytest.raises(ModelError, match=r'targets \{"target", "value"\}'):
        objective.losses(Output(LOGITS, forecast), TARGETS)
    targets = {"target": TARGETS, "value": forecast}
    with pytest.raises(ModelError, match="Tensor, the module's output, has no tensor `forecast`"):
        objective.losses(LOGITS, targets)
    with pytest.raises(ModelError, match=r"forecasts \(4, 1\) for values \(4,\)"):
        objective.losses(Output(LOGITS, forecast[:, None]), targets)
    with pytest.raises(ModelError, match="NoneType, the module's output, has no tensor `logits`"):
        Classification(WEIGHT).losses(None, TARGETS)
    with pytest.raises(ModelError, match="balance = 'half'; allowed"):
        ClassAndReturn(WEIGHT, balance="half")  # type: ignore[arg-type]


class Constant:
    """Values of one size, half of them unknown: the loss of a fixed answer is a constant."""

    def __init__(self, count: int, size: float, known: float = 0.5) -> None:
        random = np.random.default_rng(0)
        self.targets = random.integers(0, 3, count)
        values = size * random.choice([-1.0, 1.0], count)
        self.values = np.where(np.arange(count) < known * count, values, np.nan)

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> Batch:
        inputs, targets = self.batch(np.array([index]))
        assert isinstance(inputs, Tensor)
        assert isinstance(targets, dict)
        return inputs[0], {name: tensor[0] for name, tensor in targets.items()}

    def batch(self, indices: Indices) -> Batch:
        value = torch.from_numpy(self.values[indices])
        return torch.zeros(len(indices), 2), {
            "target": torch.from_numpy(self.targets[indices]),
            "value": value,
        }


class Fixed(nn.Module):
    """Always the same answer, whatever is learnt."""

    def __init__(self, logits: list[float]) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(3))
        self.answer = torch.tensor(logits)

    def forward(self, inputs: Tensor) -> Output:
        return Output(self.answer.expand(len(inputs), 3) + 0 * self.shift, inputs[:, 0])


def weigh(
    size: float, *, known: float = 0.5, balance: str = "uncertainty", epochs: int = 40
) -> tuple[ClassAndReturn, FitResult]:
    objective = ClassAndReturn(torch.ones(3), balance=balance)  # type: ignore[arg-type]
    objective.learning_rate = 0.1
    config = TrainingConfig(epochs=epochs, batch_size=10, learning_rate=1e-5, patience=None)
    data = Constant(60, size, known)
    result = fit(
        Fixed([0.0, 0.0, 0.0]),
        lambda inputs: inputs,
        data,
        data,
        config,
        class_count=3,
        device=CPU,
        seed=0,
        objective=objective,
    )
    return objective, result


@pytest.mark.parametrize("size", [0.1, 0.6])
def test_log_variances_go_where_the_formula_is_smallest(size: float) -> None:
    """d/ds (exp(-s) L + s / 2) = 0 at s = log(2 L); of half a square that is its mean square."""
    objective, result = weigh(size)
    assert objective.class_log_variance.item() == pytest.approx(math.log(2 * math.log(3)), abs=0.01)
    assert objective.value_log_variance.item() == pytest.approx(math.log(size**2), abs=0.02)
    last = result.history[-1]
    assert last["value_loss_weight"] == pytest.approx(size**-2, rel=0.02)
    assert last["class_loss_weight"] == pytest.approx(1 / (2 * math.log(3)), rel=0.01)
    # Each loss is now divided by twice itself; the rest is half of the log-variances.
    of_value = 0.5 + math.log(size**2) / 2
    assert last["train_loss"] == pytest.approx(
        0.5 + math.log(2 * math.log(3)) / 2 + of_value / 2, abs=0.02
    )
    # What is watched knows nothing of the weights.
    assert last["validation_class_loss"] == pytest.approx(math.log(3))
    assert last["validation_value_loss"] == pytest.approx(size**2 / 2)
    assert last["validation_loss"] == pytest.approx(math.log(3) + size**2 / 2)
    assert result.best_validation_loss == pytest.approx(math.log(3) + size**2 / 2)


def test_beyond_the_bend_the_variance_is_twice_the_huber_loss() -> None:
    objective, _ = weigh(2.0, known=1.0)
    assert objective.value_log_variance.item() == pytest.approx(math.log(2 * 1.5), abs=0.02)


def test_equal_weights_learn_nothing_of_their_own() -> None:
    objective, result = weigh(0.6, balance="equal", epochs=2)
    assert not list(objective.parameters())
    assert result.history[-1]["train_loss"] == pytest.approx(math.log(3) + 0.18 / 2)


def test_the_history_of_a_class_and_a_return() -> None:
    _, result = weigh(0.6, epochs=1)
    assert list(result.history[0]) == [
        "epoch",
        "train_loss",
        "validation_loss",
        "validation_class_loss",
        "validation_value_loss",
        "validation_accuracy",
        "class_loss_weight",
        "value_loss_weight",
        "learning_rate",
        "duration_s",
    ]


def test_values_that_are_all_unknown_are_refused() -> None:
    with pytest.raises(DatasetError, match="none of the 60 training samples has a known value"):
        weigh(1.0, known=0.0)
