"""What is planned, what its id depends on, and what is refused before anything runs."""

from __future__ import annotations

import pickle
from types import SimpleNamespace

import pytest

from candlemark.benchmark.inference import plan as planning
from candlemark.benchmark.inference import precision
from candlemark.errors import ConfigError, MissingExtraError, ModelError

LINEAR = "python:gadgets:linear"


def cells(works, *names):
    return [tuple(work.trial.config[name] for name in names) for work in works]


def test_every_combination_is_a_cell_and_those_of_a_model_stand_together(make_works):
    works = make_works(
        models=(LINEAR, "tiny:bert"),
        batch_sizes=(1, 4),
        sequence_lengths=(8, 16),
        precisions=("fp32", "bf16"),
        seeds=(0, 1),
    )
    found = cells(works, "model", "batch_size", "sequence_length", "precision", "seed")
    assert len(set(found)) == len(found) == 8 + 16
    assert [model for model, *_ in found] == [LINEAR] * 8 + ["tiny:bert"] * 16
    assert {length for model, _, length, *_ in found if model == LINEAR} == {None}
    assert {length for model, _, length, *_ in found if model == "tiny:bert"} == {8, 16}


def test_only_models_that_write_are_asked_for_tokens_and_only_those_that_see_for_a_size(make_works):
    works = make_works(
        models=("tiny:bert", "tiny:gpt2", "tiny:vit", "tiny:wav2vec2", LINEAR),
        image_size=32,
        audio_s=0.5,
        new_tokens=3,
    )
    assert cells(works, "sequence_length", "image_size", "audio_s", "new_tokens") == [
        (128, None, None, None),
        (128, None, None, 3),
        (None, 32, None, None),
        (None, None, 0.5, None),
        (None, None, None, None),
    ]


def test_facts_say_what_a_table_needs_of_a_cell_that_fails(make_works):
    (work,) = make_works(models=("tiny:gpt2",))
    assert work.trial.facts == {
        "row": "tiny:gpt2",
        "role": "model",
        "model": "tiny:gpt2",
        "modality": "text",
        "model_task": "text-decoder",
        "item": "sequences",
        "weights": "random",
        "device": "cpu",
        "precision": "fp32",
        "backend": "eager",
        "batch_size": 1,
        "sequence_length": 128,
        "seed": 0,
    }


@pytest.mark.parametrize(
    "change",
    [
        {"batch_sizes": (2,)},
        {"precisions": ("bf16",)},
        {"threads": 2},
        {"seeds": (1,)},
        {"metrics": ("latency",)},
        {"timing": {"budget_s": 1.0}},
        {"tolerances": {"fp32": 1e-3}},
        {"isolation": "none"},
        {"models": ("python:gadgets:convolution",)},
    ],
)
def test_the_id_changes_with_whatever_decides_the_outcome(make_works, change):
    (before,), (after,) = make_works(), make_works(**change)
    assert before.trial.id != after.trial.id


@pytest.mark.parametrize("change", [{"workers": 2}, {"timeout_s": 9.0}, {"weights": "random"}])
def test_the_id_does_not_change_with_what_decides_nothing(make_works, change):
    (before,), (after,) = make_works(), make_works(**change)
    assert before.trial.id == after.trial.id


def test_order_of_metrics_is_no_difference(make_works):
    (one,) = make_works(metrics=("latency", "memory"))
    (other,) = make_works(metrics=("memory", "latency"))
    assert one.trial.id == other.trial.id


def test_work_crosses_processes(make_works):
    (work,) = make_works()
    assert pickle.loads(pickle.dumps(work)) == work  # noqa: S301 - our own


def test_devices_that_are_one_are_measured_once(make_works):
    found = cells(make_works(devices=("cpu", "auto")), "device")
    assert len(found) == len(set(found))


def test_weights_are_known_by_their_content(make_works, shared_data):
    folder = str(shared_data / "models" / "efficientnet-lite0-timm")
    (work,) = make_works(models=(folder,))
    assert len(work.trial.config["weights_sha256"]) == 64
    (random,) = make_works(models=(folder,), weights="random")
    assert random.trial.config["weights_sha256"] == "random"


def test_a_device_that_is_not_there_is_refused(make_works, monkeypatch):
    monkeypatch.setattr("candlemark.hardware.device.available_devices", lambda: ("cpu",))
    with pytest.raises(ConfigError, match=r"device 'cuda' is not here; available: cpu"):
        make_works(devices=("cuda",))


def test_tf32_needs_a_cuda_device(make_works):
    with pytest.raises(ConfigError, match=r"^tf32 is a mode of CUDA devices; cpu has none$"):
        make_works(precisions=("tf32",))


def test_a_precision_of_no_use_is_named_among_others(make_works):
    with pytest.raises(ConfigError, match="precision 'tf32' cannot run with backend 'eager' here"):
        make_works(precisions=("fp32", "tf32"))


def test_a_combination_of_no_use_on_one_device_of_two_is_a_refused_cell(make_works, monkeypatch):
    monkeypatch.setattr("candlemark.hardware.device.available_devices", lambda: ("cuda:0", "cpu"))
    works = make_works(devices=("cuda", "cpu"), precisions=("fp32", "tf32"))
    refused = {
        (work.trial.config["device"], work.trial.config["precision"]): work.refusal
        for work in works
    }
    assert refused == {
        ("cuda:0", "fp32"): None,
        ("cuda:0", "tf32"): None,
        ("cpu", "fp32"): None,
        ("cpu", "tf32"): "tf32 is a mode of CUDA devices; cpu has none",
    }


def test_a_combination_of_no_use_among_useful_ones_is_a_refused_cell(make_works):
    works = make_works(precisions=("fp32", "bf16"), backends=("eager", "onnxruntime"))
    refused = [work for work in works if work.refusal is not None]
    assert [cell.trial.config["precision"] for cell in refused] == ["bf16"]
    assert [cell.trial.config["backend"] for cell in refused] == ["onnxruntime"]
    with pytest.raises(ConfigError, match="ONNX Runtime takes no bfloat16 inputs"):
        make_works(precisions=("bf16",), backends=("onnxruntime",))


@pytest.mark.parametrize(
    ("combination", "reason"),
    [
        (("bf16", "onnxruntime", "cpu"), "ONNX Runtime takes no bfloat16 inputs"),
        (("fp32", "onnxruntime", "mps"), "ONNX Runtime runs on cpu and cuda here, not on mps"),
        (("int8", "onnxruntime", "cuda:0"), "int8 operators run on the CPU only, not on cuda:0"),
        (("int8", "eager", "mps"), "int8 runs on cpu and cuda, not on mps"),
        (("fp32", "onnxruntime", "cuda:0"), "has no CUDAExecutionProvider here"),
    ],
)
def test_what_no_model_can_do_says_why(combination, reason):
    assert reason in precision.obstacle(*combination)


@pytest.mark.parametrize(("capability", "refused"), [(7, True), (8, False), (12, False)])
def test_a_gpu_is_asked_for_bfloat16_without_becoming_the_current_one(
    monkeypatch, capability, refused
):
    properties = SimpleNamespace(major=capability)
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda device: properties)
    monkeypatch.setattr("torch.cuda.device", None)
    found = precision.obstacle("bf16", "eager", "cuda:1")
    assert found == ("cuda:1 does not compute in bfloat16; use fp16" if refused else None)


def test_bf16_is_refused_where_it_is_only_emulated(make_works, monkeypatch):
    monkeypatch.setattr(precision, "_has_bfloat16", lambda device: False)
    with pytest.raises(ConfigError, match="cpu does not compute in bfloat16; use fp16"):
        make_works(precisions=("bf16",))


@pytest.mark.parametrize(
    ("change", "package", "extra"),
    [
        ({"backends": ("onnxruntime",)}, "onnxruntime", "onnx"),
        ({"precisions": ("int8",)}, "torchao", "int8"),
    ],
)
def test_a_part_that_is_not_installed_is_named(make_works, monkeypatch, change, package, extra):
    monkeypatch.setattr(precision, "find_spec", lambda name: None)
    with pytest.raises(
        MissingExtraError, match=rf"{package} is not installed.*candlemark\[{extra}"
    ):
        make_works(**change)


def test_compile_needs_a_compiler(make_works, monkeypatch):
    monkeypatch.setattr(precision.shutil, "which", lambda name: None)
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(ConfigError, match=r"'compile' needs a C\+\+ compiler, and g\+\+ or"):
        make_works(backends=("compile",))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_sizes": (0,)}, r"batch_sizes\.0 = 0: .*greater than or equal to 1"),
        ({"metrics": ("latencyy",)}, r"metrics\.0 = 'latencyy': .*'latency'"),
        ({"batchsizes": (1,)}, r"unknown key 'batchsizes'; did you mean 'batch_sizes'\?"),
        ({"timing": {"budget": 1}}, r"unknown key 'timing\.budget'; did you mean"),
        ({"precisions": ("fp32", "fp32")}, "names an entry twice"),
        ({"models": ()}, "models = .*at least 1"),
        ({"threads": 100_000}, r"threads = 100000: this machine has \d+ cores"),
    ],
)
def test_a_value_that_does_not_fit_is_one_line(make_works, change, message):
    with pytest.raises(ConfigError, match=message) as refusal:
        make_works(**change)
    assert "\n" not in str(refusal.value)


def test_a_lone_value_is_a_list_of_one(make_works):
    listed = make_works(devices=("cpu",), batch_sizes=(2,), precisions=("fp32",))
    lone = make_works(devices="cpu", batch_sizes=2, precisions="fp32")
    assert [work.trial.id for work in lone] == [work.trial.id for work in listed]


def test_an_unknown_model_is_refused_with_the_nearest(make_works):
    with pytest.raises(ModelError, match="tiny:bert"):
        make_works(models=("tiny:bertt",))


def test_tolerances_that_are_not_named_keep_their_defaults(make_works):
    works = make_works(precisions=("fp32", "bf16"), tolerances={"bf16": 0.5})
    assert cells(works, "precision", "tolerance") == [("fp32", 1e-4), ("bf16", 0.5)]


def test_cores_are_counted_once(tmp_path, monkeypatch):
    assert 1 <= planning.physical_cores() <= len(planning.os.sched_getaffinity(0))
