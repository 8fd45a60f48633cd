"""What the gate compares with: a revision of the repository around, checked out beside it.

    with checked_out(find_revision("main", Path.cwd())) as side:
        side.cwd, side.path           # where the processes of A run, and what they import first

The copy is a `git worktree` in a temporary folder; it is removed however the block ends, by
Ctrl-C and by SIGTERM too. What git does not track (downloads, weights that are ignored) is not
in it.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from candlemark.errors import ConfigError
from candlemark.launch.interleave import Side


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """A commit of the repository around a folder.

    name: as it was asked for; commit: its full hash; top: the repository's folder
    inside: the folder that was asked from, relative to `top`
    """

    name: str
    commit: str
    top: Path
    inside: Path


def find_revision(name: str, folder: Path) -> Revision | None:
    """The commit called `name` of the repository around `folder`; None without either."""
    if shutil.which("git") is None:
        return None
    top = _git("rev-parse", "--show-toplevel", folder=folder)
    commit = _git(
        *("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}"),
        folder=folder,
    )
    if top is None or commit is None:
        return None
    inside = folder.resolve().relative_to(Path(top).resolve())
    return Revision(name=name, commit=commit, top=Path(top).resolve(), inside=inside)


@contextlib.contextmanager
def checked_out(revision: Revision, python: Path | None = None) -> Iterator[Side]:
    """Side A in a copy of the repository as it was at `revision`.

    python: the interpreter of A; None: this one

    Raises ConfigError: git cannot make the copy, or the folder was not there then.
    """
    with _ended_by_sigterm():
        holder = Path(tempfile.mkdtemp(prefix="candlemark-gate-"))
        tree = holder / "tree"
        try:
            _must(
                "worktree",
                "add",
                "--detach",
                "--quiet",
                str(tree),
                revision.commit,
                folder=revision.top,
            )
            cwd = tree / revision.inside
            if not cwd.is_dir():
                raise ConfigError(
                    f"{revision.inside} does not exist in '{revision.name}'; run the gate from a "
                    "folder that both versions have"
                )
            yield Side(name="A", cwd=cwd, path=moved(revision, tree), python=python)
        finally:
            _git("worktree", "remove", "--force", str(tree), folder=revision.top)
            shutil.rmtree(holder, ignore_errors=True)
            _git("worktree", "prune", folder=revision.top)


def here(folder: Path) -> Side:
    """Side B: the folder as it is, with what is not committed."""
    return Side(name="B", cwd=folder, path=importable(folder))


def importable(folder: Path) -> tuple[Path, ...]:
    """The folder and its `src`, where there is one, as processes import from them.

    A folder that holds candlemark itself is left out: both sides are measured by the same code.
    """
    return tuple(place for place in (folder, folder / "src") if _is_other_code(place))


def _is_other_code(place: Path) -> bool:
    return place.is_dir() and not (place / "candlemark" / "__init__.py").is_file()


def moved(revision: Revision, tree: Path) -> tuple[Path, ...]:
    """Where A imports from: this process's folders inside the repository, in the copy."""
    wanted = [*importable(tree / revision.inside), *importable(tree)]
    for entry in sys.path:
        place = Path(entry or ".").resolve()
        if place.is_relative_to(revision.top):
            wanted.append(tree / place.relative_to(revision.top))
    return tuple(place for place in dict.fromkeys(wanted) if _is_other_code(place))


def check_python(python: Path) -> None:
    """Raises ConfigError: it does not run, or has another candlemark than this one."""
    from candlemark import __version__

    command = [str(python), "-c", "import candlemark; print(candlemark.__version__)"]
    try:
        ran = subprocess.run(  # noqa: S603 - an interpreter that the user names
            command, capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise ConfigError(f"cannot run --baseline-python {python}: {error.strerror}") from error
    found = ran.stdout.strip()
    if ran.returncode or found != __version__:
        seen = f"candlemark {found}" if found else "no candlemark"
        raise ConfigError(
            f"{python} has {seen}, and both sides are measured by the same one; install it there: "
            f"{python} -m pip install candlemark=={__version__}"
        )


def _git(*arguments: str, folder: Path) -> str | None:
    """What a git command says; None where it fails."""
    ran = _run_git(arguments, folder)
    return ran.stdout.strip() if ran.returncode == 0 else None


def _must(*arguments: str, folder: Path) -> None:
    ran = _run_git(arguments, folder)
    if ran.returncode:
        line = (ran.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise ConfigError(f"git {arguments[0]} failed in {folder}: {line}")


def _run_git(arguments: tuple[str, ...], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - fixed commands
        ["git", *arguments],  # noqa: S607 - the git that the user's shell finds
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        start_new_session=True,  # a Ctrl-C in the terminal must not end the clearing up
    )


@contextlib.contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """SIGTERM ends this process as Ctrl-C does, through every `finally`."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    previous = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
