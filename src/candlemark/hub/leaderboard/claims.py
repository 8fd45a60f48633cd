"""Results that a repository states of itself: `model-index` of its card, and `.eval_results`.

claims, problems = read_claims({"model-index": [...], "evalResults": [...]})

Each claim keeps where it is from and whether anyone checked it. A repository that states nothing
has no claims. What cannot be read is told, and the rest is read.

Formats: https://huggingface.co/docs/hub/model-cards (model-index) and
https://huggingface.co/docs/hub/eval-results.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from candlemark.results.tracked import UNNAMED_DATA, Claim, Verification

MODEL_INDEX = "model-index"
EVAL_RESULTS = ".eval_results"
_NUMBER = re.compile(r"\s*(-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)\s*(%|±.*|\+/-.*|\(.*\))?\s*$")
_MOST = 400
_MOST_VALUE = 1e300


def read_claims(item: Mapping[str, Any]) -> tuple[tuple[Claim, ...], tuple[str, ...]]:
    """All that is claimed, each once, and what could not be read, in words."""
    card = item.get("cardData")
    index = item.get(MODEL_INDEX)
    problems: list[str] = []
    if index is None and isinstance(card, dict):
        # As its author wrote it: the Hub did not read it, so it verified nothing.
        stated = _from_index(card.get(MODEL_INDEX), problems)
        claims = [replace(one, verification=_unverified(one)) for one in stated]
    else:
        claims = list(_from_index(index, problems))
    found = [*claims, *_from_files(item.get("evalResults"), problems)]
    if len(found) > _MOST:
        problems.append(f"{len(found)} results are claimed; the first {_MOST} are kept")
    return tuple(dict.fromkeys(found[:_MOST])), tuple(dict.fromkeys(problems))


def _from_index(index: Any, problems: list[str]) -> Iterator[Claim]:
    """model-index: [{name, results: [{task, dataset, metrics: [{type, value}], source}]}]."""
    if index is None or index == []:
        return
    entries = [index] if isinstance(index, dict) else index
    if not isinstance(entries, list):
        problems.append(f"model-index is {type(index).__name__}, not a list")
        return
    for entry in entries:
        results = entry.get("results") if isinstance(entry, dict) else None
        if not isinstance(results, list):
            problems.append("an entry of model-index has no list of results")
            continue
        for result in results:
            metrics = result.get("metrics") if isinstance(result, dict) else None
            if not isinstance(metrics, list):
                problems.append("a result of model-index has no list of metrics")
                continue
            for metric in metrics:
                if not isinstance(metric, dict) or "value" not in metric:
                    problems.append("a metric of model-index has no value")
                    continue
                yield _of_index(result, metric)


def _of_index(result: Mapping[str, Any], metric: Mapping[str, Any]) -> Claim:
    task, dataset, source = (_part(result, name) for name in ("task", "dataset", "source"))
    verified = metric.get("verified") is True or result.get("verified") is True
    token = metric.get("verifyToken") or result.get("verifyToken")
    value, told = _value(metric["value"])
    return Claim(
        origin=MODEL_INDEX,
        task=_word(task.get("type")) or _word(task.get("name")),
        dataset=_data(dataset),
        config=_word(dataset.get("config")),
        split=_word(dataset.get("split")),
        metric=_metric(metric),
        value=value,
        told=told,
        verification="verified" if verified else _signed(token),
        source=_word(source.get("url")),
        source_name=_word(source.get("name")),
    )


def _data(dataset: Mapping[str, Any]) -> str | None:
    """The Hub's id of it; its name where the id is only how its files were read."""
    kind, name = _word(dataset.get("type")), _word(dataset.get("name"))
    return name if name and (kind is None or kind.casefold() in UNNAMED_DATA) else kind


def _from_files(entries: Any, problems: list[str]) -> Iterator[Claim]:
    """evalResults: [{filename, verified, data: {dataset: {id, task_id}, value, source, date}}]."""
    if entries is None or entries == []:
        return
    if not isinstance(entries, list):
        problems.append(f"evalResults is {type(entries).__name__}, not a list")
        return
    for entry in entries:
        if not isinstance(entry, dict):
            problems.append("an entry of .eval_results is no mapping")
            continue
        if entry.get("error"):
            name = _word(entry.get("filename")) or "a file"
            problems.append(f"the Hub refuses {name} of .eval_results: {_word(entry['error'])}")
            continue
        data = entry.get("data", entry)
        if not isinstance(data, dict) or "value" not in data:
            problems.append("an entry of .eval_results has no value")
            continue
        yield _of_file(entry, data)


def _of_file(entry: Mapping[str, Any], data: Mapping[str, Any]) -> Claim:
    dataset, source = _part(data, "dataset"), _part(data, "source")
    value, told = _value(data["value"])
    by = _word(source.get("name")) or _word(source.get("org")) or _word(source.get("user"))
    verified = entry.get("verified") is True or data.get("verified") is True
    return Claim(
        origin=EVAL_RESULTS,
        task=_word(dataset.get("task_id")),
        dataset=_word(dataset.get("id")),
        # A benchmark's task names what is scored, and so stands for the metric as well.
        metric=_word(dataset.get("task_id")),
        value=value,
        told=told,
        verification="verified" if verified else _signed(data.get("verifyToken")),
        source=_word(source.get("url")),
        source_name=by,
        date=_word(data.get("date")),
        notes=_word(data.get("notes")),
    )


def _unverified(claim: Claim) -> Verification:
    return "claimed" if claim.verification == "verified" else claim.verification


def _signed(token: Any) -> Verification:
    return "signed" if token else "claimed"


def _part(holder: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A mapping inside; a bare word stands for its type."""
    value = holder.get(name)
    if isinstance(value, dict):
        return value
    return {"type": value, "id": value, "name": value} if isinstance(value, str) else {}


def printable(text: str) -> str:
    """The text on one line, without what would steer a terminal."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _word(value: Any) -> str | None:
    if isinstance(value, str):
        return printable(value)[:200] or None
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _metric(metric: Mapping[str, Any]) -> str | None:
    """Names differ where types do not ("Dice" of two organs), so both stand where both are said."""
    kind, name = _word(metric.get("type")), _word(metric.get("name"))
    if kind and name and _plain(kind) != _plain(name):
        return f"{kind} ({name})"
    return kind or name


def _plain(text: str) -> str:
    return re.sub(r"[\W_]+", "", text).lower()


def _value(value: Any) -> tuple[float | None, str]:
    """The number that is written, if it is one, and how it is written."""
    if isinstance(value, bool) or value is None:
        return None, str(value)
    if isinstance(value, int | float):
        finite = abs(value) < _MOST_VALUE  # NaN is not; an int of any length can be compared
        return (float(value), f"{value:.6g}") if finite else (None, str(value)[:60])
    if isinstance(value, str):
        match = _NUMBER.match(value)
        finite = match is not None and abs(float(match[1])) < _MOST_VALUE
        return (float(match[1]) if match and finite else None), printable(value)[:60]
    return None, printable(str(value))[:60]
