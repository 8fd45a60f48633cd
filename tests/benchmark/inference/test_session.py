"""What is done to a model before it is measured, and that all of it is undone."""

from __future__ import annotations

import pytest
import torch

from candlemark.benchmark.inference import session as sessions
from candlemark.benchmark.inference.backends import check_provider
from candlemark.benchmark.inference.precision import set_flags
from candlemark.benchmark.inference.session import open_session
from candlemark.errors import ConfigError, ModelError
from candlemark.metrics.clock import ClockCheck, DeviceClock

GENERATING = {"models": ("tiny:gpt2",), "sequence_lengths": (8,), "new_tokens": 3}


def logits(session):
    return next(iter(session.outputs().values()))


def test_a_session_answers_what_the_model_answers(make_works):
    (work,) = make_works(batch_sizes=(3,))
    with open_session(work) as session:
        session.call()
        with torch.inference_mode():
            expected = session.model.module(**session.inputs)
        torch.testing.assert_close(logits(session), next(iter(expected.values())))
        assert session.items_per_call == len(session.inputs["features"]) == 3
        assert session.load_s > 0
        assert session.first_call_ms > 0
        assert session.reference is None
        assert torch.get_num_threads() == 1


@pytest.mark.parametrize(
    ("precision", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16)]
)
def test_half_precision_converts_weights_and_floats_and_leaves_ids_alone(
    make_works, precision, dtype
):
    (work,) = make_works(precisions=(precision,))
    with open_session(work) as session:
        assert {parameter.dtype for parameter in session.model.module.parameters()} == {dtype}
        assert session.inputs["features"].dtype == session.host_inputs["features"].dtype == dtype
        assert logits(session).dtype == dtype
        torch.testing.assert_close(logits(session).float(), session.reference, atol=0.05, rtol=0.05)
    (work,) = make_works(**GENERATING, precisions=(precision,))
    with open_session(work) as session:
        assert session.inputs["input_ids"].dtype == torch.int64


def test_int8_quantises_linear_layers(make_works):
    pytest.importorskip("torchao")
    (work,) = make_works(precisions=("int8",))
    with open_session(work) as session:
        assert session.facts["quantised"] == "3 linear layers, weights and inputs, by torchao"
        error = (logits(session) - session.reference).norm() / session.reference.norm()
        assert 0 < error < 0.1
        assert session.cost.macs == 32 * 64 + 64 * 64 + 64 * 10


def test_int8_of_a_model_without_linear_layers_is_refused(make_works):
    pytest.importorskip("torchao")
    (work,) = make_works(models=("python:gadgets:convolution",), precisions=("int8",))
    with pytest.raises(ModelError, match="int8 quantises linear layers, and this model has none"):
        open_session(work)


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_a_shared_process_keeps_the_model_and_undoes_what_was_done_to_it(make_works, precision):
    if precision == "int8":
        pytest.importorskip("torchao")
    plain, other = make_works(precisions=("fp32", precision), isolation="model")
    with open_session(plain) as session:
        assert not session.reused
        before, module = logits(session), session.model.module
    with open_session(other) as session:
        assert session.reused
        assert not torch.equal(logits(session).float(), before)
    with open_session(plain) as session:
        assert session.reused
        assert session.model.module is module
        assert torch.equal(logits(session), before)
        assert all(type(p) is torch.nn.Parameter for p in module.parameters())


def test_another_shape_or_seed_is_loaded_anew(make_works):
    for work in make_works(models=("tiny:bert",), sequence_lengths=(8, 16), seeds=(0, 1)):
        work.trial.config["isolation"] = "model"
        with open_session(work) as session:
            assert not session.reused


def test_a_cell_of_its_own_keeps_nothing(make_works):
    (work,) = make_works()
    with open_session(work):
        assert sessions._kept == []


def test_a_model_that_fails_leaves_the_kept_one_as_it_was(make_works, monkeypatch):
    plain, other = make_works(precisions=("fp32", "bf16"), isolation="model")
    with open_session(plain) as session:
        before = logits(session)

    def fail(*_):
        raise RuntimeError("no backend today")

    with monkeypatch.context() as patched:
        patched.setitem(sessions.BACKENDS, "eager", fail)
        with pytest.raises(RuntimeError, match="no backend today"):
            open_session(other)
    with open_session(plain) as session:
        assert torch.equal(logits(session), before)


def test_a_clock_is_tested_once_a_process_where_it_passes(make_works, monkeypatch):
    tests = []

    def check(clock):
        tests.append(clock)
        clock.check = ClockCheck(ok=len(tests) > 1, ratios={}, detail=f"test {len(tests)}")
        return clock.check

    monkeypatch.setattr(DeviceClock, "self_test", check)
    (work,) = make_works()
    seen = []
    for _ in range(3):
        with open_session(work) as session:
            session.test_clock()
            seen.append(session.clock.check.detail)
    assert seen == ["test 1", "test 2", "test 2"]


def test_a_refused_cell_does_not_load(make_works, monkeypatch):
    monkeypatch.setattr("candlemark.hardware.device.available_devices", lambda: ("cuda:0", "cpu"))
    works = make_works(devices=("cuda", "cpu"), precisions=("tf32",))
    with pytest.raises(ConfigError, match="tf32 is a mode of CUDA devices; cpu has none"):
        open_session(works[-1])


def test_only_tf32_lets_products_run_as_tf32():
    try:
        set_flags("tf32")
        assert torch.get_float32_matmul_precision() == "high"
        assert torch.backends.cudnn.allow_tf32
        set_flags("fp32")
        assert torch.get_float32_matmul_precision() == "highest"
        assert not torch.backends.cudnn.allow_tf32
    finally:
        set_flags("fp32")


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_onnx_runtime_gives_the_same_answer(make_works, precision):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    (work,) = make_works(precisions=(precision,), backends=("onnxruntime",), batch_sizes=(2,))
    with open_session(work) as session:
        error = (logits(session).float() - session.reference).norm() / session.reference.norm()
        assert error < {"fp32": 1e-5, "fp16": 1e-2, "int8": 0.1}[precision]
        assert session.facts["provider"] == "CPUExecutionProvider"
        assert session.facts["onnx_bytes"] > 0


def test_an_output_may_have_the_name_of_an_operator(make_works):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    (work,) = make_works(models=("python:gadgets:embedding",), backends=("onnxruntime",))
    with open_session(work) as session:
        torch.testing.assert_close(session.outputs(), {"embedding": session.reference})


def test_a_model_that_cannot_be_exported_is_refused(make_works):
    pytest.importorskip("onnxscript")
    (work,) = make_works(models=("python:gadgets:deciding",), backends=("onnxruntime",))
    with pytest.raises(ModelError, match="torch cannot export this model to ONNX: "):
        open_session(work)


def test_a_session_that_went_back_to_the_cpu_is_no_measurement_of_the_gpu():
    gpu = torch.device("cuda:0")
    check_provider(["CUDAExecutionProvider", "CPUExecutionProvider"], gpu)
    with pytest.raises(ModelError, match="could not start its CUDAExecutionProvider"):
        check_provider(["CPUExecutionProvider"], gpu)


@pytest.mark.slow
def test_compiled_gives_the_same_answer(make_works):
    (work,) = make_works(backends=("compile",))
    with open_session(work) as session:
        torch.testing.assert_close(logits(session), session.reference)
        assert session.first_call_ms > 100  # it compiled
