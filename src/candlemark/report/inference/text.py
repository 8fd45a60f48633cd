"""The terminal tables of an inference benchmark.

show_inference(records)                        # on standard output
show_inference(records, attempts=attempts)     # with every attempt, so that gains have a floor

First the answer in one sentence, then a table a modality with what all of its cells share above
it, the reasons not to quote a number below it, gains, and the cells that failed.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from candlemark.metrics.measures import MEASURES
from candlemark.records import RunRecord, Verdict
from candlemark.report.comparison import Speedup, speedups
from candlemark.report.inference.cells import (
    LATENCY,
    Cell,
    Family,
    answer,
    build_cells,
    families,
)
from candlemark.report.inference.gains import Kind, gain_lines, named
from candlemark.report.inference.notes import Note, notes
from candlemark.report.inference.numbers import (
    UNKNOWN,
    error,
    figures,
    measured,
    share,
    span,
    with_interval,
)
from candlemark.report.text import config_lines
from candlemark.results.store import Suite

if TYPE_CHECKING:
    from rich.console import Console, JustifyMethod, RenderableType
    from rich.table import Table
    from rich.text import Text

DETAIL_WIDTH = 118
PIPE_WIDTH = 110
"""Of what is no terminal: a file or a pipe has no width that a table must fit."""

_COLOURS: dict[Kind, str] = {
    "gain": "green",
    "changed": "red",
    "loss": "yellow",
    "same": "default",
    "unsure": "dim",
}
MOST_NAMED = 3
"""Cells that a note names before it only counts them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of numbers; those with a high `priority` stay in a narrow terminal."""

    measure: str
    head: str
    priority: int
    of: Callable[[Cell], str]


def show_inference(
    records: Iterable[RunRecord],
    console: Console | None = None,
    *,
    attempts: Iterable[RunRecord] | None = None,
) -> None:
    """Print the answer, a table for each modality, gains, and failures.

    attempts: every attempt at these trials; without a second one no gain is established
    """
    cells = build_cells(records)
    gains = speedups([cell.record for cell in cells] if attempts is None else attempts)
    show_cells(cells, gains, console)


def show_cells(
    cells: Sequence[Cell], gains: Sequence[Speedup], console: Console | None = None
) -> None:
    """As `show_inference`, from what was worked out already."""
    target = console or _console()
    target.print(answer(cells), style="bold", markup=False, highlight=False)
    for part in parts(cells, gains, width=target.width):
        target.print(part)


def _console() -> Console:
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=PIPE_WIDTH)


def parts(cells: Sequence[Cell], gains: Sequence[Speedup], *, width: int) -> list[RenderableType]:
    """What stands below the answer: tables with their notes, gains, failures."""
    from rich.text import Text

    found: list[RenderableType] = []
    for family in families(cells):
        found += ["", _heading(family), _fitting_table(family, width)]
    finished = [cell for cell in cells if cell.finished]
    found += [_note_line(note, len(finished)) for note in notes(finished)]
    found += [Text(line, style="dim") for line in _remarks(finished)]
    if lines := gain_lines(named(gains, cells)):
        found += ["", Text("gains in latency", style="bold")]
        found += [Text(line.text, style=_COLOURS[line.kind]) for line in lines]
    if failed := [cell for cell in cells if not cell.finished]:
        found += ["", Text("failed", style="bold red")]
        found += [Text(failure(cell), style="red") for cell in failed]
    return found


def failure(cell: Cell) -> str:
    """A failed cell, how it ended and why."""
    status = str(cell.record.status).replace("_", " ")
    return f"{cell.label}: {status}: {cell.record.reason}"


def _heading(family: Family) -> Text:
    """Modality, and what all cells of the table share."""
    from rich.text import Text

    return Text.assemble((family.modality, "bold"), "  ", (", ".join(family.shared), "cyan"))


def columns(family: Family) -> list[Column]:
    """The columns that hold at least one number or what it lacks, in the order of the table."""
    every = (
        Column(measure=LATENCY, head="p50\nms", priority=100, of=_latency),
        Column(measure="latency_p95_ms", head="p95\nms", priority=70, of=_p95),
        Column(
            measure="throughput_items_per_s",
            head=f"{family.item}\nper s",
            priority=80,
            of=_plain("throughput_items_per_s"),
        ),
        Column(
            measure="largest_batch", head="largest\nbatch", priority=78, of=_count("largest_batch")
        ),
        Column(measure="best_batch", head="best\nbatch", priority=76, of=_count("best_batch")),
        Column(
            measure="decode_ms_per_token",
            head="ms per\ntoken",
            priority=65,
            of=_plain("decode_ms_per_token"),
        ),
        Column(
            measure="generated_tokens_per_s",
            head="tokens\nper s",
            priority=60,
            of=_plain("generated_tokens_per_s"),
        ),
        Column(measure="real_time_factor", head="RTF", priority=75, of=_plain("real_time_factor")),
        Column(
            measure="peak_memory_bytes",
            head="peak\nMB",
            priority=85,
            of=_plain("peak_memory_bytes", 1e6),
        ),
        Column(measure="model_bytes", head="model\nMB", priority=40, of=_plain("model_bytes", 1e6)),
        Column(measure="macs", head="GMACs", priority=50, of=_plain("macs", 1e9)),
        Column(measure="utilisation", head="of\npeak", priority=30, of=_share("utilisation")),
        Column(
            measure="energy_per_item_j",
            head="J per\nitem",
            priority=45,
            of=_plain("energy_per_item_j"),
        ),
        Column(measure="relative_error", head="error", priority=68, of=_error),
    )
    lacks = any(cell.lacking("p95") for cell in family.cells)
    always = {LATENCY, "latency_p95_ms"} if lacks else {LATENCY}
    return [c for c in every if family.has(c.measure) or c.measure in always]


def _latency(cell: Cell) -> str:
    m = cell.latency
    return UNKNOWN if m is None or m.value is None else with_interval(m.value, m.low, m.high)


def _p95(cell: Cell) -> str:
    lacking = cell.lacking("p95")
    return f"+{lacking} calls" if lacking else _plain("latency_p95_ms")(cell)


def _plain(name: str, divisor: float = 1.0) -> Callable[[Cell], str]:
    def of(cell: Cell) -> str:
        value = cell.value(name)
        return UNKNOWN if value is None else figures(value / divisor)

    return of


def _count(name: str) -> Callable[[Cell], str]:
    def of(cell: Cell) -> str:
        value = cell.value(name)
        return UNKNOWN if value is None else f"{value:,.0f}"

    return of


def _share(name: str) -> Callable[[Cell], str]:
    def of(cell: Cell) -> str:
        value = cell.value(name)
        return UNKNOWN if value is None else share(value)

    return of


def _error(cell: Cell) -> str:
    value = cell.value("relative_error")
    if value is None:
        return UNKNOWN
    return f"{error(value)} !" if cell.changed_answer else error(value)


def _fitting_table(family: Family, width: int) -> Table:
    """The table; a narrow terminal gets fewer columns, never fewer rows."""
    from rich.console import Console
    from rich.measure import Measurement

    console = Console(width=1000, file=io.StringIO())
    chosen = columns(family)
    while True:
        table = _table(family, chosen)
        needed = Measurement.get(console, console.options, table).maximum
        if needed <= width or len(chosen) == 1:
            return table
        chosen.remove(min(chosen, key=lambda column: column.priority))


def _table(family: Family, chosen: Sequence[Column]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("model", overflow="fold")
    for dimension in family.varying:
        number = dimension.name not in {"device", "precision", "backend", "weights", "isolation"}
        justify: JustifyMethod = "right" if number else "left"
        table.add_column(dimension.head, justify=justify, overflow="fold")
    for column in chosen:
        table.add_column(column.head, justify="right", no_wrap=True)
    table.add_column("verdict", overflow="fold")
    for cell in family.cells:
        values = [dimension.of(cell.record) for dimension in family.varying]
        table.add_row(
            Text(cell.name, style="bold cyan"),
            *(Text(UNKNOWN if value is None else str(value)) for value in values),
            *(Text(column.of(cell), style=_style(column, cell)) for column in chosen),
            _verdict(cell),
        )
    return table


def _style(column: Column, cell: Cell) -> str:
    m = cell.get(column.measure)
    return "dim" if m is None or m.value is None or m.verdict is not Verdict.VALID else "default"


def _verdict(cell: Cell) -> Text:
    """May it be quoted, and on a line of its own an answer that changed."""
    from rich.text import Text

    colour = "green" if cell.verdict is Verdict.VALID else "yellow"
    text = Text("" if cell.verdict is None else str(cell.verdict), style=colour)
    if cell.changed_answer:
        text.append("\nOTHER ANSWER" if text else "OTHER ANSWER", "bold red")
    return text


def _note_line(note: Note, cells: int) -> Text:
    """`UNSTABLE  the interval spans 5.1 % ... (bert, vit)`."""
    from rich.text import Text

    head = f"{note.verdict}" if note.verdict is not None else "unknown"
    told = f" {', '.join(note.measures)}: {note_text(note, cells)}"
    return Text.assemble((head, "yellow"), told)


def note_text(note: Note, cells: int) -> str:
    """The reason and the cells that it concerns, of so many in all."""
    if len(note.cells) == cells:
        whom = "all cells" if cells > 1 else ""
    elif len(note.cells) <= MOST_NAMED:
        whom = ", ".join(note.cells)
    else:
        whom = f"{', '.join(note.cells[:MOST_NAMED])} and {len(note.cells) - MOST_NAMED} more"
    return f"{note.text} ({whom})" if whom else note.text


def _remarks(cells: Sequence[Cell]) -> list[str]:
    """What the table's signs mean, and what came before the first sample, on a line each."""
    lines = []
    if any(cell.lacking("p95") for cell in cells):
        lines.append("p95: so many more calls are needed to tell it; give it time with --budget")
    if any(cell.changed_answer for cell in cells):
        lines.append("OTHER ANSWER: the output differs from fp32 eager's by more than is tolerated")
    started = []
    for name, title in (("load_s", "load"), ("first_call_ms", "first call")):
        values = [value for cell in cells if (value := cell.value(name)) is not None]
        if values:
            started.append(f"{title} {span(values, MEASURES[name].unit)}")
    return [*lines, *([", ".join(started)] if started else [])]


def detailed(cells: Sequence[Cell], gains: Sequence[Speedup], suites: Sequence[Suite] = ()) -> str:
    """Everything in plain text: the tables, then every number of every cell with its reason."""
    from rich.console import Console

    target = Console(file=io.StringIO(), width=DETAIL_WIDTH, color_system=None)
    target.print("candlemark: inference", highlight=False)
    target.print("=" * 21, highlight=False)
    target.print(answer(cells), markup=False, highlight=False)
    for part in parts(cells, gains, width=DETAIL_WIDTH):
        target.print(part)
    lines = ["", "All numbers (95 % intervals)"]
    for cell in cells:
        lines += ["", f"  {cell.label}", *(f"    {line}" for line in _numbers(cell))]
    lines += config_lines(suites)
    target.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)
    file = target.file
    text = file.getvalue() if isinstance(file, io.StringIO) else ""
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"


def _numbers(cell: Cell) -> list[str]:
    if not cell.finished:
        return [failure(cell)]
    lines = []
    for m in sorted(cell.record.measurements, key=lambda m: _place(m.name)):
        title = MEASURES[m.name].title if m.name in MEASURES else m.name
        doubt = "" if m.verdict is Verdict.VALID else f" {m.verdict}"
        count = "" if m.sample_count is None else f", n = {m.sample_count}"
        reason = f"  ({m.reason})" if m.reason else ""
        lines.append(f"{title:<18} {measured(m)}{doubt}{count}{reason}")
    return lines


def _place(name: str) -> int:
    names = list(MEASURES)
    return names.index(name) if name in names else len(names)
