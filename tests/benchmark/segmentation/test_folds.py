"""Who learns from whom: every case is answered for once, by what never saw it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from candlemark.benchmark.segmentation.folds import Fold, audit_split, deal
from candlemark.benchmark.segmentation.scan_cases import ScanCase
from candlemark.errors import ConfigError, DatasetError
from candlemark.models.segmentation.base import Case


def scan(name: str, content: str | None = None) -> ScanCase:
    return ScanCase(id=name, image=Path(name), reference=Path(name), sha256=content or f"of {name}")


def scans(count: int) -> list[ScanCase]:
    return [scan(f"case_{number}") for number in range(count)]


@given(
    contents=st.lists(st.integers(0, 9), min_size=2, max_size=14).filter(lambda c: len(set(c)) > 1),
    folds=st.integers(2, 7),
    seed=st.integers(0, 99),
    order=st.randoms(use_true_random=False),
)
def test_every_case_is_tested_once_and_no_content_is_on_both_sides(
    contents: list[int], folds: int, seed: int, order: Random
) -> None:
    cases = [scan(f"case_{place}", str(content)) for place, content in enumerate(contents)]
    dealt = deal(cases, folds=folds, seed=seed)
    assert len(dealt) == min(folds, len(set(contents)))
    assert sorted(one for fold in dealt for one in fold.test) == sorted(one.id for one in cases)
    content_of = {case.id: case.sha256 for case in cases}
    for fold in dealt:
        assert sorted((*fold.train, *fold.test)) == sorted(content_of)
        assert {content_of[i] for i in fold.train} & {content_of[i] for i in fold.test} == set()
    order.shuffle(cases)
    assert deal(cases, folds=folds, seed=seed) == dealt


def test_folds_are_as_even_as_can_be_and_drawn_by_the_seed() -> None:
    assert sorted(len(fold.test) for fold in deal(scans(11), folds=4, seed=0)) == [2, 3, 3, 3]
    assert len({deal(scans(11), folds=4, seed=seed) for seed in range(6)}) > 1


def test_more_folds_than_cases_leave_one_out() -> None:
    dealt = deal(scans(3), folds=5, seed=0)
    assert sorted(fold.test for fold in dealt) == [("case_0",), ("case_1",), ("case_2",)]
    first = next(fold for fold in dealt if fold.test == ("case_0",))
    assert first.to_dict() == {"train": ["case_1", "case_2"], "test": ["case_0"]}
    assert first == Fold(train=("case_1", "case_2"), test=("case_0",))


def test_an_image_with_two_references_is_in_one_fold() -> None:
    """As two readers draw it; a third case ties two groups together."""
    cases = [replace(scan(f"case_{n}"), image=Path(f"image_{n // 2}")) for n in range(6)]
    for fold in deal(cases, folds=5, seed=0):
        assert fold.test in {("case_0", "case_1"), ("case_2", "case_3"), ("case_4", "case_5")}
    tied = replace(cases[5], sha256=cases[0].sha256)
    joined = {fold.test for fold in deal([*cases[:5], tied], folds=5, seed=0)}
    assert joined == {("case_0", "case_1", "case_4", "case_5"), ("case_2", "case_3")}


@pytest.mark.parametrize(
    ("cases", "said"),
    [
        (scans(1), "learnt from others, and there is 1; give more cases, or leave the probes out"),
        ([scan("a", "same"), scan("b", "same")], "and all 2 here are of one scan; give more cases"),
    ],
)
def test_one_scan_cannot_be_learnt_from_and_tested(cases: list[ScanCase], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        deal(cases, folds=5, seed=0)


def seen(name: str, path: str | None = None) -> Case:
    return Case(
        id=name,
        path=Path(path or f"{name}.nii.gz"),
        shape=(1, 4, 4),
        spacing_mm=None,
        channels=1,
        read=lambda start, stop: NotImplemented,
        window=lambda: (0.0, 1.0),
    )


def test_a_case_on_both_sides_of_a_split_is_refused() -> None:
    cases = [seen(f"case_{number}") for number in range(3)]
    audit_split([cases[0]], [cases[1], cases[2]])
    with pytest.raises(DatasetError, match="case case_1 would be learnt from and tested"):
        audit_split([cases[0], cases[1]], [cases[1]])
    renamed = seen("other", "case_0.nii.gz")
    with pytest.raises(DatasetError, match="case case_0 = other: one file under two ids"):
        audit_split([cases[0]], [renamed])
    copied = {"case_0": "aa", "case_1": "bb", "case_2": "aa"}
    with pytest.raises(DatasetError, match="case case_0 = case_2: copies of one scan"):
        audit_split([cases[0]], [cases[1], cases[2]], contents=copied)
    audit_split([cases[0]], [cases[1]], contents=copied)
    with pytest.raises(DatasetError, match="cases to learn from: 0, to test: 1"):
        audit_split([], [cases[0]])
