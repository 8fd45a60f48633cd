"""What a model that reads texts is asked with: one for each class, stated before any answer.

    read_prompts(spec)       # {"background": "healthy tissue", "lesion": "a bright tumor"}

Needs no torch, so that prompts that do not fit are refused while a benchmark is planned.
"""

from __future__ import annotations

from collections.abc import Iterable

from candlemark.errors import ModelError
from candlemark.models.segmentation.base import SegmenterSpec
from candlemark.models.segmentation.class_map import BACKGROUND


def read_prompts(spec: SegmenterSpec) -> dict[str, str]:
    """Text by name of the class, background first.

    spec.options["prompts"]: the same, in any order; names are compared without regard to case
        and the white space around them

    Raises ModelError: names and classes do not match one to one, or a text says nothing.
    """
    given = spec.options.get("prompts")
    names = [BACKGROUND, *spec.classes.values()]
    if not given:
        shown = ", ".join(f"{name}: ..." for name in names)
        raise ModelError(
            f"{spec.source} is asked with texts, and none is given; give it in the config "
            f"prompts: {{{shown}}}"
        )
    _refuse_twice(names, f"{spec.source} is asked by the names of classes, of which", "classes")
    _refuse_twice(given, f"{spec.source} has prompts of which", "prompts")
    texts = {_key(name): str(text).strip() for name, text in given.items()}
    wanted = {_key(name): name for name in names}
    lacking = [name for key, name in wanted.items() if not texts.get(key)]
    if lacking:
        raise ModelError(
            f"{spec.source} has no prompt for {', '.join(lacking)}; each class needs one, and "
            f"{BACKGROUND} too, because a place gets the class of the likest text"
        )
    spare = [str(name) for name in given if _key(name) not in wanted]
    if spare:
        raise ModelError(
            f"{spec.source} has a prompt for {', '.join(spare)}, which is no class; "
            f"classes are {', '.join(names)}"
        )
    same = [name for key, name in wanted.items() if list(texts.values()).count(texts[key]) > 1]
    if same:
        raise ModelError(f"{spec.source} has one prompt for {' and '.join(same)}; word them apart")
    return {name: texts[key] for key, name in wanted.items()}


def _key(name: object) -> str:
    return str(name).strip().casefold()


def _refuse_twice(names: Iterable[str], said: str, section: str) -> None:
    """Two that differ in case alone would be taken for one, and the first never found."""
    known = [str(name) for name in names]
    keys = [_key(name) for name in known]
    twice = [name for name, key in zip(known, keys, strict=True) if keys.count(key) > 1]
    if twice:
        raise ModelError(f"{said} two have one name ({', '.join(twice)}); rename one in {section}")
