"""Publishing to a Hub on loopback with the real client: what arrives, and what is left alone."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from huggingface_hub import HfApi

from candlemark import progress
from candlemark.config import parse
from candlemark.dataset.build import build_dataset
from candlemark.dataset.config import DatasetConfig
from candlemark.dataset.lazy import Dataset
from candlemark.errors import HubError, ResultsError
from candlemark.hub.cards import front_matter
from candlemark.hub.client import Hub
from candlemark.hub.publish import push_dataset, push_model, push_results
from candlemark.progress import Event
from candlemark.results.store import open_results

WALK: dict[str, Any] = {
    "candles": {"kind": "random_walk", "count": 300, "seed": 1},
    "window": 8,
    "label": {"name": "next_candle"},
    "style": {"kind": "jkx", "moving_averages": [], "height": 32},
    "max_samples": 60,
}
DATASET_FILES = {
    "README.md",
    "contact-sheet.png",
    "data/test-00000-of-00001.parquet",
    "data/train-00000-of-00001.parquet",
    "data/validation-00000-of-00001.parquet",
    "dataset.json",
}


@pytest.fixture(autouse=True)
def _small_sheets(monkeypatch: pytest.MonkeyPatch) -> None:
    """A contact sheet of a few pictures is drawn in a moment."""
    monkeypatch.setattr("candlemark.hub.publish._SHEET_PICTURES", 1)


def made(folder: Path, **changes: Any) -> Dataset:
    return build_dataset(parse(DatasetConfig, {**WALK, **changes}), folder)


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return made(tmp_path_factory.mktemp("walk") / "data")


class Heard(list[str]):
    def handle(self, event: Event) -> None:
        if event.kind == "warning":
            self.append(event.text)


@pytest.fixture
def heard() -> Any:
    warnings = Heard()
    before = progress.set_reporter(warnings)
    yield warnings
    progress.set_reporter(before)


def readme(double: Any, repo: str, kind: str) -> str:
    text: str = double.files(repo, kind)["README.md"].decode()
    return text


def write(double: Any, repo: str, kind: str, name: str, content: bytes) -> None:
    """As a person does it in the browser."""
    HfApi(endpoint=double.url, token=double.token).upload_file(
        path_or_fileobj=BytesIO(content), path_in_repo=name, repo_id=repo, repo_type=kind
    )


# --- datasets


def test_a_dataset_goes_up_in_one_commit_and_a_second_push_changes_nothing(
    hub_double: Any, walk: Dataset
) -> None:
    asked = push_dataset(walk, "tester/walk", dry_run=True)
    assert set(asked.changes.added) == DATASET_FILES
    assert asked.commit is None
    assert hub_double.repos == {}

    first = push_dataset(walk, "walk", private=True)
    assert first.changes == asked.changes
    assert first.url == f"{hub_double.url}/datasets/tester/walk"
    assert set(hub_double.files("tester/walk", "datasets")) == DATASET_FILES
    assert hub_double.repo("tester/walk", "datasets").private

    assert push_dataset(walk, "tester/walk", dry_run=True).changes.to_dict()["same"] == 6
    second = push_dataset(walk, "tester/walk")
    assert second.commit is None
    assert not second.changes
    assert len(hub_double.commits("tester/walk", "datasets")) == 1


def test_the_same_dataset_built_elsewhere_gives_the_same_bytes(
    hub_double: Any, walk: Dataset, tmp_path: Path
) -> None:
    push_dataset(walk, "tester/walk")
    again = push_dataset(made(tmp_path / "built" / "again"), "tester/walk")
    assert not again.changes
    assert not list((tmp_path / "built").glob(".candlemark-push-*"))


def test_what_a_person_writes_into_the_card_survives(hub_double: Any, walk: Dataset) -> None:
    push_dataset(walk, "tester/walk")
    before = readme(hub_double, "tester/walk", "datasets")
    theirs = before.replace("---\n", "---\nlicense: mit\n", 1) + "\nWritten by hand.\n"
    write(hub_double, "tester/walk", "dataset", "README.md", theirs.encode())
    assert not push_dataset(walk, "tester/walk").changes

    pushed = push_dataset(walk, "tester/walk", caption="classic")
    assert "README.md" in pushed.changes.changed
    after = readme(hub_double, "tester/walk", "datasets")
    assert after == theirs.replace("caption (`window`)", "caption (`classic`)")
    assert front_matter(after)["license"] == "mit"


def test_what_a_person_writes_during_a_push_is_not_written_over(
    hub_double: Any, walk: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    push_dataset(walk, "tester/walk")
    theirs = readme(hub_double, "tester/walk", "datasets") + "\nJust now.\n"
    read = Hub.read

    def read_and_edit(self: Hub, *arguments: Any) -> bytes | None:
        found = read(self, *arguments)
        write(hub_double, "tester/walk", "dataset", "README.md", theirs.encode())
        return found

    monkeypatch.setattr(Hub, "read", read_and_edit)
    with pytest.raises(HubError, match="someone else changed the dataset tester/walk"):
        push_dataset(walk, "tester/walk", caption="classic")
    assert readme(hub_double, "tester/walk", "datasets") == theirs


def test_old_shards_go_and_files_of_others_stay(hub_double: Any, walk: Dataset) -> None:
    push_dataset(walk, "tester/walk")
    for name in ("data/old.csv", "notes.txt"):
        write(hub_double, "tester/walk", "dataset", name, b"theirs")
    pushed = push_dataset(walk, "tester/walk")
    assert pushed.changes.removed == ("data/old.csv",)
    assert set(hub_double.files("tester/walk", "datasets")) == {*DATASET_FILES, "notes.txt"}


def test_a_pull_request_leaves_main_alone(hub_double: Any, walk: Dataset) -> None:
    push_dataset(walk, "tester/walk")
    before = hub_double.files("tester/walk", "datasets")
    pushed = push_dataset(walk, "tester/walk", caption="classic", create_pr=True)
    assert pushed.pull_request == f"{hub_double.url}/datasets/tester/walk/discussions/1"
    assert hub_double.files("tester/walk", "datasets") == before
    proposed = hub_double.files("tester/walk", "datasets", "refs/pr/1")
    assert b"caption (`classic`)" in proposed["README.md"]


def test_no_folder_of_this_machine_goes_up(
    hub_double: Any, make_series: Callable[..., Any], tmp_path: Path
) -> None:
    config = {
        **WALK,
        "candles": {
            "kind": "file",
            "path": str(tmp_path / "secret" / "prices.csv"),
            "interval": "1h",
            "base_url": "http://user:password@mirror.example",
        },
    }
    dataset = build_dataset(
        parse(DatasetConfig, config), tmp_path / "data", candles=[make_series(300)]
    )
    push_dataset(dataset, "tester/x")
    for name, content in hub_double.files("tester/x", "datasets").items():
        assert b"secret" not in content, name
        assert b"mirror.example" not in content, name
        assert str(tmp_path).encode() not in content, name
    told = json.loads(hub_double.files("tester/x", "datasets")["dataset.json"])
    assert told["config"]["candles"]["path"] == "prices.csv"


def test_what_a_killed_push_left_is_removed(hub_double: Any, tmp_path: Path) -> None:
    dataset = made(tmp_path / "built" / "data")
    gone = tmp_path / "built" / ".candlemark-push-4194305-x"  # above the largest process id
    running = tmp_path / "built" / ".candlemark-push-1-x"
    for folder in (gone, running):
        folder.mkdir()
    push_dataset(dataset, "tester/walk")
    assert not gone.exists()
    assert running.exists()


def test_what_is_damaged_is_not_published(hub_double: Any, tmp_path: Path) -> None:
    dataset = made(tmp_path / "data")
    with (dataset.path / "candles.parquet").open("ab") as file:
        file.write(b"x")
    with pytest.raises(HubError, match=r"is damaged \(candles\.parquet has") as found:
        push_dataset(dataset, "tester/x")
    assert "candlemark dataset audit" in str(found.value)
    assert hub_double.requests == []


def test_what_leaks_is_published_with_a_warning_and_says_so(
    hub_double: Any, tmp_path: Path, heard: Heard
) -> None:
    push_dataset(made(tmp_path / "data", split={"method": "random"}), "tester/leaky")
    assert any("leaks, and its card says so" in text for text in heard)
    assert "a score on it means nothing" in readme(hub_double, "tester/leaky", "datasets")


@pytest.mark.parametrize(
    ("status", "on", "more"),
    [
        (429, "/commit/", {"retry_after": 3}),
        (500, "/preupload/", {}),
        (503, "/api/repos/create", {}),
        (500, "/resolve/", {}),
    ],
)
def test_a_passing_fault_is_waited_out(
    hub_double: Any, walk: Dataset, status: int, on: str, more: dict[str, Any]
) -> None:
    if on == "/resolve/":
        push_dataset(walk, "tester/walk", caption="classic")
    hub_double.fail(status, on=on, **more)
    assert push_dataset(walk, "tester/walk").commit is not None
    assert hub_double.waits
    assert not push_dataset(walk, "tester/walk").changes


@pytest.mark.parametrize(
    ("status", "on", "said"),
    [
        (401, "/api/", "the token is not valid"),
        (403, "/commit/", "the token may not do that"),
        (409, "/commit/", "someone else changed"),
    ],
)
def test_a_lasting_fault_is_one_line(
    hub_double: Any, walk: Dataset, status: int, on: str, said: str
) -> None:
    hub_double.fail(status, on=on, times=None, message="no, {token}")
    with pytest.raises(HubError, match=said) as found:
        push_dataset(walk, "tester/walk")
    assert "\n" not in str(found.value)
    assert hub_double.token not in str(found.value)


def test_a_cut_upload_is_sent_again(hub_double: Any, walk: Dataset) -> None:
    hub_double.cut(method="PUT", after=100)
    assert push_dataset(walk, "tester/walk").commit is not None
    assert not push_dataset(walk, "tester/walk").changes


# --- models


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "made" / "model"
    folder.mkdir(parents=True)
    config = {"model_type": "candlemark_fusion", "inputs": "both", "id2label": {"0": "bearish"}}
    measured = {"name": "auroc", "value": 0.6, "low": 0.5, "high": 0.7, "level": 0.95}
    training = {
        "row": "text + image",
        "facts": {"role": "model", "label": "direction", "label_kind": "forecast"},
        "measurements": {"auroc": {**measured, "verdict": "VALID"}},
        "beside": [],
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "training.json").write_text(json.dumps(training), encoding="utf-8")
    (folder / "model.safetensors").write_bytes(bytes(1000))
    (folder / "pytorch_model.bin").write_bytes(bytes(1001))
    (folder / ".env").write_text("HF_TOKEN=hf_secret", encoding="utf-8")
    return folder


def test_a_model_goes_up_with_its_card_and_hidden_files_stay(hub_double: Any, model: Path) -> None:
    pushed = push_model(model, "tester/fused")
    assert pushed.kind == "model"
    files = hub_double.files("tester/fused")
    assert set(files) == {
        "README.md",
        "config.json",
        "model.safetensors",
        "pytorch_model.bin",
        "training.json",
    }
    for name in ("config.json", "model.safetensors", "pytorch_model.bin"):
        assert files[name] == (model / name).read_bytes()
    assert front_matter(files["README.md"].decode())["model-index"][0]["name"] == "fused"
    assert not (model / "README.md").exists()
    assert not push_model(model, "tester/fused").changes


def test_weights_that_are_not_there_any_more_go(hub_double: Any, model: Path) -> None:
    push_model(model, "tester/fused")
    (model / "pytorch_model.bin").unlink()
    asked = push_model(model, "tester/fused", dry_run=True)
    assert asked.changes.removed == ("pytorch_model.bin",)
    assert "-path = hf_hub_download" in asked.changes.text()
    pushed = push_model(model, "tester/fused")
    assert pushed.changes == asked.changes
    assert "pytorch_model.bin" not in hub_double.files("tester/fused")


def test_a_licence_is_what_its_owner_says(hub_double: Any, model: Path) -> None:
    push_model(model, "tester/fused", license_id="apache-2.0")
    assert front_matter(readme(hub_double, "tester/fused", "models"))["license"] == "apache-2.0"


def test_one_folder_is_a_model_and_a_space(hub_double: Any, model: Path) -> None:
    (model / "app.py").write_text("print()", encoding="utf-8")
    own = "---\ntitle: mine\nsdk: gradio\napp_file: app.py\ntags: [demo]\n---\n\n# mine\n"
    (model / "README.md").write_text(own, encoding="utf-8")
    push_model(model, "tester/page", kind="space")
    card = readme(hub_double, "tester/page", "spaces")
    data = front_matter(card)
    assert (data["sdk"], data["app_file"], data["title"]) == ("gradio", "app.py", "mine")
    assert data["tags"][:2] == ["demo", "candlemark"]
    assert data["model-index"]
    assert "# mine" not in card  # a heading alone says no more than ours
    assert not push_model(model, "tester/page", kind="space").changes

    # A new key of the folder's own arrives where the card is there already.
    (model / "README.md").write_text(
        own.replace("sdk: gradio\n", "sdk: gradio\nsdk_version: 6\n"), encoding="utf-8"
    )
    push_model(model, "tester/page", kind="space")
    assert front_matter(readme(hub_double, "tester/page", "spaces"))["sdk_version"] == 6


def test_a_text_of_the_folders_own_begins_a_card_that_is_new(hub_double: Any, model: Path) -> None:
    (model / "README.md").write_text("# Mine\n\nI trained this on a Sunday.\n", encoding="utf-8")
    push_model(model, "tester/fused")
    card = readme(hub_double, "tester/fused", "models")
    assert "# Mine\n\nI trained this on a Sunday.\n\n<!-- candlemark:begin model -->" in card
    assert not push_model(model, "tester/fused").changes


def test_texts_may_come_along(hub_double: Any, model: Path) -> None:
    page = {"app.py": "print()", "README.md": "---\nsdk: gradio\n---\n"}
    push_model(model, "tester/fused", extra=page)
    assert hub_double.files("tester/fused")["app.py"] == b"print()"
    assert front_matter(readme(hub_double, "tester/fused", "models"))["sdk"] == "gradio"
    assert not (model / "app.py").exists()


def test_a_folder_of_this_machine_in_a_model_is_warned_of(
    hub_double: Any, model: Path, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/srv/somebody")
    (model / "extra.json").write_text('{"place": "/srv/somebody/data"}', encoding="utf-8")
    push_model(model, "tester/fused")
    assert heard == ["extra.json names a folder below /srv/somebody, and readers will see it"]


def test_what_is_no_model_or_no_space_is_refused_before_anything_is_made(
    hub_double: Any, model: Path
) -> None:
    with pytest.raises(HubError, match=r"holds no app\.py, so it is no Space"):
        push_model(model, "tester/fused", kind="space")
    (model / "model.safetensors").unlink()
    (model / "pytorch_model.bin").unlink()
    with pytest.raises(HubError, match="so there is nothing to load"):
        push_model(model, "tester/fused")
    assert hub_double.repos == {}


def test_a_public_repository_is_not_taken_for_a_private_one(hub_double: Any, model: Path) -> None:
    push_model(model, "tester/fused")
    with pytest.raises(HubError, match="is there and public, but --private was asked for"):
        push_model(model, "tester/fused", private=True)


def test_a_card_that_is_no_text_is_refused(
    hub_double: Any, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push_model(model, "tester/fused")
    monkeypatch.setattr(Hub, "read", lambda *_: b"\xff\xfe")
    with pytest.raises(HubError, match=r"tester/fused/README\.md is no text in UTF-8"):
        push_model(model, "tester/fused")


# --- results


def made_up(name: str) -> ModuleType:
    """Records as a benchmark leaves them, of the tests of the report."""
    known = f"candlemark_test_{name}_published"
    if known not in sys.modules:
        path = Path(__file__).parents[1] / "report" / f"{name}.py"
        spec = spec_from_file_location(known, path)
        assert spec is not None
        assert spec.loader is not None
        module = module_from_spec(spec)
        sys.modules[known] = module
        spec.loader.exec_module(module)
    return sys.modules[known]


def stored(folder: Path, records: list[Any]) -> Path:
    with open_results(folder) as store:
        store.add_suite("suite", {"task": "charts"}, "2025-06-01T09:30:00+00:00")
        for record in records:
            store.append(record, "suite")
    return folder


def board(market: str, **options: Any) -> list[Any]:
    """A board of three rows and a failure."""
    fake = made_up("fake_records")
    names = ("baseline: majority", "baseline: logistic", "timm/mobilenetv3_small_100.lamb_in1k")
    rows = [row for row in fake.ROWS if row.name in names]
    good = [fake.fake_record(row, market=market, cases=250, **options) for row in rows]
    return [*good, fake.failed_record(rows[-1], market=market, cases=250, **options)]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cells = made_up("fake_inference").fake_sweep()[:2]
    return stored(tmp_path_factory.mktemp("results"), [*board("real"), *cells])


def test_results_make_a_section_with_table_method_date_device_and_badges(
    hub_double: Any, model: Path, results: Path
) -> None:
    push_model(model, "tester/fused")
    before = readme(hub_double, "tester/fused", "models")
    asked = push_results(results, "tester/fused", dry_run=True)
    pushed = push_results(results, "tester/fused")
    assert pushed.changes == asked.changes
    files = hub_double.files("tester/fused")
    card = files["README.md"].decode()
    assert card.startswith(before)
    section = card[len(before) :]
    assert "### BTCUSDT 1h: next\\_candle" in section
    assert "| baseline: logistic | baseline |  | 0." in section
    assert "bootstrap of blocks" in section
    assert "| date | 2025-06-01 |" in section
    assert "| device | AMD EPYC 7B13 |" in section
    assert "1 trial failed:" in section
    assert "asked for 24.0 GiB" in section
    assert "![AUROC mobilenetv3\\_small\\_100.lamb\\_in1k](badges/auroc.svg)" in section
    told = json.loads(files["badges/auroc.json"])
    assert told["schemaVersion"] == 1
    assert told["message"].startswith("0.")
    assert files["badges/auroc.svg"].startswith(b"<svg ")
    assert json.loads(files["badges/label.json"])["message"] == "forecast"
    assert b"6.84 ms bert-base-uncased" in files["badges/latency.svg"]
    assert files["benchmark/results.csv"].startswith(b"trial_id,row,")
    page = f"{hub_double.url}/tester/fused/resolve/main/badges/auroc.json"
    assert page.replace(":", "%3A").replace("/", "%2F") in section

    assert not push_results(results, "tester/fused").changes
    assert not push_model(model, "tester/fused").changes


def test_results_go_to_a_dataset_as_well(hub_double: Any, results: Path) -> None:
    push_results(results, "tester/walk", kind="dataset", pattern="sui*")
    assert f"]({hub_double.url}/datasets/tester/walk)" in readme(
        hub_double, "tester/walk", "datasets"
    )


def test_badges_that_have_nothing_to_say_any_more_go(
    hub_double: Any, results: Path, tmp_path: Path
) -> None:
    push_results(results, "tester/fused")
    few = stored(tmp_path / "few", made_up("fake_inference").fake_sweep()[:1])
    pushed = push_results(few, "tester/fused")
    assert pushed.changes.removed == (
        "badges/auroc.json",
        "badges/auroc.svg",
        "badges/label.json",
        "badges/label.svg",
    )


@pytest.mark.parametrize(
    ("options", "message", "colour"),
    [
        ({"market": "random_walk"}, ", no better than controls", "5f6670"),
        ({"market": "real", "kind": "recognition"}, "]", "946200"),
        ({"market": "real", "leaky_split": True}, ", leaky split", "b3362f"),
    ],
)
def test_the_badge_of_a_score_that_says_nothing_is_not_green(
    hub_double: Any, tmp_path: Path, options: dict[str, Any], message: str, colour: str
) -> None:
    push_results(stored(tmp_path / "results", board(**options)), "tester/fused")
    told = json.loads(hub_double.files("tester/fused")["badges/auroc.json"])
    assert told["message"].endswith(message)
    assert told["color"] == colour


def test_a_study_of_fusion_says_what_text_and_pixels_add(hub_double: Any, tmp_path: Path) -> None:
    fake = made_up("fake_fusion")
    rows = (fake.BOTH, fake.IMAGE, fake.TEXT, fake.PERSISTENCE)
    records = [fake.fusion_record(row) for row in rows]
    push_results(stored(tmp_path / "results", records), "tester/fused")
    card = readme(hub_double, "tester/fused", "models")
    assert "- **Does the text help?** " in card
    assert "- **Do the pixels help?** " in card
    assert "- **Do they beat persistence?** " in card
    assert "| MASE | " in card


def test_no_results_make_no_repository(hub_double: Any, tmp_path: Path, results: Path) -> None:
    with open_results(tmp_path / "empty"):
        pass
    with pytest.raises(HubError, match="holds no trial to publish"):
        push_results(tmp_path / "empty", "tester/fused")
    with pytest.raises(ResultsError, match="no results at"):
        push_results(tmp_path / "nothing", "tester/fused")
    with pytest.raises(ResultsError, match="no suite fits"):
        push_results(results, "tester/fused", pattern="other*")
    assert hub_double.repos == {}
