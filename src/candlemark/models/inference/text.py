"""Models that read text: encoders, classifiers, decoders, and those that read and then write.

    N items, T tokens, H width, V vocabulary, C classes

    text-encoder          {"last_hidden_state": (N, T, H), "embedding": (N, H)}, and
                          "pooler_output": (N, H) where the model has a pooler
    text-classification   {"logits": (N, C)}
    text-decoder          {"logits": (N, T, V)}
    text-seq2seq          {"logits": (N, 1, V), "encoder_last_hidden_state": (N, T, H)}

Each builder wraps the library's own class, which stays unchanged and runs without a cache: one
forward pass is one reading of the whole text. Writing, with a cache, is the generator's.

The mask is given, as users give it, though no text is padded. On an accelerator the library
then asks the device in each pass whether anything is masked, and waits for the answer: calls
of most of these models that are queued run no further ahead of the device than one.
"""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from candlemark.errors import ModelError
from candlemark.models.inference.answers import next_tokens
from candlemark.models.inference.base import InferenceModel, InputShape, Tensors
from candlemark.models.inference.generation import DecoderGenerator, Seq2SeqGenerator
from candlemark.models.inference.networks import build_network, network_facts
from candlemark.models.inference.request import LoadRequest
from candlemark.models.inference.tokens import TextInputs, load_tokenizer

DEFAULT_LENGTH = 128
"""Tokens of a text, or the model's maximum if that is less, where none are asked for."""

_UNBOUNDED = 1_000_000
"""Tokenizers without a maximum say 10^30."""


def build_text_encoder(request: LoadRequest) -> InferenceModel:
    """One vector a token, and their mean over the tokens of the text as the answer."""
    network = build_network(request, optional=("pooler.",))
    text = _text_inputs(request, network.module)
    return InferenceModel(
        module=TextEncoder(network.module),
        model_task="text-encoder",
        shape=_shape(request, text.length),
        make_raw=text.make_raw,
        preprocess=_Preprocess(text, network.module),
        postprocess=_embeddings,
        facts=network_facts(request, network, inputs=text.origin),
    )


def build_text_classification(request: LoadRequest) -> InferenceModel:
    """Scores of the checkpoint's own classes; the answer is a class name."""
    network = build_network(request)
    config: Any = network.module.config
    # Classifiers that read and write look for the end of the text, and answer from there.
    text = _text_inputs(request, network.module, ended=bool(config.is_encoder_decoder))
    if config.pad_token_id is None:
        # Without one, classifiers made from decoders refuse a batch; no text of ours is padded
        # unless by this very token.
        config.pad_token_id = _padding_id(config, text)
    labels = {int(index): str(name) for index, name in config.id2label.items()}
    return InferenceModel(
        module=TextClassifier(network.module),
        model_task="text-classification",
        shape=_shape(request, text.length),
        make_raw=text.make_raw,
        preprocess=_Preprocess(text, network.module),
        postprocess=_Names(labels),
        facts=network_facts(request, network, inputs=text.origin),
    )


def build_text_decoder(request: LoadRequest) -> InferenceModel:
    """Scores of the next token after each token; the answer is the likeliest at the end."""
    network = build_network(request)
    text = _text_inputs(request, network.module, room=request.shape.new_tokens, pad_left=True)
    return InferenceModel(
        module=TextDecoder(network.module),
        model_task="text-decoder",
        shape=_shape(request, text.length),
        make_raw=text.make_raw,
        preprocess=_Preprocess(text, network.module),
        postprocess=partial(next_tokens, tokenizer=text.tokenizer),
        generator=DecoderGenerator(network.module),
        facts=network_facts(request, network, inputs=text.origin),
    )


def build_text_seq2seq(request: LoadRequest) -> InferenceModel:
    """The text encoded, and scores of the first token of the answer."""
    network = build_network(request)
    config: Any = network.module.config
    text = _text_inputs(request, network.module)
    limit = _position_limit(network.module)
    if limit is not None and request.shape.new_tokens > limit:
        raise ModelError(
            f"new_tokens = {request.shape.new_tokens}; {request.described.id} writes "
            f"{limit} tokens at most"
        )
    start = config.decoder_start_token_id
    start = config.bos_token_id if start is None else start
    if start is None:
        raise ModelError(
            f"the config of {request.described.id} has neither decoder_start_token_id nor "
            "bos_token_id, so nobody can tell what its answers begin with"
        )
    return InferenceModel(
        module=TextSeq2Seq(network.module),
        model_task="text-seq2seq",
        shape=_shape(request, text.length),
        make_raw=text.make_raw,
        preprocess=_Preprocess(text, network.module, start=int(start)),
        postprocess=partial(next_tokens, tokenizer=text.tokenizer),
        generator=Seq2SeqGenerator(network.module),
        facts=network_facts(request, network, inputs=text.origin),
    )


class TextEncoder(nn.Module):
    """An encoder and the mean of its vectors over the tokens that are no padding."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> Tensors:
        """int64 (N, T) each -> hidden states (N, T, H), what the pooler made, and the mean."""
        outputs = self.network(
            input_ids=input_ids,
            attention_mask=attention_mask,
            **_given(token_type_ids=token_type_ids),
            return_dict=True,
        )
        hidden: Tensor = outputs.last_hidden_state
        found = {"last_hidden_state": hidden}
        pooled = getattr(outputs, "pooler_output", None)
        if pooled is not None:
            found["pooler_output"] = pooled
        seen = attention_mask.to(hidden.dtype).unsqueeze(-1)
        found["embedding"] = (hidden * seen).sum(1) / seen.sum(1)
        return found


class TextClassifier(nn.Module):
    """A classifier of whole texts."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.options = _without_cache(network)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> Tensors:
        """int64 (N, T) each -> logits (N, C)."""
        outputs = self.network(
            input_ids=input_ids,
            attention_mask=attention_mask,
            **_given(token_type_ids=token_type_ids),
            **self.options,
            return_dict=True,
        )
        return {"logits": outputs.logits}


class TextDecoder(nn.Module):
    """A decoder that reads the whole prompt at once and keeps nothing."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, position_ids: Tensor | None = None
    ) -> Tensors:
        """int64 (N, T) each -> logits (N, T, V)."""
        outputs = self.network(
            input_ids=input_ids,
            attention_mask=attention_mask,
            **_given(position_ids=position_ids),
            use_cache=False,
            return_dict=True,
        )
        return {"logits": outputs.logits}


class TextSeq2Seq(nn.Module):
    """An encoder over the text and one step of the decoder over it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, decoder_input_ids: Tensor
    ) -> Tensors:
        """int64 (N, T), (N, T) and (N, 1) -> logits (N, 1, V) and what the encoder made."""
        outputs = self.network(
            input_ids=input_ids,
            attention_mask=attention_mask,
            decoder_input_ids=decoder_input_ids,
            use_cache=False,
            return_dict=True,
        )
        return {
            "logits": outputs.logits,
            "encoder_last_hidden_state": outputs.encoder_last_hidden_state,
        }


class _Preprocess:
    """Texts or ids to the tensors that the network's forward knows.

    position_ids count the tokens that are no padding, as generation needs them; they are made
    here for decoders, which read a prompt padded in front.
    """

    def __init__(self, text: TextInputs, network: nn.Module, start: int | None = None) -> None:
        known = inspect.signature(network.forward).parameters
        self._text, self._start = text, start
        self._token_types = "token_type_ids" in known and start is None
        self._positions = text.pad_left and "position_ids" in known

    def __call__(self, raw: Any) -> Tensors:
        encoded = self._text.encode(raw)
        mask = encoded["attention_mask"]
        inputs = {"input_ids": encoded["input_ids"], "attention_mask": mask}
        if self._token_types and "token_type_ids" in encoded and not self._text.pad_left:
            inputs["token_type_ids"] = encoded["token_type_ids"]
        if self._positions:
            inputs["position_ids"] = (mask.cumsum(-1) - 1).clamp(min=0)
        if self._start is not None:
            inputs["decoder_input_ids"] = torch.full((len(mask), 1), self._start)
        return inputs


class _Names:
    """The name of the likeliest class."""

    def __init__(self, labels: dict[int, str]) -> None:
        self._labels = labels

    def __call__(self, outputs: Tensors) -> list[Any]:
        return [self._labels[int(index)] for index in outputs["logits"].argmax(-1)]


def _embeddings(outputs: Tensors) -> list[Any]:
    """float32 (H,) of each text."""
    return list(outputs["embedding"].float().numpy())


def _text_inputs(
    request: LoadRequest,
    network: nn.Module,
    *,
    room: int = 0,
    pad_left: bool = False,
    ended: bool = False,
) -> TextInputs:
    """The texts of a network, as long as asked for or as the network was made for.

    room: positions that must be left for new tokens
    ended: random texts close with the end token, as a tokenizer's do

    Raises ModelError: the asked length is more than the model's maximum.
    """
    config: Any = network.config
    tokenizer = load_tokenizer(request)
    limit = _position_limit(network)
    own = getattr(tokenizer, "model_max_length", None)
    if limit is None and own is not None and own < _UNBOUNDED:
        limit = int(own)
    return TextInputs.of(
        request,
        length=_length(request, limit, room),
        vocabulary_size=int(config.get_text_config().vocab_size),
        avoid=special_ids(config),
        pad_left=pad_left,
        tokenizer=tokenizer,
        end=_first(config.eos_token_id) if ended else None,
    )


def _length(request: LoadRequest, limit: int | None, room: int) -> int:
    """Tokens of a text, checked against what the model has positions for."""
    asked, name = request.shape.sequence_length, request.described.id
    if limit is None:
        return asked or DEFAULT_LENGTH
    if limit <= room:
        raise ModelError(
            f"new_tokens = {room}; {name} has {limit} positions for prompt and answer together"
        )
    if asked is not None and asked + room > limit:
        beside = f" beside {room} new tokens" if room else ""
        raise ModelError(
            f"sequence_length = {asked}; {name} takes {limit - room} tokens at most{beside}"
        )
    return asked or min(limit - room, DEFAULT_LENGTH)


def _position_limit(network: nn.Module) -> int | None:
    """How many tokens the network has positions for; None where it counts distances only."""
    config: Any = network.config
    for name, module in network.named_modules():
        padding = getattr(module, "padding_idx", None)
        if name.endswith("position_embeddings") and padding is not None:
            # RoBERTa and its kin count positions from behind the padding's.
            return int(module.num_embeddings) - int(padding) - 1
    for name in ("max_position_embeddings", "n_positions", "max_target_positions"):
        limit = getattr(config, name, None)
        # T5 calls the length it was trained on n_positions, and has no table of that size.
        # XLNet says -1: it has none either.
        if limit and limit > 0 and not getattr(config, "relative_attention_num_buckets", None):
            return int(limit)
    return None


def special_ids(config: Any) -> frozenset[int]:
    """Ids that begin, end, pad or part texts, by the config and the text config in it."""
    names = [f"{name}_token_id" for name in ("bos", "eos", "pad", "sep", "cls", "mask", "unk")]
    names += ["decoder_start_token_id", "image_token_id", "image_token_index", "video_token_id"]
    found: set[int] = set()
    for part in (config, config.get_text_config()):
        for name in names:
            value = getattr(part, name, None)
            if value is not None:
                found.update(value if isinstance(value, list | tuple) else [value])
    return frozenset(found)


def _padding_id(config: Any, text: TextInputs) -> int:
    if text.tokenizer is not None:
        return int(text.tokenizer.pad_token_id)
    end = _first(config.eos_token_id)
    return 0 if end is None else end


def _first(ids: Any) -> int | None:
    """One id of a config that may name several, or none."""
    found = ids[0] if isinstance(ids, list | tuple) else ids
    return None if found is None else int(found)


def _without_cache(network: nn.Module) -> dict[str, bool]:
    known = inspect.signature(network.forward).parameters
    return {"use_cache": False} if "use_cache" in known else {}


def _given(**tensors: Tensor | None) -> dict[str, Tensor]:
    """Those that are there: not every network knows every name."""
    return {name: tensor for name, tensor in tensors.items() if tensor is not None}


def _shape(request: LoadRequest, length: int) -> InputShape:
    return InputShape(sequence_length=length, new_tokens=request.shape.new_tokens)
