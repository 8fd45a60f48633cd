"""Why a case has no answer, in the words that tables use.

    raise CaseError("timed_out", "the command took longer than 60 s")

Whatever a segmenter raises fails its case and no other. An error that knows more than
"it crashed" says so with its `outcome`, so that a reader need not guess it from a message.
"""

from __future__ import annotations

from typing import Literal, get_args

from candlemark.errors import ModelError

FailedOutcome = Literal[
    "missing", "crashed", "wrong_shape", "wrong_labels", "out_of_memory", "timed_out", "refused"
]
FAILED_OUTCOMES: tuple[FailedOutcome, ...] = get_args(FailedOutcome)
"""How a case can fail; every other case is "ok"."""


class CaseError(ModelError):
    """One case has no answer, and why is known.

    outcome: one of FAILED_OUTCOMES
    """

    def __init__(self, outcome: FailedOutcome, message: str) -> None:
        super().__init__(message)
        self.outcome: FailedOutcome = outcome

    def __reduce__(self) -> tuple[type[CaseError], tuple[FailedOutcome, str]]:
        """Keep the outcome on the way out of a process."""
        return type(self), (self.outcome, str(self))


def not_a_number() -> CaseError:
    """Of scores that hold NaN: whichever class a comparison gives them, nobody answered it."""
    return CaseError(
        "wrong_labels",
        "the scores hold NaN, which is no answer; does the network overflow in 16 bits, or is it "
        "given NaN of the scan (intensity: raw)?",
    )


def outcome_of(error: BaseException) -> FailedOutcome:
    """How a case failed that raised `error`.

    Running out of memory is told by the error's kind (torch has its own, and ONNX Runtime and
    some kernels only say so), a time-out by TimeoutError; the rest crashed.
    """
    if isinstance(error, CaseError):
        return error.outcome
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if kinds & {"MemoryError", "OutOfMemoryError"} or "out of memory" in str(error).lower():
        return "out_of_memory"
    return "timed_out" if isinstance(error, TimeoutError) else "crashed"
