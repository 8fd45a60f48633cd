"""Build a fusion model from its spec: encoders, tokenizer, and what turns inputs into tensors.

fusion = build_fusion(
    spec, class_names=("bearish", "neutral", "bullish"), image_shape=(64, 120),
    window=30, texts=captions(dataset, dataset.split("train")), seed=0,
)
output = fusion.model(**fusion.prepare({"images": images, "input_ids": ids, ...}))

N samples, H x W pixels as drawn, T text tokens, W candles
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from candlemark.errors import ModelError
from candlemark.models.adapter import normalise
from candlemark.models.building import first_line, quiet
from candlemark.models.fusion.encoders import Encoder, load_image, load_text, text_folder
from candlemark.models.fusion.lora import add_low_rank, is_low_rank
from candlemark.models.fusion.modeling import FusionConfig, FusionModel
from candlemark.models.fusion.spec import FusionSpec
from candlemark.models.fusion.vocabulary import make_tokenizer, read_tokenizer

LARGEST_VOCABULARY = 30_522
"""Tokens of a tokenizer made from captions, at most: as many as BERT has."""

NUMBERS_WIDTH = 128
"""Width of a model that reads numbers alone, where the spec names none."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fusion:
    """A fusion model that is ready to train or to ask.

    model: on the CPU in float32; whoever uses it moves it
    tokenizer: of transformers; None where no text is read
    facts: what was found out while building or loading (JSON types only)
    """

    model: FusionModel
    tokenizer: Any
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def config(self) -> FusionConfig:
        """The model's own config; what is written into it is kept with the model."""
        config: FusionConfig = self.model.config
        return config

    def prepare(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What the model reads of `inputs`, as keywords of its forward, on their device.

        inputs: "images" uint8 (N, H, W[, 3]); "input_ids" and "attention_mask", whole numbers
            (N, T); "numbers" (N, W, 5), NaN where a candle is missing. What the model does not
            read is left out.

        Raises ModelError: an input is missing, or of another type or shape.
        """
        config, ready = self.config, {}
        if config.reads_image:
            chart = config.chart
            ready["pixel_values"] = normalise(
                _input(inputs, "images", config),
                mean=chart["mean"],
                std=chart["std"],
                image_shape=(chart["image_shape"][0], chart["image_shape"][1]),
            )
        if config.reads_text:
            ids = _input(inputs, "input_ids", config)
            if ids.ndim != 2 or ids.shape[1] > config.max_tokens:
                raise ModelError(
                    f"input_ids have shape {tuple(ids.shape)}; this model reads (N, T) with at "
                    f"most {config.max_tokens} tokens"
                )
            ready["input_ids"] = ids.long()
            mask = inputs.get("attention_mask")
            ready["attention_mask"] = (torch.ones_like(ids) if mask is None else mask).long()
        if config.inputs == "numbers":
            numbers = _input(inputs, "numbers", config)
            shape = (config.numbers["window"], config.numbers["channels"])
            if numbers.ndim != 3 or tuple(numbers.shape[1:]) != shape:
                raise ModelError(
                    f"numbers have shape {tuple(numbers.shape)}; this model reads (N, {shape[0]}, "
                    f"{shape[1]})"
                )
            ready["numbers"] = numbers.float()
        return ready


def build_fusion(
    spec: FusionSpec,
    *,
    class_names: Sequence[str],
    image_shape: tuple[int, ...],
    window: int,
    texts: Sequence[str],
    seed: int,
) -> Fusion:
    """A new model as `spec` says, with untrained heads.

    image_shape: (H, W[, 3]) of the pictures; window: candles of one
    texts: training captions; a text encoder without a tokenizer gets one made from them
    seed: of all that is random; the caller's random state is left alone

    Raises ModelError: an encoder or its weights cannot be had, it does not fit these pictures
    or texts, or the heads cannot share the width. MissingExtraError: low-rank updates without
    peft.
    """
    if len(class_names) < 2:
        raise ModelError(f"{len(class_names)} classes; a classifier needs 2 or more")
    shape = (int(image_shape[0]), int(image_shape[1]))
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(seed)
        text, tokenizer, origin = _text(spec, texts)
        image = None
        if spec.inputs in {"both", "image"}:
            image = load_image(spec.image_encoder, weights=spec.weights, image_shape=shape)
        try:
            config = _config(
                spec,
                text=text,
                image=image,
                class_names=class_names,
                shape=shape,
                window=window,
            )
            model = FusionModel(config)
        except (ValueError, TypeError, RuntimeError) as error:
            raise ModelError(f"this model cannot be built: {first_line(error)}") from error
        for name, encoder in (("text_encoder", text), ("image_encoder", image)):
            if encoder is not None:
                model.get_submodule(name).load_state_dict(encoder.module.state_dict())
        config.unused = freeze_unused(model)
    if spec.lora_rank:
        add_low_rank(model, rank=spec.lora_rank, seed=seed)
    made_from = {"tokenizer": origin, "lora_rank": spec.lora_rank, "seed": seed}
    facts = model_facts(model, tokenizer) | made_from
    for name, encoder in (("text", text), ("image", image)):
        if encoder is not None:
            facts[name] = dict(encoder.facts)
    return Fusion(model=model.eval(), tokenizer=tokenizer, facts=facts)


def model_facts(model: FusionModel, tokenizer: Any) -> dict[str, Any]:
    """What can be said of any fusion model, new or loaded; JSON types only."""
    config, parameters = model.config, list(model.parameters())
    return {
        "inputs": config.inputs,
        "fusion": config.fusion if config.inputs == "both" else None,
        "text_encoder": config.origin.get("text_encoder"),
        "image_encoder": config.origin.get("image_encoder"),
        "encoder_weights": dict(config.origin.get("weights", {})),
        "width": config.width,
        "heads": config.heads,
        "caption": config.caption if config.reads_text else None,
        "max_tokens": config.max_tokens if config.reads_text else None,
        "vocabulary_size": None if tokenizer is None else len(tokenizer),
        "image_shape": config.chart.get("image_shape"),
        "input_shape": config.chart.get("input_shape"),
        "patch_grid": config.image_tokens.get("grid"),
        "parameters": sum(one.numel() for one in parameters),
        "trainable_parameters": sum(one.numel() for one in parameters if one.requires_grad),
        "unused_parameters": list(config.unused),
        "low_rank": is_low_rank(model),
    }


def example_inputs(config: FusionConfig, count: int, *, device: Any = "cpu") -> dict[str, Tensor]:
    """Inputs of `count` samples that mean nothing, as keywords of the model's forward."""
    inputs: dict[str, Tensor] = {}
    if config.reads_image:
        high, wide = config.chart["image_shape"]
        inputs["pixel_values"] = torch.linspace(-1, 1, 3 * high * wide).view(1, 3, high, wide)
    if config.reads_text:
        size = int((config.text_config or {})["vocab_size"])
        length = min(8, config.max_tokens)
        inputs["input_ids"] = (torch.arange(length) % size).view(1, length)
        inputs["attention_mask"] = torch.ones(1, length, dtype=torch.int64)
    if config.inputs == "numbers":
        window, channels = config.numbers["window"], config.numbers["channels"]
        inputs["numbers"] = torch.linspace(0, 1, window * channels).view(1, window, channels)
    return {
        name: tensor.expand(count, *tensor.shape[1:]).clone().to(device)
        for name, tensor in inputs.items()
    }


def freeze_unused(model: FusionModel) -> list[str]:
    """Names of parameters that no answer depends on, which ask for no gradient from now on.

    Encoders have parts for tasks of their own, such as the layers before a classifier that is
    not there. Several devices that train together wait for a gradient of every parameter.
    """
    named = {name: one for name, one in model.named_parameters() if one.requires_grad}
    training = model.training
    model.eval()
    with torch.enable_grad():
        output = model(**example_inputs(model.config, 1))
        answer = output.logits.sum() + output.forecast.sum()
        gradients = torch.autograd.grad(answer, list(named.values()), allow_unused=True)
    model.train(training)
    got: dict[str, Tensor | None] = dict(zip(named, gradients, strict=True))
    unused = [name for name, one in got.items() if one is None]
    for name in unused:
        named[name].requires_grad_(False)
    return unused


def _text(spec: FusionSpec, texts: Sequence[str]) -> tuple[Encoder | None, Any, str | None]:
    """The text encoder, its tokenizer, and where that comes from."""
    if spec.inputs not in {"both", "text"}:
        return None, None, None
    folder = text_folder(spec.text_encoder, weights=spec.weights)
    tokenizer = None if folder is None else _published_tokenizer(spec.text_encoder, folder)
    size, origin = None, "published"
    if tokenizer is None:
        if spec.weights == "pretrained" and not spec.text_encoder.startswith("tiny:"):
            raise ModelError(
                f"{spec.text_encoder} has no tokenizer beside its weights, so nobody can tell "
                "what its tokens mean; use --weights random, or a folder with tokenizer.json"
            )
        tokenizer = make_tokenizer(texts, max_tokens=spec.max_tokens, limit=LARGEST_VOCABULARY)
        size, origin = len(tokenizer), "made from the training texts"
    encoder = load_text(spec.text_encoder, weights=spec.weights, vocabulary_size=size)
    known = int(encoder.config["vocab_size"])
    if len(tokenizer) > known:
        raise ModelError(
            f"the tokenizer of {spec.text_encoder} has {len(tokenizer)} tokens and the encoder "
            f"knows {known}: these are files of another model"
        )
    limit = _positions(encoder)
    if limit is not None and spec.max_tokens > limit:
        raise ModelError(
            f"max_tokens = {spec.max_tokens}; {spec.text_encoder} takes {limit} tokens at most"
        )
    return encoder, tokenizer, origin


def _published_tokenizer(name: str, folder: Any) -> Any:
    """The tokenizer in the folder, or None. Raises ModelError: it cannot be read."""
    files = ("tokenizer.json", "vocab.txt", "vocab.json", "spiece.model", "tokenizer.model")
    if not any((folder / file).is_file() for file in files):
        return None
    tokenizer = read_tokenizer(folder, name=name)
    tokenizer.padding_side = "right"
    # What the model takes, so that `model(**tokenizer(text))` works with any encoder.
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    if tokenizer.pad_token is None:
        raise ModelError(f"the tokenizer of {name} has no token for padding; use another encoder")
    return tokenizer


def _positions(encoder: Encoder) -> int | None:
    """How many tokens the encoder has positions for; None where it counts distances only."""
    for name, module in encoder.module.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            # RoBERTa and its kin count positions from behind the padding's.
            padding = module.padding_idx
            return module.num_embeddings - (0 if padding is None else padding + 1)
    return None


def _config(
    spec: FusionSpec,
    *,
    text: Encoder | None,
    image: Encoder | None,
    class_names: Sequence[str],
    shape: tuple[int, int],
    window: int,
) -> FusionConfig:
    own = text or image
    chart: dict[str, Any] = {"window": window, "image_shape": list(shape)}
    if image is not None:
        chart |= {
            "input_shape": list(image.input_shape),
            "mean": list(image.mean),
            "std": list(image.std),
        }
    return FusionConfig(
        inputs=spec.inputs,
        fusion=spec.fusion,
        text_config=text.config if text else None,
        image_config=image.config if image else None,
        text_width=text.width if text else 0,
        image_tokens=image.layout if image else None,
        width=spec.width or (own.width if own else NUMBERS_WIDTH),
        heads=spec.heads,
        dropout=spec.dropout,
        caption=spec.caption,
        max_tokens=spec.max_tokens,
        chart=chart,
        numbers={"window": window, "channels": 5},
        origin={
            "text_encoder": text.name if text else None,
            "image_encoder": image.name if image else None,
            "weights": {
                "text": text.weights if text else None,
                "image": image.weights if image else None,
            },
        },
        id2label=dict(enumerate(class_names)),
        label2id={name: index for index, name in enumerate(class_names)},
    )


def _input(inputs: Mapping[str, Tensor], name: str, config: FusionConfig) -> Tensor:
    if name not in inputs:
        raise ModelError(
            f"'{name}' is missing; this model reads inputs '{config.inputs}', given were: "
            f"{', '.join(inputs) or 'none'}"
        )
    return inputs[name]
