"""What a model is, found from its own config before anything heavy is loaded.

    described = describe("openai/whisper-tiny", weights="random")
    described.model_task        # "speech-seq2seq"
    described.model_class       # "WhisperForConditionalGeneration"

Needs no torch, so a benchmark can be planned, and refused, at once. Only a timm name outside
the catalog has to be asked of timm, and a `python:` function of its module.
"""

from __future__ import annotations

import difflib
import json
import re
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from candlemark.errors import ModelError
from candlemark.models.catalog import CATALOG, ENTRY_POINT_GROUP, ModelSpec, resolve
from candlemark.models.files import cached_file, find_file
from candlemark.models.inference.base import MODEL_TASKS, Described
from candlemark.models.inference.classes import task_of_class, task_of_type
from candlemark.models.inference.known import ALIASES, KNOWN
from candlemark.models.inference.tiny import TINY, Recipe


def describe(model_id: str, *, weights: str = "pretrained") -> Described:
    """What `model_id` is: a Hub id, timm name, folder, `tiny:NAME` or `python:MODULE:FUNCTION`.

    weights: "pretrained", "random", or a path. A path with a config.json beside it tells the
        task, since a checkpoint may do something else than the model it was made from.

    Of a known model nothing is asked of the network; of any other Hub id, its config.json,
    from the Hub cache first.

    Raises ModelError: nobody knows the id, the Hub cannot be reached, or what the model does is
    nothing that is measured.
    """
    kind, _, name = model_id.partition(":")
    if kind == "python":
        from candlemark.models.inference.custom import describe_function

        return describe_function(model_id)
    recipe = _tiny(name) if kind == "tiny" else KNOWN.get(ALIASES.get(model_id, model_id))
    return (
        _from_files(model_id, recipe, weights)
        or _from_tables(model_id, recipe, weights)
        or _published(model_id, weights)
    )


def _from_files(model_id: str, recipe: Recipe | None, weights: str) -> Described | None:
    """By the config beside the weights, or in the folder that the model is; None: neither."""
    beside = _config_beside(weights)
    if beside is not None:
        found = _from_config(model_id, beside, weights, on_hub=False)
        return replace(found, config_class=recipe.config_class) if recipe else found
    if not model_id or not Path(model_id).is_dir():
        return None
    path = Path(model_id) / "config.json"
    if not path.is_file():
        raise ModelError(f"{model_id} holds no config.json; a model folder needs one")
    return _from_config(model_id, path, weights, on_hub=False)


def _from_tables(model_id: str, recipe: Recipe | None, weights: str) -> Described | None:
    """By the tables of chart models, known models and small ones; None: in none of them."""
    if model_id in CATALOG or f"timm/{model_id}" in CATALOG:
        return _from_spec(model_id, resolve(model_id), weights)
    if recipe is None:
        return None
    if model_id.startswith("tiny:"):
        # There are no other weights for it than random ones, and its name says so.
        weights = "random" if weights == "pretrained" else weights
        return _from_recipe(model_id, recipe, weights, on_hub=False)
    cached = cached_file(model_id, "config.json") if weights == "pretrained" else None
    if cached is not None:
        return _from_config(model_id, cached, weights, on_hub=True)
    return _from_recipe(model_id, recipe, weights, on_hub=True)


def _published(model_id: str, weights: str) -> Described:
    """A model of the Hub or of timm that no table here holds."""
    if model_id.startswith((".", "/", "~")) or model_id.count("/") > 1:
        raise ModelError(f"there is no model folder {model_id}")
    offered = any(entry.name == model_id for entry in entry_points(group=ENTRY_POINT_GROUP))
    if offered or model_id.startswith("timm/"):
        return _from_spec(model_id, resolve(model_id), weights)
    if not _could_be_id(model_id):
        raise _unknown(model_id)
    path = cached_file(model_id, "config.json")
    if path is None and "/" not in model_id:
        import timm

        if timm.is_model(model_id):
            return _from_spec(model_id, resolve(model_id, library="timm"), weights)
    path = path or _asked_of_hub(model_id)
    return _from_config(model_id, path, weights, on_hub=True)


def _asked_of_hub(model_id: str) -> Path:
    """The config.json of a Hub id; ids without an owner are old, and mostly slips of the pen."""
    try:
        path = find_file(model_id, "config.json")
    except ModelError as error:
        raise error if "/" in model_id else _unknown(model_id, str(error)) from error
    if path is None:
        raise ModelError(f"{model_id} has no config.json, so nobody can tell how to build it")
    return path


def _tiny(name: str) -> Recipe:
    if name not in TINY:
        near = difflib.get_close_matches(name, TINY, n=1, cutoff=0.5)
        hint = f"did you mean 'tiny:{near[0]}'?" if near else f"known: {', '.join(TINY)}"
        raise ModelError(f"'tiny:{name}' is no small model; {hint}")
    return TINY[name]


def _from_recipe(model_id: str, recipe: Recipe, weights: str, *, on_hub: bool) -> Described:
    return Described(
        id=model_id,
        library="transformers",
        model_task=recipe.model_task,
        model_class=recipe.model_class,
        weights=weights,
        config_class=recipe.config_class,
        config=recipe.config,
        on_hub=on_hub,
    )


def _from_spec(model_id: str, spec: ModelSpec, weights: str) -> Described:
    """An image classifier as the chart benchmark knows it."""
    return Described(
        id=model_id,
        library=spec.library,
        model_task="image-classification",
        model_class=spec.architecture,
        weights=weights,
        config_class=spec.config_class,
        config=spec.config,
        folder=spec.folder,
        on_hub=spec.folder is None,
        spec=spec,
    )


def _from_config(model_id: str, path: Path, weights: str, *, on_hub: bool) -> Described:
    """By config.json: timm writes "architecture", transformers "model_type"."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} is no readable JSON: {error}") from error
    model_type, timm_name, names = _names_in(config, path)
    if timm_name and not model_type:
        without_head = config.get("num_classes") == 0
        return Described(
            id=model_id,
            library="timm",
            model_task="image-features" if without_head else "image-classification",
            model_class=timm_name,
            weights=weights,
            config=config,
            folder=path.parent,
            on_hub=on_hub,
            spec=resolve(str(path.parent)),
        )
    if not model_type:
        raise ModelError(
            f"{path} names neither a timm 'architecture' nor a transformers 'model_type'"
        )
    found = task_of_class(names[0], model_type) if names else task_of_type(model_type)
    if found is None:
        raise _not_measured(model_id, names[0] if names else f"a model of type {model_type}")
    return Described(
        id=model_id,
        library="transformers",
        model_task=found[0],
        model_class=found[1],
        weights=weights,
        config=config,
        folder=path.parent,
        on_hub=on_hub,
    )


def _names_in(config: Any, path: Path) -> tuple[str | None, str | None, list[str]]:
    """(model_type, architecture, architectures) of a config.json: its kind, in two dialects.

    Raises ModelError: they are not what either library writes.
    """
    if not isinstance(config, dict):
        raise ModelError(f"{path} holds {type(config).__name__}; a config is an object of names")
    model_type, timm_name = config.get("model_type"), config.get("architecture")
    names = config.get("architectures") or []
    for key, value in (("model_type", model_type), ("architecture", timm_name)):
        if not isinstance(value, str | None):
            raise ModelError(f"{path}: {key} = {value!r}; allowed: a name")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ModelError(f"{path}: architectures = {names!r}; allowed: a list of names")
    return model_type, timm_name, names


def _config_beside(weights: str) -> Path | None:
    """The config.json that lies with the weights at a path, if there is one."""
    if weights in {"pretrained", "random"}:
        return None
    place = Path(weights)
    path = (place if place.is_dir() else place.parent) / "config.json"
    return path if path.is_file() else None


def _could_be_id(model_id: str) -> bool:
    """Whether the Hub could have such an id at all; its client refuses others."""
    part = r"(?=.{1,96}(?:/|$))\w(?:[\w.-]*\w)?"
    if re.fullmatch(rf"(?:{part}/)?{part}", model_id, re.ASCII) is None:
        return False
    return not re.search(r"--|\.\.|\.git$", model_id)


def _not_measured(model_id: str, what: str) -> ModelError:
    return ModelError(
        f"{model_id} is {what}, which does nothing that is measured here, or runs only with "
        f"code from the Hub; measured are: {', '.join(MODEL_TASKS)}; "
        "give a function of your own with python:MODULE:FUNCTION"
    )


def _unknown(model_id: str, told: str = "") -> ModelError:
    """`told`: what became of asking the Hub."""
    known = [*CATALOG, *KNOWN, *ALIASES, *(f"tiny:{name}" for name in TINY)]
    near = difflib.get_close_matches(model_id, known, n=1, cutoff=0.5)
    hint = f"did you mean '{near[0]}'?" if near else "see: candlemark profile --help"
    asked = f"{told}; " if told else ""
    return ModelError(
        f"'{model_id}' is no known model, timm name, folder, Hub id (owner/name), tiny:NAME or "
        f"python:MODULE:FUNCTION; {asked}{hint}"
    )
