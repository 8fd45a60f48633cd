"""Bytes on their way: groups of files, and streams that are open only while they are read."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from candlemark.hub import transfer
from candlemark.hub.changes import LocalFile
from candlemark.hub.transfer import Reader, batches, source


@given(st.lists(st.binary(max_size=2), max_size=40))
def test_every_file_is_in_one_group_and_no_group_holds_the_same_bytes_for_the_first_time_twice(
    contents: list[bytes],
) -> None:
    files = {str(number): LocalFile(content=content) for number, content in enumerate(contents)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transfer, "BATCH_FILES", 4)
        patch.setattr(transfer, "BATCH_BYTES", 5)
        groups = list(batches(files, list(files)))
    assert sorted(path for group in groups for path in group) == sorted(files)
    sent: set[bytes] = set()
    for group in groups:
        assert 1 <= len(group) <= 4
        new = [files[path].read() for path in group if files[path].read() not in sent]
        assert len(new) == len(set(new))
        sent |= set(new)


def test_files_of_different_sizes_are_not_read(tmp_path: Path) -> None:
    class Unread(LocalFile):
        def sha256(self) -> str:
            raise AssertionError("read")

    files = {str(size): Unread(content=bytes(size)) for size in range(9)}
    assert list(batches(files, list(files))) == [list(files)]


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("read"), st.integers(-1, 60)),
            st.tuples(st.just("seek"), st.integers(0, 120)),
        )
    )
)
def test_a_reader_reads_as_a_file_does(steps: list[tuple[str, int]]) -> None:
    content = bytes(range(100))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(content)
        with Reader(path) as reader, io.BytesIO(content) as plain:
            assert reader.readable()
            assert reader.seekable()
            for name, value in steps:
                assert getattr(reader, name)(value) == getattr(plain, name)(value)
                assert reader.tell() == plain.tell()
            assert reader.seek(0, io.SEEK_END) == 100
            assert reader.seek(-10, io.SEEK_CUR) == 90
            assert reader.read() == content[90:]


def test_thousands_of_readers_keep_no_file_open(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    readers = [source(LocalFile(path=path), by_reader=True) for _ in range(3000)]
    for reader in readers:
        assert reader.read(2) == b"12"
        reader.seek(0)
    assert all(reader.read() == b"12345" for reader in readers)


def test_a_source_has_the_form_that_leads_to_its_storage(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert source(LocalFile(path=path), by_reader=False) == str(path)
    assert source(LocalFile(content=b"1"), by_reader=False) == b"1"
    assert source(LocalFile(content=b"1"), by_reader=True).read() == b"1"
