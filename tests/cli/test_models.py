"""`candlemark models` on small stores: what it prints, what it deletes, what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from sklearn.linear_model import LinearRegression

from candlemark.cli import main as command
from candlemark.models.saved import SavedModel
from candlemark.models.store import save_model
from candlemark.models.versions import list_models

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    """Run `candlemark models WORDS` here: (exit status, standard output, standard error)."""
    monkeypatch.chdir(tmp_path)

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["candlemark", "models", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            command.main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return run


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.fixture
def three(store: Path) -> list[SavedModel]:
    """A network, a better network, and an estimator, in this order."""
    network = torch.nn.Linear(3, 2)
    scores = {"auroc": 0.61, "brier": 0.24}
    return [
        save_model(network, store, metrics=scores, name="btc", note="first"),
        save_model(network, store, metrics={"auroc": 0.74}, name="btc", config={"window": 30}),
        save_model(LinearRegression(), store, metrics={"auroc": float("nan")}, name="line"),
    ]


def rows(out: str) -> list[list[str]]:
    """The cells of a printed table, without head and rule."""
    return [line.split() for line in out.splitlines() if line.strip().startswith("model_")]


def test_list_shows_the_newest_first(call: Call, three: list[SavedModel]):
    status, out, err = call("list")
    assert (status, err) == (0, "")
    shown = rows(out)
    assert [row[0] for row in shown] == [one.version for one in reversed(three)]
    assert shown[0][1:4] == ["line", "LinearRegression", "unknown"]
    assert shown[1][1:4] == ["btc", "Linear", "0.74"]
    assert shown[2][1:5] == ["btc", "Linear", "0.61", "0.24"]
    assert shown[2][5:] == [str(three[0].size_bytes), "B"]
    assert out.split()[:6] == ["version", "name", "model", "auroc", "brier", "size"]


def test_list_by_a_metric_shows_the_best_first_and_the_unknown_last(
    call: Call, three: list[SavedModel]
):
    out = call("list", "--metric", "auroc")[1]
    assert [row[0] for row in rows(out)] == [three[1].version, three[0].version, three[2].version]
    assert "brier" not in out


def test_list_by_name_and_as_json(call: Call, store: Path, three: list[SavedModel]):
    value = json.loads(call("list", "--name", "btc", "--json", "--store", store)[1])
    assert [one["version"] for one in value["models"]] == [three[1].version, three[0].version]
    assert value["models"][1]["metrics"] == {"auroc": 0.61, "brier": 0.24}
    assert value["models"][1]["fields"] == {"note": "first"}
    assert value["models"][0]["files"]["model.safetensors"]["size_bytes"] == three[0].size_bytes
    assert value["store"] == str(store)


def test_an_empty_store_says_how_to_fill_it(call: Call):
    assert call("list") == (0, "no models in models; save one with candlemark.save_model\n", "")
    assert json.loads(call("list", "--json", "--metric", "auroc")[1])["models"] == []
    assert call("prune", "--keep", "1") == (0, "nothing to delete\n", "")


def test_a_damaged_one_is_listed_with_its_problem(call: Call, three: list[SavedModel]):
    (three[2].path / "model.json").write_text("{", encoding="utf-8")
    (three[1].path / "model.safetensors").unlink()
    status, out, _ = call("list")
    assert status == 0
    assert [row[1:3] for row in rows(out)[:2]] == [["damaged"], ["btc", "damaged"]]
    assert f"{three[2].version} cannot be loaded: model.json is damaged: it is no JSON (" in out
    assert f"{three[1].version} cannot be loaded: model.safetensors is missing\n" in out
    assert "problem" in json.loads(call("list", "--json")[1])["models"][0]


def test_what_a_file_says_never_steers_the_terminal(call: Call, three: list[SavedModel]):
    path = three[0].path / "model.json"
    value = json.loads(path.read_text(encoding="utf-8"))
    hostile = {
        "name": "[red]\x1b[2J",
        "class_path": "a.b\x1b]0;",
        "metrics": {"[bold]x\x1b": 1.0},
        "fields": {"\x9b31m": "\x07"},
    }
    path.write_text(json.dumps(value | hostile), encoding="utf-8")
    for words in (["list"], ["show", three[0].version]):
        out = call(*words)[1]
        assert not set(out) & {"\x1b", "\x9b", "\x07"}
        assert "[red]?[2J" in out.replace("\n", "")


def test_show_tells_everything(call: Call, store: Path, three: list[SavedModel]):
    status, out, err = call("show", three[0].version)
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == f"models/{three[0].version}"
    assert "name        btc" in lines
    assert "model       torch.nn.modules.linear.Linear (network)" in lines
    assert "metrics     auroc 0.61, brier 0.24 (lower is better)" in lines
    assert 'note        "first"' in lines
    size = three[0].size_bytes
    assert f"files       model.safetensors {size} B, every byte as it was saved" in lines
    assert f"torch {torch.__version__.partition('+')[0]}" in out
    assert "to load" not in out
    assert 'config      {"window": 30}' in call("show", "best", "--metric", "auroc")[1]
    value = json.loads(call("show", "latest", "--name", "btc", "--json")[1])
    assert (value["version"], value["whole"], value["damage"]) == (three[1].version, True, [])


def test_show_of_a_pickle_says_so(call: Call, three: list[SavedModel]):
    out = call("show")[1]
    assert "to load     it is a pickle and can run code: load_model(..., trust=True)\n" in out


def test_show_finds_a_flipped_byte(call: Call, three: list[SavedModel]):
    file = three[2].path / "model.joblib"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    status, out, _ = call("show")
    assert status == 1
    assert "model.joblib is damaged: its SHA-256 is " in out
    status, out, _ = call("show", "--json")
    assert (status, json.loads(out)["whole"]) == (1, False)


def test_the_best_of_equals_is_said(call: Call, store: Path, three: list[SavedModel]):
    twin = save_model(torch.nn.Linear(1, 1), store, metrics={"auroc": 0.74})
    _, out, err = call("show", "best", "--metric", "auroc")
    assert out.startswith(f"models/{twin.version}\n")
    line = f"auroc of {twin.version} is also that of {three[1].version}; it is the newest"
    assert line in " ".join(err.split())


def test_prune_says_what_goes_and_then_deletes(call: Call, store: Path, three: list[SavedModel]):
    first, best, newest = (one.version for one in three)
    words = ("prune", "--keep", "1", "--keep-best", "auroc")
    size = three[0].size_bytes
    plan = [f"delete      {first}  {size} B", f"keep        {newest}", f"keep        {best}"]
    status, out, _ = call(*words, "--dry-run")
    assert status == 0
    assert out.splitlines() == [*plan, f"nothing was deleted; 1 would go, {size} B"]
    assert len(list_models(store)) == 3
    status, out, _ = call(*words, "--yes")
    assert (status, out.splitlines()) == (0, [*plan, f"1 deleted, {size} B freed"])
    assert [one.version for one in list_models(store)] == [newest, best]
    assert call(*words)[1].splitlines()[-1] == "nothing to delete"


def test_prune_as_json(call: Call, store: Path, three: list[SavedModel]):
    first, best, newest = (one.version for one in three)
    (three[0].path / "notes").write_text("mine", encoding="utf-8")
    words = ("prune", "--keep", "1", "--json")
    expected = {
        "removed": [best],
        "kept": [newest],
        "left_alone": [
            {"version": first, "reason": "it holds notes, which candlemark did not write"}
        ],
    }
    assert json.loads(call(*words, "--dry-run")[1]) == {"deleted": False, **expected}
    assert json.loads(call(*words, "--yes")[1]) == {"deleted": True, **expected}
    assert f"left alone  {first}: it holds notes, " in call("prune", "--keep", "1")[1]
    assert [one.version for one in list_models(store)] == [newest, first]


def test_prune_never_deletes_unasked(call: Call, store: Path, three: list[SavedModel]):
    status, _, err = call("prune", "--keep", "0")
    assert status == 2
    assert err == (
        "error: 3 models would be deleted and nobody is here to ask: add --yes to delete them, "
        "--dry-run to look\n"
    )
    assert len(list_models(store)) == 3


def test_prune_asks_at_a_terminal(
    call: Call, store: Path, three: list[SavedModel], monkeypatch: pytest.MonkeyPatch
):
    asked: list[str] = []
    for answer, left in ((False, 3), (True, 0)):
        monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
        monkeypatch.setattr(
            "typer.confirm", lambda text, answer=answer, **_: bool(asked.append(text)) or answer
        )
        status, out, _ = call("prune", "--keep", "0")
        assert status == 0
        assert len(list_models(store)) == left
        assert ("3 deleted" in out) == answer
    assert asked == ["delete 3 models?"] * 2


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("show", "best"), "'best' needs a metric: metric='auroc', or --metric auroc"),
        (("show", "moon"), "no version 'moon' in models; allowed: latest, best, model_2"),
        (("show", "--store", "nowhere"), "no model in nowhere; save one with candlemark.save_mod"),
        (("list", "--metric", "moon"), "no model has the metric 'moon'; known: auroc, brier"),
        (("prune", "--keep", "1", "--keep-best", "moon"), "no model has the metric 'moon'; known"),
        (("prune",), "Missing option '--keep'"),
        (("prune", "--keep", "-1"), "Invalid value for '--keep'"),
        (("list", "--better", "left"), "Invalid value for '--better'"),
    ],
)
def test_what_is_asked_wrongly_is_one_line(
    call: Call, three: list[SavedModel], words: tuple[str, ...], line: str
):
    status, out, err = call(*words)
    assert (status, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert line.lower() in err.lower()


def test_the_group_alone_shows_its_help(call: Call):
    status, out, err = call()
    assert (status, err) == (2, "")
    assert "List, show and prune saved models." in out


def test_listing_from_the_command_line_loads_no_torch(store: Path, three: list[SavedModel]):
    program = (
        "import sys; sys.argv = ['candlemark', 'models', 'list', '--store', sys.argv[1]]\n"
        "from candlemark.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'sklearn', 'joblib', 'pyarrow'} & set(sys.modules)))"
    )
    words = [sys.executable, "-c", program, store]
    done = subprocess.run(words, capture_output=True, encoding="utf-8", check=True)
    assert done.stdout.splitlines()[-1] == "[]"
