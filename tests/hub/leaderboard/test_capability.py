"""Can it do the task? The level, and the reason in words."""

from __future__ import annotations

from typing import Any

import pytest
from hub_models import entry

from candlemark.hub.leaderboard.capability import judge
from candlemark.hub.leaderboard.facts import read_model
from candlemark.report.leaderboard.board import LEVELS

SEG = "image-segmentation"
AUTO = {"transformersInfo": {"auto_model": "AutoModelForSemanticSegmentation"}}


def config(architecture: str | None, kind: str | None = None) -> dict[str, Any]:
    return {"config": {"architectures": [architecture] if architecture else [], "model_type": kind}}


@pytest.mark.parametrize(
    ("told", "task", "level", "protocol", "reason"),
    [
        (
            config("SegformerForSemanticSegmentation", "segformer"),
            SEG,
            "ready",
            "native_head",
            (
                "SegformerForSemanticSegmentation ends in a trained head for image-segmentation; "
                "the classes are its own and have to be mapped to yours"
            ),
        ),
        (
            config("Mask2FormerForUniversalSegmentation", "mask2former"),
            SEG,
            "ready",
            "native_head",
            None,
        ),
        (
            {**config(None, "custom"), **AUTO},
            SEG,
            "ready",
            "native_head",
            (
                "the Hub loads it with AutoModelForSemanticSegmentation, which ends in a head for "
                "image-segmentation; the classes are its own and have to be mapped to yours"
            ),
        ),
        (
            config("SamModel", "sam"),
            SEG,
            "prompted",
            "sam_auto",
            (
                "sam outlines what a box or a point shows it and names no class; with a grid of "
                "points it needs no prompt"
            ),
        ),
        (
            config("Sam2Model", "sam2"),
            "mask-generation",
            "ready",
            "sam_auto",
            "sam2 makes masks, of whatever it is pointed at",
        ),
        (
            config("CLIPModel", "clip"),
            SEG,
            "prompted",
            "clip_dense",
            "clip compares patches with texts: rough maps of what prompts name",
        ),
        (
            config("CLIPModel", "clip"),
            "zero-shot-image-classification",
            "ready",
            None,
            "clip compares pictures with texts",
        ),
        (
            config("CLIPSegForImageSegmentation", "clipseg"),
            SEG,
            "prompted",
            "clip_dense",
            "CLIPSegForImageSegmentation segments what a text names",
        ),
        (
            config("Swinv2ForImageClassification", "swinv2"),
            SEG,
            "backbone",
            "linear_probe",
            (
                "swinv2 encoder, its head (Swinv2ForImageClassification) is for something else: a "
                "head for image-segmentation has to be trained"
            ),
        ),
        (
            config("Swinv2ForImageClassification", "swinv2"),
            "image-classification",
            "ready",
            None,
            "Swinv2ForImageClassification ends in a trained head for image-classification",
        ),
        (
            config("Dinov2Model", "dinov2"),
            "image-feature-extraction",
            "ready",
            None,
            "dinov2 encoder: its features can be read",
        ),
        (
            {"library_name": "timm", "files": ("model.safetensors",)},
            SEG,
            "backbone",
            "linear_probe",
            "timm's backbone: a head for image-segmentation has to be trained",
        ),
        (
            {"library_name": "timm"},
            "image-classification",
            "ready",
            None,
            "timm loads it with its trained classifier",
        ),
        (
            {"library_name": "monai", "pipeline_tag": SEG},
            SEG,
            "elsewhere",
            None,
            "MONAI runs its bundle; let it write masks and compare the folder (--model FOLDER)",
        ),
        (
            {"library_name": "monai", "pipeline_tag": "image-classification"},
            SEG,
            "unknown",
            None,
            "MONAI runs its bundle, but it is tagged image-classification, not image-segmentation",
        ),
        (
            {
                "library_name": None,
                "tags": [],
                "files": ("plans.json", "dataset.json", "fold_0/a.pth"),
            },
            SEG,
            "elsewhere",
            None,
            "nnU-Net runs it; let it write masks and compare the folder (--model FOLDER)",
        ),
        (
            {"id": "x/nnUNet_liver", "library_name": None, "files": ("a.pth",)},
            SEG,
            "elsewhere",
            None,
            "nnU-Net runs it; let it write masks and compare the folder (--model FOLDER)",
        ),
        (
            {"library_name": "open_clip", "files": ("open_clip_config.json", "a.bin")},
            SEG,
            "backbone",
            "linear_probe",
            "open_clip's vision tower sees; a head has to be trained on it",
        ),
        (
            {"library_name": None, "pipeline_tag": SEG, "files": ("net.onnx",)},
            SEG,
            "elsewhere",
            None,
            "ONNX file net.onnx: give it to --model once downloaded",
        ),
        (
            config("LlamaForCausalLM", "llama"),
            SEG,
            "no",
            None,
            "LlamaForCausalLM is for text-generation, not for image-segmentation",
        ),
        (
            config("LlamaForCausalLM", "llama"),
            "text-generation",
            "ready",
            None,
            "LlamaForCausalLM ends in a trained head for text-generation",
        ),
        (
            config("DetrForObjectDetection", "detr"),
            SEG,
            "no",
            None,
            "DetrForObjectDetection is for object-detection, not for image-segmentation",
        ),
        (
            {"files": ("README.md", "logo.png")},
            SEG,
            "no",
            None,
            "none of its 2 files holds weights",
        ),
        ({"files": ("README.md",)}, SEG, "no", None, "its one file holds no weights"),
        ({"files": ()}, SEG, "no", None, "it has no file"),
        ({"disabled": True}, SEG, "no", None, "the Hub has disabled the repository"),
        (
            {
                "library_name": "peft",
                "tags": ["base_model:adapter:facebook/sam-vit-base"],
                "files": ("adapter_config.json", "adapter_model.safetensors"),
            },
            SEG,
            "unknown",
            None,
            "an adapter of facebook/sam-vit-base: it can do what its base model can, and no more",
        ),
        (
            {"library_name": None, "pipeline_tag": SEG, "files": ("weights.pth",)},
            SEG,
            "unknown",
            None,
            "tagged image-segmentation; neither architecture nor library is told",
        ),
        (
            {**config("BiRefNet", None), **AUTO, "tags": ["custom_code"]},
            SEG,
            "elsewhere",
            None,
            (
                "runs code of its author's from the repository; read that, then let it write "
                "masks (--model FOLDER)"
            ),
        ),
        (
            config("StrangeNet", "strange"),
            SEG,
            "unknown",
            None,
            "without a task; StrangeNet is nothing known here",
        ),
        (
            {"library_name": "sentence-transformers", "pipeline_tag": "sentence-similarity"},
            "sentence-similarity",
            "elsewhere",
            None,
            "sentence-transformers runs it",
        ),
        (
            {**config("BertModel", "bert"), "pipeline_tag": "feature-extraction"},
            "feature-extraction",
            "ready",
            None,
            "BertModel, tagged feature-extraction and loaded by transformers",
        ),
    ],
)
def test_level_and_reason(
    told: dict[str, Any], task: str, level: str, protocol: str | None, reason: str | None
) -> None:
    name = told.pop("id", "a/b")
    found = judge(read_model(entry(name, **told), ()), task)
    assert (found.level, found.protocol) == (level, protocol)
    assert reason is None or found.reason == reason


def test_without_a_task_nothing_is_judged() -> None:
    found = judge(read_model(entry("a/b"), ()), None)
    assert found.level == "unknown"
    assert found.reason == "no task was asked for; add for=TASK to the query"


def test_protocols_are_those_of_the_segmentation_benchmark() -> None:
    from typing import get_args

    from candlemark.models.segmentation.base import AskProtocol

    known = set(get_args(AskProtocol))
    assert {"native_head", "linear_probe", "clip_dense", "sam_auto", "none"} <= known
    assert len(LEVELS) == 6


MAPPINGS = {
    SEG: ("SEMANTIC_SEGMENTATION", "UNIVERSAL_SEGMENTATION", "INSTANCE_SEGMENTATION"),
    "mask-generation": ("MASK_GENERATION",),
    "image-classification": ("IMAGE_CLASSIFICATION",),
    "object-detection": ("OBJECT_DETECTION",),
    "depth-estimation": ("DEPTH_ESTIMATION",),
    "image-text-to-text": ("IMAGE_TEXT_TO_TEXT",),
    "zero-shot-image-classification": ("ZERO_SHOT_IMAGE_CLASSIFICATION",),
    "text-classification": ("SEQUENCE_CLASSIFICATION",),
    "text-generation": ("CAUSAL_LM",),
    "automatic-speech-recognition": ("CTC", "SPEECH_SEQ_2_SEQ"),
    "audio-classification": ("AUDIO_CLASSIFICATION",),
}


@pytest.mark.parametrize(
    "task",
    [pytest.param(task, marks=() if task == SEG else pytest.mark.slow) for task in MAPPINGS],
)
def test_every_architecture_that_transformers_loads_for_a_task_can_do_it(task: str) -> None:
    from transformers.models.auto import modeling_auto

    for name in MAPPINGS[task]:
        loaded = getattr(modeling_auto, f"MODEL_FOR_{name}_MAPPING_NAMES")
        for kind, named in loaded.items():
            for architecture in (named,) if isinstance(named, str) else named:
                told = {**config(architecture, kind), "pipeline_tag": task}
                found = judge(read_model(entry("a/b", **told), ()), task)
                assert found.level == "ready", f"{architecture}: {found}"


def test_every_backbone_of_transformers_sees() -> None:
    from transformers.models.auto import modeling_auto

    for kind in modeling_auto.MODEL_FOR_BACKBONE_MAPPING_NAMES:
        found = judge(read_model(entry("a/b", **config(None, kind)), ()), SEG)
        assert (found.level, found.protocol) == ("backbone", "linear_probe"), kind


def test_a_body_without_a_head_is_not_ready_because_it_is_tagged() -> None:
    told = {**config("BertModel", "bert"), "pipeline_tag": "text-classification"}
    assert judge(read_model(entry("a/b", **told), ()), "text-classification").level == "unknown"
    other = {**config("NewNetForNews", "new"), "pipeline_tag": SEG}
    assert judge(read_model(entry("a/b", **other), ()), SEG).level == "unknown"


ASR = "automatic-speech-recognition"
ONNX = {"library_name": "transformers.js", "files": ("config.json", "onnx/model.onnx")}


@pytest.mark.parametrize(
    ("told", "task", "level", "reason"),
    [
        (
            {**config("SegformerForSemanticSegmentation", "segformer"), **ONNX},
            SEG,
            "elsewhere",
            "ONNX file onnx/model.onnx: give it to --model once downloaded",
        ),
        (
            {**config("Sam2Model", "sam2"), **ONNX, "pipeline_tag": SEG},
            "mask-generation",
            "unknown",
            (
                "its only weights are ONNX (onnx/model.onnx), and it is tagged "
                "image-segmentation, not mask-generation"
            ),
        ),
        (
            {**config("Sam2Model", "sam2"), **ONNX, "pipeline_tag": "mask-generation"},
            "mask-generation",
            "elsewhere",
            "its only weights are ONNX (onnx/model.onnx), which need a runtime of their own",
        ),
        (
            {**config("Dinov2Model", "dinov2"), **ONNX, "pipeline_tag": None},
            SEG,
            "unknown",
            "its only weights are ONNX (onnx/model.onnx), and it has no task",
        ),
        (
            {
                **config("BertForSequenceClassification", "bert"),
                "files": ("config.json", "tf_model.h5"),
            },
            "text-classification",
            "elsewhere",
            (
                "its only weights are TensorFlow (tf_model.h5), which need a runtime of their own"
            ),
        ),
        (
            {"tags": ["gguf"], "library_name": None, "files": ("a.Q4_K_M.gguf",),
             "pipeline_tag": "text-generation"},
            "text-generation",
            "elsewhere",
            "llama.cpp or another runtime of GGUF files runs it",
        ),
        (
            {**config("LlamaForCausalLM", "llama"), "library_name": "mlx",
             "pipeline_tag": "text-generation"},
            "text-generation",
            "elsewhere",
            "MLX runs it",
        ),
        (
            {"library_name": "nemo", "files": ("parakeet.nemo",), "pipeline_tag": ASR},
            ASR,
            "elsewhere",
            "NeMo runs it",
        ),
        (
            {"library_name": "spacy", "files": ("a-any-py3-none-any.whl", "ner/model"),
             "pipeline_tag": "token-classification"},
            "token-classification",
            "elsewhere",
            "spaCy runs it",
        ),
        (
            {"library_name": None, "pipeline_tag": SEG, "files": ("case_1.nii.gz", "labels.json")},
            SEG,
            "no",
            "none of its 2 files holds weights",
        ),
        (
            {"id": "pyannote/segmentation-3.0", "library_name": "pyannote-audio",
             "pipeline_tag": "voice-activity-detection"},
            SEG,
            "unknown",
            (
                "pyannote.audio runs it, but it is tagged voice-activity-detection, not "
                "image-segmentation"
            ),
        ),
        (
            {"library_name": "monai", "pipeline_tag": None},
            SEG,
            "unknown",
            "MONAI runs its bundle, but it is not tagged with a task",
        ),
        (
            {**config("WhisperForConditionalGeneration", "whisper"), "pipeline_tag": ASR},
            "text-generation",
            "unknown",
            (
                "WhisperForConditionalGeneration may do one of several tasks, and it is tagged "
                "automatic-speech-recognition, not text-generation"
            ),
        ),
        (
            {**config("DetrForObjectDetection", "detr"), "pipeline_tag": "object-detection"},
            "zero-shot-object-detection",
            "unknown",
            None,
        ),
        (
            {
                **config("Qwen2VLForConditionalGeneration", "qwen2_vl"),
                "pipeline_tag": "image-text-to-text",
            },
            "visual-question-answering",
            "ready",
            None,
        ),
        (
            config("T5ForConditionalGeneration", "t5"),
            SEG,
            "no",
            "T5ForConditionalGeneration is for text, sound or pictures, not for image-segmentation",
        ),
        (
            {**config("BertForMaskedLM", "bert"), "pipeline_tag": "fill-mask"},
            "text-classification",
            "no",
            "BertForMaskedLM is for fill-mask, not for text-classification",
        ),
        (
            {"pipeline_tag": SEG},
            SEG,
            "unknown",
            (
                "tagged image-segmentation; transformers loads it, and its architecture is not told"
            ),
        ),
    ],
)  # fmt: skip
def test_models_as_they_are_published(
    told: dict[str, Any], task: str, level: str, reason: str | None
) -> None:
    name = told.pop("id", "a/b")
    found = judge(read_model(entry(name, **told), ()), task)
    assert found.level == level, found
    assert reason is None or found.reason == reason


def test_a_protocol_is_named_only_where_the_segmentation_benchmark_asks_by_it() -> None:
    from candlemark.models.inference.base import Described
    from candlemark.models.inference.classes import tables, task_of_class
    from candlemark.models.segmentation.choose import UNLISTED, choose_for

    kinds = ("SEGMENTATION", "MASK_GENERATION", "ZERO_SHOT_IMAGE_CLASSIFICATION",
             "FOR_IMAGE_CLASSIFICATION", "OBJECT_DETECTION", "FOR_IMAGE_MAPPING")  # fmt: skip
    seen = set()
    named = {
        (kind, name)
        for table, rows in tables().items()
        if any(word in table for word in kinds)
        for kind, names in rows.items()
        for name in names
        if not name.endswith("Backbone")
    }
    published = {("clipseg", "CLIPSegForImageSegmentation"), ("sam2_video", "Sam2VideoModel")}
    for kind, name in sorted(named | published):
        task, built = task_of_class(name, kind) or ("image-segmentation", UNLISTED.get(name, name))
        described = Described(id="a/b", library="transformers", model_task=task,
                              model_class=built, weights="pretrained")  # fmt: skip
        found = judge(read_model(entry("a/b", **config(name, kind)), ()), SEG)
        if found.protocol is not None:
            assert found.protocol == choose_for(described).protocol, (kind, name, found)
            seen.add(found.protocol)
    assert seen == {"native_head", "linear_probe", "clip_dense", "sam_auto"}
