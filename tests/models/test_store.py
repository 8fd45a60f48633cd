"""The store of models: what goes in comes out, and nothing else is believed."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import sys
import warnings
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

from candlemark.config import Config
from candlemark.errors import ConfigError, ModelError
from candlemark.metrics.catalog import METRICS
from candlemark.models.saved import DIRECTIONS, damaged_files, version_key
from candlemark.models.store import load_model, save_model
from candlemark.models.versions import find_model, list_models, prune


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


def edit(folder: Path, **changes: Any) -> None:
    """Change keys of a saved model's model.json."""
    path = folder / "model.json"
    path.write_text(
        json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8"
    )


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
    file.write_text("", encoding="utf-8")
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
