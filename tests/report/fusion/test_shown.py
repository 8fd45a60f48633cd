"""The terminal, the page, the figure and JSON show what the answers are, and nothing of chance."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image
from rich.console import Console

from candlemark.report import dashboard, text
from candlemark.report.build import board_to_dict, build_report
from candlemark.report.fusion.charts import gains
from candlemark.report.fusion.figures import draw
from candlemark.report.fusion.questions import ask
from candlemark.report.fusion.text import standing
from candlemark.report.statistics import Board, build_boards
from candlemark.results.store import open_results

Make = Callable[..., Board]
LATE = "text + image (late)"


@pytest.fixture(scope="module")
def whole(fakes: ModuleType, board: Make) -> Board:
    """Two ways to fuse, all yardsticks, and a way that failed."""
    late = replace(fakes.GATED, name=LATE, fusion="late")
    return board(*fakes.ROWS, fakes.GATED, failing=(late,))


def shown(board: Board, width: int) -> str:
    console = Console(width=width, record=True, file=Path("/dev/null").open("w"))  # noqa: SIM115
    text.show([board], console)
    console.file.close()
    return console.export_text()


class TestTerminal:
    @pytest.mark.parametrize("width", [80, 100, 160])
    def test_every_answer_fits_the_width(self, whole: Board, width: int) -> None:
        said = shown(whole, width)
        assert max(map(len, said.splitlines())) <= width
        assert said.count("Does the text help?") == 2
        assert said.count("yes, p < 0.001") >= 10
        assert "not answered: text + image (late) failed" in said
        assert "…" not in said

    def test_persistence_stands_in_the_table_of_the_close(self, whole: Board) -> None:
        said = shown(whole, 80)
        table = said[said.index("Next close: error") :]
        assert re.search(r"baseline: +1\.000 \[1\.000, 1\.000\] +n/a +is the last close", table)
        assert re.search(r"text \+ image +0\.\d{3} \[.*better, p < 0\.001", table)
        # The least error comes first.
        assert table.index("text + image") < table.index("text only") < table.index("persistence")

    def test_a_wide_terminal_gets_further_scores(self, whole: Board) -> None:
        assert "RMSE %" not in shown(whole, 80)
        assert "RMSE %" in shown(whole, 120)

    def test_a_walk_that_leaks_is_shouted(self, fakes: ModuleType) -> None:
        records = [fakes.fusion_record(row) for row in (fakes.BOTH, fakes.TEXT, fakes.IMAGE)]
        (walk,) = build_boards(
            [replace(r, facts={**r.facts, "market": "random_walk"}) for r in records]
        )
        assert "it leaks." in shown(walk, 100)

    def test_the_detailed_report_holds_every_comparison(self, whole: Board) -> None:
        said = text.detailed([whole])
        assert "What each input adds, paired on the same cases (p corrected by Holm over 16" in said
        assert said.count("against image only [") == 4
        assert "Forecasts of the next close against the last one" in said
        assert re.search(r"MAE +\d\.\d{3} % \[", said)
        assert "nan" not in said.lower()

    def test_charts_boards_say_nothing_of_inputs(self, fakes: ModuleType) -> None:
        record = fakes.fusion_record(fakes.BOTH)
        (charts,) = build_boards([replace(record, trial={"task": "charts"})])
        assert "What each input adds" not in shown(charts, 100)
        assert board_to_dict(charts)["inputs"] is None

    def test_a_row_without_a_mase_says_why(self, fakes: ModuleType, board: Make) -> None:
        few = board(fakes.BOTH, fakes.PERSISTENCE, cases=100)
        row = next(row for row in few.rows if row.name == fakes.BOTH.name)
        assert standing(row, ask(few)) == (
            "98 cases are 3.9 blocks of 25; an interval needs 5 blocks, 27 more cases"
        )


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in {"meta", "link", "br"}:
            self.open.append(tag)
        self.ids += [value or "" for name, value in attrs if name == "id"]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


class TestPage:
    def test_shows_the_answers_and_the_close(self, whole: Board) -> None:
        html = dashboard.page([whole], (), title="demo")
        parser = _Page()
        parser.feed(html)
        assert parser.open == []
        assert "gains-0" in parser.ids
        for expected in (
            "What each input adds",
            "Do the pixels help?",
            "over image only",
            "The next close",
            "is the last close",
            "not answered: text + image (late) failed",
        ):
            assert expected in html, expected

    def test_names_from_outside_are_escaped(self, fakes: ModuleType, board: Make) -> None:
        attack = "</script><img src=x onerror=alert(1)>"
        rows = (replace(fakes.BOTH, name=attack), replace(fakes.TEXT, name=f"{attack}2"))
        html = dashboard.page([board(*rows, fakes.IMAGE)], (), title="demo")
        assert "<img" not in re.sub(r"<script>.*?plotly.*?</script>", "", html, flags=re.DOTALL)

    def test_the_chart_is_plain_data_with_names_for_colours(self, whole: Board) -> None:
        chart = gains(ask(whole))
        assert chart is not None
        json.dumps(chart, allow_nan=False)
        assert len(chart["data"]) == 16
        assert {trace["xaxis"] for trace in chart["data"]} == {"x", "x2"}
        assert "@good" in {trace["marker"]["color"] for trace in chart["data"]}

    def test_nothing_is_drawn_of_nothing(
        self, fakes: ModuleType, board: Make, tmp_path: Path
    ) -> None:
        few = board(fakes.BOTH, fakes.TEXT, cases=100)
        assert gains(ask(few)) is None
        assert draw(few, ask(few), tmp_path, prefix="x") == []


class TestFiles:
    def test_a_report_of_a_store_has_the_figure_and_strict_json(
        self, fakes: ModuleType, tmp_path: Path
    ) -> None:
        rows = (fakes.BOTH, fakes.TEXT, fakes.IMAGE, fakes.PERSISTENCE)
        with open_results(tmp_path) as results:
            results.add_suite("s1", {"task": "fusion"}, fakes.WHEN)
            for row in rows:
                results.append(fakes.fusion_record(row), "s1")
                results.append(fakes.fusion_record(row, market="random_walk"), "s1")
            built = build_report(results, tmp_path / "out", prefix="demo", suite_id="s1")
        names = {path.name for path in built.figures}
        assert "demo_inputs.png" in names
        assert "demo_random_walk_1h_direction_fusion_inputs.png" in names
        with Image.open(tmp_path / "out" / "demo_inputs.png") as picture:
            assert picture.width > 900
            assert len(picture.convert("RGB").getcolors(1_000_000) or []) > 20
        value = json.loads(json.dumps(built.to_dict(), allow_nan=False))
        first = value["boards"][0]
        assert first["task"] == "fusion"
        assert first["inputs"]["headline"].startswith("the text helps; the pixels help; ")
        assert first["inputs"]["answers"][0]["verdict"] == "yes"
        assert first["inputs"]["findings"][0]["title"] == "Does the text help?"
        assert fakes.BOTH.name in first["inputs"]["against_last_close"]
        assert "Of its inputs: the text helps; the pixels help; " in value["answer"]
