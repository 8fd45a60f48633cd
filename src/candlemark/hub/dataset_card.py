"""The card of a dataset on the Hub: its audit, source, gaps, licence and a contact sheet.

    card = dataset_card(dataset, found, repo_id="me/btc", caption="window", license_id=None)
    card.to_text()                     # README.md with front matter that load_dataset reads

The same dataset gives the same card: no clock, folder or user goes into it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from candlemark.candles.series import format_time
from candlemark.candles.source import SYNTHETIC, CandlesConfig
from candlemark.dataset.audit import Audit, Check
from candlemark.dataset.lazy import Dataset
from candlemark.dataset.sharing.card import Description, describe, readme
from candlemark.hub.cards import Card
from candlemark.hub.markdown import count, escaped, table

SHEET = "contact-sheet.png"
"""Name of the contact sheet in the repository."""

_SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
)
BINANCE_TERMS = "https://www.binance.com/en/terms"


def dataset_card(
    dataset: Dataset, found: Audit, *, repo_id: str, caption: str, license_id: str | None = None
) -> Card:
    """What the repository `repo_id` says about `dataset`.

    found: its audit
    caption: style of the texts
    license_id: what its owner puts it under, such as cc0-1.0; None: nobody said
    """
    description = describe(dataset, caption=caption, form="datasets")
    # The heading and what follows it come first, the picture before the rest.
    head, _, rest = readme(description).partition("\n## ")
    sections = [
        head.strip(),
        f"![Charts of every split with their labels]({SHEET})",
        f"## {rest}".strip(),
        "## Gaps",
        _gaps(description),
        "## Audit",
        _audit(found),
        "## How to load it",
        _loading(repo_id, dataset),
        "## Licence",
        licence_note(description.config.candles, description.candles_given, license_id),
    ]
    return Card(
        name="dataset",
        data=_front_matter(dataset, description, license_id),
        body="\n\n".join(sections) + "\n",
    )


def _front_matter(
    dataset: Dataset, description: Description, license_id: str | None
) -> dict[str, Any]:
    symbols = ", ".join(entry.symbol for entry in description.series)
    data: dict[str, Any] = {
        "pretty_name": f"Chart images of {symbols}, {description.interval}",
        "language": ["en"],
        **_license(description.config.candles, description.candles_given, license_id),
        "task_categories": ["image-classification"],
        "tags": [
            *("candlemark", "candlestick", "finance", "chart-images", "image-text"),
            description.label_kind,
        ],
        "size_categories": [size_category(len(dataset))],
        "configs": [
            {
                "config_name": "default",
                "data_files": [
                    {"split": split, "path": f"data/{split}-*"} for split in dataset.split_names
                ],
            }
        ],
    }
    return data


def size_category(samples: int) -> str:
    """The Hub's word for a number of samples: `1K<n<10K`."""
    return next((name for limit, name in _SIZES if samples < limit), "n>10M")


def _license(candles: CandlesConfig, given: bool, license_id: str | None) -> Mapping[str, str]:
    """Front matter about the licence; empty where nobody can know it."""
    if license_id is not None:
        return {"license": license_id}
    if candles.kind in ("archive", "rest") and not given:
        return {
            "license": "other",
            "license_name": "binance-terms-of-use",
            "license_link": BINANCE_TERMS,
        }
    return {}


def licence_note(candles: CandlesConfig, given: bool, license_id: str | None = None) -> str:
    """Whose candles these are, and what was said about using them."""
    said = (
        f"Its owner puts this dataset under `{license_id}`."
        if license_id is not None
        else "Its owner has named no licence; ask before you pass it on."
    )
    if given:
        return (
            "The candles were handed to the build by whoever made this dataset, who alone knows "
            f"what may be done with them. {said}"
        )
    if candles.kind in ("archive", "rest"):
        said = said if license_id is not None else "No other licence is given."
        return (
            "The candles are Binance's public market data. Its "
            f"[terms of use]({BINANCE_TERMS}) apply to them and to what is drawn from them. {said}"
        )
    if candles.kind in SYNTHETIC or candles.kind != "file":
        return (
            f"The candles are made by a formula and a seed (`{candles.kind}`): no market, company "
            f"or person stands behind them. {said}"
        )
    return (
        "The candles come from a file of whoever made this dataset, who alone knows what may be "
        f"done with them. {said}"
    )


def _gaps(description: Description) -> str:
    """The longest runs of missing candles of each symbol."""
    lines = [
        (
            escaped(entry.symbol),
            format_time(gap.start_ms),
            f"{gap.slot_count:,}",
        )
        for entry in description.series
        for gap in entry.largest_gaps
    ]
    if not lines:
        return "No candle is missing between the first and the last of any symbol."
    listed = sum(len(entry.largest_gaps) for entry in description.series)
    total = sum(entry.gap_count for entry in description.series)
    which = (
        f"The {listed} longest of {total:,} gaps"
        if listed < total
        else "The only gap"
        if total == 1
        else f"All {total:,} gaps"
    )
    told = (
        f"{which}. A missing candle is drawn as an empty place and is in no label; a window that "
        f"lacks more than {description.config.max_missing * 100:g} % of its candles is left out."
    )
    return f"{told}\n\n{table(('symbol', 'from (UTC)', 'candles missing'), lines, right=(2,))}"


def _audit(found: Audit) -> str:
    verdict = (
        "Nothing leaks between the splits, as far as can be proved from the candles themselves."
        if found.ok
        else "**This dataset leaks or is damaged: a score on it means nothing.** See the lines "
        "marked FAIL."
    )
    how = (
        "Spans, labels and pictures were worked out again from the candles; nothing was taken "
        "from the index on trust."
    )
    lines = [
        (check.name, "ok" if check.ok else "**FAIL**", escaped(_sentence(check)))
        for check in found.checks
    ]
    return "\n\n".join((f"{verdict} {how}", table(("check", "", "what was found"), lines)))


def _sentence(check: Check) -> str:
    return check.detail[:1].upper() + check.detail[1:]


def _loading(repo_id: str, dataset: Dataset) -> str:
    first = dataset.split_names[0]
    rows = ", ".join(
        f"{name} {count(len(dataset.split(name)), 'row')}" for name in dataset.split_names
    )
    return (
        "```python\n"
        "from datasets import load_dataset\n\n"
        f'splits = load_dataset("{repo_id}")    # {rows}\n'
        f'sample = splits["{first}"][0]\n'
        'sample["image"], sample["text"], sample["label"], sample["next_close"]\n'
        "```"
    )
