"""Pictures with captions, a second, into a training loop: ours, and the one that people write.

    python perf/fusion_loop.py [--pictures 4000] [--seconds 3] [--rounds 5] [--folder DIR]
                               [--json fusion_loop.json]

The same shuffled pictures and captions come in batches of 64, in turn

ours: from this package's `FusionData` by the loop that it trains with. Pictures are drawn when
    they are asked for; captions were tokenised once, before.
files: from a torch dataset whose `__getitem__` opens a PNG file and tokenises its text, padded
    to one length, by torch's DataLoader without workers and with two; the faster counts.

Both give the same tensors, which is tested before anything is measured: uint8 pictures, token
ids, attention mask, class and return. Each is measured as it is, and with a training step that
is as small as one can be: a linear model of coarse pixels and words, forward, backward, AdamW,
on one thread. With a large model the step is what takes time, whichever loop feeds it.

Time runs from the first batch, over as many epochs as fit, with all files in the page cache. The
two take turns, `--rounds` times; the ratio is the median of the rounds' own ratios. `once` is
what is paid before the first epoch: captions tokenised, or captions written and PNG files too.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from candlemark.benchmark.fusion.data import Batch, FusionData
from candlemark.charts.style import ChartStyle
from candlemark.dataset.build import build_dataset
from candlemark.dataset.captions import captions
from candlemark.dataset.config import DatasetConfig
from candlemark.dataset.labels import LabelConfig
from candlemark.dataset.lazy import Dataset
from candlemark.dataset.returns import next_returns
from candlemark.models.fusion.tokens import cached_tokens
from candlemark.models.fusion.vocabulary import make_tokenizer
from candlemark.training.batches import epoch_batches, fetched
from market import walk

BATCH = 64
WORKERS = (0, 2)
MAX_TOKENS = 128
CLASSES = 3
COARSE = 16
"""Side of the coarse picture that the small model sees."""

CASES: dict[str, tuple[ChartStyle, int]] = {
    "jkx 64x60": (ChartStyle(kind="jkx"), 20),
    "candlestick 224x224": (
        ChartStyle(kind="candlestick", volume=True, moving_averages=(7, 25)),
        30,
    ),
}

Epochs = Iterator[Batch]
Step = Callable[[Batch], None]


class Files(TorchDataset[Batch]):
    """A picture and its text at a time, as most datasets of both are written."""

    def __init__(
        self, folder: Path, texts: list[str], tokenizer: Any, width: int, data: FusionData
    ) -> None:
        self.folder, self.texts, self.tokenizer, self.width = folder, texts, tokenizer, width
        self.targets, self.values = data.targets, data.values

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, number: int) -> Batch:
        picture = np.array(Image.open(self.folder / f"{number}.png"))
        read = self.tokenizer(
            self.texts[number],
            padding="max_length",
            truncation=True,
            max_length=self.width,
            return_tensors="pt",
        )
        inputs = {
            "images": torch.from_numpy(picture),
            "input_ids": read["input_ids"][0],
            "attention_mask": read["attention_mask"][0],
        }
        return inputs, {"target": self.targets[number], "value": self.values[number]}


class SmallModel(nn.Module):
    """Classes and a forecast from coarse pixels and words, each weighed once."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.words = nn.EmbeddingBag(vocabulary, CLASSES + 1, mode="sum")
        self.pixels = nn.Linear(COARSE * COARSE, CLASSES + 1)

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        """Logits and forecast, float (N, CLASSES + 1)."""
        images = inputs["images"]
        grey = images[..., 0] if images.ndim == 4 else images
        coarse = nn.functional.interpolate(grey[:, None].float() / 255, size=(COARSE, COARSE))
        weight = inputs["attention_mask"].float()
        found: Tensor = self.pixels(coarse.flatten(1)) + self.words(
            inputs["input_ids"], per_sample_weights=weight
        )
        return found


def small_step(vocabulary: int) -> Step:
    """One training step of the small model on a batch."""
    torch.manual_seed(0)
    model = SmallModel(vocabulary)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

    def step(batch: Batch) -> None:
        inputs, targets = batch
        answer = model(inputs)
        loss = nn.functional.cross_entropy(answer[:, :CLASSES], targets["target"])
        loss = loss + nn.functional.huber_loss(answer[:, CLASSES], targets["value"])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def nothing(_: Batch) -> None:
    """The step of a loop that only loads."""


def our_epochs(data: FusionData) -> Epochs:
    """Batches of one epoch after the other, as the learning loop asks for them."""
    for epoch in itertools.count():
        batches = epoch_batches(len(data), batch_size=BATCH, seed=0, epoch=epoch)
        with closing(fetched(data, batches, torch.device("cpu"))) as epoch_of:
            yield from epoch_of  # type: ignore[misc]  # mappings, as FusionData gives them


def their_epochs(files: Files, workers: int) -> Epochs:
    """The same from files, by torch's own loader."""
    loader: DataLoader[Batch] = DataLoader(
        files,
        batch_size=BATCH,
        shuffle=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        generator=torch.Generator().manual_seed(0),
    )
    while True:
        yield from loader


def rate(epochs: Epochs, step: Step, seconds: float) -> float:
    """Pictures a second after the first batch."""
    step(next(epochs))
    count, begin = 0, time.perf_counter()
    while (passed := time.perf_counter() - begin) < seconds or count == 0:
        batch = next(epochs)
        step(batch)
        count += len(batch[1]["target"])
    return count / passed


def both(
    data: FusionData, files: Files, make_step: Callable[[], Step], seconds: float, rounds: int
) -> dict[str, Any]:
    """Pictures a second of either, round by round, and how many times ours is faster."""
    feeds: dict[str, Callable[[], Epochs]] = {"ours": lambda: our_epochs(data)}
    for workers in WORKERS:
        feeds[f"files, {workers} workers"] = lambda workers=workers: their_epochs(files, workers)  # type: ignore[misc]
    rates: dict[str, list[float]] = {name: [] for name in feeds}
    for _ in range(rounds):
        for name, open_epochs in feeds.items():
            with closing(open_epochs()) as epochs:  # type: ignore[type-var]
                rates[name].append(rate(epochs, make_step(), seconds))
    ratios = [
        ours / max(theirs) for ours, *theirs in zip(*(rates[name] for name in feeds), strict=True)
    ]
    return {
        "pictures_per_s": {name: statistics.median(values) for name, values in rates.items()},
        "rounds": rates,
        "ratio": statistics.median(ratios),
        "ratio_low": min(ratios),
        "ratio_high": max(ratios),
    }


def write_files(dataset: Dataset, rows: Any, folder: Path) -> list[str]:
    """PNG files of some windows, numbered, and their captions."""
    for first in range(0, len(rows), 256):
        for number, picture in enumerate(dataset.images(rows[first : first + 256]), first):
            Image.fromarray(picture).save(folder / f"{number}.png")
    return captions(dataset, rows)


def check_same(data: FusionData, files: Files) -> None:
    """Both loops must give the same tensors, or their speeds say nothing."""
    positions = list(range(0, len(data), max(1, len(data) // 32)))
    ours = data.batch(positions)
    theirs = [files[position] for position in positions]
    for part in (0, 1):
        for name, tensor in ours[part].items():
            other = torch.stack([sample[part][name] for sample in theirs])
            assert torch.equal(tensor, other), f"{name} differs between the two loops"


def measure_case(
    style: ChartStyle, window: int, folder: Path, *, pictures: int, seconds: float, rounds: int
) -> dict[str, Any]:
    """Both loops over one kind of picture."""
    config = DatasetConfig(window=window, style=style, label=LabelConfig(name="direction"))
    count = pictures + 3 * (window + config.history) + 1
    series = walk(count, price=50_000, step=0.005, volume=6, cents=True)
    dataset = build_dataset(config, folder / "lazy", candles=[series])
    rows = np.arange(len(dataset))
    tokenizer = make_tokenizer(captions(dataset, dataset.split("train")), max_tokens=MAX_TOKENS)

    begin = time.perf_counter()
    tokens = cached_tokens(
        {"dataset": dataset.content_hash, "caption": "window"},
        len(dataset),
        lambda wanted: captions(dataset, wanted),
        tokenizer,
        max_tokens=MAX_TOKENS,
        folder=folder / "tokens",
    )
    once_ours = time.perf_counter() - begin
    value = next_returns(dataset, rows)
    data = FusionData(
        dataset,
        rows,
        inputs="both",
        tokens=tokens,
        values=value / value.std(),
        targets=dataset.targets(rows),
    )
    (folder / "png").mkdir()
    begin = time.perf_counter()
    texts = write_files(dataset, rows, folder / "png")
    once_files = time.perf_counter() - begin
    files = Files(folder / "png", texts, tokenizer, tokens.width, data)
    check_same(data, files)
    return {
        "pictures": len(dataset),
        "image_shape": list(dataset.image_shape),
        "tokens": tokens.width,
        "once_s": {"ours": once_ours, "files": once_files},
        "data": both(data, files, lambda: nothing, seconds, rounds),
        "step": both(data, files, lambda: small_step(len(tokenizer)), seconds, rounds),
    }


def measure(
    pictures: int = 4000, seconds: float = 3.0, rounds: int = 5, folder: Path | None = None
) -> dict[str, Any]:
    """Every case; a plain dict that can be written as JSON.

    folder: where the files are written, on the disk that is to be measured
    """
    results: dict[str, Any] = {
        "machine": platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "batch": BATCH,
        "cases": {},
    }
    # For so small a step threads that wait for one another are most of the work.
    torch.set_num_threads(1)
    # Fewer cores than workers, and forking beside threads, are part of what is measured.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    with warnings.catch_warnings(), tempfile.TemporaryDirectory(dir=folder) as scratch:
        warnings.simplefilter("ignore")
        for number, (name, (style, window)) in enumerate(CASES.items()):
            place = Path(scratch) / str(number)
            place.mkdir()
            results["cases"][name] = measure_case(
                style, window, place, pictures=pictures, seconds=seconds, rounds=rounds
            )
    return results


def show(results: dict[str, Any]) -> None:
    for name, case in results["cases"].items():
        print(
            f"{name}: {case['pictures']:,} pictures with {case['tokens']} tokens, batches of "
            f"{results['batch']}, {results['cores']} cores"
        )
        once = case["once_s"]
        print(f"  once: ours {once['ours']:.2f} s, files {once['files']:.2f} s")
        for what, title in (("data", "data alone"), ("step", "with a small step")):
            found = case[what]
            speeds = ", ".join(
                f"{feed} {speed:,.0f}/s" for feed, speed in found["pictures_per_s"].items()
            )
            print(
                f"  {title:18} {speeds}: {found['ratio']:.1f}x "
                f"({found['ratio_low']:.1f} to {found['ratio_high']:.1f})"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=4000, help="windows of each case")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each reading")
    parser.add_argument("--rounds", type=int, default=5, help="times that the loops take turns")
    parser.add_argument("--folder", type=Path, help="where to write, on the disk to measure")
    parser.add_argument("--json", type=Path, help="write the numbers here as well")
    arguments = parser.parse_args()
    results = measure(arguments.pictures, arguments.seconds, arguments.rounds, arguments.folder)
    show(results)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
