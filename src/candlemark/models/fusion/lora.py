"""Low-rank updates of the encoders (LoRA), merged into them when the model is kept.

    add_low_rank(model, rank=8, seed=0)      # encoders learn 2 x rank x width numbers a layer
    train(model)
    merged = merge_low_rank(model)           # a plain model: loading it needs no peft

Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models" (2021). The head has nothing
to be adapted from and learns whole.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from candlemark.errors import MissingExtraError, ModelError

ENCODERS = ("text_encoder", "image_encoder")


def add_low_rank(model: nn.Module, *, rank: int, seed: int) -> list[str]:
    """Give every linear layer of the encoders an update of `rank`; names of these layers.

    The encoders' own weights stay as they are. At first an update is zero: the model answers
    as before. In place.

    Raises MissingExtraError: peft is not installed. ModelError: an encoder has no linear
    layers (a CNN), or the model has no encoder.
    """
    peft = _peft()
    adapted: list[str] = []
    for name in ENCODERS:
        encoder = getattr(model, name, None)
        if encoder is None:
            continue
        # Not those that no answer depends on: see `freeze_unused`.
        layers = [
            key
            for key, part in encoder.named_modules()
            if type(part) is nn.Linear and part.weight.requires_grad
        ]
        encoder.requires_grad_(False)
        if not layers:
            raise ModelError(
                f"{type(encoder).__name__} has no linear layers for low-rank updates; use "
                "lora_rank 0, or a transformer"
            )
        config = peft.LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=layers)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            peft.inject_adapter_in_model(config, encoder)
        adapted += [f"{name}.{layer}" for layer in layers]
    if not adapted:
        raise ModelError("low-rank updates are for encoders, and this model has none")
    return adapted


def is_low_rank(model: nn.Module) -> bool:
    """Whether the model has updates that are not merged."""
    return any(".lora_A." in name for name, _ in model.named_parameters())


def merge_low_rank(model: nn.Module) -> Any:
    """A copy of the model with every update added to its layer; itself where there is none.

    The given model keeps its updates and can learn on.
    """
    if not is_low_rank(model):
        return model
    from peft.tuners.tuners_utils import BaseTunerLayer

    merged = copy.deepcopy(model)
    found = [
        (name, part) for name, part in merged.named_modules() if isinstance(part, BaseTunerLayer)
    ]
    for name, layer in found:
        layer.merge()
        parent, _, last = name.rpartition(".")
        setattr(merged.get_submodule(parent), last, layer.get_base_layer())
    return merged


def _peft() -> Any:
    try:
        import peft
    except ImportError as error:
        raise MissingExtraError("peft", "lora") from error
    return peft
