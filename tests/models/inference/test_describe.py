"""What a model is, told from its id and its config, with no torch and no network."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from candlemark.errors import ModelError
from candlemark.models.catalog import CATALOG
from candlemark.models.inference.base import MODEL_TASKS
from candlemark.models.inference.classes import tables
from candlemark.models.inference.describe import describe
from candlemark.models.inference.known import ALIASES, KNOWN
from candlemark.models.inference.tiny import TINY


@pytest.fixture(autouse=True)
def offline_without_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No test asks the network, whatever lies in this machine's Hub cache."""
    from huggingface_hub import constants

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def folder_with(path: Path, config: Any) -> str:
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("class_name", "model_type", "task", "built"),
    [
        ("BertModel", "bert", "text-encoder", "BertModel"),
        ("BertForMaskedLM", "bert", "text-encoder", "BertModel"),
        ("BertForPreTraining", "bert", "text-encoder", "BertModel"),
        ("RobertaForTokenClassification", "roberta", "text-encoder", "RobertaModel"),
        ("ElectraForPreTraining", "electra", "text-encoder", "ElectraModel"),
        ("T5EncoderModel", "t5", "text-encoder", "T5EncoderModel"),
        ("LlamaModel", "llama", "text-encoder", "LlamaModel"),
        (
            "DistilBertForSequenceClassification",
            "distilbert",
            "text-classification",
            "DistilBertForSequenceClassification",
        ),
        ("GPT2LMHeadModel", "gpt2", "text-decoder", "GPT2LMHeadModel"),
        ("LlamaForCausalLM", "llama", "text-decoder", "LlamaForCausalLM"),
        ("T5ForConditionalGeneration", "t5", "text-seq2seq", "T5ForConditionalGeneration"),
        ("BartModel", "bart", "text-seq2seq", "BartForConditionalGeneration"),
        ("ViTForImageClassification", "vit", "image-classification", "ViTForImageClassification"),
        (
            "LevitForImageClassificationWithTeacher",
            "levit",
            "image-classification",
            "LevitForImageClassificationWithTeacher",
        ),
        ("Dinov2Model", "dinov2", "image-features", "Dinov2Model"),
        ("ViTMAEForPreTraining", "vit_mae", "image-features", "ViTMAEModel"),
        ("CLIPVisionModel", "clip_vision_model", "image-features", "CLIPVisionModel"),
        ("DetrForObjectDetection", "detr", "object-detection", "DetrForObjectDetection"),
        (
            "SegformerForSemanticSegmentation",
            "segformer",
            "image-segmentation",
            "SegformerForSemanticSegmentation",
        ),
        ("SamModel", "sam", "image-segmentation", "SamModel"),
        ("Wav2Vec2ForCTC", "wav2vec2", "speech-ctc", "Wav2Vec2ForCTC"),
        (
            "WhisperForConditionalGeneration",
            "whisper",
            "speech-seq2seq",
            "WhisperForConditionalGeneration",
        ),
        (
            "Wav2Vec2ForSequenceClassification",
            "wav2vec2",
            "speech-classification",
            "Wav2Vec2ForSequenceClassification",
        ),
        ("CLIPModel", "clip", "image-text-similarity", "CLIPModel"),
        (
            "BlipForConditionalGeneration",
            "blip",
            "image-captioning",
            "BlipForConditionalGeneration",
        ),
        (
            "LlavaForConditionalGeneration",
            "llava",
            "vision-language",
            "LlavaForConditionalGeneration",
        ),
    ],
)
def test_the_class_that_a_config_names_tells_the_task(
    tmp_path: Path, class_name: str, model_type: str, task: str, built: str
) -> None:
    model = folder_with(
        tmp_path / "model", {"model_type": model_type, "architectures": [class_name]}
    )
    described = describe(model)
    assert (described.model_task, described.model_class) == (task, built)
    assert described.modality == MODEL_TASKS[task]
    assert described.folder == Path(model)
    assert not described.on_hub


@pytest.mark.parametrize(
    ("model_type", "task", "built"),
    [
        ("bert", "text-encoder", "BertModel"),
        ("gpt2", "text-decoder", "GPT2LMHeadModel"),
        ("t5", "text-seq2seq", "T5ForConditionalGeneration"),
        ("vit", "image-features", "ViTModel"),
        ("wav2vec2", "speech-ctc", "Wav2Vec2ForCTC"),
        ("clip", "image-text-similarity", "CLIPModel"),
    ],
)
def test_without_a_class_the_kind_of_model_tells_the_task(
    tmp_path: Path, model_type: str, task: str, built: str
) -> None:
    described = describe(folder_with(tmp_path / "model", {"model_type": model_type}))
    assert (described.model_task, described.model_class) == (task, built)


@pytest.mark.parametrize(
    ("class_name", "model_type"),
    [
        ("EncodecModel", "encodec"),
        ("Wav2Vec2Model", "wav2vec2"),
        ("DPTForDepthEstimation", "dpt"),
        ("SomebodysModel", "somebodys"),
    ],
)
def test_what_is_not_measured_is_refused_with_the_tasks_that_are(
    tmp_path: Path, class_name: str, model_type: str
) -> None:
    model = folder_with(
        tmp_path / "model", {"model_type": model_type, "architectures": [class_name]}
    )
    with pytest.raises(ModelError, match=rf"is {class_name}, which does nothing.*text-encoder"):
        describe(model)


def test_every_class_of_small_and_known_models_is_found_as_the_tables_of_the_library_say() -> None:
    for recipe in (*TINY.values(), *KNOWN.values()):
        listed = {name for table in tables().values() for names in table.values() for name in names}
        assert recipe.model_class in listed


def test_small_models_are_random_whatever_is_asked() -> None:
    for weights in ("pretrained", "random"):
        assert describe("tiny:bert", weights=weights).weights == "random"


def test_small_models_cover_every_task() -> None:
    assert {recipe.model_task for recipe in TINY.values()} == set(MODEL_TASKS)


@pytest.mark.parametrize("model_id", [*KNOWN, *ALIASES])
def test_known_models_need_no_network(model_id: str) -> None:
    for weights in ("random", "pretrained"):
        described = describe(model_id, weights=weights)
        assert described.id == model_id
        assert described.on_hub
        assert described.model_task == KNOWN[ALIASES.get(model_id, model_id)].model_task


@pytest.mark.parametrize("model_id", list(CATALOG))
def test_chart_models_are_image_classifiers(model_id: str) -> None:
    described = describe(model_id, weights="random")
    assert described.model_task == "image-classification"
    assert described.spec is CATALOG[model_id]
    assert describe(model_id.removeprefix("timm/"), weights="random").spec is CATALOG[model_id]


def test_published_configs_are_read_from_their_folders(shared_data: Path) -> None:
    found = {
        name: describe(str(shared_data / "configs" / name), weights="random").model_task
        for name in ("bert-base-uncased", "facebook/sam-vit-base", "microsoft/resnet-50")
    }
    assert found == {
        "bert-base-uncased": "text-encoder",
        "facebook/sam-vit-base": "image-segmentation",
        "microsoft/resnet-50": "image-classification",
    }
    timm_folder = describe(str(shared_data / "models" / "efficientnet-lite0-timm"))
    assert (timm_folder.library, timm_folder.model_class) == ("timm", "tf_efficientnet_lite0")


def test_a_timm_folder_without_a_head_gives_features(tmp_path: Path) -> None:
    model = folder_with(tmp_path / "m", {"architecture": "test_resnet", "num_classes": 0})
    assert describe(model).model_task == "image-features"


def test_a_checkpoint_tells_what_was_made_of_a_model(tmp_path: Path) -> None:
    """A classifier trained from BERT is a classifier, whatever id it is measured under."""
    checkpoint = folder_with(
        tmp_path / "mine",
        {"model_type": "bert", "architectures": ["BertForSequenceClassification"]},
    )
    for weights in (checkpoint, f"{checkpoint}/model.safetensors"):
        described = describe("bert-base-uncased", weights=weights)
        assert described.model_task == "text-classification"
        assert described.weights == weights
        assert described.id == "bert-base-uncased"


def test_a_config_in_the_hub_cache_is_used_with_no_request(offline_without_cache: Path) -> None:
    snapshot = offline_without_cache / "models--someone--model" / "snapshots" / "0123"
    folder_with(snapshot, {"model_type": "bert", "architectures": ["BertModel"]})
    refs = offline_without_cache / "models--someone--model" / "refs"
    refs.mkdir()
    (refs / "main").write_text("0123", encoding="utf-8")
    described = describe("someone/model")
    assert described.model_task == "text-encoder"
    assert described.on_hub
    assert described.folder == snapshot


def test_the_hub_not_being_there_is_said_in_one_line() -> None:
    with pytest.raises(ModelError, match=r"config.json of someone/model is not in the Hub cache"):
        describe("someone/model")


@pytest.mark.parametrize(
    ("model_id", "said"),
    [
        ("tiny:brt", "did you mean 'tiny:bert'"),
        ("tiny:zzzzz", "known: bert, "),
        ("bert-base-uncase", "did you mean 'bert-base-uncased'"),
        ("no such model!", "candlemark profile --help"),
        ("./no-such-folder", "there is no model folder ./no-such-folder"),
        ("no/such/folder", "there is no model folder no/such/folder"),
        ("", "'' is no known model"),
        ("a b/c", "'a b/c' is no known model"),
        ("owner/..", "'owner/..' is no known model"),
        ("owner/é", "'owner/é' is no known model"),
        ("--help", "'--help' is no known model"),
        ("owner/" + "x" * 97, "is no known model"),
        ("owner/" + "x" * 96, "is not in the Hub cache"),
    ],
)
def test_unknown_ids_name_the_nearest_known_one(model_id: str, said: str) -> None:
    with pytest.raises(ModelError, match=said) as caught:
        describe(model_id)
    assert "\n" not in str(caught.value)


def test_folders_that_hold_no_model_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"holds no config\.json"):
        describe(str(tmp_path))
    with pytest.raises(ModelError, match=r"neither a timm 'architecture' nor a transformers"):
        describe(folder_with(tmp_path / "empty", {}))
    (tmp_path / "empty" / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(ModelError, match="is no readable JSON"):
        describe(str(tmp_path / "empty"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([], "holds list"),
        (None, "holds NoneType"),
        ({"model_type": 5}, "model_type = 5; allowed: a name"),
        ({"model_type": ["bert"]}, "allowed: a name"),
        ({"architecture": 5}, "architecture = 5; allowed: a name"),
        ({"model_type": "bert", "architectures": "BertModel"}, "allowed: a list of names"),
        ({"model_type": "bert", "architectures": [["BertModel"]]}, "allowed: a list of names"),
    ],
)
def test_a_config_of_another_shape_is_refused_in_one_line(
    tmp_path: Path, content: Any, said: str
) -> None:
    with pytest.raises(ModelError, match=said):
        describe(folder_with(tmp_path / "model", content))


def test_an_id_without_an_owner_is_asked_of_the_hub(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As the oldest models have it: bert-base-cased."""
    folder = folder_with(tmp_path / "m", {"model_type": "bert", "architectures": ["BertModel"]})
    asked: list[tuple[str, str]] = []

    def find(model_id: str, name: str) -> Path:
        asked.append((model_id, name))
        return Path(folder) / name

    monkeypatch.setattr("candlemark.models.inference.describe.find_file", find)
    described = describe("bert-base-cased")
    assert asked == [("bert-base-cased", "config.json")]
    assert (described.model_task, described.on_hub) == ("text-encoder", True)


def test_an_id_without_an_owner_says_that_the_hub_was_not_there() -> None:
    with pytest.raises(ModelError, match=r"is no known model.*HF_HUB_OFFLINE.*bert-base-uncased"):
        describe("bert-base-cased")


def test_describing_loads_no_torch(tmp_path: Path) -> None:
    model = folder_with(tmp_path / "model", {"model_type": "bert", "architectures": ["BertModel"]})
    code = (
        "import sys\n"
        "from candlemark.models.inference.describe import describe\n"
        "from candlemark.models.inference.weights import weights_path\n"
        f"for model in ['tiny:whisper', 'gpt2', 'microsoft/resnet-50', {model!r}]:\n"
        "    weights_path(describe(model, weights='random'), allow_pickle=False)\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
