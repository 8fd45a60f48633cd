"""Can it do the task? Answered from architecture, head, library and files, with the reason.

    found = judge(model, "image-segmentation")
    found.level, found.reason, found.protocol
    # "ready", "SegformerForSemanticSegmentation ends in a trained head for image-segmentation; ..."

Levels, the best first:

    ready      it does the task as it is
    elsewhere  it does the task, by a library that candlemark does not load
    prompted   it does the task once it is told where or what
    backbone   it sees, and a head has to be trained on it
    unknown    nothing that can be read without its files tells
    no         it was made for something else, or there is nothing to load

The answer is what the repository's metadata says; that a head is any good only a measurement says.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from candlemark.hub.leaderboard.facts import is_weights
from candlemark.hub.leaderboard.vocabulary import (
    ALIKE_TASKS,
    ASKED_CLIP,
    ASKED_SAM,
    CLIP,
    COMPARE_TEXTS,
    DRAW_MASKS,
    ELSEWHERE,
    ENCODERS,
    HEADS,
    LOADED_FORMATS,
    LOADING,
    NOT_PROBED,
    OF_OBJECTS,
    OTHER_FORMATS,
    SAM,
    SEGMENTATION,
    SHARED_HEADS,
)
from candlemark.report.leaderboard.board import Capability
from candlemark.results.tracked import TrackedModel


def judge(model: TrackedModel, task: str | None) -> Capability:
    """Whether a model can do a task, by the first rule below that knows."""
    if task is None:
        return _of("unknown", "no task was asked for; add for=TASK to the query")
    for rule in _RULES:
        found = rule(model, task)
        if found is not None:
            return found
    tagged = f"tagged {model.task}" if model.task else "without a task"
    told = ", ".join(model.architectures) or model.model_type
    if not told and model.library in LOADING:
        what = f"{model.library} loads it, and its architecture is not told"
    elif told or model.library:
        what = f"{told or model.library} is nothing known here"
    else:
        what = "neither architecture nor library is told"
    return _of("unknown", f"{tagged}; {what}")


def _of(level: str, reason: str, protocol: str | None = None) -> Capability:
    return Capability(level=level, reason=reason, protocol=protocol)


def _nothing_to_load(model: TrackedModel, _task: str) -> Capability | None:
    if model.disabled:
        return _of("no", "the Hub has disabled the repository")
    if model.files is None or any(is_weights(name) for name in model.files):
        return None
    count = model.file_count or 0
    told = "its one file holds no" if count == 1 else f"none of its {count} files holds"
    return _of("no", f"{told} weights" if count else "it has no file")


def _adapter(model: TrackedModel, _task: str) -> Capability | None:
    if model.library != "peft" and "adapter_config.json" not in (model.files or ()):
        return None
    bases = [tag.rpartition(":")[2] for tag in model.tags if tag.startswith("base_model:")]
    base = f" of {bases[0]}" if bases else ""
    return _of("unknown", f"an adapter{base}: it can do what its base model can, and no more")


def _custom_code(model: TrackedModel, task: str) -> Capability | None:
    """A model that runs only with code from its repository."""
    if "custom_code" not in model.tags or model.model_type in ENCODERS | SAM | CLIP:
        return None
    if model.task != task and _named_head(model, task) is None:
        return None
    then = "; read that, then let it write masks (--model FOLDER)" if task in SEGMENTATION else ""
    return _of("elsewhere", f"runs code of its author's from the repository{then}")


def _another_format(model: TrackedModel, task: str) -> Capability | None:
    """Weights of a kind that neither transformers nor timm loads, and no others."""
    weights = [name for name in model.files or () if is_weights(name)]
    if _library(model) is not None or any(
        name.lower().endswith(LOADED_FORMATS) for name in weights
    ):
        return None
    found = ((end, name) for name in weights for end in OTHER_FORMATS if name.lower().endswith(end))
    end, file = next(found, ("", ""))
    if not file:
        return None
    if model.task != task and _named_head(model, task) is None:
        other = f"it is tagged {model.task}, not {task}" if model.task else "it has no task"
        return _of("unknown", f"its only weights are {OTHER_FORMATS[end]} ({file}), and {other}")
    # The parts of a model that is asked with points give no masks by themselves.
    if end in {".onnx", ".ts"} and task in SEGMENTATION and model.model_type not in SAM:
        return _alone(file)
    reason = (
        f"its only weights are {OTHER_FORMATS[end]} ({file}), which need a runtime of their own"
    )
    return _of("elsewhere", reason)


def _named_head(model: TrackedModel, task: str) -> str | None:
    """The name of its class, where that ends in a head for the task."""
    ends = HEADS.get(task)
    names = [*model.architectures, *([model.auto_class] if model.auto_class else [])]
    return next((name for name in names if name.endswith(ends)), None) if ends else None


def _has_head(model: TrackedModel, task: str) -> Capability | None:
    """A trained head for the task, by the architecture's name."""
    named = _named_head(model, task)
    if named is None or model.model_type in SAM or model.library == "mlx":
        return None
    if model.task not in {None, task} and not {model.task, task} <= ALIKE_TASKS:
        end = next(end for end in HEADS[task] if named.endswith(end))
        if end in SHARED_HEADS:
            return _of("unknown", f"{named} may do one of several tasks, and it is tagged "
                       f"{model.task}, not {task}")  # fmt: skip
    if named not in model.architectures:
        reason = f"the Hub loads it with {named}, which ends in a head for {task}"
    else:
        reason = f"{named} ends in a trained head for {task}"
    if task not in SEGMENTATION:
        return _of("ready", reason)
    if model.model_type == "clipseg":
        return _of("prompted", f"{named} segments what a text names", "clip_dense")
    if model.model_type in OF_OBJECTS:
        return _of("ready", f"{reason}; its masks are of single objects or films, and are not "
                   "asked for here")  # fmt: skip
    return _of(
        "ready", f"{reason}; the classes are its own and have to be mapped to yours", "native_head"
    )


def _promptable(model: TrackedModel, task: str) -> Capability | None:
    kind = model.model_type or ""
    if kind in SAM and task in SEGMENTATION:
        protocol = "sam_auto" if kind in ASKED_SAM else None
        if task == "mask-generation":
            return _of("ready", f"{kind} makes masks, of whatever it is pointed at", protocol)
        reason = (
            f"{kind} outlines what a box or a point shows it and names no class; with a grid of "
            "points it needs no prompt"
        )
        return _of("prompted", reason, protocol)
    classifies = any(name.endswith("ForImageClassification") for name in model.architectures)
    if kind in CLIP and task in SEGMENTATION and not classifies:
        reason = f"{kind} compares patches with texts: rough maps of what prompts name"
        return _of("prompted", reason, "clip_dense" if kind in ASKED_CLIP else None)
    if task == "zero-shot-image-classification" and kind in COMPARE_TEXTS and not classifies:
        return _of("ready", f"{kind} compares pictures with texts")
    return None


def _elsewhere(model: TrackedModel, task: str) -> Capability | None:
    library = _library(model)
    if library is None:
        return None
    if library == "open_clip" and task == "zero-shot-image-classification":
        return _of("elsewhere", "open_clip compares pictures with texts; transformers may not")
    if library == "open_clip" and task in SEGMENTATION:
        return _of("backbone", "open_clip's vision tower sees; a head has to be trained on it",
                   "linear_probe")  # fmt: skip
    says = library.startswith("nnunet") or (library in DRAW_MASKS and _says_segmentation(model))
    fits = model.task == task or (task in SEGMENTATION and says)
    if not fits:
        other = f"tagged {model.task}, not {task}" if model.task else "not tagged with a task"
        return _of("unknown", f"{ELSEWHERE[library]}, but it is {other}")
    then = ""
    if task in SEGMENTATION:
        then = "; let it write masks and compare the folder (--model FOLDER)"
    return _of("elsewhere", f"{ELSEWHERE[library]}{then}")


def _library(model: TrackedModel) -> str | None:
    """The library of the table that the model is for, by its name, tags or files."""
    named = (model.library or "").lower()
    if named in ELSEWHERE:
        return named
    if named in {"transformers", "timm"}:
        return None
    tags = {tag.lower() for tag in model.tags}
    tagged = next((name for name in ELSEWHERE if name in tags), None)
    if tagged is not None or model.architectures:
        return tagged
    names = {name.rpartition("/")[2] for name in model.files or ()}
    if {"plans.json", "dataset.json"} <= names or "nnunet" in model.id.lower():
        return "nnunet"
    return "open_clip" if "open_clip_config.json" in names else None


def _says_segmentation(model: TrackedModel) -> bool:
    words = " ".join([model.task or "", *model.tags, model.id]).lower()
    return bool(re.search(r"segment|nnu-?net|\bunet\b|swin-?unetr|-seg\b", words))


def _exported(model: TrackedModel, task: str) -> Capability | None:
    """A file that runs by itself, beside weights that nothing known here loads."""
    if model.architectures or model.task != task or task not in SEGMENTATION:
        return None
    ready = [name for name in model.files or () if name.lower().endswith((".onnx", ".ts"))]
    return _alone(ready[0]) if ready else None


def _alone(file: str) -> Capability:
    kind = "ONNX" if file.lower().endswith(".onnx") else "TorchScript"
    return _of("elsewhere", f"{kind} file {file}: give it to --model once downloaded")


def _sees(model: TrackedModel, task: str) -> Capability | None:
    """A vision encoder: a backbone for segmentation, done for features."""
    timm = (model.library or "").lower() == "timm" or "timm" in model.tags
    if timm and task == "image-classification" and model.task in {None, task}:
        return _of("ready", "timm loads it with its trained classifier")
    if not timm and model.model_type not in ENCODERS | CLIP:
        return None
    what = "timm's backbone" if timm else f"{model.model_type} encoder"
    if task == "image-feature-extraction":
        return _of("ready", f"{what}: its features can be read")
    head = next((name for name in model.architectures if "For" in name), None)
    trained = f", its head ({head}) is for something else" if head else ""
    if task in SEGMENTATION or task in {"image-classification", "object-detection"}:
        probed = task in SEGMENTATION and not NOT_PROBED & set(model.architectures)
        protocol = "linear_probe" if probed else None
        return _of("backbone", f"{what}{trained}: a head for {task} has to be trained", protocol)
    return None


def _tagged(model: TrackedModel, task: str) -> Capability | None:
    """Loaded by a library that is for models of that tag, and no body without a head."""
    if task in SEGMENTATION - {"mask-generation"} or model.task != task:
        return None
    if model.library not in LOADING:
        return None
    name = model.architectures[0] if model.architectures else model.library
    if task in HEADS and (not model.architectures or name.endswith("Model")):
        return None  # a head is needed, and this is the name of a model without one
    return _of("ready", f"{name}, tagged {task} and loaded by {model.library}")


def _made_for_else(model: TrackedModel, task: str) -> Capability | None:
    """A head that is for another task, where its author does not say that it is for this one."""
    if model.task == task:
        return None
    for name in model.architectures:
        others = [one for one, ends in HEADS.items() if one != task and name.endswith(ends)]
        if others:
            other = model.task or (others[0] if len(others) < 3 else "text, sound or pictures")
            return _of("no", f"{name} is for {other}, not for {task}")
    return None


_RULES: tuple[Callable[[TrackedModel, str], Capability | None], ...] = (
    _nothing_to_load,
    _adapter,
    _custom_code,
    _another_format,
    _has_head,
    _promptable,
    _elsewhere,
    _exported,
    _sees,
    _tagged,
    _made_for_else,
)
"""In this order; the first that has an answer gives it."""
