"""Every kind of own model from a config to its answer."""

from __future__ import annotations

import shlex
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from candlemark.benchmark.segmentation.building import build
from candlemark.benchmark.segmentation.config import SegmentationConfig
from candlemark.benchmark.segmentation.scan_cases import open_scan_case, read_reference
from candlemark.config import parse
from candlemark.errors import ConfigError
from candlemark.models.segmentation.base import Stopwatch

TOOL = """
import sys
import SimpleITK
image = SimpleITK.ReadImage(sys.argv[1])
SimpleITK.WriteImage(SimpleITK.Cast(image > 150, SimpleITK.sitkUInt8), sys.argv[2])
"""


@pytest.fixture
def network(tmp_path: Path) -> Path:
    """A network of volumes: one logit, above 0 where the intensity is above 150."""
    layer = nn.Conv3d(1, 1, 1)
    with torch.no_grad():
        layer.weight.fill_(1.0)
        layer.bias.fill_(-150.0)  # type: ignore[union-attr]
    path = tmp_path / "network.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(nn.Sequential(layer), torch.rand(1, 1, 4, 4, 4)), str(path))
    return path


def answered(works: list[Any]) -> dict[str, bool]:
    """Whether each row finds its first case exactly."""
    found = {}
    for work in works:
        case = work.test[0]
        scan = open_scan_case(case)
        labels = build(work).segmenter(scan.case.id).segment(scan.case, Stopwatch(lambda: 0))
        found[work.trial.row] = np.array_equal(labels, read_reference(case, scan, work.references))
    return found


def test_every_kind_of_own_model_finds_what_is_bright(
    config_of: Callable[..., Any], works_of: Callable[..., Any], scans: Path, network: Path
) -> None:
    command = f"{shlex.quote(sys.executable)} -c {shlex.quote(TOOL)} {{input}} {{output}}"
    works = works_of(
        config_of(
            models=(
                {"name": "function", "source": "own_models:bright"},
                {"name": "network", "source": str(network), "intensity": "raw"},
                {
                    "name": "patches",
                    "source": str(network),
                    "intensity": "raw",
                    "activation": "sigmoid",
                    "patch": (2, 8, 8),
                    "class_map": {1: "lesion"},
                },
                {"name": "masks", "source": str(scans / "masks")},
                {"name": "command", "source": command},
            )
        )
    )
    assert answered(works) == dict.fromkeys(
        ("function", "network", "patches", "masks", "command"), True
    )


def test_a_class_map_may_have_numbers_as_yaml_reads_them(config_of: Callable[..., Any]) -> None:
    config = config_of(models=({"source": "own_models:bright", "class_map": {1: "lesion", 2: 0}},))
    assert config.models[0].class_map == {"1": "lesion", "2": 0}


def test_a_saved_config_which_names_every_default_runs_again(
    config_of: Callable[..., Any], works_of: Callable[..., Any], scans: Path, network: Path
) -> None:
    config = config_of(
        models=(
            {"name": "function", "source": "own_models:bright"},
            {"name": "network", "source": str(network), "intensity": "raw"},
            {"name": "masks", "source": str(scans / "masks")},
        )
    )
    again = parse(SegmentationConfig, config.model_dump(mode="json"), where="saved")
    assert [work.trial.id for work in works_of(again)] == [
        work.trial.id for work in works_of(config)
    ]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"source": "scans/masks", "intensity": "raw"}, "predictions, which reads no intensity"),
        ({"source": "tool {input} {output}", "patch": (1, 2, 3)}, "command, which reads no patch"),
        ({"source": "own_models:bright", "allow_pickle": True}, "python, which reads no allow_pi"),
    ],
)
def test_an_option_that_nothing_reads_is_refused_by_name(
    config_of: Callable[..., Any],
    works_of: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    options: dict[str, Any],
    told: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=told):
        works_of(config_of(models=(options,)))
