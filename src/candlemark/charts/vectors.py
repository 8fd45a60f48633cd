"""Four vector operations that numba has no words for, as intrinsics for the kernels.

The kernels move most of their bytes through these. LLVM's own vectorizer handles long rows
well and short ones badly (a row of 60 columns falls to its scalar remainder), and it never
writes past the cache by itself.

**Streaming.** A picture is written once and not read again by the one who draws it. An
ordinary store first fetches the line it is about to overwrite and later writes it back, which
doubles the traffic; a non-temporal one does not. That is why drawing can be as fast as a
`memset`. Streamed stores are not ordered with others until `fence`.

Arguments are one-dimensional C-contiguous arrays and positions in them; nothing is checked,
as in any kernel. Every operation exists on every processor that LLVM knows: it is written in
vectors of fixed length, which are split where registers are shorter.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

LANES = 32
"""Columns that `spread_bits` and `spread_columns` handle at once."""

LINE_BYTES = 64
"""A line of the cache: what memory takes at once. Half a line streamed costs more than one."""

PAGE_BYTES = 4096

STREAM_FROM_BYTES = 8 * 1024 * 1024
"""Pictures that take less may still be in the cache when they are read, and go through it."""

_BYTE, _WORD = ir.IntType(8), ir.IntType(64)
_LINE = ir.VectorType(_BYTE, LINE_BYTES)


def _place(context: Any, builder: Any, array: Any, index: Any, target: Any) -> Any:
    """Pointer to element `index` of `array`, a (type, value) pair, as a pointer to `target`."""
    kind, value = array
    data = context.make_array(kind)(context, builder, value).data
    return builder.bitcast(builder.gep(data, [index]), target.as_pointer())


def _splat(builder: Any, value: Any, lanes: int) -> Any:
    vector = ir.VectorType(value.type, lanes)
    undefined = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(undefined, value, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
    return builder.shuffle_vector(first, undefined, zeros)


def _spread(
    context: Any, builder: Any, out: Any, at: Any, width: Any, bits: Any, look: Any
) -> None:
    """Write bit r of each of 32 bytes as paper or ink to row r of eight rows of `width`."""
    vector = ir.VectorType(_BYTE, LANES)
    paper, ink = (_splat(builder, level, LANES) for level in look)
    for bit in range(8):
        mask = ir.Constant(vector, [1 << bit] * LANES)
        inked = builder.icmp_unsigned("==", builder.and_(bits, mask), mask)
        row = builder.select(inked, ink, paper)
        builder.store(row, _place(context, builder, out, at, vector), align=1)
        at = builder.add(at, width)


@intrinsic  # type: ignore[untyped-decorator]
def spread_bits(
    typing: Any, out: Any, at: Any, width: Any, bits: Any, bits_at: Any, paper: Any, ink: Any
) -> Any:
    """Unpack 32 bytes of `bits` to 32 columns of eight rows of `out`, uint8 both.

    Row r, column c goes to out[at + r * width + c]: paper where bit r of bits[bits_at + c] is
    clear, ink where it is set. All 32 columns are written, so a row's last columns run into
    the next row: go from the right to the left and leave 31 bytes of room behind the last row.
    """
    sizes = (types.int64, types.int64, bits, types.int64, types.uint8, types.uint8)

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kinds = signature.args
        vector = ir.VectorType(_BYTE, LANES)
        source = _place(context, builder, (kinds[3], values[3]), values[4], vector)
        loaded = builder.load(source, align=1)
        target = (kinds[0], values[0])
        _spread(context, builder, target, values[1], values[2], loaded, values[5:])
        return context.get_dummy_value()

    return types.void(out, *sizes), generate


@intrinsic  # type: ignore[untyped-decorator]
def gather_bits(typing: Any, out: Any, at: Any, columns: Any, columns_at: Any, shift: Any) -> Any:
    """Write bits `shift` .. `shift + 7` of each of 32 columns, uint64, to 32 bytes of `out`."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kinds = signature.args
        words, bytes_ = ir.VectorType(_WORD, LANES), ir.VectorType(_BYTE, LANES)
        source = _place(context, builder, (kinds[2], values[2]), values[3], words)
        shifted = builder.lshr(builder.load(source, align=8), _splat(builder, values[4], LANES))
        target = _place(context, builder, (kinds[0], values[0]), values[1], bytes_)
        builder.store(builder.trunc(shifted, bytes_), target, align=1)
        return context.get_dummy_value()

    return types.void(out, types.int64, columns, types.int64, types.uint64), generate


def _copy(kind: Any, *, once: bool = False) -> Any:
    """An intrinsic that copies one `kind` from source[source_at:] to out[at:], both uint8."""

    @intrinsic  # type: ignore[untyped-decorator]
    def copy(typing: Any, out: Any, at: Any, source: Any, source_at: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            kinds = signature.args
            read = _place(context, builder, (kinds[2], values[2]), values[3], kind)
            write = _place(context, builder, (kinds[0], values[0]), values[1], kind)
            loaded = builder.load(read, align=1)
            if once:
                store = builder.store(loaded, write, align=LINE_BYTES)
                flag = builder.module.add_metadata([ir.Constant(ir.IntType(32), 1)])
                store.set_metadata("nontemporal", flag)
            else:
                builder.store(loaded, write, align=1)
            return context.get_dummy_value()

        return types.void(out, types.int64, source, types.int64), generate

    return copy


copy_word = _copy(_WORD)
"""copy_word(out, at, source, source_at) copies eight bytes, at any alignment."""

copy_lanes = _copy(ir.VectorType(_BYTE, LANES))
"""The same for LANES bytes."""

copy_line = _copy(_LINE)
"""The same for 64 bytes."""

stream_line = _copy(_LINE, once=True)
"""The same for 64 bytes past the cache; out[at] must lie on an address that 64 divides."""


@intrinsic  # type: ignore[untyped-decorator]
def fence(typing: Any) -> Any:
    """Order streamed stores before whatever this thread does next."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), generate
