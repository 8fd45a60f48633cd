"""Does the text help, do the pixels, do both beat the numbers, and the last close?

    study = ask(board)
    for answer in study.answers:
        answer.question, answer.row, answer.other, answer.metric, answer.verdict

Each question is a paired comparison of two rows on the same test cases, once for the class (by
AUROC) and once for the next close (by MASE). Where several rows stand on the other side, as both
numeric learners do, the row must beat all of them and the largest p-value counts; to be called
worse it must be worse than one of them, Bonferroni's correction over them included. All p-values of
a board are one family, corrected by Holm over questions, rows and both measures, so that a study
of many ways to fuse does not find one that helps by asking often enough.

A question whose rows are missing or failed is not answered, and says why. On a random walk nothing
can help: what is found there is an alarm, and asks for 1 % where other markets ask for 5 %. Where
the class is visible in the picture, only the questions about the next close are asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from candlemark.metrics.summary import Difference, difference, holm
from candlemark.report.contests import ALPHA, compare, hardest, why_none
from candlemark.report.format import short
from candlemark.report.settings import made_alike
from candlemark.report.statistics import OF_THE_CLOSE, PRIMARY, SCORES, Board, Row

Verdict = Literal["yes", "worse", "not shown", "not answered"]

ALARM_ALPHA = 0.01  # on a random walk: at 5 % one honest suite in 20 would alarm
LAST_CLOSE = "the last close"
LEARNERS = ("gradient_boosting", "logistic")
"""Baselines that learn from the numbers of a window."""

QUESTIONS = {
    "text": "Does the text help?",
    "pixels": "Do the pixels help?",
    "numbers": "Do they beat the numbers?",
    "persistence": "Do they beat persistence?",
}
_ALONE = ("image", "text")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One comparison: a row against another, by one measure.

    question: a key of QUESTIONS
    other: the row that it is hardest to tell from; None where there is none
    difference: row - other on the measure's own scale; of the MASE a negative one is better
    p_value: corrected by Holm over the board; alpha: what it must lie below
    reason: why there is no answer, or who is missing on the other side
    not_run: whether the answer only takes a row that was not run
    """

    question: str
    row: str
    other: str | None
    metric: str
    difference: Difference | None = None
    p_value: float | None = None
    alpha: float = ALPHA
    reason: str | None = None
    not_run: bool = False

    @property
    def gain(self) -> float | None:
        """The difference turned so that more is better."""
        if self.difference is None or self.difference.value is None:
            return None
        return self._turned(self.difference.value)

    @property
    def gain_bounds(self) -> tuple[float, float] | None:
        """The 95 % interval of the gain, uncorrected."""
        if self.difference is None or self.difference.low is None or self.difference.high is None:
            return None
        ends = self._turned(self.difference.low), self._turned(self.difference.high)
        return min(ends), max(ends)

    @property
    def verdict(self) -> Verdict:
        """What the corrected test says."""
        gain = self.gain
        if gain is None or self.p_value is None:
            return "not answered"
        if self.p_value >= self.alpha or gain == 0:
            return "not shown"
        return "yes" if gain > 0 else "worse"

    def _turned(self, value: float) -> float:
        # Adding 0 turns -0.0 into 0.0, which prints without a sign that says nothing.
        return (value if SCORES[self.metric].higher_is_better else -value) + 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """The answers of a board, and how every row stands to the last close.

    walk: whether the market is a random walk, where only what was run is asked
    together: whether the rows asked were shown text and image; one of them where there is no such
    comparisons: p-values that were corrected together
    closes: by row name, the MASE against 1, corrected over the rows of the board
    attainable: by row name, the AUROC that no model shown these inputs can exceed, where the
        market was made with a known signal
    too_good: rows whose simultaneous interval lies above that, which only a leak explains
    """

    answers: tuple[Answer, ...]
    walk: bool
    together: bool
    comparisons: int
    closes: Mapping[str, Answer]
    attainable: Mapping[str, float] = field(default_factory=dict)
    too_good: tuple[str, ...] = ()

    def of(self, question: str) -> tuple[Answer, ...]:
        """Answers to one question, the rows in the order of the board, the class first."""
        return tuple(answer for answer in self.answers if answer.question == question)

    @property
    def found(self) -> tuple[Answer, ...]:
        """Answers that are yes."""
        return tuple(answer for answer in self.answers if answer.verdict == "yes")


def ask(board: Board) -> Study:
    """All questions of a board of the task `fusion`."""
    walk = board.market == "random_walk"
    alpha = ALARM_ALPHA if walk else ALPHA
    asked = [replace(answer, alpha=alpha) for answer in _answers(board)]
    if walk:
        # A control of one model alone has no single inputs to be held against, by design.
        asked = [a for a in asked if a.other is not None] or asked
    answers = _corrected(asked)
    closes = _corrected(
        [
            replace(_last_close(row), alpha=alpha)
            for row in board.rows
            if row.forecast is not None and not says_the_last_close(row)
        ]
    )
    attainable = {
        row.name: float(known)
        for row in board.rows
        if row.is_model and (known := row.facts.get("attainable_by_inputs")) is not None
    }
    return Study(
        answers=answers,
        walk=walk,
        together=any(shown(row) == "both" for row in contestants(board)),
        comparisons=sum(answer.p_value is not None for answer in answers),
        closes={answer.row: answer for answer in closes},
        attainable=attainable,
        too_good=tuple(
            row.name
            for row in board.rows
            if row.adjusted.low is not None and row.adjusted.low > attainable.get(row.name, 1.0)
        ),
    )


def shown(row: Row) -> str | None:
    """What a contestant was shown: `both`, `image`, `text` or `numbers`; None for other rows."""
    return str(row.facts.get("inputs")) if row.is_model else None


def contestants(board: Board) -> tuple[Row, ...]:
    """Rows that were shown text and image; where there is none, those that were shown one."""
    both = tuple(row for row in board.rows if shown(row) == "both")
    return both or tuple(row for row in board.rows if shown(row) in _ALONE)


def says_the_last_close(row: Row) -> bool:
    """Whether the forecasts of a row are persistence's."""
    found = row.forecast
    if found is None or found.value != 1.0:
        return False
    # In a resample without a move it is undefined.
    return bool(np.all((found.replicates == 1.0) | np.isnan(found.replicates)))


def against_last_close(row: Row) -> Difference:
    """MASE of a row minus 1, which is persistence's in every resample."""
    found = row.forecast
    if found is None:
        return Difference(metric=OF_THE_CLOSE, value=None, reason=why_none(row, OF_THE_CLOSE))
    return difference(
        (found.value, found.replicates),
        (1.0, np.ones_like(found.replicates)),
        metric=SCORES[OF_THE_CLOSE],
        case_count=found.case_count,
        block_length=found.block_length,
        extra_variance=found.seed_variance,
    )


def _answers(board: Board) -> Iterator[Answer]:
    measures = (OF_THE_CLOSE,) if board.is_recognition else (PRIMARY, OF_THE_CLOSE)
    for question in QUESTIONS:
        for row in contestants(board):
            for metric in measures:
                if question == "persistence" and metric == OF_THE_CLOSE:
                    yield _last_close(row)
                else:
                    yield _answer(question, row, metric, board)


def _last_close(row: Row) -> Answer:
    if not row.records:
        return _unanswered("persistence", row, OF_THE_CLOSE, _failure(row))
    found = against_last_close(row)
    return Answer(
        question="persistence",
        row=row.name,
        other=LAST_CLOSE,
        metric=OF_THE_CLOSE,
        difference=found,
        p_value=found.p_value,
        reason=found.reason,
    )


def _answer(question: str, row: Row, metric: str, board: Board) -> Answer:
    if not row.records:
        return _unanswered(question, row, metric, _failure(row))
    if question in {"text", "pixels"} and shown(row) != "both":
        reason = "no row was shown text and image together"
        return _unanswered(question, row, metric, reason, not_run=True)
    others = _others(question, row, board)
    usable = [other for other in others if other.records]
    if not usable:
        reason = _failure(others[0]) if others else _missing(question)
        return _unanswered(question, row, metric, reason, not_run=not others)
    if len(usable) == 1:
        other, found = usable[0], compare(row, usable[0], metric)
        p_value = found.p_value
    else:
        toughest = hardest(row, usable, metric)
        if toughest is None:
            return _unanswered(question, row, metric, _missing(question))
        other, found, p_value = toughest
        if p_value == 1.0 and found.p_value is not None:
            # It does not beat this one; is it worse? This is the worst of several comparisons.
            p_value = min(1.0, found.p_value * len(usable))
    absent = [_failure(other) for other in others if not other.records]
    return Answer(
        question=question,
        row=row.name,
        other=other.name,
        metric=metric,
        difference=found,
        p_value=p_value,
        reason=found.reason or "; ".join(absent) or None,
    )


def _others(question: str, row: Row, board: Board) -> list[Row]:
    """The rows that a question sets a row against."""
    if question == "persistence":
        return [other for other in board.rows if _is_baseline(other, ("persistence",))]
    if question == "numbers":
        return [
            other
            for other in board.rows
            if shown(other) == "numbers" or _is_baseline(other, LEARNERS)
        ]
    alone = "image" if question == "text" else "text"
    found = [other for other in board.rows if shown(other) == alone]
    return [other for other in found if made_alike(row.setting, other.setting)] or found


def _is_baseline(row: Row, names: Sequence[str]) -> bool:
    return row.role == "baseline" and row.name.rsplit(": ", 1)[-1] in names


def _missing(question: str) -> str:
    return {
        "text": "no row was shown the image alone",
        "pixels": "no row was shown the text alone",
        "numbers": "no row learnt from the numbers",
        "persistence": "there is no row baseline: persistence",
    }[question]


def _failure(row: Row) -> str:
    record = row.failed[0]
    return f"{short(row.name)} failed ({record.status}: {record.reason})"


def _unanswered(
    question: str, row: Row, metric: str, reason: str, *, not_run: bool = False
) -> Answer:
    return Answer(
        question=question,
        row=row.name,
        other=None,
        metric=metric,
        reason=reason,
        not_run=not_run,
    )


def _corrected(answers: Sequence[Answer]) -> tuple[Answer, ...]:
    known = [answer.p_value for answer in answers if answer.p_value is not None]
    corrected = iter(holm(known))
    return tuple(
        answer if answer.p_value is None else replace(answer, p_value=next(corrected))
        for answer in answers
    )
