"""Metadata as it stands: read where it can be, told where it cannot, and never fatal."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hub_models import entry, index, segformer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from candlemark.hub.leaderboard.claims import read_claims
from candlemark.hub.leaderboard.facts import is_model, is_weights, kept_facts, read_model
from candlemark.results.tracked import Claim, TrackedModel

KEYS = (
    "task", "dataset", "metrics", "results", "type", "name", "value", "data", "id", "source", "url",
    "total", "error", "task_id", "rfilename", "auto_model", "verified",
)  # fmt: skip
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(KEYS),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
FIELDS = (
    "cardData", "config", "createdAt", "disabled", "downloads", "downloadsAllTime", "evalResults",
    "gated", "gguf", "lastModified", "library_name", "likes", "model-index", "pipeline_tag",
    "safetensors", "sha", "siblings", "tags", "transformersInfo", "trendingScore",
)  # fmt: skip


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(FIELDS), anything))
def test_no_metadata_is_fatal(told: dict[str, Any]) -> None:
    model = read_model(kept_facts({"id": "a/b", **told}), ("q",))
    assert model.id == "a/b"
    text = json.dumps(model.to_dict(), allow_nan=False)
    assert TrackedModel.from_dict(json.loads(text)) == model
    for count in (model.downloads, model.likes, model.parameters):
        assert count is None or count >= 0


def test_a_text_in_place_of_a_word_is_cut() -> None:
    told = {"cardData": {"license": "l" * 500}, "library_name": "x" * 5000, "tags": ["t" * 500]}
    model = read_model(kept_facts(entry("a/b", **told)), ())
    for text in (model.license, model.library, *model.tags):
        assert text is not None
        assert len(text) == 100
        assert text.endswith("...")


def test_what_an_author_writes_is_not_verified_by_the_hub() -> None:
    told = {"cardData": {"model-index": index(0.9, verified=True)}}
    claims, problems = read_claims(told)
    assert ([one.verification for one in claims], problems) == (["claimed"], ())
    signed = {"cardData": {"model-index": index(0.9, verifyToken="e.y.J")}}
    assert [one.verification for one in read_claims(signed)[0]] == ["signed"]


@given(anything)
def test_what_is_no_entry_is_none(told: Any) -> None:
    assert isinstance(is_model(kept_facts(told)), bool)


def test_a_model_in_good_order() -> None:
    model = read_model(segformer(pipeline_tag="image-segmentation"), ("q",))
    assert model.to_dict() == {
        "id": "nvidia/segformer-b0",
        "found_by": ("q",),
        "task": "image-segmentation",
        "library": "transformers",
        "architectures": ("SegformerForSemanticSegmentation",),
        "model_type": "segformer",
        "auto_class": None,
        "tags": ("transformers", "license:mit"),
        "downloads": 100,
        "downloads_all_time": 5000,
        "likes": 3,
        "trending": 1,
        "license": "mit",
        "gated": "no",
        "disabled": False,
        "parameters": 4_000_000,
        "parameters_from": "safetensors",
        "created_at": "2024-01-01T00:00:00Z",
        "last_modified": "2025-01-02T03:04:05Z",
        "commit": "a" * 40,
        "files": ("config.json", "model.safetensors"),
        "file_count": 2,
        "claims": (),
        "problems": (),
    }


def test_unknown_is_none_and_never_zero() -> None:
    model = read_model({"id": "a/b"}, ())
    numbers = (model.downloads, model.downloads_all_time, model.likes, model.trending)
    assert numbers == (None, None, None, None)
    assert model.parameters is None
    assert model.gated is None
    assert model.license is None
    assert model.files is None
    assert model.claims == ()
    assert model.problems == (), "what is not told is no problem"


@pytest.mark.parametrize(
    ("told", "problem"),
    [
        ({"likes": "many"}, "likes is 'many', not a number"),
        ({"likes": -3}, "likes is -3, not a count"),
        ({"likes": True}, "likes is True, not a number"),
        ({"downloads": float("nan")}, "downloads is nan, not a count"),
        ({"downloads": 10**40}, f"downloads is {str(10**40)[:37]}..., not a count"),
        ({"gated": "perhaps"}, "gated is 'perhaps', not auto, manual or false"),
        ({"lastModified": "yesterday"}, "lastModified is 'yesterday', not a time"),
        ({"lastModified": 7}, "lastModified is 7, not a time"),
        (
            {"lastModified": "9999-12-31T23:59:59-10:00"},
            "lastModified is '9999-12-31T23:59:59-10:00', not a time",
        ),
        ({"config": ["x"]}, "config is ['x'], not a mapping"),
        ({"tags": 3}, "tags is 3, not a list"),
        ({"safetensors": "broken"}, "safetensors is 'broken', not a mapping"),
        ({"siblings": "none"}, "siblings is 'none', not a list"),
        ({"pipeline_tag": " "}, "pipeline_tag is ' ', not a word"),
        ({"sha": "\x1b[31m"}, None),
    ],
)
def test_what_cannot_be_read_is_told(told: dict[str, Any], problem: str | None) -> None:
    model = read_model({"id": "a/b", **told}, ())
    assert model.problems == (() if problem is None else (problem,))


def test_nothing_that_steers_a_terminal_is_kept() -> None:
    told = {"id": "a/b", "tags": ["\x1b[31mred\x07"], "library_name": "a\nb"}
    told["siblings"] = [{"rfilename": "\ud800\x1b[2Jnet.onnx"}]  # half a letter, as JSON may say
    model = read_model({**told, "model-index": index("0.9\x1b[2J")}, ())
    assert model.tags == ("[31mred",)
    assert model.library == "a b"
    assert model.files == ("[2Jnet.onnx",)
    assert model.claims[0].told == "0.9 [2J"


@pytest.mark.parametrize(
    ("card", "tags", "licence"),
    [
        ({"license": "mit"}, [], "mit"),
        (None, ["license:apache-2.0"], "apache-2.0"),
        (
            {"license": "other", "license_name": "nvidia-source"},
            ["license:other"],
            "other (nvidia-source)",
        ),
        ({"license": ["mit", "cc-by-4.0"]}, [], "mit, cc-by-4.0"),
        ({"license": ""}, [], None),
        (None, [], None),
    ],
)
def test_licences(card: Any, tags: list[str], licence: str | None) -> None:
    assert read_model({"id": "a/b", "cardData": card, "tags": tags}, ()).license == licence


def test_parameters_are_those_of_the_weights_that_count_them() -> None:
    both = entry("a/b", safetensors={"total": 5}, gguf={"total": 7})
    assert read_model(both, ()).parameters == 5
    gguf = read_model(entry("a/b", safetensors=None, gguf={"total": 7}), ())
    assert (gguf.parameters, gguf.parameters_from) == (7, "gguf")
    assert read_model(entry("a/b", safetensors={"total": 0}), ()).parameters is None


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("model.safetensors", True),
        ("onnx/model.onnx", True),
        ("checkpoint_final.pth", True),
        ("pytorch_model-00001-of-00002.bin", True),
        ("training_args.bin", False),
        ("optimizer.pt", False),
        ("tokenizer.json", False),
        ("README.md", False),
        ("logo.png", False),
    ],
)
def test_which_files_are_weights(name: str, weights: bool) -> None:
    assert is_weights(name) is weights


def test_a_claim_keeps_where_it_is_from_and_who_checked_it() -> None:
    told = index(0.887, verified=True)
    told[0]["results"][0]["source"] = {"name": "Paper", "url": "https://example.org/p"}
    claims, problems = read_claims({"model-index": told})
    assert problems == ()
    assert claims == (
        Claim(
            origin="model-index",
            task="image-segmentation",
            dataset="isic",
            metric="dice",
            value=0.887,
            told="0.887",
            verification="verified",
            split="test",
            source="https://example.org/p",
            source_name="Paper",
        ),
    )


def test_eval_results_keep_source_date_and_verification() -> None:
    data = {
        "dataset": {"id": "org/bench", "task_id": "mean_dice"},
        "value": 0.96,
        "verifyToken": "eyJ",
        "date": "2026-01-15",
        "source": {"url": "https://example.org/run", "org": "org"},
        "notes": "no tools",
    }
    (claim,), problems = read_claims({"evalResults": [{"filename": "a.yaml", "data": data}]})
    assert problems == ()
    assert claim.origin == ".eval_results"
    assert (claim.dataset, claim.metric, claim.value) == ("org/bench", "mean_dice", 0.96)
    assert claim.verification == "signed", "a token is there, and nobody here has checked it"
    assert (claim.source, claim.source_name) == ("https://example.org/run", "org")
    assert (claim.date, claim.notes) == ("2026-01-15", "no tools")
    (checked,), _ = read_claims({"evalResults": [{"verified": True, "data": data}]})
    assert checked.verification == "verified"


def test_eval_results_agree_with_the_hubs_own_client() -> None:
    from huggingface_hub import EvalResultEntry
    from huggingface_hub._eval_results import eval_result_entries_to_yaml

    told = EvalResultEntry(
        dataset_id="cais/hle",
        task_id="default",
        value=20.9,
        source_url="https://e.org",
        source_user="u",
    )
    (claim,), _ = read_claims({"evalResults": eval_result_entries_to_yaml([told])})
    assert (claim.dataset, claim.task, claim.value) == ("cais/hle", "default", 20.9)
    assert (claim.source, claim.source_name) == ("https://e.org", "u")


def test_a_model_index_agrees_with_the_hubs_own_client() -> None:
    from huggingface_hub.repocard_data import model_index_to_eval_results

    told = index(85.2, metric="mean_iou", verifyToken="t", name="Mean IoU")
    (theirs,) = model_index_to_eval_results(told)[1]
    (ours,), _ = read_claims({"model-index": told})
    assert (ours.task, ours.dataset, ours.split) == (
        theirs.task_type, theirs.dataset_type, theirs.dataset_split,
    )  # fmt: skip
    assert (ours.metric, ours.value) == (theirs.metric_type, theirs.metric_value)
    assert ours.verification == "signed"


@pytest.mark.parametrize(
    ("value", "number", "told"),
    [
        (0, 0.0, "0"),
        (91.25, 91.25, "91.25"),
        ("0.91", 0.91, "0.91"),
        ("91.2 %", 91.2, "91.2 %"),
        ("20.0 ± 1.2", 20.0, "20.0 ± 1.2"),
        ("high", None, "high"),
        ("1e999", None, "1e999"),
        (float("nan"), None, "nan"),
        (10**400, None, str(10**400)[:60]),
        (None, None, "None"),
        ({"a": 1}, None, "{'a': 1}"),
    ],
)
def test_values_are_numbers_where_they_are_written_as_such(
    value: Any, number: float | None, told: str
) -> None:
    (claim,), _ = read_claims({"model-index": index(value)})
    assert (claim.value, claim.told) == (number, told)


def test_claiming_nothing_is_not_claiming_zero() -> None:
    assert read_claims({}) == ((), ())
    assert read_claims({"model-index": None, "evalResults": []}) == ((), ())
    (zero,), _ = read_claims({"model-index": index(0)})
    assert zero.value == 0.0


def test_the_cards_own_model_index_is_read_where_the_hub_gives_none() -> None:
    (claim,), _ = read_claims({"cardData": {"model-index": index(0.5)}})
    assert claim.value == 0.5


@pytest.mark.parametrize(
    ("told", "problem"),
    [
        ({"model-index": "x"}, "model-index is str, not a list"),
        ({"model-index": [{"results": "none"}]}, "an entry of model-index has no list of results"),
        ({"model-index": [{"results": [{}]}]}, "a result of model-index has no list of metrics"),
        (
            {"model-index": [{"results": [{"metrics": [{"type": "dice"}]}]}]},
            "a metric of model-index has no value",
        ),
        ({"evalResults": "x"}, "evalResults is str, not a list"),
        ({"evalResults": [3]}, "an entry of .eval_results is no mapping"),
        ({"evalResults": [{"data": {}}]}, "an entry of .eval_results has no value"),
        (
            {"evalResults": [{"filename": "a.yaml", "error": "bad yaml"}]},
            "the Hub refuses a.yaml of .eval_results: bad yaml",
        ),
    ],
)
def test_claims_that_cannot_be_read_are_told_and_the_rest_is_read(
    told: dict[str, Any], problem: str
) -> None:
    other = "model-index" if "evalResults" in told else "evalResults"
    good: Any = index(1) if other == "model-index" else [{"dataset": {"id": "a/b"}, "value": 1}]
    claims, problems = read_claims({**told, other: good})
    assert problems == (problem,)
    assert [claim.value for claim in claims] == [1.0]
