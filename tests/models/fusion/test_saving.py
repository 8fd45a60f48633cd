"""A model folder: read by others, byte for byte the same, whole or refused in one line."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoTokenizer

from candlemark.errors import ModelError
from candlemark.models.fusion.building import build_fusion
from candlemark.models.fusion.modeling import FORMAT, FusionConfig, FusionModel
from candlemark.models.fusion.saving import load_fusion, read_training, save_fusion
from candlemark.models.fusion.spec import FusionSpec

Make = Callable[..., Any]


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


@pytest.fixture
def saved(make_fusion: Make, tmp_path: Path) -> tuple[Any, Path]:
    """A model and its folder."""
    fusion = make_fusion()
    return fusion, save_fusion(fusion, tmp_path / "model", training={"epochs": 3}, pickle=True)


@pytest.fixture(scope="module")
def folder_of_one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model that several tests copy."""
    spec = FusionSpec(text_encoder="tiny:bert", image_encoder="tiny:vit", weights="random")
    fusion = build_fusion(
        spec,
        class_names=("bearish", "neutral", "bullish"),
        image_shape=(32, 48),
        window=8,
        texts=["Price goes up."],
        seed=0,
    )
    fusion.config.returns = {"mean": 0.0, "std": 0.02, "residual_low": None}
    return save_fusion(fusion, tmp_path_factory.mktemp("one") / "model", training={})


@pytest.mark.parametrize("inputs", ["both", "image", "text", "numbers"])
def test_what_is_loaded_answers_as_what_was_saved(
    make_fusion: Make, make_inputs: Make, tmp_path: Path, inputs: str
) -> None:
    fusion = make_fusion(inputs=inputs)
    fusion.config.returns = {"mean": 1e-4, "std": 0.02}
    fusion.config.chart |= {"style": {"kind": "ohlc4"}}
    folder = save_fusion(fusion, tmp_path / "model", training={})
    again = load_fusion(folder)
    raw = make_inputs(fusion)
    expected, found = fusion.model(**fusion.prepare(raw)), again.model(**again.prepare(raw))
    assert torch.equal(found.logits, expected.logits)
    assert torch.equal(found.forecast, expected.forecast)
    assert again.config.returns == fusion.config.returns
    assert again.config.chart == fusion.config.chart
    assert again.config.origin == fusion.config.origin
    assert not again.model.training
    for name in ("parameters", "inputs", "vocabulary_size", "encoder_weights"):
        assert again.facts[name] == fusion.facts[name]
    assert (again.tokenizer is None) == (inputs in {"image", "numbers"})
    assert (folder / "preprocessor_config.json").exists() == (inputs in {"both", "image"})


def test_the_same_model_gives_the_same_bytes(
    saved: tuple[Any, Path], make_fusion: Make, tmp_path: Path
) -> None:
    _, folder = saved
    told = {"epochs": 3}
    other = save_fusion(make_fusion(), tmp_path / "b", training=told, pickle=True)
    assert hashes(other) == hashes(folder)
    again = save_fusion(load_fusion(folder), tmp_path / "c", training=told, pickle=True)
    assert hashes(again) == hashes(folder)
    assert set(hashes(folder)) == {
        "config.json",
        "model.safetensors",
        "modeling.py",
        "preprocessor_config.json",
        "pytorch_model.bin",
        "tokenizer.json",
        "tokenizer_config.json",
        "training.json",
    }
    assert not list(tmp_path.glob(".*"))
    assert str(tmp_path) not in (folder / "config.json").read_text(encoding="utf-8")


def test_auto_classes_know_it_and_lose_nothing(saved: tuple[Any, Path], tmp_path: Path) -> None:
    fusion, folder = saved
    config = AutoConfig.from_pretrained(folder)
    assert isinstance(config, FusionConfig)
    model = AutoModel.from_pretrained(folder)
    assert isinstance(model, FusionModel)
    for name, tensor in fusion.model.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name
    model.save_pretrained(tmp_path / "again")
    for name in ("config.json", "model.safetensors", "modeling.py"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes(), name


def test_what_asks_for_no_gradient_stays_so(make_fusion: Make, tmp_path: Path) -> None:
    fusion = make_fusion(image_encoder="timm/mobilenetv3_small_100.lamb_in1k", shape=(64, 96))
    again = load_fusion(save_fusion(fusion, tmp_path / "model", training={}))
    still = [name for name, one in again.model.named_parameters() if not one.requires_grad]
    assert still == fusion.facts["unused_parameters"]
    assert len(still) == 2


def test_it_loads_where_there_is_no_candlemark(
    saved: tuple[Any, Path], make_inputs: Make, tmp_path: Path
) -> None:
    """As a stranger would: the folder alone, with its own code."""
    fusion, folder = saved
    raw = make_inputs(fusion)
    ready = fusion.prepare(raw)
    torch.save(ready, tmp_path / "inputs.pt")
    program = textwrap.dedent("""
        import sys

        class Nobody:
            def find_spec(self, name, path=None, target=None):
                if name.split(".")[0] == "candlemark":
                    raise ImportError(f"{name} is not installed here")

        sys.meta_path.insert(0, Nobody())
        import torch
        from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

        folder, inputs, answer = sys.argv[1:]
        model = AutoModel.from_pretrained(folder, trust_remote_code=True)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        AutoImageProcessor.from_pretrained(folder)
        assert "candlemark" not in sys.modules
        read = tokenizer(["Price goes up."], return_tensors="pt")
        pixels = torch.zeros(1, 3, *model.config.chart["image_shape"])
        with torch.no_grad():
            model(pixel_values=pixels, **read)
            output = model(**torch.load(inputs, weights_only=True))
        torch.save({"logits": output.logits, "forecast": output.forecast}, answer)
    """)
    environment = {
        **os.environ,
        "HF_MODULES_CACHE": str(tmp_path / "modules"),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
    subprocess.run(
        [sys.executable, "-c", program, folder, tmp_path / "inputs.pt", tmp_path / "answer.pt"],
        env=environment,
        check=True,
        cwd=tmp_path,
        timeout=120,
    )
    found = torch.load(tmp_path / "answer.pt", weights_only=True)
    expected = fusion.model(**ready)
    torch.testing.assert_close(found["logits"], expected.logits, atol=1e-5, rtol=0)
    torch.testing.assert_close(found["forecast"], expected.forecast, atol=1e-5, rtol=0)


def test_weights_load_by_the_name_that_some_ask_for(
    saved: tuple[Any, Path], tmp_path: Path
) -> None:
    fusion, folder = saved
    state = torch.load(folder / "pytorch_model.bin", weights_only=True)
    # As published examples do it: the names are those of the network, not of the safetensors.
    plain = FusionModel(FusionConfig.from_pretrained(folder))
    plain.load_state_dict(state)
    for name, tensor in fusion.model.state_dict().items():
        assert torch.equal(plain.state_dict()[name], tensor), name
    only = tmp_path / "only"
    shutil.copytree(folder, only)
    (only / "model.safetensors").unlink()
    for model in (
        FusionModel.from_pretrained(only, use_safetensors=False),
        load_fusion(only, allow_pickle=True).model,
    ):
        for name, tensor in fusion.model.state_dict().items():
            assert torch.equal(model.state_dict()[name], tensor), name
    with pytest.raises(ModelError, match="holds only a pickle"):
        load_fusion(only)


def test_others_read_pictures_and_texts_as_we_do(
    saved: tuple[Any, Path], make_inputs: Make
) -> None:
    fusion, folder = saved
    raw = make_inputs(fusion, count=2)
    ours = fusion.prepare(raw)
    processor = AutoImageProcessor.from_pretrained(folder)
    colours = [Image.fromarray(np.repeat(one.numpy()[..., None], 3, 2)) for one in raw["images"]]
    greys = [Image.fromarray(one.numpy()) for one in raw["images"]]
    for pictures in (colours, greys):
        theirs = processor(pictures, return_tensors="pt")["pixel_values"]
        torch.testing.assert_close(theirs, ours["pixel_values"], atol=1e-5, rtol=0)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = "Price goes up, from 8 % to 91 % of its range."
    assert dict(tokenizer(text)) == dict(fusion.tokenizer(text))


def test_a_folder_appears_whole_or_not_at_all(
    saved: tuple[Any, Path], make_fusion: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, folder = saved
    before = hashes(folder)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    fusion = make_fusion(seed=1)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        with pytest.raises(ModelError, match=r"cannot write .*No space left"):
            save_fusion(fusion, folder, training={}, pickle=True)
        with pytest.raises(ModelError, match="No space left"):
            save_fusion(fusion, folder.parent / "new", training={}, pickle=True)
    assert hashes(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_a_second_save_replaces_the_model_and_keeps_the_card(
    saved: tuple[Any, Path], make_fusion: Make
) -> None:
    _, folder = saved
    (folder / "README.md").write_text("my own words", encoding="utf-8")
    (folder / "pictures").mkdir()
    (folder / "pictures" / "attention.png").write_bytes(b"png")
    save_fusion(make_fusion(inputs="numbers"), folder, training={"epochs": 4})
    assert {path.name for path in folder.iterdir()} == {
        *("config.json", "model.safetensors", "modeling.py", "training.json"),
        *("README.md", "pictures"),
    }
    assert (folder / "README.md").read_text(encoding="utf-8") == "my own words"
    assert (folder / "pictures" / "attention.png").read_bytes() == b"png"
    assert read_training(folder) == {"epochs": 4}
    assert load_fusion(folder).config.inputs == "numbers"


def test_a_link_and_the_folder_one_is_in_are_written_to(
    make_fusion: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fusion = make_fusion(inputs="numbers")
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    for _ in range(2):  # new, and in the place of one
        assert save_fusion(fusion, tmp_path / "link", training={}) == tmp_path / "link"
        assert (tmp_path / "link").is_symlink()
        assert load_fusion(tmp_path / "disk").config.inputs == "numbers"
    assert {path.name for path in tmp_path.iterdir()} == {"disk", "link"}
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    save_fusion(fusion, Path(), training={})
    assert load_fusion(tmp_path / "here").config.inputs == "numbers"


def test_what_is_no_model_is_not_written_over(make_fusion: Make, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "thesis.txt").write_text("years of work", encoding="utf-8")
    with pytest.raises(ModelError, match="holds something that is no fusion model"):
        save_fusion(make_fusion(inputs="numbers"), tmp_path / "notes", training={})
    with pytest.raises(ModelError, match="is a file; a model is written as a folder"):
        save_fusion(make_fusion(inputs="numbers"), tmp_path / "notes" / "thesis.txt", training={})
    assert (tmp_path / "notes" / "thesis.txt").read_text(encoding="utf-8") == "years of work"
    for told in ({"loss": float("nan")}, {"path": tmp_path}):
        with pytest.raises(ModelError, match="training cannot be kept as JSON"):
            save_fusion(make_fusion(inputs="numbers"), tmp_path / "new", training=told)
    assert not (tmp_path / "new").exists()


def change_config(folder: Path, **fields: Any) -> None:
    file = folder / "config.json"
    file.write_text(
        json.dumps(json.loads(file.read_text(encoding="utf-8")) | fields), encoding="utf-8"
    )


def test_folders_of_other_versions_are_told_apart(saved: tuple[Any, Path]) -> None:
    _, folder = saved
    change_config(folder, format=FORMAT + 1)
    newer = rf"has format {FORMAT + 1}; this candlemark reads up to {FORMAT}: update it"
    with pytest.raises(ModelError, match=newer):
        load_fusion(folder)
    change_config(folder, format="first")
    with pytest.raises(ModelError, match="names no format"):
        load_fusion(folder)
    change_config(folder, format=FORMAT, model_type="bert")
    with pytest.raises(ModelError, match="is a model of type 'bert', not 'candlemark_fusion'"):
        load_fusion(folder)


def test_an_older_folder_is_told_apart(
    saved: tuple[Any, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, folder = saved
    monkeypatch.setattr("candlemark.models.fusion.saving.FORMAT", FORMAT + 1)
    with pytest.raises(ModelError, match=rf"has format {FORMAT}; .* reads {FORMAT + 1}: train it"):
        load_fusion(folder)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("config.json", r"config\.json is damaged"),
        ("model.safetensors", r"model\.safetensors is damaged, or of another model"),
        ("tokenizer.json", "the tokenizer of .* cannot be read"),
    ],
)
def test_a_cut_file_is_one_line(saved: tuple[Any, Path], name: str, message: str) -> None:
    _, folder = saved
    cut(folder / name)
    with pytest.raises(ModelError, match=message) as caught:
        load_fusion(folder)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("chart", {}),
        ("chart.image_shape", "x"),
        ("chart.input_shape", None),
        ("chart.mean", [0.5]),
        ("chart.std", [0.0, 1.0, 1.0]),
        ("image_tokens.grid", [4]),
        ("image_tokens.prefix", -1),
        ("id2label", {"0": "bearish"}),
        ("id2label", {"1": "bearish", "2": "bullish"}),
        ("id2label.1", []),
        ("returns.std", "wide"),
        ("returns.residual_low", []),
        ("origin.weights", None),
        ("origin.symbols", 1),
        ("max_tokens", None),
        ("caption", {}),
        ("dtype", []),
    ],
)
def test_a_field_that_is_none_is_one_line(
    folder_of_one: Path, tmp_path: Path, field: str, value: Any
) -> None:
    folder = Path(shutil.copytree(folder_of_one, tmp_path / "model"))
    file = folder / "config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    *parents, last = field.split(".")
    part = config
    for parent in parents:
        part = part[parent]
    part[last] = value
    file.write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ModelError, match=r"config\.json is damaged: ") as caught:
        load_fusion(folder)
    assert "\n" not in str(caught.value)


def test_a_cut_pickle_and_a_cut_story_are_one_line(saved: tuple[Any, Path]) -> None:
    _, folder = saved
    (folder / "model.safetensors").unlink()
    cut(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"pytorch_model\.bin is damaged"):
        load_fusion(folder, allow_pickle=True)
    cut(folder / "training.json")
    with pytest.raises(ModelError, match=r"training\.json is damaged"):
        read_training(folder)


def test_a_missing_file_is_one_line(saved: tuple[Any, Path], tmp_path: Path) -> None:
    _, folder = saved
    (folder / "training.json").unlink()
    assert read_training(folder) == {}
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"lacks tokenizer\.json: a model that reads texts"):
        load_fusion(folder)
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(ModelError, match="holds no weights"):
        load_fusion(folder)
    (folder / "config.json").unlink()
    with pytest.raises(ModelError, match=r"holds no config\.json.*candlemark fuse train"):
        load_fusion(folder)


def test_weights_and_config_must_belong_together(saved: tuple[Any, Path]) -> None:
    _, folder = saved
    file = folder / "model.safetensors"
    state = load_file(file)
    name = "head.classifier.3.bias"
    for changed, message in (
        ({key: one for key, one in state.items() if key != name}, f"it lacks {name}"),
        ({**state, "head.more": torch.zeros(2)}, r"it holds head\.more, which has no place"),
        ({**state, name: torch.zeros(5)}, "of another model"),
    ):
        save_file(changed, file, metadata={"format": "pt"})
        with pytest.raises(ModelError, match=message) as caught:
            load_fusion(folder)
        assert "\n" not in str(caught.value)


def test_code_in_a_folder_is_not_run(saved: tuple[Any, Path], tmp_path: Path) -> None:
    _, folder = saved
    (folder / "modeling.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n", encoding="utf-8")
    load_fusion(folder)
    assert not (tmp_path / "ran").exists()


def test_a_model_on_the_hub_is_loaded_by_its_id(
    saved: tuple[Any, Path], hub_double: Any, make_inputs: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    from candlemark.hub.publish import push_model
    from candlemark.models import files

    fusion, folder = saved
    # A process reads these once; this one began without a Hub.
    place = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, hub_double.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", place)
    monkeypatch.setattr(constants, "ENDPOINT", hub_double.url)
    monkeypatch.setattr(files, "_silent", {})
    push_model(folder, "tester/fused", private=True)
    again = load_fusion("tester/fused")
    ready = fusion.prepare(make_inputs(fusion))
    assert torch.equal(again.model(**ready).logits, fusion.model(**ready).logits)
    assert read_training("tester/fused") == {"epochs": 3}
    asked = len(hub_double.asked("GET", "resolve"))
    load_fusion("tester/fused")
    assert len(hub_double.asked("GET", "resolve")) == asked  # what is in the cache is not asked for
    with pytest.raises(ModelError, match="nobody/nothing"):
        load_fusion("nobody/nothing")
