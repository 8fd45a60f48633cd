"""Rounds of fresh processes that take turns: what the gate's decision is made from.

    starter = ProcessStarter(config, sides)
    outcome = run_cell(cell, starter, Rounds(rounds=8), measures, random)
    outcome.values["latency_p50_ms"]      # float64 (R, 3), logarithms: B, A, A again

In each round one process of B and two of A load the cell in an order drawn at random, then run
short bursts there and back in another. Only one of them works at a time; the others sleep.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from candlemark import progress
from candlemark.benchmark.inference.config import InferenceConfig
from candlemark.errors import CandlemarkError, ConfigError
from candlemark.execution import leases
from candlemark.execution.base import Outcome
from candlemark.execution.process import WorkerProcess
from candlemark.launch import gate_worker
from candlemark.launch.gate_worker import Burst, Cell, Start
from candlemark.metrics.contrast import round_value
from candlemark.metrics.measures import Measure

FloatArray = npt.NDArray[np.float64]

COLUMNS = ("B", "A", "A")
"""Sides of the columns of what a round gives."""

QUANTILES = {
    "latency_p90_ms": (0.90, 29),
    "latency_p95_ms": (0.95, 59),
    "latency_p99_ms": (0.99, 299),
}
"""Percentiles of a process's calls, and how many calls bear one."""
STATISTICS: dict[str, Callable[[FloatArray], float]] = {
    "latency_mean_ms": lambda samples: float(samples.mean()),
    "latency_min_ms": lambda samples: float(samples.min()),
    "latency_max_ms": lambda samples: float(samples.max()),
}
AMOUNTS = ("peak_memory_bytes", "model_bytes", "parameters", "load_s", "first_call_ms")
GATED = ("latency_p50_ms", *QUANTILES, *STATISTICS, "throughput_items_per_s", *AMOUNTS)
"""What the gate can measure in rounds."""


class SideError(CandlemarkError):
    """A process of one side failed; the message says which and why."""


class Player(Protocol):
    """A process with one cell open."""

    def burst(self, request: Burst) -> FloatArray:
        """Milliseconds, as `gate_worker.burst`. Raises SideError."""

    def amounts(self) -> Mapping[str, float]:
        """As `gate_worker.amounts`. Raises SideError."""

    def clock_fault(self) -> str | None:
        """What is wrong with its clock. Raises SideError."""

    def stop(self) -> None:
        """End it."""


class Starter(Protocol):
    """Starts fresh processes."""

    def start(self, cell: Cell, columns: Sequence[str]) -> Sequence[Player]:
        """One player a column ("A" or "B"), started in this order. Raises SideError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rounds:
    """How much is measured.

    passes: how often a round goes there and back; burst_s: seconds a burst
    """

    rounds: int = 8
    passes: int = 3
    burst_s: float = 0.2

    def __post_init__(self) -> None:
        if self.rounds < 2 or self.passes < 1 or not self.burst_s > 0:
            raise ConfigError(
                f"rounds = {self.rounds}, passes = {self.passes}, burst_s = {self.burst_s}: "
                "at least 2 rounds, 1 pass and a burst that takes time"
            )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CellOutcome:
    """What the rounds of one cell gave.

    values: float64 (R, 3) by measure, logarithms, B first; NaN where a value is unknown
    missing: why values are unknown, by measure
    failure: why the cell ended early, with its side; None where it did not
    """

    cell: Cell
    values: Mapping[str, FloatArray] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    failure: str | None = None


def check_measures(measures: Sequence[Measure]) -> None:
    """Raises ConfigError: a measure cannot be had in rounds."""
    for measure in measures:
        if measure.name not in GATED:
            raise ConfigError(
                f"'{measure.name}' cannot be compared in interleaved rounds; those that can: "
                f"{', '.join(GATED)}"
            )


def run_cell(
    cell: Cell,
    starter: Starter,
    rounds: Rounds,
    measures: Sequence[Measure],
    random: np.random.Generator,
) -> CellOutcome:
    """All rounds of one cell; a process that fails ends them, and what there is is kept."""
    names = [measure.name for measure in measures]
    rows: list[dict[str, FloatArray]] = []
    missing: dict[str, str] = {}
    failure: str | None = None
    with progress.track(cell.label, total=rounds.rounds, unit="rounds") as bar:
        for number in range(rounds.rounds):
            try:
                row = _round(
                    cell, starter, rounds, names, missing, random=random, first=number == 0
                )
            except SideError as error:
                failure = f"round {number + 1}: {error}"
                break
            rows.append(row)
            bar.advance()
    empty = np.full(len(COLUMNS), np.nan)
    values = {name: np.stack([row.get(name, empty) for row in rows] or [empty]) for name in names}
    return CellOutcome(cell=cell, values=values, missing=missing, failure=failure)


def _round(
    cell: Cell,
    starter: Starter,
    rounds: Rounds,
    names: Sequence[str],
    missing: dict[str, str],
    *,
    random: np.random.Generator,
    first: bool,
) -> dict[str, FloatArray]:
    order = [int(column) for column in random.permutation(len(COLUMNS))]
    started = starter.start(cell, [COLUMNS[column] for column in order])
    players = [player for _, player in sorted(zip(order, started, strict=True), key=lambda p: p[0])]
    with ExitStack() as stack:
        for player in players:
            stack.callback(player.stop)
        with leases.timing(cell.device):
            if first and (fault := players[0].clock_fault()):
                raise SideError(fault)
            row = _timed(players, rounds, names, missing, random)
        if "throughput_items_per_s" in row:
            row["throughput_items_per_s"] += np.log(1000 * cell.config["batch_size"])
        wanted = [name for name in names if name in AMOUNTS]
        if wanted:
            row |= _amounts(players, wanted, missing)
    return row


def _timed(
    players: Sequence[Player],
    rounds: Rounds,
    names: Sequence[str],
    missing: dict[str, str],
    random: np.random.Generator,
) -> dict[str, FloatArray]:
    row: dict[str, FloatArray] = {}
    if any(name.startswith("latency_") for name in names):
        bursts, samples = _bursts(players, rounds, random, queued=False)
        row["latency_p50_ms"] = round_value(bursts)
        for name, function in STATISTICS.items():
            row[name] = np.log([function(one) for one in samples])
        for name, (share, needed) in QUANTILES.items():
            fewest = min(len(one) for one in samples)
            if fewest >= needed:
                row[name] = np.log([np.quantile(one, share) for one in samples])
            elif name in names:
                missing[name] = (
                    f"{needed} calls a process bear it, {fewest} were made; ask for longer bursts"
                )
    if "throughput_items_per_s" in names:
        bursts, _ = _bursts(players, rounds, random, queued=True)
        row["throughput_items_per_s"] = -round_value(bursts)
    return row


def _bursts(
    players: Sequence[Player], rounds: Rounds, random: np.random.Generator, *, queued: bool
) -> tuple[FloatArray, list[FloatArray]]:
    """Medians of all bursts, float64 (P, 2, S), and all samples of each process."""
    request = Burst(seconds=rounds.burst_s, queued=queued)
    medians = np.empty((rounds.passes, 2, len(players)))
    samples: list[list[FloatArray]] = [[] for _ in players]
    for number in range(rounds.passes):
        there = [int(column) for column in random.permutation(len(players))]
        for way, turn in enumerate((there, there[::-1])):
            for column in turn:
                found = players[column].burst(request)
                samples[column].append(found)
                medians[number, way, column] = np.median(found)
    return medians, [np.concatenate(one) for one in samples]


def _amounts(
    players: Sequence[Player], wanted: Sequence[str], missing: dict[str, str]
) -> dict[str, FloatArray]:
    found = [player.amounts() for player in players]
    made: dict[str, FloatArray] = {}
    for name in wanted:
        values = np.asarray([one.get(name, np.nan) for one in found])
        if not np.all(values > 0):
            missing[name] = "a process gave no value above 0"
            values = np.where(values > 0, values, np.nan)
        made[name] = np.log(values)
    return made


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """Where the processes of one side run; fields as of WorkerProcess."""

    name: str
    cwd: Path
    path: tuple[Path, ...] = ()
    python: Path | None = None

    def worker(self) -> WorkerProcess:
        """A fresh process."""
        return WorkerProcess(cwd=self.cwd, path=self.path, python=self.python)

    def cells(self, config: InferenceConfig) -> list[Cell]:
        """The cells that this side has. Raises SideError."""
        worker = self.worker()
        try:
            outcome = worker.call(gate_worker.cells, config, timeout_s=config.timeout_s)
            found: list[Cell] = _value(outcome, self.name)
            return found
        finally:
            worker.stop()


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessStarter:
    """Starts the processes of both sides on this machine; they load side by side."""

    config: InferenceConfig
    sides: Mapping[str, Side]

    def start(self, cell: Cell, columns: Sequence[str]) -> Sequence[Player]:
        """One process a column. Raises SideError, with all of them ended."""
        players: list[ProcessPlayer] = []
        with ExitStack() as stack:
            for column in columns:
                worker = self.sides[column].worker()
                stack.callback(worker.stop)
                players.append(
                    ProcessPlayer(worker=worker, side=column, timeout_s=self.config.timeout_s)
                )
                request = Start(config=self.config, key=cell.key)
                worker.begin(gate_worker.start, request, timeout_s=self.config.timeout_s)
            for player in players:
                _value(player.worker.wait(), player.side)
            stack.pop_all()
        return players


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessPlayer:
    """A player in a process of its own."""

    worker: WorkerProcess
    side: str
    timeout_s: float | None

    def burst(self, request: Burst) -> FloatArray:
        """Run one burst."""
        found: FloatArray = self._ask(gate_worker.burst, request)
        return found

    def amounts(self) -> Mapping[str, float]:
        """Ask what the process took."""
        found: dict[str, float] = self._ask(gate_worker.amounts, None)
        return found

    def clock_fault(self) -> str | None:
        """Let the process test its clock."""
        found: str | None = self._ask(gate_worker.clock_fault, None)
        return found

    def stop(self) -> None:
        """End the process."""
        self.worker.stop()

    def _ask(self, function: Any, item: Any) -> Any:
        return _value(self.worker.call(function, item, timeout_s=self.timeout_s), self.side)


def _value(outcome: Outcome, side: str) -> Any:
    if outcome.failure is not None:
        kind = outcome.failure.kind.value.replace("_", " ")
        raise SideError(f"{side} {kind}: {outcome.failure.reason}")
    return outcome.value
