"""`candlemark models`: list, show and prune saved models. No model is opened here."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from candlemark.models.saved import SavedModel
    from candlemark.models.versions import Pruned

app = typer.Typer(help="List, show and prune saved models.", no_args_is_help=True)

Store = Annotated[Path, typer.Option("--store", help="Folder of the saved models.")]
Name = Annotated[str | None, typer.Option("--name", help="Only versions of this name.")]
Better = Annotated[
    Literal["higher", "lower"] | None,
    typer.Option("--better", help="higher or lower; only for a metric that does not say."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
DEFAULT_STORE = Path("models")
METRICS_SHOWN = 3


@app.command("list")
def list_versions(
    store: Store = DEFAULT_STORE,
    metric: Annotated[
        str | None, typer.Option("--metric", help="Show this one, the best first.")
    ] = None,
    better: Better = None,
    name: Name = None,
    json: Json = False,
) -> None:
    """List saved models, the newest first, or the best first by a metric.

    Damaged ones are listed with what is wrong with them.

    - `candlemark models list`
    - `candlemark models list --metric auroc`
    - `candlemark models list --store runs/models --name btc --json`
    """
    from candlemark.cli.output import print_json
    from candlemark.models.versions import list_models, ranking

    found = list_models(store, name=name)
    if metric is not None and found:
        best_first = ranking(found, metric, better)
        found = best_first + [one for one in found if one not in best_first]
    if json:
        print_json({"store": str(store), "models": [one.to_dict() for one in found]})
    elif not found:
        typer.echo(f"no models in {store}; save one with candlemark.save_model")
    else:
        _print_table(found, _metrics_of(found) if metric is None else [metric])


@app.command()
def show(
    version: Annotated[
        str, typer.Argument(help="A version, latest, or best with --metric.")
    ] = "latest",
    store: Store = DEFAULT_STORE,
    metric: Annotated[
        str | None, typer.Option("--metric", help="What the best is the best by.")
    ] = None,
    better: Better = None,
    name: Name = None,
    json: Json = False,
) -> None:
    """Show one saved model, and whether every byte is as it was saved; exit status 1 if not.

    - `candlemark models show`
    - `candlemark models show best --metric auroc`
    - `candlemark models show model_20260101T120000Z --json`
    """
    from candlemark.cli.output import print_json
    from candlemark.models.saved import damaged_files
    from candlemark.models.versions import find_model

    saved = find_model(store, version, metric=metric, better=better, name=name)
    damage = damaged_files(saved)
    if json:
        print_json({**saved.to_dict(), "whole": not damage, "damage": damage})
    else:
        _print_details(saved, damage)
    raise typer.Exit(1 if damage else 0)


@app.command()
def prune(
    keep: Annotated[int, typer.Option("--keep", min=0, help="How many of the newest stay.")],
    keep_best: Annotated[
        list[str] | None,
        typer.Option("--keep-best", help="The best by this metric stays too; may be repeated."),
    ] = None,
    better: Better = None,
    name: Name = None,
    store: Store = DEFAULT_STORE,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Delete without asking.")] = False,
    json: Json = False,
) -> None:
    """Delete old versions: all but the newest, and the best by a metric.

    Damaged ones, and folders with files that candlemark did not write, are left alone.

    - `candlemark models prune --keep 5 --keep-best auroc --dry-run`
    - `candlemark models prune --keep 1 --name btc --yes`
    """
    from candlemark.cli.output import print_json
    from candlemark.models.versions import delete
    from candlemark.models.versions import prune as plan_to_prune

    best_by = tuple(keep_best or ())
    plan = plan_to_prune(
        store, keep=keep, keep_best=best_by, better=better, name=name, dry_run=True
    )
    if not json:
        _print_plan(plan)
    agreed = not dry_run and (not plan.removed or _agreed(len(plan.removed), yes=yes))
    if agreed:
        # What was shown is what goes, whatever was saved since.
        delete(store, plan.removed)
    if json:
        print_json(_plan_to_dict(plan, deleted=agreed))
    else:
        _print_outcome(plan, deleted=agreed)


def _agreed(count: int, *, yes: bool) -> bool:
    """Whether to delete: said by --yes, or answered at a terminal."""
    from candlemark.errors import ConfigError

    if yes:
        return True
    if not sys.stdin.isatty():
        raise ConfigError(
            f"{count} models would be deleted and nobody is here to ask: add --yes to delete "
            "them, --dry-run to look"
        )
    return typer.confirm(f"delete {count} models?", err=True)


def _metrics_of(found: Sequence[SavedModel]) -> list[str]:
    """The metrics that most models have; the first ones of the newest win ties."""
    counts: dict[str, int] = {}
    for one in found:
        for metric in one.metrics:
            counts[metric] = counts.get(metric, 0) + 1
    return sorted(counts, key=lambda metric: -counts[metric])[:METRICS_SHOWN]


def _print_table(found: Sequence[SavedModel], metrics: Sequence[str]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    named = any(one.name for one in found)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("version", no_wrap=True)
    if named:
        table.add_column("name", overflow="fold")
    table.add_column("model", overflow="fold")
    for head in (*metrics, "size"):
        table.add_column(Text(_clean(head)), justify="right", no_wrap=True)
    for one in found:
        cells = [one.version, *([one.name or ""] if named else []), _short_class(one)]
        cells += [_number(one.metrics[name]) if name in one.metrics else "" for name in metrics]
        cells.append(_size(one.size_bytes) if one.files else "")
        # As Text: what a file says is shown, never read as markup.
        table.add_row(*(Text(_clean(cell)) for cell in cells))
    Console().print(table)
    for one in found:
        if one.problem is not None:
            typer.echo(f"{one.version} cannot be loaded: {_clean(one.problem)}")


def _print_details(saved: SavedModel, damage: Sequence[str]) -> None:
    from json import dumps

    metrics = ", ".join(
        f"{name} {_number(value)}"
        + (" (lower is better)" * (saved.directions.get(name) == "lower"))
        for name, value in saved.metrics.items()
    )
    libraries = ", ".join(f"{name} {number}" for name, number in saved.libraries.items())
    files = ", ".join(f"{name} {_size(entry.size_bytes)}" for name, entry in saved.files.items())
    lines = {
        "": str(saved.path),
        "name": saved.name,
        "saved": f"{saved.created_at} with {libraries}",
        "model": f"{saved.class_path} ({saved.kind})",
        "metrics": metrics,
        "config": dumps(saved.config, ensure_ascii=False) if saved.config else None,
        **{name: dumps(value, ensure_ascii=False) for name, value in saved.fields.items()},
        "files": f"{files}, {'; '.join(damage) if damage else 'every byte as it was saved'}",
    }
    for name, text in lines.items():
        if text:
            typer.echo(f"{_clean(name):<12}{_clean(text)}" if name else _clean(text))
    if saved.kind == "estimator":
        typer.echo("to load     it is a pickle and can run code: load_model(..., trust=True)")


def _print_plan(plan: Pruned) -> None:
    for one in plan.removed:
        typer.echo(f"delete      {one.version}  {_size(one.size_bytes)}")
    for one in plan.kept:
        typer.echo(f"keep        {one.version}")
    for one, why in plan.left_alone:
        typer.echo(f"left alone  {one.version}: {_clean(why)}")


def _print_outcome(plan: Pruned, *, deleted: bool) -> None:
    size = _size(sum(one.size_bytes for one in plan.removed))
    if not plan.removed:
        typer.echo("nothing to delete")
    elif deleted:
        typer.echo(f"{len(plan.removed)} deleted, {size} freed")
    else:
        typer.echo(f"nothing was deleted; {len(plan.removed)} would go, {size}")


def _plan_to_dict(plan: Pruned, *, deleted: bool) -> dict[str, Any]:
    return {
        "deleted": deleted,
        "removed": [one.version for one in plan.removed],
        "kept": [one.version for one in plan.kept],
        "left_alone": [{"version": one.version, "reason": why} for one, why in plan.left_alone],
    }


def _short_class(one: SavedModel) -> str:
    if one.class_path is None:
        return "damaged"
    return one.class_path.rpartition(".")[2] if one.problem is None else "damaged"


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4g}"


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.3g} GB"


def _clean(text: str) -> str:
    """What a file says, without the characters that steer a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
