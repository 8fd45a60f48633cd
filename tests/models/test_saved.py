"""What is known of a saved model without opening it, and every way it can be damaged."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from candlemark.errors import ModelError
from candlemark.models.saved import damaged_files, read_saved, version_key
from candlemark.models.store import load_model, save_model
from candlemark.models.versions import find_model, list_models, prune
from candlemark.progress import Event


def fitted() -> Any:
    features = np.random.default_rng(0).normal(size=(40, 3))
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(features, features[:, 0] > 0)


def tensors() -> dict[str, torch.Tensor]:
    return {"weight": torch.arange(4.0)}


def edit(folder: Path, **changes: Any) -> None:
    """Change keys of a saved model's model.json."""
    path = folder / "model.json"
    path.write_text(
        json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8"
    )


def scored(store: Path, *scores: float | None, name: str = "auroc", **said: Any) -> list[str]:
    """Save a version for each score; their names."""
    return [
        save_model(tensors(), store, metrics={} if score is None else {name: score}, **said).version
        for score in scores
    ]


# Damage


@pytest.mark.parametrize("kind", ["network", "estimator"])
def test_one_flipped_byte_is_named(store: Path, kind: str):
    saved = save_model(nn.Linear(2, 2) if kind == "network" else fitted(), store)
    (name,) = saved.files
    content = bytearray((saved.path / name).read_bytes())
    content[-1] ^= 1
    (saved.path / name).write_bytes(content)
    with pytest.raises(ModelError, match=f"{name} is damaged: its SHA-256 is"):
        load_model(store, trust=True)
    assert damaged_files(saved) == [*damaged_files(read_saved(saved.path))]
    assert len(damaged_files(saved)) == 1


def entries(folder: Path) -> Any:
    """The files that a saved model.json names."""
    return json.loads((folder / "model.json").read_text(encoding="utf-8"))["files"]


def write(text: str | bytes) -> Callable[[Path], None]:
    """Put `text` in place of model.json."""
    content = text.encode() if isinstance(text, str) else text
    return lambda folder: (folder / "model.json").write_bytes(content) and None


def say(**changes: Any) -> Callable[[Path], None]:
    return lambda folder: edit(folder, **changes)


def score(text: str) -> Callable[[Path], None]:
    """Put a number that is none among the metrics."""

    def spoil(folder: Path) -> None:
        edit(folder, metrics={"auroc": 123.5})
        path = folder / "model.json"
        path.write_text(path.read_text(encoding="utf-8").replace("123.5", text), encoding="utf-8")

    return spoil


def half(name: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2])

    return spoil


def replaced(name: str, make: Callable[[Path], Any]) -> Callable[[Path], None]:
    """Take a file (or the folder, called ".") away, and put something else in its place."""

    def spoil(folder: Path) -> None:
        place = folder if name == "." else folder / name
        place.rename(folder.parent / "elsewhere")
        make(place)

    return spoil


def link(place: Path) -> None:
    parent = place.parent if version_key(place.name) else place.parent.parent
    place.symlink_to(parent / "elsewhere")


def two_files(folder: Path) -> None:
    files = entries(folder)
    edit(folder, files=files | {"other": files["model.safetensors"]})


DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no json": (
        lambda folder: (folder / "model.json").unlink(),
        "it holds no model.json, so it is no saved model",
    ),
    "half a json": (half("model.json"), "model.json is damaged: it is no JSON ("),
    "no text": (write(b"\xff\xfe\x00"), "model.json is damaged: it is no JSON ("),
    "a list": (write("[]"), "model.json is damaged: it does not say that it is a candlemark model"),
    "another format": (say(format="candlemark dataset"), "does not say that it is a candlemark mo"),
    "newer": (
        say(format_version=2),
        "it has format 2, written by a newer candlemark; this one reads format 1: python -m pip",
    ),
    "older": (
        say(format_version=0),
        "it has format 0, written by an older candlemark; this one reads format 1: load it with",
    ),
    "no version": (say(format_version="one"), "format_version is 'one', not a whole number"),
    "a key too many": (say(surprise=1), "model.json: unknown key 'surprise'"),
    "not a number": (score("NaN"), "model.json is damaged: it is no JSON (NaN stands in it)"),
    "infinite": (score("1e999"), "model.json is damaged: it is no JSON (1e999 stands in it)"),
    "long digits": (score("9" * 10_000), "model.json is damaged: it is no JSON ("),
    "half a letter": (
        write(r'{"format": "candlemark model", "name": "\ud800"}'),
        "is '\\ud800', which is no valid Unicode",
    ),
    "deep": (write('{"format": ' + "[" * 100_000), "model.json is damaged: it is no JSON ("),
    "nested": (say(fields=json.loads("[" * 90 + "]" * 90)), "is nested deeper than 50 levels"),
    "huge": (write(" " * ((16 << 20) + 1)), "model.json is larger than 16 MiB, which no model nee"),
    "a way out": (
        lambda folder: edit(folder, files={"../../secret": entries(folder)["model.safetensors"]}),
        "it names the files '../../secret'; a model of kind tensors is in model.safetensors",
    ),
    "two files": (two_files, "it names the files 'model.safetensors', 'other'; a model of kind"),
    "a wrong suffix": (
        say(kind="estimator"),
        "it names the files 'model.safetensors'; a model of kind estimator is in model.joblib",
    ),
    "no tensors": (
        lambda folder: (folder / "model.safetensors").unlink(),
        "model.safetensors is missing",
    ),
    "half the tensors": (half("model.safetensors"), "model.safetensors is damaged: it has "),
    "a linked model": (
        replaced("model.safetensors", link),
        "model.safetensors is a link; a saved model holds plain files",
    ),
    "a linked json": (replaced("model.json", link), "model.json is a link; a saved model holds"),
    "a pipe": (replaced("model.json", os.mkfifo), "model.json is no plain file"),
    "a folder": (replaced("model.safetensors", Path.mkdir), "model.safetensors is no plain file"),
    "a linked version": (replaced(".", link), "it is a link; a store holds plain folders"),
    "a file": (replaced(".", Path.touch), "it is no folder; a saved model is one"),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_damage_is_listed_with_its_sentence_and_left_alone(store: Path, how: str):
    older = save_model(tensors(), store, metrics={"auroc": 0.5})
    broken = save_model(tensors(), store)
    spoil, sentence = DAMAGE[how]
    spoil(broken.path)
    listed = list_models(store)
    assert [one.version for one in listed] == [broken.version, older.version]
    assert listed[0].problem is not None
    assert sentence in listed[0].problem
    assert listed[1] == older

    with pytest.raises(ModelError, match=f"the newest whole one is {older.version}"):
        load_model(store, trust=True)
    with pytest.raises(ModelError, match="cannot be loaded: "):
        load_model(store, broken.version, trust=True)
    assert find_model(store, "best", metric="auroc") == older

    pruned = prune(store, keep=0)
    assert [one.version for one in pruned.removed] == [older.version]
    assert [one.version for one, _ in pruned.left_alone] == [broken.version]
    assert os.path.lexists(broken.path)


def test_a_damaged_one_that_cannot_be_compared_is_said(store: Path, told: list[Event]):
    (whole,) = scored(store, 0.5)
    (broken,) = scored(store, 0.9)
    (store / broken / "model.json").write_text("{", encoding="utf-8")
    assert find_model(store, "best", metric="auroc").version == whole
    assert [event.kind for event in told] == ["warning"]
    assert told[0].text.startswith(f"{broken} was not looked at: model.json is damaged")


def test_the_best_one_damaged_is_an_error_not_the_second_best(store: Path):
    scored(store, 0.5)
    (best,) = scored(store, 0.9)
    (store / best / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=f"{best} cannot be loaded: model.safetensors is missing"):
        load_model(store, "best", metric="auroc")
