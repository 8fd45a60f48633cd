"""What is different between two snapshots of the same queries.

    changes = compare(before, after)
    changes.news          # more than counts that move every day

A model that a later search no longer found may still be there, beyond the limit of its queries;
that is what it says.
"""

from __future__ import annotations

from collections.abc import Sequence

from candlemark.report.leaderboard.board import Change, Changes, Section, Trend
from candlemark.report.leaderboard.words import NONE_CLAIMED, claim_text, count, gated_cell
from candlemark.results.tracked import Snapshot, TrackedModel

_MOST_CLAIMS = 3
MOVED = 0.1
"""Downloads that changed by less are not worth a line."""


def firsts(before: Sequence[Section], after: Sequence[Section]) -> list[Change]:
    """Tasks for which another model is recommended first."""
    old = {section.task: _first(section) for section in before}
    found = []
    for section in after:
        was, now = old.get(section.task), _first(section)
        if was != now:
            text = f"is recommended first for {section.title}, in place of {was or 'none'}"
            if now is None:
                text = f"no model is recommended for {section.title} any more"
            found.append(Change(model=now or str(was), kind="first", text=text))
    return found


def _first(section: Section) -> str | None:
    return section.recommended[0].model.id if section.recommended else None


def compare(before: Snapshot, after: Snapshot, first: Sequence[Change] = ()) -> Changes:
    """All differences; models in the order of the later snapshot, then those that have gone.

    first: what goes before them, as `firsts` finds it
    """
    old = {model.id: model for model in before.models}
    new = {model.id: model for model in after.models}
    items: list[Change] = list(first)
    for model in after.models:
        if model.id not in old:
            found = ", ".join(model.found_by)
            items.append(Change(model=model.id, kind="new", text=f"found by {found}"))
        else:
            items += _of_model(old[model.id], model)
    items += [
        Change(
            model=name,
            kind="gone",
            text="no longer found: removed, renamed, or beyond the limit of its queries",
        )
        for name in old
        if name not in new
    ]
    return Changes(before=before.taken_at, after=after.taken_at, items=tuple(items))


def _of_model(old: TrackedModel, new: TrackedModel) -> list[Change]:
    claims = _claims(old, new)
    pairs = (
        ("licence", old.license or "none stated", new.license or "none stated"),
        ("gated", gated_cell(old), gated_cell(new)),
        ("task", old.task or "none", new.task or "none"),
        ("size", count(old.parameters), count(new.parameters)),
    )
    found = [Change(model=new.id, kind="claims", text=claims)] if claims else []
    found += [
        Change(model=new.id, kind=kind, text=f"{was} -> {now}")
        for kind, was, now in pairs
        if was != now
    ]
    if old.commit and new.commit and old.commit != new.commit:
        text = f"commit {old.commit[:7]} -> {new.commit[:7]} of {new.last_modified or 'no date'}"
        found.append(Change(model=new.id, kind="files", text=text))
    if old.disabled != new.disabled:
        text = "disabled by the Hub" if new.disabled else "enabled again"
        found.append(Change(model=new.id, kind="gated", text=text))
    numbers = _numbers(old, new)
    return [*found, Change(model=new.id, kind="numbers", text=numbers)] if numbers else found


def _claims(old: TrackedModel, new: TrackedModel) -> str:
    """What only one of them claims: some claim hundreds of results, of which one changes."""
    was, now = ({claim_text(claim) for claim in model.claims} for model in (old, new))
    gone, come = _few(was - now), _few(now - was)
    if was == now:
        return ""
    if was and now and not gone:
        return f"also {come}"
    if was and now and not come:
        return f"no longer {gone}"
    return f"{gone or NONE_CLAIMED} -> {come or NONE_CLAIMED}"


def _few(texts: set[str]) -> str:
    more = f" and {len(texts) - _MOST_CLAIMS} more" if len(texts) > _MOST_CLAIMS else ""
    return "; ".join(sorted(texts)[:_MOST_CLAIMS]) + more


def _numbers(old: TrackedModel, new: TrackedModel) -> str:
    """Counts that moved, where they moved by enough to be worth a line."""
    parts = []
    for title, was, now in (
        ("downloads", old.downloads, new.downloads),
        ("likes", old.likes, new.likes),
    ):
        if was is None or now is None or abs(now - was) <= MOVED * was:
            continue
        share = f" ({now / was - 1:+.0%})" if was else ""
        parts.append(f"{title} {was:,} -> {now:,}{share}")
    return ", ".join(parts)


def trends_of(before: Snapshot | None, after: Snapshot) -> dict[str, Trend]:
    """How downloads of each model have changed since an earlier snapshot."""
    if before is None or before.number == after.number != 0:
        return {}
    old = {model.id: model.downloads for model in before.models}
    found = {}
    for model in after.models:
        was = old.get(model.id)
        if was is not None and model.downloads is not None:
            found[model.id] = Trend(since=before.taken_at, before=was, now=model.downloads)
    return found
