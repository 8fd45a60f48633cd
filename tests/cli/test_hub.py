"""`candlemark hub` and `candlemark dataset build --upload-to-hf` as a user types them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from candlemark.cli import dataset, hub
from candlemark.errors import CandlemarkError

WALK = (
    *("--symbol", "random_walk", "--style", "jkx", "--window-size", "8", "--height", "24"),
    *("--max-samples", "60", "--label", "next_candle"),
)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # A contact sheet of a few pictures is drawn in a moment.
    monkeypatch.setattr("candlemark.hub.publish._SHEET_PICTURES", 1)


def call(app: Any, *words: str) -> str:
    result: Result = CliRunner().invoke(app, list(words))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def error_of(app: Any, *words: str) -> str:
    with pytest.raises(CandlemarkError) as found:
        call(app, *words)
    text = str(found.value)
    assert "\n" not in text
    return text


def model(folder: Path) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "candlemark_fusion"}', encoding="utf-8")
    (folder / "model.safetensors").write_bytes(bytes(10))
    return folder


def test_a_dataset_there_and_back(hub_double: Any) -> None:
    call(dataset.app, "build", *WALK, "--out", "data")
    asked = call(hub.app, "push-dataset", "data", "walk", "--dry-run")
    assert "+ data/train-00000-of-00001.parquet\n" in asked
    assert "6 added, 0 changed, 0 removed, 0 unchanged" in asked
    assert asked.endswith(f"dry run: nothing was sent to {hub_double.url}/datasets/tester/walk\n")
    assert hub_double.repos == {}

    told = call(hub.app, "push-dataset", "data", "walk", "--private", "--license", "cc0-1.0")
    assert told.startswith(f"{hub_double.url}/datasets/tester/walk\n6 added")
    assert " sent\ncommit " in told
    assert 'load it with: datasets.load_dataset("tester/walk")' in told
    card = hub_double.files("tester/walk", "datasets")["README.md"].decode()
    assert "license: cc0-1.0" in card

    again = json.loads(
        call(hub.app, "push-dataset", "data", "walk", "--license", "cc0-1.0", "--json")
    )
    assert again["commit"] is None
    assert again["changes"]["same"] == 6

    pulled = call(hub.app, "pull", "tester/walk", "--kind", "dataset", "--out", "pulled")
    assert pulled.startswith("pulled  6 files, ")
    assert 'load it with: datasets.load_dataset("pulled")' in pulled
    assert Path("pulled/README.md").read_text(encoding="utf-8") == card
    once_more = json.loads(
        call(hub.app, "pull", "tester/walk", "--kind", "dataset", "--out", "pulled", "--json")
    )
    assert (once_more["folder"], once_more["fetched_bytes"]) == ("pulled", 0)


def test_a_changed_card_is_shown_line_by_line(hub_double: Any) -> None:
    call(dataset.app, "build", *WALK, "--out", "data")
    call(hub.app, "push-dataset", "data", "walk")
    asked = call(hub.app, "push-dataset", "data", "walk", "--dry-run", "--caption", "classic")
    assert "~ README.md\n" in asked
    assert "-- `text`: caption (`window`)" in asked
    assert "+- `text`: caption (`classic`)" in asked
    assert "0 added, 5 changed, 0 removed, 1 unchanged" in asked


def test_build_and_upload_in_one_go(hub_double: Any) -> None:
    upload = ("--upload-to-hf", "--hf-repo-id", "tester/walk")
    asked = call(dataset.app, "build", *WALK, "--out", "data", *upload, "--dry-run")
    assert "audit it with: candlemark dataset audit data" in asked
    assert "dry run: nothing was sent" in asked
    told = call(dataset.app, "build", *WALK, "--out", "data", *upload, "--hf-private")
    assert "commit " in told
    assert hub_double.repo("tester/walk", "datasets").private
    assert "nothing to change" in call(dataset.app, "build", *WALK, "--out", "data", *upload)
    proposed = call(hub.app, "push-dataset", "data", "walk", "--caption", "classic", "--create-pr")
    assert f"merge it at: {hub_double.url}/datasets/tester/walk/discussions/1" in proposed


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--upload-to-hf",), "add --hf-repo-id USER/NAME"),
        (("--hf-repo-id", "a/b"), "--hf-repo-id is about publishing; add --upload-to-hf"),
        (("--hf-private",), "--hf-private is about publishing"),
        (("--dry-run",), "--dry-run is about publishing"),
        (("--upload-to-hf", "--hf-repo-id", "a/b/c"), "'a/b/c' is no name of a repo"),
        (("--upload-to-hf", "--hf-repo-id", "a/b", "--token", "hf_no"), "the token is not valid"),
    ],
)
def test_what_stands_in_the_way_of_an_upload_is_said_before_anything_is_built(
    hub_double: Any, flags: tuple[str, ...], said: str
) -> None:
    assert said in error_of(dataset.app, "build", *WALK, "--out", "data", *flags)
    assert not Path("data").exists()


def test_without_a_token_the_next_step_is_named(
    hub_double: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    call(dataset.app, "build", *WALK, "--out", "data")
    for words in (("data", "walk"), ("data", "tester/walk")):
        assert "export HF_TOKEN=" in error_of(hub.app, "push-dataset", *words)


def test_a_token_is_written_into_no_log(hub_double: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("old.yaml").write_text(
        "data: {symbol: random_walk, interval: 1h}\n"
        "image: {seq_len: 8, resolution: {height: 24}}\n"
        "paths: {raw_data: raw, processed_data: made, models: trained, logs: logs}\n",
        encoding="utf-8",
    )
    words = ["build", "--config", "old.yaml", "--max-samples", "60", "--upload-to-hf"]
    words += ["--hf-repo-id", "tester/walk"]
    token = hub_double.token
    for given in (["--token", token], [f"--token={token}"]):
        monkeypatch.setattr(sys, "argv", ["candlemark", "dataset", *words, *given])
        assert token not in call(dataset.app, *words, *given)
    logs = [path.read_text(encoding="utf-8") for path in Path("logs").glob("*.log")]
    assert logs
    for text in logs:
        assert token not in text
        assert "***" in text
    assert not [
        path for path in Path().rglob("*") if path.is_file() and token.encode() in path.read_bytes()
    ]


def test_a_model_goes_up_with_its_page_and_as_a_space(hub_double: Any, tmp_path: Path) -> None:
    folder = model(tmp_path / "fused")
    told = call(hub.app, "push-model", "fused", "tester/fused")
    assert 'AutoModel.from_pretrained("tester/fused", trust_remote_code=True)' in told
    files = hub_double.files("tester/fused")
    assert set(files) == {
        *("README.md", "app.py", "config.json", "model.safetensors", "requirements.txt"),
    }
    assert b"sdk: gradio" in files["README.md"]
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert "nothing to change" in call(hub.app, "push-model", "fused", "tester/fused")
    pulled = call(hub.app, "pull", "tester/fused", "--out", "again")
    assert "ask it with: candlemark fuse predict again --symbol SYMBOL" in pulled
    told = call(hub.app, "push-model", "fused", "tester/page", "--space")
    assert f"open it at: {hub_double.url}/spaces/tester/page" in told


def test_results_are_written_into_a_card(hub_double: Any, tmp_path: Path) -> None:
    from candlemark.records import Measurement, RunRecord, Status
    from candlemark.results.store import open_results

    with open_results("benchmarks/results") as store:
        store.append(
            RunRecord(
                trial_id="one",
                trial={"task": "charts"},
                status=Status.OK,
                started_at="2025-06-01T09:30:00+00:00",
                duration_s=1,
                measurements=(Measurement(name="auroc", value=0.6, low=0.5, high=0.7, level=0.95),),
                facts={"row": "mine", "role": "model", "label": "next", "label_kind": "forecast"},
                environment={"device": "cpu", "cpu": "A CPU"},
            ),
            "suite",
        )
    told = call(hub.app, "push-results", "tester/fused")
    assert f"badges for other pages: {hub_double.url}/tester/fused/tree/main/badges" in told
    card = hub_double.files("tester/fused")["README.md"].decode()
    assert "| mine | model |  | 0.600 [0.500, 0.700] |" in card
    assert "| device | A CPU |" in card
    assert "nothing to change" in call(hub.app, "push-results", "tester/fused")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("push-dataset", "nothing", "a/b"), "candlemark dataset build --out nothing"),
        (("push-model", "nothing", "a/b"), "candlemark fuse train --output nothing"),
        (("push-results", "a/b"), "no results at benchmarks/results/candlemark.duckdb"),
        (("push-results", "a/b", "--kind", "modell"), "kind 'modell' is not known"),
        (("pull", "tester/nothing"), "there is no model tester/nothing"),
        (("pull", "tester/nothing", "--kind", "thing"), "kind 'thing' is not known"),
    ],
)
def test_errors_are_one_line_with_the_next_step(
    hub_double: Any, words: tuple[str, ...], said: str
) -> None:
    assert said in error_of(hub.app, *words)
    assert hub_double.repos == {}
