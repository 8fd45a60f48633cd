"""`candlemark hub`: publish datasets, models and results, bring them back, and find models.

candlemark hub push-dataset datasets/btc me/btc --private --dry-run
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from candlemark.cli.leaderboard import leaderboard

if TYPE_CHECKING:
    from candlemark.hub.publish import Pushed

app = typer.Typer(
    help="Publish datasets, models and results on the Hugging Face Hub, pull them, find models.",
    no_args_is_help=True,
)
app.command("leaderboard")(leaderboard)

Repo = Annotated[str, typer.Argument(metavar="REPO", help="USER/NAME, or a NAME of your own.")]
Token = Annotated[
    str | None,
    typer.Option(
        "--token",
        help="Better in HF_TOKEN: an option can be read by other users of this machine.",
        show_default=False,
    ),
]
Private = Annotated[bool, typer.Option("--private", help="A new repository is seen by you alone.")]
CreatePr = Annotated[
    bool, typer.Option("--create-pr", help="Open a pull request instead of changing main.")
]
License = Annotated[
    str | None,
    typer.Option("--license", help="What you put it under, such as cc0-1.0.", show_default=False),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Show every file that would change; send nothing.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command("push-dataset")
def push_dataset(
    path: Annotated[Path, typer.Argument(metavar="DATASET", help="A dataset directory.")],
    repo: Repo,
    *,
    private: Private = False,
    token: Token = None,
    dry_run: DryRun = False,
    create_pr: CreatePr = False,
    caption: Annotated[
        str,
        typer.Option(
            "--caption", help="window: all that is visible; classic: the last candle's numbers."
        ),
    ] = "window",
    license_id: License = None,
    shard_mb: Annotated[int, typer.Option("--shard-mb", help="Size of a file, about.")] = 500,
    as_json: Json = False,
) -> None:
    """Publish a dataset for `datasets.load_dataset`, with a card, its audit and a contact sheet.

    - `candlemark hub push-dataset datasets/btc me/btc --dry-run`
    - `candlemark hub push-dataset datasets/btc me/btc --private --license cc0-1.0`
    """
    from candlemark.dataset.lazy import open_dataset
    from candlemark.hub import publish
    from candlemark.hub.client import Hub

    pushed = publish.push_dataset(
        open_dataset(path),
        repo,
        hub=Hub(token=token),
        private=private,
        create_pr=create_pr,
        dry_run=dry_run,
        caption=caption,
        license_id=license_id,
        shard_bytes=shard_mb * 1_000_000,
    )
    tell(pushed, as_json=as_json)


@app.command("push-model")
def push_model(
    folder: Annotated[
        Path, typer.Argument(metavar="MODEL", help="A model's folder, as fuse train makes it.")
    ],
    repo: Repo,
    *,
    private: Private = False,
    token: Token = None,
    dry_run: DryRun = False,
    create_pr: CreatePr = False,
    space: Annotated[
        bool, typer.Option("--space", help="As a Space, which shows the model's page.")
    ] = False,
    license_id: License = None,
    as_json: Json = False,
) -> None:
    """Publish a model with a card: evaluation results, controls, training, limits.

    - `candlemark hub push-model models/btc me/btc-fusion --dry-run`
    - `candlemark hub push-model models/btc me/btc-fusion --create-pr`
    - `candlemark hub push-model models/btc me/btc-page --space`
    """
    from candlemark.hub import publish
    from candlemark.hub.client import Hub

    pushed = publish.push_model(
        folder,
        repo,
        hub=Hub(token=token),
        private=private,
        create_pr=create_pr,
        dry_run=dry_run,
        kind="space" if space else "model",
        license_id=license_id,
        extra=_page_of(folder),
    )
    tell(pushed, as_json=as_json)


def _page_of(folder: Path) -> dict[str, str]:
    """What makes the folder a Space, as far as it is a model without a page."""
    from candlemark.app.space import APP, MODEL_CONFIG, space_files

    if not (folder / MODEL_CONFIG).is_file() or (folder / APP).exists():
        return {}
    return space_files(folder)


@app.command("push-results")
def push_results(
    repo: Repo,
    *,
    results_dir: Annotated[
        Path, typer.Option("--results-dir", help="Folder of candlemark.duckdb, or the file.")
    ] = Path("benchmarks/results"),
    kind: Annotated[
        str, typer.Option("--kind", help="What the repository is: model, dataset or space.")
    ] = "model",
    pattern: Annotated[
        str | None,
        typer.Option("--pattern", help="Only suites whose id or export name fits this glob."),
    ] = None,
    private: Private = False,
    token: Token = None,
    dry_run: DryRun = False,
    create_pr: CreatePr = False,
    as_json: Json = False,
) -> None:
    """Write a benchmark section into a repository's card, with badges.

    The rest of its README.md stays as it is.

    - `candlemark hub push-results me/btc-fusion --dry-run`
    - `candlemark hub push-results me/btc --kind dataset --pattern 'benchmark_suite_202506*'`
    """
    from candlemark.hub import publish
    from candlemark.hub.client import Hub, check_kind

    pushed = publish.push_results(
        results_dir,
        repo,
        hub=Hub(token=token),
        private=private,
        create_pr=create_pr,
        dry_run=dry_run,
        kind=check_kind(kind),
        pattern=pattern,
    )
    tell(pushed, as_json=as_json, of="results")


@app.command("pull")
def pull(
    repo: Repo,
    *,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="A folder that is not there yet; default: the name."),
    ] = None,
    kind: Annotated[
        str, typer.Option("--kind", help="What it is: model, dataset or space.")
    ] = "model",
    revision: Annotated[
        str | None, typer.Option("--revision", help="A branch, tag or commit; default: main.")
    ] = None,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """Bring a repository here, every file checked by its hash; an interrupted pull goes on.

    - `candlemark hub pull me/btc-fusion --out models/btc-fusion`
    - `candlemark hub pull me/btc --kind dataset --revision main`
    """
    from dataclasses import asdict

    from candlemark.cli.output import print_json
    from candlemark.hub import pull as pulling
    from candlemark.hub.changes import human_bytes
    from candlemark.hub.client import Hub, check_kind

    checked = check_kind(kind)
    target = out if out is not None else Path(repo.rpartition("/")[2])
    pulled = pulling.pull(repo, checked, target, revision=revision, hub=Hub(token=token))
    if as_json:
        print_json({**asdict(pulled), "folder": str(pulled.folder)})
        return
    fetched = human_bytes(pulled.fetched_bytes) if pulled.fetched_bytes else "nothing"
    typer.echo(
        f"{pulled.folder}  {pulled.files:,} files, {human_bytes(pulled.size_bytes)}, of which "
        f"{fetched} had to be brought; every byte is as its hash says"
    )
    typer.echo(f"commit {pulled.commit}")
    typer.echo(_PULLED[checked].format(folder=pulled.folder))


def tell(pushed: Pushed, *, as_json: bool = False, of: str | None = None) -> None:
    """What a push did, and the next thing to type.

    of: results, where that is what was pushed; else the kind of the repository says it
    """
    if as_json:
        from candlemark.cli.output import print_json

        print_json(pushed.to_dict())
        return
    for line in told(pushed, of=of):
        typer.echo(line)


def told(pushed: Pushed, *, of: str | None = None) -> list[str]:
    """The lines of `tell`."""
    if pushed.dry_run:
        return [pushed.changes.text(), f"dry run: nothing was sent to {pushed.url}"]
    lines = [pushed.url, pushed.changes.summary().replace(" to send", " sent")]
    if pushed.pull_request is not None:
        return [*lines, f"merge it at: {pushed.pull_request}"]
    if pushed.commit is not None:
        lines.append(f"commit {pushed.commit}")
    return [*lines, _NEXT[of or pushed.kind].format(repo=pushed.repo_id, url=pushed.url)]


_NEXT = {
    "dataset": 'load it with: datasets.load_dataset("{repo}")',
    "model": 'load it with: transformers.AutoModel.from_pretrained("{repo}", '
    "trust_remote_code=True)",
    "space": "open it at: {url}",
    "results": "badges for other pages: {url}/tree/main/badges",
}

_PULLED = {
    "dataset": 'load it with: datasets.load_dataset("{folder}")',
    "model": "ask it with: candlemark fuse predict {folder} --symbol SYMBOL",
    "space": "open it with: candlemark app {folder}",
}
