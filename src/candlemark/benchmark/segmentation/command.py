"""A command with {input} and {output} as a segmenter: whatever reads a scan and writes a mask.

    candlemark segment ... --model 'mytool --fast {input} {output}'

{input} becomes the scan's own file and {output} a `.nii.gz` (`.png` of a picture) that does not
exist yet. No shell reads the words: each stays one argument, whatever letters a path has. A
command that takes too long is ended with all that it started, and so is one whose run is ended.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from candlemark.benchmark.segmentation.finished import mask_of
from candlemark.errors import ModelError
from candlemark.models.segmentation.base import Case, Labels, Stopwatch
from candlemark.models.segmentation.failures import CaseError
from candlemark.models.segmentation.own_labels import own_map

if TYPE_CHECKING:
    from candlemark.benchmark.segmentation.work import SegmentationWork

LONGEST_LINE = 200
LAST_BYTES = 4096
"""Of standard error, where its last line is looked for."""

PLACE = re.compile(r"\{(input|output)\}")


class CommandSegmenter:
    """Runs a command for each case and reads the mask that it wrote."""

    def __init__(self, work: SegmentationWork) -> None:
        self.words = split_command(work.spec.source)
        self.references = work.references
        self.mapping = own_map(work.spec.options.get("class_map"), work.spec.classes)
        self.timeout_s: float | None = work.spec.options.get("timeout_s")
        self._facts = {
            "model_class": "command",
            "command": work.spec.source,
            "weights": None,
            "weights_sha256": None,
            "parameters": None,
            "protocol": work.spec.protocol,
            "untrained": False,
            "times": "forward is the whole command, its start and its files included",
            "memory": "of this process; the command's own is not seen",
        }

    @property
    def facts(self) -> Mapping[str, Any]:
        """JSON types only."""
        return self._facts

    def segment(self, case: Case, watch: Stopwatch) -> Labels:
        """What the command wrote for the case: uint8 (Z, Y, X).

        Raises CaseError: it failed, took too long, or wrote no mask of the scan's grid.
        """
        with _no_orphan(), tempfile.TemporaryDirectory(prefix="candlemark-") as scratch:
            picture = case.shape[0] == 1 and case.spacing_mm is None
            output = Path(scratch) / f"mask{'.png' if picture else '.nii.gz'}"
            places = {"input": str(case.path.absolute()), "output": str(output)}
            words = [PLACE.sub(lambda found: places[found[1]], word) for word in self.words]
            with watch("forward"):
                run_command(words, timeout_s=self.timeout_s)
            if not output.exists():
                raise CaseError("missing", _nothing(self.words[0], output))
            with watch("postprocess"):
                try:
                    return mask_of(output, case, self.mapping, self.references)
                except CaseError as error:
                    raise CaseError(error.outcome, _as_asked(str(error), output)) from error


def run_command(words: list[str], *, timeout_s: float | None) -> None:
    """Run it to its end, in the folder one works in, its output kept off the terminal.

    Raises CaseError: "timed_out", and "crashed" where it cannot be started or does not end with
    status 0; the last line of its standard error stands in the message.
    """
    # A file takes what a pipe would block on, also from what the command leaves running.
    with tempfile.TemporaryFile() as errors:
        try:
            started = subprocess.Popen(  # noqa: S603 - the user's own command, without a shell
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                start_new_session=True,
            )
        except OSError as error:
            raise CaseError(
                "crashed", f"{words[0]} cannot be run: {error.strerror or error}"
            ) from error
        try:
            status = started.wait(timeout_s)
        except subprocess.TimeoutExpired as error:
            raise CaseError(
                "timed_out", f"{words[0]} took longer than {timeout_s:g} s{_last_line(errors)}"
            ) from error
        finally:
            _end(started)
        if status:
            raise CaseError("crashed", f"{words[0]} {_ended(status)}{_last_line(errors)}")


def split_command(command: str) -> list[str]:
    """The words of a command.

    Raises ModelError: a quote is not closed, nothing is left, or there is no such program.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise ModelError(f"the command '{command}' cannot be read: {error}") from error
    if not words:
        raise ModelError("the command is empty; write one such as: mytool {input} {output}")
    if shutil.which(words[0]) is None:
        raise ModelError(
            f"there is no program {words[0]} (of --model '{command}') that can be run; give its "
            "path, or the interpreter before it: python tool.py {input} {output}"
        )
    return words


class _ToldToEnd(BaseException):
    """This process got SIGTERM while a command ran."""


@contextmanager
def _no_orphan() -> Iterator[None]:
    """Let SIGTERM end what runs inside, and only then this process.

    A command is a session of its own, which no Ctrl-C and no end of this process would reach.
    """
    if threading.current_thread() is not threading.main_thread():  # which alone gets signals
        yield
        return

    def told(*_: object) -> None:
        raise _ToldToEnd

    before = signal.signal(signal.SIGTERM, told)
    try:
        yield
    except _ToldToEnd:
        signal.signal(signal.SIGTERM, before)
        signal.raise_signal(signal.SIGTERM)
        raise CaseError("crashed", "the process was told to end") from None
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(started: subprocess.Popen[bytes]) -> None:
    """End a command that still runs, and its children, which killing it alone would leave."""
    if started.poll() is not None:
        return
    with suppress(ProcessLookupError):
        if hasattr(os, "killpg"):
            os.killpg(started.pid, signal.SIGKILL)
        else:
            started.kill()
    started.wait()


def _nothing(tool: str, output: Path) -> str:
    there = sorted(path.name for path in output.parent.iterdir())
    beside = f"; beside it stands {there[0]}" if there else ""
    return f"{tool} ended well and wrote nothing to {{output}} ({output.name}){beside}"


def _as_asked(told: str, output: Path) -> str:
    """The mask as the command was told of it: where it lay is gone by the time it is read of."""
    name = str(output) if str(output) in told else output.name
    return told.replace(name, f"{{output}} ({output.name})")


def _ended(status: int) -> str:
    return f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"


def _last_line(errors: IO[bytes]) -> str:
    """What was written last on standard error, behind a colon; "" where nothing was."""
    size = errors.seek(0, os.SEEK_END)
    errors.seek(max(0, size - LAST_BYTES))
    lines = errors.read().decode("utf-8", errors="replace").strip().splitlines()
    return f": {lines[-1].strip()[:LONGEST_LINE]}" if lines else ""
