"""The two encoders of a fusion model, from a name: `tiny:bert`, a folder, or an id on the Hub.

    text = load_text("bert-base-uncased", weights="pretrained", vocabulary_size=None)
    image = load_image("google/vit-base-patch16-224", weights="random", image_shape=(64, 120))
    image.layout        # how its answer is cut into patches

Nothing falls back silently: weights are loaded whole or refused, and random ones are called
random, also those of `tiny:` names, which have no others. Code from the Hub is never run.
"""

from __future__ import annotations

import copy
import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from candlemark.errors import ModelError
from candlemark.models.building import first_line, open_batch_norms, quiet, whole_patches
from candlemark.models.catalog import (
    CATALOG,
    IMAGENET_MEAN,
    IMAGENET_STD,
    ModelSpec,
    Triple,
    resolve,
)
from candlemark.models.files import find_file
from candlemark.models.fusion.modeling import build_encoder, encoder_options
from candlemark.models.inference.known import ALIASES, KNOWN
from candlemark.models.inference.tiny import TINY
from candlemark.models.weights import find_weights

Weights = Literal["pretrained", "random"]

_NOT_KEPT = frozenset(
    {
        "_name_or_path",  # a path of this machine
        "architectures",
        "dtype",
        "id2label",  # of the encoder's own head, which is not there
        "label2id",
        "label_names",
        "num_classes",
        "num_labels",
        "pretrained_cfg",
        "torch_dtype",
        "transformers_version",
    }
)
_TINY_TASKS = {"text": "text-encoder", "image": "image-"}
"""How the task of a small model begins that can be such an encoder."""

_SIDES = (4, 8, 14, 16, 32, 64)
"""Pixels a token stands for, where the config does not say."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Encoder:
    """An encoder of transformers, without a pooler, on the CPU.

    name: as it was asked for; of a folder, the folder's own name
    config: what `modeling.build_encoder` makes it from again
    weights: what its weights are, whatever was asked for
    folder: where its files are; None: it was made from a table
    width: of its tokens
    layout: of a picture encoder: `FusionConfig.image_tokens`
    input_shape, mean, std: of a picture encoder: what it looks at
    facts: JSON types only
    """

    name: str
    module: nn.Module
    config: Mapping[str, Any]
    weights: Weights
    folder: Path | None
    width: int
    layout: Mapping[str, Any] = field(default_factory=dict)
    input_shape: tuple[int, int] = (0, 0)
    mean: Triple = IMAGENET_MEAN
    std: Triple = IMAGENET_STD
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Source:
    """A name, looked up. folder: of its files; weights: what can be had."""

    name: str
    config: Any
    folder: Path | None
    weights: Weights
    spec: ModelSpec | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Fit:
    """A picture encoder told a size. stretch: its table of positions is of another size."""

    source: _Source
    shape: tuple[int, int]
    stretch: bool


def encoder_weights(name: str, *, kind: Literal["text", "image"], weights: Weights) -> Path | None:
    """The file that an encoder starts from, brought here if need be; None where it is random.

    Nothing is built, so a study can ask before it does anything that takes long.

    Raises ModelError: nobody knows the name, or its weights cannot be had.
    """
    source = _look_up(name, weights, tiny=_TINY_TASKS[kind])
    if source.folder is None or source.weights == "random":
        return None
    return find_weights(str(source.folder), allow_pickle=False)


def text_folder(name: str, *, weights: Weights) -> Path | None:
    """The folder of a text encoder's own tokenizer; None where it is made from the texts.

    With random weights nothing is asked of the Hub, nor of what happens to be in its cache.
    """
    if name.startswith("tiny:"):
        return None
    if Path(name).is_dir():
        return _inner(Path(name))
    if weights == "random":
        return None
    for file in ("tokenizer.json", "vocab.txt", "vocab.json", "spiece.model"):
        path = find_file(name, file)
        if path is not None:
            for other in ("tokenizer_config.json", "special_tokens_map.json", "merges.txt"):
                find_file(name, other)
            return path.parent
    return None


def load_text(name: str, *, weights: Weights, vocabulary_size: int | None) -> Encoder:
    """The text encoder `name`.

    vocabulary_size: of a tokenizer made for it; None: the encoder's own

    Raises ModelError: nobody knows the name, its weights cannot be had or lack tensors, or it
    is no encoder, whose first token has read all others.
    """
    source = _look_up(name, weights, tiny=_TINY_TASKS["text"])
    if source.config.is_encoder_decoder:
        raise _unfit(name, "it reads with one half and writes with the other")
    if vocabulary_size is not None:
        source.config.vocab_size = vocabulary_size
        # Ids of another vocabulary; the padding's row is the only one that means something.
        for special in ("bos_token_id", "eos_token_id", "sep_token_id", "cls_token_id"):
            if getattr(source.config, special, None) is not None:
                setattr(source.config, special, None)
        source.config.pad_token_id = 0
    module, facts = _load(source)
    return Encoder(
        name=_shown(name),
        module=module,
        config=_kept(source.config),
        weights=source.weights,
        folder=source.folder,
        width=_read_something(name, module, int(source.config.vocab_size)),
        facts=facts,
    )


def load_image(name: str, *, weights: Weights, image_shape: tuple[int, int]) -> Encoder:
    """The picture encoder `name`, for pictures of `image_shape` (height, width).

    Raises ModelError: as `load_text`; the pictures have a size that it cannot look at.
    """
    source = _look_up(name, weights, tiny=_TINY_TASKS["image"])
    if getattr(source.config, "vision_config", None) is not None:
        # Of CLIP and its kin, the half that looks.
        source = replace(source, config=source.config.vision_config)
    native = getattr(source.config, "image_size", None)
    if source.config.model_type == "timm_wrapper":
        source.config.do_pooling = False
        arguments = dict(source.config.model_args or {})
        # timm writes it and transformers gives its own: together they are an error.
        arguments.pop("num_classes", None)
        source.config.model_args = arguments or None
    refusals: list[str] = []
    for fitted in _fits(source, image_shape):
        try:
            module, facts = _load(fitted.source)
            known = inspect.signature(module.forward).parameters
            stretch = fitted.stretch and "interpolate_pos_encoding" in known
            layout = image_layout(module, fitted.source.config, fitted.shape, interpolate=stretch)
        except (ModelError, RuntimeError, ValueError, AssertionError, TypeError) as error:
            if isinstance(error, ModelError) and fitted.source is source:
                raise  # it has nothing to do with the size
            refusals.append(first_line(error.__cause__ or error))
            continue
        mean, std = _normalisation(source)
        return Encoder(
            name=_shown(name),
            module=module,
            config=_kept(fitted.source.config),
            weights=source.weights,
            folder=source.folder,
            width=int(layout["width"]),
            layout=layout,
            input_shape=fitted.shape,
            mean=mean or IMAGENET_MEAN,
            std=std or IMAGENET_STD,
            facts={
                **facts,
                "input_shape": list(fitted.shape),
                "positions_interpolated": fitted.stretch,
                "normalisation": "checkpoint" if mean else "ImageNet, the checkpoint names none",
            },
        )
    raise ModelError(
        f"{name} cannot look at pictures {image_shape[0]} high and {image_shape[1]} wide: "
        f"{refusals[0]}" + (f"; it was made for {native}" if native else "")
    )


def image_layout(
    module: nn.Module, config: Any, shape: tuple[int, int], *, interpolate: bool
) -> dict[str, Any]:
    """How the encoder's answer is cut into patches: `FusionConfig.image_tokens`.

    Found by looking at one picture, so that any encoder will do. Raises ValueError: it
    answers with no tokens and no map, or otherwise each time it looks.
    """
    options = {"interpolate_pos_encoding": True} if interpolate else {}
    device = next(module.parameters()).device
    with torch.no_grad():
        picture = torch.linspace(-1, 1, 3 * shape[0] * shape[1], device=device)
        picture = picture.view(1, 3, *shape)
        seen: Tensor = module(pixel_values=picture, **options).last_hidden_state
        if device.type != "meta":
            # A masked autoencoder drops most patches by chance.
            again: Tensor = module(pixel_values=picture, **options).last_hidden_state
            if not torch.allclose(seen, again, atol=1e-5):
                raise ValueError("it answers the same picture otherwise each time")
    found: dict[str, Any] = {"prefix": 0, "interpolate": interpolate}
    if seen.ndim == 4:
        inner = getattr(module, "timm_model", None)
        width = getattr(inner, "num_features", None)
        last = seen.shape[1] != width and seen.shape[3] == width
        rows = seen.shape[1:3] if last else seen.shape[2:]
        return found | {
            "layout": "map_last" if last else "map",
            "grid": list(rows),
            "width": int(seen.shape[3 if last else 1]),
        }
    if seen.ndim != 3:
        raise ValueError(f"its last_hidden_state is {tuple(seen.shape)}, neither tokens nor a map")
    grid, prefix = _grid(int(seen.shape[1]), shape, getattr(config, "patch_size", None))
    return found | {
        "layout": "tokens",
        "grid": grid,
        "prefix": prefix,
        "width": int(seen.shape[2]),
    }


def _grid(
    count: int, shape: tuple[int, int], patch: int | tuple[int, ...] | list[int] | None
) -> tuple[list[int] | None, int]:
    """Rows and columns of `count` tokens, and how many stand before them.

    None, where no size of patch explains the count.
    """
    sides: list[int | tuple[int, ...] | list[int]] = [*_SIDES]
    if patch is not None:
        sides.insert(0, patch)
    for side in sides:
        high, wide = (side, side) if isinstance(side, int) else (side[0], side[1])
        rows, columns = -(-shape[0] // high), -(-shape[1] // wide)
        prefix = count - rows * columns
        # A class token, a teacher's token, and up to eight registers; else none or one.
        if 0 <= prefix <= (10 if side is patch else 1):
            return [rows, columns], prefix
    return None, 0


def _look_up(name: str, weights: Weights, *, tiny: str) -> _Source:
    """What `name` is. tiny: how the task of a fitting small model begins."""
    import transformers

    if name.startswith("tiny:"):
        fitting = [key for key, one in TINY.items() if one.model_task.startswith(tiny)]
        if name.removeprefix("tiny:") not in fitting:
            known = ", ".join(f"tiny:{key}" for key in fitting)
            raise ModelError(f"'{name}' is no small encoder of this kind; known: {known}")
        recipe = TINY[name.removeprefix("tiny:")]
        config = getattr(transformers, recipe.config_class)(**recipe.config)
        return _Source(name=name, config=config, folder=None, weights="random")
    if Path(name).is_dir():
        folder = _inner(Path(name))
        return _from_folder(name, folder, weights)
    if weights == "random":
        return _from_tables(name)
    path = find_file(name, "config.json")
    if path is None:
        raise ModelError(f"{name} has no config.json, so nobody can tell how to build it")
    return _from_folder(name, find_weights(name, allow_pickle=False).parent, weights)


def _shown(name: str) -> str:
    """What a published model may tell of where its encoder lay: nothing of this machine."""
    return Path(name).resolve().name if Path(name).is_dir() else name


def _inner(folder: Path) -> Path:
    """The folder itself, or the `model` in it, as Python packages of weights have it."""
    if not (folder / "config.json").is_file() and (folder / "model" / "config.json").is_file():
        return folder / "model"
    return folder


def _from_folder(name: str, folder: Path, weights: Weights) -> _Source:
    file = folder / "config.json"
    if not file.is_file():
        raise ModelError(f"{name} holds no config.json; a model folder needs one")
    if weights == "pretrained":
        find_weights(str(folder), allow_pickle=False)
    config = _read_config(name, folder)
    spec = resolve(str(folder), library="timm") if config.model_type == "timm_wrapper" else None
    return _Source(name=name, config=config, folder=folder, weights=weights, spec=spec)


def _from_tables(name: str) -> _Source:
    """A published encoder with random weights, from our tables where they hold it."""
    import transformers

    recipe = KNOWN.get(ALIASES.get(name, name))
    if recipe is not None:
        config = getattr(transformers, recipe.config_class)(**recipe.config)
        return _Source(name=name, config=config, folder=None, weights="random")
    spec = CATALOG.get(name) or CATALOG.get(f"timm/{name}")
    if spec is None and name.startswith("timm/"):
        spec = resolve(name, library="timm")
    if spec is not None and spec.library == "timm":
        config = transformers.TimmWrapperConfig(architecture=spec.architecture)
        return _Source(name=name, config=config, folder=None, weights="random", spec=spec)
    if spec is not None and spec.config_class:
        config = getattr(transformers, spec.config_class)(**spec.config)
        return _Source(name=name, config=config, folder=None, weights="random", spec=spec)
    path = find_file(name, "config.json")
    if path is None:
        raise ModelError(f"{name} has no config.json, so nobody can tell how to build it")
    return _Source(name=name, config=_read_config(name, path.parent), folder=None, weights="random")


def _read_config(name: str, folder: Path) -> Any:
    import transformers

    try:
        return transformers.AutoConfig.from_pretrained(
            str(folder), trust_remote_code=False, local_files_only=True
        )
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ModelError(
            f"{name}: {folder / 'config.json'} cannot be read: {first_line(error)}"
        ) from error


def _fits(source: _Source, shape: tuple[int, int]) -> list[_Fit]:
    """Ways in which the encoder may look at pictures of `shape`, the best first."""
    config, spec = copy.deepcopy(source.config), source.spec
    if config.model_type == "timm_wrapper":
        if spec is None or not spec.fixed_size:
            return [_Fit(source=source, shape=shape, stretch=False)]
        fitted = whole_patches(shape, _timm_patch(config.architecture))
        if fitted == (spec.image_size, spec.image_size):
            return [_Fit(source=source, shape=fitted, stretch=False)]
        stretch = source.weights == "pretrained"
        option = {"dynamic_img_size": True} if stretch else {"img_size": list(fitted)}
        config.model_args = {**(config.model_args or {}), **option}
        return [_Fit(source=replace(source, config=config), shape=fitted, stretch=stretch)]
    patch, native = getattr(config, "patch_size", None), getattr(config, "image_size", None)
    fitted = shape if patch is None else whole_patches(shape, patch)
    published = (native, native) if isinstance(native, int) else tuple(native or fitted)
    # A convolution has no table of positions, whatever size its config names.
    stretch = patch is not None and published != fitted
    as_it_is = _Fit(source=source, shape=fitted, stretch=stretch)
    if source.weights == "pretrained" or not stretch:
        return [as_it_is]
    config.image_size = fitted[0] if fitted[0] == fitted[1] else list(fitted)
    own_table = _Fit(source=replace(source, config=config), shape=fitted, stretch=False)
    # DINOv2 stretches a square table itself, and knows no other.
    return [own_table, as_it_is]


def _timm_patch(architecture: str) -> int | tuple[int, ...]:
    import timm

    with torch.device("meta"):
        outline = timm.create_model(architecture)
    patch = getattr(getattr(outline, "patch_embed", None), "patch_size", None)
    return patch if patch is not None else int(outline.feature_info[-1]["reduction"])


def _load(source: _Source) -> tuple[nn.Module, dict[str, Any]]:
    """The encoder and its facts. Raises ModelError: it cannot be built, or lacks tensors."""
    from transformers import AutoModel

    facts: dict[str, Any] = {"name": _shown(source.name), "weights": source.weights}
    try:
        with quiet():
            if source.weights == "random" or source.folder is None:
                module = build_encoder(_kept(source.config))
                open_batch_norms(module)
                info: dict[str, Any] = {"missing_keys": (), "unexpected_keys": ()}
            else:
                module, info = AutoModel.from_pretrained(
                    str(source.folder),
                    config=source.config,
                    output_loading_info=True,
                    local_files_only=True,
                    dtype=torch.float32,
                    use_safetensors=True,
                    trust_remote_code=False,
                    **encoder_options(source.config),
                )
    except Exception as error:  # each library refuses configs and weights in its own way
        raise ModelError(
            f"cannot build {source.name} from {source.folder or 'its config'} with "
            f"{source.weights} weights: {type(error).__name__}: {first_line(error)}"
        ) from error
    missing = sorted({str(name) for name in info["missing_keys"]})
    missing += [str(name) for name in info.get("mismatched_keys", ())]
    if missing:
        raise ModelError(
            f"{source.folder} lacks {len(missing)} tensors of {type(module).__name__} "
            f"({', '.join(missing[:3])}, ...); these are weights of another model"
        )
    facts |= {
        "model_class": type(module).__name__,
        "parameters": sum(parameter.numel() for parameter in module.parameters()),
        "ignored_tensors": len(info["unexpected_keys"]),
    }
    return module.eval(), facts


def _kept(config: Any) -> dict[str, Any]:
    """The config as JSON, without what belongs to this machine or to a head that is gone."""
    values = {key: value for key, value in config.to_dict().items() if key not in _NOT_KEPT}
    kept: dict[str, Any] = json.loads(json.dumps(values | {"model_type": config.model_type}))
    return kept


def _read_something(name: str, module: nn.Module, vocabulary: int) -> int:
    """The width of a text encoder's tokens. Raises ModelError: its first token reads nothing."""
    # Two texts that differ in their last token alone.
    ids = torch.tensor([[3, 5, 7, 9], [3, 5, 7, 11]]) % vocabulary
    try:
        with torch.no_grad():
            tokens: Tensor = module(
                input_ids=ids, attention_mask=torch.ones_like(ids)
            ).last_hidden_state
    except (RuntimeError, ValueError, TypeError, AttributeError, IndexError) as error:
        raise _unfit(name, f"it does not read texts: {first_line(error)}") from error
    if (tokens[0, 0] - tokens[1, 0]).abs().max() < 1e-6:
        raise _unfit(name, "its first token has not read the rest of the text")
    return int(tokens.shape[-1])


def _unfit(name: str, why: str) -> ModelError:
    return ModelError(
        f"{name} is no text encoder: {why}; use one such as bert-base-uncased or tiny:bert"
    )


def _normalisation(source: _Source) -> tuple[Triple | None, Triple | None]:
    """Mean and std of the pixels, where the checkpoint or our catalog says."""
    spec = source.spec
    if spec is not None and spec.mean and spec.std:
        return spec.mean, spec.std
    values = getattr(source.config, "pretrained_cfg", None) or {}
    mean, std = values.get("mean"), values.get("std")
    beside = source.folder / "preprocessor_config.json" if source.folder else None
    if not mean and source.folder is not None and not Path(source.name).is_dir():
        beside = find_file(source.name, "preprocessor_config.json")
    if not mean and beside is not None and beside.is_file():
        try:
            values = json.loads(beside.read_text(encoding="utf-8"))
            mean, std = values.get("image_mean"), values.get("image_std")
        except (OSError, ValueError, AttributeError) as error:
            raise ModelError(f"{beside} is damaged: {first_line(error)}") from error
    try:
        return (_triple(mean), _triple(std)) if mean and std else (None, None)
    except (ValueError, TypeError, IndexError, KeyError) as error:
        raise ModelError(
            f"{source.name} normalises pictures by mean {mean!r} and std {std!r}; of each there "
            "must be three numbers"
        ) from error


def _triple(values: Any) -> Triple:
    return float(values[0]), float(values[1]), float(values[2])
