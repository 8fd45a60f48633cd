"""Configs: strict pydantic models, read from YAML or JSON with `${ENV}` substituted at load.

    config = load(BenchmarkConfig, Path("bench.yaml"))

Unknown keys are refused with the nearest known one. `${NAME}` must be set in the
environment; `${NAME:-default}` falls back. Secrets never belong in a config, so a saved
config can be shared as it is.
"""

from __future__ import annotations

import difflib
import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from candlemark.errors import ConfigError

_VARIABLE = re.compile(r"\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}")


class Config(BaseModel):
    """A frozen config that refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


ConfigT = TypeVar("ConfigT", bound=Config)


def load(model: type[ConfigT], path: Path) -> ConfigT:
    """Read a YAML or JSON file into `model`.

    Raises ConfigError: the file is missing, is not a mapping, names a variable that is
    not set, or does not fit the model.
    """
    return parse(model, read_mapping(path), where=str(path))


def read_mapping(path: Path) -> dict[str, Any]:
    """Read a YAML or JSON mapping with variables substituted."""
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read config {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"cannot read config {path}: it is no text in UTF-8") from error
    try:
        value = _from_json(text) if path.suffix == ".json" else _from_yaml(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = "" if mark is None else f" (line {mark.line + 1}, column {mark.column + 1})"
        told = error.problem or error.context
        raise ConfigError(f"{path} is not valid YAML: {told}{where}") from error
    except (ValueError, yaml.YAMLError) as error:  # ValueError: a date that is none, in YAML
        kind = "JSON" if path.suffix == ".json" else "YAML"
        raise ConfigError(f"{path} is not valid {kind}: {str(error).splitlines()[0]}") from error
    if not isinstance(value, dict):
        held = "nothing" if value is None else type(value).__name__
        raise ConfigError(f"{path} holds {held}; a config is a mapping of keys")
    return {str(key): substitute(item) for key, item in value.items()}


def _from_yaml(text: str) -> Any:
    """YAML in which no key stands twice: of two the first would be dropped in silence."""
    import yaml

    class OnceEach(yaml.SafeLoader):
        def compose_mapping_node(self, anchor: Any) -> Any:
            node = super().compose_mapping_node(anchor)
            seen: set[str] = set()
            for key, _ in node.value:
                if key.value == "<<" or not isinstance(key.value, str):
                    continue
                if key.value in seen:
                    problem = f"the key '{key.value}' stands twice"
                    raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
                seen.add(key.value)
            return node

    return yaml.load(text, Loader=OnceEach)  # noqa: S506 - a SafeLoader


def _from_json(text: str) -> Any:
    def once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        counts = Counter(key for key, _ in pairs)
        if twice := [key for key, count in counts.items() if count > 1]:
            raise ValueError(f"the key '{twice[0]}' stands twice")
        return dict(pairs)

    return json.loads(text, object_pairs_hook=once_each)


def substitute(value: Any) -> Any:
    """Replace `${NAME}` and `${NAME:-default}` in every string of a nested value."""
    if isinstance(value, str):
        return _VARIABLE.sub(_environment_value, value)
    if isinstance(value, list):
        return [substitute(item) for item in value]
    if isinstance(value, dict):
        return {key: substitute(item) for key, item in value.items()}
    return value


def _environment_value(match: re.Match[str]) -> str:
    name, default = match["name"], match["default"]
    value = os.environ.get(name, default)
    if value is None:
        raise ConfigError(f"the config uses ${{{name}}}, which is not set; export {name}=...")
    return value


def parse(model: type[ConfigT], value: Any, *, where: str = "config") -> ConfigT:
    """Validate a plain value; every problem found is named in one ConfigError."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        problems = "; ".join(_sentence(model, item) for item in _causes(error.errors()))
        raise ConfigError(f"{where}: {problems}") from error


def _causes(items: Sequence[Any]) -> list[Any]:
    """The problems without those that follow from one inside.

    A list whose entries are refused counts as too short as well.
    """
    return [
        item
        for item in items
        if item["type"] != "too_short"
        or all(
            other["loc"][: len(item["loc"])] != item["loc"] for other in items if other is not item
        )
    ]


_PLAIN: dict[str, str] = {
    "tuple_type": "Input should be a list: [a, b], or a line with '- ' for each entry",
    "dict_type": "Input should be a mapping: {key: value}, or a line for each key",
    "model_type": "Input should be a mapping of keys",
    "path_type": "Input should be a path",
}
"""What pydantic says in the words of Python, in those of a config file, by its type of error."""


def _sentence(model: type[BaseModel], item: Any) -> str:
    location = [str(part) for part in item["loc"]]
    name = ".".join(location) or "config"
    if item["type"] == "extra_forbidden":
        known = _fields_at(model, location[:-1])
        nearest = difflib.get_close_matches(location[-1], known, n=1, cutoff=0.5)
        hint = f"did you mean '{nearest[0]}'?" if nearest else f"known: {', '.join(sorted(known))}"
        return f"unknown key '{name}'; {hint}"
    message = _PLAIN.get(item["type"], str(item["msg"]).removeprefix("Value error, "))
    if item["type"] == "model_type":
        message += f" ({', '.join(sorted(_fields_at(model, location)))})"
    if item["type"] == "too_short":
        message = message.replace("Tuple", "List").split(" after ")[0]
    if isinstance(item["input"], dict | BaseModel):
        # A rule between keys says itself which; the whole mapping would drown it.
        return f"{'.'.join(location)}: {message}" if location else message
    return f"{name} = {item['input']!r}: {message}"


def _fields_at(model: type[BaseModel], location: list[str]) -> list[str]:
    """Field names of the config that `location` leads to, through lists and options."""
    current = model
    for part in location:
        field = current.model_fields.get(part)
        if field is not None:
            current = next(_models_in(field.annotation), current)
    return list(current.model_fields)


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The config classes named anywhere in a type."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)
