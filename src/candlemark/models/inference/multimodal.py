"""Models that see and read: similarity of pictures and texts, captions, and vision-language.

    N pairs, T tokens of the prompt, V vocabulary, E width of an embedding

    image-text-similarity   {"logits_per_image": (N, N), "image_embeds": (N, E), ...}
    image-captioning        {"logits": (N, ..., V)}: the picture and one step of the decoder
    vision-language         {"logits": (N, T, V)}: a prompt with the picture in it

    model = build_vision_language(request)
    pairs = model.make_raw(4, 0)             # {"images": uint8 (4, R, R, 3), "texts": ...}
    model.module(**model.preprocess(pairs))

An item is one picture and one text; a captioner's text is the token that its captions begin
with. Forward passes keep no cache; writing, with one, is the generator's.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from candlemark.errors import ModelError
from candlemark.models.inference.answers import next_tokens
from candlemark.models.inference.base import Generator, InferenceModel, InputShape, Tensors
from candlemark.models.inference.generation import (
    DecoderGenerator,
    Generated,
    Seq2SeqGenerator,
    read_last,
    read_prompt,
)
from candlemark.models.inference.networks import build_config, network_facts
from candlemark.models.inference.pictures import make_pictures, raw_side
from candlemark.models.inference.request import LoadRequest
from candlemark.models.inference.text import special_ids
from candlemark.models.inference.tokens import TextInputs, load_tokenizer
from candlemark.models.inference.vision import (
    LIBRARY_ERRORS,
    Sight,
    build_sight,
    cannot_build,
    read_pictures,
)

QUESTION_TOKENS = 32
"""Tokens of text in a prompt, beside those of the picture, where no length is asked for."""

Pairs = dict[str, Any]
"""{"images": uint8 (N, R, R, 3), "texts": N strings or int64 (N, T)}; captions need no texts."""


class SimilarityNet(nn.Module):
    """Two towers and how much each picture is like each text."""

    def __init__(self, network: nn.Module, options: Mapping[str, Any]) -> None:
        super().__init__()
        self.network = network
        self.options = dict(options)

    def forward(self, input_ids: Tensor, pixel_values: Tensor) -> Tensors:
        """int64 (N, T) and (N, 3, S, S) -> logits (N, N) and both embeddings (N, E)."""
        made = self.network(
            input_ids=input_ids, pixel_values=pixel_values, **self.options, return_dict=True
        )
        names = ("logits_per_image", "image_embeds", "text_embeds")
        return {name: getattr(made, name) for name in names}


class CaptionNet(nn.Module):
    """A picture encoded, and scores of the first token of its caption."""

    def __init__(self, network: nn.Module, options: Mapping[str, Any]) -> None:
        super().__init__()
        self.network = network
        self.options = dict(options)

    def forward(
        self,
        pixel_values: Tensor,
        input_ids: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
    ) -> Tensors:
        """(N, 3, S, S) and int64 (N, 1), by the name that the network takes -> logits."""
        named = {"input_ids": input_ids, "decoder_input_ids": decoder_input_ids}
        prompt = {name: ids for name, ids in named.items() if ids is not None}
        made = self.network(
            pixel_values=pixel_values, **prompt, **self.options, use_cache=False, return_dict=True
        )
        return {"logits": made.logits}


class PromptNet(nn.Module):
    """A decoder that reads a prompt with a picture in it, and keeps nothing."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, input_ids: Tensor, pixel_values: Tensor) -> Tensors:
        """int64 (N, T), the picture's tokens included, and the pictures -> logits (N, T, V)."""
        made = self.network(
            input_ids=input_ids, pixel_values=pixel_values, use_cache=False, return_dict=True
        )
        return {"logits": made.logits}


class BlipGenerator:
    """BLIP's text decoder looks at the encoded picture at each step."""

    def __init__(self, network: Any, options: Mapping[str, Any]) -> None:
        self._network = network
        self._options = dict(options)

    @torch.no_grad()
    def prefill(self, inputs: Tensors) -> Generated:
        """Encode the picture and read the prompt; the state holds the first new token."""
        seen = self._network.vision_model(
            pixel_values=inputs["pixel_values"], **self._options
        ).last_hidden_state
        mask = torch.ones(seen.shape[:-1], dtype=torch.int64, device=seen.device)
        again = {"encoder_hidden_states": seen, "encoder_attention_mask": mask}
        decoder = self._network.text_decoder
        return read_prompt(decoder, "input_ids", inputs["input_ids"], again, {"logits_to_keep": 1})

    @torch.no_grad()
    def step(self, state: Generated) -> Generated:
        """One more token for each caption, from the cached keys and values."""
        decoder = self._network.text_decoder
        return read_last(decoder, "input_ids", state, {"logits_to_keep": 1})

    def tokens(self, state: Generated) -> Tensor:
        """int64 (N, new tokens so far)."""
        return state.tokens


def build_image_text_similarity(request: LoadRequest) -> InferenceModel:
    """How much each picture is like each text; the answer names the likest text."""
    sight = build_sight(request, optional=())
    config = sight.config.get_text_config()
    length = request.shape.sequence_length or int(config.max_position_embeddings)
    if length > config.max_position_embeddings:
        raise ModelError(
            f"sequence_length = {length}; {request.described.id} reads "
            f"{config.max_position_embeddings} tokens at most"
        )
    pairs = _Pairs(
        sight=sight,
        text=_texts(request, sight, length),
        ends=(config.bos_token_id, config.eos_token_id),
    )
    module = SimilarityNet(sight.network.module, sight.options)
    return _model(request, pairs, module, pairs.both, _likest, sequence_length=length)


def build_image_captioning(request: LoadRequest) -> InferenceModel:
    """The picture encoded and the first step of its caption; captions begin unprompted."""
    sight = build_sight(request, optional=())
    network: Any = sight.network.module
    by_decoder = "decoder_input_ids" in inspect.signature(network.forward).parameters
    start = _start_id(sight.config, request, by_decoder=by_decoder)
    _check_positions(request, sight.config, before=1)
    generator: Generator
    if by_decoder:
        generator = Seq2SeqGenerator(network)
    elif hasattr(network, "text_decoder"):
        generator = BlipGenerator(network, sight.options)
    else:
        generator = DecoderGenerator(network)
    pairs = _Pairs(sight=sight)
    name = "decoder_input_ids" if by_decoder else "input_ids"
    return _model(
        request,
        pairs,
        CaptionNet(network, sight.options),
        _Captions(pairs=pairs, name=name, start=start),
        partial(next_tokens, tokenizer=load_tokenizer(request)),
        generator=generator,
    )


def build_vision_language(request: LoadRequest) -> InferenceModel:
    """A prompt of picture and text read at once; the answer is the likeliest next token.

    The picture is one tile, also for models that cut large ones into several.

    Raises ModelError: nobody here knows how many tokens this kind gives a picture.
    """
    kind = build_config(request).model_type
    if kind not in _IMAGE_TOKENS:
        raise ModelError(
            f"{request.described.id} is of type {kind}; vision-language models that can be "
            f"measured are {', '.join(sorted(_IMAGE_TOKENS))}; give a function of your own with "
            "python:MODULE:FUNCTION"
        )
    sight = build_sight(request, optional=(), tile=kind in _TILED)
    image_tokens = _IMAGE_TOKENS[kind](sight.config, sight.side)
    length = request.shape.sequence_length or QUESTION_TOKENS
    _check_positions(request, sight.config, before=image_tokens + length)
    pairs = _Pairs(sight=sight, text=_texts(request, sight, length))
    return _model(
        request,
        pairs,
        PromptNet(sight.network.module),
        _Prompts(
            pairs=pairs,
            image_token=int(sight.config.image_token_id),
            image_tokens=image_tokens,
            tiled=kind in _TILED,
        ),
        partial(next_tokens, tokenizer=pairs.text.tokenizer if pairs.text else None),
        generator=DecoderGenerator(sight.network.module),
        sequence_length=length,
        image_tokens=image_tokens,
    )


def _patches(config: Any, side: int) -> int:
    return int((side // config.vision_config.patch_size) ** 2)


def _llava_tokens(config: Any, side: int) -> int:
    # "full" keeps the class token, which "default" leaves out.
    return _patches(config, side) + int(config.vision_feature_select_strategy == "full")


def _idefics_tokens(config: Any, side: int) -> int:
    return _patches(config, side) // int(config.scale_factor) ** 2


_IMAGE_TOKENS: dict[str, Callable[[Any, int], int]] = {
    "llava": _llava_tokens,
    "paligemma": _patches,
    "idefics3": _idefics_tokens,
    "smolvlm": _idefics_tokens,
}
"""How many tokens of the prompt stand for one picture, by the kind of model."""

_TILED = frozenset({"idefics3", "smolvlm"})
"""Kinds that take several tiles a picture: (N, tiles, 3, S, S)."""


def _texts(request: LoadRequest, sight: Sight, length: int) -> TextInputs:
    return TextInputs.of(
        request,
        length=length,
        vocabulary_size=int(sight.config.get_text_config().vocab_size),
        avoid=special_ids(sight.config),
    )


def _start_id(config: Any, request: LoadRequest, *, by_decoder: bool) -> int:
    """The token that a caption begins with, by the config or the text config in it."""
    name = "decoder_start_token_id" if by_decoder else "bos_token_id"
    for part in (config, config.get_text_config(decoder=True)):
        start = getattr(part, name, None)
        if start is not None:
            return int(start)
    raise ModelError(
        f"the config of {request.described.id} has no {name}, so nobody can tell what its "
        "captions begin with"
    )


def _check_positions(request: LoadRequest, config: Any, *, before: int) -> None:
    """Raise ModelError where prompt and answer together are longer than the decoder's table."""
    limit = getattr(config.get_text_config(decoder=True), "max_position_embeddings", None)
    new = request.shape.new_tokens
    if limit and before + new > limit:
        raise ModelError(
            f"{before} tokens of the prompt and {new} new ones are {before + new}; "
            f"{request.described.id} has {limit} positions: ask for fewer with --new-tokens"
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Pairs:
    """Pictures and texts of one model.

    text: None for captioners
    ends: first and last token of random ids, where the model finds a text's end by its token
    """

    sight: Sight
    text: TextInputs | None = None
    ends: tuple[int | None, int | None] = (None, None)

    @property
    def origin(self) -> str:
        """Where the items come from, in one sentence."""
        side = raw_side(self.sight.side)
        pictures = f"synthetic pictures of {side} x {side} px, read by {self.sight.reader.source}"
        return pictures if self.text is None else f"{pictures}; texts: {self.text.origin}"

    def make_raw(self, count: int, seed: int) -> Pairs:
        """N pictures, and N texts where the model reads any."""
        pairs: Pairs = {"images": make_pictures(count, raw_side(self.sight.side), seed)}
        if self.text is not None:
            pairs["texts"] = self.text.make_raw(count, seed)
        return pairs

    def pixels(self, pairs: Pairs) -> Tensor:
        """float32 (N, 3, S, S)."""
        sight = self.sight
        read = read_pictures(
            pairs["images"], reader=sight.reader, channels_last=sight.channels_last
        )
        return read["pixel_values"]

    def ids(self, pairs: Pairs) -> Tensor:
        """int64 (N, T)."""
        if self.text is None:
            raise ModelError("this model reads no texts")
        ids = self.text.encode(pairs["texts"])["input_ids"].clone()
        if self.text.tokenizer is None:
            for place, end in zip((0, -1), self.ends, strict=True):
                if end is not None and end < self.text.vocabulary_size:
                    ids[:, place] = end
        return ids

    def both(self, pairs: Pairs) -> Tensors:
        """Pairs for two towers."""
        return {"input_ids": self.ids(pairs), "pixel_values": self.pixels(pairs)}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Captions:
    """Pictures, and the token that their captions begin with."""

    pairs: _Pairs
    name: str
    start: int

    def __call__(self, pairs: Pairs) -> Tensors:
        pixels = self.pairs.pixels(pairs)
        return {"pixel_values": pixels, self.name: torch.full((len(pixels), 1), self.start)}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Prompts:
    """The first token of the text, then the picture's, then the rest of the text."""

    pairs: _Pairs
    image_token: int
    image_tokens: int
    tiled: bool

    def __call__(self, pairs: Pairs) -> Tensors:
        pixels, ids = self.pairs.pixels(pairs), self.pairs.ids(pairs)
        picture = torch.full((len(ids), self.image_tokens), self.image_token)
        return {
            "input_ids": torch.cat((ids[:, :1], picture, ids[:, 1:]), dim=1),
            "pixel_values": pixels[:, None] if self.tiled else pixels,
        }


def _likest(outputs: Tensors) -> list[Any]:
    """For each picture the text that is likest: its place in the batch, and the logit."""
    best = outputs["logits_per_image"].float().max(dim=1)
    pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return [{"text": place, "logit": logit} for place, logit in pairs]


def _model(
    request: LoadRequest,
    pairs: _Pairs,
    module: nn.Module,
    preprocess: Callable[[Pairs], Tensors],
    postprocess: Callable[[Tensors], list[Any]],
    *,
    generator: Generator | None = None,
    sequence_length: int | None = None,
    image_tokens: int | None = None,
) -> InferenceModel:
    sight = pairs.sight
    model = InferenceModel(
        module=module.eval(),
        model_task=request.described.model_task,
        shape=InputShape(
            sequence_length=sequence_length,
            image_size=sight.side,
            new_tokens=request.shape.new_tokens,
        ),
        make_raw=pairs.make_raw,
        preprocess=preprocess,
        postprocess=postprocess,
        generator=generator,
        facts={
            **network_facts(request, sight.network, inputs=pairs.origin),
            "image_size": sight.side,
            "channels_last": sight.channels_last,
            "positions_interpolated": bool(sight.options),
            "image_tokens": image_tokens,
        },
    )
    if request.shape.image_size is not None:
        _try_one(request, model)
    return model


def _try_one(request: LoadRequest, model: InferenceModel) -> None:
    """Prove that the model takes pictures of this side; libraries only find out when run."""
    try:
        with torch.no_grad():
            model.module(**model.preprocess(model.make_raw(1, 0)))
    except LIBRARY_ERRORS as error:
        raise cannot_build(request, error) from error
