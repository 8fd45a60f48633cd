"""Models that compare pictures with texts, asked place by place: CLIP, SigLIP and CLIPSeg.

    n slices, P prompts (background among them), E width of an embedding, h x w places

    segmenter = build_clip_dense(spec, batch_size=4)
    segmenter.facts["prompts"]               # {"background": "healthy tissue", "lesion": "a tumor"}
    segmenter.segment(case, watch)           # each pixel is the class of the likest prompt

CLIP learnt to compare whole pictures. What it sees at one place is had, with no training, by
letting each place of the last layer look at itself alone (MaskCLIP, Zhou, Loy and Dai, ECCV
2022); of SigLIP, whose pooling is attention too, by pooling each place alone. CLIPSeg's decoder
was trained to draw what a text names. Prompts are words of the config, fixed before any answer
is seen, and stored as they stand: no template is put around them.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from candlemark.errors import ModelError
from candlemark.models.inference.base import Described
from candlemark.models.inference.networks import build_config
from candlemark.models.inference.request import LoadRequest
from candlemark.models.inference.text import special_ids
from candlemark.models.inference.tokens import TextInputs, random_token_ids
from candlemark.models.segmentation.base import Case, Labels, SegmenterSpec, Stopwatch
from candlemark.models.segmentation.choose import COMPARED, describe_segmenter, open_clip_vision
from candlemark.models.segmentation.frames import Eye, crop, open_eye
from candlemark.models.segmentation.pixels import batches, labels_of, rgb
from candlemark.models.segmentation.texts import read_prompts

Dense = Callable[[Any, Tensor, Tensor, Mapping[str, Any]], Tensor]
"""(network, pixels (n, 3, S, S), texts (P, E), options) -> scores (n, P, h, w)."""


class ClipDense:
    """Scores of every place by every prompt, slice by slice.

    texts: float (P, E), on the device
    table: uint8 (P,), the label of each prompt
    """

    def __init__(
        self, eye: Eye, texts: Tensor, table: Labels, *, batch_size: int, facts: dict[str, Any]
    ) -> None:
        self._eye = eye
        self._texts = texts
        self._table = table
        self._batch_size = batch_size
        self._score = DENSE[eye.request.described.model_class]
        self._covered = covered_share(eye)
        self.facts = facts

    def segment(self, case: Case, watch: Stopwatch) -> Labels:
        """uint8 (Z, Y, X)."""
        labels = np.empty(case.shape, np.uint8)
        size = case.shape[1:]
        side = max(size)
        with watch("load"):
            window = case.window()
        for start, stop in batches(case, self._batch_size):
            with watch("load"):
                slices = case.read(start, stop)
            with watch("preprocess"):
                pixels = self._eye.read(rgb(slices, window)).to(self._eye.device)
            with watch("forward"), torch.inference_mode():
                scores = self.scores(pixels)
            with watch("postprocess"):
                seen = max(1, round(side * self._covered))
                whole = labels_of(scores, (seen, seen), table=self._table)
                beyond = (0, side - seen)
                labels[start:stop] = crop(np.pad(whole, ((0, 0), beyond, beyond), "edge"), size)
        return labels

    def scores(self, pixels: Tensor) -> Tensor:
        """(n, 3, S, S) -> (n, P, h, w): cosines, or of CLIPSeg the scores of its decoder."""
        return self._score(self._eye.module, pixels, self._texts, self._eye.sight.options)


def build_clip_dense(spec: SegmenterSpec, *, batch_size: int) -> ClipDense:
    """CLIP, SigLIP or CLIPSeg with the prompts of `spec`.

    spec.options["prompts"]: a text by the name of each class, and by "background"

    Raises ModelError: another kind of model; a class without a prompt or a prompt without a
    class; trained weights without their tokenizer; prompts that it cannot tell apart.
    """
    described = _described(spec)
    prompts = read_prompts(spec)
    eye = open_eye(spec, described)
    ids = _token_ids(eye.request, list(prompts.values()))
    with torch.inference_mode():
        texts = _text_features(eye.module, ids.to(eye.device))
    labels = {name: label for label, name in spec.classes.items()}
    table = np.array([labels.get(name, 0) for name in prompts], np.uint8)
    return ClipDense(
        eye,
        texts,
        table,
        batch_size=batch_size,
        facts={
            **eye.facts("clip_dense"),
            "prompts": prompts,
            "template": "none: prompts as they are written",
            "places": _places(eye, texts),
            "dense": _HOW[described.model_class],
        },
    )


def covered_share(eye: Eye) -> float:
    """Of the picture's side, what its patches cover: 27 patches of 14 px are 378 of SigLIP's 384.

    The rest on the right and below is seen by none, and gets the class of the patch beside it.
    """
    patch = int(eye.sight.config.vision_config.patch_size)
    return eye.side // patch * patch / eye.side


def alone(layer: Any, hidden: Tensor) -> Tensor:
    """A transformer layer as if each place saw itself alone: its value is what attention gives.

    hidden: (n, T, H)
    """
    attention = layer.self_attn
    seen = hidden + attention.out_proj(attention.v_proj(layer.layer_norm1(hidden)))
    changed: Tensor = seen + layer.mlp(layer.layer_norm2(seen))
    return changed


def clip_places(network: Any, pixels: Tensor, options: Mapping[str, Any]) -> Tensor:
    """CLIP's embedding of each place: (n, h * w, E)."""
    vision = network.vision_model
    hidden = vision.pre_layrnorm(vision.embeddings(pixels, **options))
    *layers, last = vision.encoder.layers
    for layer in layers:
        hidden = layer(hidden, None)
    # The first token stands for the whole picture.
    seen: Tensor = network.visual_projection(vision.post_layernorm(alone(last, hidden)[:, 1:]))
    return seen


def siglip_places(network: Any, pixels: Tensor, options: Mapping[str, Any]) -> Tensor:
    """SigLIP's embedding of each place, pooled alone: (n, h * w, E)."""
    vision = network.vision_model
    hidden = vision.embeddings(pixels, **options)
    *layers, last = vision.encoder.layers
    for layer in layers:
        hidden = layer(hidden, None)
    hidden = vision.post_layernorm(alone(last, hidden))
    pool = vision.head
    width = hidden.shape[-1]
    values = torch.nn.functional.linear(
        hidden, pool.attention.in_proj_weight[2 * width :], pool.attention.in_proj_bias[2 * width :]
    )
    pooled = pool.attention.out_proj(values)
    seen: Tensor = pooled + pool.mlp(pool.layernorm(pooled))
    return seen


def _by_cosine(places: Callable[[Any, Tensor, Mapping[str, Any]], Tensor]) -> Dense:
    def score(network: Any, pixels: Tensor, texts: Tensor, options: Mapping[str, Any]) -> Tensor:
        seen = _unit(places(network, pixels, options))
        side = round(seen.shape[1] ** 0.5)
        return (seen @ _unit(texts).T).transpose(1, 2).reshape(len(seen), -1, side, side)

    return score


def _by_decoder(network: Any, pixels: Tensor, texts: Tensor, options: Mapping[str, Any]) -> Tensor:
    """CLIPSeg: the picture is encoded once, and decoded once for each text."""
    count, prompts = len(pixels), len(texts)
    states = network.clip.vision_model(
        pixel_values=pixels, output_hidden_states=True, **options
    ).hidden_states
    shown = [states[layer + 1].repeat_interleave(prompts, 0) for layer in network.extract_layers]
    logits: Tensor = network.decoder(shown, texts.repeat(count, 1)).logits
    return logits.reshape(count, prompts, *logits.shape[-2:])


DENSE: dict[str, Dense] = {
    "CLIPModel": _by_cosine(clip_places),
    "SiglipModel": _by_cosine(siglip_places),
    "CLIPSegForImageSegmentation": _by_decoder,
}
"""How each class answers place by place; its keys are `choose.COMPARED`."""

_HOW: dict[str, str] = {
    "CLIPModel": "cosine; places of the last layer see themselves alone (MaskCLIP)",
    "SiglipModel": "cosine; places of the last layer and of the pooling see themselves alone",
    "CLIPSegForImageSegmentation": "the trained decoder, once for each prompt",
}


def _described(spec: SegmenterSpec) -> Described:
    try:
        described = describe_segmenter(spec.source, weights=spec.weights)
    except ModelError as error:
        if open_clip_vision(spec.source) is None:
            raise
        raise ModelError(
            f"{spec.source} was written by open_clip, whose text tower is not read here; probe "
            "its vision tower with protocol linear_probe or upernet_frozen"
        ) from error
    if described.model_class not in COMPARED:
        raise ModelError(
            f"{spec.source} is a {described.model_class}, and nobody here knows what it sees at "
            f"one place; clip_dense takes {', '.join(sorted(COMPARED))}"
        )
    return described


def _text_features(network: Any, ids: Tensor) -> Tensor:
    towers = getattr(network, "clip", network)
    found: Tensor = towers.get_text_features(input_ids=ids).pooler_output
    return found


def _token_ids(request: LoadRequest, texts: list[str]) -> Tensor:
    """int64 (P, T), by the model's own tokenizer; made up for random weights without one."""
    config = build_config(request)
    text = config.get_text_config()
    reader = TextInputs.of(
        request,
        length=int(text.max_position_embeddings),
        vocabulary_size=int(text.vocab_size),
        avoid=special_ids(config),
    )
    if reader.tokenizer is None:
        return _made_up(request, reader, text, texts)
    for words in texts:
        count = len(reader.tokenizer(words)["input_ids"])
        if count > reader.length:
            raise ModelError(
                f"the prompt {words!r} is {count} tokens long, and {request.described.id} reads "
                f"{reader.length}; shorten it"
            )
    ids = reader.encode(texts)["input_ids"]
    if len({tuple(row) for row in ids.tolist()}) < len(texts):
        raise ModelError(
            f"the tokenizer of {request.described.id} reads two of the prompts "
            f"({', '.join(repr(words) for words in texts)}) alike; word them apart"
        )
    return ids


def _made_up(request: LoadRequest, reader: TextInputs, config: Any, texts: list[str]) -> Tensor:
    """Token ids that depend on the words alone, with the ends that CLIP looks for."""
    if request.file is not None:
        raise ModelError(
            f"{request.described.id} has no tokenizer beside its weights, so its prompts cannot be "
            "read; put its tokenizer.json there"
        )
    rows = [
        random_token_ids(
            1,
            zlib.crc32(words.encode()),
            reader.length,
            vocabulary_size=reader.vocabulary_size,
            avoid=reader.avoid,
        )
        for words in texts
    ]
    ids = torch.from_numpy(np.concatenate(rows))
    for place, end in ((0, config.bos_token_id), (-1, config.eos_token_id)):
        if end is not None and end < reader.vocabulary_size:
            ids[:, place] = end
    return ids


def _places(eye: Eye, texts: Tensor) -> list[int]:
    """[h, w] of the scores, by asking for one black picture."""
    pixels = torch.zeros(1, 3, eye.side, eye.side, device=eye.device)
    score = DENSE[eye.request.described.model_class]
    with torch.inference_mode():
        return list(score(eye.module, pixels, texts, eye.sight.options).shape[2:])


def _unit(vectors: Tensor) -> Tensor:
    return torch.nn.functional.normalize(vectors, dim=-1)
