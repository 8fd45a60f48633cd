"""What the Hub is asked for: queries as they are typed, and ready sets of them.

    parse("task=image-segmentation tag=medical limit=30")
    QUERY_SETS["medical"]                        # models for medical imaging, task by task
    Query(task="image-segmentation").asked       # "task=image-segmentation limit=20"

A query finds models by task, tag, text, author, library and size. `for=TASK` says what the
models are wanted for where that is another task than the one they are found by: a query for the
text "medsam" may be for=mask-generation.
"""

from __future__ import annotations

import difflib
import re
import shlex
from dataclasses import dataclass, replace
from typing import Any

from candlemark.errors import ConfigError

LIMIT = 20
SORTS = {
    "downloads": "downloads",
    "likes": "likes",
    "trending": "trendingScore",
    "modified": "lastModified",
    "created": "createdAt",
}
"""How models are sorted before the first `limit` are taken, and the Hub's word for it."""

TASKS = frozenset(
    {
        "any-to-any", "audio-classification", "audio-text-to-text", "audio-to-audio",
        "automatic-speech-recognition", "depth-estimation", "document-question-answering",
        "feature-extraction", "fill-mask", "graph-ml", "image-classification",
        "image-feature-extraction", "image-segmentation", "image-text-to-image",
        "image-text-to-text", "image-text-to-video", "image-to-3d", "image-to-image",
        "image-to-text", "image-to-video", "keypoint-detection", "mask-generation",
        "multiple-choice", "object-detection", "other", "question-answering",
        "reinforcement-learning", "robotics", "sentence-similarity", "summarization",
        "table-question-answering", "tabular-classification", "tabular-regression",
        "text-classification", "text-generation", "text-ranking", "text-to-3d",
        "text-to-audio", "text-to-image", "text-to-speech", "text-to-video",
        "time-series-forecasting", "token-classification", "translation",
        "unconditional-image-generation", "video-classification", "video-text-to-text",
        "video-to-video", "visual-document-retrieval", "visual-question-answering",
        "voice-activity-detection", "zero-shot-classification",
        "zero-shot-image-classification", "zero-shot-object-detection",
    }
)  # fmt: skip
"""Tasks of the Hub, for a hint where one is misspelt; a task that is none of them is asked for all
the same, since the Hub gains new ones."""

EXPAND = (
    "cardData",
    "config",
    "createdAt",
    "disabled",
    "downloads",
    "downloadsAllTime",
    "evalResults",
    "gated",
    "gguf",
    "lastModified",
    "library_name",
    "likes",
    "model-index",
    "pipeline_tag",
    "private",
    "safetensors",
    "sha",
    "siblings",
    "tags",
    "transformersInfo",
    "trendingScore",
)
"""All that is wanted of a model, so that one call a page brings it."""

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One question to the Hub.

    tags: the Hub's tags, each of which a model must carry ("medical", "license:mit")
    text: what its name contains
    wanted_for: the task that models are judged by; None: `task`
    limit: so many models at most, the first by `sort`
    """

    task: str | None = None
    tags: tuple[str, ...] = ()
    text: str | None = None
    author: str | None = None
    library: str | None = None
    min_parameters: int | None = None
    max_parameters: int | None = None
    wanted_for: str | None = None
    sort: str = "downloads"
    limit: int = LIMIT

    @property
    def goal(self) -> str | None:
        """The task that models found here are judged by."""
        return self.wanted_for or self.task

    @property
    def asked(self) -> str:
        """As it is typed: `parse` reads it back."""
        words = [f"task={shlex.quote(self.task)}" if self.task else ""]
        words += [f"tag={shlex.quote(tag)}" for tag in self.tags]
        for name in ("text", "author", "library"):
            value = getattr(self, name)
            words.append(f"{name}={shlex.quote(value)}" if value else "")
        for name, size in (("min", self.min_parameters), ("max", self.max_parameters)):
            words.append(f"{name}={short_count(size)}" if size is not None else "")
        words.append(f"for={shlex.quote(self.wanted_for)}" if self.wanted_for else "")
        words.append(f"sort={self.sort}" if self.sort != "downloads" else "")
        words.append(f"limit={self.limit}")
        return " ".join(word for word in words if word)

    @property
    def name(self) -> str:
        """Short: what tells it from its neighbours."""
        words = [self.task, *self.tags, self.library, self.author]
        words.append(f"'{self.text}'" if self.text else None)
        return " ".join(word for word in words if word) or "all models"

    def parameters(self) -> dict[str, Any]:
        """Of the request, as huggingface_hub's `list_models` sends them."""
        found: dict[str, Any] = {}
        filters = [*self.tags, *([self.library] if self.library else [])]
        if filters:
            found["filter"] = filters
        if self.author:
            found["author"] = self.author
        if self.task:
            found["pipeline_tag"] = self.task
        size = [
            f"{name}:{short_count(value)}"
            for name, value in (("min", self.min_parameters), ("max", self.max_parameters))
            if value is not None
        ]
        if size:
            found["num_parameters"] = ",".join(size)
        if self.text:
            found["search"] = self.text
        found["sort"] = SORTS[self.sort]
        found["limit"] = self.limit
        found["expand"] = list(EXPAND)
        return found


_KEYS = {
    "task": "task",
    "tag": "tags",
    "text": "text",
    "author": "author",
    "library": "library",
    "min": "min_parameters",
    "max": "max_parameters",
    "for": "wanted_for",
    "sort": "sort",
    "limit": "limit",
}


def parse(text: str) -> Query:
    """A query as it is typed: `key=value` words, `tag=` as often as wanted.

    A word without "=" is text to search for.

    Raises ConfigError: a key, sort or number is none.
    """
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ConfigError(f"query '{text}': {error}; close the quotes") from error
    values: dict[str, Any] = {}
    for word in words:
        key, separator, value = word.partition("=")
        if not separator:
            key, value = "text", word
        if key not in _KEYS:
            raise ConfigError(f"query '{text}': '{key}' is no key; {_nearest(key, _KEYS)}")
        if not value:
            raise ConfigError(f"query '{text}': '{key}=' says nothing; write {key}=VALUE")
        if key != "tag" and _KEYS[key] in values:
            raise ConfigError(f"query '{text}': '{key}' stands twice; make two queries")
        if key == "tag":
            values["tags"] = (*values.get("tags", ()), value)
        else:
            values[_KEYS[key]] = _value(key, value, text)
    if not values:
        raise ConfigError("a query says nothing; write for example: task=image-segmentation")
    return Query(**values)


def _value(key: str, value: str, text: str) -> Any:
    if key in {"min", "max"}:
        return read_count(value)
    if key == "limit":
        if not re.fullmatch(r"0*[1-9]\d{0,8}", value, re.ASCII):
            raise ConfigError(f"query '{text}': limit={value} is no number of models; write 20")
        return int(value)
    if key == "sort" and value not in SORTS:
        raise ConfigError(f"query '{text}': sort={value} is not known; {_nearest(value, SORTS)}")
    return value


def read_count(text: str) -> int:
    """`90M` as 90000000. Raises ConfigError: it is no number of parameters."""
    match = re.fullmatch(r"(\d{1,18}(?:\.\d{1,18})?)([KMBT]?)", text.strip().upper(), re.ASCII)
    if match is None:
        raise ConfigError(f"'{text}' is no number of parameters; write 90M, 1.5B or 90000000")
    return round(float(match[1]) * _UNITS[match[2]])


def short_count(value: int) -> str:
    """90000000 as `90M`; written out where no unit says it exactly."""
    for unit in ("B", "M", "K"):
        if value and value % _UNITS[unit] == 0:
            return f"{value // _UNITS[unit]}{unit}"
    return str(value)


def hint(task: str) -> str | None:
    """What a task that the Hub did not have when this was written may be meant to be."""
    if task in TASKS:
        return None
    nearest = difflib.get_close_matches(task, sorted(TASKS), n=1, cutoff=0.6)
    return f"did you mean '{nearest[0]}'?" if nearest else "look at https://huggingface.co/tasks"


def _nearest(word: str, known: Any) -> str:
    nearest = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"did you mean '{nearest[0]}'?" if nearest else f"known: {', '.join(known)}"


def narrowed(
    query: Query,
    *,
    limit: int | None = None,
    min_parameters: int | None = None,
    max_parameters: int | None = None,
) -> Query:
    """The query with a limit, and sizes that it does not go beyond."""
    lows = [size for size in (query.min_parameters, min_parameters) if size is not None]
    highs = [size for size in (query.max_parameters, max_parameters) if size is not None]
    return replace(
        query,
        limit=limit or query.limit,
        min_parameters=max(lows, default=None),
        max_parameters=min(highs, default=None),
    )


def checked(query: Query) -> Query:
    """The query, if anything can be found by it.

    Raises ConfigError: a word of it is empty, or no size is within its bounds.
    """
    parse(query.asked)
    low, high = query.min_parameters, query.max_parameters
    if low is not None and high is not None and low > high:
        raise ConfigError(
            f"query '{query.asked}': no model has at least {short_count(low)} and at most "
            f"{short_count(high)} parameters; widen --min-parameters or --max-parameters"
        )
    return query


_SEGMENTATION = "image-segmentation"

QUERY_SETS: dict[str, tuple[Query, ...]] = {
    "medical": (
        Query(task=_SEGMENTATION, tags=("medical",)),
        Query(task=_SEGMENTATION, text="medical"),
        Query(task=_SEGMENTATION, library="monai"),
        Query(library="monai", wanted_for=_SEGMENTATION),
        Query(text="nnunet", wanted_for=_SEGMENTATION),
        Query(text="totalsegmentator", wanted_for=_SEGMENTATION),
        Query(task="mask-generation", tags=("medical",)),
        Query(text="medsam", wanted_for="mask-generation"),
        Query(task="mask-generation"),
        Query(task="image-classification", tags=("medical",)),
        Query(task="image-classification", text="xray"),
        Query(task="image-feature-extraction", tags=("medical",)),
        Query(task="image-feature-extraction", tags=("pathology",)),
        Query(task="zero-shot-image-classification", tags=("medical",)),
        Query(text="biomedclip", wanted_for="zero-shot-image-classification"),
        Query(task="object-detection", tags=("medical",)),
        Query(task="image-text-to-text", tags=("medical",)),
        Query(task="image-to-text", tags=("medical",)),
        Query(task="visual-question-answering", tags=("medical",)),
    ),
    "segmentation": (
        Query(task=_SEGMENTATION),
        Query(task=_SEGMENTATION, sort="trending"),
        Query(task=_SEGMENTATION, tags=("medical",)),
        Query(text="mit-b", author="nvidia", wanted_for=_SEGMENTATION),
        Query(text="swinv2", wanted_for=_SEGMENTATION),
        Query(task="mask-generation"),
    ),
}
"""Ready sets by name; `medical` is asked where nothing else is."""
