"""A contact sheet: pictures of every split with their labels, on one page.

    contact_sheet(dataset, Path("sheet.png"), per_split=8)

Pictures are taken evenly over the time of each split, so that the sheet shows the whole of
it. Small pictures are enlarged by a whole factor, so that a pixel stays a pixel; large ones
are cut down to a thumbnail.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from candlemark.candles.series import IntArray, format_time
from candlemark.dataset.lazy import Dataset
from candlemark.dataset.storage.base import Images
from candlemark.errors import ConfigError

TILE = 208
"""Side that pictures are brought close to, in pixels."""

MARGIN = 28
GAP = 16
CAPTION = 40
HEADER = 84
SECTION = 40

PAPER = (250, 250, 248)
INK = (30, 34, 40)
FAINT = (120, 126, 134)
RULE = (222, 222, 218)
CARD = (255, 255, 255)
DOWN, FLAT, UP = (200, 62, 58), (130, 134, 140), (34, 139, 94)
CLASS_COLORS = {
    "down": DOWN,
    "flat": FLAT,
    "up": UP,
    "bearish": DOWN,
    "neutral": FLAT,
    "bullish": UP,
}
OTHER_COLORS = ((58, 104, 190), (196, 128, 32), (120, 80, 170), (20, 140, 150))

Color = tuple[int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Page:
    """Where things go, in pixels."""

    columns: int
    tile_width: int
    tile_height: int

    @property
    def width(self) -> int:
        return 2 * MARGIN + self.columns * self.tile_width + (self.columns - 1) * GAP

    @property
    def row_height(self) -> int:
        return self.tile_height + CAPTION

    def section_height(self, count: int) -> int:
        """Heading and rows of a split with `count` pictures."""
        return SECTION + math.ceil(count / self.columns) * self.row_height + GAP


def contact_sheet(dataset: Dataset, path: Path, *, per_split: int = 12, columns: int = 6) -> Path:
    """Draw the sheet to a PNG file and return its path.

    Raises ConfigError: fewer than one picture or column is asked for.
    """
    if per_split < 1 or columns < 1:
        raise ConfigError(
            f"a sheet of {per_split} pictures a split in {columns} columns; both must be at least 1"
        )
    sections = {name: _evenly(dataset.split(name), per_split) for name in dataset.split_names}
    columns = min(columns, max(len(rows) for rows in sections.values()))
    # A header needs room, however narrow the pictures are.
    page = _Page(columns=max(columns, 4), **_tile_size(dataset.image_shape))
    height = HEADER + MARGIN + sum(page.section_height(len(rows)) for rows in sections.values())
    sheet = Image.new("RGB", (page.width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    _draw_header(draw, dataset)
    top = HEADER
    for name, rows in sections.items():
        _draw_heading(draw, page, dataset, name, top=top)
        _draw_cards(sheet, page, dataset, rows, top=top + SECTION)
        top += page.section_height(len(rows))
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    sheet.save(scratch, format="PNG", optimize=True)
    scratch.replace(path)
    return path


def _evenly(rows: IntArray, count: int) -> IntArray:
    """At most `count` of the rows, evenly spaced."""
    count = min(count, len(rows))
    return rows[((np.arange(count) + 0.5) * len(rows) / max(count, 1)).astype(np.int64)]


def _tile_size(shape: tuple[int, ...]) -> dict[str, int]:
    height, width = shape[:2]
    longest = max(height, width)
    if longest <= TILE:
        factor = max(1, round(TILE / longest))
        return {"tile_width": width * factor, "tile_height": height * factor}
    return {
        "tile_width": max(1, width * TILE // longest),
        "tile_height": max(1, height * TILE // longest),
    }


def _draw_header(draw: ImageDraw.ImageDraw, dataset: Dataset) -> None:
    config, manifest = dataset.config, dataset.manifest
    symbols = ", ".join(manifest.symbols[:4]) + (" ..." if len(manifest.symbols) > 4 else "")
    title = f"{symbols}  {manifest.interval}"
    draw.text((MARGIN, 22), title, font=_font(24), fill=INK)
    kind = dataset.label_kind
    _badge(
        draw,
        MARGIN + draw.textlength(title, font=_font(24)) + 16,
        26,
        kind,
        OTHER_COLORS[1] if kind == "recognition" else OTHER_COLORS[0],
    )
    height, width = dataset.image_shape[:2]
    facts = "   ·   ".join(
        (
            f"label {config.label.name}",
            f"{config.window} candles a window",
            f"{config.experiment} {config.style.kind}, {width} x {height} px",
            f"{len(dataset):,} windows",
        )
    )
    draw.text((MARGIN, 56), facts, font=_font(14), fill=FAINT)


def _draw_heading(
    draw: ImageDraw.ImageDraw, page: _Page, dataset: Dataset, name: str, *, top: int
) -> None:
    """Name, size and time of one split."""
    draw.line((MARGIN, top + 4, page.width - MARGIN, top + 4), fill=RULE)
    draw.text((MARGIN, top + 12), name, font=_font(17), fill=INK)
    times = dataset.window_start_ms(dataset.split(name))
    first, last = format_time(int(times[0])), format_time(int(times[-1]))
    period = f"{len(times):,} windows   {first} to {last} UTC"
    length = draw.textlength(name, font=_font(17))
    draw.text((MARGIN + length + 14, top + 15), period, font=_font(13), fill=FAINT)


def _draw_cards(
    sheet: Image.Image, page: _Page, dataset: Dataset, rows: IntArray, *, top: int
) -> None:
    """The pictures of `rows`, each over its label and time."""
    draw = ImageDraw.Draw(sheet)
    targets, symbols = dataset.targets(rows).tolist(), dataset.symbols(rows)
    times = dataset.window_start_ms(rows).tolist()
    for number, image in enumerate(dataset.images(rows)):
        line, column = divmod(number, page.columns)
        x = MARGIN + column * (page.tile_width + GAP)
        y = top + line * page.row_height
        right, below = x + page.tile_width, y + page.tile_height
        sheet.paste(_tile(image, page), (x, y))
        draw.rectangle((x - 1, y - 1, right, below), outline=RULE)
        label = dataset.class_names[targets[number]]
        color = _class_color(dataset.class_names, targets[number])
        draw.rectangle((x - 1, below, right, below + 3), fill=color)
        draw.text((x, below + 9), label, font=_font(14), fill=color)
        when = format_time(times[number])
        name = f"{symbols[number]}  " if len(dataset.manifest.symbols) > 1 else ""
        room = page.tile_width - draw.textlength(label, font=_font(14)) - 8
        when = _that_fits(draw, (name + when, when, when[:10]), room)
        left = right - draw.textlength(when, font=_font(12))
        draw.text((left, below + 10), when, font=_font(12), fill=FAINT)


def _that_fits(draw: ImageDraw.ImageDraw, texts: tuple[str, ...], room: float) -> str:
    """The first text that is no wider than `room`, or none."""
    return next((t for t in texts if draw.textlength(t, font=_font(12)) <= room), "")


def _tile(image: Images, page: _Page) -> Image.Image:
    picture = Image.fromarray(image).convert("RGB")
    size = (page.tile_width, page.tile_height)
    if picture.width > page.tile_width:
        return picture.resize(size, Image.Resampling.LANCZOS)
    return picture.resize(size, Image.Resampling.NEAREST)


def _badge(draw: ImageDraw.ImageDraw, x: float, y: int, text: str, color: Color) -> None:
    width = draw.textlength(text, font=_font(13))
    draw.rounded_rectangle((x, y, x + width + 18, y + 22), radius=11, fill=color)
    draw.text((x + 9, y + 3), text, font=_font(13), fill=CARD)


def _class_color(names: tuple[str, ...], target: int) -> Color:
    known = CLASS_COLORS.get(names[target])
    return known if known is not None else OTHER_COLORS[target % len(OTHER_COLORS)]


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font: it is there on every machine."""
    return ImageFont.load_default(size)
