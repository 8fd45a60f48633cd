"""Models that hear: outputs of the library, features of its extractors, and real speech."""

from __future__ import annotations

import json
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from candlemark.errors import ModelError
from candlemark.models.inference.base import InferenceModel, InputShape, Tensors
from candlemark.models.inference.loading import load_model

HEARING = ["wav2vec2", "hubert", "wav2vec2-classifier", "whisper"]


@pytest.fixture(autouse=True)
def one_thread_and_no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    torch.set_num_threads(1)


def load(
    model_id: str, *, weights: str = "random", audio_s: float | None = None, new_tokens: int = 16
) -> InferenceModel:
    shape = InputShape(audio_s=audio_s, new_tokens=new_tokens)
    return load_model(model_id, weights=weights, shape=shape, seed=0)


def run(model: InferenceModel, inputs: Tensors) -> Tensors:
    with torch.no_grad():
        outputs: Tensors = model.module(**inputs)
    return outputs


@pytest.mark.parametrize("name", HEARING)
def test_the_module_gives_what_the_library_gives(name: str) -> None:
    model = load(f"tiny:{name}", audio_s=1.5)
    inputs = model.preprocess(model.make_raw(2, 0))
    outputs = run(model, inputs)
    network: Any = model.module.network
    with torch.no_grad():
        theirs = network(**inputs)
    for key, tensor in outputs.items():
        assert torch.equal(tensor, theirs[key])
        assert len(tensor) == 2
        assert torch.isfinite(tensor).all()
        assert tensor.std() > 1e-4
    assert outputs["logits"].std(dim=0).max() > 1e-5  # clips differ
    assert len(model.postprocess(outputs)) == 2
    assert model.shape == InputShape(audio_s=1.5)
    assert model.facts["audio_s"] == 1.5
    assert model.facts["sampling_rate_hz"] == 16_000
    assert model.make_raw(1, 0).shape == (1, 24_000)


@pytest.mark.parametrize("name", ["wav2vec2", "whisper"])
def test_half_precision_is_a_matter_of_moving_module_and_inputs(name: str) -> None:
    model = load(f"tiny:{name}", audio_s=1.0)
    inputs = model.preprocess(model.make_raw(2, 0))
    expected = run(model, inputs)["logits"]
    for dtype, bound in ((torch.float16, 0.02), (torch.bfloat16, 0.1)):
        model.module.to(dtype)
        moved = {
            key: tensor.to(dtype) if tensor.is_floating_point() else tensor
            for key, tensor in inputs.items()
        }
        logits = run(model, moved)["logits"]
        assert logits.dtype == dtype
        assert (logits.float() - expected).norm() / expected.norm() < bound
        if model.generator is not None:
            state = model.generator.step(model.generator.prefill(moved))
            assert model.generator.tokens(state).shape == (2, 2)
        model.module.to(torch.float32)


def test_a_clip_is_five_seconds_or_the_models_window() -> None:
    ctc = load("tiny:wav2vec2")
    assert ctc.facts["audio_s"] == 5.0
    assert ctc.facts["window_s"] is None
    whisper = load("tiny:whisper")
    assert whisper.facts["audio_s"] == whisper.facts["window_s"] == 2.0
    short = load("tiny:whisper", audio_s=0.5)
    assert short.facts["audio_s"] == 0.5
    assert "padded to the model's window of 2 s" in short.facts["inputs"]
    whole = whisper.preprocess(whisper.make_raw(1, 0))["input_features"]
    assert short.preprocess(short.make_raw(1, 0))["input_features"].shape == whole.shape


def test_generated_tokens_are_the_greedy_choice_without_a_cache() -> None:
    model = load("tiny:whisper")
    generator = model.generator
    assert generator is not None
    inputs = model.preprocess(model.make_raw(3, 1))
    state = generator.prefill(inputs)
    for _ in range(5):
        state = generator.step(state)
    read = inputs["decoder_input_ids"]
    for _ in range(6):
        logits = run(model, {**inputs, "decoder_input_ids": read})["logits"]
        read = torch.cat((read, logits[:, -1:].argmax(-1)), dim=1)
    assert torch.equal(generator.tokens(state), read[:, 1:])
    assert model.postprocess(run(model, inputs)) == read[:, 1:2].tolist()


def test_features_are_those_of_whispers_own_extractor() -> None:
    model = load("tiny:whisper")
    waves = model.make_raw(2, 0)
    extractor = transformers.WhisperFeatureExtractor(feature_size=80, chunk_length=2)
    theirs = extractor(list(waves), sampling_rate=16_000, return_tensors="pt")["input_features"]
    assert torch.equal(model.preprocess(waves)["input_features"], theirs)


def test_waves_get_mean_zero_and_width_one() -> None:
    model = load("tiny:wav2vec2", audio_s=1.0)
    values = model.preprocess(3 * model.make_raw(2, 0) + 1)["input_values"]
    assert values.mean(dim=1).abs().max() < 1e-4
    assert torch.allclose(values.std(dim=1), torch.tensor(1.0), atol=1e-3)


def test_the_checkpoints_own_extractor_and_tokenizer_go_first(tmp_path: Path) -> None:
    network = load("tiny:wav2vec2").module.network
    network.save_pretrained(tmp_path)
    transformers.Wav2Vec2FeatureExtractor(sampling_rate=8000, do_normalize=False).save_pretrained(
        tmp_path
    )
    letters = ["<pad>", "<s>", "</s>", "<unk>", "|", *"abcdefghijklmnopqrstuvwxyz'"]
    vocabulary = {letter: index for index, letter in enumerate(letters)}
    file = tmp_path / "words.json"
    file.write_text(json.dumps(vocabulary), encoding="utf-8")
    transformers.Wav2Vec2CTCTokenizer(str(file)).save_pretrained(tmp_path)
    file.unlink()
    model = load(str(tmp_path), weights="pretrained", audio_s=1.0)
    assert model.facts["sampling_rate_hz"] == 8000
    assert model.facts["inputs"].endswith("read by the checkpoint's own feature extractor")
    waves = model.make_raw(2, 0)
    assert waves.shape == (2, 8000)
    inputs = model.preprocess(waves)
    assert torch.equal(inputs["input_values"], torch.from_numpy(waves))
    best = torch.tensor([[5, 5, 0, 5, 6, 4, 7], [0, 0, 9, 9, 0, 0, 0]])
    logits = torch.nn.functional.one_hot(best, 32).float()
    assert model.postprocess({"logits": logits}) == ["aab c", "e"]


def test_real_speech_can_be_read(shared_data: Path) -> None:
    with wave.open(str(shared_data / "audio" / "speech_60s.wav")) as file:
        assert file.getframerate() == 16_000
        raw = np.frombuffer(file.readframes(32_000), np.int16).astype(np.float32) / 32_768
    speech = raw[None, :]
    for name in ("wav2vec2", "whisper"):
        model = load(f"tiny:{name}", audio_s=2.0)
        inputs = model.preprocess(speech)
        made = model.preprocess(model.make_raw(1, 0))
        assert {key: tensor.shape for key, tensor in inputs.items()} == {
            key: tensor.shape for key, tensor in made.items()
        }
        assert torch.isfinite(run(model, inputs)["logits"]).all()


def test_wrong_lengths_are_refused_in_one_line() -> None:
    for name, options, message in (
        ("whisper", {"audio_s": 3.0}, r"audio_s = 3; tiny:whisper hears 2 s at most"),
        ("whisper", {"audio_s": 1e-6}, r"audio_s = 1e-06 is no sample at 16000 Hz; ask for more"),
        ("wav2vec2", {"audio_s": 0.01}, r"audio_s = 0.01 is 160 samples, too few for one step"),
        ("whisper", {"new_tokens": 500}, r"new_tokens = 500; tiny:whisper writes 128 tokens"),
    ):
        with pytest.raises(ModelError, match=message) as caught:
            load(f"tiny:{name}", **options)
        assert "\n" not in str(caught.value)
    model = load("tiny:wav2vec2")
    with pytest.raises(ModelError, match=r"got float64 clips of shape \(2, 80000\)"):
        model.preprocess(model.make_raw(2, 0).astype(np.float64))
