"""What is said of a segmentation board, in words that text, files and pages share.

answer(board)         # "mit-b0 has the best Dice, 0.867 [0.807, 0.916]; better than every control"
note_lines(board)     # what must be known to read the numbers
"""

from __future__ import annotations

from candlemark.metrics.segmentation.aggregate import MINIMUM_CASES
from candlemark.metrics.segmentation.catalog import SEGMENTATION_METRICS
from candlemark.metrics.segmentation.conventions import CONVENTIONS
from candlemark.metrics.segmentation.scores import OURS
from candlemark.records import Measurement, Verdict
from candlemark.report.format import UNKNOWN, listed, p_value, short
from candlemark.report.segmentation.board import Board, Row
from candlemark.report.segmentation.contests import Duel
from candlemark.report.segmentation.times import time_lines

ORACLES = "Oracles: the prompt comes from the reference, so no score of theirs is the model's own"
_BARS = {"clears": "clears it", "misses": "misses it", "undecided": "cannot be told"}


def answer(board: Board) -> str:
    """Which model segments best, as far as the cases can tell; else what is missing to say it.

    No model is called the best that was never trained, that has too few cases, that found nothing,
    or that is not shown to beat every control.
    """
    if not any(row.failed_cases < len(row.cases) for row in board.models):
        return _no_contestant(board)
    primary = board.settings.primary
    best, tied = board.models[0], board.contest.tied_for_best
    score = written(best.scores[primary.name])
    if _cases_with_number(best, board) < MINIMUM_CASES:
        return f"{_few(board, best)} {_so_far(board)}."
    if primary.higher_is_better and float(plain(best.scores[primary.name])) <= primary.low:
        return (
            f"No model found anything: the best {primary.title} is {score}, of {short(best.name)}."
        )
    duel = board.contest.beats_controls.get(best.name)
    if duel is not None and duel.p_value is not None and not duel.won:
        return (
            f"No model is shown to beat every control: {short(best.name)}, the best of "
            f"{len(board.models)}, has {primary.title} {score}, {plain_name(duel.other)} "
            f"{_score_of(board, duel.other)} ({p_value(duel.p_value)})."
        )
    if len(board.models) == 1:
        text = f"{short(best.name)} reaches {primary.title} {score};"
    elif len(tied) > 1:
        text = f"{listed(tied)} cannot be told apart: {primary.title} {score} for the first,"
    else:
        text = f"{short(best.name)} has the best {primary.title}, {score};"
    return f"{text} {_of_controls(duel)}."


def _no_contestant(board: Board) -> str:
    """Why no model can be the best."""
    primary = board.settings.primary
    asked = [row for row in board.rows if row.is_model]
    if not asked:
        return (
            "No model was scored, and none can be recommended: name one by --hf-models or --model."
        )
    untrained = [row.name for row in asked if row.untrained]
    if len(untrained) == len(asked):
        verb = "is" if len(untrained) == 1 else "are"
        return (
            f"No trained model was scored: {_some(untrained)} {verb} UNTRAINED, random weights "
            "say nothing of a model."
        )
    if board.models:
        failed = _some([row.name for row in board.models])
        return f"No model gave an answer: {failed} failed in every case, as told below the tables."
    reason = next(row.scores[primary.name].reason for row in asked if not row.untrained)
    return f"No model has a known {primary.title} ({reason})."


def _cases_with_number(row: Row, board: Board) -> int:
    """How many cases the primary score of a row is a mean of: a tool may leave some out."""
    return row.sampled[board.settings.primary.name].case_count


def _few(board: Board, best: Row) -> str:
    count = _cases_with_number(best, board)
    verb = "is" if count == 1 else "are"
    which = "" if count == len(board.cases) else f" with a number, of {len(board.cases)},"
    lacking = MINIMUM_CASES - count
    return (
        f"{_cases(count)}{which} {verb} too few to name a best model: {MINIMUM_CASES} are needed, "
        f"{lacking} more."
    )


def _so_far(board: Board) -> str:
    """The first model and the first control, without calling either the better one."""
    primary = board.settings.primary.name
    shown = [row for rows in (board.models, board.controls) for row in rows[:1]]
    told = [f"{plain_name(row.name)} {plain(row.scores[primary])}" for row in shown]
    return f"{board.settings.primary.title} so far: {', '.join(told)}"


def _score_of(board: Board, name: str) -> str:
    return plain(board.row(name).scores[board.settings.primary.name])


def _some(names: list[str]) -> str:
    return listed(names) if len(names) < 4 else f"{listed(names[:1])} and {len(names) - 1} more"


def _of_controls(duel: Duel | None) -> str:
    if duel is None:
        return "there is no control beside it"
    if duel.p_value is None:
        return f"not tested against the controls ({duel.difference.reason})"
    return f"better than every control ({p_value(duel.p_value)})"


def head(board: Board, metric: str, *, stacked: bool = False) -> str:
    """A column's heading, with the unit where there is one; stacked: a word a line."""
    unit = board.units.get(metric, "")
    title = SEGMENTATION_METRICS[metric].title
    text = f"{title}, {unit}" if unit else title
    return text.replace(" ", "\n") if stacked else text


def plain(m: Measurement) -> str:
    """A value in the unit of its column."""
    return UNKNOWN if m.value is None else _number(m.value, m)


def bounded(m: Measurement) -> str:
    """Value and interval."""
    if m.low is None or m.high is None:
        return plain(m)
    return f"{plain(m)} [{_number(m.low, m)}, {_number(m.high, m)}]"


def ends(m: Measurement) -> str:
    """The interval alone; "" where there is none."""
    if m.low is None or m.high is None:
        return ""
    return f"{_number(m.low, m)} to {_number(m.high, m)}"


def written(m: Measurement, *, with_unit: bool = False) -> str:
    """Value, interval, and the verdict that keeps it from being quoted."""
    text = bounded(m)
    if with_unit and m.unit and m.value is not None:
        text += f" {m.unit}"
    return text if m.verdict is Verdict.VALID else f"{text} {m.verdict}"


def _number(value: float, m: Measurement) -> str:
    # Half the diagonal of a scan is no number to read to the micrometre, nor is any distance.
    if m.unit in {"mm", "px"}:
        return f"{value:.1f}" if (m.value or 0) >= 10 else f"{value:.2f}"
    return f"{value:.3f}"


def standing(row: Row, board: Board) -> str:
    """What the tests say of a row, in a few words; "" where there is none."""
    primary = row.scores[board.settings.primary.name]
    if primary.value is None:
        return primary.reason or "unknown"
    duel = board.contest.beats_controls.get(row.name)
    if duel is None or _cases_with_number(row, board) < MINIMUM_CASES:
        return ""  # why is said once, below the table
    if duel.p_value is None:
        return duel.difference.reason or "not tested"
    tied = row.name in board.contest.tied_for_best and len(board.contest.tied_for_best) > 1
    verdict = "beats all" if duel.won else f"does not beat {plain_name(duel.other)}"
    text = f"{verdict}, {p_value(duel.p_value)}"
    return f"{text}; tied for best" if tied else text


def prompt_of(row: Row) -> str:
    """Where the prompt of an oracle lies."""
    if row.jitter is None:
        return "the reference itself"
    return f"moved by {row.jitter:.0%}" if row.jitter else "as the reference has it"


def plain_name(name: str) -> str:
    """A row's name; of a control its protocol alone."""
    return short(name).removeprefix("control: ")


def named(row: Row) -> str:
    """A control is told by its protocol and its colour, and needs no further word."""
    return short(row.name) if row.is_model else plain_name(row.name)


def named_beside(row: Row) -> str:
    """A name beside columns that tell protocol and prompt, and what a name says of them."""
    moved = f", prompt moved by {row.jitter or 0:.0%}"
    return named(row).removesuffix(moved).removesuffix(f" ({row.protocol})")


def bar_lines(board: Board) -> list[str]:
    """For each threshold: who clears it, who misses it, and of whom it cannot be told."""
    lines = []
    for metric, bar in board.settings.thresholds.items():
        by_state: dict[str, list[str]] = {}
        for row in board.rows:
            state = next(found.state for found in row.bars if found.metric == metric)
            if row.is_model and state in _BARS:
                by_state.setdefault(state, []).append(row.name)
        told = [
            f"{listed(by_state[state])}: {words}"
            for state, words in _BARS.items()
            if state in by_state
        ]
        known = SEGMENTATION_METRICS[metric]
        side = "at least" if known.higher_is_better else "at most"
        said = "; ".join(told) if told else "no model has an interval to hold against it"
        unit = board.units.get(metric, "")
        lines.append(f"Bar {known.title} {side} {bar:g} {unit}".rstrip() + f": {said}")
    return lines


def note_lines(board: Board) -> list[str]:
    """What must be known to read the numbers."""
    settings = board.settings
    lines = [*_of_cases(board)]
    if left := [row.name for row in board.rows if row.is_model and row.untrained]:
        lines.append(f"UNTRAINED takes part in no test and no order: {listed(left)}.")
    if "nsd" in settings.metrics:
        unit = "px" if "px" in board.units.values() else "mm"
        lines.append(f"NSD: surfaces within {settings.tolerance_mm:g} {unit} count as equal.")
    lines += [*fold_lines(board), *class_lines(board)]
    reasons: dict[str, list[str]] = {}
    for row in (*board.rows, *board.oracles):
        for metric in settings.metrics:
            m = row.scores[metric]
            if m.value is None and m.reason:
                title = SEGMENTATION_METRICS[metric].title
                reasons.setdefault(f"{title}: {m.reason}", []).append(row.name)
    rows = len(board.rows) + len(board.oracles)
    for why, names in reasons.items():
        who = "all rows" if len(names) == rows else listed(names)
        lines.append(f"{UNKNOWN} of {who}, {why}")
    return [*lines, *time_lines(board)]


def _of_cases(board: Board) -> list[str]:
    """What the numbers are means of, and what is said of their chance."""
    count = len(board.cases)
    convention = CONVENTIONS[board.settings.convention]
    leaves_out = convention.name != OURS and convention.nan == "skip"
    if count == 1:
        first = "Of 1 case, as it is; without an answer it scores the worst."
    else:
        means = f"Means over all {count} cases"
        if leaves_out:
            means += f", but for those that {convention.title} leaves out or adds up"
        first = f"{means}; a case without an answer scores the worst."
    if max((_cases_with_number(row, board) for row in board.models), default=count) < MINIMUM_CASES:
        why = "below that no paired test can reach p = 0.05"
        return [first, f"No interval and no test: both need {MINIMUM_CASES} cases; {why}."]
    freedom = "one degree of freedom less than cases with a number"
    chance = (
        "Intervals: bootstrap of cases, 95 %. p-values: paired bootstrap of the same cases with "
        f"Student's t of {freedom if leaves_out else f'{count - 1} degrees of freedom'}, "
        "corrected by Holm."
    )
    return [first, chance]


def fold_lines(board: Board) -> list[str]:
    """How each protocol that learns is kept from what it answers for."""
    found: dict[str, dict[str, None]] = {}
    for row in board.everyone:
        for record in (*row.records, *row.failed)[:1]:
            folds = list(record.facts.get("folds") or [])
            if not folds:
                continue
            way = f"{len(folds)} folds: each case by a head trained on the others"
            if len(folds) == 1:
                way = f"a head trained on {_cases(len(folds[0]['train']))} that no row is tested on"
            found.setdefault(way, {})[row.protocol] = None
    return [f"{', '.join(protocols)}, {way}." for way, protocols in found.items()]


def class_lines(board: Board) -> list[str]:
    """Which classes a model was never going to find, by its class map."""
    found: dict[str, dict[str, None]] = {}
    for row in board.everyone:
        for record in row.records[:1]:
            left = list(record.facts.get("classes_without_answer") or [])
            if left:
                found.setdefault(", ".join(left), {})[row.name] = None
    return [
        f"Never found by {listed(list(rows))}, none of whose classes stands for it: {left}."
        for left, rows in found.items()
    ]


def _cases(count: int) -> str:
    return "1 case" if count == 1 else f"{count} cases"


_SHOWN_REASONS = 5
"""Of the cases of a row; a reason that names a shape or a file may be another in each of them."""


def failure_lines(board: Board) -> list[str]:
    """Trials and cases that failed, each reason once a row, and of many the first few."""
    lines: list[str] = []
    for row in board.everyone:
        told = (f"failed: {short(row.name)}: {r.status}, {r.reason}" for r in row.failed)
        lines += dict.fromkeys(told)  # every seed of it may have the same
        dead = {record.trial_id for record in row.failed}
        reasons: dict[tuple[str, str], list[str]] = {}
        for case in row.cases:
            if case.failed and case.trial_id not in dead:
                reasons.setdefault((case.outcome, case.reason or ""), []).append(case.case)
        for (outcome, reason), cases in list(reasons.items())[:_SHOWN_REASONS]:
            which = cases[0] if len(cases) == 1 else f"{len(cases)} cases, {cases[0]} first"
            lines.append(
                f"{outcome.replace('_', ' ')}: {short(row.name)}: {which}"
                + (f": {reason}" if reason else "")
            )
        more = [case for cases in list(reasons.values())[_SHOWN_REASONS:] for case in cases]
        if more:
            lines.append(
                f"failed: {short(row.name)}: {_cases(len(more))} more, as the CSV of cases tells"
            )
    return lines


def duel_line(duel: Duel) -> str:
    """First - second, with interval and corrected p-value, or why it was not tested."""
    d = duel.difference
    told = d.reason or "unknown"
    if d.value is not None and d.low is not None and d.high is not None:
        told = f"{d.value:+.3f} [{d.low:+.3f}, {d.high:+.3f}], {p_value(duel.p_value)}"
    elif d.value is not None:
        told = f"{d.value:+.3f}, not tested: {d.reason}"
    return f"{short(duel.model)} - {short(duel.other)}: {told}"
