"""Badges: well-formed SVG whatever is written on it, and what shields.io reads."""

from __future__ import annotations

from xml.etree.ElementTree import Element, fromstring

import pytest
from hypothesis import given
from hypothesis import strategies as st

from candlemark.hub.badges import COLOURS, LABEL_COLOUR, Badge, endpoint, svg

SVG = "{http://www.w3.org/2000/svg}"


def parsed(badge: Badge) -> Element:
    return fromstring(svg(badge))  # noqa: S314  # written by ourselves


def test_a_badge_says_label_and_message_in_two_halves() -> None:
    drawn = parsed(Badge(label="AUROC", message="0.712 [0.65, 0.77]", colour="green"))
    assert [one.text for one in drawn.iter(f"{SVG}text")] == ["AUROC", "0.712 [0.65, 0.77]"]
    assert [one.get("fill") for one in drawn.iter(f"{SVG}path")] == [
        LABEL_COLOUR,
        COLOURS["green"],
    ]
    assert drawn.findtext(f"{SVG}title") == "AUROC: 0.712 [0.65, 0.77]"
    assert drawn.get("aria-label") == "AUROC: 0.712 [0.65, 0.77]"
    # Both texts lie inside their halves.
    left, right = drawn.iter(f"{SVG}text")
    _, half = drawn.iter(f"{SVG}path")
    edge = int(half.get("d", "").split()[0].removeprefix("M"))
    assert int(left.get("x", "")) + int(left.get("textLength", "")) <= edge
    assert edge < int(right.get("x", ""))
    assert int(right.get("x", "")) + int(right.get("textLength", "")) <= int(drawn.get("width", ""))


def test_no_id_so_that_several_badges_can_stand_in_one_page() -> None:
    assert " id=" not in svg(Badge(label="a", message="b"))


@given(label=st.text(max_size=30), message=st.text(max_size=30))
def test_any_text_gives_well_formed_svg(label: str, message: str) -> None:
    drawn = parsed(Badge(label=label, message=message))
    assert len(list(drawn)) == 4
    assert len(list(drawn.iter(f"{SVG}text"))) == 2


def test_a_wider_text_gives_a_wider_badge() -> None:
    widths = [
        int(parsed(Badge(label="a", message="m" * count)).get("width", ""))
        for count in (1, 10, 100)
    ]
    assert widths == sorted(set(widths))


@pytest.mark.parametrize("colour", [*COLOURS.values(), LABEL_COLOUR])
def test_white_letters_can_be_read_on_every_colour(colour: str) -> None:
    shares = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (
        share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares
    )
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    assert 1.05 / (luminance + 0.05) >= 4.5


def test_endpoint_is_what_shields_reads() -> None:
    assert endpoint(Badge(label="label", message="forecast", colour="blue")) == {
        "schemaVersion": 1,
        "label": "label",
        "message": "forecast",
        "color": "2f62a8",
    }
