"""From what the Hub tells of a model to a `TrackedModel`; malformed metadata is told, never fatal.

    model = read_model({"id": "a/b", "likes": "many", ...}, ("text=b",))
    model.likes, model.problems        # None, ("likes is 'many', not a number",)

Cards are written by hand: anything may stand anywhere. What cannot be read is unknown, and the
model says so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from candlemark.hub.leaderboard.claims import printable, read_claims
from candlemark.results.tracked import TrackedModel, utc

_WEIGHTS = re.compile(
    r"\.(safetensors|bin|pt|pth|pt2|pte|th|pyth|ckpt|onnx|h5|keras|tflite|gguf|llamafile|litertlm|"
    r"msgpack|ot|ts|nemo|pdparams|pdiparams|pkl|joblib|skops|cbm|ubj|pb|npz|zip|tar|gz|whl|"
    r"mlmodel|engine|data-\d+-of-\d+)$|\.ml(package|modelc)/|/model$",
    re.IGNORECASE,
)
_NO_WEIGHTS = re.compile(
    r"(^|/)(training_args\.bin|optimizer\.(bin|pt)|scheduler\.(bin|pt)|rng_state.*\.pth|scaler\.pt|"
    r"tokenizer\..*|vocab\..*)$|\.(nii|nrrd|csv|tsv|txt|jsonl?|xml)\.gz$"
)
_MARKERS = re.compile(
    r"(^|/)(config\.json|adapter_config\.json|open_clip_config\.json|preprocessor_config\.json|"
    r"plans\.json|dataset\.json|metadata\.json|model_index\.json|modules\.json)$"
)
_MOST_FILES = 60
_MOST_TAGS = 80
_MOST_COUNT = 10**18
_LONGEST = 100
"""Characters of a word: names of the Hub are shorter, and a licence's text is no name."""
_ID = re.compile(r"[\w.-]+(/[\w.-]+)?", re.ASCII)


def kept_facts(item: Any) -> dict[str, Any]:
    """What the cache keeps of an entry: all that is read here, without what cards carry besides."""
    if not isinstance(item, dict):
        return {}
    kept = dict(item)
    card = item.get("cardData")
    if isinstance(card, dict):
        kept["cardData"] = {name: card[name] for name in _CARD if name in card}
    siblings = item.get("siblings")
    if isinstance(siblings, list):
        kept["siblings"] = [
            {"rfilename": one["rfilename"]}
            for one in siblings
            if isinstance(one, dict) and isinstance(one.get("rfilename"), str)
        ]
    config = item.get("config")
    if isinstance(config, dict):
        kept["config"] = {name: config[name] for name in _CONFIG if name in config}
    return kept


def is_model(item: Mapping[str, Any]) -> bool:
    """Whether the entry names a model at all."""
    return isinstance(item.get("id"), str) and bool(_ID.fullmatch(item["id"]))


_CARD = ("license", "license_name", "model-index", "base_model")
_CONFIG = ("architectures", "model_type", "auto_map")


class _Reader:
    """Reads fields of one entry and notes what cannot be read."""

    def __init__(self, item: Mapping[str, Any]) -> None:
        self.item = item
        self.problems: list[str] = []

    def complain(self, name: str, value: Any, due: str) -> None:
        self.problems.append(f"{name} is {_short(value)}, not {due}")

    def text(self, name: str, value: Any) -> str | None:
        if value is None:
            return None
        if isinstance(value, str) and printable(value):
            return _cut(printable(value))
        self.complain(name, value, "a word")
        return None

    def number(self, name: str, value: Any) -> float | None:
        """A number that is finite and not negative."""
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.complain(name, value, "a number")
            return None
        if not 0 <= value <= _MOST_COUNT:  # NaN is not either
            self.complain(name, value, "a count")
            return None
        return value

    def count(self, name: str) -> int | None:
        found = self.number(name, self.item.get(name))
        return None if found is None else int(found)

    def mapping(self, name: str, holder: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
        value = (self.item if holder is None else holder).get(name)
        if isinstance(value, dict):
            return value
        if value is not None:
            self.complain(name, value, "a mapping")
        return {}

    def words(self, name: str, value: Any) -> tuple[str, ...]:
        if value is None:
            return ()
        if isinstance(value, str):
            return (_cut(printable(value)),) if printable(value) else ()
        if not isinstance(value, list):
            self.complain(name, value, "a list")
            return ()
        return tuple(
            _cut(printable(one)) for one in value if isinstance(one, str) and printable(one)
        )

    def time(self, name: str) -> str | None:
        value = self.item.get(name)
        if value is None:
            return None
        try:
            return utc(value)
        except (TypeError, ValueError):
            self.complain(name, value, "a time")
            return None


def read_model(item: Mapping[str, Any], found_by: Sequence[str]) -> TrackedModel:
    """A model from the Hub's entry; never raises for what stands in it beside its `id`."""
    read = _Reader(item)
    config, hints = read.mapping("config"), read.mapping("transformersInfo")
    tags = read.words("tags", item.get("tags"))
    parameters, counted_in = _parameters(read)
    files, file_count = _files(read)
    claims, unread = read_claims(item)
    return TrackedModel(
        id=str(item["id"]),
        found_by=tuple(found_by),
        task=read.text("pipeline_tag", item.get("pipeline_tag")),
        library=read.text("library_name", item.get("library_name")),
        architectures=read.words("config.architectures", config.get("architectures")),
        model_type=read.text("config.model_type", config.get("model_type")),
        auto_class=read.text("transformersInfo.auto_model", hints.get("auto_model")),
        tags=tags[:_MOST_TAGS],
        downloads=read.count("downloads"),
        downloads_all_time=read.count("downloadsAllTime"),
        likes=read.count("likes"),
        trending=read.number("trendingScore", item.get("trendingScore")),
        license=_license(read, tags),
        gated=_gated(read),
        disabled=item.get("disabled") is True,
        parameters=parameters,
        parameters_from=counted_in,
        created_at=read.time("createdAt"),
        last_modified=read.time("lastModified"),
        commit=read.text("sha", item.get("sha")),
        files=files,
        file_count=file_count,
        claims=claims,
        problems=(*read.problems, *unread),
    )


def _parameters(read: _Reader) -> tuple[int | None, str | None]:
    """As counted in the weights; None where no file of the repository tells."""
    for name in ("safetensors", "gguf"):
        told = read.mapping(name)
        total = read.number(f"{name}.total", told.get("total"))
        if total:  # 0 parameters are an index that was not read, not a model of nothing
            return int(total), name
    return None, None


def _license(read: _Reader, tags: Sequence[str]) -> str | None:
    card = read.mapping("cardData")
    named = read.text("cardData.license_name", card.get("license_name"))
    stated = read.words("cardData.license", card.get("license"))
    tagged = tuple(tag.partition(":")[2] for tag in tags if tag.startswith("license:"))
    found = ", ".join(dict.fromkeys(word for word in (stated or tagged) if word.strip()))
    if found == "other" and named:
        return f"other ({named})"
    return _cut(found) or None


def _gated(read: _Reader) -> str | None:
    value = read.item.get("gated")
    if value is None:
        return None
    if value is False:
        return "no"
    if isinstance(value, str) and value in {"auto", "manual"}:
        return str(value)
    read.complain("gated", value, "auto, manual or false")
    return None


def _files(read: _Reader) -> tuple[tuple[str, ...] | None, int | None]:
    """Names of weights and of what tells a format; None where none were listed."""
    siblings = read.item.get("siblings")
    if siblings is None:
        return None, None
    if not isinstance(siblings, list):
        read.complain("siblings", siblings, "a list")
        return None, None
    names = [
        printable(one["rfilename"])
        for one in siblings
        if isinstance(one, dict) and isinstance(one.get("rfilename"), str)
    ]
    telling = [name for name in names if is_weights(name) or _MARKERS.search(name)]
    telling.sort(key=lambda name: (is_weights(name), name.count("/"), name))
    return tuple(telling[:_MOST_FILES]), len(names)


def is_weights(name: str) -> bool:
    """Whether a file of this name may hold a trained model."""
    return bool(_WEIGHTS.search(name)) and not _NO_WEIGHTS.search(name)


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _short(value: Any) -> str:
    text = repr(value)
    return printable(text if len(text) <= 40 else f"{text[:37]}...")
