"""How long a case takes, in words: percentiles where the sample bears them, else what was seen.

time_stages(board)            # {"case": ("p50",), "load": ("p50",), ...}: what is known of each
time_of(row, "load", ())      # "~42 ms", the median of fewer passes than a p50 needs
time_lines(board)             # what is lacking, and the flag that would give it
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from candlemark.metrics.latency import SAMPLES_NEEDED
from candlemark.records import Measurement, Verdict
from candlemark.report.format import listed, quantity
from candlemark.report.segmentation.board import STAGES, Board, Row
from candlemark.report.segmentation.rows import StageTime


def timed_rows(board: Board) -> list[Row]:
    """Rows of which a time or the memory is known."""
    return [
        row
        for row in board.everyone
        if any(_known(time) for time in row.times)
        or (row.peak_memory is not None and row.peak_memory.value is not None)
    ]


def time_stages(board: Board) -> dict[str, tuple[str, ...]]:
    """The percentiles that any row has of each stage that was timed, all stages together first."""
    times = [time for row in timed_rows(board) for time in row.times if _known(time)]
    found = {}
    for stage in dict.fromkeys(("case", *STAGES)):
        of_stage = [time for time in times if time.stage == stage]
        if of_stage:
            known = {
                "p50": any(time.p50.value is not None for time in of_stage),
                "p95": any(time.p95.value is not None for time in of_stage),
            }
            found[stage] = tuple(name for name, any_has in known.items() if any_has)
    return found


def time_of(row: Row, stage: str, percentiles: Sequence[str]) -> str:
    """A row's time of one stage, "" where it has none: p50 and p95, as far as `percentiles` goes.

    Where p50 is withheld, the median of what was seen with a "~".
    """
    time = next((one for one in row.times if one.stage == stage and _known(one)), None)
    if time is None:
        return ""
    text = middle(time)
    if "p95" in percentiles:
        text += f" / {'-' if time.p95.value is None else quantity(time.p95.name, time.p95.value)}"
    return text


def middle(time: StageTime) -> str:
    """p50, or "~" and the median of the few passes there were."""
    if time.p50.value is not None:
        return quantity(time.p50.name, time.p50.value)
    if time.seen_ms is None:
        return ""
    return f"{'~' if time.seen_ms else ''}{quantity(time.p50.name, time.seen_ms)}"


def time_verdict(row: Row) -> str:
    """What keeps a row's times from being quoted, once for all its stages; "" where nothing."""
    found = [time.p50.verdict for time in row.times if _known(time)]
    return next((str(verdict) for verdict in found if verdict is not Verdict.VALID), "")


def shared_verdict(board: Board) -> str:
    """The verdict of the times of every row, to be said once; "" where they differ."""
    found = {time_verdict(row) for row in timed_rows(board) if time_stages_of(row)}
    return found.pop() if len(found) == 1 else ""


def time_stages_of(row: Row) -> list[str]:
    """The stages of a row of which a time is known."""
    return [time.stage for time in row.times if _known(time)]


def time_reason(row: Row) -> str:
    """Why times bear that verdict."""
    found = [time.p50 for time in row.times if _known(time)]
    return next((m.reason or "" for m in found if m.verdict is not Verdict.VALID), "")


def time_lines(board: Board) -> list[str]:
    """Why times are withheld, or may not be quoted; each reason once."""
    whole = [(row, t) for row in board.everyone for t in row.times if t.stage == "case"]
    few = [_lacking(board, p, [getattr(t, p) for _, t in whole]) for p in ("p50", "p95")]
    lines = [line for line in few if line]
    if any(t.p50.value is None and t.seen_ms is not None for _, t in whole):
        lines.append("Times with ~: the median of fewer passes than p50 needs.")
    return [*lines, *_faults(whole), *_memory_faults(board)]


def _lacking(board: Board, percentile: str, found: Sequence[Measurement]) -> str | None:
    """How many passes a percentile lacks, and how they are asked for."""
    counts = [m.sample_count for m in found if m.value is None and m.sample_count]
    if not counts:
        return None
    needed = SAMPLES_NEEDED[percentile]
    repeats = math.ceil(needed / max(len(board.cases), 1))
    return (
        f"Times: {percentile} needs {needed} timed passes of a row, {min(counts)} "
        f"{'was' if min(counts) == 1 else 'were'} made; --repeats {repeats} makes enough."
    )


def _faults(whole: Sequence[tuple[Row, StageTime]]) -> Iterator[str]:
    """Verdicts of times, and why nothing is known of some; rows that share one are named once."""
    by_verdict: dict[str, list[tuple[Row, str]]] = {}
    unseen: dict[str, list[str]] = {}
    for row, time in whole:
        m = time.p50
        if m.value is None and not m.sample_count:
            unseen.setdefault(m.reason or "not timed", []).append(row.name)
        elif m.value is not None and m.verdict is not Verdict.VALID:
            by_verdict.setdefault(str(m.verdict), []).append((row, m.reason or "unknown"))
    for verdict, rows in by_verdict.items():
        reasons = dict.fromkeys(reason for _, reason in rows)
        who = "all rows" if len(rows) == len(whole) > 1 else listed([row.name for row, _ in rows])
        more = f" in {listed([rows[0][0].name])}; others alike" if len(reasons) > 1 else ""
        yield f"Times of {who} are {verdict}: {next(iter(reasons))}{more}."
    for reason, names in unseen.items():
        yield f"No times of {listed(names)}: {reason}."


def _memory_faults(board: Board) -> Iterator[str]:
    """Why peaks of memory may not be quoted, each reason once."""
    found = [(row, m) for row in board.everyone if (m := row.peak_memory) and m.value is not None]
    by_reason: dict[str, list[str]] = {}
    for row, m in found:
        if m.verdict is not Verdict.VALID:
            by_reason.setdefault(f"{m.verdict}: {m.reason or 'unknown'}", []).append(row.name)
    for reason, names in by_reason.items():
        who = "all rows" if len(names) == len(found) > 1 else listed(names)
        yield f"Peak memory of {who} is {reason}."


def _known(time: StageTime) -> bool:
    return time.p50.value is not None or time.seen_ms is not None
