"""Load any model for inference behind one face: the table of builders, and the door to it.

model = load_model("tiny:bert", weights="random", shape=InputShape(), seed=0)
model.module(**model.preprocess(model.make_raw(2, 0)))
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

import torch

from candlemark.errors import CandlemarkError, ModelError
from candlemark.models.building import first_line, quiet
from candlemark.models.inference.base import InferenceModel, InputShape
from candlemark.models.inference.custom import load_function
from candlemark.models.inference.describe import describe
from candlemark.models.inference.request import LoadRequest
from candlemark.models.inference.weights import weights_path

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
    """The model, ready to be measured: on the CPU, in float32, in evaluation mode.

    model_id: as `describe` takes it
    weights: "pretrained" (the Hub cache, else the Hub; a folder's own), "random" (from the
        config, seeded), or the path of a folder or file
    shape: how large items are; None fields take what the model was made for
    seed: of random weights; the caller's random state is left alone
    allow_pickle: also load weights that are not safetensors; still tensors only

    Code from the Hub is never run. Raises ModelError: nobody knows the model, its weights
    cannot be had or are another model's, or it does not take items of this shape.
    """
    described = describe(model_id, weights=weights)
    if described.library == "python":
        return load_function(model_id)
    request = LoadRequest(
        described=described,
        file=weights_path(described, allow_pickle=allow_pickle),
        shape=shape,
        seed=seed,
        allow_pickle=allow_pickle,
    )
    build = builder(described.model_task)
    with torch.random.fork_rng(devices=[]), quiet():
        try:
            model = build(request)
        except (CandlemarkError, MemoryError):
            raise
        except Exception as error:  # each library refuses configs and weights in its own way
            what = f"{described.model_class} from {request.file or 'random weights'}"
            raise ModelError(
                f"cannot build {model_id} ({what}): {type(error).__name__}: {first_line(error)}"
            ) from error
    model.module.eval()
    return model


def builder(model_task: str) -> Callable[[LoadRequest], InferenceModel]:
    """The function that builds models of `model_task`."""
    file, _, name = BUILDERS[model_task].partition(":")
    build: Callable[[LoadRequest], InferenceModel] = getattr(
        import_module(f"candlemark.models.inference.{file}"), name
    )
    return build
