"""Badges: a small picture of one number, as SVG and as JSON for shields.io's endpoint.

    badge = Badge(label="AUROC", message="0.712 [0.650, 0.774]", colour="green")
    svg(badge)                        # a whole SVG file
    endpoint(badge)                   # {"schemaVersion": 1, "label": ..., ...}

The SVG needs no font of its own and no network: widths are those of Verdana at 11 pixels, and
`textLength` makes every viewer keep to them.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import Any, Literal

Colour = Literal["green", "yellow", "red", "grey", "blue"]

COLOURS: dict[Colour, str] = {
    "green": "#2f7d4f",
    "yellow": "#946200",
    "red": "#b3362f",
    "grey": "#5f6670",
    "blue": "#2f62a8",
}
"""All dark enough for white letters: a contrast of at least 4.5 to 1."""

LABEL_COLOUR = "#33383f"
HEIGHT = 20
PADDING = 6

_WIDTHS: dict[str, float] = {
    **dict.fromkeys("ijlI|.,:;'!", 4.6),
    **dict.fromkeys("ftr()[]{}/\\ -", 5.0),
    **dict.fromkeys("abcdeghknopqsuvxyz0123456789<>=+~±", 7.0),
    **dict.fromkeys("mwMW%@", 10.7),
}
_OTHER_WIDTH = 8.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Badge:
    """What a badge says.

    name: stem of its files
    label: on the left, dark; message: on the right, in colour
    """

    name: str = "badge"
    label: str
    message: str
    colour: Colour = "grey"


def endpoint(badge: Badge) -> dict[str, Any]:
    """What https://shields.io/badges/endpoint-badge reads, JSON types."""
    return {
        "schemaVersion": 1,
        "label": badge.label,
        "message": badge.message,
        "color": COLOURS[badge.colour].removeprefix("#"),
    }


def svg(badge: Badge) -> str:
    """The badge as an SVG file that stands for itself; any text is escaped."""
    label, message = _plain(badge.label), _plain(badge.message)
    left, right = _width(label) + 2 * PADDING, _width(message) + 2 * PADDING
    said = escape(f"{label}: {message}")
    width, end = left + right, left + right - 3
    # Two halves with their own round corners: a clip path needs an id, which a page that holds
    # several badges would have twice.
    label_half = f"M3 0H{left}V{HEIGHT}H3a3 3 0 0 1-3-3V3a3 3 0 0 1 3-3z"
    message_half = f"M{left} 0H{end}a3 3 0 0 1 3 3V{HEIGHT - 3}a3 3 0 0 1-3 3H{left}z"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{HEIGHT}" '
        f'viewBox="0 0 {width} {HEIGHT}" role="img" aria-label="{said}">\n'
        f"  <title>{said}</title>\n"
        f'  <path fill="{LABEL_COLOUR}" d="{label_half}"/>\n'
        f'  <path fill="{COLOURS[badge.colour]}" d="{message_half}"/>\n'
        '  <g fill="#fff" font-family="Verdana,DejaVu Sans,Geneva,sans-serif" font-size="11">\n'
        f"    {_text(label, PADDING)}\n"
        f"    {_text(message, left + PADDING)}\n"
        "  </g>\n"
        "</svg>\n"
    )


def _text(text: str, x: int) -> str:
    length = f' textLength="{_width(text)}" lengthAdjust="spacingAndGlyphs"' if text else ""
    return f'<text x="{x}" y="14"{length}>{escape(text, quote=False)}</text>'


def _width(text: str) -> int:
    """About how wide the text is in Verdana at 11 pixels."""
    return round(sum(_WIDTHS.get(sign, _OTHER_WIDTH) for sign in text))


def _plain(text: str) -> str:
    """One line without the control characters that XML forbids."""
    return "".join(sign for sign in " ".join(text.split()) if sign.isprintable())
