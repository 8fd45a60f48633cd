"""What building a network of transformers needs, whatever it is for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

LONGEST_LINE = 240


def whole_patches(
    shape: tuple[int, int], patch: int | tuple[int, ...] | list[int]
) -> tuple[int, int]:
    """`shape`, height and width, rounded up to whole patches."""
    high, wide = (patch, patch) if isinstance(patch, int) else (patch[0], patch[1])
    return -(-shape[0] // high) * high, -(-shape[1] // wide) * wide


def open_batch_norms(network: nn.Module) -> None:
    """Start every batch norm at scale 1 and shift 0, as its paper does.

    transformers draws EfficientNet's scales from a normal distribution of width 0.02: after
    49 of them a picture has shrunk by 30 orders of magnitude, and nothing is ever learnt.
    """
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):  # noqa: SLF001 - 1d to 3d
            module.reset_parameters()


def first_line(error: BaseException) -> str:
    """What an exception says, in one line of at most 240 letters; its kind where it says nothing.

    transformers names all of its 200 image processors where it knows none.
    """
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return line if len(line) <= LONGEST_LINE else f"{line[: LONGEST_LINE - 4]} ..."


_CALLED = {
    "NoneType": "nothing",
    "bool": "yes or no",
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "dict": "a mapping",
    "ndarray": "a NumPy array",
}


def in_words(value: Any) -> str:
    """What kind of thing a value is, with its article: `a whole number`, `an OrderedDict`."""
    name = type(value).__name__
    article = "an" if name[0] in "AEIOUaeiou" else "a"
    return _CALLED.get(name, f"{article} {name}")


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' load report and bars off the terminal: a model's facts carry them."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
