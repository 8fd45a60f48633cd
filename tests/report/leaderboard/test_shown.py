"""What a leaderboard says on a terminal, as Markdown, as a page and as a picture."""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from candlemark.errors import ResultsError
from candlemark.report.leaderboard.board import (
    Board,
    Capability,
    Change,
    Changes,
    Section,
    Standing,
    Trend,
)
from candlemark.report.leaderboard.markdown import markdown
from candlemark.report.leaderboard.page import page, write_page
from candlemark.report.leaderboard.text import show, show_changes
from candlemark.report.leaderboard.trend import lines, short_name, spread, trend_chart, write_trend
from candlemark.report.leaderboard.words import ago, claim_text, claims_cell, count, trend_cell
from candlemark.results.own_scores import OwnScore
from candlemark.results.tracked import Claim, TrackedModel

CLAIM = Claim(
    origin="model-index", task="image-segmentation", dataset="isic", metric="dice", value=0.887,
    told="0.887", verification="verified", split="test", source="https://example.org/paper",
    source_name="Paper",
)  # fmt: skip
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "chrome")
EVIL = "<script>alert(1)</script>"


def standing(place: int, model_id: str, **told: Any) -> Standing:
    model = TrackedModel(
        id=model_id,
        found_by=("task=image-segmentation limit=20", "text=b limit=20")[: 1 + place % 2],
        **{"downloads": 1234, "likes": 5, "parameters": 3_751_686, "license": "mit", **told},
    )
    return Standing(
        place=place,
        model=model,
        capability=Capability(level="ready", reason="it has a head", protocol="native_head"),
        why="it has a head; not measured here",
        recommended=True,
    )


def board(*standings: Standing, days: int = 2, **told: Any) -> Board:
    times = [f"2026-01-0{day + 1}T00:00:00Z" for day in range(days)]
    history = {
        one.model.id: [(when, (one.model.downloads or 0) + 100 * n) for n, when in enumerate(times)]
        for one in standings
    }
    values: dict[str, Any] = {
        "endpoint": "https://hub.example",
        "taken_at": "2026-01-02T00:00:00Z",
        "source": "asked now, 2 requests",
        "asked": ("task=image-segmentation limit=20",),
        "sections": (
            Section(task="image-segmentation", standings=standings),
            Section(task="object-detection", standings=()),
        ),
        "snapshots": tuple(times),
        "history": history,
    }
    return Board(**{**values, **told})


def printed(told: Board, width: int = 160, **options: Any) -> str:
    out = io.StringIO()
    show(told, Console(file=out, width=width, force_terminal=False), **options)
    return out.getvalue()


def test_a_terminal_says_what_can_be_done_and_where_it_is_from() -> None:
    text = printed(board(standing(1, "a/b", claims=(CLAIM,)), standing(2, "c/d")))
    assert "Models of the Hub: https://hub.example, asked now, 2 requests" in text
    assert "image-segmentation  2 models" in text
    assert "dice 0.887 on isic (test), verified" in text
    assert "none claimed" in text
    assert "1. a/b: it has a head; not measured here" in text
    assert "no public model found for: object-detection" in text


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_a_narrow_terminal_gets_fewer_columns_and_no_wider_lines(width: int) -> None:
    text = printed(board(standing(1, "nvidia/segformer-b0-finetuned-ade-512-512")), width)
    # A command is one line, so that it can be copied.
    told = [line for line in text.splitlines() if "candlemark segment" not in line]
    assert all(len(line) <= width for line in told)
    assert "can do it" in text
    assert ("found by" in text) == (width == 200)


def test_more_models_than_are_shown_are_counted() -> None:
    shown = board(*(standing(n, f"a/{n}") for n in range(1, 14)))
    assert "3 more: --show 0, --json, --markdown or --html" in printed(shown)
    assert "a/13" not in printed(shown)
    assert "a/13" in printed(shown, shown=0)


def test_an_old_snapshot_says_when_it_was() -> None:
    text = printed(board(standing(1, "a/b"), offline=True))
    assert "this is what the Hub said at 2026-01-02T00:00:00Z" in text


def test_changes_stand_news_first() -> None:
    out = io.StringIO()
    changes = Changes(
        before="2026-01-01T00:00:00Z",
        after="2026-01-02T00:00:00Z",
        items=(
            Change(model="a/b", kind="numbers", text="downloads 1 -> 2"),
            Change(model="c/d", kind="new", text="found by x"),
        ),
    )
    show_changes(changes, Console(file=out, width=120))
    assert out.getvalue().splitlines() == [
        "changed between 2026-01-01T00:00:00Z and 2026-01-02T00:00:00Z",
        "new      c/d: found by x",
        "numbers  a/b: downloads 1 -> 2",
    ]


def test_what_nobody_told_is_never_zero() -> None:
    unknown = standing(1, "a/b", downloads=None, likes=None, parameters=None, license=None)
    for text in (printed(board(unknown)), markdown(board(unknown)), page(board(unknown))):
        assert "n/a" in text
        assert "not told" in text
        assert "none stated" in text
        assert "none claimed" in text


def test_markdown_is_a_table_and_what_strangers_wrote_is_text() -> None:
    claim = Claim(
        origin="model-index", task="t", dataset="a|b", metric="*x* [l](http://e)", value=None,
        told=EVIL,
    )  # fmt: skip
    text = markdown(
        board(
            standing(1, "a/b_c", claims=(claim,), license="`mit`", problems=("likes is 'x'",)),
            changes=Changes(before="x", after="y", items=()),
        )
    )
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 3
    unescaped = [row.replace("\\|", "").count("|") for row in rows]
    assert len(set(unescaped)) == 1, "a stranger's bar makes no cell"
    assert "<script" not in text.replace("\\<", "")
    assert "[a/b\\_c](https://hub.example/a/b_c)" in text
    assert "- a/b\\_c: likes is 'x'" in text
    assert "- `task=image-segmentation limit=20`" in text
    assert "No public model was found for: object-detection." in text


def test_an_address_in_a_card_is_no_link_in_markdown() -> None:
    text = markdown(
        board(standing(1, "a/b", license="see https://evil.example or WWW.evil.example"))
    )
    assert "see https:/\\/evil.example or WWW\\.evil.example" in text


def test_what_the_trend_is_held_against_is_said_where_there_is_one() -> None:
    since = "since: downloads of 30 days, held against those of 2026-01-01"
    trend = Trend(since="2026-01-01T00:00:00Z", before=100, now=120)
    told = board(replace(standing(1, "a/b"), trend=trend))
    for text in (printed(told), markdown(told).lower(), page(told).lower()):
        assert since in text
    bare = board(standing(1, "a/b"))
    for text in (printed(bare), markdown(bare).lower(), page(bare).lower()):
        assert "held against" not in text


def test_the_page_says_why_there_are_no_changes() -> None:
    assert "This is the first snapshot." in page(board(standing(1, "a/b"), days=1))
    assert "Nothing was learned since the last one." in page(board(standing(1, "a/b")))


def test_a_long_name_leaves_room_for_the_lines() -> None:
    assert short_name("a/" + "b" * 60) == "a/" + "b" * 39 + "..."
    assert short_name("nvidia/segformer-b0") == "nvidia/segformer-b0"


class Tags(HTMLParser):
    """Every tag, and every address outside the page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loaded: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        given = dict(attrs)
        if tag != "a":
            self.loaded += [str(given[name]) for name in ("src", "href") if name in given]
        elif not str(given["href"]).startswith("#"):
            self.links.append(str(given["href"]))


def test_the_page_loads_nothing_and_escapes_what_strangers_wrote() -> None:
    evil = Claim(
        origin="model-index", task=EVIL, dataset=EVIL, metric=EVIL, value=1.0, told=EVIL,
        source="javascript:alert(1)", source_name=EVIL,
    )  # fmt: skip
    text = page(
        board(
            standing(1, "a/b", claims=(CLAIM, evil), license=EVIL, problems=(EVIL,), tags=(EVIL,))
        )
    )
    read = Tags()
    read.feed(text)
    assert read.tags.count("script") == 3, "charts, plotly, the page's own"
    assert read.loaded == ["data:,"]
    assert set(read.links) == {"https://hub.example/a/b", "https://example.org/paper"}


def test_the_page_says_why_there_is_no_trend_and_draws_one_where_there_is() -> None:
    assert "a trend needs two snapshots, and there is 1" in page(board(standing(1, "a/b"), days=1))
    assert 'id="trend-chart"' in page(board(standing(1, "a/b")))


def test_measured_scores_stand_with_their_interval_and_verdict() -> None:
    score = OwnScore(
        model="a/b", row="a/b", task="segmentation", about="phantoms", metric="dice", value=0.7,
        low=0.6, high=0.8, verdict="ORACLE", protocol="sam_oracle_box",
    )  # fmt: skip
    first = standing(1, "a/b")
    shown = board(
        Standing(
            place=1, model=first.model, capability=first.capability, why="w", recommended=True,
            measured=(score,), trend=Trend(since="2026-01-01T00:00:00Z", before=100, now=150),
        )
    )  # fmt: skip
    assert "dice 0.700 [0.600, 0.800]" in page(shown)
    assert "dice 0.700 ORACLE" in printed(shown, 250)
    assert "+50%" in printed(shown, 250)
    told = json.loads(json.dumps(shown.to_dict(), allow_nan=False))
    (model,) = told["sections"][0]["models"]
    assert model["measured"][0]["quotable"] is False
    assert model["trend"]["change"] == pytest.approx(0.5)


def test_the_trend_is_drawn_and_with_one_snapshot_refused(tmp_path: Path) -> None:
    shown = board(*(standing(n, f"a/{n}", downloads=10**n) for n in range(1, 6)))
    picture = np.asarray(Image.open(write_trend(shown, tmp_path / "t.png")).convert("RGB"))
    assert (picture == (0x00, 0x72, 0xB2)).all(axis=2).any(), "the first line's blue"
    assert picture.shape[1] > 800
    with pytest.raises(ResultsError) as error:
        write_trend(board(standing(1, "a/b"), days=1), tmp_path / "u.png")
    assert str(error.value).startswith(
        f"cannot draw {tmp_path / 'u.png'}: a trend needs two snapshots, and there is 1; look again"
    )
    assert not (tmp_path / "u.png").exists()


def test_models_without_counts_have_no_line() -> None:
    shown = board(standing(1, "a/b"), standing(2, "c/d"))
    history = {
        **shown.history,
        "c/d": [("2026-01-01T00:00:00Z", None), ("2026-01-02T00:00:00Z", 0)],
    }
    told = Board(
        endpoint="e", taken_at="t", source="s", asked=(), sections=shown.sections,
        snapshots=shown.snapshots, history=history,
    )  # fmt: skip
    assert [name for name, _ in lines(told)] == ["a/b"]
    chart = trend_chart(told)
    assert chart is not None
    assert len(chart["data"]) == 1


def test_names_beside_lines_keep_apart_and_above_the_axis() -> None:
    heights = spread([0.9, 0.89, 0.5, 0.02, 0.01, 0.0], step=0.1)
    assert all(a - b >= 0.1 - 1e-9 for a, b in pairwise(heights))
    assert min(heights) >= 0
    assert heights[0] == 0.9


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "n/a"), (0, "0"), (999, "999"), (1_049, "1 k"), (9_940, "9.9 k"), (999_960, "1.0 M"),
     (2_500_000, "2.5 M"), (7 * 10**9, "7 B")],
)  # fmt: skip
def test_counts(value: int | None, text: str) -> None:
    assert count(value) == text


def test_ages() -> None:
    now = datetime(2026, 1, 10, tzinfo=UTC)
    told = {
        "2026-01-09T23:59:30Z": "a moment", "2026-01-09T23:48:00Z": "12 min",
        "2026-01-09T21:00:00Z": "3 h", "2026-01-05T00:00:00Z": "5 days",
    }  # fmt: skip
    assert {when: ago(when, now) for when in told} == told


def test_small_words() -> None:
    assert claims_cell(TrackedModel(id="a", claims=(CLAIM, CLAIM))).endswith("verified +1")
    assert trend_cell(Trend(since="x", before=0, now=4)) == "+4"
    assert trend_cell(None) == "n/a"


def test_the_page_in_a_browser(tmp_path: Path) -> None:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if found is None:
        pytest.skip(f"no browser on this machine (looked for {', '.join(CHROMIUM)})")
    told = board(
        standing(1, "a/few", downloads=5, problems=(EVIL,)),
        standing(2, "b/unknown", downloads=None, claims=(CLAIM, CLAIM)),
        standing(3, "c/many", downloads=500_000),
    )
    path = write_page(told, tmp_path / "board.html")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        opened = browser.new_page(viewport={"width": 390, "height": 844})
        complaints: list[str] = []
        opened.on("pageerror", lambda error: complaints.append(str(error)))
        opened.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
        opened.on("request", lambda r: complaints.append(r.url) if "http" in r.url else None)
        opened.goto(path.as_uri())
        opened.wait_for_selector("#trend-chart .plot-container")

        def names() -> list[str]:
            return [text.split("\n")[0] for text in opened.locator("td.name").all_inner_texts()]

        button = opened.locator("th button", has_text="30 days")
        button.click()
        assert names() == ["a/few", "c/many", "b/unknown"]
        button.click()
        assert names() == ["c/many", "a/few", "b/unknown"], "what nobody told comes last"
        assert opened.evaluate("document.documentElement.scrollWidth") == 390
        browser.close()
    assert complaints == []


def test_a_claim_names_the_part_of_the_data_it_is_about() -> None:
    claim = Claim(
        origin="model-index", task="automatic-speech-recognition", dataset="librispeech_asr",
        metric="wer", value=2.01, told="2.01", config="clean", split="test",
    )  # fmt: skip
    assert claim_text(claim) == "wer 2.01 on librispeech_asr (clean, test)"
    assert claim_text(replace(claim, config="default")) == "wer 2.01 on librispeech_asr (test)"


def test_a_trend_is_a_png_by_its_name_too(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"t\.svg: it is drawn as PNG; write t\.png"):
        write_trend(board(standing(1, "a/b")), tmp_path / "t.svg")
    assert write_trend(board(standing(1, "a/b")), tmp_path / "T.PNG").exists()
