"""What was published, loaded by the clients that people use, in a process of their own."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from candlemark.config import parse
from candlemark.dataset.build import build_dataset
from candlemark.dataset.captions import captions
from candlemark.dataset.config import DatasetConfig
from candlemark.hub.publish import push_dataset, push_model
from candlemark.hub.pull import pull

CLASSES = ("bearish", "neutral", "bullish")


def run(program: str, double: Any, folder: Path) -> Any:
    """What a program prints last, as JSON; the Hub is found by its variables alone."""
    import os

    environment = {
        **os.environ,
        **double.environment(folder / "home"),
        "OMP_NUM_THREADS": "1",
        "PYTHONWARNINGS": "ignore",
    }
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        cwd=folder,
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


LOAD_DATASET = """
import hashlib, json
import datasets, numpy

def seen(image):
    return hashlib.sha256(numpy.asarray(image).tobytes()).hexdigest()

splits = datasets.load_dataset("tester/walk")
print(json.dumps({
    name: {
        "fields": list(split.features),
        "names": split.features["label"].names,
        "pixels": [seen(image) for image in split["image"]],
        **{field: split[field][:] for field in ("text", "label", "next_close", "image_path")},
    }
    for name, split in splits.items()
}))
"""


def test_load_dataset_gives_splits_and_fields_with_the_same_pixels(
    hub_double: Any, tmp_path: Path
) -> None:
    pytest.importorskip("datasets")
    values = {
        "candles": {"kind": "random_walk", "count": 300, "seed": 1},
        "window": 8,
        "label": {"name": "next_candle"},
        "style": {"kind": "candlestick", "height": 32, "width": 40},
        "max_samples": 60,
    }
    dataset = build_dataset(parse(DatasetConfig, values), tmp_path / "data")
    push_dataset(dataset, "tester/walk", private=True)
    found = run(LOAD_DATASET, hub_double, tmp_path)
    assert list(found) == ["train", "validation", "test"]
    for name, split in found.items():
        rows = dataset.split(name)
        known = dataset.metadata(rows)
        assert split["fields"] == ["image", "text", "label", "next_close", "image_path"]
        assert split["names"] == list(dataset.class_names)
        assert split["pixels"] == [
            hashlib.sha256(image.tobytes()).hexdigest() for image in dataset.images(rows)
        ]
        assert split["text"] == captions(dataset, rows)
        assert split["label"] == known["target"]
        assert split["next_close"] == known["next_close"]
        assert len(set(split["image_path"])) == len(rows)

    # What is pulled is what was pushed, and loads from its folder the same.
    pull("tester/walk", "dataset", tmp_path / "pulled")
    here = {
        str(path.relative_to(tmp_path / "pulled")): path.read_bytes()
        for path in (tmp_path / "pulled").rglob("*")
        if path.is_file()
    }
    assert here == hub_double.files("tester/walk", "datasets")


LOAD_MODEL = """
import json, sys
class Absent:
    def find_spec(self, name, *_):
        if name.split(".")[0] == "candlemark":
            raise ImportError("there is no candlemark here")
sys.meta_path.insert(0, Absent())
import torch
from huggingface_hub import hf_hub_download
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer

model = AutoModel.from_pretrained("tester/fused", trust_remote_code=True).eval()
tokenizer = AutoTokenizer.from_pretrained("tester/fused")
# Its class is tried beside the model's own tests: importing it takes longer than all of this.
processor = json.load(open(hf_hub_download("tester/fused", "preprocessor_config.json")))
safe = load_file(hf_hub_download("tester/fused", "model.safetensors"))
plain = torch.load(hf_hub_download("tester/fused", "pytorch_model.bin"), weights_only=True)
state = model.state_dict()
words = tokenizer(["Price goes up."], return_tensors="pt")
with torch.no_grad():
    said = model(
        pixel_values=torch.zeros(1, 3, *model.config.chart["input_shape"]),
        input_ids=words["input_ids"],
        attention_mask=words["attention_mask"],
    )
print(json.dumps({
    "logits": said.logits.tolist(),
    "forecast": said.forecast.tolist(),
    # Safetensors have some names that encoders were published with, so both are asked by value.
    "same": state.keys() == plain.keys() and all(torch.equal(state[k], plain[k]) for k in state),
    "numbers": [sum(t.numel() for t in kept.values()) for kept in (safe, plain)],
    "mean": processor["image_mean"],
    "labels": list(model.config.id2label.values()),
}))
"""


def test_automodel_and_files_by_name_load_what_was_trained(hub_double: Any, tmp_path: Path) -> None:
    import torch

    from candlemark.models.fusion.building import build_fusion
    from candlemark.models.fusion.saving import load_fusion, save_fusion
    from candlemark.models.fusion.spec import FusionSpec

    torch.set_num_threads(1)
    spec = FusionSpec(text_encoder="tiny:bert", image_encoder="tiny:vit", weights="random")
    fusion = build_fusion(
        spec,
        class_names=CLASSES,
        image_shape=(32, 48),
        window=12,
        texts=("Price goes up.", "Price goes down."),
        seed=0,
    )
    folder = save_fusion(fusion, tmp_path / "model", training={}, pickle=True)
    push_model(folder, "tester/fused", private=True)
    found = run(LOAD_MODEL, hub_double, tmp_path)

    model = load_fusion(folder).model.eval()
    words = fusion.tokenizer(["Price goes up."], return_tensors="pt")
    with torch.no_grad():
        said = model(
            pixel_values=torch.zeros(1, 3, *model.config.chart["input_shape"]),
            input_ids=words["input_ids"],
            attention_mask=words["attention_mask"],
        )
    torch.testing.assert_close(torch.tensor(found["logits"]), said.logits)
    torch.testing.assert_close(torch.tensor(found["forecast"]), said.forecast)
    assert found["same"]
    assert found["numbers"][0] == found["numbers"][1] > 0
    assert found["mean"] == pytest.approx(list(model.config.chart["mean"]))
    assert found["labels"] == list(CLASSES)

    pull("tester/fused", "model", tmp_path / "pulled")
    for path in folder.iterdir():
        assert (tmp_path / "pulled" / path.name).read_bytes() == path.read_bytes()
