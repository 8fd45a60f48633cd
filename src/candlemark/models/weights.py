"""Which file holds a model's weights, and whether it may be loaded.

    path = find_weights("timm/ghostnet_100.in1k", allow_pickle=False)

Safetensors come first; a pickle, which can run code when it is loaded, only with leave.
"""

from __future__ import annotations

import json
from pathlib import Path

from candlemark.errors import ModelError
from candlemark.models.catalog import ModelSpec
from candlemark.models.files import cached_file, find_file

SAFE_NAME = "model.safetensors"
SHARDED_NAME = "model.safetensors.index.json"
PICKLE_NAME = "pytorch_model.bin"


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


def find_weights(model_id: str, *, allow_pickle: bool) -> Path:
    """Path of the weights: safetensors, else shards' index, else an allowed pickle.

    Raises ModelError: no weights; only a pickle and `allow_pickle` is off; no network and
    nothing in the cache.
    """
    names = [SAFE_NAME, SHARDED_NAME, *([PICKLE_NAME] if allow_pickle else [])]
    # All names are looked up in the cache before the network is asked for the first.
    for look_up in (cached_file, find_file):
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


def shard_names(index: Path) -> list[str]:
    """The files that an index of shards names, each once, in order.

    Raises ModelError: it is no such index.
    """
    try:
        names = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
        return sorted({str(name) for name in names})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"{index} is no index of shards ({type(error).__name__}: {error}); download it again"
        ) from error


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
    raise ModelError(
        f"{folder} holds no weights ({SAFE_NAME}); put them there, or use --weights random"
    )


def _with_shards(model_id: str, path: Path) -> Path:
    """Bring every shard that an index names, so that they lie beside it."""
    if path.name == SHARDED_NAME:
        for name in shard_names(path):
            if find_file(model_id, name) is None:
                raise ModelError(f"{model_id} names a shard it does not have: {name}")
    return path
