"""The log of parts that a build leaves behind: what of it is believed, and what is not."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candlemark.dataset.storage.parts import PartLog, record_of


@settings(max_examples=150, deadline=None)
@given(
    parts=st.lists(st.lists(st.binary(max_size=30), max_size=4), max_size=6),
    cut=st.floats(0, 1),
    flipped=st.none() | st.floats(0, 1, exclude_max=True),
)
def test_a_log_keeps_what_is_whole_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory,
    parts: list[list[bytes]],
    cut: float,
    flipped: float | None,
) -> None:
    path = tmp_path_factory.mktemp("log") / "images.parts"
    log, ends = PartLog(path, layout="a"), []
    for number, frames in enumerate(parts):
        log.append(number, record_of(number, frames))
        ends.append(log.size_bytes)
        assert log.size_bytes == path.stat().st_size
    log.close()
    data = bytearray(path.read_bytes())
    data = data[: round(cut * len(data))]
    harmed = len(data)
    if flipped is not None and data:
        harmed = int(flipped * len(data))
        data[harmed] ^= 64
    path.write_bytes(data)

    log = PartLog(path, layout="a")
    whole = {number for number, end in enumerate(ends) if end <= harmed}
    assert log.finished == whole
    assert [log.read(number) for number in sorted(whole)] == [parts[n] for n in sorted(whole)]
    for number, frames in enumerate(parts):
        if number not in whole:
            log.append(number, record_of(number, frames))
    assert [log.read(number) for number in range(len(parts))] == parts
    log.close()
    assert PartLog(path, layout="a").finished == set(range(len(parts)))


def test_a_log_of_another_layout_is_emptied(tmp_path: Path) -> None:
    path = tmp_path / "images.parts"
    log = PartLog(path, layout="a")
    log.append(0, record_of(0, [b"x"]))
    log.close()
    assert PartLog(path, layout="b").finished == frozenset()
    assert PartLog(path, layout="a").finished == frozenset()


def test_a_log_on_a_full_disk_keeps_what_it_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = PartLog(tmp_path / "images.parts", layout="a")
    log.append(0, record_of(0, [b"x" * 100]))
    write = os.write

    def half(handle: int, data: Any) -> int:
        if len(data) > 50:
            return write(handle, data[:50])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", half)
        with pytest.raises(OSError, match="No space left"):
            log.append(1, record_of(1, [b"y" * 100]))
    assert log.read(0) == [b"x" * 100]
    log.append(1, record_of(1, [b"z"]))
    log.close()
    assert PartLog(tmp_path / "images.parts", layout="a").read(1) == [b"z"]
