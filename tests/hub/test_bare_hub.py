"""The client needs no more of a Hub than a push and a pull cannot do without."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from candlemark.errors import HubError
from candlemark.hub.changes import local_files
from candlemark.hub.client import Hub, Kind
from candlemark.hub.pull import pull


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "made"
    (made / "data").mkdir(parents=True)
    (made / "README.md").write_text("# Made\n", encoding="utf-8")
    (made / "data" / "größe 大.txt").write_text("small", encoding="utf-8")
    (made / "data" / "large.bin").write_bytes(os.urandom(50_000))
    return made


def bare_hub(**options: Any) -> Any:
    from bare_double import BareHub

    return BareHub(**options)


@pytest.mark.parametrize("xet", [True, False])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("model", {}),
        ("dataset", {}),
        ("space", {}),
        ("model", {"leave_out": ("private",)}),
        ("model", {"leave_out": ("lfs",)}),
        ("model", {"leave_out": ("sha",)}),
        ("model", {"commit_prefix": "r-"}),
    ],
    ids=str,
)
def test_push_and_pull_work(
    *,
    hub_double: Any,
    folder: Path,
    tmp_path: Path,
    kind: Kind,
    options: dict[str, Any],
    xet: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", not xet)
    with bare_hub(**options) as bare:
        hub = Hub(endpoint=bare.url)
        assert hub.ensure_repo("me/made", kind, private=True)
        assert bare.private[f"{kind}s/me/made"]
        first = hub.upload("me/made", kind, local_files(folder), message="all of it")
        assert first.commit
        assert not hub.ensure_repo("me/made", kind, private=True)
        second = hub.upload("me/made", kind, local_files(folder), message="again")
        assert second.commit is None
        assert bare.commits[f"{kind}s/me/made"] == ["all of it"]
        pull("me/made", kind, tmp_path / "back", hub=hub)
    for path in folder.rglob("*"):
        if path.is_file():
            back = tmp_path / "back" / path.relative_to(folder)
            assert back.read_bytes() == path.read_bytes()
    assert {line.split("/")[-2] for line in bare.strangers} <= {"xet-write-token"}


def test_a_bare_name_needs_a_hub_that_knows_whose_token_it_is(hub_double: Any) -> None:
    with bare_hub() as bare, pytest.raises(HubError, match="USER/NAME"):
        Hub(endpoint=bare.url).full_id("made")


def test_a_pull_request_that_the_hub_took_for_a_push_is_told(hub_double: Any, folder: Path) -> None:
    with bare_hub() as bare:
        hub = Hub(endpoint=bare.url)
        hub.ensure_repo("me/made", "model")
        with pytest.raises(HubError, match="opened no pull request"):
            hub.upload("me/made", "model", local_files(folder), message="x", create_pr=True)


def test_a_repo_that_is_not_there_is_named(hub_double: Any, tmp_path: Path) -> None:
    with bare_hub() as bare, pytest.raises(HubError, match="there is no model me/made"):
        pull("me/made", "model", tmp_path / "back", hub=Hub(endpoint=bare.url))


def test_an_answer_that_the_library_does_not_understand_is_one_line(hub_double: Any) -> None:
    with bare_hub(leave_out=("id",)) as bare:
        hub = Hub(endpoint=bare.url)
        hub.ensure_repo("me/made", "model")
        with pytest.raises(HubError, match=r"does not understand \(KeyError: 'id'\); look at HF"):
            hub.head("me/made", "model")
