"""Is this version slower than that one? A, the baseline, and B, the folder as it is now.

    result = run_gate(config, baseline="main", fail_on=["latency_p50_ms>+2%"])
    result.exit_status                    # 0 pass, 1 regressed, 3 could not measure

The baseline is a git revision of the repository around (checked out beside it, its processes
take turns with those of B), another interpreter (`baseline_python`: other library versions, in
turns too), or a stored run of that name. A stored run took no turns with B: it is compared only
where the comparability keys agree, and by the spread of repeats.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np

from candlemark import progress
from candlemark.benchmark.inference.config import InferenceConfig
from candlemark.errors import ConfigError
from candlemark.launch.baselines import (
    Revision,
    check_python,
    checked_out,
    find_revision,
    here,
    why_no_revision,
)
from candlemark.launch.gate_worker import Cell
from candlemark.launch.interleave import (
    CellOutcome,
    ProcessStarter,
    Rounds,
    Side,
    SideError,
    Starter,
    check_measures,
    run_cell,
)
from candlemark.metrics.contrast import MARGIN, Contrast, contrast, judge
from candlemark.metrics.limits import Decision, Limit, decide, parse_limits
from candlemark.records import RunRecord, Status
from candlemark.report.comparison import cell_label, contrasts, lower_is_faster
from candlemark.results.files import write_json
from candlemark.results.opening import store_path
from candlemark.results.store import open_results

Kind = Literal["revision", "python", "run"]
Outcome = Literal["pass", "regressed", "could not measure"]

EXIT_STATUS: dict[Outcome, int] = {"pass": 0, "regressed": 1, "could not measure": 3}
"""2 is a user's error, as everywhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """What B is compared with.

    kind: how A runs; name: as it was asked for; detail: a sentence that says what was taken
    """

    kind: Kind
    name: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GateRow:
    """One limit on one cell: what was measured, and both verdicts on it.

    ratio: B / A; low, high at 95 %; floor: share of A by which a rerun of A differs
    change, change_grounds: FASTER, SLOWER, LESS, MORE, SAME or UNSURE, and why
    decision, grounds: whether the limit holds: PASS, FAIL or UNDECIDED, and why
    values: float (R, 3), logarithms, of B, A and A again
    """

    cell: str
    measure: str
    limit: str
    ratio: float | None
    low: float | None
    high: float | None
    floor: float | None
    rounds: int
    change: str
    change_grounds: str
    decision: Decision
    p_value: float | None
    grounds: str
    more_rounds: int | None
    values: list[list[float]] = field(default_factory=list, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class GateResult:
    """What the gate found.

    failures: cells that could not be measured, with the reason; notes: what else must be said
    path: the JSON file that holds all of this
    """

    baseline: Baseline
    rows: tuple[GateRow, ...]
    failures: Mapping[str, str]
    notes: tuple[str, ...]
    started_at: str
    rounds: int
    seed: int
    path: Path | None = None

    @property
    def outcome(self) -> Outcome:
        """Regressed where one limit failed; passed where all hold and nothing is missing."""
        decisions = [row.decision for row in self.rows]
        if Decision.FAIL in decisions:
            return "regressed"
        if self.failures or not decisions or Decision.UNDECIDED in decisions:
            return "could not measure"
        return "pass"

    @property
    def exit_status(self) -> int:
        """0 pass, 1 regressed, 3 could not measure."""
        return EXIT_STATUS[self.outcome]

    def to_dict(self) -> dict[str, Any]:
        """JSON types only."""
        return {
            "format": "candlemark gate",
            "version": 1,
            "outcome": self.outcome,
            "exit_status": self.exit_status,
            **{key: value for key, value in asdict(self).items() if key != "path"},
            "path": None if self.path is None else str(self.path),
        }


def run_gate(
    config: InferenceConfig,
    *,
    baseline: str | None,
    fail_on: Sequence[str],
    rounds: Rounds | None = None,
    baseline_python: Path | None = None,
    output_dir: str | Path = "benchmarks",
    margin: float = MARGIN,
    seed: int | None = None,
    folder: Path | None = None,
) -> GateResult:
    """Measure A and B in turns, decide every limit, and store the result.

    baseline: a git revision, else the name of a stored run; None with `baseline_python`: the
        folder as it is
    fail_on: limits, such as "latency_p50_ms>+2%" (`metrics.limits` says what they mean)
    baseline_python: the interpreter of A
    margin: share within which a change is the same for every purpose
    seed: of the order of turns; None: from the system
    folder: the current one, unless another is named

    Raises ConfigError: a limit cannot be read or measured, the baseline is neither a revision
    nor a run, or B cannot be planned. Everything that goes wrong while measuring is part of the
    result.
    """
    limits = parse_limits(fail_on)
    place = (folder or Path.cwd()).resolve()
    results = Path(output_dir) / "results"
    how = rounds or Rounds()
    chosen = seed if seed is not None else int(np.random.SeedSequence().generate_state(1)[0])
    started_at = datetime.now(UTC).isoformat(timespec="seconds")
    kept: dict[str, Any] = {"started_at": started_at, "rounds": how.rounds, "seed": chosen}
    with ExitStack() as stack:
        found, side = _find(baseline, baseline_python, place, results, stack)
        progress.note(found.detail)
        if side is None:
            rows, failures, notes = _against_run(
                config, found.name, limits, how, margin=margin, output_dir=output_dir
            )
        else:
            check_measures([limit.measure for limit in limits])
            sides = {"A": side, "B": here(place)}
            cells, failures, notes = _common_cells(config, sides)
            starter = ProcessStarter(config=config, sides=sides)
            rows, broken = judge_cells(
                cells, starter, limits, how, margin=margin, random=np.random.default_rng(chosen)
            )
            failures |= broken
    result = GateResult(
        baseline=found, rows=tuple(rows), failures=failures, notes=tuple(notes), **kept
    )
    return _stored(result, results)


def judge_cells(
    cells: Sequence[Cell],
    starter: Starter,
    limits: Sequence[Limit],
    rounds: Rounds,
    *,
    margin: float = MARGIN,
    random: np.random.Generator,
) -> tuple[list[GateRow], dict[str, str]]:
    """Run the rounds of every cell and decide over all of them; rows, and failures by cell."""
    measures = [limit.measure for limit in limits]
    outcomes = [run_cell(cell, starter, rounds, measures, random) for cell in cells]
    failures = {one.cell.label: one.failure for one in outcomes if one.failure is not None}
    asked = [
        (one.cell.label, limit, _contrast(one, limit))
        for one in outcomes
        if one.failure is None
        for limit in limits
    ]
    return _rows(asked, margin), failures


def _contrast(outcome: CellOutcome, limit: Limit) -> Contrast:
    name = limit.measure.name
    found = contrast(outcome.values[name])
    if found.ratio is None and name in outcome.missing:
        return Contrast(values=found.values, reason=outcome.missing[name])
    return found


def _rows(asked: Sequence[tuple[str, Limit, Contrast]], margin: float) -> list[GateRow]:
    found = [one for _, _, one in asked]
    judged = judge(
        found, margin=margin, speed=[lower_is_faster(limit.measure.name) for _, limit, _ in asked]
    )
    decided = decide([(limit, one) for _, limit, one in asked])
    return [
        GateRow(
            cell=label,
            measure=limit.measure.name,
            limit=limit.text,
            ratio=one.ratio,
            low=one.low,
            high=one.high,
            floor=one.floor,
            rounds=one.rounds,
            change=str(verdict.change),
            change_grounds=verdict.grounds,
            decision=decision.decision,
            p_value=decision.p_value,
            grounds=decision.grounds,
            more_rounds=decision.more_rounds,
            values=one.values.tolist(),
        )
        for (label, limit, one), verdict, decision in zip(asked, judged, decided, strict=True)
    ]


def _find(
    baseline: str | None,
    python: Path | None,
    folder: Path,
    results: Path,
    stack: ExitStack,
) -> tuple[Baseline, Side | None]:
    """What the baseline is, and where its processes run; no side for a stored run."""
    if python is not None:
        check_python(python)
    if baseline is None:
        if python is None:
            raise ConfigError("no baseline is named; name a git revision or a run: --baseline main")
        detail = f"baseline: this folder under {python}; the sides take turns"
        side = Side(name="A", cwd=folder, path=here(folder).path, python=python)
        return Baseline(kind="python", name=str(python), detail=detail), side
    revision = find_revision(baseline, folder)
    stored = _is_run(baseline, results)
    if revision is not None:
        return _revision(revision, python, stack, stored=stored)
    if not stored:
        raise ConfigError(
            f"baseline '{baseline}' is {why_no_revision(folder)} and no run in "
            f"{store_path(results)}; see: candlemark results list --results-dir {results}"
        )
    if python is not None:
        raise ConfigError(f"'{baseline}' is a stored run, which --baseline-python cannot run again")
    detail = (
        f"baseline: the stored run '{baseline}'; it did not take turns with what is measured now, "
        "so that a change of the machine between them counts as a change of the program"
    )
    return Baseline(kind="run", name=baseline, detail=detail), None


def _revision(
    revision: Revision, python: Path | None, stack: ExitStack, *, stored: bool
) -> tuple[Baseline, Side]:
    side = stack.enter_context(checked_out(revision, python))
    also = "; a stored run has the same name and was not taken" if stored else ""
    under = f" under {python}" if python is not None else ""
    detail = (
        f"baseline: git revision '{revision.name}' ({revision.commit[:12]}){under}, in turns with "
        f"this folder{also}"
    )
    return Baseline(kind="revision", name=revision.name, detail=detail), side


def _is_run(name: str, results: Path) -> bool:
    if not store_path(results).is_file():
        return False
    with open_results(results, read_only=True) as store:
        return any(run.name == name for run in store.runs())


def _common_cells(
    config: InferenceConfig, sides: Mapping[str, Side]
) -> tuple[list[Cell], dict[str, str], list[str]]:
    """Cells that both sides can run; failures and notes about the others."""
    try:
        ours = sides["B"].cells(config)
    except SideError as error:
        raise ConfigError(f"what is to be gated cannot be planned: {error}") from error
    try:
        theirs = {cell.key: cell for cell in sides["A"].cells(config)}
    except SideError as error:
        return [], {"baseline": f"cannot be planned there: {error}"}, []
    chosen: list[Cell] = []
    notes: list[str] = []
    for cell in ours:
        other = theirs.pop(cell.key, None)
        refusal = cell.refusal or (other.refusal if other is not None else None)
        if other is None:
            notes.append(f"{cell.label}: the baseline has no such cell; it is not judged")
        elif refusal is not None:
            notes.append(f"{cell.label}: {refusal}; it is not judged")
        else:
            chosen.append(cell)
    gone = {cell.label: "only the baseline has it" for cell in theirs.values()}
    return chosen, gone, notes


def _against_run(
    config: InferenceConfig,
    name: str,
    limits: Sequence[Limit],
    rounds: Rounds,
    *,
    margin: float,
    output_dir: str | Path,
) -> tuple[list[GateRow], dict[str, str], list[str]]:
    """Measure B as often as there are rounds, and compare with what is stored of A."""
    from candlemark.launch.inference import run_inference

    now = f"gate-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    for _ in range(rounds.rounds):
        run_inference(config, output_dir=output_dir, resume=False, run_name=now)
    with open_results(Path(output_dir) / "results", read_only=True) as store:
        attempts = store.attempts()
    ours = [one.record for one in attempts if one.run == now]
    theirs = [one.record for one in attempts if one.run == name]
    failures = {
        cell_label(record): str(record.reason or record.status)
        for record in ours
        if record.status is not Status.OK
    }
    rows, unknown, notes = _stored_rows(
        theirs, ours, (name, now), limits, margin=margin, repeats=[one.record for one in attempts]
    )
    return rows, failures | unknown, notes


def _stored_rows(
    theirs: Sequence[RunRecord],
    ours: Sequence[RunRecord],
    names: tuple[str, str],
    limits: Sequence[Limit],
    *,
    margin: float,
    repeats: Sequence[RunRecord],
) -> tuple[list[GateRow], dict[str, str], list[str]]:
    by_name: dict[str, Limit] = {limit.measure.name: limit for limit in limits}
    try:
        found = contrasts(theirs, ours, names=names, measures=list(by_name), repeats=repeats)
    except ConfigError as error:
        return [], {}, [str(error)]
    asked = [(pair.label, by_name[name], one) for pair, name, one in found]
    measured: dict[str, set[str]] = {}
    for label, limit, _ in asked:
        measured.setdefault(label, set()).add(limit.measure.name)
    unknown: dict[str, str] = {}
    notes: list[str] = []
    for label in dict.fromkeys(cell_label(one) for one in ours if one.status is Status.OK):
        lacking = [one for one in by_name if one not in measured.get(label, by_name)]
        if label not in measured:
            notes.append(f"{label}: the baseline has no such cell; it is not judged")
        elif lacking:
            unknown[label] = f"neither side measured {', '.join(lacking)}"
    return _rows(asked, margin), unknown, notes


def _stored(result: GateResult, folder: Path) -> GateResult:
    stamp = "".join(c for c in result.started_at.split("+")[0] if c.isdigit() or c == "T")
    path = folder / "gates" / f"gate_{stamp}Z.json"
    placed = replace(result, path=path)
    write_json(path, placed.to_dict())
    return placed
