"""What the numbers recommend, in sentences: ties are ties, and no winner is no winner.

    answer(boards)                  # what stands on top of a report
    recommendations(board, hold(board))

Recommended is only what forecasts: on a recognition board the answer is visible in the
picture, so its scores show that a model can read charts and nothing else. A model that does
not beat every control is never called best; its speed is still a fact and is told as one.

Where the truth is known, a market with a planted signal, the answer is first of all a check of
the whole machine against it: is what is there found, is nothing found where nothing is, and is
a visible answer read and called recognition.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from candlemark.report.contests import Contest, differing_fields, hold
from candlemark.report.format import listed, measured, quantity, short, title_of
from candlemark.report.fusion.questions import ask
from candlemark.report.fusion.sentences import alarm, headline
from candlemark.report.statistics import PRIMARY, Board, Row

CLOSE = 0.05  # single timings nearer than this share are a tie: repeats differ by as much
RECOGNITION = "recognition: the answer is visible"
REACH = 0.05  # a signal is found within this much AUROC of what is attainable
READ = 0.99  # a visible answer is read above this AUROC


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
                title="Note",
                names=(),
                text=f"{RECOGNITION}. These scores show that a row can read a chart; "
                "they recommend nothing for prediction.",
            ),
        )
    if board.market == "random_walk":
        return (Recommendation(title="Check", names=(), text=random_walk_sentence([board])),)
    if not board.models:
        return (Recommendation(title="Note", names=(), text="No model of this board has a score."),)
    worthy = [row for row in board.models if row.name in contest.winners]
    return (
        _best_overall(worthy, contest),
        _most_accurate(board, contest),
        _cheapest("Fastest training", board.models, "training_time_s", contest),
        _cheapest(
            "Most efficient",
            [row for row in board.models if row.name in contest.tied_for_best],
            "latency_p50_ms",
            contest,
            among="of the most accurate",
        ),
    )


def _best_overall(worthy: Sequence[Row], contest: Contest) -> Recommendation:
    title = "Best overall"
    if not worthy:
        return Recommendation(title=title, names=(), text="No model beats the controls.")
    costs = ("training_time_s", "latency_p50_ms", "peak_memory_bytes")
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
        text = f"{listed(names)} {_has(names)} the best sum of places in {basis}"
        text += f" among the {len(worthy)} models that beat every control."
    return Recommendation(title=title, names=names, text=text)


def _most_accurate(board: Board, contest: Contest) -> Recommendation:
    names = contest.tied_for_best
    best = board.models[0]
    text = f"{short(best.name)}, AUROC {measured(best.scores[PRIMARY])}"
    others = [name for name in names if name != best.name]
    if others:
        text += f"; a tie with {listed(others)}: the difference is within chance"
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
        text = f"No winner: {what} was measured under unlike conditions ({listed(fields[:3])})."
        return Recommendation(title=title, names=(), text=text)
    least = min(value for _, value in known)
    names = tuple(row.name for row, value in known if value <= least * (1 + CLOSE))
    text = f"{listed(names)}, {what} {quantity(cost, least)}"
    if among:
        text += f", {among}"
    if len(names) > 1:
        text += f"; a tie: within {CLOSE:.0%}"
    if not set(names) & set(contest.winners):
        text += "; not better than the controls"
    return Recommendation(title=title, names=names, text=f"{text}.")


def random_walk_sentence(boards: Sequence[Board]) -> str:
    """Whether markets without any signal show none."""
    check = _walk_check(boards)
    return f"{check.text[0].upper()}{check.text[1:]}."


def answer(boards: Sequence[Board]) -> str:
    """What a whole report says, in a few sentences.

    With a real market: its most real forecast board, then the checks that stand beside it.
    Without one, but with a planted signal: the check against the truth alone. Where text and
    picture were asked together, what each of them adds.
    """
    return " ".join([_boards_answer(boards), *_inputs_sentences(boards)])


def _boards_answer(boards: Sequence[Board]) -> str:
    forecasts = [board for board in boards if not board.is_recognition]
    asked = [b for b in forecasts if b.market not in {"planted", "random_walk"}]
    walks = _walks(forecasts)
    known = [b for b in forecasts if b.market == "planted" and b.attainable_auroc is not None]
    if known:
        check = truth_sentence(known, walks, [b for b in boards if b.is_recognition])
        return f"{_board_sentence(asked[0])} {check}" if asked else check
    asked = asked or [b for b in forecasts if b.market == "planted"]
    sentences = [_board_sentence(asked[0])] if asked else []
    if walks:
        sentences.append(random_walk_sentence(walks))
    if sentences:
        return " ".join(sentences)
    return f"Nothing was forecast here; {RECOGNITION}." if boards else "There are no trials."


def _inputs_sentences(boards: Sequence[Board]) -> list[str]:
    """What the most real board of fusion says of its inputs, and what no board must say."""
    fusion = [board for board in boards if board.is_fusion]
    asked = [b for b in fusion if b.market != "random_walk" and not b.leaky_split]
    sentences = []
    if asked:
        alone = all(board in (asked[0], *_walks(boards)) for board in boards)
        of = "Of its inputs" if alone else f"What each input adds on {_where(asked[0])}"
        sentences = [f"{of}: {headline(ask(asked[0]))}."]
    alarms = [alarm(ask(board)) for board in fusion]
    return sentences + [text for text in dict.fromkeys(alarms) if text is not None]


def _walks(boards: Sequence[Board]) -> list[Board]:
    return [board for board in boards if board.market == "random_walk"]


def _where(board: Board) -> str:
    return f"{board.dataset}, {board.label}"


@dataclass(frozen=True, slots=True)
class _Check:
    held: bool
    text: str


def truth_sentence(
    planted: Sequence[Board], walks: Sequence[Board], recognition: Sequence[Board]
) -> str:
    """Whether the machine tells a signal, no signal and a visible answer apart.

    planted: boards whose attainable AUROC is known. The signal is *found* by the best model if
    its simultaneous interval lies above 0.5 and either its 95 % interval reaches the attainable
    AUROC or its score lies within 0.05 of it. An interval above the attainable AUROC is a
    leak: no honest score can be better. Where a row is known to be shown only a part of what was
    planted, its own attainable AUROC counts.
    walks: held if every simultaneous interval contains 0.5.
    recognition: held if the best model of each board has an AUROC above 0.99.
    """
    checks = [_signal_check(board, named=len(planted) > 1) for board in planted]
    checks += [_walk_check(walks)] if walks else []
    checks += [_recognition_check(recognition)] if recognition else []
    text = "; ".join(check.text for check in checks)
    if len(checks) == 1:
        return f"{text[0].upper()}{text[1:]}."
    held = all(check.held for check in checks)
    return f"This machine {'tells' if held else 'does not tell'} them apart: {text}."


def _signal_check(board: Board, *, named: bool) -> _Check:
    signal = f"planted signal of {board.dataset}" if named else "planted signal"
    if not board.models or board.attainable_auroc is None:
        return _Check(False, f"{signal} not looked for: no model has a score")
    best = board.models[0]
    # Who is shown a part of what was planted can find no more than that part.
    attainable = float(best.facts.get("attainable_by_inputs") or board.attainable_auroc)
    auroc = best.scores[PRIMARY]
    score = f"{short(best.name)} AUROC {measured(auroc)}, attainable {attainable:.3f}"
    low, value, high = best.adjusted.low, auroc.value or 0.0, auroc.high
    if board.leaky_split:
        fault = "not tested, for the random split leaks"
    elif low is None:
        fault = "not found beyond doubt: no interval"
    elif low > attainable:
        fault = "beaten, so something leaks"
    elif low <= 0.5:
        fault = "NOT found: its corrected interval is not above 0.5"
    elif value >= attainable - REACH or (high is not None and high >= attainable):
        return _Check(True, f"{signal} found ({score})")
    else:
        fault = "found only in part"
    return _Check(False, f"{signal} {fault} ({score})")


def _walk_check(boards: Sequence[Board]) -> _Check:
    compared = [row for board in boards for row in board.compared]
    outside = [row for board in boards for row in board.outside_chance]
    total = len(compared)
    if not compared:
        return _Check(False, "the random walk proves nothing: no row has an interval")
    if outside:
        text = (
            f"a signal seen on the random walk, where there is none ({len(outside)} of {total} "
            f"corrected intervals without 0.5: {listed([row.name for row in outside])}), "
            "so something leaks: trust no board"
        )
        return _Check(False, text)
    return _Check(
        True,
        f"nothing found on the random walk ({total} of {total} corrected intervals contain 0.5)",
    )


def _recognition_check(boards: Sequence[Board]) -> _Check:
    best = [board.models[0] for board in boards if board.models]
    if len(best) < len(boards):
        return _Check(False, "the visible answer not looked for: no model has a score")
    worst = min(best, key=lambda row: row.value(PRIMARY) or 0.0)
    value = worst.value(PRIMARY) or 0.0
    if value > READ:
        return _Check(True, f"the visible answer read ({value:.3f}) and called recognition")
    return _Check(False, f"the visible answer NOT read ({short(worst.name)} AUROC {value:.3f})")


def _board_sentence(board: Board) -> str:
    contest = hold(board)
    where = f"On {_where(board)}"
    if not board.models:
        return f"{where}: no model has a score."
    best = board.models[0]
    score = f"AUROC {measured(best.scores[PRIMARY])}"
    if not contest.winners:
        return f"{where}: no model beats the controls (best: {short(best.name)}, {score})."
    if board.leaky_split:
        return f"{where}: the split is random and leaks, so no score counts as prediction."
    tied = [name for name in contest.tied_for_best if name != best.name]
    tie = f", tied with {listed(tied)}" if tied else ""
    beats = "beats" if best.name in contest.winners else "leads but does not beat"
    return f"{where}: {short(best.name)} {beats} every control, {score}{tie}."


def _has(names: Sequence[str]) -> str:
    return "has" if len(names) == 1 else "share"
