"""How much arithmetic one item costs, and how large a model is.

    cost = count_flops(module, {"input_ids": ids}, items=8)
    cost.flops                               # forward, an item; one multiply-add is 2 FLOPs
    cost.macs                                # half of that

Counted twice during one forward pass, by torch's counter and by our formulas from the shapes
of what really runs (`metrics/operators.py`), and held against each other operator by operator:
counters have been known to take fused attention for nothing. It depends on no clock. Lower is
cheaper.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass
from torch.utils.flop_counter import FlopCounterMode

from candlemark.metrics.operators import OperatorCounter, Tally
from candlemark.records import Measurement

Inputs = Tensor | Mapping[str, Tensor]

AGREEMENT = 0.01
"""Share by which the two counts may differ before the record says so."""
_COUNTER_FAILS = (AssertionError, IndexError, NotImplementedError, RuntimeError, TypeError)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCost:
    """What a forward pass and a model's weights come to.

    flops: forward, an item; None where nothing could be counted (`reason` says why)
    parameters and model_bytes: of every parameter; buffers count into the bytes only
    uncounted: operators that do arithmetic and that neither count has a formula for; on dense
        models they are element by element and small beside convolutions and matrix products
    uncounted_share: those operators at one operation an element, over `flops`
    by_operator: FLOPs an item of each operator that was counted, largest first
    torch_flops: what torch's counter says, an item; None where it failed
    reason: where the counts differ, why; and what the number leaves out
    """

    flops: int | None
    parameters: int
    model_bytes: int
    uncounted: tuple[str, ...]
    uncounted_share: float | None = None
    by_operator: Mapping[str, int] = field(default_factory=dict)
    torch_flops: int | None = None
    reason: str | None = None

    @property
    def macs(self) -> int | None:
        """Multiply-adds an item: half the FLOPs."""
        return None if self.flops is None else self.flops // 2

    def measurements(self) -> tuple[Measurement, ...]:
        """flops, macs, parameters and model_bytes as measurements."""
        flops = None if self.flops is None else float(self.flops)
        macs = None if self.macs is None else float(self.macs)
        return (
            Measurement(name="flops", value=flops, unit="FLOPs", reason=self.reason),
            Measurement(name="macs", value=macs, unit="MACs", reason=self.reason),
            Measurement(name="parameters", value=float(self.parameters), unit=""),
            Measurement(
                name="model_bytes",
                value=float(self.model_bytes),
                unit="bytes",
                reason="parameters and buffers as they are stored",
            ),
        )

    def facts(self) -> dict[str, Any]:
        """What stands behind the number, as JSON types."""
        return {
            "flops_by_operator": dict(self.by_operator),
            "flops_by_torch": self.torch_flops,
            "uncounted_operators": list(self.uncounted),
            "uncounted_share": self.uncounted_share,
        }


def count_flops(module: nn.Module, inputs: Inputs, *, items: int | None = None) -> ModelCost:
    """Cost of one forward pass of `module` in evaluation mode, an item.

    inputs: a tensor (N, ...), or tensors by the names that the module takes; on the module's
        device. The meta device works too and allocates nothing.
    items: how many items they hold; by default the first dimension of the first tensor

    Give the module as it is before compilation: a compiled graph hides its operators. The
    module's mode is put back.
    """
    first = inputs if isinstance(inputs, Tensor) else next(iter(inputs.values()))
    count = items or len(first)
    parameters, model_bytes = model_size(module)
    was_training = module.training
    module.eval()
    try:
        own, by_torch = _count(module, inputs)
    finally:
        module.train(was_training)
    counted = _counted(own.tallies)
    total = sum(counted.values())
    idle = {name: tally for name, tally in own.tallies.items() if _is_uncounted(tally)}
    share = sum(tally.elements for tally in idle.values()) / total if total else None
    uncounted = tuple(sorted(name.removeprefix("aten.") for name in idle))
    return ModelCost(
        flops=total // count if total else None,
        parameters=parameters,
        model_bytes=model_bytes,
        uncounted=uncounted,
        uncounted_share=share,
        by_operator={name: flops // count for name, flops in counted.items()},
        torch_flops=None if isinstance(by_torch, str) else by_torch // count,
        reason=_reason(own, total, by_torch, uncounted, share),
    )


def model_size(module: nn.Module) -> tuple[int, int]:
    """(parameters, bytes of parameters and buffers); shared tensors count once.

    A quantised weight counts as the numbers it stands for and as the bytes it is kept in.
    """
    parameters = list(module.parameters())
    tensors = [*parameters, *module.buffers()]
    return (
        sum(parameter.numel() for parameter in parameters),
        sum(_stored_bytes(tensor) for tensor in tensors),
    )


def _stored_bytes(tensor: Tensor) -> int:
    # A quantised tensor poses as the floating-point one that it stands for.
    if is_traceable_wrapper_subclass(tensor):
        names, _ = tensor.__tensor_flatten__()
        return sum(_stored_bytes(getattr(tensor, name)) for name in names)
    return tensor.numel() * tensor.element_size()


class _OneModule:
    """Stands for torch's tracker of modules, whose hooks fail on views made without gradients."""

    parents = frozenset({"Global"})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None


def _count(module: nn.Module, inputs: Inputs) -> tuple[OperatorCounter, int | str]:
    """Our counter after a forward pass, and the total of torch's, or how that failed."""
    theirs = FlopCounterMode(display=False)
    theirs.mod_tracker = _OneModule()  # type: ignore[assignment]  # all that is asked of it
    own = OperatorCounter(reference=theirs.get_total_flops)
    try:
        _forward(module, inputs, own, theirs)
    except _COUNTER_FAILS as error:
        # The model may be at fault as well: then it fails again without torch's counter.
        own = OperatorCounter()
        _forward(module, inputs, own, nullcontext())
        return own, (str(error).splitlines() or [type(error).__name__])[0]
    return own, int(theirs.get_total_flops())


def _forward(module: nn.Module, inputs: Inputs, own: OperatorCounter, theirs: Any) -> None:
    call: Callable[[], object]
    call = (
        (lambda: module(inputs)) if isinstance(inputs, Tensor) else (lambda: module(**dict(inputs)))
    )
    with torch.no_grad(), theirs, own:
        call()


def _counted(tallies: Mapping[str, Tally]) -> dict[str, int]:
    """FLOPs by operator, largest first: by our formula, else by one registered with torch."""
    flops = {
        name: tally.reference if tally.flops is None else tally.flops
        for name, tally in tallies.items()
    }
    ordered = sorted(flops.items(), key=lambda entry: -entry[1])
    return {name: value for name, value in ordered if value}


def _is_uncounted(tally: Tally) -> bool:
    return tally.computes and tally.flops is None and not tally.reference


def _reason(
    own: OperatorCounter,
    total: int,
    by_torch: int | str,
    uncounted: tuple[str, ...],
    share: float | None,
) -> str | None:
    """What a reader has to know beside the number; None when it is plain."""
    if not total:
        names = ", ".join(uncounted) or "none that compute"
        return f"no operator that ran has a formula; it ran: {names}"
    notes: list[str] = []
    if isinstance(by_torch, str):
        notes.append(f"our formulas alone: torch's counter failed ({by_torch})")
    elif abs(by_torch - total) > AGREEMENT * total:
        notes.append(_difference(own.tallies, total, by_torch))
    registered = sorted(
        name for name, tally in own.tallies.items() if tally.flops is None and tally.reference
    )
    if registered:
        notes.append(f"by a formula registered with torch: {', '.join(registered)}")
    if own.causal:
        notes.append("causal attention counted whole")
    if uncounted and share is not None:
        notes.append(
            f"not counted: {', '.join(uncounted)} (one operation an element: {share:.1%} more)"
        )
    return "; ".join(notes) or None


def _difference(tallies: Mapping[str, Tally], total: int, by_torch: int) -> str:
    """Which operators torch's counter took for nothing, or for something else."""
    named = []
    for name, tally in sorted(tallies.items(), key=lambda entry: -(entry[1].flops or 0)):
        if tally.flops is None or tally.flops == tally.reference:
            continue
        held = "nothing" if not tally.reference else f"{tally.reference / tally.flops:.3g} times"
        named.append(f"{held} for {name} ({tally.flops / total:.1%} of all)")
    direction = "less" if by_torch < total else "more"
    return (
        f"our formulas; torch's counter says {abs(by_torch - total) / total:.1%} {direction}: "
        + ", ".join(named)
    )
