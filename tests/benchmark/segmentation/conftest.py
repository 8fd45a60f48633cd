"""Small scans on disk, configs that name them, models of the user's own, and one thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK
import torch

from candlemark import progress
from candlemark.benchmark.segmentation.config import SegmentationConfig
from candlemark.config import parse
from candlemark.scans.geometry import Geometry, to_itk
from candlemark.scans.masks import mask_to_file

SHAPE = (4, 12, 12)
SPACING_MM = (3.0, 1.0, 1.0)


@pytest.fixture(autouse=True)
def _apart(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def write_scan() -> Callable[..., None]:
    """Write an image that is bright where its mask is, and the mask; both NIfTI."""

    def write(
        folder: Path,
        case: str,
        *,
        labels: Any = None,
        origin: tuple[float, float, float] = (0.0, 0.0, 0.0),
        seed: int = 0,
    ) -> None:
        drawn = np.zeros(SHAPE, np.uint8) if labels is None else labels
        if labels is None:
            drawn[1:3, 3:8, 3:8] = 1
        noise = np.random.default_rng(seed).normal(0, 4, SHAPE)
        image = np.clip(100 + 100 * (drawn > 0) + noise, 0, 1000).astype(np.int16)
        for name in ("images", "masks"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        grid = Geometry(shape=SHAPE, spacing_mm=SPACING_MM)
        SimpleITK.WriteImage(to_itk(image, grid), str(folder / "images" / f"{case}.nii.gz"))
        moved = Geometry(shape=SHAPE, spacing_mm=SPACING_MM, origin=origin)
        mask_to_file(drawn, moved, folder / "masks" / f"{case}.nii.gz")

    return write


@pytest.fixture
def scans(tmp_path: Path, write_scan: Callable[..., None]) -> Path:
    """Four cases below one folder: images/ and masks/."""
    for number in range(1, 5):
        write_scan(tmp_path / "scans", f"case_{number}", seed=number)
    return tmp_path / "scans"


@pytest.fixture
def config_of(scans: Path) -> Callable[..., SegmentationConfig]:
    """A config of those scans with other fields as named; no control unless one is asked for."""

    def make(dataset: dict[str, Any] | None = None, **fields: Any) -> SegmentationConfig:
        value = {
            "dataset": {
                "image_dir": scans / "images",
                "seg_dir": scans / "masks",
                "classes": {1: "lesion"},
                **(dataset or {}),
            },
            "controls": (),
            "performance": {"device": "cpu", "threads": 1},
            **fields,
        }
        return parse(SegmentationConfig, value, where="test")

    return make


@pytest.fixture
def works_of(tmp_path: Path) -> Callable[..., list[Any]]:
    """The planned works of a config."""

    def make(config: SegmentationConfig) -> list[Any]:
        from candlemark.launch.segmentation import planned

        return planned(config, tmp_path / "out", device="cpu")[0]

    return make


@pytest.fixture
def reported() -> Iterator[list[str]]:
    """What was noted and warned of."""
    lines: list[str] = []

    class Lines:
        def handle(self, event: progress.Event) -> None:
            if event.kind in {"note", "warning"}:
                lines.append(event.text)

    before = progress.set_reporter(Lines())
    yield lines
    progress.set_reporter(before)
