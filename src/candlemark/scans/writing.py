"""Images to files, complete or not at all.

    write_image(to_itk(labels, geometry), Path("masks/case_7.nii.gz"))

ITK writes half a NIfTI to a full disk and reports nothing, so what was written is looked at
before it takes its name.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from candlemark.errors import ScanError
from candlemark.scans.nifti import refuse_truncated_nifti
from candlemark.scans.reading import ending, refuse_nameless, said


def write_image(image: Any, path: Path) -> Path:
    """Write an image of SimpleITK, compressed where its kind can be; folders are made.

    Raises ScanError where it cannot be written; nothing is left then.
    """
    import SimpleITK

    refuse_nameless(path)
    known = ending(path) or ""
    # Two runs may make the same phantoms at once.
    stem = path.name[: len(path.name) - len(known)]
    partial = path.with_name(f".{stem}.{os.getpid()}.partial{known}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        SimpleITK.WriteImage(image, str(partial), useCompression=True)
        _refuse_half(partial, known)
        partial.replace(path)
    except (RuntimeError, OSError, ScanError) as error:
        with suppress(OSError):  # where a file stands in the place of the folder
            partial.unlink(missing_ok=True)
        raise ScanError(
            f"cannot write {path}: {_why(error)}; is the disk full, or the name taken?"
        ) from None
    return path


def _refuse_half(partial: Path, known: str) -> None:
    """ScanError where the file is not all of its image: of a NIfTI its header and length tell."""
    import SimpleITK

    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(partial))
    try:
        if known in {".nii", ".nii.gz"}:
            reader.ReadImageInformation()
            refuse_truncated_nifti(partial)
        else:
            reader.Execute()
    except RuntimeError:
        raise ScanError(f"{partial} cannot be read again") from None


def _why(error: Exception) -> str:
    """Of the half file that nobody will see nothing is told but that it is one."""
    if isinstance(error, ScanError):
        return "only a part of it arrived"
    return error.strerror or str(error) if isinstance(error, OSError) else said(error)
