"""Models that see and give no masks, run on every slice for their time alone.

    segmenter = build_time_only(spec, batch_size=4)
    segmenter.segment(case, watch)           # zeros: nobody scores them
    segmenter.facts["scored"]                # False, with the reason in "reason"

A classifier, a detector or a captioner takes as long on a scan as a segmenter of its size would;
its masks do not exist, and so its scores are null and not 0.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from candlemark.errors import ModelError
from candlemark.models.inference.base import InferenceModel, InputShape
from candlemark.models.inference.loading import load_model
from candlemark.models.inference.pictures import Images
from candlemark.models.segmentation.base import Case, Labels, SegmenterSpec, Stopwatch
from candlemark.models.segmentation.frames import FRAME, square
from candlemark.models.segmentation.pixels import batches, rgb


class TimeOnly:
    """Any model that reads pictures, behind the face of a segmenter."""

    def __init__(
        self, model: InferenceModel, *, device: str, batch_size: int, facts: dict[str, Any]
    ) -> None:
        self._model = replace(model, module=model.module.to(device))
        self._device = torch.device(device)
        self._batch_size = batch_size
        self.facts = facts

    def segment(self, case: Case, watch: Stopwatch) -> Labels:
        """Zeros, uint8 (Z, Y, X), after all that the model does with each slice."""
        with watch("load"):
            window = case.window()
        for start, stop in batches(case, self._batch_size):
            with watch("load"):
                slices = case.read(start, stop)
            with watch("preprocess"):
                inputs = self._model.preprocess(self._items(square(rgb(slices, window))))
                moved = {name: tensor.to(self._device) for name, tensor in inputs.items()}
            with watch("forward"), torch.inference_mode():
                outputs = self._model.module(**moved)
            with watch("postprocess"):
                self._model.postprocess({name: part.cpu() for name, part in outputs.items()})
        return np.zeros(case.shape, np.uint8)

    def _items(self, pictures: Images) -> Any:
        """What the model reads: pictures, or each with a text where it reads both."""
        if self._model.modality == "vision":
            return pictures
        pairs = dict(self._model.make_raw(len(pictures), 0))
        return pairs | {"images": pictures}


def build_time_only(spec: SegmenterSpec, *, batch_size: int) -> TimeOnly:
    """The model as the inference benchmark builds it.

    Raises ModelError: it cannot be had, or reads no pictures.
    """
    model = load_model(
        spec.source,
        weights=spec.weights,
        shape=InputShape(image_size=spec.options.get("image_size")),
        seed=spec.seed,
        allow_pickle=spec.allow_pickle,
    )
    if model.modality not in {"vision", "multimodal"}:
        raise ModelError(
            f"{spec.source} is for {model.model_task} and reads no pictures; "
            "time it with: candlemark profile"
        )
    facts = {
        **model.facts,
        "protocol": "none",
        "frame": FRAME,
        "inputs": f"slices {FRAME}",
        "untrained": model.facts.get("weights") == "random",
        "scored": False,
        "reason": f"{model.model_task} gives no masks: timed, not scored",
    }
    return TimeOnly(model, device=spec.device, batch_size=batch_size, facts=facts)
