"""The catalog against the published counts, and how names become specs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from candlemark.errors import ModelError
from candlemark.models.catalog import CATALOG, MODEL_SETS, ModelSpec, resolve

PUBLISHED = {
    "timm/edgenext_xx_small.in1k": 1_327_216,
    "timm/mobilenetv3_small_100.lamb_in1k": 2_542_856,
    "timm/ghostnet_100.in1k": 5_182_508,
    "google/efficientnet-b0": 5_288_548,
    "facebook/levit-128S": 7_777_058,
    "microsoft/resnet-50": 25_557_032,
    "microsoft/swin-tiny-patch4-window7-224": 28_288_354,
    "facebook/convnext-tiny-224": 28_589_128,
    "google/vit-base-patch16-224": 86_567_656,
}


def build_outline(spec: ModelSpec, architecture: str = "") -> tuple[str, int]:
    """(class name, parameter count) with 1000 classes, without allocating memory."""
    import timm
    import torch
    import transformers

    with torch.device("meta"):
        if spec.library == "timm":
            network = timm.create_model(spec.architecture, num_classes=1000)
        else:
            config = getattr(transformers, spec.config_class)(**spec.config, num_labels=1000)
            network = getattr(transformers, architecture or spec.architecture)(config)
    return type(network).__name__, sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize("model_id", list(PUBLISHED))
def test_published_parameter_counts(model_id: str) -> None:
    spec = CATALOG[model_id]
    assert spec.parameters == PUBLISHED[model_id]
    assert build_outline(spec)[1] == PUBLISHED[model_id]


def test_every_other_count_in_the_catalog_is_true() -> None:
    for model_id in CATALOG.keys() - PUBLISHED.keys():
        assert build_outline(CATALOG[model_id])[1] == CATALOG[model_id].parameters


def test_levit_counts_with_and_without_the_teachers_head() -> None:
    spec = CATALOG["facebook/levit-128S"]
    assert build_outline(spec) == ("LevitForImageClassificationWithTeacher", 7_777_058)
    assert build_outline(spec, "LevitForImageClassification")[1] == 7_391_290


@pytest.mark.parametrize(
    "model_id", [name for name in PUBLISHED if CATALOG[name].library == "transformers"]
)
def test_configs_agree_with_the_second_source(model_id: str, shared_data: Path) -> None:
    import transformers

    spec = CATALOG[model_id]
    ours = getattr(transformers, spec.config_class)(**spec.config).to_dict()
    theirs = json.loads(
        (shared_data / "configs" / model_id / "config.json").read_text(encoding="utf-8")
    )
    # Names of the classes and of the version that wrote the file shape no tensor.
    harmless = {"architectures", "transformers_version", "id2label", "label2id"}
    different = {
        key: (ours.get(key), value)
        for key, value in theirs.items()
        if key not in harmless and json.loads(json.dumps(ours.get(key))) != value
    }
    assert different == {}
    assert theirs["architectures"] == [spec.architecture]


def test_sets_hold_known_models_and_full_holds_the_nine() -> None:
    assert set(MODEL_SETS["full_benchmark"]) == set(PUBLISHED)
    assert {name: len(ids) for name, ids in MODEL_SETS.items()} == {
        "quick_test": 2,
        "lightweight": 3,
        "balanced": 5,
        "full_benchmark": 9,
        "transformers_only": 3,
        "cnns_only": 6,
        "demo": 2,
    }
    for ids in MODEL_SETS.values():
        assert set(ids) <= CATALOG.keys()
    assert all(CATALOG[name].id == name for name in CATALOG)


def test_resolve_knows_catalog_ids_with_and_without_owner() -> None:
    assert resolve("google/efficientnet-b0") is CATALOG["google/efficientnet-b0"]
    assert resolve("ghostnet_100.in1k") is CATALOG["timm/ghostnet_100.in1k"]


def test_resolve_asks_timm_for_any_of_its_names() -> None:
    spec = resolve("resnet18.a1_in1k")
    assert (spec.id, spec.library, spec.family) == ("timm/resnet18.a1_in1k", "timm", "cnn")
    assert resolve("timm/vit_tiny_patch16_224").fixed_size


def test_resolve_names_the_nearest_id() -> None:
    with pytest.raises(ModelError, match="did you mean 'google/efficientnet-b0'"):
        resolve("google-efficientnet-b0")


def test_resolve_tells_the_library_from_config_json(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(
        '{"model_type": "resnet", "architectures": ["ResNetForImageClassification"]}',
        encoding="utf-8",
    )
    spec = resolve(str(tmp_path))
    assert (spec.library, spec.architecture) == ("transformers", "ResNetForImageClassification")
    with pytest.raises(ModelError, match="timm cannot load it"):
        resolve(str(tmp_path), library="timm")
    config.write_text('{"architecture": "resnet18"}', encoding="utf-8")
    assert resolve(str(tmp_path)).library == "timm"
    config.write_text("{}", encoding="utf-8")
    with pytest.raises(ModelError, match="names neither"):
        resolve(str(tmp_path))
    config.write_text("{", encoding="utf-8")
    with pytest.raises(ModelError, match="no readable JSON"):
        resolve(str(tmp_path))
    config.unlink()
    with pytest.raises(ModelError, match=r"holds no config\.json"):
        resolve(str(tmp_path))


@pytest.fixture
def offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package that offers one model, and one thing that is none."""
    (tmp_path / "other_models.py").write_text(
        "from candlemark.models.catalog import ModelSpec\n"
        "tiny = ModelSpec(id='lab/tiny', library='timm', family='cnn', image_size=64,\n"
        "    parameters=None, fixed_size=False, architecture='test_resnet')\n"
        "wrong = 3\n",
        encoding="utf-8",
    )
    metadata = tmp_path / "other_models-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: other-models\nVersion: 1.0\n", encoding="utf-8"
    )
    (metadata / "entry_points.txt").write_text(
        "[candlemark.models]\nlab/tiny = other_models:tiny\nlab/wrong = other_models:wrong\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("offered")
def test_an_installed_package_can_offer_a_model() -> None:
    spec = resolve("lab/tiny")
    assert (spec.id, spec.architecture) == ("lab/tiny", "test_resnet")
    with pytest.raises(ModelError, match=r"entry point lab/wrong = other_models:wrong is int"):
        resolve("lab/wrong")
