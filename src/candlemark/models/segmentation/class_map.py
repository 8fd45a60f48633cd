"""What a model's own classes mean among the reference's: stated by the user, never guessed.

    classes = read_class_map(
        {"tumor": "lesion", "3": 1},
        names={0: "background", 1: "liver", 2: "tumor", 3: "cyst"},
        classes={1: "lesion"},
        model="owner/model",
    )
    classes        # {2: 1, 3: 1}; what is not named is background

Two models may call one thing by two names and two things by one, so that a map found by likeness
of names would give scores that nobody stated. Where none is given, the message says what it could
look like.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

from candlemark.errors import ModelError

BACKGROUND = "background"
SHOWN = 8
"""Names of a long list that a message shows."""


def read_class_map(
    given: Mapping[str, str | int] | None,
    *,
    names: Mapping[int, str],
    classes: Mapping[int, str],
    model: str,
) -> dict[int, int]:
    """Label of the reference by the model's class, background (0) left out.

    given: label or name of the reference's class, by number or name of the model's
    names: the model's classes by their number
    classes: the reference's by label, background left out

    Names are compared without regard to case and the white space around them.

    Raises ModelError: no map; a class that either side does not have, with the nearest; a name
    that the model has twice; a map that says nothing of any class of the reference.
    """
    if not given:
        raise ModelError(_no_map(names, classes, model))
    found: dict[int, int] = {}
    for key, value in given.items():
        own = _own_class(key, names, model)
        label = _label(value, classes)
        if found.get(own, label) != label:
            raise ModelError(
                f"the class map gives class {own} of {model} two labels, {found[own]} and {label}; "
                "name it once"
            )
        found[own] = label
    found = {own: label for own, label in found.items() if label}
    if not found:
        raise ModelError(
            f"the class map of {model} maps every class to background; map at least one to: "
            f"{_listed(classes.values())}"
        )
    return found


def unmapped(found: Mapping[int, int], classes: Mapping[int, str]) -> list[str]:
    """The reference's classes that no class of the model stands for; they are never found."""
    return [name for label, name in classes.items() if label not in set(found.values())]


def _own_class(key: str, names: Mapping[int, str], model: str) -> int:
    text = str(key).strip()
    matches = [number for number, name in names.items() if _same(name, text)]
    if len(matches) > 1:
        raise ModelError(
            f"{model} has {len(matches)} classes called {text!r} "
            f"({', '.join(str(number) for number in matches)}); name them by number"
        )
    if matches:
        return matches[0]
    if text.isdecimal():
        if int(text) in names:
            return int(text)
        raise ModelError(
            f"the class map names class {text} of {model}, which has {len(names)}: "
            f"{min(names)} to {max(names)}"
        )
    near = _nearest(text, names.values())
    hint = f"did you mean {near!r}?" if near else f"it has: {_listed(names.values())}"
    raise ModelError(f"{model} has no class {text!r}; {hint}")


def _label(value: str | int, classes: Mapping[int, str]) -> int:
    text = str(value).strip()
    for label, name in classes.items():
        if _same(name, text):
            return label
    if _same(text, BACKGROUND) or text == "0":
        return 0
    if text.isdecimal() and int(text) in classes:
        return int(text)
    near = _nearest(text, classes.values())
    known = ", ".join(f"{label}={name}" for label, name in classes.items())
    hint = f"did you mean {near!r}?" if near else f"it has: {known}, and 0={BACKGROUND}"
    raise ModelError(f"the reference has no class {text!r}; {hint}")


def _no_map(names: Mapping[int, str], classes: Mapping[int, str], model: str) -> str:
    wanted = next(iter(classes.values()), "lesion")
    near = _nearest(wanted, names.values()) or next(iter(names.values()), "0")
    return (
        f"nobody said what the classes of {model} mean ({_listed(names.values())}); give it a "
        f"class_map in the config, such as class_map: {{{near!r}: {wanted!r}}}"
    )


def _same(one: str, other: str) -> bool:
    return one.strip().casefold() == other.strip().casefold()


def _nearest(text: str, names: Iterable[str]) -> str | None:
    known = {name.casefold(): name for name in names}
    near = difflib.get_close_matches(text.casefold(), known, n=1, cutoff=0.5)
    return known[near[0]] if near else None


def _listed(names: Iterable[str]) -> str:
    known = list(names)
    more = f" and {len(known) - SHOWN} more" if len(known) > SHOWN else ""
    return ", ".join(known[:SHOWN]) + more
