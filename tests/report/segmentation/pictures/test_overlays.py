"""Pictures of the best, median and worst case, looked at pixel by pixel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from candlemark.report.segmentation.overlays import (
    CLASS_COLOURS,
    LINE_OF_ONE,
    class_colours,
    draw_overlays,
    drop_overlays,
    line_colours,
    overlay_path,
)


@pytest.fixture(scope="module")
def drawn(
    fake: Any, board: Any, scans: list[Any], tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[Path], list[str]]:
    asked: list[str] = []
    folder = tmp_path_factory.mktemp("overlays")
    return draw_overlays(board, fake.loader(scans, asked=asked), folder, prefix="run"), asked


def test_each_model_with_an_answer_has_a_picture(drawn: tuple[list[Path], list[str]]) -> None:
    assert {path.name for path in drawn[0]} == {
        "run_overlay_clinic_moved.png",
        "run_overlay_hub_thinner.png",
        "run_overlay_sam_oracle_box.png",
    }


def test_each_case_is_loaded_once(drawn: tuple[list[Path], list[str]]) -> None:
    assert len(drawn[1]) == len(set(drawn[1]))


def shares(path: Path, colour: str) -> float:
    pixels = np.asarray(Image.open(path).convert("RGB"), dtype=float) / 255
    return float((np.abs(pixels - to_rgb(colour)).max(axis=-1) < 0.02).mean())


def test_the_prediction_is_a_line_of_its_colour(drawn: tuple[list[Path], list[str]]) -> None:
    for path in drawn[0]:
        assert 0.0005 < shares(path, LINE_OF_ONE) < 0.05, path.name
        with Image.open(path) as picture:
            assert 800 < picture.width < 2000
            assert 800 < picture.height < 2000


def test_two_cases_are_best_and_worst_and_one_is_all_there_is(fake: Any, tmp_path: Path) -> None:
    from candlemark.report.segmentation import overlays

    for count, expected in ((1, ["only"]), (2, ["best", "worst"])):
        scans = fake.phantoms(count)
        board = fake.board_of(scans, rows=["clinic/moved"], metrics=("dice",))
        (row,) = board.rows
        found = overlays._unlike(row.telling_cases("dice"))
        assert list(found) == expected
        assert len(draw_overlays(board, fake.loader(scans), tmp_path, prefix=str(count))) == 1


def test_two_classes_in_two_colours_and_names_that_are_nearly_alike(
    fake: Any, tmp_path: Path
) -> None:
    scans = fake.phantoms(1)
    board = fake.board_of(
        scans, classes=2, rows=["clinic/moved", "clinic moved"], metrics=("dice",)
    )
    found = draw_overlays(board, fake.loader(scans, classes=2), tmp_path, prefix="two")
    assert [path.name for path in found] == [
        "two_overlay_clinic_moved.png",
        "two_overlay_clinic_moved_1.png",
    ]
    moved = next(path for path in found if shares(path, CLASS_COLOURS[0]) > 0.0005)
    assert shares(moved, LINE_OF_ONE) < 0.0005


def test_files_that_are_gone_leave_no_picture(board: Any, tmp_path: Path) -> None:
    assert draw_overlays(board, lambda case, trials: None, tmp_path, prefix="run") == []
    assert list(tmp_path.iterdir()) == []


def test_pictures_of_earlier_rows_go_and_other_files_stay(tmp_path: Path) -> None:
    names = ("run_overlay_a_b.png", "run_overlay_old.png", "runs_overlay_c.png", "run_overlay.txt")
    for name in names:
        (tmp_path / name).touch()
    drop_overlays(tmp_path, prefix="run", keep=[overlay_path("a/b", tmp_path, prefix="run")])
    assert {path.name for path in tmp_path.iterdir()} == {*names} - {"run_overlay_old.png"}
    drop_overlays(tmp_path / "none", prefix="run", keep=[])


def test_colours_repeat_and_one_class_has_two() -> None:
    names = {str(label): "x" for label in range(1, 10)}
    fills = class_colours(names)
    assert fills[1] == fills[8] == CLASS_COLOURS[0]
    assert line_colours(fills) == fills
    assert line_colours({4: "#000000"}) == {4: LINE_OF_ONE}
