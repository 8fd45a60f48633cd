"""Versions of models: their names, which is latest or best, and which are deleted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from candlemark.errors import ConfigError, ModelError
from candlemark.models import versions
from candlemark.models.saved import damaged_files
from candlemark.models.store import load_model, save_model
from candlemark.models.versions import best_of, delete, find_model, list_models, prune
from candlemark.progress import Event


def tensors() -> dict[str, torch.Tensor]:
    return {"weight": torch.arange(4.0)}


# Versions, and many savers


def test_saves_within_a_second_have_names_in_their_order(store: Path):
    saved = [save_model(tensors(), store, number=number) for number in range(12)]
    assert len({one.version for one in saved}) == 12
    assert [one.fields["number"] for one in list_models(store)] == list(range(11, -1, -1))
    assert find_model(store) == saved[-1]


def test_a_save_after_a_prune_in_the_same_second_is_the_newest(
    store: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(
        "candlemark.models.versions.time.gmtime", lambda: (2026, 1, 1, 12, 0, 0, 3, 1, 0)
    )
    for _ in range(3):
        save_model(tensors(), store)
    assert [one.version for one in prune(store, keep=1).kept] == ["model_20260101T120000Z_3"]
    assert save_model(tensors(), store).version == "model_20260101T120000Z_4"
    assert find_model(store).version == "model_20260101T120000Z_4"


FORKING = """
import os, sys, torch
from candlemark.models import payload, store
folder, task, workers = sys.argv[1], sys.argv[2], sys.argv[3:]
model = {"a": torch.zeros(1000)}

def save_some(who):
    for number in range(6):
        store.save_model(model, folder, who=who, number=number)

def killed(*_, **__):
    os.kill(os.getpid(), 9)

def be_killed(where):
    write = payload.write
    def half(record, folder):
        (folder / "model.json").write_text('{"format": "candlem')
        killed()
    if where == "after the tensors":
        payload.write = lambda *words: (write(*words), killed())
    elif where == "amid the json":
        store._write_json = half
    elif where == "before the rename":
        store._claim = killed
    store.save_model(model, folder)

for worker in workers:
    if os.fork() == 0:
        try:
            {"save": save_some, "kill": be_killed}[task](worker)
        finally:
            os._exit(0)
print(*(os.waitstatus_to_exitcode(os.wait()[1]) for _ in workers))
"""
"""Processes that save, forked by one that is fresh: torch is loaded once, and has no threads."""


def fork(store: Path, task: str, workers: Sequence[str]) -> set[int]:
    """Run a task in one process for each worker; their exit statuses."""
    command = [sys.executable, "-W", "ignore", "-c", FORKING, store, task, *workers]
    done = subprocess.run(command, check=True, capture_output=True, encoding="utf-8")
    return {int(status) for status in done.stdout.split()}


@pytest.mark.skipif(os.name != "posix", reason="os.fork is of POSIX systems")
def test_concurrent_savers_each_get_their_own(store: Path):
    assert fork(store, "save", ["0", "1", "2"]) == {0}
    found = list_models(store)
    assert len(found) == 18
    assert {(one.fields["who"], one.fields["number"]) for one in found} == {
        (who, number) for who in "012" for number in range(6)
    }
    for who in "012":
        own = [one.fields["number"] for one in found if one.fields["who"] == who]
        assert own == sorted(own, reverse=True)
    assert all(damaged_files(one) == [] for one in found)
    assert all(not entry.name.startswith(".") for entry in store.iterdir())


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is of POSIX systems")
def test_a_killed_save_leaves_nothing_that_anyone_sees(
    store: Path, monkeypatch: pytest.MonkeyPatch
):
    kept = save_model(tensors(), store)
    moments = ["after the tensors", "amid the json", "before the rename"]
    assert fork(store, "kill", moments) == {-signal.SIGKILL}
    left = [entry for entry in store.iterdir() if entry.name != kept.version]
    assert len(left) == 3
    assert all(entry.name.startswith(".saving_") for entry in left)
    assert list_models(store) == [kept]
    assert find_model(store) == kept
    prune(store, keep=1)
    assert all(entry.exists() for entry in left), "each may be a save that still runs"
    monkeypatch.setattr(versions, "LEFTOVER_AFTER_S", -1.0)
    prune(store, keep=1, dry_run=True)
    assert all(entry.exists() for entry in left)
    prune(store, keep=1)
    assert [entry.name for entry in store.iterdir()] == [kept.version]


# Choosing


def scored(store: Path, *scores: float | None, name: str = "auroc", **said: Any) -> list[str]:
    """Save a version for each score; their names."""
    return [
        save_model(tensors(), store, metrics={} if score is None else {name: score}, **said).version
        for score in scores
    ]


def test_the_best_is_by_direction_and_never_unknown(store: Path):
    nan, inf = float("nan"), float("inf")
    auroc = scored(store, nan, 0.5, 0.9, 0.7, None, inf)
    brier = scored(store, nan, 0.5, 0.1, 0.3, -inf, name="brier")
    assert find_model(store, "best", metric="auroc").version == auroc[2]
    assert find_model(store, "best", metric="brier").version == brier[2]
    assert find_model(store, "best", metric="brier", better="higher").version == brier[1]
    assert load_model(store, "best", metric="auroc").keys() == {"weight"}


def test_of_equals_the_newest_is_the_best_and_it_is_said(store: Path, told: list[Event]):
    names = scored(store, 0.9, 0.8, 0.9)
    assert find_model(store, "best", metric="auroc").version == names[2]
    (event,) = told
    assert event.kind == "note"
    assert event.text == f"auroc of {names[2]} is also that of {names[0]}; it is the newest"


def test_zero_and_negative_scores_are_numbers(store: Path):
    names = scored(store, -0.2, 0.0, -0.1, name="mcc")
    assert find_model(store, "best", metric="mcc").version == names[1]


def test_an_unknown_metric_names_the_known_ones(store: Path):
    scored(store, 0.9, name="f1")
    scored(store, float("nan"), name="ece")
    with pytest.raises(ModelError, match="no model has the metric 'auroc'; known: ece, f1"):
        find_model(store, "best", metric="auroc")
    with pytest.raises(ModelError, match="'ece' is unknown in every model, so none is the best"):
        find_model(store, "best", metric="ece")


def test_a_direction_is_never_guessed(store: Path):
    low, _ = scored(store, 0.1, 0.2, name="surprise")
    with pytest.raises(ModelError, match=r"is a higher or a lower 'surprise' better\? nobody has"):
        find_model(store, "best", metric="surprise")
    with pytest.raises(ModelError, match="nobody has said it"):
        prune(store, keep=0, keep_best="surprise")
    assert len(list_models(store)) == 2
    assert find_model(store, "best", metric="surprise", better="lower").version == low
    scored(store, 0.3, name="surprise", directions={"surprise": "lower"})
    assert find_model(store, "best", metric="surprise").version == low
    scored(store, 0.3, name="surprise", directions={"surprise": "higher"})
    with pytest.raises(ModelError, match="both are said"):
        find_model(store, "best", metric="surprise")


def test_versions_of_one_name(store: Path):
    first = save_model(tensors(), store, name="btc", metrics={"auroc": 0.6})
    second = save_model(tensors(), store, name="btc", metrics={"auroc": 0.5})
    other = save_model(tensors(), store, name="eth", metrics={"auroc": 0.9})
    assert find_model(store) == other
    assert find_model(store, name="btc") == second
    assert find_model(store, "best", metric="auroc", name="btc") == first
    assert list_models(store, name="btc") == [second, first]
    assert find_model(store, first.version) == first
    with pytest.raises(ModelError, match=r"'btc' is a name; ask for its newest with name='btc'"):
        find_model(store, "btc")
    with pytest.raises(ModelError, match="no model named 'sol' in"):
        find_model(store, name="sol")


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        ({"version": "best"}, ConfigError, "'best' needs a metric: metric='auroc'"),
        ({"metric": "auroc"}, ConfigError, "metric 'auroc' is given with version 'latest'"),
        (
            {"version": "oldest"},
            ModelError,
            "no version 'oldest' in .*; allowed: latest, best, mod",
        ),
        ({"version": "../secret"}, ModelError, "no version '../secret' in "),
    ],
)
def test_what_is_asked_wrongly(store: Path, words: Any, error: type[Exception], message: str):
    save_model(tensors(), store)
    with pytest.raises(error, match=message):
        find_model(store, **words)


def test_an_empty_store_and_one_version_alone(store: Path):
    with pytest.raises(ModelError, match=r"no model in .*; save one with candlemark\.save_model"):
        load_model(store)
    assert list_models(store) == []
    saved = save_model(tensors(), store)
    assert load_model(saved).keys() == load_model(saved.path).keys() == {"weight"}
    assert find_model(saved.path, saved.version) == saved
    with pytest.raises(ConfigError, match="is one version; 'best' is asked of its store"):
        find_model(saved.path, "best", metric="auroc")
    with pytest.raises(ConfigError, match="is one version; 'btc' is asked of its store"):
        find_model(saved, name="btc")
    moved = saved.path.rename(store / "the_good_one")
    assert load_model(moved).keys() == {"weight"}
    with pytest.raises(ModelError, match=r"no model at .*; see: candlemark models list --store"):
        load_model(saved)


def test_a_link_that_the_caller_names_is_followed(store: Path, tmp_path: Path):
    saved = save_model(tensors(), store)
    (tmp_path / "current").symlink_to(saved.path)
    assert load_model(tmp_path / "current").keys() == {"weight"}


# Retention


def test_prune_keeps_the_newest_and_the_best(store: Path):
    names = scored(store, 0.9, 0.1, 0.5, 0.4, 0.3)
    plan = prune(store, keep=2, keep_best="auroc", dry_run=True)
    assert [one.version for one in plan.kept] == [names[4], names[3], names[0]]
    assert [one.version for one in plan.removed] == [names[2], names[1]]
    assert len(list_models(store)) == 5
    assert prune(store, keep=2, keep_best="auroc") == plan
    assert [one.version for one in list_models(store)] == [names[4], names[3], names[0]]
    assert sorted(entry.name for entry in store.iterdir()) == sorted([names[0], names[3], names[4]])
    assert prune(store, keep=2, keep_best=["auroc"]).removed == ()


@settings(max_examples=25, deadline=None)
@given(
    scores=st.lists(st.sampled_from([0.1, 0.2, 0.3, None]), max_size=6),
    keep=st.integers(0, 4),
    best=st.booleans(),
)
def test_prune_keeps_what_it_says(
    tmp_path_factory: pytest.TempPathFactory, scores: list[float | None], keep: int, best: bool
):
    store = tmp_path_factory.mktemp("store")
    names = scored(store, *scores)
    numbers = [score for score in scores if score is not None]
    expected = set(names[-keep:] if keep else [])
    if best and numbers:
        expected.add(names[max(i for i, score in enumerate(scores) if score == max(numbers))])
    if best and names and not numbers:
        with pytest.raises(ModelError, match="no model has the metric"):
            prune(store, keep=keep, keep_best="auroc")
        expected = set(names)
    else:
        prune(store, keep=keep, keep_best="auroc" if best else ())
    assert {one.version for one in list_models(store)} == expected


def test_prune_of_one_name_leaves_the_others(store: Path):
    other = save_model(tensors(), store, name="eth")
    for _ in range(3):
        newest = save_model(tensors(), store, name="btc")
    prune(store, keep=1, name="btc")
    assert list_models(store) == [newest, other]


def test_prune_never_touches_what_is_not_the_stores(store: Path):
    strangers = ["model_mine", "model_20260101", "notes.txt", ".saving_mine", "data", "model_1_2"]
    save_model(tensors(), store)
    for name in strangers:
        (store / name).mkdir()
        (store / name / "model.json").write_text("{}", encoding="utf-8")
    with_notes = save_model(tensors(), store)
    (with_notes.path / "notes.txt").write_text("precious", encoding="utf-8")
    pruned = prune(store, keep=0)
    assert len(pruned.removed) == 1
    ((left, why),) = pruned.left_alone
    assert left.version == with_notes.version
    assert why == "it holds notes.txt, which candlemark did not write"
    assert sorted(entry.name for entry in store.iterdir()) == sorted([*strangers, left.version])
    assert load_model(with_notes).keys() == {"weight"}


def test_a_leftover_that_holds_something_else_keeps_it(store: Path):
    save_model(tensors(), store)
    left = store / ".pruning_0123456789abcdef"
    left.mkdir()
    (left / "model.json").write_text("{}", encoding="utf-8")
    (left / "precious").write_text("", encoding="utf-8")
    outside = store.parent / "outside"
    outside.mkdir()
    (outside / "model.json").write_text("{}", encoding="utf-8")
    (store / ".pruning_fedcba9876543210").symlink_to(outside)
    prune(store, keep=1)
    assert [entry.name for entry in left.iterdir()] == ["precious"]
    assert (outside / "model.json").exists()


def test_what_changed_since_it_was_agreed_on_stays(store: Path):
    save_model(tensors(), store)
    plan = prune(store, keep=0, dry_run=True)
    (plan.removed[0].path / "notes.txt").write_text("precious", encoding="utf-8")
    delete(store, plan.removed)
    assert len(list_models(store)) == 1
    (plan.removed[0].path / "notes.txt").unlink()
    delete(store, plan.removed)
    delete(store, plan.removed)
    assert list_models(store) == []


def test_prune_of_nothing(store: Path):
    assert prune(store, keep=3, keep_best="auroc").kept == ()
    assert not store.exists()
    with pytest.raises(ConfigError, match="keep is -1; allowed: 0 or more"):
        prune(store, keep=-1)


def test_best_of_needs_no_store(store: Path):
    names = scored(store, 0.4, 0.6)
    assert best_of(list_models(store), "auroc").version == names[1]


def test_the_store_loads_only_what_it_needs(store: Path):
    program = (
        "import sys\n"
        "from candlemark import list_models, load_model, save_model\n"
        "from candlemark.models.saved import damaged_files\n"
        "from candlemark.models.versions import find_model, prune\n"
        "def loaded(): print(sorted({'torch', 'joblib', 'sklearn'} & set(sys.modules)))\n"
        "store = sys.argv[1]\n"
        "list_models(store)\n"
        "if len(sys.argv) > 2:\n"
        "    from sklearn.linear_model import Ridge\n"
        "    save_model(Ridge(), store, metrics={'auroc': 0.5})\n"
        "    load_model(store, trust=True)\n"
        "assert damaged_files(find_model(store, 'best', metric='auroc')) == []\n"
        "prune(store, keep=1)\n"
        "loaded()\n"
    )
    for words, modules in ([store, "save"], "['joblib', 'sklearn']\n"), ([store], "[]\n"):
        command = [sys.executable, "-c", program, *words]
        done = subprocess.run(command, check=True, capture_output=True, encoding="utf-8")
        assert done.stdout == modules


def test_a_file_that_is_called_like_a_leftover_stays(store: Path):
    save_model(tensors(), store)
    strange = store / f".saving_{'0' * 16}"
    strange.write_text("not a folder", encoding="utf-8")
    os.utime(strange, (0, 0))
    prune(store, keep=1)
    assert strange.read_text(encoding="utf-8") == "not a folder"
