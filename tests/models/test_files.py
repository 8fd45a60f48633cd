"""Where a model's files are looked for, and what is said when they cannot be had."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from candlemark.errors import ModelError
from candlemark.models import files
from candlemark.models.files import cached_file, find_file


@pytest.fixture(autouse=True)
def empty_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from huggingface_hub import constants

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(files, "_silent", {})


def test_a_folder_is_all_there_is(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    assert find_file(str(tmp_path), "config.json") == tmp_path / "config.json"
    assert find_file(str(tmp_path), "tokenizer.json") is None


@pytest.mark.parametrize("model_id", ["./nowhere", "a b/c", "owner/name/more", "--x"])
def test_what_the_hub_could_not_have_is_refused_before_it_is_asked(model_id: str) -> None:
    with pytest.raises(ModelError, match="is no model folder, and no id that the Hub could have"):
        cached_file(model_id, "config.json")


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("config.json", "check the id, or name a model folder instead"),
        ("model.safetensors", "use --weights random, or give a local folder with --weights PATH"),
    ],
)
def test_a_hub_that_cannot_be_reached_is_found_out_at_once(
    monkeypatch: pytest.MonkeyPatch, name: str, advice: str
) -> None:
    def refuse(*_: Any) -> Any:
        raise OSError("no route")

    monkeypatch.setattr(files, "getproxies", dict)
    monkeypatch.setattr(socket, "create_connection", refuse)
    with pytest.raises(ModelError, match=rf"cannot be reached \(no route\); {advice}$"):
        find_file("someone/model", name)


def test_a_hub_that_did_not_answer_is_not_asked_for_each_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[Any] = []

    def refuse(*address: Any) -> Any:
        asked.append(address)
        raise OSError("no route")

    monkeypatch.setattr(files, "getproxies", dict)
    monkeypatch.setattr(socket, "create_connection", refuse)
    for count, remembered_s in ((1, 60.0), (1, 60.0), (2, 0.0)):
        monkeypatch.setattr(files, "REMEMBERED_S", remembered_s)
        with pytest.raises(ModelError, match="no route"):
            find_file("someone/model", "tokenizer.json")
        assert len(asked) == count


def test_an_id_that_the_hub_does_not_know_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers.utils

    def answer(*_: Any, local_files_only: bool = False, **__: Any) -> None:
        if not local_files_only:
            raise OSError("someone/model is not a model identifier\nmore lines")

    monkeypatch.setattr(transformers.utils, "cached_file", answer)
    monkeypatch.setattr(files, "_require_hub", lambda *_: None)
    with pytest.raises(ModelError, match=r"is not a model identifier; check the id$"):
        find_file("someone/model", "config.json")
