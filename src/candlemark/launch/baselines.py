"""What the gate compares with: a revision of the repository around, checked out beside it.

    with checked_out(find_revision("main", Path.cwd())) as side:
        side.cwd, side.path           # where the processes of A run, and what they import first

The copy is a `git worktree` in a temporary folder; it is removed however the block ends, by
Ctrl-C, by SIGTERM and by a terminal that is closed. What git does not track (downloads, weights
that are ignored) is not in it, and submodules are not either.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
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


Handler = Callable[[int, FrameType | None], object] | signal.Handlers


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


def why_no_revision(folder: Path) -> str:
    """What `find_revision` did not find, to be put after a name: `'main' is ...`."""
    if shutil.which("git") is None:
        return "no git revision, as there is no git here,"
    if _git("rev-parse", "--show-toplevel", folder=folder) is None:
        return f"no git revision, as {folder} lies in no repository,"
    if _git("rev-parse", "--verify", "--quiet", "HEAD", folder=folder) is None:
        return f"no git revision of {folder}, which has no commit yet,"
    return f"no git revision of {folder} (see: git log)"


@contextlib.contextmanager
def checked_out(revision: Revision, python: Path | None = None) -> Iterator[Side]:
    """Side A in a copy of the repository as it was at `revision`.

    python: the interpreter of A; None: this one

    Raises ConfigError: git cannot make the copy, or the folder was not there then.
    """
    with _signals(_end, signal.SIGTERM, _HANG_UP):
        holder = Path(tempfile.mkdtemp(prefix="candlemark-gate-"))
        tree = holder / "tree"
        try:
            _must(
                *("worktree", "add", "--detach", "--quiet", str(tree), revision.commit),
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
            # A second Ctrl-C must not leave half of it.
            with _signals(signal.SIG_IGN, signal.SIGINT, signal.SIGTERM, _HANG_UP):
                _clear(revision.top, holder, tree)


def _clear(top: Path, holder: Path, tree: Path) -> None:
    """Remove a copy, finished or not, and what git knows of it."""
    # Git locks a copy while it makes it: one that was interrupted stays locked. The second
    # --force removes a locked one; what it refuses is taken away by hand, unlocked and forgotten.
    if _git("worktree", "remove", "--force", "--force", str(tree), folder=top) is None:
        shutil.rmtree(tree, ignore_errors=True)
        _git("worktree", "unlock", str(tree), folder=top)
        _git("worktree", "prune", folder=top)
    shutil.rmtree(holder, ignore_errors=True)


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
            command, capture_output=True, encoding="utf-8", errors="replace", check=False
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
        # No hooks: what a checkout sets off is none of the gate's business.
        ["git", "-c", f"core.hooksPath={os.devnull}", *arguments],  # noqa: S607 - the shell's git
        cwd=folder,
        env={name: value for name, value in os.environ.items() if name not in _GIT_LOCAL},
        capture_output=True,
        encoding="utf-8",
        errors="surrogateescape",  # as the names of files
        check=False,
        stdin=subprocess.DEVNULL,
        start_new_session=True,  # a Ctrl-C in the terminal must not end the clearing up
    )


_GIT_LOCAL = frozenset(
    {
        *("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_COMMON_DIR"),
        *("GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES"),
    }
)
"""Set where a hook runs the gate; they would make git look at that repository's index instead."""

_HANG_UP = getattr(signal, "SIGHUP", signal.SIGTERM)  # Windows has none


def _end(number: int, _: FrameType | None) -> None:
    """End this process as Ctrl-C does, through every `finally`."""
    raise SystemExit(128 + number)


@contextlib.contextmanager
def _signals(handler: Handler, *numbers: int) -> Iterator[None]:
    """React to signals in this way inside the block, where Python lets this thread decide."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.getsignal(number) for number in numbers}
    for number, before in previous.items():
        if before is not signal.SIG_IGN:  # as `nohup` asked for
            signal.signal(number, handler)
    try:
        yield
    finally:
        for number, before in previous.items():
            signal.signal(number, signal.SIG_DFL if before is None else before)
