"""Write text token by token, greedily and without an end: the prompt first, then step by step.

    N items, T prompt tokens, V vocabulary

    state = generator.prefill(inputs)        # inputs["input_ids"]: int64 (N, T)
    state = generator.step(state)
    generator.tokens(state)                  # int64 (N, 2)

Both generators call the library's own module, so they follow it to any device and precision,
and keep keys and values in the library's own cache.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from candlemark.models.inference.base import Tensors

_KEYS_AND_VALUES, _STATE_SPACE = "past_key_values", "cache_params"
"""What models call their cache."""

_GROWING = frozenset({"attention_mask", "position_ids"})
"""Inputs of a decoder that every step needs, one longer or one further."""


@dataclass(slots=True, kw_only=True, eq=False)
class Generated:
    """What a generator knows between two steps.

    tokens: int64 (N, tokens so far); the last was not read by the model yet
    cache: the library's cache, by the name that the model takes it
    inputs: what every step needs again, such as the mask (N, T + tokens so far - 1)
    """

    tokens: Tensor
    cache: dict[str, Any]
    inputs: dict[str, Any] = field(default_factory=dict)


class DecoderGenerator:
    """For models that go on from their prompt, pictures and sounds in it included.

    Whatever else the inputs hold is read with the prompt. `attention_mask` and `position_ids`
    grow by one a step where the inputs have them; the prompt is padded on the left, if at all.
    A model without a cache reads all again at every step, as the library's own loop has it do.
    """

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self._last_only = _last_logits_only(network)

    @torch.no_grad()
    def prefill(self, inputs: Tensors) -> Generated:
        """Read the prompt; the state holds the first new token."""
        outputs = self._read(inputs, {})
        cache = _cache_of(outputs)
        again: dict[str, Any] = dict(inputs)
        if cache:
            again = {name: value for name, value in inputs.items() if name in _GROWING}
        return Generated(tokens=_next(outputs), cache=cache, inputs=again)

    @torch.no_grad()
    def step(self, state: Generated) -> Generated:
        """One more token for each sequence, from the cached keys and values."""
        token = state.tokens[:, -1:]
        if _STATE_SPACE in state.cache:
            again: dict[str, Any] = {}  # what was masked is in the state already
        elif state.cache:
            again = {**_longer_mask(state.inputs), **_next_position(state.inputs)}
        else:
            again = {**state.inputs, **_longer_mask(state.inputs)}
            if "position_ids" in again:
                positions = again["position_ids"]
                again["position_ids"] = torch.cat((positions, positions[..., -1:] + 1), dim=-1)
            token = torch.cat((again.pop("input_ids"), token), dim=1)
        outputs = self._read({"input_ids": token, **again}, state.cache)
        if not state.cache:
            again["input_ids"] = token
        return Generated(
            tokens=torch.cat((state.tokens, _next(outputs)), dim=1),
            cache=_cache_of(outputs),
            inputs=again,
        )

    def tokens(self, state: Generated) -> Tensor:
        """int64 (N, new tokens so far)."""
        return state.tokens

    def _read(self, inputs: dict[str, Any], cache: dict[str, Any]) -> Any:
        return self._network(**inputs, **cache, **self._last_only, use_cache=True, return_dict=True)


class Seq2SeqGenerator:
    """For models that encode text or sound once and write while looking at it.

    The inputs hold `decoder_input_ids`, with which the answer begins; the others are the
    encoder's.
    """

    def __init__(self, network: Any) -> None:
        self._network = network
        self._last_only = _last_logits_only(network)

    @torch.no_grad()
    def prefill(self, inputs: Tensors) -> Generated:
        """Encode the input; the state holds the first new token."""
        encoding = {
            name: value for name, value in inputs.items() if not name.startswith("decoder_")
        }
        encoded = self._network.get_encoder()(**encoding, return_dict=True)
        again: dict[str, Any] = {"encoder_outputs": encoded}
        if "attention_mask" in inputs:
            again["attention_mask"] = inputs["attention_mask"]
        prompt = inputs["decoder_input_ids"]
        return read_prompt(self._network, "decoder_input_ids", prompt, again, self._last_only)

    @torch.no_grad()
    def step(self, state: Generated) -> Generated:
        """One more token for each sequence, from the cached keys and values."""
        return read_last(self._network, "decoder_input_ids", state, self._last_only)

    def tokens(self, state: Generated) -> Tensor:
        """int64 (N, new tokens so far)."""
        return state.tokens


def read_prompt(
    decoder: nn.Module,
    name: str,
    prompt: Tensor,
    again: dict[str, Any],
    options: Mapping[str, Any],
) -> Generated:
    """What a decoder knows when it has read its prompt.

    name: what it calls its ids; prompt: int64 (N, T)
    again: what it looks at in every step, such as an encoded picture
    options: further arguments of each call
    """
    outputs = decoder(**{name: prompt}, **again, **options, use_cache=True, return_dict=True)
    return Generated(tokens=_next(outputs), cache=_cache_of(outputs), inputs=again)


def read_last(
    decoder: nn.Module, name: str, state: Generated, options: Mapping[str, Any]
) -> Generated:
    """What it knows when it has read the last token that it wrote."""
    outputs = decoder(
        **{name: state.tokens[:, -1:]},
        **state.inputs,
        **state.cache,
        **options,
        use_cache=True,
        return_dict=True,
    )
    tokens = torch.cat((state.tokens, _next(outputs)), dim=1)
    return Generated(tokens=tokens, cache=_cache_of(outputs), inputs=state.inputs)


def _next(outputs: Any) -> Tensor:
    """The likeliest token after the last position: int64 (N, 1)."""
    likeliest: Tensor = outputs.logits[:, -1:].argmax(-1)
    return likeliest


def _cache_of(outputs: Any) -> dict[str, Any]:
    """The cache by the name that the model takes it; empty where it has none."""
    for name in (_KEYS_AND_VALUES, _STATE_SPACE):
        if getattr(outputs, name, None) is not None:
            return {name: getattr(outputs, name)}
    return {}


def _longer_mask(inputs: dict[str, Any]) -> dict[str, Tensor]:
    """The mask with one more token seen, where there is one."""
    if "attention_mask" not in inputs:
        return {}
    mask = inputs["attention_mask"]
    return {"attention_mask": torch.cat((mask, mask.new_ones(mask.shape[0], 1)), dim=1)}


def _next_position(inputs: dict[str, Any]) -> dict[str, Tensor]:
    """The position behind the last, where positions are given."""
    if "position_ids" not in inputs:
        return {}
    return {"position_ids": inputs["position_ids"][..., -1:] + 1}


def _last_logits_only(network: nn.Module) -> dict[str, int]:
    """What spares the logits of the prompt where the model can, as the library's own loop does."""
    known = inspect.signature(network.forward).parameters
    return {"logits_to_keep": 1} if "logits_to_keep" in known else {}
