"""What runs in the processes that the gate compares: open a cell, then time it when told to.

    worker.call(cells, config)              # which cells this side has, by key
    worker.call(start, Start(config=config, key=key))
    worker.call(burst, Burst(seconds=0.2))  # float64 milliseconds, call by call
    worker.call(amounts, None)              # memory and other things that are no bursts

Between calls the process sleeps. Both sides run this same code; what is compared are models,
their code and libraries.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from candlemark.benchmark.inference.config import InferenceConfig
from candlemark.records import content_id

if TYPE_CHECKING:
    from candlemark.benchmark.inference.session import Session

FloatArray = npt.NDArray[np.float64]

LEAD_IN_S = 0.02
"""Before a burst counts: caches are warmed again, and threads of the last process fall asleep."""
NOT_COMPARED = ("weights_sha256", "metrics", "timing", "tolerance", "isolation")
"""What two cells may differ in and still be the same question: the weights are what changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One question that both sides are asked.

    key: equal on both sides; config: the trial's; refusal: why it cannot run here
    """

    key: str
    row: str
    device: str
    config: dict[str, Any]
    refusal: str | None = None

    @property
    def label(self) -> str:
        """The row, and what tells its cells apart."""
        parts = [str(self.config.get(name)) for name in ("device", "precision", "backend")]
        sizes = [
            f"{short} {self.config[name]}"
            for name, short in (("batch_size", "batch"), ("sequence_length", "length"))
            if self.config.get(name) is not None
        ]
        return " ".join((self.row, *parts, *sizes))


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Open this cell of this config."""

    config: InferenceConfig
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Burst:
    """Call for `seconds`, at least `calls` times.

    queued: wait for the device once at the end instead of after each call
    """

    seconds: float
    calls: int = 3
    queued: bool = False


@dataclass(slots=True)
class _State:
    session: Session | None = None
    opening: dict[str, float] = field(default_factory=dict)


_state = _State()


def cells(config: InferenceConfig) -> list[Cell]:
    """The cells of a config as they are planned in this process."""
    from candlemark.benchmark.inference.plan import plan

    found = []
    for work in plan(config):
        deciding = dict(work.trial.config)
        question = {name: value for name, value in deciding.items() if name not in NOT_COMPARED}
        cell = Cell(
            key=content_id(question),
            row=work.trial.row,
            device=str(deciding["device"]),
            config=deciding,
            refusal=work.refusal,
        )
        found.append(cell)
    return found


def start(request: Start) -> None:
    """Open the cell and warm it up."""
    from candlemark.benchmark.inference.plan import plan
    from candlemark.benchmark.inference.session import open_session

    keys = [cell.key for cell in cells(request.config)]
    session = open_session(plan(request.config)[keys.index(request.key)])
    _state.session = session
    _state.opening = {"load_s": session.load_s, "first_call_ms": session.first_call_ms}
    timing = request.config.timing
    burst(Burst(seconds=timing.warmup_s, calls=max(timing.warmup_calls, 1)))


def clock_fault(_: object) -> str | None:
    """What is wrong with the clock of the open session; None: it follows known work.

    Too much time for twice the work is a busy machine, which taking turns is made for; too
    little is a clock that does not wait.
    """
    from candlemark.metrics.clock import TIMES_TOLERATED

    check = _session().clock.self_test()
    slow = (check.ratios.get(scale) for scale in TIMES_TOLERATED)
    least = (low for low, _ in TIMES_TOLERATED.values())
    if all(ratio is not None and ratio >= low for ratio, low in zip(slow, least, strict=True)):
        return None
    return f"the clock does not follow work: {check.detail}"


def burst(request: Burst) -> FloatArray:
    """Milliseconds of each call, float64 (n,); where queued, of a call on average, float64 (1,)."""
    session = _session()
    clock = session.clock
    begun = clock.stamp()
    session.call()
    while clock.stamp() - begun < LEAD_IN_S * 1e9:
        session.call()
    if request.queued:
        return _queued(session, request)
    samples: list[float] = []
    begun = clock.stamp()
    while True:
        before = clock.stamp()
        session.call()
        after = clock.stamp()
        samples.append((after - before) / 1e6)
        if after - begun >= request.seconds * 1e9 and len(samples) >= request.calls:
            return np.asarray(samples)


def _queued(session: Session, request: Burst) -> FloatArray:
    clock = session.clock
    before = clock.stamp()
    session.call()
    one_s = max((clock.stamp() - before) / 1e9, 1e-7)
    calls = max(request.calls, int(request.seconds / one_s))
    before = clock.stamp()
    for _ in range(calls):
        session.call()
    return np.asarray([(clock.stamp() - before) / 1e6 / calls])


def amounts(_: object) -> dict[str, float]:
    """What the process took: memory, load, first call; what is unknown is left out."""
    from candlemark.benchmark.inference.passes import measure_session_memory
    from candlemark.metrics.flops import model_size

    session = _session()
    parameters, model_bytes = model_size(session.model.module)
    memory = measure_session_memory(session, _timing(session)).measurements
    return {
        **_state.opening,
        "parameters": float(session.parameters or parameters),
        "model_bytes": float(model_bytes),
        **{one.name: one.value for one in memory if one.value is not None},
    }


def _timing(session: Session) -> Any:
    from candlemark.benchmark.inference.config import TimingConfig

    return TimingConfig.model_validate(session.work.trial.config["timing"])


def _session() -> Session:
    if _state.session is None:
        raise RuntimeError("no cell is open; call start first")
    return _state.session
