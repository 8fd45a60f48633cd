"""How often the gate finds what is there, and how often it cries over nothing.

    python perf/gate_power.py [--sweeps 1000] [--json power.json]

Simulates sweeps of several cells with the faults of real timings (`metrics/simulated.py`) and
puts each through what `candlemark gate` decides with. Prints, with 95 % intervals (Clopper and
Pearson), how many sweeps fail, pass and stay undecided where one cell is slower by a known
share and where none is, at several noises and numbers of rounds, and how often the interval of
the ratio holds the truth. About five minutes.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from candlemark.metrics.contrast import Change, contrast, judge
from candlemark.metrics.limits import Decision, decide, parse_limit
from candlemark.metrics.simulated import Noise, simulate_sweep

LIMIT = "latency_p50_ms>+2%"
CELLS = 4
ROUNDS = 8
NOISES = {
    "1 % a process": Noise(),
    "2 % a process": Noise(process=0.02),
    "1 %, disturbed": Noise(disturbed=0.15, disturbance=0.3, drift=0.05),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One kind of sweep: in the first cell B takes `slowdown` times as long as A."""

    noise: str
    slowdown: float
    rounds: int = ROUNDS
    cells: int = CELLS
    limit: str = LIMIT


CASES = (
    Case(noise="1 % a process", slowdown=1.0),
    Case(noise="1 % a process", slowdown=1.05),
    Case(noise="1 % a process", slowdown=1.0, limit="latency_p50_ms>+5%"),
    Case(noise="1 % a process", slowdown=1.05, rounds=6),
    Case(noise="1 % a process", slowdown=1.05, rounds=5, cells=1),
    Case(noise="1 % a process", slowdown=1.10, limit="latency_p50_ms>+5%"),
    Case(noise="1 % a process", slowdown=1.05, limit="latency_p50_ms>+5%"),
    Case(noise="2 % a process", slowdown=1.0),
    Case(noise="2 % a process", slowdown=1.05),
    Case(noise="2 % a process", slowdown=1.05, rounds=16),
    Case(noise="1 %, disturbed", slowdown=1.0),
    Case(noise="1 %, disturbed", slowdown=1.05),
)


def simulate(case: Case, *, sweeps: int, seed: int) -> dict[str, Any]:
    """Shares of sweeps by outcome, each with its interval."""
    random = np.random.default_rng(seed)
    slowdowns = (case.slowdown, *(1.0,) * (case.cells - 1))
    limit = parse_limit(case.limit)
    seen: Counter[str] = Counter()
    covered = 0
    for _ in range(sweeps):
        sweep = simulate_sweep(random, NOISES[case.noise], slowdowns=slowdowns, rounds=case.rounds)
        found = [contrast(values) for values in sweep]
        decisions = [one.decision for one in decide([(limit, one) for one in found])]
        verdicts = [one.change for one in judge(found)]
        for one, truth in zip(found, slowdowns, strict=True):
            covered += bool(one.low and one.high and one.low <= truth <= one.high)
        seen["found"] += decisions[0] is Decision.FAIL
        seen["false alarm"] += Decision.FAIL in decisions[1 if case.slowdown > 1 else 0 :]
        seen["fail"] += Decision.FAIL in decisions
        seen["pass"] += all(one is Decision.PASS for one in decisions)
        seen["undecided"] += Decision.FAIL not in decisions and Decision.UNDECIDED in decisions
        seen["told apart"] += verdicts[0] in {Change.FASTER, Change.SLOWER}
        seen["told apart wrongly"] += any(
            one in {Change.FASTER, Change.SLOWER}
            for one in verdicts[1 if case.slowdown > 1 else 0 :]
        )
    shares = {name: share(seen[name], sweeps) for name in NAMES}
    return {
        **asdict(case),
        "sweeps": sweeps,
        "shares": shares,
        "coverage": share(covered, sweeps * case.cells),
    }


NAMES = ("found", "false alarm", "fail", "pass", "undecided", "told apart", "told apart wrongly")


def share(count: int, total: int) -> dict[str, float]:
    """A share with its exact 95 % interval."""
    interval = stats.binomtest(count, total).proportion_ci(method="exact")
    return {
        "share": count / total,
        "low": float(interval.low),
        "high": float(interval.high),
    }


HEAD = (
    f"{'noise':16}{'slower':>7}{'rounds':>7}{'cells':>6}  {'fails beyond':22}"
    + "".join(f"{name:>22}" for name in NAMES)
    + f"{'coverage':>10}"
)


def line(one: dict[str, Any]) -> str:
    shown = "".join(
        f"{100 * cell['share']:7.1f} % [{100 * cell['low']:4.1f}, {100 * cell['high']:5.1f}]"
        for cell in one["shares"].values()
    )
    return (
        f"{one['noise']:16}{one['slowdown'] - 1:7.0%}{one['rounds']:7}{one['cells']:6}  "
        f"{one['limit']:22}{shown}{100 * one['coverage']['share']:8.1f} %"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sweeps", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    print(HEAD)
    results = []
    for number, case in enumerate(CASES):
        results.append(simulate(case, sweeps=options.sweeps, seed=options.seed + number))
        print(line(results[-1]), flush=True)
    if options.json:
        options.json.write_text(json.dumps({"cases": results}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
