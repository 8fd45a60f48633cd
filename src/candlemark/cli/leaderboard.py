"""`candlemark hub leaderboard`: which models of the Hub can do a task, and which to look at first.

candlemark hub leaderboard --task image-segmentation --tag medical
"""

from __future__ import annotations

import difflib
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from candlemark.hub.leaderboard.queries import Query
    from candlemark.report.leaderboard.board import Board, Changes
    from candlemark.results.own_scores import OwnScore

EXIT_CHANGED = 1
"""As of `diff`: 0 nothing changed, 1 something did, 2 trouble."""


def leaderboard(
    until: Annotated[
        str | None,
        typer.Argument(metavar="[DATE]", help="With --diff: the later date.", show_default=False),
    ] = None,
    *,
    task: Annotated[
        str | None, typer.Option("--task", help="A task of the Hub, such as image-segmentation.")
    ] = None,
    tag: Annotated[
        list[str] | None, typer.Option("--tag", help="A tag that models carry; may be repeated.")
    ] = None,
    text: Annotated[str | None, typer.Option("--text", help="What their name contains.")] = None,
    author: Annotated[str | None, typer.Option("--author", help="Whose they are.")] = None,
    library: Annotated[
        str | None, typer.Option("--library", help="What loads them, such as monai.")
    ] = None,
    wanted_for: Annotated[
        str | None, typer.Option("--for", help="The task to judge them by, if not --task.")
    ] = None,
    query: Annotated[
        list[str] | None,
        typer.Option(
            "--query",
            help="A whole query, 'task=image-segmentation tag=medical max=100M'; may be repeated.",
        ),
    ] = None,
    query_set: Annotated[
        str | None,
        typer.Option("--set", help="A ready set: medical (where nothing is asked), segmentation."),
    ] = None,
    min_parameters: Annotated[
        str | None, typer.Option("--min-parameters", help="Such as 1M; unknown sizes drop out.")
    ] = None,
    max_parameters: Annotated[
        str | None, typer.Option("--max-parameters", help="Such as 100M; unknown sizes drop out.")
    ] = None,
    sort: Annotated[
        str | None,
        typer.Option(
            "--sort",
            help="By what the Hub picks them: downloads, likes, trending, modified, created.",
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Models a query; default 20.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="A YAML whose section `leaderboard` says this.")
    ] = None,
    results: Annotated[
        Path | None, typer.Option("--results", help="Join what was measured here: a results store.")
    ] = None,
    tracker_dir: Annotated[
        Path, typer.Option("--tracker-dir", help="Where snapshots are kept.")
    ] = Path("benchmarks/leaderboard"),
    offline: Annotated[
        bool, typer.Option("--offline", help="Ask nothing; show the last snapshot and its date.")
    ] = False,
    refresh: Annotated[
        bool, typer.Option("--refresh", help="Ask about every page, however young.")
    ] = False,
    max_age: Annotated[
        str, typer.Option("--max-age", help="Ask again about pages older than this: 30m, 6h, 2d.")
    ] = "6h",
    watch: Annotated[
        bool,
        typer.Option(
            "--watch", help="One call for cron: print what changed; exit status 1 if anything did."
        ),
    ] = False,
    diff: Annotated[
        str | None,
        typer.Option(
            "--diff", metavar="DATE [DATE]", help="What changed since a day, from snapshots alone."
        ),
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", help="Write a page that opens with no network.")
    ] = None,
    markdown: Annotated[Path | None, typer.Option("--markdown", help="Write a report.")] = None,
    trend: Annotated[
        Path | None, typer.Option("--trend", help="Draw downloads over the snapshots as PNG.")
    ] = None,
    show: Annotated[int, typer.Option("--show", min=0, help="Models a table here; 0: all.")] = 10,
    token: Annotated[
        str | None,
        typer.Option("--token", help="Better in HF_TOKEN. None is needed.", show_default=False),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Find models by task, tag, text and size; say which can do the task, and why.

    Ranked by what they can do, then by what was measured and is claimed, and by popularity last.
    Answers are cached and kept as snapshots; without a network the last one is shown.

    - `candlemark hub leaderboard`
    - `candlemark hub leaderboard --task image-segmentation --tag medical --max-parameters 100M`
    - `candlemark hub leaderboard --query 'text=medsam for=mask-generation' --html medsam.html`
    - `candlemark hub leaderboard --watch || mail -s 'models changed' me`
    - `candlemark hub leaderboard --diff 2026-01-01 2026-02-01`
    """
    from candlemark.hub.leaderboard import watch as watching
    from candlemark.hub.leaderboard.cache import PageCache

    single = {
        "task": task,
        "tags": tuple(tag or ()),
        "text": text,
        "author": author,
        "library": library,
        "wanted_for": wanted_for,
        "sort": sort,
    }
    queries = _queries(
        single, query or (), query_set, config, limit, (min_parameters, max_parameters)
    )
    if diff is not None or until is not None:
        files = {"--html": html, "--markdown": markdown, "--trend": trend}
        given = [*(name for name, path in files.items() if path is not None)]
        given += ["--refresh"] * refresh + ["--watch"] * watch
        _check_diff(diff, until, given)
        changes = watching.diff(
            queries, str(diff), until, tracker_dir=tracker_dir, own=_own(results)
        )
        _tell_changes(changes, as_json=json)
        return
    if offline and (refresh or watch):
        raise _usage("--offline asks nothing, and --refresh and --watch do; leave out one of them")
    board = watching.look(
        queries,
        tracker_dir=tracker_dir,
        token=token,
        cache=PageCache(max_age_s=_seconds(max_age)),
        refresh=refresh or watch,
        offline=offline,
        watch=watch,
        own=_own(results),
    )
    # Told before it is written: what changed is told once, and a full disk must not keep it.
    try:
        if watch:
            _tell_watch(board, as_json=json)
        else:
            _tell(board, shown=show, as_json=json)
    finally:  # who reads may have read enough and left, as `head` does
        _write(board, html, markdown, trend)
    if watch and board.changes is not None and board.changes.news:
        raise typer.Exit(EXIT_CHANGED)


def _queries(
    single: dict[str, Any],
    typed: list[str] | tuple[str, ...],
    query_set: str | None,
    config: Path | None,
    limit: int | None,
    sizes: tuple[str | None, str | None],
) -> list[Query]:
    """What is asked: the options as one query, --query, --set and --config joined."""
    from candlemark.errors import ConfigError
    from candlemark.hub.leaderboard import queries as asking
    from candlemark.progress import warning

    low, high = (None if size is None else asking.read_count(size) for size in sizes)
    found = [asking.parse(text) for text in typed]
    selecting = {name: value for name, value in single.items() if value}
    if set(selecting) - {"wanted_for", "sort"}:
        words = {name: value for name, value in selecting.items() if name != "sort"}
        found.append(asking.Query(**words))
    if config is not None:
        told, limit, lowest, highest = _configured(config, limit)
        found += told
        low, high = lowest if low is None else low, highest if high is None else high
    if query_set is not None or not found:
        name = query_set or "medical"
        if name not in asking.QUERY_SETS:
            raise ConfigError(f"no set '{name}'; known: {', '.join(asking.QUERY_SETS)}")
        found += asking.QUERY_SETS[name]
    if single["sort"] is not None and single["sort"] not in asking.SORTS:
        raise ConfigError(f"--sort {single['sort']} is not known: {', '.join(asking.SORTS)}")
    narrow = [
        asking.narrowed(one, limit=limit, min_parameters=low, max_parameters=high) for one in found
    ]
    for name in dict.fromkeys(one.task for one in narrow if one.task):
        hint = asking.hint(name)
        if hint is not None:
            warning(f"'{name}' is no task known here, the Hub is asked all the same; {hint}")
    asked = [
        replace(
            one,
            sort=single["sort"] or one.sort,
            wanted_for=single["wanted_for"] or one.wanted_for,
        )
        for one in narrow
    ]
    return [asking.checked(one) for one in dict.fromkeys(asked)]


def _configured(
    path: Path, limit: int | None
) -> tuple[list[Query], int | None, int | None, int | None]:
    """The queries of a config's section `leaderboard`, its limit, and its bounds of size.

    Raises ConfigError naming the file: a key or a query of it is not understood.
    """
    from candlemark.benchmark.segmentation.config import LeaderboardConfig
    from candlemark.config import parse, read_mapping
    from candlemark.errors import ConfigError
    from candlemark.hub.leaderboard import queries as asking

    found_in = read_mapping(path)
    if "leaderboard" not in found_in:
        near = difflib.get_close_matches("leaderboard", [str(key) for key in found_in], n=1)
        hint = f"did you mean it by '{near[0]}'?" if near else "name what to ask for in one"
        raise ConfigError(f"{path} has no section 'leaderboard'; {hint}")
    section = found_in["leaderboard"] or {}
    where = f"{path}: leaderboard"
    told = parse(LeaderboardConfig, section, where=where)
    try:
        found = [asking.checked(asking.parse(text)) for text in told.queries]
        if told.task is not None and not found:
            found = [asking.checked(asking.Query(task=told.task))]
        low, high = (
            None if size is None else asking.read_count(size)
            for size in (told.min_parameters, told.max_parameters)
        )
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    if told.task is not None:
        found = [one if one.goal else replace(one, wanted_for=told.task) for one in found]
    # A default is no limit that was asked for: it leaves those that stand in queries.
    stated = told.limit if "limit" in told.model_fields_set else None
    return found, limit or stated, low, high


def _check_diff(diff: str | None, until: str | None, given: list[str]) -> None:
    if diff is None:
        raise _usage(f"'{until}' stands alone; write --diff DATE {until}")
    if given:
        raise _usage(
            f"--diff prints what changed, and nothing else; leave out {' and '.join(given)}"
        )


def _usage(text: str) -> Exception:
    from candlemark.errors import ConfigError

    return ConfigError(text)


def _seconds(text: str) -> float:
    """`6h` as 21600."""
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text, re.ASCII)
    if match is None:
        raise _usage(f"--max-age {text} is no age; write 30m, 6h or 2d")
    return float(match[1]) * units[match[2]]


def _own(results: Path | None) -> list[OwnScore]:
    if results is None:
        return []
    from candlemark.hub.leaderboard.own import measured_here

    return measured_here(results)


def _write(board: Board, html: Path | None, markdown: Path | None, trend: Path | None) -> None:
    if html is not None:
        from candlemark.report.leaderboard.page import write_page

        typer.echo(f"page: {write_page(board, html)}", err=True)
    if markdown is not None:
        from candlemark.report.leaderboard.markdown import write_markdown

        typer.echo(f"report: {write_markdown(board, markdown)}", err=True)
    if trend is not None:
        from candlemark.report.leaderboard.trend import write_trend

        typer.echo(f"trend: {write_trend(board, trend)}", err=True)


def _tell(board: Board, *, shown: int, as_json: bool) -> None:
    from candlemark.cli.output import print_json, table_console

    if as_json:
        print_json(board.to_dict())
        return
    from candlemark.report.leaderboard.text import show

    show(board, table_console(), shown=shown)


def _tell_watch(board: Board, *, as_json: bool) -> None:
    """What changed since the last snapshot."""
    from candlemark.cli.output import print_json

    if board.changes is not None:
        _tell_changes(board.changes, as_json=as_json)
    elif as_json:
        print_json({"before": None, "after": board.taken_at, "news": 0, "items": []})
    else:
        count = "1 model" if len(board.models) == 1 else f"{len(board.models)} models"
        typer.echo(f"first snapshot, of {board.taken_at}: {count}")


def _tell_changes(changes: Changes, *, as_json: bool) -> None:
    from candlemark.cli.output import print_json, table_console
    from candlemark.report.leaderboard.board import changes_dict
    from candlemark.report.leaderboard.text import show_changes

    if as_json:
        print_json(changes_dict(changes))
        return
    show_changes(changes, table_console())
