"""One saved model as the store describes it: `model.json`, read without opening the model.

    saved = read_saved(Path("models/model_20260101T120000Z"))
    saved.metrics["auroc"], saved.config, saved.problem
    damaged_files(saved)               # [] where every byte is as it was written

A folder that came from elsewhere may say anything, so nothing it says is believed: names that
lead out of the folder, links, pipes and a `model.json` of gigabytes are problems, not answers.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from candlemark.config import Config, parse
from candlemark.errors import ConfigError, ModelError

FILE = "model.json"
FORMAT: Literal["candlemark model"] = "candlemark model"
FORMAT_VERSION = 1
MAX_JSON_BYTES = 16 << 20
MAX_DEPTH = 50

Kind = Literal["network", "tensors", "estimator"]
Direction = Literal["higher", "lower"]

PAYLOADS: dict[str, str] = {
    "network": "model.safetensors",
    "tensors": "model.safetensors",
    "estimator": "model.joblib",
}
"""The one file that holds a model of each kind; a joblib file is a pickle."""

DIRECTIONS: dict[str, Direction] = {
    "accuracy": "higher",
    "balanced_accuracy": "higher",
    "f1": "higher",
    "recall": "higher",
    "precision": "higher",
    "auroc": "higher",
    "auprc": "higher",
    "mcc": "higher",
    "brier": "lower",
    "ece": "lower",
    "loss": "lower",
    "train_loss": "lower",
    "validation_loss": "lower",
    "log_loss": "lower",
    "mae": "lower",
    "mse": "lower",
    "rmse": "lower",
    "r2": "higher",
    "latency_p50_ms": "lower",
    "latency_p90_ms": "lower",
    "latency_p95_ms": "lower",
    "latency_p99_ms": "lower",
    "throughput_items_per_s": "higher",
    "training_time_s": "lower",
    "peak_memory_bytes": "lower",
}
"""Which end of a metric is the better one, where nobody says it. What stands neither here nor
in `directions=` of a save has no best: a guess would let `prune` delete the wrong model."""

_VERSION = re.compile(r"model_(\d{8}T\d{6}Z)(?:_([1-9]\d{0,8}))?")


class StoredFile(Config):
    """One file of a saved model."""

    size_bytes: int
    sha256: str


class ModelFile(Config):
    """What `model.json` holds; `SavedModel` says what it means."""

    format: Literal["candlemark model"] = FORMAT
    format_version: int = FORMAT_VERSION
    created_at: str
    name: str | None
    kind: Kind
    class_path: str
    metrics: dict[str, float | None]
    directions: dict[str, Direction]
    config: dict[str, Any]
    config_hash: str
    fields: dict[str, Any]
    libraries: dict[str, str]
    files: dict[str, StoredFile]


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedModel:
    """A version in a store: what it is, how good it is, and what is wrong with it.

    version: its folder's name, `model_<UTC time to the second>`, `_2` and so on within one
    created_at: UTC, ISO 8601 with microseconds
    name: what the caller calls it; versions of one model share it
    kind: "network" (a torch module), "tensors" or "estimator" (scikit-learn)
    class_path: module and name of the class that was saved
    metrics: None where the number was not finite; it is never the best
    directions: "higher" or "lower" is better, for the metrics where that is known
    config, fields: as they were given, in JSON's types; config_hash is the config's content id
    libraries: versions of what wrote it
    files: size and SHA-256 of the model's file
    problem: why it cannot be loaded, None for a whole one; all but `path` and `version` may
        be empty then. Sizes are compared here, hashes when it is loaded.
    """

    path: Path
    version: str
    problem: str | None = None
    created_at: str | None = None
    name: str | None = None
    kind: Kind | None = None
    class_path: str | None = None
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    directions: Mapping[str, Direction] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    config_hash: str | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    libraries: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, StoredFile] = field(default_factory=dict)

    @property
    def size_bytes(self) -> int:
        """Bytes of the model's file, as written down when it was saved; 0 where unknown."""
        return sum(entry.size_bytes for entry in self.files.values())

    @property
    def payload(self) -> Path:
        """The file that holds the model; ModelError for a version with a problem."""
        if self.kind is None or self.problem is not None:
            raise ModelError(f"{self.path}: {self.problem}")
        return self.path / PAYLOADS[self.kind]

    def to_dict(self) -> dict[str, Any]:
        """JSON types only."""
        files = {name: entry.model_dump(mode="json") for name, entry in self.files.items()}
        value = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {**value, "path": str(self.path), "size_bytes": self.size_bytes, "files": files}


def version_key(version: str) -> tuple[str, int] | None:
    """What a version's folder name sorts by: its time, its number in that second; or None."""
    match = _VERSION.fullmatch(version)
    return (match[1], int(match[2] or 1)) if match else None


def read_saved(folder: Path) -> SavedModel:
    """What `folder` says about itself; whatever is wrong with it is its `problem`, never raised."""
    try:
        _require_folder(folder)
        value = _read_json(folder / FILE)
        _check_version(value.get("format_version"))
        record = parse(ModelFile, value, where=FILE)
        _check_contents(record)
    except (ModelError, ConfigError, OSError) as error:
        reason = error.strerror or error if isinstance(error, OSError) else error
        return SavedModel(path=folder, version=folder.name, problem=str(reason))
    return SavedModel(
        path=folder,
        version=folder.name,
        problem=_problem_of_files(folder, record.files),
        **{name: getattr(record, name) for name in _SHARED},
    )


def damaged_files(saved: SavedModel) -> list[str]:
    """One sentence for each file that is missing or differs from `model.json`; reads every byte."""
    if saved.problem is not None:
        return [saved.problem]
    found = []
    for name, entry in saved.files.items():
        with (saved.path / name).open("rb") as file:
            seen = hashlib.file_digest(file, "sha256").hexdigest()
        if seen != entry.sha256:
            found.append(hash_problem(name, seen, entry))
    return found


def hash_problem(name: str, seen: str, entry: StoredFile) -> str:
    """The sentence for a file whose bytes are not those that were saved."""
    return f"{name} is damaged: its SHA-256 is {seen[:12]}..., {FILE} says {entry.sha256[:12]}..."


_SHARED = tuple(name for name in ModelFile.model_fields if not name.startswith("format"))


def plain(value: Any, where: str, depth: int = 0) -> Any:
    """`value` in JSON's own types: configs, tuples, paths and NumPy's numbers converted.

    Raises ModelError, naming the place: NaN and infinity, keys that are no text, text that has
    no UTF-8, more than 50 levels, and every other type.
    """
    if depth > MAX_DEPTH:
        raise ModelError(f"{where} is nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, Config):
        value = value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return {
            _text(key, f"a key of {where}"): plain(item, f"{where}.{key}", depth + 1)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [plain(item, f"{where}[{i}]", depth + 1) for i, item in enumerate(value)]
    if isinstance(value, str | Path):
        return _text(str(value), where)
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        raise ModelError(f"{where} is {value}, which JSON cannot hold; unknown is None")
    raise ModelError(
        f"{where} is a {type(value).__name__}; allowed: text, numbers, true, false, None, "
        "lists and mappings of them"
    )


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise ModelError(f"{where} is {value!r:.40}; keys are text")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise ModelError(f"{where} is {value!a:.40}, which is no valid Unicode") from error
    return value


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} stands in it")


def _finite(text: str) -> float:
    if not math.isfinite(float(text)):
        _refuse(text[:40])
    return float(text)


def _require_folder(folder: Path) -> None:
    mode = folder.lstat().st_mode
    if stat.S_ISLNK(mode):
        raise ModelError("it is a link; a store holds plain folders")
    if not stat.S_ISDIR(mode):
        raise ModelError("it is no folder; a saved model is one")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        _require_plain_file(path)
    except FileNotFoundError:
        raise ModelError(f"it holds no {FILE}, so it is no saved model") from None
    with path.open("rb") as file:
        text = file.read(MAX_JSON_BYTES + 1)
    if len(text) > MAX_JSON_BYTES:
        raise ModelError(f"{FILE} is larger than {MAX_JSON_BYTES >> 20} MiB, which no model needs")
    try:
        value = plain(json.loads(text, parse_constant=_refuse, parse_float=_finite), FILE)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{FILE} is damaged: it is no JSON ({error})") from error
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise ModelError(f"{FILE} is damaged: it does not say that it is a {FORMAT}")
    return value


def _check_version(version: Any) -> None:
    if isinstance(version, bool) or not isinstance(version, int):
        raise ModelError(
            f"{FILE} is damaged: format_version is {version!r:.40}, not a whole number"
        )
    if version > FORMAT_VERSION:
        raise ModelError(
            f"it has format {version}, written by a newer candlemark; this one reads format "
            f"{FORMAT_VERSION}: python -m pip install --upgrade candlemark"
        )
    if version < FORMAT_VERSION:
        raise ModelError(
            f"it has format {version}, written by an older candlemark; this one reads format "
            f"{FORMAT_VERSION}: load it with that candlemark and save it again"
        )


def _check_contents(record: ModelFile) -> None:
    """Every file is the one that the kind has: no other name, so no way out of the folder."""
    if set(record.files) != {PAYLOADS[record.kind]}:
        names = ", ".join(repr(name) for name in sorted(record.files))[:200]
        raise ModelError(
            f"{FILE} is damaged: it names the files {names or 'none'}; "
            f"a model of kind {record.kind} is in {PAYLOADS[record.kind]}"
        )


def _problem_of_files(folder: Path, files: Mapping[str, StoredFile]) -> str | None:
    for name, entry in files.items():
        try:
            size = _require_plain_file(folder / name)
        except FileNotFoundError:
            return f"{name} is missing"
        except (ModelError, OSError) as error:
            return str(error)
        if size != entry.size_bytes:
            return f"{name} is damaged: it has {size} bytes, {FILE} says {entry.size_bytes}"
    return None


def _require_plain_file(path: Path) -> int:
    """Size of a file that is neither a link nor a pipe, folder or device, unopened."""
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode):
        raise ModelError(f"{path.name} is a link; a saved model holds plain files")
    if not stat.S_ISREG(status.st_mode):
        raise ModelError(f"{path.name} is no plain file")
    return status.st_size
