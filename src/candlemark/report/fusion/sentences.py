"""The answers of a study of fusion in sentences.

    for finding in findings(study):
        finding.title, finding.text     # "Does the text help?", "For the class yes: AUROC ..."
    headline(study)                     # "the text helps; the pixels are not shown to help; ..."

"Not shown" is not "no": the test slice may be too short to show a small help. The interval says how
large a help it leaves open.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from candlemark.report.format import listed, p_value, short
from candlemark.report.fusion.questions import QUESTIONS, Answer, Study, Verdict

_OF = {"auroc": "the class", "mase": "the next close"}
COMPARE = "candlemark fuse compare"
_DECIMALS = {"auroc": 3, "mase": 4}  # a MASE moves less: a forecast of prices gains by thousandths
_PHRASES = {
    "text": (
        "the text helps",
        "the text makes it worse",
        "the text is not shown to help",
        "whether the text helps is not answered",
    ),
    "pixels": (
        "the pixels help",
        "the pixels make it worse",
        "the pixels are not shown to help",
        "whether the pixels help is not answered",
    ),
    "numbers": (
        "{who} {beat} the numbers",
        "{who} {are} worse than the numbers",
        "{who} {are} not shown to beat the numbers",
        "whether {who} {beat} the numbers is not answered",
    ),
    "persistence": (
        "{who} {beat} persistence",
        "{who} {are} worse than persistence",
        "{who} {are} not shown to beat persistence",
        "whether {who} {beat} persistence is not answered",
    ),
}
"""For each question: yes, worse, not shown, not answered."""
_VERBS = {True: {"beat": "beat", "are": "are"}, False: {"beat": "beats", "are": "is"}}
"""Of several and of one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A question and its answer."""

    title: str
    text: str


def findings(study: Study) -> tuple[Finding, ...]:
    """Every question, with one sentence for each row that it was asked of."""
    found = []
    for question, title in QUESTIONS.items():
        answers = study.of(question)
        if study.answers and not answers:
            continue
        rows = _rows(answers)
        texts = [_sentence([a for a in answers if a.row == row]) for row in rows]
        if len(rows) > 1 and len(set(texts)) > 1:
            texts = [f"{short(row)}: {text}" for row, text in zip(rows, texts, strict=True)]
        text = " ".join(dict.fromkeys(texts)) or "Not answered: no row was shown text or image."
        found.append(Finding(title=title, text=text))
    return tuple(found)


def headline(study: Study) -> str:
    """All answers in one sentence without a full stop, to stand after a name."""
    if all(answer.verdict == "not answered" for answer in study.answers):
        return "nothing could be compared"
    asked = [question for question in QUESTIONS if study.of(question)]
    clauses = [_clause(question, study) for question in asked]
    if all(answer.not_run for answer in (*study.of("text"), *study.of("pixels"))):
        clauses = [
            *([] if study.walk else [f"for what text and pixels add, run: {COMPARE}"]),
            *(
                _clause(question, study)
                for question in asked
                if question in {"numbers", "persistence"}
            ),
        ]
    stem = clauses[-2].removesuffix("the numbers") if len(clauses) > 1 else ""
    if stem and f"{stem}persistence" == clauses[-1]:
        joint = "or" if " not " in stem else "and"
        clauses = [*clauses[:-2], f"{clauses[-2]} {joint} persistence"]
    return "; ".join(clauses)


def alarm(study: Study) -> str | None:
    """What must not be found: help on a random walk, or more than can be attained; else None."""
    if study.too_good:
        return (
            "Above what can be attained from what is shown, so something leaks: "
            f"{listed(study.too_good)}."
        )
    asked = dict.fromkeys(QUESTIONS[answer.question] for answer in study.found)
    if not asked or not study.walk:
        return None
    questions = " ".join(asked)
    return f"On the random walk, where nothing can help, yes was found ({questions}): it leaks."


def attainable(study: Study) -> str | None:
    """What each row could reach at best, on a market that was made; None on others."""
    if not study.attainable:
        return None
    known = [f"{short(row)} {value:.3f}" for row, value in study.attainable.items()]
    return f"AUROC that nothing shown these inputs can exceed: {', '.join(known)}."


def effect(answer: Answer) -> str:
    """`AUROC +0.052 over image only [+0.021, +0.083], p < 0.001`."""
    found = answer.difference
    if found is None or found.value is None or answer.other is None:
        return answer.reason or "not compared"
    name = answer.metric.upper()
    value = signed(found.value, answer.metric)
    text = f"{name} {value} against {bare(answer.other)}"
    if found.low is not None and found.high is not None:
        low, high = (signed(end, answer.metric) for end in (found.low, found.high))
        text += f" [{low}, {high}]"
    text = f"{text}, {p_value(answer.p_value)}" if answer.p_value is not None else text
    return f"{text}; {answer.reason}" if answer.reason else text


def signed(value: float, metric: str) -> str:
    """A difference with its sign, at the precision that its measure bears."""
    text = f"{value:+.{_DECIMALS[metric]}f}"
    # A difference that rounds to nothing has no direction.
    return text if float(text) else f"{0.0:.{_DECIMALS[metric]}f}"


def bare(name: str) -> str:
    """A row's name, a baseline's without the word that says so."""
    return short(name).split(": ", 1)[-1] if name.startswith("baseline: ") else short(name)


def _sentence(answers: Sequence[Answer]) -> str:
    """What one question found for one row, over its measures."""
    if all(answer.verdict == "not answered" for answer in answers):
        reasons = list(dict.fromkeys(effect(answer) for answer in answers))
        return f"Not answered: {'; '.join(reasons)}."
    verdicts = [answer.verdict for answer in answers]
    if len(answers) > 1 and len(set(verdicts)) == 1:
        parts = [f"for {_OF[answer.metric]} {effect(answer)}" for answer in answers]
        return f"{_word(verdicts[0]).capitalize()}: {'; '.join(parts)}."
    parts = [
        f"for {_OF[answer.metric]} {_word(answer.verdict)}: {effect(answer)}" for answer in answers
    ]
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


def _word(verdict: Verdict) -> str:
    return "no, it is worse" if verdict == "worse" else verdict


def _clause(question: str, study: Study) -> str:
    """One question in a few words."""
    answers = study.of(question)
    verdicts = _by_measure(answers)
    of: dict[Verdict, list[str]] = {
        wanted: [metric for metric, verdict in verdicts.items() if verdict == wanted]
        for wanted in ("yes", "worse", "not shown")
    }
    # Of single inputs, those are the subject of which the sentence is true.
    rows = _rows([a for a in answers if a.verdict == "yes"]) or _rows(answers)
    who = "together they" if study.together else listed(rows) if rows else "they"
    verbs = _VERBS[study.together or len(rows) != 1]
    helps, harms, unshown, unanswered = (
        phrase.format(who=who, **verbs) for phrase in _PHRASES[question]
    )
    if of["yes"]:
        rest = ""
        if of["worse"]:
            rest = f", and {harms.split(' ', 2)[-1]} for {_named(of['worse'])}"
        elif of["not shown"]:
            rest = f", not shown for {_named(of['not shown'])}"
        return helps + _helped(answers, of["yes"], () if study.together else rows) + rest
    told, text = (of["worse"], harms) if of["worse"] else (of["not shown"], unshown)
    if not told:
        return unanswered
    return text + (f" for {_named(told)}" if len(told) < len(_OF) else "")


def _helped(answers: Sequence[Answer], metrics: Sequence[str], subject: Sequence[str]) -> str:
    """By which measures a yes is true, and of which rows, where not of all or of the subject."""
    places: dict[tuple[str, ...], list[str]] = {}
    for metric in metrics:
        asked = [a for a in answers if a.metric == metric and a.verdict != "not answered"]
        helped = _rows([a for a in asked if a.verdict == "yes"])
        all_of_them = len(helped) == len(asked) or helped == list(subject)
        places.setdefault(() if all_of_them else tuple(helped), []).append(metric)
    parts = [
        (f" with {listed(rows)}" if rows else "")
        + (f" for {_named(named)}" if len(named) < len(_OF) else "")
        for rows, named in places.items()
    ]
    return ",".join(parts)


def _named(metrics: Sequence[str]) -> str:
    return listed([_OF[metric] for metric in metrics])


def _by_measure(answers: Sequence[Answer]) -> dict[str, Verdict]:
    """The best that any row reached, which the correction over all rows allows to be picked."""
    order: tuple[Verdict, ...] = ("yes", "not shown", "worse", "not answered")
    measures = dict.fromkeys(answer.metric for answer in answers)
    return {
        metric: min((a.verdict for a in answers if a.metric == metric), key=order.index)
        for metric in measures
    }


def _rows(answers: Sequence[Answer]) -> list[str]:
    return list(dict.fromkeys(answer.row for answer in answers))
