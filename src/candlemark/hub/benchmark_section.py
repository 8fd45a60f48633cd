"""The section of a card that says what a benchmark found: table, method, date, device; and badges.

    found = benchmark_section(results, repo_id="me/model", kind="model", endpoint=PUBLIC)
    found.card.body, found.badges, found.csv

All numbers come from the results store through the report's own tables, so a card says what
`candlemark report` says. No clock is read: the date is that of the measurements.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from candlemark.hub.badges import Badge, Colour
from candlemark.hub.cards import Card
from candlemark.hub.markdown import FORECASTS, UNKNOWN, code, count, escaped, interval, table, title
from candlemark.records import Measurement, RunRecord, Verdict
from candlemark.report.contests import Contest, hold
from candlemark.report.format import quantity, short
from candlemark.report.fusion.questions import ask
from candlemark.report.fusion.sentences import alarm, attainable, findings
from candlemark.report.inference.cells import Cell, Family, build_cells, families
from candlemark.report.inference.cells import answer as cells_answer
from candlemark.report.recommendations import answer
from candlemark.report.statistics import LEVEL, PRIMARY, Board, Row, build_boards
from candlemark.report.text import standing
from candlemark.results.naming import SCORED_TASKS, task_of
from candlemark.results.sharing.suites import records_to_csv

PUBLIC = "https://huggingface.co"
BADGES = "badges"
"""Folder of the badges in a repository."""

CSV = "benchmark/results.csv"
"""Every trial and measurement, one line a trial."""

_SCORES = (PRIMARY, "accuracy", *FORECASTS)
_COSTS = ("training_time_s", "latency_p50_ms", "parameters")
_SPEEDS = ("latency_p50_ms", "latency_p95_ms", "throughput_items_per_s", "peak_memory_bytes")
_URL_PREFIX = {"model": "", "dataset": "datasets/", "space": "spaces/"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A benchmark, ready to be put into a repository."""

    card: Card
    badges: tuple[Badge, ...]
    csv: str


def benchmark_section(
    records: Sequence[RunRecord], *, repo_id: str, kind: str = "model", endpoint: str = PUBLIC
) -> Section:
    """The section for a repository of a kind (model, dataset, space)."""
    boards = build_boards([one for one in records if task_of(one) in SCORED_TASKS])
    cells = build_cells(records)
    badges = (*_board_badges(boards), *_cell_badges(cells))
    sections = ["## Benchmark"]
    if badges:
        sections.append(" ".join(f"![{escaped(b.label)}]({BADGES}/{b.name}.svg)" for b in badges))
    sections += [escaped(answer(boards))] if boards else []
    sections += [escaped(cells_answer(cells))] if cells else []
    for board in boards:
        sections += _board(board, hold(board))
    for family in families(cells):
        sections += _family(family)
    sections += _failures(records)
    sections += ["### Method", _method(boards, cells), _when_and_where(records)]
    sections += _elsewhere(badges, repo_id, kind, endpoint)
    card = Card(name="benchmark", body="\n\n".join(sections) + "\n")
    return Section(card=card, badges=badges, csv=records_to_csv(records))


def _board(board: Board, contest: Contest) -> list[str]:
    """Heading and leaderboard of one question."""
    names = {name for row in board.rows for name, m in row.scores.items() if m.value is not None}
    scores = [name for name in _SCORES if name in names]
    costs = [name for name in _COSTS if name in names]
    units = {m.name: m for row in board.rows for m in row.scores.values()}
    against = "against chance" if board.market == "random_walk" else "against the controls"
    lines = [
        (
            escaped(row.name),
            row.role,
            row.weights or "",
            *(interval(row.scores.get(name)) for name in scores),
            *(_cost(row, name) for name in costs),
            escaped(standing(row, board, contest)),
        )
        for row in board.rows
        if row.records
    ]
    heads = ["row", "role", "weights", *(title(units[name]) for name in (*scores, *costs)), against]
    facts = [f"**{board.label_kind}**" if board.is_recognition else board.label_kind]
    if board.is_recognition:
        facts.append("the answer is visible in the picture, so no score is a prediction")
    if board.leaky_split:
        facts.append("**the split is random and leaks, so no score means anything**")
    if board.attainable_auroc is not None:
        facts.append(f"attainable AUROC {board.attainable_auroc:.3f}")
    return [
        f"### {escaped(board.title)}",
        f"{_capital('; '.join(facts))}.",
        table(heads, lines, right=range(3, 3 + len(scores) + len(costs))),
        *(_inputs(board) if board.is_fusion else []),
    ]


def _inputs(board: Board) -> list[str]:
    """What text and pixels add, and what cannot be right."""
    study = ask(board)
    answers = [f"- **{one.title}** {escaped(one.text)}" for one in findings(study)]
    notes = [attainable(study), alarm(study)]
    return ["\n".join(answers), *(escaped(note) for note in notes if note is not None)]


def _cost(row: Row, name: str) -> str:
    m = row.scores.get(name)
    if m is None:
        return ""
    text = quantity(name, m.value)
    return text if m.value is None or m.verdict is Verdict.VALID else f"{text} {m.verdict}"


def _family(family: Family) -> list[str]:
    """Speed and memory of the models of one modality."""
    names = [name for name in _SPEEDS if family.has(name)]
    lines = [
        (escaped(cell.label), *(_speed(cell.get(name)) for name in names), str(cell.verdict or ""))
        for cell in family.cells
    ]
    shared = f" ({', '.join(escaped(text) for text in family.shared)})" if family.shared else ""
    measured = {m.name: m for cell in family.cells for m in cell.record.measurements}
    heads = ["model", *(title(measured[name]) for name in names), "verdict"]
    return [
        f"### Inference: {escaped(family.modality)}{shared}",
        table(heads, lines, right=range(1, 1 + len(names))),
    ]


def _speed(m: Measurement | None) -> str:
    if m is None or m.value is None:
        return UNKNOWN
    text = quantity(m.name, m.value)
    if m.low is not None and m.high is not None:
        text += f" [{quantity(m.name, m.low)}, {quantity(m.name, m.high)}]"
    return text


def _failures(records: Sequence[RunRecord]) -> list[str]:
    """Trials that failed are told, not left out."""
    failed = [one for one in records if one.reason is not None and str(one.status) != "ok"]
    if not failed:
        return []
    lines = [
        (escaped(str(one.facts.get("row") or one.trial_id)), str(one.status), escaped(one.reason))
        for one in failed
    ]
    return [
        f"{_capital(count(len(failed), 'trial'))} failed:",
        table(("row", "how", "why"), lines),
    ]


_BOARDS_METHOD = (
    f"Brackets hold {LEVEL * 100:g} % intervals from a bootstrap of blocks at least as long as a "
    "window and its horizon, so that neighbouring windows do not pass for independent ones. A "
    "model beats the controls if it beats every baseline and control in a paired test on the same "
    "cases, corrected by Holm over the models; what cannot be told apart is called tied."
)
_WALK_METHOD = "On the random walk every honest interval holds chance."
_CELLS_METHOD = (
    "Latency is the time of one call with the device waited for; throughput is measured by "
    "itself, with calls queued. A number whose verdict is not VALID may not be quoted."
)


def _method(boards: Sequence[Board], cells: Sequence[Cell]) -> str:
    parts = ["Measured with candlemark."]
    if boards:
        parts.append(_BOARDS_METHOD)
    if any(board.market == "random_walk" for board in boards):
        parts.append(_WALK_METHOD)
    if cells:
        parts.append(_CELLS_METHOD)
    return " ".join(parts)


def _when_and_where(records: Sequence[RunRecord]) -> str:
    dates = sorted({one.started_at[:10] for one in records})
    when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    devices = dict.fromkeys(
        str(device) for one in records if (device := _device(one.environment)) is not None
    )
    where = " and ".join(escaped(device) for device in devices) or "not recorded"
    lines = [("date", when), ("device", where), ("every trial", code(CSV))]
    versions = {
        f"{name} {version}"
        for one in records
        for name, version in (one.environment.get("packages") or {}).items()
        if version
    }
    if versions:
        lines.append(("versions", escaped(", ".join(sorted(versions)))))
    return table(("", ""), lines)


def _device(environment: object) -> str | None:
    """The processor that did the work: the GPU where it was used, else the CPU."""
    if not isinstance(environment, dict):
        return None
    device = environment.get("device")
    if isinstance(device, dict):
        device = device.get("name") or device.get("kind")
    on_gpu = device not in (None, "cpu") and environment.get("gpu")
    found = environment.get("gpu") if on_gpu else environment.get("cpu") or device
    return None if found is None else str(found)


def _board_badges(boards: Sequence[Board]) -> list[Badge]:
    """The best model of the board that stands first, and what kind of label that is."""
    board = next((one for one in boards if one.models), None)
    if board is None:
        return []
    best = board.models[0]
    m = best.scores[PRIMARY]
    said = UNKNOWN if m.value is None else f"{m.value:.3f}"
    if m.low is not None and m.high is not None:
        said += f" [{m.low:.2f}, {m.high:.2f}]"
    colour: Colour = "yellow" if board.is_recognition else "blue"
    kind = Badge(name="label", label=board.label, message=board.label_kind, colour=colour)
    if board.leaky_split:
        said, colour = f"{said}, leaky split", "red"
    elif not board.is_recognition:
        won = best.name in hold(board).winners
        said, colour = (said, "green") if won else (f"{said}, no better than controls", "grey")
    return [
        Badge(name="auroc", label=f"AUROC {short(best.name)}", message=said, colour=colour),
        kind,
    ]


def _cell_badges(cells: Sequence[Cell]) -> list[Badge]:
    """The fastest latency that may be quoted."""
    timed = [
        (m.value, cell)
        for cell in cells
        if cell.quotable and (m := cell.latency) is not None and m.value is not None
    ]
    if not timed:
        return []
    value, cell = min(timed, key=lambda pair: pair[0])
    name = short(cell.name)
    message = f"{quantity('latency_p50_ms', value)} {name}"
    return [Badge(name="latency", label="latency p50", message=message, colour="blue")]


def _elsewhere(badges: Sequence[Badge], repo_id: str, kind: str, endpoint: str) -> list[str]:
    """What to paste into another page to show the same badges there."""
    if not badges:
        return []
    page = f"{endpoint.rstrip('/')}/{_URL_PREFIX.get(kind, '')}{repo_id}"
    lines = [
        f"[![{badge.label}](https://img.shields.io/endpoint?url="
        f"{quote(f'{page}/resolve/main/{BADGES}/{badge.name}.json', safe='')})]({page})"
        for badge in badges
    ]
    return [
        "The same badges elsewhere, for as long as this repository is public:",
        "\n".join(("```markdown", *lines, "```")),
    ]


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
