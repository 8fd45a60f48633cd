"""No key leaves with a model, and no message tells it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from candlemark.errors import HubError
from candlemark.hub.changes import LocalFile
from candlemark.hub.client import Hub
from candlemark.hub.publish import push_model
from candlemark.hub.secrets import SCANNED_BYTES, refuse_secrets

KEYS = {
    "a token of a Hub": "hf_" + "a1B2" * 8,
    "a private key": "-----BEGIN RSA PRIVATE " + "KEY-----",
    "a token of GitHub": "ghp_" + "a1B2" * 9,
    "a key of AWS": "AKIA" + "A1B2" * 4,
}


@pytest.mark.parametrize("what", KEYS)
def test_a_key_is_refused_by_file_and_line_and_not_shown(hub_double: Any, what: str) -> None:
    files = {"code/run.py": LocalFile(content=f"import os\nx = '{KEYS[what]}'\n".encode())}
    with pytest.raises(HubError, match=f"line 2 of code/run.py holds {what}, and") as found:
        refuse_secrets(files, Hub())
    assert KEYS[what] not in str(found.value)


def test_the_token_of_the_push_is_refused_whatever_its_form(hub_double: Any) -> None:
    hub = Hub(token="a-plain-word-of-a-mirror")
    files = {"training.json": LocalFile(content=b'{"token": "a-plain-word-of-a-mirror"}')}
    with pytest.raises(HubError, match=r"training.json holds the token of this push"):
        refuse_secrets(files, hub)
    refuse_secrets({"training.json": LocalFile(content=b'{"token": null}')}, hub)


def test_names_that_only_begin_like_a_key_and_weights_pass(hub_double: Any) -> None:
    weights = KEYS["a token of a Hub"].encode() + bytes(SCANNED_BYTES)
    names = b"hf_hub_download_and_everything_that_is_long_enough sk-learn AKIA"
    files = {"run.py": LocalFile(content=names), "model.bin": LocalFile(content=weights)}
    refuse_secrets(files, Hub())


def test_no_repository_is_made_for_a_model_with_a_key(hub_double: Any, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(
        '{"token": "' + KEYS["a token of a Hub"] + '"}', encoding="utf-8"
    )
    (tmp_path / "model.safetensors").write_bytes(bytes(10))
    with pytest.raises(HubError, match=r"line 1 of config.json holds a token of a Hub"):
        push_model(tmp_path, "tester/made")
    assert not hub_double.requests
