"""Pictures that ITK misreads come as they were written, or are refused by name."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from candlemark.errors import ScanError
from candlemark.scans.geometry import Geometry
from candlemark.scans.masks import read_integers
from candlemark.scans.volume import open_scan


def _stack(dtype: str) -> np.ndarray:
    lowest = 0 if dtype[0] in "ub" else -20000 if dtype != "int8" else -100
    highest = 2 if dtype == "bool" else 250 if dtype == "uint8" else 100 if dtype == "int8" else 4e4
    highest = min(highest, 32000) if dtype == "int16" else highest
    return np.random.default_rng(0).integers(lowest, int(highest), (5, 32, 48)).astype(dtype)


def _write(
    pages: np.ndarray,
    path: Path,
    *,
    tile: int = 0,
    apart: bool = False,
    order: str = "<",
    depth: int = 1,
) -> Path:
    """A TIFF 6.0 without compression: pages (n, Y, X) or (n, Y, X, 3), by hand, because what
    Pillow and ITK write is what they read well."""
    made = bytearray((b"II*\0" if order == "<" else b"MM\0*") + bytes(4))
    link = 4
    for page in pages:
        high, wide = page.shape[:2]
        planes = [page[..., at] for at in range(3)] if apart else [page]
        blocks = [block for plane in planes for block in _blocks(plane, tile)]
        places = []
        for block in blocks:
            places.append(len(made))
            bits = np.packbits(block, axis=-1) if block.dtype == bool else block
            made += bits.astype(bits.dtype.newbyteorder(order)).tobytes()
        samples = 3 if page.ndim == 3 else 1
        size = 1 if page.dtype == bool else page.dtype.itemsize * 8
        sizes = [(len(made) - places[-1])] * len(places)
        tags = {
            256: [wide],
            257: [high],
            258: [size] * samples,
            259: [1],
            262: [2 if samples == 3 else 1],
            277: [samples],
            284: [2 if apart else 1],
            **({322: [tile], 323: [tile], 324: places, 325: sizes} if tile else {}),
            **({} if tile else {273: places, 278: [high], 279: sizes}),
            339: [{"b": 1, "u": 1, "i": 2, "f": 3}[page.dtype.kind]] * samples,
            **({32997: [depth]} if depth > 1 else {}),
        }
        link = _directory(made, dict(sorted(tags.items())), link, order)
    path.write_bytes(made)
    return path


def _blocks(plane: np.ndarray, tile: int) -> list[np.ndarray]:
    if not tile:
        return [plane]
    high, wide = plane.shape[:2]
    return [
        plane[top : top + tile, left : left + tile]
        for top in range(0, high, tile)
        for left in range(0, wide, tile)
    ]


def _directory(made: bytearray, tags: dict[int, list[int]], link: int, order: str) -> int:
    """Append the tags, each a list of 32 bit numbers, and give the place of the next link."""
    entries = b""
    for tag, values in tags.items():
        packed = struct.pack(f"{order}{len(values)}I", *values)
        if len(values) > 1:
            made += packed
            packed = struct.pack(order + "I", len(made) - len(packed))
        entries += struct.pack(order + "HHI", tag, 4, len(values)) + packed
    struct.pack_into(order + "I", made, link, len(made))
    made += struct.pack(order + "H", len(tags)) + entries + bytes(4)
    return len(made) - 4


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("tile", [0, 16])
@pytest.mark.parametrize("dtype", ["bool", "uint8", "int8", "uint16", "int16", "int32", "float32"])
def test_tiles_and_single_bits_lose_nothing(
    tmp_path: Path, dtype: str, tile: int, order: str
) -> None:
    pages = _stack(dtype)
    scan = open_scan(_write(pages, tmp_path / "a.tif", tile=tile, order=order))
    assert scan.geometry == Geometry(shape=(5, 32, 48))
    assert (scan.dtype, scan.channels) == (np.uint8 if dtype == "bool" else dtype, 1)
    np.testing.assert_array_equal(scan.read(1, 4), pages[1:4])


@pytest.mark.parametrize("tile", [0, 16])
@pytest.mark.parametrize("apart", [False, True])
def test_colour_in_tiles_or_planes(tmp_path: Path, tile: int, apart: bool) -> None:
    colours = np.random.default_rng(0).integers(0, 255, (2, 32, 48, 3), dtype=np.uint8)
    path = _write(colours, tmp_path / "a.tif", tile=tile, apart=apart)
    np.testing.assert_array_equal(open_scan(path).read(), colours)


@pytest.mark.parametrize(
    ("dtype", "shape", "apart"),
    [
        ("float64", (1, 16, 16), False),
        ("float16", (1, 16, 16), False),
        ("uint16", (1, 16, 16, 3), True),
        ("int16", (1, 16, 16, 3), True),
    ],
)
def test_what_would_lose_bits_is_refused(
    tmp_path: Path, dtype: str, shape: tuple[int, ...], apart: bool
) -> None:
    path = _write(np.zeros(shape, dtype), tmp_path / "a.tif", apart=apart)
    with pytest.raises(ScanError, match=r"not read without loss; save it with 8, 16 or 32 bits"):
        open_scan(path)


def test_pages_of_two_sizes_are_refused(tmp_path: Path) -> None:
    pages = [Image.new("1", (side, side)) for side in (32, 16)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(ScanError, match="pages of 32 x 32 and of 16 x 16 pixels"):
        open_scan(tmp_path / "a.tif").read()


@pytest.mark.parametrize("kind", ["strips", "tiles", "lzw", "one bit"])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.97])
def test_a_stack_that_ends_too_early_is_not_a_shorter_stack(
    tmp_path: Path, kind: str, share: float
) -> None:
    path, pages = tmp_path / "a.tif", _stack("bool" if kind == "one bit" else "uint8")
    if kind == "lzw":
        first, *rest = (Image.fromarray(page) for page in pages)
        first.save(path, save_all=True, append_images=rest, compression="tiff_lzw")
    else:
        _write(pages, path, tile=16 if kind == "tiles" else 0)
    np.testing.assert_array_equal(open_scan(path).read(), pages)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(ScanError, match=r"a.tif ends too early, after [\d,]+ bytes; copy it again"):
        open_scan(path)


def test_tags_that_mean_nothing_are_refused(tmp_path: Path) -> None:
    path = _write(_stack("uint8"), tmp_path / "a.tif", tile=16)
    sound = path.read_bytes()
    words = struct.pack("<HH", 325, 2)  # lengths of tiles in letters
    path.write_bytes(sound.replace(struct.pack("<HH", 325, 4), words))
    with pytest.raises(ScanError, match="has tags that mean nothing; is it damaged"):
        open_scan(path)
    wide = struct.pack("<HHII", 256, 4, 1, 2**31 - 1)
    tall = struct.pack("<HHII", 257, 4, 1, 2**31 - 1)
    sound = sound.replace(struct.pack("<HHII", 256, 4, 1, 48), wide)
    path.write_bytes(sound.replace(struct.pack("<HHII", 257, 4, 1, 32), tall))
    with pytest.raises(ScanError, match="values, which no memory here holds; is it damaged"):
        open_scan(path).read()


def test_slices_in_one_page_are_not_one_slice(tmp_path: Path) -> None:
    path = _write(_stack("uint8")[:1], tmp_path / "a.tif", depth=4)
    with pytest.raises(ScanError, match="keeps 4 slices in one page, which is not read; save each"):
        open_scan(path)


@pytest.mark.parametrize("count", [2, 5])
def test_a_stack_of_imagej_is_not_its_first_slice(tmp_path: Path, count: int) -> None:
    first, second = (Image.fromarray(page) for page in _stack("uint8")[:2])
    told = f"ImageJ=1.54f\nimages={count}\nslices={count}\n"
    path = tmp_path / "a.tif"
    first.save(path, save_all=True, append_images=[second], tiffinfo={270: told})
    if count == 2:
        assert open_scan(path).geometry.shape[0] == 2
        return
    with pytest.raises(ScanError, match="is of 5 images, of which it tells where 2 lie, as ImageJ"):
        open_scan(path)


def test_truth_values_of_tifffile_are_not_turned_around(tmp_path: Path) -> None:
    mask = np.zeros((9, 13), bool)
    mask[1, 2:5] = True
    Image.fromarray(mask).save(tmp_path / "a.tif", tiffinfo={305: "tifffile.py"})
    written = (tmp_path / "a.tif").read_bytes()
    black_is_zero = struct.pack("<HHIHH", 262, 3, 1, 1, 0)
    assert black_is_zero in written
    white_is_zero = struct.pack("<HHIHH", 262, 3, 1, 0, 0)
    (tmp_path / "a.tif").write_bytes(written.replace(black_is_zero, white_is_zero))
    np.testing.assert_array_equal(read_integers(tmp_path / "a.tif")[0][0], mask)


def test_the_colours_of_a_palette_are_those_of_eight_bits(tmp_path: Path) -> None:
    numbers = Image.fromarray(np.random.default_rng(0).integers(0, 3, (8, 9), dtype=np.uint8))
    numbers.putpalette([0, 0, 0, 250, 0, 0, 0, 250, 0])
    colours = np.asarray(numbers.convert("RGB"))
    for name in ("a.tif", "a.png", "a.bmp"):
        numbers.save(tmp_path / name)
        np.testing.assert_array_equal(open_scan(tmp_path / name).read(), colours[None])


def test_grey_with_alpha_is_grey(tmp_path: Path) -> None:
    grey = Image.fromarray(np.random.default_rng(0).integers(0, 3, (8, 9), dtype=np.uint8))
    Image.merge("LA", [grey, grey]).save(tmp_path / "a.png")
    np.testing.assert_array_equal(open_scan(tmp_path / "a.png").read()[0], np.asarray(grey))
    np.testing.assert_array_equal(read_integers(tmp_path / "a.png")[0][0], np.asarray(grey))


@pytest.mark.parametrize("name", ["a.tif", "a.bmp", "a.png"])
def test_a_mask_of_one_bit_is_upright(tmp_path: Path, name: str) -> None:
    mask = np.zeros((9, 13), bool)
    mask[1, 2:5] = True
    Image.fromarray(mask).save(tmp_path / name)
    np.testing.assert_array_equal(read_integers(tmp_path / name)[0][0] > 0, mask)


def test_every_page_of_a_palette_is_numbers(tmp_path: Path) -> None:
    numbers = np.random.default_rng(0).integers(0, 3, (4, 8, 9), dtype=np.uint8)
    pages = [Image.fromarray(page) for page in numbers]
    for page in pages:
        page.putpalette([0, 0, 0, 250, 0, 0, 0, 250, 0])
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    np.testing.assert_array_equal(read_integers(tmp_path / "a.tif")[0], numbers)


def test_a_mask_larger_than_pillow_trusts_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(np.ones((40, 40), np.uint8)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert read_integers(tmp_path / "a.png")[0].sum() == 1600
    assert Image.MAX_IMAGE_PIXELS == 100
