"""What a trial knows its model by, wherever it lies: found while planning, without torch.

    identity_of(spec, files)         # the SHA-256 of its weights, "random", "source:...", ...

Two models under one name are two trials, and one model under two paths is one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import redirect_stdout
from importlib.util import find_spec
from pathlib import Path

from candlemark.errors import ModelError
from candlemark.models.segmentation.base import SegmenterSpec
from candlemark.models.segmentation.weights import weights_sha256
from candlemark.scans.pairs import file_hash

SETTINGS = ("*.json", "*.txt")
"""Files of a model's folder that are not its weights and that something reads."""


def identity_of(spec: SegmenterSpec, files: Mapping[str, Path] | None = None) -> str:
    """The content that answers, in a word.

    files: of finished predictions, the mask of each case

    Raises ModelError: weights or a module cannot be had.
    """
    if spec.kind == "control":
        return "rule"
    if spec.kind == "command":
        return f"command:{_command_file(spec.source)}"
    if spec.kind == "predictions":
        parts = [f"{case}:{_of_mask(path)}" for case, path in sorted((files or {}).items())]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()
    if spec.kind == "python":
        return f"source:{_module_sha256(spec.source)}"
    if spec.kind in {"onnx", "torchscript"}:
        return _own_weights(Path(spec.source))
    return _of_hub(spec)


def _own_weights(path: Path) -> str:
    try:
        return weights_sha256(path)
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from error


def _of_hub(spec: SegmenterSpec) -> str:
    return ":".join(filter(None, (_hub_weights(spec), _settings(spec))))


def _hub_weights(spec: SegmenterSpec) -> str:
    from candlemark.benchmark.inference.plan import weights_identity
    from candlemark.models.segmentation.choose import (
        choose_protocol,
        describe_segmenter,
        open_clip_vision,
    )

    if spec.weights == "random":
        choose_protocol(spec.source, weights="random")  # refuses what nobody knows
        return "random"
    if spec.weights == "pretrained" and open_clip_vision(spec.source) is not None:
        return _sha256(_open_clip_weights(spec))
    described = describe_segmenter(spec.source, weights=spec.weights)
    return weights_identity(described, allow_pickle=spec.allow_pickle)


def _settings(spec: SegmenterSpec) -> str:
    """Of what lies beside the weights of a folder and decides too; "" of the Hub's.

    Its classes, how pictures are read and the words of its tokenizer: edited between two runs,
    the answers of the first are no longer the model's. On the Hub they belong to the weights.
    """
    named = [spec.source, *({spec.weights} - {"pretrained", "random"})]
    known = [one if one.is_dir() else one.parent for one in map(Path, named) if one.exists()]
    files = [one for place in known for kind in SETTINGS for one in sorted(place.glob(kind))]
    told = [f"{one.name}:{_sha256(one)}" for one in files if one.is_file()]
    return hashlib.sha256("\n".join(told).encode()).hexdigest() if told else ""


def _open_clip_weights(spec: SegmenterSpec) -> Path:
    """Both towers in one file, as open_clip names it."""
    from candlemark.models.files import find_file

    names = ["open_clip_model.safetensors"]
    if spec.allow_pickle:
        names.append("open_clip_pytorch_model.bin")
    for name in names:
        path = find_file(spec.source, name)
        if path is not None:
            return path
    raise ModelError(
        f"{spec.source} has no {names[0]}; its weights may be a pickle, which can run code when "
        "loaded: allow_pickle: true if you trust it, or weights: random"
    )


def _module_sha256(source: str) -> str:
    """Of the file that the function stands in; what it imports is not looked at.

    The packages around it are imported to find it, and may do anything as they are.
    """
    module = source.removeprefix("python:").partition(":")[0]
    import sys

    here = str(Path.cwd())
    added = here not in sys.path
    if added:
        sys.path.insert(0, here)
    try:
        with redirect_stdout(sys.stderr):  # which is for results alone
            found = find_spec(module)
    except (Exception, SystemExit) as error:
        raise ModelError(
            f"cannot find the module {module} of {source}: {type(error).__name__}: {error}"
        ) from error
    finally:
        if added:
            sys.path.remove(here)
    if found is None or found.origin is None or not Path(found.origin).is_file():
        raise ModelError(
            f"there is no module {module} (of --model {source}) in this folder or on the path of "
            "Python"
        )
    return _sha256(Path(found.origin))


def _command_file(command: str) -> str:
    """The program's own content where it is a file here; else its words alone."""
    import shlex

    try:
        words = [Path(word) for word in shlex.split(command) if "{" not in word]
    except ValueError as error:
        raise ModelError(f"the command '{command}' cannot be read: {error}") from error
    hashes = [_sha256(word) for word in words if word.is_file()]
    return hashlib.sha256("".join([command, *hashes]).encode()).hexdigest()


def _of_mask(path: Path) -> str:
    """Of all its files: a header's raw data and the slices of a folder are the mask too."""
    try:
        return file_hash(path)
    except OSError as error:
        raise ModelError(f"cannot read {error.filename or path}: {error.strerror}") from error


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from error
