"""Who stands where, and why: capability first, then what was measured, then what is claimed.

    section = rank_section("image-segmentation", models, own=scores, trends=trends)

The order, each only where all before it tie:

1. capability: ready, elsewhere, prompted, backbone, unknown, no;
2. measured here: above the best control of the same data; then models that were not measured;
   then those measured and not above it; scores are compared on the same data. Oracle scores,
   untrained heads and other numbers that may not be quoted count for nothing;
3. claims that can be compared: the same task, data set, split and metric as another model here
   claims, by the share of those models that it beats, the mean of all such claims; then claims
   that nothing can be held against; then none. A verified claim stands before an unverified one
   that is as good;
4. popularity: downloads of the last 30 days, then likes. It is evidence of use, not of quality,
   so it comes last.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import fsum

from candlemark.hub.leaderboard.capability import judge
from candlemark.hub.leaderboard.vocabulary import SEGMENTATION
from candlemark.report.leaderboard.board import LEVELS, Capability, Section, Standing, Trend
from candlemark.report.leaderboard.words import claim_text, count
from candlemark.results.own_scores import OwnScore
from candlemark.results.tracked import Claim, TrackedModel

LOWER_IS_BETTER = (
    "loss", "perplexity", "wer", "cer", "mer", "mae", "mse", "rmse", "mape", "fid", "hd95", "hd",
    "hausdorff", "assd", "asd", "eer", "der", "error", "distance", "lpips", "kid", "abs_rel",
    "brier", "ece", "latency", "edit", "ppl", "nll", "bpb", "entropy", "fvd", "masd", "rmsd",
    "smape", "mase", "wape", "wql", "crps", "nrmse", "fpr", "fnr", "rvd", "epe", "ter",
)  # fmt: skip
"""Words in a metric's name that mean the less the better; all others are taken the other way."""

_HIGHER_IS_BETTER = ("accuracy", "similarity", "sim", "correlation", "nsd")
"""Words that mean the more the better, whatever stands beside them ("edit similarity")."""

_SHARES = (
    "accuracy", "dice", "f1", "iou", "precision", "recall", "auc", "sensitivity", "specificity",
    "jaccard", "rouge", "kappa", "mcc", "score", "auroc", "auprc", "pearson", "spearman",
    "ndcg", "exact_match", "bleu",
)  # fmt: skip
_SHORT_SHARES = re.compile(r"wer|cer|mer|eer|der|dsc|nsd|pq|m?ap\d*|acc|em|mrr")
"""Metrics of 0 to 1 that some write in per cent; the short ones are whole words: MAPE is no mAP."""

_CHECKED = {"verified": 0, "signed": 1, "claimed": 2}


def rank_section(
    task: str | None,
    models: Sequence[TrackedModel],
    *,
    own: Mapping[str, Sequence[OwnScore]] | None = None,
    trends: Mapping[str, Trend] | None = None,
) -> Section:
    """The models ranked for a task, each with its reason."""
    scores, changes = _of_task(own or {}, task), trends or {}
    shares = _measured_shares(scores)
    rivalries = _rivalries(models)
    judged = {model.id: judge(model, task) for model in models}
    ordered = sorted(
        models,
        key=lambda model: _key(
            model,
            judged[model.id],
            (_measured_place(scores.get(model.id, ())), -shares.get(model.id, -1.0)),
            rivalries.get(model.id),
        ),
    )
    return Section(
        task=task,
        standings=tuple(
            Standing(
                place=place,
                model=model,
                capability=judged[model.id],
                measured=tuple(scores.get(model.id, ())),
                trend=changes.get(model.id),
                recommended=_recommended(judged[model.id], scores.get(model.id, ())),
                why=_why(
                    model, judged[model.id], scores.get(model.id, ()), rivalries.get(model.id)
                ),
            )
            for place, model in enumerate(ordered, start=1)
        ),
    )


def _of_task(own: Mapping[str, Sequence[OwnScore]], task: str | None) -> dict[str, list[OwnScore]]:
    """Scores that tell of a task: how masks were says nothing of classes, nor the other way."""
    masks = task in SEGMENTATION
    return {
        name: [score for score in scores if (score.task == "segmentation") == masks]
        for name, scores in own.items()
    }


def _key(
    model: TrackedModel,
    capability: Capability,
    measured: tuple[int, float],
    rivalry: Rivalry | None,
) -> tuple[float | str, ...]:
    share = 0.0 if rivalry is None else -rivalry.share - 1.0
    checked = min((_CHECKED[claim.verification] for claim in model.claims), default=9)
    return (
        LEVELS.index(capability.level),
        *measured,
        share,
        checked,
        -(model.downloads if model.downloads is not None else -1),
        -(model.likes if model.likes is not None else -1),
        model.id.lower(),
    )


def _measured_place(own: Sequence[OwnScore]) -> int:
    """0: above its control; 1: not measured, or not to be quoted; 2: not above it."""
    told = [one for one in own if one.quotable]
    if not told:
        return 1
    return 2 if all(one.beats_control is False for one in told) else 0


def _measured_shares(own: Mapping[str, Sequence[OwnScore]]) -> dict[str, float]:
    """By model: of those measured on the same data, how many it is at least as good as.

    The mean over its data sets; scores of different data cannot be held against each other, and
    a model that was measured alone has none.
    """
    groups: dict[tuple[str, str], dict[str, float]] = {}
    for name, scores in own.items():
        for one in scores:
            if one.quotable:
                group = groups.setdefault((one.about, one.metric), {})
                group[name] = max(one.value, group.get(name, one.value))
    found: dict[str, list[float]] = {}
    for group in groups.values():
        for name, mine in group.items():
            if len(group) > 1:
                beaten = sum(mine >= other for other in group.values()) - 1
                found.setdefault(name, []).append(beaten / (len(group) - 1))
    return {name: fsum(shares) / len(shares) for name, shares in found.items()}


def _recommended(capability: Capability, own: Sequence[OwnScore]) -> bool:
    return capability.level not in {"unknown", "no"} and _measured_place(own) != 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Rivalry:
    """Where a model's best claim stands among those that claim the same: the `place`-th `of`.

    share: of its rivals that it is at least as good as, the mean over all its `results` that
        others claim too, so that who claims most is not first for one of them
    """

    claim: Claim
    place: int
    of: int
    share: float
    results: int = 1


def _rivalries(models: Iterable[TrackedModel]) -> dict[str, Rivalry]:
    """By model: its best place on something that others claim too."""
    groups: dict[tuple[str | None, ...], dict[str, tuple[float, Claim]]] = {}
    for model in models:
        for claim in model.claims:
            if claim.value is None or claim.metric is None or not claim.names_data:
                continue
            group = groups.setdefault(claim.about, {})
            held = group.get(model.id)
            if held is None or _CHECKED[claim.verification] < _CHECKED[held[1].verification]:
                group[model.id] = worth(claim.metric, claim.value, claim.told), claim
    found: dict[str, list[Rivalry]] = {}
    for group in groups.values():
        if len(group) < 2:
            continue
        for name, (mine, claim) in group.items():
            place = 1 + sum(other > mine for other, _ in group.values())
            share = (len(group) - place) / (len(group) - 1)
            found.setdefault(name, []).append(
                Rivalry(claim=claim, place=place, of=len(group), share=share)
            )
    return {name: _together(rivalries) for name, rivalries in found.items()}


def _together(rivalries: Sequence[Rivalry]) -> Rivalry:
    """The best, with the mean of all; the sum is exact, so that no order of models changes it."""
    best = max(rivalries, key=lambda one: (one.share, one.of, str(one.claim.about)))
    share = fsum(one.share for one in rivalries) / len(rivalries)
    return replace(best, share=share, results=len(rivalries))


def worth(metric: str, value: float, told: str = "") -> float:
    """A claim as a number that is better when higher; shares in per cent as shares."""
    name = metric.lower()
    words = re.split(r"[\W_]+", name)
    share = any(word in name for word in _SHARES) or any(map(_SHORT_SHARES.fullmatch, words))
    if share and (1 < value <= 100 or told.endswith("%")):
        value /= 100
    # A normalised surface distance is the share of a surface that is near enough.
    normalised = "surface" in words and any(word.startswith("normali") for word in words)
    higher = normalised or any(word in _HIGHER_IS_BETTER for word in words)
    lower = any(word in LOWER_IS_BETTER for word in words) or name in LOWER_IS_BETTER
    return -value if lower and not higher else value


def _why(
    model: TrackedModel,
    capability: Capability,
    own: Sequence[OwnScore],
    rivalry: Rivalry | None,
) -> str:
    """One line: each reason that its place has, in their order."""
    return "; ".join(
        [
            capability.reason,
            _why_measured(own),
            _why_claimed(model, rivalry),
            _why_used(model),
            *_terms(model),
        ]
    )


def _why_measured(own: Sequence[OwnScore]) -> str:
    if not own:
        return "not measured here"
    best = max(own, key=lambda one: (one.quotable, one.value))
    asked = f" by {best.protocol}" if best.protocol else ""
    text = f"measured here: {best.metric} {best.value:.3f} on {best.about}{asked}"
    if not best.quotable:
        return f"{text}, not to be quoted ({best.verdict})"
    if best.beats_control is None:
        return f"{text}, beside no control"
    how = "above" if best.beats_control else "not above"
    return f"{text}, {how} the control {best.control} ({best.control_value:.3f})"


def _why_claimed(model: TrackedModel, rivalry: Rivalry | None) -> str:
    if not model.claims:
        return "claims no result"
    if rivalry is None and not any(claim.names_data for claim in model.claims):
        return f"claims {claim_text(model.claims[0])}, on data that nobody else can name"
    if rivalry is None:
        return f"claims {claim_text(model.claims[0])}, which no other model here claims too"
    rank = f"number {rivalry.place} of {rivalry.of} here that claim it"
    if rivalry.results > 1:
        rank += (
            f", and no worse than {rivalry.share:.0%} of such rivals in {rivalry.results} claims"
        )
    return f"claims {claim_text(rivalry.claim)}, {rank}"


def _why_used(model: TrackedModel) -> str:
    if model.downloads == 1:
        return "1 download in 30 days"
    return f"{count(model.downloads)} downloads in 30 days"


def _terms(model: TrackedModel) -> list[str]:
    """What stands between having found it and using it; changes no place."""
    found = []
    if model.gated in {"auto", "manual"}:
        found.append("access has to be asked for")
    if model.license is None:
        found.append("no licence is stated")
    return found
