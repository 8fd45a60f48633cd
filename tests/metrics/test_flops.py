"""Arithmetic counted by hand, and the published cost of the nine models."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from candlemark.metrics.flops import count_flops, model_size

GMACS = {
    "timm/edgenext_xx_small.in1k": (256, 0.258),
    "timm/mobilenetv3_small_100.lamb_in1k": (224, 0.057),
    "timm/ghostnet_100.in1k": (224, 0.141),
    "google/efficientnet-b0": (224, 0.386),
    "facebook/levit-128S": (224, 0.305),
    "microsoft/resnet-50": (224, 4.089),
    "microsoft/swin-tiny-patch4-window7-224": (224, 4.491),
    "facebook/convnext-tiny-224": (224, 4.456),
    "google/vit-base-patch16-224": (224, 17.564),
}


def test_a_linear_layer_costs_two_flops_a_multiply_add() -> None:
    cost = count_flops(nn.Linear(10, 3), torch.zeros(4, 10))
    assert (cost.flops, cost.parameters, cost.model_bytes) == (2 * 10 * 3, 33, 33 * 4)


def test_a_convolution_by_hand() -> None:
    cost = count_flops(nn.Conv2d(3, 8, 3, padding=1, bias=False), torch.zeros(2, 3, 16, 20))
    assert cost.flops == 2 * 3 * 8 * 9 * 16 * 20


def test_attention_is_counted_whatever_kernel_would_run() -> None:
    class Attention(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.scaled_dot_product_attention(x, x, x)

    cost = count_flops(Attention(), torch.zeros(1, 4, 50, 16))
    assert cost.flops == 2 * (2 * 4 * 50 * 50 * 16)


def test_what_is_not_counted_is_named() -> None:
    cost = count_flops(nn.Sequential(nn.Linear(4, 4), nn.GELU()), torch.zeros(1, 4))
    assert cost.uncounted == ("gelu",)
    assert cost.measurements()[0].reason == "not counted: gelu"


def test_nothing_counted_is_unknown_and_not_zero() -> None:
    cost = count_flops(nn.ReLU(), torch.zeros(1, 4))
    assert cost.flops is None
    assert cost.measurements()[0].value is None


def test_mode_is_put_back_and_shared_parameters_count_once() -> None:
    layer = nn.Linear(4, 4, bias=False)
    module = nn.Sequential(layer, layer, nn.BatchNorm1d(4)).train()
    count_flops(module, torch.zeros(2, 4))
    assert module.training
    parameters, size = model_size(module)
    assert parameters == 16 + 8
    assert size == 4 * (16 + 8 + 8) + 8  # running mean and variance, and a 64-bit counter


@pytest.mark.parametrize("model_id", list(GMACS))
def test_published_costs_of_the_nine(model_id: str) -> None:
    import timm
    import transformers

    from candlemark.models.catalog import CATALOG

    spec, (side, gmacs) = CATALOG[model_id], GMACS[model_id]
    with torch.device("meta"):
        if spec.library == "timm":
            network = timm.create_model(spec.architecture)
        else:
            config = getattr(transformers, spec.config_class)(**spec.config, num_labels=1000)
            network = getattr(transformers, spec.architecture)(config)
        cost = count_flops(network, torch.zeros(1, 3, side, side))
    assert cost.flops is not None
    assert cost.flops / 2e9 == pytest.approx(gmacs, rel=0.03)
