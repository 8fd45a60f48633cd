"""Load any model for inference behind one face: the table of builders, and the door to it.

model = load_model("tiny:bert", weights="random", shape=InputShape(), seed=0)
model.module(**model.preprocess(model.make_raw(2, 0)))
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from candlemark.models.inference.base import InferenceModel, InputShape
from candlemark.models.inference.describe import describe
from candlemark.models.inference.request import LoadRequest

BUILDERS: dict[str, str] = {
    "text-encoder": "text:build_text_encoder",
    "text-classification": "text:build_text_classification",
    "text-decoder": "text:build_text_decoder",
    "text-seq2seq": "text:build_text_seq2seq",
    "image-classification": "vision:build_image_classification",
    "image-features": "vision:build_image_features",
    "object-detection": "vision:build_object_detection",
    "image-segmentation": "vision:build_image_segmentation",
    "speech-ctc": "speech:build_speech_ctc",
    "speech-seq2seq": "speech:build_speech_seq2seq",
    "speech-classification": "speech:build_speech_classification",
    "image-text-similarity": "multimodal:build_image_text_similarity",
    "image-captioning": "multimodal:build_image_captioning",
    "vision-language": "multimodal:build_vision_language",
}
"""Who builds a model of each task: FILE:FUNCTION beside this file, loaded when it is asked for."""


def load_model(
    model_id: str,
    *,
    weights: str,
    shape: InputShape,
    seed: int,
    allow_pickle: bool = False,
) -> InferenceModel:
    """The model, ready to be measured: on the CPU, in float32, in evaluation mode."""
    described = describe(model_id, weights=weights)
    request = LoadRequest(
        described=described, file=None, shape=shape, seed=seed, allow_pickle=allow_pickle
    )
    return builder(described.model_task)(request)


def builder(model_task: str) -> Callable[[LoadRequest], InferenceModel]:
    """The function that builds models of `model_task`."""
    file, _, name = BUILDERS[model_task].partition(":")
    build: Callable[[LoadRequest], InferenceModel] = getattr(
        import_module(f"candlemark.models.inference.{file}"), name
    )
    return build
