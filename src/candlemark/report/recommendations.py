"""What the numbers recommend, in sentences: ties are ties, and no winner is no winner.

    answer(boards)                  # the one sentence on top of a report
    recommendations(board, hold(board))

Recommended is only what forecasts: on a recognition board the answer is visible in the
picture, so its scores show that a model can read charts and nothing else. A model that does
not beat every control is never called best; its speed is still a fact and is told as one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from candlemark.report.contests import Contest, differing_fields, hold
from candlemark.report.format import measured, quantity, short, title_of
from candlemark.report.statistics import PRIMARY, Board, Row

CLOSE = 0.05  # single timings nearer than this share are a tie: repeats differ by as much
RECOGNITION = "recognition: the answer is visible"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """A question and its answer; `names` holds all rows that share the place."""

    title: str
    names: tuple[str, ...]
    text: str


def recommendations(board: Board, contest: Contest) -> tuple[Recommendation, ...]:
    """Best overall, most accurate, fastest training, most efficient; or why there is none."""
    if board.is_recognition:
        return (
            Recommendation(
                title="None",
                names=(),
                text=f"{RECOGNITION}. These scores show that a row can read a chart; "
                "they recommend nothing for prediction.",
            ),
        )
    if board.market == "random_walk":
        return (Recommendation(title="Check", names=(), text=random_walk_sentence(board)),)
    if not board.models:
        return (Recommendation(title="None", names=(), text="No model of this board has a score."),)
    worthy = [row for row in board.models if row.name in contest.winners]
    return (
        _best_overall(worthy, contest),
        _most_accurate(board, contest),
        _cheapest("Fastest training", board.models, "training_time_s", contest),
        _cheapest(
            "Most efficient",
            [row for row in board.models if row.name in contest.tied_for_best],
            "latency_ms_p50",
            contest,
            among="of the most accurate",
        ),
    )


def _best_overall(worthy: Sequence[Row], contest: Contest) -> Recommendation:
    title = "Best overall"
    if not worthy:
        return Recommendation(title=title, names=(), text="No model beats the controls.")
    costs = ("training_time_s", "latency_ms_p50", "peak_memory_bytes")
    usable = [
        cost
        for cost in costs
        if all(row.value(cost) is not None for row in worthy) and not differing_fields(worthy)
    ]
    tied = set(contest.tied_for_best)
    places = {
        row.name: (0 if row.name in tied else 1 + [r.name for r in worthy].index(row.name))
        + sum(
            sum((other.value(cost) or 0) < (row.value(cost) or 0) for other in worthy)
            for cost in usable
        )
        for row in worthy
    }
    names = tuple(name for name, place in places.items() if place == min(places.values()))
    if len(worthy) == 1:
        text = f"{short(names[0])} is the only model that beats every control."
    else:
        basis = ", ".join(["AUROC", *(title_of(cost) for cost in usable)])
        text = f"{_listed(names)} {_has(names)} the best sum of places in {basis}"
        text += f" among the {len(worthy)} models that beat every control."
    return Recommendation(title=title, names=names, text=text)


def _most_accurate(board: Board, contest: Contest) -> Recommendation:
    names = contest.tied_for_best
    best = board.models[0]
    text = f"{short(best.name)}, AUROC {measured(best.scores[PRIMARY])}"
    others = [name for name in names if name != best.name]
    if others:
        text += f"; a tie with {_listed(others)}: the difference is within chance"
    if not set(names) & set(contest.winners):
        text += "; not better than the controls"
    return Recommendation(title="Most accurate", names=names, text=f"{text}.")


def _cheapest(
    title: str, rows: Sequence[Row], cost: str, contest: Contest, *, among: str = ""
) -> Recommendation:
    known = [(row, value) for row in rows if (value := row.value(cost)) is not None]
    what = title_of(cost)
    if not known:
        return Recommendation(title=title, names=(), text=f"{what} was not measured.")
    fields = differing_fields([row for row, _ in known])
    if fields:
        text = f"No winner: {what} was measured under unlike conditions ({_listed(fields[:3])})."
        return Recommendation(title=title, names=(), text=text)
    least = min(value for _, value in known)
    names = tuple(row.name for row, value in known if value <= least * (1 + CLOSE))
    text = f"{_listed(names)}, {what} {quantity(cost, least)}"
    if among:
        text += f", {among}"
    if len(names) > 1:
        text += f"; a tie: within {CLOSE:.0%}"
    if not set(names) & set(contest.winners):
        text += "; not better than the controls"
    return Recommendation(title=title, names=names, text=f"{text}.")


def random_walk_sentence(board: Board) -> str:
    """Whether the market without any signal shows none."""
    compared = [row for row in board.rows if row.adjusted.low is not None]
    outside = board.outside_chance
    if not compared:
        return "No row has an interval, so the random walk proves nothing."
    if outside:
        return (
            f"{len(outside)} of {len(compared)} intervals leave out 0.5 on a random walk "
            f"({_listed([row.name for row in outside])}): something leaks, trust no board."
        )
    return (
        f"All {len(compared)} intervals, corrected for their number, contain 0.5 on a random "
        "walk, as they must."
    )


def answer(boards: Sequence[Board]) -> str:
    """The answer of a whole report in one sentence, from its most real forecast board."""
    asked = [b for b in boards if not b.is_recognition and b.market != "random_walk"]
    if not asked:
        walks = [b for b in boards if not b.is_recognition]
        if walks:
            return random_walk_sentence(walks[0])
        return f"Nothing was forecast here; {RECOGNITION}." if boards else "There are no trials."
    board = asked[0]
    contest = hold(board)
    where = f"On {board.dataset}, {board.label}"
    if not board.models:
        return f"{where}: no model has a score."
    best = board.models[0]
    score = f"AUROC {measured(best.scores[PRIMARY])}"
    if not contest.winners:
        return f"{where}: no model beats the controls (best: {short(best.name)}, {score})."
    if board.leaky_split:
        return f"{where}: the split is random and leaks, so no score counts as prediction."
    tied = [name for name in contest.tied_for_best if name != best.name]
    tie = f", tied with {_listed(tied)}" if tied else ""
    beats = "beats" if best.name in contest.winners else "leads but does not beat"
    return f"{where}: {short(best.name)} {beats} every control, {score}{tie}."


def _listed(names: Sequence[str]) -> str:
    words = [short(name) for name in names]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _has(names: Sequence[str]) -> str:
    return "has" if len(names) == 1 else "share"
