"""Queries as they are typed and as they are sent."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from candlemark.errors import ConfigError
from candlemark.hub.leaderboard.cache import PageCache
from candlemark.hub.leaderboard.queries import (
    EXPAND,
    QUERY_SETS,
    SORTS,
    TASKS,
    Query,
    checked,
    hint,
    narrowed,
    parse,
    read_count,
)
from candlemark.hub.leaderboard.search import ModelSearch

words = st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1).filter(
    lambda text: text.strip() == text
)


@given(
    st.builds(
        Query,
        task=st.sampled_from(sorted(TASKS)) | words,
        tags=st.lists(words, max_size=3).map(tuple),
        text=st.none() | words,
        author=st.none() | words,
        library=st.none() | words,
        min_parameters=st.none() | st.integers(0, 10**13),
        max_parameters=st.none() | st.integers(0, 10**13),
        wanted_for=st.none() | st.sampled_from(sorted(TASKS)) | words,
        sort=st.sampled_from(sorted(SORTS)),
        limit=st.integers(1, 500),
    )
)
def test_what_is_typed_is_read_back(query: Query) -> None:
    assert parse(query.asked) == query


def test_a_bare_word_is_searched_for() -> None:
    assert parse("medsam for=mask-generation") == Query(text="medsam", wanted_for="mask-generation")
    assert parse("tag=medical tag=license:mit").tags == ("medical", "license:mit")


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("tsak=x", "query 'tsak=x': 'tsak' is no key; did you mean 'task'?"),
        ("task=", "query 'task=': 'task=' says nothing; write task=VALUE"),
        ("task=a task=b", "query 'task=a task=b': 'task' stands twice; make two queries"),
        ("limit=0", "query 'limit=0': limit=0 is no number of models; write 20"),
        ("limit=²", "query 'limit=²': limit=² is no number of models; write 20"),
        ("sort=like", "query 'sort=like': sort=like is not known; did you mean 'likes'?"),
        ("max=big", "'big' is no number of parameters; write 90M, 1.5B or 90000000"),
        (
            f"max={'9' * 400}",
            f"'{'9' * 400}' is no number of parameters; write 90M, 1.5B or 90000000",
        ),
        ("text='a", "query 'text='a': No closing quotation; close the quotes"),
        ("", "a query says nothing; write for example: task=image-segmentation"),
    ],
)
def test_what_is_wrong_in_a_query_is_named(typed: str, told: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse(typed)
    assert str(error.value) == told


def test_sizes_are_read() -> None:
    counts = [read_count(text) for text in ("90M", "1.5b", "7", "2K")]
    assert counts == [90_000_000, 1_500_000_000, 7, 2000]


def test_a_size_only_narrows() -> None:
    assert narrowed(Query(max_parameters=10), max_parameters=20).max_parameters == 10
    assert narrowed(Query(max_parameters=30), max_parameters=20).max_parameters == 20
    assert narrowed(Query(limit=5)).limit == 5
    assert narrowed(Query(limit=5), limit=7).limit == 7


def test_bounds_that_hold_nothing_are_refused() -> None:
    with pytest.raises(ConfigError) as error:
        checked(Query(text="a", min_parameters=10**8, max_parameters=10**6))
    assert str(error.value) == (
        "query 'text=a min=100M max=1M limit=20': no model has at least 100M and at most 1M "
        "parameters; widen --min-parameters or --max-parameters"
    )


def test_a_misspelt_task_gets_a_hint_and_a_known_one_none() -> None:
    assert hint("image-segmentation") is None
    assert hint("image-segmentaion") == "did you mean 'image-segmentation'?"
    assert hint("xyz") == "look at https://huggingface.co/tasks"


@pytest.mark.parametrize("name", QUERY_SETS)
def test_every_query_of_a_set_has_a_task_to_be_judged_by(name: str) -> None:
    queries = QUERY_SETS[name]
    assert len({query.asked for query in queries}) == len(queries)
    assert all(query.goal in TASKS for query in queries)


@pytest.mark.parametrize(
    ("query", "options"),
    [
        (
            Query(task="image-segmentation", limit=7),
            {"pipeline_tag": "image-segmentation", "limit": 7},
        ),
        (
            Query(tags=("medical", "license:mit"), library="monai", sort="likes"),
            {"filter": ["medical", "license:mit", "monai"], "sort": "likes", "limit": 20},
        ),
        (
            Query(text="sam", author="facebook", sort="trending"),
            {"search": "sam", "author": "facebook", "sort": "trending_score", "limit": 20},
        ),
        (
            Query(min_parameters=10**6, max_parameters=10**8, sort="modified"),
            {"num_parameters": "min:1M,max:100M", "sort": "last_modified", "limit": 20},
        ),
        (
            Query(task="fill-mask", sort="created"),
            {"pipeline_tag": "fill-mask", "sort": "created_at", "limit": 20},
        ),
    ],
)
def test_what_is_sent_is_what_the_hubs_own_client_sends(
    hub_with_models: Any, query: Query, options: dict[str, Any]
) -> None:
    from huggingface_hub import HfApi

    ModelSearch(cache=PageCache()).find(query)
    list(
        HfApi(endpoint=hub_with_models.url, token=False).list_models(
            **{"sort": "downloads", **options}, expand=list(EXPAND)
        )
    )
    ours, theirs = (parse_qs(urlsplit(one.path).query) for one in hub_with_models.lists())
    assert ours == theirs


def test_all_that_is_wanted_of_a_model_can_be_asked_for() -> None:
    from typing import get_args

    from huggingface_hub.hf_api import ExpandModelProperty_T

    assert set(EXPAND) <= set(get_args(ExpandModelProperty_T))
    assert len(set(EXPAND)) == len(EXPAND)
