"""The store of models: what goes in comes out, and nothing else is believed, shown or deleted."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from torch import nn

from candlemark import progress
from candlemark.config import Config
from candlemark.errors import ConfigError, ModelError
from candlemark.metrics.catalog import METRICS
from candlemark.models import versions
from candlemark.models.saved import DIRECTIONS, damaged_files, read_saved, version_key
from candlemark.models.store import load_model, save_model
from candlemark.models.versions import best_of, delete, find_model, list_models, prune
from candlemark.progress import Event


class Tied(nn.Module):
    """Two names for one matrix, a buffer, a layer of bf16 and a parameter that is a view."""

    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.inner = nn.Linear(width, width, bias=False)
        self.outer = nn.Linear(width, width, bias=False)
        self.outer.weight = self.inner.weight
        self.norm = nn.BatchNorm1d(width)
        self.half = nn.Linear(width, 2).bfloat16()
        self.across = nn.Parameter(torch.randn(4, 5).t())


def fitted() -> Any:
    features = np.random.default_rng(0).normal(size=(40, 3))
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(features, features[:, 0] > 0)


def tensors() -> dict[str, torch.Tensor]:
    return {"weight": torch.arange(4.0)}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.fixture
def told() -> Iterator[list[Event]]:
    """What the library reports while a test runs."""
    events: list[Event] = []

    class Listener:
        def handle(self, event: Event) -> None:
            events.append(event)

    before = progress.set_reporter(Listener())
    yield events
    progress.set_reporter(before)


def edit(folder: Path, **changes: Any) -> None:
    """Change keys of a saved model's model.json."""
    path = folder / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


# What goes in comes out


def test_a_network_comes_back_bit_for_bit_with_its_types_ties_and_buffers(store: Path):
    torch.manual_seed(1)
    network = Tied()
    network.norm(torch.randn(8, 3))
    save_model(network, store)
    assert not network.across.is_contiguous()

    torch.manual_seed(2)
    other = Tied()
    assert load_model(store, into=other) is other
    for name, tensor in network.state_dict().items():
        assert torch.equal(other.state_dict()[name], tensor), name
        assert other.state_dict()[name].dtype == tensor.dtype
    assert other.outer.weight is other.inner.weight
    assert other.norm.num_batches_tracked == 1


def test_a_network_without_a_module_is_its_state_dict(store: Path):
    network = Tied()
    save_model(network, store)
    state = load_model(store)
    assert sorted(state) == sorted(network.state_dict())
    assert state["outer.weight"].data_ptr() == state["inner.weight"].data_ptr()
    assert state["half.weight"].dtype == torch.bfloat16
    Tied().load_state_dict(state, strict=True)


def test_the_file_is_that_of_safetensors_own_functions(store: Path):
    network, other = Tied(), Tied()
    saved = save_model(network, store)
    assert safetensors.torch.load_model(other, saved.path / "model.safetensors") == (set(), [])
    assert torch.equal(other.across, network.across)


def test_conjugates_are_written_as_the_numbers_that_they_are(store: Path):
    plain = torch.tensor([1 + 2j, 3 - 4j])
    save_model({"plain": plain, "conjugate": plain.conj(), "negative": plain.conj().imag}, store)
    found = load_model(store)
    assert found["plain"].tolist() == [1 + 2j, 3 - 4j]
    assert found["conjugate"].tolist() == [1 - 2j, 3 + 4j]
    assert found["negative"].tolist() == [-2, 4]


def test_tensors_that_overlap_are_written_in_full(store: Path):
    # What `safetensors.torch.save_model` refuses: no name covers the whole storage.
    whole = torch.arange(6.0)
    model = {
        "head": whole[:4],
        "tail": whole[2:],
        "again": whole[:4],
        "turned": whole.view(2, 3).t(),
    }
    save_model(model, store)
    loaded = load_model(store)
    assert set(loaded) == set(model)
    for name, tensor in model.items():
        assert torch.equal(loaded[name], tensor)


def test_a_tied_tensor_called_format_does_not_meet_the_header(store: Path):
    one = torch.arange(3.0)
    save_model({"a": one, "format": one}, store)
    assert torch.equal(load_model(store)["format"], one)


@settings(max_examples=30, deadline=None)
@given(
    dtype=st.sampled_from(
        [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn,
         torch.int64, torch.uint8, torch.bool, torch.complex64]
    ),
    shape=st.lists(st.integers(0, 3), max_size=3),
    turned=st.booleans(),
)  # fmt: skip
def test_tensors_of_any_type_and_shape_come_back(
    tmp_path_factory: pytest.TempPathFactory, dtype: torch.dtype, shape: list[int], turned: bool
):
    store = tmp_path_factory.mktemp("store")
    tensor = torch.randint(0, 2, shape).to(dtype)
    if turned:
        tensor = tensor.mT if tensor.ndim > 1 else tensor
    save_model({"t": tensor}, store)
    loaded = load_model(store)["t"]
    assert (loaded.dtype, loaded.shape) == (tensor.dtype, tensor.shape)
    assert torch.equal(flat_bytes(loaded), flat_bytes(tensor))


def flat_bytes(tensor: torch.Tensor) -> torch.Tensor:
    """Every byte; torch compares no tensors of 8-bit floats."""
    return tensor.reshape(-1).view(torch.uint8)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, as its compiler loads
def test_wrapped_networks_are_saved_under_their_own_names(store: Path):
    network = nn.Linear(3, 2)
    wrapped = nn.DataParallel(torch.compile(network))
    saved = save_model(wrapped, store)
    assert set(load_model(store)) == {"weight", "bias"}
    assert saved.class_path == "torch.nn.modules.linear.Linear"
    load_model(store, into=wrapped)
    load_model(store, into=nn.Linear(3, 2))


def test_an_estimator_comes_back(store: Path):
    model = fitted()
    saved = save_model(model, store)
    features = np.random.default_rng(1).normal(size=(20, 3))
    loaded = load_model(store, trust=True)
    assert np.array_equal(loaded.predict_proba(features), model.predict_proba(features))
    assert saved.class_path == "sklearn.pipeline.Pipeline"
    assert set(saved.libraries) >= {"candlemark", "python", "scikit-learn", "joblib", "numpy"}
    # zlib's header at level 3
    assert (saved.path / "model.joblib").read_bytes()[:2] == b"\x78\x5e"


class Window(Config):
    """A config with a nested tuple."""

    size: int = 30
    sides: tuple[int, int] = (3, 4)


def test_what_was_said_about_it_comes_back(store: Path):
    saved = save_model(
        tensors(),
        str(store),
        metrics={
            "auroc": np.float32(0.75),
            "loss": torch.tensor(0.5),
            "f1": float("nan"),
            "x": None,
        },
        config=Window(),
        name="Bitcoin, hourly",
        classes=("down", "up"),
        count=np.int64(7),
        data=Path("data/x.csv"),
        nested={"a": [1, None, True, "ü"]},
    )
    (listed,) = list_models(store)
    assert listed == saved == find_model(saved) == find_model(saved.path)
    assert saved.metrics == {"auroc": 0.75, "loss": 0.5, "f1": None, "x": None}
    assert saved.directions == {"auroc": "higher", "loss": "lower", "f1": "higher"}
    assert saved.config == {"size": 30, "sides": [3, 4]}
    assert saved.name == "Bitcoin, hourly"
    assert saved.fields == {
        "classes": ["down", "up"],
        "count": 7,
        "data": "data/x.csv",
        "nested": {"a": [1, None, True, "ü"]},
    }
    assert saved.problem is None
    assert version_key(saved.version)
    assert saved.created_at is not None
    assert saved.created_at.endswith("+00:00")
    file = saved.path / "model.safetensors"
    entry = saved.files["model.safetensors"]
    assert saved.size_bytes == entry.size_bytes == file.stat().st_size
    assert entry.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    json.dumps(saved.to_dict(), allow_nan=False)


def test_the_same_config_has_the_same_hash_in_any_order(store: Path):
    one = save_model(tensors(), store, config={"a": 1, "b": (2,)})
    two = save_model(tensors(), store, config={"b": [2], "a": 1})
    assert one.config_hash == two.config_hash != save_model(tensors(), store).config_hash


def test_a_store_of_a_saved_network_is_a_folder_of_weights(store: Path):
    from candlemark.models.weights import find_weights

    saved = save_model(nn.Linear(2, 2), store)
    assert find_weights(str(saved.path), allow_pickle=False) == saved.path / "model.safetensors"


def test_directions_agree_with_the_table_of_scores():
    for name, metric in METRICS.items():
        assert DIRECTIONS[name] == ("higher" if metric.higher_is_better else "lower"), name


# What cannot be saved


class NotPicklable(BaseEstimator):
    """An estimator that holds what no pickle can."""

    def __init__(self) -> None:
        self.file = sys.stdout


class Extra(nn.Linear):
    """A module whose state dict holds more than tensors."""

    def get_extra_state(self) -> Any:
        return {"step": 3}


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (3, "a int cannot be saved; allowed: a torch module, a non-empty mapping of names to"),
        ({}, "a dict cannot be saved"),
        ({"a": 1}, "the mapping to save holds 'a'; allowed: names, which are text, to torch"),
        ({1: torch.ones(1)}, "holds 1; allowed: names, which are text"),
        (NotPicklable(), "a NotPicklable cannot be saved: "),
        (FunctionTransformer(lambda x: x), "must be a function of a module, not a lambda"),
        (Extra(2, 2), "_extra_state is a dict; safetensors hold tensors only"),
        (nn.Linear(2, 2, device="meta"), "weight is on the meta device and has no numbers"),
        ({"a": torch.eye(2).to_sparse()}, "a is torch.sparse_coo; safetensors hold dense"),
        ({"a": torch.ones(2, dtype=torch.complex128)}, "cannot hold torch.complex128"),
    ],
)
def test_what_cannot_be_saved_says_why_and_leaves_nothing(store: Path, model: Any, message: str):
    with pytest.raises(ModelError) as raised:
        save_model(model, store)
    assert message in str(raised.value)
    assert not store.exists() or list(store.iterdir()) == []


def cyclic() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    ("said", "error", "message"),
    [
        ({"metrics": {"auroc": "good"}}, ModelError, "metric 'auroc' is 'good'; a metric is one"),
        ({"metrics": {"auroc": torch.ones(2)}}, ModelError, "metric 'auroc' is "),
        ({"metrics": {"": 1.0}}, ModelError, "a metric is called ''; a name is a line of text"),
        ({"config": {"a": {"b": float("nan")}}}, ModelError, "config.a.b is nan, which JSON"),
        ({"config": {"a": {1: 2}}}, ModelError, "a key of config.a is 1; keys are text"),
        ({"extra": [object()]}, ModelError, "fields.extra[0] is a object; allowed: text, numbers"),
        ({"extra": cyclic()}, ModelError, "is nested deeper than 50 levels"),
        ({"extra": "\ud800"}, ModelError, "fields.extra is '\\ud800', which is no valid Unicode"),
        ({"name": "two\nlines"}, ConfigError, "allowed: a line of 1 to 200 characters"),
        ({"name": " "}, ConfigError, "name is ' '"),
        (
            {"metrics": {"x": 1.0}, "directions": {"y": "lower"}},
            ConfigError,
            "directions name 'y', which is no metric given: x",
        ),
        (
            {"metrics": {"x": 1.0}, "directions": {"x": "down"}},
            ConfigError,
            "the direction of 'x' is 'down'; allowed: 'higher', 'lower'",
        ),
    ],
)
def test_what_cannot_be_said_names_the_place(
    store: Path, said: dict[str, Any], error: type[Exception], message: str
):
    with pytest.raises(error) as raised:
        save_model(tensors(), store, **said)
    assert message in str(raised.value)
    assert not store.exists()


def test_more_json_than_can_be_read_is_not_written(store: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("candlemark.models.store.MAX_JSON_BYTES", 4 << 20)
    with pytest.raises(ModelError, match=r"are 5 MiB of JSON; allowed: 4 MiB\. Keep what is large"):
        save_model(tensors(), store, notes="x" * (5 << 20))
    assert list(store.iterdir()) == []


def test_a_store_that_is_a_file_is_refused(tmp_path: Path):
    file = tmp_path / "models"
    file.write_text("")
    for call in (lambda: save_model(tensors(), file), lambda: list_models(file)):
        with pytest.raises(ModelError, match="is a file; a store of models is a folder"):
            call()


def test_a_full_disk_leaves_nothing(store: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("candlemark.models.store._sync", full)
    with pytest.raises(OSError, match="No space left"):
        save_model(tensors(), store)
    assert list(store.iterdir()) == []


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
    done = subprocess.run(command, check=True, capture_output=True, text=True)
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


# Loading into a module


def test_a_module_that_does_not_fit_is_told_what_and_stays_as_it_is(store: Path):
    save_model(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)), store)
    into = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(4, 2))
    before = {name: tensor.clone() for name, tensor in into.state_dict().items()}
    with pytest.raises(ModelError) as raised:
        load_model(store, into=into)
    message = str(raised.value)
    assert message.startswith("the saved tensors do not fit this Sequential: ")
    assert "2 missing: 2.weight, 2.bias; 2 unexpected: 1.bias, 1.weight" in message or (
        "2 missing: 2.weight, 2.bias; 2 unexpected: 1.weight, 1.bias" in message
    )
    assert "0.weight is saved as (4, 3), not (5, 3)" in message
    for name, tensor in into.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_many_misfits_are_counted_not_listed(store: Path):
    save_model({f"layer{number:02}": torch.ones(1) for number in range(30)}, store)
    with pytest.raises(ModelError, match=r"30 unexpected: layer00, .* and 22 more"):
        load_model(store, into=nn.Linear(1, 1))


def test_digits_are_not_lost_in_silence(store: Path):
    save_model(nn.Linear(2, 2), store)
    with pytest.raises(
        ModelError, match=r"weight is saved as torch\.float32 and would lose digits"
    ):
        load_model(store, into=nn.Linear(2, 2).bfloat16())
    assert load_model(store, into=nn.Linear(2, 2).double()).weight.dtype == torch.float64
    save_model({"weight": torch.ones(2, 2).to(torch.float8_e4m3fn), "bias": torch.ones(2)}, store)
    with pytest.raises(ModelError, match="float8_e4m3fn and would lose digits"):
        load_model(store, into=nn.Linear(2, 2))


def test_a_module_without_storage_is_told_how_to_get_some(store: Path):
    save_model(nn.Linear(2, 2), store)
    with pytest.raises(
        ModelError, match=r"on the meta device: call to_empty\(device='cpu'\) first"
    ):
        load_model(store, into=nn.Linear(2, 2, device="meta"))


def test_a_device_is_where_it_goes(store: Path):
    save_model(nn.Linear(2, 2), store)
    assert load_model(store, device=torch.device("cpu"))["weight"].device.type == "cpu"
    assert load_model(store, into=nn.Linear(2, 2), device="meta").weight.is_meta


def test_an_estimator_takes_no_module_and_no_device(store: Path):
    save_model(fitted(), store)
    for words in ({"into": nn.Linear(1, 1)}, {"device": "cpu"}):
        with pytest.raises(ConfigError, match="no network; leave into= and device= out"):
            load_model(store, trust=True, **words)


# Pickles


class Bomb(BaseEstimator):
    """Runs code when it is opened: it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.folder),)


def test_a_pickle_is_opened_only_with_trust(store: Path, tmp_path: Path):
    mark = tmp_path / "it_ran"
    saved = save_model(Bomb(mark), store, metrics={"auroc": 1.0})
    list_models(store)
    find_model(store, "best", metric="auroc")
    prune(store, keep=1)
    assert damaged_files(saved) == []
    with pytest.raises(ModelError) as raised:
        load_model(store)
    assert not mark.exists()
    message = str(raised.value)
    assert "model.joblib is a pickle" in message
    assert "a pickle can run any code when it is opened" in message
    assert "check that you or someone you trust saved it" in message
    assert message.endswith(f"load_model('{saved.path}', trust=True)")
    load_model(store, trust=True)
    assert mark.exists()


def test_other_bytes_than_were_saved_are_not_opened_even_with_trust(store: Path, tmp_path: Path):
    mark = tmp_path / "it_ran"
    saved = save_model(fitted(), store)
    file = saved.path / "model.joblib"
    bomb = pickle.dumps(Bomb(mark))
    file.write_bytes(bomb + b"\0" * (file.stat().st_size - len(bomb)))
    with pytest.raises(
        ModelError, match=r"model\.joblib is damaged: its SHA-256 is \w{12}\.\.\., mo"
    ):
        load_model(store, trust=True)
    assert not mark.exists()


def test_a_pickle_under_the_name_of_safetensors_is_never_opened(store: Path, tmp_path: Path):
    mark = tmp_path / "it_ran"
    saved = save_model(tensors(), store)
    bomb = pickle.dumps(Bomb(mark))
    (saved.path / "model.safetensors").write_bytes(bomb)
    entry = {"size_bytes": len(bomb), "sha256": hashlib.sha256(bomb).hexdigest()}
    edit(saved.path, files={"model.safetensors": entry})
    with pytest.raises(ModelError, match="is no safetensors file"):
        load_model(store, trust=True)
    edit(saved.path, files={"model.pkl": entry})
    (saved.path / "model.pkl").write_bytes(bomb)
    with pytest.raises(
        ModelError, match=r"it names the files 'model\.pkl'; a model of kind tensors"
    ):
        load_model(store, trust=True)
    assert not mark.exists()


def test_another_scikit_learn_is_one_warning_that_names_both(store: Path):
    model = fitted()
    model.named_steps["standardscaler"].__class__ = Old
    saved = save_model(model, store)
    edit(saved.path, libraries=dict(saved.libraries) | {"scikit-learn": "1.0.2"})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load_model(store, trust=True)
    (warning,) = caught
    assert "was saved with scikit-learn 1.0.2 and is loaded with 1." in str(warning.message)
    assert warning.category is UserWarning
    assert warning.filename == __file__


class Old(StandardScaler):
    """Pickles itself as an older scikit-learn would, so that the real one warns when it is read."""

    __module__ = "sklearn.preprocessing._data"

    def __getstate__(self) -> Any:
        return {**super().__getstate__(), "_sklearn_version": "1.0.2"}

    def __reduce__(self) -> Any:
        return StandardScaler, (), self.__getstate__()


def test_a_class_that_is_not_there_is_named(store: Path, monkeypatch: pytest.MonkeyPatch):
    save_model(Bomb(Path("unused")), store)
    model = Gone()
    save_model(model, store)
    monkeypatch.delattr(sys.modules[Gone.__module__], "Gone")
    with pytest.raises(ModelError, match=r"needs what is not here: .*Gone.*; install or import"):
        load_model(store, trust=True)


class Gone(BaseEstimator):
    """Pickled by its name in this module."""


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
    return json.loads((folder / "model.json").read_text())["files"]


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
        path.write_text(path.read_text().replace("123.5", text))

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
    (store / broken / "model.json").write_text("{")
    assert find_model(store, "best", metric="auroc").version == whole
    assert [event.kind for event in told] == ["warning"]
    assert told[0].text.startswith(f"{broken} was not looked at: model.json is damaged")


def test_the_best_one_damaged_is_an_error_not_the_second_best(store: Path):
    scored(store, 0.5)
    (best,) = scored(store, 0.9)
    (store / best / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=f"{best} cannot be loaded: model.safetensors is missing"):
        load_model(store, "best", metric="auroc")


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
        (store / name / "model.json").write_text("{}")
    with_notes = save_model(tensors(), store)
    (with_notes.path / "notes.txt").write_text("precious")
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
    (left / "model.json").write_text("{}")
    (left / "precious").write_text("")
    outside = store.parent / "outside"
    outside.mkdir()
    (outside / "model.json").write_text("{}")
    (store / ".pruning_fedcba9876543210").symlink_to(outside)
    prune(store, keep=1)
    assert [entry.name for entry in left.iterdir()] == ["precious"]
    assert (outside / "model.json").exists()


def test_what_changed_since_it_was_agreed_on_stays(store: Path):
    save_model(tensors(), store)
    plan = prune(store, keep=0, dry_run=True)
    (plan.removed[0].path / "notes.txt").write_text("precious")
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
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        assert done.stdout == modules


def test_a_file_that_is_called_like_a_leftover_stays(store: Path):
    save_model(tensors(), store)
    strange = store / f".saving_{'0' * 16}"
    strange.write_text("not a folder")
    os.utime(strange, (0, 0))
    prune(store, keep=1)
    assert strange.read_text() == "not a folder"
