"""Models that hear: CTC, encoders with a decoder that writes, and classifiers of clips.

    N clips, L samples, T steps or frames, V tokens, C classes

    speech-ctc              {"logits": (N, T, V)}
    speech-seq2seq          {"logits": (N, 1, V), "encoder_last_hidden_state": (N, T, H)}
    speech-classification   {"logits": (N, C)}

    model = build_speech_ctc(request)
    waves = model.make_raw(4, 0)             # float32 (4, L) at facts["sampling_rate_hz"]
    model.module(**model.preprocess(waves))

Clips of a batch have one length, so no mask is given: with one that is all ones every model
answers the same. `facts["audio_s"]` is the length of a clip as a user has it; a model that pads
each clip to its window, such as Whisper to 30 s, works on the window.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from candlemark.errors import ModelError
from candlemark.models.building import first_line
from candlemark.models.inference.answers import best_labels, ctc_ids, next_tokens
from candlemark.models.inference.base import Generator, InferenceModel, InputShape, Tensors
from candlemark.models.inference.generation import Seq2SeqGenerator
from candlemark.models.inference.networks import Network, build_network, network_facts
from candlemark.models.inference.request import LoadRequest
from candlemark.models.inference.sounds import Waves, make_waves
from candlemark.models.inference.tokens import load_tokenizer

DEFAULT_AUDIO_S = 5.0
"""Length of a clip where none is asked for and the model has no window of its own."""

DEFAULT_RATE_HZ = 16_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Hearing:
    """How a network is fed with sound.

    extractor: of transformers; None: zero mean and unit variance of each clip
    input_name: what the network calls its sound: "input_values" or "input_features"
    window_s: what every clip is padded or cut to; None: nothing
    """

    extractor: Any
    source: str
    input_name: str
    rate_hz: int
    audio_s: float
    window_s: float | None

    @property
    def samples(self) -> int:
        """L."""
        return round(self.audio_s * self.rate_hz)

    @property
    def origin(self) -> str:
        """Where the clips come from, in one sentence."""
        padded = f", padded to the model's window of {self.window_s:g} s" if self.window_s else ""
        return (
            f"synthetic speech of {self.audio_s:g} s at {self.rate_hz} Hz{padded}, "
            f"read by {self.source}"
        )

    def make_raw(self, count: int, seed: int) -> Waves:
        """float32 (N, L)."""
        return make_waves(count, self.samples, self.rate_hz, seed)

    def read(self, waves: Waves) -> Tensors:
        """float32 (N, L) -> what the network takes.

        Raises ModelError: no such clips.
        """
        if waves.ndim != 2 or waves.dtype != np.float32:
            raise ModelError(
                f"got {waves.dtype} clips of shape {waves.shape}; allowed: float32 (N, samples)"
            )
        if self.extractor is None:
            centred = waves - waves.mean(axis=1, keepdims=True)
            normal = centred / np.sqrt(waves.var(axis=1, keepdims=True) + 1e-7)
            return {self.input_name: torch.from_numpy(normal)}
        made = self.extractor(list(waves), sampling_rate=self.rate_hz, return_tensors="pt")
        return {self.input_name: made[self.input_name].to(torch.float32)}


class SoundNet(nn.Module):
    """A library's network as sound in, logits out."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, input_values: Tensor | None = None, input_features: Tensor | None = None
    ) -> Tensors:
        """Waves (N, L) or frames (N, ...), whichever the network takes -> {"logits": ...}."""
        made = self.network(**_given(input_values, input_features), return_dict=True)
        return {"logits": made.logits}


class SoundSeq2Seq(nn.Module):
    """An encoder over the whole clip and one step of the decoder over it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(
        self,
        decoder_input_ids: Tensor,
        input_values: Tensor | None = None,
        input_features: Tensor | None = None,
    ) -> Tensors:
        """int64 (N, 1) and the clips -> logits (N, 1, V) and what the encoder made."""
        made = self.network(
            **_given(input_values, input_features),
            decoder_input_ids=decoder_input_ids,
            use_cache=False,
            return_dict=True,
        )
        return {
            "logits": made.logits,
            "encoder_last_hidden_state": made.encoder_last_hidden_state,
        }


def _given(values: Tensor | None, features: Tensor | None) -> dict[str, Tensor]:
    named = {"input_values": values, "input_features": features}
    return {name: tensor for name, tensor in named.items() if tensor is not None}


def build_speech_ctc(request: LoadRequest) -> InferenceModel:
    """One token a step; the answer is the text, or token ids where there is no tokenizer."""
    network = build_network(request, optional=_POSITIONS)
    hearing = find_hearing(request, network.module)
    config: Any = network.module.config
    tokenizer = load_tokenizer(request)
    return _model(
        request,
        network,
        hearing,
        SoundNet(network.module),
        _Text(tokenizer) if tokenizer else partial(ctc_ids, blank=int(config.pad_token_id)),
    )


def build_speech_seq2seq(request: LoadRequest) -> InferenceModel:
    """The clip encoded, and scores of the first token of its transcript."""
    network = build_network(request)
    hearing = find_hearing(request, network.module)
    config: Any = network.module.config
    asked, limit = request.shape.new_tokens, getattr(config, "max_target_positions", None)
    if limit and asked > limit:
        raise ModelError(
            f"new_tokens = {asked}; {request.described.id} writes {limit} tokens at most"
        )
    start = config.decoder_start_token_id
    if start is None:
        raise ModelError(
            f"the config of {request.described.id} has no decoder_start_token_id, so nobody can "
            "tell what its answers begin with"
        )
    return _model(
        request,
        network,
        hearing,
        SoundSeq2Seq(network.module),
        partial(next_tokens, tokenizer=load_tokenizer(request)),
        start=int(start),
        generator=Seq2SeqGenerator(network.module),
    )


def build_speech_classification(request: LoadRequest) -> InferenceModel:
    """Classes of the whole clip; the answer is the five best with their probabilities."""
    network = build_network(request, optional=_POSITIONS)
    config: Any = network.module.config
    return _model(
        request,
        network,
        find_hearing(request, network.module),
        SoundNet(network.module),
        partial(best_labels, names=dict(config.id2label)),
    )


_POSITIONS = ("wav2vec2.masked_spec_embed", "hubert.masked_spec_embed")
"""Used in training only, and left out of some published weights."""


def find_hearing(request: LoadRequest, network: Any) -> Hearing:
    """The checkpoint's own feature extractor, else the library's for this kind, else plain.

    Raises ModelError: the clip is longer than the model's window, or too short for one step;
    the model takes features and nobody here can make them.
    """
    config, name = network.config, str(network.main_input_name)
    extractor, source = _own_extractor(request), "the checkpoint's own feature extractor"
    if extractor is None:
        extractor = _extractor_of_kind(config, name)
        source = f"transformers' {type(extractor).__name__} as the config asks for"
    if extractor is None:
        if name != "input_values":
            raise ModelError(
                f"{request.described.id} ({config.model_type}) takes {name}, and it has no "
                "preprocessor_config.json that says how they are made; "
                "put it beside the config"
            )
        source = "zero mean and unit variance of each clip"
    rate_hz = int(getattr(extractor, "sampling_rate", DEFAULT_RATE_HZ))
    window_s = _window_s(extractor, rate_hz)
    audio_s = request.shape.audio_s or window_s or DEFAULT_AUDIO_S
    hearing = Hearing(
        extractor=extractor,
        source=source,
        input_name=name,
        rate_hz=rate_hz,
        audio_s=audio_s,
        window_s=window_s,
    )
    _check_length(request, network, hearing)
    return hearing


def _check_length(request: LoadRequest, network: Any, hearing: Hearing) -> None:
    asked, name = hearing.audio_s, request.described.id
    if hearing.window_s and asked > hearing.window_s:
        raise ModelError(
            f"audio_s = {asked:g}; {name} hears {hearing.window_s:g} s at most, and pads what is "
            "shorter"
        )
    if hearing.samples < 1:
        raise ModelError(f"audio_s = {asked:g} is no sample at {hearing.rate_hz} Hz; ask for more")
    steps_of = getattr(network, "_get_feat_extract_output_lengths", None)
    if steps_of is None or hearing.input_name != "input_values":
        return
    # An integer for some models, a tensor for others.
    if int(steps_of(torch.tensor(hearing.samples))) < 1:
        raise ModelError(
            f"audio_s = {asked:g} is {hearing.samples} samples, too few for one step of {name}; "
            "ask for a tenth of a second or more"
        )


def _own_extractor(request: LoadRequest) -> Any:
    path = request.beside("preprocessor_config.json") or request.beside("processor_config.json")
    if path is None:
        return None
    from transformers import AutoFeatureExtractor

    try:
        return AutoFeatureExtractor.from_pretrained(
            str(path.parent), local_files_only=True, trust_remote_code=False
        )
    except (ValueError, OSError, TypeError, KeyError, AttributeError, ImportError) as error:
        raise ModelError(
            f"the feature extractor of {request.described.id} cannot be built: "
            f"{first_line(error)}; see {path}"
        ) from error


def _extractor_of_kind(config: Any, input_name: str) -> Any:
    """The library's extractor for this kind of model, its sizes taken from the config."""
    from transformers.models.auto.feature_extraction_auto import FEATURE_EXTRACTOR_MAPPING

    if type(config) not in FEATURE_EXTRACTOR_MAPPING:
        return None
    chosen = FEATURE_EXTRACTOR_MAPPING[type(config)]
    if input_name not in chosen.model_input_names:
        return None
    sizes = _SIZES.get(config.model_type)
    return chosen(**(sizes(config) if sizes else {}))


def _whisper_sizes(config: Any) -> dict[str, Any]:
    # A frame is 10 ms and the encoder halves their number, so a position is 20 ms.
    return {
        "feature_size": config.num_mel_bins,
        "chunk_length": config.max_source_positions // 50,
    }


def _speech_to_text_sizes(config: Any) -> dict[str, Any]:
    bins = config.input_feat_per_channel
    return {"feature_size": bins, "num_mel_bins": bins}


def _spectrogram_sizes(config: Any) -> dict[str, Any]:
    return {"num_mel_bins": config.num_mel_bins, "max_length": config.max_length}


_SIZES: dict[str, Callable[[Any], dict[str, Any]]] = {
    "whisper": _whisper_sizes,
    "speech_to_text": _speech_to_text_sizes,
    "audio-spectrogram-transformer": _spectrogram_sizes,
}


def _window_s(extractor: Any, rate_hz: int) -> float | None:
    """Seconds that every clip is padded or cut to; None where clips keep their length."""
    samples = getattr(extractor, "n_samples", None)
    if samples:
        return float(samples) / rate_hz
    if type(extractor).__name__ == "ASTFeatureExtractor":
        return float(extractor.max_length) / 100  # frames of 10 ms
    return None


@dataclass(frozen=True, slots=True)
class _Preprocess:
    hearing: Hearing
    start: int | None

    def __call__(self, waves: Waves) -> Tensors:
        inputs = self.hearing.read(waves)
        if self.start is not None:
            inputs["decoder_input_ids"] = torch.full((len(waves), 1), self.start)
        return inputs


@dataclass(frozen=True, slots=True)
class _Text:
    """The tokenizer's reading of the likeliest token of each step."""

    tokenizer: Any

    def __call__(self, outputs: Tensors) -> list[Any]:
        return list(self.tokenizer.batch_decode(outputs["logits"].argmax(-1)))


def _model(
    request: LoadRequest,
    network: Network,
    hearing: Hearing,
    module: nn.Module,
    postprocess: Callable[[Tensors], list[Any]],
    *,
    start: int | None = None,
    generator: Generator | None = None,
) -> InferenceModel:
    facts: Mapping[str, Any] = {
        **network_facts(request, network, inputs=hearing.origin),
        "audio_s": hearing.audio_s,
        "window_s": hearing.window_s,
        "sampling_rate_hz": hearing.rate_hz,
    }
    return InferenceModel(
        module=module.eval(),
        model_task=request.described.model_task,
        shape=InputShape(audio_s=hearing.audio_s, new_tokens=request.shape.new_tokens),
        make_raw=hearing.make_raw,
        preprocess=_Preprocess(hearing, start),
        postprocess=postprocess,
        generator=generator,
        facts=facts,
    )
