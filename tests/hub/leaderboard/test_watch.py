"""One look: joined queries, snapshots, changes, trends, and what is shown without a network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hub_models import index, segformer

from candlemark.errors import HubError, ResultsError
from candlemark.hub.leaderboard.cache import PageCache
from candlemark.hub.leaderboard.queries import QUERY_SETS, Query
from candlemark.hub.leaderboard.search import Answer, ModelSearch
from candlemark.hub.leaderboard.watch import diff, look
from candlemark.report.leaderboard.board import Board
from candlemark.results.tracker import open_tracker

DAY = 86400.0
QUERIES = (
    Query(task="image-segmentation"),
    Query(task="image-segmentation", tags=("medical",)),
    Query(task="mask-generation"),
)


@pytest.fixture
def see(hub_with_models: Any, tmp_path: Path) -> Any:
    def seen(queries: Sequence[Query] = QUERIES, **options: Any) -> Board:
        return look(queries, tracker_dir=tmp_path / "tracker", cache=PageCache(), **options)

    return seen


def test_models_of_several_queries_are_joined_with_the_queries_that_found_them(see: Any) -> None:
    board = see()
    assert [section.task for section in board.sections] == ["image-segmentation", "mask-generation"]
    lesion = board.models["clinic/segformer-lesion"]
    assert lesion.found_by == (QUERIES[0].asked, QUERIES[1].asked)
    assert board.models["nvidia/segformer-b0"].found_by == (QUERIES[0].asked,)
    assert len(board.models) == 6
    assert board.source == "asked now, 3 requests"


def test_the_leaderboards_second_call_makes_no_request(see: Any, hub_with_models: Any) -> None:
    first = see()
    hub_with_models.requests.clear()
    second = see()
    assert hub_with_models.requests == []
    assert second.source == "cache of a moment ago, no request"
    assert second.requests == 0
    assert second.sections == first.sections
    assert len(second.snapshots) == 1, "nothing was learned, so no snapshot was kept"


def test_a_set_for_medical_imaging_is_ready(see: Any, hub_with_models: Any) -> None:
    board = see(QUERY_SETS["medical"])
    assert board.requests == len(QUERY_SETS["medical"]) == len(hub_with_models.lists())
    assert [section.task for section in board.found] == ["image-segmentation", "mask-generation"]
    assert "object-detection" in board.empty


def test_what_changed_since_the_last_snapshot_is_told(
    see: Any, hub_with_models: Any, clock: Any
) -> None:
    see()
    clock.ahead_s = DAY
    nvidia, lesion, *others = hub_with_models.models
    changed = segformer(
        lesion["id"],
        sha="b" * 40,
        tags=["medical", "license:mit"],
        downloads=400,
        model_index=index(0.9, verified=True),
    )
    hub_with_models.models = [changed, segformer("new/one"), *others]
    board = see()
    assert board.changes is not None
    assert {(item.model, item.kind, item.text) for item in board.changes.items} == {
        (nvidia["id"], "gone",
         "no longer found: removed, renamed, or beyond the limit of its queries"),
        ("new/one", "new", "found by task=image-segmentation limit=20"),
        (lesion["id"], "claims",
         "dice 0.887 on isic (test), verified -> dice 0.9 on isic (test), verified"),
        (lesion["id"], "licence", "apache-2.0 -> mit"),
        (lesion["id"], "gated", "ask (auto) -> open"),
        (lesion["id"], "files", "commit aaaaaaa -> bbbbbbb of 2025-01-02T03:04:05Z"),
        (lesion["id"], "numbers", "downloads 230 -> 400 (+74%)"),
    }  # fmt: skip
    assert len(board.changes.news) == 6, "counts alone are no news"
    trend = {one.model.id: one.trend for one in board.sections[0].standings}[lesion["id"]]
    assert (trend.before, trend.now) == (230, 400)
    assert trend.change == pytest.approx(0.739, abs=1e-3)
    assert board.history[lesion["id"]] == [
        (board.snapshots[0], 230), (board.snapshots[1], 400),
    ]  # fmt: skip


def test_of_many_claims_only_those_that_changed_are_told(see: Any, hub_with_models: Any) -> None:
    def claim(values: Sequence[float]) -> None:
        results = [index(value, metric=f"m{n}")[0]["results"][0] for n, value in enumerate(values)]
        hub_with_models.models[0]["model-index"] = [{"name": "m", "results": results}]

    def told() -> list[str]:
        changes = see(refresh=True).changes
        return [item.text for item in changes.items if item.kind == "claims"]

    claim([0.5] * 100)
    see()
    claim([0.5] * 99 + [0.6])
    assert told() == ["m99 0.5 on isic (test) -> m99 0.6 on isic (test)"]
    claim([0.5] * 99 + [0.6, 0.7])
    assert told() == ["also m100 0.7 on isic (test)"]
    claim([0.5] * 95)
    (text,) = told()
    assert text == (
        "no longer m100 0.7 on isic (test); m95 0.5 on isic (test); m96 0.5 on isic (test) "
        "and 3 more"
    )


def test_a_look_that_meets_no_change_says_so_and_costs_one_line(
    see: Any, clock: Any, tmp_path: Path
) -> None:
    see()
    clock.ahead_s = DAY
    board = see()
    assert board.source == "asked now, 3 requests, 3 of them unchanged"
    assert board.changes is not None
    assert board.changes.items == ()
    with open_tracker(tmp_path / "tracker", read_only=True) as tracker:
        counts = tracker.sql(
            "SELECT (SELECT count(*) FROM snapshots) AS s, (SELECT count(*) FROM contents) AS c"
        ).to_pylist()
    assert counts == [{"s": 2, "c": 6}]


def test_offline_shows_the_last_snapshot_and_its_date(see: Any, hub_with_models: Any) -> None:
    first = see()
    hub_with_models.requests.clear()
    board = see(offline=True)
    assert hub_with_models.requests == []
    assert board.offline
    assert board.taken_at == first.taken_at
    assert board.source == f"snapshot of {first.taken_at}, a moment old (offline)"
    assert board.sections == first.sections


def test_offline_without_a_snapshot_says_what_to_do(see: Any, tmp_path: Path) -> None:
    with pytest.raises(ResultsError) as error:
        see(offline=True)
    file = tmp_path / "tracker" / "leaderboard.duckdb"
    assert str(error.value) == (
        f"there are no snapshots at {file}; make the first with the same command, "
        "without --offline and --diff"
    )
    see()
    with pytest.raises(
        ResultsError,
        match=r"\(there are some of 'task=image-segmentation limit=20' and 2 more\); make",
    ):
        see([Query(task="fill-mask")], offline=True)


def test_a_hub_that_cannot_be_reached_is_stood_in_for_by_the_last_snapshot(
    see: Any, hub_with_models: Any, clock: Any
) -> None:
    first = see()
    clock.ahead_s = DAY
    hub_with_models.fail(503, on="/api/models", times=None)
    board = see()
    assert board.offline
    assert board.taken_at == first.taken_at
    assert board.source.endswith("(the Hub gave no answer)")
    with pytest.raises(HubError, match="answered 503"):
        see(refresh=True)


def test_others_may_look_while_the_hub_is_asked(
    see: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []
    find = ModelSearch.find

    def find_while_another_looks(search: ModelSearch, query: Query) -> Answer:
        with open_tracker(tmp_path / "tracker", read_only=True) as tracker:
            opened.append(tracker.times(search.endpoint, [query.asked]))
        return find(search, query)

    monkeypatch.setattr(ModelSearch, "find", find_while_another_looks)
    assert see().requests == len(opened) == len(QUERIES)


def test_a_hub_that_cannot_be_reached_and_no_snapshot_is_an_error(
    see: Any, hub_with_models: Any
) -> None:
    hub_with_models.fail(503, on="/api/models", times=None)
    with pytest.raises(HubError, match="cannot search the models of task=image-segmentation"):
        see()


def test_a_fresh_cache_makes_the_first_snapshot_of_a_new_tracker(
    see: Any, hub_with_models: Any, tmp_path: Path
) -> None:
    see()
    (tmp_path / "tracker" / "leaderboard.duckdb").unlink()
    board = see()
    assert board.requests == 0
    assert len(board.snapshots) == 1


def test_the_difference_between_two_days(
    see: Any, hub_with_models: Any, clock: Any, tmp_path: Path
) -> None:
    from datetime import UTC, datetime, timedelta

    clock.ahead_s = -3 * DAY
    see()
    clock.ahead_s = 0
    hub_with_models.models = hub_with_models.models[1:]
    see(refresh=True)
    today = datetime.now(UTC).date()
    old, new = (str(today - timedelta(days=days)) for days in (2, 0))
    where = tmp_path / "tracker"
    for until in (new, None):
        changes = diff(QUERIES, old, until, tracker_dir=where)
        assert [(item.kind, item.model) for item in changes.items] == [
            ("gone", "nvidia/segformer-b0")
        ]
    assert diff(QUERIES, old, old, tracker_dir=where).items == ()
    with pytest.raises(ResultsError, match="write the earlier date first"):
        diff(QUERIES, new, old, tracker_dir=where)
    with pytest.raises(ResultsError, match="from 2020-01-01 or before; the oldest is of"):
        diff(QUERIES, "2020-01-01", None, tracker_dir=where)
    with pytest.raises(ResultsError) as error:
        diff(QUERIES, "last week", None, tracker_dir=where)
    assert str(error.value) == "'last week' is no date; write 2026-01-31 or 2026-01-31T12:00Z"


def test_who_is_recommended_first_is_news(see: Any, hub_with_models: Any, clock: Any) -> None:
    see()
    clock.ahead_s = DAY
    lesion = hub_with_models.models[1]
    hub_with_models.models[1] = {**lesion, "model-index": index(0.8, verified=True)}
    hub_with_models.models[4:5] = []  # the one for mask-generation
    board = see()
    assert board.changes is not None
    first = [item for item in board.changes.items if item.kind == "first"]
    assert board.changes.items[: len(first)] == tuple(first)
    assert [(item.model, item.text) for item in first] == [
        (
            "lab/mask2former-skin",
            "is recommended first for image-segmentation, in place of clinic/segformer-lesion",
        ),
        ("facebook/sam-vit-base", "no model is recommended for mask-generation any more"),
    ]
    assert all(item.news for item in first)
