"""The same model timed by candlemark, by torch's benchmark timer and by timm's benchmark script.

    python perf/latency_peers.py [--model resnet18] [--batch-size 1] [--threads 1] [--rounds 7]
        [--device cpu] [--timm-benchmark PATH] [--json latency_peers.json]

All three run the same module on the same inputs with the same threads, in turns within one
process, so that they meet the same machine; the order changes from round to round. Compared are
the medians of one call, by the median over rounds of each peer's share of ours. timm's script is
not in timm's package: `--timm-benchmark` takes the `benchmark.py` of a checkout of
huggingface/pytorch-image-models. It reports a mean, so its own clock is listened to for a median.

Then the time to an answer: how long candlemark's timer takes, warm-up included, until the median
of a call of 20 ms is known within 2 %, and what its loop costs beside the call.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm
import torch
from torch.utils.benchmark import Timer

from candlemark.hardware.device import resolve_device
from candlemark.metrics.clock import DeviceClock
from candlemark.metrics.timing import measure_latency

BAR = 0.03
"""Largest difference of medians from torch's timer and timm's script."""
ANSWER_S = 3.0
WIDTH = 0.02
TIMM_WARMUP = 10

Median = Callable[[float], float]
"""Seconds to spend -> median time of one call in milliseconds."""


def ours(call: Callable[[], object], clock: DeviceClock) -> Median:
    def median(seconds: float) -> float:
        timing = measure_latency(call, clock, budget_s=seconds, warmup_s=0.1, minimum_samples=10**6)
        return float(statistics.median(timing.samples_ms))

    return median


def torch_timer(call: Callable[[], object], threads: int) -> Median:
    timer = Timer(stmt="call()", globals={"call": call}, num_threads=threads)
    return lambda seconds: float(timer.blocked_autorange(min_run_time=seconds).median * 1e3)


def timm_runner(path: Path, model: str, batch_size: int, device: torch.device) -> Any:
    """The runner of timm's script, with its model and inputs made."""
    spec = importlib.util.spec_from_file_location("timm_benchmark", path)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{path} is no Python file; give the benchmark.py of a timm checkout")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.InferenceBenchmarkRunner(
        model_name=model, device=str(device), batch_size=batch_size, num_warm_iter=TIMM_WARMUP
    )


def timm_script(runner: Any, inputs: torch.Tensor, call_ms: float) -> Median:
    """The loop of timm's script as it is: warm-up, then steps between two readings of its clock."""
    read = runner.time_fn
    runner._init_input = lambda: setattr(runner, "example_inputs", inputs)  # noqa: SLF001  # same inputs

    def median(seconds: float) -> float:
        readings: list[tuple[bool, float]] = []

        def listen(sync: bool = False) -> float:
            now: float = read(sync)
            readings.append((sync, now))
            return now

        runner.time_fn = listen
        runner.num_bench_iter = max(10, int(seconds * 1e3 / call_ms))
        runner.log_freq = runner.num_bench_iter + 1
        runner.run()
        # A step is a reading that does not wait followed by one that does.
        steps = [
            end - begin
            for (waited, begin), (waits, end) in itertools.pairwise(readings)
            if waits and not waited
        ]
        return statistics.median(steps[TIMM_WARMUP:]) * 1e3

    return median


def compare(medians: dict[str, Median], *, rounds: int, seconds: float) -> dict[str, Any]:
    """Medians in ms of each peer by round, and each peer's share of ours."""
    names = list(medians)
    times: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            times[name].append(medians[name](seconds))
    return {
        name: {
            "median_ms": statistics.median(own),
            "rounds_ms": own,
            "over_ours": statistics.median(
                peer / mine for peer, mine in zip(own, times["candlemark"], strict=True)
            ),
        }
        for name, own in times.items()
    }


def answer(call: Callable[[], object], clock: DeviceClock) -> dict[str, Any]:
    """Seconds until the median is known, warm-up included, and how well."""
    begin = time.perf_counter()
    timing = measure_latency(call, clock, width=WIDTH, minimum_samples=59, budget_s=10)
    taken = time.perf_counter() - begin
    p50 = timing.measurements[0]
    width = None if p50.low is None or p50.high is None or not p50.value else p50.high - p50.low
    return {
        "seconds": taken,
        "measuring_s": float(timing.samples_ms.sum()) / 1e3,
        "median_ms": p50.value,
        "width": None if width is None or not p50.value else width / p50.value,
        "samples": len(timing.samples_ms),
        "stopped": timing.stopped,
    }


def spinning_call(milliseconds: float) -> Callable[[], object]:
    """The same arithmetic each time, about that long on this machine."""

    def spin(count: int) -> None:
        total = 0
        for number in range(count):
            total += number

    begin = time.perf_counter()
    spin(1_000_000)
    count = int(milliseconds / 1e3 / (time.perf_counter() - begin) * 1_000_000)
    return lambda: spin(count)


def loop_cost(clock: DeviceClock, calls: int = 10_000) -> dict[str, float]:
    """Nanoseconds that a call of nothing is told to take, and that the loop takes beside a call."""
    runs = {"warmup_s": 0.0, "minimum_samples": calls, "maximum_samples": calls}
    nothing = measure_latency(lambda: None, clock, **runs)  # type: ignore[arg-type]
    seen: list[int] = []
    timing = measure_latency(
        lambda: seen.append(time.perf_counter_ns()),
        clock,
        **runs,  # type: ignore[arg-type]
    )
    period = statistics.median(later - one for one, later in itertools.pairwise(seen))
    return {
        "told_ns": float(statistics.median(nothing.samples_ms)) * 1e6,
        "beside_ns": period - float(statistics.median(timing.samples_ms)) * 1e6,
    }


def measure(
    model: str = "resnet18",
    *,
    batch_size: int = 1,
    threads: int = 1,
    device: str = "cpu",
    rounds: int = 7,
    seconds: float = 2.0,
    timm_benchmark: Path | None = None,
) -> dict[str, Any]:
    """Everything as a plain dict."""
    torch.set_num_threads(threads)
    place = resolve_device(device)
    clock = DeviceClock(place)
    clock.self_test()
    runner = None
    if timm_benchmark is not None:
        runner = timm_runner(timm_benchmark, model, batch_size, place)
        module = runner.model
        size = tuple(runner.input_size)
    else:
        module = timm.create_model(model).eval().to(place)
        size = tuple(timm.data.resolve_model_data_config(module, use_test_size=True)["input_size"])
    inputs = torch.randn((batch_size, *size), device=place)

    def call() -> object:
        return module(inputs)

    with torch.no_grad():
        medians = {"candlemark": ours(call, clock), "torch Timer": torch_timer(call, threads)}
        if runner is not None:
            medians["timm benchmark.py"] = timm_script(
                runner, inputs, medians["candlemark"](seconds / 4)
            )
        peers = compare(medians, rounds=rounds, seconds=seconds)
    return {
        "machine": platform.processor() or platform.machine(),
        "model": model,
        "input_shape": [batch_size, *size],
        "device": str(place),
        "threads": threads,
        "rounds": rounds,
        "bar": BAR,
        "peers": peers,
        "answers": {
            "sleeps 20 ms": answer(lambda: time.sleep(0.02), clock),
            "computes 20 ms": answer(spinning_call(20), clock),
        },
        "answer_goal_s": ANSWER_S,
        "loop": loop_cost(clock),
    }


def show(results: dict[str, Any]) -> None:
    print(
        f"{results['model']} {results['input_shape']} on {results['device']}, "
        f"{results['threads']} threads, {results['rounds']} rounds in turns"
    )
    print(f"{'':20}{'median':>12}{'over ours':>12}{'bar':>8}")
    for name, row in results["peers"].items():
        print(f"{name:20}{row['median_ms']:9.3f} ms{row['over_ours']:12.4f}{results['bar']:8.0%}")
    if "timm benchmark.py" not in results["peers"]:
        print("timm benchmark.py: give its path with --timm-benchmark")
    for name, row in results["answers"].items():
        width = "unknown" if row["width"] is None else f"{row['width']:.2%}"
        print(
            f"{name}: answered in {row['seconds']:.2f} s ({row['measuring_s']:.2f} s of "
            f"measuring, goal {results['answer_goal_s']:g} s), {row['samples']} samples, interval "
            f"{width} wide, stopped: {row['stopped']}"
        )
    loop = results["loop"]
    print(
        f"a call of nothing is told to take {loop['told_ns']:.0f} ns; the loop takes "
        f"{loop['beside_ns']:.0f} ns more from call to call"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="resnet18", help="a model of timm, random weights")
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2.0, help="for each peer of each round")
    parser.add_argument("--timm-benchmark", type=Path, help="benchmark.py of a timm checkout")
    parser.add_argument("--json", type=Path, help="write the numbers here as well")
    arguments = parser.parse_args()
    results = measure(
        arguments.model,
        batch_size=arguments.batch_size,
        threads=arguments.threads,
        device=arguments.device,
        rounds=arguments.rounds,
        seconds=arguments.seconds,
        timm_benchmark=arguments.timm_benchmark,
    )
    show(results)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
