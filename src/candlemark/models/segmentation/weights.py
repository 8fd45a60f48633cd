"""What a model's file holds, as a hash; this file loads no torch.

weights_sha256(Path("unet.onnx"))       # of unet.onnx.data too, where the weights lie there
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

LOCATION = re.compile(rb"\n\x08location\x12(.)", re.DOTALL)
"""Where an ONNX file names another that holds a tensor: a key, then the length of the name.

`StringStringEntryProto` of onnx.proto, as protocol buffers write it.
"""


def weights_sha256(path: Path) -> str:
    """Of the file's bytes; of an ONNX file that leaves tensors in others, of all their bytes.

    Raises OSError: a file cannot be read.
    """
    files = [path, *_beside(path)] if path.suffix.lower() == ".onnx" else [path]
    hashes = [_of_file(one) for one in files]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def _beside(path: Path) -> list[Path]:
    data = path.read_bytes()
    names = {data[found.end() :][: found[1][0]] for found in LOCATION.finditer(data)}
    files = [path.parent / name.decode("utf-8", errors="replace") for name in sorted(names)]
    return [one for one in files if one.is_file()]


def _of_file(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
