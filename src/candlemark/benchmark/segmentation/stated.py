"""What must be there before a model can be asked: found out while planning, without torch.

    check_stated(spec)       # spec: with the classes of the references

A head's classes mean nothing until a class map says what, and a model that compares texts needs
one for each class; a command needs its program. Refused when its turn came, a run of hours would
have to be started again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from candlemark.benchmark.segmentation.command import split_command
from candlemark.benchmark.segmentation.protocols import LEARNING
from candlemark.errors import ModelError
from candlemark.models.inference.base import Described
from candlemark.models.segmentation.base import SegmenterSpec
from candlemark.models.segmentation.choose import describe_segmenter
from candlemark.models.segmentation.class_map import read_class_map
from candlemark.models.segmentation.texts import read_prompts

MOST_LEARNT = 254
"""Classes beside background that a head can learn: labels are bytes, and 255 is "ignored"."""


def check_stated(spec: SegmenterSpec) -> None:
    """Refuse a model whose class map, prompts or program are missing or do not fit.

    Raises ModelError: names what is missing, and shows what it could look like; or there are more
    classes than a probe can learn.
    """
    if spec.kind == "command":
        split_command(spec.source)
    if spec.kind == "hub" and spec.protocol in CHECKS:
        CHECKS[spec.protocol](spec)


def own_classes(described: Described) -> Mapping[int, str]:
    """A model's classes by number, as the library reads them from its config.

    A config that names none has `LABEL_0` and so on; one that does not count them either has two.
    """
    named = described.config.get("id2label")
    if named:
        return {int(number): str(name) for number, name in dict(named).items()}
    return {
        number: f"LABEL_{number}" for number in range(int(described.config.get("num_labels") or 2))
    }


def check_learnable(spec: SegmenterSpec) -> None:
    """Raises ModelError: there are more classes than a head that learns can tell apart."""
    if len(spec.classes) > MOST_LEARNT:
        raise ModelError(
            f"{spec.name} would have to learn {len(spec.classes)} classes, and a probe learns at "
            f"most {MOST_LEARNT}; take all as one with --binary, or leave the probe out"
        )


def _check_class_map(spec: SegmenterSpec) -> None:
    described = describe_segmenter(spec.source, weights=spec.weights)
    read_class_map(
        spec.options.get("class_map"),
        names=own_classes(described),
        classes=spec.classes,
        model=spec.source,
    )


def _check_prompts(spec: SegmenterSpec) -> None:
    read_prompts(spec)


CHECKS: dict[str, Callable[[SegmenterSpec], None]] = {
    "native_head": _check_class_map,
    "clip_dense": _check_prompts,
    **dict.fromkeys(LEARNING, check_learnable),
}
"""By protocol."""
