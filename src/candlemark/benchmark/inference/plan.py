"""From a config to cells: what will run, each with an id of its own, checked before it does.

    works = plan(config)                 # list[InferenceWork], cells of one model side by side
    works[0].trial.id                    # the hash of everything that decides the outcome

What cannot run here at all (a device that is not there, tf32 with no CUDA device, a part that is
not installed) is one clear error. A single combination that cannot be, such as tf32 on the CPU
of a sweep over both kinds of device, stays in the plan as a cell that is refused.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from candlemark.benchmark.inference.config import Backend, InferenceConfig, Precision
from candlemark.benchmark.inference.precision import obstacle, require
from candlemark.benchmark.trial import Trial
from candlemark.errors import ConfigError
from candlemark.hardware.device import resolve_device
from candlemark.models.inference.base import ITEMS, Described
from candlemark.models.inference.describe import describe
from candlemark.models.inference.weights import weights_path, weights_sha256

GENERATING = frozenset(
    {"text-decoder", "text-seq2seq", "speech-seq2seq", "image-captioning", "vision-language"}
)
"""Tasks that answer token by token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceWork:
    """A cell and what it needs that does not decide its outcome; pickles.

    weights, allow_pickle: as in the config
    alone: no other cell of this run loads beside it
    refusal: why it cannot run; None where it can be tried
    """

    trial: Trial
    weights: str
    allow_pickle: bool = False
    alone: bool = True
    refusal: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cell:
    """One combination; None where the model has no such dimension."""

    device: str
    batch_size: int
    sequence_length: int | None
    precision: Precision
    backend: Backend
    seed: int


def plan(config: InferenceConfig) -> list[InferenceWork]:
    """Every cell once, models outermost.

    Raises ConfigError: a device that is not there, or a precision or backend that no device of
    the config can run; MissingExtraError: a part is not installed; ModelError: an unknown model,
    or weights that cannot be had.
    """
    devices = tuple(dict.fromkeys(str(resolve_device(name)) for name in config.devices))
    _check(config, devices)
    works: dict[str, InferenceWork] = {}
    for model in config.models:
        described = describe(model, weights=config.weights)
        identity = weights_identity(described, allow_pickle=config.allow_pickle)
        for cell in _cells(config, described, devices):
            trial = _trial(config, described, identity, cell)
            works[trial.id] = InferenceWork(
                trial=trial,
                weights=config.weights,
                allow_pickle=config.allow_pickle,
                alone=config.workers == 1,
                refusal=obstacle(cell.precision, cell.backend, cell.device),
            )
    return list(works.values())


def _check(config: InferenceConfig, devices: tuple[str, ...]) -> None:
    """Refuse what is of no use in any cell of the sweep."""
    cores = os.cpu_count()
    if config.threads and cores and config.threads > cores:
        raise ConfigError(f"threads = {config.threads}: this machine has {cores} cores")
    for precision, backend, device in product(config.precisions, config.backends, devices):
        require(precision, backend, device)
    # A combination that cannot run is a refused cell, as long as each of its parts is of use.
    for precisions, backends in (
        *(((precision,), config.backends) for precision in config.precisions),
        *((config.precisions, (backend,)) for backend in config.backends),
    ):
        found = [obstacle(*combination) for combination in product(precisions, backends, devices)]
        if all(found):
            raise ConfigError(
                f"precision '{precisions[0]}' cannot run with backend '{backends[0]}' here: "
                f"{found[0]}"
                if len(config.precisions) * len(config.backends) > 1
                else str(found[0])
            )


def _cells(
    config: InferenceConfig, described: Described, devices: tuple[str, ...]
) -> Iterator[_Cell]:
    lengths = config.sequence_lengths if _reads_text(described) else (None,)
    for device, batch, length, precision, backend, seed in product(
        devices, config.batch_sizes, lengths, config.precisions, config.backends, config.seeds
    ):
        yield _Cell(
            device=device,
            batch_size=batch,
            sequence_length=length,
            precision=precision,
            backend=backend,
            seed=seed,
        )


def _reads_text(described: Described) -> bool:
    """Whether its items have a length that can be chosen: a user's function has made its own."""
    return described.modality == "text" and described.library != "python"


def _trial(config: InferenceConfig, described: Described, identity: str, cell: _Cell) -> Trial:
    own = described.library == "python"
    sees = described.modality in {"vision", "multimodal"} and not own
    hears = described.modality == "speech" and not own
    shape = {
        "sequence_length": cell.sequence_length,
        "image_size": config.image_size if sees else None,
        "audio_s": config.audio_s if hears else None,
        "new_tokens": config.new_tokens if described.model_task in GENERATING else None,
    }
    deciding = {
        "task": "inference",
        "model": described.id,
        "weights_sha256": identity,
        "device": cell.device,
        "batch_size": cell.batch_size,
        **shape,
        "precision": cell.precision,
        "backend": cell.backend,
        "metrics": sorted(config.metrics),
        "timing": config.timing.model_dump(mode="json"),
        "threads": config.threads or physical_cores(),
        "tolerance": config.tolerances[cell.precision],
        "seed": cell.seed,
        "isolation": config.isolation,
    }
    facts = {
        "row": described.id,
        "role": "model",
        "model": described.id,
        "modality": described.modality,
        "model_task": described.model_task,
        "item": ITEMS[described.modality],
        "weights": described.weights,
        "device": cell.device,
        "precision": cell.precision,
        "backend": cell.backend,
        "batch_size": cell.batch_size,
        "sequence_length": cell.sequence_length,
        "seed": cell.seed,
    }
    return Trial(role="model", row=described.id, model=described.id, config=deciding, facts=facts)


def weights_identity(described: Described, *, allow_pickle: bool) -> str:
    """What a trial knows its weights by, wherever they lie.

    The SHA-256 of their file; "random"; of a user's function "source:" and the SHA-256 of its
    source. Raises ModelError: the weights cannot be had.
    """
    path = weights_path(described, allow_pickle=allow_pickle)
    if path is not None:
        return weights_sha256(path)
    if described.library == "python":
        return f"source:{described.config['source_sha256']}"
    return "random"


def physical_cores() -> int:
    """Cores this process may use, two threads of one core counted once."""
    if not hasattr(os, "sched_getaffinity"):
        import psutil

        return int(psutil.cpu_count(logical=False) or os.cpu_count() or 1)
    usable = os.sched_getaffinity(0)
    siblings = set()
    for core in usable:
        path = Path(f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list")
        siblings.add(path.read_text(encoding="ascii") if path.is_file() else str(core))
    return max(len(siblings), 1)
