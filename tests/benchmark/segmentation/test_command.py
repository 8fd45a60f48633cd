"""Commands as segmenters: no shell, a time limit that holds, and reasons that say something."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import SimpleITK

from candlemark.benchmark.segmentation.command import CommandSegmenter, split_command
from candlemark.benchmark.segmentation.scan_cases import References, ScanCase, open_scan_case
from candlemark.errors import ModelError
from candlemark.models.segmentation.base import Labels, SegmenterSpec, Stopwatch
from candlemark.models.segmentation.failures import CaseError
from candlemark.scans.geometry import Geometry, to_itk
from candlemark.scans.masks import label_map

VOLUME = np.arange(24, dtype=np.int16).reshape(2, 3, 4) * 10

TOOL = """
import sys
import SimpleITK
image = SimpleITK.ReadImage(sys.argv[1])
SimpleITK.WriteImage(SimpleITK.Cast(image > 150, SimpleITK.sitkUInt8), sys.argv[2])
"""


@pytest.fixture
def case(tmp_path: Path) -> ScanCase:
    image = tmp_path / "scans; $(touch harmed)" / "case 1.nii.gz"
    image.parent.mkdir()
    grid = Geometry(shape=VOLUME.shape, spacing_mm=(3.0, 1.0, 1.0))
    SimpleITK.WriteImage(to_itk(VOLUME, grid), str(image))
    return ScanCase(id="case 1", image=image, reference=image, sha256="")


@pytest.fixture
def run(case: ScanCase) -> Callable[..., Labels]:
    """What a command answers for the case."""

    def asked(
        command: str, *, watch: Stopwatch | None = None, classes: Any = None, **options: Any
    ) -> Labels:
        references = References(labels=label_map(classes or {1: "lesion"}))
        spec = SegmenterSpec(
            name="tool",
            source=command,
            kind="command",
            protocol="own",
            classes=references.labels.names,
            options=options,
        )
        work: Any = SimpleNamespace(spec=spec, references=references)
        return CommandSegmenter(work).segment(
            open_scan_case(case).case, watch or Stopwatch(lambda: 0)
        )

    return asked


def python(code: str, *, places: str = "{input} {output}") -> str:
    return f"{shlex.quote(sys.executable)} -c {shlex.quote(code)} {places}"


def test_it_reads_the_scan_and_writes_the_mask_and_no_shell_sees_the_path(
    run: Callable[..., Labels], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    watch = Stopwatch(time.perf_counter_ns)
    assert (run(python(TOOL), watch=watch) == (VOLUME > 150)).all()
    assert watch.totals_ms["forward"] > watch.totals_ms["postprocess"] > 0
    assert not (tmp_path / "harmed").exists()


def test_places_may_stand_inside_a_word_and_a_map_is_honoured(
    run: Callable[..., Labels],
) -> None:
    code = TOOL.replace("sys.argv[1]", "sys.argv[1][3:]").replace("sys.argv[2]", "sys.argv[2][3:]")
    command = python(code, places="-i={input} -o={output}")
    found = run(command, classes={1: "liver", 2: "lesion"}, class_map={"1": "lesion"})
    assert (found == 2 * (VOLUME > 150)).all()


@pytest.mark.parametrize(
    ("code", "outcome", "told"),
    [
        ("import sys; print('x'); sys.exit('the licence\\nhas run out')", "crashed",
         "ended with status 1: has run out"),
        ("import os; os.kill(os.getpid(), 9)", "crashed", "was ended by signal 9$"),
        ("pass", "missing", r"ended well and wrote nothing to {output} \(mask\.nii\.gz\)"),
        ("import sys; open(sys.argv[2] + '.tmp', 'w')", "missing", r"beside it stands mask\.nii"),
        ("import sys; open(sys.argv[2], 'w').write('no mask')", "crashed",
         r"cannot read \{output\} \(mask\.nii\.gz\)"),
    ],
)  # fmt: skip
def test_a_failure_says_how_and_quotes_the_last_line(
    run: Callable[..., Labels], code: str, outcome: str, told: str
) -> None:
    with pytest.raises(CaseError, match=told) as raised:
        run(python(code))
    assert raised.value.outcome == outcome


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (
            "s.Cast(a, s.sitkFloat32) / 230",
            "has probabilities (0.04348), and a mask has whole numbers",
        ),
        ("a", "has values that are no class: "),
    ],
)
def test_a_mask_that_holds_no_labels_is_told_as_the_commands_output(
    run: Callable[..., Labels], tmp_path: Path, values: str, told: str
) -> None:
    """Where it lay is gone by the time anyone reads of it."""
    tool = tmp_path / "tool.py"
    tool.write_text(
        "import sys, SimpleITK as s\na = s.Cast(s.ReadImage(sys.argv[1]), s.sitkInt16)\n"
        f"s.WriteImage({values}, sys.argv[2])\n",
        encoding="utf-8",
    )
    with pytest.raises(CaseError) as raised:
        run(f"{shlex.quote(sys.executable)} {shlex.quote(str(tool))} {{input}} {{output}}")
    assert raised.value.outcome == "wrong_labels"
    assert str(raised.value).startswith("{output} (mask.nii.gz) " + told)


def test_a_tool_that_vanished_fails_the_case(
    run: Callable[..., Labels], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/there/was/{name}")
    with pytest.raises(CaseError, match="absent-tool cannot be run: No such file"):
        run("absent-tool {input} {output}")


def test_a_command_that_takes_too_long_is_ended_with_its_children(
    run: Callable[..., Labels], tmp_path: Path
) -> None:
    """A child that lives on would hold the pipes of its parent, and the machine."""
    child = tmp_path / "child"
    command = (
        f"sh -c 'echo working >&2; sleep 60 & echo $! > {shlex.quote(str(child))}; wait' "
        "tool {input} {output}"
    )
    began = time.monotonic()
    with pytest.raises(CaseError, match=r"sh took longer than 0\.5 s: working") as raised:
        run(command, timeout_s=0.5)
    assert raised.value.outcome == "timed_out"
    assert time.monotonic() - began < 30
    assert _has_ended(int(child.read_text(encoding="utf-8")))


def test_a_run_that_is_ended_leaves_no_command_and_no_file(
    run: Callable[..., Labels], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    child, told = tmp_path / "child", []
    code = f"sleep 60 & echo $! > {shlex.quote(str(child))}; kill -TERM $PPID; wait"
    before = signal.signal(signal.SIGTERM, lambda *_: told.append("the process"))
    try:
        with pytest.raises(CaseError, match="told to end"):
            run(f"sh -c {shlex.quote(code)} tool {{input}} {{output}}")
        assert _has_ended(int(child.read_text(encoding="utf-8")))
        assert told == ["the process"]
        signal.raise_signal(signal.SIGTERM)
        assert told == ["the process"] * 2
    finally:
        signal.signal(signal.SIGTERM, before)
    assert list((tmp_path / "scratch").iterdir()) == []


def _has_ended(process: int) -> bool:
    for _ in range(100):
        try:
            os.kill(process, 0)
            state = Path(f"/proc/{process}/stat")
            if (
                state.exists()
                and state.read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "Z"
            ):
                return True  # ended, and nobody has asked how
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def test_much_on_standard_error_does_not_block(run: Callable[..., Labels]) -> None:
    code = "import sys; sys.stderr.write('x' * 10_000_000 + '\\nthe end\\n'); sys.exit(4)"
    with pytest.raises(CaseError, match="ended with status 4: the end"):
        run(python(code))


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("tool 'x {input} {output}", "cannot be read: No closing quotation"),
        (" ", "is empty"),
        ("absent-tool {input} {output}", r"no program absent-tool \(of --model 'absent"),
    ],
)
def test_commands_that_cannot_be_read_are_refused(command: str, told: str) -> None:
    with pytest.raises(ModelError, match=told):
        split_command(command)
