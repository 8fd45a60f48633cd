"""What a user's own model answers, whatever its form, as labels of the reference.

    Z, Y, X  voxels of the case; C  channels

    form          means
    (Z, Y, X)     integers or bool: labels; floats: the probability of the one class
    (C, Z, Y, X)  floats: one score a class, the highest wins; one channel as above

The numbers of a model are the reference's own unless a class map says otherwise. Where the
reference has one class, whatever its number, a model that knows only "it or not" (truth values,
probabilities, 0 and 255) means that one.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from candlemark.errors import ModelError
from candlemark.models.segmentation.base import Labels
from candlemark.models.segmentation.failures import CaseError, not_a_number
from candlemark.models.segmentation.pixels import mapped

WHITE = 255
"""What a mask saved as a picture has instead of 1."""

UNCHANGED: Mapping[str, Any] = {"threshold": 0.5, "activation": "auto"}
"""What decides of a single channel, as it is where nobody says otherwise."""

ROUNDING = 1e-3
"""By which a probability of 16 bits may leave 0 to 1."""


def own_map(class_map: Mapping[Any, Any] | None, classes: Mapping[int, str]) -> dict[int, int]:
    """Label of the reference by the model's own label; empty where no map was given.

    class_map: as people write it: {"3": "lesion"}, {3: 1}; "background" and 0 are the background
    classes: name by label of the reference

    Raises ModelError: a key that is no number, or a value that is no class of the reference.
    """
    labels = {name: label for label, name in classes.items()} | {"background": 0}
    found: dict[int, int] = {}
    for own, to in (class_map or {}).items():
        if not str(own).isdecimal():
            raise ModelError(
                f"the class map names the model's class '{own}'; a model of one's own has numbers: "
                f"class_map: {{1: {next(iter(classes.values()), 'lesion')}}}"
            )
        if str(to).isdecimal():
            label = int(to)
            if label not in labels.values():
                raise ModelError(
                    f"the class map gives label {label}; the references have {_listed(classes)}"
                )
        elif str(to) in labels:
            label = labels[str(to)]
        else:
            near = difflib.get_close_matches(str(to), labels, n=1, cutoff=0.5)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            raise ModelError(
                f"the class map gives '{to}'; the references have {_listed(classes)}{hint}"
            )
        found[int(own)] = label
    return found


def one_class(classes: Mapping[int, str], mapping: Mapping[int, int]) -> int:
    """The label that a model with one class means.

    Raises ModelError: the reference has several, and no class map says which one.
    """
    if 1 in mapping:
        return mapping[1]
    if len(classes) == 1:
        return next(iter(classes))
    raise ModelError(
        f"the model answers with one class, and the references have {_listed(classes)}; say "
        f"which one it is: class_map: {{1: {next(iter(classes.values()), 'lesion')}}}"
    )


def channel_table(
    channels: int, classes: Mapping[int, str], mapping: Mapping[int, int]
) -> npt.NDArray[np.uint8]:
    """The label of each channel of scores: uint8 (channels,).

    By the class map; without one, two channels are background and the reference's one class,
    and else a channel is the label of its number.

    Raises ModelError: more channels than labels can number.
    """
    if mapping:
        unknown = [own for own in mapping if own >= channels]
        if unknown:
            raise ModelError(
                f"the class map names class {unknown[0]}; the model gives channels "
                f"0 to {channels - 1}"
            )
        table = np.zeros(channels, np.uint8)
        for own, label in mapping.items():
            table[own] = label
        return table
    if channels == 2 and len(classes) == 1:
        return np.array([0, next(iter(classes))], np.uint8)
    if channels > 256:
        raise ModelError(f"the model gives {channels} channels; give it a class map")
    return np.arange(channels, dtype=np.uint8)


def refuse_unread(answer: str, **stated: Any) -> None:
    """Refuse what is only read of a single channel, where it was changed for another answer.

    answer: what the model gives instead; stated: threshold, activation

    Raises ModelError: names what is to be taken out.
    """
    for name, value in stated.items():
        if value != UNCHANGED[name]:
            raise ModelError(f"the model gives {answer}, which reads no {name}; take {name} out")


def answer_labels(
    answer: npt.NDArray[Any],
    shape: tuple[int, int, int],
    *,
    classes: Mapping[int, str],
    mapping: Mapping[int, int],
    threshold: float,
) -> Labels:
    """An answer in any of the forms above: uint8 (Z, Y, X).

    threshold: above which a probability of the one class is that class

    Raises CaseError: the answer is not of the case's shape, or holds no labels, or NaN.
    """
    if answer.shape == (1, *shape):
        answer = answer[0]
    scores = answer.ndim == 4 and answer.shape[1:] == shape
    if answer.shape != shape and not (scores and np.issubdtype(answer.dtype, np.floating)):
        raise CaseError(
            "wrong_shape",
            f"the answer is {answer.dtype} of shape {answer.shape}; allowed: {shape}, or scores "
            f"of shape (classes, {', '.join(map(str, shape))})",
        )
    if np.issubdtype(answer.dtype, np.floating) and np.isnan(answer.max()):
        raise not_a_number()
    if scores or not np.issubdtype(answer.dtype, np.floating):
        refuse_unread("a score a class" if scores else "labels", threshold=threshold)
    if scores:
        won = answer.argmax(axis=0)
        return np.asarray(channel_table(len(answer), classes, mapping)[won])
    if np.issubdtype(answer.dtype, np.floating):
        _refuse_no_probability(answer)
        return np.where(answer > threshold, one_class(classes, mapping), 0).astype(np.uint8)
    if answer.dtype == np.bool_:
        return np.where(answer, one_class(classes, mapping), 0).astype(np.uint8)
    if not mapping and len(classes) == 1 and WHITE not in classes and _is_white(answer):
        mapping = {WHITE: next(iter(classes))}
    return whole_labels(answer, mapping)


def _refuse_no_probability(answer: npt.NDArray[Any]) -> None:
    """CaseError where floats leave 0 to 1; a mask of 0 and 255 alone may be of any type."""
    low, high = float(answer.min(initial=0)), float(answer.max(initial=0))
    if (low < -ROUNDING or high > 1 + ROUNDING) and not _is_white(answer):
        raise CaseError(
            "wrong_labels",
            f"the answer is {answer.dtype} from {low:.4g} to {high:.4g}, and a probability is 0 to "
            "1; return labels as integers, or put logits through a sigmoid",
        )


def _is_white(answer: npt.NDArray[Any]) -> bool:
    """Whether it holds 0 and 255 alone, as masks that were saved as pictures do."""
    return bool(answer.max(initial=0) == WHITE and ((answer == 0) | (answer == WHITE)).all())


def whole_labels(values: npt.NDArray[Any], mapping: Mapping[int, int]) -> Labels:
    """Integers as labels: by the class map, or as they are.

    Raises CaseError: without a map, a value that is not 0 to 255.
    """
    if not np.issubdtype(values.dtype, np.integer):
        raise CaseError("wrong_labels", f"the answer is {values.dtype}; labels are integers")
    if mapping:
        return mapped(values, mapping)
    if values.dtype != np.uint8 and values.size:
        low, high = int(values.min()), int(values.max())
        if low < 0 or high > 255:
            raise CaseError(
                "wrong_labels",
                f"the answer holds {low if low < 0 else high}; labels are 0 to 255: "
                "give the model a class map",
            )
    return np.ascontiguousarray(values.astype(np.uint8, copy=False))


def _listed(classes: Mapping[int, str]) -> str:
    return ", ".join(f"{label} ({name})" for label, name in classes.items())
