"""Capability first, then measured and claimed, popularity last; and every place has its reason."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hub_models import entry, index, segformer
from hypothesis import given
from hypothesis import strategies as st

from candlemark.hub.leaderboard.facts import read_model
from candlemark.hub.leaderboard.rank import rank_section, worth
from candlemark.report.leaderboard.board import LEVELS, Section
from candlemark.results.own_scores import OwnScore

SEG = "image-segmentation"
SCORE = OwnScore(
    model="a/a", row="a", task="segmentation", about="phantoms", metric="dice", value=0.8, low=0.75,
    high=0.85, protocol="native_head", control="otsu", control_value=0.5,
)  # fmt: skip


def rank(*entries: dict[str, Any], own: list[OwnScore] | None = None) -> Section:
    scores: dict[str, list[OwnScore]] = {}
    for score in own or []:
        scores.setdefault(score.model, []).append(score)
    return rank_section(SEG, [read_model(one, ("q",)) for one in entries], own=scores)


def order(section: Section) -> list[str]:
    return [one.model.id for one in section.standings]


def test_what_can_do_it_stands_before_what_is_popular() -> None:
    popular = entry(
        "x/llama", config={"architectures": ["LlamaForCausalLM"]}, downloads=10**9, likes=10**6
    )
    section = rank(popular, segformer("a/quiet", downloads=1, likes=0))
    assert order(section) == ["a/quiet", "x/llama"]
    assert [one.recommended for one in section.standings] == [True, False]


def test_levels_stand_in_their_order() -> None:
    entries = [
        entry("no/a", files=("README.md",)),
        entry("unknown/a", config={"architectures": ["Strange"]}),
        entry("backbone/a", config={"architectures": ["ViTModel"], "model_type": "vit"}),
        entry("prompted/a", config={"architectures": ["SamModel"], "model_type": "sam"}),
        entry("elsewhere/a", library_name="monai", pipeline_tag=SEG),
        segformer("ready/a"),
    ]
    section = rank(*entries)
    assert [name.partition("/")[0] for name in order(section)] == list(LEVELS)
    assert [one.model.id for one in section.recommended] == [
        "ready/a", "elsewhere/a", "prompted/a",
    ]  # fmt: skip


def test_measured_above_its_control_stands_before_the_popular_and_the_claimed() -> None:
    claimed = segformer("b/b", downloads=10**6, model_index=index(0.99, verified=True))
    section = rank(claimed, segformer("a/a", downloads=1), own=[SCORE])
    assert order(section) == ["a/a", "b/b"]
    assert section.standings[0].why == (
        "SegformerForSemanticSegmentation ends in a trained head for image-segmentation; the "
        "classes are its own and have to be mapped to yours; measured here: dice 0.800 on phantoms "
        "by native_head, above the control otsu (0.500); claims no result; 1 download in 30 days"
    )


def test_measured_and_not_above_its_control_stands_last_and_is_not_recommended() -> None:
    beaten = replace(SCORE, value=0.52, low=0.49)
    section = rank(segformer("a/a"), segformer("b/b", downloads=0), own=[beaten])
    assert order(section) == ["b/b", "a/a"]
    assert [one.model.id for one in section.recommended] == ["b/b"]
    assert "not above the control otsu (0.500)" in section.standings[1].why


def test_scores_of_another_task_say_nothing_here() -> None:
    charts = replace(SCORE, task="charts", metric="auroc", value=0.5, low=0.4)
    (standing,) = rank(segformer("a/a"), own=[charts]).standings
    assert standing.measured == ()
    assert standing.recommended
    assert "; not measured here; " in standing.why
    classifier = entry("a/a", config={"architectures": ["ViTForImageClassification"]})
    section = rank_section(
        "image-classification", [read_model(classifier, ("q",))], own={"a/a": [SCORE, charts]}
    )
    assert section.standings[0].measured == (charts,)


@pytest.mark.parametrize("verdict", ["ORACLE", "UNTRAINED", "TOO_FEW"])
def test_a_score_that_may_not_be_quoted_lifts_nobody(verdict: str) -> None:
    oracle = replace(SCORE, value=0.99, verdict=verdict)
    section = rank(segformer("a/a", downloads=1), segformer("b/b", downloads=2), own=[oracle])
    assert order(section) == ["b/b", "a/a"]
    assert f"not to be quoted ({verdict})" in section.standings[1].why


def test_of_two_measured_the_better_stands_first() -> None:
    other = replace(SCORE, model="b/b", value=0.9, low=0.85)
    section = rank(segformer("a/a", downloads=9), segformer("b/b", downloads=1), own=[SCORE, other])
    assert order(section) == ["b/b", "a/a"]


def test_claims_of_the_same_are_compared_in_one_unit() -> None:
    section = rank(
        segformer("percent/a", model_index=index(85.2), downloads=9),
        segformer("share/a", model_index=index(0.887, metric="Dice", dataset="ISIC"), downloads=1),
    )
    assert order(section) == ["share/a", "percent/a"]
    assert "claims Dice 0.887 on ISIC (test), number 1 of 2 here that claim it" in (
        section.standings[0].why
    )


def test_a_claim_that_nobody_else_makes_compares_with_nothing() -> None:
    section = rank(
        segformer("b/b", model_index=index(0.99, dataset="own"), downloads=1),
        segformer("a/a", downloads=9),
    )
    assert order(section) == ["b/b", "a/a"]
    assert "which no other model here claims too" in section.standings[0].why


def test_the_checked_claim_stands_before_the_unchecked() -> None:
    section = rank(
        segformer("b/b", model_index=index(0.9), downloads=9),
        segformer("a/a", model_index=index(0.9, verified=True), downloads=1),
    )
    assert order(section) == ["a/a", "b/b"]


def test_claiming_zero_is_worse_than_its_rival_and_not_the_same_as_none() -> None:
    section = rank(
        segformer("zero/a", model_index=index(0), downloads=1),
        segformer("one/a", model_index=index(0.5), downloads=1),
        segformer("none/a", downloads=10**6),
    )
    assert order(section) == ["one/a", "zero/a", "none/a"]
    assert "claims dice 0 on isic (test), number 2 of 2" in section.standings[1].why
    assert "claims no result" in section.standings[2].why


def test_downloads_nobody_told_come_after_none() -> None:
    section = rank(segformer("a/a", downloads=None), segformer("b/b", downloads=0))
    assert order(section) == ["b/b", "a/a"]
    assert section.standings[1].why.endswith("n/a downloads in 30 days")


@pytest.mark.parametrize(
    ("metric", "worse", "better"),
    [
        ("dice", 0.5, 0.6),
        ("accuracy", 0.871, 87.2),
        ("wer", 0.2, 0.1),
        ("eval_loss", 2.0, 1.0),
        ("hd95 (HD95 in mm)", 12.0, 3.0),
        ("mean_squared_error", 2.0, 1.0),
        ("psnr", 20.0, 30.0),
        ("wer (Test WER)", 0.05, 2.01),
        ("answer order", 0.5, 2.0),
        ("dsc", 0.871, 87.2),
        ("auroc", 91.0, 0.92),
        ("normalised_surface_distance (NSD)", 0.7, 0.8),
        ("average_surface_distance", 3.0, 2.0),
        ("edit_similarity", 0.7, 0.8),
        ("ppl", 12.0, 3.0),
        ("mape", 12.0, 0.9),
        ("box mAP50-95", 0.4, 41.0),
    ],
)
def test_which_way_a_metric_is_better(metric: str, worse: float, better: float) -> None:
    assert worth(metric, better) > worth(metric, worse)


def test_scores_of_other_data_are_not_held_against_each_other() -> None:
    entries = [segformer(name, downloads=9 - place) for place, name in enumerate(("a/a", "b/b"))]
    easy = replace(SCORE, model="b/b", about="phantoms", value=0.99)
    hard = replace(SCORE, model="a/a", about="clinic", value=0.75)
    assert order(rank(*entries, own=[easy, hard])) == ["a/a", "b/b"], "by downloads"
    both = [easy, hard, replace(easy, about="clinic", value=0.8)]
    assert order(rank(*entries, own=both)) == ["b/b", "a/a"]
    alone = [easy, replace(SCORE, model="a/a", about="clinic", value=0.75, control_value=0.9)]
    assert order(rank(*entries, own=alone)) == ["b/b", "a/a"], "not above its control"


def test_who_claims_most_is_not_first_for_one_of_them() -> None:
    def claims(values: list[float]) -> list[dict[str, Any]]:
        results = [index(value, metric=f"m{n}")[0]["results"][0] for n, value in enumerate(values)]
        return [{"name": "m", "results": results}]

    section = rank(
        segformer("a/many", model_index=claims([0.9, 0.1, 0.1, 0.1]), downloads=10**6),
        segformer("b/good", model_index=claims([0.8, 0.7, 0.7, 0.7])),
    )
    assert order(section) == ["b/good", "a/many"]
    assert (
        "claims m3 0.7 on isic (test), number 1 of 2 here that claim it, and no worse than 75% of "
        "such rivals in 4 claims" in section.standings[0].why
    )


def test_data_without_a_name_is_not_the_same_data() -> None:
    section = rank(
        segformer("a/a", model_index=index(0.5, dataset="imagefolder"), downloads=9),
        segformer("b/b", model_index=index(0.9, dataset="ImageFolder"), downloads=1),
    )
    assert order(section) == ["a/a", "b/b"]
    assert (
        "claims dice 0.5 on IMAGEFOLDER (test), on data that nobody else can name"
        in section.standings[0].why
    )
    named = index(0.5, dataset="imagefolder")
    named[0]["results"][0]["dataset"]["name"] = "Chest X-ray"
    (claim,) = read_model(segformer("a/a", model_index=named), ()).claims
    assert (claim.dataset, claim.names_data) == ("Chest X-ray", True)


def test_a_per_cent_sign_is_read_whatever_the_number() -> None:
    assert worth("wer", 0.9, "0.9%") == pytest.approx(-0.009)
    assert worth("psnr", 0.9, "0.9%") == 0.9


@given(st.permutations(range(5)))
def test_the_order_does_not_depend_on_who_was_found_first(places: list[int]) -> None:
    entries = [
        segformer("a/a"), segformer("b/b", downloads=7), segformer("c/c", model_index=index(0.9)),
        entry("d/d", files=("README.md",)), segformer("e/e", model_index=index(0.8)),
    ]  # fmt: skip
    assert order(rank(*(entries[place] for place in places))) == order(rank(*entries))


def test_terms_of_use_are_told_and_change_no_place() -> None:
    section = rank(
        segformer("a/a", gated="manual", tags=[], downloads=9), segformer("b/b", downloads=1)
    )
    assert order(section) == ["a/a", "b/b"]
    assert section.standings[0].why.endswith(
        "; 9 downloads in 30 days; access has to be asked for; no licence is stated"
    )


def test_the_next_step_measures_what_can_be_measured() -> None:
    sam = entry("s/sam", config={"architectures": ["SamModel"], "model_type": "sam"})
    monai = entry("m/monai", library_name="monai", pipeline_tag=SEG)
    assert rank(segformer("a/a"), sam, monai).next_step == (
        "candlemark segment --image-dir IMAGES --seg-dir MASKS --config CLASS_MAPS.yaml "
        "--hf-models a/a=native_head --hf-models s/sam=sam_auto"
    )
    assert rank(monai).next_step is None
