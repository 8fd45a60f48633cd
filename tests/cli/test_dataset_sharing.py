"""`candlemark dataset export` and `import` as a user types them."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from candlemark.cli.dataset import app
from candlemark.dataset.lazy import open_dataset
from candlemark.dataset.sharing.pictures import open_pictures
from candlemark.errors import CandlemarkError

WALK = ("--symbol", "random_walk", "--style", "jkx", "--window-size", "8", "--max-samples", "300")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def call(*words: str) -> str:
    result: Result = CliRunner().invoke(app, list(words))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def error_of(*words: str) -> str:
    with pytest.raises(CandlemarkError) as found:
        call(*words)
    text = str(found.value)
    assert "\n" not in text
    return text


def test_there_and_back() -> None:
    call("build", *WALK, "--label", "next_candle", "--out", "data")
    told = call("export", "data", "--to", "folder", "--out", "plain")
    assert told.startswith("plain  300 samples in 304 files, ")
    assert "candlemark dataset import plain --out datasets/imported" in told
    back = call("import", "plain", "--out", "back")
    assert "pictures    300 of 300 are the same to the last pixel" in back
    assert "labels      300 of 300 are the same" in back
    assert "identical   its content hash is that of the dataset that was exported" in back
    assert "audit it with: candlemark dataset audit back" in back
    assert open_dataset("back").content_hash == open_dataset("data").content_hash
    assert "no leak found" in call("audit", "back")


@pytest.mark.parametrize(
    ("form", "hint"),
    [
        ("datasets", 'read it with: datasets.load_dataset("out")'),
        ("webdataset", "out/shards.json lists all"),
    ],
)
def test_other_forms_say_what_the_label_and_the_split_are(form: str, hint: str) -> None:
    call("build", *WALK, "--split", "random", "--out", "data")
    told = call("export", "data", "--to", form, "--out", "out", "--caption", "classic")
    assert hint in told
    assert "label is recognition: pictures show the answer, and captions may say it" in told
    assert "split is random: LEAKY" in told


def test_pictures_alone() -> None:
    call("build", *WALK, "--label", "next_candle", "--out", "data")
    call("export", "data", "--to", "folder", "--out", "plain")
    for path in (*Path("plain/candles").iterdir(), Path("plain/dataset.json")):
        path.unlink()
    lines = Path("plain/index.csv").read_text(encoding="utf-8").splitlines()
    kept = [",".join(line.rsplit(",", 3)[:-3]) for line in lines]  # no split, symbol and time
    Path("plain/index.csv").write_text("\n".join(kept), encoding="utf-8")
    told = call("import", "plain", "--out", "back", "--classes", "up,down", "--purge", "8")
    assert "back  284 pictures as they were drawn, " in told
    assert "splits      by order of the index, 8 left out at each boundary" in told
    assert "train       " in told
    assert "nothing can be audited; open it in Python with:" in told
    assert open_pictures("back").class_names == ("up", "down")
    assert "back  284 pictures (up / down), no candles\n" in call("list", ".")
    for words in (("audit", "back"), ("show", "back")):
        assert "holds pictures that were imported without candles" in error_of(*words)
    (Path("back") / "pictures.json").write_text("{", encoding="utf-8")
    assert "back  back/pictures.json is damaged (" in call("list", ".")


def test_a_config_draws_again() -> None:
    call("build", *WALK, "--label", "next_candle", "--max-samples", "0", "--out", "data")
    call("export", "data", "--to", "folder", "--out", "plain")
    Path("plain/dataset.json").unlink()
    Path("d.yaml").write_text(
        "window: 8\nstyle: jkx\nlabel: {name: next_candle}\n", encoding="utf-8"
    )
    told = call("import", "plain", "--out", "back", "--config", "d.yaml")
    assert "are the same to the last pixel" in told
    assert "identical" not in told


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("export", "none", "--to", "folder", "--out", "x"), "no dataset at none"),
        (("import", "none", "--out", "x"), "no folder at none"),
        (("import", ".", "--out", "x"), "holds no index: a CSV at its top with columns"),
    ],
)
def test_wrong_input_is_one_line(words: tuple[str, ...], message: str) -> None:
    assert message in error_of(*words)


def test_wrong_flags_are_one_line() -> None:
    call("build", *WALK, "--out", "data")
    assert "unknown form 'zip'" in error_of("export", "data", "--to", "zip", "--out", "x")
    flags = ("export", "data", "--to", "webdataset", "--out", "x")
    assert "shards of 0 bytes" in error_of(*flags, "--shard-mb", "0")
    assert "unknown caption style 'long'" in error_of(*flags, "--caption", "long")
    assert "data holds something already" in error_of(*flags[:-1], "data")


@pytest.mark.parametrize("command", ["export", "import"])
def test_help_has_examples(command: str) -> None:
    assert f"candlemark dataset {command}" in call(command, "--help")
