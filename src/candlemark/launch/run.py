"""One call for every task: the config says which.

finished = candlemark.run("bench.yaml")
for record in finished.records: ...
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from candlemark.benchmark.config import BenchmarkConfig
from candlemark.benchmark.fusion.config import FusionBenchmarkConfig
from candlemark.benchmark.inference.config import InferenceConfig
from candlemark.benchmark.segmentation.config import SegmentationConfig
from candlemark.config import parse, read_mapping
from candlemark.errors import ConfigError
from candlemark.execution.base import Executor
from candlemark.launch.charts import run_charts
from candlemark.launch.fusion import run_fusion
from candlemark.launch.inference import run_inference
from candlemark.launch.segmentation import DEFAULT_FOLDER, run_segmentation
from candlemark.launch.suite import FinishedRun

AnyConfig = BenchmarkConfig | FusionBenchmarkConfig | InferenceConfig | SegmentationConfig

CONFIGS: dict[str, type[AnyConfig]] = {
    "charts": BenchmarkConfig,
    "fusion": FusionBenchmarkConfig,
    "inference": InferenceConfig,
    "segmentation": SegmentationConfig,
}
"""Kind of config by task; a config that names none is one of charts, or of scans (`dataset`)."""


def run(
    config: AnyConfig | dict[str, Any] | str | Path,
    *,
    output_dir: str | Path | None = None,
    resume: bool = True,
    executor: Executor | None = None,
) -> FinishedRun:
    """Run a benchmark to its end, or finish one that was interrupted.

    config: a config, a mapping, or the path of a YAML or JSON file
    output_dir: gets `results/` and what the task makes beside it; None: what the config names,
        else `benchmarks`
    resume: False runs finished trials again
    executor: where trials run; by default in processes of their own on this machine

    Raises ConfigError, ModelError for a model or weights that cannot be had, before anything
    is fetched, ScanError for scans that cannot be compared, and whatever makes the data
    impossible to get or unsafe to use. A trial that fails raises nothing: it is a record with
    its reason.
    """
    complete = as_config(config)
    if isinstance(complete, SegmentationConfig):
        return run_segmentation(complete, output_dir=output_dir, resume=resume, executor=executor)
    folder = DEFAULT_FOLDER if output_dir is None else Path(output_dir)
    if isinstance(complete, InferenceConfig):
        return run_inference(complete, output_dir=folder, resume=resume, executor=executor)
    if isinstance(complete, FusionBenchmarkConfig):
        return run_fusion(complete, output_dir=folder, resume=resume, executor=executor)
    return run_charts(complete, output_dir=folder, resume=resume, executor=executor)


def as_config(config: AnyConfig | dict[str, Any] | str | Path) -> AnyConfig:
    """A complete config of the task that a mapping or a file names.

    Raises ConfigError: the file cannot be read, the task is unknown, a key does not fit.
    """
    if isinstance(config, AnyConfig):
        return config
    where = "config" if isinstance(config, dict) else str(config)
    value = config if isinstance(config, dict) else read_mapping(Path(config))
    task = value.get("task", "segmentation" if "dataset" in value else "charts")
    if "task" not in value and not value.keys() & {"dataset", "datasets"}:
        raise ConfigError(
            f"{where}: names no datasets to train on; a config of inference says task: inference"
        )
    if not isinstance(task, str) or task not in CONFIGS:
        raise ConfigError(f"{where}: unknown task {task!r}; known: {', '.join(CONFIGS)}")
    model: type[AnyConfig] = CONFIGS[task]
    return parse(model, value, where=where)
