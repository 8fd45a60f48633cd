"""A card that people and candlemark write together: `README.md` with its front matter.

    card = Card(name="model", data={"license": "mit"}, body="# A model")
    text = merge(existing, card)          # existing: what stands there now, None where nothing does
    merge(text, card) == text             # writing again changes nothing

What candlemark writes stands between two lines, and only what stands there is ever replaced:

    <!-- candlemark:begin model -->
    ...
    <!-- candlemark:end model -->

The front matter is YAML, where the same two lines are comments. A key that a person wrote
outside of them is the person's: it is kept as it is, and candlemark leaves its own out. The one
exception is `model-index`, the evaluation results: numbers of this model are replaced wherever
they stand, those of others are kept. Every other byte of the file stays: order, comments, line
ends, a byte-order mark.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from candlemark.errors import HubError

README = "README.md"
RESULTS_KEY = "model-index"

_FRONT = re.compile(r"\A(\s*---[ \t\r]*\n)(.*?)(^---[ \t\r]*(?:\n|\Z))", re.DOTALL | re.MULTILINE)
_YAML_BEGIN = (
    "# candlemark:begin (written by candlemark; a key of yours goes outside of these lines)"
)
_YAML_END = "# candlemark:end"
_YAML_BEGINS = re.compile(r"# candlemark:begin\b")
_KEY = re.compile(r"[\w'\"]")
_LINES = re.compile(r"[^\n]*\n|[^\n]+")  # splitlines would also part at signs that YAML keeps
_BYTE_ORDER_MARK = "\ufeff"


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """What candlemark has to say in a `README.md`.

    name: of the part, so that several can stand in one file: dataset, model, benchmark
    body: Markdown
    data: front matter by key, in order (YAML types); empty leaves the front matter alone
    """

    name: str
    body: str
    data: Mapping[str, Any] = field(default_factory=dict)

    def to_text(self) -> str:
        """A file that holds nothing else."""
        return merge(None, self)


def merge(existing: str | None, card: Card, *, where: str = README) -> str:
    """The text of the file with `card` in it, between its lines.

    existing: the whole file as it is, None where there is none. A file without the lines keeps
        all it says, and the card follows it.
    where: what the file is called in messages

    Raises HubError: a line that begins or ends the part is missing or stands there twice; the
    front matter is not a YAML mapping.
    """
    text = existing or ""
    mark, text = (_BYTE_ORDER_MARK, text[1:]) if text.startswith(_BYTE_ORDER_MARK) else ("", text)
    crlf = "\r\n" in text and text.count("\r\n") == text.count("\n")
    text = text.replace("\r\n", "\n") if crlf else text
    opening, front, closing, body = _split(text)
    if card.data:
        front = _merge_front(front, card.data, where)
        opening, closing = opening or "---\n", closing or "---\n"
    if not closing.endswith("\n"):
        closing = f"{closing}\n" if closing else ""
    block = _block(card)
    place = _place(body, card.name, where)
    if place is not None:
        body = body[: place[0]] + block + body[place[1] :]
    elif body.strip():
        body = f"{body}{'' if body.endswith(chr(10)) else chr(10)}\n{block}"
    else:
        body = f"{chr(10) if closing else ''}{block}"
    text = f"{opening}{front}{closing}{body}"
    return mark + (text.replace("\n", "\r\n") if crlf else text)


def _split(text: str) -> tuple[str, str, str, str]:
    """Opening fence, YAML, closing fence and the rest; the first three empty without a fence."""
    found = _FRONT.match(text)
    return (
        ("", "", "", text) if found is None else (found[1], found[2], found[3], text[found.end() :])
    )


def front_matter(text: str, *, where: str = README) -> dict[str, Any]:
    """The front matter as a mapping, empty where there is none.

    Raises HubError: it is not a YAML mapping.
    """
    return _parse(_split(text.removeprefix(_BYTE_ORDER_MARK).replace("\r\n", "\n"))[1], where)


def without_front_matter(text: str) -> str:
    """The text that follows the front matter."""
    return _split(text.removeprefix(_BYTE_ORDER_MARK).replace("\r\n", "\n"))[3]


def begin_line(name: str) -> str:
    """The line that a part begins with."""
    return f"<!-- candlemark:begin {name} -->"


def end_line(name: str) -> str:
    """The line that a part ends with."""
    return f"<!-- candlemark:end {name} -->"


def _block(card: Card) -> str:
    # A line of the text that ends the part would cut it in two.
    body = card.body.replace("<!-- candlemark:", "<!-- candlemark :").strip("\n")
    return f"{begin_line(card.name)}\n{body}\n{end_line(card.name)}\n"


def _place(body: str, name: str, where: str) -> tuple[int, int] | None:
    """Where the part stands, from the first sign of its first line to after its last."""
    begins = _lines_at(body, begin_line(name))
    ends = _lines_at(body, end_line(name))
    if not begins and not ends:
        return None
    if len(begins) != 1 or len(ends) != 1 or ends[0][0] < begins[0][0]:
        raise HubError(
            f"{where} has {len(begins)} lines '{begin_line(name)}' and {len(ends)} lines "
            f"'{end_line(name)}'; there must be one of each, in this order: mend the file, or "
            "remove those lines and what is between them"
        )
    return begins[0][0], ends[0][1]


def _lines_at(text: str, line: str) -> list[tuple[int, int]]:
    """Begin and end of every line that says `line` and nothing else."""
    pattern = re.compile(rf"^{re.escape(line)}[ \t\r]*(?:\n|\Z)", re.MULTILINE)
    return [found.span() for found in pattern.finditer(text)]


def _merge_front(front: str, data: Mapping[str, Any], where: str) -> str:
    """The front matter with `data` in it, as far as its keys are not somebody else's."""
    before, block, after = _parts(front, where)
    theirs, ours = _parse(before + after, where), dict(data)
    if RESULTS_KEY in ours:
        mine = {entry.get("name") for entry in ours[RESULTS_KEY]}
        found = [theirs.pop(RESULTS_KEY, None), _parse(block, where).get(RESULTS_KEY)]
        others = [one for entries in found if isinstance(entries, list) for one in entries]
        kept = [one for one in others if isinstance(one, dict) and one.get("name") not in mine]
        ours[RESULTS_KEY] = [*ours[RESULTS_KEY], *kept]
        before, after = (_without(part, RESULTS_KEY) for part in (before, after))
    ours = {key: value for key, value in ours.items() if key not in theirs}
    merged = f"{before}{_YAML_BEGIN}\n{dump(ours)}{_YAML_END}\n{after}" if ours else before + after
    if _parse(merged, where) != {**theirs, **ours}:
        raise HubError(
            f"the front matter of {where} is written in a way that keys cannot be added to; write "
            "one key a line at its beginning, and try again"
        )
    return merged


def dump(data: Mapping[str, Any]) -> str:
    """A mapping as YAML, its keys in order, no line folded."""
    text = _dump(data, readable=True)
    # The library writes some line ends of Unicode as they are, and does not read them back.
    return text if yaml.safe_load(text) == dict(data) else _dump(data, readable=False)


def _dump(data: Mapping[str, Any], *, readable: bool) -> str:
    return yaml.safe_dump(
        dict(data), sort_keys=False, allow_unicode=readable, width=10_000, default_flow_style=False
    )


def _parts(front: str, where: str) -> tuple[str, str, str]:
    """What stands before our lines of the front matter, between them and after them."""
    lines = _LINES.findall(front)
    begins = [place for place, line in enumerate(lines) if _YAML_BEGINS.match(line)]
    ends = [place for place, line in enumerate(lines) if line.rstrip() == _YAML_END]
    if not begins and not ends:
        return front, "", ""
    if len(begins) != 1 or len(ends) != 1 or ends[0] < begins[0]:
        raise HubError(
            f"the front matter of {where} has {len(begins)} lines '# candlemark:begin' and "
            f"{len(ends)} lines '{_YAML_END}'; there must be one of each, in this order: mend the "
            "file, or remove those lines and what is between them"
        )
    first, last = begins[0], ends[0]
    return "".join(lines[:first]), "".join(lines[first + 1 : last]), "".join(lines[last + 1 :])


def _without(text: str, key: str) -> str:
    """YAML without a key of the top level and what hangs on it."""
    kept, dropping = [], False
    for line in _LINES.findall(text):
        if _KEY.match(line):
            dropping = re.match(rf"['\"]?{re.escape(key)}['\"]?[ \t]*:", line) is not None
        if not dropping:
            kept.append(line)
    return "".join(kept)


def _parse(text: str, where: str) -> dict[str, Any]:
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        first_line = str(error).splitlines()[0]
        raise HubError(
            f"the front matter of {where} is not valid YAML ({first_line}); mend it and try again"
        ) from error
    if value is not None and not isinstance(value, dict):
        raise HubError(
            f"the front matter of {where} holds {type(value).__name__}, not keys and values; "
            "mend it and try again"
        )
    return value or {}
