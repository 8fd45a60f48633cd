"""Snapshots come back as they went in; one of the same content shares its rows."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candlemark.errors import ResultsError
from candlemark.results import tracker
from candlemark.results.tracked import Claim, Snapshot, TrackedModel
from candlemark.results.tracker import Tracker, asked_id, open_tracker, tracker_path

HUB = "https://hub.example"
ASKED = ("task=a limit=20", "text=b limit=20")

words = st.none() | st.text(max_size=6)
claims = st.builds(
    Claim,
    origin=st.sampled_from(["model-index", ".eval_results"]),
    task=words,
    dataset=words,
    metric=words,
    value=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    told=st.text(max_size=5),
    verification=st.sampled_from(["verified", "signed", "claimed"]),
)
models = st.builds(
    TrackedModel,
    id=st.text(min_size=1, max_size=8),
    found_by=st.lists(st.sampled_from(ASKED), unique=True).map(tuple),
    downloads=st.none() | st.integers(0, 2**62),
    likes=st.none() | st.integers(0, 2**62),
    trending=st.none() | st.floats(0, 1e9),
    parameters=st.none() | st.integers(0, 10**18),
    files=st.none() | st.lists(st.text(max_size=5), max_size=3).map(tuple),
    claims=st.lists(claims, max_size=2).map(tuple),
    problems=st.lists(st.text(max_size=5), max_size=2).map(tuple),
)


@pytest.fixture(scope="module")
def one_tracker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tracker]:
    with open_tracker(tmp_path_factory.mktemp("tracker")) as opened:
        yield opened


def snapshot(taken_at: str, *found: TrackedModel, asked: tuple[str, ...] = ASKED) -> Snapshot:
    return Snapshot(taken_at=taken_at, endpoint=HUB, asked=asked, models=found)


@settings(max_examples=25, deadline=None)
@given(st.lists(models, max_size=4, unique_by=lambda model: model.id))
def test_a_snapshot_comes_back_as_it_went_in(
    one_tracker: Tracker, found: list[TrackedModel]
) -> None:
    kept = one_tracker.add(snapshot("2026-01-01T00:00:00Z", *found))
    assert one_tracker.newest(HUB, ASKED) == kept


def test_the_last_one_until_the_end_of_a_day(tmp_path: Path) -> None:
    with open_tracker(tmp_path) as opened:
        for day in ("01T09", "02T09", "02T17", "05T00"):
            opened.add(snapshot(f"2026-01-{day}:00:00Z", TrackedModel(id=day)))
        found = {
            when: opened.at(HUB, ASKED, when).number
            for when in (
                "2026-01-01", "2026-01-02", "2026-01-04", "2026-01-05", "2026-01-02T12:00:00Z",
                "2026-01-02T18:00:00+02:00", "20260102",
            )
        }  # fmt: skip
        assert list(found.values()) == [1, 3, 3, 4, 2, 2, 3]
        with pytest.raises(ResultsError, match="the oldest is of 2026-01-01T09:00:00Z"):
            opened.at(HUB, ASKED, "2025-12-31")
        with pytest.raises(ResultsError, match=r"'31\.12\.2025' is no date; write 2026-01-31"):
            opened.at(HUB, ASKED, "31.12.2025")
        with pytest.raises(ResultsError, match="'9999-12-31T23:59-10:00' is no date"):
            opened.at(HUB, ASKED, "9999-12-31T23:59-10:00")


def test_a_file_that_another_process_has_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_tracker(tmp_path).close()
    code = (
        "import duckdb, sys, time; held = duckdb.connect(sys.argv[1]); print('held', flush=True);"
        "sys.stdin.read(); held.close()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tracker_path(tmp_path))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        monkeypatch.setattr(tracker, "PATIENCE_S", 0.0)
        with pytest.raises(ResultsError, match=f"is in use by .* .process {other.pid}.; wait"):
            open_tracker(tmp_path, read_only=True)
        monkeypatch.setattr(tracker, "PATIENCE_S", 60.0)
        threading.Timer(0.2, other.stdin.close).start()
        open_tracker(tmp_path).close()


def test_snapshots_of_other_queries_or_another_hub_are_others(tmp_path: Path) -> None:
    with open_tracker(tmp_path) as opened:
        opened.add(snapshot("2026-01-01T00:00:00Z", TrackedModel(id="a")))
        assert opened.newest(HUB, ASKED[::-1]) is not None, "their order is none"
        assert opened.newest(HUB, ASKED[:1]) is None
        assert opened.newest("https://other.example", ASKED) is None
    assert asked_id(HUB, ASKED) == asked_id(HUB, ASKED[::-1])


def test_a_snapshot_of_the_same_content_shares_its_rows(tmp_path: Path) -> None:
    model = TrackedModel(id="a", downloads=5)
    with open_tracker(tmp_path) as opened:
        for day in range(1, 4):
            opened.add(snapshot(f"2026-01-0{day}T00:00:00Z", model))
        opened.add(snapshot("2026-01-04T00:00:00Z", TrackedModel(id="a", downloads=6)))
        rows = opened.sql("SELECT count(*) AS n FROM contents").to_pylist()
        assert rows == [{"n": 2}]
        assert opened.history(HUB, ASKED) == {
            "a": [
                ("2026-01-01T00:00:00Z", 5), ("2026-01-02T00:00:00Z", 5),
                ("2026-01-03T00:00:00Z", 5), ("2026-01-04T00:00:00Z", 6),
            ]
        }  # fmt: skip
        assert len(opened.times(HUB, ASKED)) == 4


def test_facts_that_a_newer_version_added_are_left_out() -> None:
    told = {**TrackedModel(id="a").to_dict(), "of_tomorrow": 1}
    told["claims"] = [{**_claim(), "of_tomorrow": 1}]
    assert TrackedModel.from_dict(told) == TrackedModel(id="a", claims=(Claim(**_claim()),))


def _claim() -> dict[str, object]:
    return {"origin": "model-index", "task": None, "dataset": None, "metric": None, "value": 1.0,
            "told": "1"}  # fmt: skip


def test_what_is_no_tracker_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="make the first with the same command, without"):
        open_tracker(tmp_path, read_only=True)

    other = tmp_path / "other.duckdb"
    with duckdb.connect(str(other)) as connection:
        connection.execute("CREATE TABLE t (x INTEGER)")
    with pytest.raises(ResultsError) as error:
        open_tracker(other)
    assert str(error.value) == (
        f"{other} holds no snapshots of a Hub; name another folder with --tracker-dir"
    )

    newer = tmp_path / "newer.duckdb"
    open_tracker(newer).close()
    with duckdb.connect(str(newer)) as connection:
        connection.execute("UPDATE tracker_schema SET version = 9")
    with pytest.raises(ResultsError, match="has schema 9, this candlemark reads 1; update with"):
        open_tracker(newer)

    text = tmp_path / "text.duckdb"
    text.write_text("no database at all, only words" * 1000, encoding="utf-8")
    with pytest.raises(ResultsError, match=r"is not a DuckDB file; name another .* --tracker-dir"):
        open_tracker(text)


def test_a_folder_means_the_file_in_it(tmp_path: Path) -> None:
    assert tracker_path(tmp_path) == tmp_path / "leaderboard.duckdb"
    assert tracker_path(tmp_path / "a.duckdb") == tmp_path / "a.duckdb"
