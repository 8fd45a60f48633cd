"""Words that people write, and the protocol or kind that each stands for."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from candlemark.benchmark.segmentation.protocols import (
    LEARNING,
    PROMPTED_BY_REFERENCE,
    TYPES,
    kind_of_source,
    protocol_of_type,
)
from candlemark.errors import ConfigError
from candlemark.models.segmentation.base import PROTOCOLS, AskProtocol


@pytest.mark.parametrize(
    ("word", "protocol"),
    [
        ("segformer", "native_head"),
        ("Semantic-Segmentation", "native_head"),
        ("image segmentation", "native_head"),
        ("SwinV2", "linear_probe"),
        ("sam", "sam_auto"),
        ("clip", "clip_dense"),
        ("vision-transformer", "auto"),
        ("Foundation Model", "auto"),
        ("classification", "none"),
        ("upernet_frozen", "upernet_frozen"),
    ],
)
def test_a_word_stands_for_a_protocol(word, protocol):
    assert protocol_of_type(word) == protocol


def test_the_table_names_protocols_only():
    assert set(TYPES.values()) - {"auto"} <= set(PROTOCOLS) == set(get_args(AskProtocol))
    assert set(PROTOCOLS) >= LEARNING | PROMPTED_BY_REFERENCE
    assert "own" not in TYPES


def test_a_word_that_nobody_knows_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match="'segfromer' is no kind of model; did you mean 'segf"):
        protocol_of_type("segfromer")
    with pytest.raises(ConfigError, match="'xyz' is no kind of model; known: backbone"):
        protocol_of_type("xyz")


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("package.module:function", "python"),
        ("python:module:function", "python"),
        ("mytool --fast {input} {output}", "command"),
        ("net.onnx", "onnx"),
        ("net.PT", "torchscript"),
        ("masks", "predictions"),
    ],
)
def test_a_source_tells_what_it_is(source, kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("net.onnx", "net.PT"):
        Path(name).write_bytes(b"")
    Path("masks").mkdir()
    assert kind_of_source(source) == kind


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("mytool {input}", "names no {output}"),
        ("lost.onnx", "there is no model file lost.onnx"),
        ("no_such_folder", "is not understood: it is no folder of predictions that exists"),
    ],
)
def test_a_source_that_is_nothing_is_refused(source, said):
    with pytest.raises(ConfigError, match=said):
        kind_of_source(source)
