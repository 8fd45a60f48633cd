"""A checkpoint is whole or not there, and never runs code."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import torch

from candlemark.errors import ModelError
from candlemark.training import checkpoint


def test_round_trip_and_nothing_left_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "checkpoint.pt"
    checkpoint.save(path, {"tensor": torch.arange(3), "step": 7, "history": [{"loss": None}]})
    state = checkpoint.load(path)
    assert state is not None
    assert state["tensor"].tolist() == [0, 1, 2]
    assert (state["step"], state["history"]) == (7, [{"loss": None}])
    assert list(path.parent.iterdir()) == [path]


def test_no_file_is_no_state(tmp_path: Path) -> None:
    assert checkpoint.load(tmp_path / "none.pt") is None


def test_a_write_that_dies_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "checkpoint.pt"
    checkpoint.save(path, {"step": 1})

    def die(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", die)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.save(path, {"step": 2})
    monkeypatch.undo()
    assert checkpoint.load(path) == {"step": 1}


@pytest.mark.parametrize("keep", [0, 10, 200])
def test_a_damaged_file_is_named(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "checkpoint.pt"
    checkpoint.save(path, {"tensor": torch.zeros(100)})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ModelError, match="is damaged; delete it"):
        checkpoint.load(path)


def test_other_versions_have_their_own_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "checkpoint.pt"
    monkeypatch.setattr(checkpoint, "VERSION", 99)
    checkpoint.save(path, {})
    monkeypatch.undo()
    with pytest.raises(ModelError, match="is of a newer version"):
        checkpoint.load(path)
    torch.save({"step": 1}, path)
    with pytest.raises(ModelError, match="is of another version"):
        checkpoint.load(path)


class Bomb:
    """Touches a file when unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (os.mkdir, (str(self.target),))


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    path, target = tmp_path / "checkpoint.pt", tmp_path / "ran"
    torch.save({"version": 1, "bomb": Bomb(target)}, path)
    with pytest.raises(ModelError, match="is damaged"):
        checkpoint.load(path)
    path.write_bytes(pickle.dumps(Bomb(target), protocol=2))
    with pytest.raises(ModelError, match="is damaged"):
        checkpoint.load(path)
    assert not target.exists()
