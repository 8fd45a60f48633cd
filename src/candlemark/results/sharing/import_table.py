"""Tables of measurements from other programs: CSV with a head, or JSON lines.

    model,device,precision,batch_size,name,value,unit
    gpt2,cuda:0,fp16,1,latency_p50_ms,4.81,ms
    gpt2,cuda:0,fp16,1,peak_memory_bytes,310,MiB

One line a measurement (a JSON file may also hold them as one list of objects).

    needed     model, name (a measure or score that candlemark knows), value (empty: unknown)
    number     unit (the measure's own where absent; ms, s, MB, MiB, k, M, ... are converted),
               low, high, level, sample_count, verdict (VALID where absent), reason
    trial      task (inference where absent), device, precision, backend, batch_size,
               sequence_length, seed, started_at (ISO 8601; the file's date where absent),
               duration_s (0 where absent), run
    machine    cpu, gpu, driver, cuda, system, machine, python, threads

Lines that agree in all but name and number are one trial. A column with any other name is kept
as part of the trial, under `columns`, unless it looks like a misspelt one of these.
"""

from __future__ import annotations

import csv
import difflib
import io
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from candlemark.errors import ConfigError, ResultsError
from candlemark.hardware.comparability import comparability_key
from candlemark.records import Measurement, RunRecord, Status, Verdict, content_id
from candlemark.results.units import find_quantity, in_unit_of

_NEEDED = ("model", "name", "value")
_NUMBER = (*("name", "value", "unit", "low", "high", "level", "sample_count", "verdict", "reason"),)
_TRIAL = (
    *("model", "task", "device", "precision", "backend", "batch_size", "sequence_length", "seed"),
)
_RECORD = ("started_at", "duration_s", "run")
_MACHINE = ("cpu", "gpu", "driver", "cuda", "system", "machine", "python", "threads")
_WHOLE = ("batch_size", "sequence_length", "seed", "threads", "sample_count")
_KNOWN = (*_NUMBER, *_TRIAL, *_RECORD, *_MACHINE)

Line = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Incoming:
    """What a file holds of one suite: records, each with the run that it is of."""

    suite_id: str
    started_at: str
    config: Mapping[str, Any]
    plan: tuple[str, ...]
    entries: tuple[tuple[RunRecord, str | None], ...]


def read_table(path: Path) -> list[Incoming]:
    """Read a table as one suite, whose id is the hash of its trials.

    Raises ResultsError: the file is no table, a column is missing or misspelt, or a line does
    not say a number.
    """
    date = datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat(timespec="seconds")
    groups: dict[str, tuple[Line, list[Measurement]]] = {}
    for number, line in _lines(path):
        where = f"{path}, line {number}"
        _check_columns(line, where)
        trial = {
            key: _cell(key, value, where)
            for key, value in line.items()
            if key == "value" or value not in (None, "")
        }
        measured = _measurement(trial, where)
        known = {key: value for key, value in trial.items() if key not in _NUMBER}
        key = content_id({name: str(value) for name, value in known.items()})
        _, numbers = groups.setdefault(key, (known, []))
        if any(one.name == measured.name for one in numbers):
            raise ResultsError(f"{where}: {measured.name} of this trial is there twice")
        numbers.append(measured)
    if not groups:
        raise ResultsError(f"{path} holds no measurement")
    entries = tuple(_record(known, numbers, date) for known, numbers in groups.values())
    ids = tuple(dict.fromkeys(record.trial_id for record, _ in entries))
    return [
        Incoming(
            suite_id=content_id(sorted(ids)),
            started_at=min(record.started_at for record, _ in entries),
            config={"imported": path.name},
            plan=ids,
            entries=entries,
        )
    ]


def _lines(path: Path) -> Iterator[tuple[int, Line]]:
    """Lines as mappings, with their number in the file; of a list, their place in it."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ResultsError(f"{path} is no text in UTF-8") from error
    if path.suffix.lower() == ".csv":
        rows = csv.DictReader(io.StringIO(text))
        for row in rows:
            if None in row or None in row.values():
                raise ResultsError(
                    f"{path}, line {rows.line_num}: it has not as many columns as the head"
                )
            yield rows.line_num, row
        return
    parsed = json.loads(text) if path.suffix.lower() == ".json" else None
    raw = enumerate(parsed if parsed is not None else text.split("\n"), start=1)
    for number, item in raw:
        if isinstance(item, str) and not item.strip():
            continue
        try:
            value = json.loads(item) if parsed is None else item
        except ValueError as error:
            raise ResultsError(f"{path}, line {number} is no JSON: {error}") from error
        if not isinstance(value, dict):
            raise ResultsError(
                f"{path}, line {number} is no object; each line must be one measurement"
            )
        yield number, value


def _check_columns(line: Line, where: str) -> None:
    for name in _NEEDED:
        if name not in line:
            raise ResultsError(f"{where}: no '{name}'; needed: {', '.join(_NEEDED)}")
    for name in line:
        near = difflib.get_close_matches(name, _KNOWN, n=1, cutoff=0.85)
        if name not in _KNOWN and near:
            raise ResultsError(f"{where}: unknown column '{name}'; did you mean '{near[0]}'?")
    if line["model"] in (None, ""):
        raise ResultsError(f"{where}: the model has no name")


def _cell(name: str, value: Any, where: str) -> Any:
    """A cell as its type: whole numbers for counts, text for names, nothing changed else."""
    if name in _WHOLE:
        number = _number(value, name, where)
        if not number.is_integer():
            raise ResultsError(f"{where}: {name} is {value}; it must be a whole number")
        return int(number)
    if name in {"low", "high", "level", "duration_s"}:
        return _number(value, name, where)
    if name == "started_at":
        try:
            datetime.fromisoformat(str(value))
        except ValueError:
            raise ResultsError(
                f"{where}: started_at is {value!r}; it must be like 2025-01-31T12:00:00+00:00"
            ) from None
    return value if name not in _KNOWN or name == "value" else str(value)


def _number(value: Any, name: str, where: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if isinstance(value, bool) or not math.isfinite(number):
        raise ResultsError(f"{where}: {name} is {value!r}; it must be a number")
    return number


def _measurement(line: Line, where: str) -> Measurement:
    try:
        name = _name_of_today(line["name"])
        quantity = find_quantity(name)
        unit = line.get("unit", "")
        numbers = {
            key: None
            if line.get(key) in (None, "")
            else in_unit_of(quantity, _number(line[key], key, where), unit)
            for key in ("value", "low", "high")
        }
        return Measurement(
            name=name,
            unit=quantity.unit,
            level=line.get("level"),
            sample_count=line.get("sample_count"),
            verdict=Verdict(line.get("verdict", Verdict.VALID)),
            reason=line.get("reason") or (None if numbers["value"] is not None else "not given"),
            **numbers,
        )
    except (ConfigError, ValueError, KeyError) as error:
        detail = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise ResultsError(f"{where}: {detail}") from error


def _name_of_today(name: str) -> str:
    """`latency_ms_p50` was a name once."""
    if name.startswith("latency_ms_"):
        return f"latency_{name.removeprefix('latency_ms_')}_ms"
    return name


def _record(known: Line, numbers: list[Measurement], date: str) -> tuple[RunRecord, str | None]:
    other = {key: value for key, value in known.items() if key not in _KNOWN}
    trial: dict[str, Any] = {"task": "inference", "source": "table"}
    trial |= {key: known[key] for key in _TRIAL if key in known}
    trial |= {"columns": other} if other else {}
    machine: dict[str, Any] = {key: known[key] for key in _MACHINE if key in known}
    for key in ("precision", "batch_size"):
        if key in known:
            machine[key] = known[key]
    if "device" in known:
        machine["device"] = str(known["device"]).split(":", maxsplit=1)[0]
    facts: dict[str, Any] = {"row": known["model"], "role": "model", **trial}
    if "started_at" not in known:
        facts["started_at_of_file"] = True
    record = RunRecord(
        trial_id=content_id(trial),
        trial=trial,
        status=Status.OK,
        started_at=known.get("started_at", date),
        duration_s=known.get("duration_s", 0.0),
        measurements=tuple(numbers),
        facts=facts,
        environment={**machine, "comparability_key": comparability_key(machine)},
    )
    return record, known.get("run")
