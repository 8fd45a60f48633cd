"""Import of a folder: the way back, other people's folders, and every fault by file and line."""

from __future__ import annotations

import csv
import errno
import json
import pickle
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from candlemark import progress
from candlemark.candles.export import write as write_candles
from candlemark.dataset.audit import audit
from candlemark.dataset.config import DatasetConfig
from candlemark.dataset.lazy import Dataset, open_dataset
from candlemark.dataset.sharing.export import export
from candlemark.dataset.sharing.folder_import import Imported, import_folder
from candlemark.dataset.sharing.pictures import PictureDataset, open_pictures
from candlemark.dataset.splits import SPLITS
from candlemark.errors import CandlemarkError, ConfigError, DatasetError
from candlemark.progress import Event

MakeDataset = Callable[..., Dataset]
COLOUR = {"kind": "candlestick", "height": 48, "width": 40, "volume": True}


class _Texts:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def handle(self, event: Event) -> None:
        if event.kind in ("note", "warning"):
            self.lines.append(event.text)


@pytest.fixture
def told() -> Iterator[list[str]]:
    """Notes and warnings."""
    texts = _Texts()
    previous = progress.set_reporter(texts)
    yield texts.lines
    progress.set_reporter(previous)


# ---------------------------------------------------------------- the way back


def test_an_import_that_is_interrupted_while_it_compares_leaves_nothing(
    make_dataset: MakeDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = export(make_dataset(), tmp_path / "folder", to="folder")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("candlemark.dataset.sharing.rebuild._agrees", interrupt)
        with pytest.raises(KeyboardInterrupt):
            import_folder(folder, tmp_path / "back")
    assert not (tmp_path / "back").exists()
    assert import_folder(folder, tmp_path / "back").identical


@pytest.mark.parametrize("name", ["../secret.csv", "/etc/secret.csv", "C:\\secret.csv", ""])
def test_a_description_cannot_name_candles_outside_of_its_folder(
    make_dataset: MakeDataset, tmp_path: Path, name: str
) -> None:
    folder = export(make_dataset(), tmp_path / "folder", to="folder")
    file = folder / "dataset.json"
    value = json.loads(file.read_text(encoding="utf-8"))
    value["files"] = dict.fromkeys(value["files"], name)
    file.write_text(json.dumps(value), encoding="utf-8")
    (tmp_path / "secret.csv").write_bytes(next((folder / "candles").iterdir()).read_bytes())
    with pytest.raises(DatasetError, match=r"dataset.json: candles of .* no path inside of"):
        import_folder(folder, tmp_path / "back")
    assert not (tmp_path / "back").exists()


@pytest.mark.parametrize(
    "look",
    [
        {},
        {"style": COLOUR, "experiment": "irregular", "missing_share": 0.3},
        {"style": {"kind": "jkx"}, "label": {"name": "forward_return", "classes": 3}},
        {"storage": {"format": "hdf5"}, "split": {"method": "walk_forward", "fold": 2}},
    ],
    ids=["plain", "hidden candles", "averages", "stored"],
)
def test_a_folder_comes_back_as_the_same_dataset(
    make_dataset: MakeDataset, tmp_path: Path, look: dict[str, Any]
) -> None:
    dataset = make_dataset(**look)
    folder = export(dataset, tmp_path / "folder", to="folder")
    found = import_folder(folder, tmp_path / "back")
    count = len(dataset)
    assert found == Imported(
        path=tmp_path / "back",
        kind="rebuilt",
        count=count,
        found=count,
        agreeing=count,
        same_labels=count,
        identical=True,
    )
    back = open_dataset(tmp_path / "back")
    assert back.content_hash == dataset.content_hash
    rows = np.arange(count)
    assert (back.images(rows) == dataset.images(rows)).all()
    assert audit(back).ok == audit(dataset).ok


def test_several_symbols_with_gaps_and_odd_names(
    make_dataset: MakeDataset, make_series: Callable[..., Any], tmp_path: Path
) -> None:
    series = [
        make_series(300, seed=1, symbol="B/T.C", missing=[50, 51, 200]),
        make_series(250, seed=2, symbol="b_t_c"),
    ]
    folder = export(make_dataset(series=series), tmp_path / "folder", to="folder")
    found = import_folder(folder, tmp_path / "back")
    assert found.identical
    assert found.agreeing == found.count


def test_what_was_changed_is_counted_and_named(
    make_dataset: MakeDataset, tmp_path: Path, told: list[str]
) -> None:
    dataset = make_dataset()
    folder = export(dataset, tmp_path / "folder", to="folder")
    lines = read_csv(folder / "index.csv")
    picture = np.asarray(Image.open(folder / lines[4]["image_path"])).copy()
    picture[3, 3] ^= 255
    Image.fromarray(picture).save(folder / lines[4]["image_path"])
    cut = folder / lines[6]["image_path"]
    cut.write_bytes(cut.read_bytes()[:60])
    lines[7]["label"] = "up" if lines[7]["label"] == "down" else "down"
    lines[9]["window_start"] = "1999-01-01T00:00:00Z"
    write_csv(folder / "index.csv", lines)
    found = import_folder(folder, tmp_path / "back")
    count = len(dataset)
    assert (found.count, found.found, found.agreeing) == (count, count - 1, count - 3)
    assert found.same_labels == count - 2
    assert found.identical
    text = "\n".join(told)
    assert f"1 of {count} pictures belong to no window" in text
    assert f"{lines[9]['image_path']}, index.csv line 11" in text
    assert f"2 pictures differ from those drawn from the candles: {lines[4]['image_path']}" in text
    assert f"1 labels differ from those of the candles: {lines[7]['image_path']}" in text


def test_changed_candles_are_another_dataset(make_dataset: MakeDataset, tmp_path: Path) -> None:
    folder = export(make_dataset(), tmp_path / "folder", to="folder")
    path = folder / "candles" / "RANDOM_WALK.csv"
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join(lines[:-1]) + "\n", encoding="utf-8")
    found = import_folder(folder, tmp_path / "back")
    assert found.identical is False
    assert found.found is not None
    assert found.found < found.count


def test_without_its_candles_the_pictures_are_taken(
    make_dataset: MakeDataset, tmp_path: Path, told: list[str]
) -> None:
    dataset = make_dataset(style=COLOUR)
    folder = export(dataset, tmp_path / "folder", to="folder")
    (folder / "candles" / "RANDOM_WALK.csv").unlink()
    assert import_folder(folder, tmp_path / "back").kind == "pictures"
    assert any("lacks the candles of RANDOM_WALK" in line for line in told)
    pictures = open_pictures(tmp_path / "back")
    assert pictures.split_names == dataset.split_names
    for split in SPLITS:
        mine, theirs = pictures.split(split), dataset.split(split)
        assert (pictures.images(mine) == dataset.images(theirs)).all()
        assert (pictures.targets(mine) == dataset.targets(theirs)).all()
        found, metadata = pictures.metadata(mine), dataset.metadata(theirs)
        for name in ("label", "next_close", "split", "symbol", "window_start_ms", "target"):
            assert found[name] == metadata[name]


def test_a_config_draws_a_folder_that_does_not_say_how(
    make_dataset: MakeDataset, make_config: Callable[..., DatasetConfig], tmp_path: Path
) -> None:
    dataset = make_dataset()
    folder = export(dataset, tmp_path / "folder", to="folder")
    (folder / "dataset.json").unlink()
    found = import_folder(folder, tmp_path / "back", config=make_config())
    assert (found.agreeing, found.identical) == (len(dataset), None)
    other = make_config(style={"kind": "jkx", "height": 40})
    assert import_folder(folder, tmp_path / "other", config=other).agreeing == 0
    with pytest.raises(DatasetError, match="cannot be drawn again with a config: that needs"):
        import_folder(theirs(tmp_path / "theirs"), tmp_path / "x", config=other)


def test_other_forms_are_named(make_dataset: MakeDataset, tmp_path: Path) -> None:
    folder = export(make_dataset(), tmp_path / "tar", to="webdataset")
    with pytest.raises(DatasetError, match="is an export of the form 'webdataset', which other"):
        import_folder(folder, tmp_path / "back")


def test_classes_and_purge_are_for_pictures(make_dataset: MakeDataset, tmp_path: Path) -> None:
    folder = export(make_dataset(), tmp_path / "folder", to="folder")
    for flags in ({"class_names": ("a", "b")}, {"purge": 3}):
        with pytest.raises(ConfigError, match="classes and purge are for pictures alone"):
            import_folder(folder, tmp_path / "back", **flags)


# ---------------------------------------------------------------- other people's folders


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))


def write_csv(path: Path, lines: list[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)


def picture(number: int, mode: str = "L", size: tuple[int, int] = (12, 10)) -> Image.Image:
    pixels = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def theirs(folder: Path, count: int = 60, mode: str = "L", **columns: list[Any]) -> Path:
    """A folder as somebody's script leaves it: pictures and labels."""
    (folder / "images").mkdir(parents=True)
    for number in range(count):
        picture(number, mode).save(folder / "images" / f"{number}.png")
    lines = [
        {
            "image_path": f"images/{number}.png",
            "label": "down" if number % 3 else "up",
            **{name: values[number] for name, values in columns.items()},
        }
        for number in range(count)
    ]
    write_csv(folder / "index.csv", lines)
    return folder


def take(folder: Path, **options: Any) -> PictureDataset:
    out = folder.parent / f"{folder.name}-out"
    found = import_folder(folder, out, **options)
    assert (found.path, found.kind) == (out, "pictures")
    return open_pictures(out)


def test_pictures_and_labels_alone(tmp_path: Path, told: list[str]) -> None:
    pictures = take(theirs(tmp_path / "theirs"), purge=5)
    assert pictures.class_names == ("down", "up")
    assert pictures.image_shape == (10, 12)
    # 60 pictures less 5 at each of two boundaries, 72/8/20
    assert [len(pictures.split(name)) for name in SPLITS] == [36, 4, 10]
    paths = pictures.metadata(np.arange(len(pictures)))["image_path"]
    numbers = [int(path[7:-4]) for path in paths]
    assert numbers == [*range(36), *range(41, 45), *range(50, 60)]
    expected = np.stack([np.asarray(picture(number)) for number in numbers])
    assert (pictures.images(np.arange(50)) == expected).all()
    assert pictures.targets([0, 1, 2, 3]).tolist() == [1, 0, 0, 1]
    assert pictures.manifest.counts["train"] == {"down": 24, "up": 12}
    assert told == [
        "index.csv names no splits: they are cut 72/8/20 by order, with 5 left out at each boundary"
    ]


def test_time_decides_the_order_and_keeps_symbols_together(tmp_path: Path) -> None:
    days = [f"2024-{1 + day // 28:02d}-{1 + day % 28:02d}" for day in range(60)]
    order = np.random.default_rng(0).permutation(120)
    when = [days[number // 2] for number in order.tolist()]
    symbol = [f"S{number % 2}" for number in order.tolist()]
    pictures = take(theirs(tmp_path / "theirs", 120, date=when, symbol=symbol), purge=4)
    assert pictures.manifest.split_by == "time"
    spans = []
    for name in SPLITS:
        times = pictures.metadata(pictures.split(name))["window_start_ms"]
        assert times == sorted(times)
        assert len(times) == 2 * len(set(times))
        spans.append((times[0], times[-1]))
    day = 86_400_000
    for (_, end), (begin, _) in pairwise(spans):
        assert begin - end == 5 * day


def test_a_split_column_is_obeyed(tmp_path: Path) -> None:
    names = ["train"] * 40 + ["val"] * 10 + ["Test"] * 10
    pictures = take(theirs(tmp_path / "theirs", split=names))
    assert [len(pictures.split(name)) for name in SPLITS] == [40, 10, 10]
    assert (pictures.manifest.split_by, pictures.manifest.purge) == ("column", None)
    assert pictures.metadata([45])["split"] == ["validation"]


def test_usual_names_of_columns_and_optional_ones(tmp_path: Path) -> None:
    folder = theirs(tmp_path / "theirs")
    lines = [
        {
            "File_Name": line["image_path"].replace("/", "\\"),
            "Caption": 'a chart, "up"\nor down',
            "Target": number % 11,
            "next_close": "" if number == 3 else 1.5 * number,
        }
        for number, line in enumerate(read_csv(folder / "index.csv"))
    ]
    (folder / "index.csv").unlink()
    write_csv(folder / "metadata.csv", lines)
    (folder / "metadata.csv").write_text(
        "\ufeff" + (folder / "metadata.csv").read_text(encoding="utf-8"), encoding="utf-8"
    )
    pictures = take(folder, purge=2)
    assert pictures.class_names == tuple(str(number) for number in range(11))
    found = pictures.metadata([2, 3])
    assert found["text"] == ['a chart, "up"\nor down'] * 2
    assert found["next_close"] == [3.0, None]


@pytest.mark.parametrize(
    ("mode", "shape"),
    [("1", (10, 12)), ("L", (10, 12)), ("P", (10, 12, 3)), ("RGB", (10, 12, 3))],
)
def test_kinds_of_pictures(tmp_path: Path, mode: str, shape: tuple[int, ...]) -> None:
    pictures = take(theirs(tmp_path / "theirs", mode=mode), purge=3)
    assert pictures.image_shape == shape
    expected = np.asarray(picture(7, mode).convert("L" if len(shape) == 2 else "RGB"))
    assert (pictures.images([7])[0] == expected).all()


def test_what_is_transparent_lies_on_white_paper(tmp_path: Path) -> None:
    folder = theirs(tmp_path / "theirs")
    clear = Image.new("RGBA", (12, 10), (10, 20, 30, 0))
    clear.putpixel((3, 2), (10, 20, 30, 255))
    clear.save(folder / "images" / "0.png")
    first = take(folder, purge=3).images([0])[0]
    assert first[2, 3].tolist() == [10, 20, 30]
    assert first[0, 0].tolist() == [255, 255, 255]


def test_they_train(tmp_path: Path) -> None:
    import torch
    from torch.utils.data import DataLoader

    from candlemark.dataset.torch_dataset import ChartDataset

    pictures = take(theirs(tmp_path / "theirs"), purge=3)
    train = ChartDataset(pictures, pictures.split("train"))  # type: ignore[arg-type]
    images, targets = next(iter(DataLoader(train, batch_size=8)))
    assert (images.shape, images.dtype) == ((8, 10, 12), torch.uint8)
    assert targets.tolist() == pictures.targets(np.arange(8)).tolist()
    again = pickle.loads(pickle.dumps(pictures))  # noqa: S301 - our own bytes
    assert (again.images([5, 1]) == pictures.images([5, 1])).all()


def test_rows_are_checked(tmp_path: Path) -> None:
    pictures = take(theirs(tmp_path / "theirs"), purge=3)
    assert pictures.images([]).shape == (0, 10, 12)
    with pytest.raises(ConfigError, match="rows run from 0 to 99; this dataset has rows 0 to"):
        pictures.images([0, 99])
    with pytest.raises(ConfigError, match="rows are float64"):
        pictures.targets([0.5])  # type: ignore[list-item]
    with pytest.raises(ConfigError, match="unknown split 'dev'"):
        pictures.split("dev")


def test_candles_that_nobody_explains_are_told(
    tmp_path: Path, make_series: Callable[..., Any], told: list[str]
) -> None:
    folder = theirs(tmp_path / "theirs")
    (folder / "candles").mkdir()
    write_candles(make_series(100), folder / "candles" / "TEST.csv")
    take(folder, purge=3)
    assert "holds candles but does not say how its pictures were drawn" in told[0]


# ---------------------------------------------------------------- faults


def set_cell(folder: Path, number: int, **values: str) -> None:
    lines = read_csv(folder / "index.csv")
    lines[number].update(values)
    write_csv(folder / "index.csv", lines)


def damage_png(folder: Path, name: str) -> None:
    path = folder / "images" / name
    data = bytearray(path.read_bytes())
    data[60:70] = b"0123456789"
    path.write_bytes(data)


def save(folder: Path, name: str, image: Image.Image) -> None:
    image.save(folder / "images" / name)


FAULTS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "missing picture": (
        lambda folder: (folder / "images" / "7.png").unlink(),
        r"index.csv line 9: there is no file .*images/7.png",
    ),
    "no picture": (
        lambda folder: (folder / "images" / "7.png").write_text("hello", encoding="utf-8"),
        r"index.csv line 9: .*7.png cannot be read as a picture \(cannot identify image file",
    ),
    "damaged picture": (
        lambda folder: damage_png(folder, "7.png"),
        r"index.csv line 9: .*7.png cannot be read as a picture \(.+\); draw it again",
    ),
    "other size": (
        lambda folder: save(folder, "7.png", picture(7, size=(12, 11))),
        r"line 9: images/7.png is 12 x 11 pixels, but images/0.png \(index.csv line 2\) is 12 x 10",
    ),
    "deep picture": (
        lambda folder: save(folder, "7.png", Image.fromarray(np.zeros((10, 12), np.uint16))),
        r"index.csv line 9: .*7.png has more than 8 bits a channel",
    ),
    "named twice": (
        lambda folder: set_cell(folder, 7, image_path="images//3.png"),
        r"index.csv line 9: images//3.png is named before, in line 5; a picture has one line",
    ),
    "outside": (
        lambda folder: set_cell(folder, 7, image_path="../x.png"),
        r"index.csv line 9: '../x.png' is no path inside of",
    ),
    "absolute": (
        lambda folder: set_cell(folder, 7, image_path="/etc/x.png"),
        r"index.csv line 9: '/etc/x.png' is no path inside of",
    ),
    "drive": (
        lambda folder: set_cell(folder, 7, image_path="C:/x.png"),
        r"index.csv line 9: 'C:/x.png' is no path inside of",
    ),
    "empty label": (
        lambda folder: set_cell(folder, 7, label=" "),
        r"index.csv line 9: the label is empty",
    ),
    "unknown label": (
        lambda folder: set_cell(folder, 7, label="sideways"),
        r"index.csv line 9: label 'sideways' is none of the classes: down, up; correct it",
    ),
    "short line": (
        lambda folder: (folder / "index.csv").write_text(
            "image_path,label\nimages/0.png\n", encoding="utf-8"
        ),
        r"index.csv line 2: 1 values, the header names 2 columns",
    ),
    "nothing": (
        lambda folder: (folder / "index.csv").write_text("image_path,label\n", encoding="utf-8"),
        r"index.csv names no picture",
    ),
    "no label column": (
        lambda folder: (folder / "index.csv").write_text(
            "image_path,text\na,b\n", encoding="utf-8"
        ),
        r"index.csv: no column is called label or target or class; it has: image_path, text",
    ),
    "no index": (
        lambda folder: (folder / "index.csv").unlink(),
        r"holds no index: a CSV at its top with columns image_path and label",
    ),
    "two indexes": (
        lambda folder: (folder / "b.csv").write_text("image_path,label\na,b\n", encoding="utf-8"),
        r"holds 2 indexes \(b.csv, index.csv\); leave one there",
    ),
    "no text": (
        lambda folder: (folder / "index.csv").write_bytes(b"image_path,label\n\xff\xfe,x\n"),
        r"index.csv cannot be read as CSV: 'utf-8' codec",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_one_line_and_leaves_nothing(tmp_path: Path, name: str) -> None:
    fault, message = FAULTS[name]
    folder = theirs(tmp_path / "theirs")
    fault(folder)
    with pytest.raises(CandlemarkError, match=message) as error:
        import_folder(folder, tmp_path / "out", purge=3, class_names=("down", "up"))
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["theirs"]


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        ({"next_close": "x"}, {}, "index.csv line 9: next_close 'x' is no number"),
        ({"split": "holdout"}, {}, "index.csv line 9: split 'holdout' is unknown; known: train,"),
        ({"date": "soon"}, {}, "index.csv line 9: window_start 'soon' is not understood"),
        ({}, {"purge": -1}, "purge is -1; it must be 0 or more"),
        ({}, {"purge": 40}, "60 pictures at 60 different places are too few to split 72/8/20"),
        ({}, {}, "are too few to split 72/8/20 with 60 left out at each of two boundaries"),
        ({}, {"class_names": ("up", "up")}, "classes up, up name one twice"),
    ],
)
def test_wrong_columns_and_options(
    tmp_path: Path, columns: dict[str, str], options: dict[str, Any], message: str
) -> None:
    usual = {"next_close": "1", "split": "train", "date": "2024-01-01"}
    given = {
        name: [usual[name]] * 7 + [wrong] + [usual[name]] * 52 for name, wrong in columns.items()
    }
    folder = theirs(tmp_path / "theirs", **given)
    with pytest.raises(CandlemarkError, match=message):
        import_folder(folder, tmp_path / "out", **options)


def test_a_purge_beside_a_split_column_is_refused(tmp_path: Path) -> None:
    folder = theirs(tmp_path / "theirs", split=["train"] * 60)
    with pytest.raises(ConfigError, match=r"--purge 3 is for a folder without splits; index.csv"):
        import_folder(folder, tmp_path / "out", purge=3)


def test_one_class_teaches_nothing(tmp_path: Path) -> None:
    folder = theirs(tmp_path / "theirs")
    write_csv(folder / "index.csv", [{"image_path": "images/1.png", "label": "up"}])
    with pytest.raises(DatasetError, match=r"every label of index.csv is 'up'; a classifier needs"):
        import_folder(folder, tmp_path / "out")


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = theirs(tmp_path / "theirs")

    def full(*_: Any, **__: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("candlemark.dataset.sharing.folder_import.write_pictures", full)
    with pytest.raises(DatasetError, match="the disk is full while writing"):
        import_folder(folder, tmp_path / "out", purge=3)
    assert [path.name for path in tmp_path.iterdir()] == ["theirs"]


def test_an_occupied_place_is_refused_first(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="holds something already"):
        import_folder(tmp_path / "nowhere", tmp_path.parent)
    with pytest.raises(DatasetError, match="no folder at"):
        import_folder(tmp_path / "nowhere", tmp_path / "out")


def test_imported_pictures_that_were_damaged(tmp_path: Path) -> None:
    pictures = take(theirs(tmp_path / "theirs"), purge=3)
    file = pictures.path / "pictures.json"
    text = file.read_text(encoding="utf-8")
    for wrong, message in [
        ("{", "pictures.json is damaged"),
        ("[]", "does not say that it holds candlemark pictures"),
        (text.replace('"format_version": 1', '"format_version": 2'), "has format 2; this candl"),
        (text.replace('"purge"', '"moon"'), "unknown key 'moon'"),
    ]:
        file.write_text(wrong, encoding="utf-8")
        with pytest.raises(DatasetError, match=message):
            open_pictures(pictures.path)
    file.write_text(text, encoding="utf-8")
    index = pictures.path / "index.parquet"
    index.write_bytes(index.read_bytes()[:-1] + b"?")
    with pytest.raises(DatasetError, match=r"index.parquet is damaged"):
        open_pictures(pictures.path)
    with pytest.raises(DatasetError, match=r"holds no pictures.json, so it holds no imported"):
        open_pictures(tmp_path)
