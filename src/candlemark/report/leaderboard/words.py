"""How a tracked model is written: the same in text, Markdown and page. Unknown is never 0.

count(1_234_567)            # "1.2 M"
claims_cell(model)          # "none claimed"
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from candlemark.report.format import UNKNOWN
from candlemark.report.leaderboard.board import Board, Trend
from candlemark.results.own_scores import OwnScore
from candlemark.results.tracked import Claim, TrackedModel

NONE_CLAIMED = "none claimed"
_STEPS = ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "k"))


def count(value: int | None) -> str:
    """`1234567` as `1.2 M`; what nobody said as `n/a`."""
    if value is None:
        return UNKNOWN
    for place, (size, unit) in enumerate(_STEPS):
        if value >= size:
            shown = value / size
            text = f"{shown:.2g}" if shown < 9.95 else f"{shown:.0f}"
            # 999,960 is 1.0 M, not 1000 k.
            if text == "1000" and place:
                return f"1.0 {_STEPS[place - 1][1]}"
            return f"{text} {unit}"
    return str(value)


def day(time: str | None) -> str:
    """The date of a time."""
    return UNKNOWN if time is None else time[:10]


def ago(time: str, now: datetime | None = None) -> str:
    """How long ago: `12 min`, `3 h`, `5 days`."""
    moment = datetime.fromisoformat(time)
    seconds = ((now or datetime.now(UTC)) - moment).total_seconds()
    if seconds < 90:
        return "a moment"
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.0f} {unit}"
    return "a moment"


def claim_text(claim: Claim) -> str:
    """`dice 0.91 on msd (spleen, test), verified`; told as it was written."""
    value = claim.told if claim.value is not None else f"'{claim.told}'"
    text = f"{claim.metric or 'an unnamed metric'} {value}"
    text += f" on {claim.dataset}" if claim.dataset else " on unnamed data"
    part = [word for word in (claim.config, claim.split) if word and word != "default"]
    if part:
        text += f" ({', '.join(part)})"
    return f"{text}, {claim.verification}" if claim.verification != "claimed" else text


def claims_cell(model: TrackedModel) -> str:
    """The first claim and how many more; never 0 for none."""
    if not model.claims:
        return NONE_CLAIMED
    best = min(model.claims, key=lambda claim: claim.verification != "verified")
    more = f" +{len(model.claims) - 1}" if len(model.claims) > 1 else ""
    return f"{claim_text(best)}{more}"


def gated_cell(model: TrackedModel) -> str:
    """Whether access has to be asked for."""
    return {None: UNKNOWN, "no": "open", "auto": "ask (auto)", "manual": "ask (by hand)"}[
        model.gated
    ]


def size_cell(model: TrackedModel) -> str:
    """Parameters, or that no file of the repository counts them."""
    return "not told" if model.parameters is None else count(model.parameters)


def trend_cell(trend: Trend | None) -> str:
    """How downloads have changed since an earlier snapshot."""
    if trend is None:
        return UNKNOWN
    if trend.change is None:
        return f"{trend.now - trend.before:+d}"
    return f"{trend.change:+.0%}"


def trending_cell(model: TrackedModel) -> str:
    """The Hub's own score."""
    return UNKNOWN if model.trending is None else f"{model.trending:g}"


def source_line(board: Board) -> str:
    """Where the board is from and how old it is."""
    return f"{board.endpoint}, {board.source}"


def since_line(board: Board) -> str:
    """What the column `since` compares; empty where there is none."""
    if board.trends_since is None:
        return ""
    return f"since: downloads of 30 days, held against those of {board.trends_since}"


def query_names(asked: tuple[str, ...]) -> str:
    """Queries as they are typed, without the limit that all have."""
    shown = (" ".join(w for w in text.split(" ") if not w.startswith("limit=")) for text in asked)
    return "; ".join(shown)


def measured_cell(scores: Sequence[OwnScore]) -> str:
    """The best score of a model here; empty where it was not measured."""
    if not scores:
        return ""
    best = max(scores, key=lambda score: (score.quotable, score.value))
    verdict = "" if best.quotable else f" {best.verdict}"
    return f"{best.metric} {best.value:.3f}{verdict}"
