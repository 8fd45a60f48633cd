"""Which task a class of transformers is for, from the library's own tables.

    task_of_class("WhisperForConditionalGeneration", "whisper")
    # ("speech-seq2seq", "WhisperForConditionalGeneration")

The tables stand in a file of the library whose import takes torch with it; so they are read as
text, in a twentieth of a second.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path

_TABLES: tuple[tuple[str, str], ...] = (
    ("image-text-similarity", "MODEL_FOR_ZERO_SHOT_IMAGE_CLASSIFICATION_MAPPING_NAMES"),
    ("speech-ctc", "MODEL_FOR_CTC_MAPPING_NAMES"),
    ("speech-seq2seq", "MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES"),
    ("speech-classification", "MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES"),
    ("vision-language", "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES"),
    ("vision-language", "MODEL_FOR_VISION_2_SEQ_MAPPING_NAMES"),
    ("object-detection", "MODEL_FOR_OBJECT_DETECTION_MAPPING_NAMES"),
    ("image-segmentation", "MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES"),
    ("image-segmentation", "MODEL_FOR_UNIVERSAL_SEGMENTATION_MAPPING_NAMES"),
    ("image-segmentation", "MODEL_FOR_INSTANCE_SEGMENTATION_MAPPING_NAMES"),
    ("image-segmentation", "MODEL_FOR_IMAGE_SEGMENTATION_MAPPING_NAMES"),
    ("image-segmentation", "MODEL_FOR_MASK_GENERATION_MAPPING_NAMES"),
    ("image-features", "MODEL_FOR_IMAGE_MAPPING_NAMES"),
    ("image-classification", "MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES"),
    ("text-seq2seq", "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES"),
    ("text-decoder", "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES"),
    ("text-encoder", "MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES"),
    ("text-classification", "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES"),
)
"""Task and table, what is special before what is general: a class stands in several tables."""

_CAPTIONING = frozenset({"blip", "git", "vision-encoder-decoder"})
"""Kinds that put a picture into words and are asked nothing beside it."""

_BASE = "MODEL_MAPPING_NAMES"
_PRETRAINING = "MODEL_FOR_PRETRAINING_MAPPING_NAMES"
_MASKED = "MODEL_FOR_MASKED_LM_MAPPING_NAMES"
_HEADS: tuple[tuple[str, str], ...] = (
    ("text-encoder", _MASKED),
    ("text-encoder", "MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES"),
    ("text-encoder", "MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES"),
    ("text-encoder", "MODEL_FOR_MULTIPLE_CHOICE_MAPPING_NAMES"),
    ("text-encoder", "MODEL_FOR_NEXT_SENTENCE_PREDICTION_MAPPING_NAMES"),
    ("image-features", "MODEL_FOR_MASKED_IMAGE_MODELING_MAPPING_NAMES"),
)
"""Classes whose head is measured by nobody: what is under it is."""

_NEEDS_NO_HEAD = frozenset({"image-features", "text-encoder", "text-seq2seq"})
"""What a checkpoint without a head can do. (Those that read and write share theirs.)"""

Table = Mapping[str, tuple[str, ...]]


@cache
def tables() -> Mapping[str, Table]:
    """Every table of the library: name -> model type -> class names, the usual one first."""
    package = find_spec("transformers")
    if package is None or package.origin is None:
        return {}
    file = Path(package.origin).parent / "models" / "auto" / "modeling_auto.py"
    found: dict[str, Table] = {}
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        match node:
            case ast.Assign(
                targets=[ast.Name(id=name)],
                value=ast.Call(func=ast.Name(id="OrderedDict"), args=[ast.List(elts=rows)]),
            ):
                found[name] = dict(_row(row) for row in rows if isinstance(row, ast.Tuple))
            case _:
                pass
    return found


def task_of_class(class_name: str, model_type: str) -> tuple[str, str] | None:
    """Task and class to build for the class that a config names first; None: not measured.

    A class whose head is measured by nobody gives what is under it.
    """
    for task, table in _TABLES:
        if any(class_name in names for names in tables().get(table, {}).values()):
            return _narrowed(task, model_type), class_name
    base = _usual(_BASE, model_type)
    if base is None:
        return None
    if class_name in {base, _usual(_PRETRAINING, model_type)}:
        return _headless(model_type, base)
    for task, table in _HEADS:
        if class_name == _usual(table, model_type):
            return task, base
    return None


def task_of_type(model_type: str) -> tuple[str, str] | None:
    """Task and class of a config that names a kind of model and no class."""
    base = _usual(_BASE, model_type)
    if base is not None and _usual(_MASKED, model_type) and not _reads_and_writes(model_type):
        return "text-encoder", base
    for task, table in _TABLES:
        name = _usual(table, model_type)
        if name is not None:
            return _narrowed(task, model_type), name
    return None


def _headless(model_type: str, base: str) -> tuple[str, str] | None:
    if model_type.endswith("vision_model"):
        return "image-features", base
    if _usual("MODEL_FOR_CAUSAL_LM_MAPPING_NAMES", model_type) and not _reads_and_writes(
        model_type
    ):
        return "text-encoder", base
    found = task_of_type(model_type)
    return found if found is not None and found[0] in _NEEDS_NO_HEAD else None


def _reads_and_writes(model_type: str) -> bool:
    return _usual("MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES", model_type) is not None


def _narrowed(task: str, model_type: str) -> str:
    captions = task == "vision-language" and model_type in _CAPTIONING
    return "image-captioning" if captions else task


def _usual(table: str, model_type: str) -> str | None:
    """The class of a kind of model in a table, the first where there are several."""
    names = tables().get(table, {}).get(model_type)
    return names[0] if names else None


def _row(row: ast.Tuple) -> tuple[str, tuple[str, ...]]:
    model_type, names = ast.literal_eval(row)
    return model_type, (names,) if isinstance(names, str) else tuple(names)
