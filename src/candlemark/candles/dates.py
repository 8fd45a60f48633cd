"""Dates and periods as people write them, in UTC.

    parse_date("2024-01")         # the whole of January 2024
    parse_date("1 Jan, 2024")     # that day
    parse_period("7days")         # 604_800_000

A date is a *span*: a month or a day is all of it, a date with a time is one moment. A range
starts where its start's span starts and ends where its end's span ends, so
`--start 2024-01 --end 2024-03` is three whole months and `--end 2024-03-31T00:00` is exact.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from candlemark.candles.series import format_time
from candlemark.errors import ConfigError

EXAMPLES = "2024-01, 2024-01-05, '2024-01-05 13:00', '1 Jan, 2024' or 2024-01-05T13:00Z"
DAY_MS = 86_400_000

_MONTHS = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
_NUMERIC = re.compile(
    r"(?P<year>\d{4})(?:[-/.](?P<month>\d{1,2})(?:[-/.](?P<day>\d{1,2}))?)?"
    r"(?:[T ]+(?P<time>\d{1,2}:\d{2}(?::\d{2})?))?(?: ?(?:Z|UTC|GMT))?",
    re.IGNORECASE,
)
_TIME = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}))?")
_PERIOD = re.compile(r"(?P<count>\d+)\s*(?P<unit>[A-Za-z]+)")
_PERIOD_MS: dict[str, int] = {
    **dict.fromkeys(("min", "mins", "minute", "minutes", "m"), 60_000),
    **dict.fromkeys(("h", "hour", "hours"), 3_600_000),
    **dict.fromkeys(("d", "day", "days"), DAY_MS),
    **dict.fromkeys(("w", "week", "weeks"), 7 * DAY_MS),
    **dict.fromkeys(("month", "months"), 30 * DAY_MS),
    **dict.fromkeys(("y", "year", "years"), 365 * DAY_MS),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """The half-open stretch of time a date names; a moment has end_ms == start_ms."""

    start_ms: int
    end_ms: int


def parse_date(text: str, *, name: str = "date") -> Span:
    """What `text` names, in UTC milliseconds; a stamp with an offset is converted.

    Raises ConfigError: no such date, or one that reads two ways (05/01/2024).
    """
    cleaned = " ".join(text.replace(",", " ").split())
    try:
        span = _numeric(cleaned) or _written(cleaned) or _iso(cleaned)
    except (ValueError, OverflowError) as error:
        raise ConfigError(f"{name} '{text}' is no date ({error}); write {EXAMPLES}") from error
    if span is None:
        raise ConfigError(f"{name} '{text}' is not understood; write {EXAMPLES}")
    return span


def _numeric(text: str) -> Span | None:
    match = _NUMERIC.fullmatch(text)
    if match is None or (match["time"] and not match["day"]):
        return None
    month = int(match["month"]) if match["month"] else None
    day = int(match["day"]) if match["day"] else None
    return _span(int(match["year"]), month, day, match["time"])


def _written(text: str) -> Span | None:
    """`1 Jan 2024`, `January 1st 2024 13:00`, `Jan 2024`, in any order."""
    year = month = day = None
    clock: str | None = None
    for token in text.lower().split():
        if token in {"utc", "gmt", "z", "at"}:
            continue
        if named := _month(token):
            month = named
        elif re.fullmatch(r"\d{4}", token):
            year = int(token)
        elif ordinal := re.fullmatch(r"(\d{1,2})(?:st|nd|rd|th)?", token):
            day = int(ordinal[1])
        elif _TIME.fullmatch(token):
            clock = token
        else:
            return None
    if year is None or month is None or (clock and day is None):
        return None
    return _span(year, month, day, clock)


def _month(token: str) -> int | None:
    """1..12 for a month's English name, whole or cut to three letters or more."""
    stem = token.removesuffix(".")
    if len(stem) < 3:
        return None
    return next((i for i, name in enumerate(_MONTHS, start=1) if name.startswith(stem)), None)


def _iso(text: str) -> Span | None:
    if not re.match(r"\d{4}-?\d{2}-?\d{2}", text):
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    aware = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    start = _ms(aware)
    whole_day = re.fullmatch(r"\d{8}", text) is not None
    return Span(start_ms=start, end_ms=start + (DAY_MS if whole_day else 0))


def _span(year: int, month: int | None, day: int | None, clock: str | None) -> Span:
    start = datetime(year, month or 1, day or 1, tzinfo=UTC)
    if clock is not None and (match := _TIME.fullmatch(clock)):
        hour, minute, second = (int(part or 0) for part in match.groups())
        moment = _ms(start.replace(hour=hour, minute=minute, second=second))
        return Span(start_ms=moment, end_ms=moment)
    if day is not None:
        end = start + timedelta(days=1)
    elif month is not None:
        end = next_month(start)
    else:
        end = start.replace(year=year + 1)
    return Span(start_ms=_ms(start), end_ms=_ms(end))


def next_month(moment: datetime) -> datetime:
    """The first of the next month, at the same time of day."""
    return (moment.replace(day=1) + timedelta(days=32)).replace(day=1)


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def parse_period(text: str) -> int:
    """Length of `7days`, `2weeks`, `12h`, `90min` in milliseconds.

    A month counts 30 days and a year 365, because a period has no calendar.
    Raises ConfigError: not a number and a unit, or nothing long.
    """
    match = _PERIOD.fullmatch(text.strip())
    unit = match["unit"] if match else ""
    # "1M" is a month on Binance and a minute to everyone who ignores case.
    known = _PERIOD_MS.get(unit.lower()) if unit != "M" else None
    if match is None or known is None or int(match["count"]) == 0:
        raise ConfigError(
            f"period '{text}' is not understood; write a number and a unit, "
            "such as 7days, 2weeks, 12h, 90min or 1month"
        )
    return int(match["count"]) * known


def parse_range(
    start: str | None, end: str | None, *, now_ms: int | None = None
) -> tuple[int | None, int | None]:
    """(first open time, end) in UTC milliseconds; None where nothing was given.

    A span that holds the present ends now. Raises ConfigError: a date is not understood,
    lies in the future, or the two are reversed.
    """
    now = int(time.time() * 1000) if now_ms is None else now_ms
    start_ms = end_ms = None
    for name, text in (("start", start), ("end", end)):
        if text is None:
            continue
        span = parse_date(text, name=name)
        if span.start_ms > now:
            raise ConfigError(f"{name} '{text}' is in the future; it is now {format_time(now)} UTC")
        if name == "start":
            start_ms = span.start_ms
        else:
            end_ms = min(span.end_ms, now)
    if start_ms is not None and end_ms is not None and end_ms <= start_ms:
        raise ConfigError(
            f"start '{start}' is not before end '{end}'; swap them or widen the range"
        )
    return start_ms, end_ms


def to_iso(time_ms: int) -> str:
    """UTC milliseconds as `2024-01-05T13:00:00Z`, which `parse_date` reads back exactly."""
    moment = datetime.fromtimestamp(time_ms / 1000, UTC)
    precise = "milliseconds" if time_ms % 1000 else "seconds"
    return moment.replace(tzinfo=None).isoformat(timespec=precise) + "Z"
