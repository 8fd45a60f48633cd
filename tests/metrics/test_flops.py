"""Arithmetic counted by hand and by two counters, and the published cost of the nine models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils import flop_counter

from candlemark.metrics.flops import count_flops, model_size
from candlemark.metrics.operators import FORMULAS, MOVES, OperatorCounter

GMACS = {
    "timm/edgenext_xx_small.in1k": (256, 0.258),
    "timm/mobilenetv3_small_100.lamb_in1k": (224, 0.057),
    "timm/ghostnet_100.in1k": (224, 0.141),
    "google/efficientnet-b0": (224, 0.386),
    "facebook/levit-128S": (224, 0.305),
    "microsoft/resnet-50": (224, 4.089),
    "microsoft/swin-tiny-patch4-window7-224": (224, 4.491),
    "facebook/convnext-tiny-224": (224, 4.456),
    "google/vit-base-patch16-224": (224, 17.564),
}

CPU_ATTENTION = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu


class Attention(nn.Module):
    """Attention of a tensor to itself, or to others by name."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.options = options

    def forward(self, q: Tensor, k: Tensor | None = None, v: Tensor | None = None) -> Tensor:
        k = q if k is None else k
        return functional.scaled_dot_product_attention(q, k, k if v is None else v, **self.options)


class Call(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: Tensor, **kwargs: Tensor) -> Any:
        return self.function(*args, **kwargs)


def test_a_linear_layer_costs_two_flops_a_multiply_add() -> None:
    cost = count_flops(nn.Linear(10, 3), torch.zeros(4, 10))
    assert (cost.flops, cost.macs) == (2 * 10 * 3, 10 * 3)
    assert (cost.parameters, cost.model_bytes) == (33, 33 * 4)
    assert (cost.torch_flops, cost.reason) == (60, None)


def test_measurements_say_flops_macs_parameters_and_bytes() -> None:
    from candlemark.metrics.measures import MEASURES

    cost = count_flops(nn.Linear(10, 3), torch.zeros(4, 10))
    measured = {m.name: (m.value, m.unit) for m in cost.measurements()}
    assert measured == {
        "flops": (60.0, "FLOPs"),
        "macs": (30.0, "MACs"),
        "parameters": (33.0, ""),
        "model_bytes": (132.0, "bytes"),
    }
    assert all(MEASURES[name].unit == unit for name, (_, unit) in measured.items())


def test_inputs_by_name_and_items_that_are_not_the_first_dimension() -> None:
    inputs = {"k": torch.zeros(2, 4, 7, 16), "q": torch.zeros(2, 4, 5, 16)}
    whole = 2 * (2 * 4 * 5 * 7 * 16) * 2
    assert count_flops(Attention(), inputs).flops == whole // 2
    assert count_flops(Attention(), inputs, items=1).flops == whole
    assert count_flops(Attention(), inputs, items=8).flops == whole // 8


# -- closed forms, on the meta device so that nothing is allocated or computed ---------------


@settings(deadline=None, max_examples=30)
@given(
    batch=st.integers(1, 5),
    width=st.integers(1, 40),
    out=st.integers(1, 40),
    rows=st.lists(st.integers(1, 6), max_size=2),
    bias=st.booleans(),
)
def test_linear(batch: int, width: int, out: int, rows: list[int], bias: bool) -> None:
    example = torch.zeros(batch, *rows, width, device="meta")
    cost = count_flops(nn.Linear(width, out, bias=bias, device="meta"), example)
    each = 1
    for size in rows:
        each *= size
    assert cost.flops == cost.torch_flops == 2 * each * width * out


@settings(deadline=None, max_examples=40)
@given(
    dimensions=st.integers(1, 3),
    groups=st.integers(1, 3),
    channels=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    kernel=st.integers(1, 4),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 2),
    padding=st.integers(0, 2),
    transposed=st.booleans(),
    batch=st.integers(1, 3),
)
def test_convolutions(
    *,
    dimensions: int,
    groups: int,
    channels: tuple[int, int],
    kernel: int,
    stride: int,
    dilation: int,
    padding: int,
    transposed: bool,
    batch: int,
) -> None:
    plain = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
    turned = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
    inward, outward = channels[0] * groups, channels[1] * groups
    side = 2 * padding + dilation * (kernel - 1) + 3
    options = {"stride": stride, "dilation": dilation, "groups": groups, "padding": padding}
    layer = (turned if transposed else plain)[dimensions - 1](
        inward, outward, kernel, **options, device="meta"
    )
    cost = count_flops(layer, torch.zeros(batch, inward, *[side] * dimensions, device="meta"))
    # The formula of the documentation of torch.nn.Conv2d.
    reached = (side + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
    places = (side if transposed else reached) ** dimensions
    expected = 2 * places * inward * outward // groups * kernel**dimensions
    assert cost.flops == cost.torch_flops == expected


@settings(deadline=None, max_examples=40)
@given(
    batch=st.integers(1, 3),
    heads=st.integers(1, 3),
    shared=st.integers(1, 3),
    queries=st.integers(1, 9),
    keys=st.integers(1, 9),
    width=st.integers(1, 16),
    value_width=st.integers(1, 16),
    device=st.sampled_from(["cpu", "meta"]),
)
def test_attention(
    *,
    batch: int,
    heads: int,
    shared: int,
    queries: int,
    keys: int,
    width: int,
    value_width: int,
    device: str,
) -> None:
    inputs = {
        "q": torch.zeros(batch, heads * shared, queries, width, device=device),
        "k": torch.zeros(batch, heads, keys, width, device=device),
        "v": torch.zeros(batch, heads, keys, value_width, device=device),
    }
    cost = count_flops(Attention(enable_gqa=shared > 1), inputs)
    expected = 2 * heads * shared * queries * keys * (width + value_width)
    assert cost.flops == cost.torch_flops == expected


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_causal_attention_is_counted_whole_and_says_so_where_it_shows(device: str) -> None:
    example = torch.zeros(1, 4, 50, 16, device=device)
    cost = count_flops(Attention(is_causal=True), example)
    assert cost.flops == 2 * (2 * 4 * 50 * 50 * 16)
    if device == "cpu":
        assert cost.reason == "causal attention counted whole"


@pytest.mark.parametrize("backend", [SDPBackend.MATH, SDPBackend.FLASH_ATTENTION])
def test_each_kernel_of_attention_comes_to_the_same(backend: SDPBackend) -> None:
    with sdpa_kernel(backend):
        cost = count_flops(Attention(), torch.zeros(1, 4, 50, 16))
    assert cost.flops == cost.torch_flops == 2 * (2 * 4 * 50 * 50 * 16)


def _on_meta(*shape: int) -> Tensor:
    return torch.zeros(*shape, device="meta", dtype=torch.bfloat16)


@pytest.mark.parametrize(
    "call",
    [
        lambda q: torch.ops.aten._scaled_dot_product_flash_attention(q, q, q),
        lambda q: torch.ops.aten._scaled_dot_product_efficient_attention(q, q, q, None, False),
        lambda q: torch.ops.aten._scaled_dot_product_cudnn_attention(q, q, q, None, False),
        lambda q: torch.ops.aten._flash_attention_forward(
            *[q.transpose(1, 2)] * 3, None, None, 50, 50, 0.0, False, False
        ),
    ],
)
def test_kernels_of_attention_that_need_a_gpu(call: Callable[[Tensor], object]) -> None:
    cost = count_flops(Call(call), _on_meta(1, 4, 50, 16))
    assert cost.flops == cost.torch_flops == 2 * (2 * 4 * 50 * 50 * 16)


def test_heads_behind_positions_are_not_taken_for_positions() -> None:
    """Query (B, L, H, E) here; a counter that reads it as (B, H, L, E) is far off."""
    kernel = torch.ops.aten._efficient_attention_forward
    unused = (None, None, None, None, None, 0.0, 0)
    cost = count_flops(Call(lambda q: kernel(q, q, q, *unused)), _on_meta(1, 50, 4, 16))
    assert cost.flops == 2 * (2 * 4 * 50 * 50 * 16)
    assert cost.torch_flops == cost.flops or "_efficient_attention_forward" in str(cost.reason)


def test_sequences_that_lie_end_to_end_attend_to_themselves_only() -> None:
    formula = FORMULAS["aten._flash_attention_forward"]
    query, offsets = _on_meta(9, 4, 16), torch.tensor([0, 2, 9])
    arguments = [query, query, query, offsets, offsets, 7, 7]
    assert formula(arguments, None) == 2 * 4 * (2 * 2 + 7 * 7) * (16 + 16)
    arguments[3] = arguments[4] = offsets.to("meta")  # lengths unknown: the longest for each
    assert formula(arguments, None) == 2 * 4 * (2 * 7 * 7) * (16 + 16)


@pytest.mark.parametrize(
    ("call", "shapes", "expected"),
    [
        (lambda a, b: a @ b, [(3, 4), (4,)], 2 * 3 * 4),
        (torch.dot, [(7,), (7,)], 2 * 7),
        (torch.addmv, [(3,), (3, 4), (4,)], 2 * 3 * 4),
        (torch.baddbmm, [(2, 3, 5), (2, 3, 4), (2, 4, 5)], 2 * 2 * 3 * 4 * 5),
        (torch.addbmm, [(3, 5), (2, 3, 4), (2, 4, 5)], 2 * 2 * 3 * 4 * 5),
        (
            lambda a, b: torch.einsum("bij,bkj->bik", a, b),
            [(2, 3, 4), (2, 5, 4)],
            2 * 2 * 3 * 4 * 5,
        ),
        (functional.bilinear, [(2, 4), (2, 5), (3, 4, 5)], 2 * 2 * 3 * 4 * 5),
        (functional.embedding, [(2,), (7, 3)], None),
    ],
)
def test_products_of_every_kind(
    call: Callable[..., Any], shapes: list[tuple[int, ...]], expected: int | None
) -> None:
    tensors = [torch.zeros(*shape) for shape in shapes]
    if expected is None:
        tensors[0] = tensors[0].long()
    cost = count_flops(Call(lambda _: call(*tensors)), torch.zeros(1))
    assert cost.flops == expected


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize(("kind", "gates"), [(nn.LSTM, 4), (nn.GRU, 3), (nn.RNN, 1)])
def test_recurrent_layers(kind: type[nn.RNNBase], gates: int, device: str) -> None:
    layer = kind(16, 8, 2, batch_first=True, bidirectional=True, device=device)
    cost = count_flops(layer, torch.zeros(3, 5, 16, device=device))
    first, second = 8 * (16 + 8), 8 * (2 * 8 + 8)
    assert cost.flops == 2 * 5 * gates * 2 * (first + second)


def test_recurrent_layers_of_a_gpu_by_formula() -> None:
    layer = nn.LSTM(16, 8, 2)
    arguments = [torch.zeros(5, 3, 16), list(layer.parameters()), 4, None, torch.zeros(2, 3, 8)]
    expected = 2 * 15 * 4 * (8 * (16 + 8) + 8 * (8 + 8))
    assert FORMULAS["aten._cudnn_rnn"](arguments, None) == expected


@pytest.mark.parametrize("fused", [True, False])
def test_a_transformer_layer_costs_the_same_fused_and_in_parts(fused: bool) -> None:
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
    torch.backends.mha.set_fastpath_enabled(fused)
    try:
        cost = count_flops(layer, torch.zeros(2, 5, 16))
    finally:
        torch.backends.mha.set_fastpath_enabled(True)
    assert cost.flops == 2 * 5 * (4 * 16 * 16 + 2 * 16 * 32) + 2 * 5 * 5 * 2 * 16
    assert ("aten._transformer_encoder_layer_fwd" in cost.by_operator) == fused


def test_fused_heads_cost_their_projections_and_products() -> None:
    heads = nn.MultiheadAttention(16, 4, batch_first=True)
    cost = count_flops(Call(lambda x: heads.eval()(x, x, x)), torch.zeros(2, 5, 16))
    assert cost.flops == 2 * 5 * 4 * 16 * 16 + 2 * 5 * 5 * 2 * 16


def test_products_shared_out_among_experts() -> None:
    formula = FORMULAS["aten._grouped_mm"]
    rows, experts = _on_meta(12, 8), _on_meta(3, 8, 5)
    assert formula([rows, experts], _on_meta(12, 5)) == 2 * 12 * 8 * 5
    assert formula([_on_meta(5, 12), _on_meta(12, 8)], _on_meta(3, 5, 8)) == 2 * 12 * 8 * 5


# -- the cross-check --------------------------------------------------------------------------


@pytest.mark.parametrize("planted", ["counts nothing", "is gone"])
def test_a_counter_that_takes_attention_for_nothing_is_noticed(
    planted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if planted == "is gone":
        monkeypatch.delitem(flop_counter.flop_registry, CPU_ATTENTION)
    else:
        monkeypatch.setitem(flop_counter.flop_registry, CPU_ATTENTION, lambda *_, **__: 0)
    layer = nn.MultiheadAttention(16, 4, batch_first=True)
    module = Call(lambda x: layer(x, x, x, need_weights=False)[0])  # training: the slow path
    cost = count_flops(module, torch.zeros(2, 5, 16))
    attention = 2 * 5 * 5 * 2 * 16
    projections = 2 * 5 * 4 * 16 * 16
    assert cost.flops == projections + attention
    assert cost.torch_flops == projections
    assert cost.reason is not None
    assert cost.reason.startswith(
        "our formulas; torch's counter says 13.5% less: nothing for "
        "aten._scaled_dot_product_flash_attention_for_cpu (13.5% of all)"
    )
    assert cost.measurements()[1].reason == cost.reason


def test_a_counter_that_counts_a_part_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        flop_counter.flop_registry, torch.ops.aten.addmm, lambda *_, **__: 2 * 4 * 10 * 3 // 2
    )
    cost = count_flops(nn.Linear(10, 3), torch.zeros(4, 10))
    assert (cost.flops, cost.torch_flops) == (60, 30)
    assert cost.reason == (
        "our formulas; torch's counter says 50.0% less: 0.5 times for aten.addmm (100.0% of all)"
    )


def test_a_counter_that_fails_leaves_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> int:
        raise AssertionError("shapes are incompatible")

    monkeypatch.setitem(flop_counter.flop_registry, torch.ops.aten.addmm, fail)
    cost = count_flops(nn.Linear(10, 3), torch.zeros(4, 10))
    assert (cost.flops, cost.torch_flops) == (60, None)
    assert cost.reason == "our formulas alone: torch's counter failed (shapes are incompatible)"


def test_a_module_may_hand_out_a_parameter() -> None:
    """As SAM's prompts are; torch's tracker of modules asks the view for a gradient's function."""

    class Prompt(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.prompt = nn.Parameter(torch.zeros(1, 10))

        def forward(self, x: Tensor) -> Tensor:
            return self.prompt.expand(len(x), 10)

    module = nn.Sequential(Prompt(), nn.Linear(10, 3))
    cost = count_flops(module, torch.zeros(2, 10))
    assert cost.flops == cost.torch_flops == 60


def test_a_model_that_fails_is_not_hidden() -> None:
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        count_flops(nn.Linear(10, 3), torch.zeros(4, 11))


def test_whole_numbers_that_torch_takes_for_nothing_are_counted() -> None:
    left, right = torch.zeros(32, 16, dtype=torch.int8), torch.zeros(16, 8, dtype=torch.int8)
    cost = count_flops(Call(lambda x: torch._int_mm(x, right)), left, items=1)
    assert cost.flops == 2 * 32 * 16 * 8
    if not cost.torch_flops:
        assert cost.reason is not None
        assert "nothing for aten._int_mm (100.0% of all)" in cost.reason


def test_a_formula_registered_with_torch_is_taken_over(monkeypatch: pytest.MonkeyPatch) -> None:
    @torch.library.custom_op("candlemark_test::product", mutates_args=())
    def product(x: Tensor) -> Tensor:
        return x @ x

    cost = count_flops(Call(product), torch.zeros(4, 4), items=1)
    assert cost.flops is None
    assert cost.uncounted == ("candlemark_test.product",)
    packet = torch.ops.candlemark_test.product
    monkeypatch.setitem(flop_counter.flop_registry, packet, lambda *_, **__: 2 * 4**3)
    cost = count_flops(Call(product), torch.zeros(4, 4), items=1)
    assert (cost.flops, cost.uncounted) == (128, ())
    assert cost.reason == "by a formula registered with torch: candlemark_test.product"


def test_composite_operators_are_taken_apart_in_inference_mode_too() -> None:
    with torch.inference_mode():
        cost = count_flops(
            Call(lambda x: torch.einsum("bi,ij->bj", x, torch.ones(10, 3))), torch.zeros(4, 10)
        )
    assert cost.flops == cost.torch_flops == 60


def test_no_operator_both_moves_and_is_counted() -> None:
    assert not MOVES & FORMULAS.keys()
    known = [name.removeprefix("aten.") for name in FORMULAS if name.startswith("aten.")]
    absent = [name for name in known if not hasattr(torch.ops.aten, name)]
    assert set(absent) <= {"_scaled_mm_v2", "_weight_int4pack_mm_with_scales_and_zeros"}


# -- what is left out, and sizes --------------------------------------------------------------


def test_what_is_not_counted_is_named_and_sized() -> None:
    cost = count_flops(nn.Sequential(nn.Linear(4, 4), nn.GELU()), torch.zeros(1, 4))
    assert cost.uncounted == ("gelu",)
    assert cost.uncounted_share == 4 / 32
    assert cost.measurements()[0].reason == (
        "not counted: gelu (one operation an element: 12.5% more)"
    )
    assert cost.facts() == {
        "flops_by_operator": {"aten.addmm": 32},
        "flops_by_torch": 32,
        "uncounted_operators": ["gelu"],
        "uncounted_share": 4 / 32,
    }


def test_moving_and_choosing_and_whole_numbers_are_no_arithmetic() -> None:
    def shuffle(x: Tensor) -> Tensor:
        places = torch.arange(4) + 1
        return torch.cat([x[:, places - 1], x.flip(1)]).argmax(1)

    with OperatorCounter() as counter:
        shuffle(torch.zeros(2, 4))
    assert not [name for name, tally in counter.tallies.items() if tally.computes]


def test_nothing_counted_is_unknown_and_not_zero() -> None:
    cost = count_flops(nn.ReLU(), torch.zeros(1, 4))
    assert (cost.flops, cost.macs) == (None, None)
    flops, macs = cost.measurements()[:2]
    assert (flops.value, macs.value) == (None, None)
    assert flops.reason == "no operator that ran has a formula; it ran: relu"


def test_mode_is_put_back_and_shared_parameters_count_once() -> None:
    layer = nn.Linear(4, 4, bias=False)
    module = nn.Sequential(layer, layer, nn.BatchNorm1d(4)).train()
    count_flops(module, torch.zeros(2, 4))
    assert module.training
    parameters, size = model_size(module)
    assert parameters == 16 + 8
    assert size == 4 * (16 + 8 + 8) + 8  # running mean and variance, and a 64-bit counter


def test_a_quantised_weight_weighs_what_is_kept_of_it() -> None:
    quantization = pytest.importorskip("torchao.quantization")
    module = nn.Sequential(nn.Linear(64, 32)).eval()
    quantization.quantize_(module, quantization.Int8WeightOnlyConfig())
    parameters, size = model_size(module)
    assert parameters == 64 * 32 + 32
    assert 64 * 32 + 4 * 32 <= size < 2 * 64 * 32  # one byte a weight, and scales
    assert count_flops(module, torch.zeros(4, 64)).flops == 2 * 64 * 32


@pytest.mark.parametrize("model_id", list(GMACS))
def test_published_costs_of_the_nine(model_id: str) -> None:
    """The table to its last digit, by both counts.

    LeViT has two heads (its class is the one with a teacher), and both are counted; products
    of attention are counted in all of them, additions of a bias in none.
    """
    import timm
    import transformers

    from candlemark.models.catalog import CATALOG

    spec, (side, gmacs) = CATALOG[model_id], GMACS[model_id]
    with torch.device("meta"):
        if spec.library == "timm":
            network = timm.create_model(spec.architecture)
        else:
            config = getattr(transformers, spec.config_class)(**spec.config, num_labels=1000)
            network = getattr(transformers, spec.architecture)(config)
        cost = count_flops(network, torch.zeros(1, 3, side, side))
    assert cost.macs is not None
    assert cost.torch_flops == cost.flops
    assert round(cost.macs / 1e9, 3) == gmacs
