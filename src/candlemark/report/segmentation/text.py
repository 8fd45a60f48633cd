"""The terminal tables of a segmentation board, and the detailed text.

show(board)                  # on standard output, coloured on a terminal
detailed([board], suites)    # plain text for `*_detailed_report.txt`
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from candlemark.metrics.segmentation.catalog import SEGMENTATION_METRICS
from candlemark.metrics.segmentation.conventions import CONVENTIONS
from candlemark.records import Measurement, Verdict
from candlemark.report.format import UNKNOWN, listed, p_value, quantity, short
from candlemark.report.segmentation.board import STAGES, Board, Row
from candlemark.report.segmentation.contests import Duel
from candlemark.report.tables import ROLE_STYLES, fitting
from candlemark.report.text import DETAIL_WIDTH, config_lines
from candlemark.results.store import Suite

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

_TELLING = ("dice", "hd95", "nsd", "lesion_f1")
_BARS = {"clears": "clears it", "misses": "misses it", "undecided": "cannot be told"}


def show(board: Board, console: Console | None = None) -> None:
    """Print the answer, the tables, the tests and the failures."""
    from rich.console import Console

    target = console or Console()
    target.print(answer(board), style="bold", markup=False, highlight=False)
    for part in board_parts(board, width=target.width):
        target.print(part, highlight=False)


def answer(board: Board) -> str:
    """Which model segments best, as far as the cases can tell."""
    primary = board.settings.primary
    if not board.models:
        asked = [row.scores[primary.name].reason for row in board.rows if row.is_model]
        if asked:
            return f"No model has a known {primary.title} ({asked[0]})."
        return "No model was scored: there is nothing to recommend."
    best = board.models[0]
    tied = board.contest.tied_for_best
    score = written(best.scores[primary.name])
    duel = board.contest.beats_controls.get(best.name)
    if len(board.models) == 1:
        text = f"{short(best.name)} reaches {primary.title} {score}"
    elif len(tied) > 1 and best.sampled[primary.name].case_count >= 6:
        text = f"{listed(tied)} cannot be told apart: {primary.title} {score} for the first"
    else:
        text = f"{short(best.name)} has the best {primary.title}, {score}"
    return f"{text}; {_of_controls(duel)}."


def _of_controls(duel: Duel | None) -> str:
    if duel is None:
        return "there is no control beside it"
    if duel.p_value is None:
        return f"not tested against the controls ({duel.difference.reason})"
    if duel.won:
        return f"better than every control ({p_value(duel.p_value)})"
    return f"not better than {_plain(duel.other)} ({p_value(duel.p_value)})"


def board_parts(board: Board, *, width: int) -> list[RenderableType]:
    """Heading and tables, then bars, rank stability, and what failed."""
    from rich.text import Text

    parts: list[RenderableType] = [heading(board)]
    if board.rows:
        parts.append(_fitted(board, board.rows, width, last="controls"))
    if board.oracles:
        parts.append(Text("Oracles: the prompt comes from the reference", style="bold yellow"))
        parts.append(_fitted(board, board.oracles, width, last="prompt"))
    if len(board.class_names) > 1:
        parts += [Text("By class", style="bold"), _by_class(board, width)]
    if timings := [row for row in board.everyone if row.times or row.peak_memory]:
        parts += [Text("Time of a case", style="bold"), _times(timings, width)]
    parts += [Text(line) for line in (*bar_lines(board), *board.stability.sentences())]
    parts += [Text(line, style="dim") for line in note_lines(board)]
    parts += [Text(line, style="red") for line in failure_lines(board)]
    return parts


def heading(board: Board) -> RenderableType:
    """Data and classes, whose convention, and what keeps numbers from being quoted."""
    from rich.text import Text

    text = Text.assemble((board.title, "bold"), "  ")
    text.append(f" {CONVENTIONS[board.settings.convention].title} convention ", "black on green")
    if len(board.cases) < 6:
        text.append(" ")
        text.append(" too few cases ", "black on yellow")
    return text


def _fitted(board: Board, rows: Sequence[Row], width: int, *, last: str) -> Table:
    others = board.settings.metrics[1:]

    def build(names: Sequence[str]) -> Table:
        return _table(board, rows, [name for name in others if name in names], last=last)

    # Of what there is no room for, that goes first which says least beside the Dice.
    return fitting(build, sorted(others, key=lambda name: name not in _TELLING), width)


def _table(board: Board, rows: Sequence[Row], others: Sequence[str], *, last: str) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    primary = board.settings.primary.name
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 0, 0, 1))
    table.add_column("row", overflow="fold", min_width=18)
    table.add_column("protocol", overflow="fold")
    table.add_column(f"{head(board, primary)}, 95 %", justify="right", no_wrap=True)
    for name in others:
        table.add_column(head(board, name), justify="right", no_wrap=True)
    with_failures = any(row.failed_cases for row in rows)
    if with_failures:
        table.add_column("failed", justify="right", no_wrap=True)
    table.add_column(last, min_width=14)
    for row in rows:
        failed = f"{row.failed_cases} of {len(row.cases)}" if row.failed_cases else "0"
        table.add_row(
            Text(_named(row), style=ROLE_STYLES.get(row.role, "default")),
            row.protocol,
            bounded(row.scores[primary]),
            *(plain(row.scores[name]) for name in others),
            *((failed,) if with_failures else ()),
            verdict_and(row, prompt_of(row) if last == "prompt" else standing(row, board), board),
        )
    return table


def head(board: Board, metric: str) -> str:
    """A column's heading, with the unit where there is one."""
    unit = board.units.get(metric, "")
    title = SEGMENTATION_METRICS[metric].title
    return f"{title}, {unit}" if unit else title


def plain(m: Measurement) -> str:
    """A value in the unit of its column."""
    return UNKNOWN if m.value is None else _number(m.value, m)


def bounded(m: Measurement) -> str:
    """Value and interval."""
    if m.low is None or m.high is None:
        return plain(m)
    return f"{plain(m)} [{_number(m.low, m)}, {_number(m.high, m)}]"


def written(m: Measurement, *, with_unit: bool = False) -> str:
    """Value, interval, and the verdict that keeps it from being quoted."""
    text = bounded(m)
    if with_unit and m.unit and m.value is not None:
        text += f" {m.unit}"
    return text if m.verdict is Verdict.VALID else f"{text} {m.verdict}"


def _number(value: float, m: Measurement) -> str:
    # Half the diagonal of a scan is no number to read to the micrometre.
    return f"{value:.1f}" if m.unit in {"mm", "px"} and (m.value or 0) >= 10 else f"{value:.3f}"


def standing(row: Row, board: Board) -> str:
    """What the tests say of a row, in a few words."""
    primary = row.scores[board.settings.primary.name]
    if primary.value is None:
        return primary.reason or "unknown"
    duel = board.contest.beats_controls.get(row.name)
    if duel is None:
        return ""
    if duel.p_value is None:
        return duel.difference.reason or "not tested"
    tied = row.name in board.contest.tied_for_best and len(board.contest.tied_for_best) > 1
    verdict = "beats all" if duel.won else f"does not beat {_plain(duel.other)}"
    text = f"{verdict}, {p_value(duel.p_value)}"
    return f"{text}; tied for best" if tied else text


def verdict_and(row: Row, told: str, board: Board) -> str:
    """What keeps a row's numbers from being quoted, then what else there is to say of it."""
    verdict = row.scores[board.settings.primary.name].verdict
    found = [] if verdict is Verdict.VALID else [str(verdict)]
    return ", ".join([*found, *([told] if told else [])])


def prompt_of(row: Row) -> str:
    """Where the prompt of an oracle lies."""
    if row.jitter is None:
        return "the reference itself"
    return f"moved by {row.jitter:.0%}" if row.jitter else "as the reference has it"


def _plain(name: str) -> str:
    return short(name).removeprefix("control: ")


def _named(row: Row) -> str:
    """A control is told by its protocol and its colour, and needs no further word."""
    return short(row.name) if row.is_model else _plain(row.name)


def _by_class(board: Board, width: int) -> Table:
    return fitting(lambda names: _class_table(board, names), list(board.settings.metrics), width)


def _class_table(board: Board, metrics: Sequence[str]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 0, 0, 1))
    table.add_column("row", overflow="fold", min_width=20)
    for name in metrics:
        table.add_column(head(board, name), justify="right", no_wrap=True)
    table.add_column("class", min_width=10)
    for row in (*board.rows, *board.oracles):
        for place, (label, scores) in enumerate(row.by_class.items()):
            name = _named(row) if place == 0 else ""
            table.add_row(
                Text(name, style=ROLE_STYLES.get(row.role, "default")),
                *(plain(scores[metric]) for metric in metrics),
                board.class_names.get(label, label),
            )
    return table


def _times(rows: Sequence[Row], width: int) -> Table:
    stages = [s for s in ("case", *STAGES) if any(t.stage == s for row in rows for t in row.times)]
    return fitting(lambda names: _time_table(rows, names), list(dict.fromkeys(stages)), width)


def _time_table(rows: Sequence[Row], stages: Sequence[str]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 0, 0, 1))
    table.add_column("row", overflow="fold", min_width=20)
    for stage in stages:
        name = "all stages" if stage == "case" else stage
        table.add_column(f"{name}, p50 / p95", justify="right", no_wrap=True)
    table.add_column("peak memory", min_width=11)
    for row in rows:
        found = {time.stage: time for time in row.times}
        cells = [
            f"{_time(found[stage].p50)} / {_time(found[stage].p95)}" if stage in found else ""
            for stage in stages
        ]
        memory = row.peak_memory
        table.add_row(
            Text(_named(row), style=ROLE_STYLES.get(row.role, "default")),
            *cells,
            "" if memory is None else quantity("peak_memory_bytes", memory.value),
        )
    return table


def _time(m: Measurement) -> str:
    if m.value is None:
        return "-"
    return f"{quantity(m.name, m.value)}{'' if m.verdict is Verdict.VALID else f' {m.verdict}'}"


def bar_lines(board: Board) -> list[str]:
    """For each threshold: who clears it, who misses it, and of whom it cannot be told."""
    lines = []
    for metric, bar in board.settings.thresholds.items():
        by_state: dict[str, list[str]] = {}
        for row in board.rows:
            state = next(found.state for found in row.bars if found.metric == metric)
            if row.is_model and state in _BARS:
                by_state.setdefault(state, []).append(row.name)
        told = [
            f"{listed(by_state[state])}: {words}"
            for state, words in _BARS.items()
            if state in by_state
        ]
        known = SEGMENTATION_METRICS[metric]
        side = "at least" if known.higher_is_better else "at most"
        said = "; ".join(told) if told else "no model has an interval to hold against it"
        unit = board.units.get(metric, "")
        lines.append(f"Bar {known.title} {side} {bar:g} {unit}".rstrip() + f": {said}")
    return lines


def note_lines(board: Board) -> list[str]:
    """What must be known to read the numbers."""
    settings = board.settings
    lines = [
        f"Means over all {len(board.cases)} cases; a case without an answer scores the worst.",
        "Intervals: bootstrap of cases, 95 %; p-values: paired, corrected by Holm.",
    ]
    if "nsd" in settings.metrics:
        unit = "px" if "px" in board.units.values() else "mm"
        lines.append(f"NSD: surfaces within {settings.tolerance_mm:g} {unit} count as equal.")
    lines += fold_lines(board)
    reasons: dict[str, list[str]] = {}
    for row in (*board.rows, *board.oracles):
        for metric in settings.metrics:
            m = row.scores[metric]
            if m.value is None and m.reason:
                title = SEGMENTATION_METRICS[metric].title
                reasons.setdefault(f"{title}: {m.reason}", []).append(row.name)
    rows = len(board.rows) + len(board.oracles)
    for why, names in reasons.items():
        who = "all rows" if len(names) == rows else listed(names)
        lines.append(f"{UNKNOWN} of {who}, {why}")
    return [*lines, *time_lines(board)]


def fold_lines(board: Board) -> list[str]:
    """How each protocol that learns is kept from what it answers for."""
    found: dict[str, dict[str, None]] = {}
    for row in board.everyone:
        for record in (*row.records, *row.failed)[:1]:
            folds = list(record.facts.get("folds") or [])
            if not folds:
                continue
            way = f"{len(folds)} folds: each case by a head trained on the others"
            if len(folds) == 1:
                way = f"a head trained on {_cases(len(folds[0]['train']))} that no row is tested on"
            found.setdefault(way, {})[row.protocol] = None
    return [f"{', '.join(protocols)}, {way}." for way, protocols in found.items()]


def _cases(count: int) -> str:
    return "1 case" if count == 1 else f"{count} cases"


def time_lines(board: Board) -> list[str]:
    """Why times are withheld, or may not be quoted; each reason once."""
    found: dict[str, None] = {}
    for row in board.everyone:
        for time in row.times:
            if time.stage != "case":
                continue
            for name, m in (("p50", time.p50), ("p95", time.p95)):
                if m.value is None:
                    found[f"Times, {name} withheld: {m.reason}"] = None
                elif m.verdict is not Verdict.VALID and m.reason:
                    found[f"Times, {m.verdict}: {m.reason}"] = None
    return list(found)


def failure_lines(board: Board) -> list[str]:
    """Trials and cases that failed, each reason once a row."""
    lines = []
    for row in board.everyone:
        lines += [f"failed: {short(row.name)}: {r.status}, {r.reason}" for r in row.failed]
        dead = {record.trial_id for record in row.failed}
        reasons: dict[tuple[str, str], list[str]] = {}
        for case in row.cases:
            if case.failed and case.trial_id not in dead:
                reasons.setdefault((case.outcome, case.reason or ""), []).append(case.case)
        for (outcome, reason), cases in reasons.items():
            which = cases[0] if len(cases) == 1 else f"{len(cases)} cases, {cases[0]} first"
            lines.append(
                f"{outcome.replace('_', ' ')}: {short(row.name)}: {which}"
                + (f": {reason}" if reason else "")
            )
    return lines


def detailed(boards: Sequence[Board], suites: Sequence[Suite] = ()) -> str:
    """Everything in plain text: tables, all scores, all pairs, ranks, failures, configs."""
    from rich.console import Console

    target = Console(file=io.StringIO(), width=DETAIL_WIDTH, color_system=None)
    target.print("candlemark: segmentation, detailed report", highlight=False)
    target.print("=" * 41, highlight=False)
    for board in boards:
        target.print()
        show(board, target)
        for lines in (_all_scores(board), _pairs(board), _rankings(board)):
            target.print("\n".join(["", *lines]), markup=False, highlight=False)
    target.print("\n".join(config_lines(suites)), markup=False, highlight=False, soft_wrap=True)
    file = target.file
    text = file.getvalue() if isinstance(file, io.StringIO) else ""
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"


def _all_scores(board: Board) -> Iterator[str]:
    yield "All scores (mean over cases, 95 % bootstrap interval)"
    for row in (*board.rows, *board.oracles):
        seeds = f", seeds {', '.join(map(str, row.seeds))}" if len(row.seeds) > 1 else ""
        weights = f", weights {row.weights}" if row.weights else ""
        yield f"  {row.name} ({row.role}, {row.protocol}{weights}{seeds})"
        if row.description or row.notes:
            yield f"    {' '.join(filter(None, (row.description, row.notes)))}"
        for label, scores in (("", row.scores), *_classes(board, row)):
            for metric, m in scores.items():
                title = f"{SEGMENTATION_METRICS[metric].title} {label}".strip()
                reason = f"  ({m.reason})" if m.reason else ""
                yield f"    {title:<32} {written(m, with_unit=True)}{reason}"


def _classes(board: Board, row: Row) -> list[tuple[str, dict[str, Measurement]]]:
    if len(board.class_names) < 2:
        return []
    return [
        (f"of {board.class_names.get(label, label)}", dict(scores))
        for label, scores in row.by_class.items()
    ]


def _pairs(board: Board) -> Iterator[str]:
    contest = board.contest
    title = SEGMENTATION_METRICS[contest.metric].title
    if contest.beats_controls:
        yield f"Differences of {title} from the control a model is hardest to tell from"
        yield "(paired; p of beating every control, corrected by Holm over the models)"
        yield from (f"  {duel_line(duel)}" for duel in contest.beats_controls.values())
    if contest.pairs:
        yield f"Differences of {title} of every two models (paired, corrected by Holm over all)"
        for duel in contest.pairs:
            tested = duel.p_value is not None
            yield f"  {duel_line(duel)}{', a tie' if tested and not duel.told_apart else ''}"


def duel_line(duel: Duel) -> str:
    """First - second, with interval and corrected p-value, or why it was not tested."""
    d = duel.difference
    told = d.reason or "unknown"
    if d.value is not None and d.low is not None and d.high is not None:
        told = f"{d.value:+.3f} [{d.low:+.3f}, {d.high:+.3f}], {p_value(duel.p_value)}"
    elif d.value is not None:
        told = f"{d.value:+.3f}, not tested: {d.reason}"
    return f"{short(duel.model)} - {short(duel.other)}: {told}"


def _rankings(board: Board) -> Iterator[str]:
    if not board.stability.rankings:
        return
    yield "Values by convention (means as each tool takes them)"
    for one in board.stability.rankings:
        title = SEGMENTATION_METRICS[one.metric].title
        if one.absent is not None:
            yield f"  {title}, {one.convention}: {one.absent}"
            continue
        values = "; ".join(
            f"{short(name)} {UNKNOWN if value is None else f'{value:.4f}'}"
            for name, value in one.values.items()
        )
        tau = "" if one.tau is None else f" (tau {one.tau:.2f})"
        yield f"  {title}, {one.convention}: {values}{tau}"
