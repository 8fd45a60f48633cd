"""Did a precision or a backend change the answer?

    measured = compare_outputs(reference, other)      # the same shape, e.g. (N, C) logits
    same_answer(measured, 1e-2)                       # True, False, or None: cannot be told

`relative_error` is the L2 distance of `other` from `reference` over the L2 norm of
`reference`, in float64 (0 is best; relative error in the sense of Higham, "Accuracy and
Stability of Numerical Algorithms", 1.2 and 6.2). `answer_agreement` is the share of positions
where `other` chooses what `reference` chooses (1 is best).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from candlemark.errors import ModelError
from candlemark.records import Measurement, Verdict


def compare_outputs(
    reference: Tensor, other: Tensor, *, class_dimension: int | None = -1
) -> tuple[Measurement, ...]:
    """relative_error and answer_agreement of `other`, both tensors on any device.

    class_dimension: where the choices are, e.g. -1 for logits (N, T, C) and 1 for maps
        (N, C, H, W); None where the largest number is no answer, as among features

    An infinity counts as equal to the same infinity (masked logits). Where `other` is not
    finite and `reference` is, or the reverse, there is no error to state: it is None and
    UNSTABLE, and such a position agrees with nothing. A choice agrees when `reference` holds
    its largest number there, so that a tie has several right answers.

    Degenerate: a reference of zeros has no relative error unless `other` is zero as well;
    nothing at all, or a reference with NaN, has none either.

    Raises ModelError: the shapes differ.
    """
    if reference.shape != other.shape:
        raise ModelError(
            f"the main output has shape {tuple(other.shape)}, the reference "
            f"{tuple(reference.shape)}; outputs of the same inputs must have the same shape"
        )
    # Not every device has float64, and the order of these two matters for that.
    exact = reference.detach().cpu().to(torch.float64)
    seen = other.detach().cpu().to(torch.float64)
    return (_relative_error(exact, seen), _agreement(exact, seen, class_dimension))


def same_answer(measurements: Iterable[Measurement], tolerance: float) -> bool | None:
    """Is `relative_error` at most `tolerance`? None where it was not or could not be measured.

    False, not None, where numbers stopped being finite.
    """
    error = next((m for m in measurements if m.name == "relative_error"), None)
    if error is None:
        return None
    if error.value is None:
        return False if error.verdict is Verdict.UNSTABLE else None
    return error.value <= tolerance


def _relative_error(reference: Tensor, other: Tensor) -> Measurement:
    name, count = "relative_error", reference.numel()
    if not count:
        return _unknown(name, "no numbers came out")
    if lost := int(reference.isnan().sum()):
        return _unknown(name, f"{lost} of {count} numbers of the reference are NaN")
    if broken := int(_broken(reference, other).sum()):
        return Measurement(
            name=name,
            value=None,
            sample_count=count,
            verdict=Verdict.UNSTABLE,
            reason=f"{broken} of {count} outputs are not finite where the reference is, "
            "or the reverse",
        )
    finite = reference.isfinite()
    exact, seen = reference[finite], other[finite]
    largest = float(exact.abs().max()) if exact.numel() else 0.0
    if not largest:
        if not seen.any():
            return Measurement(name=name, value=0.0, sample_count=count)
        return _unknown(name, "the reference is zero everywhere")
    # Squares of large numbers would overflow, and those of small ones vanish.
    distance = float(torch.linalg.vector_norm(seen / largest - exact / largest))
    norm = float(torch.linalg.vector_norm(exact / largest))
    return Measurement(name=name, value=distance / norm, sample_count=count)


def _agreement(reference: Tensor, other: Tensor, dimension: int | None) -> Measurement:
    name = "answer_agreement"
    if dimension is None:
        return _unknown(name, "the largest number of this output is no answer")
    if reference.dim() == 0 or reference.shape[dimension] < 2:
        return _unknown(name, "one number leaves nothing to choose")
    if not reference.numel():
        return _unknown(name, "no numbers came out")
    if reference.isnan().any():
        return _unknown(name, "the reference holds NaN")
    best = reference.max(dimension, keepdim=True).values
    chosen = other.nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
    held = reference.gather(dimension, chosen.argmax(dimension, keepdim=True))
    broken = _broken(reference, other).any(dimension, keepdim=True)
    agrees = (held == best) & ~broken
    return Measurement(name=name, value=float(agrees.double().mean()), sample_count=agrees.numel())


def _broken(reference: Tensor, other: Tensor) -> Tensor:
    """Where the two are neither both finite nor the same infinity."""
    return ~((reference.isfinite() & other.isfinite()) | (reference == other))


def _unknown(name: str, reason: str) -> Measurement:
    return Measurement(name=name, value=None, reason=reason)
