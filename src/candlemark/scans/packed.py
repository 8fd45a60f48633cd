"""Whether what is packed in a file fits its checksum.

    refuse_damaged(Path("case_7.mha"))
    require_readable(Path("case_8.png"))

ITK unpacks a MetaImage, and some NRRD, as far as it can and gives what it has as if it were whole.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from pathlib import Path

from candlemark.errors import ScanError
from candlemark.scans.nifti import stored_type
from candlemark.scans.pairs import files_of
from candlemark.scans.reading import ending, open_source

BLOCK = 1 << 14
"""Bytes that are unpacked at once: a mask may grow a thousandfold."""

LONGEST_HEADER = 1 << 16

MARK = re.compile(rb"(?im)^(encoding: *gz|compresseddata *= *true)")
"""How a header says that its voxels are packed."""

ENDS = {
    ".nrrd": re.compile(rb"\r?\n\r?\n"),
    ".mha": re.compile(rb"(?im)^ElementDataFile *= *LOCAL *\r?\n"),
}
"""What stands between a header and the voxels in one file with it."""


def require_readable(path: Path) -> None:
    """Raise ScanError where a scan cannot be read to its end.

    What is read slice by slice was held against its header when it was opened; all else is read
    once, and forgotten.
    """
    source = open_source(path)
    if not source.by_region:
        source.read(0, source.geometry.shape[0])
        source.release()
    refuse_damaged(path)


def refuse_damaged(path: Path) -> None:
    """Raise ScanError where packed voxels do not unpack to their end, or to another checksum.

    Of files that are not packed, of a NRRD or MetaImage in parts of other kinds, and of a NIfTI
    in grey, which tells when it is read, nothing is said.
    """
    for file, start in _packed_parts(path):
        try:
            _unpack(file, start)
        except (OSError, EOFError, zlib.error) as error:
            raise ScanError(f"cannot read {path}: {error}; is it damaged? Copy it again") from None


def _packed_parts(path: Path) -> Iterator[tuple[Path, int]]:
    """Files, each with the byte where what is packed begins."""
    known = ending(path) if path.is_file() else None
    if known == ".nii.gz" and stored_type(path) is None:  # in colour, which ITK reads
        yield path, 0
    if known not in {".nrrd", ".mha", ".nhdr", ".mhd"}:
        return
    with path.open("rb") as file:
        head = file.read(LONGEST_HEADER)
    end = ENDS[known].search(head) if known in ENDS else None
    if MARK.search(head[: end.start()] if end else head) is None:
        return
    if end is not None:
        yield path, end.end()
    elif known in {".nhdr", ".mhd"}:
        yield from ((file, 0) for file in files_of(path)[1:])


def _unpack(path: Path, start: int) -> None:
    """Read a gzip or zlib stream, or several behind each other, to their end."""
    with path.open("rb") as file:
        file.seek(start)
        one, rest = zlib.decompressobj(47), file.read(BLOCK)
        while rest:
            while rest and not one.eof:
                one.decompress(rest)
                rest = one.unused_data or file.read(BLOCK)
            if not one.eof:
                raise EOFError("it ends too early")
            if not rest.startswith(b"\x1f\x8b"):
                return  # what some writers pad with
            one = zlib.decompressobj(47)
