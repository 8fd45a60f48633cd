from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from candlemark.candles.dates import parse_date, parse_period, parse_range, to_iso
from candlemark.errors import ConfigError

NOW = 1_735_700_000_000  # 2025-01-01 02:53:20


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("2024", "2024-01-01T00:00:00Z", "2025-01-01T00:00:00Z"),
        ("2024-01", "2024-01-01T00:00:00Z", "2024-02-01T00:00:00Z"),
        ("2024-12", "2024-12-01T00:00:00Z", "2025-01-01T00:00:00Z"),
        ("Jan 2024", "2024-01-01T00:00:00Z", "2024-02-01T00:00:00Z"),
        ("2024-01-05", "2024-01-05T00:00:00Z", "2024-01-06T00:00:00Z"),
        ("2024/1/5", "2024-01-05T00:00:00Z", "2024-01-06T00:00:00Z"),
        ("20240105", "2024-01-05T00:00:00Z", "2024-01-06T00:00:00Z"),
        ("1 Jan, 2024", "2024-01-01T00:00:00Z", "2024-01-02T00:00:00Z"),
        ("Sept. 3rd, 2024", "2024-09-03T00:00:00Z", "2024-09-04T00:00:00Z"),
        ("1 January 2024 13:05 UTC", "2024-01-01T13:05:00Z", "2024-01-01T13:05:00Z"),
        ("2024-01-05 13:00", "2024-01-05T13:00:00Z", "2024-01-05T13:00:00Z"),
        ("2024-01-05T13:00:07Z", "2024-01-05T13:00:07Z", "2024-01-05T13:00:07Z"),
        ("2024-01-05T13:00+02:00", "2024-01-05T11:00:00Z", "2024-01-05T11:00:00Z"),
    ],
)
def test_a_date_names_a_span(text: str, start: str, end: str) -> None:
    span = parse_date(text)
    assert (to_iso(span.start_ms), to_iso(span.end_ms)) == (start, end)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "05/01/2024",
        "2024-13",
        "2024-02-30",
        "yesterday-ish",
        "1 Ja 2024",
        "24-01-05",
        "2024-01 13:00",
        "13:00",
        "2024-01-05 25:00",
        "9999",
    ],
)
def test_what_is_no_date_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ConfigError, match=r"start '.*' is (no date|not understood).*2024-01-05"):
        parse_date(text, name="start")


@given(st.datetimes(min_value=datetime(1971, 1, 1), max_value=datetime(2150, 1, 1)))  # noqa: DTZ001
def test_iso_text_reads_back_exactly(moment: datetime) -> None:
    time_ms = round(moment.replace(microsecond=0, tzinfo=UTC).timestamp() * 1000)
    span = parse_date(to_iso(time_ms))
    assert span.start_ms == span.end_ms == time_ms
    assert parse_date(to_iso(time_ms + 1)).start_ms == time_ms + 1


@pytest.mark.parametrize(
    ("text", "hours"),
    [
        ("7days", 168),
        ("7 days", 168),
        ("2weeks", 336),
        ("12h", 12),
        ("90min", 1.5),
        ("1d", 24),
        ("1month", 720),
        ("1Y", 8760),
    ],
)
def test_periods(text: str, hours: float) -> None:
    assert parse_period(text) == hours * 3_600_000


@pytest.mark.parametrize("text", ["", "days", "0days", "-7days", "7", "1M", "7 fortnights"])
def test_what_is_no_period_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"7days, 2weeks"):
        parse_period(text)


def test_a_range_ends_with_its_ends_whole_span() -> None:
    start, end = parse_range("2024-01", "2024-03", now_ms=NOW)
    assert (to_iso(start or 0), to_iso(end or 0)) == (
        "2024-01-01T00:00:00Z",
        "2024-04-01T00:00:00Z",
    )
    assert parse_range(None, None, now_ms=NOW) == (None, None)


def test_a_span_that_holds_the_present_ends_now() -> None:
    assert parse_range("2024-12", "2025-01", now_ms=NOW)[1] == NOW


@pytest.mark.parametrize(
    ("start", "end", "words"),
    [
        ("2024-05", "2024-01", "start '2024-05' is not before end '2024-01'"),
        ("2024-05-01T00:00Z", "2024-05-01T00:00Z", "is not before"),
        ("2025-02", None, "start '2025-02' is in the future; it is now 2025-01-01"),
        (None, "2025-01-02", "end '2025-01-02' is in the future"),
    ],
)
def test_reversed_and_future_ranges_are_refused(
    start: str | None, end: str | None, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_range(start, end, now_ms=NOW)
