"""Where a model's files come from: a folder, the Hub cache, or the Hub, in that order.

    path = find_weights("timm/ghostnet_100.in1k", allow_pickle=False)

Files are brought by transformers' own downloader. What is in the cache is used as it is, with
no request; a Hub that does not answer is found out in seconds, not after a minute of retries.
"""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import getproxies

from candlemark.errors import ModelError

if TYPE_CHECKING:
    from candlemark.models.catalog import ModelSpec

SAFE_NAME = "model.safetensors"
SHARDED_NAME = "model.safetensors.index.json"
PICKLE_NAME = "pytorch_model.bin"
PROBE_TIMEOUT_S = 5.0


def weights_file(spec: ModelSpec, weights: str | Path, *, allow_pickle: bool) -> Path | None:
    """Path of the weights that `spec` starts from, brought here if need be; None if random.

    Needs no torch, so a benchmark can ask before it does anything that takes long. Raises
    ModelError as `find_weights` and `check_file` do.
    """
    if weights == "random":
        return None
    if weights == "pretrained":
        return find_weights(_hub_id(spec), allow_pickle=allow_pickle)
    path = check_file(Path(weights), allow_pickle=allow_pickle)
    return find_weights(str(path), allow_pickle=allow_pickle) if path.is_dir() else path


def find_file(model_id: str, name: str) -> Path | None:
    """Path of one file of a folder or Hub id, downloaded if need be; None if there is none.

    Raises ModelError: the file is not in the cache and the Hub cannot be reached, or the Hub
    does not know the id.
    """
    path = _cached(model_id, name)
    if path is not None or Path(model_id).is_dir():
        return path
    _require_hub(model_id, name)
    from transformers.utils import cached_file

    try:
        found = cached_file(model_id, name, _raise_exceptions_for_missing_entries=False)
    except OSError as error:
        first_line = str(error).splitlines()[0]
        raise ModelError(
            f"cannot get {name} of {model_id}: {first_line}; "
            "check the id, or use --weights random for a catalog model"
        ) from error
    return Path(found) if found else None


def find_weights(model_id: str, *, allow_pickle: bool) -> Path:
    """Path of the weights: safetensors, else shards' index, else an allowed pickle.

    Raises ModelError: no weights; only a pickle and `allow_pickle` is off; no network and
    nothing in the cache.
    """
    names = [SAFE_NAME, SHARDED_NAME, *([PICKLE_NAME] if allow_pickle else [])]
    # All names are looked up in the cache before the network is asked for the first.
    for look_up in (_cached, find_file):
        for name in names:
            path = look_up(model_id, name)
            if path is not None:
                return _with_shards(model_id, path)
    folder = Path(model_id)
    if folder.is_dir():
        return _only_file(folder, allow_pickle=allow_pickle)
    raise ModelError(
        f"{model_id} has no {SAFE_NAME}; its weights may be a pickle, which can run code when "
        "loaded: pass --allow-pickle if you trust it, or --weights random"
    )


def check_file(path: Path, *, allow_pickle: bool) -> Path:
    """`path` if it may be loaded; ModelError if it is absent or a pickle nobody allowed."""
    if not path.exists():
        raise ModelError(
            f"no weights at {path}; allowed: pretrained, random, or the path of a folder "
            "or a .safetensors file"
        )
    if path.is_file() and path.suffix != ".safetensors" and not allow_pickle:
        raise ModelError(
            f"{path} is not safetensors; a pickle can run code when loaded: "
            "pass --allow-pickle if you trust it"
        )
    return path


def _hub_id(spec: ModelSpec) -> str:
    """The Hub id or folder that holds the spec's weights; a bare timm name gets its tag."""
    if spec.library != "timm" or spec.folder or "." in spec.id:
        return spec.id
    import timm

    published = timm.get_pretrained_cfg(spec.architecture, allow_unregistered=True)
    if not published.hf_hub_id:
        raise ModelError(f"nobody published weights of {spec.id}; use --weights random")
    return str(published.hf_hub_id)


def _only_file(folder: Path, *, allow_pickle: bool) -> Path:
    patterns = ["*.safetensors", *(["*.bin", "*.pt", "*.pth"] if allow_pickle else [])]
    for pattern in patterns:
        found = sorted(folder.glob(pattern))
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(path.name for path in found)
            raise ModelError(f"{folder} holds several weights ({names}); name one of them")
    if any(path.suffix in {".bin", ".pt", ".pth"} for path in folder.iterdir()):
        raise ModelError(
            f"{folder} holds only a pickle, which can run code when loaded: "
            "pass --allow-pickle if you trust it"
        )
    raise ModelError(f"{folder} holds no weights ({SAFE_NAME})")


def _with_shards(model_id: str, path: Path) -> Path:
    """Bring every shard that an index names, so that they lie beside it."""
    if path.name == SHARDED_NAME:
        names = json.loads(path.read_text(encoding="utf-8"))["weight_map"].values()
        for name in sorted(set(names)):
            if find_file(model_id, name) is None:
                raise ModelError(f"{model_id} names a shard it does not have: {name}")
    return path


def _cached(model_id: str, name: str) -> Path | None:
    """The file in the folder or in the Hub cache, with no request; None if it is not there."""
    folder = Path(model_id)
    if folder.is_dir():
        return folder / name if (folder / name).is_file() else None
    from transformers.utils import cached_file

    found = cached_file(
        model_id,
        name,
        local_files_only=True,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    return Path(found) if found else None


def _require_hub(model_id: str, name: str) -> None:
    """Raise ModelError at once where the Hub may not or cannot be asked."""
    advice = "use --weights random, or give a local folder with --weights PATH"
    if name == "config.json":
        # Asked only of ids outside the catalog, which cannot be built without it.
        advice = "check the id, name a model folder instead, or take a --model-set"
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        raise ModelError(
            f"{name} of {model_id} is not in the Hub cache and HF_HUB_OFFLINE is set; {advice}"
        )
    endpoint = urlsplit(os.environ.get("HF_ENDPOINT") or "https://huggingface.co")
    # Behind a proxy only the proxy needs to answer; the client speaks to nothing else.
    target = urlsplit(getproxies().get(endpoint.scheme, endpoint.geturl()))
    port = target.port or (443 if target.scheme == "https" else 80)
    try:
        socket.create_connection((target.hostname or "", port), PROBE_TIMEOUT_S).close()
    except OSError as error:
        raise ModelError(
            f"{name} of {model_id} is not in the Hub cache and {target.hostname}:{port} cannot "
            f"be reached ({error}); {advice}"
        ) from error
