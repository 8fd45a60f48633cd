"""Audit a dataset: prove what can be proved, report the rest, and name the kind of its label.

    found = audit("datasets/btc")
    found.ok            # False on any leak or damage
    found.kind          # "recognition" or "forecast"
    print(found.as_text())

Nothing is taken from the index on trust: spans are worked out again from the candles and the
config, labels are computed again, and every picture is looked at.

When is a picture in two splits a leak? If its candles are the same up to scale (prices and
volume, scaled as the picture scales them, agree to six digits), the same stretch of market
stands on both sides: one market under two names, or a feed that repeats itself. That fails.
Pictures of different candles can look alike, because a small picture has few pixels and a
market that stood still has one look; nothing can be learned from that which would not also
be learned from honest pictures. That is counted and told, and does not fail.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations, pairwise
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from candlemark.candles.series import FloatArray, IntArray, format_time
from candlemark.dataset.index import Span
from candlemark.dataset.labels import Kind, kind_of
from candlemark.dataset.lazy import Dataset, open_dataset
from candlemark.dataset.manifest import damaged_files
from candlemark.dataset.select import compute_labels
from candlemark.dataset.splits import SPLITS
from candlemark.errors import DatasetError
from candlemark.progress import track

BATCH_BYTES = 8 << 20
FEATURE_BATCH = 4096
SUSPICIOUS_AUROC = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was looked at.

    ok: False on a leak or damage; what is only reported is always ok
    detail: one sentence with the numbers
    facts: the numbers themselves (JSON types)
    """

    name: str
    ok: bool
    detail: str
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """What an audit found."""

    path: str
    kind: Kind
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """True if nothing leaks and nothing is damaged."""
        return all(check.ok for check in self.checks)

    def check(self, name: str) -> Check:
        """The check of that name; KeyError if there is none."""
        found = next((check for check in self.checks if check.name == name), None)
        if found is None:
            raise KeyError(
                f"no check '{name}'; there are: {', '.join(c.name for c in self.checks)}"
            )
        return found

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        return {
            "path": self.path,
            "ok": self.ok,
            "kind": self.kind,
            "checks": [
                {"name": c.name, "ok": c.ok, "detail": c.detail, "facts": dict(c.facts)}
                for c in self.checks
            ],
        }

    def as_text(self) -> str:
        """As lines for a terminal: a verdict, then one line a check."""
        meaning = {
            "recognition": "recognition: the answer is visible in the picture, no prediction",
            "forecast": "forecast: the answer lies after the picture",
        }[self.kind]
        lines = [f"{self.path}", f"label is {meaning}"]
        lines += [f"{'ok  ' if c.ok else 'FAIL'}  {c.name}: {c.detail}" for c in self.checks]
        lines.append("no leak found" if self.ok else "NOT TO BE TRUSTED: see the lines marked FAIL")
        return "\n".join(lines)


def audit(source: str | Path | Dataset) -> Audit:
    """Audit a dataset directory, or an opened one.

    Raises DatasetError: the directory is no dataset, or too damaged to be opened. Files that
    can be opened but differ from the manifest are a failed check.
    """
    dataset = source if isinstance(source, Dataset) else open_dataset(source, verify=False)
    label = dataset.label
    kind = label.kind(dataset.window)
    in_range = _check_index(dataset)
    checks = [_check_files(dataset), in_range, _check_split(dataset)]
    if in_range.ok:
        spans = _Spans.of(dataset)
        checks += [_check_reach(dataset, spans), _check_candles(dataset, spans)]
        checks += [_check_labels(dataset, kind), _check_pictures(dataset)]
        checks += [_check_visible_rules(dataset, kind)]
    checks += [_check_balance(dataset), _check_gaps(dataset)]
    return Audit(path=str(dataset.path), kind=kind, checks=tuple(checks))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Spans:
    """What each window reads, in slots of its own series and in time."""

    first_slot: IntArray
    last_slot: IntArray
    start_ms: IntArray
    end_ms: IntArray

    @classmethod
    def of(cls, dataset: Dataset) -> _Spans:
        config, index = dataset.config, dataset.index
        reach = dataset.label.reach(config.window)
        span = Span.of(window=config.window, history=config.history, reach=reach)
        opens, step = _opens(dataset), dataset.series[0].interval_ms
        return cls(
            first_slot=index.start_slot + span.first,
            last_slot=index.start_slot + span.last,
            start_ms=opens + span.first * step,
            end_ms=opens + (span.last + 1) * step,
        )


def _opens(dataset: Dataset) -> IntArray:
    """int64[N], open time of each window's first slot, from the candles."""
    step = dataset.series[0].interval_ms
    begins = np.array([one.slots.start_ms for one in dataset.series], dtype=np.int64)
    return begins[dataset.index.series] + dataset.index.start_slot * step


def _check_files(dataset: Dataset) -> Check:
    problems = damaged_files(dataset.path, dataset.manifest)
    count = len(dataset.manifest.files)
    detail = "; ".join(problems) or f"{count} files match the SHA-256 of the manifest"
    return Check(name="files", ok=not problems, detail=detail, facts={"damaged": problems})


def _check_index(dataset: Dataset) -> Check:
    """Do rows name windows that exist, once each, at the times that they claim?"""
    index, window = dataset.index, dataset.window
    counts = np.array([len(one.slots) for one in dataset.series], dtype=np.int64)
    step = dataset.series[0].interval_ms
    reach = dataset.label.reach(window)
    outside = (index.start_slot < 0) | (index.start_slot + window > counts[index.series])
    opens = _opens(dataset)
    wrong = (
        (index.window_start_ms != opens)
        | (index.window_end_ms != opens + window * step)
        | (index.reach_start_ms != opens + reach.first * step)
        | (index.reach_end_ms != opens + (reach.last + 1) * step)
    )
    recorded = dataset.reach == reach and dataset.label_kind == kind_of(reach, window)
    problems = []
    if outside.any():
        problems.append(f"{int(outside.sum())} windows lie outside their series")
    if wrong.any():
        problems.append(f"{int(wrong.sum())} windows have times that differ from their candles")
    if not recorded:
        problems.append("the manifest's reach or label kind is not the label's own")
    detail = "; ".join(problems) or f"{len(index)} windows lie where they say, reach as declared"
    return Check(name="index", ok=not problems, detail=detail, facts={"windows": len(index)})


def _check_split(dataset: Dataset) -> Check:
    config = dataset.config.split
    if config.leaky:
        detail = (
            "split 'random' is leaky: neighbouring windows share almost all candles, so scores "
            "on this test split mean nothing; build again with --split time"
        )
        return Check(name="split", ok=False, detail=detail, facts={"method": config.method})
    fold = f", fold {config.fold} of {config.folds}" if config.method == "walk_forward" else ""
    sizes = {name: len(dataset.split(name)) for name in SPLITS}
    shown = ", ".join(f"{name} {size}" for name, size in sizes.items())
    facts = {"method": config.method, "windows": sizes, "embargo_candles": config.embargo}
    return Check(
        name="split",
        ok=True,
        detail=f"by calendar time ({config.method}{fold}): {shown}",
        facts=facts,
    )


def _check_reach(dataset: Dataset, spans: _Spans) -> Check:
    """Do the splits follow one another in time, with everything that their windows read?"""
    step = dataset.series[0].interval_ms
    embargo = dataset.config.split.embargo
    crossing, gaps, told = 0, {}, []
    used = [(code, name) for code, name in enumerate(SPLITS) if (dataset.index.codes == code).any()]
    for (earlier, a), (later, b) in pairwise(used):
        before, after = dataset.index.codes == earlier, dataset.index.codes == later
        begins = int(spans.start_ms[after].min())
        crosses = spans.end_ms[before] + embargo * step > begins
        crossing += int(crosses.sum())
        opens = dataset.index.window_start_ms
        between = int(opens[after].min() - opens[before].max()) // step
        gaps[f"{a} to {b}"] = between
        told.append(
            f"{a} reads until {format_time(int(spans.end_ms[before].max()))}, "
            f"{b} from {format_time(begins)}, starts {between} candles apart"
        )
    horizon = dataset.label.horizon(dataset.window)
    needed = dataset.window + horizon - 1
    short = [name for name, between in gaps.items() if between < needed]
    if crossing or short:
        detail = f"{crossing} windows read past the boundary of their split: {'; '.join(told)}"
    else:
        detail = f"no reach crosses a split (at least {needed} needed): {'; '.join(told)}"
    facts = {"crossing": crossing, "starts_apart_candles": gaps, "needed_candles": needed}
    return Check(name="reach", ok=not crossing and not short, detail=detail, facts=facts)


def _check_candles(dataset: Dataset, spans: _Spans) -> Check:
    """Is any candle read by two splits, or any window there twice?"""
    index = dataset.index
    shared: dict[str, int] = {}
    for number, one in enumerate(dataset.series):
        covered = []
        for code in range(len(SPLITS)):
            rows = (index.series == number) & (index.codes == code)
            edges = np.zeros(len(one.slots) + 1, dtype=np.int64)
            np.add.at(edges, np.clip(spans.first_slot[rows], 0, len(one.slots)), 1)
            np.add.at(edges, np.clip(spans.last_slot[rows] + 1, 0, len(one.slots)), -1)
            covered.append(np.cumsum(edges)[:-1] > 0)
        for a, b in combinations(range(len(SPLITS)), 2):
            common = int((covered[a] & covered[b] & one.slots.present).sum())
            if common:
                pair = f"{SPLITS[a]} and {SPLITS[b]}"
                shared[pair] = shared.get(pair, 0) + common
    names = np.stack([index.series, index.start_slot])
    twice = len(index) - np.unique(names, axis=1).shape[1]
    told = [f"{pair} share {count} candles" for pair, count in shared.items()]
    if twice:
        told.append(f"{twice} windows are there more than once")
    return Check(
        name="candles",
        ok=not told,
        detail="; ".join(told) or "no candle is read by two splits, no window is there twice",
        facts={"shared": shared, "repeated_windows": twice},
    )


def _check_labels(dataset: Dataset, kind: Kind) -> Check:
    """Are the stored targets what the label says of the candles?"""
    index, wrong = dataset.index, 0
    for number, one in enumerate(dataset.series):
        rows = np.flatnonzero(index.series == number)
        found = compute_labels(dataset.label, one.slots, index.start_slot[rows], dataset.window)
        wrong += int((found.target != index.target[rows]).sum())
    name = dataset.config.label.name
    detail = (
        f"{wrong} of {len(index)} labels differ from what '{name}' says of the candles"
        if wrong
        else f"all {len(index)} labels follow from the candles: '{name}', {kind}"
    )
    return Check(name="labels", ok=not wrong, detail=detail, facts={"wrong": wrong})


def _check_pictures(dataset: Dataset) -> Check:
    """Does any picture stand in two splits, and can all be read?"""
    try:
        hashes = _picture_hashes(dataset)
    except DatasetError as error:
        facts = {"pictures": len(dataset)}
        return Check(name="pictures", ok=False, detail=str(error), facts=facts)
    groups = np.unique(hashes, return_inverse=True)[1]
    across = np.flatnonzero(_spans_splits(groups, dataset.index.codes))
    leaking, alike = 0, 0
    if len(across):
        keys, flat = _candle_keys(dataset, across)
        both = np.unique(np.stack([groups[across], keys]), axis=1, return_inverse=True)[1].ravel()
        same_candles = _spans_splits(both, dataset.index.codes[across]) & ~flat
        leaking, alike = int(same_candles.sum()), int((~same_candles).sum())
    told = []
    if leaking:
        told.append(f"{leaking} pictures of the same candles stand in more than one split")
    if alike:
        told.append(
            f"{alike} pictures of different or flat candles look like one in another split "
            "(few pixels, or a market that stood still; no candle is shared)"
        )
    return Check(
        name="pictures",
        ok=not leaking,
        detail="; ".join(told) or f"all {len(dataset)} pictures seen, none stands in two splits",
        facts={"pictures": len(dataset), "leaking": leaking, "alike": alike},
    )


def _picture_hashes(dataset: Dataset) -> npt.NDArray[np.void]:
    """16 bytes for each picture, read in batches."""
    batch = max(1, BATCH_BYTES // prod(dataset.image_shape))
    digests = bytearray()
    with track("comparing pictures", total=len(dataset), unit="images") as bar:
        for first in range(0, len(dataset), batch):
            rows = np.arange(first, min(first + batch, len(dataset)))
            for image in dataset.images(rows):
                # SHA-256 has its own instructions on most processors; BLAKE2 has not.
                digests += hashlib.sha256(image.data).digest()[:16]
            bar.advance(len(rows))
    return np.frombuffer(bytes(digests), dtype="V16")


def _candle_keys(dataset: Dataset, rows: IntArray) -> tuple[IntArray, npt.NDArray[np.bool_]]:
    """A number for each window, equal for equal candles up to scale; and which are flat."""
    digests = bytearray()
    flat = np.empty(len(rows), dtype=np.bool_)
    for first in range(0, len(rows), FEATURE_BATCH):
        part = dataset.features(rows[first : first + FEATURE_BATCH])
        prices = part[..., :4]
        flat[first : first + len(part)] = ((prices == 0.5) | np.isnan(prices)).all(axis=(1, 2))
        # Adding zero turns -0 into 0, which has other bytes.
        for window in np.round(part, 6) + np.float32(0):
            digests += hashlib.sha256(window.data).digest()[:16]
    keys = np.unique(np.frombuffer(bytes(digests), dtype="V16"), return_inverse=True)[1]
    return keys.astype(np.int64), flat


def _spans_splits(groups: npt.NDArray[Any], codes: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """bool[N], True where the group of a row has rows of more than one split."""
    count = int(groups.max()) + 1 if len(groups) else 0
    held = np.zeros((count, len(SPLITS)), dtype=np.bool_)
    held[groups, codes] = True
    several: npt.NDArray[np.bool_] = (held.sum(axis=1) > 1)[groups]
    return several


def _check_visible_rules(dataset: Dataset, kind: Kind) -> Check:
    """How well do two rules score that read nothing but visible candles?"""
    scores = _rule_scores(dataset)
    target, top = dataset.index.target, len(dataset.class_names) - 1
    facts: dict[str, Any] = {}
    told = []
    for name, score in scores.items():
        accuracy = float((np.where(score > 0, top, 0) == target).mean())
        auroc = _auroc(score, target, top)
        facts[name] = {"accuracy": accuracy, "auroc": auroc}
        shown = "no AUROC, one class only" if auroc is None else f"AUROC {auroc:.3f}"
        told.append(f"{name} accuracy {accuracy:.3f}, {shown}")
    known = [f["auroc"] for f in facts.values() if f["auroc"] is not None]
    best = max((max(auroc, 1 - auroc) for auroc in known), default=0.5)
    detail = "; ".join(told)
    if kind == "recognition":
        detail += "; the answer is visible, so a high score is no prediction"
    elif best >= SUSPICIOUS_AUROC:
        detail += "; suspiciously high for a forecast: look at the label and the candles"
    return Check(name="visible rules", ok=True, detail=detail, facts=facts)


def _rule_scores(dataset: Dataset) -> dict[str, FloatArray]:
    """Colour of the last visible candle, and trend from the first visible one to the last."""
    colour, trend = np.empty(len(dataset)), np.empty(len(dataset))
    for first in range(0, len(dataset), FEATURE_BATCH):
        rows = np.arange(first, min(first + FEATURE_BATCH, len(dataset)))
        shown = dataset.features(rows).astype(np.float64)
        visible = dataset.visible(rows)
        each = np.arange(len(rows))
        last = shown[each, dataset.window - 1 - visible[:, ::-1].argmax(axis=1)]
        begin = shown[each, visible.argmax(axis=1)]
        colour[rows], trend[rows] = last[:, 3] - last[:, 0], last[:, 3] - begin[:, 0]
    return {"last visible candle": colour, "visible trend": trend}


def _auroc(score: FloatArray, target: IntArray, top: int) -> float | None:
    """Probability that the top class outranks class 0, ties half; None without both."""
    rise, fall = target == top, target == 0
    rises, falls = int(rise.sum()), int(fall.sum())
    if not rises or not falls:
        return None
    ranks = rankdata(score[rise | fall])
    above = float(ranks[rise[rise | fall]].sum()) - rises * (rises + 1) / 2
    return above / (rises * falls)


def _check_balance(dataset: Dataset) -> Check:
    told, facts = [], {}
    for name in SPLITS:
        rows = dataset.split(name)
        if not len(rows):
            continue
        counts = np.bincount(dataset.targets(rows), minlength=len(dataset.class_names))
        by_class = dict(zip(dataset.class_names, counts.tolist(), strict=True))
        facts[name] = by_class
        shown = " / ".join(f"{label} {count / len(rows):.1%}" for label, count in by_class.items())
        told.append(f"{name} {shown}")
    absent = [
        f"{split} has no '{label}'"
        for split, by_class in facts.items()
        for label, count in by_class.items()
        if count == 0
    ]
    return Check(name="balance", ok=True, detail="; ".join([*told, *absent]), facts=facts)


def _check_gaps(dataset: Dataset) -> Check:
    told = []
    for entry in dataset.manifest.series:
        line = f"{entry.symbol} {entry.candle_count} candles, {entry.missing_candles} missing"
        if entry.largest_gaps:
            longest = entry.largest_gaps[0]
            plural = "" if entry.gap_count == 1 else "s"
            line += (
                f" in {entry.gap_count} gap{plural} (longest {longest.slot_count} "
                f"from {format_time(longest.start_ms)})"
            )
        told.append(line)
    dropped = dict(dataset.manifest.dropped)
    left_out = ", ".join(f"{count} {reason}" for reason, count in dropped.items() if count)
    told.append(f"windows left out: {left_out or 'none'}")
    facts = {
        "missing_candles": {e.symbol: e.missing_candles for e in dataset.manifest.series},
        "dropped": dropped,
    }
    return Check(name="gaps", ok=True, detail="; ".join(told), facts=facts)
