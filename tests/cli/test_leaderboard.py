"""`candlemark hub leaderboard` as a user types it."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from candlemark.cli import hub
from candlemark.errors import CandlemarkError

sys.path.append(str(Path(__file__).parents[1] / "hub" / "leaderboard"))  # for hub_models.py


@pytest.fixture
def hub_with_models(hub_double: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    from hub_models import several

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CANDLEMARK_CACHE", str(tmp_path / "cache"))
    hub_double.models = several()
    hub_double.lists = lambda: hub_double.asked("GET", r"^/api/models\?")
    return hub_double


@pytest.fixture
def told() -> Any:
    """What is reported while a test runs."""
    from candlemark import progress

    texts: list[str] = []
    before = progress.set_reporter(
        SimpleNamespace(handle=lambda event: texts.append(event.text))  # type: ignore[arg-type]
    )
    yield texts
    progress.set_reporter(before)


def run(*words: str) -> Result:
    return CliRunner().invoke(hub.app, ["leaderboard", *words])


def call(*words: str, status: int = 0) -> str:
    result = run(*words)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == status, result.output
    return result.stdout


def error_of(*words: str) -> str:
    with pytest.raises(CandlemarkError) as found:
        call(*words)
    text = str(found.value)
    assert "\n" not in text
    return text


def test_the_leaderboard_says_who_can_do_it_and_the_second_call_asks_nothing(
    hub_with_models: Any,
) -> None:
    first = call("--task", "image-segmentation")
    assert "asked now, 1 request\n" in first
    assert "1. clinic/segformer-lesion: SegformerForSemanticSegmentation ends in a trained" in first
    hub_with_models.requests.clear()
    second = call("--task", "image-segmentation")
    assert hub_with_models.requests == []
    assert "cache of a moment ago, no request" in second
    assert first.splitlines()[1:] == second.splitlines()[1:]


def test_options_queries_and_sets_are_joined(hub_with_models: Any) -> None:
    words = ("--tag", "medical", "--query", "text=sam for=mask-generation", "--limit", "5")
    told = json.loads(call(*words, "--max-parameters", "100M", "--json"))
    assert told["queries"] == [
        "text=sam max=100M for=mask-generation limit=5",
        "tag=medical max=100M limit=5",
    ]
    assert told["requests"] == 2
    default = json.loads(call("--json"))
    assert "task=image-segmentation tag=medical limit=20" in default["queries"]
    assert len(default["sections"]) == 9


def test_json_has_every_fact_with_unknown_as_null(hub_with_models: Any) -> None:
    told = json.loads(call("--task", "image-segmentation", "--json"))
    models = {model["id"]: model for model in told["sections"][0]["models"]}
    spleen = models["MONAI/spleen"]
    assert (spleen["downloads"], spleen["parameters"], spleen["claims"]) == (None, None, [])
    assert spleen["capability"]["level"] == "elsewhere"
    assert models["clinic/segformer-lesion"]["claims"][0]["verification"] == "verified"
    assert told["sections"][0]["recommended"][0] == "clinic/segformer-lesion"


def test_a_watch_says_what_changed_and_so_does_its_exit_status(hub_with_models: Any) -> None:
    words = ("--task", "image-segmentation", "--watch")
    assert "first snapshot, of 20" in call(*words)
    assert call(*words).splitlines()[1:] == ["nothing"]
    hub_with_models.models[0]["downloads"] = 900_000
    assert "numbers  nvidia/segformer-b0: downloads 500,000 -> 900,000 (+80%)" in call(*words)
    hub_with_models.models[0]["tags"] = ["license:apache-2.0"]
    assert "licence  nvidia/segformer-b0: mit -> apache-2.0" in call(*words, status=1)
    hub_with_models.models.pop()
    told = json.loads(call(*words, "--json", status=1))
    assert told["news"] == 1
    assert [item["kind"] for item in told["items"]] == ["gone"]


def test_a_look_in_between_takes_no_news_from_the_next_watch(hub_with_models: Any) -> None:
    words = ("--task", "image-segmentation")
    call(*words)
    assert call(*words, "--watch").splitlines()[1:] == ["nothing"]
    hub_with_models.models.pop()
    call(*words, "--refresh")
    assert "gone     notes/medical" in call(*words, "--watch", status=1)
    assert call(*words, "--watch").splitlines()[1:] == ["nothing"]


def test_news_is_told_although_the_page_cannot_be_written(hub_with_models: Any) -> None:
    words = ("--task", "image-segmentation", "--watch")
    call(*words)
    hub_with_models.models.pop()
    Path("file").touch()
    result = run(*words, "--html", "file/page.html")
    assert "gone     notes/medical" in result.stdout
    assert str(result.exception).startswith("cannot write file/page.html: ")


def test_a_task_of_two_words_is_one_task(hub_with_models: Any) -> None:
    told = json.loads(call("--task", "it's new", "--json"))
    assert [section["task"] for section in told["sections"]] == ["it's new"]


def test_queries_that_options_make_the_same_are_asked_once(hub_with_models: Any) -> None:
    told = json.loads(call("--set", "segmentation", "--sort", "likes", "--json"))
    assert len(told["queries"]) == len(set(told["queries"])) == told["requests"] == 5


def test_a_watch_that_reaches_nobody_is_trouble_and_no_change(hub_with_models: Any) -> None:
    call("--task", "image-segmentation")
    hub_with_models.fail(503, on="/api/models", times=None)
    assert "answered 503" in error_of("--task", "image-segmentation", "--watch")
    assert "answered 503" in error_of("--task", "image-segmentation", "--refresh")
    shown = call("--task", "image-segmentation", "--max-age", "0s")
    assert "(the Hub gave no answer)" in shown


def test_offline_and_diff_ask_nothing(hub_with_models: Any) -> None:
    call("--task", "image-segmentation")
    hub_with_models.requests.clear()
    assert "(offline)" in call("--task", "image-segmentation", "--offline")
    day = "9999-12-31"
    assert call("--task", "image-segmentation", "--diff", day, day).splitlines()[1:] == ["nothing"]
    told = json.loads(call("--task", "image-segmentation", "--diff", day, "--json"))
    assert told["items"] == []
    assert hub_with_models.requests == []


def test_a_difference_of_a_snapshot_from_itself_is_said_to_be_none(
    hub_with_models: Any, told: list[str]
) -> None:
    call("--task", "image-segmentation")
    shown = call("--task", "image-segmentation", "--diff", "9999-12-31")
    taken_at = shown.split()[2]
    assert (
        f"9999-12-31 and now both mean the snapshot of {taken_at}, so nothing is compared; name an "
        "earlier day, or a time of a day with several snapshots"
    ) in told


def test_a_reader_who_leaves_costs_no_report(
    hub_with_models: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: Any, **__: Any) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("candlemark.report.leaderboard.text.show", gone)
    assert run("--task", "image-segmentation", "--html", "page.html").exit_code != 0
    assert "clinic/segformer-lesion" in Path("page.html").read_text(encoding="utf-8")


def test_reports_are_written(hub_with_models: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    call("--task", "image-segmentation", "--html", "b.html", "--markdown", "b.md")
    assert "clinic/segformer-lesion" in Path("b.html").read_text(encoding="utf-8")
    assert Path("b.md").read_text(encoding="utf-8").startswith("# Models of the Hub\n")
    assert "a trend needs two snapshots" in error_of(
        "--task", "image-segmentation", "--trend", "t.png"
    )
    tomorrow = SimpleNamespace(time=lambda: time.time() + 86400)
    for part in ("search", "cache"):
        monkeypatch.setattr(f"candlemark.hub.leaderboard.{part}.time", tomorrow)
    call("--task", "image-segmentation", "--refresh", "--trend", "t.png")
    assert Path("t.png").read_bytes().startswith(b"\x89PNG")


def test_the_section_of_a_config_says_what_to_ask(hub_with_models: Any) -> None:
    Path("c.yaml").write_text(
        "task: segmentation\ndataset: {phantoms: 2}\nleaderboard:\n"
        "  queries: ['text=sam', 'task=image-segmentation']\n"
        "  task: mask-generation\n  limit: 4\n  max_parameters: 100000000\n",
        encoding="utf-8",
    )
    told = json.loads(call("--config", "c.yaml", "--json"))
    assert told["queries"] == [
        "text=sam max=100M for=mask-generation limit=4",
        "task=image-segmentation max=100M limit=4",
    ]
    Path("d.yaml").write_text("leaderboard: {task: image-segmentation}\n", encoding="utf-8")
    assert json.loads(call("--config", "d.yaml", "--json"))["queries"] == [
        "task=image-segmentation limit=20"
    ]
    Path("f.yaml").write_text("leaderboard: {queries: ['text=sam limit=50']}\n", encoding="utf-8")
    assert json.loads(call("--config", "f.yaml", "--json"))["queries"] == ["text=sam limit=50"]
    Path("g.yaml").write_text("leaderboard:\n", encoding="utf-8")
    assert len(json.loads(call("--config", "g.yaml", "--json"))["sections"]) == 9
    Path("h.yaml").write_text("leadrboard: {task: image-segmentation}\n", encoding="utf-8")
    assert error_of("--config", "h.yaml") == (
        "h.yaml has no section 'leaderboard'; did you mean it by 'leadrboard'?"
    )
    Path("e.yaml").write_text("leaderboard: {quereis: []}\n", encoding="utf-8")
    assert error_of("--config", "e.yaml") == (
        "e.yaml: leaderboard: unknown key 'quereis'; did you mean 'queries'?"
    )


def test_sizes_of_a_file_are_written_as_they_are_typed(hub_with_models: Any) -> None:
    Path("c.yaml").write_text(
        "leaderboard: {queries: ['text=sam min=2M'], min_parameters: 1M, max_parameters: 100M}\n",
        encoding="utf-8",
    )
    for words, asked in (
        ((), "text=sam min=2M max=100M limit=20"),
        (("--min-parameters", "3M", "--max-parameters", "1B"), "text=sam min=3M max=1B limit=20"),
    ):
        assert json.loads(call("--config", "c.yaml", *words, "--json"))["queries"] == [asked]
    for size in ("big", "yes", "-5"):
        Path("d.yaml").write_text(f"leaderboard: {{max_parameters: {size}}}\n", encoding="utf-8")
        told = error_of("--config", "d.yaml")
        assert told.startswith("d.yaml: leaderboard")
        assert "write 90M, 1.5B or 90000000" in told


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("tsak=x", "query 'tsak=x': 'tsak' is no key; did you mean 'task'?"),
        ("text=a max=big", "'big' is no number of parameters; write 90M, 1.5B or 90000000"),
        ("text='a", "query 'text='a': No closing quotation; close the quotes"),
        (
            "text=a min=2M max=1M",
            (
                "query 'text=a min=2M max=1M limit=20': no model has at least 2M and at most 1M "
                "parameters; widen --min-parameters or --max-parameters"
            ),
        ),
    ],
)
def test_a_query_of_a_file_that_is_wrong_is_told_with_the_file(
    hub_with_models: Any, query: str, told: str
) -> None:
    Path("c.json").write_text(
        json.dumps({"leaderboard": {"queries": ["text=sam", query]}}), encoding="utf-8"
    )
    assert error_of("--config", "c.json") == f"c.json: leaderboard: {told}"
    assert hub_with_models.requests == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--max-age", "²h"), "--max-age ²h is no age; write 30m, 6h or 2d"),
        (("--tag", ""), "query 'tag='' limit=20': 'tag=' says nothing; write tag=VALUE"),
        (("--set", "x"), "no set 'x'; known: medical, segmentation"),
        (("--max-age", "soon"), "--max-age soon is no age; write 30m, 6h or 2d"),
        (("--sort", "x"), "--sort x is not known: downloads, likes, trending, modified, created"),
        (
            ("--diff", "2026-01-01", "--html", "x.html", "--watch"),
            "--diff prints what changed, and nothing else; leave out --html and --watch",
        ),
        (("2026-01-01",), "'2026-01-01' stands alone; write --diff DATE 2026-01-01"),
        (
            ("--offline", "--watch"),
            "--offline asks nothing, and --refresh and --watch do; leave out one of them",
        ),
        (
            ("--max-parameters", "big"),
            "'big' is no number of parameters; write 90M, 1.5B or 90000000",
        ),
        (("--query", "tsak=x"), "query 'tsak=x': 'tsak' is no key; did you mean 'task'?"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    hub_with_models: Any, words: tuple[str, ...], told: str
) -> None:
    assert error_of(*words) == told
    assert hub_with_models.requests == []


def test_a_task_that_may_be_misspelt_is_asked_for_with_a_warning(
    hub_with_models: Any, told: list[str]
) -> None:
    shown = call("--task", "image-segmentaion")
    assert (
        "'image-segmentaion' is no task known here, the Hub is asked all the same; "
        "did you mean 'image-segmentation'?"
    ) in told
    assert "no public model found for: image-segmentaion" in shown
