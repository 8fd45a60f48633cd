"""`candlemark results find` and `pareto`: which models fulfil a wish, which are worth a look."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from candlemark.cli.results_options import DEFAULT_DIR, Here, Json, ResultsDir, Task

if TYPE_CHECKING:
    from candlemark.records import Measurement
    from candlemark.results.questions.choosing import Apart, Found, Front, Pareto, Point
    from candlemark.results.units import Quantity


def find(
    conditions: Annotated[
        list[str], typer.Argument(help='Like "latency_p95_ms < 20"; all must hold.')
    ],
    here: Here = True,
    task: Task = None,
    results_dir: ResultsDir = DEFAULT_DIR,
    json: Json = False,
) -> None:
    """Say which models fulfil conditions, and of which it cannot be said.

    - `candlemark results find "latency_p95_ms < 20" "peak_memory_bytes < 500MB"`
    - `candlemark results find "auroc > 0.55 and energy_per_item_j < 2" --anywhere`

    A condition is a measure or score, one of `<` `<=` `>` `>=` `=`, and a number, perhaps with
    a unit (ms, s, MB, MiB, GB, k, M, G, %, ...). Numbers that are missing or may not be quoted
    are listed apart, with the reason.
    """
    from candlemark.results.questions.choosing import find_models
    from candlemark.results.questions.conditions import parse_conditions
    from candlemark.results.questions.machine import this_machine
    from candlemark.results.store import open_results

    asked = parse_conditions(conditions)
    with open_results(results_dir, read_only=True) as results:
        found = find_models(results, asked, here=this_machine() if here else None, task=task)
    if json:
        from candlemark.cli.output import print_json

        print_json(_found_to_dict(found))
    else:
        _print_found(found)


def pareto(
    objectives: Annotated[
        list[str] | None,
        typer.Option(
            "--objectives",
            help="Measures or scores, again or by comma.  "
            "[default: latency_p50_ms,peak_memory_bytes,parameters]",
        ),
    ] = None,
    here: Here = True,
    task: Task = None,
    results_dir: ResultsDir = DEFAULT_DIR,
    json: Json = False,
) -> None:
    """Show the models that no other beats in every objective.

    - `candlemark results pareto`
    - `candlemark results pareto --objectives latency_p50_ms,auroc --task inference`

    Scores are those that the tasks `charts`, `fusion` and `segmentation` stored for the same
    model. Only models under the same workload (machine, device, batch size, input, data) are
    rivals.
    """
    from candlemark.results.questions.choosing import pareto as find_front
    from candlemark.results.questions.machine import this_machine
    from candlemark.results.store import open_results

    names = [name.strip() for text in objectives or () for name in text.split(",")]
    with open_results(results_dir, read_only=True) as results:
        found = find_front(
            results,
            names or ("latency_p50_ms", "peak_memory_bytes", "parameters"),
            here=this_machine() if here else None,
            task=task,
        )
    if json:
        from candlemark.cli.output import print_json

        print_json(_pareto_to_dict(found))
    else:
        _print_pareto(found)


def _found_to_dict(found: Found) -> dict[str, Any]:
    return {
        "conditions": [
            {"name": c.quantity.name, "operator": c.operator, "limit": c.limit}
            for c in found.conditions
        ],
        "models": list(found.models),
        "matching": [
            {
                "model": one.model,
                "label": one.label,
                "trial_id": one.record.trial_id,
                **dict(one.workload),
                "values": {
                    c.quantity.name: _to_dict(one.known(c.quantity.name)[0])
                    for c in found.conditions
                },
            }
            for one in found.matching
        ],
        "failing": [
            {
                "label": one.label,
                "trial_id": one.record.trial_id,
                "broken": condition.text,
                "value": _to_dict(one.known(condition.quantity.name)[0]),
            }
            for one, condition in found.failing
        ],
        "unknown": [_apart_to_dict(one) for one in found.unknown],
    }


def _to_dict(m: Measurement | None) -> dict[str, Any] | None:
    return None if m is None else {"value": m.value, "low": m.low, "high": m.high, "unit": m.unit}


def _apart_to_dict(one: Apart) -> dict[str, Any]:
    return {"label": one.label, "trial_id": one.trial_id, "reason": one.reason}


def _pareto_to_dict(found: Pareto) -> dict[str, Any]:
    return {
        "objectives": [
            {"name": one.name, "higher_is_better": one.higher_is_better} for one in found.objectives
        ],
        "fronts": [
            {
                "workload": dict(front.workload),
                "best": [_point_to_dict(point) for point in front.best],
                "dominated": [_point_to_dict(point) for point in front.dominated],
            }
            for front in found.fronts
        ],
        "unknown": [_apart_to_dict(one) for one in found.unknown],
    }


def _point_to_dict(point: Point) -> dict[str, Any]:
    return {
        "model": point.candidate.model,
        "label": point.candidate.label,
        "trial_id": point.candidate.record.trial_id,
        "values": {m.name: _to_dict(m) for m in point.values},
        "tied_with": list(point.tied_with),
        "dominated_by": point.dominated_by,
        "within_intervals": point.within_intervals,
    }


def _print_found(found: Found) -> None:
    quantities = list({c.quantity.name: c.quantity for c in found.conditions}.values())
    if found.matching:
        rows = [
            [
                one.label,
                _workload(one.workload),
                *(_written(q, one.known(q.name)[0]) for q in quantities),
            ]
            for one in found.matching
        ]
        _print_table(["model", "measured with", *(q.title for q in quantities)], rows)
    else:
        typer.echo("no model fulfils " + " and ".join(c.text for c in found.conditions))
    for one, condition in found.failing:
        value = _written(condition.quantity, one.known(condition.quantity.name)[0])
        typer.echo(f"not {one.label}: {condition.quantity.title} is {value}")
    _print_apart(found.unknown)


def _print_pareto(found: Pareto) -> None:
    for front in found.fronts:
        typer.echo(_workload(front.workload))
        _print_table(
            ["model", *(one.title for one in found.objectives), ""],
            [
                [
                    point.candidate.label,
                    *(_written(q, m) for q, m in zip(found.objectives, point.values, strict=True)),
                    _place(point),
                ]
                for point in _points(front)
            ],
        )
    if not found.fronts:
        typer.echo(
            "no model has a number for each of " + ", ".join(q.name for q in found.objectives)
        )
    _print_apart(found.unknown)


def _points(front: Front) -> Iterable[Point]:
    return (*front.best, *front.dominated)


def _place(point: Point) -> str:
    """Why a point is on the front or not, in words."""
    if point.dominated_by is None:
        return f"front, tied with {', '.join(point.tied_with)}" if point.tied_with else "front"
    unsure = ", within the intervals" if point.within_intervals else ""
    return f"beaten by {point.dominated_by}{unsure}"


def _print_apart(unknown: Sequence[Apart]) -> None:
    if unknown:
        typer.echo("cannot be judged:")
    for one in unknown:
        typer.echo(f"  {one.label}: {one.reason}")


def _workload(workload: Iterable[tuple[str, Any]]) -> str:
    """`inference on AMD EPYC 7B13, cpu, batch 1, length 128`."""
    given = dict(workload)
    words = [f"{given.get('task')} on {given.get('machine')}"]
    words += [str(given["device"])] if "device" in given else []
    for name, word in (("batch_size", "batch"), ("sequence_length", "length")):
        words += [f"{word} {given[name]}"] if name in given else []
    words += [f"scores of {given['scored_on']}"] if "scored_on" in given else []
    return ", ".join(words)


def _written(quantity: Quantity, m: Measurement | None) -> str:
    from candlemark.report.format import quantity as written

    return written(quantity.name, None if m is None else m.value)


def _print_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.table import Table

    from candlemark.cli.output import table_console

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for place, head in enumerate(heads):
        table.add_column(head, justify="left" if place in {0, len(heads) - 1} else "right")
    for row in rows:
        table.add_row(*row)
    table_console(markup=False).print(table)
