"""Build a transformers network from a request: weights whole or refused, random ones seeded.

network = build_network(request)
facts = network_facts(request, network, inputs="random pixels")
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from candlemark.errors import ModelError
from candlemark.models.building import open_batch_norms
from candlemark.models.inference.request import LoadRequest
from candlemark.models.inference.weights import weights_sha256
from candlemark.models.weights import PICKLE_NAME, SAFE_NAME, SHARDED_NAME

_NARROWEST = 1e-4
_USUAL = 0.02
"""Standard deviation of random weights: BERT's, and most others'."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Network:
    """A network of transformers and what loading it left over.

    new: names of parameters that the weights do not hold, drawn at random
    ignored: count of saved tensors that the network has no place for
    """

    module: nn.Module
    new: tuple[str, ...] = ()
    ignored: int = 0


def build_network(
    request: LoadRequest,
    *,
    model_class: str = "",
    config: Any = None,
    optional: tuple[str, ...] = (),
) -> Network:
    """The library's own module, on the CPU, in float32, in evaluation mode.

    model_class: another class than the described one
    config: what `build_config` gave, changed by the caller; None: unchanged
    optional: beginnings of parameter names that weights may lack, such as "pooler."

    Raises ModelError: the weights lack tensors of the class.
    """
    import transformers

    chosen = getattr(transformers, model_class or request.described.model_class)
    config = build_config(request) if config is None else config
    if request.file is None:
        _widen(config)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(request.seed)
            module = chosen(config)
        open_batch_norms(module)
        return Network(module=module.eval())
    return _from_weights(request, chosen, config, optional)


def build_config(request: LoadRequest) -> Any:
    """The transformers config of the request: the checkpoint's own, else the described one.

    Raises ModelError: the checkpoint is of another kind than the described model.
    """
    import transformers

    described = request.described
    beside = request.beside("config.json") if request.file is not None else None
    folder = beside.parent if beside is not None else described.folder
    if folder is None:
        return getattr(transformers, described.config_class)(**described.config)
    config = transformers.AutoConfig.from_pretrained(
        str(folder), trust_remote_code=False, local_files_only=True
    )
    if described.config_class not in {"", type(config).__name__}:
        raise ModelError(
            f"{folder} holds a model of type {config.model_type}; {described.id} is built from "
            f"{described.config_class}, so these are weights of another model"
        )
    return config


def _widen(config: Any) -> None:
    """Draw random weights wide enough that what goes in can be told from what comes out.

    BLIP's config says 1e-10: its answer would be the same for every picture.
    """
    parts = [config, *(getattr(config, name, None) for name in ("vision_config", "text_config"))]
    for part in parts:
        if getattr(part, "initializer_range", 1.0) < _NARROWEST:
            part.initializer_range = _USUAL


def _from_weights(
    request: LoadRequest, chosen: Any, config: Any, optional: tuple[str, ...]
) -> Network:
    file = request.file
    if file is None:
        raise ValueError("no weights to load")
    options: dict[str, Any] = {
        "config": config,
        "output_loading_info": True,
        "ignore_mismatched_sizes": True,  # told by name below, and not with a log that is silenced
        "local_files_only": True,
        "dtype": torch.float32,
    }
    if file.name in {SAFE_NAME, SHARDED_NAME, PICKLE_NAME}:
        module, info = chosen.from_pretrained(
            str(file.parent), use_safetensors="safetensors" in file.name, **options
        )
    else:
        from timm.models import load_state_dict

        module, info = chosen.from_pretrained(
            None, state_dict=load_state_dict(str(file)), **options
        )
    for name, saved, built in sorted(info["mismatched_keys"]):
        raise ModelError(
            f"{file} holds {name} of shape {tuple(saved)}, and by the config of "
            f"{request.described.id} it has {tuple(built)}; take both of one model"
        )
    # Batch norms count their batches for training alone, and old files leave the count out.
    names = {str(name) for name in info["missing_keys"]}
    missing = {name for name in names if not name.endswith(".num_batches_tracked")}
    lost = sorted(name for name in missing if not name.startswith(optional))
    if lost:
        raise ModelError(
            f"{file} lacks {len(lost)} tensors of {chosen.__name__} ({', '.join(lost[:3])}, ...); "
            "these are weights of another model"
        )
    return Network(
        module=module.eval(), new=tuple(sorted(missing)), ignored=len(info["unexpected_keys"])
    )


def network_facts(request: LoadRequest, network: Network, *, inputs: str) -> dict[str, Any]:
    """The facts of every model of transformers; JSON types only.

    inputs: one sentence: where the items come from
    """
    module, described = network.module, request.described
    config = getattr(module, "config", None)
    return {
        "library": described.library,
        "model_class": type(module).__name__,
        "weights": described.weights,
        "weights_file": request.file.name if request.file else None,
        "weights_sha256": weights_sha256(request.file) if request.file else None,
        "weights_seed": request.seed if request.file is None else None,
        "parameters": sum(parameter.numel() for parameter in module.parameters()),
        "new_parameters": list(network.new),
        "ignored_tensors": network.ignored,
        "attention": getattr(config, "_attn_implementation", None),
        "inputs": inputs,
    }
