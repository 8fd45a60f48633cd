"""Load an image classifier of timm or transformers with a head for our classes.

    spec = resolve("microsoft/resnet-50")
    model = load_classifier(
        spec, weights="random", class_count=2, image_shape=(64, 120), seed=0
    )
    logits = model.module(model.prepare(images))

Nothing falls back silently: weights are what was asked for or there is a ModelError, a
backbone is loaded whole or refused, and a new head is called new in `facts`. Code from the
Hub is never run.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from candlemark.errors import ModelError
from candlemark.models.adapter import Classifier, ClassifierNet
from candlemark.models.building import open_batch_norms, quiet, whole_patches
from candlemark.models.catalog import IMAGENET_MEAN, IMAGENET_STD, ModelSpec, Triple
from candlemark.models.files import find_file
from candlemark.models.weights import weights_file

Shape = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Built:
    """What a library gave: the network and how to feed it.

    heads: dotted names of the last layers; new_head: they hold no loaded weights
    mean, std: None where the checkpoint does not say
    ignored_keys: saved tensors that the network has no place for
    """

    network: nn.Module
    heads: tuple[str, ...]
    new_head: bool
    input_shape: Shape
    mean: Triple | None
    std: Triple | None
    options: Mapping[str, Any]
    ignored_keys: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    """What was asked for. `file`: None means random weights."""

    spec: ModelSpec
    file: Path | None
    class_count: int
    image_shape: Shape


def load_classifier(
    spec: ModelSpec,
    *,
    weights: str | Path,
    class_count: int,
    image_shape: tuple[int, ...],
    seed: int,
    allow_pickle: bool = False,
) -> Classifier:
    """A classifier of `class_count` classes for images of `image_shape` (H, W[, 3]).

    weights: "pretrained" (Hub cache, else the Hub; a local folder's own weights), "random"
        (seeded, no network for catalog and timm models), or the path of a folder or file.
    seed: of random weights and of a new head; the caller's random state is left alone.
    allow_pickle: also load weights that are not safetensors; still tensors only.

    The head is kept where the weights hold one of `class_count` classes, else it is new.
    Pretrained position tables are interpolated where the library can.

    Raises ModelError: the weights cannot be had or do not fit; the images have a size the
    model cannot take; the only weights are a pickle and it is not allowed.
    """
    if class_count < 2:
        raise ModelError(f"class_count = {class_count}; a classifier needs 2 or more")
    shape = (int(image_shape[0]), int(image_shape[1]))
    request = _Request(
        spec=spec,
        file=weights_file(spec, weights, allow_pickle=allow_pickle),
        class_count=class_count,
        image_shape=shape,
    )
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(seed)
        try:
            built = _BUILDERS[spec.library](request)
        except (ValueError, TypeError, RuntimeError, AssertionError, OSError) as error:
            raise ModelError(_cannot_build(request, error)) from error
    channels_last = spec.family == "cnn"
    if channels_last:
        built.network.to(memory_format=torch.channels_last)
    classifier = Classifier(
        module=ClassifierNet(built.network, built.heads, built.options).eval(),
        mean=built.mean or IMAGENET_MEAN,
        std=built.std or IMAGENET_STD,
        image_shape=shape,
        input_shape=built.input_shape,
        channels_last=channels_last,
    )
    _try_one_image(classifier, request)
    return replace(classifier, facts=_facts(classifier, built, request, weights, seed))


def _build_timm(request: _Request) -> _Built:
    import timm

    spec, classes = request.spec, request.class_count
    with torch.device("meta"):
        outline = timm.create_model(spec.architecture, num_classes=classes)
    published = dict(outline.pretrained_cfg)
    shape = request.image_shape
    if spec.fixed_size:
        shape = whole_patches(shape, _timm_patch(outline))
    sizes = {"img_size": shape} if spec.fixed_size else {}
    if spec.folder:
        config = json.loads((spec.folder / "config.json").read_text(encoding="utf-8"))
        published.update(config.get("pretrained_cfg", {}))
    heads = _names_of(outline, outline.get_classifier())
    if request.file is None:
        network = timm.create_model(spec.architecture, num_classes=classes, **sizes)
        saved = 0
    else:
        state = _read_state(request.file)
        head = state.get(f"{heads[0]}.weight")
        offset = int(published.get("label_offset") or 0)
        saved = (int(head.shape[0]) if head is not None else published["num_classes"]) - offset
        # With the checkpoint's own class count timm loads strictly: nothing may be missing.
        network = timm.create_model(
            spec.architecture,
            pretrained=True,
            pretrained_cfg_overlay={**published, "state_dict": state, "num_classes": saved},
            num_classes=saved,
            **sizes,
        )
        if saved != classes:
            network.reset_classifier(classes)
    return _Built(
        network=network,
        heads=heads,
        new_head=saved != classes,
        input_shape=shape,
        mean=_triple(published.get("mean")),
        std=_triple(published.get("std")),
        options={},
    )


def _timm_patch(network: Any) -> int | tuple[int, ...]:
    """What both sides must be a multiple of: the patch, or the stride of the last stage."""
    embedding = getattr(network, "patch_embed", None)
    patch: tuple[int, ...] | None = getattr(embedding, "patch_size", None)
    if patch is not None:
        return patch
    stages = getattr(network, "feature_info", None)
    return int(stages[-1]["reduction"]) if stages else 1


def _build_transformers(request: _Request) -> _Built:
    import transformers

    spec = request.spec
    config = _transformers_config(request)
    native = getattr(config, "image_size", None)
    shape = request.image_shape
    if spec.fixed_size and getattr(config, "patch_size", None):
        shape = whole_patches(shape, config.patch_size)
    if request.file is None and spec.family == "transformer" and native is not None:
        config.image_size = shape[0] if shape[0] == shape[1] else shape
    model_class = getattr(transformers, spec.architecture or "AutoModelForImageClassification")

    heads = _transformers_heads(model_class, config)
    if request.file is None:
        network = _from_config(model_class, config)
        open_batch_norms(network)
        new_head, ignored = True, 0
    else:
        network, new_head, ignored = _load_transformers(model_class, config, heads, request.file)
    options: dict[str, Any] = {}
    published = (native, native) if isinstance(native, int) else tuple(native or shape)
    if request.file is not None and spec.fixed_size and published != shape:
        options = _interpolation(network)
    mean, std = _transformers_normalisation(request, config)
    return _Built(
        network=network,
        heads=heads,
        new_head=new_head,
        input_shape=shape,
        mean=mean,
        std=std,
        options=options,
        ignored_keys=ignored,
    )


_BUILDERS: dict[str, Callable[[_Request], _Built]] = {
    "timm": _build_timm,
    "transformers": _build_transformers,
}


def _transformers_config(request: _Request) -> Any:
    """The checkpoint's own config, else the catalog's, with our number of classes."""
    import transformers

    spec, count = request.spec, request.class_count
    beside = request.file.parent if request.file is not None else None
    if beside is None or not (beside / "config.json").is_file():
        if spec.config_class:
            return getattr(transformers, spec.config_class)(**spec.config, num_labels=count)
        path = find_file(spec.id, "config.json")
        if path is None:
            raise ModelError(f"{spec.id} has no config.json, so nobody can tell how to build it")
        beside = path.parent
    return transformers.AutoConfig.from_pretrained(
        str(beside), num_labels=count, trust_remote_code=False, local_files_only=True
    )


def _from_config(model_class: Any, config: Any) -> nn.Module:
    network: nn.Module
    if hasattr(model_class, "from_config"):  # an Auto class
        network = model_class.from_config(config, trust_remote_code=False)
    else:
        network = model_class(config)
    return network


def _transformers_heads(model_class: Any, config: Any) -> tuple[str, ...]:
    """Names of the layers whose shape follows the number of classes."""
    wider = copy.deepcopy(config)
    wider.num_labels = config.num_labels + 1
    with torch.device("meta"):
        ours = _from_config(model_class, config).state_dict()
        theirs = _from_config(model_class, wider).state_dict()
    differing = [name for name in ours if ours[name].shape != theirs[name].shape]
    # LeViT keeps a norm beside the last layer; features are what goes into both.
    parents = [name.rpartition(".")[0].removesuffix(".linear") for name in differing]
    if not parents:
        raise ModelError(f"{model_class.__name__} has no classification head")
    return tuple(dict.fromkeys(parents))


def _load_transformers(
    model_class: Any, config: Any, heads: tuple[str, ...], file: Path
) -> tuple[nn.Module, bool, int]:
    """The network, whether its head is new, and how many saved tensors nobody wanted."""
    options: dict[str, Any] = {
        "config": config,
        "ignore_mismatched_sizes": True,
        "output_loading_info": True,
        "local_files_only": True,
        "dtype": torch.float32,
    }
    is_checkpoint = file.name.startswith(("model.", "pytorch_model."))
    if hasattr(model_class, "from_config"):  # an Auto class
        model_class = _concrete(model_class, config)
    if is_checkpoint and (file.parent / "config.json").exists():
        network, info = model_class.from_pretrained(
            str(file.parent), use_safetensors="safetensors" in file.name, **options
        )
    else:
        # Through the library too: it knows the names that older files gave their tensors.
        network, info = model_class.from_pretrained(None, state_dict=_read_state(file), **options)
    missing = {str(name) for name in info["missing_keys"]}
    missing |= {str(item[0]) for item in info["mismatched_keys"]}
    ignored = len(info["unexpected_keys"])
    in_head = {name for name in missing if name.startswith(tuple(f"{head}." for head in heads))}
    if missing - in_head:
        some = ", ".join(sorted(missing - in_head)[:3])
        raise ModelError(
            f"{file} lacks {len(missing - in_head)} tensors of {model_class.__name__} "
            f"({some}, ...); these are weights of another model"
        )
    return network, bool(in_head), ignored


def _concrete(auto_class: Any, config: Any) -> Any:
    """The class behind an Auto class for `config`."""
    with torch.device("meta"):
        return type(_from_config(auto_class, config))


def _transformers_normalisation(
    request: _Request, config: Any
) -> tuple[Triple | None, Triple | None]:
    spec = request.spec
    if spec.mean and spec.std:
        return spec.mean, spec.std
    published = getattr(config, "pretrained_cfg", None) or {}
    if not published:
        beside = request.file.parent if request.file is not None else spec.folder
        path = beside / "preprocessor_config.json" if beside else None
        if path is None or not path.is_file():
            path = None if spec.folder else find_file(spec.id, "preprocessor_config.json")
        if path is not None:
            values = json.loads(path.read_text(encoding="utf-8"))
            published = {"mean": values.get("image_mean"), "std": values.get("image_std")}
    return _triple(published.get("mean")), _triple(published.get("std"))


def _interpolation(network: nn.Module) -> dict[str, Any]:
    import inspect

    known = inspect.signature(network.forward).parameters
    return {"interpolate_pos_encoding": True} if "interpolate_pos_encoding" in known else {}


def _read_state(file: Path) -> dict[str, Tensor]:
    """Tensors by name; a state dict saved from `ClassifierNet` loses its `network.` prefix."""
    from timm.models import load_state_dict

    state: dict[str, Tensor] = load_state_dict(str(file))
    if state and all(name.startswith("network.") for name in state):
        state = {name.removeprefix("network."): tensor for name, tensor in state.items()}
    return state


def _names_of(network: nn.Module, head: nn.Module | tuple[nn.Module, ...]) -> tuple[str, ...]:
    wanted = head if isinstance(head, tuple) else (head,)
    return tuple(
        name for name, module in network.named_modules() if any(module is one for one in wanted)
    )


def _triple(values: Any) -> Triple | None:
    return (float(values[0]), float(values[1]), float(values[2])) if values else None


def _try_one_image(classifier: Classifier, request: _Request) -> None:
    """Prove that the network takes this size; libraries only find out when run."""
    # A deep copy: some networks (Swin) change themselves when they meet a small image.
    error = _fails(copy.deepcopy(classifier.module), classifier.input_shape)
    if error is None:
        return
    message = _cannot_build(request, error)
    if not request.spec.fixed_size:
        for side in (16, 32, 64, 128, 224):
            if _fails(copy.deepcopy(classifier.module), (side, side)) is None:
                message += f"; the smallest square it runs on is about {side}x{side}"
                break
    raise ModelError(message)


def _fails(module: nn.Module, shape: Shape) -> Exception | None:
    try:
        with torch.no_grad():
            module(torch.zeros(1, 3, *shape))
    except (RuntimeError, ValueError, AssertionError, TypeError) as error:
        return error
    return None


def _cannot_build(request: _Request, error: Exception) -> str:
    spec, (height, width) = request.spec, request.image_shape
    first_line = (str(error).splitlines() or [type(error).__name__])[0]
    allowed = f"it was made for {spec.image_size}x{spec.image_size}"
    if spec.fixed_size:
        allowed += ", and with --weights random takes squares of whole patches"
    return (
        f"{spec.id} cannot be built for images {height} high and {width} wide "
        f"with {request.class_count} classes from {request.file or 'random weights'}: "
        f"{first_line}; {allowed}"
    )


def _facts(
    classifier: Classifier, built: _Built, request: _Request, weights: str | Path, seed: int
) -> dict[str, Any]:
    spec, network = request.spec, built.network
    return {
        "model": spec.id,
        "library": spec.library,
        "family": spec.family,
        "model_class": type(network).__name__,
        "weights": str(weights),
        "weights_file": request.file.name if request.file is not None else None,
        "weights_seed": seed,
        "head": "newly initialised" if built.new_head else "from weights",
        "heads": list(built.heads),
        "class_count": request.class_count,
        "ignored_tensors": built.ignored_keys,
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "published_parameters": spec.parameters,
        "image_shape": list(classifier.image_shape),
        "input_shape": list(classifier.input_shape),
        "positions_interpolated": bool(built.options),
        "mean": list(classifier.mean),
        "std": list(classifier.std),
        "normalisation": "checkpoint" if built.mean else "ImageNet, the checkpoint names none",
        "channels_last": classifier.channels_last,
    }
