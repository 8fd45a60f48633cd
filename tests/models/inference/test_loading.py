"""The door to every model: its table of builders, where weights are found, and what is refused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from candlemark.errors import ModelError
from candlemark.models.inference.base import MODEL_TASKS, InferenceModel, InputShape
from candlemark.models.inference.describe import describe
from candlemark.models.inference.loading import BUILDERS, builder, load_model
from candlemark.models.inference.request import LoadRequest
from candlemark.models.inference.tiny import TINY
from candlemark.models.inference.weights import weights_path, weights_sha256


@pytest.fixture(autouse=True)
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty Hub cache and no network; the folder of the cache."""
    from huggingface_hub import constants

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    torch.set_num_threads(1)
    return tmp_path / "hub"


def load(model_id: str, weights: str, **options: Any) -> InferenceModel:
    return load_model(model_id, weights=weights, shape=InputShape(), seed=0, **options)


def save(folder: Path, **options: Any) -> torch.nn.Module:
    torch.manual_seed(1)
    network = transformers.BertModel(transformers.BertConfig(**TINY["bert"].config)).eval()
    network.save_pretrained(folder, **options)
    return network


def in_cache(hub: Path, model_id: str) -> Path:
    """The folder of a model in the Hub cache, made."""
    place = hub / f"models--{model_id.replace('/', '--')}"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text("0123", encoding="utf-8")
    return place / "snapshots" / "0123"


def same(model: InferenceModel, network: torch.nn.Module) -> bool:
    ours: Any = model.module.network
    state = network.state_dict()
    return all(torch.equal(tensor, state[key]) for key, tensor in ours.state_dict().items())


def test_every_task_has_a_builder() -> None:
    assert set(BUILDERS) == set(MODEL_TASKS)
    for task in BUILDERS:
        assert callable(builder(task))


def test_weights_come_from_the_hub_cache_with_no_request(hub: Path) -> None:
    network = save(in_cache(hub, "someone/model"))
    model = load("someone/model", "pretrained")
    assert same(model, network)
    assert model.facts["weights_file"] == "model.safetensors"
    assert model.facts["inputs"] == "random token ids: the model has no tokenizer here"


def test_random_weights_of_a_cached_model_need_only_its_config(hub: Path) -> None:
    folder = in_cache(hub, "someone/model")
    save(folder)
    (folder / "model.safetensors").unlink()
    assert load("someone/model", "random").facts["parameters"] == 169_664
    with pytest.raises(ModelError, match=r"model.safetensors of someone/model is not in the Hub"):
        load("someone/model", "pretrained")


def test_known_models_say_how_they_can_be_had_without_a_network() -> None:
    with pytest.raises(ModelError, match=r"of gpt2 is not in the Hub cache.*--weights random"):
        load("gpt2", "pretrained")


def test_shards_are_put_together_and_each_counts_in_the_hash(tmp_path: Path) -> None:
    network = save(tmp_path / "model", max_shard_size="200KB")
    shards = sorted((tmp_path / "model").glob("model-*.safetensors"))
    assert len(shards) > 1
    model = load(str(tmp_path / "model"), "pretrained")
    assert same(model, network)
    index = tmp_path / "model" / "model.safetensors.index.json"
    assert model.facts["weights_file"] == index.name
    before = weights_sha256(index)
    assert model.facts["weights_sha256"] == before
    shards[-1].write_bytes(shards[-1].read_bytes() + b" ")
    assert weights_sha256(index) != before


def test_the_hash_of_one_file_is_its_sha256(tmp_path: Path) -> None:
    save(tmp_path / "model")
    file = tmp_path / "model" / "model.safetensors"
    assert weights_sha256(file) == hashlib.sha256(file.read_bytes()).hexdigest()


def test_a_pickle_is_loaded_only_with_leave(tmp_path: Path) -> None:
    network = save(tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").unlink()
    torch.save(network.state_dict(), tmp_path / "model" / "pytorch_model.bin")
    with pytest.raises(ModelError, match="--allow-pickle"):
        load(str(tmp_path / "model"), "pretrained")
    model = load(str(tmp_path / "model"), "pretrained", allow_pickle=True)
    assert same(model, network)
    assert model.facts["weights_file"] == "pytorch_model.bin"


def test_weights_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no weights at .*nowhere; allowed: pretrained, random"):
        load("tiny:bert", str(tmp_path / "nowhere"))


def test_a_config_that_the_library_cannot_take_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "bert", "hidden_size": 65, "num_attention_heads": 4}),
        encoding="utf-8",
    )
    with pytest.raises(
        ModelError, match=r"cannot build .*BertModel from random weights.*65"
    ) as seen:
        load(str(tmp_path), "random")
    assert "\n" not in str(seen.value)


@pytest.mark.parametrize(
    "setting",
    [{"hidden_size": "wide"}, {"num_attention_heads": 0}, {"architecture": "no_such_net"}],
)
def test_whatever_a_library_raises_for_a_config_is_one_line(
    tmp_path: Path, setting: dict[str, Any]
) -> None:
    kind = {} if "architecture" in setting else {"model_type": "bert"}
    (tmp_path / "config.json").write_text(json.dumps({**kind, **setting}), encoding="utf-8")
    with pytest.raises(
        ModelError, match=r"cannot build .* from random weights|no_such_net.*does not have"
    ) as seen:
        load(str(tmp_path), "random")
    assert "\n" not in str(seen.value)
    assert len(str(seen.value)) < 500


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("model.safetensors", "", "header too small"),
        ("model.safetensors", "x" * 100, "header too large"),
        ("pytorch_model.bin", "garbage", "UnpicklingError"),
        ("model.safetensors.index.json", "{", "is no index of shards"),
        ("model.safetensors.index.json", "{}", "is no index of shards.*weight_map"),
        ("model.safetensors.index.json", "[]", "is no index of shards"),
        ("model.safetensors.index.json", '{"weight_map": {"a": "b"}}', "a shard it does not have"),
    ],
)
def test_damaged_weights_are_one_line(tmp_path: Path, name: str, content: str, said: str) -> None:
    save(tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").unlink()
    (tmp_path / "model" / name).write_text(content, encoding="ascii")
    for model_id, weights in (
        (str(tmp_path / "model"), "pretrained"),
        ("tiny:bert", str(tmp_path / "model")),
    ):
        with pytest.raises(ModelError, match=said) as seen:
            load(model_id, weights, allow_pickle=True)
        assert "\n" not in str(seen.value)


@pytest.mark.parametrize("name", ["model.fp16.safetensors", "pytorch_model.old.safetensors"])
def test_weights_may_be_called_nearly_as_the_library_calls_them(tmp_path: Path, name: str) -> None:
    network = save(tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").rename(tmp_path / "model" / name)
    assert same(load(str(tmp_path / "model"), "pretrained"), network)
    assert same(load("tiny:bert", str(tmp_path / "model" / name)), network)


@pytest.mark.parametrize("content", ["{}", "garbage", "[]"])
def test_a_damaged_tokenizer_is_one_line(tmp_path: Path, content: str) -> None:
    save(tmp_path / "model")
    (tmp_path / "model" / "tokenizer.json").write_text(content, encoding="utf-8")
    with pytest.raises(ModelError, match=r"the tokenizer of .* cannot be read: .*; see ") as seen:
        load(str(tmp_path / "model"), "random")
    assert "\n" not in str(seen.value)


@pytest.mark.parametrize(
    ("vocabulary", "said"),
    [
        ([], "cannot read: .*a part of its files may be missing"),
        (
            ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *map(str, range(2000)), "the"],
            "gives the id 2005, and the model has 1024 tokens: these are files of another model",
        ),
    ],
)
def test_a_tokenizer_that_does_not_fit_is_refused(
    tmp_path: Path, vocabulary: list[str], said: str
) -> None:
    save(tmp_path / "model")
    (tmp_path / "model" / "vocab.txt").write_text("\n".join(vocabulary), encoding="utf-8")
    with pytest.raises(ModelError, match=said):
        load(str(tmp_path / "model"), "random")


def test_a_tokenizer_that_knows_no_english_says_so(tmp_path: Path) -> None:
    save(tmp_path / "model")
    vocabulary = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nkerze\n"
    (tmp_path / "model" / "vocab.txt").write_text(vocabulary, encoding="utf-8")
    model = load(str(tmp_path / "model"), "random")
    assert str(model.facts["inputs"]).endswith("synthetic English, of which it knows no word")


def test_the_end_of_memory_is_no_fault_of_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def build(_: LoadRequest) -> InferenceModel:
        raise MemoryError

    monkeypatch.setattr("candlemark.models.inference.text.build_text_encoder", build)
    with pytest.raises(MemoryError):
        load("tiny:bert", "random")


def test_code_from_the_hub_is_not_run(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(
        json.dumps(
            {
                "model_type": "mine",
                "architectures": ["MineModel"],
                "auto_map": {"AutoConfig": "mine.Mine", "AutoModel": "mine.MineModel"},
            }
        ),
        encoding="utf-8",
    )
    (tmp_path / "mine.py").write_text("raise SystemExit('ran')\n", encoding="utf-8")
    with pytest.raises(ModelError, match="runs only with code from the Hub"):
        load(str(tmp_path), "random")


def test_loading_says_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    save(tmp_path / "model")
    capfd.readouterr()
    load(str(tmp_path / "model"), "pretrained")
    assert capfd.readouterr() == ("", "")


def test_files_beside_a_model_are_looked_for_with_its_weights_first(
    hub: Path, tmp_path: Path
) -> None:
    folder = in_cache(hub, "someone/model")
    save(folder)
    save(tmp_path / "mine")
    for place, names in ((folder, ("a.json", "b.json")), (tmp_path / "mine", ("a.json",))):
        for name in names:
            (place / name).write_text("{}", encoding="utf-8")
    described = describe("someone/model")
    at_home = LoadRequest(
        described=described,
        file=weights_path(described, allow_pickle=False),
        shape=InputShape(),
    )
    assert at_home.beside("a.json") == folder / "a.json"
    assert at_home.beside("c.json") is None  # the Hub cannot be asked, so there is none
    mine = LoadRequest(
        described=described, file=tmp_path / "mine" / "model.safetensors", shape=InputShape()
    )
    assert mine.beside("a.json") == tmp_path / "mine" / "a.json"
    assert mine.beside("b.json") == folder / "b.json"


def test_the_callers_random_state_is_left_alone() -> None:
    before = torch.get_rng_state()
    load("tiny:vit", "random")
    load("tiny:whisper", "random")
    assert torch.equal(torch.get_rng_state(), before)
