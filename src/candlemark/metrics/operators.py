"""FLOPs of every operator that runs, from shapes and formulas of our own.

    with torch.no_grad(), OperatorCounter() as counter:
        module(x)
    counter.tallies["aten.convolution"].flops         # of the whole batch
    counter.tallies["aten.gelu"].flops                # None: no formula

One multiply-add is 2 FLOPs. Conventions, the same as those of published costs:

- the addition of a bias is not counted, and products with the zeros of a padding are;
- attention is counted whole: a causal or other mask takes nothing off, since most kernels
  compute the masked half or skip only whole blocks of it;
- fewer heads of keys than of queries save nothing, as each query head has its own product;
- integers of quantised layers count like floating-point numbers;
- looking up an embedding computes nothing.

Nothing here reads torch's table of formulas, so that the two can be held against each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from torch import Tensor
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

Arguments = Sequence[Any]
"""An operator's arguments in the order of its schema, those left out as their defaults."""
Formula = Callable[[Arguments, Any], int]
"""(arguments, what came out) -> FLOPs."""


@dataclass(slots=True, kw_only=True)
class Tally:
    """What one operator has done so far.

    flops: by our formula; None where there is none
    reference: what another counter made of the same calls
    elements: largest tensor of each call, in or out, over the calls: its cost at one
        operation an element
    computes: makes new floating-point numbers, rather than moving, choosing or comparing them
    """

    calls: int = 0
    flops: int | None = None
    reference: int = 0
    elements: int = 0
    computes: bool = False


class OperatorCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has no types
    """Counts while it is entered; `tallies` are by operator, e.g. "aten.addmm".

    reference: reads another counter's total; what it gains during a call is noted beside our
        own number. That counter has to be entered before this one.
    """

    # Else torch raises on control flow and flexible attention instead of asking.
    supports_higher_order_operators = True

    def __init__(self, reference: Callable[[], int] | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.tallies: dict[str, Tally] = {}
        self.causal = False
        self._reference = reference

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not isinstance(func, OpOverload):
            return self._higher_order(func, args, kwargs)
        packet = str(func.overloadpacket)
        name = packet.removesuffix("_") if packet.startswith("aten.") else packet
        formula = FORMULAS.get(name)
        if formula is None:
            with self:
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        tally = self.tallies.setdefault(name, Tally())
        before = self._reference() if self._reference else 0
        out = func(*args, **kwargs)
        if self._reference:
            tally.reference += self._reference() - before
        tally.calls += 1
        if formula is None:
            if not func.is_view:
                _note_elements(tally, name, (args, kwargs), out)
            return out
        arguments = arguments_of(func, args, kwargs)
        tally.flops = (tally.flops or 0) + formula(arguments, out)
        tally.computes = True
        self.causal |= _is_causal(func, arguments)
        return out

    def _higher_order(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Control flow and flexible attention: their inside is not seen, and that is noted."""
        out = func(*args, **kwargs)
        tally = self.tallies.setdefault(f"higher_order.{func}", Tally(computes=True))
        tally.calls += 1
        tally.elements += _largest((args, kwargs, out))
        return out


def arguments_of(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
    """All arguments in the order of the operator's schema."""
    named = _schema(func).arguments[len(args) :]
    return [*args, *(kwargs.get(entry.name, entry.default_value) for entry in named)]


def _schema(func: Any) -> Any:
    return func._schema  # noqa: SLF001 - torch shows an operator's arguments nowhere else


def _is_causal(func: Any, arguments: Arguments) -> bool:
    names = [entry.name for entry in _schema(func).arguments]
    return "is_causal" in names and bool(arguments[names.index("is_causal")])


def _note_elements(tally: Tally, name: str, inputs: Any, out: Any) -> None:
    made = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
    floating = any(leaf.is_floating_point() or leaf.is_complex() for leaf in made)
    if floating and name not in MOVES:
        tally.computes = True
        tally.elements += _largest((inputs, out))


def _largest(tree: Any) -> int:
    leaves = tree_leaves(tree)
    return max((leaf.numel() for leaf in leaves if isinstance(leaf, Tensor)), default=0)


# -- formulas ------------------------------------------------------------------------------


def _product(left: int) -> Formula:
    """Matrix products: each number that comes out sums over the last dimension of `left`."""

    def flops(arguments: Arguments, out: Any) -> int:
        return 2 * int(_first(out).numel()) * int(arguments[left].shape[-1])

    return flops


def _summed_product(arguments: Arguments, out: Any) -> int:
    """addbmm: (B, M, K) x (B, K, N), summed over B."""
    batch, _, inner = arguments[1].shape
    return 2 * int(out.numel()) * int(batch) * int(inner)


def _grouped_product(arguments: Arguments, out: Any) -> int:
    """(M, K) x (G, K, N) with the rows shared out, or (M, K) x (K, N) with K shared out."""
    left, right = arguments[0], arguments[1]
    groups = int(out.shape[0]) if left.dim() == right.dim() == 2 else 1
    return 2 * int(out.numel()) * int(left.shape[-1]) // groups


def _trilinear(arguments: Arguments, _: Any) -> int:
    """Sum of products of three tensors: as many multiply-adds as the widest of them has."""
    widened = []
    for tensor, places in zip(arguments[:3], arguments[3:6], strict=True):
        shape = list(tensor.shape)
        for place in sorted(places):
            shape.insert(place, 1)
        widened.append(shape)
    return 2 * _times(max(sizes) for sizes in zip(*widened, strict=True))


def _convolution(arguments: Arguments, out: Any) -> int:
    """Weight (C_out, C_in / groups, ...): each number that comes out sums over its rest."""
    return 2 * int(_first(out).numel()) * _times(arguments[1].shape[1:])


def _transposed_convolution(arguments: Arguments, _: Any) -> int:
    """Weight (C_in, C_out / groups, ...): each number that goes in is multiplied by its rest."""
    return 2 * int(arguments[0].numel()) * _times(arguments[1].shape[1:])


def _any_convolution(arguments: Arguments, out: Any) -> int:
    """input, weight, bias, stride, padding, dilation, transposed, ..."""
    return (_transposed_convolution if arguments[6] else _convolution)(arguments, out)


def _attention(arguments: Arguments, _: Any) -> int:
    """Query (..., H, L, E), key (..., S, E), value (..., S, V): scores, then their values."""
    query, key, value = arguments[:3]
    return (
        2 * _times(query.shape[:-1]) * int(key.shape[-2]) * int(query.shape[-1] + value.shape[-1])
    )


def _packed_attention(offsets: int) -> Formula:
    """Query (B, L, H, E), or with offsets of sequences that lie end to end.

    offsets: where the arguments hold those of queries, those of keys, the longest of either
    """

    def flops(arguments: Arguments, _: Any) -> int:
        query, key, value = arguments[:3]
        starts, key_starts, longest, longest_key = arguments[offsets : offsets + 4]
        width, heads = int(query.shape[-1] + value.shape[-1]), int(query.shape[-2])
        if starts is None:
            pairs = _times(query.shape[:-2]) * int(key.shape[-3])
        elif starts.device.type == "meta":
            pairs = (len(starts) - 1) * int(longest) * int(longest_key)
        else:
            pairs = int((starts.diff() * key_starts.diff()).sum())
        return 2 * pairs * heads * width

    return flops


def _recurrent(arguments: Arguments, _: Any) -> int:
    """Layers of an RNN, GRU or LSTM: each matrix meets each step of each sequence once."""
    steps = _times(arguments[0].shape[:-1])
    matrices = [leaf for leaf in tree_leaves(list(arguments[1:])) if isinstance(leaf, Tensor)]
    return 2 * steps * sum(leaf.numel() for leaf in matrices if leaf.dim() == 2)


def _recurrent_layer(arguments: Arguments, out: Any) -> int:
    """One direction of one layer: input, input weight, hidden weight, biases, state, ..."""
    return _recurrent(arguments[:3], out)


def _head_attention(arguments: Arguments, _: Any) -> int:
    """query, key, value, width, heads, in weight and bias, out weight and bias, ..."""
    query, key, width = arguments[0], arguments[1], int(arguments[3])
    rows, other = _times(query.shape[:-1]), _times(key.shape[:-1])
    projections = 2 * width * width * (rows + 2 * other + rows)
    return projections + 2 * rows * int(key.shape[-2]) * 2 * width


def _encoder_layer(arguments: Arguments, _: Any) -> int:
    """source, width, heads, in and out weights and biases, ..., two layers with biases."""
    source, width = arguments[0], int(arguments[1])
    rows = _times(source.shape[:-1])
    weights = sum(int(arguments[place].numel()) for place in (3, 5, 14, 16))
    return 2 * rows * weights + 2 * rows * int(source.shape[-2]) * 2 * width


def _times(sizes: Iterable[int]) -> int:
    return int(prod(sizes))


def _first(out: Any) -> Tensor:
    """What came out, of operators that also hand back a mask or a sum of exponents."""
    return out if isinstance(out, Tensor) else next(iter(out))


FORMULAS: dict[str, Formula] = {
    **dict.fromkeys(("aten.mm", "aten.bmm", "aten.mv", "aten.dot", "aten.vdot"), _product(0)),
    **dict.fromkeys(("aten.linear", "aten.mkldnn_linear", "mkl._mkl_linear"), _product(0)),
    **dict.fromkeys(("aten._int_mm", "aten._scaled_mm", "aten._scaled_mm_v2"), _product(0)),
    **dict.fromkeys(("aten._weight_int8pack_mm", "aten._weight_int4pack_mm"), _product(0)),
    "aten._weight_int4pack_mm_for_cpu": _product(0),
    "aten._weight_int4pack_mm_with_scales_and_zeros": _product(0),
    **dict.fromkeys(("quantized.linear", "quantized.linear_relu"), _product(0)),
    **dict.fromkeys(("quantized.linear_dynamic", "quantized.linear_relu_dynamic"), _product(0)),
    **dict.fromkeys(("onednn.qlinear_pointwise", "mkldnn._linear_pointwise"), _product(0)),
    **dict.fromkeys(("aten.addmm", "aten.addmv", "aten.baddbmm"), _product(1)),
    "aten._addmm_activation": _product(1),
    "aten.addbmm": _summed_product,
    **dict.fromkeys(("aten._grouped_mm", "aten._scaled_grouped_mm"), _grouped_product),
    "aten._trilinear": _trilinear,
    **dict.fromkeys(("aten.convolution", "aten._convolution"), _any_convolution),
    "aten.convolution_overrideable": _any_convolution,
    **dict.fromkeys(("aten.cudnn_convolution", "aten.mkldnn_convolution"), _convolution),
    **dict.fromkeys(("aten.miopen_convolution", "aten._mps_convolution"), _convolution),
    **dict.fromkeys(("aten._slow_conv2d_forward", "aten.slow_conv3d_forward"), _convolution),
    **dict.fromkeys(("aten.slow_conv_dilated2d", "aten.slow_conv_dilated3d"), _convolution),
    **dict.fromkeys(("aten._conv_depthwise2d", "aten.conv_depthwise3d"), _convolution),
    **dict.fromkeys(("mkldnn._convolution_pointwise", "torchvision.deform_conv2d"), _convolution),
    "aten.cudnn_convolution_transpose": _transposed_convolution,
    "aten.miopen_convolution_transpose": _transposed_convolution,
    "aten._mps_convolution_transpose": _transposed_convolution,
    "aten._scaled_dot_product_flash_attention": _attention,
    "aten._scaled_dot_product_flash_attention_for_cpu": _attention,
    "aten._scaled_dot_product_efficient_attention": _attention,
    "aten._scaled_dot_product_cudnn_attention": _attention,
    "aten._scaled_dot_product_fused_attention_overrideable": _attention,
    "aten._scaled_dot_product_attention_math_for_mps": _attention,
    "aten._flash_attention_forward": _packed_attention(3),
    "aten._efficient_attention_forward": _packed_attention(4),
    "aten._native_multi_head_attention": _head_attention,
    "aten._transformer_encoder_layer_fwd": _encoder_layer,
    **dict.fromkeys(("aten._cudnn_rnn", "aten.miopen_rnn", "aten._lstm_mps"), _recurrent),
    "aten.mkldnn_rnn_layer": _recurrent_layer,
}
"""Every operator that is counted. Composite ones (einsum, matmul, conv2d, lstm, the public
attention) need no row: they are taken apart into these."""

MOVES = frozenset(
    f"aten.{name}"
    for name in (
        *("clone", "copy", "_to_copy", "cat", "stack", "repeat", "roll", "flip", "fill", "zero"),
        *("index", "_unsafe_index", "index_select", "index_put", "_unsafe_index_put", "gather"),
        *("scatter", "slice_scatter", "select_scatter", "index_copy", "index_fill", "take"),
        *("masked_fill", "_unsafe_masked_index", "masked_scatter", "masked_select", "where"),
        *("embedding", "im2col", "tril", "triu", "diag_embed", "sort", "topk", "repeat_interleave"),
        *("zeros", "ones", "full", "empty", "eye", "arange", "linspace", "scalar_tensor"),
        *("zeros_like", "ones_like", "full_like", "empty_like", "empty_strided", "new_zeros"),
        *("new_ones", "new_full", "new_empty", "new_empty_strided", "empty_permuted", "set"),
        *("rand", "randn", "rand_like", "randn_like", "uniform", "normal", "bernoulli"),
        *("constant_pad_nd", "reflection_pad1d", "reflection_pad2d", "reflection_pad3d"),
        *("replication_pad1d", "replication_pad2d", "replication_pad3d", "pixel_shuffle"),
        *("_unsafe_view", "_reshape_copy", "_reshape_alias", "view_copy", "unsafe_split"),
        *("unsafe_split_with_sizes", "split_copy", "split_with_sizes_copy", "unbind_copy"),
        *("expand_copy", "permute_copy", "slice_copy", "select_copy", "transpose_copy"),
        *("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d", "channel_shuffle"),
        *("_pin_memory", "lift_fresh", "lift", "lift_fresh_copy", "resize", "real", "imag"),
        *("as_strided", "alias_copy", "pixel_unshuffle", "detach_copy", "complex", "ravel"),
    )
)
"""Operators that make, move or choose numbers. What is not here, has no formula and brings
floating-point numbers forth is listed as not counted, operators nobody foresaw included."""
