"""A fusion model as a folder that other programs can read, and back.

    save_fusion(fusion, Path("model"), training={"epochs": 3})
    fusion = load_fusion("model")                       # or an id on the Hub

The folder: config.json and model.safetensors as transformers writes them; modeling.py, the
network's source, for `AutoModel.from_pretrained(FOLDER, trust_remote_code=True)` where
candlemark is not installed; the tokenizer's files; preprocessor_config.json for
`AutoImageProcessor`; training.json, what the caller says of the training; and on request
pytorch_model.bin, the same weights for those who load them by that name.

A folder appears whole or not at all. candlemark itself never runs the modeling.py of a folder.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from candlemark.errors import ModelError
from candlemark.models.building import first_line, quiet
from candlemark.models.files import find_file
from candlemark.models.fusion.building import Fusion, model_facts
from candlemark.models.fusion.fields import check_fields
from candlemark.models.fusion.lora import merge_low_rank
from candlemark.models.fusion.modeling import FORMAT, FusionConfig, FusionModel
from candlemark.models.fusion.vocabulary import read_tokenizer, write_tokenizer
from candlemark.models.weights import PICKLE_NAME, SHARDED_NAME, find_weights

CONFIG = "config.json"
TRAINING = "training.json"
PREPROCESSOR = "preprocessor_config.json"
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json")
_OTHER_TOKENIZER = ("special_tokens_map.json", "vocab.txt", "vocab.json", "merges.txt")
_OURS = frozenset(
    {CONFIG, TRAINING, PREPROCESSOR, PICKLE_NAME, SHARDED_NAME, "modeling.py"}
    | {*_TOKENIZER, *_OTHER_TOKENIZER}
)


def save_fusion(
    fusion: Fusion, folder: Path | str, *, training: Mapping[str, Any], pickle: bool = False
) -> Path:
    """Write the model as `folder`; the path of the folder.

    training: how it was trained and what came of it; kept as training.json
    pickle: also write pytorch_model.bin

    Low-rank updates are merged in what is written, not in `fusion`. A model folder that is
    there already is replaced as a whole; files in it that are none of ours, such as a card,
    stay. The same model always gives the same bytes.

    Raises ModelError: the folder holds something else, or cannot be written; `training` is
    nothing that JSON can hold.
    """
    asked, folder = Path(folder), Path(folder).resolve()  # what a link names is what is replaced
    _check_place(folder)
    try:
        told = json.dumps(training, indent=2, sort_keys=True, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise ModelError(f"training cannot be kept as JSON: {first_line(error)}") from error
    scratch = folder.parent / f".{folder.name}.{secrets.token_hex(8)}"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch.mkdir()
        _write(fusion, scratch, told, pickle=pickle)
        _take_along(folder, scratch)
        _replace(folder, scratch)
    except OSError as error:
        raise ModelError(f"cannot write {folder}: {error}") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return asked


def load_fusion(model: Path | str, *, allow_pickle: bool = False) -> Fusion:
    """The model of a folder, or of an id on the Hub: on the CPU, in float32, ready to be asked.

    allow_pickle: also take pytorch_model.bin where there are no safetensors; tensors only

    Raises ModelError: there is no such model; it is no fusion model, or one of a version that
    this candlemark does not read; a file is damaged or missing.
    """
    name = str(model)
    file = find_file(name, CONFIG)
    if file is None:
        raise ModelError(
            f"{name} holds no {CONFIG}, so it is no model; train one with: candlemark fuse train"
        )
    folder = file.parent
    config = _read_config(folder)
    weights = find_weights(name, allow_pickle=allow_pickle)
    tokenizer = _read_tokenizer(name, folder) if config.reads_text else None
    network = _read_network(folder, config, weights)
    facts = model_facts(network, tokenizer) | {"loaded_from": name, "weights_file": weights.name}
    return Fusion(model=network.eval(), tokenizer=tokenizer, facts=facts)


def read_training(model: Path | str) -> dict[str, Any]:
    """What training.json of the folder or Hub id tells; empty where there is none.

    Raises ModelError: it is damaged.
    """
    file = find_file(str(model), TRAINING)
    return {} if file is None else _json(file)


def _write(fusion: Fusion, scratch: Path, training: str, *, pickle: bool) -> None:
    merged = merge_low_rank(fusion.model)
    with quiet():
        merged.save_pretrained(scratch)
        if fusion.tokenizer is not None:
            write_tokenizer(fusion.tokenizer, scratch)
    if fusion.config.reads_image:
        text = json.dumps(_preprocessor(fusion.config), indent=2, sort_keys=True) + "\n"
        (scratch / PREPROCESSOR).write_text(text, encoding="utf-8")
    (scratch / TRAINING).write_text(training, encoding="utf-8")
    if pickle:
        # The names in memory, so that `load_state_dict` takes the file as it is. The library
        # gives the safetensors some names that encoders were published with, and reads both.
        state = {name: tensor.cpu().clone() for name, tensor in merged.state_dict().items()}
        torch.save(state, scratch / PICKLE_NAME)
    umask = os.umask(0)
    os.umask(umask)
    for path in scratch.iterdir():
        path.chmod(0o666 & ~umask)  # safetensors are written for their owner alone


def _preprocessor(config: FusionConfig) -> dict[str, Any]:
    """What `AutoImageProcessor` needs to make of a chart what `Fusion.prepare` makes of it."""
    high, wide = config.chart["image_shape"]
    return {
        "image_processor_type": "ViTImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"height": high, "width": wide},
        "resample": 2,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(config.chart["mean"]),
        "image_std": list(config.chart["std"]),
    }


def _check_place(folder: Path) -> None:
    """Raise ModelError where a save would delete what is no model."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ModelError(f"{folder} is a file; a model is written as a folder")
    if any(folder.iterdir()) and not _is_fusion(folder / CONFIG):
        raise ModelError(f"{folder} holds something that is no fusion model; name another folder")


def _is_fusion(file: Path) -> bool:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and found.get("model_type") == FusionConfig.model_type


def _take_along(folder: Path, scratch: Path) -> None:
    """Copy what lies in the folder and is not written by a save."""
    if not folder.is_dir():
        return
    for entry in folder.iterdir():
        if entry.name in _OURS or entry.name.endswith(".safetensors"):
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.copytree(entry, scratch / entry.name, symlinks=True)
        else:
            shutil.copy2(entry, scratch / entry.name, follow_symlinks=False)


def _replace(folder: Path, scratch: Path) -> None:
    """Put `scratch` in the place of `folder`; what was there goes when the new one stands."""
    if not folder.exists():
        scratch.rename(folder)
        return
    old = folder.parent / f".{folder.name}.{secrets.token_hex(8)}"
    folder.rename(old)
    try:
        scratch.rename(folder)
    except OSError:
        old.rename(folder)
        raise
    shutil.rmtree(old)


def _read_config(folder: Path) -> FusionConfig:
    file = folder / CONFIG
    found = _json(file)
    kind = found.get("model_type")
    if kind != FusionConfig.model_type:
        raise ModelError(f"{folder} is a model of type {kind!r}, not {FusionConfig.model_type!r}")
    version = found.get("format")
    if not isinstance(version, int) or version < 1:
        raise ModelError(f"{file} names no format (found {version!r}): it is damaged")
    if version > FORMAT:
        raise ModelError(
            f"{folder} has format {version}; this candlemark reads up to {FORMAT}: update it with "
            "python -m pip install --upgrade candlemark"
        )
    if version < FORMAT:
        raise ModelError(
            f"{folder} has format {version}; this candlemark reads {FORMAT}: train it again"
        )
    try:
        config: FusionConfig = FusionConfig.from_dict(found)
    except Exception as error:  # the library reads fields of its own, each in its own way
        raise ModelError(f"{file} is damaged: {first_line(error)}") from error
    check_fields(config, where=str(file))
    return config


def _read_tokenizer(name: str, folder: Path) -> Any:
    for file in (*_TOKENIZER, *_OTHER_TOKENIZER):  # of a model on the Hub, this brings them
        if find_file(name, file) is None and file in _TOKENIZER:
            raise ModelError(f"{name} lacks {file}: a model that reads texts needs it")
    return read_tokenizer(folder, name=name)


def _read_network(folder: Path, config: FusionConfig, weights: Path) -> FusionModel:
    """The network with all of its weights. Raises ModelError: any of them is missing."""
    try:
        with quiet(), torch.random.fork_rng(devices=[]):
            network, info = FusionModel.from_pretrained(
                str(weights.parent),
                config=config,
                output_loading_info=True,
                local_files_only=True,
                use_safetensors=weights.name != PICKLE_NAME,
                dtype=torch.float32,
            )
    except Exception as error:  # safetensors, torch and each encoder have errors of their own
        raise ModelError(
            f"{weights} is damaged, or of another model: {type(error).__name__}: "
            f"{first_line(error)}"
        ) from error
    missing = sorted({str(name) for name in info["missing_keys"]})
    unknown = sorted({str(name) for name in info["unexpected_keys"]})
    if missing or unknown:
        what = f"lacks {missing[0]}" if missing else f"holds {unknown[0]}, which has no place"
        raise ModelError(
            f"{weights} does not belong to {folder / CONFIG}: it {what} "
            f"({len(missing)} missing, {len(unknown)} unknown)"
        )
    model: FusionModel = network
    for tensor in (*model.parameters(), *model.buffers()):
        # Into memory of torch's own: a safetensors file leaves them off its boundaries, from
        # where products with vectors are summed in another order, to other last digits.
        tensor.data = tensor.data.clone()
    return model


def _json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{file} is damaged: {first_line(error)}") from error
    if not isinstance(found, dict):
        raise ModelError(f"{file} is damaged: it holds no fields")
    return found
