"""A class map is stated: what it names must exist on both sides."""

from __future__ import annotations

import pytest

from candlemark.errors import ModelError
from candlemark.models.segmentation.class_map import read_class_map, unmapped

NAMES = {0: "background", 1: "liver", 2: "Tumor", 3: "cyst"}
CLASSES = {1: "lesion", 3: "organ"}


def read(given: dict[str, str | int] | None, names: dict[int, str] | None = None) -> dict[int, int]:
    return read_class_map(given, names=names or NAMES, classes=CLASSES, model="a/b")


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"tumor": "lesion"}, {2: 1}),
        ({"2": 1, "liver": "ORGAN"}, {2: 1, 1: 3}),
        ({"2": "1", "3": "3"}, {2: 1, 3: 3}),
        ({"tumor": "lesion", "cyst": "background", "liver": 0}, {2: 1}),
        ({"Tumor ": " lesion", "2": 1}, {2: 1}),
    ],
)
def test_numbers_and_names_of_both_sides_are_understood(
    given: dict[str, str | int], found: dict[int, int]
) -> None:
    assert read(given) == found


def test_a_name_that_is_a_number_goes_before_the_number() -> None:
    assert read({"1": "lesion"}, {0: "1", 1: "0"}) == {0: 1}


def test_without_a_map_the_message_shows_one() -> None:
    with pytest.raises(ModelError) as raised:
        read_class_map(None, names=NAMES, classes={1: "tumour"}, model="a/b")
    assert str(raised.value) == (
        "nobody said what the classes of a/b mean (background, liver, Tumor, cyst); give it a "
        "class_map in the config, such as class_map: {'Tumor': 'tumour'}"
    )
    with pytest.raises(ModelError, match="nobody said"):
        read({})


def test_a_long_list_of_classes_is_cut() -> None:
    names = {number: f"class {number}" for number in range(150)}
    with pytest.raises(ModelError, match="class 7 and 142 more"):
        read(None, names)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"tumour": "lesion"}, "a/b has no class 'tumour'; did you mean 'Tumor'?"),
        ({"xyz": "lesion"}, "a/b has no class 'xyz'; it has: background, liver, Tumor, cyst"),
        ({"tumor": "lesions"}, "the reference has no class 'lesions'; did you mean 'lesion'?"),
        ({"tumor": "vessel wall"}, "it has: 1=lesion, 3=organ, and 0=background"),
        ({"tumor": 2}, "the reference has no class '2'"),
        ({"7": "lesion"}, "names class 7 of a/b, which has 4: 0 to 3"),
        ({"tumor": "lesion", "2": "organ"}, "gives class 2 of a/b two labels, 1 and 3"),
        ({"tumor": 0}, "maps every class to background; map at least one to: lesion, organ"),
    ],
)
def test_what_does_not_fit_is_named(given: dict[str, str | int], said: str) -> None:
    with pytest.raises(ModelError) as raised:
        read(given)
    assert said in str(raised.value)


def test_a_name_that_the_model_has_twice_must_be_a_number() -> None:
    names = {0: "organ", 1: "organ"}
    with pytest.raises(ModelError, match=r"2 classes called 'organ' \(0, 1\); name them by number"):
        read({"organ": "organ"}, names)
    assert read({"1": "organ"}, names) == {1: 3}


def test_classes_that_the_model_never_finds_are_told() -> None:
    assert unmapped({2: 1}, CLASSES) == ["organ"]
    assert unmapped({2: 1, 1: 3}, CLASSES) == []
