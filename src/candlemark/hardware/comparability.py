"""Whether two numbers may be compared; apart from `snapshot`, so that it needs no torch.

comparability_key(here)             # equal keys: the same machine in all that matters
differing_fields(here, there)       # {"gpu": ("NVIDIA H100", "NVIDIA A100")}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from candlemark.records import content_id

COMPARED = (
    *("device", "cpu", "physical_cores", "usable_cores", "threads", "interop_threads", "gpu"),
    *("gpu_memory_bytes", "driver", "cuda", "cudnn", "system", "machine", "python", "packages"),
    *("precision", "matmul_precision", "cudnn_tf32", "cudnn_benchmark", "deterministic"),
    *("attention", "channels_last", "input_shape", "batch_size"),
    *("backend", "sequence_length", "image_size", "audio_s", "new_tokens", "power_cap_w"),
)
"""Fields of the comparability key. Host name, kernel build and free memory are left out: they
change from day to day and move no number by themselves. Total memory decides what fits, not
how fast it is. Temperature and momentary clocks move numbers, but are no setting: they are
judged with each number, see `hardware.conditions`."""

_ALWAYS = COMPARED[: COMPARED.index("backend")]
"""Fields that enter the key even where they are unknown. Later ones enter it where they are
known, so that the keys of numbers stored before there were such fields still hold."""


def comparability_key(environment: Mapping[str, Any]) -> str:
    """16 hex digits; equal for two environments exactly where `differing_fields` is empty."""
    fields = {name: environment.get(name) for name in COMPARED}
    return content_id(
        {name: value for name, value in fields.items() if name in _ALWAYS or value is not None}
    )


def differing_fields(
    first: Mapping[str, Any], second: Mapping[str, Any]
) -> dict[str, tuple[Any, Any]]:
    """The fields that forbid a comparison, each with both values; packages one by one."""
    different: dict[str, tuple[Any, Any]] = {}
    for name in COMPARED:
        one, other = first.get(name), second.get(name)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            for key in sorted(one.keys() | other.keys()):
                if one.get(key) != other.get(key):
                    different[f"{name}.{key}"] = (one.get(key), other.get(key))
        elif one != other:
            different[name] = (one, other)
    return different
