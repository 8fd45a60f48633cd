"""The bytes of a saved model: safetensors for networks, joblib for scikit-learn's objects.

    kind = kind_of(model)
    write(model, kind, folder / PAYLOADS[kind])
    tensors = read_tensors(path, device="cpu")
    fill(module, tensors)

Safetensors hold numbers and nothing else, so they are read from anyone. A joblib file is a
pickle, which runs code when it is opened: it is opened only here, and only by `read_estimator`.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from candlemark.errors import ModelError
from candlemark.models.saved import Kind, StoredFile, hash_problem

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

JOBLIB_COMPRESSION = 3
_NAMES_SHOWN = 8


def kind_of(model: Any) -> Kind:
    """What `model` is to the store; ModelError for what it cannot keep."""
    if _is_network(model):
        return "network"
    if isinstance(model, Mapping) and model:
        import torch

        bad = [name for name, item in model.items() if not isinstance(item, torch.Tensor)]
        if not bad and all(isinstance(name, str) for name in model):
            return "tensors"
        raise ModelError(
            f"the mapping to save holds {bad[0] if bad else next(iter(model))!r:.60}; allowed: "
            "names, which are text, to torch tensors"
        )
    from sklearn.base import BaseEstimator

    if isinstance(model, BaseEstimator):
        return "estimator"
    raise ModelError(
        f"a {type(model).__name__} cannot be saved; allowed: a torch module, a non-empty "
        "mapping of names to tensors, or a scikit-learn estimator or pipeline"
    )


def class_path(model: Any) -> str:
    """Module and name of the class, that of the network itself where it is wrapped."""
    made = type(unwrapped(model))
    return f"{made.__module__}.{made.__qualname__}"


def unwrapped(model: Any) -> Any:
    """The network inside what `torch.compile` and data parallelism wrap around it.

    Their state dicts have other names, and would fit no network that is not wrapped as well.
    """
    if not _is_network(model):
        return model
    from torch.nn.parallel import DataParallel, DistributedDataParallel

    while True:
        if isinstance(model, DataParallel | DistributedDataParallel):
            model = model.module
        elif "_orig_mod" in model._modules:  # noqa: SLF001 - its only mark
            model = model.get_submodule("_orig_mod")
        else:
            return model


def _is_network(model: Any) -> bool:
    """Whoever has a network has loaded torch; a scikit-learn object is saved without it."""
    if "torch" not in sys.modules:
        return False
    import torch

    return isinstance(model, torch.nn.Module)


def write(model: Any, kind: Kind, path: Path) -> None:
    """Write the model's file; ModelError where it has no such form."""
    if kind == "estimator":
        _write_estimator(model, path)
    else:
        state = unwrapped(model).state_dict() if kind == "network" else model
        _write_tensors(state, path)


def libraries(kind: Kind) -> tuple[str, ...]:
    """The packages whose versions decide whether a file of this kind can be read again."""
    if kind == "estimator":
        return ("scikit-learn", "joblib", "numpy")
    return ("torch", "safetensors")


def _write_tensors(state: Mapping[str, Any], path: Path) -> None:
    """Safetensors, in which tied tensors stand once and the header names their other names.

    The header's form is that of `safetensors.torch.save_model`, whose `load_model` reads it.
    Tensors that only overlap, which that function refuses, are written each in full.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    first_name: dict[Any, str] = {}
    storages: set[Any] = set()
    tensors: dict[str, Tensor] = {}
    tied: dict[str, str] = {}
    for name, tensor in state.items():
        _require_storable(name, tensor)
        storage = (tensor.device, tensor.untyped_storage().data_ptr())
        view = (tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
        where = (storage, view, tensor.is_conj(), tensor.is_neg())
        # The header has a "format" of its own, so a tensor of that name is written in full.
        if tensor.numel() and where in first_name and name != "format":
            tied[name] = first_name[where]
            continue
        first_name[where] = name
        # A conjugate is the same bytes and a mark, which safetensors would not write.
        whole = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
        # Safetensors refuses two names on one storage, wherever in it they lie.
        tensors[name] = whole.clone() if storage in storages else whole
        storages.add(storage)
    try:
        save_file(tensors, path, metadata={**tied, "format": "pt"})
    except SafetensorError as error:
        raise ModelError(f"cannot write {path.name}: {error}") from error
    except KeyError as error:
        raise ModelError(f"safetensors cannot hold {error.args[0]}; convert that tensor") from error


def _require_storable(name: str, tensor: Any) -> None:
    import torch

    if not isinstance(tensor, torch.Tensor):
        raise ModelError(
            f"the state dict's {name} is a {type(tensor).__name__}; safetensors hold tensors only, "
            "so keep it as a field: save_model(..., my_field=...)"
        )
    if tensor.is_meta:
        raise ModelError(f"{name} is on the meta device and has no numbers to save")
    if tensor.layout is not torch.strided:
        raise ModelError(f"{name} is {tensor.layout}; safetensors hold dense tensors, .to_dense()")


def read_tensors(path: Path, *, device: str) -> dict[str, Tensor]:
    """Every tensor by name, tied ones as one tensor again; ModelError for another format."""
    import safetensors
    from safetensors.torch import load_file

    try:
        tensors: dict[str, Tensor] = load_file(path, device=device)
        with safetensors.safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
    except safetensors.SafetensorError as error:
        raise ModelError(f"{path} is no safetensors file ({error})") from error
    for name, other in header.items():
        if other in tensors and name not in tensors:
            tensors[name] = tensors[other]
    return tensors


def _loses_digits(saved: torch.dtype, own: torch.dtype) -> bool:
    import torch

    if saved == own:
        return False
    try:
        return torch.promote_types(saved, own) != own
    except RuntimeError:  # the types of 8 bits promote to nothing
        return True


def fill(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy the tensors into the module's own, wherever it lives; all of them or none.

    A wider type takes a narrower one. Raises ModelError, before anything is copied: missing
    or unexpected names, other shapes, a type that would lose digits, no storage to copy into.
    """
    from torch import Tensor as TensorType

    target = unwrapped(module)
    own = target.state_dict()
    problems = []
    for what, names in (
        ("missing", [name for name in own if name not in tensors]),
        ("unexpected", [name for name in tensors if name not in own]),
    ):
        if names:
            problems.append(f"{len(names)} {what}: {_shown(names)}")
    for name, tensor in tensors.items():
        into = own.get(name)
        if not isinstance(into, TensorType):
            continue
        if into.shape != tensor.shape:
            problems.append(f"{name} is saved as {tuple(tensor.shape)}, not {tuple(into.shape)}")
        elif _loses_digits(tensor.dtype, into.dtype):
            problems.append(
                f"{name} is saved as {tensor.dtype} and would lose digits in {into.dtype}"
            )
        elif into.is_meta:
            problems.append(f"{name} is on the meta device: call to_empty(device='cpu') first")
    if problems:
        raise ModelError(
            f"the saved tensors do not fit this {type(target).__name__}: "
            + "; ".join(problems[:_NAMES_SHOWN])
            + (f"; and {len(problems) - _NAMES_SHOWN} more" * (len(problems) > _NAMES_SHOWN))
            + ". Build the module as it was when it was saved; without into= they load as a dict"
        )
    target.load_state_dict(tensors, strict=True)


def _shown(names: list[str]) -> str:
    more = len(names) - _NAMES_SHOWN
    return ", ".join(names[:_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _write_estimator(model: Any, path: Path) -> None:
    import joblib  # type: ignore[import-untyped]

    try:
        joblib.dump(model, path, compress=JOBLIB_COMPRESSION)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise ModelError(
            f"a {type(model).__name__} cannot be saved: {_first_line(error)}; what it calls must "
            "be a function of a module, not a lambda or a function inside another"
        ) from error


def read_estimator(path: Path, entry: StoredFile, *, foreign: bool) -> Any:
    """Open a pickle, which runs whatever it says; the caller has been told to trust it.

    The bytes that are opened are the bytes that were hashed, read once. `foreign` is True
    where the scikit-learn that wrote it is another one and the caller has said so: its own
    warnings, one for each step of a pipeline, are left out then.

    Raises ModelError: other bytes than were saved; a class that is not there; a broken pickle.
    """
    import joblib
    from sklearn.exceptions import InconsistentVersionWarning

    content = path.read_bytes()
    seen = hashlib.sha256(content).hexdigest()
    if seen != entry.sha256:
        raise ModelError(f"{path.parent}: {hash_problem(path.name, seen, entry)}")
    with warnings.catch_warnings():
        if foreign:
            warnings.simplefilter("ignore", InconsistentVersionWarning)
        try:
            return joblib.load(io.BytesIO(content))
        except (ImportError, AttributeError) as error:
            raise ModelError(
                f"{path} needs what is not here: {_first_line(error)}; install or import what it "
                "was made with"
            ) from error
        except (pickle.UnpicklingError, EOFError, ValueError, KeyError, TypeError) as error:
            raise ModelError(f"{path} is no readable pickle ({_first_line(error)})") from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
