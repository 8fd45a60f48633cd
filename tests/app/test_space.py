"""A model folder becomes a Space, and nothing that stands there is lost."""

from __future__ import annotations

import ast
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from candlemark.app import space
from candlemark.app.space import make_space, with_keys, write_space
from candlemark.errors import ConfigError, HubError
from candlemark.hub.cards import front_matter

KEYS = {"title": "btc", "sdk": "gradio", "app_file": "app.py"}


@pytest.fixture
def folder(tmp_path: Path, model_folder: Callable[[str], Path]) -> Path:
    return Path(shutil.copytree(model_folder("text"), tmp_path / "btc-fusion"))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_a_space_is_a_program_its_needs_and_keys(folder: Path) -> None:
    before = contents(folder)
    app, needs, readme = write_space(folder)
    assert [path.name for path in (app, needs, readme)] == [
        "app.py",
        "requirements.txt",
        "README.md",
    ]
    ast.parse(app.read_text(encoding="utf-8"))
    assert needs.read_text(encoding="utf-8").startswith("candlemark[app]>=")
    keys = front_matter(readme.read_text(encoding="utf-8"))
    assert (keys["title"], keys["sdk"], keys["app_file"]) == ("btc-fusion", "gradio", "app.py")
    assert before.items() <= contents(folder).items()


def test_a_second_time_changes_nothing(folder: Path) -> None:
    write_space(folder)
    before = contents(folder)
    (folder / "requirements.txt").write_text("candlemark[app]==0.1.0\nmine\n", encoding="utf-8")
    write_space(folder)
    assert contents(folder) == before | {"requirements.txt": b"candlemark[app]==0.1.0\nmine\n"}


def test_a_program_of_ones_own_is_left_alone(folder: Path) -> None:
    (folder / "app.py").write_text("print('mine')\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"app.py is a program of your own; move it away"):
        write_space(folder)
    assert not (folder / "README.md").exists()


def test_a_folder_without_a_model_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds no config.json, so it is no model folder"):
        write_space(tmp_path)


def test_a_copy_is_a_space_and_the_model_stays_as_it_is(folder: Path, tmp_path: Path) -> None:
    before = contents(folder)
    made = make_space(folder, tmp_path / "spaces" / "page")
    assert contents(folder) == before
    assert set(contents(made)) == set(before) | {"app.py", "requirements.txt", "README.md"}
    assert front_matter((made / "README.md").read_text(encoding="utf-8"))["title"] == "page"
    with pytest.raises(ConfigError, match="holds something already"):
        make_space(folder, made)
    assert make_space(made, made) == made


def test_a_model_that_is_not_here_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="candlemark hub pull me/model"):
        make_space("me/model", tmp_path / "page")


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_readme_keeps_its_keys_and_its_text(end: str) -> None:
    told = f"---{end}title: mine # yes{end}license: mit{end}---{end}{end}# Words{end}"
    text = with_keys(told, KEYS)
    assert front_matter(text) == {
        "title": "mine",
        "license": "mit",
        "sdk": "gradio",
        "app_file": "app.py",
    }
    assert text.startswith(f"---{end}sdk: gradio{end}app_file: app.py{end}title: mine # yes{end}")
    assert text.endswith(f"# Words{end}")
    assert with_keys(text, KEYS) == text


def test_a_readme_without_front_matter_gets_one() -> None:
    text = with_keys("# Words\n", KEYS)
    assert front_matter(text) == KEYS
    assert text.endswith("---\n\n# Words\n")
    assert front_matter(with_keys(None, KEYS)) == KEYS
    assert with_keys("\ufeff# Words\n", KEYS).startswith("\ufeff---\n")


def test_a_front_matter_that_is_damaged_is_one_line() -> None:
    with pytest.raises(HubError):
        with_keys("---\n[\n---\n", KEYS)


@pytest.mark.parametrize("name", ["__main__", "app"])
def test_the_program_opens_the_model_beside_it(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[object] = []
    monkeypatch.setattr(space, "open_page", lambda where: done.append(where) or "a page")
    monkeypatch.setattr(space, "start", done.append)
    app = write_space(folder)[0]
    found = runpy.run_path(str(app), run_name=name)
    assert found["demo"] == "a page"
    assert done == ([folder, "a page"] if name == "__main__" else [folder])


@pytest.mark.slow  # a second page takes as long to start as the one of the other tests
def test_a_space_runs_from_its_own_folder(
    model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(model_folder("numbers"), tmp_path / "page"))
    write_space(folder)
    code = "import runpy; print(runpy.run_path('app.py')['demo'].config['title'])"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=folder,
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "page: candlemark"
