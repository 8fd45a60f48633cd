"""`candlemark profile` as it is typed: what flags mean, what is refused, what is shown."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from candlemark.benchmark.inference import suites
from candlemark.benchmark.inference.config import InferenceConfig
from candlemark.benchmark.inference.plan import plan
from candlemark.cli import main as command
from candlemark.cli import profile as cli
from candlemark.execution.base import Outcome
from candlemark.models.inference.describe import describe

GADGETS = Path(__file__).parents[1] / "benchmark" / "inference"
LINEAR = "python:gadgets:linear"
QUICK = ("--budget", "0.05", "--warmup", "0", "--threads", "1", "--device", "cpu")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(GADGETS))
    monkeypatch.setenv("CANDLEMARK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CANDLEMARK_LEASES", str(tmp_path / "leases"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run `candlemark WORDS` in this process: (exit status, standard output, standard error)."""

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["candlemark", *words])
        with pytest.raises(SystemExit) as ended:
            command.main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return run


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch):
    """Cells run in this process, to save the start of another."""

    class Here:
        def __init__(self, **_: Any) -> None:
            """As LocalExecutor is made."""

        def map(self, function: Any, items: Any) -> Any:
            for item in items:
                value = function(item)
                yield Outcome(item=item, value=value, started_at="2026-01-01", duration_s=0.0)

    monkeypatch.setattr("candlemark.launch.inference.LocalExecutor", Here)


@pytest.fixture
def resolved(call, monkeypatch: pytest.MonkeyPatch):
    """The config that `candlemark profile WORDS` would run, and how."""

    def run(*words: str) -> tuple[InferenceConfig, dict[str, Any]]:
        seen: list[Any] = []
        monkeypatch.setattr(
            cli, "measure_and_show", lambda *given, **how: seen.append((given, how))
        )
        status, _, err = call("profile", *words)
        assert (status, err) == (0, "")
        ((config, _), how) = seen.pop()
        return config, how

    return run


def test_a_model_is_measured_and_shown(call, in_process):
    words = ("profile", LINEAR, *QUICK, "--metric", "latency,flops", "--precision", "fp32,bf16")
    status, out, _ = call(*words, "--run-name", "main")
    assert status == 0
    assert "p50" in out
    assert out.count("python:gadgets:linear") >= 2
    assert "results: benchmarks/results" in out
    assert "run:     main" in out
    status, out, _ = call(*words)
    assert "every cell had been measured before; --rerun measures them again" in out
    status, out, _ = call(*words, "--only", "failed")
    assert "no cell has failed; nothing was run" in out


def test_json_is_one_strict_object(call, in_process):
    status, out, _ = call("profile", LINEAR, *QUICK, "--metric", "flops,numerics", "--json")
    shown = json.loads(out)
    assert (status, shown["ran"]) == (0, 1)
    (cell,) = shown["cells"]
    assert (cell["status"], cell["facts"]["same_answer"]) == ("ok", True)
    assert {"flops", "macs", "load_s"} <= {one["name"] for one in cell["measurements"]}


def test_a_config_file_runs_by_either_command(call, in_process, tmp_path):
    path = tmp_path / "inference.yaml"
    path.write_text(
        f"task: inference\nmodels: ['{LINEAR}']\ndevices: [cpu]\nthreads: 1\n"
        "metrics: [flops]\ntiming: {budget_s: 0.05, warmup_s: 0}\n",
        encoding="utf-8",
    )
    status, out, _ = call("run", str(path))
    assert (status, "run:  " in out) == (0, True)
    status, out, _ = call("profile", "--config", str(path))
    assert "every cell had been measured before" in out
    status, out, _ = call("run", str(path))
    assert "every cell had been measured before; --no-resume measures them again" in out


def test_where_nothing_could_be_measured_the_status_says_so(call, monkeypatch):
    monkeypatch.setattr(
        "candlemark.launch.inference.plan",
        lambda config: [refused(work) for work in plan(config)],
    )

    def refused(work: Any) -> Any:
        from dataclasses import replace

        return replace(work, refusal="not today")

    status, out, _ = call("profile", LINEAR, *QUICK)
    assert status == 1
    assert f"{LINEAR}: refused: not today" in out


def test_flags_become_one_config(resolved):
    config, how = resolved(
        *("tiny:bert", "tiny:gpt2", "--batch-size", "1,8", "--sequence-length", "16"),
        *("--precision", "fp32,bf16", "--backend", "eager", "--device", "cpu", "--seed", "0,1"),
        *("--width", "5%", "--budget", "2", "--warmup", "0.1", "--new-tokens", "4"),
        *("--image-size", "64", "--audio-seconds", "1.5", "--weights", "random"),
        *("--isolation", "model", "--workers", "2", "--timeout", "60", "--rerun"),
    )
    assert config == InferenceConfig(
        models=("tiny:bert", "tiny:gpt2"),
        batch_sizes=(1, 8),
        sequence_lengths=(16,),
        precisions=("fp32", "bf16"),
        backends=("eager",),
        devices=("cpu",),
        seeds=(0, 1),
        timing={"width": 0.05, "budget_s": 2.0, "warmup_s": 0.1},
        new_tokens=4,
        image_size=64,
        audio_s=1.5,
        weights="random",
        isolation="model",
        workers=2,
        timeout_s=60.0,
    )
    assert (how["rerun"], how["only_failed"], how["run_name"]) == (True, False, None)


def test_flags_change_what_a_suite_or_a_file_says(resolved, tmp_path):
    config, _ = resolved("--suite", "tiny", "--budget", "0.5", "--isolation", "cell")
    assert config.models == suites.SUITES["tiny"]["models"]
    assert config.timing.budget_s == 0.5
    assert config.timing.warmup_s == suites.SUITES["tiny"]["timing"]["warmup_s"]
    assert config.isolation == "cell"
    path = tmp_path / "own.yaml"
    path.write_text("models: [tiny:bert]\nprecisions: [bf16]\n", encoding="utf-8")
    config, _ = resolved("--config", str(path), "--batch-size", "4")
    assert (config.models, config.precisions, config.batch_sizes) == (
        ("tiny:bert",),
        ("bf16",),
        (4,),
    )


def test_models_that_are_named_stand_for_those_of_the_suite(resolved):
    config, _ = resolved("tiny:vit", "--suite", "text-tiny")
    assert config.models == ("tiny:vit",)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "no model is named; name one or more, or a suite: candlemark profile --suite tiny"),
        (("--suite", "tine"), "unknown suite 'tine'; did you mean 'tiny'?"),
        (("tiny:bert", "--metric", "latencyy"), "metrics.0 = 'latencyy': "),
        (("tiny:bert", "--batch-size", "0"), "batch_sizes.0 = '0': "),
        (("tiny:bert", "--device", "cuda:7"), "device 'cuda:7' is not here; available: "),
        (("tiny:bert", "--precision", "tf32", "--device", "cpu"), "tf32 is a mode of CUDA"),
        (("tiny:nobody",), "tiny:nobody"),
        (
            ("tiny:bert", "--only", "good"),
            "--only 'good' is not understood; allowed: --only failed",
        ),
        (("tiny:bert", "--width", "narrow"), "--width 'narrow' is not understood; write a share"),
        (("tiny:bert", "--rerun", "--only", "failed"), "--rerun measures every cell again"),
        (("--config", "absent.yaml"), "cannot read config absent.yaml"),
        (("--config", "key.yaml"), "unknown key 'batchsizes'; did you mean 'batch_sizes'?"),
        (("--config", "variable.yaml"), "the config uses ${NOT_SET}, which is not set"),
        (("--config", "key.yaml", "--suite", "tiny"), "are both given; name one"),
    ],
)
def test_a_bad_input_is_one_line_and_status_2(call, tmp_path, monkeypatch, words, message):
    monkeypatch.setattr("candlemark.hardware.device.available_devices", lambda: ("cpu",))
    monkeypatch.delenv("NOT_SET", raising=False)
    (tmp_path / "key.yaml").write_text("models: [tiny:bert]\nbatchsizes: [1]\n", encoding="utf-8")
    (tmp_path / "variable.yaml").write_text("models: ['${NOT_SET}']\n", encoding="utf-8")
    status, out, err = call("profile", *words)
    assert (status, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "benchmarks").exists()


@pytest.mark.parametrize("name", [name for name in suites.SUITES if "tiny" in name])
def test_a_tiny_suite_is_built_from_config_alone(name):
    config = InferenceConfig(**suites.suite(name))
    described = [describe(model, weights=config.weights) for model in config.models]
    assert {one.weights for one in described} == {"random"}
    seen = {one.modality for one in described}
    wanted = {"tiny": {"text", "vision", "speech", "multimodal"}, "charts-tiny": {"vision"}}
    assert seen == wanted.get(name, {name.removesuffix("-tiny")})
    assert len(described) >= 2


@pytest.mark.parametrize("name", ["text", "vision", "speech", "multimodal", "charts"])
def test_a_full_suite_can_have_random_weights_with_no_network(name, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for model in suites.suite(name)["models"]:
        assert describe(model, weights="random").weights == "random"


def test_the_chart_suite_holds_the_nine_models():
    assert len(suites.SUITES["charts"]["models"]) == 9


def test_help_shows_examples(call):
    status, out, _ = call("profile", "--help")
    assert status == 0
    assert "candlemark profile --suite tiny" in out
