"""What was measured here of models, one score each, beside the best control of the same data.

    scores = compared(own_rows(results))
    scores[0].model, scores[0].value, scores[0].beats_control

One metric a task says how right a model is: AUROC of charts; Dice of masks, which whoever scores
stored cases adds to the rows. Seeds of one row are averaged; their interval is the widest of them.
A score with a verdict (ORACLE, UNTRAINED, TOO_FEW, ...) is told and never quoted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from candlemark.records import Verdict
from candlemark.results.store import Results

METRICS = {"charts": "auroc", "fusion": "auroc"}
"""By task: the stored number that a leaderboard shows. All are better when higher."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnScore:
    """One model on one data set.

    about: the data set, with the label where there is one; scores of one `about` can be compared
    control: the best control or baseline on the same data; control_value: its score
    """

    model: str
    row: str
    task: str
    about: str
    metric: str
    value: float
    protocol: str | None = None
    low: float | None = None
    high: float | None = None
    verdict: str = Verdict.VALID.value
    reason: str | None = None
    control: str | None = None
    control_value: float | None = None

    @property
    def quotable(self) -> bool:
        """Whether nothing keeps it from being quoted."""
        return self.verdict == Verdict.VALID.value

    @property
    def beats_control(self) -> bool | None:
        """Whether it is above the best control, with its interval where it has one."""
        if self.control_value is None:
            return None
        return (self.value if self.low is None else self.low) > self.control_value

    def to_dict(self) -> dict[str, Any]:
        """JSON types."""
        return {
            **asdict(self),
            "quotable": self.quotable,
            "beats_control": self.beats_control,
        }


def own_rows(results: Results) -> list[dict[str, Any]]:
    """Rows of the store that have a number of METRICS, for `compared`; best of each data first."""
    wanted = " OR ".join(
        f"(s.task = '{task}' AND s.name = '{name}')" for task, name in METRICS.items()
    )
    rows: list[dict[str, Any]] = results.sql(
        f"""
        SELECT coalesce(s.model, s.row_name) AS model, s.row_name AS row,
               t.facts->>'role' AS role, t.facts->>'protocol' AS protocol, s.task, s.dataset,
               s.label, s.name AS metric, avg(s.value) AS value, min(s.low) AS low,
               max(s.high) AS high, max(s.verdict) FILTER (s.verdict <> 'VALID') AS verdict,
               max(s.reason) FILTER (s.verdict <> 'VALID') AS reason
        FROM scores s JOIN current_trials t USING (trial_id)
        WHERE s.value IS NOT NULL AND ({wanted})
        GROUP BY ALL
        ORDER BY s.task, s.dataset, s.label, value DESC
        """  # noqa: S608 - constants
    ).to_pylist()
    return rows


def compared(rows: Sequence[dict[str, Any]]) -> list[OwnScore]:
    """Models among the rows, each with the best control of the same data."""
    best: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows:
        key = (row["task"], _about(row))
        if (
            row["role"] in {"control", "baseline"}
            and row["value"] > best.get(key, {"value": float("-inf")})["value"]
            and row["verdict"] != Verdict.ORACLE.value
        ):
            best[key] = row
    found = []
    for row in rows:
        if row["role"] in {"control", "baseline"}:
            continue
        control = best.get((row["task"], _about(row)))
        found.append(
            OwnScore(
                model=str(row["model"]),
                row=str(row["row"]),
                task=row["task"],
                about=_about(row),
                metric=row["metric"],
                value=float(row["value"]),
                protocol=row["protocol"],
                low=row["low"],
                high=row["high"],
                verdict=row["verdict"] or Verdict.VALID.value,
                reason=row["reason"],
                control=None if control is None else str(control["row"]),
                control_value=None if control is None else float(control["value"]),
            )
        )
    return found


def _about(row: dict[str, Any]) -> str:
    parts = [row["dataset"] or "unnamed data", row.get("label")]
    return ", ".join(part for part in parts if part)
