"""Every style on five candles, drawn as text, so that a reader sees the expected picture."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from candlemark.candles.series import CandleSeries
from candlemark.charts.candlestick import PALETTES
from candlemark.charts.render import render
from candlemark.charts.style import ChartStyle

FIVE = """
    open high low close volume
    2    5    1   4     100
    4    8    4   7     200
    7    7    3   3     500
    -    -    -   -     -
    5    6    0   5     50
"""

UInt8Array = npt.NDArray[np.uint8]


def candles(table: str) -> CandleSeries:
    """The candles of a table; a row of dashes is a missing slot."""
    rows = [line.split() for line in table.strip().splitlines()[1:]]
    kept = [(hour, row) for hour, row in enumerate(rows) if row[0] != "-"]
    names = ("open", "high", "low", "close", "volume")
    columns: dict[str, npt.ArrayLike] = {
        name: [float(row[position]) for _, row in kept] for position, name in enumerate(names)
    }
    columns["open_time_ms"] = [hour * 3_600_000 for hour, _ in kept]
    return CandleSeries.from_numpy(columns, symbol="FIVE", interval="1h")


def marks(theme: str = "light") -> dict[str, tuple[int, int, int]]:
    """Letters of a candlestick picture: up, down, flat, their pale forms, averages."""
    palette = PALETTES[theme]
    paper = palette.background
    table = {".": (paper, paper, paper)}
    for letter, color in (("U", palette.up), ("D", palette.down), ("F", palette.flat)):
        red, green, blue = color
        table[letter] = color
        table[letter.lower()] = ((red + paper) // 2, (green + paper) // 2, (blue + paper) // 2)
    return table | {str(k + 1): color for k, color in enumerate(palette.averages)}


def to_art(picture: UInt8Array, theme: str = "light") -> str:
    """The picture as text, the inverse of `from_art`."""
    if picture.ndim == 2:
        ink = {0: "#", 255: "."} if theme == "light" else {255: "#", 0: "."}
        return "\n".join("".join(ink[int(level)] for level in row) for row in picture)
    letters = {color: letter for letter, color in marks(theme).items()}
    return "\n".join(
        "".join(letters[int(red), int(green), int(blue)] for red, green, blue in row)
        for row in picture
    )


def from_art(art: str, theme: str = "light", *, color: bool) -> UInt8Array:
    """Text to the picture it shows."""
    lines = [line.strip() for line in art.strip().splitlines()]
    if color:
        table = marks(theme)
        return np.array([[table[letter] for letter in line] for line in lines], dtype=np.uint8)
    levels = {"#": 0, ".": 255} if theme == "light" else {"#": 255, ".": 0}
    return np.array([[levels[letter] for letter in line] for line in lines], dtype=np.uint8)


def check(picture: UInt8Array, art: str, theme: str = "light") -> None:
    expected = from_art(art, theme, color=picture.ndim == 3)
    assert to_art(picture, theme) == to_art(expected, theme)


GOLDEN: dict[str, tuple[ChartStyle, str]] = {
    "ohlc4": (
        ChartStyle(kind="ohlc4", height=9),
        """
        .....#..............
        .....##.##..........
        .....#...#.......#..
        .#...#...#......###.
        .##.##...#.......#..
        .#.......##......#..
        ##...............#..
        .#...............#..
        .................#..
        """,
    ),
    "ohlc4 negative": (
        ChartStyle(kind="ohlc4", height=5, theme="dark"),
        """
        .....##.##..........
        .#...#...#......###.
        .##.##...##......#..
        ##...............#..
        .................#..
        """,
    ),
    "ohlc4 in wider slots": (
        ChartStyle(kind="ohlc4", height=9, width=41),
        """
        ..........##.............................
        ..........####..####.....................
        ..........##......##..............##.....
        ..##......##......##............######...
        ..####..####......##..............##.....
        ..##..............####............##.....
        ####..............................##.....
        ..##..............................##.....
        ..................................##.....
        """,
    ),
    "jkx": (
        ChartStyle(kind="jkx", height=12, moving_averages=(2,)),
        """
        ....#..........
        ....####.......
        ....##.#.....#.
        .####.##....###
        .####..#.....#.
        .#.....##....#.
        ##...........#.
        .#...........#.
        .............#.
        ...............
        .......#.......
        .#..#..#.....#.
        """,
    ),
    "jkx bars only": (
        ChartStyle(kind="jkx", height=9, volume=False, moving_averages=()),
        """
        ....#..........
        ....####.......
        ....#..#.....#.
        .#..#..#....###
        .####..#.....#.
        .#.....##....#.
        ##...........#.
        .#...........#.
        .............#.
        """,
    ),
    "jkx in wider slots": (
        ChartStyle(kind="jkx", height=12, width=31, theme="light"),
        """
        ........##.....................
        ........########...............
        .......####...##..........##...
        ..#####.##.#####........######.
        ..########....##..........##...
        ..##..........####........##...
        ####......................##...
        ..##......................##...
        ..........................##...
        ...............................
        ..............##...............
        ..##....##....##..........##...
        """,
    ),
    "candlestick": (
        ChartStyle(kind="candlestick", height=9, width=25),
        """
        .......U.................
        ......UUU..DDD...........
        ......UUU..DDD........F..
        ..U...UUU..DDD.......FFF.
        .UUU..UUU..DDD........F..
        .UUU.......DDD........F..
        .UUU..................F..
        ..U...................F..
        ......................F..
        """,
    ),
    "candlestick with everything": (
        ChartStyle(
            kind="candlestick",
            height=13,
            width=32,
            volume=True,
            moving_averages=(2, 3),
            theme="dark",
        ),
        """
        ........U.......................
        ......UUUUU.DDDDD...............
        ......UUUUU.DDDDD..........F....
        ..U...222221111DD........FF1FF..
        UU2222UUUUU2222DD..........2....
        UUUUU.......DDDDD..........F....
        UUUUU.......DDDDD..........F....
        UUUUU......................F....
        ..U........................F....
        ...........................F....
        ................................
        ............ddddd...............
        uuuuu.uuuuu.ddddd........fffff..
        """,
    ),
    "candlestick in 1 px": (
        ChartStyle(kind="candlestick", height=9, width=5),
        """
        .u...
        .UD..
        .UD.f
        uUD.F
        UUD.f
        U.D.f
        U...f
        u...f
        ....f
        """,
    ),
    "candlestick in 2 px": (
        ChartStyle(kind="candlestick", height=9, width=10),
        """
        ..u.......
        ..U.D.....
        ..U.D...f.
        u.U.D...F.
        U.U.D...f.
        U...D...f.
        U.......f.
        u.......f.
        ........f.
        """,
    ),
    "candlestick in 3 px": (
        ChartStyle(kind="candlestick", height=9, width=15),
        """
        ...uu..........
        ...UU.DD.......
        ...UU.DD....ff.
        uu.UU.DD....FF.
        UU.UU.DD....ff.
        UU....DD....ff.
        UU..........ff.
        uu..........ff.
        ............ff.
        """,
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_five_candles(name: str) -> None:
    style, art = GOLDEN[name]
    check(
        render(candles(FIVE), style, window=5)[0], art, theme="dark" if style.is_dark else "light"
    )


def test_art_and_picture_are_inverse() -> None:
    for style, art in GOLDEN.values():
        theme = "dark" if style.is_dark else "light"
        picture = from_art(art, theme, color=style.kind == "candlestick")
        np.testing.assert_array_equal(
            from_art(to_art(picture, theme), theme, color=picture.ndim == 3), picture
        )


def test_one_candle_fills_the_height() -> None:
    one = candles("open high low close volume\n 2 4 0 3 1")
    check(
        render(one, ChartStyle(kind="ohlc4", height=5), window=1)[0],
        """
        .#..
        .##.
        ##..
        .#..
        .#..
        """,
    )


def test_flat_prices_lie_in_the_middle_row() -> None:
    flat = candles("open high low close volume\n 7 7 7 7 0\n 7 7 7 7 0")
    check(
        render(flat, ChartStyle(kind="jkx", height=10), window=2)[0],
        """
        ......
        ......
        ......
        ######
        ......
        ......
        ......
        ......
        ......
        ......
        """,
        theme="dark",
    )


def test_half_way_goes_to_the_upper_row() -> None:
    halves = candles("open high low close volume\n 4 4 0 3 1\n 1 4 0 2 1")
    check(
        render(halves, ChartStyle(kind="ohlc4", height=3), window=2)[0],
        """
        ###..#..
        .#..###.
        .#...#..
        """,
    )


def test_line_breaks_at_a_gap_and_uses_candles_before_the_window() -> None:
    """The average of 3 at slot 2 reads slots 0 and 1, which are not drawn."""
    table = """
    open high low close volume
    0 0 0 0 1
    6 6 6 6 1
    6 8 0 6 1
    6 6 6 6 1
    - - - - -
    6 6 6 6 1
    """
    style = ChartStyle(kind="jkx", height=9, volume=False, moving_averages=(3,))
    check(
        render(candles(table), style, window=4, start=2)[0],
        """
        .#..........
        .#..........
        ######...###
        .###........
        .#..........
        .#..........
        .#..........
        .#..........
        .#..........
        """,
        theme="dark",
    )


def test_line_leaves_the_panel_where_the_average_does() -> None:
    """The averages of 2 are 55, 7.5 and 5; the panel ends at 8."""
    table = """
    open high low close volume
    100 100 100 100 1
    8 8 8 8 1
    7 7 7 7 1
    3 3 0 3 1
    """
    style = ChartStyle(kind="jkx", height=9, volume=False, moving_averages=(2,))
    check(
        render(candles(table), style, window=3, start=1)[0],
        """
        ###.#....
        ...###...
        ......#..
        .......#.
        .........
        ......###
        .......#.
        .......#.
        .......#.
        """,
        theme="dark",
    )
