"""Can it do the task? Answered from architecture, head, library and files, with the reason.

    found = judge(model, "image-segmentation")
    found.level, found.reason, found.protocol
    # "ready", "SegformerForSemanticSegmentation ends in a trained head for image-segmentation; ..."

Levels, the best first:

    ready      it does the task as it is
    elsewhere  it does the task, by a library that candlemark does not load
    prompted   it does the task once it is told where or what
    backbone   it sees, and a head has to be trained on it
    unknown    nothing that can be read without its files tells
    no         it was made for something else, or there is nothing to load

The answer is what the repository's metadata says; that a head is any good only a measurement says.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from candlemark.hub.leaderboard.facts import is_weights
from candlemark.report.leaderboard.board import Capability
from candlemark.results.tracked import TrackedModel

SEGMENTATION = frozenset({"image-segmentation", "mask-generation"})

_HEADS: dict[str, tuple[str, ...]] = {
    "image-segmentation": (
        "ForSemanticSegmentation", "ForUniversalSegmentation", "ForInstanceSegmentation",
        "ForImageSegmentation", "ForSegmentation", "ForPanopticSegmentation",
    ),
    "image-classification": ("ForImageClassification", "ForImageClassificationWithTeacher"),
    "object-detection": ("ForObjectDetection",),
    "zero-shot-object-detection": ("ForZeroShotObjectDetection", "ForObjectDetection"),
    "depth-estimation": ("ForDepthEstimation",),
    "keypoint-detection": ("ForPoseEstimation", "ForKeypointDetection"),
    "image-to-image": ("ForImageSuperResolution", "ForImageToImage"),
    "video-classification": ("ForVideoClassification",),
    "image-text-to-text": (
        "ForConditionalGeneration", "ForVision2Seq", "ForImageTextToText", "ForVisionText2Text",
        "VisionEncoderDecoderModel",
    ),
    "image-to-text": (
        "ForConditionalGeneration", "ForVision2Seq", "VisionEncoderDecoderModel",
        "ForImageTextToText", "ForTextRecognition",
    ),
    "visual-question-answering": (
        "ForQuestionAnswering", "ForConditionalGeneration", "ForVisualQuestionAnswering",
        "ForImageTextToText",
    ),
    "document-question-answering": (
        "ForDocumentQuestionAnswering", "ForQuestionAnswering", "VisionEncoderDecoderModel",
    ),
    "text-classification": ("ForSequenceClassification",),
    "zero-shot-classification": ("ForSequenceClassification",),
    "text-ranking": ("ForSequenceClassification",),
    "token-classification": ("ForTokenClassification",),
    "question-answering": ("ForQuestionAnswering",),
    "table-question-answering": ("ForQuestionAnswering",),
    "fill-mask": ("ForMaskedLM", "ForPreTraining", "WithLMHeadModel"),
    "text-generation": ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration"),
    "summarization": ("ForConditionalGeneration", "EncoderDecoderModel"),
    "translation": ("ForConditionalGeneration", "MTModel", "MarianMTModel"),
    "automatic-speech-recognition": (
        "ForCTC", "ForSpeechSeq2Seq", "ForConditionalGeneration", "ForRNNT", "ForSpeechToText",
        "SpeechEncoderDecoderModel",
    ),
    "audio-classification": ("ForAudioClassification", "ForSequenceClassification"),
    "text-to-speech": ("ForTextToSpeech", "VitsModel", "BarkModel"),
    "text-to-audio": ("ForTextToSpeech", "ForConditionalGeneration", "VitsModel"),
    "time-series-forecasting": ("ForPrediction", "ForTimeSeriesPrediction"),
}  # fmt: skip
"""Ends of architectures' names by the task that their trained head is for."""

_SHARED = frozenset(end for ends in _HEADS.values() for end in ends
                    if sum(end in others for others in _HEADS.values()) > 1)  # fmt: skip
"""Ends that heads for several tasks have: which of them, only the tag says."""

_ALIKE = frozenset(
    {"image-text-to-text", "image-to-text", "visual-question-answering", "any-to-any"}
)
"""Tasks that one head does, whichever of them it is tagged with."""

_ASKED_SAM = frozenset({"sam", "sam2", "sam2_video"})
_ASKED_CLIP = frozenset({"clip", "siglip"})
"""Of the models below, those that `candlemark segment` asks."""

SAM = _ASKED_SAM | {"sam3", "sam3_tracker", "sam3_video", "sam_hq", "edgetam", "edgetam_video"}
CLIP = _ASKED_CLIP | {"siglip2", "altclip", "chinese_clip", "metaclip_2"}
_COMPARES = CLIP | {"align", "blip"}
"""Models that hold a picture against a text, by their `model_type`."""

_OF_OBJECTS = frozenset({"rf_detr", "videomt"})
"""Models with a head for masks, of objects or films, by their `model_type`."""

_SEES = frozenset(
    {
        "aimv2_vision_model", "beit", "bit", "clip_vision_model", "convnext", "convnextv2",
        "cvt", "data2vec-vision", "deit", "dinat", "dinov2", "dinov2_with_registers",
        "dinov3_convnext", "dinov3_vit", "efficientnet", "focalnet", "hgnet_v2", "hiera",
        "ijepa", "levit", "lw_detr_vit", "maskformer-swin", "mlcd", "mlcd_vision_model",
        "mobilenet_v1", "mobilenet_v2", "mobilevit", "mobilevitv2", "nat", "pixio",
        "poolformer", "pp_lcnet", "pp_lcnet_v3", "pp_lcnet_v4", "pvt", "pvt_v2", "regnet",
        "resnet", "rf_detr_dinov2", "rt_detr_resnet", "sapiens2", "segformer",
        "siglip_vision_model", "swiftformer", "swin", "swin2sr", "swinv2", "textnet",
        "timm_backbone", "timm_wrapper", "tipsv2", "tipsv2_vision_model", "uvdoc_backbone",
        "vit", "vit_hybrid", "vit_mae", "vit_msn", "vitdet", "vitpose_backbone",
    }
)  # fmt: skip
"""Vision encoders by their `model_type`."""

_NOT_PROBED = frozenset({"Tipsv2Model"})
"""Of their classes, those that hold a text encoder too and are not probed."""

_ELSEWHERE: dict[str, str] = {
    "monai": "MONAI runs its bundle",
    "nnunet": "nnU-Net runs it",
    "nnunetv2": "nnU-Net runs it",
    "ultralytics": "Ultralytics runs it",
    "segmentation-models-pytorch": "segmentation_models_pytorch runs it",
    "keras": "Keras runs it",
    "keras-hub": "Keras runs it",
    "tf-keras": "Keras runs it",
    "fastai": "fastai runs it",
    "paddleseg": "PaddleSeg runs it",
    "mmsegmentation": "MMSegmentation runs it",
    "sam2": "Meta's sam2 package runs it",
    "coreml": "Core ML runs it",
    "open_clip": "open_clip runs it",
    "diffusers": "diffusers runs it",
    "sentence-transformers": "sentence-transformers runs it",
    "spacy": "spaCy runs it",
    "flair": "Flair runs it",
    "stanza": "Stanza runs it",
    "gliner": "GLiNER runs it",
    "nemo": "NeMo runs it",
    "speechbrain": "SpeechBrain runs it",
    "pyannote-audio": "pyannote.audio runs it",
    "espnet": "ESPnet runs it",
    "stable-baselines3": "Stable-Baselines3 runs it",
    "lerobot": "LeRobot runs it",
    "sklearn": "scikit-learn runs it",
    "setfit": "SetFit runs it",
    "ctranslate2": "CTranslate2 runs it",
    "mlx": "MLX runs it",
    "gguf": "llama.cpp or another runtime of GGUF files runs it",
}
"""Libraries that candlemark does not load, and who runs their models."""

_DRAWS = frozenset(
    {
        "monai", "nnunet", "nnunetv2", "ultralytics", "segmentation-models-pytorch", "keras",
        "keras-hub", "tf-keras", "fastai", "paddleseg", "mmsegmentation", "sam2", "coreml",
    }
)  # fmt: skip
"""Those of them whose models may draw masks; of others, "segmentation" means sound or sentences."""

_LOADED = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")
_FORMATS: dict[str, str] = {
    ".onnx": "ONNX",
    ".ts": "TorchScript",
    ".gguf": "GGUF",
    ".h5": "TensorFlow",
    ".keras": "Keras",
    ".pb": "TensorFlow",
    ".msgpack": "Flax",
    ".tflite": "LiteRT",
    ".mlmodel": "Core ML",
    ".ot": "Rust",
    ".pdparams": "Paddle",
    ".pdiparams": "Paddle",
}
"""Weights that neither transformers nor timm loads, by their names' ends."""


def judge(model: TrackedModel, task: str | None) -> Capability:
    """Whether a model can do a task, by the first rule below that knows."""
    if task is None:
        return _of("unknown", "no task was asked for; add for=TASK to the query")
    for rule in _RULES:
        found = rule(model, task)
        if found is not None:
            return found
    tagged = f"tagged {model.task}" if model.task else "without a task"
    told = ", ".join(model.architectures) or model.model_type
    if not told and model.library in {"transformers", "timm", "transformers.js"}:
        what = f"{model.library} loads it, and its architecture is not told"
    elif told or model.library:
        what = f"{told or model.library} is nothing known here"
    else:
        what = "neither architecture nor library is told"
    return _of("unknown", f"{tagged}; {what}")


def _of(level: str, reason: str, protocol: str | None = None) -> Capability:
    return Capability(level=level, reason=reason, protocol=protocol)


def _nothing_to_load(model: TrackedModel, _task: str) -> Capability | None:
    if model.disabled:
        return _of("no", "the Hub has disabled the repository")
    if model.files is None or any(is_weights(name) for name in model.files):
        return None
    count = model.file_count or 0
    told = "its one file holds no" if count == 1 else f"none of its {count} files holds"
    return _of("no", f"{told} weights" if count else "it has no file")


def _adapter(model: TrackedModel, _task: str) -> Capability | None:
    if model.library != "peft" and "adapter_config.json" not in (model.files or ()):
        return None
    bases = [tag.rpartition(":")[2] for tag in model.tags if tag.startswith("base_model:")]
    base = f" of {bases[0]}" if bases else ""
    return _of("unknown", f"an adapter{base}: it can do what its base model can, and no more")


def _custom_code(model: TrackedModel, task: str) -> Capability | None:
    """A model that runs only with code from its repository."""
    if "custom_code" not in model.tags or model.model_type in _SEES | SAM | CLIP:
        return None
    names = [*model.architectures, *([model.auto_class] if model.auto_class else [])]
    if model.task != task and not any(name.endswith(_HEADS.get(task, (" ",))) for name in names):
        return None
    then = "; read that, then let it write masks (--model FOLDER)" if task in SEGMENTATION else ""
    return _of("elsewhere", f"runs code of its author's from the repository{then}")


def _another_format(model: TrackedModel, task: str) -> Capability | None:
    """Weights of a kind that neither transformers nor timm loads, and no others."""
    weights = [name for name in model.files or () if is_weights(name)]
    if _library(model) is not None or any(name.lower().endswith(_LOADED) for name in weights):
        return None
    found = ((end, name) for name in weights for end in _FORMATS if name.lower().endswith(end))
    end, file = next(found, ("", ""))
    if not file:
        return None
    if model.task != task and _named_head(model, task) is None:
        other = f"it is tagged {model.task}, not {task}" if model.task else "it has no task"
        return _of("unknown", f"its only weights are {_FORMATS[end]} ({file}), and {other}")
    # The parts of a model that is asked with points give no masks by themselves.
    if end in {".onnx", ".ts"} and task in SEGMENTATION and model.model_type not in SAM:
        return _of("elsewhere", f"{_FORMATS[end]} file {file}: give it to --model once downloaded")
    reason = f"its only weights are {_FORMATS[end]} ({file}), which need a runtime of their own"
    return _of("elsewhere", reason)


def _named_head(model: TrackedModel, task: str) -> str | None:
    """The name of its class, where that ends in a head for the task."""
    ends = _HEADS.get(task)
    names = [*model.architectures, *([model.auto_class] if model.auto_class else [])]
    return next((name for name in names if name.endswith(ends)), None) if ends else None


def _has_head(model: TrackedModel, task: str) -> Capability | None:
    """A trained head for the task, by the architecture's name."""
    named = _named_head(model, task)
    if named is None or model.model_type in SAM or model.library == "mlx":
        return None
    if model.task not in {None, task} and not {model.task, task} <= _ALIKE:
        end = next(end for end in _HEADS[task] if named.endswith(end))
        if end in _SHARED:
            return _of("unknown", f"{named} may do one of several tasks, and it is tagged "
                       f"{model.task}, not {task}")  # fmt: skip
    if named not in model.architectures:
        reason = f"the Hub loads it with {named}, which ends in a head for {task}"
    else:
        reason = f"{named} ends in a trained head for {task}"
    if task not in SEGMENTATION:
        return _of("ready", reason)
    if model.model_type == "clipseg":
        return _of("prompted", f"{named} segments what a text names", "clip_dense")
    if model.model_type in _OF_OBJECTS:
        return _of("ready", f"{reason}; its masks are of single objects or films, and are not "
                   "asked for here")  # fmt: skip
    return _of(
        "ready", f"{reason}; the classes are its own and have to be mapped to yours", "native_head"
    )


def _promptable(model: TrackedModel, task: str) -> Capability | None:
    kind = model.model_type or ""
    if kind in SAM and task in SEGMENTATION:
        protocol = "sam_auto" if kind in _ASKED_SAM else None
        if task == "mask-generation":
            return _of("ready", f"{kind} makes masks, of whatever it is pointed at", protocol)
        reason = (
            f"{kind} outlines what a box or a point shows it and names no class; with a grid of "
            "points it needs no prompt"
        )
        return _of("prompted", reason, protocol)
    classifies = any(name.endswith("ForImageClassification") for name in model.architectures)
    if kind in CLIP and task in SEGMENTATION and not classifies:
        reason = f"{kind} compares patches with texts: rough maps of what prompts name"
        return _of("prompted", reason, "clip_dense" if kind in _ASKED_CLIP else None)
    if task == "zero-shot-image-classification" and kind in _COMPARES and not classifies:
        return _of("ready", f"{kind} compares pictures with texts")
    return None


def _elsewhere(model: TrackedModel, task: str) -> Capability | None:
    library = _library(model)
    if library is None:
        return None
    if library == "open_clip" and task == "zero-shot-image-classification":
        return _of("elsewhere", "open_clip compares pictures with texts; transformers may not")
    if library == "open_clip" and task in SEGMENTATION:
        return _of("backbone", "open_clip's vision tower sees; a head has to be trained on it",
                   "linear_probe")  # fmt: skip
    says = library.startswith("nnunet") or (library in _DRAWS and _says_segmentation(model))
    fits = model.task == task or (task in SEGMENTATION and says)
    if not fits:
        other = f"tagged {model.task}, not {task}" if model.task else "not tagged with a task"
        return _of("unknown", f"{_ELSEWHERE[library]}, but it is {other}")
    then = ""
    if task in SEGMENTATION:
        then = "; let it write masks and compare the folder (--model FOLDER)"
    return _of("elsewhere", f"{_ELSEWHERE[library]}{then}")


def _library(model: TrackedModel) -> str | None:
    """The library of the table that the model is for, by its name, tags or files."""
    named = (model.library or "").lower()
    if named in _ELSEWHERE:
        return named
    if named in {"transformers", "timm"}:
        return None
    tags = {tag.lower() for tag in model.tags}
    tagged = next((name for name in _ELSEWHERE if name in tags), None)
    if tagged is not None or model.architectures:
        return tagged
    names = {name.rpartition("/")[2] for name in model.files or ()}
    if {"plans.json", "dataset.json"} <= names or "nnunet" in model.id.lower():
        return "nnunet"
    return "open_clip" if "open_clip_config.json" in names else None


def _says_segmentation(model: TrackedModel) -> bool:
    words = " ".join([model.task or "", *model.tags, model.id]).lower()
    return bool(re.search(r"segment|nnu-?net|\bunet\b|swin-?unetr|-seg\b", words))


def _exported(model: TrackedModel, task: str) -> Capability | None:
    """A file that runs by itself, beside weights that nothing known here loads."""
    if model.architectures or model.task != task or task not in SEGMENTATION:
        return None
    ready = [name for name in model.files or () if name.endswith((".onnx", ".ts"))]
    if not ready:
        return None
    kind = "ONNX" if ready[0].endswith(".onnx") else "TorchScript"
    return _of("elsewhere", f"{kind} file {ready[0]}: give it to --model once downloaded")


def _sees(model: TrackedModel, task: str) -> Capability | None:
    """A vision encoder: a backbone for segmentation, done for features."""
    timm = (model.library or "").lower() == "timm" or "timm" in model.tags
    if timm and task == "image-classification" and model.task in {None, task}:
        return _of("ready", "timm loads it with its trained classifier")
    if not timm and model.model_type not in _SEES | CLIP:
        return None
    what = "timm's backbone" if timm else f"{model.model_type} encoder"
    if task == "image-feature-extraction":
        return _of("ready", f"{what}: its features can be read")
    head = next((name for name in model.architectures if "For" in name), None)
    trained = f", its head ({head}) is for something else" if head else ""
    if task in SEGMENTATION or task in {"image-classification", "object-detection"}:
        probed = task in SEGMENTATION and not _NOT_PROBED & set(model.architectures)
        protocol = "linear_probe" if probed else None
        return _of("backbone", f"{what}{trained}: a head for {task} has to be trained", protocol)
    return None


def _tagged(model: TrackedModel, task: str) -> Capability | None:
    """Loaded by a library that is for models of that tag, and no body without a head."""
    if task in SEGMENTATION - {"mask-generation"} or model.task != task:
        return None
    if model.library not in {"transformers", "timm", "transformers.js"}:
        return None
    name = model.architectures[0] if model.architectures else model.library
    if task in _HEADS and (not model.architectures or name.endswith("Model")):
        return None  # a head is needed, and this is the name of a model without one
    return _of("ready", f"{name}, tagged {task} and loaded by {model.library}")


def _made_for_else(model: TrackedModel, task: str) -> Capability | None:
    """A head that is for another task, where its author does not say that it is for this one."""
    if model.task == task:
        return None
    for name in model.architectures:
        others = [one for one, ends in _HEADS.items() if one != task and name.endswith(ends)]
        if others:
            other = model.task or (others[0] if len(others) < 3 else "text, sound or pictures")
            return _of("no", f"{name} is for {other}, not for {task}")
    return None


_RULES: tuple[Callable[[TrackedModel, str], Capability | None], ...] = (
    _nothing_to_load,
    _adapter,
    _custom_code,
    _another_format,
    _has_head,
    _promptable,
    _elsewhere,
    _exported,
    _sees,
    _tagged,
    _made_for_else,
)
"""In this order; the first that has an answer gives it."""
