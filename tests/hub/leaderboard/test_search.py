"""The search against the double: pages, cache, ETag, limits of rate, and what no Hub should say."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hub_models import entry, segformer

from candlemark import progress
from candlemark.errors import HubError
from candlemark.hub.leaderboard.cache import PageCache
from candlemark.hub.leaderboard.queries import Query
from candlemark.hub.leaderboard.search import ModelSearch

SEGMENTATION = Query(task="image-segmentation")


class Told:
    """A reporter that keeps what it is told."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def handle(self, event: progress.Event) -> None:
        self.texts.append(event.text)


@pytest.fixture
def told() -> Any:
    kept = Told()
    before = progress.set_reporter(kept)
    yield kept.texts
    progress.set_reporter(before)


def names(items: Any) -> list[str]:
    return [item["id"] for item in items]


def test_the_second_call_makes_no_request(hub_with_models: Any) -> None:
    first = ModelSearch(cache=PageCache()).find(SEGMENTATION)
    assert len(hub_with_models.requests) >= 1
    hub_with_models.requests.clear()
    second = ModelSearch(cache=PageCache()).find(SEGMENTATION)
    assert hub_with_models.requests == []
    assert (first.requests, second.requests) == (1, 0)
    assert second.items == first.items
    assert second.fetched_at == pytest.approx(first.fetched_at, abs=5)


def test_one_expanded_call_a_page_until_there_are_enough(hub_with_models: Any) -> None:
    hub_with_models.models_page = 2
    found = ModelSearch(cache=PageCache()).find(SEGMENTATION)
    assert names(found.items) == [
        "nvidia/segformer-b0", "lab/mask2former-skin", "clinic/segformer-lesion", "notes/medical",
        "MONAI/spleen",
    ]  # fmt: skip
    assert found.requests == len(hub_with_models.lists()) == 3
    hub_with_models.requests.clear()
    few = ModelSearch(cache=PageCache()).find(Query(task="image-segmentation", limit=3))
    assert len(few.items) == 3
    assert len(hub_with_models.lists()) == 2


def test_an_old_page_is_asked_about_by_its_etag_and_not_sent_again(
    hub_with_models: Any, clock: Any
) -> None:
    first = ModelSearch(cache=PageCache(max_age_s=3600)).find(SEGMENTATION)
    clock.ahead_s = 3601
    second = ModelSearch(cache=PageCache(max_age_s=3600)).find(SEGMENTATION)
    assert [one.status for one in hub_with_models.lists()] == [200, 304]
    assert (second.requests, second.unchanged) == (1, 1)
    assert second.items == first.items
    assert second.fetched_at > first.fetched_at + 3600
    third = ModelSearch(cache=PageCache(max_age_s=3600)).find(SEGMENTATION)
    assert third.requests == 0, "what the Hub confirmed is young again"


def test_an_old_page_that_changed_is_sent_anew(hub_with_models: Any, clock: Any) -> None:
    ModelSearch(cache=PageCache(max_age_s=3600)).find(SEGMENTATION)
    hub_with_models.models[0]["downloads"] = 999_999
    clock.ahead_s = 3601
    found = ModelSearch(cache=PageCache(max_age_s=3600)).find(SEGMENTATION)
    assert [one.status for one in hub_with_models.lists()] == [200, 200]
    assert found.items[0]["downloads"] == 999_999


def test_a_page_from_the_future_is_not_young(hub_with_models: Any, clock: Any) -> None:
    clock.ahead_s = 10_000
    ModelSearch(cache=PageCache()).find(SEGMENTATION)
    clock.ahead_s = 0
    assert ModelSearch(cache=PageCache()).find(SEGMENTATION).requests == 1


def test_refresh_asks_about_a_young_page(hub_with_models: Any) -> None:
    ModelSearch(cache=PageCache()).find(SEGMENTATION)
    found = ModelSearch(cache=PageCache(), refresh=True).find(SEGMENTATION)
    assert (found.requests, found.unchanged) == (1, 1)


def test_too_many_requests_are_waited_for_as_long_as_the_hub_says(hub_with_models: Any) -> None:
    hub_with_models.fail(429, on="/api/models", times=2, retry_after=17)
    found = ModelSearch(cache=PageCache()).find(SEGMENTATION)
    assert len(found.items) == 5
    assert hub_with_models.waits == [17.0, 17.0]


def test_a_search_cut_short_goes_on_where_it_was(hub_with_models: Any) -> None:
    hub_with_models.models_page = 2
    hub_with_models.fail(429, on="cursor=4", times=1, retry_after=4000)
    with pytest.raises(HubError) as error:
        ModelSearch(cache=PageCache()).find(SEGMENTATION)
    assert str(error.value) == (
        "cannot search the models of task=image-segmentation limit=20: the Hub asks to wait 67 "
        "minutes (429 or 503); run the same command again then, what has arrived is kept"
    )
    hub_with_models.requests.clear()
    assert len(ModelSearch(cache=PageCache()).find(SEGMENTATION).items) == 5
    assert [one.path.partition("cursor=")[2] for one in hub_with_models.lists()] == ["4"]


def test_where_nothing_is_left_of_the_limit_the_next_page_waits(
    hub_with_models: Any,
) -> None:
    hub_with_models.models_page = 2
    hub_with_models.models_headers = {"RateLimit": '"api";r=0;t=42'}
    ModelSearch(cache=PageCache()).find(SEGMENTATION)
    assert hub_with_models.waits == [43.0, 43.0]


def test_a_next_page_elsewhere_is_refused_and_nothing_is_sent_there(hub_with_models: Any) -> None:
    hub_with_models.models_headers = {"Link": '<https://elsewhere.example/api/models>; rel="next"'}
    with pytest.raises(HubError) as error:
        ModelSearch(cache=PageCache()).find(SEGMENTATION)
    assert str(error.value) == (
        "cannot search the models of task=image-segmentation limit=20: the next page is said to be "
        f"at https://elsewhere.example, which is not {hub_with_models.url}; nothing was sent there"
    )


def test_a_next_page_may_be_told_without_the_host(hub_with_models: Any) -> None:
    query = Query(task="image-segmentation", limit=1)
    path = ModelSearch(cache=PageCache())._pages(query)
    hub_with_models.models_headers = {"Link": '</api/models?search=sam>; rel="next"'}
    next(path)
    page, _ = next(path)
    assert page.address == f"{hub_with_models.url}/api/models?search=sam"
    assert names(page.items) == ["facebook/sam-vit-base"]


def test_a_next_page_elsewhere_that_nobody_wants_is_no_trouble(hub_with_models: Any) -> None:
    hub_with_models.models_headers = {"Link": '<https://elsewhere.example/api/models>; rel="next"'}
    query = Query(task="image-segmentation", limit=2)
    assert len(ModelSearch(cache=PageCache()).find(query).items) == 2
    with pytest.raises(HubError, match="nothing was sent there"):
        list(ModelSearch(cache=PageCache())._pages(query))


@pytest.mark.parametrize(
    ("endpoint", "address", "same"),
    [
        ("https://HuggingFace.co", "https://huggingface.co:443/api/models?cursor=1", True),
        ("https://huggingface.co", "http://huggingface.co/api/models", False),
        ("https://huggingface.co", "https://huggingface.co@evil.example/api", False),
        ("https://huggingface.co", "https://huggingface.co:444/api/models", False),
        ("https://huggingface.co", "https://huggingface.co:99999/api/models", False),
        ("https://huggingface.co", "https://x:y@huggingface.co/api/models", False),
    ],
)
def test_who_is_the_same_hub(endpoint: str, address: str, same: bool) -> None:
    search = ModelSearch(endpoint, cache=PageCache())
    if same:
        search._refuse_strangers(address, "search")
        return
    with pytest.raises(HubError, match="nothing was sent there"):
        search._refuse_strangers(address, "search")


def test_a_next_page_that_is_no_address_is_told(hub_with_models: Any) -> None:
    hub_with_models.models_headers = {"Link": '<http://[::1>; rel="next"'}
    with pytest.raises(HubError, match=r"cannot search the models of .*Invalid IPv6 URL"):
        ModelSearch(cache=PageCache()).find(SEGMENTATION)


def test_a_model_on_two_pages_is_one_model(hub_with_models: Any) -> None:
    hub_with_models.models_page = 2
    hub_with_models.models.insert(0, hub_with_models.models[0])
    query = Query(task="image-segmentation", limit=3)
    found = ModelSearch(cache=PageCache()).find(query)
    assert names(found.items) == [
        "nvidia/segformer-b0", "lab/mask2former-skin", "clinic/segformer-lesion",
    ]  # fmt: skip


def test_an_etag_that_no_header_can_hold_is_not_sent(hub_with_models: Any) -> None:
    hub_with_models.models_headers = {"ETag": '"\xe9"'}
    ModelSearch(cache=PageCache()).find(SEGMENTATION)
    found = ModelSearch(cache=PageCache(), refresh=True).find(SEGMENTATION)
    assert (found.requests, found.unchanged) == (1, 0)


@pytest.mark.parametrize("asked", ["\xb2", "-5", "9" * 400, "soon"])
def test_a_wait_that_nobody_can_read_is_a_pause(hub_with_models: Any, asked: str) -> None:
    hub_with_models.fail(429, on="/api/models", retry_after=asked)
    ModelSearch(cache=PageCache()).find(SEGMENTATION)
    assert hub_with_models.waits == [8.0]


@pytest.mark.parametrize("asked", ["0", "Wed, 01 Jan 2020 00:00:00 GMT"])
def test_a_hub_that_says_at_once_is_given_a_moment(hub_with_models: Any, asked: str) -> None:
    hub_with_models.fail(429, on="/api/models", times=3, retry_after=asked)
    ModelSearch(cache=PageCache()).find(SEGMENTATION)
    assert hub_with_models.waits == [1.0, 2.0, 4.0]


@pytest.mark.parametrize(
    ("token", "said"),
    [
        ("hf_someTokenThatIsLongEnough", "the token may not"),
        (None, "nobody may do that without a token"),
    ],
)
def test_a_search_that_is_forbidden_is_not_told_how_to_write(
    hub_with_models: Any, token: str | None, said: str
) -> None:
    hub_with_models.fail(403, on="/api/models", message="no")
    with pytest.raises(HubError) as error:
        ModelSearch(cache=PageCache(), token=token).find(SEGMENTATION)
    assert str(error.value) == (
        "cannot search the models of task=image-segmentation limit=20: "
        f"{hub_with_models.url} answered 403: no; {said}, or a proxy stands between: look at "
        f"HF_ENDPOINT, and for a token at {hub_with_models.url}/settings/tokens"
    )


def test_what_a_hub_says_steers_no_terminal(hub_with_models: Any) -> None:
    hub_with_models.fail(400, on="/api/models", message="\x1b]0;x\x07\u202ebad\x9b31m é")
    with pytest.raises(HubError, match="answered 400: ]0;x bad 31m é; correct what it names"):
        ModelSearch(cache=PageCache()).find(SEGMENTATION)


def test_the_hub_is_told_which_candlemark_asks(hub_with_models: Any) -> None:
    from importlib.metadata import version

    search = ModelSearch(cache=PageCache())
    headers = search._headers(search._connection()[0])
    assert headers["user-agent"].startswith(f"candlemark/{version('candlemark')};")


def test_pages_that_never_end_are_left(hub_with_models: Any, told: list[str]) -> None:
    address = f"{hub_with_models.url}/api/models?task=x"
    hub_with_models.models_headers = {"Link": f'<{address}>; rel="next"'}
    hub_with_models.models = [entry("a/b", pipeline_tag="fill-mask")]
    found = ModelSearch(cache=PageCache()).find(Query(task="fill-mask"))
    assert found.requests == len(hub_with_models.lists()) == 2
    assert "task=fill-mask limit=20: the Hub's pages never end; the rest is left out" in told


def test_private_models_are_in_no_answer_and_no_cache(hub_with_models: Any, tmp_path: Path) -> None:
    hub_with_models.models = [segformer("me/secret", private=True), segformer("me/open")]
    found = ModelSearch(cache=PageCache(), token=hub_with_models.token).find(SEGMENTATION)
    assert names(found.items) == ["me/open"]
    kept = "".join(
        path.read_text(encoding="utf-8") for path in (tmp_path / "cache").rglob("*.json")
    )
    assert "me/open" in kept
    assert "secret" not in kept
    assert hub_with_models.token not in kept


def test_entries_that_name_no_model_are_counted_and_the_rest_is_read(
    hub_with_models: Any, told: list[str]
) -> None:
    hub_with_models.models = [
        "what", None, 7, {"likes": 3, "pipeline_tag": "image-segmentation"},
        segformer("bad id\x1b[31m"), segformer("a/../../b/c"), segformer(),
    ]  # fmt: skip
    found = ModelSearch(cache=PageCache()).find(SEGMENTATION)
    assert names(found.items) == ["nvidia/segformer-b0"]
    assert found.unreadable == 6
    assert "task=image-segmentation limit=20: 6 entries name no model and are left out" in told


def test_what_is_no_list_of_models_is_told(hub_with_models: Any) -> None:
    hub_with_models.models_answer = {"models": []}
    with pytest.raises(HubError) as error:
        ModelSearch(cache=PageCache()).find(SEGMENTATION)
    assert str(error.value) == (
        f"{hub_with_models.url}/api/models answered with dict, not a list of models; "
        "look at HF_ENDPOINT, which may be no Hub"
    )


def test_a_304_to_what_was_never_asked_is_no_answer(hub_with_models: Any) -> None:
    hub_with_models.fail(304, on="/api/models", message="")
    with pytest.raises(HubError, match="answered 304 to what was never asked"):
        ModelSearch(cache=PageCache()).find(SEGMENTATION)


def test_the_librarys_offline_switch_is_obeyed(
    hub_with_models: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match="HF_HUB_OFFLINE is set, so nothing may be asked"):
        ModelSearch(cache=PageCache()).find(SEGMENTATION)
    assert hub_with_models.requests == []


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{",
        b"[]",
        b'{"version": 99}',
        b'{"version": 1, "address": "x", "items": 3}',
        b'{"version": 1, "address": "ADDRESS", "items": [3], "fetched_at": 9e9}',
        b"\xff\xfe",
    ],
)
def test_a_damaged_page_is_as_good_as_none(
    hub_with_models: Any, tmp_path: Path, told: list[str], damage: bytes
) -> None:
    ModelSearch(cache=PageCache()).find(SEGMENTATION)
    (page,) = (tmp_path / "cache" / "leaderboard").glob("*.json")
    address = json.loads(page.read_bytes())["address"].encode()
    page.write_bytes(damage.replace(b"ADDRESS", address))
    assert ModelSearch(cache=PageCache()).find(SEGMENTATION).requests == 1
    assert sum("asked for anew" in text for text in told) <= 1
    assert ModelSearch(cache=PageCache()).find(SEGMENTATION).requests == 0


def test_a_page_under_another_pages_name_is_not_taken_for_it(
    hub_with_models: Any, tmp_path: Path
) -> None:
    ModelSearch(cache=PageCache()).find(SEGMENTATION)
    (page,) = (tmp_path / "cache" / "leaderboard").glob("*.json")
    page.write_text(
        json.dumps({**json.loads(page.read_text(encoding="utf-8")), "address": "another"}),
        encoding="utf-8",
    )
    assert ModelSearch(cache=PageCache()).find(SEGMENTATION).requests == 1


def test_a_cache_that_cannot_be_written_is_said_once(
    hub_with_models: Any, tmp_path: Path, told: list[str]
) -> None:
    hub_with_models.models_page = 2
    (tmp_path / "file").write_text("", encoding="utf-8")
    search = ModelSearch(cache=PageCache(tmp_path / "file" / "below"))
    assert len(search.find(SEGMENTATION).items) == 5
    said = [text for text in told if "the next call asks the Hub again" in text]
    assert len(said) == 1


def test_pages_that_nobody_asked_for_in_a_month_are_removed(
    hub_with_models: Any, tmp_path: Path
) -> None:
    cache = PageCache()
    ModelSearch(cache=cache).find(SEGMENTATION)
    assert cache.forget_old() == 0
    (page,) = cache.folder.glob("*.json")
    os.utime(page, (1, 1))
    (cache.folder / "gone.json").symlink_to("removed by another process")
    assert cache.forget_old() == 1
    assert not page.exists()


def test_the_search_keeps_no_more_than_it_reads(hub_with_models: Any) -> None:
    hub_with_models.models = [
        segformer(cardData={"license": "mit", "widget": "x" * 1000}, config={"labels": "y" * 1000})
    ]
    (item,) = ModelSearch(cache=PageCache()).find(SEGMENTATION).items
    assert item["cardData"] == {"license": "mit"}
    assert item["config"] == {}
