"""A model folder as a Hugging Face Space: the same files, and a page that runs from them.

    write_space(Path("models/fusion"))        # app.py, requirements.txt, keys in README.md
    make_space("models/fusion", Path("spaces/fusion"))

A Space is a folder with a program and a README whose front matter names it. Nothing that stands
there already is changed: a README keeps its text and every key that it has, and the keys that a
Space needs are added. A second time changes nothing.
"""

from __future__ import annotations

import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from candlemark.errors import ConfigError
from candlemark.hub.cards import README, front_matter
from candlemark.results.files import write_text

APP = "app.py"
REQUIREMENTS = "requirements.txt"
MODEL_CONFIG = "config.json"

PROGRAM = '''\
"""The page of this model. A Hugging Face Space runs it; at home: python app.py"""

from pathlib import Path

from candlemark.app.space import open_page, start

demo = open_page(Path(__file__).parent)

if __name__ == "__main__":
    start(demo)
'''


def write_space(folder: Path) -> tuple[Path, ...]:
    """Add what makes a Space of a model folder; the files, in the order app, needs, README.

    Raises ConfigError: the folder holds no model, or another app.py. HubError: the front matter
    of its README is no YAML mapping.
    """
    for name, text in space_files(folder).items():
        path = folder / name
        if not path.is_file() or path.read_bytes() != text.encode("utf-8"):
            write_text(path, text)
    return folder / APP, folder / REQUIREMENTS, folder / README


def space_files(folder: Path) -> dict[str, str]:
    """What `write_space` would have in the folder, by name; nothing is written.

    Raises the same as `write_space`.
    """
    if not (folder / MODEL_CONFIG).is_file():
        raise ConfigError(
            f"{folder} holds no {MODEL_CONFIG}, so it is no model folder; make one with: "
            "candlemark fuse train"
        )
    program = folder / APP
    if program.is_file() and program.read_text(encoding="utf-8") != PROGRAM:
        raise ConfigError(f"{program} is a program of your own; move it away first")
    readme = folder / README
    told = readme.read_bytes().decode("utf-8") if readme.is_file() else None
    files = {APP: PROGRAM, README: with_keys(told, space_keys(folder))}
    if not (folder / REQUIREMENTS).is_file():
        files[REQUIREMENTS] = requirements()
    return files


def make_space(model: str | Path, folder: Path) -> Path:
    """A copy of a model folder that is a Space.

    Raises ConfigError: the model is no folder, or `folder` holds something already.
    """
    source = Path(model)
    if not source.is_dir():
        raise ConfigError(
            f"'{model}' is no folder; bring the model here first: candlemark hub pull {model}"
        )
    if folder.resolve() != source.resolve():
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ConfigError(f"{folder} holds something already; name another folder")
        shutil.copytree(source, folder, dirs_exist_ok=True)
    write_space(folder)
    return folder


def space_keys(folder: Path) -> dict[str, str]:
    """What the front matter of a Space says."""
    return {
        "title": folder.resolve().name,
        "emoji": "🕯️",
        "colorFrom": "blue",
        "colorTo": "gray",
        "sdk": "gradio",
        "app_file": APP,
    }


def with_keys(text: str | None, keys: dict[str, str]) -> str:
    """A README with those of `keys` that its front matter lacks; the rest stays byte for byte."""
    if text is None:
        return f"---\n{_lines(keys)}---\n\n# {keys['title']}\n"
    known = front_matter(text)
    lacking = {name: value for name, value in keys.items() if name not in known}
    if not lacking:
        return text
    end = "\r\n" if "\r\n" in text else "\n"
    added = _lines(lacking).replace("\n", end)
    mark, rest = ("\ufeff", text[1:]) if text.startswith("\ufeff") else ("", text)
    first, separator, after = rest.partition("\n")
    if known and first.strip() == "---":
        return f"{mark}{first}{separator}{added}{after}"
    return f"{mark}---{end}{added}---{end}{end}{rest}"


def requirements() -> str:
    """What a Space installs beside its own gradio."""
    return f"candlemark[app]>={_version('candlemark') or '0'}\n"


def open_page(folder: Path) -> Any:
    """The page of the model in `folder`, as gradio Blocks; see `candlemark.app.page`."""
    from candlemark.app.page import build_page
    from candlemark.models.fusion.predictor import Predictor

    keys = front_matter((folder / README).read_text(encoding="utf-8"))
    return build_page(Predictor.load(folder), name=str(keys.get("title", folder.name)))


def start(page: Any) -> None:
    """Serve the page until it is stopped, at the address that a Space asks for by environment.

    GRADIO_SERVER_NAME and GRADIO_SERVER_PORT name it; without them it is 127.0.0.1 and the first
    free port from 7860 on.
    """
    from candlemark.app.page import CSS, LAUNCH, theme

    page.launch(**{**LAUNCH, "prevent_thread_lock": False, "theme": theme(), "css": CSS})


def _lines(keys: dict[str, str]) -> str:
    import yaml

    return yaml.safe_dump(keys, sort_keys=False, allow_unicode=True)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
