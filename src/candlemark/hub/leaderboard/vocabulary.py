"""What the names in a repository's metadata mean: heads, families of models, libraries, formats.

    HEADS["image-segmentation"]  # the ends of architectures' names that have a trained head for it
    ELSEWHERE["monai"]           # "MONAI runs its bundle"

Tables alone; `candlemark.hub.leaderboard.capability` judges by them. A new architecture, library or
format is a line here.
"""

from __future__ import annotations

SEGMENTATION = frozenset({"image-segmentation", "mask-generation"})

HEADS: dict[str, tuple[str, ...]] = {
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

SHARED_HEADS = frozenset(
    end
    for ends in HEADS.values()
    for end in ends
    if sum(end in others for others in HEADS.values()) > 1
)
"""Ends that heads for several tasks have: which of them, only the tag says."""

ALIKE_TASKS = frozenset(
    {"image-text-to-text", "image-to-text", "visual-question-answering", "any-to-any"}
)
"""Tasks that one head does, whichever of them it is tagged with."""

ASKED_SAM = frozenset({"sam", "sam2", "sam2_video"})
ASKED_CLIP = frozenset({"clip", "siglip"})
"""Of the models below, those that `candlemark segment` asks."""

SAM = ASKED_SAM | {"sam3", "sam3_tracker", "sam3_video", "sam_hq", "edgetam", "edgetam_video"}
CLIP = ASKED_CLIP | {"siglip2", "altclip", "chinese_clip", "metaclip_2"}
COMPARE_TEXTS = CLIP | {"align", "blip"}
"""Models that hold a picture against a text, by their `model_type`."""

OF_OBJECTS = frozenset({"rf_detr", "videomt"})
"""Models with a head for masks, of objects or films, by their `model_type`."""

ENCODERS = frozenset(
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

NOT_PROBED = frozenset({"Tipsv2Model"})
"""Of their classes, those that hold a text encoder too and are not probed."""

LOADING = frozenset({"transformers", "timm", "transformers.js"})
"""Libraries whose models candlemark can be given by name."""

ELSEWHERE: dict[str, str] = {
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

DRAW_MASKS = frozenset(
    {
        "monai", "nnunet", "nnunetv2", "ultralytics", "segmentation-models-pytorch", "keras",
        "keras-hub", "tf-keras", "fastai", "paddleseg", "mmsegmentation", "sam2", "coreml",
    }
)  # fmt: skip
"""Those of them whose models may draw masks; of others, "segmentation" means sound or sentences."""

LOADED_FORMATS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")
"""Weights that transformers and timm load, by their names' ends."""

OTHER_FORMATS: dict[str, str] = {
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
"""Weights that neither of them loads, by their names' ends."""
