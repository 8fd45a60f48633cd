"""Who may use the machine now: loads share it, a timed section has it alone.

    with loading():                 # reading weights, compiling: beside other loads
        model = load(...)
    with timing("cuda:0"):          # no other timed section and no load of ours, anywhere
        samples = measure(...)

The leases hold across threads, processes and candlemark commands of one user on one machine.
They are the kernel's locks on files (`flock`): a holder that dies, however it dies, has let
go, and whoever waits sleeps in the kernel. A timed section waits behind the loads that run,
and lets no new one start meanwhile, so it always gets its turn.

Devices share one lease: what computes on a GPU is driven by the same cores, and its timing
suffers when they are taken.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

from candlemark.errors import ConfigError

ENVIRONMENT = "CANDLEMARK_LEASES"
"""Names the folder of the lock files; processes that name different ones do not see each other."""

Kind = Literal["loading", "timing"]

_held = threading.local()
_on_wait: Callable[[bool], None] | None = None


def default_folder() -> Path:
    """`CANDLEMARK_LEASES`, or a folder of this user below the system's temporary one.

    Not below the cache: a home that several machines mount would make them wait for each other.
    """
    named = os.environ.get(ENVIRONMENT)
    if named:
        return Path(named)
    user = str(os.getuid()) if sys.platform != "win32" else os.environ.get("USERNAME", "user")
    return Path(tempfile.gettempdir()) / f"candlemark-{user}"


def loading() -> contextlib.AbstractContextManager[None]:
    """Load, compile or prepare: beside other loads, never beside a timed section.

    Inside another lease of the same thread it changes nothing. Raises ConfigError where the
    lock files cannot be had.
    """
    return _lease("loading", "")


def timing(device: object = "cpu") -> contextlib.AbstractContextManager[None]:
    """Time something: no other timed section and no load of ours runs meanwhile.

    device: what is being timed; written down, so that one can see who holds the machine

    Inside another `timing` of the same thread it changes nothing. Raises RuntimeError inside
    `loading`, which it would wait for without end, and ConfigError where the lock files cannot
    be had.
    """
    return _lease("timing", str(device))


def holder() -> str | None:
    """Who is timing or was last, such as "process 4711 on cuda:0"; None where nobody has."""
    try:
        return (default_folder() / "machine.lock").read_text(encoding="utf-8").strip() or None
    except OSError:
        return None


def held() -> Kind | None:
    """The outermost lease of this thread."""
    return getattr(_held, "kind", None)


@contextlib.contextmanager
def under(kind: Kind | None) -> Iterator[None]:
    """Work for a caller in another process that holds this lease: ours are inside it."""
    before, _held.kind = held(), kind
    try:
        yield
    finally:
        _held.kind = before


def on_wait(observer: Callable[[bool], None] | None) -> Callable[[bool], None] | None:
    """Have `observer(True)` called when a lease must be waited for, and `(False)` when it came.

    A worker installs one, so that its parent stops the clock of its time-out meanwhile. Returns
    the one that it replaces.
    """
    global _on_wait
    previous, _on_wait = _on_wait, observer
    return previous


@contextlib.contextmanager
def _lease(kind: Kind, device: str) -> Iterator[None]:
    outer = held()
    if outer == "loading" and kind == "timing":
        raise RuntimeError("timing() inside loading() would wait for itself; leave loading() first")
    if outer is not None:
        yield
        return
    folder = default_folder()
    with contextlib.ExitStack() as stack:
        with contextlib.ExitStack() as gate:
            # Whoever stands in the gate goes next: loads that keep coming queue behind a
            # section that waits, instead of passing it for ever.
            gate.enter_context(_locked(folder, "gate.lock", exclusive=True))
            machine = stack.enter_context(
                _locked(folder, "machine.lock", exclusive=kind == "timing")
            )
        if kind == "timing":
            os.ftruncate(machine, 0)
            os.write(machine, f"process {os.getpid()} on {device}\n".encode())
        with under(kind):
            yield


@contextlib.contextmanager
def _locked(folder: Path, name: str, *, exclusive: bool) -> Iterator[int]:
    """Hold a lock file of the folder; gives its descriptor."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(folder / name, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise ConfigError(
            f"cannot open the lock file {folder / name}: {error.strerror}; name a folder of "
            f"your own: export {ENVIRONMENT}=/a/writable/folder"
        ) from error
    _open.add(descriptor)
    try:
        with _flocked(descriptor, folder / name, exclusive=exclusive):
            yield descriptor
    finally:
        _open.discard(descriptor)
        os.close(descriptor)


_open: set[int] = set()


def _close_in_child() -> None:
    """A forked child shares its parent's locks, and would hold them past the parent's death."""
    for descriptor in _open:
        with contextlib.suppress(OSError):
            os.close(descriptor)
    _open.clear()
    _held.__dict__.clear()


if sys.platform == "win32":

    @contextlib.contextmanager
    def _flocked(_: int, path: Path, *, exclusive: bool) -> Iterator[None]:  # noqa: ARG001
        """Windows locks bytes, alone only and without a queue: loads take turns there, too."""
        from filelock import FileLock

        lock = FileLock(f"{path}.exclusive")
        with _waiting():
            lock.acquire(poll_interval=0.25)
        try:
            yield
        finally:
            lock.release()

else:
    import fcntl

    os.register_at_fork(after_in_child=_close_in_child)

    @contextlib.contextmanager
    def _flocked(descriptor: int, _: Path, *, exclusive: bool) -> Iterator[None]:
        how = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
        try:
            fcntl.flock(descriptor, how | fcntl.LOCK_NB)
        except BlockingIOError:
            with _waiting():
                fcntl.flock(descriptor, how)
        try:
            yield
        finally:
            # Said aloud: closing alone would leave it to a forked child that has a copy.
            fcntl.flock(descriptor, fcntl.LOCK_UN)


@contextlib.contextmanager
def _waiting() -> Iterator[None]:
    if _on_wait is None:
        yield
        return
    _on_wait(True)
    try:
        yield
    finally:
        _on_wait(False)
