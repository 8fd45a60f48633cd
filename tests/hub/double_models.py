"""How the double lists models: filters, sorting, expanded fields, pages by Link, ETag and 304.

    double.models = [{"id": "a/b", "pipeline_tag": "image-segmentation", "downloads": 5}, ...]

An entry is what the Hub knows of a model, told as it stands, so that a test can make it as
malformed as it likes. Fields that are not asked for by `expand` are left out, as on the Hub.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from double import HubDouble

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9}


def listed(double: HubDouble, path: str) -> tuple[list[Any], dict[str, str]]:
    """A page of models, and the headers that go with it."""
    asked = parse_qs(urlsplit(path).query)
    found = [entry for entry in double.models if _fits(entry, asked)]
    key = asked.get("sort", ["trendingScore"])[0]
    found.sort(key=lambda entry: _sortable(entry, key), reverse=True)
    start = int(asked.get("cursor", ["0"])[0])
    limit = min(int(asked.get("limit", ["1000"])[0]), double.models_page)
    page = [_expanded(entry, asked.get("expand")) for entry in found[start : start + limit]]
    headers = {"ETag": f'W/"{hashlib.sha256(json.dumps(page).encode()).hexdigest()}"'}
    if start + limit < len(found):
        plain = re.sub(r"&cursor=\d+", "", path)
        headers["Link"] = f'<{double.url}{plain}&cursor={start + limit}>; rel="next"'
    answer = page if double.models_answer is None else double.models_answer
    return answer, {**headers, **double.models_headers}


def _fits(entry: Any, asked: dict[str, list[str]]) -> bool:
    if not isinstance(entry, dict):
        return True
    tags = {str(tag) for tag in entry.get("tags") or ()} | {str(entry.get("library_name"))}
    name = str(entry.get("id", ""))
    wanted = (
        set(asked.get("filter", ())) <= tags,
        asked.get("search", [""])[0].lower() in name.lower(),
        asked.get("author", [name.partition("/")[0]])[0] == name.partition("/")[0],
        asked.get("pipeline_tag", [entry.get("pipeline_tag")])[0] == entry.get("pipeline_tag"),
        _of_size(entry, asked.get("num_parameters", [""])[0]),
    )
    return all(wanted)


def _of_size(entry: dict[str, Any], bounds: str) -> bool:
    """As on the Hub, a model whose size nobody knows is of no size."""
    if not bounds:
        return True
    weights = entry.get("safetensors")
    total = weights.get("total") if isinstance(weights, dict) else None
    if not isinstance(total, int):
        return False
    for bound, number, unit in re.findall(r"(min|max):(\d+)([KMB]?)", bounds):
        edge = int(number) * _UNITS[unit]
        if (bound == "min" and total < edge) or (bound == "max" and total > edge):
            return False
    return True


def _sortable(entry: Any, key: str) -> tuple[float, str]:
    value = entry.get(key) if isinstance(entry, dict) else None
    if isinstance(value, str):
        return (0.0, value)
    return (float(value) if isinstance(value, int | float) else -1.0, "")


def _expanded(entry: Any, fields: list[str] | None) -> Any:
    if not isinstance(entry, dict) or fields is None:
        return entry
    return {name: value for name, value in entry.items() if name in {"id", "_id", *fields}}
