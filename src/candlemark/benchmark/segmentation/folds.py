"""Which cases a head learns from and which it answers for: no case is on both sides.

    folds = deal(cases, folds=5, seed=0)
    folds[0].train, folds[0].test       # ids; every case is in the test of exactly one fold
    audit_split(train_cases, test_cases)

A protocol that learns is cross-fitted: the cases are dealt into folds, each fold has a head of
its own that learnt from all the others, and so every row of a table is tested on every case. A
declared split is one fold whose training cases nobody is tested on.

Heads of one probe share most of their cases, so its scores hang together a little more than an
interval over cases tells; no estimate from one round of folds is free of that (Bengio and
Grandvalet, "No Unbiased Estimator of the Variance of K-Fold Cross-Validation", JMLR 5, 2004).
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from candlemark.benchmark.segmentation.scan_cases import ScanCase
from candlemark.errors import ConfigError, DatasetError
from candlemark.models.segmentation.base import Case

FEWEST = 2
"""Different scans: one to learn from and one to answer for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """Ids of the cases that a head learns from, and of those that it answers for."""

    train: tuple[str, ...]
    test: tuple[str, ...]

    def to_dict(self) -> dict[str, list[str]]:
        """JSON types only."""
        return {"train": list(self.train), "test": list(self.test)}


def deal(cases: Sequence[ScanCase], *, folds: int, seed: int) -> tuple[Fold, ...]:
    """As even folds as can be, at most as many as there are different scans.

    The same for the same ids, contents and seed, in whatever order the cases come. Copies of one
    scan, and one image with several references, stay together, because a head would know the one
    by the other.

    Raises ConfigError: there are not two different scans.
    """
    order = _alike(cases)
    if len(order) < FEWEST:
        told = "there is 1" if len(cases) == 1 else f"all {len(cases)} here are of one scan"
        raise ConfigError(
            f"a probe answers for a case by what it learnt from others, and {told}; give more "
            "cases, or leave the probes out"
        )
    random.Random(seed).shuffle(order)  # noqa: S311 - a split, no secret
    dealt: list[list[str]] = [[] for _ in range(min(folds, len(order)))]
    for group in order:
        min(dealt, key=len).extend(group)
    ids = sorted(case.id for case in cases)
    return tuple(
        Fold(train=tuple(one for one in ids if one not in test), test=tuple(sorted(test)))
        for test in dealt
    )


def _alike(cases: Sequence[ScanCase]) -> list[list[str]]:
    """Ids by scan: those that share an image, as a file or by its voxels, are of one."""
    groups: list[tuple[set[object], list[str]]] = []
    for case in sorted(cases, key=lambda one: one.id):
        keys: set[object] = {case.image.resolve(), _image_of(case)}
        same = [one for one in groups if one[0] & keys]
        ids = [one for _, held in same for one in held]
        groups = [one for one in groups if one not in same]
        groups.append((keys.union(*(held for held, _ in same)), [*ids, case.id]))
    return [ids for _, ids in groups]


def declared(
    cases: Sequence[ScanCase],
    splits: Mapping[Any, tuple[str, ...]],
    *,
    learns: bool,
    cut: Collection[str] = (),
) -> Fold:
    """The one fold that a config names.

    learns: whether something of the study does, so that there must be cases to learn from
    cut: ids of cases that are there and that `max_cases` left out

    Raises ConfigError: it names a case twice or none that is there, or one scan stands on both
    sides under two names.
    """
    by_id = {case.id: case for case in cases}
    train, test = splits.get("train", ()), splits.get("test", ())
    named = [*train, *test]
    unknown = [one for one in named if one not in by_id]
    left_out = [one for one in unknown if one in cut]
    if left_out:
        raise ConfigError(
            f"dataset.splits names case '{left_out[0]}', which max_cases left out: it takes the "
            f"first {len(cases)} of {len(cases) + len(cut)}; raise it (0: all), or take the case "
            "out of the split"
        )
    if unknown:
        raise ConfigError(
            f"dataset.splits names case '{unknown[0]}', which has no image and reference here; "
            f"known: {', '.join(by_id)}"
        )
    twice = sorted({one for one in named if named.count(one) > 1})
    if twice:
        both = set(train) & set(test)
        where = "in train and in test" if twice[0] in both else "twice"
        raise ConfigError(f"dataset.splits names case '{twice[0]}' {where}; a case is in one split")
    if not test or (learns and not train):
        lacking = "train" if test else "test"
        raise ConfigError(f"dataset.splits has no case in '{lacking}'; name at least one")
    if learns:
        _refuse_copies([by_id[one] for one in train], [by_id[one] for one in test])
    return Fold(train=tuple(train), test=tuple(test))


def _refuse_copies(train: Sequence[ScanCase], test: Sequence[ScanCase]) -> None:
    """One scan under two names would be learnt by heart."""
    learnt = {_image_of(case): case.id for case in train}
    for case in test:
        if _image_of(case) in learnt:
            raise ConfigError(
                f"case '{case.id}' of the test split shows the same image as case "
                f"'{learnt[_image_of(case)]}' of the training split; take one of them out"
            )


def _image_of(case: ScanCase) -> str:
    """What its image is known by, however it is called and whoever drew the reference."""
    return case.image_sha256 or case.sha256


def audit_split(
    train: Sequence[Case], test: Sequence[Case], *, contents: Mapping[str, str] | None = None
) -> None:
    """Refuse a split in which a case is on both sides: by id, by file, or by content.

    contents: hash of each case's image by its id, where it is known

    Raises DatasetError: names the cases; or a side is empty.
    """
    if not train or not test:
        raise DatasetError(
            f"cases to learn from: {len(train)}, to test: {len(test)}; each needs 1 or more"
        )
    ids = {case.id for case in train} & {case.id for case in test}
    if ids:
        raise DatasetError(
            f"{some_cases(ids)} would be learnt from and tested: a score on it would say what the "
            "head remembers; each case goes to one split of dataset.splits"
        )
    places = {case.path.resolve(): case.id for case in train}
    both = {f"{places[p]} = {case.id}" for case in test if (p := case.path.resolve()) in places}
    if both:
        raise DatasetError(
            f"{some_cases(both)}: one file under two ids would be learnt from and tested; "
            "name it once in the pairs"
        )
    held = {contents[case.id]: case.id for case in train if case.id in contents} if contents else {}
    same = {
        f"{held[found]} = {case.id}"
        for case in test
        if contents and (found := contents.get(case.id)) in held
    }
    if same:
        raise DatasetError(
            f"{some_cases(same)}: copies of one scan would be learnt from and tested; keep one of "
            "them"
        )


def some_cases(names: Iterable[str]) -> str:
    """The first of them, in words."""
    shown = sorted(names)
    more = f" and {len(shown) - 3} more" if len(shown) > 3 else ""
    return f"case {', '.join(shown[:3])}{more}"
